"""The 3D cache of a scene that moves: frame i of a clip is seen from the RGB-D of frame i of the input video.

As GEN3C's for videos (its Cache4D in nv-tlabs/lyra): no frame sees another's moving surfaces. What a frame does not
show is filled, beyond GEN3C, from the background that the still camera saw at other times, and only there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError
from .engines import Camera, ClipDepth, InputClip, Scaffold, View

if TYPE_CHECKING:
    from ..ops.scene_cache import WarpedFrame

_SAME_DEPTH = 0.05
"""Share of its depth by which a moving surface must lie behind what is seen to be hidden by it."""
_GROWN = 5
"""Pixels, across, that a moving point covers: points of a surface that comes nearer lie apart."""


class ClipCache:
    """RGB-D of every frame of an input clip, kept on a device; used by several threads at once.

    Args:
        scaffold, view: of the scene; both hold a clip.
        device: a Warp device, "cpu" or "cuda:0" for instance.
        edge_threshold, foreground_masking: as `SceneCache` takes them.
        with_background: fill what a frame does not show from the background.

    Raises:
        EngineError: the clip and its depth do not belong together.
    """

    def __init__(
        self,
        scaffold: Scaffold,
        view: View,
        *,
        device: str,
        edge_threshold: float = 0.05,
        foreground_masking: bool = True,
        with_background: bool = True,
    ) -> None:
        from ..ops.scene_cache import SceneCache, SourceFrame

        clip, depth = _clip_of(scaffold, view)
        background = depth.background if with_background else None
        farthest = max(float(depth.depth.max()), 0.0 if background is None else float(background.depth.max())) or 1.0

        def new() -> SceneCache:
            return SceneCache(
                device=device,
                edge_threshold=edge_threshold,
                foreground_masking=foreground_masking,
                depth_limit=farthest,
            )

        self.clip = clip
        self._depth = depth
        self._intrinsics = np.asarray(scaffold.intrinsics, np.float64)
        self._frames = new()
        for rgb, frame_depth, pose in zip(clip.frames, depth.depth, clip.c2w, strict=True):
            self._frames.add(SourceFrame(rgb, frame_depth.astype(np.float32), pose, self._intrinsics))
        self._background: SceneCache | None = None
        if background is not None:
            self._background = new()
            self._background.add(SourceFrame(background.rgb, background.depth, clip.c2w[0], self._intrinsics))

    def __len__(self) -> int:
        return len(self._frames)

    def warp(self, frame: int, camera: Camera) -> WarpedFrame:
        """What a camera sees of the input's frame of that number, and behind it of the background."""
        where = (camera.c2w, camera.intrinsics, camera.height, camera.width)
        seen = self._frames.warp(*where, source=frame)
        if self._background is None or seen.valid.all():
            return seen
        behind = self._background.warp(*where)
        filled = ~seen.valid & behind.valid
        for own, other in ((seen.rgb, behind.rgb), (seen.depth, behind.depth), (seen.confidence, behind.confidence)):
            own[filled] = other[filled]
        seen.valid[filled] = True
        return seen

    @property
    def knows_what_moves(self) -> bool:
        """Whether `moving_pixels` can tell."""
        return self._depth.moving is not None

    def sees_as_input(self, frame: int, camera: Camera) -> bool:
        """Whether a camera is the input's own at that frame, to what float32 resolves."""
        return camera.sees_as(self._intrinsics, self.clip.c2w[frame])

    def input_frame(self, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """(H, W, 3) uint8 picture and (H, W) float32 depth of the input's frame, as they are."""
        return self.clip.frames[frame], self._depth.depth[frame].astype(np.float32)

    def moving_pixels(self, frame: int, camera: Camera) -> NDArray[np.bool_]:
        """(H, W) bool, where a camera sees what moves in the input's frame; nothing where that is not known."""
        seen = np.zeros((camera.height, camera.width), bool)
        if self._depth.moving is None:
            return seen
        depth = self._depth.depth[frame].astype(np.float64)
        row, column = np.nonzero(self._depth.moving[frame] & (depth > 0))
        pixels, z = project_pixels(row, column, depth[row, column], self.clip.c2w[frame], self._intrinsics, camera)
        inside = (z > 0) & (pixels >= 0).all(axis=1) & (pixels < (camera.height, camera.width)).all(axis=1)
        (y, x), z = pixels[inside].astype(np.intp).T, z[inside]
        surface = self._frames.warp(camera.c2w, camera.intrinsics, camera.height, camera.width, source=frame).depth
        # Where the cache shows nothing, such as at the depth edges that it leaves out, nothing hides what moves.
        hidden = (surface[y, x] > 0) & (z > (1 + _SAME_DEPTH) * surface[y, x])
        seen[y[~hidden], x[~hidden]] = True
        return _grown(seen)


def project_pixels(
    row: NDArray[np.intp],
    column: NDArray[np.intp],
    depth: NDArray[np.float64],
    c2w: NDArray[np.floating],
    intrinsics: NDArray[np.float64],
    camera: Camera,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the centres of pixels of one camera lie for another.

    Args:
        row, column: (N,) pixels.
        depth: (N,) z-depth.
        c2w, intrinsics: (4, 4) and (4,) of the camera that the pixels are of.
        camera: the other.

    Returns:
        (N, 2) floor of row and column, and (N,) z-depth, for the other camera.
    """
    fx, fy, cx, cy = intrinsics
    points = np.stack([(column + 0.5 - cx) / fx * depth, (row + 0.5 - cy) / fy * depth, depth], axis=1)
    between = np.linalg.inv(np.asarray(camera.c2w, np.float64)) @ np.asarray(c2w, np.float64)
    x, y, z = (points @ between[:3, :3].T + between[:3, 3]).T
    fx, fy, cx, cy = np.asarray(camera.intrinsics, np.float64)
    safe = np.where(z > 0, z, 1.0)
    return np.floor(np.stack([y / safe * fy + cy, x / safe * fx + cx], axis=1)), z


def _clip_of(scaffold: Scaffold, view: View) -> tuple[InputClip, ClipDepth]:
    clip, depth = view.clip, scaffold.clip
    if clip is None or depth is None or clip.frames.shape[:3] != depth.depth.shape:
        found = "no clip" if clip is None else f"a clip of {clip.frames.shape[:3]}"
        behind = "no depth" if depth is None else f"depth of {depth.depth.shape}"
        raise EngineError(
            f"{found} with {behind}", where="3D cache of a clip", remedy="Make the scene's scaffold again."
        )
    return clip, depth


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((_GROWN, _GROWN), np.uint8)).astype(bool)
