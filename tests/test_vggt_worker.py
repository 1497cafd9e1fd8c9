"""The file that runs in VGGT's environment, run on a stand-in of VGGT's package."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sceneloom.orchestration.worker_commands import script_metadata
from sceneloom.resources.worker_engine_settings import VggtSettings
from sceneloom.resources.worker_process import TaskEnded, WorkerTask
from sceneloom.resources.worker_settings import worker_file

from .stand_ins.vggt import scene
from .worker_stand_ins import answers_of, imported_packages, shared_part, stand_in_settings

FILE = worker_file("vggt")
TOLD = {"model": "facebook/VGGT-1B", "revision": "abc", "device": "cpu", "frames_per_head_call": 4}
COUNT, HEIGHT, WIDTH = 3, 16, 24


def run(folder: Path, *tasks: dict[str, Any]) -> list[TaskEnded]:
    settings = VggtSettings.model_validate(stand_in_settings(folder))
    given = [
        WorkerTask(
            str(index), COUNT, {**task, "output": str(folder / f"out-{index}"), "log": str(folder / f"log-{index}")}
        )
        for index, task in enumerate(tasks)
    ]
    return answers_of("vggt", settings, TOLD, given)


@pytest.fixture(scope="module")
def worker() -> ModuleType:
    """The file as a module, to call its functions; nothing in it imports VGGT before it has a task."""
    spec = importlib.util.spec_from_file_location("vggt_worker", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_needs_dagster_pipes_and_what_vggt_brings() -> None:
    assert imported_packages(FILE.read_text()) == {"dagster_pipes", "numpy", "torch", "PIL", "vggt"}
    ast.parse(FILE.read_text(), feature_version=(3, 10))
    assert shared_part(FILE.read_text()) == shared_part(worker_file("moge").read_text())


def test_its_environment_is_pinned_to_a_commit() -> None:
    metadata = script_metadata(FILE.read_text())
    [source] = [text for text in metadata["dependencies"] if text.startswith("vggt")]
    url, _, commit = source.rpartition("@")
    assert url == "vggt @ git+https://github.com/facebookresearch/vggt"
    assert len(commit) == 40
    assert int(commit, 16)


def test_a_clip_and_a_picture_by_one_model(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 200, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    Image.fromarray(frames[0]).save(tmp_path / "scene.jpg")
    clip = {"kind": "clip", "frames": str(tmp_path / "frames.npy"), "points": True}
    ended = run(tmp_path, clip, {"kind": "feature", "picture": str(tmp_path / "scene.jpg")})
    assert [end.failure for end in ended] == [None, None]
    assert ended[0].done is not None
    assert ended[0].done.figures == {"height": 350, "width": 518}
    found = {path.stem: np.load(path) for path in (tmp_path / "out-0").iterdir()}
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {
        "extrinsics": (COUNT, 3, 4),
        "intrinsics": (COUNT, 3, 3),
        "depth": (COUNT, 350, 518),
        "depth_confidence": (COUNT, 350, 518),
        "points": (COUNT, 350, 518, 3),
        "points_confidence": (COUNT, 350, 518),
    }
    w2c = np.linalg.inv(scene.poses(COUNT))
    np.testing.assert_allclose(found["extrinsics"], w2c[:, :3], atol=1e-6)
    # Points are depth seen through the cameras: the wall.
    np.testing.assert_allclose(found["points"] @ scene.NORMAL, scene.DISTANCE, rtol=1e-5)
    feature = np.load(tmp_path / "out-1" / "feature.npy")
    assert feature.shape == (1, 5 + 25 * 37, 2048)
    assert feature.dtype == np.float32
    # The model is loaded once, at the revision that was told.
    logs = [(tmp_path / f"log-{index}").read_text() for index in range(2)]
    assert logs[0] == "loading facebook/VGGT-1B at abc\n"
    assert logs[1] == ""


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_what_vggt_sees_is_whole_patches_of_nearly_the_same_shape(worker: ModuleType, height: int, width: int) -> None:
    high, wide = worker.seen_size(height, width)
    assert (high % 14, wide % 14) == (0, 0)
    assert max(high, wide) == 518
    exact = 518 / max(height, width)
    assert abs(high - height * exact) <= 14
    assert abs(wide - width * exact) <= 14


def test_pictures_of_lyras_size_are_seen_as_load_fn_sees_them(worker: ModuleType) -> None:
    assert worker.seen_size(704, 1280) == (280, 518)
    assert worker.seen_size(560, 560) == (518, 518)
    assert worker.seen_size(1280, 704) == (518, 280)
