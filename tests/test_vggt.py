"""Engine `vggt` and SceneGen's picture feature, run on a stand-in of VGGT: conversions, checks, faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sceneloom.datasets.errors import EngineError
from sceneloom.datasets.layouts import scenegen_files
from sceneloom.ops.alignment import align_cameras
from sceneloom.ops.cameras import invert_rigid, project, rotation_from_vector, unproject
from sceneloom.resources.engines import Camera, ClipGeometry, Scaffold, View
from sceneloom.resources.vggt import VggtDepthAndPoses, VggtFeatures, poses_of
from sceneloom.resources.worker_batches import BatchTask
from sceneloom.resources.worker_engine_settings import VggtModelSettings, VggtSettings
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed

from .stand_ins.vggt import scene
from .worker_stand_ins import require_empty, stand_in_settings

COUNT, HEIGHT, WIDTH = 3, 32, 48
VIEW = View(np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.array([40.0, 40.0, 24.0, 16.0]), None, {})
SCAFFOLD = Scaffold(np.ones((HEIGHT, WIDTH), np.float32), VIEW.intrinsics, True, None, {})


def settings(scratch: Path, **changes: Any) -> VggtSettings:
    return VggtSettings.model_validate(stand_in_settings(scratch, **changes))


def commanded(count: int = COUNT) -> list[Camera]:
    """The toy scene's own path in another world and unit."""
    world = np.eye(4)
    world[:3, :3] = rotation_from_vector(np.array([0.3, -0.2, 0.1]))
    world[:3, 3] = [1.0, 2.0, 3.0]
    poses = scene.poses(count)
    poses[:, :3, 3] *= 4.0
    intrinsics = scene.intrinsics(HEIGHT, WIDTH)
    return [Camera(pose, intrinsics, HEIGHT, WIDTH) for pose in (world @ poses).astype(np.float32)]


def clip(level: int, count: int = COUNT) -> Any:
    def frames() -> Iterator[NDArray[np.uint8]]:
        for _ in range(count):
            yield np.full((HEIGHT, WIDTH, 3), level, np.uint8)

    return frames


def estimate(engine: VggtDepthAndPoses, level: int = 100, count: int = COUNT) -> ClipGeometry:
    return engine.open_scene(SCAFFOLD, VIEW).estimate(commanded(), clip(level, count))


def test_a_clip_becomes_cameras_and_depth_that_agree(tmp_path: Path) -> None:
    with contextlib.closing(VggtDepthAndPoses(settings(tmp_path, keep_points=True))) as engine:
        found = estimate(engine)
        depth = np.stack(list(found.depth))
    require_empty(tmp_path)
    assert not found.metric
    assert (found.notes["estimated_depth"], found.notes["estimated_poses"]) == (True, True)
    np.testing.assert_allclose(found.c2w, scene.poses(COUNT), atol=1e-6)
    np.testing.assert_allclose(found.intrinsics, np.tile(scene.intrinsics(HEIGHT, WIDTH), (COUNT, 1)), rtol=0.02)
    similarity = align_cameras(found.c2w, np.stack([camera.c2w for camera in commanded()]))
    assert similarity.scale == pytest.approx(4.0, rel=1e-4)
    assert similarity.position_rmse < 1e-4
    # Every pixel, lifted by its depth through its camera, lies on the wall. VGGT sees pixels that are not quite square.
    rows, columns = np.mgrid[2 : HEIGHT - 2, 2 : WIDTH - 2]
    coordinates = np.stack([columns + 0.5, rows + 0.5], axis=-1).reshape(-1, 2)
    for index in range(COUNT):
        inner = depth[index, 2:-2, 2:-2].ravel()
        points = unproject(coordinates, inner, found.c2w[index], found.intrinsics[index])
        np.testing.assert_allclose(points @ scene.NORMAL, scene.DISTANCE, rtol=1e-4)
    assert found.kept["depth_confidence"].dtype == np.float16
    assert np.isfinite(found.kept["depth_confidence"]).all()
    np.testing.assert_allclose(found.kept["points"] @ scene.NORMAL, scene.DISTANCE, rtol=1e-5)
    assert found.kept["points_confidence"].shape == found.kept["points"].shape[:3] == (COUNT, 350, 518)


def test_depth_without_confidence_is_invalid(tmp_path: Path) -> None:
    """The stand-in is sure of the upper half alone."""
    with contextlib.closing(VggtDepthAndPoses(settings(tmp_path, minimum_confidence=5.0))) as engine:
        found = estimate(engine)
        depth = next(iter(found.depth))
    assert (depth[: HEIGHT // 2] > 0).all()
    assert (depth[HEIGHT // 2 :] == 0).all()
    assert found.notes["confident"] == pytest.approx(0.5)
    assert set(found.kept) == {"depth_confidence"}


def test_clips_that_are_refused_before_anything_starts(tmp_path: Path) -> None:
    engine = VggtDepthAndPoses(settings(tmp_path, maximum_frames=2))
    with pytest.raises(WorkerFailed, match="3 frames, and at most 2") as raised:
        estimate(engine)
    assert raised.value.failure is FailureClass.OVERSIZE
    engine = VggtDepthAndPoses(settings(tmp_path))
    for count, found in ((2, "2 frames for 3 cameras"), (5, "more frames for 3 cameras")):
        with pytest.raises(EngineError, match=found):
            estimate(engine, count=count)
    engine.close()
    require_empty(tmp_path)


# ---------------------------------------------------------------- faults of the model

FAULTS = {
    201: (FailureClass.OUT_OF_MEMORY, "CUDA out of memory", 1),
    202: (FailureClass.INVALID_OUTPUT, "depth.npy: .*% of it is not finite", 1),
    203: (FailureClass.INVALID_OUTPUT, r"depth.npy: an array \(2, 350, 518\)", 1),
    205: (FailureClass.KILLED, "SIGABRT", 2),
    206: (FailureClass.DIVERGED, "intrinsics.npy: frame 0 is not finite", 2),
    207: (FailureClass.INVALID_OUTPUT, "extrinsics.npy: .*not finite", 1),
    208: (FailureClass.INVALID_OUTPUT, "a confidence of 0.5", 1),
    209: (FailureClass.INVALID_OUTPUT, "is not positive", 1),
}


def test_every_fault_fails_its_own_clip_by_its_class(tmp_path: Path) -> None:
    from sceneloom.resources import vggt

    chosen = settings(tmp_path)

    def question(level: int) -> BatchTask[Any]:
        def write(folder: Path) -> dict[str, Any]:
            np.save(folder / "frames.npy", np.stack(list(clip(level)())))
            return {"kind": "clip", "frames": str(folder / "frames.npy"), "points": False}

        def read(output: Path, figures: Any) -> Any:
            return vggt.read_result(output, COUNT, HEIGHT, WIDTH, chosen)

        return BatchTask(str(level), write, read)

    with contextlib.closing(VggtDepthAndPoses(chosen)) as engine:
        answers = {each.task: each for each in engine.worker.ask_all([question(level) for level in (*FAULTS, 100)])}
    require_empty(tmp_path)
    answers["100"].get()
    for level, (failure, found, attempts) in FAULTS.items():
        answer = answers[str(level)]
        with pytest.raises(WorkerFailed, match=found) as raised:
            answer.get()
        assert raised.value.failure is failure, level
        assert answer.attempts == attempts, level


def test_weights_that_are_not_on_the_machine(tmp_path: Path) -> None:
    with (
        contextlib.closing(VggtDepthAndPoses(settings(tmp_path, model="missing/model"))) as engine,
        pytest.raises(WorkerFailed, match="missing/model") as raised,
    ):
        estimate(engine)
    assert raised.value.failure is FailureClass.MODEL_MISSING


def test_a_model_that_never_answers_is_ended(tmp_path: Path) -> None:
    chosen = settings(tmp_path, clip_timeout="4 s", frame_timeout="1 ms")
    with contextlib.closing(VggtDepthAndPoses(chosen)) as engine, pytest.raises(WorkerFailed, match="within 4 s"):
        estimate(engine, 204)


# ---------------------------------------------------------------- SceneGen's feature


def test_the_feature_of_a_picture_is_one_that_the_layout_takes(tmp_path: Path) -> None:
    chosen = VggtModelSettings.model_validate(stand_in_settings(tmp_path))
    with contextlib.closing(VggtFeatures(chosen)) as features:
        for height, width in ((560, 560), (64, 112), (300, 200)):
            picture = np.full((height, width, 3), 90, np.uint8)
            feature = features.feature(scenegen_files.jpeg(picture))
            tokens = scenegen_files.feature_tokens(height, width)
            assert (feature.shape, feature.dtype) == ((1, tokens, 2048), np.float32)
        with pytest.raises(WorkerFailed, match=r"feature.npy: an array \(1, 1374, 1024\)"):
            features.feature(scenegen_files.jpeg(np.full((560, 560, 3), 210, np.uint8)))
    assert features.identity.licence == "CC-BY-NC-4.0"
    require_empty(tmp_path)


# ---------------------------------------------------------------- conversions

ANGLES = st.tuples(*[st.floats(-3, 3)] * 3)
PLACES = st.tuples(*[st.floats(-50, 50)] * 3)


@given(turns=st.lists(st.tuples(ANGLES, PLACES), min_size=1, max_size=4), point=PLACES)
def test_poses_see_points_where_vggts_matrices_put_them(turns: list[Any], point: tuple[float, float, float]) -> None:
    """What VGGT puts at R X + t in its camera is what the camera-to-world pose sees there."""
    extrinsics = np.zeros((len(turns), 3, 4))
    for index, (angles, place) in enumerate(turns):
        extrinsics[index, :, :3] = rotation_from_vector(np.array(angles))
        extrinsics[index, :, 3] = place
    found = poses_of(extrinsics.astype(np.float32))
    assert found.dtype == np.float32
    for pose, matrix in zip(found, extrinsics, strict=True):
        expected = matrix[:, :3] @ point + matrix[:, 3]
        np.testing.assert_allclose(invert_rigid(pose)[:3] @ [*point, 1], expected, atol=2e-3)
        if expected[2] > 1:
            pixel, depth = project(np.array([point]), pose, np.array([30.0, 30.0, 8.0, 8.0]))
            np.testing.assert_allclose(depth, expected[2], rtol=1e-2)
            np.testing.assert_allclose(pixel[0, 0], 30 * expected[0] / expected[2] + 8, atol=0.2)


@pytest.mark.parametrize("factor", [0.9, -1.0])
def test_matrices_that_are_not_rigid(factor: float) -> None:
    extrinsics = np.tile(np.eye(4)[:3], (2, 1, 1))
    extrinsics[1, :, :3] *= factor
    with pytest.raises(WorkerFailed, match=r"extrinsics\.npy"):
        poses_of(extrinsics)
