"""Clip captions: a real vision-language class, tiny, through the production path."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from sceneloom.datasets.errors import EngineError, InputError
from sceneloom.datasets.layouts.caption_chunks import CHUNK_FRAMES
from sceneloom.resources.clip_captions import ClipCaptioner, caption_windows, one_line, seen_frames
from sceneloom.resources.resident_models import ResidentModels
from sceneloom.resources.transformers_settings import CaptionSettings

from .tiny_transformers import caption_words, save_vision_language

FRAMES = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("captions")
    save_vision_language(place / "model")
    return place / "model"


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 256, (FRAMES, 5, 8, 3))
    return np.kron(noise, np.ones((1, 8, 8, 1))).astype(np.uint8)


def captioner(folder: Path, **changes: Any) -> ClipCaptioner:
    settings = {"path": str(folder), "precision": "float32", "maximum_tokens": 12, "window_frames": 6, **changes}
    return ClipCaptioner(CaptionSettings.model_validate(settings))


def expected_text(folder: Path, pictures: list[np.ndarray], instruction: str, tokens: int) -> str:
    """Greedy decoding, step by step, with the library's own class."""
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    prompt = "<image> " * len(pictures) + instruction + " :"
    inputs = processor(images=[Image.fromarray(each) for each in pictures], text=prompt, return_tensors="pt")
    ids = inputs["input_ids"]
    length = ids.shape[1]
    with torch.inference_mode():
        for _ in range(tokens):
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -1]
            ids = torch.cat([ids, logits.argmax()[None, None]], dim=1)
            if int(ids[0, -1]) == 0:
                break
    return " ".join(processor.tokenizer.decode(ids[0, length:], skip_special_tokens=True).split())


def test_captions_are_the_most_likely_words_for_the_frames(folder: Path, frames: np.ndarray) -> None:
    engine = captioner(folder, pictures=3)
    asked = engine.settings.instruction
    found = engine.caption(frames)
    assert [each.frame_range for each in found] == [(0, 6), (6, 12), (12, 14)]
    assert [each.seen for each in found] == [(1, 3, 5), (7, 9, 11), (12, 13)]
    for each in found:
        assert each.text == expected_text(folder, [frames[index] for index in each.seen], asked, 12)
        assert set(each.text.split()) <= set(caption_words())
    # What is shown decides what is said.
    assert len({each.text for each in found}) > 1


def test_equal_frames_give_equal_words(folder: Path, frames: np.ndarray) -> None:
    first, second = (captioner(folder).caption(list(frames), [(2, 9)]) for _ in range(2))
    assert first == second
    assert first[0].frame_range == (2, 9)


def test_the_instruction_is_asked(folder: Path, frames: np.ndarray) -> None:
    room, chair = (captioner(folder, instruction=words).caption(frames)[0] for words in ("the room", "red chair ."))
    assert room.text != chair.text


def test_large_frames_are_made_smaller_first(folder: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (1, 80, 128, 3)).astype(np.uint8)
    engine = captioner(folder, longest_side=48)
    seen: list[torch.Tensor] = []
    with engine.model() as parts:
        parts.model.model.vision_tower.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        smaller = Image.fromarray(noise[0]).resize((48, 30), Image.Resampling.BICUBIC)
        expected = parts.processor.image_processor(images=[smaller], return_tensors="pt")["pixel_values"]
        whole = parts.processor.image_processor(images=[Image.fromarray(noise[0])], return_tensors="pt")["pixel_values"]
    engine.caption(noise)
    assert torch.equal(seen[0], expected)
    assert not torch.equal(seen[0], whole)


def test_a_caption_that_is_cut_off_says_so(folder: Path, frames: np.ndarray) -> None:
    every = [(frame, frame + 1) for frame in range(FRAMES)]
    long = captioner(folder, maximum_tokens=40).caption(frames, every)
    ended = [(each, each.tokens) for each in long if each.complete and each.tokens is not None and each.tokens > 2]
    assert ended
    for each, tokens in ended[:3]:
        # With room for exactly its words and the end mark it is the same; with less it is cut off.
        exact = captioner(folder, maximum_tokens=tokens).caption(frames, [each.frame_range])
        assert exact == [each]
        (cut,) = captioner(folder, maximum_tokens=tokens - 1).caption(frames, [each.frame_range])
        assert not cut.complete
        assert cut.tokens == tokens - 1


def test_an_empty_caption_is_refused(tmp_path: Path, folder: Path, frames: np.ndarray) -> None:
    model: Any = transformers.LlavaForConditionalGeneration.from_pretrained(folder)
    model.lm_head.weight.data.zero_()  # all words are as likely, and the end mark is the first of them
    model.save_pretrained(tmp_path)
    transformers.AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(EngineError, match=r"wrote nothing about frames 0 … 6"):
        captioner(tmp_path).caption(frames)


@pytest.mark.parametrize("window", [(0, 0), (5, 3), (-1, 4), (10, 15)])
def test_windows_outside_the_clip_are_refused(folder: Path, frames: np.ndarray, window: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="of a clip of 14 frames"):
        captioner(folder).caption(frames, [window])


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path, folder: Path, frames: np.ndarray) -> None:
    transformers.LlavaForConditionalGeneration.from_pretrained(folder).save_pretrained(tmp_path)
    transformers.AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(EngineError, match="no chat template"):
        captioner(tmp_path).caption(frames)


def test_the_model_is_loaded_once(folder: Path, frames: np.ndarray) -> None:
    models = ResidentModels(None)
    settings = CaptionSettings(path=str(folder), precision="float32", maximum_tokens=8)
    for _ in range(2):
        ClipCaptioner(settings, models).caption(frames)
    assert list(models.counters()["loads"].values()) == [1]


def test_the_contract_names_the_model_and_its_files(folder: Path) -> None:
    engine = captioner(folder, licence="Apache-2.0")
    assert (engine.contract.name, engine.contract.licence) == ("vlm", "Apache-2.0")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(engine.identity.weights)


def test_records_are_json(folder: Path, frames: np.ndarray) -> None:
    (record, *_) = [each.record() for each in captioner(folder).caption(frames)]
    assert json.loads(json.dumps(record))["frame_range"] == [0, 6]
    json.dumps(captioner(folder).facts(), allow_nan=False)


@given(st.integers(0, 400), st.integers(1, 90), st.integers(0, 89))
def test_windows_cover_the_clip(frames: int, length: int, overlap: int) -> None:
    overlap = min(overlap, length - 1)
    windows = caption_windows(frames, length=length, overlap=overlap)
    assert sorted({frame for start, stop in windows for frame in range(start, stop)}) == list(range(frames))
    assert all(0 < stop - start <= length for start, stop in windows)
    assert all(stop - start == length for start, stop in windows[:-1])
    for (_, stop), (start, _) in itertools.pairwise(windows):
        assert stop - start == overlap


def test_usual_windows_are_those_of_lyra2() -> None:
    usual = CaptionSettings(path="x")
    assert (usual.window_frames, usual.overlap_frames) == (CHUNK_FRAMES, 0)
    assert caption_windows(121, length=CHUNK_FRAMES) == [(0, 80), (80, 121)]


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 20))
def test_seen_frames_are_spread_over_the_window(start: int, length: int, count: int) -> None:
    seen = seen_frames((start, start + length), count)
    assert len(seen) == min(length, count) == len(set(seen))
    assert list(seen) == sorted(seen)
    assert all(start <= frame < start + length for frame in seen)
    steps = np.diff(seen)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_captions_are_one_line_and_end_with_a_sentence() -> None:
    assert one_line("  A room.\n\nIt is red ", complete=True) == "A room. It is red"
    assert one_line("A room 2.5 m wide. It is", complete=False) == "A room 2.5 m wide."
    assert one_line("A room without", complete=False) == "A room without"
    assert one_line(" \n ", complete=False) == ""


def test_windows_must_move_on() -> None:
    with pytest.raises(ValidationError, match="overlap"):
        CaptionSettings(path="x", window_frames=8, overlap_frames=8)
