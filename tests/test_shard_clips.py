from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from sceneloom.assets import depth_and_poses, gaussian_shards, video_latents
from sceneloom.datasets.errors import CorruptFileError
from sceneloom.datasets.layouts.release import ReleaseClip
from sceneloom.datasets.layouts.shard_clips import ShardClip

from .tiny import FRAMES, HEIGHT, WIDTH, made_collection


def test_a_clip_gives_what_the_scene_published() -> None:
    made = made_collection()
    scene = made.scene()
    inputs = made.inputs(scene)
    shard = Path(inputs.url(gaussian_shards.NAME, gaussian_shards.SHARD))
    video = inputs.path(video_latents.NAME, video_latents.video_name("left"))
    checksum = hashlib.sha256(video.read_bytes()).hexdigest()
    where = (str(shard), str(video), checksum, scene.scene_id, "left")
    clip: ReleaseClip = ShardClip(*where, FRAMES, HEIGHT, WIDTH, 24.0, True)

    cameras = depth_and_poses.read_cameras(inputs, "left")
    depth = depth_and_poses.read_depth(inputs, "left").astype(np.float32)
    assert clip.rgb_mp4() == video.read_bytes()
    assert clip.rgb([3, 0]).shape == (2, HEIGHT, WIDTH, 3)
    assert np.array_equal(clip.latents(), video_latents.read_latents(inputs, "left"))
    assert np.array_equal(clip.cameras()[0], cameras["commanded_c2w"])
    assert np.array_equal(clip.cameras(estimated=True)[1], cameras["estimated_intrinsics"])
    assert np.array_equal(clip.depth([2])[0] > 0, depth[2] > 0)
    assert np.allclose(clip.depth([2])[0], depth[2], rtol=1.5e-3)
    assert np.array_equal(pickle.loads(pickle.dumps(clip)).latents(), clip.latents())


def test_a_video_that_is_gone_or_changed_is_named(tmp_path: Path) -> None:
    video = tmp_path / "left.mp4"
    clip = ShardClip("shard", str(video), "0" * 64, "scene-1", "left", FRAMES, HEIGHT, WIDTH, 24.0, True)
    with pytest.raises(CorruptFileError, match="video is gone") as caught:
        clip.rgb_mp4()
    assert caught.value.where == str(video)
    video.write_bytes(b"another")
    with pytest.raises(CorruptFileError, match="not what was published"):
        clip.rgb_mp4()
