"""The model with its parts, which answer with the toy scene in VGGT's own conventions.

Faults are chosen by the mean level of the first frame, so that the questions of one launch can fail each in a way of
its own.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import torch

from .. import scene

FAULTS = {
    201: "out of memory",
    202: "nan depth",
    203: "a frame less",
    204: "hang",
    205: "crash",
    206: "no field of view",
    207: "no rotation",
    208: "low confidence",
    209: "negative depth",
    210: "narrow tokens",
}
PATCH_START = 5


class LocalEntryNotFoundError(FileNotFoundError):
    """Named as the hub's own error for files that are not in its cache."""


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


def fault_of(images: torch.Tensor) -> str:
    return FAULTS.get(round(255 * images[0, 0].mean().item()), "")


class Aggregator(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], int]:
        batch, count, channels, height, width = images.shape
        assert (batch, channels) == (1, 3)
        assert height % 14 == 0
        assert width % 14 == 0
        assert images.min() >= 0
        assert images.max() <= 1
        fault = fault_of(images)
        if fault == "out of memory":
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGABRT)
        while fault == "hang":
            time.sleep(3600)
        wide = 1024 if fault == "narrow tokens" else 2048
        patches = torch.nn.functional.avg_pool2d(images[0].mean(dim=1, keepdim=True), 14).flatten(1)
        tokens = torch.cat([torch.zeros(count, PATCH_START), patches], dim=1)[None, :, :, None]
        return [tokens.new_zeros(()), tokens.expand(-1, -1, -1, wide)], PATCH_START


class CameraHead(torch.nn.Module):
    def __init__(self, model: VGGT) -> None:
        super().__init__()
        self._seen = model.seen

    def forward(self, aggregated_tokens_list: list[torch.Tensor]) -> list[torch.Tensor]:
        count = aggregated_tokens_list[-1].shape[1]
        size, fault = self._seen["size"], self._seen["fault"]
        w2c = np.linalg.inv(scene.poses(count))
        encoding = np.zeros((1, count, 9))
        encoding[0, :, :3] = w2c[:, :3, 3]
        # A turn about the y axis by angle a is the quaternion (0, sin a/2, 0, cos a/2), scalar last.
        half = np.arctan2(w2c[:, 0, 2], w2c[:, 0, 0]) / 2
        encoding[0, :, 4], encoding[0, :, 6] = np.sin(half), np.cos(half)
        encoding[0, :, 7] = scene.VERTICAL_VIEW
        encoding[0, :, 8] = 2 * np.arctan(size[1] / size[0] * np.tan(scene.VERTICAL_VIEW / 2))
        if fault == "no field of view":
            encoding[0, :, 7:] = 0
        if fault == "no rotation":
            encoding[0, :, :3] = np.nan
        return [torch.zeros(1, count, 9), torch.from_numpy(encoding).float()]


class DPTHead(torch.nn.Module):
    def __init__(self, model: VGGT, *, points: bool) -> None:
        super().__init__()
        self._seen, self._points = model.seen, points

    def forward(
        self,
        aggregated_tokens_list: list[torch.Tensor],
        images: torch.Tensor,
        patch_start_idx: int,
        frames_chunk_size: int = 8,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert patch_start_idx == PATCH_START
        assert frames_chunk_size >= 1
        _, count, _, height, width = images.shape
        fault = self._seen["fault"]
        c2w = scene.poses(count)
        depth = np.stack([scene.depth(pose, height, width) for pose in c2w])
        if fault == "nan depth":
            depth[0, 0] = np.nan
        if fault == "negative depth":
            depth[-1, 0] = -1
        if fault == "a frame less":
            depth = depth[:-1]
        confidence = np.full(depth.shape, 3.0)
        confidence[:, : height // 2] = 1e6 if fault != "low confidence" else 0.5
        values = depth[..., None]
        if self._points:
            focal, _, middle_x, middle_y = scene.intrinsics(height, width)
            columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
            rays = np.stack([(columns - middle_x) / focal, (rows - middle_y) / focal, np.ones_like(rows)], axis=-1)
            values = np.stack(
                [
                    plane[..., None] * rays @ pose[:3, :3].T + pose[:3, 3]
                    for plane, pose in zip(depth, c2w, strict=False)
                ]
            )
        return torch.from_numpy(values)[None].float(), torch.from_numpy(confidence)[None].float()


class VGGT(torch.nn.Module):
    def __init__(self, img_size: int = 518, patch_size: int = 14, embed_dim: int = 1024) -> None:
        super().__init__()
        self.seen: dict[str, Any] = {}
        self._aggregator = Aggregator()
        self.camera_head = CameraHead(self)
        self.depth_head = DPTHead(self, points=False)
        self.point_head = DPTHead(self, points=True)

    def aggregator(self, images: torch.Tensor) -> tuple[list[torch.Tensor], int]:
        self.seen |= {"size": images.shape[-2:], "fault": fault_of(images)}
        return self._aggregator(images)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *, revision: str | None = None) -> VGGT:
        print(f"loading {pretrained_model_name_or_path} at {revision}", flush=True)
        if pretrained_model_name_or_path.startswith("missing/"):
            raise LocalEntryNotFoundError(f"Cannot find {pretrained_model_name_or_path} in the local cache.")
        return cls()
