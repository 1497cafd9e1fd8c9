"""The GPU profiles, each run in Dagster from its catalogue to a release, with tiny models of the real classes."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import yaml

from sceneloom.assets.clip_captions import read_captions
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.layouts.manifest import read_manifest
from sceneloom.datasets.layouts.publishing import examine
from sceneloom.datasets.layouts.registry import LAYOUTS
from sceneloom.datasets.shards import ShardReader
from sceneloom.ops import depth_alignment
from sceneloom.ops.gaussian_scene import gaussians_from_ply
from sceneloom.ops.quality import QualityThresholds
from sceneloom.ops.trajectories import LYRA_VIEWS
from sceneloom.resources.profiles import load_profile

from . import tiny_autoencoders, tiny_pipelines, tiny_stable_diffusion, tiny_transformers
from .dagster_collections import dagster_project
from .moving_videos import write_captioned_video
from .tiny import MadeCollection, folder_of_this_process, make, write_sources

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PROMPT = "a living room with a red sofa"

WRITERS: dict[str, Callable[[Path], Any]] = {
    "black-forest-labs/FLUX.1-schnell": functools.partial(tiny_pipelines.write_flux, distilled=True),
    "black-forest-labs/FLUX.1-Fill-dev": functools.partial(tiny_pipelines.write_flux, fill=True),
    "apple/DepthPro-hf": tiny_transformers.save_depth_pro,
    "depth-anything/Depth-Anything-V2-Large-hf": tiny_transformers.save_depth_anything,
    "Efficient-Large-Model/SANA-WM_bidirectional-diffusers": tiny_pipelines.write_sana_wm,
    "Wan-AI/Wan2.1-VACE-1.3B-diffusers": tiny_pipelines.write_wan_vace,
    "Wan-AI/Wan2.1-VACE-14B-diffusers": tiny_pipelines.write_wan_vace,
    "SimianLuo/LCM_Dreamshaper_v7": tiny_stable_diffusion.write_latent_consistency,
    "nvidia/Cosmos-1.0-Tokenizer-CV8x8x8": tiny_autoencoders.save_cosmos,
    "facebook/sam2.1-hiera-large": tiny_transformers.save_sam2,
    "Qwen/Qwen3-VL-8B-Instruct": tiny_transformers.save_vision_language,
}


@functools.cache
def tiny_weights(hub_id: str) -> Path:
    """A folder of tiny, random weights of the model's class."""
    folder = folder_of_this_process() / "weights" / hub_id.replace("/", "--")
    WRITERS[hub_id](folder)
    return folder


def made_tiny(value: Any) -> Any:
    """A profile's section with tiny weights on the CPU, and one denoising step."""
    if not isinstance(value, dict):
        return value
    changed = {name: made_tiny(inner) for name, inner in value.items()}
    if "id" in changed:
        changed |= {"path": str(tiny_weights(changed.pop("id"))), "device": "cpu", "precision": "float32"}
    if "device" in changed:
        changed["device"] = "cpu"
    if "offload" in changed:
        changed["offload"] = "none"
    if changed.get("engine") in ("flux", "flux_fill", "sana_wm", "wan_vace"):
        changed["steps"] = 1
    if str(changed.get("engine")).startswith("depth_"):
        changed["edge_bend"] = None  # of noise every pixel is an edge
    if changed.get("engine") == "vistadream":
        changed |= {"poses": 6, "views": 2, "margin": 4, "iterations": 3, "repairs": 1, "largest_hole": 0.9}
        changed["refinement"] |= {"used_steps": 2, "views": 2, "iterations": 2}
    if changed.get("engine") == "vlm":
        changed["maximum_tokens"] = 12
    if changed.get("engine") == "sam2":
        changed |= {"points_per_side": 2, "minimum_score": 0.0, "minimum_stability": 0.0, "maximum_share": 1.0}
    return changed


@dataclass(frozen=True)
class Case:
    """How small a profile is made, and what it is published as.

    Attributes:
        layout: whose release asset ends the graph, with its `options`.
        frames: size of a clip.
        trajectories: in place of the profile's; none: those.
        prompts: in place of the profile's, where it has any; its pictures and videos give way to one of each.
        split: in place of the profile's.
        also: further layouts, whose checks must pass too.
    """

    layout: str
    frames: dict[str, int]
    trajectories: tuple[str, ...] = ()
    prompts: tuple[str, ...] = (PROMPT,)
    split: dict[str, float] | None = None
    options: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()


CASES = {
    "lyra_static_gpu.yaml": Case("lyra_static", {"count": 9, "height": 64, "width": 96}),
    "gen3r_gpu.yaml": Case(
        "gen3r",
        {"count": 49, "height": 64, "width": 64},
        trajectories=("gen3r_zoom_in", "left_reversed"),
        prompts=(PROMPT, "a bedroom with a bed"),
        split={"train": 0.5, "validation": 0.0, "test": 0.5},
        options={"any_size": "true"},
        also=("gen3r_inference", "lyra2"),
    ),
    "lyra_dynamic_gpu.yaml": Case("lyra_dynamic", {"count": 9, "height": 64, "width": 64}),
    "vistadream.yaml": Case(
        "lyra2", {"count": 9, "height": 64, "width": 96}, trajectories=("vistadream_spiral", "left_reversed")
    ),
    "vistadream_gaussians.yaml": Case("colmap", {"count": 9, "height": 64, "width": 96}, also=("lyra2",)),
}


@functools.cache
def released(name: str) -> tuple[MadeCollection, Path]:
    """What the profile's assets made, and its release; once a process, so nobody may change it."""
    case, folder = CASES[name], folder_of_this_process() / "profiles" / name
    document = yaml.safe_load((CONFIGS / name).read_text())
    kinds = {Path(source).name for source in document["collection"]["sources"]}
    written = write_sources(folder, case.prompts, picture="images" in kinds)
    if "videos" in kinds:
        written.append(write_captioned_video(folder))
        document["collection"]["video_limits"] = {"minimum_side_pixels": 32}
    document["collection"]["sources"] = [source for source in written if source in kinds]
    if case.split is not None:
        document["collection"]["split"] = case.split
    document["store"]["url"] = "store"
    document["releases"]["folder"] = "releases"
    document["frames"] |= case.frames
    document["trajectories"]["names"] = list(case.trajectories) or document["trajectories"]["names"]
    document["engines"] = made_tiny(document["engines"])
    # Random weights keep no promise about quality: limits off, so that shards are written. Nor does what they take for
    # depth fit the scaffold.
    document["quality"] = dict.fromkeys(QualityThresholds.model_fields)
    (folder / "profile.yaml").write_text(yaml.safe_dump(document))
    with (
        mock.patch.object(depth_alignment, "SCALED_RESIDUAL", math.inf),
        dagster_project(load_profile(folder / "profile.yaml")) as project,
    ):
        project.refresh()
        project.backfill()
        project.tables()
        for layout in case.also:
            project.publish(layout)
        return project.made(), project.publish(case.layout, case.options)


def require_accepted(name: str) -> None:
    """What a case's runs end in is a release of all its scenes and clips that doctor accepts."""
    made, directory = released(name)
    assert examine(directory, LAYOUTS) == []
    manifest = read_manifest(directory)
    assert manifest.scenes.keys() == {scene.scene_id for scene in made.catalog.active()}
    assert all(scene.clips == made.profile.trajectories.names for scene in manifest.scenes.values())
    if CASES[name].trajectories == ():
        assert made.profile.trajectories.names == load_profile(CONFIGS / name).trajectories.names


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"lyra_dynamic_gpu.yaml"}))  # the one of videos has its own file
def test_runs_in_dagster_end_in_a_release_that_doctor_accepts(name: str) -> None:
    require_accepted(name)


@pytest.mark.parametrize(
    "name",
    [
        "lyra_static_gpu.yaml",
        "lyra_static_vipe_gpu.yaml",
        "lyra_dynamic_gpu.yaml",
        "lyra_dynamic_vipe_gpu.yaml",
        "gen3r_gpu.yaml",
        "vistadream.yaml",
        "vistadream_gaussians.yaml",
    ],
)
def test_the_shipped_profile_is_valid_and_names_every_model(name: str) -> None:
    profile = load_profile(CONFIGS / name)
    text = (CONFIGS / name).read_text()
    ids = {line.split("hf download ")[1].split()[0] for line in text.splitlines() if "hf download" in line}
    assert set(_ids(profile.engines.model_dump())) == ids
    assert profile.execution.device_memory == 76
    assert Path(profile.releases.folder or "") == CONFIGS.parent / "releases" / profile.collection.name


def _ids(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["id"]] if value.get("id") else []
        return own + [found for inner in value.values() for found in _ids(inner)]
    return []


def test_lyras_static_profile_makes_shards() -> None:
    made, _ = released("lyra_static_gpu.yaml")
    for kind in ("prompt", "image"):
        scene = made.scene(kind)
        inputs = made.inputs(scene)
        names = inputs.names("video_latents")
        assert {"left.mp4", "left.latents.npz", "left.ltx2.latents.npz", "latent_space.ltx2.json"} <= set(names)
        record = made.record(scene, "video_latents")
        clips = record.metadata["clips"]
        assert clips["left"]["latents_from"] == {"primary": "codec", "ltx2": "generator"}
        assert clips["left"]["model"]["files"]
        assert record.metrics["latent_drift"] > 0
        assert record.engine == "sana_wm"
        assert "latent_space.ltx2" in record.key_parts.engine["weights"]
        assert "path" not in json.dumps(record.key_parts.settings)
        space = LatentSpace.from_json(inputs.json("video_latents", "latent_space.ltx2.json"))
        latents = inputs.arrays("video_latents", "left.ltx2.latents.npz")["latents"]
        assert latents.shape == space.latent_shape(9, 64, 96)
        assert inputs.json("scene_scaffold", "scaffold.json")["geometry_stage"] is None
        estimation = inputs.json("depth_and_poses", "cameras.json")["left"]["estimation"]
        assert (estimation["estimated_depth"], estimation["estimated_poses"]) == (True, False)
        objects = inputs.json("scene_objects", "objects.json")
        assert objects["estimated"]
        assert objects["objects"] == []
        shard = ShardReader(inputs.url("gaussian_shards", "shard.zarr"))
        assert tuple(clip.trajectory for clip in shard.clips) == LYRA_VIEWS
    assert made.runtime.engines.models.counters()["loads"]
    again = make(made.profile)
    assert {event.outcome for event in again.events} == {"current"}
    assert again.runtime.engines.models.counters()["loads"] == {}


def test_gen3rs_profile_makes_shards_of_the_generators_own_latents() -> None:
    made, directory = released("gen3r_gpu.yaml")
    scene = made.scene("prompt")
    inputs = made.inputs(scene)
    record = made.record(scene, "video_latents")
    assert record.metadata["clips"]["gen3r_zoom_in"]["latents_from"] == {"primary": "generator"}
    space = LatentSpace.from_json(inputs.json("video_latents", "latent_space.json"))
    assert (space.temporal_stride, space.spatial_stride) == (4, 8)
    latents = inputs.arrays("video_latents", "gen3r_zoom_in.latents.npz")["latents"]
    assert latents.shape == space.latent_shape(49, 64, 64) == (16, 13, 8, 8)
    assert any(name.startswith("depth/") for name in record.key_parts.engine["weights"])
    objects = inputs.json("scene_objects", "objects.json")
    assert "names no engine that finds objects" in objects["reason"]
    shard = ShardReader(inputs.url("gaussian_shards", "shard.zarr"))
    np.testing.assert_array_equal(shard.latents(scene.scene_id, "gen3r_zoom_in"), latents)
    # The captions that Gen3R draws from are those of the vision-language model.
    assert made.record(scene, "clip_captions").engine == "vlm"
    written = read_captions(inputs)["gen3r_zoom_in"]
    [folder] = directory.glob(f"*/scenes/{scene.scene_id}-gen3r_zoom_in")
    assert (folder / "captions.txt").read_text().splitlines() == [window.text for window in written]
    assert read_manifest(directory).stand_ins == {}


def test_vistadreams_profile_makes_shards_of_outpainted_pictures() -> None:
    made, _ = released("vistadream.yaml")
    (scene,) = made.catalog.active()
    assert scene.kind == "image"
    inputs = made.inputs(scene)
    canvas = inputs.json("conditioning_view", "camera.json")["notes"]["outpainting"]
    assert canvas["expansion_percent"] == dict.fromkeys(("left", "right", "top", "bottom"), 20.0)
    scaffold = inputs.json("scene_scaffold", "scaffold.json")
    assert scaffold["metric"]
    assert scaffold["notes"]["focal"] == "view"
    clips = made.record(scene, "video_latents").metadata["clips"]
    assert all(clip["latents_from"] == {"primary": "generator"} for clip in clips.values())
    assert len(ShardReader(inputs.url("gaussian_shards", "shard.zarr")).clips) == 2


def test_vistadreams_whole_way_ends_in_clips_of_its_gaussians() -> None:
    made, directory = released("vistadream_gaussians.yaml")
    (scene,) = made.catalog.active()
    inputs = made.inputs(scene)
    assert "outpainting" in inputs.json("conditioning_view", "camera.json")["notes"]
    record = made.record(scene, "scene_scaffold")
    parts = {name.split("/")[0] for name in record.key_parts.engine["weights"]}
    assert parts == {"depth", "inpainting", "refinement"}
    notes = inputs.json("scene_scaffold", "scaffold.json")["notes"]
    assert (notes["depth"]["engine"], notes["depth"]["focal"], notes["stand_ins"]) == ("depth_pro", "view", [])
    painted = [each for each in notes["views"] if each.get("gaussians")]
    assert painted
    assert all(each["inpainting"]["prompt"] == notes["prompt"] == "a long corridor" for each in painted)
    assert notes["open_after"]["mean"] < 0.5 * notes["open_before"]["mean"]
    refinement = notes["refinement"]
    assert (refinement["pipeline"], refinement["scheduler"]) == ("LatentConsistencyModelPipeline", "LCMScheduler")
    assert len(refinement["disagreements"]) == refinement["used_steps"] == 2
    written = gaussians_from_ply(inputs.path("scene_scaffold", "gaussians.ply").read_bytes())
    assert len(written) == notes["gaussians"] == record.metrics["gaussians"] > 64 * 96
    # Clips are rendered and only encoded by Wan's autoencoder; their depth is that of the Gaussians.
    assert made.record(scene, "video_latents").engine == "gaussians"
    latents = inputs.arrays("video_latents", "vistadream_wobble.latents.npz")["latents"]
    space = LatentSpace.from_json(inputs.json("video_latents", "latent_space.json"))
    assert latents.shape == space.latent_shape(9, 64, 96) == (16, 3, 8, 12)
    estimation = inputs.json("depth_and_poses", "cameras.json")["vistadream_wobble"]["estimation"]
    assert estimation["engine"] == "rendered"
    assert estimation["open_worst"] < 0.3
    assert len(ShardReader(inputs.url("gaussian_shards", "shard.zarr")).clips) == 2
    assert read_manifest(directory).stand_ins == {}
