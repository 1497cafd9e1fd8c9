"""Lyra's forward warp with its real signature: nearest splatting in place of bilinear, pixel centres at whole
numbers."""

from __future__ import annotations

import torch


def forward_warp(
    frame1: torch.Tensor,
    mask1: torch.Tensor | None,
    depth1: torch.Tensor | None,
    transformation1: torch.Tensor | None,
    transformation2: torch.Tensor,
    intrinsic1: torch.Tensor | None,
    intrinsic2: torch.Tensor | None,
    is_image: bool = True,
    conditioned_normal1: torch.Tensor | None = None,
    cameraray_filtering: bool = False,
    is_depth: bool = True,
    render_depth: bool = False,
    world_points1: torch.Tensor | None = None,
    foreground_masking: bool = False,
    boundary_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, None]:
    assert mask1 is not None
    assert world_points1 is not None
    assert intrinsic2 is not None
    assert depth1 is None
    assert not render_depth
    inputs = zip(frame1, mask1, world_points1, transformation2, intrinsic2, strict=True)
    images, masks = zip(*(_warp(*each) for each in inputs), strict=True)
    return torch.stack(images), torch.stack(masks), None, None


def _warp(
    image: torch.Tensor, known: torch.Tensor, points: torch.Tensor, w2c: torch.Tensor, matrix: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    _, height, width = image.shape
    seen = known[0] > 0
    homogeneous = torch.cat([points[seen], torch.ones(int(seen.sum()), 1)], dim=1)
    projected = (homogeneous @ w2c.T)[:, :3] @ matrix.T
    depth = projected[:, 2]
    column = torch.round(projected[:, 0] / depth).long()
    row = torch.round(projected[:, 1] / depth).long()
    inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    # Far ones first, so that near ones lie over them: NumPy keeps the last of those that are assigned to one place.
    order = torch.argsort(depth[inside], descending=True, stable=True)
    rows, columns = row[inside][order].numpy(), column[inside][order].numpy()
    warped, mask = torch.full_like(image, -1), torch.zeros(1, height, width)
    warped.numpy()[:, rows, columns] = image[:, seen][:, inside][:, order].numpy()
    mask.numpy()[:, rows, columns] = 1
    return warped, mask
