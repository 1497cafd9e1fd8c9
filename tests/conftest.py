"""Fixtures of the tests around Dagster: an instance of this repository's dagster.yaml, and a project of toy stages."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stage import Stage
from sceneloom.orchestration.instance_storage import URL_VARIABLE
from sceneloom.resources.profiles import Profile, load_profile

from .dagster_servers import dagster_home
from .toy_stages import toy_stages

_KNOW_THE_STAGES = (
    "assets.scene_runtime",
    "orchestration.automation",
    "orchestration.code_location",
    "orchestration.jobs",
    "orchestration.make_command",
    "orchestration.scene_commands",
    "orchestration.store_commands",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME of its own, with the repository's dagster.yaml, on SQLite."""
    folder = dagster_home(tmp_path / "dagster_home")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of `home`."""
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


@dataclass
class ToyProject:
    """A profile and its prompts on disk; every part of the program takes the toy stages for the real ones.

    Attributes:
        file: the profile.
        made: (scene, stage) for every call of a stage's function.
    """

    file: Path
    made: list[tuple[str, str]]
    monkeypatch: pytest.MonkeyPatch

    def use_stages(self, stages: Sequence[Stage]) -> None:
        """Take these stages for the project's."""
        for module in _KNOW_THE_STAGES:
            self.monkeypatch.setattr(importlib.import_module(f"sceneloom.{module}"), "STAGES", tuple(stages))

    def write_prompts(self, *prompts: str) -> None:
        """Replace the only source."""
        (self.file.parent / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))

    def change(self, **sections: object) -> None:
        """Replace top-level sections of the profile."""
        self.file.write_text(yaml.safe_dump({**yaml.safe_load(self.file.read_text()), **sections}))

    def profile(self) -> Profile:
        """The profile as it is on disk."""
        return load_profile(self.file)

    def runtime(self) -> SceneRuntime:
        """A runtime over the profile as it is on disk."""
        return SceneRuntime(self.profile())

    def scenes(self) -> list[str]:
        """Ids of the active scenes, in the order of the catalogue."""
        return [scene.scene_id for scene in self.runtime().catalog().active()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyProject:
    """A project of three prompts, nothing made yet."""
    folder = tmp_path / "project"
    folder.mkdir()
    profile = {
        "format": "sceneloom.profile/1",
        "collection": {"name": "toys", "sources": ["prompts.txt"]},
        "store": {"url": "store"},
        "frames": {"count": 17, "height": 176, "width": 320},
        "trajectories": {"names": ["left"]},
        "execution": {"scenes_per_run": 2, "max_attempts": 2},
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    made: list[tuple[str, str]] = []
    toys = ToyProject(folder / "profile.yaml", made, monkeypatch)
    toys.write_prompts("a red room", "a green room", "a blue room")
    toys.use_stages(toy_stages(made=made))
    monkeypatch.setenv("SCENELOOM_CONFIG", str(toys.file))
    return toys
