from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sceneloom.datasets.errors import InputError
from sceneloom.ops.box_scene import build_box_scene
from sceneloom.ops.inner_rectangle import find_inner_rectangle
from sceneloom.ops.pictures import decode_picture, fit_picture
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_model import SceneModel

IMAGES = Path(__file__).parents[1] / "examples" / "images"
HEIGHT, WIDTH = 176, 320
UInt8 = NDArray[np.uint8]

VANISHING = (0.47, 0.55)
"""Where the drawn room's receding lines meet, as shares of width and height."""

BACK_WALL = (0.27, 0.36, 0.68, 0.78)
"""Left, top, right, bottom of the drawn room's back wall, as shares of width and height."""


@lru_cache
def example(name: str, height: int = HEIGHT, width: int = WIDTH) -> UInt8:
    return fit_picture(decode_picture((IMAGES / f"{name}.jpg").read_bytes(), where=name).rgb, height, width)


@lru_cache
def drawn_room(height: int, width: int) -> UInt8:
    """A room in exact one-point perspective, drawn from its planes' equations; each plane has its own stripes."""
    columns, rows = np.meshgrid((np.arange(2 * width) + 0.5) / 2 / width, (np.arange(2 * height) + 0.5) / 2 / height)
    x, y = columns - VANISHING[0], rows - VANISHING[1]
    edges = np.array(BACK_WALL) - np.array([*VANISHING, *VANISHING])
    # How far towards the viewer each plane is met along the pixel's ray: 1 at the back wall, more in front of it.
    reach = np.stack([x / edges[0], y / edges[1], x / edges[2], y / edges[3]])
    plane = np.where(reach.max(axis=0) > 1, reach.argmax(axis=0), 4)
    depth = 1 / np.maximum(reach.max(axis=0), 1)
    colours = np.array(
        [(150, 60, 60), (225, 225, 215), (60, 80, 150), (130, 110, 80), (90, 150, 100)], dtype=np.float64
    )
    across = np.where((plane == 0) | (plane == 2), y, x) * depth
    stripes = 0.9 + 0.1 * np.sign(np.sin(across * 140)) * (plane != 4)
    doors = ((plane == 0) | (plane == 2)) & (np.sin(depth * 40) > 0.6) & (y * depth > -0.1)
    image = colours[plane] * stripes[..., None] * np.where(doors, 0.5, 1.0)[..., None]
    halved = image.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    return np.round(halved).astype(np.uint8)


def psnr(first: UInt8, second: UInt8) -> float:
    return float(-10 * np.log10(np.mean((first.astype(np.float64) - second) ** 2) / 255**2))


def pose(offset: tuple[float, float, float], yaw: float = 0.0, pitch: float = 0.0) -> NDArray[np.float64]:
    yaw, pitch = np.radians([yaw, pitch])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    c2w = np.eye(4)
    c2w[:3, :3], c2w[:3, 3] = turn @ nod, offset
    return c2w


def described(scene: SceneModel, key: str) -> float:
    value = scene.description[key]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize(
    ("name", "least"), [("corridor", 38.0), ("street", 34.0), ("gallery", 38.0), ("pagoda", 30.0), ("coffee", 34.0)]
)
def test_the_first_camera_sees_the_picture(name: str, least: float) -> None:
    picture = example(name, 352, 640)
    scene = build_box_scene(picture, seed=0)
    frame = RayCaster(scene).render(np.eye(4), scene.intrinsics, 352, 640, samples_per_pixel=4, seed=0)
    assert psnr(frame.rgb, picture) >= least


@pytest.mark.parametrize("field_of_view", [40.0, 75.0, 100.0])
def test_the_drawn_room_is_seen_through_any_lens(field_of_view: float) -> None:
    picture = drawn_room(HEIGHT, WIDTH)
    scene = build_box_scene(picture, seed=0, horizontal_field_of_view_degrees=field_of_view)
    assert scene.intrinsics[0] == pytest.approx(WIDTH / 2 / np.tan(np.radians(field_of_view / 2)))
    frame = RayCaster(scene).render(np.eye(4), scene.intrinsics, HEIGHT, WIDTH, samples_per_pixel=4, seed=0)
    assert psnr(frame.rgb, picture) >= 30.0


def test_the_drawn_room_is_understood() -> None:
    height, width = 352, 640
    scene = build_box_scene(drawn_room(height, width), seed=0)
    assert scene.description["vanishing_point_fallback"] is False
    vanishing = np.array(scene.description["vanishing_point"])
    np.testing.assert_allclose(vanishing, [VANISHING[0] * width, VANISHING[1] * height], atol=2.0)
    np.testing.assert_allclose(
        np.array(scene.description["inner_rectangle"]), np.array(BACK_WALL) * [width, height, width, height], atol=5.0
    )


def test_depth_is_that_of_the_planes() -> None:
    """On the drawn room: back wall at its depth, side planes at that depth over how far out of its edge a pixel is."""
    picture = drawn_room(HEIGHT, WIDTH)
    scene = build_box_scene(picture, seed=0)
    depth = RayCaster(scene).geometry(np.eye(4), scene.intrinsics, HEIGHT, WIDTH).depth
    vx, vy = np.array(scene.description["vanishing_point"])
    left, top, right, bottom = np.array(scene.description["inner_rectangle"])
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    reach = np.maximum.reduce(
        [
            (columns - vx) / (left - vx),
            (columns - vx) / (right - vx),
            (rows - vy) / (top - vy),
            (rows - vy) / (bottom - vy),
            np.ones((HEIGHT, WIDTH)),
        ]
    )
    np.testing.assert_allclose(depth, described(scene, "back_wall_depth") / reach, rtol=1e-3)


@pytest.mark.parametrize("name", ["corridor", "street", "pagoda"])
def test_no_camera_inside_sees_the_void(name: str) -> None:
    scene = build_box_scene(example(name), seed=0)
    caster = RayCaster(scene)
    generator = np.random.default_rng(4)
    low, high = caster.bounds
    for _ in range(12):
        offset = generator.uniform(0.55 * low, 0.55 * high)
        c2w = pose((offset[0], offset[1], offset[2]), generator.uniform(-180, 180), generator.uniform(-60, 60))
        assert (caster.geometry(c2w, scene.intrinsics, 90, 160).depth > 0).all()


def test_the_box_reaches_as_far_back_as_the_back_wall_is() -> None:
    scene = build_box_scene(example("gallery"), seed=0)
    depth = described(scene, "back_wall_depth")
    low, high = RayCaster(scene).bounds
    assert high[2] == pytest.approx(depth, rel=1e-4)
    assert low[2] == pytest.approx(-depth, rel=1e-4)


def test_walls_continue_without_a_jump_where_the_picture_ends() -> None:
    """Turned by half the field of view, the picture's edge is in the middle: no column there stands out."""
    picture = example("gallery", 352, 640)
    scene = build_box_scene(picture, seed=0)
    frame = RayCaster(scene).render(pose((0, 0, 0), yaw=37.5), scene.intrinsics, 352, 640, samples_per_pixel=4, seed=0)
    steps = np.abs(np.diff(frame.rgb.astype(np.float64), axis=1)).mean(axis=(0, 2))
    assert steps[310:330].max() < 3 * np.median(steps) + 2


def test_the_floor_is_the_ground_of_the_scene_frame() -> None:
    scene = build_box_scene(drawn_room(HEIGHT, WIDTH), seed=0)
    vertices = scene.shell.vertices
    assert np.abs(vertices[:, 1].min()) < 1e-5
    rotation = scene.scene_from_camera[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert scene.scene_from_camera[1, 3] == pytest.approx(described(scene, "camera_height"), abs=1e-3)
    floor = [i for i, material in enumerate(scene.materials) if material.name.endswith("floor")]
    floor_faces = scene.shell.faces[np.isin(scene.shell.material, floor)]
    np.testing.assert_allclose(vertices[floor_faces.ravel(), 1], 0.0, atol=1e-5)


def test_every_face_looks_into_the_room() -> None:
    shell = build_box_scene(example("street"), seed=0).shell
    a, b, c = np.moveaxis(shell.vertices[shell.faces].astype(np.float64), 1, 0)
    to_middle = shell.vertices.mean(axis=0) - a
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), to_middle) > 0).all()


@pytest.mark.parametrize("name", ["corridor", "street", "gallery", "pagoda", "coffee"])
def test_the_back_wall_is_three_to_six_metres_away(name: str) -> None:
    scene = build_box_scene(example(name), seed=0)
    assert 3.0 <= described(scene, "back_wall_depth") <= 6.0
    assert scene.metric is False
    assert all(material.unlit and material.texture.wrap == "clamp" for material in scene.materials)
    json.dumps(scene.description)


@pytest.mark.parametrize("size", [(32, 32), (40, 300), (300, 40), (64, 65)])
def test_pictures_without_perspective_fall_back(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    for picture in (noise, np.full((*size, 3), 128, np.uint8)):
        scene = build_box_scene(picture, seed=0)
        assert scene.description["vanishing_point_fallback"] is True
        depth = RayCaster(scene).geometry(np.eye(4), scene.intrinsics, *size).depth
        assert (depth > 0).all()


def test_the_same_picture_gives_the_same_bytes() -> None:
    first, second = (build_box_scene(example("street"), seed=1) for _ in range(2))
    assert first.description == second.description
    np.testing.assert_array_equal(first.shell.vertices, second.shell.vertices)
    for one, other in zip(first.materials, second.materials, strict=True):
        np.testing.assert_array_equal(one.texture.image, other.texture.image)


@pytest.mark.parametrize("vanishing", [(0.2, 0.2), (0.5, 0.5), (0.8, 0.3)])
@pytest.mark.parametrize("search", [True, False])
def test_the_inner_rectangle_holds_the_vanishing_point(vanishing: tuple[float, float], search: bool) -> None:
    point = (vanishing[0] * WIDTH, vanishing[1] * HEIGHT)
    rectangle = find_inner_rectangle(example("street"), point, np.zeros((0, 4)), search=search)
    assert 0 < rectangle.left < point[0] < rectangle.right < WIDTH
    assert 0 < rectangle.top < point[1] < rectangle.bottom < HEIGHT


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="float64"):
        build_box_scene(np.zeros((64, 64, 3)), seed=0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="31 × 64"):
        build_box_scene(np.zeros((31, 64, 3), np.uint8), seed=0)
    with pytest.raises(InputError, match="field of view is 170"):
        build_box_scene(np.zeros((64, 64, 3), np.uint8), seed=0, horizontal_field_of_view_degrees=170)


def test_the_room_survives_compression() -> None:
    file = io.BytesIO()
    Image.fromarray(drawn_room(352, 640)).save(file, "JPEG", quality=60)
    scene = build_box_scene(decode_picture(file.getvalue(), where="room").rgb, seed=0)
    vanishing = np.array(scene.description["vanishing_point"])
    np.testing.assert_allclose(vanishing, [VANISHING[0] * 640, VANISHING[1] * 352], atol=3.0)
