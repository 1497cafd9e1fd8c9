"""Depth of generated clips, frame by frame: each frame's own estimate, brought onto what the scene is known to be.

A generated clip has no ground truth. Its cameras are taken to be the commanded ones; how well the frames keep to them
is for the quality report to judge. Depth is what an engine for single pictures sees in each frame. Such engines give
each picture a scale (metric engines err by one too), and relative ones a shift of inverse depth as well. Both are found
against the depth that the frame's camera should see: of the scaffold where that reaches, else of an earlier frame. In
a scene that moves, the scaffold's depth is that of the same frame of the input clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, EngineError
from ..ops.trajectories import runs_backwards
from .clip_cache import ClipCache
from .depth_scaffolds import FARTHEST_DEPTH
from .engines import (
    Camera,
    ClipGeometry,
    EngineContract,
    EngineIdentity,
    Frames,
    MovingObjects,
    Scaffold,
    ScaffoldEngine,
    View,
    engine_identity,
)
from .profile_sections import device_with_index

if TYPE_CHECKING:
    from ..ops.depth_alignment import DepthAlignment
    from ..ops.scene_cache import SceneCache, SourceFrame

Float32 = NDArray[np.float32]

FRAMES_PER_KEYFRAME = 8
"""Every so many frames one becomes what the next are compared with, where the scaffold does not reach."""


class FrameDepth:
    """Depth of every frame by an engine for single pictures; the cameras are the commanded ones.

    Args:
        estimator: finds the depth of one picture.
        device: of the 3D caches that frames are compared with, "cpu", "cuda" or "cuda:N".
    """

    def __init__(self, estimator: ScaffoldEngine, device: str = "cpu") -> None:
        self.estimator = estimator
        self.device = device_with_index(device)

    @property
    def contract(self) -> EngineContract:
        """The estimator's, for clips."""
        own = self.estimator.contract
        return EngineContract(
            own.name,
            own.tier,
            frozenset({"scaffold", "view", "frames", "cameras"}),
            frozenset({"depth", "cameras"}),
            own.licence,
            own.device_memory_bytes,
        )

    @property
    def identity(self) -> EngineIdentity:
        """The estimator's."""
        return engine_identity(self.estimator)

    def open_scene(self, scaffold: Scaffold, view: View) -> FrameDepthScene:
        """Put the view with its depth, or every frame of an input clip with its own, into a 3D cache."""
        return FrameDepthScene(self.estimator, scaffold, view, self.device)


class FrameDepthScene:
    """One scene, ready for the depth of its clips."""

    def __init__(self, estimator: ScaffoldEngine, scaffold: Scaffold, view: View, device: str) -> None:
        from ..ops.scene_cache import SourceFrame

        self.estimator = estimator
        self.scaffold = scaffold
        self.device = device
        # Of no depth at all nothing is cut off.
        self._limit = float(scaffold.depth.max()) or FARTHEST_DEPTH
        self._moving: ClipCache | None = None
        if scaffold.clip is not None:
            self._limit = float(scaffold.clip.depth.max()) or FARTHEST_DEPTH
            # Only what was seen at the very time is compared with, so no background.
            self._moving = ClipCache(scaffold, view, device=device, with_background=False)
        else:
            self._of_scaffold = self._cache_of(
                SourceFrame(view.picture, scaffold.depth, np.eye(4), scaffold.intrinsics, _tells(scaffold.depth))
            )

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        """Depth of the frames in the scaffold's unit.

        Raises:
            EngineError: the frame at the view shows too little of what the scaffold knows, or there are more or fewer
                frames than cameras. Raised while the depth is taken.
        """
        notes: dict[str, Any] = {
            "engine": self.estimator.contract.name,
            "estimated_depth": True,
            "estimated_poses": False,
        }
        moving = None
        if self._moving is not None and self._moving.knows_what_moves:
            moving = MovingObjects(None, np.zeros((len(commanded), commanded[0].height, commanded[0].width), bool))
        return ClipGeometry.at(
            commanded,
            self._depth(commanded, frames, notes, moving),
            metric=self.scaffold.metric,
            moving=moving,
            notes=notes,
        )

    def _depth(
        self, cameras: Sequence[Camera], frames: Frames, notes: dict[str, Any], moving: MovingObjects | None
    ) -> Iterator[Float32]:
        """Depth in the order of the frames. A path that ends at the view is followed back from there, so that every
        frame is compared with one that is nearer to what is known."""
        if self._moving is not None and len(self._moving) != len(cameras):
            raise self._refusal(f"{len(cameras)} cameras for an input clip of {len(self._moving)} frames")
        if moving is not None and self._moving is not None:
            for time, camera in enumerate(cameras):
                moving.pixels[time] = self._moving.moving_pixels(time, camera)
        times = range(len(cameras))
        seen_from = None if self._moving is None else self._moving.clip.c2w
        if not runs_backwards([camera.c2w for camera in cameras], seen_from):
            yield from self._along(cameras, times, frames(), notes)
            return
        backwards = list(frames())[::-1]
        yield from list(self._along(cameras[::-1], times[::-1], backwards, notes))[::-1]

    def _along(
        self,
        cameras: Sequence[Camera],
        times: Sequence[int],
        frames: Iterable[NDArray[np.uint8]],
        notes: dict[str, Any],
    ) -> Iterator[Float32]:
        alignments: list[DepthAlignment] = []
        carried = count = 0
        keyframe: SceneCache | None = None
        for count, frame in enumerate(frames, start=1):
            if count > len(cameras):
                break
            camera = cameras[count - 1]
            found = self.estimator.build_scaffold(View(frame, _float64(camera.intrinsics), None, {}), seed=0)
            notes.setdefault("model", found.notes.get("model"))
            try:
                alignment = align_estimate(found, self._known(camera, keyframe, times[count - 1]))
            except ContractError as error:
                if not alignments:
                    raise self._refusal(
                        f"a frame's depth cannot be brought onto what is known: {error.found}"
                    ) from error
                alignment, carried = alignments[-1], carried + 1
            alignments.append(alignment)
            depth = alignment.apply_to_depth(found.depth)
            if count % FRAMES_PER_KEYFRAME == 1:
                keyframe = self._keyframe(frame, depth, found.depth, camera)
            yield depth
        if count != len(cameras):
            raise self._refusal(f"{'more' if count > len(cameras) else count} frames for {len(cameras)} cameras")
        notes |= alignment_notes(alignments, carried)

    def _known(self, camera: Camera, keyframe: SceneCache | None, time: int = 0) -> Float32:
        """(H, W) depth that the camera should see at a frame, 0 where nothing is known."""
        size = camera.height, camera.width
        if self._moving is not None:
            known = self._moving.warp(time, camera).depth
        else:
            known = self._of_scaffold.warp(camera.c2w, camera.intrinsics, *size).depth
        if keyframe is None:
            return known
        return np.where(known > 0, known, keyframe.warp(camera.c2w, camera.intrinsics, *size).depth)

    def _keyframe(self, frame: NDArray[np.uint8], depth: Float32, estimated: Float32, camera: Camera) -> SceneCache:
        """A frame to compare others with: where its estimate gives a depth, and where the scaffold's goes as far.

        Args:
            depth: the estimate in the scaffold's unit.
        """
        from ..ops.scene_cache import SourceFrame

        # Beyond the scaffold's farthest surface the cache would take everything to lie there.
        told = _tells(estimated) & (depth < self._limit)
        return self._cache_of(SourceFrame(np.ascontiguousarray(frame), depth, camera.c2w, camera.intrinsics, told))

    def _cache_of(self, frame: SourceFrame) -> SceneCache:
        from ..ops.scene_cache import SceneCache

        cache = SceneCache(device=self.device, depth_limit=self._limit)
        cache.add(frame)
        return cache

    def _refusal(self, found: str) -> EngineError:
        return EngineError(
            found,
            where=f"depth_and_poses, engine {self.estimator.contract.name}",
            remedy="Make the clips again; if it stays, shorten the path or choose another scaffold engine.",
        )


def align_estimate(found: Scaffold, known: Float32, where: NDArray[np.bool_] | None = None) -> DepthAlignment:
    """What brings an estimate onto known depth: a scale for metric depth, scale and shift of inverse depth else.

    Args:
        found: the estimate.
        known: (H, W) float32, 0 where nothing is known.
        where: (H, W) bool, pixels that may be compared; None for all.

    Raises:
        ContractError: too few pixels to align on, or the two contradict each other.
    """
    from ..ops.depth_alignment import align_relative_depth, align_scale

    align = align_scale if found.metric else align_relative_depth
    tells = _tells(found.depth)
    return align(found.depth, known, where=tells if where is None else tells & where)


def _tells(depth: Float32) -> NDArray[np.bool_]:
    """Where an estimate gives a depth; at the farthest that it can say, it says no more than "far away"."""
    return depth < FARTHEST_DEPTH


def alignment_notes(alignments: Sequence[DepthAlignment], carried: int) -> dict[str, Any]:
    """How well the frames of a clip could be brought onto what is known, JSON; `carried` took the frame before's."""
    scales = [alignment.scale for alignment in alignments]
    return {
        "frames_aligned_by_scale_alone": sum(alignment.space == "depth" for alignment in alignments),
        "residual_median": float(np.median([alignment.residual for alignment in alignments])),
        "residual_worst": float(max(alignment.residual for alignment in alignments)),
        "inliers_worst": float(min(alignment.inliers for alignment in alignments)),
        "scale_smallest": float(min(scales)),
        "scale_largest": float(max(scales)),
        "frames_with_the_alignment_before": carried,
    }


def _float64(values: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)
