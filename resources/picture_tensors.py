"""Pictures as the tensors that a vision model takes, prepared as its own image processor prepares them.

The processors of some models (Depth Pro, SAM 2, SAM 3) exist in transformers for torchvision alone. What they do is
done here with torch itself, by the numbers in the model's preprocessor_config.json.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, EngineError
from .model_files import read_json

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
_BILINEAR = 2
"""Of Pillow's resampling filters, the number that processor files hold."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a picture becomes a tensor.

    Attributes:
        height, width: of the tensor; the picture is stretched to it, whatever its aspect.
        mean, std: of each channel, subtracted and divided by after values were brought to 0..1.
        resize_first: resize the 8-bit picture with antialiasing, then normalise; else normalise, then resize without.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_first: bool = True


def read_preparation(folder: Path, usual: Preparation) -> Preparation:
    """The preparation that a model's folder asks for.

    Args:
        folder: of the model; preprocessor_config.json, or the image_processor of processor_config.json, decides.
        usual: of models of this kind, for what neither file says.

    Raises:
        EngineError: a file cannot be read, or asks for what the model's kind does not do.
    """
    file, config = _image_processor(folder)
    if config.get("resample", _BILINEAR) != _BILINEAR:
        raise EngineError(
            f"it asks for the resampling filter {config['resample']}, this kind of model takes {_BILINEAR} (bilinear)",
            where=str(file),
            remedy="Take the file of the model that these weights were made from.",
        )
    size = config.get("size") or {}
    try:
        return dataclasses.replace(
            usual,
            height=int(size.get("height", usual.height)),
            width=int(size.get("width", usual.width)),
            mean=_three(config.get("image_mean", usual.mean)),
            std=_three(config.get("image_std", usual.std)),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            f"its size, image_mean or image_std cannot be used ({error})",
            where=str(file),
            remedy="Take the file of the model that these weights were made from.",
        ) from error


def _image_processor(folder: Path) -> tuple[Path, dict[str, Any]]:
    if (folder / PREPROCESSOR).exists():
        return folder / PREPROCESSOR, read_json(folder / PREPROCESSOR)
    if (folder / PROCESSOR).exists():
        return folder / PROCESSOR, read_json(folder / PROCESSOR).get("image_processor", {})
    return folder, {}


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def picture_tensor(picture: NDArray[np.uint8], preparation: Preparation, *, device: str, dtype: Any) -> Any:
    """(1, 3, height, width) tensor of a picture.

    Args:
        picture: (H, W, 3) uint8 sRGB.
        preparation: what is done to it.
        device: cpu, cuda or cuda:N.
        dtype: of the tensor, torch's.

    Raises:
        ContractError: a picture of another shape or dtype.
    """
    import torch

    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ContractError(
            f"a picture of shape {picture.shape} and dtype {picture.dtype}",
            where="picture",
            remedy="Give (H, W, 3) uint8 RGB.",
        )
    values = torch.tensor(picture, device=device).permute(2, 0, 1)[None].float()
    mean, std = (
        torch.tensor(numbers, device=device).view(1, 3, 1, 1) for numbers in (preparation.mean, preparation.std)
    )
    size = (preparation.height, preparation.width)
    if preparation.resize_first:
        # To 8 bits between the two, as the processors do.
        resized = _resized(values, size, antialias=True).round().clamp(0, 255)
        prepared = (resized / 255 - mean) / std
    else:
        prepared = _resized((values / 255 - mean) / std, size, antialias=False)
    return prepared.to(dtype)


def _resized(values: Any, size: tuple[int, int], *, antialias: bool) -> Any:
    import torch

    return torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False, antialias=antialias)
