"""Where something moves in a scene's clips, by the best that is known, whatever estimates their depth."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ..resources.clip_cache import ClipCache
from ..resources.engines import Camera, ClipGeometry, MovingObjects, Scaffold, View
from ..resources.vipe_scaffold import movable_pixels

DynamicSource = Literal["ground_truth", "input_video", "instances"]
"""What a mask rests on: the motions of a rendered scene's objects; what moves before the background of an input video
whose camera stands still; pixels of what may move, as an estimator took them for."""
DYNAMIC_SOURCES: tuple[DynamicSource, ...] = get_args(DynamicSource)


class DynamicMasks:
    """Tells what moves in the clips of one scene.

    Args:
        scaffold, view: of the scene.
        device: that its geometry is rendered on, "cpu", "cuda" or "cuda:N".
    """

    def __init__(self, scaffold: Scaffold, view: View, device: str) -> None:
        self._scaffold, self._view, self._device = scaffold, view, device

    def of(self, found: ClipGeometry, commanded: Sequence[Camera]) -> tuple[MovingObjects, DynamicSource] | None:
        """What moves in a clip, and what that rests on; None where nothing is known to move.

        Where the engine of the clip's depth says it, it is that: its pixels are there once its depth has been taken.
        Else it is the truth of the scene's motions, what moves in the scene's video, or, of a video of which that is
        not known, the instances that the engine found; sky is none of them.

        Args:
            found: the clip's depth and cameras.
            commanded: one camera a frame.
        """
        clip = self._scaffold.clip
        if found.moving is not None:
            of_clip = "input_video" if clip is None else clip.moving_from
            return found.moving, of_clip if found.moving.poses is None else "ground_truth"
        if self._scaffold.motions:
            return self._truth(commanded), "ground_truth"
        if clip is not None and clip.moving is not None:
            seen = [self._cache.moving_pixels(index, camera) for index, camera in enumerate(commanded)]
            return MovingObjects(None, np.stack(seen)), clip.moving_from
        instances = None if clip is None else movable_pixels(found)
        return None if instances is None else (MovingObjects(None, instances), "instances")

    def _truth(self, commanded: Sequence[Camera]) -> MovingObjects:
        truth = self._rendered.estimate(commanded, lambda: ())
        assert truth.moving is not None
        # A frame's pixels are filled in when its depth is taken.
        collections.deque(truth.depth, maxlen=0)
        return truth.moving

    @functools.cached_property
    def _rendered(self):
        from ..resources.embedded_engines import GroundTruthDepthAndPoses

        return GroundTruthDepthAndPoses(self._device).open_scene(self._scaffold, self._view)

    @functools.cached_property
    def _cache(self) -> ClipCache:
        return ClipCache(self._scaffold, self._view, device="cpu", with_background=False)
