"""Lights that shine where they should, and the exposure meter against a picture that can be reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sceneloom.ops import scene_lighting
from sceneloom.ops.furniture_piece import Lamp
from sceneloom.ops.meshes import Surface, rotation, sphere, translated
from sceneloom.ops.rooms import Extent, Window
from sceneloom.ops.scene_lighting import MOODS, MeterScene, metered_exposure
from sceneloom.ops.scene_model import AreaLight, SkyLight

EXTENT = Extent(width=5.6, ahead=4.2, behind=2.0, height=3.0)
WINDOW = Window(np.array([-2.8, 1.6, -2.0]), np.array([0.0, 0.0, -0.6]), np.array([0.0, 0.7, 0.0]))


def test_the_sun_shines_in_through_a_window() -> None:
    inward = np.cross(WINDOW.half_edge_u, WINDOW.half_edge_v)
    for name, mood in MOODS.items():
        for seed in range(8):
            sun = scene_lighting.sun_light(mood, [WINDOW], np.random.default_rng(seed))
            if mood.sun is None:
                assert sun is None, name
                continue
            assert sun is not None
            assert np.linalg.norm(sun.direction) == pytest.approx(1.0)
            assert np.asarray(sun.direction) @ inward < 0.0
            elevation = np.rad2deg(np.arcsin(sun.direction[1]))
            assert mood.sun_elevation[0] - 1e-6 <= elevation <= mood.sun_elevation[1] + 1e-6


def test_area_lights_shine_into_the_room() -> None:
    for light in scene_lighting.room_lights(MOODS["lamplight"], [WINDOW], EXTENT):
        facing = np.cross(light.half_edge_u, light.half_edge_v)
        assert facing @ (np.array([0.0, 1.4, -1.5]) - np.asarray(light.centre)) > 0.0


def test_lamps_shine_up_and_down_wherever_they_stand() -> None:
    pose = rotation(130.0)
    pose[:3, 3] = (1.0, 0.8, -3.0)
    lamps = [(pose, Lamp((0.0, 0.3, 0.0), 0.1, (9.0, 6.0, 4.0), up=up)) for up in (True, False)]
    upward, downward = scene_lighting.lamp_lights(MOODS["night"], lamps)
    assert np.cross(upward.half_edge_u, upward.half_edge_v)[1] == pytest.approx(0.01)
    assert np.cross(downward.half_edge_u, downward.half_edge_v)[1] == pytest.approx(-0.01)
    np.testing.assert_allclose(upward.centre, (1.0, 1.1, -3.0))


def test_the_most_powerful_lights_are_kept_in_order() -> None:
    radiances = (3.0, 9.0, 1.0, 7.0, 5.0, 8.0, 2.0, 6.0, 4.0)
    lights = [
        AreaLight((k, 2, 0), (0.1, 0, 0), (0, 0, 0.1), (value, value, value)) for k, value in enumerate(radiances)
    ]
    kept = scene_lighting.brightest(lights)
    assert [light.radiance[0] for light in kept] == [9.0, 7.0, 5.0, 8.0, 6.0, 4.0]


def _meter(albedo: float, sky: float, with_object: bool = False) -> MeterScene:
    grey = np.full(3, albedo)
    thing = translated(sphere(0.8, Surface(0, (1, 1)), segments=64), (0.0, 1.5, -2.5 if with_object else 3.0))
    return MeterScene(
        extent=EXTENT,
        indoors=True,
        floor=grey,
        walls=grey,
        ceiling=grey,
        sky_colour=grey,
        objects=thing,
        albedo=np.full((len(thing.faces), 3), 4.0 * albedo),
        sun=None,
        sky=SkyLight((sky, sky, sky), (sky, sky, sky)),
        lights=(),
    )


def _pose() -> np.ndarray:
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = (0.0, 1.5, 0.0)
    return pose


@pytest.mark.parametrize(("albedo", "sky"), [(0.2, 1.0), (0.5, 0.3), (0.1, 2.0)])
def test_the_meter_brings_an_even_room_to_the_asked_brightness(albedo: float, sky: float) -> None:
    """An even picture of radiance r has the sRGB value of exposure · r, with 0.85 of the sky's light unhidden."""
    intrinsics = np.array([300.0, 300.0, 160.0, 90.0])
    exposure = metered_exposure(_meter(albedo, sky), _pose(), intrinsics, (180, 320), 0.5)
    linear = ((0.5 + 0.055) / 1.055) ** 2.4
    assert exposure * 0.85 * sky * albedo == pytest.approx(linear, rel=1e-3)


def test_bright_objects_in_view_lower_the_exposure() -> None:
    intrinsics = np.array([300.0, 300.0, 160.0, 90.0])
    plain, covered = (
        metered_exposure(_meter(0.1, 1.0, covering), _pose(), intrinsics, (180, 320), 0.5) for covering in (False, True)
    )
    assert covered < plain
