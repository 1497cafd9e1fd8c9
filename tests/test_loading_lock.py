"""Models that threads load at once are read one after the other."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

from sceneloom.resources.latent_codec import LatentCodec
from sceneloom.resources.model_loading import load_model
from sceneloom.resources.model_settings import ModelSettings

from .tiny import codec_folder


def test_a_codec_and_a_librarys_model_are_not_read_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Any = AutoencoderKLCosmos.from_pretrained
    under_way: list[int] = []
    beside: list[int] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        beside.append(len(under_way))
        under_way.append(1)
        time.sleep(0.1)
        try:
            return read(*arguments, **options)
        finally:
            under_way.pop()

    monkeypatch.setattr(AutoencoderKLCosmos, "from_pretrained", watched)
    folder = codec_folder()
    settings = ModelSettings.model_validate({"path": str(folder), "device": "cpu", "precision": "float32"})
    with ThreadPoolExecutor(4) as threads:
        loads = [threads.submit(LatentCodec.load, str(folder)) for _ in range(2)]
        loads += [threads.submit(load_model, "AutoencoderKLCosmos", settings, library="diffusers") for _ in range(2)]
        loaded: list[Any] = [load.result() for load in loads]
    assert beside == [0, 0, 0, 0]
    assert not any(weight.is_meta for model in loaded[2:] for weight in model.parameters())
