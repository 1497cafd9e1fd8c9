"""Draws docs/demo.webp from what `make demo` published.

    python docs/make_demo_picture.py [--scenes 5]

A row is a scene; the columns are its conditioning view, the last frame of three trajectories as decoded from their
videos, the depth of the first of them, and the instance ids of its objects.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sceneloom.assets import conditioning_view, depth_and_poses, scene_objects, video_latents
from sceneloom.assets.pictures_of_arrays import depth_picture, read_png
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stage import StageInputs
from sceneloom.datasets.video import read_video
from sceneloom.resources.profiles import load_profile

TRAJECTORIES = ("right", "zoom_out", "zoom_in")


def main() -> None:
    """Write the picture."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scenes", type=int, default=5, help="rows, spread over the catalogue")
    runtime = SceneRuntime(load_profile())
    scenes = runtime.catalog().active()
    chosen = np.linspace(0, len(scenes) - 1, arguments.parse_args().scenes).round().astype(int)
    rows = [_row(runtime, scenes[index].scene_id) for index in chosen]
    target = Path(__file__).parent / "demo.webp"
    Image.fromarray(np.concatenate(rows)).save(target, quality=72, method=6)
    print(f"{target}: {target.stat().st_size} bytes, {len(rows)} scenes")


def _row(runtime: SceneRuntime, scene_id: str) -> NDArray[np.uint8]:
    names = (conditioning_view.NAME, video_latents.NAME, depth_and_poses.NAME, scene_objects.NAME)
    records = {name: record for name in names if (record := runtime.store.record(scene_id, name)) is not None}
    inputs = StageInputs(runtime.store, records)
    cells = [read_png(inputs.path(conditioning_view.NAME, conditioning_view.PICTURE))]
    for trajectory in TRAJECTORIES:
        cells.append(read_video(inputs.path(video_latents.NAME, video_latents.video_name(trajectory)))[-1])
    depth = depth_and_poses.read_depth(inputs, TRAJECTORIES[0])[-1]
    cells.append(_grey(depth_picture(depth.astype(np.float32))))
    cells.append(scene_objects.instance_colours(read_png(inputs.path(scene_objects.NAME, scene_objects.MASKS))))
    return np.concatenate(cells, axis=1)


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(picture[..., None], 3, axis=2)


if __name__ == "__main__":
    main()
