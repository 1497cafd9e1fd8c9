"""Camera poses estimated from a clip's frames alone by structure from motion (COLMAP, through pycolmap, on the CPU).

It knows nothing of the commanded cameras, so on clips whose cameras are known it exercises what estimated cameras go
through: a world and a unit of their own, a focal length that is off, and frames without a pose.

J. L. Schönberger and J.-M. Frahm, "Structure-from-Motion Revisited", CVPR 2016.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError, EngineError, InputError

if TYPE_CHECKING:
    import pycolmap

MINIMUM_FRAMES = 3
ASSUMED_FIELD_OF_VIEW = 60.0
"""Degrees, horizontal: where the search for the focal length starts, and what is held where it finds none."""
FIELDS_OF_VIEW = (25.0, 120.0)
"""Degrees, horizontal: solutions outside are not taken."""
_NEIGHBOURS = 10
"""Frames that a frame is matched with in each direction, beside those at 16, 32, … frames."""
_FEATURE_CONTRAST = 0.002
"""SIFT's threshold; COLMAP's own, 0.0067, finds too little in plain walls."""
_REPEATABLE = 1
"""Threads; more make the result depend on their timing."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassicalEstimate:
    """Cameras of a clip of T frames.

    Attributes:
        c2w: (T, 4, 4) float32 camera-to-world, OpenCV axes, in a world and unit of its own.
        intrinsics: (4,) float32 fx, fy, cx, cy in pixels, fx = fy, the principal point in the picture's centre.
        focal_estimated: false where the motion leaves the focal length open, as one straight ahead does, and it was
            held at that of a field of view of 60°.
        points: how many scene points it rests on.
        reprojection_error: mean distance of points from where they were seen, pixels.
    """

    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    focal_estimated: bool
    points: int
    reprojection_error: float


def estimate_poses(
    frames: Sequence[NDArray[np.uint8]], *, seed: int, time_limit_seconds: int = 600
) -> ClassicalEstimate:
    """Estimate the pose of every frame and the focal length that they share.

    The same frames and seed give the same poses on the same machine.

    Args:
        frames: T arrays (H, W, 3) uint8 sRGB of one size, in the order of time.
        seed: of the draws of its robust estimators.
        time_limit_seconds: for each of at most three attempts to put the frames together.

    Raises:
        InputError: fewer than three frames, or frames of several sizes.
        EngineError: frames have no pose, or no sane focal length was found: too little texture, or too little motion.
        ConfigError: pycolmap is not installed.
    """
    height, width = _size(frames)
    found: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory(prefix="sceneloom-poses-") as folder:
        matching = _Matching(Path(folder), frames, seed)
        for attempt, estimate_focal in enumerate((True, True, False)):
            model = matching.put_together(seed + attempt, time_limit_seconds, estimate_focal=estimate_focal)
            if model is None:
                continue
            view = _horizontal_view(model, width)
            found.append((model.num_reg_images(), view))
            if model.num_reg_images() == len(frames) and FIELDS_OF_VIEW[0] <= view <= FIELDS_OF_VIEW[1]:
                return _estimate(model, len(frames), height, width, estimate_focal)
    best = max(found, default=None)
    seen = f"{best[0]} with a field of view of {best[1]:.0f}°" if best else "none"
    raise EngineError(
        f"{len(frames)} frames, of which {seen} could be put together",
        where="classical poses",
        remedy="Use clips with texture and a camera that moves, or another engine.",
    )


class _Matching:
    """Features of all frames and their matches, found once; several attempts to put them together."""

    def __init__(self, folder: Path, frames: Sequence[NDArray[np.uint8]], seed: int) -> None:
        from PIL import Image

        pycolmap = _library()
        self._pictures, self._database, self._folder = folder / "frames", folder / "database", folder
        self._pictures.mkdir()
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(self._pictures / f"{index:06d}.png")
        pycolmap.set_random_seed(seed)
        reading = pycolmap.ImageReaderOptions()
        reading.camera_model = "SIMPLE_PINHOLE"
        height, width = frames[0].shape[:2]
        focal = width / (2 * math.tan(math.radians(ASSUMED_FIELD_OF_VIEW) / 2))
        reading.default_focal_length_factor = focal / max(height, width)
        extraction = pycolmap.FeatureExtractionOptions()
        extraction.num_threads = _REPEATABLE
        extraction.use_gpu = False
        extraction.sift.peak_threshold = _FEATURE_CONTRAST
        pycolmap.extract_features(
            self._database,
            self._pictures,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reading,
            extraction_options=extraction,
            device=pycolmap.Device.cpu,
        )
        matching = pycolmap.FeatureMatchingOptions()
        matching.num_threads = _REPEATABLE
        matching.use_gpu = False
        pairing = pycolmap.SequentialPairingOptions()
        pairing.overlap = _NEIGHBOURS
        pycolmap.match_sequential(
            self._database, matching_options=matching, pairing_options=pairing, device=pycolmap.Device.cpu
        )

    def put_together(
        self, seed: int, time_limit_seconds: int, *, estimate_focal: bool
    ) -> pycolmap.Reconstruction | None:
        """The reconstruction with most frames, None where there is none."""
        pycolmap = _library()
        pycolmap.set_random_seed(seed)
        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads = _REPEATABLE
        options.random_seed = seed
        options.max_runtime_seconds = time_limit_seconds
        options.multiple_models = False
        options.min_model_size = MINIMUM_FRAMES
        options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = estimate_focal
        # A clip's cameras stay close together, where COLMAP's own limits are made for photographs from all around.
        options.mapper.init_min_tri_angle = 2.0
        options.mapper.init_min_num_inliers = 30
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.abs_pose_min_num_inliers = 15
        options.mapper.filter_min_tri_angle = 0.5
        options.triangulation.min_angle = 0.5
        output = self._folder / f"attempt-{seed}"
        output.mkdir()
        models = pycolmap.incremental_mapping(self._database, self._pictures, output, options=options)
        return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def _estimate(
    model: pycolmap.Reconstruction, count: int, height: int, width: int, focal_estimated: bool
) -> ClassicalEstimate:
    c2w = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    for image in model.images.values():
        c2w[int(Path(image.name).stem), :3] = image.cam_from_world().inverse().matrix()
    focal = _focal_length(model)
    return ClassicalEstimate(
        c2w=c2w,
        intrinsics=np.array([focal, focal, width / 2, height / 2], np.float32),
        focal_estimated=focal_estimated,
        points=model.num_points3D(),
        reprojection_error=float(model.compute_mean_reprojection_error()),
    )


def _focal_length(model: pycolmap.Reconstruction) -> float:
    [camera] = model.cameras.values()
    return float(camera.params[0])


def _horizontal_view(model: pycolmap.Reconstruction, width: int) -> float:
    return math.degrees(2 * math.atan2(width, 2 * _focal_length(model)))


def _size(frames: Sequence[NDArray[np.uint8]]) -> tuple[int, int]:
    sizes = {frame.shape for frame in frames}
    if len(frames) < MINIMUM_FRAMES or len(sizes) != 1:
        found = f"{len(frames)} frames of {len(sizes)} sizes"
        remedy = f"Give at least {MINIMUM_FRAMES} frames of one size."
        raise InputError(found, where="classical poses", remedy=remedy)
    height, width, _ = sizes.pop()
    return height, width


def _library():
    try:
        import pycolmap
    except ImportError as error:
        raise ConfigError(
            "pycolmap is not installed", where="engine classical", remedy="Install it: pip install 'pycolmap>=3.12'."
        ) from error
    # Its library writes every step to standard error.
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    return pycolmap
