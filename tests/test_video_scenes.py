"""Scenes from videos, from the source folder to Lyra's dynamic layout: by tiny models of the GPU profile's classes, and
by the embedded profile."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sceneloom.assets import camera_paths, conditioning_view, depth_and_poses, scene_scaffold
from sceneloom.assets.catalog import refresh_catalog
from sceneloom.assets.collection_tables import write_training_index
from sceneloom.assets.release_publication import Publication, publish_release
from sceneloom.assets.release_scenes import Selection, release_scenes
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.datasets.catalog import SCENE_CATALOG_1, SCENE_REJECTS, catalog_entries, rejects
from sceneloom.datasets.errors import ConfigError, InputError
from sceneloom.datasets.layouts.manifest import read_manifest
from sceneloom.datasets.layouts.publishing import examine
from sceneloom.datasets.layouts.registry import LAYOUTS, require_layout
from sceneloom.datasets.parquet import read_parquet, write_parquet
from sceneloom.datasets.shards import ShardReader
from sceneloom.datasets.video import read_video
from sceneloom.ops.pictures import fit_picture
from sceneloom.ops.quality import QualityThresholds
from sceneloom.ops.trajectories import LYRA_REVERSED_VIEWS, LYRA_VIEWS
from sceneloom.resources.profiles import load_profile

from .moving_videos import SLIDE_CAPTION, write_captioned_video, write_moving_square
from .test_library_profiles import CONFIGS, released, require_accepted
from .tiny import MadeCollection, codec_folder, folder_of_this_process, make, write_profile, write_sources

FRAMES, HEIGHT, WIDTH = 9, 64, 64
VIEWS = (*LYRA_VIEWS, *LYRA_REVERSED_VIEWS)


def generated() -> tuple[MadeCollection, Path]:
    """Made and released as lyra_dynamic_gpu.yaml has it, by runs in Dagster."""
    return released("lyra_dynamic_gpu.yaml")


@functools.cache
def warped() -> tuple[MadeCollection, Path]:
    """Made and released as lyra_dynamic_videos.yaml has it, with a tiny codec."""
    document = yaml.safe_load((CONFIGS / "lyra_dynamic_videos.yaml").read_text())
    folder = folder_of_this_process() / "lyra_dynamic_videos"
    document["collection"] |= {
        "sources": [write_captioned_video(folder, height=HEIGHT, width=WIDTH)],
        "video_limits": {"minimum_side_pixels": 32},
    }
    document["store"]["url"], document["releases"]["folder"] = "store", "releases"
    document["frames"] |= {"count": FRAMES, "height": HEIGHT, "width": WIDTH}
    document["engines"]["latent_codec"] = {"path": str(codec_folder())}
    document["quality"] = dict.fromkeys(QualityThresholds.model_fields)  # of so small pictures
    (folder / "profile.yaml").write_text(yaml.safe_dump(document))
    made = make(load_profile(folder / "profile.yaml"))
    failures = [f"{event.stage}: {event.failure.message}" for event in made.events if event.failure is not None]
    assert not failures, failures
    write_training_index(made.catalog, made.runtime.pipeline())
    return made, publish_release(made.runtime, Publication(require_layout("lyra_dynamic")))[1]


BOTH = pytest.mark.parametrize(
    "collection",
    [
        generated,
        warped,
    ],
)


@BOTH
def test_the_view_is_the_first_frame_and_the_clip_is_kept_exactly(collection: Any) -> None:
    made, _ = collection()
    scene = made.scene("video")
    inputs = made.inputs(scene)
    view = conditioning_view.read_view(inputs, with_clip=True)
    assert view.clip is not None
    source = read_video(Path(made.profile.file.parent / "videos" / "slide.mp4"), range(FRAMES))
    np.testing.assert_array_equal(view.clip.frames, np.stack([fit_picture(each, HEIGHT, WIDTH) for each in source]))
    np.testing.assert_array_equal(view.picture, view.clip.frames[0])
    assert (view.clip.c2w == np.eye(4)).all()
    assert view.clip.cameras_from == "assumed_static"
    assert conditioning_view.read_view(inputs).clip is None
    assert read_video(inputs.path("conditioning_view", "clip.mp4")).shape == view.clip.frames.shape
    record = made.record(scene, "conditioning_view")
    assert record.metadata["prompt"] == SLIDE_CAPTION
    assert (record.engine, record.metrics["frames"]) == ("video_frames", FRAMES)
    assert record.metadata["source_frames"] == list(range(FRAMES))
    assert record.metadata["camera"] == "assumed_static"
    assert record.key_parts.settings["frames"]["frames_per_second"] == 24


@BOTH
def test_every_frame_has_depth_and_what_moves_is_known(collection: Any) -> None:
    made, _ = collection()
    scene = made.scene("video")
    scaffold = scene_scaffold.read_scaffold(made.inputs(scene))
    assert scaffold.clip is not None
    assert scaffold.clip.depth.shape == (FRAMES, HEIGHT, WIDTH)
    assert (scaffold.clip.depth > 0).all()
    assert scaffold.clip.moving is not None
    assert scaffold.clip.background is not None
    record = made.record(scene, "scene_scaffold")
    assert 0.05 < record.metrics["moving_share"] < 0.6
    # Poses come with the scaffold only where its engine estimates them.
    assert {contract.contract for contract in record.contracts} == set(scene_scaffold.STAGE.checks) - {"c2w"}
    view = made.record(scene, "conditioning_view")
    assert {contract.contract for contract in view.contracts} == set(conditioning_view.STAGE.checks)


@BOTH
def test_cameras_run_from_far_to_near_on_the_reversed_views(collection: Any) -> None:
    made, _ = collection()
    inputs = made.inputs(made.scene("video"))
    for name in LYRA_VIEWS:
        there, back = (
            np.stack([c.c2w for c in camera_paths.read_cameras(inputs, each, height=HEIGHT, width=WIDTH)])
            for each in (name, f"{name}_reversed")
        )
        np.testing.assert_allclose(back, there[::-1], atol=1e-6)
        assert not np.allclose(there[-1], np.eye(4)) or name == "clockwise"


def test_runs_in_dagster_end_in_a_release_that_doctor_accepts() -> None:
    require_accepted("lyra_dynamic_gpu.yaml")


def test_clips_are_generated_forwards_and_backwards() -> None:
    made, _ = generated()
    scene = made.scene("video")
    clips = made.record(scene, "video_latents").metadata["clips"]
    assert list(clips) == list(VIEWS)
    for name in LYRA_VIEWS:
        assert "made_backwards" not in clips[name]
        # The ellipses of "clockwise" end where they begin.
        assert clips[f"{name}_reversed"].get("made_backwards", False) == (name != "clockwise")
        assert clips[f"{name}_reversed"]["latents_from"] == {"primary": "codec"}
    summary = made.inputs(scene).json("depth_and_poses", "cameras.json")
    assert summary["left"]["estimation"]["engine"] == "depth_anything"
    assert 0 < summary["left_reversed"]["dynamic_fraction"] < 0.6
    assert depth_and_poses.read_object_poses(made.inputs(scene), "left") is None
    mask = depth_and_poses.read_dynamic(made.inputs(scene), "left")
    assert mask is not None
    assert mask.shape == (FRAMES, HEIGHT, WIDTH)


def test_warped_clips_show_the_video() -> None:
    made, _ = warped()
    inputs = made.inputs(made.scene("video"))
    clip = conditioning_view.read_view(inputs, with_clip=True).clip
    assert clip is not None
    for name, at in (("left", 0), ("left_reversed", -1)):
        frames = read_video(inputs.path("video_latents", f"{name}.mp4"))
        # The video is coded with half of the colour's resolution.
        assert np.median(np.abs(frames[at].astype(int) - clip.frames[at])) <= 3
        own, other = (np.abs(frames[at].astype(int) - clip.frames[each]).mean() for each in (at, -1 - at))
        assert own < 0.5 * other
    estimation = inputs.json("depth_and_poses", "cameras.json")["zoom_out"]["estimation"]
    assert (estimation["engine"], estimation["estimated_depth"]) == ("warped", True)
    assert 0 < estimation["unseen_share"] < 0.7


@BOTH
def test_shards_and_index_hold_all_twelve(collection: Any) -> None:
    made, _ = collection()
    scene = made.scene("video")
    shard = ShardReader(made.inputs(scene).url("gaussian_shards", "shard.zarr"))
    assert [clip.trajectory for clip in shard.clips] == list(VIEWS)
    index = write_training_index(made.catalog, made.runtime.pipeline())
    assert index["kind"].to_pylist() == ["video"] * 12
    assert index["prompt"].to_pylist() == [SLIDE_CAPTION] * 12


@BOTH
def test_lyras_dynamic_layout_is_published_and_examined(collection: Any, tmp_path: Path) -> None:
    made, directory = collection()
    [scene] = release_scenes(made.runtime, "clips", Selection())
    assert scene.moving
    assert scene.kind == "video"
    assert read_manifest(directory).counts["views"] == 12
    assert [finding.message for finding in examine(directory, LAYOUTS)] == []
    views = sorted(int(view.name) for view in (directory / "dataset").iterdir())
    assert views == list(range(12))
    [key] = [path.stem for path in (directory / "dataset" / "0" / "pose").iterdir()]
    near, far = (np.load(directory / "dataset" / view / "pose" / f"{key}.npz")["data"] for view in ("0", "6"))
    np.testing.assert_allclose(far, near[::-1], atol=1e-6)
    with pytest.raises(InputError, match="objects move in"):
        publish_release(made.runtime, Publication(require_layout("lyra_static"), out=tmp_path / "s"))


@BOTH
def test_a_second_run_finds_all_of_it_current(collection: Any) -> None:
    made, _ = collection()
    again = make(made.profile)
    assert {event.outcome for event in again.events} == {"current"}
    assert again.runtime.engines.models.counters()["loads"] == {}


def test_what_cannot_be_used_is_listed() -> None:
    made, _ = warped()
    store = made.runtime.store
    [reject] = rejects(read_parquet(store.table_url("scene_rejects"), SCENE_REJECTS))
    assert (reject.reason, Path(reject.video_url or "").name) == ("empty_file", "broken.mp4")


# --- what does not go together -------------------------------------------------------------------------------------


def test_engines_that_would_show_a_video_standing_still_are_refused(tmp_path: Path) -> None:
    write_moving_square(tmp_path / "videos" / "slide.mp4", frames=12, height=144, width=160)
    profile = load_profile(write_profile(tmp_path, ["videos"]))
    runtime = SceneRuntime(profile)
    with pytest.raises(ConfigError, match="the collection has videos, and the engine raycast would show") as caught:
        refresh_catalog(profile, runtime.store)
    assert "wan_vace or warped" in caught.value.remedy
    with pytest.raises(InputError, match="no catalogue yet"):
        runtime.catalog()


def test_depth_of_the_cache_belongs_to_clips_of_the_cache(tmp_path: Path) -> None:
    engines = {"latent_codec": {"path": str(codec_folder())}, "depth_and_poses": "warped"}
    with pytest.raises(ConfigError, match="warped for clips of the engine raycast"):
        load_profile(write_profile(tmp_path, write_sources(tmp_path), engines=engines))


def test_a_catalogue_from_before_there_were_videos_keeps_its_scenes(tmp_path: Path) -> None:
    profile = load_profile(write_profile(tmp_path, write_sources(tmp_path, ["a red chair", "a lamp"])))
    store = SceneRuntime(profile).store
    before = refresh_catalog(profile, store).catalog
    table = read_parquet(store.table_url("scene_catalog"), _now())
    write_parquet(store.table_url("scene_catalog"), table.select(SCENE_CATALOG_1.names), SCENE_CATALOG_1)
    assert SceneRuntime(profile).catalog().entries == before.entries
    write_sources(tmp_path, ["a red chair"])
    after = refresh_catalog(profile, store)
    assert len(after.retired) == 1
    assert after.added == ()
    assert len(catalog_entries(read_parquet(store.table_url("scene_catalog"), _now()))) == 3


def _now() -> Any:
    from sceneloom.datasets.catalog import SCENE_CATALOG

    return SCENE_CATALOG


def test_input_cameras_lie_under_the_paths() -> None:
    path = np.repeat(np.eye(4, dtype=np.float32)[None], 3, axis=0)
    path[:, 0, 3] = [0.0, 0.1, 0.2]
    still = np.repeat(np.eye(4, dtype=np.float32)[None], 3, axis=0)
    assert camera_paths.on_top_of(still, path) is path
    turned = still.copy()
    turned[1, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    turned[1, :3, 3] = [1, 2, 3]
    found = camera_paths.on_top_of(turned, path)
    # Lyra: world-to-camera L·W0.
    for c2w, own, given in zip(found, path, turned, strict=True):
        np.testing.assert_allclose(np.linalg.inv(c2w), np.linalg.inv(own) @ np.linalg.inv(given), atol=1e-6)


def test_cameras_keep_clear_of_what_comes_near_later() -> None:
    made, _ = warped()
    scaffold = scene_scaffold.read_scaffold(made.inputs(made.scene("video")))
    assert scaffold.clip is not None
    depth = scaffold.clip.depth.copy()
    depth[5, 20:30, 20:30] = 0.5
    near = dataclasses.replace(scaffold, clip=dataclasses.replace(scaffold.clip, depth=depth))
    surface = camera_paths._surfaces(near)
    assert (
        surface.shell.vertices[..., 2].min() == pytest.approx(0.5, abs=0.01)
        or np.isclose(np.abs(surface.shell.vertices).min(axis=0), 0.5, atol=0.01).any()
    )
