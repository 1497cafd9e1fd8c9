"""The plain twin of `gaussian_rasteriser`: every Gaussian at every pixel, in PyTorch, with autograd's own gradients.

Written from the definitions and used only by tests: time and memory grow with Gaussians times pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .gaussian_scene import Gaussians

NEAR_PLANE, BLUR, MAXIMUM_ALPHA, ALPHA_THRESHOLD, TRANSMITTANCE_STOP = 0.01, 0.3, 0.999, 1 / 255, 1e-4


@dataclass(frozen=True, slots=True)
class ReferenceRendering:
    """One picture in the Gaussians' own precision.

    Attributes:
        rgb: (H, W, 3) on black.
        depth: (H, W) accumulated z-depth of the centres.
        alpha: (H, W).
        decisive: (H, W) bool, False where an alpha lies within 1e-4 of its threshold, or a transmittance within 1 % of
            its stop, relatively: rounding may decide there.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    alpha: torch.Tensor
    decisive: torch.Tensor


def render(
    gaussians: Gaussians,
    viewmat: torch.Tensor,  # (4, 4)
    K: torch.Tensor,  # (3, 3)
    width: int,
    height: int,
) -> ReferenceRendering:
    """Render one camera's picture; shapes and conventions are `gaussian_rasteriser.rasterise`'s."""
    in_camera = gaussians.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    order = torch.argsort(in_camera[:, 2], stable=True)
    order = order[in_camera[order, 2] > NEAR_PLANE]
    centres = in_camera[order]
    covariances = [_covariance(gaussians, int(index)) for index in order]
    world = torch.stack(covariances) if covariances else centres.new_zeros(0, 3, 3)
    linear = _perspective_derivative(centres, K, width, height) @ viewmat[:3, :3]
    flat = linear @ world @ linear.mT + BLUR * torch.eye(2, dtype=centres.dtype)
    homogeneous = centres @ K.T
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).to(centres.dtype)
    away = pixels[:, :, None] - homogeneous[:, :2] / homogeneous[:, 2:]
    distance = torch.einsum("hwni,nij,hwnj->hwn", away, torch.linalg.inv(flat), away)
    alpha = torch.clamp(gaussians.opacities[order] * torch.exp(-distance / 2), max=MAXIMUM_ALPHA)
    covers = alpha >= ALPHA_THRESHOLD
    alpha_or_nothing = torch.where(covers, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha_or_nothing, dim=-1)
    reached = after > TRANSMITTANCE_STOP
    alpha_used = torch.where(reached, alpha_or_nothing, torch.zeros_like(alpha))
    before = torch.cat([torch.ones_like(after[..., :1]), torch.cumprod(1 - alpha_used, dim=-1)[..., :-1]], dim=-1)
    weights = alpha_used * before
    doubtful = ((alpha / ALPHA_THRESHOLD - 1).abs() < 1e-4) | ((after / TRANSMITTANCE_STOP - 1).abs() < 1e-2)
    return ReferenceRendering(
        rgb=weights @ gaussians.colours[order],
        depth=weights @ centres[:, 2],
        alpha=weights.sum(dim=-1),
        decisive=~doubtful.any(dim=-1),
    )


def _covariance(gaussians: Gaussians, index: int) -> torch.Tensor:
    """R · diag(s²) · Rᵀ of one Gaussian; R's columns are the axes turned by q · axis · q*."""
    w, *imaginary = gaussians.quaternions[index] / gaussians.quaternions[index].norm()
    vector = torch.stack(imaginary)
    turned = []
    for axis in torch.eye(3, dtype=vector.dtype):
        across = 2 * torch.linalg.cross(vector, axis)
        turned.append(axis + w * across + torch.linalg.cross(vector, across))
    rotation = torch.stack(turned, dim=1)
    return rotation @ torch.diag(gaussians.scales[index] ** 2) @ rotation.T


def _perspective_derivative(centres: torch.Tensor, K: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """(N, 2, 3) of (fx·x/z, fy·y/z), with x/z and y/z held within 1.15 times the picture (0.3 of its half a side)."""
    z = centres[:, 2]
    rows = []
    for axis, extent in ((0, width), (1, height)):
        focal, principal = K[axis, axis], K[axis, 2]
        margin = 0.3 * extent / (2 * focal)
        slope = torch.clamp(centres[:, axis] / z, -principal / focal - margin, (extent - principal) / focal + margin)
        row = torch.zeros_like(centres)
        row[:, axis] = focal / z
        row[:, 2] = -focal * slope / z
        rows.append(row)
    return torch.stack(rows, dim=1)
