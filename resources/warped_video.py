"""Engine `warped`: the scene's 3D cache seen along the cameras, on the CPU and without weights.

It shows what Wan VACE is given, with the holes filled from the background beside them or left black, and so takes input
videos through every stage without a model. Its clips stretch and smear where the cache shows nothing: they are no
training data of the kind that generated clips are, and their notes say how much of them the cache showed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError
from .clip_cache import ClipCache
from .engines import Camera, ClipGeometry, EngineContract, Frames, MovingObjects, Scaffold, View
from .profile_sections import device_with_index
from .warped_settings import WarpedVideoSettings

if TYPE_CHECKING:
    from ..ops.scene_cache import SceneCache

_LICENCE = "Apache-2.0"


class WarpedVideo:
    """Frames of the 3D cache."""

    def __init__(self, settings: WarpedVideoSettings) -> None:
        self.contract = EngineContract(
            "warped", "embedded", frozenset({"view", "depth", "cameras"}), frozenset({"frames"}), _LICENCE
        )
        self.settings = settings

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> WarpedScene:
        """Build the cache, once for all clips. Raises EngineError where objects of the scene's geometry move."""
        return WarpedScene(self.settings, scaffold, view)


class WarpedDepthAndPoses:
    """Depth of the frames that `WarpedVideo` gives with the same settings; the cameras are the commanded ones."""

    def __init__(self, settings: WarpedVideoSettings) -> None:
        self.contract = EngineContract(
            "warped", "embedded", frozenset({"view", "depth", "cameras"}), frozenset({"depth", "cameras"}), _LICENCE
        )
        self.settings = settings

    def open_scene(self, scaffold: Scaffold, view: View) -> WarpedScene:
        """Build the cache, once for all clips. Raises EngineError where objects of the scene's geometry move."""
        return WarpedScene(self.settings, scaffold, view)


class WarpedScene:
    """One scene's cache, ready for its clips."""

    def __init__(self, settings: WarpedVideoSettings, scaffold: Scaffold, view: View) -> None:
        if scaffold.motions:
            raise EngineError(
                f"{len(scaffold.motions)} objects of the scene move, and the cache shows them standing still",
                where="engine warped",
                remedy="Set motion.objects to 0, or choose another engine for video_latents.",
            )
        self.settings = settings
        self.scaffold = scaffold
        self.view = view
        self.moving: ClipCache | None = None
        options: dict[str, Any] = {
            "device": device_with_index(settings.device),
            "edge_threshold": settings.edge_threshold,
            "foreground_masking": settings.foreground_masking,
        }
        if scaffold.clip is not None:
            self.moving = ClipCache(scaffold, view, **options)
        else:
            self.cache = _cache_of(scaffold, view, options)

    def frames(self, cameras: Sequence[Camera], *, seed: int) -> Iterator[NDArray[np.uint8]]:
        """Yield (H, W, 3) uint8 sRGB, one for each camera; nothing is drawn, so every seed gives the same."""
        for time, camera in enumerate(cameras):
            yield self._seen(time, camera)[0]

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        """Depth of what `frames` shows, in the scaffold's unit."""
        notes: dict[str, Any] = {"engine": "warped", "estimated_depth": True, "estimated_poses": False}
        moving = None
        if self.moving is not None and self.moving.knows_what_moves:
            moving = MovingObjects(None, np.zeros((len(commanded), commanded[0].height, commanded[0].width), bool))
        return ClipGeometry.at(
            commanded,
            self._depth(commanded, moving, notes),
            metric=self.scaffold.metric,
            moving=moving,
            notes=notes,
        )

    def _depth(
        self, cameras: Sequence[Camera], moving: MovingObjects | None, notes: dict[str, Any]
    ) -> Iterator[NDArray[np.float32]]:
        unseen: list[float] = []
        for time, camera in enumerate(cameras):
            _, depth, hole = self._seen(time, camera)
            unseen.append(hole)
            if moving is not None and self.moving is not None:
                moving.pixels[time] = self.moving.moving_pixels(time, camera)
            yield depth
        notes |= {"unseen_share": float(np.mean(unseen)), "unseen_share_worst": max(unseen)}

    def _seen(self, time: int, camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
        """A frame with its depth, and the share of it that the cache does not show."""
        from ..ops.hole_filling import fill_from_background

        whole = self._seen_whole(time, camera)
        if whole is not None:
            return *whole, 0.0
        if self.moving is not None:
            seen = self.moving.warp(time, camera)
        else:
            seen = self.cache.warp(camera.c2w, camera.intrinsics, camera.height, camera.width)
        hole = float(1.0 - seen.valid.mean())
        if self.settings.holes == "black" or not hole:
            return seen.rgb, seen.depth, hole
        return *fill_from_background(seen.rgb, seen.depth, seen.valid), hole

    def _seen_whole(self, time: int, camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
        """The input's own picture and depth where the camera is the one that took it: warped ones lack their edges."""
        if self.moving is not None:
            return self.moving.input_frame(time) if self.moving.sees_as_input(time, camera) else None
        return (self.view.picture, self.scaffold.depth) if camera.sees_as(self.scaffold.intrinsics) else None


def _cache_of(scaffold: Scaffold, view: View, options: dict[str, Any]) -> SceneCache:
    """A cache of the view alone."""
    from ..ops.scene_cache import SceneCache, SourceFrame

    # Scaffolds in metres go on to 10 km; of no depth at all nothing is cut off.
    cache = SceneCache(depth_limit=float(scaffold.depth.max()) or 1.0, **options)
    cache.add(SourceFrame(view.picture, scaffold.depth, np.eye(4), scaffold.intrinsics))
    return cache
