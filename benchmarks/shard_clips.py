"""Clips for the benchmarks of shards: procedural scenes seen by the ray caster, and depth as a network gives it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sceneloom.datasets.picture_runs import encode_clip
from sceneloom.datasets.shards import ClipArrays
from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.trajectories import TrajectoryContext, build_path

HEIGHT, WIDTH = 704, 1280
CLIP_FRAMES = 121
PROMPTS = (
    "a cosy living room with a red sofa and two chairs",
    "a sunny courtyard with a stone fountain and two benches",
)
TRAJECTORIES = ("left", "zoom_in")


@dataclass(frozen=True)
class RayCastClip:
    """The first frames of a clip of 121: rgb (T, H, W, 3) uint8, depth (T, H, W) float32 metres, cameras."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32]


@functools.cache
def ray_cast_clip(seed: int, frames: int) -> RayCastClip:
    """Render the first frames of scene `seed`, 0 or 1."""
    scene = build_scene(PROMPTS[seed], seed=seed, height=HEIGHT, width=WIDTH)
    caster = RayCaster(scene)
    context = TrajectoryContext(frames=CLIP_FRAMES, centre_depth=3.0)
    path = build_path(TRAJECTORIES[seed], context, seed=seed)
    rendered = [
        caster.render(pose, scene.intrinsics, HEIGHT, WIDTH, samples_per_pixel=2, seed=0) for pose in path.c2w[:frames]
    ]
    return RayCastClip(
        rgb=np.stack([frame.rgb for frame in rendered]),
        depth=np.stack([frame.depth for frame in rendered]),
        c2w=path.c2w[:frames],
        intrinsics=np.tile(scene.intrinsics.astype(np.float32), (frames, 1)),
    )


def like_a_network(depth: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Depth with what an estimator adds: edges softened by a pixel, 0.4 % of low-frequency and 0.05 % of fine noise."""
    rng = np.random.default_rng(seed)
    result = np.empty_like(depth)
    for index, frame in enumerate(depth):
        slow = gaussian_filter(rng.normal(size=frame.shape), 24)
        noise = 1 + 0.004 * slow / slow.std() + 0.0005 * rng.normal(size=frame.shape)
        result[index] = gaussian_filter(frame, 1.0) * noise
    return result


def clip_arrays(clip: RayCastClip, scene_id: str, *, depth: NDArray[np.float32] | None = None) -> ClipArrays:
    """The clip as a shard takes it, with Gaussian latents of Lyra's size."""
    latents = np.random.default_rng(0).normal(scale=0.5, size=(16, 16, 88, 160)).astype(np.float16)
    return ClipArrays(
        scene_id=scene_id,
        trajectory="left",
        latents=latents,
        depth=clip.depth if depth is None else depth,
        rgb=encode_clip(clip.rgb),
        c2w=clip.c2w,
        intrinsics=clip.intrinsics,
        metric=True,
        quality={},
    )
