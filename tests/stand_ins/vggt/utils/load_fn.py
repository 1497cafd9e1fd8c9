"""How VGGT prepares pictures: 518 pixels wide, a height of whole patches, higher ones cut at top and bottom."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def load_and_preprocess_images(image_path_list: list[str], mode: str = "crop") -> torch.Tensor:
    """(S, 3, h, 518) float32 of 0 to 1."""
    assert mode == "crop"
    prepared = []
    for path in image_path_list:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        height = round(picture.height * (518 / picture.width) / 14) * 14
        resized = picture.resize((518, height), Image.Resampling.BICUBIC)
        levels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        top = max(0, (height - 518) // 2)
        prepared.append(levels[:, top : top + 518] if height > 518 else levels)
    return torch.stack(prepared)
