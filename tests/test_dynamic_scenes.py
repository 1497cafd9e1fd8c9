"""A small dynamic collection made for real: objects move, cameras run both ways, and all agrees frame by frame."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest

from sceneloom.assets import camera_paths, depth_and_poses, quality_report, scene_scaffold
from sceneloom.assets.stage import StageInputs
from sceneloom.assets.stages import STAGES
from sceneloom.datasets.tensors import FLOAT16_RELATIVE_ERROR
from sceneloom.datasets.video import read_video
from sceneloom.ops import cameras, raycast_reference
from sceneloom.ops.object_motion import moving_ids, scene_at
from sceneloom.ops.quality import measure_clip
from sceneloom.ops.raycast import RayCaster
from sceneloom.resources.embedded_engines import GroundTruthScaffold, geometry_behind
from sceneloom.resources.engines import Scaffold, View
from sceneloom.resources.profiles import Motion, load_profile

from .tiny import FRAMES, HEIGHT, WIDTH, MadeCollection, folder_of_this_process, make, write_profile, write_sources

PROMPT = "a workshop on an overcast day with three wooden crates and two barrels"
TRAJECTORIES = ("right", "right_reversed", "zoom_in", "zoom_in_reversed")
DYNAMIC = {"motion": {"objects": 3, "distance": 0.6}, "trajectories": {"names": list(TRAJECTORIES)}}
BY_NAME = {stage.name: stage for stage in STAGES}
EACH = pytest.mark.parametrize("trajectory", TRAJECTORIES)


def collection(name: str) -> MadeCollection:
    folder = folder_of_this_process() / name
    made = make(load_profile(write_profile(folder, write_sources(folder, [PROMPT]), **DYNAMIC)))
    failed = [event.failure.message for event in made.events if event.failure is not None]
    assert not failed, failed
    return made


@functools.cache
def dynamic_collection() -> MadeCollection:
    """A prompt whose objects move, and a picture that stays still."""
    return collection("dynamic")


def dynamic_inputs() -> StageInputs:
    made = dynamic_collection()
    return made.inputs(made.scene("prompt"))


def dynamic_scaffold() -> Scaffold:
    return scene_scaffold.read_scaffold(dynamic_inputs())


def mask_of(trajectory: str) -> np.ndarray:
    mask = depth_and_poses.read_dynamic(dynamic_inputs(), trajectory)
    assert mask is not None
    return mask


def test_something_moves_and_is_recorded() -> None:
    inputs, scaffold = dynamic_inputs(), dynamic_scaffold()
    assert 1 <= len(scaffold.motions) <= 3
    recorded = inputs.json("scene_scaffold", "scaffold.json")["motions"]
    assert recorded == [motion.record() for motion in scaffold.motions]
    metrics = inputs.records["scene_scaffold"].metrics
    assert metrics["moving_objects"] == len(moving_ids(scaffold.motions))
    for motion in scaffold.motions:
        assert motion.displacement.shape == (FRAMES, 4, 4)
        np.testing.assert_array_equal(motion.displacement[0], np.eye(4))


OF_VIDEOS = {"conditioning_view": {"c2w"}, "scene_scaffold": {"c2w", "dynamic_mask"}}
"""Contracts that only scenes from videos have arrays for (tests/test_video_scenes.py)."""


def test_every_contract_of_a_dynamic_scene_is_a_check_of_its_stage() -> None:
    for name, record in dynamic_inputs().records.items():
        contracts = {each.contract for each in record.contracts}
        assert contracts == set(BY_NAME[name].checks) - OF_VIDEOS.get(name, set()), name


@EACH
def test_depth_of_every_frame_is_that_of_the_scene_at_its_time(trajectory: str) -> None:
    inputs, scaffold = dynamic_inputs(), dynamic_scaffold()
    depth, mask = depth_and_poses.read_depth(inputs, trajectory), mask_of(trajectory)
    shots = camera_paths.read_cameras(inputs, trajectory, height=HEIGHT, width=WIDTH)
    ids = moving_ids(scaffold.motions)
    for frame, camera in enumerate(shots):
        now = scene_at(geometry_behind(scaffold), scaffold.motions, frame)
        seen = RayCaster(now).geometry(camera.c2w, camera.intrinsics, HEIGHT, WIDTH)
        np.testing.assert_allclose(depth[frame], seen.depth, rtol=2 * FLOAT16_RELATIVE_ERROR)
        np.testing.assert_array_equal(mask[frame], np.isin(seen.instance_ids, ids))
    assert mask.any(axis=(1, 2)).all()


def test_depth_on_a_moved_object_is_the_references() -> None:
    inputs, scaffold = dynamic_inputs(), dynamic_scaffold()
    frame = FRAMES // 2
    depth, mask = depth_and_poses.read_depth(inputs, "right")[frame], mask_of("right")[frame]
    camera = camera_paths.read_cameras(inputs, "right", height=HEIGHT, width=WIDTH)[frame]
    rows, columns = (each[::7] for each in np.nonzero(mask))
    fx, fy, cx, cy = camera.intrinsics
    local = np.stack([(columns + 0.5 - cx) / fx, (rows + 0.5 - cy) / fy, np.ones(len(rows))], axis=-1)
    triangles = raycast_reference.world_triangles(scene_at(geometry_behind(scaffold), scaffold.motions, frame))
    origins = np.broadcast_to(camera.c2w[:3, 3], local.shape)
    expected, _, _ = raycast_reference.closest_hits(triangles, origins, local @ camera.c2w[:3, :3].T)
    np.testing.assert_allclose(depth[rows, columns], expected, rtol=2 * FLOAT16_RELATIVE_ERROR)


@EACH
def test_boxes_at_the_stored_poses_frame_the_pixels_of_their_objects(trajectory: str) -> None:
    """The stored poses alone, with the meshes' own boxes, say where each moving object's pixels can be."""
    inputs, scaffold = dynamic_inputs(), dynamic_scaffold()
    objects = depth_and_poses.read_object_poses(inputs, trajectory)
    assert objects is not None
    poses, ids = objects["poses"], objects["instance_ids"].tolist()
    assert ids == [item.instance_id for item in geometry_behind(scaffold).instances]
    assert poses.dtype == np.float32
    assert poses.shape == (FRAMES, len(ids), 4, 4)
    assert ids_where(objects) == moving_ids(scaffold.motions).tolist()
    assert (poses[:, ~objects["moving"]] == poses[:1, ~objects["moving"]]).all()
    found = depth_and_poses.read_cameras(inputs, trajectory)
    row, column = np.indices((HEIGHT, WIDTH)) + 0.5
    mask = mask_of(trajectory)
    for frame in range(FRAMES):
        framed = np.zeros((HEIGHT, WIDTH), bool)
        for index in np.flatnonzero(objects["moving"]).tolist():
            vertices = geometry_behind(scaffold).instances[index].mesh.vertices
            corners = np.array(list(itertools.product(*zip(vertices.min(0), vertices.max(0), strict=True))))
            world = corners @ poses[frame, index, :3, :3].T + poses[frame, index, :3, 3]
            pixels, _ = cameras.project(world, found["commanded_c2w"][frame], found["commanded_intrinsics"][frame])
            (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0)
            framed |= (column >= left) & (column <= right) & (row >= top) & (row <= bottom)
        assert not (mask[frame] & ~framed).any()


def ids_where(objects: dict[str, np.ndarray]) -> list[int]:
    return objects["instance_ids"][objects["moving"]].tolist()


def test_frames_of_the_video_show_the_motion() -> None:
    inputs, scaffold = dynamic_inputs(), dynamic_scaffold()
    frames = read_video(inputs.path("video_latents", "right.mp4"))
    camera = camera_paths.read_cameras(inputs, "right", height=HEIGHT, width=WIDTH)[-1]
    errors = [
        np.abs(
            RayCaster(scene_at(geometry_behind(scaffold), scaffold.motions, time))
            .render(camera.c2w, camera.intrinsics, HEIGHT, WIDTH, seed=0)
            .rgb.astype(int)
            - frames[-1]
        ).mean()
        for time in range(FRAMES)
    ]
    assert int(np.argmin(errors)) >= FRAMES - 2
    assert errors[-1] < 0.6 * errors[FRAMES // 2]


@pytest.mark.parametrize("forward", ["right", "zoom_in"])
def test_reversed_trajectories_run_the_same_cameras_backwards_while_time_runs_on(forward: str) -> None:
    inputs = dynamic_inputs()
    there, back = (inputs.arrays("camera_paths", f"{name}.npz") for name in (forward, f"{forward}_reversed"))
    for name in ("c2w", "intrinsics", "clearance"):
        np.testing.assert_array_equal(back[name], there[name][::-1])
    paths = inputs.json("camera_paths", "paths.json")
    assert paths[forward]["draws"] == paths[f"{forward}_reversed"]["draws"]
    assert paths[forward]["factor"] == paths[f"{forward}_reversed"]["factor"]
    stored = depth_and_poses.read_cameras(inputs, f"{forward}_reversed")
    np.testing.assert_array_equal(stored["commanded_c2w"], there["c2w"][::-1])
    one, other = (depth_and_poses.read_object_poses(inputs, name) for name in (forward, f"{forward}_reversed"))
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one["poses"], other["poses"])
    # In the middle both clips have the same camera at the same time; at its ends they do not.
    depth = {name: depth_and_poses.read_depth(inputs, name) for name in (forward, f"{forward}_reversed")}
    middle = FRAMES // 2
    np.testing.assert_array_equal(depth[forward][middle], depth[f"{forward}_reversed"][middle])
    assert (depth[forward][0] != depth[f"{forward}_reversed"][-1]).any()


@EACH
def test_motion_keeps_no_clip_out_of_the_training_data(trajectory: str) -> None:
    inputs = dynamic_inputs()
    clip = quality_report.read_report(inputs)[trajectory]
    assert clip["passed"], clip["failures"]
    found = depth_and_poses.read_cameras(inputs, trajectory)
    arguments = (
        read_video(inputs.path("video_latents", f"{trajectory}.mp4")),
        depth_and_poses.read_depth(inputs, trajectory),
        found["aligned_c2w"],
        found["estimated_intrinsics"],
    )
    assert clip["metrics"]["depth_error_p95"] <= measure_clip(*arguments).depth_error_p95
    assert clip["metrics"]["depth_conflict"] < 0.02


@EACH
def test_cameras_keep_clear_of_where_objects_pass(trajectory: str) -> None:
    made, inputs, scaffold = dynamic_collection(), dynamic_inputs(), dynamic_scaffold()
    arrays = inputs.arrays("camera_paths", f"{trajectory}.npz")
    for frame in range(FRAMES):
        caster = RayCaster(scene_at(geometry_behind(scaffold), scaffold.motions, frame))
        distance = caster.closest_distance(arrays["c2w"][:, :3, 3])
        assert (distance >= made.profile.trajectories.minimum_clearance - 0.05).all()
        assert (distance >= arrays["clearance"] - 0.05).all()


def test_a_picture_stays_still_and_still_runs_both_ways() -> None:
    made = dynamic_collection()
    inputs = made.inputs(made.scene("image"))
    assert scene_scaffold.read_scaffold(inputs).motions == ()
    names = inputs.names("scene_scaffold") + inputs.names("depth_and_poses")
    assert not [name for name in names if "motion" in name or "dynamic" in name or "object_poses" in name]
    assert depth_and_poses.read_dynamic(inputs, "right") is None
    assert depth_and_poses.read_object_poses(inputs, "right") is None
    depth = {name: depth_and_poses.read_depth(inputs, name) for name in TRAJECTORIES[:2]}
    np.testing.assert_array_equal(depth["right_reversed"], depth["right"][::-1])


def test_the_same_profile_gives_the_same_bytes() -> None:
    first, again = dynamic_collection(), collection("dynamic_again")
    for stage in ("scene_scaffold", "camera_paths", "video_latents", "depth_and_poses"):
        records = [made.record(made.scene("prompt"), stage) for made in (first, again)]
        assert records[0].key == records[1].key
        assert [(file.path, file.sha256) for file in records[0].files] == [
            (file.path, file.sha256) for file in records[1].files
        ]


def test_a_profile_without_motion_has_the_keys_it_always_had(tmp_path: Path) -> None:
    still, moving = (
        load_profile(write_profile(tmp_path, write_sources(tmp_path, [PROMPT]), **changes))
        for changes in ({}, {"motion": {"objects": 2}})
    )
    made = dynamic_collection()
    prompt, image = made.scene("prompt"), made.scene("image")
    stage = BY_NAME["scene_scaffold"]
    assert stage.settings(still, prompt) == {"engine": {"engine": "ground_truth"}}
    assert stage.settings(moving, prompt) == {
        "engine": {"engine": "ground_truth"},
        "motion": {"objects": 2, "distance": 0.6},
        "frames": FRAMES,
    }
    assert stage.settings(moving, image) == stage.settings(still, image)
    for other in STAGES:
        if other.name != "scene_scaffold":
            assert other.settings(moving, prompt) == other.settings(still, prompt)


def test_motions_of_another_seed_are_others() -> None:
    scaffold = dynamic_scaffold()
    view = View(np.zeros((HEIGHT, WIDTH, 3), np.uint8), scaffold.intrinsics, geometry_behind(scaffold), {})
    engine = GroundTruthScaffold(Motion(objects=2), FRAMES)
    motions = [engine.build_scaffold(view, seed=seed).motions for seed in (1, 1, 2)]
    records = [[motion.record() for motion in planned] for planned in motions]
    assert records[0] == records[1] != records[2]
    assert GroundTruthScaffold().build_scaffold(view, seed=1).motions == ()
