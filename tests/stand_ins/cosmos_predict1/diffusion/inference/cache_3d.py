"""Lyra's caches with their real signatures; pixel centres are at whole numbers, and two frames are warped at once."""

from __future__ import annotations

from typing import Any

import torch

from cosmos_predict1.diffusion.inference.forward_warp_utils_pytorch import forward_warp


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
        self.points = torch.einsum("nij,nhwj->nhwi", torch.linalg.inv(input_w2c), points)[..., :3]
        self.known = (depth > 0).float()[:, None]
        self.images = input_image.to(weight_dtype)
        self.foreground_masking = foreground_masking

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
        count = target_w2cs.shape[1]
        images, points, known = (each.expand(count, *each.shape[1:]) for each in (self.images, self.points, self.known))
        warped = [
            forward_warp(
                images[first : first + 2],
                mask1=known[first : first + 2],
                depth1=None,
                transformation1=None,
                transformation2=target_w2cs[0, first : first + 2],
                intrinsic1=target_intrinsics[0, first : first + 2],
                intrinsic2=target_intrinsics[0, first : first + 2],
                render_depth=render_depth,
                world_points1=points[first : first + 2],
                foreground_masking=self.foreground_masking,
            )
            for first in range(0, count, 2)
        ]
        pictures = torch.cat([each[0] for each in warped])[None, :, None]
        return pictures, torch.cat([each[1] for each in warped])[None, :, None]


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
