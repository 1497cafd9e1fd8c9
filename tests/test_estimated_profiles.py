"""Profiles whose depth or cameras are estimated from clips, run in Dagster from catalogue to shards and releases."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from numpy.typing import NDArray
from PIL import Image

from sceneloom.assets import camera_paths, depth_and_poses
from sceneloom.assets.scene_partitions import scene_partitions
from sceneloom.assets.scene_scaffold import read_scaffold, read_view
from sceneloom.datasets.layouts.manifest import read_manifest
from sceneloom.datasets.layouts.publishing import examine
from sceneloom.datasets.layouts.registry import LAYOUTS
from sceneloom.datasets.shards import ShardReader
from sceneloom.datasets.video import read_video, write_video
from sceneloom.ops.object_motion import moving_ids, scene_at
from sceneloom.ops.quality import QualityThresholds
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.trajectories import LYRA_REVERSED_VIEWS, LYRA_VIEWS
from sceneloom.orchestration.jobs import MAKE_SCENES
from sceneloom.orchestration.make_command import QUIET
from sceneloom.resources.embedded_engines import geometry_behind
from sceneloom.resources.engines import Camera, Scaffold
from sceneloom.resources.profiles import load_profile

from .dagster_collections import DagsterProject, dagster_project
from .moving_room import FRAMES as ROOM_FRAMES
from .moving_room import room, shifted
from .test_library_profiles import CONFIGS, made_tiny
from .test_vipe_engine import vipe
from .test_vipe_scaffold import UNIT
from .tiny import codec_folder, write_profile, write_sources
from .worker_stand_ins import lyra_settings, stand_in_settings

NOT_JUDGED: dict[str, Any] = dict.fromkeys(QualityThresholds.model_fields)
"""Stand-ins keep no promise about quality: limits off, so that shards are written."""


@contextlib.contextmanager
def ended(opened: AbstractContextManager[DagsterProject]) -> Iterator[DagsterProject]:
    """The project, whose engines' workers end with the block."""
    with opened as project:
        try:
            yield project
        finally:
            for engine in project.runtime.engines._resident.values():
                close = getattr(engine, "close", None)
                if close is not None:
                    close()


# ---------------------------------------------------------------- cameras by structure from motion

COUNT, HEIGHT, WIDTH = 9, 96, 160
"""The smallest clips whose estimated focal length stays near the true one: at 80 × 128 it is off by up to a third, at
48 × 80 frames are lost."""


def backfilled(project: DagsterProject) -> dg.ExecuteInProcessResult:
    """A run over all scenes, some of which may fail."""
    name = scene_partitions(project.runtime.profile.collection.name).name
    assert name is not None
    scenes = project.instance.get_dynamic_partitions(name)
    return project.definitions.resolve_job_def(MAKE_SCENES).execute_in_process(
        instance=project.instance,
        run_config=QUIET,
        tags={ASSET_PARTITION_RANGE_START_TAG: scenes[0], ASSET_PARTITION_RANGE_END_TAG: scenes[-1]},
        raise_on_error=False,
    )


def test_cameras_by_structure_from_motion_end_in_shards_and_a_clip_without_texture_is_named(tmp_path: Path) -> None:
    sources = [*write_sources(tmp_path, ["a library with three bookshelves"], picture=False), "pictures"]
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), (127, 127, 127)).save(tmp_path / "pictures" / "grey.png")
    profile = write_profile(
        tmp_path,
        sources,
        collection={"name": "tiny", "sources": sources, "limits": {"minimum_side_pixels": 64}},
        frames={"count": COUNT, "height": HEIGHT, "width": WIDTH},
        trajectories={"names": ["left"], "movement_factor": 1.5},
        engines={"latent_codec": {"path": str(codec_folder())}, "depth_and_poses": "classical"},
    )
    with dagster_project(load_profile(profile)) as project:
        project.refresh()
        assert not backfilled(project).success
        made = project.made()
        textured, plain = made.scene("prompt"), made.scene("image")
        materialized = {
            stage: project.instance.get_materialized_partitions(dg.AssetKey(stage))
            for stage in ("video_latents", "depth_and_poses", "quality_report", "gaussian_shards")
        }
    both = {textured.scene_id, plain.scene_id}
    assert materialized == {name: {textured.scene_id} for name in materialized} | {"video_latents": both}

    failed = made.runtime.store.failure(plain.scene_id, "depth_and_poses")
    assert failed is not None
    assert failed.last.reason == "estimation_diverged"
    assert failed.last.message.startswith("clip left: classical poses: 9 frames, of which none could be put together")
    assert "Use clips with texture and a camera that moves" in failed.last.message
    # The same clip would fail again: only another profile gets it a further attempt.
    assert failed.quarantined

    inputs = made.inputs(textured)
    facts = inputs.json("depth_and_poses", "cameras.json")["left"]
    assert facts["estimation"]["estimated_poses"]
    assert not facts["estimation"]["estimated_depth"]
    assert facts["similarity"]["scale_determined"]
    report = inputs.json("quality_report", "report.json")["left"]
    assert report["passed"], report["failures"]
    assert 0 < report["cameras"]["trajectory_error"] < 0.05
    assert report["cameras"]["depth_scale_error"] is None
    reader = ShardReader(inputs.url("gaussian_shards", "shard.zarr"))
    commanded, _ = reader.cameras(textured.scene_id, "left")
    estimated, _ = reader.cameras(textured.scene_id, "left", estimated=True)
    assert np.abs(estimated - commanded).max() > 0.01
    assert (made.record(textured, "depth_and_poses").engine, made.record(textured, "depth_and_poses").licence) == (
        "classical",
        "BSD-3-Clause AND Apache-2.0",
    )


# ---------------------------------------------------------------- objects that move, and ViPE

VIEWS = (*LYRA_VIEWS, *LYRA_REVERSED_VIEWS)


def test_what_moves_in_rendered_scenes_is_known_where_vipe_estimates_their_depth(tmp_path: Path) -> None:
    sources = write_sources(tmp_path, ["a workshop with three wooden crates"], picture=False)
    chosen = {
        "latent_codec": {"path": str(codec_folder())},
        "video_latents": {"engine": "raycast", "samples_per_pixel": 1},
        "depth_and_poses": vipe(tmp_path),
    }
    profile = write_profile(
        tmp_path,
        sources,
        frames={"count": COUNT, "height": 64, "width": 64},
        trajectories={"names": list(VIEWS)},
        motion={"objects": 2, "distance": 0.6},
        engines=chosen,
        quality=NOT_JUDGED,
    )
    with ended(dagster_project(load_profile(profile))) as project:
        project.refresh()
        project.backfill()
        project.tables()
        release = project.publish("lyra_dynamic")
        made = project.made()
    assert examine(release, LAYOUTS) == []
    scene = made.scene()
    inputs = made.inputs(scene)
    scaffold = read_scaffold(inputs)
    reader = ShardReader(inputs.url("gaussian_shards", "shard.zarr"))
    facts = inputs.json("depth_and_poses", "cameras.json")
    assert {clip["dynamic_from"] for clip in facts.values()} == {"ground_truth"}
    assert {clip["estimation"]["engine"] for clip in facts.values()} == {"vipe"}
    for view in (0, 6):
        mask = reader.dynamic_mask(scene.scene_id, VIEWS[view])
        assert mask is not None
        cameras = camera_paths.read_cameras(inputs, VIEWS[view], height=64, width=64)
        for frame in (0, COUNT - 1):
            np.testing.assert_array_equal(mask[frame], moving_pixels(scaffold, frame, cameras[frame]))
        with zipfile.ZipFile(next(release.glob(f"dataset/{view}/mask/*.zip"))) as archive:
            planes = [np.asarray(Image.open(io.BytesIO(archive.read(each)))) for each in archive.namelist()]
        np.testing.assert_array_equal(np.stack(planes), mask)
        # What ViPE took for objects is kept beside it, and is another thing.
        instances = inputs.arrays("depth_and_poses", f"{VIEWS[view]}.estimation.npz")["instance_masks"]
        assert ((instances > 0) != mask).mean() > 0.1
    assert {clip.metadata["dynamic_from"] for clip in reader.clips} == {"ground_truth"}
    notes = read_manifest(release).notes
    assert "mask/ of 1 of 1 scenes: the masks are the truth of rendered scenes" in notes


def moving_pixels(scaffold: Scaffold, frame: int, camera: Camera) -> NDArray[np.bool_]:
    """(H, W), where the ray caster sees an object that moves, in the scene built as it is at that frame."""
    caster = RayCaster(scene_at(geometry_behind(scaffold), scaffold.motions, frame))
    seen = caster.geometry(camera.c2w, camera.intrinsics, camera.height, camera.width)
    return np.isin(seen.instance_ids, moving_ids(scaffold.motions))


# ---------------------------------------------------------------- generated clips as Lyra's authors made theirs


def test_lyras_own_way_ends_in_a_release_that_doctor_accepts(tmp_path: Path) -> None:
    document = yaml.safe_load((CONFIGS / "lyra_static_vipe_gpu.yaml").read_text())
    engines, scratch = document["engines"], str(tmp_path / "scratch")
    moge = {"engine": "moge", "edge_bend": None, **stand_in_settings(tmp_path / "scratch"), "scratch": scratch}
    gen3c = lyra_settings(tmp_path, COUNT, 64, 112)
    document["engines"] = made_tiny(engines) | {
        "scene_scaffold": {"prompt": moge, "image": moge},
        "video_latents": {"engine": "gen3c", **gen3c, "scratch": scratch},
        "depth_and_poses": vipe(tmp_path, preset=engines["depth_and_poses"]["preset"]),
    }
    document["collection"]["sources"] = write_sources(tmp_path, ["a living room with a red sofa"], picture=False)
    document["store"]["url"], document["releases"]["folder"] = "store", "releases"
    document["frames"] |= {"count": COUNT, "height": 64, "width": 112}
    document["quality"] = NOT_JUDGED
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(document))
    with ended(dagster_project(load_profile(tmp_path / "profile.yaml"))) as project:
        project.refresh()
        project.backfill()
        project.tables()
        release = project.publish("lyra_static")
        made = project.made()
    assert examine(release, LAYOUTS) == []
    scene = made.scene()
    assert read_manifest(release).scenes[scene.scene_id].clips == LYRA_VIEWS
    inputs = made.inputs(scene)
    assert [made.record(scene, stage).engine for stage in ("scene_scaffold", "video_latents", "depth_and_poses")] == [
        "moge",
        "gen3c",
        "vipe",
    ]
    facts = inputs.json("depth_and_poses", "cameras.json")
    assert {clip["estimation"]["preset"] for clip in facts.values()} == {"lyra"}
    assert {clip["known_depth"] for clip in facts.values()} == {"scaffold"}
    # Published are the commanded cameras, and ViPE's depth in their unit.
    for number, name in enumerate(LYRA_VIEWS):
        with np.load(next(release.glob(f"dataset/{number}/pose/*.npz"))) as pose:
            np.testing.assert_array_equal(pose["data"], inputs.arrays("camera_paths", f"{name}.npz")["c2w"])
    # Nothing is known to move: what ViPE takes for things that may is no mask.
    assert made.record(scene, "gaussian_shards").metrics["clips"] == 6
    assert not any("dynamic" in name for name in inputs.names("depth_and_poses"))
    assert not list(release.glob("dataset/*/mask"))


# ---------------------------------------------------------------- videos whose camera moves


def test_a_video_of_a_camera_that_moves_ends_in_lyras_dynamic_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = [shifted(0.05 * frame, 0.02 * frame) for frame in range(COUNT)]
    seen = [room().see(min(frame, ROOM_FRAMES - 1), pose) for frame, pose in enumerate(path)]
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "walk.mp4", [each[0] for each in seen], fps=24, crf=4)
    truth = tmp_path / "truth"
    truth.mkdir()
    lenses = np.tile(room().lens, (COUNT, 1))
    # Of the input's frames; of the clips the stand-in finds a room of its own.
    np.savez(truth / "frames.npz", c2w=np.stack(path), intrinsics=lenses, depth=np.stack([each[1] for each in seen]))
    monkeypatch.setenv("VIPE_STAND_IN_TRUTH", str(truth))
    profile = write_profile(
        tmp_path,
        ["videos"],
        collection={"name": "tiny", "sources": ["videos"], "video_limits": {"minimum_side_pixels": 32}},
        frames={"count": COUNT, "height": HEIGHT, "width": WIDTH, "frames_per_second": 24},
        trajectories={"names": list(VIEWS)},
        engines={
            "scene_scaffold": {"video": vipe(tmp_path)},
            "video_latents": {"engine": "warped", "holes": "background"},
            "latent_codec": {"path": str(codec_folder())},
            "depth_and_poses": "warped",
        },
        quality=NOT_JUDGED,
    )
    with ended(dagster_project(load_profile(profile))) as project:
        project.refresh()
        project.backfill()
        project.tables()
        release = project.publish("lyra_dynamic")
        made = project.made()
    assert examine(release, LAYOUTS) == []
    assert any("they are no proof that it moves" in note for note in read_manifest(release).notes)
    scene = made.scene("video")
    inputs = made.inputs(scene)
    assert made.record(scene, "conditioning_view").metadata["camera"] == "not_yet_estimated"
    assert "clip_cameras.npz" not in inputs.names("conditioning_view")
    scaffold = read_scaffold(inputs)
    view = read_view(inputs, scaffold)
    assert view.clip is not None
    assert view.clip.cameras_from == "vipe"
    own = np.stack(path)
    own[:, :3, 3] *= UNIT
    np.testing.assert_allclose(view.clip.c2w, own, atol=1e-5)

    # Every trajectory lies on top of the camera's own way, and runs back from the end of it.
    there, back = (inputs.arrays("camera_paths", f"{name}.npz")["c2w"] for name in ("left", "left_reversed"))
    np.testing.assert_allclose(there[0], np.eye(4), atol=1e-6)
    np.testing.assert_allclose(back[-1], own[-1], atol=1e-5)
    steps = np.linalg.inv(own) @ there
    np.testing.assert_allclose(np.linalg.inv(own) @ back, steps[::-1], atol=1e-5)

    # Where a path meets the camera's own way the clip is the video; elsewhere its depth is that of the room at that
    # time from the commanded camera, and not that from the path without the camera's own way under it.
    last = read_video(inputs.path("video_latents", "left_reversed.mp4"))[-1]
    assert np.abs(last.astype(int) - view.clip.frames[-1]).mean() < 2
    for name, frame in (("left", 4), ("left", COUNT - 1), ("left_reversed", 3)):
        depth = depth_and_poses.read_depth(inputs, name)[frame].astype(np.float32) / UNIT
        pose = inputs.arrays("camera_paths", f"{name}.npz")["c2w"][frame].astype(np.float64)
        errors = []
        for camera in (pose, np.linalg.inv(own[frame]) @ pose):
            camera[:3, 3] /= UNIT
            errors.append(np.median(np.abs(depth / room().see(min(frame, ROOM_FRAMES - 1), camera)[1] - 1)))
        assert errors[0] < 0.03, name
        assert errors[0] < 0.6 * errors[1], name
    facts = inputs.json("depth_and_poses", "cameras.json")
    assert {clip["dynamic_from"] for clip in facts.values()} == {"instances"}
    assert 0.02 < facts["left"]["dynamic_fraction"] < 0.25
