"""Engine `gaussians`: clips rendered from a scaffold of 3D Gaussians; and `rendered`, their depth and cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import InputError
from ..ops.gaussian_scene import Gaussians
from ..ops.gaussian_scene_building import moved
from ..ops.gaussian_views import view_gaussians
from .engines import Camera, ClipGeometry, EngineContract, Frames, Scaffold, View

_LICENCE = "Apache-2.0"


class GaussianVideo:
    """Frames of the scaffold's Gaussians. Each is the colour of what covers a pixel, however much of it; what nothing
    covers is black.

    Args:
        device: "cpu", "cuda" or "cuda:N"; CUDA takes gsplat.
    """

    contract: EngineContract = EngineContract(
        "gaussians", "embedded", frozenset({"gaussians", "cameras"}), frozenset({"frames"}), _LICENCE
    )

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> GaussianClips:
        """Put the Gaussians on the device. Raises InputError where the scaffold has none."""
        return GaussianClips(gaussians_behind(scaffold), self.device)


class GaussianClips:
    """One scene's Gaussians, ready to be seen."""

    def __init__(self, gaussians: Gaussians, device: str) -> None:
        self.gaussians = moved(gaussians, device)

    def frames(self, cameras: Sequence[Camera], *, seed: int) -> Iterator[NDArray[np.uint8]]:
        """Yield (H, W, 3) uint8 sRGB; nothing is drawn, so every seed gives the same."""
        for camera in cameras:
            yield view_gaussians(self.gaussians, camera.c2w, camera.intrinsics, camera.height, camera.width).picture


class RenderedDepthAndPoses:
    """Depth of the Gaussians that the frames were rendered from; the estimated cameras are the commanded ones.

    Args:
        smallest_coverage: pixels of which less is covered have no depth.
        device: as `GaussianVideo`.
    """

    contract: EngineContract = EngineContract(
        "rendered", "embedded", frozenset({"gaussians", "cameras"}), frozenset({"depth", "cameras"}), _LICENCE
    )

    def __init__(self, smallest_coverage: float, device: str = "cpu") -> None:
        self.smallest_coverage = smallest_coverage
        self.device = device

    def open_scene(self, scaffold: Scaffold, view: View) -> RenderedDepthScene:
        """Put the Gaussians on the device. Raises InputError where the scaffold has none."""
        return RenderedDepthScene(scaffold, self.smallest_coverage, self.device)


class RenderedDepthScene:
    """One scene's Gaussians, ready for the depth of its clips."""

    def __init__(self, scaffold: Scaffold, smallest_coverage: float, device: str) -> None:
        self.gaussians = moved(gaussians_behind(scaffold), device)
        self.metric = scaffold.metric
        self.smallest_coverage = smallest_coverage

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        """Expected depth of the Gaussians in every frame, in the scaffold's unit; frames are not looked at."""
        notes: dict[str, Any] = {"engine": "rendered", "estimated_depth": True, "estimated_poses": False}
        return ClipGeometry.at(
            commanded,
            self._depth(commanded, notes),
            metric=self.metric,
            notes=notes,
        )

    def _depth(self, cameras: Sequence[Camera], notes: dict[str, Any]) -> Iterator[NDArray[np.float32]]:
        open_shares = []
        for camera in cameras:
            seen = view_gaussians(self.gaussians, camera.c2w, camera.intrinsics, camera.height, camera.width)
            covered = seen.alpha >= self.smallest_coverage
            open_shares.append(1.0 - float(covered.mean()))
            yield np.where(covered, seen.depth, np.float32(0.0))
        notes |= {"open_mean": float(np.mean(open_shares)), "open_worst": max(open_shares)}


def gaussians_behind(scaffold: Scaffold) -> Gaussians:
    """The scaffold's Gaussians. Raises InputError where it has none."""
    if scaffold.gaussians is None:
        raise InputError(
            "the scaffold has no Gaussians to render",
            where="engines.scene_scaffold",
            remedy="Use gaussians and rendered only after an engine that makes some, such as vistadream.",
        )
    return scaffold.gaussians
