from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sceneloom.datasets.errors import EngineError, InputError
from sceneloom.ops import mesh_normals, raycast_reference
from sceneloom.ops.cameras import rotation_from_vector
from sceneloom.ops.raycast import RayCaster, decode_normals, light_draws
from sceneloom.ops.scene_model import (
    AreaLight,
    Material,
    SceneInstance,
    SceneModel,
    SkyLight,
    SunLight,
    Texture,
    TriangleMesh,
)

from . import scenes

NO_LIGHT = SkyLight((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
GREY_SKY = SkyLight((0.4, 0.4, 0.4), (0.4, 0.4, 0.4))


def _srgb(linear: float) -> float:
    return 255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055)


def _linear(code: float) -> float:
    return ((code / 255 + 0.055) / 1.055) ** 2.4


def _pose(seed: int) -> NDArray[np.float64]:
    """A camera somewhere in `room_scene`'s free space, turned any way."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.eye(4)
    pose[:3, :3] = axes * np.sign(np.linalg.det(axes))
    pose[:3, 3] = rng.uniform([-1.5, -1.2, -0.3], [1.5, 0.4, 2.0])
    return pose


def _triangle_scene(triangles: NDArray[np.float32]) -> SceneModel:
    """Loose triangles as the shell, camera at the origin of the scene."""
    count = len(triangles)
    mesh = TriangleMesh(
        triangles.reshape(-1, 3),
        np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        np.zeros((count, 3, 2), np.float32),
        np.zeros(count, np.int32),
    )
    material = Material("grey", "painted", scenes.flat_texture((128, 128, 128)))
    return SceneModel(mesh, [], [material], None, GREY_SKY, (), np.eye(4), np.array([50.0, 50, 32, 24]), (48, 64))


def _wall(texture: Texture, *, distance: float = 2.0, side: float = 4.0, **material: object) -> SceneModel:
    """A square wall straight ahead of the camera, its picture upright."""
    x = y = side / 2
    corners = np.array([[-x, y, distance], [x, y, distance], [x, -y, distance], [-x, -y, distance]], np.float32)
    # World y points down, so the first corner (+y) is the picture's lower left.
    uv = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], np.float32)
    mesh = TriangleMesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), uv, np.zeros(2, np.int32))
    wall = Material("wall", "painted", texture, **material)  # pyright: ignore[reportArgumentType]
    return SceneModel(mesh, [], [wall], None, GREY_SKY, (), np.eye(4), np.array([64.0, 64, 32, 32]), (64, 64))


@pytest.fixture(scope="module")
def room() -> SceneModel:
    return scenes.room_scene()


@pytest.fixture(scope="module")
def caster(room: SceneModel) -> RayCaster:
    return RayCaster(room)


# Hits


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000))
def test_depth_is_the_reference_depth(room: SceneModel, caster: RayCaster, seed: int):
    height, width = 18, 26
    lens = np.array([14.0, 15.0, 12.0, 10.0])
    expected = raycast_reference.depth_map(raycast_reference.world_triangles(room), _pose(seed), lens, height, width)
    found = caster.geometry(_pose(seed), lens, height, width)
    agree = np.isclose(found.depth, expected, rtol=2e-6, atol=2e-6)
    # float32 and float64 may put a ray that grazes an outline on either side of it.
    assert agree.mean() > 0.995
    assert (found.depth > 0).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 120))
def test_rays_hit_what_the_reference_hits(seed: int, count: int):
    rng = np.random.default_rng(seed)
    triangles = (rng.normal(size=(count, 1, 3)) * 2 + rng.normal(size=(count, 3, 3)) * 0.7).astype(np.float32)
    origins, directions = rng.normal(size=(2, 40, 3)) * 3
    directions[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    distance, face, weights = raycast_reference.closest_hits(triangles, origins.astype(np.float32), unit)
    hits = RayCaster(_triangle_scene(triangles)).cast(origins, directions)
    assert (hits.face == face).mean() >= 0.97
    same = hits.face == face
    np.testing.assert_allclose(hits.distance[same], distance[same], rtol=1e-4, atol=1e-5)
    hit = same & (face >= 0)
    np.testing.assert_allclose(hits.barycentric[hit], weights[hit], atol=2e-3)
    assert (hits.instance[hit] == 0).all()
    assert (hits.instance[hits.face < 0] == -1).all()
    normal = np.cross(*(triangles[face[hit], k] - triangles[face[hit], 0] for k in (1, 2)))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(np.einsum("ij,ij->i", normal, hits.normal[hit])), 1, atol=1e-4)
    assert (np.einsum("ij,ij->i", unit[hit], hits.normal[hit]) <= 1e-6).all()


def test_no_ray_slips_between_triangles():
    ball = scenes.sphere_mesh(1.0, 24, 48)
    caster = RayCaster(_triangle_scene(ball.vertices[ball.faces]))
    origin = np.array([0.113, -0.271, 0.307], np.float32)
    corners = ball.vertices[ball.faces]
    mix = np.linspace(0, 1, 33, dtype=np.float32)[:, None, None]
    along_edges = (mix * corners[:, 0] + (1 - mix) * corners[:, 1]).reshape(-1, 3)
    hits = caster.cast(np.broadcast_to(origin, along_edges.shape), along_edges - origin)
    assert np.isfinite(hits.distance).all()
    np.testing.assert_allclose(hits.distance, np.linalg.norm(along_edges - origin, axis=1), rtol=1e-4)


def test_every_ray_in_a_closed_room_ends(caster: RayCaster):
    directions = np.random.default_rng(3).normal(size=(200_000, 3))
    assert np.isfinite(caster.cast(np.zeros_like(directions), directions).distance).all()


def test_z_depth_of_the_far_wall_is_constant(caster: RayCaster, room: SceneModel):
    far = caster.geometry(np.eye(4), room.intrinsics, 96, 160)
    wall = (far.instance_ids == 0) & (decode_normals(far.normals)[..., 2] < -0.99)
    assert wall.sum() > 1000
    np.testing.assert_allclose(far.depth[wall], 2.5 + scenes.ROOM[2] / 2, rtol=1e-6)


def test_moving_the_camera_forward_shortens_depth(caster: RayCaster):
    pose = np.eye(4)
    pose[2, 3] = 1.25
    straight = np.array([100.0, 100.0, 0.5, 0.5])
    depth = [caster.geometry(p, straight, 1, 1).depth[0, 0] for p in (np.eye(4), pose)]
    assert depth[0] - depth[1] == pytest.approx(1.25)


def test_ids_and_normals_of_a_room(caster: RayCaster, room: SceneModel):
    seen = caster.geometry(np.eye(4), room.intrinsics, 96, 160)
    assert seen.instance_ids.dtype == np.uint16
    assert set(np.unique(seen.instance_ids)) == {0, 1, 2}
    material_of_instance = {1: 2, 2: 3}
    for instance, material in material_of_instance.items():
        assert (seen.material_ids[seen.instance_ids == instance] == material).all()
    row, column = np.indices((96, 160)) + 0.5
    ray = np.stack([(column - 80) / 128, (row - 48) / 128, np.ones((96, 160))], axis=-1)
    normal = decode_normals(seen.normals)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, atol=1e-5)
    assert (np.einsum("hwi,hwi->hw", normal, ray) < 0.02).all()
    ball = seen.instance_ids == 2
    centre = np.array([0.8, scenes.CAMERA_HEIGHT - 0.5, 3.0])
    radial = (ray * seen.depth[..., None] - centre)[ball] / 0.5
    assert np.einsum("ij,ij->i", radial, normal[ball]).min() > 0.97


def test_a_miss_is_zero_and_a_reach_is_kept():
    scene = _wall(scenes.flat_texture((9, 9, 9)), side=1.0)
    caster = RayCaster(scene)
    seen = caster.render(np.eye(4), scene.intrinsics, 64, 64, seed=0)
    for values in (seen.rgb, seen.depth, seen.normals, seen.instance_ids, seen.material_ids):
        assert not values[0, 0].any()
    assert seen.depth[32, 32] == 2.0
    ahead = np.array([[0.1, 0.2, 5.0]])
    assert caster.cast(np.zeros((1, 3)), ahead, max_distance=1.99).face[0] == -1
    assert caster.cast(np.zeros((1, 3)), ahead, max_distance=2.01).face[0] >= 0


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10_000))
def test_distance_to_the_nearest_surface(room: SceneModel, caster: RayCaster, seed: int):
    low, high = caster.bounds
    points = np.random.default_rng(seed).uniform(low - 1, high + 1, (4, 3))
    expected = raycast_reference.closest_distances(raycast_reference.world_triangles(room), points)
    np.testing.assert_allclose(caster.closest_distance(points), expected, rtol=1e-4, atol=1e-5)


def test_bounds_and_limited_distance(caster: RayCaster):
    np.testing.assert_allclose(caster.bounds, [[-2, -1.5, -0.5], [2, 1.5, 5.5]], atol=1e-6)
    assert caster.closest_distance(np.zeros((1, 3)))[0] == pytest.approx(0.5)
    assert caster.closest_distance(np.zeros((1, 3)), max_distance=0.4)[0] == np.inf


# Colour


def test_unlit_pictures_come_back_code_by_code():
    picture = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scene = _wall(Texture(picture, wrap="clamp"), unlit=True)
    scene = replace(scene, intrinsics=np.array([32.0, 32, 32, 32]), exposure=3.7, sky=NO_LIGHT)
    seen = RayCaster(scene).render(np.eye(4), scene.intrinsics, 64, 64, samples_per_pixel=1, seed=0)
    np.testing.assert_array_equal(seen.rgb, picture)


def test_fine_texture_far_away_turns_to_its_mean_light():
    scene = _wall(scenes.checker_texture(cells=64, cell=4, low=0, high=255), distance=400.0, side=4000.0, unlit=True)
    tiled = replace(scene.shell, uv=scene.shell.uv * 40)
    seen = RayCaster(replace(scene, shell=tiled)).render(np.eye(4), scene.intrinsics, 64, 64, seed=0)
    np.testing.assert_allclose(seen.rgb, _srgb(0.5), atol=2)


def test_slanted_texture_is_close_to_its_exact_average():
    room = scenes.room_scene(unlit=True)
    caster = RayCaster(room)
    exact = caster.render(np.eye(4), room.intrinsics, 96, 160, samples_per_pixel=256, seed=0).rgb.astype(float)
    errors = []
    for samples in (1, 2, 4):
        seen = caster.render(np.eye(4), room.intrinsics, 96, 160, samples_per_pixel=samples, seed=0).rgb.astype(float)
        errors.append(float(np.sqrt(np.mean((seen - exact) ** 2))))
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 5.0


def test_sky_light_on_a_wall():
    scene = replace(_wall(scenes.flat_texture((188, 188, 188))), exposure=1.25)
    seen = RayCaster(scene).render(np.eye(4), scene.intrinsics, 64, 64, seed=0)
    np.testing.assert_allclose(seen.rgb, _srgb(_linear(188) * 0.4 * 1.25), atol=1)


@pytest.mark.parametrize("degrees", [0.0, 40.0, 75.0])
def test_sun_light_follows_the_cosine(degrees: float):
    angle = np.radians(degrees)
    sun = SunLight((np.sin(angle), 0.0, -np.cos(angle)), (1.5, 1.5, 1.5))
    scene = replace(_wall(scenes.flat_texture((188, 188, 188))), sun=sun, sky=NO_LIGHT)
    seen = RayCaster(scene).render(np.eye(4), scene.intrinsics, 64, 64, seed=0)
    np.testing.assert_allclose(seen.rgb, _srgb(_linear(188) * 1.5 * np.cos(angle) / np.pi), atol=1)


def test_area_light_gives_what_integration_gives():
    light = AreaLight((0.5, 0.3, 1.2), (0.4, 0.0, 0.1), (0.0, 0.3, 0.0), (4.0, 4.0, 4.0))
    scene = replace(_wall(scenes.flat_texture((188, 188, 188))), area_lights=(light,), sky=NO_LIGHT)
    seen = RayCaster(scene).render(np.eye(4), scene.intrinsics, 64, 64, samples_per_pixel=1, seed=0)
    grid = (np.arange(40) + 0.5) / 20 - 1
    u, v = np.meshgrid(grid, grid)
    half_u, half_v = np.array(light.half_edge_u), np.array(light.half_edge_v)
    on_light = np.array(light.centre) + u[..., None] * half_u + v[..., None] * half_v
    forward = np.cross(half_u, half_v)
    for row, column in [(20, 20), (40, 45), (32, 60), (5, 5)]:
        point = 2.0 * np.array([(column + 0.5 - 32) / 64, (row + 0.5 - 32) / 64, 1.0])
        way = on_light - point
        square = (way**2).sum(-1)
        on_wall, leaving = -way[..., 2], -(way @ forward)
        irradiance = 4.0 * np.mean(np.maximum(on_wall, 0) * np.maximum(leaving, 0) / square**2) * 4
        expected = _srgb(min(_linear(188) * irradiance / np.pi, 0.6))
        assert seen.rgb[row, column, 0] == pytest.approx(expected, abs=1.5)


def test_an_area_light_shines_one_way():
    light = AreaLight((0.5, 0.3, 1.2), (0.4, 0.0, 0.1), (0.0, -0.3, 0.0), (4.0, 4.0, 4.0))
    scene = replace(_wall(scenes.flat_texture((188, 188, 188))), area_lights=(light,), sky=NO_LIGHT)
    assert not RayCaster(scene).render(np.eye(4), scene.intrinsics, 64, 64, seed=0).rgb.any()


def _shaded_wall(**blocker: object) -> tuple[float, float]:
    """Brightness of a sunlit wall behind a small board in the sun's way, and beside its shadow."""
    scene = _wall(scenes.flat_texture((188, 188, 188)))
    board = Material("board", "painted", scenes.flat_texture((20, 20, 20)), **blocker)  # pyright: ignore[reportArgumentType]
    # The sun stands to the upper right; the board's shadow falls on the wall's centre, the board itself lies beside.
    sun = SunLight((0.6, -0.6, -0.5), (1.5, 1.5, 1.5), 0.001)
    towards = np.array(sun.direction) / np.linalg.norm(sun.direction)
    place = np.array([0.0, 0.0, 2.0]) + towards * 1.2
    instance = SceneInstance(
        1, "board", "board", scenes.box_mesh((0.5, 0.5, 0.5), (1,) * 6), scenes.translation(*place)
    )
    scene = replace(scene, materials=[*scene.materials, board], instances=[instance], sun=sun, sky=NO_LIGHT)
    seen = RayCaster(scene).render(np.eye(4), scene.intrinsics, 64, 64, seed=1)
    assert seen.instance_ids[32, 32] == 0
    assert seen.instance_ids[60, 4] == 0
    return float(seen.rgb[32, 32, 0]), float(seen.rgb[60, 4, 0])


def test_shadows_fall_only_from_what_blocks_light():
    in_shadow, beside = _shaded_wall()
    assert in_shadow == 0
    assert beside > 80
    assert _shaded_wall(unlit=True) == (beside, beside)
    assert _shaded_wall(emission=(1.0, 1.0, 1.0)) == (beside, beside)


@pytest.mark.parametrize("size", [0.4, 4.0, 20.0, 60.0])
def test_open_surfaces_have_no_acne_and_no_noise(size: float):
    shell = scenes.box_mesh((size, size / 2, size), (0,) * 6)
    up = np.diag([1.0, -1.0, -1.0, 1.0])
    up[:3, 3] = 0.01 * size, 0.1 * size, 0.45 * size
    light = AreaLight((0, 0.2 * size, 0), (0.1 * size, 0, 0), (0, 0, 0.1 * size), (9.0, 9.0, 9.0))
    room = replace(scenes.room_scene(), shell=shell, instances=[], scene_from_camera=up, area_lights=(light,))
    caster = RayCaster(room)

    def render(**options: object):
        chosen = {"shadows": True, "ambient_occlusion_reach": 1e-3 * size, "seed": 0, **options}
        return caster.render(np.eye(4), room.intrinsics, 96, 160, **chosen).rgb  # pyright: ignore[reportArgumentType]

    np.testing.assert_array_equal(render(), render(shadows=False))
    # Within the reach of a corner the sky's share may differ by a code or two from seed to seed.
    difference = np.abs(render(seed=7).astype(int) - render())
    assert (difference > 0).mean() < 0.02


def test_seeds_disagree_little_in_soft_shadows():
    room = scenes.room_scene(area_lights=(scenes.ceiling_light(radiance=10.0),))
    caster = RayCaster(room)
    pose = scenes.translation(0.0, 0.0, 0.0)
    frames = [
        caster.render(pose, room.intrinsics, 96, 160, samples_per_pixel=2, seed=seed).rgb.astype(float)
        for seed in range(4)
    ]
    assert np.std(frames, axis=0).mean() < 1.0
    assert np.std(frames, axis=0).max() < 30.0


def test_occlusion_darkens_corners_only():
    room = scenes.room_scene()
    caster = RayCaster(room)
    open_room = caster.render(np.eye(4), room.intrinsics, 96, 160, seed=0, ambient_occlusion_samples=0).rgb.astype(int)
    seen = caster.render(np.eye(4), room.intrinsics, 96, 160, seed=0, ambient_occlusion_samples=8).rgb.astype(int)
    assert (seen <= open_room).all()
    middle_of_wall = (slice(38, 42), slice(78, 82))
    assert np.abs(seen - open_room)[middle_of_wall].max() == 0
    where_walls_meet = seen[40, 31:36].min() / open_room[40, 31:36].max()
    assert where_walls_meet < 0.9


def test_highlight_needs_gloss():
    room = scenes.room_scene(sky=NO_LIGHT, area_lights=(scenes.ceiling_light(radiance=15.0),))
    matt = [replace(material, specular=0.0) for material in room.materials]
    bright, dull = (
        RayCaster(r).render(np.eye(4), room.intrinsics, 96, 160, seed=0) for r in (room, replace(room, materials=matt))
    )
    added = bright.rgb.astype(int) - dull.rgb
    assert added[bright.instance_ids == 2].max() > 30
    assert added.min() >= 0
    assert not added[2:-2, 2:60].any()


def test_emission_adds_to_what_is_reflected_and_never_overflows():
    lamp = _wall(scenes.flat_texture((0, 0, 0)), emission=(0.3, 0.5, 40.0))
    seen = RayCaster(lamp).render(np.eye(4), lamp.intrinsics, 64, 64, seed=0)
    np.testing.assert_allclose(seen.rgb[32, 32], [_srgb(0.3), _srgb(0.5), 255], atol=1)


# Conduct


def test_same_inputs_give_the_same_bytes_from_any_thread():
    room = scenes.room_scene(area_lights=(scenes.ceiling_light(),), sun=SunLight((0.1, 1, 0.2), (1, 1, 1)))
    pose = scenes.translation(0.1, 0.0, 0.3)

    def frame(_: int) -> bytes:
        seen = RayCaster(room).render(pose, room.intrinsics, 96, 160, seed=11)
        return b"".join(np.ascontiguousarray(getattr(seen, name)).tobytes() for name in ("rgb", "depth", "normals"))

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(frame, range(6)))) == 1


def test_threads_share_a_caster_and_frames_own_their_memory(caster: RayCaster, room: SceneModel):
    poses = [scenes.translation(0.02 * k, 0.0, 0.0) for k in range(6)]
    alone = [caster.render(pose, room.intrinsics, 48, 80, seed=0).rgb for pose in poses]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda pose: caster.render(pose, room.intrinsics, 48, 80, seed=0).rgb, poses))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(alone[0], alone[5])


def test_moved_objects_look_as_in_a_new_caster():
    scene = scenes.room_scene(height=48, width=80, area_lights=(scenes.ceiling_light(),))
    rng = np.random.default_rng(3)
    caster = RayCaster(scene)
    for moved in ((0,), (0, 1), (1,), ()):
        instances = list(scene.instances)
        for index in moved:
            pose = instances[index].scene_from_object.copy()
            pose[:3, :3] = rotation_from_vector(rng.normal(0, 0.5, 3))
            pose[:3, 3] += rng.uniform(0.0, 0.3, 3)
            instances[index] = replace(instances[index], scene_from_object=pose)
        caster.place(instances)
        fresh = RayCaster(replace(scene, instances=instances))
        seen, expected = (each.render(np.eye(4), scene.intrinsics, 48, 80, seed=1) for each in (caster, fresh))
        for field in ("rgb", "depth", "normals", "instance_ids", "material_ids"):
            np.testing.assert_array_equal(getattr(seen, field), getattr(expected, field))
        np.testing.assert_array_equal(caster.bounds, fresh.bounds)
        points = rng.uniform(-1, 1, (50, 3))
        np.testing.assert_array_equal(caster.closest_distance(points), fresh.closest_distance(points))


def test_only_the_scenes_own_objects_can_be_placed(caster: RayCaster, room: SceneModel):
    other = scenes.room_scene().instances
    for instances in (room.instances[:1], other, room.instances[::-1]):
        with pytest.raises(InputError, match="not the 2 of the caster's scene"):
            caster.place(instances)


def test_draws_are_stratified():
    sun, area, sky = light_draws(3, 16, 2)
    assert (np.hypot(*sun.T) < 1).all()
    for pair in ((area[:, :2] + 1) / 2, sky[:, 0, :2], sky[:, 1, :2]):
        assert len({(int(4 * x), int(4 * y)) for x, y in pair}) == 16
        assert len({int(16 * x) for x, _ in pair}) == 16
    assert len({int(32 * x) for x in sky[..., 0].ravel()}) == 32
    assert sorted((16 * area[:, 2]).astype(int)) == list(range(16))
    assert light_draws(3, 16, 0)[2].shape == (16, 0, 3)
    assert not np.array_equal(light_draws(4, 16, 2)[0], sun)


def test_round_things_get_round_normals_and_boxes_keep_their_edges():
    ball = scenes.sphere_mesh(2.0, 16, 32)
    normals = mesh_normals.corner_normals(ball)
    radial = ball.vertices[ball.faces] / 2.0
    assert np.einsum("fci,fci->fc", normals, radial).min() > 0.999
    box = scenes.box_mesh((1.0, 2.0, 3.0))
    flat = np.repeat(mesh_normals.face_normals(box)[:, None], 3, axis=1)
    np.testing.assert_allclose(mesh_normals.corner_normals(box), flat, atol=1e-6)
    outward = np.einsum("fi,fi->f", flat[:, 0], box.vertices[box.faces].mean(axis=1))
    assert (outward > 0).all()


def test_many_equal_triangles_still_make_a_tree():
    one = np.array([[[-1, -1, 2], [1, -1, 2], [0, 1, 2]]], np.float32)
    caster = RayCaster(_triangle_scene(np.repeat(one, 500, axis=0)))
    assert caster.cast([[0, 0, 0]], [[0, 0, 1]]).distance[0] == 2.0


def test_triangles_without_area_are_harmless():
    corners = np.array([[[0, 0, 1]] * 3, [[-1, -1, 2], [1, -1, 2], [0, 1, 2]]], np.float32)
    scene = _triangle_scene(corners)
    seen = RayCaster(scene).render(np.eye(4), np.array([4.0, 4, 2, 2]), 4, 4, seed=0)
    assert np.isfinite(seen.depth).all()
    assert seen.depth.max() == 2.0


# Refusals


@pytest.mark.parametrize(
    ("c2w", "lens", "height", "options"),
    [
        (np.eye(3), [1.0, 1, 1, 1], 4, {}),
        (np.full((4, 4), np.nan), [1.0, 1, 1, 1], 4, {}),
        (np.eye(4), [0.0, 1, 1, 1], 4, {}),
        (np.eye(4), [1.0, 1, 1], 4, {}),
        (np.eye(4), [1.0, 1, 1, 1], 0, {}),
        (np.eye(4), [1.0, 1, 1, 1], 4, {"samples_per_pixel": 0}),
        (np.eye(4), [1.0, 1, 1, 1], 4, {"ambient_occlusion_samples": -1}),
        (np.eye(4), [1.0, 1, 1, 1], 4, {"ambient_occlusion_reach": 0.0}),
    ],
)
def test_impossible_cameras_and_options_are_refused(caster: RayCaster, c2w, lens, height, options):
    with pytest.raises(InputError):
        caster.render(c2w, lens, height, 4, seed=0, **options)


def test_impossible_rays_are_refused(caster: RayCaster):
    for origins, directions in ([np.zeros((2, 3)), np.zeros((2, 3))], [np.zeros((2, 3)), np.ones((1, 3))]):
        with pytest.raises(InputError, match="length zero"):
            caster.cast(origins, directions)
    with pytest.raises(InputError, match="points"):
        caster.closest_distance([[0, 0, np.nan]])


def test_a_mesh_that_does_not_fit_is_named(room: SceneModel):
    broken = replace(room.instances[1].mesh, material=np.full(len(room.instances[1].mesh.faces), 9, np.int32))
    instances = [room.instances[0], replace(room.instances[1], mesh=broken)]
    with pytest.raises(InputError, match="instance 2"):
        RayCaster(replace(room, instances=instances))


def test_an_absent_device_is_named():
    with pytest.raises(EngineError, match="cuda:31"):
        RayCaster(scenes.room_scene(), device="cuda:31")
