"""Every family of object: closed, centred, of believable size, varied, and clad as the prompt asks."""

from __future__ import annotations

import numpy as np
import pytest

from sceneloom.datasets.errors import InputError
from sceneloom.ops.furniture import FAMILIES, build_piece
from sceneloom.ops.furniture_piece import Finish, Piece
from sceneloom.ops.materials import MaterialBook
from sceneloom.ops.meshes import bounds, is_closed, signed_volume

# Largest and smallest believable extents (x, y, z) in metres, from furniture makers' usual sizes.
_HEIGHTS = {"chair": (0.8, 1.2), "table": (0.7, 0.8), "sofa": (0.7, 1.1), "bed": (0.6, 1.4), "stool": (0.4, 0.8)}
_HEIGHTS |= {"bookshelf": (1.0, 2.2), "floor_lamp": (1.4, 1.8), "vase": (0.18, 0.8), "wardrobe": (1.8, 2.2)}


def _built(family: str, seed: int, finish: Finish | None = None) -> tuple[Piece, MaterialBook]:
    rng = np.random.default_rng(seed)
    book = MaterialBook(rng)
    return build_piece(family, rng, book, finish), book


@pytest.mark.parametrize("family", FAMILIES)
def test_every_piece_is_closed_centred_and_of_believable_size(family: str) -> None:
    for seed in range(4):
        piece, book = _built(family, seed)
        low, high = bounds(piece.mesh)
        assert is_closed(piece.mesh)
        assert signed_volume(piece.mesh) > 0.0
        np.testing.assert_allclose(low + high, 0.0, atol=1e-5)
        assert (high - low).max() < 3.0
        assert (high - low).min() > 0.08
        lowest, highest = _HEIGHTS.get(family, (0.1, 2.7))
        assert lowest <= high[1] - low[1] <= highest
        assert piece.mesh.material.max() < len(book.materials)
        assert 60 <= len(piece.mesh.faces) <= 12_000
        assert piece.family == family


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_vary_with_the_seed_and_only_with_it(family: str) -> None:
    first, again, other = (_built(family, seed)[0].mesh for seed in (1, 1, 2))
    assert first.vertices.tobytes() == again.vertices.tobytes()
    assert first.uv.tobytes() == again.uv.tobytes()
    assert not np.array_equal(first.vertices, other.vertices)


def test_there_are_many_families_of_several_parts() -> None:
    assert len(FAMILIES) >= 15
    for family in FAMILIES:
        mesh = _built(family, 0)[0].mesh
        parent = np.arange(len(mesh.vertices))
        for face in mesh.faces:
            roots = [_root(parent, corner) for corner in face]
            parent[roots] = min(roots)
        parts = {_root(parent, corner) for corner in np.unique(mesh.faces)}
        assert len(parts) >= 2 or family == "coffee_table"  # a drum is one turned block


def _root(parent: np.ndarray, index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = int(parent[index])
    return int(index)


@pytest.mark.parametrize("family", ["table", "desk", "cabinet", "nightstand", "kitchen_counter", "fireplace"])
def test_tops_lie_on_the_mesh(family: str) -> None:
    """A ray dropped on a top from just above meets the piece within 2 cm, and most of the way across."""
    for seed in range(4):
        piece, _ = _built(family, seed)
        assert piece.tops
        for top in piece.tops:
            upward = piece.mesh.vertices[:, 1] <= top.height + 1e-4
            near = np.abs(piece.mesh.vertices[:, 1] - top.height) < 0.02
            assert near.any()
            low, high = bounds(piece.mesh)
            assert low[0] <= top.low[0] < top.high[0] <= high[0]
            assert low[2] <= top.low[1] < top.high[1] <= high[2]
            assert upward.any()


@pytest.mark.parametrize(
    ("family", "kind"), [("sofa", "leather"), ("sofa", "velvet"), ("table", "marble"), ("desk", "wood")]
)
def test_asked_materials_are_used(family: str, kind: str) -> None:
    piece, book = _built(family, 3, Finish(kind=kind))
    assert any(book.materials[index].kind == kind for index in np.unique(piece.mesh.material))
    assert piece.looks.endswith(kind)


@pytest.mark.parametrize("family", ["chair", "sofa", "table", "armchair", "vase", "bench", "crate"])
def test_asked_colours_cover_much_of_the_piece(family: str) -> None:
    for seed in range(3):
        piece, book = _built(family, seed, Finish(colour="red"))
        names = np.array([material.name for material in book.materials])[piece.mesh.material]
        triangle = piece.mesh.vertices[piece.mesh.faces].astype(float)
        area = np.linalg.norm(np.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]), axis=1)
        red = np.char.startswith(names, "red")
        assert area[red].sum() > 0.2 * area.sum()
        assert piece.looks.startswith("red")


def test_scale_enlarges_piece_tops_and_lamps_alike() -> None:
    for family in ("table", "floor_lamp"):
        plain, large = _built(family, 5)[0], _built(family, 5, Finish(scale=1.2))[0]
        np.testing.assert_allclose(large.mesh.vertices, 1.2 * plain.mesh.vertices, rtol=1e-5, atol=1e-6)
        for small_top, large_top in zip(plain.tops, large.tops, strict=True):
            assert large_top.height == pytest.approx(1.2 * small_top.height)
        for small_lamp, large_lamp in zip(plain.lamps, large.lamps, strict=True):
            assert large_lamp.half_side == pytest.approx(1.2 * small_lamp.half_side)


def test_lamps_carry_one_light_down_and_one_up() -> None:
    for family in ("floor_lamp", "table_lamp"):
        piece, book = _built(family, 0)
        assert sorted(lamp.up for lamp in piece.lamps) == [False, True]
        assert any(max(book.materials[index].emission) > 0 for index in np.unique(piece.mesh.material))


def test_unknown_families_are_refused() -> None:
    with pytest.raises(InputError, match="no family 'unicorn'"):
        _built("unicorn", 0)
