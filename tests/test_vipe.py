"""ViPE as a worker, run on the stand-in of its program: batches, refusals, and every fault of its program."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sceneloom.datasets.errors import ConfigError, InputError
from sceneloom.ops.alignment import align_cameras
from sceneloom.resources import worker_batches
from sceneloom.resources.vipe import VipeClipTask, VipeOutcome, ViPEWorker
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed

from .vipe_clips import FRAMES, HEIGHT, STAND_IN, WIDTH, batch, vipe_settings, write_clip


def estimate(folder: Path, clips: Sequence[VipeClipTask], **changes: Any) -> dict[str, VipeOutcome]:
    scratch = folder / "scratch"
    with contextlib.closing(ViPEWorker(vipe_settings(scratch, **changes))) as worker:
        outcomes = list(worker.estimate(clips))
    assert sorted(outcome.task for outcome in outcomes) == sorted(clip.id for clip in clips)
    # Whatever happened, nothing is left but whole results.
    assert not scratch.exists() or list(scratch.iterdir()) == []
    results = folder / "results"
    left = sorted(path.name for path in results.iterdir()) if results.exists() else []
    assert left == sorted(outcome.task for outcome in outcomes if outcome.result is not None)
    return {outcome.task: outcome for outcome in outcomes}


def failure_of(outcome: VipeOutcome) -> WorkerFailed:
    assert outcome.failure is not None
    return outcome.failure


def test_a_batch_of_clips(tmp_path: Path) -> None:
    clips = batch(tmp_path, "a", "b")
    pictures = tmp_path / "frames (of a clip)"
    pictures.mkdir()
    write_pictures(pictures)
    clips.append(VipeClipTask("c", pictures, FRAMES, HEIGHT, WIDTH, tmp_path / "results" / "c"))
    found = estimate(tmp_path, clips)
    for name, outcome in found.items():
        assert outcome.result is not None, outcome.failure
        assert outcome.attempts == 1
        assert outcome.result.root == tmp_path / "results" / name
        assert len(list(outcome.result.depth())) == len(list(outcome.result.masks())) == FRAMES
        assert outcome.result.figures["bundle_adjustment_energy"] == [812.5, 3.25]
        assert outcome.result.figures["minimum_coverage_score"] == 0.42
        assert outcome.result.figures["preset"] == "default"
        assert outcome.versions["python"] == ".".join(map(str, sys.version_info[:3]))
        assert "Finished" in (outcome.result.root / "worker.log").read_text()


def write_pictures(folder: Path) -> None:
    from PIL import Image

    for number in range(FRAMES):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)).save(folder / f"{number:03d}.png")


def test_what_is_estimated_is_the_truth_up_to_a_similarity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    generator = np.random.default_rng(0)
    c2w = np.tile(np.eye(4), (FRAMES, 1, 1))
    c2w[:, :3, 3] = generator.normal(size=(FRAMES, 3))
    depth = generator.uniform(1, 5, (FRAMES, HEIGHT, WIDTH))
    intrinsics = np.tile([20.0, 20.0, WIDTH / 2, HEIGHT / 2], (FRAMES, 1))
    np.savez(truth / "a.npz", c2w=c2w, intrinsics=intrinsics, depth=depth)
    monkeypatch.setenv("VIPE_STAND_IN_TRUTH", str(truth))
    result = estimate(tmp_path, batch(tmp_path, "a"))["a"].result
    assert result is not None
    similarity = align_cameras(result.c2w, c2w.astype(np.float32))
    assert similarity.scale == pytest.approx(1 / 0.8, rel=1e-5)
    assert similarity.position_rmse < 1e-5
    np.testing.assert_allclose(np.stack(list(result.depth())) * similarity.scale, depth, rtol=1e-3)


# ---------------------------------------------------------------- faults of ViPE's program

FAULTS: dict[str, tuple[str, str, int]] = {
    "init": ("model-missing", "URLError", 1),
    "slam": ("oversize", "index 1024 is out of bounds", 1),
    "diverged": ("diverged", "singular", 2),
    "depth": ("oom", "CUDA out of memory", 1),
    "oom": ("oom", "137", 1),
    "exit0": ("invalid-output", "pose/clip.npz: the file is missing", 1),
    "rc0_empty_rgb": ("invalid-output", "rgb/clip.mp4: the file is empty", 1),
    "short:3": ("invalid-output", "frames 3 have none", 1),
    "nan_depth:2": ("invalid-output", "frame 0 is not finite", 1),
    "inf_depth": ("invalid-output", "50.0 % of frame 3 is not finite", 1),
    "gappy": ("invalid-output", "frames 2 have none", 1),
    "bad_focal": ("diverged", "field of view", 2),
    "no_rotation": ("invalid-output", "pose: ", 1),
    "garbage": ("invalid-output", "depth/clip.zip", 1),
    "mei": ("invalid-output", "MEI cameras", 1),
    "disk_full:depth.zip": ("write", "No space left on device", 1),
    "write:mask.zip": ("killed", "the writer of mask.zip stopped", 2),
    "kill:rgb.mp4": ("killed", "vipe infer ended with -9", 2),
}
STOPPING = {"init", "disk_full:depth.zip"}


def test_every_fault_has_its_class_and_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [fault for fault in FAULTS if fault not in STOPPING]
    names = {f"clip-{index}": fault for index, fault in enumerate(faults)}
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps(names))
    clips = batch(tmp_path, "first", *names, "last")
    found = estimate(tmp_path, clips)
    assert found["first"].result is not None
    assert found["last"].result is not None
    for name, fault in names.items():
        failure, message, attempts = FAULTS[fault]
        assert failure_of(found[name]).failure == failure, fault
        assert message in failure_of(found[name]).found, fault
        assert found[name].attempts == attempts, fault
        assert str(tmp_path) not in str(found[name].failure), fault
        assert "Reading video stream" in failure_of(found[name]).log, fault


def test_a_hang_is_ended_and_the_next_clip_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps({"a": "hang"}))
    found = estimate(tmp_path, batch(tmp_path, "a", "b"), clip_timeout=8.0, frame_timeout=0.01)
    assert failure_of(found["a"]).failure is FailureClass.TIMEOUT
    assert "within 8 s" in failure_of(found["a"]).found
    assert "Reading video stream" in failure_of(found["a"]).log
    assert found["a"].attempts == 1
    assert found["b"].result is not None


@pytest.mark.parametrize("fault", sorted(STOPPING))
def test_a_fault_that_every_clip_would_share_ends_the_batch(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps({"b": fault}))
    found = estimate(tmp_path, batch(tmp_path, "a", "b", "c", "d"))
    assert found["a"].result is not None
    failure, message, attempts = FAULTS[fault]
    for name in "bcd":
        assert failure_of(found[name]).failure == failure
        assert message in failure_of(found[name]).found
    assert [found[name].attempts for name in "abcd"] == [1, attempts, 0, 0]


def test_clips_put_by_for_a_second_attempt_end_with_a_batch_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = {"a": f"flaky:{tmp_path / 'tried'}", "b": "init"}
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps(faults))
    found = estimate(tmp_path, batch(tmp_path, "a", "b", "c"))
    # Tried again, the first would come out well; but what every clip would share ended the batch.
    assert {failure_of(found[name]).failure for name in "abc"} == {FailureClass.MODEL_MISSING}
    assert [found[name].attempts for name in "abc"] == [1, 1, 0]


def test_faults_that_break_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = {
        "a": "noise",
        "b": "evil_pickle",
        "c": f"flaky:{tmp_path / 'tried'}",
        "d": "slow_start:1",
        "e": "bigram:20",
    }
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps(faults))
    found = estimate(tmp_path, batch(tmp_path, *faults))
    assert {name: outcome.failure for name, outcome in found.items()} == dict.fromkeys(faults)
    assert {name: outcome.attempts for name, outcome in found.items()} == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}
    assert list(tmp_path.rglob("pickle_was_run")) == []


def test_lyra_without_moge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIPE_STAND_IN_FAULT", "moge_missing")
    found = estimate(tmp_path, batch(tmp_path, "a"), preset="lyra")
    assert failure_of(found["a"]).failure is FailureClass.MODEL_MISSING
    assert "moge is not found" in failure_of(found["a"]).found


@pytest.mark.parametrize("preset", ["static_vda", "wide_angle", "panorama"])
def test_presets_that_write_less(preset: str, tmp_path: Path) -> None:
    result = estimate(tmp_path, batch(tmp_path, "a"), preset=preset)["a"].result
    assert result is not None
    assert (result.camera == "PINHOLE") == (preset == "static_vda")


def test_a_preset_that_this_vipe_does_not_know(tmp_path: Path) -> None:
    failure = failure_of(estimate(tmp_path, batch(tmp_path, "a"), preset="pose_only")["a"])
    assert failure.failure is FailureClass.USAGE
    assert "pipeline/pose_only" in failure.found


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    failure = failure_of(estimate(tmp_path, batch(tmp_path, "a"), command=["no-such-vipe"])["a"])
    assert failure.failure is FailureClass.USAGE
    assert "no-such-vipe cannot be started" in failure.found


# ---------------------------------------------------------------- refusals before the launch


def test_clips_that_vipe_cannot_take_are_refused_and_the_others_run(tmp_path: Path) -> None:
    good, said_longer, junk, gone, slow = batch(tmp_path, "good", "said_longer", "junk", "gone", "slow")
    odd = tmp_path / "odd"
    odd.mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    write_odd_pictures(odd)
    junk.source.write_bytes(b"no video")
    gone.source.unlink()
    write_clip_of_rate(slow.source, 0.25)
    clips = [
        good,
        VipeClipTask("said_longer", said_longer.source, 9, HEIGHT, WIDTH, said_longer.destination),
        junk,
        gone,
        slow,
        VipeClipTask("odd", odd, 2, 15, 24, tmp_path / "results" / "odd"),
        VipeClipTask("empty", empty, 2, 16, 24, tmp_path / "results" / "empty"),
    ]
    found = estimate(tmp_path, clips)
    assert found["good"].result is not None
    messages = {
        "said_longer": "holds 4 frames of 16 × 24 pixels, expected 9 of 16 × 24",
        "junk": "junk.mp4",
        "gone": "gone.mp4",
        "slow": "0.25 frames a second",
        "odd": "15 × 24 pixels, and ViPE's video writer needs even sides",
        "empty": "no picture",
    }
    for name, message in messages.items():
        assert failure_of(found[name]).failure is FailureClass.INPUT, name
        assert message in failure_of(found[name]).found, name
        assert found[name].attempts == 0


def write_odd_pictures(folder: Path) -> None:
    from PIL import Image

    for number in range(2):
        Image.fromarray(np.zeros((15, 24, 3), np.uint8)).save(folder / f"{number}.PNG")


def write_clip_of_rate(path: Path, rate: float) -> None:
    from sceneloom.datasets.video import write_video

    write_video(path, [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * FRAMES, fps=rate)


def test_a_clip_that_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    needed = 60 * FRAMES * HEIGHT * WIDTH / 1e9
    small = estimate(tmp_path, batch(tmp_path, "a"), memory_limit=needed * 0.99)["a"]
    assert failure_of(small).failure is FailureClass.OUT_OF_MEMORY, "the limit may be raised"
    assert small.attempts == 0
    assert estimate(tmp_path, batch(tmp_path, "a"), memory_limit=needed)["a"].result is not None


def test_memory_is_what_machine_and_control_group_have_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_batches, "_control_group_memory", lambda: 1000.0)
    [outcome] = ViPEWorker(vipe_settings(tmp_path / "scratch")).estimate(batch(tmp_path, "a"))
    assert failure_of(outcome).failure is FailureClass.OUT_OF_MEMORY, "what is left changes"
    total = psutil.virtual_memory()._replace(total=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: total)
    [outcome] = ViPEWorker(vipe_settings(tmp_path / "scratch")).estimate(batch(tmp_path, "a"))
    assert failure_of(outcome).failure is FailureClass.OVERSIZE, "more than the machine has"


@pytest.mark.parametrize("name", ["dt=2026-01-01", "späti", "a,b", "a(1)", "a$b", "a{b}", "a#b", "a'b"])
def test_a_scratch_directory_that_vipe_would_misread_is_refused(name: str, tmp_path: Path) -> None:
    worker = ViPEWorker(vipe_settings(tmp_path / name))
    with pytest.raises(ConfigError, match="scratch"):
        list(worker.estimate(batch(tmp_path, "a")))


def test_inputs_and_destinations_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "dt=2026, (späti) [x]"
    folder.mkdir()
    clip = VipeClipTask("späti/left", write_clip(folder / "a_info #1.mp4"), FRAMES, HEIGHT, WIDTH, folder / "out=1")
    with contextlib.closing(ViPEWorker(vipe_settings(tmp_path / "scratch"))) as worker:
        [outcome] = worker.estimate([clip])
    assert outcome.result is not None, outcome.failure
    assert outcome.result.root == folder / "out=1"


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    worker = ViPEWorker(vipe_settings(tmp_path / "scratch", environment={"interpreter": str(tmp_path / "python")}))
    with pytest.raises(ConfigError, match="is no program"):
        list(worker.estimate(batch(tmp_path, "a")))


def test_two_clips_never_share_a_destination(tmp_path: Path) -> None:
    first, second = batch(tmp_path, "a", "b")
    worker = ViPEWorker(vipe_settings(tmp_path / "scratch"))
    with pytest.raises(InputError, match="id 'a'"):
        list(worker.estimate([first, first]))
    same = VipeClipTask("b", second.source, FRAMES, HEIGHT, WIDTH, first.destination)
    with pytest.raises(InputError, match="destination"):
        list(worker.estimate([first, same]))
    first.destination.mkdir(parents=True)
    with pytest.raises(InputError, match="it exists"):
        list(worker.estimate([first]))


DOCKER = """#!/bin/sh
for argument in "$@"; do
    case $argument in --volume=*:/*) echo "$argument" ;; esac
done > "$DOCKER_LOG"
find "$(dirname "$DOCKER_LOG")/scratch" -name 'clip*' -printf '%y %f\\n' | sort >> "$DOCKER_LOG"
exit 1
"""


def test_a_container_sees_the_clips_in_what_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    log = tmp_path / "docker.log"
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_LOG", str(log))
    pictures = tmp_path / "frames"
    pictures.mkdir()
    write_pictures(pictures)
    clips = [*batch(tmp_path, "a"), VipeClipTask("b", pictures, FRAMES, HEIGHT, WIDTH, tmp_path / "results" / "b")]
    estimate(tmp_path, clips, environment={"container": "image"})
    mounted, worker, *found = log.read_text().splitlines()
    assert mounted.startswith(f"--volume={tmp_path}/scratch/sceneloom-vipe-")
    assert worker.endswith("vipe_worker.py:ro")
    # Files and folders themselves, where a link would lead out of what is mounted.
    assert found == ["d clip", "f clip.mp4"]


def test_leaving_early_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps({"b": "hang"}))
    with contextlib.closing(ViPEWorker(vipe_settings(tmp_path / "scratch"))) as worker:
        outcomes = worker.estimate(batch(tmp_path, "a", "b"))
        assert next(outcomes).result is not None
        outcomes.close()
        [left] = (tmp_path / "scratch").iterdir()
        assert list(left.glob("tasks-*")) == []
    assert list((tmp_path / "scratch").iterdir()) == []


# ---------------------------------------------------------------- the stand-in's command line


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version"], 0, "vipe, version"),
        (["infer"], 1, "Aborted!"),
        (["infer", "clip.mp4", "--image-dir", "."], 1, "Aborted!"),
        (["infer", "absent.mp4"], 2, "does not exist"),
        (["infer", "clip.mp4", "--frames", "3"], 2, "No such option"),
        (["infer", "clip.mp4", "-p", "nothing"], 1, "pipeline/nothing"),
        (["infer", "clip.mp4", "-o", "out=1"], 1, "OverrideParseException"),
        (["infer", "clip.mp4", "-o", "ä"], 1, "OverrideParseException"),
    ],
)
def test_the_stand_in_refuses_what_vipe_refuses(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    done = subprocess.run(
        [sys.executable, str(STAND_IN), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("fault", "code", "left"),
    [
        ("slam", 1, []),
        ("depth", 1, []),
        ("write:depth.zip", 1, ["clip.mp4", "clip.npz", "clip.npz", "clip.zip", "clip_camera.txt"]),
        ("kill:camera.txt", -9, ["clip.npz", "clip.npz", "clip_camera.txt"]),
    ],
)
def test_the_stand_in_writes_in_vipes_order(fault: str, code: int, left: list[str], tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    environment = {**os.environ, "VIPE_STAND_IN_FAULT": fault}
    arguments = [sys.executable, str(STAND_IN), "infer", "clip.mp4", "-o", "out"]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == code
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == left


def test_the_stand_in_leaves_an_empty_video_of_odd_sides(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    write_odd_pictures(folder)
    arguments = [sys.executable, str(STAND_IN), "infer", "--image-dir", "frames", "-o", "out"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert (tmp_path / "out/rgb/frames.mp4").stat().st_size == 0
    assert (tmp_path / "out/vipe/frames_info.pkl").exists()
