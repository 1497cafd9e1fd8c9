"""Asset checks generated from what every write is held to: expected against found, over the scenes of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from ..resources.records import ContractObservation, Record
from .stage import Stage

LISTED_VIOLATIONS = 50
"""Rows of a check's table; the count is always of all."""


def contract_check_specs(stages: Sequence[Stage]) -> list[dg.AssetCheckSpec]:
    """One check for each contract that a stage's arrays are held to."""
    return [
        dg.AssetCheckSpec(name, asset=stage.name, description=description)
        for stage in stages
        for name, description in stage.checks.items()
    ]


@dataclass
class BatchObservations:
    """What the contracts expected and found over the scenes of one run, by stage and contract."""

    observed: dict[tuple[str, str], list[tuple[str, ContractObservation]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, record: Record) -> None:
        """Take in what a stage's record says was expected and found."""
        for observation in record.contracts:
            self.observed[record.stage, observation.contract].append((record.scene, observation))

    def add_broken(self, scene: str, stage: str, observation: ContractObservation) -> None:
        """Take in the contract that a failed stage broke."""
        self.observed[stage, observation.contract].append((scene, observation))

    def results(self, stages: Sequence[str]) -> Iterator[dg.AssetCheckResult]:
        """One result for each stage and contract that was observed."""
        for (stage, contract), rows in self.observed.items():
            if stage in stages:
                yield _result(stage, contract, rows)


def _result(stage: str, contract: str, rows: Sequence[tuple[str, ContractObservation]]) -> dg.AssetCheckResult:
    violations = [(scene, row) for scene, row in rows if not row.passed]
    shown = violations[:LISTED_VIOLATIONS] or list(rows[:1])
    table = dg.MetadataValue.table(
        [
            dg.TableRecord({"scene": scene, "array": row.array, "expected": row.expected, "found": row.found})
            for scene, row in shown
        ],
        dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in ("scene", "array", "expected", "found")]),
    )
    return dg.AssetCheckResult(
        passed=not violations,
        check_name=contract,
        asset_key=stage,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "arrays": len(rows),
            "scenes": len({scene for scene, _ in rows}),
            "violations": len(violations),
            "violations_listed" if violations else "example": table,
        },
    )
