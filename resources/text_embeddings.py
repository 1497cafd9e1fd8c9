"""Text embeddings by the encoder of T5 or UMT5, as Lyra-2 and Gen3R (Wan) are conditioned on them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError
from .memory_ladder import out_of_memory_told
from .model_engine import load_processor
from .model_files import MODEL_CONFIG, read_json
from .model_loading import device_memory_bytes, load_model, model_facts, model_source
from .model_settings import ModelSettings
from .recently_used import RecentlyUsed
from .resident_models import ResidentModels, lease_name
from .transformers_settings import TextEncoderSettings

_LOADING = {*ModelSettings.model_fields, "subfolder", "tokenizer_subfolder"}
FAMILIES = ("t5", "mt5", "umt5")
REMEMBERED_TEXTS = 256
"""Distinct texts whose embeddings are kept, those used last: of UMT5-XXL at most 8 MB each, usually one."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Any
    running: threading.Lock


class TextEncoder:
    """The last hidden states of a T5 or UMT5 encoder, without padding.

    The encoder is loaded at the first text and leased while it works. Each text is encoded by itself, so its embedding
    does not hang on the texts that were asked for with it.

    Args:
        settings: the encoder's.
        models: where it stays loaded; None: among models of its own, without a limit.
    """

    def __init__(self, settings: TextEncoderSettings, models: ResidentModels | None = None) -> None:
        self.settings = settings
        self.source = model_source(settings, subfolder=settings.subfolder)
        self._models = models or ResidentModels(None)
        self._known: RecentlyUsed[str, NDArray[np.float32]] = RecentlyUsed(REMEMBERED_TEXTS)
        self._require_family()

    @classmethod
    def load(cls, settings: TextEncoderSettings, models: ResidentModels | None = None) -> TextEncoder:
        """The encoder that the settings stand for; its files are checked, its weights read at the first text.

        Raises:
            EngineError: files are missing, or are of another kind of model.
        """
        return cls(settings, models)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embeddings of texts, one computation for each distinct text.

        Args:
            texts: any; runs of white space count as one blank, as Wan's and Gen3R's own preparation has it.

        Returns:
            For each text (n, D) float32, n ≤ `maximum_tokens` with the end mark. NumPy has no bfloat16: the values are
            those of the encoder's precision, so rounding them to it again loses nothing.

        Raises:
            EngineError: the encoder cannot be loaded, or gave values that are not finite.
        """
        return self._known.get([" ".join(text.split()) for text in texts], self._computed)

    def facts(self) -> dict[str, Any]:
        """Whose files the encoder is read from and how it is run, JSON."""
        return model_facts(self.settings, self.source) | {"maximum_tokens": self.settings.maximum_tokens}

    def _computed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        import torch

        name = lease_name("text encoder", self.settings, _LOADING)
        with (
            out_of_memory_told(self.settings.device, self._place),
            self._models.get(name, self._memory, self.settings.device, self._load) as loaded,
            loaded.running,
            torch.inference_mode(),
        ):
            return [self._embedding(loaded, text) for text in texts]

    def _embedding(self, loaded: _Loaded, text: str) -> NDArray[np.float32]:
        tokens = loaded.tokenizer(
            text, truncation=True, max_length=self.settings.maximum_tokens, return_tensors="pt"
        ).to(self.settings.device)
        output = loaded.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        embedding = output.last_hidden_state[0].float().cpu().numpy()
        if not np.isfinite(embedding).all():
            raise EngineError(
                f"values that are not finite for {text[:40]!r}",
                where=self._place,
                remedy="Choose bfloat16 or float32 as the precision; T5 overflows in float16.",
            )
        embedding.setflags(write=False)
        return embedding

    def _load(self) -> _Loaded:
        settings = self.settings
        folder = self.source.folder / (settings.tokenizer_subfolder or settings.subfolder or "")
        tokenizer = load_processor("AutoTokenizer", folder)
        model = load_model("AutoModelForTextEncoding", settings, subfolder=settings.subfolder)
        return _Loaded(model, tokenizer, threading.Lock())

    def _require_family(self) -> None:
        config = self.source.folder / (self.settings.subfolder or "") / MODEL_CONFIG
        family = read_json(config).get("model_type")
        if family not in FAMILIES:
            raise EngineError(
                f"a model of type {family}",
                where=str(config),
                remedy=f"Give an encoder of type {', '.join(FAMILIES)}; of a pipeline name its part as subfolder.",
            )

    @functools.cached_property
    def _memory(self) -> int:
        return device_memory_bytes(self.settings, subfolder=self.settings.subfolder)

    @property
    def _place(self) -> str:
        return f"text encoder: {self.source.id}"
