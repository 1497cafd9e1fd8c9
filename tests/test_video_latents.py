"""Stage video_latents: videos and latents of what the moving cameras see."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sceneloom.assets import camera_paths, conditioning_view, scene_scaffold, video_latents
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.video import probe, read_video
from sceneloom.ops.quality import LUMA
from sceneloom.resources.engines import Camera

from .tiny import FRAMES, HEIGHT, TRAJECTORIES, WIDTH, MadeCollection, made_collection

KINDS = pytest.mark.parametrize("kind", ["prompt", "image"])


def psnr(first: NDArray[np.number], second: NDArray[np.number]) -> float:
    return float(-10 * np.log10(np.mean((first.astype(float) - second.astype(float)) ** 2 / 255**2) + 1e-12))


def video(made: MadeCollection, kind: str, trajectory: str) -> NDArray[np.uint8]:
    return read_video(made.inputs(made.scene(kind)).path("video_latents", f"{trajectory}.mp4"))


def rendered(made: MadeCollection, kind: str, trajectory: str) -> NDArray[np.uint8]:
    """The frames as the engine gives them, before any encoder."""
    inputs = made.inputs(made.scene(kind))
    cameras = camera_paths.read_cameras(inputs, trajectory, height=HEIGHT, width=WIDTH)
    scene = made.runtime.engines.video().open_scene(scene_scaffold.read_scaffold(inputs))
    seed = made.record(made.scene(kind), "video_latents").key_parts.seed
    return np.stack(list(scene.frames(cameras, seed=seed)))


@KINDS
def test_videos_hold_every_frame_at_the_profiles_size_and_rate(kind: str) -> None:
    made = made_collection()
    for trajectory in TRAJECTORIES:
        info = probe(made.inputs(made.scene(kind)).path("video_latents", f"{trajectory}.mp4"))
        assert (info.frames, info.height, info.width, info.codec) == (FRAMES, HEIGHT, WIDTH, "h264")
        assert info.fps == made.profile.frames.frames_per_second


@KINDS
def test_the_first_frame_of_every_trajectory_looks_like_the_view(kind: str) -> None:
    made = made_collection()
    view = conditioning_view.read_view(made.inputs(made.scene(kind))).picture
    for trajectory in TRAJECTORIES:
        frames = video(made, kind, trajectory)
        assert psnr(frames[0], view) > 24
        assert psnr(frames[-1], view) < psnr(frames[0], view) - 3, "the camera moved"


@KINDS
def test_videos_are_what_the_engine_gave(kind: str) -> None:
    made = made_collection()
    published, given = video(made, kind, "left"), rendered(made, kind, "left")
    # H.264 keeps colour at half the resolution, so brightness is compared.
    assert psnr(published @ LUMA, given @ LUMA) > 36
    assert psnr(published, given) > 28


@KINDS
def test_latents_are_the_codecs_of_the_very_frames(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    codec = made.runtime.engines.latent_codec()
    for trajectory in TRAJECTORIES:
        latents = video_latents.read_latents(inputs, trajectory)
        assert (latents.dtype, latents.shape) == (np.float16, (16, 2, HEIGHT // 8, WIDTH // 8))
        np.testing.assert_array_equal(latents, codec.encode(rendered(made, kind, trajectory)))


def test_the_latent_space_is_declared_beside_the_latents() -> None:
    made = made_collection()
    scene = made.scene()
    declared = made.inputs(scene).json("video_latents", "latent_space.json")
    space = LatentSpace.from_json(declared)
    assert space == made.runtime.engines.latent_codec().space
    assert space.latent_shape(FRAMES, HEIGHT, WIDTH) == (16, 2, HEIGHT // 8, WIDTH // 8)
    assert made.record(scene, "video_latents").metadata["latent_space"] == declared["id"]


def test_what_moves_the_codecs_files_does_not_change_the_key_and_what_changes_them_does() -> None:
    made = made_collection()
    identity = video_latents.engine(made.runtime.engines, made.scene())
    assert identity.name == "raycast"
    assert set(identity.weights) == {"latent_space"}
    settings = video_latents.settings(made.profile, made.scene())
    assert "path" not in str(settings)
    assert "device" not in settings["engine"]


def test_the_contact_sheet_shows_a_row_of_frames_for_each_trajectory() -> None:
    made = made_collection()
    content = made.inputs(made.scene()).path("video_latents", "preview.webp").read_bytes()
    sheet = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    first = video(made, "prompt", "left")[0]
    assert sheet.shape[1] == 4 * (WIDTH + 2) - 2
    # Below the first row's label stands the first frame of the first trajectory.
    assert psnr(sheet[14 : 14 + HEIGHT, :WIDTH], first) > 22
    assert sheet.shape[0] == len(TRAJECTORIES) * (14 + HEIGHT + 2)


def test_numbers_of_the_record_count_clips_and_frames() -> None:
    made = made_collection()
    metrics = made.record(made.scene(), "video_latents").metrics
    assert metrics["clips"] == len(TRAJECTORIES)
    assert metrics["frames"] == len(TRAJECTORIES) * FRAMES
    assert metrics["clip_seconds"] == pytest.approx(len(TRAJECTORIES) * FRAMES / 24)


def test_trajectories_share_their_first_picture() -> None:
    made = made_collection()
    pictures = [rendered(made, "prompt", trajectory)[0] for trajectory in TRAJECTORIES]
    for first, second in itertools.pairwise(pictures):
        np.testing.assert_array_equal(first, second)


def test_a_pixel_is_seen_where_its_depth_projects_it() -> None:
    """The video's camera is the published one: an independent warp of frame 0 lands on frame 4."""
    made = made_collection()
    inputs = made.inputs(made.scene("prompt"))
    cameras = camera_paths.read_cameras(inputs, "left", height=HEIGHT, width=WIDTH)
    depth = inputs.arrays("depth_and_poses", "left.depth.npz")["depth"][4].astype(np.float64)
    frames = video(made, "prompt", "left")
    seen = _sampled_from(frames[0], depth, cameras[4], cameras[0])
    covered = ~np.isnan(seen[..., 0])
    assert covered.mean() > 0.7
    difference = np.abs(seen - frames[4])[covered].mean(axis=-1)
    unmoved = np.abs(frames[0].astype(float) - frames[4])[covered].mean(axis=-1)
    assert np.median(difference) < 6
    assert np.mean(difference) < np.mean(unmoved)


def _sampled_from(
    picture: NDArray[np.uint8], depth: NDArray[np.float64], target: Camera, source: Camera
) -> NDArray[np.float64]:
    """The target's view, each pixel fetched from `picture` by the nearest pixel; NaN where it is not in the picture."""
    fx, fy, cx, cy = target.intrinsics
    rows, columns = np.indices(depth.shape) + 0.5
    local = np.stack([(columns - cx) / fx * depth, (rows - cy) / fy * depth, depth, np.ones_like(depth)], axis=-1)
    in_source = local @ (np.linalg.inv(source.c2w) @ target.c2w).T
    fx, fy, cx, cy = source.intrinsics
    column = np.floor(in_source[..., 0] / in_source[..., 2] * fx + cx).astype(int)
    row = np.floor(in_source[..., 1] / in_source[..., 2] * fy + cy).astype(int)
    inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    seen = np.full((*depth.shape, 3), np.nan)
    seen[inside] = picture[row[inside], column[inside]]
    return seen
