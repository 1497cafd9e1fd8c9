"""The text encoder of a release: the profile's, or loaded from what a user or a manifest names."""

from __future__ import annotations

import re
from pathlib import Path

from ..datasets.layouts.release import ReleaseTextEncoder
from ..resources.engines import Engines, settings_in_key
from ..resources.records import digest
from ..resources.text_embeddings import TextEncoder
from ..resources.transformers_settings import TextEncoderSettings

_PART, _TOKENIZER = "text_encoder", "tokenizer"
"""Folders of a pipeline such as Wan's that hold them."""
_DIGEST = re.compile(r"@[0-9a-f]{12}$")
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def profile_text_encoder(engines: Engines) -> ReleaseTextEncoder | None:
    """The encoder that the profile chose (`engines.text_encoder`); None where it chose none.

    Raises:
        EngineError: files are missing, or are of another kind of model.
    """
    encoder = engines.text_encoder()
    return None if encoder is None else _for_release(encoder)


def release_text_encoder(named: str, engines: Engines) -> ReleaseTextEncoder:
    """A T5 or UMT5 encoder; its files are checked and hashed, its weights are read with the first text.

    Args:
        named: a folder or hub id, of the encoder alone or of a pipeline that has one; in a manifest with a digest of
            its weights and of how it is run after an `@`, which the encoder's own name always has.
        engines: whose text encoder is taken, as the profile runs it, where it is the one that is named; beside whose
            models another one lies.

    Raises:
        EngineError: files are missing, or are of another kind of model.
    """
    weights = _DIGEST.sub("", named)
    if Path(weights).is_dir() or not _HUB_ID.fullmatch(weights):
        weights = str(Path(weights).expanduser().absolute())
    own = engines.profile.engines.text_encoder
    if own is not None and own.weights == weights:
        chosen = profile_text_encoder(engines)
        if chosen is not None and not (_DIGEST.search(named) and named != chosen.name):
            return chosen
    return _for_release(TextEncoder(_settings(weights), engines.models))


def _for_release(encoder: TextEncoder) -> ReleaseTextEncoder:
    settings = encoder.settings
    runs = settings_in_key(settings)
    name = f"{settings.weights}@{digest([encoder.source.files_digest, runs])[:12]}"
    return ReleaseTextEncoder(name, encoder.source.licence, encoder.encode)


def _settings(weights: str) -> TextEncoderSettings:
    import torch

    parts = {"subfolder": _PART, "tokenizer_subfolder": _TOKENIZER} if _is_pipeline(weights) else {}
    source = {"path": weights} if Path(weights).is_absolute() else {"id": weights}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TextEncoderSettings.model_validate({**source, **parts, "device": device})


def _is_pipeline(weights: str) -> bool:
    config = f"{_PART}/config.json"
    if Path(weights).is_absolute():
        return Path(weights, config).exists()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(weights, config), str)
