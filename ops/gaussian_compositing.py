"""Projected Gaussians composited into pictures: sorted into tiles in PyTorch, composited by Warp kernels on the CPU."""

from __future__ import annotations

from typing import Any

import torch

from .gaussian_projection import ProjectedGaussians
from .warp_runtime import load_kernels, load_warp

TILE = 8
"""Side of a tile in pixels. The picture does not depend on it; smaller tiles have shorter lists but more of them."""


def composite(
    projected: ProjectedGaussians,
    opacities: torch.Tensor,  # (N,)
    features: torch.Tensor,  # (C, N, 4)
    width: int,
    height: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of four features over each pixel's Gaussians, weighted by alpha and transmittance, nearest first.

    Args:
        projected: N Gaussians in C pictures.
        opacities: (N,) 0..1.
        features: (C, N, 4) what is summed.
        width: of the pictures, pixels.
        height: of the pictures, pixels.

    Returns:
        (C, H, W, 4) sums and (C, H, W) transmittance behind the last Gaussian, both float32, differentiable in
        means2d, conics, opacities and features.
    """
    cameras, count = projected.depths.shape
    tile_starts, members = sort_into_tiles(projected, width, height)
    image, transmittance = _Composite.apply(
        projected.means2d.reshape(-1, 2),
        projected.conics.reshape(-1, 3),
        opacities.expand(cameras, count).reshape(-1),
        features.reshape(-1, 4),
        tile_starts,
        members,
        (cameras, height, width),
    )
    return image.reshape(cameras, height, width, 4), transmittance.reshape(cameras, height, width)


@torch.no_grad()
def sort_into_tiles(projected: ProjectedGaussians, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For each tile of each camera, the Gaussians whose box reaches it, nearest first.

    Gaussians of equal depth keep their order.

    Returns:
        (tiles + 1,) int32 where each tile's part of the list starts, and (pairs,) int32 indices camera · N + Gaussian.
    """
    across, down = -(-width // TILE), -(-height // TILE)
    cameras, count = projected.depths.shape
    radii = projected.radii.reshape(-1, 2)
    seen = torch.nonzero(radii[:, 0] > 0)[:, 0]
    seen = seen[torch.sort(projected.depths.reshape(-1)[seen], stable=True).indices]
    means2d, reach = projected.means2d.reshape(-1, 2)[seen], radii[seen]
    most = torch.tensor([across, down])
    first = torch.floor((means2d - reach) / TILE).long().clamp(min=0).minimum(most)
    last = torch.ceil((means2d + reach) / TILE).long().clamp(min=0).minimum(most)
    spans = last - first
    tiles = spans.prod(dim=-1)
    owner = torch.repeat_interleave(torch.arange(len(seen)), tiles)
    place = torch.arange(len(owner)) - (torch.cumsum(tiles, 0) - tiles)[owner]
    column = first[owner, 0] + place % spans[owner, 0]
    row = first[owner, 1] + torch.div(place, spans[owner, 0], rounding_mode="floor")
    members = seen[owner]
    tile = (torch.div(members, max(count, 1), rounding_mode="floor") * down + row) * across + column
    tile, order = torch.sort(tile, stable=True)
    starts = torch.searchsorted(tile, torch.arange(cameras * across * down + 1))
    return starts.int(), members[order].int()


class _Composite(torch.autograd.Function):
    """The Warp kernels as one differentiable function of flat float32 arrays."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        means2d: torch.Tensor,
        conics: torch.Tensor,
        opacities: torch.Tensor,
        features: torch.Tensor,
        tile_starts: torch.Tensor,
        members: torch.Tensor,
        shape: tuple[int, int, int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = shape[0] * shape[1] * shape[2]
        inputs = (tile_starts, members, *(each.contiguous() for each in (means2d, conics, opacities, features)))
        image, transmittance = torch.empty(pixels, 4), torch.empty(pixels)
        ends = torch.empty(pixels, dtype=torch.int32)
        _launch("composite", shape, (*inputs, image, transmittance, ends))
        ctx.save_for_backward(*inputs, transmittance, ends)
        ctx.shape = shape
        return image, transmittance

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        saved = ctx.saved_tensors
        results = [torch.zeros_like(each) for each in saved[2:6]]
        _launch("composite_gradient", ctx.shape, (*saved, *(each.contiguous() for each in gradients), *results))
        return (*results, None, None, None)


def _launch(name: str, shape: tuple[int, int, int], tensors: tuple[torch.Tensor, ...]) -> None:
    wp = load_warp("cpu")
    from . import gaussian_kernels

    kernels = load_kernels(gaussian_kernels, "cpu")
    grid = kernels.Grid()
    grid.height, grid.width, grid.tile = shape[1], shape[2], TILE
    grid.tiles_across, grid.tiles_down = -(-shape[2] // TILE), -(-shape[1] // TILE)
    vectors = {2: wp.vec2, 3: wp.vec3, 4: wp.vec4}
    arrays = []
    for tensor in tensors:
        scalar = wp.int32 if tensor.dtype == torch.int32 else wp.float32
        dtype = vectors[tensor.shape[1]] if tensor.ndim == 2 else scalar
        arrays.append(wp.from_torch(tensor.detach(), dtype=dtype, requires_grad=False))
    wp.launch(getattr(kernels, name), dim=shape[0] * shape[1] * shape[2], inputs=[grid, *arrays], device="cpu")
