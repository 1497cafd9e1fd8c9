"""Poses estimated from RGB alone by the classical engine, against the commanded cameras of a collection's clips.

    python benchmarks/classical_poses.py [--store .sceneloom/demo/demo] [--clips 10]

Clips are spread evenly over the collection. ATE is the root mean square distance of the aligned camera centres from the
commanded ones; the path's length stands beside it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from sceneloom.datasets.errors import EngineError
from sceneloom.datasets.video import read_video
from sceneloom.ops.alignment import align_cameras
from sceneloom.resources.classical_poses import estimate_poses


def main() -> None:
    """Print one line a clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".sceneloom/demo/demo"))
    parser.add_argument("--clips", type=int, default=10)
    arguments = parser.parse_args()
    videos = sorted(arguments.store.glob("scenes/*/video_latents/*/*.mp4"))
    clips = [(video, truth) for video in videos if (truth := truth_of(video)) is not None]
    print("| clip | ATE (mm) | path (m) | rotation (°) | focal error (%) | points | seconds |")
    print("|---|---|---|---|---|---|---|")
    chosen = np.linspace(0, len(clips) - 1, min(arguments.clips, len(clips))).round().astype(int)
    for index in chosen:
        measure(*clips[index])


def truth_of(video: Path) -> Path | None:
    """The cameras that the clip was commanded with."""
    return next(video.parents[2].glob(f"depth_and_poses/*/{video.stem}.cameras.npz"), None)


def measure(video: Path, truth: Path) -> None:
    """Estimate one clip and print its line."""
    name = f"{video.parents[2].name[:34]} {video.stem}"
    with np.load(truth) as arrays:
        commanded, intrinsics = arrays["commanded_c2w"], arrays["commanded_intrinsics"]
    began = time.perf_counter()
    try:
        found = estimate_poses(list(read_video(video)), seed=0)
    except EngineError as error:
        print(f"| {name} | {error.found} | | | | | {time.perf_counter() - began:.1f} |", flush=True)
        return
    seconds = time.perf_counter() - began
    similarity = align_cameras(found.c2w, commanded)
    path = np.linalg.norm(np.diff(commanded[:, :3, 3], axis=0), axis=1).sum()
    focal = 100 * (found.intrinsics[0] / intrinsics[0, 0] - 1)
    print(
        f"| {name} | {1000 * similarity.position_rmse:.1f} | {path:.2f} | {similarity.rotation_rmse_degrees:.2f} "
        f"| {focal:+.1f}{'' if found.focal_estimated else ' (assumed)'} | {found.points} | {seconds:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
