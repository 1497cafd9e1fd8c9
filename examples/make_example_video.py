"""Make the example video: a procedural scene whose objects move before a still camera, with its caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sceneloom.datasets.video import write_video
from sceneloom.ops.cameras import centred_intrinsics
from sceneloom.ops.motion_planning import plan_motions
from sceneloom.ops.object_motion import instances_at
from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster

PROMPT = "a workshop on an overcast day with three wooden crates and two barrels"
FRAMES, HEIGHT, WIDTH, SEED = 121, 352, 640, 5
FOLDER = Path(__file__).parent / "videos"


def main() -> None:
    """Write videos/workshop.mp4 and videos/workshop.txt."""
    view = np.radians(75.0)
    scene = build_scene(PROMPT, seed=SEED, height=HEIGHT, width=WIDTH, horizontal_field_of_view_degrees=75.0)
    motions = plan_motions(scene, seed=SEED, frames=FRAMES, objects=3, distance=0.6)
    lens = centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=float(view))
    caster = RayCaster(scene)

    def frames():
        for index in range(FRAMES):
            caster.place(instances_at(scene, motions, index))
            yield caster.render(np.eye(4), lens, HEIGHT, WIDTH, samples_per_pixel=4, seed=SEED).rgb

    FOLDER.mkdir(exist_ok=True)
    write_video(FOLDER / "workshop.mp4", frames(), fps=24, crf=23, group_of_pictures=24)
    (FOLDER / "workshop.txt").write_text(PROMPT + "\n")


if __name__ == "__main__":
    main()
