"""Engine `classical`: cameras estimated from a clip's frames alone, with depth that another engine finds.

What estimated cameras go through (a world and a unit of their own, a focal length that is off, an alignment, its
residual) is exercised with it where no GPU is, on clips whose cameras are known.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets.errors import EngineError, InputError
from ..ops.alignment import align_cameras
from .classical_poses import ClassicalEstimate, estimate_poses
from .engines import (
    Camera,
    ClipGeometry,
    ClipsEstimator,
    DepthAndPosesEngine,
    EngineContract,
    EngineIdentity,
    Frames,
    Part,
    Scaffold,
    SceneEstimator,
    View,
    engine_identity,
)
from .failures import Reason, StageFailed
from .profiles import ClassicalPosesSettings

NAME = "classical"
LICENCE = "BSD-3-Clause"
"""Of COLMAP and pycolmap."""
SEED = 0
"""Of the draws of the robust estimators: a stage's estimate depends on nothing but its clip."""


class ClassicalDepthAndPoses:
    """Poses from structure from motion; depth by an engine that is given the commanded cameras.

    Args:
        settings: limits.
        depth: finds the depth of the frames, in the unit of the commanded cameras.
    """

    def __init__(self, settings: ClassicalPosesSettings, depth: DepthAndPosesEngine) -> None:
        self.settings = settings
        self.depth = depth

    @property
    def contract(self) -> EngineContract:
        """What the engine needs and gives."""
        behind = self.depth.contract
        return EngineContract(
            NAME,
            behind.tier,
            frozenset[Part]({*behind.needs, "frames"}),
            frozenset({"depth", "cameras"}),
            self.identity.licence,
            behind.device_memory_bytes,
        )

    @property
    def identity(self) -> EngineIdentity:
        """The two engines, with the weights of the one that finds depth."""
        behind = engine_identity(self.depth)
        return EngineIdentity(NAME, f"{LICENCE} AND {behind.licence}", behind.weights)

    def open_scene(self, scaffold: Scaffold, view: View) -> ClassicalScene:
        """Get the scene ready for the depth of its clips."""
        scene = self.depth.open_scene(scaffold, view)
        assert not isinstance(scene, ClipsEstimator)
        return ClassicalScene(scene, round(self.settings.time_limit))


@dataclass(frozen=True, slots=True)
class ClassicalScene:
    """One scene, ready for its clips."""

    depth: SceneEstimator
    time_limit_seconds: int

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        """Estimated cameras, and depth in their unit.

        The depth is of the frames that the commanded cameras see. It is brought into the unit of the estimated cameras
        by the scale that aligns the two, so it says nothing of whether that scale is right: the notes say so.

        Raises:
            StageFailed: no pose for every frame was found. Only the time limit depends on what else the machine does:
                where it may have been the reason, the next run tries again.
        """
        began = time.monotonic()
        try:
            found = estimate_poses(list(frames()), seed=SEED, time_limit_seconds=self.time_limit_seconds)
        except (EngineError, InputError) as error:
            out_of_time = time.monotonic() - began >= self.time_limit_seconds
            again = "next_run" if out_of_time else "after_change"
            raise StageFailed(Reason.ESTIMATION_DIVERGED, str(error), again=again) from error
        known = self.depth.estimate(commanded, frames)
        scale = align_cameras(found.c2w, np.stack([camera.c2w for camera in commanded])).scale
        return ClipGeometry(
            depth=(frame / np.float32(scale) for frame in known.depth),
            c2w=found.c2w,
            intrinsics=np.tile(found.intrinsics, (len(commanded), 1)),
            metric=False,
            moving=known.moving,
            notes=_notes(found, known),
            kept=known.kept,
        )


def _notes(found: ClassicalEstimate, known: ClipGeometry) -> dict[str, Any]:
    return {
        "engine": NAME,
        "estimated_depth": bool(known.notes.get("estimated_depth", False)),
        "estimated_poses": True,
        "depth_scaled_to_cameras": True,
        "focal_estimated": found.focal_estimated,
        "points": found.points,
        "mean_point_error_pixels": found.reprojection_error,
        # Not a copy: some engines complete their notes while their depth is taken.
        "depth": known.notes,
    }
