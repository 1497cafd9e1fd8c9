"""Building blocks: closed, outward, of the volume and at the texture scale that their measures say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.ops import meshes
from sceneloom.ops.mesh_normals import face_normals
from sceneloom.ops.meshes import Surface

SURFACE = Surface(3, (0.5, 0.25))
lengths = st.floats(0.05, 3.0)
quick = settings(deadline=None, max_examples=25)

BLOCKS = {
    "box": lambda: meshes.box((1, 2, 3), SURFACE),
    "bevelled box": lambda: meshes.bevelled_box((1, 0.5, 0.7), 0.05, SURFACE, steps=3),
    "cylinder": lambda: meshes.cylinder(0.3, 1.0, SURFACE, top_radius=0.2),
    "sphere": lambda: meshes.sphere(0.5, SURFACE),
    "cushion": lambda: meshes.cushion((0.6, 0.2, 0.5), SURFACE),
    "lumpy sphere": lambda: meshes.lumpy_sphere(0.4, np.random.default_rng(0), SURFACE),
    "tube": lambda: meshes.tube([(0, 0, 0), (0, 1, 0), (0.2, 1.4, 0.3)], (0.1, 0.08, 0.02), SURFACE),
    "leaf": lambda: meshes.leaf([(0, 0, 0), (0, 0.1, 0.1), (0, 0.15, 0.3), (0, 0.1, 0.5)], 0.1, SURFACE),
    "hollow lathe": lambda: meshes.lathe(
        [(0, 0), (0.1, 0), (0.2, 0.3), (0.1, 0.5), (0.09, 0.5), (0.18, 0.3), (0.09, 0.02), (0, 0.02)], SURFACE
    ),
    "picture box": lambda: meshes.picture_box((1, 1, 0.1), SURFACE, Surface(5, (1, 1))),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_closed_and_face_outwards(name: str) -> None:
    mesh = BLOCKS[name]()
    assert meshes.is_closed(mesh)
    assert meshes.signed_volume(mesh) > 0.0
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.dtype == mesh.material.dtype == np.int32
    assert mesh.uv.shape == (len(mesh.faces), 3, 2)
    assert np.isfinite(mesh.uv).all()


def test_trimesh_agrees_on_closedness_and_volume() -> None:
    import trimesh

    for block in BLOCKS.values():
        mesh = block()
        other = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert other.is_watertight
        assert other.is_winding_consistent
        assert meshes.signed_volume(mesh) == pytest.approx(other.volume, rel=1e-5)


@quick
@given(lengths, lengths, lengths)
def test_box_has_the_volume_and_bounds_of_its_size(width: float, height: float, depth: float) -> None:
    mesh = meshes.box((width, height, depth), SURFACE, centre=(1, 2, 3))
    assert meshes.signed_volume(mesh) == pytest.approx(width * height * depth, rel=1e-4)
    np.testing.assert_allclose(np.diff(meshes.bounds(mesh), axis=0)[0], (width, height, depth), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(meshes.bounds(mesh).mean(axis=0), (1, 2, 3), atol=1e-6)


@quick
@given(lengths, lengths, lengths, st.floats(0.001, 0.3), st.integers(1, 4))
def test_bevelled_box_keeps_its_size_and_stays_closed(
    width: float, height: float, depth: float, bevel: float, steps: int
) -> None:
    mesh = meshes.bevelled_box((width, height, depth), bevel, SURFACE, steps=steps)
    assert meshes.is_closed(mesh)
    np.testing.assert_allclose(np.diff(meshes.bounds(mesh), axis=0)[0], (width, height, depth), rtol=1e-4, atol=1e-5)
    assert 0.0 < meshes.signed_volume(mesh) <= width * height * depth * (1 + 1e-5)


def test_round_blocks_approach_their_analytic_volume() -> None:
    assert meshes.signed_volume(meshes.sphere(1.0, SURFACE, segments=96)) == pytest.approx(4 / 3 * np.pi, rel=3e-3)
    cone = meshes.lathe([(1.0, 0.0), (0.5, 2.0)], SURFACE, segments=96)
    assert meshes.signed_volume(cone) == pytest.approx(np.pi * 2 / 3 * (1 + 0.5 + 0.25), rel=3e-3)


def test_box_texture_is_laid_out_in_metres() -> None:
    """Along every edge of a face, uv × tile size is as long as the edge."""
    mesh = meshes.box((1.0, 2.0, 3.0), SURFACE)
    corners = mesh.vertices[mesh.faces]
    metres = mesh.uv * np.asarray(SURFACE.texture_metres)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        edge = np.linalg.norm(corners[:, first] - corners[:, second], axis=1)
        np.testing.assert_allclose(np.linalg.norm(metres[:, first] - metres[:, second], axis=1), edge, rtol=1e-5)


def test_grain_runs_along_the_longest_side() -> None:
    mesh = meshes.box((0.1, 2.0, 0.2), SURFACE)
    side = np.abs(face_normals(mesh)[:, 1]) < 0.5
    assert np.ptp(mesh.uv[side][..., 0]) == pytest.approx(2.0 / 0.5)


def test_lathe_texture_goes_around_in_whole_tiles() -> None:
    mesh = meshes.lathe([(0.3, 0.0), (0.3, 1.0)], SURFACE, segments=16)
    turns = float(np.ptp(mesh.uv[..., 0]))
    assert turns == pytest.approx(round(turns))
    assert turns * 0.5 == pytest.approx(2 * np.pi * 0.3, rel=0.15)


def test_picture_box_shows_the_whole_picture_upright_in_front() -> None:
    mesh = meshes.picture_box((2.0, 1.0, 0.1), SURFACE, Surface(5, (1, 1)))
    front = mesh.material == 5
    np.testing.assert_allclose(face_normals(mesh)[front], np.tile((0.0, 0.0, 1.0), (2, 1)), atol=1e-9)
    corners = mesh.vertices[mesh.faces[front]].reshape(-1, 3)
    np.testing.assert_allclose(mesh.uv[front].reshape(-1, 2), corners[:, :2] / (2.0, 1.0) + 0.5, atol=1e-6)


@quick
@given(st.floats(-180, 180), st.sampled_from(["x", "y", "z"]))
def test_turning_keeps_volume_and_mirroring_keeps_faces_outwards(degrees: float, axis: str) -> None:
    mesh = meshes.cushion((0.6, 0.2, 0.5), SURFACE)
    turned = meshes.transformed(mesh, meshes.rotation(degrees, axis))  # type: ignore[arg-type]
    assert meshes.signed_volume(turned) == pytest.approx(meshes.signed_volume(mesh), rel=1e-4)
    mirrored = meshes.transformed(turned, np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert meshes.signed_volume(mirrored) == pytest.approx(meshes.signed_volume(mesh), rel=1e-4)
    assert meshes.is_closed(mirrored)


def test_rotation_is_right_handed() -> None:
    np.testing.assert_allclose(meshes.rotation(90, "y") @ (0, 0, 1, 1), (1, 0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(meshes.rotation(90, "x") @ (0, 1, 0, 1), (0, 0, 1, 1), atol=1e-12)
    np.testing.assert_allclose(meshes.rotation(90, "z") @ (1, 0, 0, 1), (0, 1, 0, 1), atol=1e-12)


def test_merging_and_scattering_add_up() -> None:
    blade = meshes.leaf([(0, 0, 0), (0, 0.1, 0.1), (0, 0.15, 0.3)], 0.1, SURFACE)
    poses = np.stack([meshes.rotation(angle) for angle in (0, 40, 170)])
    poses[:, :3, 3] = [(0, 0, 0), (1, 0, 0), (0, 2, 0)]
    scattered = meshes.scattered(blade, poses)
    one_by_one = meshes.merged([meshes.transformed(blade, pose) for pose in poses])
    np.testing.assert_allclose(scattered.vertices, one_by_one.vertices, atol=1e-6)
    np.testing.assert_array_equal(scattered.faces, one_by_one.faces)
    assert meshes.is_closed(scattered)


def test_is_closed_sees_a_missing_and_a_flipped_face() -> None:
    mesh = meshes.box((1, 1, 1), SURFACE)
    holed = type(mesh)(mesh.vertices, mesh.faces[1:], mesh.uv[1:], mesh.material[1:])
    faces = mesh.faces.copy()
    faces[0] = faces[0, ::-1]
    assert not meshes.is_closed(holed)
    assert not meshes.is_closed(type(mesh)(mesh.vertices, faces, mesh.uv, mesh.material))
