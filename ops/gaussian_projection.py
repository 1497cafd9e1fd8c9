"""3D Gaussians projected to a camera's picture (EWA splatting), in PyTorch, with gsplat's numbers.

The formulas are those of Zwicker et al. 2001, "EWA volume splatting"; limits and thresholds are gsplat 1.5's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .gaussian_scene import Gaussians

if TYPE_CHECKING:
    import torch

NEAR_PLANE = 0.01
"""Gaussians whose centre has a smaller z-depth are left out."""

FAR_PLANE = 1e10

BLUR = 0.3
"""Added to the variance in pixels, so that no Gaussian falls between pixel centres."""

ALPHA_THRESHOLD = 1 / 255
"""What covers less of a pixel is passed over."""

LARGEST_EXTENT = 3.33
"""Standard deviations after which a Gaussian ends: at opacity 1 the threshold is met at √(2·ln 255) = 3.329."""

FIELD_MARGIN = 0.3
"""Share of half the field of view by which a centre may lie outside before the Jacobian is taken at the limit."""


@dataclass(frozen=True, slots=True)
class ProjectedGaussians:
    """N Gaussians in the pictures of C cameras.

    Attributes:
        means2d: (C, N, 2) pixels, pixel centres at +0.5.
        conics: (C, N, 3) xx, xy, yy of the inverse covariance, per square pixel.
        depths: (C, N) z-depth of the centres.
        radii: (C, N, 2) half width and height of the bounding box in whole pixels; 0 where the Gaussian is not seen.
    """

    means2d: torch.Tensor
    conics: torch.Tensor
    depths: torch.Tensor
    radii: torch.Tensor


def project(
    gaussians: Gaussians,
    viewmats: torch.Tensor,  # (C, 4, 4)
    Ks: torch.Tensor,  # (C, 3, 3)
    width: int,
    height: int,
) -> ProjectedGaussians:
    """Project Gaussians into C cameras; differentiable but for the radii.

    Args:
        gaussians: N Gaussians.
        viewmats: (C, 4, 4) world-to-camera, OpenCV axes.
        Ks: (C, 3, 3) calibration matrices in pixels.
        width: of the pictures, pixels.
        height: of the pictures, pixels.
    """
    import torch

    rotations = viewmats[:, None, :3, :3]
    centres = (rotations @ gaussians.means[..., None])[..., 0] + viewmats[:, None, :3, 3]
    depths = centres[..., 2]
    in_range = (depths > NEAR_PLANE) & (depths < FAR_PLANE)
    # A depth of 0 would turn the gradient of everything into NaN, though the Gaussian is not seen.
    z = torch.where(in_range, depths, torch.ones_like(depths))
    plane = centres[..., :2] / z[..., None]
    focal = torch.stack([Ks[:, 0, 0], Ks[:, 1, 1]], dim=-1)[:, None]
    means2d = plane * focal + Ks[:, None, :2, 2]
    jacobian = _jacobian(plane, z, focal, Ks[:, None, :2, 2], (width, height))
    axes = jacobian @ rotations @ (_rotation_matrices(gaussians.quaternions) * gaussians.scales[:, None, :])
    covariances = axes @ axes.transpose(-1, -2)
    xx, xy, yy = covariances[..., 0, 0] + BLUR, covariances[..., 0, 1], covariances[..., 1, 1] + BLUR
    determinant = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], dim=-1) / determinant.clamp(min=1e-10)[..., None]
    with torch.no_grad():
        seen = in_range & (determinant > 0) & (gaussians.opacities >= ALPHA_THRESHOLD)
        spread = torch.sqrt(torch.stack([xx, yy], dim=-1))
        radii = _radii(means2d, spread, gaussians.opacities, seen, (width, height))
    return ProjectedGaussians(means2d=means2d, conics=conics, depths=depths, radii=radii)


def _jacobian(
    plane: torch.Tensor,  # (C, N, 2)
    z: torch.Tensor,  # (C, N)
    focal: torch.Tensor,  # (C, 1, 2)
    principal: torch.Tensor,  # (C, 1, 2)
    size: tuple[int, int],
) -> torch.Tensor:
    """(C, N, 2, 3) of the perspective, taken no farther outside the picture than FIELD_MARGIN allows."""
    import torch

    extent = plane.new_tensor(size)
    margin = FIELD_MARGIN * 0.5 * extent / focal
    lowest, highest = -principal / focal - margin, (extent - principal) / focal + margin
    limited = torch.maximum(torch.minimum(plane, highest), lowest)
    scale = focal / z[..., None]
    zero = torch.zeros_like(z)
    rows = [
        scale[..., 0],
        zero,
        -scale[..., 0] * limited[..., 0],
        zero,
        scale[..., 1],
        -scale[..., 1] * limited[..., 1],
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (2, 3))


def _rotation_matrices(quaternions: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3) from (N, 4) wxyz of any length; `camera_conventions` has the same in NumPy, without gradients."""
    import torch

    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _radii(
    means2d: torch.Tensor, spread: torch.Tensor, opacities: torch.Tensor, seen: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """(C, N, 2) int32: the box outside which alpha is below the threshold; 0 for what no picture holds."""
    import torch

    reach = torch.sqrt(2 * torch.log((opacities / ALPHA_THRESHOLD).clamp(min=1))).clamp(max=LARGEST_EXTENT)
    radii = torch.ceil(reach[:, None] * spread)
    inside = ((means2d + radii > 0) & (means2d - radii < means2d.new_tensor(size))).all(dim=-1)
    return torch.where((seen & inside)[..., None], radii, torch.zeros_like(radii)).to(torch.int32)
