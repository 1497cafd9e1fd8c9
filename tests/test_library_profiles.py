"""The GPU profiles, each made from views to shards with tiny models of the real classes."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import yaml

from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.shards import ShardReader
from sceneloom.ops import depth_alignment
from sceneloom.ops.quality import QualityThresholds
from sceneloom.resources.profiles import load_profile

from . import tiny_autoencoders, tiny_pipelines, tiny_transformers
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
    "nvidia/Cosmos-1.0-Tokenizer-CV8x8x8": tiny_autoencoders.save_cosmos,
    "facebook/sam2.1-hiera-large": tiny_transformers.save_sam2,
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
    if changed.get("engine") in ("flux", "flux_fill", "sana_wm", "wan_vace"):
        changed["steps"] = 1
    if str(changed.get("engine")).startswith("depth_"):
        changed["edge_bend"] = None  # of noise every pixel is an edge
    if changed.get("engine") == "sam2":
        changed |= {"points_per_side": 2, "minimum_score": 0.0, "minimum_stability": 0.0, "maximum_share": 1.0}
    return changed


def made_with_tiny_models(name: str, folder: Path, frames: dict[str, int]) -> MadeCollection:
    """Make one prompt or one picture, or both, as the profile of that name takes them."""
    document = yaml.safe_load((CONFIGS / name).read_text())
    kinds = {Path(source).name for source in document["collection"]["sources"]}
    sources = write_sources(folder, [PROMPT], picture="images" in kinds)
    document["collection"]["sources"] = sources if "prompts.txt" in kinds else sources[1:]
    document["store"]["url"] = "store"
    document["releases"]["folder"] = "releases"
    document["frames"] |= frames
    document["trajectories"]["names"] = [document["trajectories"]["names"][0], "left_reversed"]
    document["engines"] = made_tiny(document["engines"])
    # Random weights keep no promise about quality: limits off, so that shards are written. Nor does what they take for
    # depth fit the scaffold.
    document["quality"] = dict.fromkeys(QualityThresholds.model_fields)
    (folder / "profile.yaml").write_text(yaml.safe_dump(document))
    with mock.patch.object(depth_alignment, "SCALED_RESIDUAL", math.inf):
        made = make(load_profile(folder / "profile.yaml"))
    failures = [f"{event.stage}: {event.failure.message}" for event in made.events if event.failure is not None]
    assert not failures, failures
    return made


@pytest.mark.parametrize("name", ["lyra_static_gpu.yaml", "gen3r_gpu.yaml", "vistadream.yaml"])
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


def test_lyras_static_profile_makes_shards(tmp_path: Path) -> None:
    made = made_with_tiny_models("lyra_static_gpu.yaml", tmp_path, {"count": 9, "height": 64, "width": 96})
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
        assert [clip.trajectory for clip in shard.clips] == ["left", "left_reversed"]
    assert made.runtime.engines.models.counters()["loads"]
    again = make(made.profile)
    assert {event.outcome for event in again.events} == {"current"}
    assert again.runtime.engines.models.counters()["loads"] == {}


def test_gen3rs_profile_makes_shards_of_the_generators_own_latents(tmp_path: Path) -> None:
    made = made_with_tiny_models("gen3r_gpu.yaml", tmp_path, {"count": 9, "height": 64, "width": 64})
    scene = made.scene("prompt")
    inputs = made.inputs(scene)
    record = made.record(scene, "video_latents")
    assert record.metadata["clips"]["gen3r_zoom_in"]["latents_from"] == {"primary": "generator"}
    space = LatentSpace.from_json(inputs.json("video_latents", "latent_space.json"))
    assert (space.temporal_stride, space.spatial_stride) == (4, 8)
    latents = inputs.arrays("video_latents", "gen3r_zoom_in.latents.npz")["latents"]
    assert latents.shape == space.latent_shape(9, 64, 64) == (16, 3, 8, 8)
    assert any(name.startswith("depth/") for name in record.key_parts.engine["weights"])
    objects = inputs.json("scene_objects", "objects.json")
    assert "names no engine that finds objects" in objects["reason"]
    shard = ShardReader(inputs.url("gaussian_shards", "shard.zarr"))
    np.testing.assert_array_equal(shard.latents(scene.scene_id, "gen3r_zoom_in"), latents)


def test_vistadreams_profile_makes_shards_of_outpainted_pictures(tmp_path: Path) -> None:
    made = made_with_tiny_models("vistadream.yaml", tmp_path, {"count": 9, "height": 64, "width": 96})
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
