"""What Gen3R's training code has fixed: dataset names with weights, index files, clip length."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, float] = {
    "dl3dv": 1.0,
    "acid": 1.0,
    "mvimgnet": 0.25,
    "waymo": 0.5,
    "co3d": 1.0,
    "re10k": 1.0,
    "kitti360": 0.5,
    "vkitti": 0.5,
    "wildrgbd": 1.0,
    "tartanair": 1.0,
}
"""How often each dataset is drawn, in the order in which the validation looks for names."""

INDEX_FILES: Mapping[str, str] = {
    "videos_dirs.txt": "images",
    "cameras_paths.txt": "transforms.json",
    "captions_paths.txt": "captions.txt",
}
"""Index file, after `train_` or `test_`, and what each of its lines names in a clip's folder."""

CLIP_FRAMES = 49
"""Frames of a training sample; 4k + 1 for the temporal compression of the video autoencoder."""

LONGEST_CAPTION = 1000
"""Longer captions become the empty text."""


def frame_names(frames: int) -> tuple[str, ...]:
    """`frame00000.png` and so on: their sorted order is frame order."""
    return tuple(f"frame{index:05d}.png" for index in range(frames))


def validation_dataset(captions_path: str) -> str | None:
    """The dataset that the validation takes a test clip for: the first name that its captions' whole path holds."""
    return next((name for name in WEIGHTS if name in captions_path.lower()), None)
