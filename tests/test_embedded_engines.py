"""The embedded engines: what they declare is what they do, and what they cannot do they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sceneloom.assets import camera_paths, conditioning_view, scene_scaffold
from sceneloom.datasets.errors import InputError
from sceneloom.ops.scene_model import SceneModel
from sceneloom.resources.embedded_engines import (
    GroundTruthDepthAndPoses,
    GroundTruthScaffold,
    PictureView,
    ProceduralView,
    RaycastVideo,
    TourIntoPictureScaffold,
)
from sceneloom.resources.engines import Camera, Scaffold, View
from sceneloom.resources.profiles import PictureLimits

from .tiny import HEIGHT, WIDTH, made_collection

ENGINES = (
    ProceduralView,
    PictureView,
    GroundTruthScaffold,
    TourIntoPictureScaffold,
    RaycastVideo,
    GroundTruthDepthAndPoses,
)


def scaffold(kind: str) -> Scaffold:
    made = made_collection()
    return scene_scaffold.read_scaffold(made.inputs(made.scene(kind)))


def view(kind: str) -> View:
    made = made_collection()
    return conditioning_view.read_view(made.inputs(made.scene(kind)))


def cameras() -> list[Camera]:
    made = made_collection()
    return camera_paths.read_cameras(made.inputs(made.scene("prompt")), "left", height=HEIGHT, width=WIDTH)[:3]


def test_contracts_ask_for_no_device_and_name_a_licence() -> None:
    for engine in ENGINES:
        assert engine.contract.tier == "embedded"
        assert engine.contract.device_memory_bytes == 0
        assert engine.contract.licence == "Apache-2.0"
        assert engine.contract.needs
        assert engine.contract.gives


def test_a_prompts_view_follows_from_prompt_and_seed() -> None:
    engine, scene = ProceduralView(75), made_collection().scene("prompt")
    views = [engine.make_view(scene, height=64, width=64, seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(views[0].picture, views[1].picture)
    assert (views[0].picture != views[2].picture).any()
    assert isinstance(views[0].geometry, SceneModel)
    other = dataclasses.replace(scene, prompt="a garden patio at sunset with a wooden table")
    assert (engine.make_view(other, height=64, width=64, seed=1).picture != views[0].picture).any()


def test_a_picture_outside_the_limits_is_refused_by_name() -> None:
    scene = made_collection().scene("image")
    engine = PictureView(75, PictureLimits(minimum_side_pixels=5000))
    with pytest.raises(InputError, match=r"corridor\.jpg"):
        engine.make_view(scene, height=64, width=64, seed=0)


def test_a_picture_can_lie_behind_any_url() -> None:
    import fsspec

    scene = made_collection().scene("image")
    assert scene.image_url is not None
    with fsspec.open(scene.image_url, "rb") as file, fsspec.open("memory://pictures/corridor.jpg", "wb") as copy:
        copy.write(file.read())  # pyright: ignore[reportAttributeAccessIssue]
    moved = dataclasses.replace(scene, image_url="memory://pictures/corridor.jpg")
    engine = PictureView(75, PictureLimits())
    first, second = (engine.make_view(each, height=64, width=64, seed=0) for each in (scene, moved))
    np.testing.assert_array_equal(first.picture, second.picture)


def test_ground_truth_needs_geometry() -> None:
    with pytest.raises(InputError, match=r"the view has no geometry behind it.*Use ground_truth only after an engine"):
        GroundTruthScaffold().build_scaffold(view("image"), seed=0)


def test_rays_need_geometry_too() -> None:
    blind = dataclasses.replace(scaffold("image"), geometry=None)
    for open_scene in (
        lambda: RaycastVideo(2, "cpu").open_scene(blind, view("image"), ""),
        lambda: GroundTruthDepthAndPoses("cpu").open_scene(blind, view("image")),
    ):
        with pytest.raises(InputError, match="depth but no geometry to cast rays at"):
            open_scene()


def test_a_box_is_built_with_the_views_own_lens() -> None:
    picture = view("image")
    found = TourIntoPictureScaffold(75).build_scaffold(picture, seed=0)
    np.testing.assert_array_equal(found.intrinsics, picture.intrinsics)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.intrinsics, picture.intrinsics)
    assert not found.metric
    assert (found.depth > 0).all()


@pytest.mark.parametrize("kind", ["prompt", "image"])
def test_frames_and_depth_belong_together(kind: str) -> None:
    """The depth estimator and the renderer see the same surfaces: silhouettes in depth are edges in the picture."""
    scene = scaffold(kind)
    frames = np.stack(list(RaycastVideo(2, "cpu").open_scene(scene, view(kind), "").frames(cameras(), seed=0)))
    found = GroundTruthDepthAndPoses("cpu").open_scene(scene, view(kind)).estimate(cameras(), lambda: iter(frames))
    depth = np.stack(list(found.depth))
    assert frames.shape == (*depth.shape, 3)
    assert (frames.dtype, depth.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(found.c2w, np.stack([camera.c2w for camera in cameras()]))
    assert found.metric is scene.metric
    if kind == "prompt":
        jumps = np.abs(np.diff(depth, axis=2)) > 0.3 * depth[..., 1:]
        edges = np.abs(np.diff(frames.astype(int), axis=2)).mean(axis=-1)
        assert edges[jumps].mean() > 2 * edges[~jumps].mean()


def test_more_samples_are_less_noise() -> None:
    scene = scaffold("prompt")
    still = [cameras()[0]]
    one, few, many = (
        next(iter(RaycastVideo(count, "cpu").open_scene(scene, view("prompt"), "").frames(still, seed=3))).astype(float)
        for count in (1, 4, 64)
    )
    assert np.abs(few - many).mean() < np.abs(one - many).mean()
