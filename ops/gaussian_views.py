"""What a camera sees of 3D Gaussians: picture, depth and how much of each pixel they cover, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.camera_conventions import invert_rigid, matrix_from_intrinsics
from .gaussian_projection import ALPHA_THRESHOLD
from .gaussian_rasteriser import rasterise
from .gaussian_scene import Gaussians

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class GaussianView:
    """Gaussians seen by one camera.

    Attributes:
        picture: (H, W, 3) uint8 sRGB: the colour of what covers the pixel, however much of it; 0 where nothing does.
        depth: (H, W) float32 expected z-depth of what covers the pixel; 0 where nothing does.
        alpha: (H, W) float32 0..1, how much of the pixel is covered.
    """

    picture: NDArray[np.uint8]
    depth: NDArray[np.float32]
    alpha: NDArray[np.float32]


class Coverage:
    """How much of the pixels of many cameras a growing scene covers.

    What Gaussians let through multiplies, in whatever order they lie, so that of a scene that grows only what is new is
    rendered. (A pixel that ends at a transmittance of 1e-4 is the one exception: what lies behind still counts here.)

    Args:
        poses: P cameras, (4, 4) camera-to-world, OpenCV axes.
        intrinsics: (4,) pixels of (height, width), of all cameras.
        height: of the pictures.
        width: of the pictures.
    """

    def __init__(self, poses: Sequence[ArrayLike], intrinsics: ArrayLike, height: int, width: int) -> None:
        self.poses, self.intrinsics = poses, intrinsics
        self.transmittances = np.ones((len(poses), height, width), np.float32)

    def add(self, gaussians: Gaussians) -> None:
        """Count Gaussians that the scene did not have yet."""
        import torch

        height, width = self.transmittances.shape[1:]
        for pose, transmittance in zip(self.poses, self.transmittances, strict=True):
            cameras = camera_tensors(pose, self.intrinsics, gaussians.means.device)
            with torch.no_grad():
                _, alphas = rasterise(gaussians, *cameras, width, height)
            transmittance *= 1 - alphas[0, ..., 0].cpu().numpy()

    def alpha(self, index: int) -> NDArray[np.float32]:
        """(H, W) 0..1 of one camera."""
        return 1 - self.transmittances[index]


def camera_tensors(
    c2w: ArrayLike, intrinsics: ArrayLike, device: str | torch.device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 4, 4) world-to-camera and (1, 3, 3) calibration matrices as the rasteriser takes them.

    Args:
        c2w: (4, 4) camera-to-world, OpenCV axes.
        intrinsics: (4,) pixels.
        device: of the tensors.
    """
    import torch

    w2c = invert_rigid(np.asarray(c2w, np.float64))
    matrix = matrix_from_intrinsics(np.asarray(intrinsics, np.float64))
    return (
        torch.as_tensor(w2c, dtype=torch.float32, device=device)[None],
        torch.as_tensor(matrix, dtype=torch.float32, device=device)[None],
    )


def view_gaussians(
    gaussians: Gaussians, c2w: ArrayLike, intrinsics: ArrayLike, height: int, width: int
) -> GaussianView:
    """Render one camera's view.

    Args:
        gaussians: at least one.
        c2w: (4, 4) camera-to-world, OpenCV axes.
        intrinsics: (4,) pixels of (height, width).
        height: of the picture.
        width: of the picture.

    Raises:
        EngineError: the Gaussians are on a CUDA device and gsplat is not installed.
    """
    import torch

    viewmats, matrices = camera_tensors(c2w, intrinsics, gaussians.means.device)
    with torch.no_grad():
        rendering, alphas = rasterise(gaussians, viewmats, matrices, width, height, render_mode="RGB+ED")
        alpha = alphas[0, ..., 0]
        covered = alpha >= ALPHA_THRESHOLD
        colour = rendering[0, ..., :3] / alpha.clamp(min=ALPHA_THRESHOLD)[..., None]
        levels = (colour * covered[..., None] * 255).round().clamp(0, 255).to(torch.uint8)
        depth = rendering[0, ..., 3] * covered
    return GaussianView(levels.cpu().numpy(), depth.float().cpu().numpy(), alpha.float().cpu().numpy())
