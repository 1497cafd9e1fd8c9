"""Places that close: whatever the ray, it meets something; the middle of the view is never the world outside."""

from __future__ import annotations

import numpy as np
import pytest

from sceneloom.ops.material_pictures import outdoor_panorama
from sceneloom.ops.materials import MaterialBook
from sceneloom.ops.mesh_normals import face_normals
from sceneloom.ops.rooms import DOME_RADIUS, Extent, RoomStyle, Shell, build_courtyard, build_room, dome
from sceneloom.ops.scene_model import TriangleMesh, UInt8

EXTENT = Extent(width=5.6, ahead=4.2, behind=2.0, height=3.0)
SIGHT = (np.array([0.0, 1.5, 0.0]), np.array([0.0, -0.15, -1.0]))


def _panorama(rng: np.random.Generator) -> UInt8:
    blue, pale, green = np.array((0.3, 0.5, 0.9)), np.array((0.8, 0.9, 0.95)), np.array((0.4, 0.55, 0.3))
    return outdoor_panorama(rng, zenith=blue, horizon=pale, ground=green, night=False)


def _room(seed: int, windows: tuple[str, ...] = ("ahead", "left")) -> tuple[Shell, MaterialBook]:
    rng = np.random.default_rng(seed)
    book = MaterialBook(rng)
    plaster = book.surface("plaster")
    style = RoomStyle(
        floor=book.surface("planks"),
        walls=plaster,
        accent_wall=plaster,
        ceiling=book.surface("plaster", "white"),
        trim=book.surface("painted", "white"),
        window_walls=windows,
        rug=None,
        pictures=2,
        ceiling_style="beams",
    )
    return build_room(rng, book, EXTENT, style, _panorama(rng), glow=1.0, sight=SIGHT), book


def _court(seed: int) -> Shell:
    rng = np.random.default_rng(seed)
    book = MaterialBook(rng)
    return build_courtyard(
        rng,
        book,
        EXTENT,
        ground=book.surface("flagstones"),
        walls=book.surface("brick"),
        coping=book.surface("stone"),
        panorama=_panorama(rng),
        inlay=book.surface("grass"),
    )


def _first_hits(mesh: TriangleMesh, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    import trimesh

    caster = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).ray
    return caster.intersects_first(origins, directions)


def _rays(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    origins = rng.uniform((-2.2, 0.3, -3.5), (2.2, 2.4, 1.5), (count, 3))
    directions = rng.normal(size=(count, 3))
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_no_ray_leaves_a_room_or_a_court(seed: int) -> None:
    for shell in (_room(seed)[0], _court(seed)):
        assert (_first_hits(shell.mesh, *_rays(20_000)) >= 0).all()


def test_the_world_outside_is_seen_only_through_windows() -> None:
    """Without windows, no ray from inside reaches the dome."""
    shell, book = _room(0, windows=())
    faces = _first_hits(shell.mesh, *_rays(20_000))
    unlit = np.array([material.unlit for material in book.materials])
    assert not unlit[shell.mesh.material[faces]].any()
    assert not shell.windows


def test_windows_open_to_the_dome_and_their_light_points_inwards() -> None:
    shell, book = _room(1, windows=("left",))
    assert shell.windows
    for window in shell.windows:
        inward = np.cross(window.half_edge_u, window.half_edge_v)
        assert inward @ (np.array([0.0, 1.5, -1.0]) - window.centre) > 0.0
        # Off the glazing bars, the ray out through the window meets what is shown unlit.
        start = window.centre + 0.3 * window.half_edge_u + 0.1 * window.half_edge_v + 0.5 * inward
        face = _first_hits(shell.mesh, start[None], -inward[None])[0]
        assert book.materials[shell.mesh.material[face]].unlit


def test_the_middle_of_the_view_never_looks_outside() -> None:
    for seed in range(6):
        shell, book = _room(seed, windows=("ahead",))
        face = _first_hits(shell.mesh, SIGHT[0][None], SIGHT[1][None])[0]
        assert not book.materials[shell.mesh.material[face]].unlit


def test_the_dome_shows_the_panorama_upright_and_the_right_way_round() -> None:
    """Row 0 of the picture is overhead; its right half lies to the right (+x) of the view ahead (-z)."""
    mesh = dome(MaterialBook(np.random.default_rng(0)), np.zeros((512, 1024, 3), np.uint8))
    corners = mesh.vertices[mesh.faces] - np.array((0.0, 1.4, -1.5))
    np.testing.assert_allclose(np.linalg.norm(corners, axis=-1), DOME_RADIUS, rtol=1e-4)
    low = np.abs(corners[..., 1]) < 0.5 * DOME_RADIUS
    ahead = low & (corners[..., 2] < -0.5 * DOME_RADIUS)
    right = mesh.uv[..., 0][ahead & (corners[..., 0] > 1.0)]
    assert (right > 0.5).all()
    up = mesh.uv[..., 1]
    assert up[corners[..., 1] > 0.9 * DOME_RADIUS].min() > 0.8
    assert np.ptp(mesh.uv[..., 0], axis=1).max() < 0.5
    inward = np.einsum("ij,ij->i", face_normals(mesh), corners.mean(axis=1))
    assert (inward <= 1e-6).all()


def test_the_floor_is_flat_where_things_stand() -> None:
    rng = np.random.default_rng(3)
    spots = np.column_stack([rng.uniform(-2.6, 2.6, 300), np.full(300, 0.5), rng.uniform(-4.0, 1.8, 300)])
    downwards = np.tile((0.0, -1.0, 0.0), (300, 1))
    for shell in (_room(3)[0], _court(3)):
        faces = _first_hits(shell.mesh, spots, downwards)
        assert np.abs(shell.mesh.vertices[shell.mesh.faces[faces]][..., 1]).max() < 1e-6


def test_the_surfaces_texture_scale_is_kept_on_the_floor() -> None:
    shell, book = _room(0)
    floor = shell.mesh.material == shell.floor.material
    corners, uv = shell.mesh.vertices[shell.mesh.faces[floor]], shell.mesh.uv[floor]
    metres = uv * np.asarray(book.materials[shell.floor.material].texture_metres)
    edge = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
    np.testing.assert_allclose(np.linalg.norm(metres[:, 0] - metres[:, 1], axis=1), edge, rtol=1e-4)
