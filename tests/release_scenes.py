"""Small scenes in memory for the tests of layouts: a textured plane seen by a moving camera, exactly known."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.layouts.release import ReleaseClip, ReleaseScene
from sceneloom.datasets.video import read_video, write_video

PLANE_DEPTH = 2.0
"""Distance of the textured plane from the first camera, in metres."""


def latent_space(frames: int, channels: int = 16) -> LatentSpace:
    """A causal 8 × 8 × 8 space with a mean and std for each channel and latent frame, scale 0.5 as Lyra's."""
    rng = np.random.default_rng(3)
    count = 1 + (frames - 1) // 8
    return LatentSpace(
        id="test-cosmos-8x8x8",
        channels=channels,
        mean=rng.normal(size=(channels, count)).astype(np.float32),
        std=rng.uniform(0.5, 2.0, (channels, count)).astype(np.float32),
        scale=0.5,
        weights_digest="sha256:" + "0" * 64,
        licence="Apache-2.0",
    )


@dataclass(frozen=True)
class MemoryClip:
    """A clip whose arrays are in memory."""

    scene_id: str
    trajectory: str
    frames: int
    height: int
    width: int
    frames_per_second: float
    metric: bool
    pictures: NDArray[np.uint8]
    depths: NDArray[np.float16]
    latent: NDArray[np.float16]
    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    dynamic: NDArray[np.bool_] | None = None

    def rgb(self, frames: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """The frames as the video gives them."""
        return read_video(self.rgb_mp4(), frames)

    def rgb_mp4(self) -> bytes:
        """The clip as MP4."""
        return _video(self.pictures.tobytes(), self.pictures.shape, self.frames_per_second)

    def depth(self, frames: Sequence[int] | None = None) -> NDArray[np.float16]:
        """All depth frames, or those asked for."""
        return self.depths if frames is None else self.depths[list(frames)]

    def latents(self) -> NDArray[np.float16]:
        """The latents."""
        return self.latent

    def dynamic_mask(self) -> NDArray[np.bool_] | None:
        """Where something moves."""
        return self.dynamic

    def cameras(self, *, estimated: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The cameras; estimated ones are the same."""
        return self.c2w, self.intrinsics


@functools.lru_cache(maxsize=64)
def _video(pictures: bytes, shape: tuple[int, ...], frames_per_second: float) -> bytes:
    frames = np.frombuffer(pictures, np.uint8).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, list(frames), fps=frames_per_second)
        return path.read_bytes()


def make_clip(
    scene_id: str,
    trajectory: str,
    *,
    frames: int = 9,
    height: int = 32,
    width: int = 48,
    direction: Sequence[float] = (0.2, 0.0, 0.0),
    seed: int = 0,
) -> MemoryClip:
    """A camera moving by `direction` (metres over the whole clip) before a smooth textured plane at z = PLANE_DEPTH.

    Pictures, depth and cameras agree with each other: a pixel at (x + 0.5, y + 0.5) sees the plane's texture there.
    """
    rng = np.random.default_rng(seed)
    focal = 0.8 * width
    c2w = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    c2w[:, :3, 3] = np.linspace(0.0, 1.0, frames)[:, None] * np.asarray(direction)
    intrinsics = np.tile(np.array([focal, focal, width / 2, height / 2], np.float32), (frames, 1))
    waves = rng.uniform(1.0, 4.0, (3, 2))
    phases = rng.uniform(0.0, 6.28, 3)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pictures = np.empty((frames, height, width, 3), np.uint8)
    depths = np.empty((frames, height, width), np.float16)
    for index, pose in enumerate(c2w):
        distance = PLANE_DEPTH - pose[2, 3]
        x = (columns - width / 2) / focal * distance + pose[0, 3]
        y = (rows - height / 2) / focal * distance + pose[1, 3]
        level = np.sin(x[..., None] * waves[:, 0] + y[..., None] * waves[:, 1] + phases)
        pictures[index] = np.clip(128 + 100 * level, 0, 255).astype(np.uint8)
        depths[index] = distance
    latent_frames = 1 + (frames - 1) // 8
    return MemoryClip(
        scene_id,
        trajectory,
        frames,
        height,
        width,
        24.0,
        True,
        pictures,
        depths,
        rng.normal(scale=0.5, size=(16, latent_frames, height // 8, width // 8)).astype(np.float16),
        c2w,
        intrinsics,
    )


_DIRECTIONS = {
    "left": (-0.2, 0.0, 0.0),
    "right": (0.2, 0.0, 0.0),
    "up": (0.0, -0.1, 0.0),
    "zoom_out": (0.0, 0.0, -0.3),
    "zoom_in": (0.0, 0.0, 0.3),
    "clockwise": (0.1, 0.1, 0.0),
}


def make_scene(
    scene_id: str,
    *,
    trajectories: Sequence[str] = tuple(_DIRECTIONS),
    split: str = "train",
    prompt: str | None = "a small room with a red chair",
    frames: int = 9,
    height: int = 32,
    width: int = 48,
    seed: int = 0,
) -> ReleaseScene:
    """A scene with a clip for each trajectory, in memory, without objects."""
    clips: dict[str, ReleaseClip] = {
        name: make_clip(
            scene_id,
            name,
            frames=frames,
            height=height,
            width=width,
            direction=_DIRECTIONS.get(name, (0.1, 0.0, 0.0)),
            seed=seed,
        )
        for name in trajectories
    }
    return ReleaseScene(
        scene_id=scene_id,
        kind="prompt",
        prompt=prompt,
        split=split,
        seed=seed,
        licence="CC0-1.0",
        engines={"video_latents": "raycast", "depth_and_poses": "ground_truth"},
        engine_licences={"raycast": "Apache-2.0", "ground_truth": "Apache-2.0"},
        content_key=f"{seed:064x}",
        latent_space=latent_space(frames),
        clips=clips,
    )
