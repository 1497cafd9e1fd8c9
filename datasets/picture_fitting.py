"""Pictures, depth and intrinsics brought to one size: the largest centre crop of the right shape, then resized.

The rules are those of Lyra's ImageTransform (torchvision's CenterCrop and Resize), picture for picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Fitting:
    """How pictures of one size become pictures of another.

    Attributes:
        source, target: (height, width) before and after, pixels.
        crop: (height, width) of the crop.
        corner: first row and column of the crop.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    crop: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def largest_centre_crop(cls, source: tuple[int, int], target: tuple[int, int]) -> Fitting:
        """The largest centred crop of `source` that has the shape of `target`."""
        ratio = min(source[0] / target[0], source[1] / target[1])
        crop = (int(target[0] * ratio), int(target[1] * ratio))
        # CenterCrop's own rounding: halves go to the even number.
        corner = (round((source[0] - crop[0]) / 2), round((source[1] - crop[1]) / 2))
        return cls(source, target, crop, corner)

    def pictures(self, rgb: NDArray[np.uint8], out: torch.Tensor | None = None) -> torch.Tensor:
        """(T, 3, H, W) uint8 sRGB to (T, 3, h, w) float32 from 0 to 1, bilinear with antialiasing.

        Resizing is done in 8 bits, as Pillow does it: within one level of 255 of what float32 gives, in a fifth of the
        time. `out` takes them where it is given.
        """
        import torch
        from torch.nn.functional import interpolate

        fitted = torch.empty((len(rgb), 3, *self.target)) if out is None else out
        # One picture at a time: a clip of 121 frames as float32 would take 1.3 GB at 704 × 1280.
        for place, picture in zip(fitted, torch.from_numpy(rgb), strict=True):
            channels = self._cropped(picture)
            if self.crop != self.target:
                channels = interpolate(channels[None], self.target, mode="bilinear", antialias=True)[0]
            # Copying converts far faster than a division that does.
            place.copy_(channels).div_(255.0)
        return fitted

    def depth(self, depth: NDArray[np.float32]) -> torch.Tensor:
        """(T, H, W) float32 to (T, 1, h, w), nearest; what is invalid (0) stays so."""
        import torch
        from torch.nn.functional import interpolate

        chosen = self._cropped(torch.from_numpy(depth)[:, None])
        if self.crop != self.target:
            chosen = interpolate(chosen, self.target, mode="nearest")
        return chosen.contiguous()

    def intrinsics(self, intrinsics: NDArray[np.floating]) -> NDArray[np.float32]:
        """(…, 4) [fx, fy, cx, cy] in pixels of the source to pixels of the target.

        The shift is half of what the crop takes off, also where that is half a pixel and the crop has to round.
        """
        scale = np.array([self.target[1] / self.crop[1], self.target[0] / self.crop[0]])
        shift = np.array([(self.crop[1] - self.source[1]) / 2, (self.crop[0] - self.source[0]) / 2])
        focal, centre = np.asarray(intrinsics[..., :2], np.float64), np.asarray(intrinsics[..., 2:], np.float64)
        return np.concatenate([focal * scale, (centre + shift) * scale], axis=-1).astype(np.float32)

    def _cropped(self, values: torch.Tensor) -> torch.Tensor:
        (top, left), (height, width) = self.corner, self.crop
        return values[..., top : top + height, left : left + width]
