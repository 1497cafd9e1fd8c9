"""Scaffolds of input clips: the depth of every frame in one unit, and the background behind what moves.

An engine for single pictures sees each frame by itself: its scale (and shift) jumps from frame to frame. Every frame's
depth is brought onto that of the first: of a still camera pixel by pixel, where neither frame shows what moves; of one
that moves along its poses, as generated clips are (`frame_depth`). What stands still before a still camera then keeps
one depth through the whole clip (`ops.background_plate`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, EngineError, InputError
from .engines import (
    Camera,
    ClipDepth,
    EngineContract,
    EngineIdentity,
    InputClip,
    Scaffold,
    ScaffoldEngine,
    View,
    engine_identity,
)

if TYPE_CHECKING:
    from ..ops.background_plate import BackgroundPlate
    from ..ops.depth_alignment import DepthAlignment

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float16 = NDArray[np.float16]

_FARTHEST = float(np.finfo(np.float16).max)
_MOST_MOVING = 0.95
"""Share of the first frame that may move: the depth of other frames is brought onto the rest of it."""


class ClipScaffold:
    """A scaffold engine for views that are the first frame of a clip.

    Args:
        estimator: finds the depth of one picture.
        device: of the 3D caches that frames are compared with, "cpu", "cuda" or "cuda:N".
        of_every_frame: ask the estimator for every frame. False: the first frame's depth is that of all, for engines
            whose geometry is a stage that what moves is painted on, such as a box.
    """

    def __init__(self, estimator: ScaffoldEngine, device: str = "cpu", *, of_every_frame: bool = True) -> None:
        self.estimator = estimator
        self.device = device
        self.of_every_frame = of_every_frame

    @property
    def contract(self) -> EngineContract:
        """The estimator's, for clips."""
        own = self.estimator.contract
        return dataclasses.replace(own, needs=own.needs | {"frames"})

    @property
    def identity(self) -> EngineIdentity:
        """The estimator's."""
        return engine_identity(self.estimator)

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Depth of every frame; the scaffold's `depth` is that of the first.

        Raises:
            InputError: the view is not that of a clip, or its first frame shows next to nothing of the background.
            EngineError: as the estimator, or a frame's depth cannot be brought onto the first one's.
        """
        clip = clip_of(view)
        first = self.estimator.build_scaffold(dataclasses.replace(view, clip=None), seed=seed)
        seen = moving = background = None
        if clip.still:
            seen = StillBackground(clip.frames)
            moving = seen.moving
        if not self.of_every_frame:
            depth = np.repeat(first.depth[None], len(clip.frames), axis=0)
            notes: dict[str, Any] = {"frames": "the first frame's depth for all"}
        elif moving is not None:
            depth, notes = self._aligned_in_place(first, view, clip, moving)
        else:
            depth, notes = self._aligned_along_the_way(first, view, clip)
        if seen is not None:
            background, shares = seen.hold(depth)
            notes |= shares
        return dataclasses.replace(
            first,
            depth=depth[0],
            notes={**first.notes, "clip": {**notes, "cameras": clip.cameras_from}},
            clip=ClipDepth(stored_depth(depth), moving, background),
        )

    def _aligned_in_place(
        self, first: Scaffold, view: View, clip: InputClip, moving: Bool
    ) -> tuple[Float32, dict[str, Any]]:
        """(T, H, W) depth of a still camera in the unit of the first frame's, and how it was brought onto that."""
        from .frame_depth import align_estimate, alignment_notes

        depth = np.empty((len(clip.frames), *first.depth.shape), np.float32)
        depth[0] = first.depth
        alignments: list[DepthAlignment] = []
        carried = 0
        for index in range(1, len(depth)):
            found = self.estimator.build_scaffold(View(clip.frames[index], first.intrinsics, None, {}), seed=0)
            try:
                alignment = align_estimate(found, first.depth, ~moving[0] & ~moving[index])
            except ContractError as error:
                if not alignments:
                    raise EngineError(
                        f"frame {index} cannot be brought onto the first: {error.found}",
                        where=f"scene_scaffold, engine {self.contract.name}",
                        remedy="Use a video in which less moves, or choose another scaffold engine.",
                    ) from error
                alignment, carried = alignments[-1], carried + 1
            alignments.append(alignment)
            depth[index] = alignment.apply_to_depth(found.depth)
        return depth, alignment_notes(alignments, carried)

    def _aligned_along_the_way(self, first: Scaffold, view: View, clip: InputClip) -> tuple[Float32, dict[str, Any]]:
        """The same of a camera that moves."""
        from .frame_depth import FrameDepth

        height, width = view.picture.shape[:2]
        cameras = [Camera(pose, first.intrinsics, height, width) for pose in clip.c2w]
        scene = FrameDepth(self.estimator, self.device).open_scene(first, dataclasses.replace(view, clip=None))
        found = scene.estimate(cameras, lambda: iter(clip.frames))
        depth = np.empty((len(clip.frames), height, width), np.float32)
        for index, frame in enumerate(found.depth):
            depth[index] = frame
        depth[0] = first.depth
        return depth, {name: value for name, value in found.notes.items() if name != "model"}


class StillBackground:
    """What stands still behind a clip of a still camera, and what moves before it.

    Attributes:
        moving: (T, H, W) bool.

    Args:
        frames: (T, H, W, 3) uint8 sRGB.

    Raises:
        InputError: the first frame shows next to nothing of the background.
    """

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        from ..ops.background_plate import background_colours, moving_pixels

        self._colours = background_colours(frames)
        self.moving: Bool = np.stack([moving_pixels(frame, self._colours) for frame in frames])
        _require_background(self.moving[0])

    def hold(self, depth: Float32) -> tuple[BackgroundPlate, dict[str, Any]]:
        """Give what stands still one depth through the clip, in place; gives the background with its depth, and the
        shares of what was held and of what moves, JSON.

        Args:
            depth: (T, H, W) float32; changed.
        """
        from ..ops.background_plate import BackgroundPlate

        still, held = _hold_still(depth, self.moving)
        return BackgroundPlate(self._colours, still), {
            "depth_held_share": held,
            "moving_share": float(self.moving.mean()),
            "background_share": float((still > 0).mean()),
        }


def _require_background(moving: Bool) -> None:
    if moving.mean() > _MOST_MOVING:
        raise InputError(
            f"{moving.mean():.0%} of the first frame differs from what the clip shows most of the time",
            where="scene_scaffold",
            remedy="Use a video of a still camera and steady light in which less moves, or start it elsewhere "
            "(engines.conditioning_view.video.start).",
        )


def _hold_still(depth: Float32, moving: Bool) -> tuple[Float32, float]:
    """Give what stands still for a still camera one depth, in place.

    Args:
        depth: (T, H, W) float32; changed.
        moving: (T, H, W) bool.

    Returns:
        (H, W) float32 depth of the background, 0 where it is never seen, and the share of pixels that have it now.
    """
    from ..ops.background_plate import held_depth

    still = np.zeros(depth.shape[1:], np.float32)
    for frame, covered in zip(depth, moving, strict=True):
        still = np.where((still == 0) & ~covered, frame, still)
    held = 0
    for index, (frame, covered) in enumerate(zip(depth, moving, strict=True)):
        depth[index] = held_depth(frame, still, covered)
        held += int(((depth[index] == still) & (still > 0)).sum())
    return still, held / depth.size


def clip_of(view: View) -> InputClip:
    """The video of which the view is the first frame. Raises InputError where it is none's."""
    if view.clip is None:
        raise InputError(
            "the view is not the first frame of a clip",
            where="engines.scene_scaffold.video",
            remedy="Choose a view engine that gives a clip, such as video_frames.",
        )
    return view.clip


def stored_depth(depth: Float32) -> Float16:
    """As scenes keep it; what float16 cannot hold counts as its largest."""
    return np.minimum(depth, np.float32(_FARTHEST)).astype(np.float16)
