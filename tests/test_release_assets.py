from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from sceneloom.datasets.layouts.manifest import read_manifest
from sceneloom.orchestration.code_location import build_definitions

from .tiny import MadeCollection, copied_collection

TUM = dg.AssetKey(["release", "tum"])


@pytest.fixture
def made(tmp_path: Path) -> MadeCollection:
    return copied_collection(tmp_path / "project")


def materialize(
    made: MadeCollection, instance: dg.DagsterInstance, **config: object
) -> tuple[dg.ExecuteInProcessResult, dict[str, object]]:
    repository = build_definitions(made.runtime).get_repository_def()
    job = repository.get_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[TUM],
        run_config={"ops": {"release__tum": {"config": config}}},
        raise_on_error=False,
    )
    events = [event.materialization for event in result.get_asset_materialization_events()]
    return result, {name: entry.value for event in events for name, entry in event.metadata.items()}


def test_a_release_is_published_described_and_read_back(
    made: MadeCollection, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    result, told = materialize(made, instance, out=str(tmp_path / "published" / "tum"))
    assert result.success
    assert told["scenes"] == len(made.catalog.active())
    assert Path(str(told["dagster/uri"])) == tmp_path / "published" / "tum"
    manifest = read_manifest(tmp_path / "published" / "tum")
    assert told["files"] == len(manifest.files)
    assert told["commercial_use"] == manifest.commercial_use.allowed
    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("reads_back", True)


def test_a_damaged_release_fails_its_check(made: MadeCollection, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    out = tmp_path / "published" / "tum"
    materialize(made, instance, out=str(out))
    damaged = next(out.rglob("groundtruth.txt"))
    damaged.write_text("")
    result, _ = materialize(made, instance, out=str(out))
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert damaged.relative_to(out).as_posix() in str(check.metadata["first"].value)


def test_what_cannot_be_published_fails_with_its_own_message(
    made: MadeCollection, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    result, _ = materialize(made, instance, out=str(tmp_path / "tum"), scenes=["nowhere"])
    assert not result.success
    [data] = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert data is not None
    assert "1 of 1 scenes are unknown: nowhere" in (data.description or "")
    assert not (tmp_path / "tum").exists()
