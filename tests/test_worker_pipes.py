"""Workers inside Dagster runs: a session of Pipes as their transport, and what such a session demands of its step."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sceneloom.assets.worker_pipes import LineMessageReader, PipesTransport
from sceneloom.resources.vipe import VipeOutcome, ViPEWorker
from sceneloom.resources.worker_protocol import Done, Failed, parse_event

from .test_vipe_worker import manifest_of
from .vipe_clips import batch, vipe_settings

SCENES = dg.StaticPartitionsDefinition([f"scene-{index}" for index in range(8)])
FAULTS = {"scene-1": "kill:pose.npz", "scene-3": "hang", "scene-4": "garbage", "scene-6": "oom"}


def test_a_backfill_over_scenes_of_which_four_fail_in_four_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps(FAULTS))
    outcomes: list[VipeOutcome] = []

    @dg.asset(partitions_def=SCENES, backfill_policy=dg.BackfillPolicy.single_run())
    def estimated(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        settings = vipe_settings(tmp_path / "scratch", clip_timeout=8.0, frame_timeout=0.01)
        with contextlib.closing(ViPEWorker(settings, transport=PipesTransport(context))) as worker:
            for outcome in worker.estimate(batch(tmp_path, *context.partition_keys)):
                outcomes.append(outcome)
                if outcome.result is not None:
                    context.log_event(dg.AssetMaterialization("scene", partition=outcome.task))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [estimated],
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": "scene-0",
                "dagster/asset_partition_range_end": "scene-7",
            },
        )
        assert done.success
        materialized = instance.get_materialized_partitions(dg.AssetKey("scene"))
    assert materialized == {"scene-0", "scene-2", "scene-5", "scene-7"}
    failures = {outcome.task: outcome.failure.failure.value for outcome in outcomes if outcome.failure}
    assert failures == {"scene-1": "killed", "scene-3": "timeout", "scene-4": "invalid-output", "scene-6": "oom"}


def test_a_step_that_yields_nothing_cannot_hold_a_session(tmp_path: Path) -> None:
    """Why the stages of scenes run workers over FileTransport."""

    @dg.multi_asset(specs=[dg.AssetSpec("a", skippable=True)], can_subset=True)
    def stages(context: dg.AssetExecutionContext) -> Any:
        with PipesTransport(context).open(tmp_path, {}):
            pass
        yield from ()

    with pytest.raises(dg.DagsterInvariantViolationError, match="did not yield or return expected outputs"):
        dg.materialize([stages], instance=dg.DagsterInstance.ephemeral())


LINES = [
    {"__dagster_pipes_version": "0.1", "method": "opened", "params": {}},
    {"__dagster_pipes_version": "0.1", "method": "report_custom_message", "params": {"payload": 1}},
    {"__dagster_pipes_version": "0.1", "method": "no_such_method", "params": {}},
    {"__dagster_pipes_version": "0.1", "method": "report_custom_message", "params": {"payload": 2}},
    {"__dagster_pipes_version": "0.1", "method": "closed", "params": None},
]


def test_lines_that_are_no_messages_do_not_end_the_reading(tmp_path: Path) -> None:
    heard: list[Any] = []

    @dg.asset
    def one(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        reader = LineMessageReader(tmp_path / "messages")
        injector = dg.PipesFileContextInjector(str(tmp_path / "context"))
        with dg.open_pipes_session(context, injector, reader) as session, (tmp_path / "messages").open("w") as file:
            for line in LINES:
                file.write("Traceback, printed into the wrong file\n" + json.dumps(line) + "\n")
            file.write('{"method": "report_custom_m')
        heard.extend(session.get_custom_messages())
        return dg.MaterializeResult()

    assert dg.materialize([one], instance=dg.DagsterInstance.ephemeral()).success
    assert heard == [1, 2]


NOISE_AND_A_FAILURE = {"scene-0": "noise", "scene-1": "slam"}
"""What ViPE's stand-in does to the clips of `require_three_clips`."""


def require_three_clips(folder: Path, launch: Callable[[dg.AssetExecutionContext, Path], Any]) -> None:
    """Run ViPE's worker on a manifest of three clips under a client of Pipes', and hold it to its messages.

    Args:
        folder: that the worker sees.
        launch: runs the client on a manifest, and returns its invocation.
    """
    names = ["scene-0", "scene-1", "scene-2"]
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(manifest_of(folder, *names)))
    heard: list[Any] = []

    @dg.asset
    def poses(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        heard.extend(launch(context, manifest).get_custom_messages())
        return dg.MaterializeResult()

    assert dg.materialize([poses], instance=dg.DagsterInstance.ephemeral()).success
    events = [event for event in map(parse_event, heard) if event is not None]
    assert len(events) == len(heard)
    ends = {event.task: event.kind for event in events if isinstance(event, Done | Failed)}
    assert ends == {"scene-0": "done", "scene-1": "failed", "scene-2": "done"}
    assert (folder / "scene-2-out/vipe/scene-2_info.pkl").exists()
