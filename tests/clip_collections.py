"""Small collections of clips on disk for the tests of loaders: shards with a training index, made from memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sceneloom.datasets.layouts.release import ReleaseClip
from sceneloom.datasets.picture_runs import encode_clip
from sceneloom.datasets.shards import ClipArrays, write_shard
from sceneloom.datasets.training_index import QUALITY_NUMBERS, TRAINING_INDEX_SCHEMA, write_table

from .release_scenes import latent_space, make_scene


def index_row(clip: ReleaseClip, shard: str, clip_index: int, **changes: Any) -> dict[str, Any]:
    """A row of the training index for a clip."""
    return {
        "scene_id": clip.scene_id,
        "trajectory": clip.trajectory,
        "shard": shard,
        "clip_index": clip_index,
        "split": "train",
        "kind": "prompt",
        "prompt": None,
        "frames": clip.frames,
        "height": clip.height,
        "width": clip.width,
        "fps": clip.frames_per_second,
        "latent_space": "test-cosmos-8x8x8",
        "metric": clip.metric,
        "engine": "raycast",
        "licence": "CC0-1.0",
        "seed": 7,
        "content_key": "0" * 64,
        "passed": True,
        "failures": [],
        **{f"quality_{name}": None for name in QUALITY_NUMBERS},
        **changes,
    }


def write_index(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as a training index; returns its path."""
    write_table(path, pa.Table.from_pylist(list(rows), schema=TRAINING_INDEX_SCHEMA))
    return path


def write_collection(
    folder: Path,
    scenes: int,
    trajectories: Sequence[str],
    *,
    frames: int = 9,
    height: int = 32,
    width: int = 48,
    changes: Sequence[dict[str, Any]] = (),
) -> tuple[Path, dict[tuple[str, str], ReleaseClip]]:
    """Scenes with one shard each below `folder`, and their index in `folder/index`.

    Args:
        changes: columns of the index to replace, scene by scene.

    Returns:
        The index, and the clips by scene and trajectory.
    """
    clips: dict[tuple[str, str], ReleaseClip] = {}
    rows = []
    for number in range(scenes):
        scene = make_scene(
            f"scene-{number}", trajectories=trajectories, frames=frames, height=height, width=width, seed=number
        )
        declared = latent_space(frames).to_json()
        arrays = [clip_arrays(clip) for clip in scene.clips.values()]
        write_shard(folder / "shards" / scene.scene_id, arrays, latent_space=declared)
        change = changes[number] if number < len(changes) else {}
        for place, (name, clip) in enumerate(scene.clips.items()):
            clips[scene.scene_id, name] = clip
            rows.append(index_row(clip, f"../shards/{scene.scene_id}", place, **change))
    (folder / "index").mkdir(parents=True, exist_ok=True)
    return write_index(folder / "index" / "training_index.parquet", rows), clips


def clip_arrays(clip: ReleaseClip) -> ClipArrays:
    """A clip as the shard writer takes it; depth holds an invalid corner."""
    c2w, intrinsics = clip.cameras()
    depth = np.array(clip.depth())
    depth[:, :2, :3] = 0
    return ClipArrays(
        scene_id=clip.scene_id,
        trajectory=clip.trajectory,
        latents=clip.latents(),
        depth=depth,
        rgb=encode_clip(clip.rgb()),
        c2w=c2w,
        intrinsics=intrinsics,
        metric=clip.metric,
        quality={"sharpness": 1.0},
    )


def damage_shard(shard: Path) -> None:
    """Change a byte in the middle of every file of a shard but its metadata."""
    for file in shard.rglob("*"):
        if file.is_file() and file.suffix != ".json":
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 255
            file.write_bytes(bytes(content))
