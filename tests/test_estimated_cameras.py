"""What is said of estimated cameras and depth: every kind of path, two scales that differ, estimates that diverged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.assets import conditioning_view, depth_and_poses, quality_report, scene_scaffold
from sceneloom.assets.estimated_cameras import KnownDepth, metrics_of
from sceneloom.assets.stage import Made, StageContext
from sceneloom.ops.cameras import rotation_from_vector
from sceneloom.resources.engines import (
    Camera,
    ClipDepth,
    ClipGeometry,
    Engines,
    Frames,
    InputClip,
    Scaffold,
    View,
)

from .tiny import FRAMES, HEIGHT, WIDTH, made_collection

Change = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], None]


@dataclasses.dataclass
class Estimator:
    """Estimates the truth, at 0.4 of its scale, after `change` has had its way with poses, intrinsics and depth."""

    truth: NDArray[np.float16]
    change: Change
    metric: bool = False
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def open_scene(self, scaffold: object, view: object) -> Estimator:
        return self

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        c2w = np.stack([camera.c2w for camera in commanded]).astype(np.float64)
        intrinsics = np.stack([camera.intrinsics for camera in commanded]).astype(np.float64)
        depth = self.truth.astype(np.float64)
        self.change(c2w, intrinsics, depth)
        c2w[:, :3, 3] *= 0.4
        depth *= 0.4
        notes = {"estimated_depth": True, "estimated_poses": True, **self.notes}
        return ClipGeometry(
            iter(depth.astype(np.float32)),
            c2w.astype(np.float32),
            intrinsics.astype(np.float32),
            self.metric,
            notes=notes,
        )


def nothing(*arrays: NDArray[np.float64]) -> None:
    """An estimate without an error."""


def made_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change, *, kind: str = "prompt", **how: Any
) -> tuple[Made, StageContext]:
    """The stage over the clip `left` of the shared collection."""
    made = made_collection()
    scene = made.scene(kind)
    inputs = made.inputs(scene)
    engines = Engines(made.profile)
    estimator = Estimator(depth_and_poses.read_depth(inputs, "left"), change, **how)
    monkeypatch.setattr(engines, "depth_and_poses", lambda: estimator)
    trajectories = made.profile.trajectories.model_copy(update={"names": ("left",)})
    context = StageContext(
        scene=scene,
        profile=made.profile.model_copy(update={"trajectories": trajectories}),
        inputs=inputs,
        scratch=folder,
        seed=0,
        engines=engines,
    )
    return depth_and_poses.make(context), context


def depth_of(folder: Path) -> NDArray[np.float16]:
    with np.load(folder / "left.depth.npz") as archive:
        return archive["depth"]


@pytest.mark.parametrize("kind", ["prompt", "image"])
def test_an_exact_estimate_of_a_straight_path(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = made_with(tmp_path, monkeypatch, nothing, kind=kind)
    facts = made.metadata["left"]
    assert facts["similarity"]["rotation_from"] == "orientations"
    assert facts["scale_from"] == "cameras"
    assert facts["known_depth"] == "geometry"
    numbers = facts["cameras"]
    assert numbers["trajectory_error"] < 1e-4
    assert numbers["relative_translation_error"] < 1e-3
    assert numbers["depth_scale_error"] < 1e-3
    assert numbers["camera_scale"] is None
    assert numbers["vertical_field_of_view_lowest"] == pytest.approx(
        math.degrees(2 * math.atan(HEIGHT / WIDTH * math.tan(math.radians(37.5)))), abs=0.1
    )
    assert facts["depth_against_known"]["pixels"] == 5 * HEIGHT * WIDTH


def test_depth_in_another_scale_than_the_cameras_is_told_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
        depth *= 1.3

    facts = made_with(tmp_path, monkeypatch, change)[0].metadata["left"]
    assert facts["cameras"]["depth_scale_error"] == pytest.approx(1 - 1 / 1.3, abs=2e-3)
    assert facts["cameras"]["trajectory_error"] < 1e-4
    truth = depth_and_poses.read_depth(made_collection().inputs(made_collection().scene()), "left")
    # What was estimated is kept; it is the verdict that speaks of it.
    np.testing.assert_allclose(depth_of(tmp_path), truth.astype(np.float32) * 1.3, rtol=2e-3)


def test_of_a_camera_that_only_turns_depth_gives_the_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
        c2w[:, :3, 3] = 0

    facts = made_with(tmp_path, monkeypatch, change)[0].metadata["left"]
    assert not facts["similarity"]["scale_determined"]
    assert facts["scale_from"] == "depth"
    assert facts["similarity"]["scale"] == pytest.approx(2.5, rel=2e-3)
    numbers = facts["cameras"]
    assert numbers["depth_scale_error"] is None
    assert numbers["camera_scale"] is None
    assert numbers["relative_translation_error"] is None
    # The camera was told to move and does not.
    assert numbers["trajectory_error"] > 0.1
    truth = depth_and_poses.read_depth(made_collection().inputs(made_collection().scene()), "left")
    np.testing.assert_allclose(depth_of(tmp_path), truth, rtol=3e-3)


def test_of_depth_that_was_fitted_to_the_cameras_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = made_with(tmp_path, monkeypatch, nothing, notes={"depth_scaled_to_cameras": True})
    assert made.metadata["left"]["cameras"]["depth_scale_error"] is None
    assert made.metadata["left"]["known_depth"] is None


def test_depth_beyond_float16_and_a_frame_without_depth_become_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
        depth[:, :4] = 1e6
        depth[2] = 0

    made, _ = made_with(tmp_path, monkeypatch, change)
    depth = depth_of(tmp_path)
    assert np.isfinite(depth).all()
    assert (depth[:, :4] == 0).all()
    assert (depth[2] == 0).all()
    assert (depth[3, 4:] > 0).all()
    assert made.metadata["left"]["cameras"]["depth_scale_error"] < 1e-3


def turned(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
    for index in range(len(c2w)):
        c2w[index, :3, :3] = c2w[index, :3, :3] @ rotation_from_vector([0, 0.3 * (index % 2), 0])


def zoomed(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
    intrinsics[:, :2] *= 1.5


def narrow(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
    intrinsics[:, :2] *= 10


def bent(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
    c2w[:, 2, 3] += 0.5 * np.abs(c2w[:, 0, 3])[::-1]


def larger(c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], depth: NDArray[np.float64]) -> None:
    depth *= 1.5


@pytest.mark.parametrize(
    ("change", "metric", "broken"),
    [
        (nothing, False, set()),
        # 0.4 of the metres that it claims.
        (nothing, True, {"camera_scale"}),
        (turned, False, {"camera_rotation_error", "relative_rotation_error"}),
        (zoomed, False, {"focal_error"}),
        (narrow, False, {"focal_error", "vertical_field_of_view_lowest"}),
        # A path of another shape has another best scale, too.
        (bent, False, {"trajectory_error", "depth_scale_error"}),
        (larger, False, {"depth_scale_error"}),
    ],
)
def test_disagreement_fails_the_clips_verdict_and_not_the_stage(
    change: Change, metric: bool, broken: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, context = made_with(tmp_path, monkeypatch, change, metric=metric)
    cameras = metrics_of(made.metadata["left"])
    assert cameras is not None
    inputs = context.inputs
    read = type(inputs).json
    monkeypatch.setattr(
        type(inputs),
        "json",
        lambda self, stage, name: made.metadata if stage == "depth_and_poses" else read(self, stage, name),
    )
    report = quality_report.make(context)
    found = {failure["metric"] for failure in report.metadata["left"]["failures"]}
    # The clip itself is that of the shared collection, whose metrics keep their limits.
    assert found >= broken
    assert found - broken <= {"relative_translation_error"}
    assert report.metadata["left"]["passed"] == (not broken)
    assert [each.passed for each in report.contracts] == [not broken]
    assert report.metadata["left"]["cameras"]["trajectory_error"] == pytest.approx(cameras.trajectory_error)
    assert report.metrics["trajectory_error"] == pytest.approx(cameras.trajectory_error)


def test_without_geometry_the_views_depth_is_what_is_known() -> None:
    made = made_collection()
    inputs = made.inputs(made.scene())
    scaffold = scene_scaffold.read_scaffold(inputs)
    view = conditioning_view.read_view(inputs, with_geometry=False)
    bare = dataclasses.replace(scaffold, geometry=None)
    arrays = depth_and_poses.read_cameras(inputs, "left")
    cameras = [
        Camera(pose, lens, HEIGHT, WIDTH)
        for pose, lens in zip(arrays["commanded_c2w"], arrays["commanded_intrinsics"], strict=True)
    ]
    known = KnownDepth(bare, view, "cpu")
    assert known.source == "scaffold"
    frames = [0, FRAMES // 2, FRAMES - 1]
    seen = known.of(cameras, frames)
    truth = depth_and_poses.read_depth(inputs, "left")[frames].astype(np.float32)
    covered = seen > 0
    # At depth edges the cache shows nothing, and at this size edges are everywhere.
    assert covered[0].mean() > 0.3
    assert 0.1 < covered[2].mean() < 1
    assert np.median(np.abs(seen / truth - 1)[covered]) < 0.01


def test_a_video_is_held_against_its_own_frames() -> None:
    count, height, width = 3, 12, 16
    intrinsics = np.array([12.0, 12.0, width / 2, height / 2])
    moving = np.zeros((count, height, width), bool)
    moving[:, 4:8, 5:9] = True
    depth = np.stack([np.full((height, width), 2.0 + index, np.float16) for index in range(count)])
    frames = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    poses = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    view = View(frames[0], intrinsics, None, {}, clip=InputClip(frames, poses, "assumed_static"))
    scaffold = Scaffold(depth[0].astype(np.float32), intrinsics, True, None, {}, clip=ClipDepth(depth, moving=moving))
    cameras = [Camera(pose, intrinsics, height, width) for pose in poses]
    known = KnownDepth(scaffold, view, "cpu").of(cameras, [0, 2])
    np.testing.assert_allclose(np.median(known, axis=(1, 2)), [2.0, 4.0], rtol=1e-3)
