"""Stage gaussian_shards: the shard holds what the stages published, and any reader opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from sceneloom.assets import depth_and_poses, gaussian_shards, quality_report, video_latents
from sceneloom.assets.stage import StageContext
from sceneloom.datasets.depth_codec import BOUNDED_RELATIVE_ERROR
from sceneloom.datasets.errors import ContractError
from sceneloom.datasets.picture_runs import MINIMUM_PSNR, load_runs
from sceneloom.datasets.shards import ShardReader
from sceneloom.resources.profiles import Shards

from .tiny import FRAMES, HEIGHT, TRAJECTORIES, WIDTH, MadeCollection, made_collection


def shard_url(made: MadeCollection, kind: str) -> str:
    return made.runtime.store.file_url(made.record(made.scene(kind), "gaussian_shards"), gaussian_shards.SHARD)


@pytest.mark.parametrize("kind", ["prompt", "image"])
def test_a_shard_holds_every_clip_as_it_was_published(kind: str) -> None:
    made = made_collection()
    scene = made.scene(kind)
    inputs = made.inputs(scene)
    reader = ShardReader(shard_url(made, kind))
    assert [(clip.scene_id, clip.trajectory, clip.frames) for clip in reader.clips] == [
        (scene.scene_id, trajectory, FRAMES) for trajectory in TRAJECTORIES
    ]
    assert reader.latent_space == inputs.json("video_latents", "latent_space.json")
    for trajectory in TRAJECTORIES:
        name = (scene.scene_id, trajectory)
        np.testing.assert_array_equal(reader.latents(*name), video_latents.read_latents(inputs, trajectory))
        depth = depth_and_poses.read_depth(inputs, trajectory)
        np.testing.assert_allclose(reader.depth(*name), depth, rtol=BOUNDED_RELATIVE_ERROR)
        runs = load_runs(inputs.path("video_latents", video_latents.pictures_name(trajectory)))
        assert reader.rgb_runs(*name) == [run.stream for run in runs]
        cameras = depth_and_poses.read_cameras(inputs, trajectory)
        for prefix, estimated in (("commanded", False), ("estimated", True)):
            c2w, intrinsics = reader.cameras(*name, estimated=estimated)
            np.testing.assert_array_equal(c2w, cameras[f"{prefix}_c2w"])
            np.testing.assert_array_equal(intrinsics, cameras[f"{prefix}_intrinsics"])


def test_clips_carry_their_facts_and_quality() -> None:
    made = made_collection()
    scene = made.scene("prompt")
    report = quality_report.read_report(made.inputs(scene))
    for clip in ShardReader(shard_url(made, "prompt")).clips:
        assert clip.metric
        assert clip.metadata["prompt"] == scene.prompt
        assert clip.metadata["split"] == scene.split
        assert clip.metadata["frames_per_second"] == 24
        assert clip.metadata["alignment"]["scale"] == pytest.approx(1, abs=1e-5)
        for name, value in report[clip.trajectory]["metrics"].items():
            assert clip.quality[name] == pytest.approx(value, rel=1e-6)


def test_any_zarr_reader_opens_a_shard() -> None:
    group = zarr.open_group(shard_url(made_collection(), "prompt"), mode="r")
    arrays = {name: array.shape for name, array in group.arrays()}
    assert arrays["latents"] == (len(TRAJECTORIES), 16, 2, HEIGHT // 8, WIDTH // 8)
    assert arrays["depth_residuals"] == (len(TRAJECTORIES), FRAMES, HEIGHT, WIDTH)
    assert arrays["c2w"] == (len(TRAJECTORIES), FRAMES, 4, 4)


def test_index_rows_in_the_record_are_in_the_order_of_the_shard() -> None:
    made = made_collection()
    scene = made.scene("prompt")
    record = made.record(scene, "gaussian_shards")
    rows = record.metadata["clips"]
    assert [row["trajectory"] for row in rows] == list(TRAJECTORIES)
    assert {(row["frames"], row["height"], row["width"], row["fps"]) for row in rows} == {(FRAMES, HEIGHT, WIDTH, 24)}
    assert {row["engine"] for row in rows} == {"raycast"}
    assert record.metrics["clips"] == len(rows)
    assert 0 <= record.metrics["depth_relative_error"] <= BOUNDED_RELATIVE_ERROR
    assert MINIMUM_PSNR <= record.metrics["rgb_psnr"] <= 99


def test_the_profile_can_ask_for_exact_depth(tmp_path: Path) -> None:
    made = made_collection()
    scene = made.scene()
    profile = made.profile.model_copy(update={"shards": Shards(depth="exact")})
    context = StageContext(scene, profile, made.inputs(scene), tmp_path, seed=0, engines=made.runtime.engines)
    assert gaussian_shards.make(context).metrics["depth_relative_error"] == 0
    reader = ShardReader(str(tmp_path / gaussian_shards.SHARD))
    for trajectory in TRAJECTORIES:
        depth = reader.depth(scene.scene_id, trajectory)
        np.testing.assert_array_equal(depth, depth_and_poses.read_depth(made.inputs(scene), trajectory))
    assert gaussian_shards.settings(profile, scene)["depth"] == "exact"


def test_frames_keep_the_psnr_that_the_profile_asks_for(tmp_path: Path) -> None:
    made = made_collection()
    inputs, engines = made.inputs(made.scene()), made.runtime.engines

    def context(minimum: float) -> StageContext:
        profile = made.profile.model_copy(update={"shards": Shards(minimum_psnr=minimum)})
        return StageContext(made.scene(), profile, inputs, tmp_path, seed=0, engines=engines)

    # The runs were coded for 42 dB.
    with pytest.raises(ContractError, match="expected 50 dB at least"):
        gaussian_shards.make(context(50))
    assert list(tmp_path.iterdir()) == []
    gaussian_shards.make(context(40))
    declared: Any = zarr.open_group(tmp_path / gaussian_shards.SHARD, mode="r").attrs["rgb"]
    assert declared["minimum_psnr"] == 40


def test_only_what_the_shard_holds_of_the_catalogues_row_is_in_its_key() -> None:
    made = made_collection()
    settings = gaussian_shards.settings(made.profile, made.scene())
    assert settings == {
        "trajectories": list(TRAJECTORIES),
        "depth": "bounded",
        "frames_per_second": 24,
        "split": made.scene().split,
        "licence": made.scene().licence,
    }
    assert Path(shard_url(made, "prompt")).name == "shard.zarr"
