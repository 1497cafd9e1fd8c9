# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = [
#     "dagster-pipes>=1.13,<1.14",
#     "torch==2.9.*",
#     "torchvision==0.24.*",
#     "nvidia-vipe @ git+https://github.com/nv-tlabs/vipe@157494a2aca56c9f5adbd36977d892e88401b4e2",
#     # Preset lyra needs it, and ViPE does not name it among its requirements.
#     "moge @ git+https://github.com/microsoft/MoGe@925b8ed835a7a9cdb7578ba15c658a0afc969030",
# ]
#
# [tool.uv.sources]
# torch = { index = "pytorch-cu128" }
# torchvision = { index = "pytorch-cu128" }
#
# [tool.uv.extra-build-dependencies]
# nvidia-vipe = [{ requirement = "torch", match-runtime = true }]
#
# [[tool.uv.index]]
# name = "pytorch-cu128"
# url = "https://download.pytorch.org/whl/cu128"
# explicit = true
# ///
"""ViPE on clips, in ViPE's own environment: needs dagster-pipes and ViPE, and nothing of sceneloom.

The manifest that the Pipes extra `manifest` names holds the settings and the clips::

    {"format": "sceneloom.worker/1",
     "settings": {"preset": "lyra", "mode": "command", "command": ["vipe"], "overrides": []},
     "tasks": [{"id": "…", "input": "clip.mp4 or a folder of frames", "output": "an absent folder", "log": "a file"}],
     "feed": "a file to which more clips are added, one JSON line {"task": …} each, until a line {"end": true}"}

Without a feed the clips of the manifest are all. Every clip is reported by custom messages: started, progress, and done
or failed. A clip that fails does not end the batch. What the messages say is what was seen here (exit code, exception,
the end of the log), never a judgement.

Extras: `manifest` (path), and `end_with_input` (true: standard input is a pipe that closes when whoever launched this
is gone, and then this process group ends too).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dagster_pipes import PipesContext, open_dagster_pipes

FORMAT = "sceneloom.worker/1"
LOG_END = 1500
"""Characters, as JSON, of a log or an exception in a message, which stays below 4 kB and is written in one piece."""
PROGRESS_INTERVAL = 1.0
"""Seconds between progress messages of one phase."""
FEED_INTERVAL = 0.03
"""Seconds between two looks at the feed."""

PHASES = (
    "Reading video stream",
    "Reading image frames",
    "Caching",
    "SLAM Pass (1/2)",
    "SLAM Pass (2/2)",
    "Update depth",
    "Aligning depth",
    "Estimating multi-view depth",
)
_BAR = re.compile(r"\s*(?P<phase>.+?):\s+(?P<percent>\d{1,3})%\|")
_ENERGY = re.compile(r"BA iters = \d+, energy: (?P<before>[-+.\w]+) -> (?P<after>[-+.\w]+)")
_COVERAGE = re.compile(r"Minimum UV score: (?P<score>[-+.\w]+)")


class ClipFailed(Exception):
    """The clip has no whole result; `evidence` is what was seen."""

    def __init__(self, **evidence: Any) -> None:
        super().__init__(evidence.get("message", ""))
        self.evidence = evidence


class Log:
    """A clip's log: written to its file as it comes, read for progress and for the figures that ViPE prints."""

    def __init__(self, path: Path, report: Callable[[str, float], None]) -> None:
        self._file = path.open("ab")
        self._report = report
        self._last_report: dict[str, float] = {}
        self._end: deque[str] = deque(maxlen=40)
        self.figures: dict[str, Any] = {}

    def close(self) -> None:
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Take a piece of output that ends at a line's end or a carriage return."""
        self._file.write(chunk)
        self._file.flush()
        for line in re.split(r"[\r\n]+", chunk.decode("utf-8", "replace")):
            if line.strip():
                self._read(line)

    def end(self) -> str:
        """The last lines, without progress bars."""
        return shortened("\n".join(self._end))

    def _read(self, line: str) -> None:
        bar = _BAR.match(line)
        if bar:
            self._read_bar(bar["phase"], int(bar["percent"]) / 100)
            return
        self._end.append(line)
        energy, coverage = _ENERGY.search(line), _COVERAGE.search(line)
        if energy:
            self.figures["bundle_adjustment_energy"] = [_number(energy["before"]), _number(energy["after"])]
        if coverage:
            self.figures["minimum_coverage_score"] = _number(coverage["score"])

    def _read_bar(self, phase: str, fraction: float) -> None:
        if phase not in PHASES:
            return
        now = time.monotonic()
        if fraction == 1.0 or now - self._last_report.get(phase, -PROGRESS_INTERVAL) >= PROGRESS_INTERVAL:
            self._last_report[phase] = now
            self._report(phase, fraction)


def shortened(text: str) -> str:
    """The end of a text, as much as a message carries; other than ASCII characters take six each."""
    end = text[-LOG_END:]
    while len(json.dumps(end)) > LOG_END:
        end = end[len(end) // 4 :]
    return end


def _number(text: str) -> float | None:
    """The finite number that a text stands for, None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def run_command(command: list[str], settings: dict[str, Any], task: dict[str, Any], log: Log) -> None:
    """One clip by ViPE's command line. Raises ClipFailed when it does not end with 0."""
    source = Path(task["input"])
    given = ["--image-dir", str(source)] if source.is_dir() else [str(source)]
    argv = [*command, "infer", *given, "-o", task["output"], "-p", settings["preset"]]
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=source.parent
        )
    except OSError as error:
        raise ClipFailed(message=f"{command[0]} cannot be started: {error}") from error
    assert process.stdout is not None
    for chunk in _lines(process.stdout.fileno()):
        log.write(chunk)
    code = process.wait()
    if code != 0:
        raise ClipFailed(exit_code=code, message=f"vipe infer ended with {code}")


def _lines(descriptor: int) -> Iterator[bytes]:
    """Output as it comes, cut after the last line end or carriage return of each piece."""
    rest = b""
    while piece := os.read(descriptor, 1 << 16):
        rest += piece
        cut = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


class Driver:
    """ViPE's own pipeline, built once for the batch; it takes overrides that the command line does not.

    ViPE 1.2 and later keep the models of a pipeline; 1.0 and 1.1 load some of them again for every clip.
    """

    def __init__(self, settings: dict[str, Any], output: str) -> None:
        config = importlib.import_module("vipe.config")
        vipe = importlib.import_module("vipe")
        self._base = importlib.import_module("vipe.streams.base")
        overrides = [
            f"pipeline={settings['preset']}",
            f"pipeline.output.path={output}",
            "pipeline.output.save_artifacts=true",
            "pipeline.output.save_viz=false",
            *settings["overrides"],
        ]
        self.pipeline = vipe.make_pipeline(config.parse_typed_config("default", hydra_args=overrides).pipeline)
        if not hasattr(self.pipeline, "out_path"):
            raise RuntimeError("this ViPE's pipeline has no out_path: use mode `command`")
        with contextlib.suppress(OSError):
            Path(output).rmdir()  # building the pipeline makes the folder

    def run(self, task: dict[str, Any]) -> None:
        """One clip."""
        source, output = Path(task["input"]), Path(task["output"])
        if source.is_dir():
            frames = importlib.import_module("vipe.streams.frame_dir_stream").FrameDirStream(source)
        else:
            frames = importlib.import_module("vipe.streams.raw_mp4_stream").RawMp4Stream(source)
        output.mkdir(parents=True)
        self.pipeline.out_path = output
        self.pipeline.run(self._base.ProcessedVideoStream(frames, []).cache(desc="Reading video stream"))


@contextlib.contextmanager
def _output_into(log: Log) -> Iterator[None]:
    """Send what this process and its libraries print into the clip's log."""
    reading, writing = os.pipe()
    kept = [os.dup(1), os.dup(2)]
    thread = threading.Thread(target=lambda: [log.write(chunk) for chunk in _lines(reading)])
    thread.start()
    try:
        for descriptor in (1, 2):
            os.dup2(writing, descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), kept, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(writing)
        thread.join()
        os.close(reading)


class Batch:
    """Takes the clips of a manifest one after the other."""

    def __init__(self, pipes: PipesContext, manifest: dict[str, Any]) -> None:
        self._pipes = pipes
        self._settings = manifest["settings"]
        self._manifest = manifest
        self._driver: Driver | None = None

    def run(self) -> None:
        """Every clip; ends early where the process is of no more use after a failure."""
        self._say("ready", versions=_versions(), problems=self._problems())
        for task in tasks_of(self._manifest):
            self._say("started", task=task["id"])
            began = time.monotonic()
            log = Log(Path(task["log"]), lambda phase, done, name=task["id"]: self._progress(name, phase, done))
            try:
                with contextlib.closing(log):
                    self._run_clip(task, log)
            except ClipFailed as failed:
                evidence = {"log": log.end(), **failed.evidence}
                self._say("failed", task=task["id"], seconds=time.monotonic() - began, **evidence)
                if failed.evidence.get("worn_out"):
                    return
            else:
                self._say("done", task=task["id"], seconds=time.monotonic() - began, figures=log.figures)

    def _problems(self) -> list[str]:
        """What of ViPE is not to be found here."""
        if self._settings["mode"] == "driver":
            return [] if importlib.util.find_spec("vipe") else [f"{sys.executable} has no package vipe"]
        program = _found(self._settings["command"])[0]
        return [] if shutil.which(program) else [f"{program} is neither beside {sys.executable} nor on the PATH"]

    def _run_clip(self, task: dict[str, Any], log: Log) -> None:
        if self._settings["mode"] == "command":
            run_command(_found(self._settings["command"]), self._settings, task, log)
            return
        with _output_into(log):
            try:
                if self._driver is None:
                    self._driver = Driver(self._settings, task["output"])
                self._driver.run(task)
            except SystemExit as ended:
                # A vendored part of ViPE calls exit() when it has no object to track.
                raise ClipFailed(type="SystemExit", message=f"ViPE called exit({ended.code})") from ended
            except Exception as error:
                text = "".join(traceback.format_exception(error))
                log.write(text.encode())
                name = type(error).__name__
                # After an error on the device nothing that the process holds there can be trusted.
                worn_out = name in {"OutOfMemoryError", "AcceleratorError"} or "CUDA error" in str(error)
                raise ClipFailed(type=name, message=shortened(str(error)), worn_out=worn_out) from error

    def _progress(self, task: str, phase: str, fraction: float) -> None:
        self._say("progress", task=task, phase=phase, fraction=fraction)

    def _say(self, kind: str, **content: Any) -> None:
        self._pipes.report_custom_message({"kind": kind, **content})


def _found(command: list[str]) -> list[str]:
    """The command, its program taken from beside this interpreter where it lies there."""
    beside = Path(sys.executable).parent / command[0]
    program = str(beside) if beside.is_file() else shutil.which(command[0])
    return [program or command[0], *command[1:]]


def _versions() -> dict[str, str]:
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("nvidia-vipe", "torch", "dagster-pipes"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def tasks_of(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The manifest's tasks, then those of its feed as they come, until the feed says its end."""
    yield from manifest["tasks"]
    if "feed" not in manifest:
        return
    position = 0
    while True:
        # Opened anew for each look: a network file system shows what another machine added to whoever opens a file.
        with Path(manifest["feed"]).open("rb") as feed:
            feed.seek(position)
            line = feed.readline()
        if not line.endswith(b"\n"):
            time.sleep(FEED_INTERVAL)
            continue
        position += len(line)
        said = json.loads(line)
        if "task" not in said:
            return
        yield said["task"]


def _end_with_input() -> None:
    """Wait until standard input closes, then end this process group."""
    while os.read(0, 4096):
        continue
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    with open_dagster_pipes() as pipes:
        manifest = json.loads(Path(pipes.get_extra("manifest")).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"the manifest's format is {manifest['format']!r}, expected {FORMAT!r}")
        if pipes.extras.get("end_with_input"):
            threading.Thread(target=_end_with_input, daemon=True).start()
        Batch(pipes, manifest).run()


if __name__ == "__main__":
    main()
