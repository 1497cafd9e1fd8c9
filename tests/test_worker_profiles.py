"""Profiles whose engines are workers, made from views to shards and releases with stand-ins of all their models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sceneloom.assets.collection_tables import write_scenegen_metadata
from sceneloom.assets.release_publication import Publication, publish_release
from sceneloom.datasets.errors import ConfigError
from sceneloom.datasets.layouts.registry import require_layout
from sceneloom.datasets.shards import ShardReader
from sceneloom.ops.quality import QualityThresholds
from sceneloom.resources.profiles import load_profile

from .moving_videos import write_moving_square
from .tiny import MadeCollection, codec_folder, make, write_profile, write_sources
from .worker_stand_ins import STAND_INS, lyra_settings, stand_in_settings

COUNT, HEIGHT, WIDTH = 9, 64, 112
NOT_JUDGED: dict[str, Any] = dict.fromkeys(QualityThresholds.model_fields)
"""Stand-ins keep no promise about quality: limits off, so that shards are written."""


def engines(folder: Path, scratch: Path) -> dict[str, Any]:
    moge = {"engine": "moge", "focal": "view", "edge_bend": None, **stand_in_settings(scratch)}
    return {
        "scene_scaffold": {"prompt": moge, "image": moge},
        "video_latents": {"engine": "gen3c", **lyra_settings(folder, COUNT, HEIGHT, WIDTH), "scratch": str(scratch)},
        "depth_and_poses": {"engine": "vggt", **stand_in_settings(scratch)},
        "latent_codec": {"path": str(codec_folder())},
    }


@contextlib.contextmanager
def made_by_workers(profile: Path) -> Iterator[MadeCollection]:
    """Make the collection; the workers' processes end with the block."""
    made = make(load_profile(profile))
    try:
        yield made
    finally:
        for engine in made.runtime.engines._resident.values():
            close = getattr(engine, "close", None)
            if close is not None:
                close()


def failures(made: MadeCollection) -> list[str]:
    return [f"{event.stage}: {event.failure.message}" for event in made.events if event.failure is not None]


def test_views_to_shards_by_moge_gen3c_and_vggt(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    sources = write_sources(tmp_path, ["a living room with a red sofa"], picture=False)
    chosen = engines(tmp_path, scratch)
    for worker in (chosen["scene_scaffold"]["prompt"], chosen["video_latents"], chosen["depth_and_poses"]):
        worker["device_memory"] = "2 GB"
    profile = write_profile(
        tmp_path,
        sources,
        engines=chosen,
        execution={"device_memory": "3 GB"},
        trajectories={"names": ["left"]},
        quality={**NOT_JUDGED, "minimum_clearance": None},
    )
    with made_by_workers(profile) as made:
        assert not failures(made)
        scene = made.scene()
        inputs = made.inputs(scene)
        scaffold = inputs.json("scene_scaffold", "scaffold.json")
        assert scaffold["notes"]["engine"] == "moge"
        assert scaffold["metric"]
        record = made.record(scene, "video_latents")
        assert (record.engine, record.licence.split(" AND ")[0]) == ("gen3c", "NVIDIA Open Model License")
        clips = record.metadata["clips"]
        assert {clip["generator"] for clip in clips.values()} == {"static"}
        # The profile's codec is another one, so frames are encoded anew.
        assert clips["left"]["latents_from"] == {"primary": "codec"}
        key = record.key_parts.model_dump_json()
        assert "scratch" not in key
        assert str(tmp_path) not in key
        # There is room for one worker at once: each of them ended the one before.
        ended = made.runtime.engines.models.counters()["evictions"]
        assert {name.split()[1] for name in ended if name.startswith("worker ")} == {"moge", "gen3c"}
        estimation = inputs.json("depth_and_poses", "cameras.json")["left"]["estimation"]
        assert (estimation["estimated_depth"], estimation["estimated_poses"]) == (True, True)
        kept = inputs.arrays("depth_and_poses", "left.estimation.npz")["depth_confidence"]
        assert (kept.dtype, len(kept)) == (np.float16, COUNT)
        shard = ShardReader(inputs.url("gaussian_shards", "shard.zarr"))
        assert [clip.trajectory for clip in shard.clips] == ["left"]
        again = make(made.profile)
        assert {event.outcome for event in again.events} == {"current"}
        assert again.runtime.engines.video().worker._resident._thread is None  # type: ignore[attr-defined]
    assert list(scratch.iterdir()) == []


def test_videos_to_shards_by_the_dynamic_generator(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    write_moving_square(tmp_path / "videos" / "slide.mp4", frames=12, height=HEIGHT, width=WIDTH, seed=3)
    chosen = engines(tmp_path, scratch)
    chosen["scene_scaffold"]["video"] = chosen["scene_scaffold"]["image"]
    # What fills the picture here moves as a whole.
    chosen["conditioning_view"] = {"video": {"maximum_camera_motion": None}}
    profile = write_profile(
        tmp_path,
        ["videos"],
        collection={"name": "tiny", "sources": ["videos"], "video_limits": {"minimum_side_pixels": 32}},
        engines=chosen,
        trajectories={"names": ["left"]},
        quality={**NOT_JUDGED, "minimum_clearance": None},
    )
    with made_by_workers(profile) as made:
        assert not failures(made)
        scene = made.scene("video")
        clip = made.record(scene, "video_latents").metadata["clips"]["left"]
    assert clip["generator"] == "dynamic"
    assert 0 < clip["seen_share"] < 1
    assert [each.trajectory for each in ShardReader(made.inputs(scene).url("gaussian_shards", "shard.zarr")).clips] == [
        "left"
    ]


@pytest.mark.parametrize("size", [{"count": 17}, {"height": 80}])
def test_clips_of_another_size_than_gen3c_makes_are_refused_with_the_profile(tmp_path: Path, size: Any) -> None:
    profile = write_profile(tmp_path, write_sources(tmp_path), engines=engines(tmp_path, tmp_path / "scratch"))
    document = yaml.safe_load(profile.read_text())
    document["frames"] |= size
    profile.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match="GEN3C makes 9 of 64 × 112"):
        load_profile(profile)


def test_clips_longer_than_vggt_takes_are_refused_with_the_profile(tmp_path: Path) -> None:
    chosen = engines(tmp_path, tmp_path / "scratch")
    chosen["depth_and_poses"]["maximum_frames"] = COUNT
    profile = write_profile(tmp_path, write_sources(tmp_path), engines=chosen)
    load_profile(profile)
    chosen["depth_and_poses"]["maximum_frames"] = COUNT - 1
    write_profile(tmp_path, write_sources(tmp_path), engines=chosen)
    with pytest.raises(ConfigError, match="clips of 9 frames, and vggt is to take 8 at once"):
        load_profile(profile)


def test_scenegens_features_and_latents_are_made_by_the_stage_of_objects(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    sources = write_sources(tmp_path, ["a living room with a red sofa and two chairs"], picture=False)
    chosen = {
        "latent_codec": {"path": str(codec_folder())},
        "picture_features": {"engine": "vggt", **stand_in_settings(scratch)},
        "object_latents": {"engine": "trellis_ss", "source": str(STAND_INS), **stand_in_settings(scratch)},
    }
    profile = write_profile(tmp_path, sources, engines=chosen, quality={**NOT_JUDGED, "minimum_clearance": None})
    with made_by_workers(profile) as made:
        assert not failures(made)
        scene = made.scene()
        record = made.record(scene, "scene_objects")
        assert record.licence == "Apache-2.0 AND CC-BY-NC-4.0 AND MIT"
        assert record.metadata["vggt_feature"]["engine"] == "vggt"
        assert record.key_parts.engine["weights"] == {
            "picture_features/facebook/VGGT-1B": "main",
            "object_latents/microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16": "main",
        }
        objects = made.objects(scene)
        assert objects
        write_scenegen_metadata(made.catalog, made.runtime.pipeline())
        out = tmp_path / "release"
        manifest, _ = publish_release(made.runtime, Publication(require_layout("scenegen"), out=out))
    inputs = made.inputs(scene)
    assert set(manifest.stand_ins) == {"cond_rendered"}
    [feature] = (out / "vggt_features").iterdir()
    with np.load(feature) as published:
        expected = inputs.arrays("scene_objects", "vggt_feature.npz")["vggt_feature"]
        np.testing.assert_array_equal(published["vggt_feature"], expected)
    latents = sorted((out / "ss_latents" / "ss_enc_conv3d_16l8_fp16").iterdir())
    made_latents = [inputs.arrays("scene_objects", row["ss_latent"])["mean"] for row in objects]
    assert latents
    for path in latents:
        with np.load(path) as published:
            assert any(np.array_equal(published["mean"], mean) for mean in made_latents)
