"""What a stage is: one step of a scene's way, as a plain function with its dependencies declared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.catalog import SceneEntry
from ..resources.engines import EngineIdentity, Engines
from ..resources.profiles import Profile
from ..resources.records import ContractObservation, Record
from ..resources.store import SceneStore


@dataclass(frozen=True, slots=True)
class StageInputs:
    """Published outputs of the earlier stages of one scene; every file is checked against its checksum."""

    store: SceneStore
    records: Mapping[str, Record]

    def path(self, stage: str, name: str) -> Path:
        """Local path of a published file. Raises CorruptFileError when it does not hold what was published."""
        return self.store.fetch(self.records[stage], name)

    def url(self, stage: str, name: str) -> str:
        """Where the published file lives in the store."""
        return self.store.file_url(self.records[stage], name)

    def json(self, stage: str, name: str) -> dict[str, Any]:
        """A published JSON object."""
        return json.loads(self.path(stage, name).read_text())

    def arrays(self, stage: str, name: str) -> dict[str, np.ndarray]:
        """All arrays of a published npz file."""
        with np.load(self.path(stage, name), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def names(self, stage: str) -> list[str]:
        """The files that the stage published, in order."""
        return [file.path for file in self.records[stage].files]


@dataclass(frozen=True, slots=True)
class StageContext:
    """All that a stage's function gets.

    Attributes:
        scene: what the scene is made from.
        profile: the whole profile; only the slice that the stage declares as its settings may change what it makes.
        inputs: outputs of the earlier stages.
        scratch: empty local directory; every file left in it is published.
        seed: of every random draw in this stage of this scene.
        engines: the engines chosen in the profile, loaded once a process.
    """

    scene: SceneEntry
    profile: Profile
    inputs: StageInputs
    scratch: Path
    seed: int
    engines: Engines

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file into the output: sorted keys, finite numbers only."""
        (self.scratch / name).write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


@dataclass(slots=True)
class Made:
    """What a stage says about the output it left in its scratch directory.

    Attributes:
        metrics: finite numbers that are worth plotting over scenes.
        metadata: JSON for people (drawn distances, what was understood, previews).
        contracts: expected against found, for every array written.
    """

    metrics: dict[str, float | int] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    contracts: list[ContractObservation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a scene's way.

    Attributes:
        name: also the asset key.
        inputs: names of the earlier stages whose outputs it reads.
        code_version: bumped by hand whenever the code that `make`, or one of `sources`, uses changes what is made.
        description: for the asset's page.
        kinds: for the asset's page, e.g. {"mp4", "torch"}.
        make: makes the output in `context.scratch`; raises on failure.
        settings: the slice of the profile that the output depends on, for this scene.
        engine: identity of the engine that does the heavy work for this scene.
        sources: engine classes whose code decides what is made, e.g. "resources/embedded_engines.py:RaycastVideo". What
            `make` itself uses follows from its imports.
        checks: what its output is held to, by the contract's name, with a description; each is an asset check.
    """

    name: str
    inputs: tuple[str, ...]
    code_version: str
    description: str
    kinds: frozenset[str]
    make: Callable[[StageContext], Made]
    settings: Callable[[Profile, SceneEntry], dict[str, Any]]
    engine: Callable[[Engines, SceneEntry], EngineIdentity]
    sources: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
