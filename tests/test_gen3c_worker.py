"""The file that runs in Lyra's environment, run on a stand-in of cosmos_predict1."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneloom.orchestration.worker_commands import script_metadata
from sceneloom.resources.gen3c import Gen3cVideo
from sceneloom.resources.worker_engine_settings import Gen3cSettings
from sceneloom.resources.worker_failures import FailureClass
from sceneloom.resources.worker_process import TaskEnded, WorkerTask
from sceneloom.resources.worker_settings import worker_file

from .worker_stand_ins import answers_of, imported_packages, lyra_settings, shared_part

FILE = worker_file("gen3c")
COUNT, HEIGHT, WIDTH = 9, 32, 48
INTRINSICS = [30.0, 30.0, WIDTH / 2, HEIGHT / 2]


def run(folder: Path, *tasks: dict[str, Any], told: Mapping[str, Any] | None = None) -> list[TaskEnded]:
    settings = Gen3cSettings.model_validate(lyra_settings(folder, COUNT, HEIGHT, WIDTH))
    given_settings = {**settings.model_dump(include=set(Gen3cVideo.told)), "device": "cpu", **(told or {})}
    given = [
        WorkerTask(
            str(index), COUNT, {**task, "output": str(folder / f"out-{index}"), "log": str(folder / f"log-{index}")}
        )
        for index, task in enumerate(tasks)
    ]
    return answers_of("gen3c", settings, given_settings, given)


def arrays(folder: Path, frames: np.ndarray, shift: float = 0.0) -> dict[str, Any]:
    """A wall at depth 2 behind every source frame; the cameras move to the right, by whole pixels of the wall."""
    folder.mkdir(parents=True)
    count = len(frames)
    c2w = np.tile(np.eye(4), (COUNT, 1, 1))
    c2w[:, 0, 3] = shift * np.arange(COUNT) * 2.0 / INTRINSICS[0]
    np.save(folder / "frames.npy", frames)
    np.save(folder / "depth.npy", np.full((count, HEIGHT, WIDTH), 2.0, np.float32))
    np.save(folder / "source_c2w.npy", np.tile(np.eye(4), (count, 1, 1)))
    np.save(folder / "source_intrinsics.npy", np.tile(INTRINSICS, (count, 1)))
    np.save(folder / "c2w.npy", c2w)
    np.save(folder / "intrinsics.npy", np.tile(INTRINSICS, (COUNT, 1)))
    return {"prompt": "", "seed": 2**31 - 1, "arrays": str(folder)}


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_the_file_needs_dagster_pipes_and_lyras_environment() -> None:
    assert imported_packages(FILE.read_text()) == {"dagster_pipes", "numpy", "torch", "cosmos_predict1"}
    ast.parse(FILE.read_text(), feature_version=(3, 10))
    assert shared_part(FILE.read_text()) == shared_part(worker_file("moge").read_text())


def test_its_source_is_pinned_to_a_commit() -> None:
    metadata = script_metadata(FILE.read_text())
    url, _, commit = metadata["tool"]["sceneloom"]["source"].rpartition("@")
    assert url == "git+https://github.com/nv-tlabs/lyra"
    assert len(commit) == 40
    assert int(commit, 16)


def test_pictures_and_videos_by_one_pipeline(tmp_path: Path) -> None:
    """The static generator sees its picture, shifted by whole pixels; the dynamic one at every frame that frame."""
    picture, video = noise(1), noise(COUNT)
    ended = run(
        tmp_path,
        arrays(tmp_path / "static", picture, shift=1.0),
        arrays(tmp_path / "dynamic", video),
        arrays(tmp_path / "again", picture, shift=1.0),
    )
    assert [end.failure for end in ended] == [None, None, None]
    static, dynamic, again = ({path.stem: np.load(path) for path in (tmp_path / f"out-{n}").iterdir()} for n in "012")
    assert sorted(static) == ["c2w", "frames", "intrinsics", "latents", "mean", "std"]
    assert (static["frames"].dtype, static["frames"].shape) == (np.uint8, (COUNT, HEIGHT, WIDTH, 3))
    # A camera k pixels further to the right sees the picture k pixels further to the left: half a pixel more or less,
    # as between the conventions for pixel centres, would show as a shift.
    for index in range(COUNT):
        np.testing.assert_array_equal(static["frames"][index, :, : WIDTH - index], picture[0, :, index:])
    np.testing.assert_array_equal(dynamic["frames"], video)
    assert (static["latents"].dtype, static["latents"].shape) == (np.float32, (16, 2, HEIGHT // 8, WIDTH // 8))
    for name, values in static.items():
        np.testing.assert_array_equal(values, again[name])
    assert ended[1].done is not None
    assert ended[1].done.figures["seen_share"] == 1.0
    assert static["mean"].shape == static["std"].shape == (16, 16)
    assert static["mean"][1, 0] == pytest.approx(0.16, rel=0.01)
    folder = tmp_path / "checkpoints" / "Cosmos-Tokenize1-CV8x8x8-720p"
    content = b"encoder.jit" + b"weights" + b"mean_std.pt" + (folder / "mean_std.pt").read_bytes()
    assert ended[0].done is not None
    assert ended[0].done.figures["tokenizer"] == hashlib.sha256(content).hexdigest()
    # Built once for all tasks.
    logs = [(tmp_path / f"log-{index}").read_text() for index in range(3)]
    assert ["loading" in log for log in logs] == [True, False, False]


def test_a_camera_that_comes_nearer_sees_larger_about_the_middle_of_the_picture(tmp_path: Path) -> None:
    """Three times as large at a third of the distance: pixel i of W goes to 3 i + 1 - W, where pixel centres at +0.5
    and a lens at W / 2 put it. Were the half pixel missing, it would go to 3 i - W."""
    picture = noise(1)
    task = arrays(tmp_path / "nearer", picture)
    c2w = np.tile(np.eye(4), (COUNT, 1, 1))
    c2w[:, 2, 3] = 2.0 * 2 / 3
    np.save(tmp_path / "nearer" / "c2w.npy", c2w)
    [end] = run(tmp_path, task)
    assert end.failure is None
    frames = np.load(tmp_path / "out-0" / "frames.npy")
    rows, columns = np.arange(11, 21), np.arange(16, 32)
    seen = frames[:, 3 * rows + 1 - HEIGHT][:, :, 3 * columns + 1 - WIDTH]
    np.testing.assert_array_equal(seen, np.repeat(picture[:, rows][:, :, columns], COUNT, axis=0))


def test_settings_that_do_not_fit_the_checkpoint(tmp_path: Path) -> None:
    [end] = run(tmp_path, arrays(tmp_path / "static", noise(1)), told={"frames": 17})
    assert end.failure is not None
    assert end.failure.failure is FailureClass.USAGE
    assert "the model makes 9 frames at once, the settings say 17" in str(end.failure)
