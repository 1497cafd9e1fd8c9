"""Boxes that keep apart, and arrangements that stand, lean on nothing and are seen."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.ops import placement
from sceneloom.ops.furniture import FAMILIES, build_piece
from sceneloom.ops.furniture_piece import Piece
from sceneloom.ops.materials import MaterialBook
from sceneloom.ops.meshes import bounds
from sceneloom.ops.placement import FLOOR, Arrangement, FloorArea, UprightBoxes, View, boxes_meet, placing_order

box = st.tuples(
    *(st.floats(-1.5, 1.5) for _ in range(3)), *(st.floats(0.05, 0.8) for _ in range(3)), st.floats(-4.0, 4.0)
)


def _boxes(values: tuple[float, ...]) -> UprightBoxes:
    return UprightBoxes(np.array([values[:3]]), np.array([values[3:6]]), np.array([values[6]]))


def _points_in(boxes: UprightBoxes, count: int = 9) -> np.ndarray:
    axis = np.linspace(-1, 1, count)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3) * boxes.half[0]
    return grid @ placement.yaw_matrix(float(boxes.yaw[0])).T + boxes.centre[0]


def _distance_to(boxes: UprightBoxes, points: np.ndarray) -> np.ndarray:
    local = (points - boxes.centre[0]) @ placement.yaw_matrix(float(boxes.yaw[0]))
    return np.linalg.norm(np.maximum(np.abs(local) - boxes.half[0], 0.0), axis=1)


@settings(deadline=None, max_examples=200)
@given(box, box, st.floats(0.0, 0.3))
def test_boxes_that_do_not_meet_are_a_margin_apart(first: tuple, second: tuple, margin: float) -> None:
    """Oracle: distances from a grid of points in one box to the other."""
    a, b = _boxes(first), _boxes(second)
    closest = float(_distance_to(b, _points_in(a)).min())
    if boxes_meet(a, b, margin)[0, 0]:
        # Met boxes are near: no farther than the margin along each of the separating directions.
        assert closest <= np.sqrt(3.0) * margin + np.linalg.norm(a.half) / 2.0 + 1e-6
    else:
        assert closest >= margin - 1e-6


@settings(deadline=None, max_examples=60)
@given(box, box)
def test_meeting_is_mutual(first: tuple, second: tuple) -> None:
    a, b = _boxes(first), _boxes(second)
    assert boxes_meet(a, b, 0.05)[0, 0] == boxes_meet(b, a, 0.05)[0, 0]


def test_boxes_side_by_side_meet_only_within_the_margin() -> None:
    a = _boxes((0, 0, 0, 0.5, 0.5, 0.5, 0.0))
    for gap, meets in ((0.02, True), (0.06, False), (-0.1, True)):
        assert bool(boxes_meet(a, _boxes((1.0 + gap, 0, 0, 0.5, 0.5, 0.5, 0.0)), 0.04)[0, 0]) is meets
    corner_to_corner = _boxes((0.95, 0, 0.95, 0.5, 0.5, 0.5, np.pi / 4))
    assert not boxes_meet(a, corner_to_corner, 0.0)[0, 0]


def _view() -> View:
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = (0.0, 1.5, 0.0)
    return View(pose, 0.77, 0.42)


def _arranged(families: list[str], seed: int) -> tuple[list[Piece], Arrangement]:
    rng = np.random.default_rng(seed)
    book = MaterialBook(rng)
    pieces = [build_piece(family, rng, book) for family in families]
    area = FloorArea((-3.0, -5.0), (3.0, 2.0))
    arrangement = Arrangement(pieces, area, _view(), rng, clear_distance=1.5)
    assert all(arrangement.place(index) for index in placing_order(pieces))
    return pieces, arrangement


def test_things_stand_apart_inside_the_room_and_before_the_camera() -> None:
    for seed in range(5):
        pieces, arrangement = _arranged(["sofa", "coffee_table", "armchair", "bookshelf", "plant", "vase"], seed)
        for index, pose in arrangement.placed.items():
            points = pieces[index].mesh.vertices @ pose.matrix()[:3, :3].T + pose.matrix()[:3, 3]
            assert np.abs(points[:, 0]).max() < 3.0
            assert points[:, 2].min() > -5.0
            assert (-points[:, 2]).min() >= 1.5 - 1e-6
            for other, other_pose in arrangement.placed.items():
                if other != index:
                    local = (points - other_pose.centre) @ other_pose.matrix()[:3, :3]
                    low, high = bounds(pieces[other].mesh)
                    assert not ((local > low) & (local < high)).all(axis=1).any()


def test_small_things_stand_on_tops() -> None:
    for seed in range(4):
        pieces, arrangement = _arranged(["desk", "fruit_bowl", "candles"], seed)
        table = arrangement.placed[0]
        top = pieces[0].tops[0]
        for index in (1, 2):
            pose = arrangement.placed[index]
            assert pose.support == 0
            bottom = pose.centre[1] + bounds(pieces[index].mesh)[0, 1]
            assert 0.0 < bottom - (table.centre[1] + top.height) < 0.003
            local = (pose.centre - table.centre) @ table.matrix()[:3, :3]
            assert top.low[0] <= local[0] <= top.high[0]
            assert top.low[1] <= local[2] <= top.high[1]


def test_what_stands_on_the_floor_touches_it() -> None:
    pieces, arrangement = _arranged(["bed", "nightstand", "wardrobe", "chair"], 3)
    for index, pose in arrangement.placed.items():
        assert pose.support == FLOOR
        assert pose.centre[1] + bounds(pieces[index].mesh)[0, 1] == np.float64(0.0)


def test_chairs_gather_at_the_table_and_face_it() -> None:
    for seed in range(4):
        _, arrangement = _arranged(["table", "chair", "chair"], seed)
        table = arrangement.placed[0]
        for index in (1, 2):
            chair = arrangement.placed[index]
            towards = (table.centre - chair.centre)[[0, 2]]
            facing = chair.matrix()[[0, 2], 2]
            assert np.linalg.norm(towards) < 1.6
            assert facing @ towards > 0.0


def test_order_puts_supports_before_what_stands_on_them() -> None:
    rng = np.random.default_rng(0)
    book = MaterialBook(rng)
    pieces = [build_piece(family, rng, book) for family in ("vase", "chair", "table", "sofa")]
    order = [pieces[index].family for index in placing_order(pieces)]
    assert order.index("table") < order.index("chair")
    assert order[-1] == "vase"


def test_a_piece_that_cannot_fit_is_not_placed() -> None:
    rng = np.random.default_rng(0)
    book = MaterialBook(rng)
    pieces = [build_piece("sofa", rng, book)]
    arrangement = Arrangement(pieces, FloorArea((-0.35, -5.0), (0.35, 2.0)), _view(), rng, clear_distance=1.5)
    assert not arrangement.place(0)
    assert not arrangement.placed


def test_every_rule_names_a_family() -> None:
    assert set(placement.RULES) <= set(FAMILIES)
