"""VGGT's camera encoding: translation (3), quaternion x, y, z, w (4), vertical and horizontal field of view (2)."""

from __future__ import annotations

import torch


def pose_encoding_to_extri_intri(
    pose_encoding: torch.Tensor,
    image_size_hw: tuple[int, int] | None = None,
    pose_encoding_type: str = "absT_quaR_FoV",
    build_intrinsics: bool = True,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(B, S, 9) to (B, S, 3, 4) world-to-camera matrices and (B, S, 3, 3) calibration matrices in pixels."""
    assert pose_encoding_type == "absT_quaR_FoV"
    assert build_intrinsics
    assert image_size_hw is not None
    translation, quaternion = pose_encoding[..., :3], pose_encoding[..., 3:7]
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    rotation = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    height, width = image_size_hw
    intrinsics = torch.zeros(*pose_encoding.shape[:2], 3, 3)
    intrinsics[..., 0, 0] = width / 2 / torch.tan(pose_encoding[..., 8] / 2)
    intrinsics[..., 1, 1] = height / 2 / torch.tan(pose_encoding[..., 7] / 2)
    intrinsics[..., 0, 2], intrinsics[..., 1, 2], intrinsics[..., 2, 2] = width / 2, height / 2, 1
    return torch.cat([rotation, translation[..., None]], dim=-1), intrinsics
