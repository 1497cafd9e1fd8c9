"""Engine `vlm`: what the frames of a clip show, in words, one caption a window of frames."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError, InputError
from .engines import ClipToCaption, Part
from .model_engine import ModelEngine, load_processor
from .model_loading import load_model
from .resident_models import ResidentModels
from .transformers_settings import CaptionSettings

Frames = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


@dataclass(frozen=True, slots=True)
class ClipCaption:
    """What a window of a clip shows.

    Attributes:
        frame_range: (first, one past the last) frame of the window.
        text: one line.
        seen: the frames that the model looked at.
        tokens: that it wrote; None where no model wrote the text.
        complete: false where it wrote as much as it may: the text ends with its last whole sentence, if it has one.
    """

    frame_range: tuple[int, int]
    text: str
    seen: tuple[int, ...]
    tokens: int | None
    complete: bool

    def record(self) -> dict[str, Any]:
        """JSON."""
        return {
            "frame_range": list(self.frame_range),
            "text": self.text,
            "seen": list(self.seen),
            "tokens": self.tokens,
            "complete": self.complete,
        }


@dataclass(frozen=True, slots=True)
class _Parts:
    model: Any
    processor: Any


class ClipCaptioner(ModelEngine):
    """A vision-language model that is shown frames as pictures and decodes greedily: equal frames give equal words."""

    name: ClassVar[str] = "vlm"
    needs: ClassVar[frozenset[Part]] = frozenset({"frames"})
    gives: ClassVar[frozenset[Part]] = frozenset({"captions"})
    model_class: ClassVar[str] = "AutoModelForImageTextToText"
    is_stand_in = False

    def __init__(self, settings: CaptionSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings

    def load(self) -> _Parts:
        """The model and its processor. Raises EngineError where it has no chat template."""
        processor = load_processor("AutoProcessor", self.source.folder)
        if not getattr(processor, "chat_template", None):
            raise EngineError(
                "the model has no chat template",
                where=str(self.source.folder),
                remedy="Choose a vision-language model that follows instructions.",
            )
        return _Parts(load_model(self.model_class, self._model_settings), processor)

    def windows(self, frames: int) -> list[tuple[int, int]]:
        """The windows of a clip of so many frames, as the settings have them."""
        return caption_windows(frames, length=self.settings.window_frames, overlap=self.settings.overlap_frames)

    def caption_clip(self, clip: ClipToCaption) -> list[ClipCaption]:
        """Caption the windows of a clip, of which only the frames that the model sees are read.

        Raises:
            EngineError: the model cannot be loaded, or wrote nothing.
        """
        with self.model() as parts:
            return [self._caption(parts, clip.read, window) for window in self.windows(clip.frames)]

    def caption(self, frames: Frames, windows: Sequence[tuple[int, int]] | None = None) -> list[ClipCaption]:
        """Caption windows of a clip.

        Args:
            frames: T frames (H, W, 3) uint8 sRGB.
            windows: (first, one past the last) frame of each; None: those of the settings.

        Raises:
            InputError: a window is empty or reaches beyond the clip.
            EngineError: the model cannot be loaded, or wrote nothing.
        """
        chosen = self.windows(len(frames)) if windows is None else list(windows)
        for start, stop in chosen:
            if not 0 <= start < stop <= len(frames):
                raise InputError(
                    f"the window {start} … {stop} of a clip of {len(frames)} frames",
                    where=self.place,
                    remedy="Give windows inside the clip, each of one frame or more.",
                )

        def read(indices: Sequence[int]) -> Frames:
            return [frames[index] for index in indices]

        with self.model() as parts:
            return [self._caption(parts, read, window) for window in chosen]

    def _caption(self, parts: _Parts, read: Callable[[Sequence[int]], Frames], window: tuple[int, int]) -> ClipCaption:
        seen = seen_frames(window, self.settings.pictures)
        pictures = [_smaller(frame, self.settings.longest_side) for frame in read(seen)]
        content = [*({"type": "image", "image": each} for each in pictures), self._question()]
        inputs = parts.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.device, dtype=parts.model.dtype)
        # Files of models ask for sampling; the most likely words are the same on every run.
        written = parts.model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            max_new_tokens=self.settings.maximum_tokens,
        )[0, inputs["input_ids"].shape[1] :]
        complete = len(written) < self.settings.maximum_tokens or int(written[-1]) in _end_marks(parts.model)
        text = one_line(parts.processor.decode(written, skip_special_tokens=True), complete=complete)
        if not text:
            raise EngineError(
                f"the model wrote nothing about frames {window[0]} … {window[1]}",
                where=self.place,
                remedy="Change instruction, or choose another model.",
            )
        return ClipCaption(window, text, seen, len(written), complete)

    def _question(self) -> dict[str, str]:
        return {"type": "text", "text": self.settings.instruction}


def caption_windows(frames: int, *, length: int, overlap: int = 0) -> list[tuple[int, int]]:
    """(first, one past the last) frame of windows over a clip: each `overlap` before the end of the one before it; the
    last may be shorter.

    Args:
        frames: of the clip.
        length: of a window.
        overlap: frames shared by neighbours, < length.
    """
    starts = range(0, max(frames - overlap, 1) if frames else 0, length - overlap)
    return [(start, min(start + length, frames)) for start in starts]


def seen_frames(window: tuple[int, int], count: int) -> tuple[int, ...]:
    """Frames in the middle of `count` equal parts of a window; all of a window that has no more."""
    start, stop = window
    if stop - start <= count:
        return tuple(range(start, stop))
    return tuple(start + math.floor((part + 0.5) * (stop - start) / count) for part in range(count))


def one_line(written: str, *, complete: bool) -> str:
    """A caption in one line; one that was cut off ends with its last whole sentence, if it has one."""
    text = " ".join(written.split())
    ends = [] if complete else list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else text


def _end_marks(model: Any) -> list[int]:
    marks = model.generation_config.eos_token_id
    return marks if isinstance(marks, list) else [marks]


def _smaller(frame: NDArray[np.uint8], longest_side: int) -> Any:
    """The frame as a Pillow image, no larger than the model is to see it."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((longest_side, longest_side), Image.Resampling.BICUBIC)
    return picture
