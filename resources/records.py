"""Records: the small JSON beside a stage's output that says how it came to be, and the content key it is made under.

A key is computed before any work from what the work depends on (the inputs' keys, the stage's settings, its code
version, the engine with its weights, the seed). An output whose record carries the key that would be computed now is
current; anything else is stale, and the difference of the two sets of key parts says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RECORD_FORMAT = "sceneloom.record/1"
FAILURE_FORMAT = "sceneloom.failure/1"


def canonical_json(value: object) -> str:
    """JSON text with sorted keys and no spaces: equal values give equal text. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 (64 hex digits) of the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyParts(_Frozen):
    """Everything that a stage's output depends on.

    Attributes:
        inputs: content key of each input stage, and "source" for what the scene itself is made from.
        settings: the slice of the profile that the stage reads.
        code_version: bumped by hand when the stage's code changes what it makes.
        engine: name, and digests of weights or versions where there are any.
        seed: of every random draw in the stage.
    """

    inputs: dict[str, str]
    settings: dict[str, Any]
    code_version: str
    engine: dict[str, Any]
    seed: int

    def key(self) -> str:
        """The content key: 64 hex digits."""
        return digest(self.model_dump(mode="json"))


class KeyChange(_Frozen):
    """One difference between the key that a record carries and the key that would be computed now."""

    part: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.part}: {_short(self.before)} → {_short(self.now)}"


def key_changes(before: KeyParts, now: KeyParts) -> list[KeyChange]:
    """What changed, as dotted paths into the key parts, sorted; empty when the keys are equal."""
    old, new = _flatten(before.model_dump(mode="json")), _flatten(now.model_dump(mode="json"))
    # Compared as the text that the key is made of: there 1, 1.0 and true differ, and so do null and absence.
    before_text, now_text = ({path: canonical_json(value) for path, value in flat.items()} for flat in (old, new))
    paths = sorted(path for path in old.keys() | new.keys() if before_text.get(path) != now_text.get(path))
    return [KeyChange(part=path, before=old.get(path), now=new.get(path)) for path in paths]


class PublishedFile(_Frozen):
    """A file of an output: path relative to the output's directory, size, checksum."""

    path: str
    bytes: int
    sha256: str


class Attempt(_Frozen):
    """One failed attempt at a stage.

    Attributes:
        log: the end of what a worker printed; empty for what does not run as one.
    """

    at: str
    run: str
    reason: str
    message: str
    key: str
    seconds: float
    log: str = ""


class ContractObservation(_Frozen):
    """What a tensor contract expected of one published array, and what was found in it."""

    contract: str
    array: str
    expected: str
    found: str
    passed: bool


class Record(_Frozen):
    """How one stage's output of one scene came to be. Written last: with it the output exists, without it it does not.

    Attributes:
        directory: the output's directory, relative to the stage's folder.
        licence: SPDX id, or the name the engine's licence goes by.
        seconds: wall time of the stage.
        metrics: numbers worth plotting over scenes.
        metadata: what a person wants to see (JSON).
        contracts: expected against found for every array at the time of writing.
        attempts: failed attempts that came before.
        versions: libraries that took part.
        machine: processor and GPUs that it was made on.
    """

    format: Literal["sceneloom.record/1"] = RECORD_FORMAT
    scene: str
    stage: str
    key: str
    key_parts: KeyParts
    directory: str
    files: list[PublishedFile]
    engine: str
    licence: str
    seconds: float
    metrics: dict[str, float | int] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    contracts: list[ContractObservation] = Field(default_factory=list)
    attempts: list[Attempt] = Field(default_factory=list)
    created_at: str
    run: str
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""

    @property
    def bytes(self) -> int:
        """Size of all published files."""
        return sum(file.bytes for file in self.files)


class Failure(_Frozen):
    """What went wrong with a stage of a scene, attempt by attempt, since it last succeeded."""

    format: Literal["sceneloom.failure/1"] = FAILURE_FORMAT
    scene: str
    stage: str
    attempts: list[Attempt]
    quarantined: bool = False

    @property
    def last(self) -> Attempt:
        """The most recent attempt."""
        return self.attempts[-1]


def _flatten(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, Mapping) and value:
        flat: dict[str, object] = {}
        for name, inner in value.items():
            flat |= _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        return flat
    return {prefix: value}


def _short(value: object, limit: int = 60) -> str:
    if value is None:
        return "(absent)"
    text = value if isinstance(value, str) else canonical_json(value)
    if len(text) == 64 and all(character in "0123456789abcdef" for character in text):
        return text[:12]
    return text if len(text) <= limit else text[: limit - 1] + "…"
