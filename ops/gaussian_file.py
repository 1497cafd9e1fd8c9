"""3D Gaussians as the bytes of an npz file and back, exactly; the PLY of viewers rounds scales and opacities."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np

from ..datasets.errors import ContractError, CorruptFileError
from ..datasets.zip_files import encode_npz
from .gaussian_scene import Gaussians

_REMEDY = "The file was changed or cut short after it was written: make the scene's scaffold again."


def to_bytes(gaussians: Gaussians) -> bytes:
    """Float32 arrays means, quaternions, scales, opacities and colours; the same Gaussians give the same bytes.

    Raises:
        ContractError: a value is not finite.
    """
    arrays = {
        name: np.asarray(getattr(gaussians, name).detach().cpu().numpy(), np.float32) for name in Gaussians.__slots__
    }
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ContractError("a value is not finite", where=f"Gaussians, {name}", remedy="Leave such Gaussians out.")
    return encode_npz(arrays)


def from_bytes(content: bytes, *, where: str = "Gaussians") -> Gaussians:
    """The Gaussians that `to_bytes` wrote, as float32 tensors on the CPU.

    Raises:
        CorruptFileError: the bytes are not such a file, or an array is missing or of another shape.
    """
    import torch

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = [np.asarray(archive[name], np.float32) for name in Gaussians.__slots__]
        return Gaussians(*(torch.from_numpy(values) for values in arrays))
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, OSError, ContractError) as error:
        raise CorruptFileError(f"not a file of Gaussians ({error})", where=where, remedy=_REMEDY) from error
