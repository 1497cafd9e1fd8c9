"""The file that runs in MoGe's environment, run on a stand-in of MoGe's package."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sceneloom.orchestration.worker_commands import script_metadata
from sceneloom.resources.worker_engine_settings import MogeSettings
from sceneloom.resources.worker_process import TaskEnded, WorkerTask
from sceneloom.resources.worker_settings import WORKERS_FOLDER, worker_file

from .worker_stand_ins import SHARED_PART, answers_of, imported_packages, shared_part, stand_in_settings

FILE = worker_file("moge")
TOLD = {
    "model": "Ruicheng/moge-2-vitl-normal",
    "revision": None,
    "version": "v2",
    "device": "cpu",
    "resolution_level": 9,
    "half_precision": False,
}
HEIGHT, WIDTH = 12, 20


def run(folder: Path, told: dict[str, Any], *pictures: np.ndarray, degrees: float | None = None) -> list[TaskEnded]:
    settings = MogeSettings.model_validate(stand_in_settings(folder))
    tasks = []
    for index, levels in enumerate(pictures):
        picture = folder / f"{index}.png"
        Image.fromarray(levels).save(picture)
        place = {"output": str(folder / f"out-{index}"), "log": str(folder / f"log-{index}")}
        tasks.append(WorkerTask(str(index), 1, {"picture": str(picture), "field_of_view": degrees, **place}))
    return answers_of("moge", settings, told, tasks)


def noise(seed: int = 0) -> np.ndarray:
    levels = np.random.default_rng(seed).integers(0, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    levels[0, 0, 0] = 0
    return levels


# ---------------------------------------------------------------- what the file is


def test_the_file_needs_dagster_pipes_and_what_moge_brings() -> None:
    assert imported_packages(FILE.read_text()) == {"dagster_pipes", "numpy", "torch", "PIL"}
    ast.parse(FILE.read_text(), feature_version=(3, 10))


def test_its_environment_is_pinned_to_a_commit() -> None:
    metadata = script_metadata(FILE.read_text())
    [source] = [text for text in metadata["dependencies"] if text.startswith("moge")]
    url, _, commit = source.rpartition("@")
    assert url == "moge @ git+https://github.com/microsoft/MoGe"
    assert len(commit) == 40
    assert int(commit, 16)
    assert any(text.startswith("dagster-pipes") for text in metadata["dependencies"])


def test_workers_that_answer_single_tasks_do_so_by_the_same_code() -> None:
    files = [path for path in WORKERS_FOLDER.glob("*_worker.py") if SHARED_PART in path.read_text()]
    assert {shared_part(path.read_text()) for path in files} == {shared_part(FILE.read_text())}


# ---------------------------------------------------------------- what it does


def test_pictures_one_after_the_other_with_one_model(tmp_path: Path) -> None:
    ended = run(tmp_path, TOLD, noise(), noise(1))
    for index, end in enumerate(ended):
        assert end.done is not None, end.failure
        assert end.done.figures == {"metric": True}
        assert set(end.versions) >= {"python", "torch", "dagster-pipes"}
        output = tmp_path / f"out-{index}"
        assert sorted(path.name for path in output.iterdir()) == ["depth.npy", "intrinsics.npy", "mask.npy"]
        depth, mask = np.load(output / "depth.npy"), np.load(output / "mask.npy")
        assert (depth.dtype, mask.dtype) == (np.float32, np.bool_)
        assert depth.shape == mask.shape == (HEIGHT, WIDTH)
        assert np.isinf(depth[~mask]).all()
        rows = (np.arange(HEIGHT) + 0.5) / HEIGHT
        np.testing.assert_allclose(1 / depth[mask], np.repeat((0.2 + 0.6 * rows)[3:] / 3, WIDTH), rtol=1e-6)
        np.testing.assert_allclose(np.load(output / "intrinsics.npy")[0, 0], 0.8)
    # The model is loaded for the first picture, whose log says so.
    logs = [(tmp_path / f"log-{index}").read_text() for index in range(2)]
    assert ["loading" in log for log in logs] == [True, False]


def test_a_known_field_of_view_and_the_first_version(tmp_path: Path) -> None:
    [end] = run(tmp_path, {**TOLD, "version": "v1", "model": "Ruicheng/moge-vitl"}, noise(), degrees=60.0)
    assert end.done is not None, end.failure
    assert end.done.figures == {"metric": False}
    focal = np.load(tmp_path / "out-0" / "intrinsics.npy")[0, 0]
    np.testing.assert_allclose(focal, 0.5 / math.tan(math.radians(30)), rtol=1e-6)


def test_a_folder_of_weights_stands_for_its_model_pt(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    [end] = run(tmp_path, {**TOLD, "model": str(weights)}, noise())
    assert end.done is not None, end.failure
    assert f"loading {weights}/model.pt" in (tmp_path / "log-0").read_text()


def test_a_picture_that_is_none_costs_that_task_alone(tmp_path: Path) -> None:
    settings = MogeSettings.model_validate(stand_in_settings(tmp_path))
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.fromarray(noise()).save(tmp_path / "b.png")
    tasks = [
        WorkerTask(
            name,
            1,
            {
                "picture": str(tmp_path / f"{name}.png"),
                "field_of_view": None,
                "output": str(tmp_path / f"out-{name}"),
                "log": str(tmp_path / f"log-{name}"),
            },
        )
        for name in "ab"
    ]
    ended = {end.task: end for end in answers_of("moge", settings, TOLD, tasks)}
    assert ended["a"].failure is not None
    assert "UnidentifiedImageError" in str(ended["a"].failure)
    assert ended["b"].done is not None
    # One process answered both.
    assert "loading" in (tmp_path / "log-a").read_text()
    assert "loading" not in (tmp_path / "log-b").read_text()
