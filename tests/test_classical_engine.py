"""Engine `classical`: cameras from a clip's frames alone, with depth that knows the commanded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.datasets.errors import ConfigError
from sceneloom.ops.alignment import align_cameras
from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster
from sceneloom.resources.classical_engine import ClassicalDepthAndPoses
from sceneloom.resources.embedded_engines import GroundTruthDepthAndPoses
from sceneloom.resources.engines import Camera, ClipGeometry, Engines, Scaffold, SceneEstimator, View, engine_identity
from sceneloom.resources.failures import Reason, StageFailed, again_after
from sceneloom.resources.profiles import ClassicalPosesSettings, load_profile

from .tiny import codec_folder, write_profile

FRAMES, HEIGHT, WIDTH = 7, 144, 256


@pytest.fixture(scope="module")
def scene() -> tuple[Scaffold, View, list[Camera], list[NDArray[np.uint8]]]:
    """A procedural scene with a clip of it: the camera moves sideways, up and a little around."""
    model = build_scene(
        "a library with three bookshelves", seed=4, height=HEIGHT, width=WIDTH, horizontal_field_of_view_degrees=70.0
    )
    caster = RayCaster(model)
    cameras = []
    for index in range(FRAMES):
        angle = -0.03 * index
        c2w = np.eye(4, dtype=np.float32)
        c2w[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        c2w[:3, 3] = [0.09 * index, 0.04 * np.sin(index), 0.01 * index**2]
        cameras.append(Camera(c2w, model.intrinsics.astype(np.float32), HEIGHT, WIDTH))
    frames = [
        caster.render(each.c2w, each.intrinsics, HEIGHT, WIDTH, samples_per_pixel=2, seed=1).rgb for each in cameras
    ]
    depth = caster.geometry(np.eye(4), model.intrinsics, HEIGHT, WIDTH).depth
    return (
        Scaffold(depth, model.intrinsics, True, model, {}),
        View(frames[0], model.intrinsics, model, {}),
        cameras,
        frames,
    )


def opened(scene: tuple[Scaffold, View, list[Camera], list[NDArray[np.uint8]]]) -> SceneEstimator:
    engine = ClassicalDepthAndPoses(ClassicalPosesSettings(), GroundTruthDepthAndPoses("cpu"))
    return engine.open_scene(scene[0], scene[1])


@pytest.fixture(scope="module")
def found(
    scene: tuple[Scaffold, View, list[Camera], list[NDArray[np.uint8]]],
) -> tuple[ClipGeometry, NDArray[np.float32]]:
    geometry = opened(scene).estimate(scene[2], lambda: scene[3])
    return geometry, np.stack(list(geometry.depth))


def test_cameras_are_estimated_and_depth_is_in_their_unit(
    scene: tuple[Scaffold, View, list[Camera], list[NDArray[np.uint8]]],
    found: tuple[ClipGeometry, NDArray[np.float32]],
) -> None:
    geometry, depth = found
    commanded = np.stack([camera.c2w for camera in scene[2]])
    similarity = align_cameras(geometry.c2w, commanded)
    assert similarity.scale_determined
    assert similarity.position_rmse < 0.01
    assert np.abs(geometry.c2w - commanded).max() > 0.01
    assert not geometry.metric
    truth = np.stack(
        list(GroundTruthDepthAndPoses("cpu").open_scene(scene[0], scene[1]).estimate(scene[2], lambda: ()).depth)
    )
    np.testing.assert_allclose(depth * np.float32(similarity.scale), truth, rtol=1e-4)


def test_its_notes_say_what_was_estimated(found: tuple[ClipGeometry, NDArray[np.float32]]) -> None:
    notes = found[0].notes
    assert notes["estimated_poses"]
    assert not notes["estimated_depth"]
    assert notes["depth_scaled_to_cameras"]
    assert notes["points"] > 100


def test_frames_without_texture_fail_for_good(
    scene: tuple[Scaffold, View, list[Camera], list[NDArray[np.uint8]]],
) -> None:
    grey = [np.full((HEIGHT, WIDTH, 3), 127, np.uint8)] * FRAMES
    with pytest.raises(StageFailed, match="could be put together") as failed:
        opened(scene).estimate(scene[2], lambda: grey)
    assert failed.value.reason is Reason.ESTIMATION_DIVERGED
    assert again_after(failed.value) == "after_change"


def test_a_profile_chooses_it(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a room\n")
    codec = {"latent_codec": {"path": str(codec_folder())}}
    profile = load_profile(write_profile(tmp_path, ["prompts.txt"], engines=codec | {"depth_and_poses": "classical"}))
    engine = Engines(profile).depth_and_poses()
    assert isinstance(engine, ClassicalDepthAndPoses)
    assert isinstance(engine.depth, GroundTruthDepthAndPoses)
    assert engine_identity(engine).name == "classical"
    assert engine_identity(engine).licence.startswith("BSD-3-Clause AND ")
    assert engine.contract.needs >= {"frames"}


def test_truth_behind_clips_that_are_not_rendered_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a room\n")
    engines = {
        "latent_codec": {"path": str(codec_folder())},
        "video_latents": {"engine": "sana_wm", "path": str(tmp_path)},
        "depth_and_poses": "classical",
    }
    with pytest.raises(ConfigError, match="only rendered clips have one"):
        load_profile(write_profile(tmp_path, ["prompts.txt"], engines=engines))
