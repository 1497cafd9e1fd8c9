"""How much of the time a video engine's device works while clips are checked, encoded to H.264, hashed and published.

    python benchmarks/engine_overlap.py [--seconds 5] [--scenes 3] [--clips 6] [--frames 49 --height 352 --width 640]

The engine is a stand-in that holds its device for a known time a clip and computes nothing; all else is the scene
pipeline as it runs in production, from views to published clips. Busy is the time in which the device was held, as a
share of the time from the first clip's start to the last one's end. Rows: files written in the thread that generates,
as a plain loop would; in a thread of their own; and with a second scene under way.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import yaml

from sceneloom.assets import camera_paths, conditioning_view, scene_scaffold, video_latents
from sceneloom.assets.catalog import refresh_catalog
from sceneloom.assets.scene_pipeline import Report, ScenePipeline
from sceneloom.datasets.catalog import SceneEntry
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.resources.engines import Camera, EngineContract, Engines, GeneratedClip, Scaffold, View
from sceneloom.resources.profiles import load_profile
from sceneloom.resources.scene_mapper import LocalSceneMapper
from sceneloom.resources.store import SceneStore

TARGET_BUSY = 0.97
NAMES = ("left", "right", "up", "zoom_out", "zoom_in", "clockwise", "down", "counterclockwise")
STAGES = (conditioning_view.STAGE, scene_scaffold.STAGE, camera_paths.STAGE, video_latents.STAGE)


class StandIn:
    """A video engine that holds its device for a known time a clip; every clip is the view, moved sideways."""

    contract = EngineContract("stand_in", "library", frozenset({"view"}), frozenset({"frames", "latents"}), "none")

    def __init__(self, seconds: float, space: LatentSpace) -> None:
        self.seconds = seconds
        self.space = space
        self.device = threading.Lock()
        self.held: list[tuple[float, float]] = []

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> _StandInScene:
        """Keep the view."""
        return _StandInScene(self, view)

    def busy(self) -> float:
        """Time in which the device was held, as a share of that from the first start to the last end."""
        starts, ends = zip(*self.held, strict=True)
        return sum(end - start for start, end in self.held) / (max(ends) - min(starts))


class _StandInScene:
    def __init__(self, engine: StandIn, view: View) -> None:
        self.engine = engine
        self.view = view

    def generate(self, cameras: Sequence[Camera], *, seed: int) -> GeneratedClip:
        engine = self.engine
        with engine.device:
            started = time.perf_counter()
            deadline = started + engine.seconds
            frames = np.stack([np.roll(self.view.picture, 3 * index, axis=1) for index in range(len(cameras))])
            shape = engine.space.latent_shape(*frames.shape[:3])
            latents = np.random.default_rng(seed).standard_normal(shape).astype(np.float16)
            time.sleep(max(deadline - time.perf_counter(), 0.0))
            engine.held.append((started, time.perf_counter()))
        return GeneratedClip(frames, latents, engine.space, {"stand_in": True})


class _InLine:
    """What a plain loop does: files are written before the next clip is begun."""

    def submit(self, write: Callable[[], object]) -> None:
        write()

    def __enter__(self) -> _InLine:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def main() -> None:
    """Measure and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--scenes", type=int, default=3)
    arguments.add_argument("--clips", type=int, default=6, choices=range(1, len(NAMES) + 1))
    arguments.add_argument("--frames", type=int, default=49)
    arguments.add_argument("--height", type=int, default=352)
    arguments.add_argument("--width", type=int, default=640)
    chosen = arguments.parse_args()
    print(
        f"{chosen.scenes} scenes × {chosen.clips} clips of {chosen.frames} × {chosen.height} × {chosen.width}, "
        f"device held {chosen.seconds:g} s a clip (target ≥ {TARGET_BUSY:.0%} busy)"
    )
    print(f"  {'':<46}{'busy':>8}{'wall, s':>10}")
    for name, parallel, in_line in (
        ("written by the thread that generates", 1, True),
        ("written in a thread of its own", 1, False),
        ("written in a thread of its own, two scenes", 2, False),
    ):
        with tempfile.TemporaryDirectory() as folder:
            busy, wall = measure(Path(folder), chosen, parallel, in_line=in_line)
        print(f"  {name:<46}{busy:>8.1%}{wall:>10.1f}", flush=True)


def measure(folder: Path, chosen: argparse.Namespace, parallel: int, *, in_line: bool) -> tuple[float, float]:
    """Busy share and wall time of one way of writing."""
    profile = load_profile(_write_profile(folder, chosen))
    store = SceneStore(profile.store.url, profile.collection.name)
    engines = Engines(profile)
    stand_in = StandIn(chosen.seconds, engines.latent_space())
    catalog = refresh_catalog(profile, store).catalog
    pipeline = ScenePipeline(profile, store, STAGES, engines)
    started = time.perf_counter()
    with (
        mock.patch.object(engines, "video", return_value=stand_in),
        mock.patch.object(video_latents, "ClipWriter", _InLine if in_line else video_latents.ClipWriter),
    ):
        names = [stage.name for stage in STAGES]
        mapper = LocalSceneMapper(parallel)

        def run_scene(scene: SceneEntry, report: Report) -> bool:
            return pipeline.run_scene(scene, names, report)

        failures = [event.failure for event in mapper.map(run_scene, catalog.active()) if event.failure is not None]
    if failures:
        raise SystemExit(f"a stage failed: {failures[0].message}")
    return stand_in.busy(), time.perf_counter() - started


def _write_profile(folder: Path, chosen: argparse.Namespace) -> Path:
    (folder / "prompts.txt").write_text("".join(f"room number {index}\n" for index in range(chosen.scenes)))
    document = {
        "format": "sceneloom.profile/1",
        "collection": {"name": "overlap", "sources": ["prompts.txt"]},
        "store": {"url": "store"},
        "frames": {"count": chosen.frames, "height": chosen.height, "width": chosen.width},
        "trajectories": {"names": list(NAMES[: chosen.clips])},
    }
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


if __name__ == "__main__":
    main()
