"""Engine `moge`, run on a stand-in of MoGe: what is read back, what is refused, and every fault of the model."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.ops.cameras import centred_intrinsics, unproject
from sceneloom.resources.engines import View
from sceneloom.resources.moge import MogeScaffold, pixel_intrinsics, read_result
from sceneloom.resources.worker_batches import BatchTask
from sceneloom.resources.worker_engine_settings import MogeSettings
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed
from sceneloom.resources.worker_results import write_picture

from .worker_stand_ins import require_empty, stand_in_settings

HEIGHT, WIDTH = 16, 24


def engine(scratch: Path, **changes: Any) -> MogeScaffold:
    return MogeScaffold(MogeSettings.model_validate(stand_in_settings(scratch, edge_bend=None, **changes)))


def view(first_level: int = 0, degrees: float = 70.0) -> View:
    picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    picture[0, 0, 0] = first_level
    intrinsics = centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=math.radians(degrees))
    return View(picture, intrinsics, None, {})


def test_a_view_becomes_a_metric_scaffold(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path)) as moge:
        scaffold = moge.build_scaffold(view(), seed=3)
        assert moge.build_scaffold(view(), seed=4).metric
    require_empty(tmp_path)
    assert scaffold.metric
    assert scaffold.geometry is None
    assert scaffold.depth.dtype == np.float32
    # The sky, a quarter of the picture, has no depth.
    assert (scaffold.depth[:4] == 0).all()
    assert scaffold.notes["masked_out"] == 0.25
    np.testing.assert_allclose(scaffold.intrinsics, [0.8 * WIDTH, 0.8 * WIDTH, WIDTH / 2, HEIGHT / 2], rtol=1e-6)
    # The plane that the stand-in sees is one in space too: unprojected points fit it.
    rows, columns = np.mgrid[4:HEIGHT, :WIDTH]
    coordinates = np.stack([columns + 0.5, rows + 0.5], axis=-1).reshape(-1, 2)
    points = unproject(coordinates, scaffold.depth[4:].ravel(), np.eye(4), scaffold.intrinsics)
    centred = points - points.mean(axis=0)
    assert np.linalg.svd(centred)[1][-1] < 1e-5
    model = {"id": "Ruicheng/moge-2-vitl-normal", "revision": None, "version": "v2"}
    assert scaffold.notes["model"] == {**model, "weights": {"Ruicheng/moge-2-vitl-normal": "main"}}
    assert scaffold.notes["versions"]["python"]
    assert (moge.contract.tier, moge.contract.licence) == ("worker", "MIT")


def test_the_views_own_focal_length_and_a_model_without_a_unit(tmp_path: Path) -> None:
    given_view = view(degrees=50.0)
    with contextlib.closing(engine(tmp_path, focal="view", version="v1", model="someone/else")) as moge:
        scaffold = moge.build_scaffold(given_view, seed=0)
    assert not scaffold.metric
    assert scaffold.notes["unit"] == "arbitrary"
    np.testing.assert_array_equal(scaffold.intrinsics, given_view.intrinsics)
    np.testing.assert_allclose(scaffold.notes["focal_pixels"], given_view.intrinsics[0], rtol=1e-6)
    assert moge.identity.licence == "unknown"


# ---------------------------------------------------------------- faults of the model

FAULTS = {
    201: (FailureClass.OUT_OF_MEMORY, "CUDA out of memory", 1),
    202: (FailureClass.INVALID_OUTPUT, "depth.npy: 4.2% of the mask has no finite, positive depth", 1),
    203: (FailureClass.INVALID_OUTPUT, r"depth.npy: an array \(15, 24\) of float32, expected \(16, 24\)", 1),
    205: (FailureClass.KILLED, "SIGSEGV", 2),
    206: (FailureClass.DIVERGED, "the horizontal field of view is 1.4°", 2),
    207: (FailureClass.INVALID_OUTPUT, "no pixel is inside the mask", 1),
    208: (FailureClass.INVALID_OUTPUT, "SystemExit", 1),
    209: (FailureClass.INVALID_OUTPUT, "no finite, positive depth", 1),
}


def test_every_fault_fails_its_own_question_by_its_class(tmp_path: Path) -> None:
    """All faults in one batch: those that end the process lose their own question, the sound ones are answered."""
    settings = engine(tmp_path).settings

    def question(name: str, level: int) -> BatchTask[Any]:
        def write(folder: Path) -> dict[str, Any]:
            picture = write_picture(folder / "picture.png", view(level).picture)
            return {"picture": str(picture), "field_of_view": None}

        return BatchTask(name, write, lambda output, figures: read_result(output, HEIGHT, WIDTH, settings, figures))

    names = {"sound before": 0, **{str(level): level for level in FAULTS}, "sound after": 0}
    with contextlib.closing(engine(tmp_path)) as moge:
        answers = {each.task: each for each in moge.worker.ask_all([question(*item) for item in names.items()])}
    require_empty(tmp_path)
    assert list(answers) == list(names)
    assert answers["sound before"].get().metric
    assert answers["sound after"].get().metric
    for level, (failure, found, attempts) in FAULTS.items():
        answer = answers[str(level)]
        with pytest.raises(WorkerFailed, match=found) as raised:
            answer.get()
        assert raised.value.failure is failure, level
        assert answer.attempts == attempts, level


def test_a_model_that_is_not_on_the_machine(tmp_path: Path) -> None:
    with (
        contextlib.closing(engine(tmp_path, model="missing/model")) as moge,
        pytest.raises(WorkerFailed, match="missing/model") as raised,
    ):
        moge.build_scaffold(view(), seed=0)
    assert raised.value.failure is FailureClass.MODEL_MISSING
    require_empty(tmp_path)


def test_a_model_that_never_answers_is_ended(tmp_path: Path) -> None:
    with (
        contextlib.closing(engine(tmp_path, clip_timeout="4 s", frame_timeout="1 ms")) as moge,
        pytest.raises(WorkerFailed, match="within 4 s") as raised,
    ):
        moge.build_scaffold(view(204), seed=0)
    assert raised.value.failure is FailureClass.TIMEOUT
    require_empty(tmp_path)


# ---------------------------------------------------------------- reading back

SETTINGS = MogeSettings.model_validate({"environment": {"interpreter": "/env/bin/python"}})


@given(
    size=st.tuples(st.integers(2, 2000), st.integers(2, 2000)),
    degrees=st.floats(11, 149),
    pixel=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_normalised_intrinsics_become_those_of_the_same_rays(
    size: tuple[int, int], degrees: float, pixel: tuple[float, float]
) -> None:
    """A ray through a point of the unit picture is the ray through the same point of the picture in pixels."""
    height, width = size
    focal = 0.5 / math.tan(math.radians(degrees) / 2)
    matrix = np.array([[focal, 0, 0.5], [0, focal * width / height, 0.5], [0, 0, 1]])
    found = pixel_intrinsics(matrix, height, width, SETTINGS)
    ray = np.linalg.solve(matrix, [*pixel, 1.0])
    in_pixels = unproject(np.array([[pixel[0] * width, pixel[1] * height]]), np.array([1.0]), np.eye(4), found)[0]
    np.testing.assert_allclose(in_pixels, ray, rtol=1e-9, atol=1e-9)
    # Square pixels, and the lens in the centre.
    np.testing.assert_allclose(found, [found[0], found[0], width / 2, height / 2], rtol=1e-9)


@pytest.mark.parametrize(
    ("matrix", "found"),
    [
        ([[0.8, 0.1, 0.5], [0, 0.8, 0.5], [0, 0, 1]], "not of the form"),
        ([[-0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]], "no intrinsics of a picture"),
        ([[19.2, 0, 12.0], [0, 19.2, 8.0], [0, 0, 1]], "no intrinsics of a picture"),
    ],
)
def test_matrices_that_are_no_normalised_intrinsics(matrix: list[list[float]], found: str) -> None:
    with pytest.raises(WorkerFailed, match=found):
        pixel_intrinsics(np.array(matrix), HEIGHT, WIDTH, SETTINGS)


def test_what_the_figures_must_say(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.ones((HEIGHT, WIDTH), np.float32))
    np.save(tmp_path / "mask.npy", np.ones((HEIGHT, WIDTH), bool))
    np.save(tmp_path / "intrinsics.npy", np.array([[0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]]))
    with pytest.raises(WorkerFailed, match="metric is None"):
        read_result(tmp_path, HEIGHT, WIDTH, SETTINGS, {})
    assert read_result(tmp_path, HEIGHT, WIDTH, SETTINGS, {"metric": True}).mask.all()
