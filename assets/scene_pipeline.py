"""The way of a scene: which stages are current, which must be made, and making them one after the other.

Knows nothing of Dagster. The record is the truth: a stage whose record carries the key that would be computed now is
left alone; anything else is made in scratch, checked, and published with its record last.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import platform
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from ..datasets.catalog import SceneEntry
from ..datasets.errors import CorruptFileError, StoreError
from ..resources.engines import Engines
from ..resources.failures import RULES, Reason, StageFailed, again_after, classify
from ..resources.machine_name import machine_name
from ..resources.profiles import Profile
from ..resources.records import Attempt, ContractObservation, Failure, KeyChange, KeyParts, Record, key_changes
from ..resources.store import CorruptOutputError, SceneStore
from .observations import ContractBroken
from .stage import Made, Stage, StageContext, StageInputs

State = Literal["current", "stale", "missing", "failed", "quarantined"]
Outcome = Literal["current", "made", "failed"]

_Model = TypeVar("_Model", Record, Failure)


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How a stage of a scene stands against the profile and code of now.

    Attributes:
        changes: for a stale stage, what differs from when it was made.
        failure: attempts since it last succeeded, if it is failing.
    """

    stage: str
    state: State
    changes: tuple[KeyChange, ...] = ()
    record: Record | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class StageEvent:
    """A stage of a scene has just ended: left alone, made, or failed (on a `broken` contract, where that is why)."""

    scene: str
    stage: str
    outcome: Outcome
    seconds: float
    record: Record | None = None
    failure: Attempt | None = None
    quarantined: bool = False
    broken: ContractObservation | None = None


Report = Callable[[StageEvent], None]


class BatchStopped(Exception):
    """The rest of the batch would fail in the same way (full disk, impossible profile)."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.message)
        self.attempt = attempt


class ScenePipeline:
    """Runs the stages of scenes of one collection.

    Args:
        profile: settings; changing them changes the keys.
        store: where outputs and records live.
        stages: in the order of their dependencies.
        engines: loaded once and shared by all scenes of this process.
        run_id: written into records and attempts.
    """

    def __init__(
        self, profile: Profile, store: SceneStore, stages: Sequence[Stage], engines: Engines, run_id: str = ""
    ) -> None:
        self.profile = profile
        self.store = store
        self.stages = tuple(stages)
        self.engines = engines
        self.run_id = run_id
        self._stopped = threading.Event()

    # ---------------------------------------------------------------- planning

    def plan(self, scene: SceneEntry) -> dict[str, KeyParts]:
        """The key parts of every stage of the scene, from what they would be made of now. No work is done."""
        source = hashlib.sha256(scene.content_digest.encode()).hexdigest()
        parts: dict[str, KeyParts] = {}
        for stage in self.stages:
            inputs = {name: parts[name].key() for name in stage.inputs} or {"source": source}
            parts[stage.name] = KeyParts(
                inputs=inputs,
                settings=stage.settings(self.profile, scene),
                code_version=stage.code_version,
                engine=stage.engine(self.engines, scene).for_key(),
                seed=stage_seed(self.profile.seed, scene.seed, stage.name),
            )
        return parts

    def status(self, scene: SceneEntry) -> list[StageStatus]:
        """How every stage of the scene stands, in order."""
        plan = self.plan(scene)
        return [self._stage_status(scene, stage, plan[stage.name]) for stage in self.stages]

    def _stage_status(self, scene: SceneEntry, stage: Stage, now: KeyParts) -> StageStatus:
        failure = _readable(self.store.failure, scene.scene_id, stage.name)
        record = _readable(self.store.record, scene.scene_id, stage.name)
        changes = tuple(key_changes(record.key_parts, now)) if record else ()
        if record and record.key == now.key() and self.store.has_files(record):
            return StageStatus(stage.name, "current", record=record)
        if failure and failure.last.key == now.key():
            state: State = "quarantined" if failure.quarantined else "failed"
            return StageStatus(stage.name, state, changes, record, failure)
        return StageStatus(stage.name, "stale" if record and changes else "missing", changes, record, failure)

    # ---------------------------------------------------------------- running

    def stop(self) -> None:
        """Ask every scene under way to end before its next stage."""
        self._stopped.set()

    def run_scene(self, scene: SceneEntry, selected: Iterable[str], report: Report) -> bool:
        """Bring the selected stages of a scene up to date, in order; report each stage as it ends.

        A stage that fails ends the scene (later stages are not tried), after one more attempt at once where the
        reason allows it. A corrupt input that is among the selected stages is made anew, and what follows from it.
        Returns whether all selected stages are current now. Raises BatchStopped when the reason concerns every scene.
        """
        chosen = set(selected)
        reported: set[str] = set()
        set_aside: set[str] = set()

        def report_news(event: StageEvent) -> None:
            if event.outcome != "current" or event.stage not in reported:
                report(event)
            reported.add(event.stage)

        while True:
            try:
                return self._run_stages(scene, chosen, report_news)
            except _InputWasCorrupt as corrupt:
                if corrupt.stage not in chosen or corrupt.stage in set_aside:
                    report(corrupt.event)
                    return False
                set_aside.add(corrupt.stage)
            except StoreError as error:
                # Records cannot be read or failures noted: no other scene fares better.
                self.stop()
                raise BatchStopped(self._attempt(error, "", 0.0)) from error

    def _run_stages(self, scene: SceneEntry, chosen: set[str], report: Report) -> bool:
        plan = self.plan(scene)
        records: dict[str, Record] = {}
        for stage in self.stages:
            if self._stopped.is_set():
                return False
            parts = plan[stage.name]
            standing = self._current_record(scene.scene_id, stage.name, parts.key())
            if standing is not None:
                records[stage.name] = standing
                if stage.name in chosen:
                    report(StageEvent(scene.scene_id, stage.name, "current", 0.0, record=standing))
                continue
            if stage.name not in chosen:
                continue
            made = self._make_with_attempts(scene, stage, parts, records, report)
            if made is None:
                return False
            records[stage.name] = made
        return True

    def _current_record(self, scene_id: str, stage: str, key: str) -> Record | None:
        try:
            record = self.store.record(scene_id, stage)
        except CorruptFileError:
            self.store.set_aside_record(scene_id, stage)
            return None
        if record is None or record.key != key:
            return None
        if not self.store.has_files(record):
            self.store.set_aside_record(scene_id, stage)
            return None
        return record

    def _make_with_attempts(
        self, scene: SceneEntry, stage: Stage, parts: KeyParts, records: Mapping[str, Record], report: Report
    ) -> Record | None:
        """Make the stage, with one more try where that can help; None when it failed. Reports either way."""
        earlier = self._earlier_attempts(scene.scene_id, stage.name, parts.key())
        if earlier is not None and earlier.quarantined:
            report(StageEvent(scene.scene_id, stage.name, "failed", 0.0, failure=earlier.last, quarantined=True))
            return None
        attempts = list(earlier.attempts) if earlier else []
        while True:
            started = time.perf_counter()
            try:
                record = self._make(scene, stage, parts, records, attempts)
            except Exception as error:  # noqa: BLE001 - every failure is classified, recorded and reported
                event = self._failed(scene, stage, parts, error, attempts, time.perf_counter() - started)
                again = again_after(error)
            else:
                report(StageEvent(scene.scene_id, stage.name, "made", record.seconds, record=record))
                return record
            assert event.failure is not None
            rule = RULES[Reason(event.failure.reason)]
            first_try = len(attempts) == (len(earlier.attempts) if earlier else 0) + 1
            if again == "at_once" and first_try and not event.quarantined:
                continue
            report(event)
            if rule.stops_batch:
                self.stop()
                raise BatchStopped(event.failure)
            return None

    def _failed(
        self,
        scene: SceneEntry,
        stage: Stage,
        parts: KeyParts,
        error: Exception,
        attempts: list[Attempt],
        seconds: float,
    ) -> StageEvent:
        """Record a failed attempt (added to `attempts`); a corrupt input is set aside and raises _InputWasCorrupt."""
        attempt = self._attempt(error, parts.key(), seconds)
        attempts.append(attempt)
        hopeless = again_after(error) == "after_change"
        quarantined = self._note_failure(scene.scene_id, stage.name, attempts, hopeless=hopeless)
        broken = error.observation if isinstance(error, ContractBroken) else None
        event = StageEvent(
            scene.scene_id, stage.name, "failed", seconds, failure=attempt, quarantined=quarantined, broken=broken
        )
        if isinstance(error, CorruptOutputError):
            self.store.set_aside_record(error.scene, error.stage)
            raise _InputWasCorrupt(error.stage, event) from error
        return event

    def _make(
        self,
        scene: SceneEntry,
        stage: Stage,
        parts: KeyParts,
        records: Mapping[str, Record],
        attempts: Sequence[Attempt],
    ) -> Record:
        absent = [name for name in stage.inputs if name not in records]
        if absent:
            raise StageFailed(
                Reason.MISSING_INPUT,
                f"{scene.scene_id}/{stage.name}: {', '.join(absent)} is missing or stale. "
                f"Materialize it too, e.g. --select '+{stage.name}'.",
            )
        identity = stage.engine(self.engines, scene)
        with self.store.scratch() as scratch:
            started = time.perf_counter()
            context = StageContext(
                scene=scene,
                profile=self.profile,
                inputs=StageInputs(self.store, records),
                scratch=scratch,
                seed=parts.seed,
                engines=self.engines,
            )
            made = stage.make(context)
            draft = self._draft(scene, stage, parts, made, identity.name, identity.licence, attempts)
            draft = draft.model_copy(update={"seconds": time.perf_counter() - started})
            return self.store.publish(draft, scratch)

    def _draft(
        self,
        scene: SceneEntry,
        stage: Stage,
        parts: KeyParts,
        made: Made,
        engine: str,
        licence: str,
        attempts: Sequence[Attempt],
    ) -> Record:
        return Record(
            scene=scene.scene_id,
            stage=stage.name,
            key=parts.key(),
            key_parts=parts,
            directory="",
            files=[],
            engine=engine,
            licence=licence,
            seconds=0.0,
            metrics=made.metrics,
            metadata=made.metadata,
            contracts=made.contracts,
            attempts=list(attempts),
            created_at=_now(),
            run=self.run_id,
            versions=library_versions(),
            machine=machine_name(),
        )

    # ---------------------------------------------------------------- failures

    def _earlier_attempts(self, scene_id: str, stage: str, key: str) -> Failure | None:
        """Failed attempts at this very key; attempts at another key say nothing about this one."""
        try:
            failure = self.store.failure(scene_id, stage)
        except CorruptFileError:
            self.store.clear_failure(scene_id, stage)
            return None
        return failure if failure is not None and failure.last.key == key else None

    def _attempt(self, error: Exception, key: str, seconds: float) -> Attempt:
        reason = classify(error)
        message = str(error) or type(error).__name__
        if reason is Reason.INTERNAL_ERROR:
            message = f"{type(error).__name__}: {message} ({_origin(error)})"
        log = error.log if isinstance(error, StageFailed) else ""
        return Attempt(at=_now(), run=self.run_id, reason=reason, message=message, key=key, seconds=seconds, log=log)

    def _note_failure(self, scene_id: str, stage: str, attempts: Sequence[Attempt], *, hopeless: bool) -> bool:
        """Write a scene's attempts down; returns whether it is quarantined, at once where it is `hopeless`."""
        counted = sum(RULES[Reason(attempt.reason)].counts for attempt in attempts)
        quarantined = hopeless or counted >= self.profile.execution.max_attempts
        if any(RULES[Reason(attempt.reason)].stops_batch for attempt in attempts[-1:]):
            # A store that is full or gone cannot take the note either, and the scene is not to blame.
            return False
        self.store.write_failure(Failure(scene=scene_id, stage=stage, attempts=list(attempts), quarantined=quarantined))
        return quarantined


class _InputWasCorrupt(Exception):
    """A published input did not hold what was written; its record has been set aside."""

    def __init__(self, stage: str, event: StageEvent) -> None:
        super().__init__(stage)
        self.stage = stage
        self.event = event


def _readable(read: Callable[[str, str], _Model | None], scene_id: str, stage: str) -> _Model | None:
    """What `read` gives, None where the file cannot be read as what it should be: the next run sets it aside."""
    try:
        return read(scene_id, stage)
    except CorruptFileError:
        return None


def stage_seed(profile_seed: int, scene_seed: int, stage: str) -> int:
    """Seed of a stage's random draws: 63 bits from the profile's and the scene's seed and the stage's name."""
    text = f"{profile_seed}/{scene_seed}/{stage}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide what the embedded engines make."""
    versions = {"python": platform.python_version()}
    for name in ("sceneloom", "numpy", "torch", "warp-lang", "diffusers", "av", "zarr"):
        versions[name] = importlib.metadata.version(name)
    return versions


def _origin(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no traceback"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
