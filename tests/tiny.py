"""A tiny collection made for real: two prompts and a picture, two trajectories of nine frames of 64 × 112 pixels.

It is made once a process and shared by all tests that look at what the stages publish; nobody may change it.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sceneloom.assets.catalog import Catalog, refresh_catalog
from sceneloom.assets.collection_tables import write_scenegen_metadata, write_training_index
from sceneloom.assets.scene_pipeline import StageEvent
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stage import StageInputs
from sceneloom.assets.stages import STAGES
from sceneloom.datasets.catalog import SceneEntry
from sceneloom.resources.profiles import Profile, load_profile
from sceneloom.resources.records import Record

FRAMES, HEIGHT, WIDTH = 9, 64, 112
TRAJECTORIES = ("left", "zoom_in")
PROMPTS = ("a living room with a red sofa and two chairs", "a sunny courtyard with a stone fountain and two benches")
PICTURE = Path(__file__).parent.parent / "examples" / "images" / "corridor.jpg"
STAGE_NAMES = tuple(stage.name for stage in STAGES)


@functools.cache
def folder_of_this_process() -> Path:
    """A folder that is removed when the process ends."""
    keeper = tempfile.TemporaryDirectory(prefix="sceneloom-tests-")
    _keepers.append(keeper)
    return Path(keeper.name)


_keepers: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def codec_folder() -> Path:
    """Weights of an untrained autoencoder with strides 8 × 8 × 8 and 16 channels, as save_pretrained writes them."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

    folder = folder_of_this_process() / "codec"
    torch.manual_seed(0)
    model = AutoencoderKLCosmos(
        encoder_block_out_channels=(8, 8, 8),
        decode_block_out_channels=(8, 8, 8),
        attention_resolutions=(),
        num_layers=1,
        latents_mean=[0.0] * 16,
        latents_std=[1.0] * 16,
    )
    model.save_pretrained(folder)
    return folder


def write_sources(folder: Path, prompts: Sequence[str] = PROMPTS, *, picture: bool = True) -> list[str]:
    """Write a prompt file and, if wanted, a folder with one picture; returns them as a profile's sources."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    if not picture:
        return ["prompts.txt"]
    (folder / "images").mkdir(exist_ok=True)
    shutil.copy(PICTURE, folder / "images" / "corridor.jpg")
    (folder / "images" / "corridor.txt").write_text("a long corridor")
    return ["prompts.txt", "images"]


def write_profile(folder: Path, sources: Sequence[str], **changes: Any) -> Path:
    """Write a tiny profile with its store beside it; `changes` replace its top-level sections."""
    profile = {
        "format": "sceneloom.profile/1",
        "collection": {"name": "tiny", "sources": list(sources)},
        "store": {"url": "store"},
        "frames": {"count": FRAMES, "height": HEIGHT, "width": WIDTH},
        "trajectories": {"names": list(TRAJECTORIES)},
        "engines": {"latent_codec": {"path": str(codec_folder())}, "video_latents": {"engine": "raycast"}},
        "objects": {"minimum_visible_pixels": 16},
        **changes,
    }
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(profile))
    return file


@dataclass(frozen=True)
class MadeCollection:
    """A collection whose every stage was made.

    Attributes:
        events: of every stage of every scene, as they ended.
    """

    profile: Profile
    runtime: SceneRuntime
    catalog: Catalog
    events: tuple[StageEvent, ...]

    def scene(self, kind: str = "prompt") -> SceneEntry:
        """The first scene of that kind."""
        return next(scene for scene in self.catalog.active() if scene.kind == kind)

    def record(self, scene: SceneEntry, stage: str) -> Record:
        """The record of a stage."""
        record = self.runtime.store.record(scene.scene_id, stage)
        assert record is not None, f"{scene.scene_id}/{stage} was not made"
        return record

    def inputs(self, scene: SceneEntry) -> StageInputs:
        """All that the scene published, as a later stage reads it."""
        return StageInputs(self.runtime.store, {name: self.record(scene, name) for name in STAGE_NAMES})

    def objects(self, scene: SceneEntry) -> list[dict[str, Any]]:
        """Rows of the scene's objects.json."""
        return json.loads(self.inputs(scene).path("scene_objects", "objects.json").read_text())["objects"]


def make(profile: Profile, stages: Sequence[str] = STAGE_NAMES) -> MadeCollection:
    """Read the catalogue and make the stages of every scene, in this thread."""
    runtime = SceneRuntime(profile)
    catalog = refresh_catalog(profile, runtime.store).catalog
    pipeline = runtime.pipeline("test")
    events: list[StageEvent] = []
    for scene in catalog.active():
        pipeline.run_scene(scene, stages, events.append)
    return MadeCollection(profile, runtime, catalog, tuple(events))


@functools.cache
def made_collection() -> MadeCollection:
    """The shared collection with its tables; every stage of it was made without a fault."""
    folder = folder_of_this_process() / "collection"
    made = make(load_profile(write_profile(folder, write_sources(folder))))
    failed = [event.failure.message for event in made.events if event.failure is not None]
    assert not failed, failed
    write_scenegen_metadata(made.catalog, made.runtime.pipeline())
    write_training_index(made.catalog, made.runtime.pipeline())
    return made


def copied_collection(folder: Path, **changes: Any) -> MadeCollection:
    """A copy of the shared collection, to be changed at will; `changes` replace sections of its profile."""
    shared = made_collection()
    shutil.copytree(shared.profile.file.parent, folder, dirs_exist_ok=True)
    sources = ["prompts.txt", "images"]
    runtime = SceneRuntime(load_profile(write_profile(folder, sources, **changes)))
    return MadeCollection(runtime.profile, runtime, runtime.catalog(), ())


def run_scene(made: MadeCollection, scene: SceneEntry, stages: Sequence[str] = STAGE_NAMES) -> list[StageEvent]:
    """Bring the stages of a scene up to date in a new pipeline; returns what was reported."""
    events: list[StageEvent] = []
    made.runtime.pipeline("again").run_scene(scene, stages, events.append)
    return events
