"""Lyra's caches with their real signatures: nearest splatting in place of bilinear, pixel centres at whole numbers."""

from __future__ import annotations

from typing import Any

import torch


class Cache3D_Base:
    def __init__(
        self,
        input_image: torch.Tensor,
        input_depth: torch.Tensor,
        input_w2c: torch.Tensor,
        input_intrinsics: torch.Tensor,
        input_mask: torch.Tensor | None = None,
        input_format: list[str] | None = None,
        input_points: torch.Tensor | None = None,
        weight_dtype: torch.dtype = torch.float32,
        is_depth: bool = True,
        device: str = "cuda",
        filter_points_threshold: float = 1.0,
        foreground_masking: bool = False,
    ) -> None:
        count, _, height, width = input_image.shape
        assert input_image.dtype == torch.float32
        assert input_image.min() >= -1
        assert input_image.max() <= 1
        assert input_depth.shape == (count, 1, height, width)
        assert input_w2c.shape == (count, 4, 4)
        assert input_intrinsics.shape == (count, 3, 3)
        assert input_points is None
        assert is_depth
        assert filter_points_threshold <= 1
        depth = torch.clamp(torch.nan_to_num(input_depth, nan=100), min=0, max=100)[:, 0]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).float()
        rays = torch.einsum("nij,hwj->nhwi", torch.linalg.inv(input_intrinsics), pixels)
        points = torch.cat([rays * depth[..., None], torch.ones(count, height, width, 1)], dim=-1)
        self.points = torch.einsum("nij,nhwj->nhwi", torch.linalg.inv(input_w2c), points)
        self.known = depth > 0
        self.images = input_image.to(weight_dtype)

    def render_cache(
        self,
        target_w2cs: torch.Tensor,
        target_intrinsics: torch.Tensor,
        render_depth: bool = False,
        start_frame_idx: int = 0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert target_w2cs.shape[0] == 1
        assert not render_depth
        assert start_frame_idx == 0
        seen = [
            self._warp(0 if len(self.images) == 1 else index, w2c, matrix)
            for index, (w2c, matrix) in enumerate(zip(target_w2cs[0], target_intrinsics[0], strict=True))
        ]
        images, masks = (torch.stack(each)[None, :, None] for each in zip(*seen, strict=True))
        return images, masks

    def _warp(self, source: int, w2c: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.images[source]
        _, height, width = image.shape
        points = self.points[source][self.known[source]] @ w2c.T
        colours = image[:, self.known[source]]
        projected = points[:, :3] @ matrix.T
        depth = projected[:, 2]
        column = torch.round(projected[:, 0] / depth).long()
        row = torch.round(projected[:, 1] / depth).long()
        inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        # Far ones first, so that near ones lie over them: NumPy keeps the last of those that are assigned to one place.
        order = torch.argsort(depth[inside], descending=True, stable=True)
        rows, columns = row[inside][order].numpy(), column[inside][order].numpy()
        warped, mask = torch.full_like(image, -1), torch.zeros(1, height, width)
        warped.numpy()[:, rows, columns] = colours[:, inside][:, order].numpy()
        mask.numpy()[:, rows, columns] = 1
        return warped, mask


class Cache3D_Buffer(Cache3D_Base):
    def __init__(
        self,
        frame_buffer_max: int = 0,
        noise_aug_strength: float = 0,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> None:
        assert kwargs.get("input_format") is None
        assert len(kwargs["input_image"]) == 1
        assert generator is not None
        super().__init__(**kwargs)


class Cache4D(Cache3D_Base):
    def __init__(self, **kwargs: Any) -> None:
        assert kwargs["input_format"] == ["F", "C", "H", "W"]
        assert kwargs["input_mask"].shape == kwargs["input_depth"].shape
        super().__init__(**kwargs)
