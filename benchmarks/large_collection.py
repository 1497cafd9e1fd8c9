"""How long a large collection takes until its scenes can be chosen in the UI: catalogue read, partitions registered.

    python benchmarks/large_collection.py [--prompts 10000]

Runs the job `refresh` in this process on SQLite, first on an empty store, then again with nothing changed
(target ≤ 60 s for 10,000 prompts), and one tick of the sensor that asks for the missing scenes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import yaml

from sceneloom.assets.scene_partitions import scene_partitions
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.orchestration.code_location import build_definitions
from sceneloom.orchestration.instance import CHECKOUT
from sceneloom.orchestration.jobs import REFRESH
from sceneloom.resources.profiles import load_profile

TARGET_SECONDS = 60
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main() -> None:
    """Measure and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--prompts", type=int, default=10_000)
    prompts = arguments.parse_args().prompts
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), prompts)
    print(f"{prompts} prompts on SQLite, seconds (target ≤ {TARGET_SECONDS} until the partitions are there)")
    for name, seconds in rows.items():
        print(f"  {name:<52}{seconds:>8.2f}")


def measure(folder: Path, prompts: int) -> dict[str, float]:
    """Seconds of a first refresh, of a second, and of a tick of the sensor `missing_scenes`."""
    runtime = SceneRuntime(load_profile(_write_profile(folder, prompts)))
    definitions = build_definitions(runtime)
    shutil.copy(CHECKOUT / "dagster.yaml", folder)
    os.environ["DAGSTER_HOME"] = str(folder)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        job = definitions.resolve_job_def(REFRESH)

        def refresh() -> None:
            job.execute_in_process(instance=instance, run_config=_QUIET)

        def tick() -> None:
            context = dg.build_sensor_context(instance=instance, definitions=definitions)
            definitions.resolve_sensor_def("missing_scenes")(context)

        rows = {
            "refresh of an empty store, partitions registered": _seconds(refresh),
            "refresh with nothing changed": _seconds(refresh),
            "tick of the sensor missing_scenes": _seconds(tick),
        }
        name = scene_partitions("large").name
        assert name is not None
        registered = len(instance.get_dynamic_partitions(name))
        assert registered == prompts, f"{registered} of {prompts} partitions"
    return rows


def _write_profile(folder: Path, prompts: int) -> Path:
    (folder / "prompts.txt").write_text("".join(f"a living room with {index} books\n" for index in range(prompts)))
    profile = {
        "format": "sceneloom.profile/1",
        "collection": {"name": "large", "sources": ["prompts.txt"]},
        "store": {"url": "store"},
        "frames": {"count": 17, "height": 176, "width": 320},
        "trajectories": {"names": ["left"]},
    }
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(profile))
    return file


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
