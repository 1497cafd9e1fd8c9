from __future__ import annotations

from typing import Any

import dagster as dg

from sceneloom.assets.contract_checks import LISTED_VIOLATIONS, BatchObservations, contract_check_specs
from sceneloom.resources.records import ContractObservation

from .test_records import record
from .toy_stages import toy_stages


def observation(contract: str = "depth", array: str = "left", *, passed: bool = True) -> ContractObservation:
    return ContractObservation(contract=contract, array=array, expected="float32", found="float32", passed=passed)


def rows(result: dg.AssetCheckResult, name: str) -> list[dict[str, Any]]:
    table = result.metadata[name]
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(row.data) for row in table.records]


def test_each_declared_contract_is_a_check_of_its_asset() -> None:
    specs = contract_check_specs(toy_stages(checks={"numbers": {"depth": "Depth is float32.", "cameras": "Rigid."}}))
    assert [(spec.asset_key.to_user_string(), spec.name, spec.description) for spec in specs] == [
        ("numbers", "depth", "Depth is float32."),
        ("numbers", "cameras", "Rigid."),
    ]


def test_a_check_passes_when_every_array_of_every_scene_kept_its_contract() -> None:
    batch = BatchObservations()
    batch.add(record(scene="a", stage="numbers", contracts=[observation(array="left"), observation(array="up")]))
    batch.add(record(scene="b", stage="numbers", contracts=[observation()]))

    [result] = batch.results(["numbers"])

    assert result.passed
    assert (result.check_name, result.asset_key) == ("depth", dg.AssetKey("numbers"))
    assert result.metadata["arrays"].value == 3
    assert result.metadata["scenes"].value == 2
    assert result.metadata["violations"].value == 0
    assert rows(result, "example") == [{"scene": "a", "array": "left", "expected": "float32", "found": "float32"}]


def test_one_broken_contract_fails_the_check_and_is_listed() -> None:
    batch = BatchObservations()
    batch.add(record(scene="a", stage="numbers", contracts=[observation()]))
    batch.add_broken("b", "numbers", observation(array="up", passed=False))

    [result] = batch.results(["numbers"])

    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.ERROR
    assert result.metadata["violations"].value == 1
    assert [(row["scene"], row["array"]) for row in rows(result, "violations_listed")] == [("b", "up")]


def test_a_long_list_of_violations_is_cut_and_counted() -> None:
    batch = BatchObservations()
    for number in range(LISTED_VIOLATIONS + 7):
        batch.add_broken(f"room-{number}", "numbers", observation(passed=False))
    [result] = batch.results(["numbers"])
    assert len(rows(result, "violations_listed")) == LISTED_VIOLATIONS
    assert result.metadata["violations"].value == LISTED_VIOLATIONS + 7


def test_results_are_of_the_stages_asked_for_one_for_each_contract() -> None:
    batch = BatchObservations()
    batch.add(record(stage="numbers", contracts=[observation("depth"), observation("cameras")]))
    batch.add(record(stage="title", contracts=[observation("depth")]))
    assert [(result.asset_key, result.check_name) for result in batch.results(["numbers"])] == [
        (dg.AssetKey("numbers"), "depth"),
        (dg.AssetKey("numbers"), "cameras"),
    ]
    assert list(BatchObservations().results(["numbers"])) == []
