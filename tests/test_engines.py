from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.resources.engines import (
    EngineContract,
    EngineIdentity,
    Engines,
    engine_identity,
    identity_of,
    settings_in_key,
)
from sceneloom.resources.profiles import RaycastVideo, load_profile
from sceneloom.resources.transformers_settings import DepthAnythingScaffoldSettings, DepthProModelSettings

from .toy_stages import toy_profile, toy_scene


@pytest.fixture
def engines(tmp_path: Path) -> Engines:
    return Engines(toy_profile(tmp_path))


def test_a_prompt_and_a_picture_have_engines_of_their_own(engines: Engines) -> None:
    prompt = toy_scene()
    picture = dataclasses.replace(prompt, kind="image", image_url="room.jpg")

    assert engines.view(prompt).contract.name == "procedural"
    assert engines.view(picture).contract.name == "picture"
    assert engines.scaffold(prompt).contract.name == "ground_truth"
    assert engines.scaffold(picture).contract.name == "tour_into_picture"
    assert engines.video().contract.name == "raycast"
    assert engines.depth_and_poses().contract.name == "ground_truth"


def test_every_engine_of_the_profile_declares_what_it_needs_and_gives(engines: Engines) -> None:
    contracts = [
        engines.view(toy_scene()).contract,
        engines.scaffold(toy_scene()).contract,
        engines.video().contract,
        engines.depth_and_poses().contract,
    ]
    for contract in contracts:
        assert contract.tier == "embedded"
        assert contract.needs
        assert contract.gives
        assert contract.licence == "Apache-2.0"


def test_an_engine_stays_resident(engines: Engines) -> None:
    assert engines.video() is engines.video()
    assert engines.view(toy_scene()) is engines.view(toy_scene("other-room"))


def test_threads_that_ask_at_once_share_one_engine(engines: Engines) -> None:
    loads: list[object] = []
    together = threading.Barrier(8)
    found: list[object] = []

    def load() -> object:
        time.sleep(0.02)
        loads.append(object())
        return loads[-1]

    def ask() -> None:
        together.wait(10)
        found.append(engines._load("toy", load))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(loads) == 1
    assert found == loads * 8


def test_an_engine_that_cannot_be_loaded_is_tried_again_when_next_asked_for(engines: Engines) -> None:
    def fail() -> object:
        raise MemoryError

    with pytest.raises(MemoryError):
        engines._load("toy", fail)
    assert engines._load("toy", lambda: "engine") == "engine"


def test_weights_enter_the_key_and_the_licence_does_not() -> None:
    assert EngineIdentity("raycast", "Apache-2.0").for_key() == {"name": "raycast"}
    assert EngineIdentity("codec", "MIT", {"codec": "a" * 64}).for_key() == {
        "name": "codec",
        "weights": {"codec": "a" * 64},
    }
    contract = EngineContract("raycast", "embedded", frozenset(), frozenset({"frames"}), "Apache-2.0")
    assert identity_of(contract) == EngineIdentity("raycast", "Apache-2.0", {})


LIBRARY = """\
engines:
  conditioning_view: {prompt: {engine: flux, id: no/flux}, image: {engine: flux_fill, id: no/fill}}
  scene_scaffold: {prompt: {engine: depth_pro, id: no/depth}, image: {engine: depth_anything, id: no/anything}}
  video_latents: {engine: wan_vace, id: no/wan}
  depth_and_poses: {engine: depth_anything, id: no/anything, device: cpu}
  scene_objects: {engine: sam3, id: no/sam, prompts: [chair]}
  extra_latent_codecs: {wan: {id: no/wan, architecture: wan}}
execution: {device_memory: 24 GB}
"""


def library_engines(folder: Path, text: str = LIBRARY) -> Engines:
    profile = toy_profile(folder)
    file = profile.file
    kept = "".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("execution"))
    file.write_text(kept + text)
    return Engines(load_profile(file))


def test_library_engines_are_made_without_their_weights_and_share_one_budget(tmp_path: Path) -> None:
    engines = library_engines(tmp_path)
    prompt = toy_scene()
    picture = dataclasses.replace(prompt, kind="image", image_url="room.jpg")
    chosen = [
        engines.view(prompt),
        engines.view(picture),
        engines.scaffold(prompt),
        engines.scaffold(picture),
        engines.video(),
        engines.depth_and_poses(),
        engines.scene_objects(),
    ]
    assert [type(engine).__name__ for engine in chosen] == [
        "FluxView",
        "FluxFillView",
        "DepthProScaffold",
        "DepthAnythingScaffold",
        "WanVaceVideo",
        "FrameDepth",
        "Sam3Masks",
    ]
    assert engines.models.budget_bytes == 24 * 10**9
    assert engines.models.counters()["loads"] == {}
    assert engines.video() is chosen[4]
    assert set(engines.extra_latent_codecs()) == {"wan"}


def test_weights_that_are_not_here_are_refused_with_what_to_do(tmp_path: Path) -> None:
    engines = library_engines(tmp_path)
    with pytest.raises(EngineError, match=r"no/flux: .*hf download no/flux"):
        engine_identity(engines.view(toy_scene()))


def test_sana_wm_is_chosen_by_name(tmp_path: Path) -> None:
    text = LIBRARY.replace("{engine: wan_vace, id: no/wan}", "{engine: sana_wm, id: no/sana}")
    profile = toy_profile(tmp_path)
    assert profile.frames.height % 32
    with pytest.raises(ConfigError, match="multiples of 32"):
        library_engines(tmp_path, text)
    smaller = tmp_path / "profile.yaml"
    smaller.write_text(smaller.read_text().replace("height: 176", "height: 192"))
    engines = Engines(load_profile(smaller))
    assert type(engines.video()).__name__ == "SanaWMVideo"
    assert engines.video_identities() == {}


def test_an_engine_with_weights_of_its_own_says_so_itself() -> None:
    contract = EngineContract("sana_wm", "library", frozenset(), frozenset({"frames"}), "MIT")
    identity = EngineIdentity("sana_wm", "MIT", {"transformer": "a" * 64})
    with_weights: Any = SimpleNamespace(contract=contract, identity=identity)
    without: Any = SimpleNamespace(contract=contract)
    assert engine_identity(with_weights) is identity
    assert engine_identity(without) == EngineIdentity("sana_wm", "MIT")


def test_where_weights_lie_and_how_they_share_a_device_does_not_enter_the_key() -> None:
    settings = DepthAnythingScaffoldSettings(
        path="/somewhere",
        device="cuda:1",
        offload="model",
        device_memory=3.0,
        reference=DepthProModelSettings(id="a/b"),
    )
    key = settings_in_key(settings)
    moved = settings.model_copy(
        update={"path": None, "id": "c/d", "revision": "e", "licence": "MIT", "device": "cpu", "offload": "none"}
    )
    assert settings_in_key(moved) == key
    assert "path" not in key["reference"]
    assert key["precision"] == "float32"
    assert settings_in_key(settings.model_copy(update={"precision": "bfloat16"})) != key
    assert settings_in_key(RaycastVideo(device="cuda")) == {"engine": "raycast", "samples_per_pixel": 2}
