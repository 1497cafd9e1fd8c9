"""Quality numbers: right on a clip whose truth is known, and moved by exactly the fault each one is there to find."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from sceneloom.datasets.errors import ContractError
from sceneloom.ops.quality import (
    CameraMetrics,
    ClipMetrics,
    QualityThresholds,
    image_motion,
    judge,
    measure_clip,
    sharpness,
)
from sceneloom.ops.warping import View

FRAMES, HEIGHT, WIDTH = 9, 96, 128
FOCAL = 100.0


def textured(points: np.ndarray) -> np.ndarray:
    """A smooth pattern over the points of a wall: (…, 3) uint8."""
    x, y = points[..., 0], points[..., 1]
    waves = [np.sin(9 * x + np.cos(5 * y)), np.sin(7 * y - 3 * x), np.cos(6 * x + 8 * y)]
    return np.rint(127.5 + 90 * np.stack(waves, -1)).astype(np.uint8)


def clip_before_two_walls(**changes: Any) -> dict[str, Any]:
    """A camera slides right before a wall 4 units away and a nearer one, 3 units away, that covers its right part."""
    c2w = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    c2w[:, 0, 3] = np.linspace(0, 0.8, FRAMES)
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    direction = np.stack([(column - WIDTH / 2) / FOCAL, (row - HEIGHT / 2) / FOCAL, np.ones_like(row)], -1)
    rgb, depth = [], []
    for pose in c2w.astype(float):
        near, far = pose[:3, 3] + 3 * direction, pose[:3, 3] + 4 * direction
        in_front = near[..., 0] > 0.5
        depth.append(np.where(in_front, 3.0, 4.0))
        rgb.append(np.where(in_front[..., None], textured(near), textured(far)))
    clip = {
        "rgb": np.stack(rgb),
        "depth": np.stack(depth).astype(np.float32),
        "c2w": c2w,
        "intrinsics": np.tile(np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2], np.float32), (FRAMES, 1)),
    }
    return clip | changes


@pytest.fixture(scope="module")
def sound() -> ClipMetrics:
    return measure_clip(**clip_before_two_walls(), baseline=2, stride=1)


def failed(metrics: ClipMetrics, **thresholds: Any) -> set[str]:
    return {failure.metric for failure in judge(metrics, QualityThresholds(**thresholds)).failures}


def test_exact_depth_and_cameras_leave_only_interpolation_error(sound: ClipMetrics) -> None:
    assert sound.photometric_error < 0.01
    assert sound.photometric_psnr > 35
    assert sound.depth_error_median < 1e-5
    assert sound.depth_conflict < 0.01
    assert sound.flicker < 1e-3
    assert sound.duplicate_fraction == 0
    assert (sound.frames, sound.depth_coverage, sound.depth_invalid_values) == (FRAMES, 1.0, 0)
    assert (sound.depth_minimum, sound.depth_maximum) == (3.0, 4.0)
    assert judge(sound, QualityThresholds()).passed


def test_covisibility_is_the_share_that_stays_in_view() -> None:
    clip = clip_before_two_walls()
    clip["depth"] = np.full_like(clip["depth"], 4.0)
    # Two frames are 0.2 units apart, which moves a wall at 4 units by 5 pixels of 128.
    metrics = measure_clip(**clip, baseline=2, stride=1)
    assert metrics.covisibility == pytest.approx(1 - 5 / WIDTH, abs=0.002)


def test_scaled_poses_show_as_photometric_error_and_conflict(sound: ClipMetrics) -> None:
    clip = clip_before_two_walls()
    clip["c2w"][:, 0, 3] *= -1
    metrics = measure_clip(**clip, baseline=2, stride=1)
    assert metrics.photometric_error > 10 * sound.photometric_error
    assert metrics.depth_conflict > sound.depth_conflict + 0.02
    assert "photometric_error" in failed(metrics)


def test_wavering_depth_shows_as_its_size() -> None:
    clip = clip_before_two_walls()
    clip["depth"][::2] *= 1.04
    metrics = measure_clip(**clip, baseline=1, stride=1)
    assert metrics.depth_error_median == pytest.approx(0.04, rel=0.06)
    assert "depth_error_median" in failed(metrics)


def test_depth_that_jumps_beyond_the_tolerance_is_a_conflict() -> None:
    clip = clip_before_two_walls()
    clip["depth"][::2] *= 1.5
    assert measure_clip(**clip, baseline=1, stride=1).depth_conflict > 0.9


def moving_ball_clip() -> dict[str, Any]:
    """The clip before two walls with a patterned patch, 2 units away, that jumps about by itself."""
    clip = clip_before_two_walls()
    dynamic = np.zeros(clip["depth"].shape, bool)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for frame in range(FRAMES):
        rows, columns = slice(25, 65), slice(8 + 7 * frame, 48 + 7 * frame)
        dynamic[frame, rows, columns] = True
        clip["rgb"][frame, rows, columns] = np.roll(noise, 9 * frame, axis=0)
        clip["depth"][frame, rows, columns] = 2.0 + 0.04 * (frame % 3)
    return clip | {"dynamic": dynamic}


def test_what_moves_by_itself_is_not_held_against_a_clip(sound: ClipMetrics) -> None:
    clip = moving_ball_clip()
    masked = measure_clip(**clip, baseline=2, stride=1)
    clip.pop("dynamic")
    unmasked = measure_clip(**clip, baseline=2, stride=1)
    assert masked.photometric_error < 1.5 * sound.photometric_error
    assert unmasked.photometric_error > 3 * sound.photometric_error
    assert masked.depth_conflict < 0.01 < unmasked.depth_conflict
    assert masked.covisibility > 0.7
    assert masked.flicker < 2e-3
    assert judge(masked, QualityThresholds()).passed
    assert masked.depth_coverage == 1.0, "coverage is that of the depth itself"
    assert masked.depth_minimum == 2.0


def test_a_mask_hides_no_fault_of_the_cameras() -> None:
    clip = moving_ball_clip()
    clip["c2w"] = clip["c2w"].copy()
    clip["c2w"][:, 0, 3] *= 2
    metrics = measure_clip(**clip, baseline=2, stride=1)
    assert "photometric_error" in failed(metrics)


def test_depth_faults_are_counted() -> None:
    clip = clip_before_two_walls()
    clip["depth"][2, :5, :4] = np.nan
    clip["depth"][3, 0, :3] = -1
    clip["depth"][4, :48] = 0
    metrics = measure_clip(**clip)
    assert metrics.depth_invalid_values == 23
    assert metrics.depth_coverage_minimum == 0.5
    assert failed(metrics) == {"depth_invalid_values"}


def test_frozen_frames_count_only_while_the_camera_moves() -> None:
    clip = clip_before_two_walls()
    clip["rgb"][5:8] = clip["rgb"][4]
    assert measure_clip(**clip).duplicate_fraction == 3 / (FRAMES - 1)
    clip["c2w"][5:8] = clip["c2w"][4]
    assert measure_clip(**clip).duplicate_fraction == 0


def test_pulsing_light_is_flicker() -> None:
    clip = clip_before_two_walls()
    clip["rgb"][::2] = (clip["rgb"][::2] * 0.8).astype(np.uint8)
    metrics = measure_clip(**clip, stride=1)
    assert metrics.flicker == pytest.approx(0.2 * 0.5, rel=0.1)
    assert "flicker" in failed(metrics)


@pytest.mark.parametrize(("level", "metric"), [(0, "clipped_dark"), (255, "clipped_bright")])
def test_pictures_without_light_or_full_of_it_fail(level: int, metric: str) -> None:
    clip = clip_before_two_walls()
    clip["rgb"][..., :100, :] = level
    metrics = measure_clip(**clip)
    assert metrics.as_dict()[metric] == pytest.approx(100 / WIDTH, abs=0.01)
    assert metric in failed(metrics)


def test_sharpness_falls_with_blur_and_is_blind_to_contrast() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (HEIGHT, WIDTH, 1)).repeat(3, axis=-1).astype(np.uint8)
    blurred = [
        sharpness(np.rint(gaussian_filter(picture.astype(float), (sigma, sigma, 0))).astype(np.uint8))
        for sigma in (2, 4, 8)
    ]
    assert sharpness(picture) == pytest.approx(20, rel=0.15)
    assert sharpness(picture) > blurred[0] > blurred[1] > blurred[2] > 0
    assert sharpness(picture // 2) == pytest.approx(sharpness(picture), rel=0.01)
    assert sharpness(np.full_like(picture, 90)) == 0


def test_image_motion_is_the_parallax_in_pixels() -> None:
    clip = clip_before_two_walls()
    views = [View(clip["rgb"][i], clip["depth"][i], clip["c2w"][i], clip["intrinsics"][i]) for i in (0, 4)]
    # 0.4 units to the side at a nearest depth of 3 units.
    assert image_motion(*views) == pytest.approx(FOCAL * 0.4 / 3, rel=1e-5)
    assert image_motion(views[0], views[0]) == pytest.approx(0, abs=1e-6)


def test_clearance_is_judged_only_when_known(sound: ClipMetrics) -> None:
    assert math.isnan(sound.clearance)
    near = measure_clip(**clip_before_two_walls(), clearance=np.array([0.4, 0.01, 0.3]))
    assert near.clearance == 0.01
    assert failed(near) == {"clearance"}


def test_a_number_that_cannot_be_measured_fails_its_limit() -> None:
    clip = clip_before_two_walls(depth=np.zeros((FRAMES, HEIGHT, WIDTH), np.float32))
    metrics = measure_clip(**clip)
    assert math.isnan(metrics.covisibility)
    assert {"depth_coverage", "covisibility", "photometric_error"} <= failed(metrics)


def test_a_failure_names_metric_rule_value_and_limit(sound: ClipMetrics) -> None:
    verdict = judge(sound, QualityThresholds(maximum_photometric_error=0.0, minimum_covisibility=None))
    assert not verdict.passed
    (failure,) = verdict.failures
    assert (failure.metric, failure.rule, failure.limit) == ("photometric_error", "maximum", 0.0)
    assert failure.found == sound.photometric_error


def test_every_threshold_has_its_metric(sound: ClipMetrics) -> None:
    metrics = sound.as_dict() | CAMERAS.as_dict()
    assert all(name.split("_", 1)[1] in metrics for name in QualityThresholds.model_fields)
    assert all(field.description for field in QualityThresholds.model_fields.values())


CAMERAS = CameraMetrics(
    trajectory_error=0.01,
    camera_rotation_error=0.5,
    relative_translation_error=0.1,
    relative_rotation_error=0.1,
    focal_error=0.02,
    vertical_field_of_view_lowest=50.0,
    vertical_field_of_view_highest=51.0,
    camera_scale=1.1,
    depth_scale_error=0.02,
)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("trajectory_error", 0.06),
        ("camera_rotation_error", 6.0),
        ("relative_translation_error", 0.6),
        ("relative_rotation_error", 1.1),
        ("focal_error", 0.21),
        ("vertical_field_of_view_lowest", 14.0),
        ("vertical_field_of_view_highest", 121.0),
        ("camera_scale", 0.4),
        ("camera_scale", 2.1),
        ("depth_scale_error", 0.16),
    ],
)
def test_estimated_cameras_are_judged_where_there_are_some(metric: str, value: float, sound: ClipMetrics) -> None:
    assert judge(sound, QualityThresholds(), CAMERAS).passed
    verdict = judge(sound, QualityThresholds(), dataclasses.replace(CAMERAS, **{metric: value}))
    assert [(failure.metric, failure.found) for failure in verdict.failures] == [(metric, value)]
    # What means nothing for a clip is not held against it, and nothing is where the cameras are the commanded ones.
    assert judge(sound, QualityThresholds(), dataclasses.replace(CAMERAS, **{metric: math.nan})).passed
    assert judge(sound, QualityThresholds()).passed


def test_half_precision_depth_and_a_clip_of_one_frame_are_measured() -> None:
    clip = clip_before_two_walls()
    clip["depth"] = clip["depth"].astype(np.float16)
    assert measure_clip(**clip).depth_error_p95 < 2**-10
    single = measure_clip(**{name: array[:1] for name, array in clip.items()})
    assert single.frames == 1
    assert math.isnan(single.photometric_error)


def test_arrays_of_different_clips_are_refused() -> None:
    clip = clip_before_two_walls()
    clip["depth"] = clip["depth"][:, ::2]
    with pytest.raises(ContractError, match="depth has the shape"):
        measure_clip(**clip)


def test_an_unknown_threshold_is_refused() -> None:
    with pytest.raises(ValidationError):
        QualityThresholds.model_validate({"minimum_beauty": 1})
