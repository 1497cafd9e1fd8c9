from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import InputError
from sceneloom.ops import depth_surface as module
from sceneloom.ops.depth_surface import depth_surface
from sceneloom.ops.raycast import RayCaster

from .scenes import room_scene

LENS = np.array([60.0, 60.0, 40.0, 24.0])
FORWARD = np.array([[0.0, 0.0, 1.0]])


def two_walls() -> np.ndarray:
    """A wall at 4 m, in front of its left half another at 2 m."""
    depth = np.full((48, 80), 4.0, np.float32)
    depth[:, :40] = 2.0
    return depth


def caster(depth: np.ndarray) -> RayCaster:
    return RayCaster(depth_surface(depth, LENS, metric=True))


@settings(deadline=None, max_examples=15)
@given(distance=st.floats(0.3, 50.0), across=st.floats(-0.2, 0.2), along=st.floats(0.0, 0.9))
def test_distances_to_a_wall_are_exact(distance: float, across: float, along: float) -> None:
    surface = caster(np.full((48, 80), distance, np.float32))
    point = np.array([[across * distance, 0.0, along * distance]])
    assert surface.closest_distance(point)[0] == pytest.approx((1 - along) * distance, rel=1e-4, abs=1e-4)
    assert surface.cast(point, FORWARD).distance[0] == pytest.approx((1 - along) * distance, rel=1e-4, abs=1e-4)


def test_a_surface_cast_from_its_own_camera_gives_the_depth_again() -> None:
    room = room_scene(height=48, width=80)
    lens = np.asarray(room.intrinsics)
    depth = RayCaster(room).geometry(np.eye(4), lens, 48, 80).depth
    seen = RayCaster(depth_surface(depth, lens, metric=True)).geometry(np.eye(4), lens, 48, 80).depth
    hit = seen > 0
    assert hit[1:-1, 1:-1].mean() > 0.9
    assert np.quantile(np.abs(seen[hit] / depth[hit] - 1), 0.98) < 1e-3


def test_there_is_nothing_between_the_two_sides_of_a_depth_edge() -> None:
    surface = caster(two_walls())
    # Between the walls, at the edge's own ray, and across it from the far wall's side to behind the near wall.
    edge = np.array([[0.0, 0.0, 3.0]])
    assert surface.closest_distance(edge)[0] > 0.9
    assert np.isinf(surface.cast(np.array([[0.3, 0.0, 3.0]]), np.array([[-1.0, 0.0, 0.0]])).distance[0])
    # But not through the near wall itself.
    assert surface.cast(np.array([[-0.5, 0.0, 0.0]]), FORWARD).distance[0] == pytest.approx(2.0, rel=1e-4)


def test_invalid_pixels_are_no_surface() -> None:
    depth = np.full((48, 80), 3.0, np.float32)
    depth[:, 30:50] = 0.0
    assert np.isinf(caster(depth).cast(np.zeros((1, 3)), FORWARD).distance[0])


def test_large_maps_are_thinned_and_never_come_out_farther(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    depth = (3.0 + 0.2 * random.random((96, 160))).astype(np.float32)
    monkeypatch.setattr(module, "MOST_CELLS", 600)
    model = depth_surface(depth, LENS * 2, metric=True)
    assert len(model.shell.vertices) <= 600 * 1.1
    vertices = model.shell.vertices
    columns = np.clip(vertices[:, 0] / vertices[:, 2] * 120 + 80, 0, 159.9).astype(int)
    rows = np.clip(vertices[:, 1] / vertices[:, 2] * 120 + 48, 0, 95.9).astype(int)
    assert (vertices[:, 2] <= depth[rows, columns] + 1e-6).all()
    assert vertices[:, 2].min() == pytest.approx(depth.min())


def test_a_map_without_a_surface_is_refused() -> None:
    depth = np.zeros((48, 80), np.float32)
    depth[10, 10] = 1.0
    with pytest.raises(InputError, match="1 of 3840 pixels have valid depth"):
        depth_surface(depth, LENS, metric=True)
