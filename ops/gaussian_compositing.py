"""Projected Gaussians composited into pictures: sorted in PyTorch, composited by Warp kernels on the CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .gaussian_projection import ProjectedGaussians
from .warp_runtime import load_kernels, load_warp


def composite(
    projected: ProjectedGaussians,
    opacities: torch.Tensor,  # (N,)
    features: torch.Tensor,  # (C, N, 4)
    width: int,
    height: int,
    *,
    settled: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of four features over each pixel's Gaussians, weighted by alpha and transmittance, nearest first.

    Args:
        projected: N Gaussians in C pictures.
        opacities: (N,) 0..1.
        features: (C, N, 4) what is summed.
        width: of the pictures, pixels.
        height: of the pictures, pixels.
        settled: how many of the Gaussians, the first, need no gradient; theirs is 0.

    Returns:
        (C, H, W, 4) sums and (C, H, W) transmittance behind the last Gaussian, both float32, differentiable in
        means2d, conics, opacities and features.
    """
    cameras, count = projected.depths.shape
    starts, members = nearest_first(projected)
    image, transmittance = _Composite.apply(
        projected.means2d.reshape(-1, 2),
        projected.conics.reshape(-1, 3),
        opacities.expand(cameras, count).reshape(-1),
        features.reshape(-1, 4),
        projected.radii.reshape(-1, 2),
        starts,
        members,
        _Pictures(cameras, height, width, count, settled),
    )
    return image.reshape(cameras, height, width, 4), transmittance.reshape(cameras, height, width)


@torch.no_grad()
def nearest_first(projected: ProjectedGaussians) -> tuple[torch.Tensor, torch.Tensor]:
    """The Gaussians that each camera sees, nearest first; those of equal depth keep their order.

    Returns:
        (C + 1,) int32 where each camera's part of the list starts, and (M,) int32 indices camera · N + Gaussian.
    """
    cameras, count = projected.depths.shape
    parts, starts = [], [0]
    for camera in range(cameras):
        seen = torch.nonzero(projected.radii[camera, :, 0] > 0)[:, 0]
        order = torch.sort(projected.depths[camera, seen], stable=True).indices
        parts.append(seen[order] + camera * count)
        starts.append(starts[-1] + len(seen))
    return torch.tensor(starts, dtype=torch.int32), torch.cat(parts).int()


class _Pictures(NamedTuple):
    """What the kernels are told of the pictures."""

    cameras: int
    height: int
    width: int
    gaussians: int
    settled: int


class _Composite(torch.autograd.Function):
    """The Warp kernels as one differentiable function of flat arrays."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        means2d: torch.Tensor,
        conics: torch.Tensor,
        opacities: torch.Tensor,
        features: torch.Tensor,
        radii: torch.Tensor,
        starts: torch.Tensor,
        members: torch.Tensor,
        shape: _Pictures,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = shape.cameras * shape.height * shape.width
        inputs = (starts, members, *(each.contiguous() for each in (means2d, conics, radii, opacities, features)))
        image, transmittance = torch.zeros(pixels, 4), torch.ones(pixels)
        ends = torch.zeros(pixels, dtype=torch.int32)
        _launch("composite", shape, (*inputs, image, transmittance, ends))
        transmittance.abs_()
        ctx.save_for_backward(*inputs, transmittance, ends)
        ctx.shape = shape
        return image, transmittance

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        *inputs, transmittance, ends = ctx.saved_tensors
        _, _, means2d, conics, _, opacities, features = inputs
        results = [torch.zeros_like(each) for each in (means2d, conics, opacities, features)]
        state = (transmittance.clone(), torch.zeros(len(transmittance), 4))
        given = (each.contiguous() for each in gradients)
        _launch("composite_gradient", ctx.shape, (*inputs, transmittance, ends, *given, *state, *results))
        return (*results, None, None, None, None)


def _launch(name: str, shape: _Pictures, tensors: tuple[torch.Tensor, ...]) -> None:
    wp = load_warp("cpu")
    from . import gaussian_kernels

    kernels = load_kernels(gaussian_kernels, "cpu")
    pictures = kernels.Pictures()
    _, pictures.height, pictures.width, pictures.count, pictures.settled = shape
    vectors = {(torch.int32, 2): wp.vec2i, (torch.float32, 2): wp.vec2, (torch.float32, 3): wp.vec3}
    vectors[torch.float32, 4] = wp.vec4
    arrays = []
    for tensor in tensors:
        scalar = wp.int32 if tensor.dtype == torch.int32 else wp.float32
        dtype = vectors[tensor.dtype, tensor.shape[1]] if tensor.ndim == 2 else scalar
        arrays.append(wp.from_torch(tensor.detach(), dtype=dtype, requires_grad=False))
    wp.launch(getattr(kernels, name), dim=shape.cameras, inputs=[pictures, *arrays], device="cpu")
