"""ViPE as a worker: clips go in, checked results come out, one clip's failure never ends the batch."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..datasets.errors import ConfigError, InputError, SceneloomError
from .vipe_results import CLIP, VipeResult, read_result
from .worker_failures import FailureClass, WorkerFailed
from .worker_process import TaskEnded, WorkerProcess, WorkerTask, end_of_file
from .worker_protocol import Event, FileTransport, Transport
from .worker_settings import VIPE_PRESETS, VipeSettings

BYTES_PER_PIXEL_AND_FRAME = 60
"""Host memory that ViPE takes: three layers of caches and two copies of the depth, 12 bytes each."""
LOG_NAME = "vipe.log"
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


@dataclass(frozen=True, slots=True)
class VipeOutcome:
    """How a clip fared: a result, whole and checked under its destination, or why there is none.

    Attributes:
        attempts: how often ViPE was tried; 0 for a clip that was refused beforehand.
        seconds: ViPE's own time for the result.
        versions: of ViPE and its libraries, as the worker found them.
    """

    clip: str
    attempts: int
    result: VipeResult | None = None
    failure: WorkerFailed | None = None
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)


class ViPEWorker:
    """NVIDIA ViPE (nv-tlabs/vipe) in an environment of its own.

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
        self._process = WorkerProcess("vipe", settings, transport or FileTransport(), report)

    def estimate(self, batch: Sequence[VipeClipTask]) -> Generator[VipeOutcome, None, None]:
        """Yield the outcome of every clip once, as it is known.

        Clips that ViPE cannot take are refused first. A clip whose class of failure allows it is tried once more after
        the others, from an empty directory. After a failure that every clip would share, clips that have not begun are
        given up with the same failure. Ending the iteration early ends the worker.

        Raises:
            ConfigError: the environment or the scratch directory cannot be used.
            InputError: two clips share an id or a destination, or a destination exists.
        """
        _require_distinct(batch)
        missing = self.settings.missing()
        if missing is not None:
            raise ConfigError(missing, where="ViPE's environment", remedy="Correct the worker's settings.")
        with self._scratch() as scratch:
            accepted: list[VipeClipTask] = []
            for clip in batch:
                refusal = self._refusal(clip)
                if refusal is None:
                    accepted.append(clip)
                else:
                    yield VipeOutcome(clip.id, 0, failure=refusal)
            yield from self._attempts(accepted, scratch)

    # ---------------------------------------------------------------- attempts

    def _attempts(self, clips: Sequence[VipeClipTask], scratch: Path) -> Iterator[VipeOutcome]:
        again: list[VipeClipTask] = []
        stopped: WorkerFailed | None = None
        for outcome in self._attempt(clips, scratch, 1):
            if outcome.failure is not None and outcome.failure.rule.again == "at_once":
                again += [clip for clip in clips if clip.id == outcome.clip]
                continue
            if outcome.failure is not None and outcome.failure.rule.stops_batch:
                stopped = outcome.failure
            yield outcome
        if stopped is None:
            yield from self._attempt(again, scratch, 2)
        else:
            for clip in again:
                yield VipeOutcome(clip.id, 1, failure=stopped)

    def _attempt(self, clips: Sequence[VipeClipTask], scratch: Path, number: int) -> Iterator[VipeOutcome]:
        if not clips:
            return
        folder = scratch / f"attempt-{number}"
        folder.mkdir()
        copied = self.settings.environment.container is not None
        by_id = {
            clip.id: (clip, _Attempt(clip, folder / f"{index:05d}", copied=copied)) for index, clip in enumerate(clips)
        }
        tasks = [WorkerTask(clip.id, clip.frames, attempt.task()) for clip, attempt in by_id.values()]
        told = self.settings.model_dump(mode="json", include={"preset", "mode", "command", "overrides"})
        open_clips = dict.fromkeys(by_id)
        for ended in self._process.run(tasks, told, folder):
            clip, attempt = by_id[ended.task]
            outcome = self._outcome(clip, attempt, ended, number)
            attempt.remove()
            del open_clips[clip.id]
            yield outcome
            if outcome.failure is not None and outcome.failure.rule.stops_batch:
                for left in open_clips:
                    yield VipeOutcome(left, number - 1, failure=outcome.failure)
                return

    def _outcome(self, clip: VipeClipTask, attempt: _Attempt, ended: TaskEnded, number: int) -> VipeOutcome:
        """Read back what the worker says is done; publish it if it is."""
        if ended.done is None:
            assert ended.failure is not None
            ended.failure.log = attempt.end_of_log() or ended.failure.log
            return VipeOutcome(clip.id, number, failure=ended.failure, versions=ended.versions)
        figures = {**ended.done.figures, "preset": self.settings.preset, "versions": dict(ended.versions)}
        try:
            result = read_result(
                attempt.output,
                frames=clip.frames,
                height=clip.height,
                width=clip.width,
                settings=self.settings,
                figures=figures,
            )
        except WorkerFailed as failure:
            failure.log = attempt.end_of_log()
            return VipeOutcome(clip.id, number, failure=failure, versions=ended.versions)
        shutil.copyfile(attempt.log, attempt.output / LOG_NAME)
        _publish(attempt.output, clip.destination)
        return VipeOutcome(
            clip.id,
            number,
            result=_moved(result, clip.destination),
            seconds=ended.done.seconds,
            versions=ended.versions,
        )

    # ---------------------------------------------------------------- before the launch

    def _refusal(self, clip: VipeClipTask) -> WorkerFailed | None:
        """Why ViPE would fail on a clip, by a look at its size and its header; None where nothing speaks against it."""
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
        allowed = self._memory()
        if needed > allowed:
            found = f"{frames} frames of {height} × {width} need about {needed / 1e9:.1f} GB of memory"
            return WorkerFailed(FailureClass.OVERSIZE, f"{found}, {allowed / 1e9:.1f} GB may be used")
        return None

    def _memory(self) -> float:
        """Bytes of host memory that the worker may take."""
        import psutil

        if self.settings.memory_limit is not None:
            return self.settings.memory_limit * 1e9
        return min(psutil.virtual_memory().available, _control_group_memory())

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A private directory whose path ViPE takes literally; removed at the end, whatever happens."""
        root = Path(self.settings.scratch or tempfile.gettempdir())
        if not _SAFE_PATH.fullmatch(str(root)):
            raise ConfigError(
                f"{str(root)!r} holds a character that ViPE's command line gives a meaning to",
                where="scratch",
                remedy="Give a directory of plain ASCII letters, digits, '-', '_' and '.'.",
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix="sceneloom-vipe-", dir=root))
        except OSError as error:
            raise ConfigError(
                f"{root} cannot be written to ({error.strerror})", where="scratch", remedy="Give another directory."
            ) from error
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class _Attempt:
    """The private directory of one clip and attempt.

    Args:
        copied: whether the input is copied into it, as a container sees nothing beside it; else it is linked.
    """

    def __init__(self, clip: VipeClipTask, folder: Path, *, copied: bool) -> None:
        folder.mkdir()
        # ViPE names its files after its input, so the input's own name and folder never reach it.
        self.input = folder / (CLIP if clip.source.is_dir() else f"{CLIP}.mp4")
        if not copied:
            self.input.symlink_to(clip.source.absolute())
        elif clip.source.is_dir():
            shutil.copytree(clip.source, self.input)
        else:
            shutil.copyfile(clip.source, self.input)
        self.output = folder / "out"
        self.log = folder / "log"
        self._folder = folder

    def task(self) -> dict[str, Any]:
        """What the worker is told."""
        return {"input": str(self.input), "output": str(self.output), "log": str(self.log)}

    def end_of_log(self) -> str:
        """The last lines that ViPE printed; empty where it was never started."""
        return end_of_file(self.log) if self.log.exists() else ""

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)


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


def _control_group_memory() -> float:
    """Bytes that the control group of this process has left; infinite where it sets no limit."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return math.inf
    return math.inf if limit == "max" else int(limit) - used


def _publish(finished: Path, destination: Path) -> None:
    """Make a finished directory appear whole under another name, on another file system too."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    try:
        shutil.move(finished, unfinished)
        unfinished.rename(destination)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _moved(result: VipeResult, root: Path) -> VipeResult:
    return dataclasses.replace(result, root=root)


def _require_distinct(batch: Sequence[VipeClipTask]) -> None:
    for what, values in (
        ("id", [clip.id for clip in batch]),
        ("destination", [str(clip.destination) for clip in batch]),
    ):
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise InputError(f"two clips have the {what} {repeated[0]!r}", where="batch", remedy="Give each its own.")
    for clip in batch:
        if clip.destination.exists():
            raise InputError("it exists", where=str(clip.destination), remedy="Give a destination that does not.")
