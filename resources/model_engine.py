"""What engines that run single transformers models have in common: one loaded model, its files, provenance."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..datasets.errors import EngineError
from .engines import EngineContract, EngineIdentity, Part
from .memory_ladder import out_of_memory_told
from .model_loading import ModelSource, device_memory_bytes, load_model, model_facts, model_source
from .model_settings import ModelSettings
from .resident_models import ResidentModels, lease_name


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model with the lock of whoever runs it, so that two scenes never hold its activations at once."""

    model: Any
    running: threading.Lock


class LibraryEngine:
    """An engine around one model of a library: its files, and what it declares by them before anything is loaded.

    Args:
        settings: the model's and the engine's settings.
        models: where the model stays loaded; None: among models of its own, without a limit.

    Attributes:
        name, needs, gives: as the contract declares them.
        part_licences: of parts that come from others, where the model's card names its own licence alone.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Part]]
    gives: ClassVar[frozenset[Part]]
    part_licences: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: ModelSettings, models: ResidentModels | None = None) -> None:
        self._model_settings = settings
        self._models = models or ResidentModels(None)

    @functools.cached_property
    def source(self) -> ModelSource:
        """The model's files on this machine. Raises EngineError where they are missing or incomplete."""
        return model_source(self._model_settings)

    @property
    def contract(self) -> EngineContract:
        """What the engine needs and gives; nothing is loaded. Raises EngineError as `source`."""
        return EngineContract(self.name, "library", self.needs, self.gives, self.licence, self._device_memory)

    @functools.cached_property
    def _device_memory(self) -> int:
        return device_memory_bytes(self._model_settings)

    @property
    def identity(self) -> EngineIdentity:
        """The engine with the digests of all files that its model is read from."""
        return EngineIdentity(self.name, self.licence, self.source.files_digest)

    @property
    def licence(self) -> str:
        """Of the whole model: what the settings say, else what its card says and what its parts come under."""
        parts = () if self._model_settings.licence else self.part_licences
        return " AND ".join(dict.fromkeys((self.source.licence, *parts)))


class ModelEngine(LibraryEngine):
    """An engine around one transformers model, which is loaded when it is first needed and leased while it works.

    Attributes:
        model_class: the transformers class.
    """

    model_class: ClassVar[str]

    @property
    def place(self) -> str:
        """Engine and model, for errors."""
        return f"{self.name}: {self.source.id}"

    def facts(self) -> dict[str, Any]:
        """Whose files the model is read from and how it is run, JSON."""
        return model_facts(self._model_settings, self.source)

    @property
    def device(self) -> str:
        """Where the model works; with offload its weights lie elsewhere in between."""
        return self._model_settings.device

    def load(self) -> Any:
        """Load the model."""
        return load_model(self.model_class, self._model_settings)

    def loaded_with(self) -> dict[str, Any]:
        """What `load` depends on beside the model's settings, JSON: engines that agree on all share one model."""
        return {}

    @contextmanager
    def model(self) -> Iterator[Any]:
        """What `load` gives, for this thread alone and without gradients.

        Raises:
            StageFailed: memory ran out (reason out_of_memory): a single model has no smaller way to do its work.
        """
        import torch

        settings = self._model_settings
        name = lease_name(self.model_class, settings, ModelSettings.model_fields, **self.loaded_with())
        with (
            out_of_memory_told(settings.device, self.place),
            self._models.get(name, self.contract.device_memory_bytes, settings.device, self._load_with_lock) as loaded,
            loaded.running,
            torch.inference_mode(),
        ):
            yield loaded.model

    def _load_with_lock(self) -> _Loaded:
        return _Loaded(self.load(), threading.Lock())


def load_processor(class_name: str, folder: Path, **options: Any) -> Any:
    """A tokenizer or processor from a model's folder; nothing is fetched.

    Args:
        class_name: of transformers, such as "AutoTokenizer".

    Raises:
        EngineError: its files or a library that it needs are missing.
    """
    import transformers

    try:
        return getattr(transformers, class_name).from_pretrained(str(folder), local_files_only=True, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise EngineError(
            f"{class_name} cannot be loaded: {str(error).strip().rstrip('.')}",
            where=str(folder),
            remedy="Download the whole model, with its tokenizer and processor files; some need torchvision installed.",
        ) from error
