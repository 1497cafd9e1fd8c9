"""A set of 3D Gaussians, and the PLY file that the viewers of 3D Gaussian Splatting open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, CorruptFileError

if TYPE_CHECKING:
    import torch

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2·√π): a colour is 0.5 + SH_C0 · f_dc."""

_SHAPES = {"means": (3,), "quaternions": (4,), "scales": (3,), "opacities": (), "colours": (3,)}
_HIGHER_HARMONICS = 45
_OPACITY_MARGIN = 1e-6
_PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *(f"f_rest_{index}" for index in range(_HIGHER_HARMONICS)),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_READ = tuple(name for name in _PROPERTIES if not name.startswith(("n", "f_rest_")))


@dataclass(frozen=True, slots=True)
class Gaussians:
    """N Gaussians in world coordinates, whose colour is the same from every side.

    Attributes:
        means: (N, 3) floating, centres.
        quaternions: (N, 4) wxyz, of any length but 0.
        scales: (N, 3) standard deviations along the Gaussian's own axes, linear, in world units.
        opacities: (N,) 0..1.
        colours: (N, 3) RGB, 0..1 for what a screen can show.
    """

    means: torch.Tensor
    quaternions: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor
    colours: torch.Tensor

    def __post_init__(self) -> None:
        count = self.means.shape[0] if self.means.ndim else 0
        for name, tail in _SHAPES.items():
            values = getattr(self, name)
            if tuple(values.shape) != (count, *tail):
                expected = ", ".join(map(str, ("N", *tail)))
                raise ContractError(
                    f"shape {tuple(values.shape)}, expected ({expected}) with N = {count}",
                    where=f"Gaussians, {name}",
                    remedy="All attributes describe the same Gaussians.",
                )
            if not values.is_floating_point() or values.device != self.means.device:
                raise ContractError(
                    f"{values.dtype} on {values.device}, the means are on {self.means.device}",
                    where=f"Gaussians, {name}",
                    remedy="Give floating-point tensors on one device.",
                )

    def __len__(self) -> int:
        return self.means.shape[0]


def ply_from_gaussians(gaussians: Gaussians) -> bytes:
    """A binary little-endian PLY file with the properties and the order of Inria's 3D Gaussian Splatting.

    Properties are float32: x y z, nx ny nz (0), f_dc_0..2 = (colour − 0.5) / SH_C0, f_rest_0..44 (0: the same colour
    from every side), opacity before its sigmoid, scale_0..2 as natural logarithms, rot_0..3 wxyz of unit length.
    Opacities are kept 1e-6 away from 0 and 1, whose logits are infinite. The same Gaussians give the same bytes.

    Raises:
        ContractError: a value is not finite, a scale is not above 0, or a quaternion is 0.
    """
    table = np.zeros(len(gaussians), dtype=[(name, "<f4") for name in _PROPERTIES])
    quaternions, scales = _float64(gaussians.quaternions), _float64(gaussians.scales)
    lengths = np.linalg.norm(quaternions, axis=1, keepdims=True)
    if (scales <= 0).any() or (lengths == 0).any():
        raise ContractError("a scale is not above 0, or a quaternion is 0", where="Gaussians", remedy=_LEAVE_OUT)
    opacities = np.clip(_float64(gaussians.opacities), _OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
    columns = {
        "xyz": _float64(gaussians.means),
        "f_dc": (_float64(gaussians.colours) - 0.5) / SH_C0,
        "opacity": np.log(opacities / (1 - opacities))[:, None],
        "scale": np.log(scales),
        "rot": quaternions / lengths,
    }
    stacked = np.concatenate(list(columns.values()), axis=1)
    if not np.isfinite(stacked).all():
        raise ContractError("a value is not finite", where="Gaussians", remedy=_LEAVE_OUT)
    for name, column in zip(_READ, stacked.T, strict=True):
        table[name] = column
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(gaussians)}"]
    header += [*(f"property float {name}" for name in _PROPERTIES), "end_header", ""]
    return "\n".join(header).encode("ascii") + table.tobytes()


def gaussians_from_ply(content: bytes, *, where: str = "PLY file") -> Gaussians:
    """The Gaussians of a PLY file as 3D Gaussian Splatting writes it, as float32 tensors on the CPU.

    Properties may stand in any order; those not needed are passed over.

    Raises:
        CorruptFileError: not a binary little-endian PLY file of float properties, one is missing, or the file is cut
            short.
        ContractError: colours change with the direction of view (f_rest is not 0).
    """
    import torch

    table = _read_table(content, where)
    rest = [name for name in table.dtype.names or () if name.startswith("f_rest_")]
    if any(np.any(table[name] != 0) for name in rest):
        raise ContractError(
            "colours change with the direction of view (f_rest is not 0)",
            where=where,
            remedy="Train with spherical harmonics of degree 0.",
        )
    columns = {name: table[name].astype(np.float64) for name in _READ}

    def tensor(*names: str) -> NDArray[np.float64]:
        return np.stack([columns[name] for name in names], axis=1)

    arrays = (
        tensor("x", "y", "z"),
        tensor("rot_0", "rot_1", "rot_2", "rot_3"),
        np.exp(tensor("scale_0", "scale_1", "scale_2")),
        1 / (1 + np.exp(-columns["opacity"])),
        0.5 + SH_C0 * tensor("f_dc_0", "f_dc_1", "f_dc_2"),
    )
    return Gaussians(*(torch.from_numpy(values.astype(np.float32)) for values in arrays))


def _read_table(content: bytes, where: str) -> np.ndarray:
    head, mark, body = content.partition(b"end_header\n")
    lines = head.decode("ascii", errors="replace").split("\n")
    if not mark or lines[:2] != ["ply", "format binary_little_endian 1.0"]:
        raise CorruptFileError("not a binary little-endian PLY file", where=where, remedy=_REMEDY)
    words = [line.split() for line in lines[2:] if line and not line.startswith(("comment", "obj_info"))]
    elements = [line for line in words if line[0] == "element"]
    properties = [line for line in words if line[0] == "property"]
    well_formed = len(elements) == 1 and len(elements[0]) == 3 and elements[0][1] == "vertex"
    if not (well_formed and elements[0][2].isdigit()) or any(line[1:-1] != ["float"] for line in properties):
        raise CorruptFileError("not one element vertex of float properties", where=where, remedy=_REMEDY)
    names = [line[2] for line in properties]
    missing = [name for name in _READ if name not in names]
    if missing or len(set(names)) != len(names):
        raise CorruptFileError(f"properties are missing or twice there: {missing}", where=where, remedy=_REMEDY)
    count, dtype = int(elements[0][2]), np.dtype([(name, "<f4") for name in names])
    if len(body) != count * dtype.itemsize:
        raise CorruptFileError(
            f"{len(body)} bytes follow the header, {count * dtype.itemsize} are declared", where=where, remedy=_REMEDY
        )
    return np.frombuffer(body, dtype)


_LEAVE_OUT = "Leave such Gaussians out."
_REMEDY = "Give a PLY file as 3D Gaussian Splatting writes it."


def _float64(values: torch.Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().numpy().astype(np.float64)
