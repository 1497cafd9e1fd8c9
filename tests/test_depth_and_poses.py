"""Stage depth_and_poses: depth of every frame, commanded and estimated cameras, and what aligns them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sceneloom.assets import camera_paths, depth_and_poses, scene_scaffold
from sceneloom.assets.stage import StageContext
from sceneloom.datasets.tensors import FLOAT16_RELATIVE_ERROR
from sceneloom.ops.cameras import rotation_from_vector
from sceneloom.resources.engines import Camera, ClipGeometry, Engines, Frames

from .tiny import FRAMES, HEIGHT, TRAJECTORIES, WIDTH, made_collection

KINDS = pytest.mark.parametrize("kind", ["prompt", "image"])


@KINDS
def test_the_first_frames_depth_is_the_scaffolds(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    scaffold = scene_scaffold.read_scaffold(inputs)
    for trajectory in TRAJECTORIES:
        depth = depth_and_poses.read_depth(inputs, trajectory)
        assert (depth.dtype, depth.shape) == (np.float16, (FRAMES, HEIGHT, WIDTH))
        assert (depth > 0).all()
        np.testing.assert_allclose(depth[0], scaffold.depth, rtol=FLOAT16_RELATIVE_ERROR)


@KINDS
def test_commanded_cameras_are_those_of_the_paths_and_the_truth_needs_no_alignment(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    summary = inputs.json("depth_and_poses", "cameras.json")
    for trajectory in TRAJECTORIES:
        arrays = depth_and_poses.read_cameras(inputs, trajectory)
        paths = inputs.arrays("camera_paths", f"{trajectory}.npz")
        assert {values.dtype for values in arrays.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(arrays["commanded_c2w"], paths["c2w"])
        np.testing.assert_array_equal(arrays["commanded_intrinsics"], paths["intrinsics"])
        np.testing.assert_array_equal(arrays["estimated_c2w"], paths["c2w"])
        np.testing.assert_allclose(arrays["aligned_c2w"], paths["c2w"], atol=1e-5)
        facts = summary[trajectory]
        assert facts["similarity"]["scale"] == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(facts["similarity"]["rotation"], np.eye(3), atol=1e-5)
        assert facts["absolute_trajectory_error"] == pytest.approx(0, abs=1e-5)
        assert facts["focal_error"] == 0
        assert facts["depth_valid_fraction"] == 1


@pytest.mark.parametrize(("kind", "metric", "unit"), [("prompt", True, "metre"), ("image", False, "arbitrary")])
def test_only_what_is_known_in_metres_says_so(kind: str, metric: bool, unit: str) -> None:
    made = made_collection()
    summary = made.inputs(made.scene(kind)).json("depth_and_poses", "cameras.json")
    assert {(facts["metric"], facts["unit"]) for facts in summary.values()} == {(metric, unit)}


@dataclasses.dataclass
class _EstimatorOfAnotherFrame:
    """Estimates the true cameras, but turned, moved and at 0.4 of their scale; depth likewise."""

    depth: np.ndarray

    def open_scene(self, scaffold: object, view: object) -> _EstimatorOfAnotherFrame:
        return self

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        assert len(list(frames())) == len(list(frames())) == FRAMES
        c2w = np.stack([camera.c2w for camera in commanded]).astype(np.float64)
        turned = np.eye(4)
        turned[:3, :3] = rotation_from_vector([0.2, -0.5, 0.1])
        turned[:3, 3] = [1.0, 2.0, -0.5]
        estimated = turned @ c2w
        estimated[:, :3, 3] = 0.4 * c2w[:, :3, 3] @ turned[:3, :3].T + turned[:3, 3]
        intrinsics = np.stack([camera.intrinsics for camera in commanded]).astype(np.float32)
        return ClipGeometry(
            depth=iter(0.4 * self.depth.astype(np.float32)),
            c2w=estimated.astype(np.float32),
            intrinsics=intrinsics * np.float32(1.1),
            metric=False,
            notes={"estimated_depth": True},
        )


def test_an_estimate_in_another_frame_and_scale_is_brought_to_the_commanded_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_collection()
    scene = made.scene("prompt")
    inputs = made.inputs(scene)
    truth = depth_and_poses.read_depth(inputs, "left")
    engines = Engines(made.profile)
    monkeypatch.setattr(engines, "depth_and_poses", lambda: _EstimatorOfAnotherFrame(truth))
    trajectories = made.profile.trajectories.model_copy(update={"names": ("left",)})
    context = StageContext(
        scene=scene,
        profile=made.profile.model_copy(update={"trajectories": trajectories}),
        inputs=inputs,
        scratch=tmp_path,
        seed=0,
        engines=engines,
    )
    result = depth_and_poses.make(context)
    facts = result.metadata["left"]
    assert facts["similarity"]["scale"] == pytest.approx(2.5, rel=1e-3)
    assert facts["absolute_trajectory_error"] < 1e-4
    assert facts["rotation_error_degrees"] < 1e-2
    assert facts["focal_error"] == pytest.approx(0.1, rel=1e-3)
    assert facts["metric"] is False
    assert facts["estimation"] == {"estimated_depth": True}
    with np.load(tmp_path / "left.depth.npz") as archive:
        np.testing.assert_allclose(archive["depth"], truth, rtol=3 * FLOAT16_RELATIVE_ERROR)
    with np.load(tmp_path / "left.cameras.npz") as archive:
        commanded = inputs.arrays(camera_paths.NAME, "left.npz")["c2w"]
        np.testing.assert_allclose(archive["aligned_c2w"], commanded, atol=1e-4)
        assert np.abs(archive["estimated_c2w"] - commanded).max() > 0.5


@KINDS
def test_the_preview_has_a_row_for_each_trajectory(kind: str) -> None:
    made = made_collection()
    content = made.inputs(made.scene(kind)).path("depth_and_poses", "preview.webp").read_bytes()
    sheet = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert sheet.shape[:2] == (len(TRAJECTORIES) * (14 + HEIGHT + 2), 4 * (WIDTH + 2) - 2)
    depth = depth_and_poses.read_depth(made.inputs(made.scene(kind)), "left")[0].astype(np.float32)
    first = sheet[14 : 14 + HEIGHT, :WIDTH].mean(axis=-1)
    assert np.corrcoef(first.ravel(), (1 / depth).ravel())[0, 1] > 0.9, "near is bright"
