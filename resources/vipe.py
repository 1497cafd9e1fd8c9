"""ViPE as a worker: clips go in, checked results come out, one clip's failure never ends the batch."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..datasets.errors import ConfigError, InputError, SceneloomError
from .resident_worker import ResidentWorker
from .vipe_results import CLIP, VipeResult, read_result
from .worker_batches import BatchTask, TaskInput, WorkerBatches, WorkerOutcome, host_memory
from .worker_failures import FailureClass, WorkerFailed
from .worker_protocol import Done, Event, Transport
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


class ViPEWorker:
    """NVIDIA ViPE (nv-tlabs/vipe) in an environment of its own; all threads of a process share one.

    Args:
        settings: where it runs, preset, limits.
        transport: how messages come back; Pipes' protocol over files where none is given.
        report: told of every event of the worker's, for logs and progress.
    """

    def __init__(
        self,
        settings: VipeSettings,
        transport: Transport | None = None,
        report: Callable[[Event], None] | None = None,
    ) -> None:
        self.settings = settings
        told = settings.model_dump(mode="json", include={"preset", "mode", "command", "overrides"})
        self._worker = ResidentWorker("vipe", settings, told, transport, report)

    def estimate(self, batch: Sequence[VipeClipTask]) -> Generator[VipeOutcome, None, None]:
        """Yield the outcome of every clip once, as it is known; see `WorkerBatches.run`.

        Raises:
            ConfigError: the environment or the scratch directory cannot be used.
            InputError: two clips share an id or a destination, or a destination exists.
        """
        self._require_plain_scratch()
        clips = {clip.id: clip for clip in batch}

        def refuse(task: BatchTask) -> WorkerFailed | None:
            return self._refusal(clips[task.id])

        def read_back(task: BatchTask, output: Path, done: Done, versions: Mapping[str, str]) -> VipeResult:
            clip = clips[task.id]
            figures = {**done.figures, "preset": self.settings.preset, "versions": dict(versions)}
            result = read_result(
                output,
                frames=clip.frames,
                height=clip.height,
                width=clip.width,
                settings=self.settings,
                figures=figures,
            )
            return dataclasses.replace(result, root=clip.destination)

        batches = WorkerBatches(self._worker, self.settings, refuse, read_back)
        yield from batches.run([_task(clip) for clip in batch])

    def close(self) -> None:
        """End the process; it is launched again when it is needed."""
        self._worker.close()

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
        root = self.settings.scratch or tempfile.gettempdir()
        if not _SAFE_PATH.fullmatch(root):
            raise ConfigError(
                f"{root!r} holds a character that ViPE's command line gives a meaning to",
                where="scratch",
                remedy="Give a directory of plain ASCII letters, digits, '-', '_' and '.'.",
            )


def _task(clip: VipeClipTask) -> BatchTask:
    # ViPE names its files after its input.
    name = CLIP if clip.source.is_dir() else f"{CLIP}.mp4"
    return BatchTask(clip.id, clip.frames, clip.destination, {"input": TaskInput(clip.source, name)})


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
