"""What the numbers in a stored latent mean: the codec they come from, its strides, and how they were normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConfigError, ContractError

Float32 = NDArray[np.float32]

SIDE_MULTIPLE = 16
"""Frame sides are multiples of this: the codecs' stride of 8 and the video encoders' 16-pixel blocks both fit."""


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """A video codec's latent space with its normalisation: stored = (z - mean) / std · scale.

    Lyra stores Cosmos latents with a mean and std for each of 16 channels and 16 latent frames, and scale 0.5
    (`mean_std.pt` of Cosmos-Tokenize1-CV8x8x8-720p and the diffusion model's sigma_data).

    Attributes:
        id: name that every latent of this space carries.
        channels: C.
        mean, std: (C, n) float32 over channel and latent frame; n = 1 says that all latent frames share them.
            A (C,) argument becomes (C, 1).
        scale: factor after normalisation.
        temporal_stride: frames a latent frame stands for (after the first, when causal).
        spatial_stride: pixels a latent's side stands for.
        causal: the first frame is a latent frame of its own, so clips have 1 + stride·k frames; else stride·k.
        weights_digest: "sha256:…" of the codec's weights; latents of other weights are another space.
        licence: of the weights, as an SPDX expression or the licence's own name.

    Raises:
        ConfigError: the shapes, strides or values cannot be a latent space.
    """

    id: str
    channels: int
    mean: Float32
    std: Float32
    scale: float = 1.0
    temporal_stride: int = 8
    spatial_stride: int = 8
    causal: bool = True
    weights_digest: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for name in ("channels", "temporal_stride", "spatial_stride"):
            if getattr(self, name) < 1:
                self._refuse(f"{name} is {getattr(self, name)}", "Give a count of at least 1.")
        if not (np.isfinite(self.scale) and self.scale > 0):
            self._refuse(f"scale is {self.scale}", "Give a finite factor above 0.")
        object.__setattr__(self, "mean", self._table("mean", self.mean))
        object.__setattr__(self, "std", self._table("std", self.std))
        if self.mean.shape != self.std.shape:
            self._refuse(f"mean is {self.mean.shape} and std {self.std.shape}", "Give both the same shape.")
        if (self.std <= 0).any():
            self._refuse("std holds values that are not above 0", "Measure it again on latents that vary.")

    def _table(self, name: str, values: ArrayLike) -> Float32:
        table = np.array(values, dtype=np.float32)
        table = table[:, None] if table.ndim == 1 else table
        if table.ndim != 2 or table.shape[0] != self.channels or table.shape[1] < 1:
            self._refuse(
                f"{name} has shape {table.shape}", f"Give ({self.channels},) or ({self.channels}, latent frames)."
            )
        if not np.isfinite(table).all():
            self._refuse(f"{name} holds values that are not finite", "Measure it again.")
        table.setflags(write=False)
        return table

    def _refuse(self, found: str, remedy: str) -> None:
        raise ConfigError(found, where=f"latent space {self.id!r}", remedy=remedy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatentSpace) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.id, self.weights_digest))

    def holds_latents_of(self, other: LatentSpace) -> bool:
        """Whether latents of the other space can stand here as they are: the same weights, normalisation and strides,
        under whatever name. Without digests of the weights that cannot be told, and is denied."""
        return bool(self.weights_digest) and self.numbers() == other.numbers()

    def numbers(self) -> dict[str, Any]:
        """What the values of latents depend on, JSON-compatible: the weights, normalisation and strides. The licence
        only speaks of the weights; so does the id, which stands for them where their digest is not known."""
        without = {"licence", "id"} if self.weights_digest else {"licence"}
        return {key: value for key, value in self.to_json().items() if key not in without}

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, t, h, w) of the latents of a clip.

        Raises:
            ConfigError: the codec cannot take this many frames, or sides that are not multiples of 16.
        """
        return self.channels, self.latent_frames(frames), *self._grid(height, width)

    def latent_frames(self, frames: int) -> int:
        """Latent frames t of a clip of `frames` frames.

        Raises:
            ConfigError: not 1 + stride·k frames (stride·k when the space is not causal).
        """
        first = int(self.causal)
        if frames < max(first, 1) or (frames - first) % self.temporal_stride:
            below = max((frames - first) // self.temporal_stride, 1 - first)
            near = " or ".join(str(first + self.temporal_stride * count) for count in (below, below + 1))
            rule = f"{'1 + ' if first else ''}{self.temporal_stride}·k"
            self._refuse(f"{frames} frames where the codec takes {rule}", f"Use {near} frames.")
        return first + (frames - first) // self.temporal_stride

    def frames(self, latent_frames: int) -> int:
        """Frames of a clip of `latent_frames` latent frames."""
        first = int(self.causal)
        return first + self.temporal_stride * (latent_frames - first)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        multiple = int(np.lcm(SIDE_MULTIPLE, self.spatial_stride))
        for name, side in (("height", height), ("width", width)):
            if side < multiple or side % multiple:
                below = max(side // multiple, 1) * multiple
                self._refuse(
                    f"{name} is {side}, not a multiple of {multiple}", f"Use a {name} of {below} or {below + multiple}."
                )
        return height // self.spatial_stride, width // self.spatial_stride

    def normalise(self, latents: ArrayLike) -> Float32:
        """Latents as the codec gives them to latents as they are stored; both (C, t, h, w), float32 out.

        Raises:
            ContractError: not (C, t, h, w), or more latent frames than the normalisation was measured for.
        """
        values, mean, std = self._operands(latents)
        return np.asarray((values - mean) * (self.scale / std), dtype=np.float32)

    def denormalise(self, latents: ArrayLike) -> Float32:
        """The inverse of `normalise`.

        Raises:
            ContractError: as `normalise`.
        """
        values, mean, std = self._operands(latents)
        return np.asarray(values * (std / self.scale) + mean, dtype=np.float32)

    def _operands(self, latents: ArrayLike) -> tuple[Float32, Float32, Float32]:
        values = np.asarray(latents, dtype=np.float32)
        if values.ndim != 4 or values.shape[0] != self.channels:
            raise ContractError(
                f"latents of shape {values.shape}, expected ({self.channels}, t, h, w)",
                where=f"latent space {self.id!r}",
                remedy="Drop the batch axis and put channels first.",
            )
        known, frames = self.mean.shape[1], values.shape[1]
        if 1 < known < frames:
            raise ContractError(
                f"{frames} latent frames, but mean and std are known for {known}",
                where=f"latent space {self.id!r}",
                remedy=f"Use clips of at most {self.frames(known)} frames.",
            )
        count = 1 if known == 1 else frames
        return values, self.mean[:, :count, None, None], self.std[:, :count, None, None]

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON-compatible values; float32 survives the round trip exactly."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], *, where: str = "latent space") -> LatentSpace:
        """Reads what `to_json` gave.

        Raises:
            ConfigError: fields missing, unknown or impossible.
        """
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(
                str(error), where=where, remedy="Give the fields that LatentSpace.to_json writes."
            ) from error
