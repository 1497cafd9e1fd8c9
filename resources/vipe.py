"""ViPE as a worker: clips go in, checked results come out, one clip's failure never ends the batch."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.errors import ConfigError, InputError, SceneloomError
from .resident_models import ResidentModels
from .vipe_results import CLIP, VipeResult, read_result
from .worker_batches import BatchTask, WorkerBatches, WorkerOutcome, host_memory
from .worker_failures import FailureClass, WorkerFailed
from .worker_protocol import Event, Transport
from .worker_settings import VIPE_PRESETS, VipeSettings

BYTES_PER_PIXEL_AND_FRAME = 60
"""Host memory that ViPE takes: three layers of caches and two copies of the depth, 12 bytes each."""
_SAFE_PATH = re.compile(r"[A-Za-z0-9_./ :-]+")
"""Paths that ViPE's override grammar takes literally."""
_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tiff", ".tif"}
_LOWEST_RATE = 0.5
"""Frames per second below which ViPE's instance masks divide by zero."""


@dataclass(frozen=True, slots=True)
class VipeClipTask:
    """A clip for ViPE.

    Attributes:
        id: unique in the batch.
        source: an MP4 file, or a folder of pictures whose names sort by frame.
        frames, height, width: T, H, W of the clip, as they are known; ViPE's result is held to them.
        destination: the directory that the result becomes; it must not exist.
    """

    id: str
    source: Path
    frames: int
    height: int
    width: int
    destination: Path


VipeOutcome = WorkerOutcome[VipeResult]


class ViPEWorker(WorkerBatches):
    """NVIDIA ViPE (nv-tlabs/vipe) in an environment of its own; all threads of a process share one.

    Args:
        settings: where it runs, preset, limits.
        models, transport, report: as `WorkerBatches`.
    """

    def __init__(
        self,
        settings: VipeSettings,
        models: ResidentModels | None = None,
        transport: Transport | None = None,
        report: Callable[[Event], None] | None = None,
    ) -> None:
        told = settings.model_dump(mode="json", include={"preset", "mode", "command", "overrides"})
        super().__init__("vipe", settings, told, models, transport, report)
        self.settings = settings

    def estimate(self, batch: Sequence[VipeClipTask]) -> Generator[VipeOutcome, None, None]:
        """Yield the outcome of every clip once, as it is known; see `WorkerBatches.run`.

        Raises:
            ConfigError: the environment or the scratch directory cannot be used.
            InputError: two clips share an id or a destination, or a destination exists.
            StageFailed: the worker was closed meanwhile (reason interrupted).
        """
        self._require_plain_scratch()
        for outcome in self.run([self._task(clip) for clip in batch]):
            if outcome.result is not None:
                figures = {**outcome.result.figures, "versions": dict(outcome.versions)}
                outcome = dataclasses.replace(outcome, result=dataclasses.replace(outcome.result, figures=figures))
            yield outcome

    def _task(self, clip: VipeClipTask) -> BatchTask[VipeResult]:
        return BatchTask(
            clip.id,
            write=functools.partial(self._place, clip),
            read=functools.partial(self._read, clip),
            frames=clip.frames,
            destination=clip.destination,
            refuse=functools.partial(self._refusal, clip),
        )

    def _place(self, clip: VipeClipTask, folder: Path) -> dict[str, Any]:
        """Put the clip where ViPE reads it."""
        # ViPE names its files after its input, and never sees the clip's own name and folder.
        place = folder / (CLIP if clip.source.is_dir() else f"{CLIP}.mp4")
        if not self.settings.environment.sees_only_scratch:
            place.symlink_to(clip.source.absolute())
        elif clip.source.is_dir():
            shutil.copytree(clip.source, place)
        else:
            shutil.copyfile(clip.source, place)
        return {"input": str(place)}

    def _read(self, clip: VipeClipTask, output: Path, figures: Mapping[str, Any]) -> VipeResult:
        result = read_result(
            output,
            frames=clip.frames,
            height=clip.height,
            width=clip.width,
            settings=self.settings,
            figures={**figures, "preset": self.settings.preset},
        )
        return dataclasses.replace(result, root=clip.destination)

    def _refusal(self, clip: VipeClipTask) -> WorkerFailed | None:
        """Why ViPE would fail on a clip, by a look at its size and its header; None where nothing speaks against it."""
        import psutil

        try:
            frames, height, width, rate = _measure(clip.source)
        except SceneloomError as error:
            return WorkerFailed(FailureClass.INPUT, f"{clip.source.name}: {error.found}")
        if (frames, height, width) != (clip.frames, clip.height, clip.width):
            found = f"{clip.source.name} holds {frames} frames of {height} × {width} pixels"
            return WorkerFailed(FailureClass.INPUT, f"{found}, expected {clip.frames} of {clip.height} × {clip.width}")
        if height % 2 or width % 2:
            found = f"{clip.source.name} is {height} × {width} pixels, and ViPE's video writer needs even sides"
            return WorkerFailed(FailureClass.INPUT, found)
        if VIPE_PRESETS[self.settings.preset].masks and rate < _LOWEST_RATE:
            found = f"{clip.source.name} runs at {rate:.3g} frames a second, and ViPE's masks need {_LOWEST_RATE}"
            return WorkerFailed(FailureClass.INPUT, found)
        needed = BYTES_PER_PIXEL_AND_FRAME * frames * height * width
        allowed = host_memory(self.settings)
        if needed > allowed:
            found = f"{frames} frames of {height} × {width} need about {needed / 1e9:.1f} GB of memory"
            # What is free changes, and so may the limit; what the whole machine could not hold is the clip's fault.
            too_large = needed > psutil.virtual_memory().total
            failure = FailureClass.OVERSIZE if too_large else FailureClass.OUT_OF_MEMORY
            return WorkerFailed(failure, f"{found}, {allowed / 1e9:.1f} GB may be used")
        return None

    def _require_plain_scratch(self) -> None:
        root = str(self.settings.scratch_folder())
        if not _SAFE_PATH.fullmatch(root):
            raise ConfigError(
                f"{root!r} holds a character that ViPE's command line gives a meaning to",
                where="scratch",
                remedy="Give a directory of plain ASCII letters, digits, '-', '_' and '.'.",
            )


def _measure(source: Path) -> tuple[int, int, int, float]:
    """Frames, height, width and frames a second of a clip. Raises InputError or CorruptFileError."""
    from ..datasets.video import probe

    if not source.is_dir():
        video = probe(source)
        return video.frames, video.height, video.width, float(video.fps)
    from PIL import Image, UnidentifiedImageError

    pictures = sorted(path for path in source.iterdir() if path.suffix.lower() in _PICTURES)
    if not pictures:
        raise InputError("there is no picture in it", where=str(source), remedy="Give a folder of frames.")
    sizes = set()
    for path in pictures:
        try:
            with Image.open(path) as picture:
                sizes.add(picture.size)
        except (UnidentifiedImageError, OSError) as error:
            found = f"{path.name} is no picture ({error})"
            raise InputError(found, where=str(source), remedy="Mend or remove it.") from error
    if len(sizes) > 1:
        found = f"its pictures have {len(sizes)} sizes"
        raise InputError(found, where=str(source), remedy="Give frames of one size.")
    [(width, height)] = sizes
    return len(pictures), height, width, 30.0  # ViPE takes every folder for 30 frames a second
