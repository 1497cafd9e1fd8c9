"""Engines that run as workers: what they declare, what identifies their weights, and which keys follow from that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sceneloom.datasets.errors import EngineError
from sceneloom.resources import model_files
from sceneloom.resources.engines import engine_identity, settings_in_key
from sceneloom.resources.gen3c import Gen3cVideo
from sceneloom.resources.moge import MogeScaffold
from sceneloom.resources.trellis_latents import TrellisLatents
from sceneloom.resources.vggt import VggtDepthAndPoses, VggtFeatures
from sceneloom.resources.vipe_engine import VipeDepthAndPoses
from sceneloom.resources.worker_engine import WorkerEngine
from sceneloom.resources.worker_engine_settings import (
    Gen3cSettings,
    MogeSettings,
    TrellisLatentSettings,
    VggtModelSettings,
    VggtSettings,
)
from sceneloom.resources.worker_settings import VipeSettings, WorkerSettings

ENGINES: dict[type[WorkerEngine[Any]], type[WorkerSettings]] = {
    Gen3cVideo: Gen3cSettings,
    MogeScaffold: MogeSettings,
    TrellisLatents: TrellisLatentSettings,
    VggtDepthAndPoses: VggtSettings,
    VggtFeatures: VggtModelSettings,
    VipeDepthAndPoses: VipeSettings,
}
FILES = {
    Gen3cVideo: [
        "Gen3C-Cosmos-7B/model.pt",
        "Cosmos-Tokenize1-CV8x8x8-720p/encoder.jit",
        "Cosmos-Tokenize1-CV8x8x8-720p/mean_std.pt",
        "google-t5/t5-11b/pytorch_model.bin",
    ],
    MogeScaffold: ["model.pt"],
    TrellisLatents: ["encoder.json", "encoder.safetensors"],
    VggtDepthAndPoses: ["config.json", "model.safetensors"],
}
"""Weights of each engine, by their path below the place that a profile names."""


@pytest.fixture(autouse=True)
def digests_are_noted_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model_files._digest_in_state.cache_clear()


def write_weights(place: Path, kind: type[WorkerEngine[Any]]) -> Path:
    for name in FILES[kind]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"what {name} holds")
    return place


def engine(kind: type[WorkerEngine[Any]], place: str | Path, **changes: Any) -> WorkerEngine[Any]:
    """The engine with its weights under a path."""
    where: dict[str, Any] = {"model": str(place)}
    if kind is Gen3cVideo:
        where = {"checkpoints": str(place), "source": "/opt/lyra"}
    elif kind is TrellisLatents:
        where = {"model": f"{place}/encoder", "source": "/opt/trellis"}
    settings: Any = ENGINES[kind].model_validate({"environment": {"uv": True}, **where, **changes})
    return kind(settings)


def key(made: WorkerEngine[Any]) -> dict[str, Any]:
    """What of an engine enters the keys of its stage."""
    return {"settings": settings_in_key(made.settings), "engine": engine_identity(made).for_key()}  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FILES)
def test_weights_enter_the_key_by_what_they_hold_and_not_by_where_they_lie(
    kind: type[WorkerEngine[Any]], tmp_path: Path
) -> None:
    here = key(engine(kind, write_weights(tmp_path / "here", kind)))
    assert str(tmp_path) not in str(here)
    assert sorted(here["engine"]["weights"]) == sorted(FILES[kind])
    assert all(len(digest) == 64 for digest in here["engine"]["weights"].values())
    shutil.copytree(tmp_path / "here", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("no part of the model")
    (tmp_path / "elsewhere" / ".cache").mkdir()
    (tmp_path / "elsewhere" / ".cache" / "download.json").write_text("no part of it either")
    assert key(engine(kind, tmp_path / "elsewhere")) == here
    for name in FILES[kind]:
        changed = tmp_path / "elsewhere" / name
        content = changed.read_text()
        changed.write_text("what was trained further")
        assert key(engine(kind, tmp_path / "elsewhere")) != here, name
        changed.write_text(content)


def test_a_single_file_is_the_same_as_the_folder_that_holds_it(tmp_path: Path) -> None:
    place = write_weights(tmp_path, MogeScaffold)
    shutil.copyfile(place / "model.pt", place / "moge.pt")
    assert key(engine(MogeScaffold, place / "moge.pt")) == key(engine(MogeScaffold, place))
    assert list(engine(VggtFeatures, place / "model.pt").weights) == ["model.pt"]


def test_folders_may_be_links(tmp_path: Path) -> None:
    place = write_weights(tmp_path / "here", Gen3cVideo)
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in FILES[Gen3cVideo]:
        folder = Path(name).parent
        (linked / folder).parent.mkdir(exist_ok=True)
        if not (linked / folder).exists():
            (linked / folder).symlink_to(place / folder)
    assert key(engine(Gen3cVideo, linked)) == key(engine(Gen3cVideo, place))


def test_what_a_video_engine_does_not_load_is_not_in_its_key(tmp_path: Path) -> None:
    place = write_weights(tmp_path, Gen3cVideo)
    shutil.rmtree(place / "google-t5")
    weights = engine(Gen3cVideo, place, text_encoder=False).weights
    assert sorted(weights) == sorted(FILES[Gen3cVideo][:3])
    with pytest.raises(EngineError, match="google-t5 is not on this machine"):
        key(engine(Gen3cVideo, place))


@pytest.mark.parametrize("kind", FILES)
def test_weights_that_only_the_worker_sees_need_a_version(kind: type[WorkerEngine[Any]], tmp_path: Path) -> None:
    unseen = engine(kind, "/inside/the/container")
    with pytest.raises(EngineError, match="weights_version"):
        key(unseen)
    # Nothing but the key needs to know.
    assert unseen.contract.licence
    one, same, other = (
        key(engine(kind, place, weights_version=version))
        for place, version in (("/inside", "of May"), (tmp_path, "of May"), ("/inside", "of June"))
    )
    assert one == same
    assert one != other


def test_models_of_the_hub_are_known_by_id_and_revision() -> None:
    made = engine(VggtDepthAndPoses, "facebook/VGGT-1B")
    assert made.identity.weights == {"facebook/VGGT-1B": "main"}
    assert made.licence == "CC-BY-NC-4.0"
    keys = [key(made)]
    keys += [key(engine(VggtDepthAndPoses, "facebook/VGGT-1B", revision="abc")), key(engine(VggtDepthAndPoses, "a/b"))]
    assert len({str(each) for each in keys}) == 3
    assert engine(VggtDepthAndPoses, "a/b").licence == "unknown"
    assert engine(VggtDepthAndPoses, "a/b", licence="MIT").licence == "MIT"


NEEDS_AND_GIVES = {
    Gen3cVideo: ({"view", "prompt", "depth", "cameras"}, {"frames", "latents"}),
    MogeScaffold: ({"view"}, {"scaffold", "depth"}),
    VggtDepthAndPoses: ({"frames"}, {"depth", "cameras"}),
    VipeDepthAndPoses: ({"frames"}, {"depth", "cameras"}),
}


@pytest.mark.parametrize(("kind", "expected"), NEEDS_AND_GIVES.items())
def test_contracts_are_told_without_weights_or_a_process(
    kind: type[WorkerEngine[Any]], expected: tuple[set[str], set[str]]
) -> None:
    place: dict[type, Callable[[], WorkerEngine[Any]]] = {
        VipeDepthAndPoses: lambda: kind(
            VipeSettings.model_validate({"environment": {"uv": True}, "device_memory": "24 GB"})
        )
    }
    made = place.get(kind, lambda: engine(kind, "/nowhere", device_memory="24 GB"))()
    contract = made.contract
    assert (contract.needs, contract.gives) == expected
    assert (contract.name, contract.tier) == (made.settings.engine, "worker")
    assert contract.device_memory_bytes == 24_000_000_000


def test_what_masks_are_tracked_with_is_in_vipes_licence_where_there_are_masks() -> None:
    licences = [
        VipeDepthAndPoses(VipeSettings.model_validate({"environment": {"uv": True}, "preset": preset})).licence
        for preset in ("default", "static_vda")
    ]
    assert licences == ["Apache-2.0 AND AGPL-3.0-only AND CC-BY-NC-4.0", "Apache-2.0 AND CC-BY-NC-4.0"]
