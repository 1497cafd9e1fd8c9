"""Gen3R's inputs for inference: what `infer.py` is given for one view, two views, or all views of a clip.

    <root>/<scene>-<trajectory>/
        1view/first.png, prompts.txt, cameras.json                first frame to 3D
        2view/first.png, last.png, prompts.txt, cameras.json      first and last frame to 3D
        allview/frames/frame00000.png …, prompts.txt              reconstruction of 49 frames; it ignores cameras
        presets/{zoom_in,zoom_out,arc_right,…}.json               Gen3R's camera presets, in the clip's own scale
        depth/frame00000.png …                                    16-bit millimetres of the 49 frames, to compare with
        scale.json                                                the scene's scale, as the presets have it

`--task` is the folder's name, `--frame_path` its pictures (for allview the folder `frames`), `--prompts` and
`--cameras` its files. Of `prompts.txt` Gen3R reads the first line, of `cameras.json` the first 49 cameras:
world-to-camera, brought into the first one's frame.

Given the name of a preset, infer.py lets VGGT guess the lens and the scale of the scene. The files here hold the same
motions with the lens of the clip, and zooms of 0.8 × the median depth of its first frame, in its own unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import invert_rigid
from ..errors import InputError
from . import gen3r_inference_examination
from .captions import CAPTION, CAPTION_HELP, caption_notes, caption_stand_ins, captions_of
from .frame_files import MILLIMETRES, clips_of, depth_levels, json_bytes, write_pictures
from .gen3r import inference_cameras
from .gen3r_inference_examination import CONDITIONS, PRESETS
from .gen3r_names import CLIP_FRAMES, frame_names
from .release import Layout, LayoutSummary, ReleaseClip, ReleaseDirectory, ReleaseRequest, ReleaseScene

_NAME = "gen3r_inference"
_WHERE = f"layout {_NAME}"
_SCENE_SCALE = 0.8
_ANGLE = math.radians(15.0)


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory; see the module for the tree.

    Raises:
        InputError: an unknown condition, clips that are too short or without valid depth, or a scene without caption.
    """
    conditions = _conditions(request)
    clips = list(clips_of(scenes, _NAME))
    captions = captions_of(scenes, request, _NAME)
    beyond = 0
    for name, scene, clip in clips:
        _require_length(clip)
        prompt = captions[scene.scene_id, clip.trajectory][0].text
        beyond += _write_clip(directory, name, clip, prompt, conditions, with_depth=request.wants("depth"))
    return LayoutSummary(
        counts={"clips": len(clips), "inputs": len(clips) * len(conditions)},
        notes=(*_notes(request, conditions, beyond), *caption_notes(scenes)),
        stand_ins=caption_stand_ins(scenes),
    )


def _conditions(request: ReleaseRequest) -> tuple[str, ...]:
    named = [name.strip() for name in request.options.get("conditions", ",".join(CONDITIONS)).split(",")]
    unknown = [name for name in named if name not in CONDITIONS]
    if unknown:
        raise InputError(
            f'conditions={request.options["conditions"]}: there is no condition "{unknown[0]}"',
            where=_WHERE,
            remedy=f"Name some of {', '.join(CONDITIONS)}, with commas between them.",
        )
    return tuple(name for name in CONDITIONS if name in named)


def _require_length(clip: ReleaseClip) -> None:
    if clip.frames < CLIP_FRAMES:
        raise InputError(
            f"{clip.frames} frames, Gen3R works on {CLIP_FRAMES}",
            where=f"{_WHERE}, clip {clip.scene_id}/{clip.trajectory}",
            remedy=f"Make clips of {CLIP_FRAMES} frames or more (configs/gen3r.yaml).",
        )


def _write_clip(
    directory: ReleaseDirectory,
    folder: str,
    clip: ReleaseClip,
    prompt: str,
    conditions: Sequence[str],
    *,
    with_depth: bool,
) -> int:
    """Write one clip's folder; returns how many depths were too far for its depth pictures."""
    frames, names = list(range(CLIP_FRAMES)), frame_names(CLIP_FRAMES)
    pictures, depth = clip.rgb(frames), clip.depth(frames)
    cameras = inference_cameras(clip)
    files: dict[str, bytes] = {}
    for condition in conditions:
        files[f"{condition}/prompts.txt"] = f"{prompt}\n".encode()
        if condition == "allview":
            write_pictures(directory, f"{folder}/allview/frames", names, pictures, clip.scene_id)
            continue
        files[f"{condition}/cameras.json"] = json_bytes(cameras)
        shown = {"first.png": pictures[0]} | ({"last.png": pictures[-1]} if condition == "2view" else {})
        write_pictures(directory, f"{folder}/{condition}", list(shown), np.stack(list(shown.values())), clip.scene_id)
    scale = scene_scale(depth[0], clip)
    for preset in PRESETS:
        lens = [cameras["intrinsics"][0]] * CLIP_FRAMES
        extrinsics = invert_rigid(preset_poses(preset, scale)).tolist()
        files[f"presets/{preset}.json"] = json_bytes({"extrinsics": extrinsics, "intrinsics": lens})
    files["scale.json"] = json_bytes(
        {"metric": clip.metric, "unit": "metre" if clip.metric else "scene", "scene_scale": scale}
    )
    for name, content in files.items():
        directory.path(f"{folder}/{name}", clip.scene_id).write_bytes(content)
    if not with_depth:
        return 0
    levels, beyond = depth_levels(depth, MILLIMETRES)
    write_pictures(directory, f"{folder}/depth", names, levels, clip.scene_id)
    return beyond


def scene_scale(depth: NDArray[np.floating], clip: ReleaseClip) -> float:
    """How far Gen3R's zooms go: 0.8 × the median of the first frame's valid depth. Raises InputError without any."""
    valid = depth[np.isfinite(depth) & (depth > 0)]
    if not len(valid):
        where = f"{_WHERE}, clip {clip.scene_id}/{clip.trajectory}"
        raise InputError("the first frame has no valid depth", where=where, remedy="Make the clip's depth again.")
    return _SCENE_SCALE * float(np.median(valid.astype(np.float32)))


def preset_poses(preset: str, scale: float) -> NDArray[np.float64]:
    """(49, 4, 4) camera-to-world of a preset of infer.py, linear in i/48.

    Zooms move along z by `scale`. The presets called arc and translate turn by 15° about the camera's own centre.
    """
    axis, sign = PRESETS[preset]
    steps = np.linspace(0.0, sign, CLIP_FRAMES)
    poses = np.tile(np.eye(4), (CLIP_FRAMES, 1, 1))
    if axis == "z":
        poses[:, 2, 3] = steps * scale
        return poses
    cosine, sine = np.cos(steps * _ANGLE), np.sin(steps * _ANGLE)
    one, two = (0, 2) if axis == "y" else (2, 1)
    poses[:, one, one] = poses[:, two, two] = cosine
    poses[:, one, two], poses[:, two, one] = sine, -sine
    return poses


def _notes(request: ReleaseRequest, conditions: Sequence[str], beyond: int) -> tuple[str, ...]:
    root = request.destination.as_posix()
    frame_paths: Mapping[str, Any] = {
        "1view": "1view/first.png --cameras CLIP/1view/cameras.json",
        "2view": "2view/first.png CLIP/2view/last.png --cameras CLIP/2view/cameras.json",
        "allview": "allview/frames",
    }
    notes = [
        f"python infer.py --task {condition} --prompts CLIP/{condition}/prompts.txt --frame_path "
        f"CLIP/{frame_paths[condition]}, with CLIP={root}/<scene>-<trajectory>"
        for condition in conditions
    ]
    notes.append(
        "--cameras CLIP/presets/zoom_in.json and so on: Gen3R's presets with the clip's lens and, in its own unit, its "
        "scale; --cameras zoom_in lets VGGT guess both"
    )
    if beyond:
        notes.append(f"{beyond} depths beyond 65.535 units are marked invalid in depth/ (16-bit millimetres)")
    return tuple(notes)


LAYOUT = Layout(
    name=_NAME,
    consumer="Gen3R (infer.py)",
    description="one-view, two-view and all-view conditions of every clip, with cameras, presets and depth",
    fields=("frames", "cameras", "captions", "depth"),
    required=("frames", "cameras", "captions"),
    write=write,
    examine=gen3r_inference_examination.examine,
    options={
        "conditions": f"which of {', '.join(CONDITIONS)} to write, with commas between them; all when not given",
        CAPTION: CAPTION_HELP,
    },
)
