"""What the framework itself costs for one stage of one scene, with all work already done.

    python benchmarks/overhead.py [--scenes 50] [--stages 9]

Rows measured in one run, all on SQLite: our batched run over finished scenes, the scene pipeline without Dagster, and
Dagster's own way of one run for each partition, with an asset that does nothing. CPU seconds are of this process and do
not depend on what else runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from sceneloom.assets.scene_assets import RUNTIME_RESOURCE, build_scene_assets
from sceneloom.assets.scene_partitions import register_scenes, scene_partitions
from sceneloom.assets.scene_pipeline import ScenePipeline
from sceneloom.assets.stage import Made, Stage, StageContext
from sceneloom.datasets.catalog import SceneEntry
from sceneloom.resources.engines import EngineIdentity, Engines
from sceneloom.resources.profiles import load_profile
from sceneloom.resources.scene_mapper import LocalSceneMapper
from sceneloom.resources.store import SceneStore

TARGET_MILLISECONDS = 25
SINGLE_RUNS = 20


class Cost(NamedTuple):
    """Milliseconds a scene-stage: by the clock, and of this process's CPU time."""

    wall: float
    cpu: float


def main() -> None:
    """Measure and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scenes", type=int, default=50)
    arguments.add_argument("--stages", type=int, default=9)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), chosen.scenes, chosen.stages)
    print(f"{chosen.scenes} scenes × {chosen.stages} stages, SQLite, ms a scene-stage (target ≤ {TARGET_MILLISECONDS})")
    print(f"  {'':<58}{'wall':>9}{'CPU':>9}")
    for name, cost in rows.items():
        print(f"  {name:<58}{cost.wall:>9.2f}{cost.cpu:>9.2f}")


def measure(folder: Path, scenes: int, stages: int) -> dict[str, Cost]:
    """Cost of one stage of one scene, by way of running it."""
    profile = load_profile()
    runtime = _Runtime(SceneStore(str(folder / "store"), "bench"), _stages(stages), Engines(profile), _entries(scenes))
    count = scenes * stages
    runtime.run_all()
    with dg.instance_for_test(temp_dir=str(folder)) as instance:
        batched = _cost(_batched_run(instance, runtime), count)
        single = _cost(lambda: _one_run_each(instance, list(runtime.entries)[:SINGLE_RUNS]), min(scenes, SINGLE_RUNS))
    return {
        "batched run over finished scenes": batched,
        "the scene pipeline alone, without Dagster": _cost(runtime.run_all, count),
        "Dagster, one run for each partition, an empty asset": single,
    }


def _batched_run(instance: dg.DagsterInstance, runtime: _Runtime) -> Callable[[], object]:
    """A run over all scenes, after one that has already logged them."""
    partitions = scene_partitions("bench")
    assets = build_scene_assets(runtime.stages, partitions, scenes_per_run=len(runtime.entries), pool=None)
    job = dg.Definitions(assets=[assets], resources={RUNTIME_RESOURCE: runtime}).resolve_implicit_global_asset_job_def()
    keys = list(runtime.entries)
    span = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    register_scenes(instance, partitions, keys)

    def run() -> None:
        job.execute_in_process(instance=instance, tags=span, run_config=_QUIET)

    run()
    return run


class _Runtime:
    """What the scene assets ask of their runtime, over stages that do nothing."""

    def __init__(
        self, store: SceneStore, stages: list[Stage], engines: Engines, entries: dict[str, SceneEntry]
    ) -> None:
        self.store, self.stages, self.engines, self.entries = store, stages, engines, entries
        self.mapper = LocalSceneMapper(2)

    def progress(self, event: object) -> None:
        """Nothing is shown."""

    def pipeline(self, run_id: str = "") -> ScenePipeline:
        return ScenePipeline(self.engines.profile, self.store, self.stages, self.engines, run_id)

    def catalog(self) -> _Runtime:
        return self

    def require(self, keys: list[str]) -> list[SceneEntry]:
        return [self.entries[key] for key in keys]

    def run_all(self) -> None:
        pipeline = self.pipeline()
        for scene in self.entries.values():
            pipeline.run_scene(scene, [stage.name for stage in self.stages], self.progress)


def _stages(count: int) -> list[Stage]:
    def make(context: StageContext) -> Made:
        (context.scratch / "output.txt").write_text("made")
        return Made(metrics={"number": 1.0})

    names = [f"stage_{index}" for index in range(count)]
    return [
        Stage(
            name=name,
            inputs=tuple(names[max(index - 1, 0) : index]),
            code_version="1",
            description="Does nothing.",
            kinds=frozenset(),
            make=make,
            settings=lambda profile, scene: {},
            engine=lambda engines, scene: EngineIdentity("none", "Apache-2.0"),
            sources=(),
        )
        for index, name in enumerate(names)
    ]


def _entries(count: int) -> dict[str, SceneEntry]:
    return {
        f"scene-{index:05d}": SceneEntry(
            scene_id=f"scene-{index:05d}",
            kind="prompt",
            prompt=f"room {index}",
            image_url=None,
            image_sha256=None,
            image_bytes=None,
            image_version=None,
            width=None,
            height=None,
            perceptual_hash=None,
            seed=index,
            split="train",
            licence=None,
            tags=[],
            source="benchmark",
            content_digest=f"{index:064x}",
        )
        for index in range(count)
    }


def _one_run_each(instance: dg.DagsterInstance, keys: list[str]) -> None:
    partitions = dg.StaticPartitionsDefinition(keys)

    @dg.asset(partitions_def=partitions)
    def empty() -> None:
        """Does nothing."""

    for key in keys:
        dg.materialize([empty], partition_key=key, instance=instance, run_config=_QUIET)


_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _cost(run: Callable[[], object], count: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost((time.perf_counter() - wall) / count * 1e3, (time.process_time() - cpu) / count * 1e3)


if __name__ == "__main__":
    main()
