"""Latents by TRELLIS' encoder, run on a stand-in of it: meshes to voxels, checks, faults."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts import scenegen_files
from sceneloom.datasets.triangle_meshes import canonical_vertices, occupied_cells, read_obj
from sceneloom.resources.trellis_latents import TrellisLatents
from sceneloom.resources.worker_engine_settings import TrellisLatentSettings
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed

from .worker_stand_ins import STAND_INS, require_empty, stand_in_settings

CUBE = read_obj(
    b"".join(
        [
            *(f"v {x} {y} {z}\n".encode() for x in (-0.9, 0.9) for y in (-2, 2) for z in (-0.9, 0.9)),
            *(b"f 1 2 4\n", b"f 1 4 3\n", b"f 5 7 8\n", b"f 5 8 6\n", b"f 1 5 6\n", b"f 1 6 2\n"),
            *(b"f 3 4 8\n", b"f 3 8 7\n", b"f 1 3 7\n", b"f 1 7 5\n", b"f 2 6 8\n", b"f 2 8 4\n"),
        ]
    ),
    "cube",
)


def encoder(scratch: Path, **changes: Any) -> TrellisLatents:
    settings = stand_in_settings(scratch, source=str(STAND_INS), **changes)
    return TrellisLatents(TrellisLatentSettings.model_validate(settings))


def line(count: int) -> np.ndarray:
    cells = np.zeros((count, 3), np.int64)
    cells[:, 0] = np.arange(count)
    return cells


def test_meshes_become_latents_of_their_voxels(tmp_path: Path) -> None:
    cells = occupied_cells(canonical_vertices(CUBE.vertices), CUBE.faces, 64)
    with contextlib.closing(encoder(tmp_path)) as trellis:
        found = trellis.of_meshes({"a": CUBE, "b": CUBE})
        same = trellis.of_voxels({"c": cells})
    require_empty(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"].dtype == np.float32
    np.testing.assert_array_equal(found["a"], found["b"])
    np.testing.assert_array_equal(found["a"], same["c"])
    # The box is less than half as wide as it is high, with y up, so TRELLIS' grid sees it stand along z.
    count = found["a"][0]
    assert count.sum() == len(cells)
    assert [int((count.sum(axis=axes) > 0).sum()) for axes in ((1, 2), (0, 2), (0, 1))] == [8, 8, 16]
    # It is what the layout takes.
    (tmp_path / "latent.npz").write_bytes(scenegen_files.latent_npz(found["a"]))
    np.testing.assert_array_equal(scenegen_files.read_latent(tmp_path / "latent.npz"), found["a"])
    assert trellis.identity.licence == "MIT"


FAULTS = {
    1: (FailureClass.OUT_OF_MEMORY, "CUDA out of memory"),
    2: (FailureClass.INVALID_OUTPUT, "mean.npy: .*not finite"),
    3: (FailureClass.INVALID_OUTPUT, r"mean.npy: an array \(4, 16, 16, 16\)"),
    5: (FailureClass.KILLED, "SIGSEGV"),
}


def test_every_fault_fails_by_its_class(tmp_path: Path) -> None:
    with contextlib.closing(encoder(tmp_path)) as trellis:
        for count, (failure, found) in FAULTS.items():
            with pytest.raises(WorkerFailed, match=found) as raised:
                trellis.of_voxels({"sound": line(9), "broken": line(count)})
            assert raised.value.failure is failure, count
    require_empty(tmp_path)


def test_a_model_that_never_answers_and_weights_that_are_not_there(tmp_path: Path) -> None:
    slow = encoder(tmp_path, clip_timeout="4 s", frame_timeout="1 ms")
    with contextlib.closing(slow) as trellis, pytest.raises(WorkerFailed, match="within 4 s"):
        trellis.of_voxels({"a": line(4)})
    absent = encoder(tmp_path, model="missing/model/ckpts/encoder")
    with contextlib.closing(absent) as trellis, pytest.raises(WorkerFailed, match="missing/model") as raised:
        trellis.of_voxels({"a": line(9)})
    assert raised.value.failure is FailureClass.MODEL_MISSING


@pytest.mark.parametrize("cells", [np.zeros((0, 3), int), np.array([[0, 0, 64]]), np.array([[0, -1, 0]]), np.zeros(3)])
def test_cells_that_are_none(tmp_path: Path, cells: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected"):
        encoder(tmp_path).of_voxels({"a": cells})
    assert not list(tmp_path.iterdir())


@given(scale=st.floats(0.01, 100), move=st.tuples(*[st.floats(-5, 5)] * 3))
def test_voxels_do_not_depend_on_size_and_place(scale: float, move: tuple[float, float, float]) -> None:
    cells = occupied_cells(canonical_vertices(CUBE.vertices), CUBE.faces, 64)
    moved = occupied_cells(canonical_vertices(CUBE.vertices * scale + np.array(move) * scale), CUBE.faces, 64)
    # Faces lie on borders between cells, where rounding may choose either side.
    assert np.abs(len(moved) / len(cells) - 1) < 0.2
    assert (moved.min(axis=0) >= 0).all()
    assert (moved.max(axis=0) <= 63).all()
