"""Memory of one scene through all stages in one process: peak resident size and seconds of each stage.

    python benchmarks/memory.py [--height 704 --width 1280 --frames 121 --trajectories 1] [--codec FOLDER]

Sampled every 20 ms by a thread; the kernel's own high-water mark of the whole process is printed beside it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from sceneloom.assets.catalog import refresh_catalog
from sceneloom.assets.scene_pipeline import StageEvent
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stages import STAGES
from sceneloom.ops.trajectories import LYRA_VIEWS
from sceneloom.resources.profiles import load_profile

PROMPT = "a bright living room with a grey sofa, two wooden chairs and a floor lamp"
TARGET_BYTES = 6e9
SAMPLE_SECONDS = 0.02


class PeakMemory:
    """Samples this process's resident size in a thread; `take` gives the peak since it was last called."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak = self._process.memory_info().rss
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            resident = self._process.memory_info().rss
            with self._lock:
                self._peak = max(self._peak, resident)
            time.sleep(SAMPLE_SECONDS)

    def take(self) -> int:
        """The largest resident size since the last call, bytes."""
        with self._lock:
            peak, self._peak = self._peak, self._process.memory_info().rss
        return peak


@dataclass(frozen=True)
class StageCost:
    """What one stage took."""

    stage: str
    peak_bytes: int
    seconds: float
    published_bytes: int


def measure(profile_file: Path) -> list[StageCost]:
    """Make the profile's only scene, one stage after the other."""
    runtime = SceneRuntime(load_profile(profile_file))
    (scene,) = refresh_catalog(runtime.profile, runtime.store).catalog.active()
    pipeline = runtime.pipeline("memory")
    memory = PeakMemory()
    costs: list[StageCost] = []

    def ended(event: StageEvent) -> None:
        if event.failure is not None:
            raise SystemExit(f"{event.stage} failed: {event.failure.message}")
        assert event.record is not None
        if event.outcome == "made":
            costs.append(StageCost(event.stage, memory.take(), event.record.seconds, event.record.bytes))

    for stage in STAGES:
        memory.take()
        pipeline.run_scene(scene, [stage.name], ended)
    return costs


def write_profile(folder: Path, options: argparse.Namespace) -> Path:
    """A profile of one scene at the asked size."""
    source = str(options.picture.resolve()) if options.picture else "prompts.txt"
    (folder / "prompts.txt").write_text(f"{PROMPT}\n")
    profile = {
        "format": "sceneloom.profile/1",
        "collection": {"name": "memory", "sources": [source]},
        "store": {"url": "store"},
        "frames": {"count": options.frames, "height": options.height, "width": options.width},
        "trajectories": {"names": list(LYRA_VIEWS[: options.trajectories])},
    }
    if options.codec:
        profile["engines"] = {"latent_codec": {"path": str(options.codec.resolve())}}
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(profile))
    return file


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=704)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--frames", type=int, default=121)
    parser.add_argument("--trajectories", type=int, default=1, choices=range(1, len(LYRA_VIEWS) + 1))
    parser.add_argument("--codec", type=Path, help="folder of a latent codec; without it the shipped one")
    parser.add_argument("--picture", type=Path, help="a picture instead of a prompt")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sceneloom-memory-") as folder:
        costs = measure(write_profile(Path(folder), options))
    print(f"{options.trajectories} × {options.frames} frames of {options.height} × {options.width}")
    print(f"{'stage':<20}{'peak GB':>10}{'seconds':>10}{'MB published':>14}")
    for cost in costs:
        print(f"{cost.stage:<20}{cost.peak_bytes / 1e9:>10.2f}{cost.seconds:>10.1f}{cost.published_bytes / 1e6:>14.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    verdict = "within" if peak <= TARGET_BYTES else "above"
    print(f"{'whole process':<20}{peak / 1e9:>10.2f}   {verdict} the target of {TARGET_BYTES / 1e9:.0f} GB")


if __name__ == "__main__":
    main()
