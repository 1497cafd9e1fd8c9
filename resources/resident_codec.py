"""A latent codec whose model is loaded when it first works, and shares its device with the other models."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError
from ..datasets.latent_spaces import LatentSpace
from .latent_codec import LatentCodec, architecture_of, latent_space, weights_folder
from .memory_ladder import out_of_memory_told
from .model_files import BYTES_PER_ELEMENT, element_counts
from .profiles import LatentCodecSettings
from .resident_models import ResidentModels, lease_name


class ResidentCodec:
    """A codec as the profile says it. Any number of threads may share it.

    Args:
        settings: weights, device and precision.
        models: where the model stays loaded.
    """

    def __init__(self, settings: LatentCodecSettings, models: ResidentModels) -> None:
        self.settings = settings
        self._models = models

    @property
    def space(self) -> LatentSpace:
        """The latent space, from the codec's files alone.

        Raises:
            EngineError: files are missing or unreadable.
            ConfigError: the weights are of another architecture than the profile says.
        """
        return self._space

    @functools.cached_property
    def _space(self) -> LatentSpace:
        settings = self.settings
        found = architecture_of(weights_folder(settings.weights, revision=settings.revision))
        if found != settings.architecture:
            raise ConfigError(
                f"the weights are of the architecture {found}, the profile says {settings.architecture}",
                where=settings.weights,
                remedy=f"Set the codec's architecture to {found}: the clips' size must fit it.",
            )
        return latent_space(settings.weights, revision=settings.revision)

    @functools.cached_property
    def device_memory_bytes(self) -> int:
        """What the model takes on its device: as declared, else the size of its weights in the chosen precision."""
        settings = self.settings
        if settings.device_memory is not None:
            return round(settings.device_memory * 1e9)
        folder = weights_folder(settings.weights, revision=settings.revision)
        elements = sum(sum(element_counts(file)) for file in folder.glob("*.safetensors"))
        return round(elements * BYTES_PER_ELEMENT[settings.precision])

    def encode(self, frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]]) -> NDArray[np.float16]:
        """As `LatentCodec.encode`. Raises also StageFailed when memory runs out (reason out_of_memory)."""
        with self._lease() as codec:
            return codec.encode(frames)

    def decode(self, latents: NDArray[np.floating]) -> NDArray[np.uint8]:
        """As `LatentCodec.decode`. Raises also StageFailed when memory runs out (reason out_of_memory)."""
        with self._lease() as codec:
            return codec.decode(latents)

    def round_trip(self, latents: NDArray[np.floating]) -> NDArray[np.float16]:
        """As `LatentCodec.round_trip`. Raises also StageFailed when memory runs out (reason out_of_memory)."""
        with self._lease() as codec:
            return codec.round_trip(latents)

    @contextmanager
    def _lease(self) -> Iterator[LatentCodec]:
        """The loaded codec. Tiles would change its numbers, and so are the profile's choice: no ladder takes them."""
        settings, space = self.settings, self.space
        name = lease_name("latent codec", settings, LatentCodecSettings.model_fields)
        where = f"latent codec {space.id}" + ("" if settings.tiling else ", tiling false (of ltx2 it may be true)")
        with (
            out_of_memory_told(settings.device, where),
            self._models.get(name, self.device_memory_bytes, settings.device, self._load) as codec,
        ):
            yield codec

    def _load(self) -> LatentCodec:
        settings = self.settings
        return LatentCodec.load(
            settings.weights,
            device=settings.device,
            dtype=settings.precision,
            revision=settings.revision,
            tiling=settings.tiling,
        )
