"""Text embeddings: the encoders of T5 and UMT5, tiny, through the production path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from sceneloom.datasets.errors import EngineError
from sceneloom.datasets.layouts.caption_chunks import WIDTH, decode_chunks, encode_chunks
from sceneloom.resources.resident_models import ResidentModels
from sceneloom.resources.text_embeddings import TextEncoder
from sceneloom.resources.transformers_settings import TextEncoderSettings

from .tiny_transformers import save_depth_anything, save_text_encoder

TEXTS = ("a red sofa", "a lamp, and a window.", "a red sofa")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("text")
    save_text_encoder(place / "umt5")
    save_text_encoder(place / "t5", "t5")
    pipeline = place / "pipeline"
    save_text_encoder(pipeline / "text_encoder", tokenizer_folder=pipeline / "tokenizer")
    return place


def encoder(folder: Path, name: str = "umt5", models: ResidentModels | None = None, **changes: Any) -> TextEncoder:
    settings = {"path": str(folder / name), "precision": "float32", **changes}
    return TextEncoder.load(TextEncoderSettings.model_validate(settings), models)


def hidden_states(folder: Path, name: str, text: str) -> np.ndarray:
    """By the library's own classes, with the padding that a batch has."""
    model = {"umt5": transformers.UMT5EncoderModel, "t5": transformers.T5EncoderModel}[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / name)
    tokens = tokenizer(text, padding="max_length", max_length=64, return_tensors="pt")
    with torch.inference_mode():
        states = model.from_pretrained(folder / name).eval()(**tokens).last_hidden_state[0]
    return states[: int(tokens["attention_mask"].sum())].numpy()


@pytest.mark.parametrize("name", ["umt5", "t5"])
def test_embeddings_are_the_last_hidden_states_without_padding(folder: Path, name: str) -> None:
    found = encoder(folder, name).encode(TEXTS)
    assert len(found) == 3
    for text, embedding in zip(TEXTS, found, strict=True):
        expected = hidden_states(folder, name, text)
        assert embedding.dtype == np.float32
        assert embedding.shape == expected.shape
        np.testing.assert_allclose(embedding, expected, atol=1e-5)
    assert found[0].shape[1] == 24
    assert found[0].std() > 0.01
    assert len(found[0]) != len(found[1])


def test_each_distinct_text_is_computed_once(folder: Path) -> None:
    models = ResidentModels(None)
    first = encoder(folder, models=models)
    calls: list[int] = []
    first.encode(["to load it"])
    model = next(iter(models._residents.values())).model.result().model
    model.register_forward_hook(lambda module, inputs, output: calls.append(1))
    once = first.encode(TEXTS)
    assert len(calls) == 2
    again = first.encode([TEXTS[1], "  a   red\nsofa "])
    assert len(calls) == 2
    assert again[0] is once[1]
    assert again[1] is once[0]
    assert list(models.counters()["loads"].values()) == [1]


def test_an_embedding_does_not_hang_on_its_company(folder: Path) -> None:
    alone = encoder(folder).encode([TEXTS[0]])[0]
    together = encoder(folder).encode(["a very long text about nothing", TEXTS[0], ""])[1]
    assert alone.tobytes() == together.tobytes()


def test_long_texts_are_cut_with_their_end_mark(folder: Path) -> None:
    long = "a sofa " * 200
    assert encoder(folder).encode([long])[0].shape == (512, 24)
    cut = encoder(folder, maximum_tokens=16).encode([long])[0]
    assert cut.shape == (16, 24)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "umt5")
    assert tokenizer(long, truncation=True, max_length=16)["input_ids"][-1] == tokenizer.eos_token_id
    assert encoder(folder).encode([""])[0].shape == (1, 24)


def test_values_are_those_of_the_encoders_precision(folder: Path) -> None:
    found = encoder(folder, precision="bfloat16").encode([TEXTS[0]])[0]
    tensor = torch.from_numpy(found.copy())
    assert torch.equal(tensor.to(torch.bfloat16).float(), tensor)
    exact = encoder(folder).encode([TEXTS[0]])[0]
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=0.1)


def test_lyra2_captions_take_them_as_they_are(tmp_path: Path) -> None:
    save_text_encoder(tmp_path / "wide", d_model=WIDTH)
    (embedding,) = encoder(tmp_path, "wide", precision="bfloat16").encode(["a red sofa"])
    chunks = decode_chunks(encode_chunks(81, [("a red sofa", embedding)] * 2), "test")
    assert sorted(chunks) == [0, 80]
    assert chunks[80]["embedding"].dtype == torch.bfloat16
    np.testing.assert_array_equal(chunks[80]["embedding"].float().numpy(), embedding)


def test_the_encoder_of_a_pipeline_is_taken(folder: Path) -> None:
    found = encoder(folder, "pipeline", subfolder="text_encoder", tokenizer_subfolder="tokenizer")
    # The same weights as in the folder of their own.
    np.testing.assert_array_equal(found.encode([TEXTS[0]])[0], encoder(folder).encode([TEXTS[0]])[0])
    assert "text_encoder/model.safetensors" in found.facts()["files"]


def test_other_models_are_refused_before_they_are_loaded(folder: Path, tmp_path: Path) -> None:
    save_depth_anything(tmp_path / "depth")
    with pytest.raises(EngineError, match="a model of type depth_anything"):
        encoder(tmp_path, "depth")
    with pytest.raises(EngineError, match="no such folder"):
        encoder(tmp_path, "absent")


def test_values_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    model = save_text_encoder(tmp_path / "broken")
    model.encoder.final_layer_norm.weight.data.fill_(float("inf"))
    model.save_pretrained(tmp_path / "broken")
    with pytest.raises(EngineError, match="not finite"):
        encoder(tmp_path, "broken").encode(["a sofa"])


def test_a_missing_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    save_text_encoder(tmp_path / "encoder", tokenizer_folder=tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="AutoTokenizer cannot be loaded"):
        encoder(tmp_path, "encoder").encode(["a sofa"])
