from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from sceneloom.resources.engines import EngineContract, EngineIdentity, Engines, identity_of

from .toy_stages import toy_profile, toy_scene


@pytest.fixture
def engines(tmp_path: Path) -> Engines:
    return Engines(toy_profile(tmp_path))


def test_a_prompt_and_a_picture_have_engines_of_their_own(engines: Engines) -> None:
    import dataclasses

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
