"""Gen3R: the files that its README names and those that its training code reads, in one folder a clip.

    <root>/<dataset>/train_{videos_dirs,cameras_paths,captions_paths}.txt   ten dataset names, fixed in Gen3R's code
    <root>/{train,test}_{videos_dirs,cameras_paths,captions_paths}.txt      matched by line number, absolute paths
    <root>/<dataset>/scenes/<scene>-<trajectory>/
        images/frame00000.png …   8-bit RGB; every picture in the folder is taken for a frame
        transforms.json           per frame w, h, fl_x, fl_y, cx, cy, file_path, transform_matrix (c2w, OpenCV)
        captions.txt              one caption a line, one of which is drawn: those of the clip's windows, or the scene's
        frames/frame00000.png …   the same files as in images (README)
        cameras.json              world-to-camera and K at 560 × 560, for `infer.py --cameras` (README)
        prompt.txt                the first of them (README)
        depth/frame00000.png      16-bit millimetres, 0 = invalid (README; Gen3R's code reads no depth)
        scale.json                the scene's scale in its own unit and in VGGT's

A Gen3R scene is one clip. Clips are shared out over the ten names in proportion to the weights with which Gen3R draws
them, each name getting one first, so that every clip is seen about equally often; a name left without clips lists all
of them, because drawing an empty name stops the training. Test clips stand in folders of the names too: the validation
finds a clip's dataset by looking for a name in the whole path of its captions, and each stands where it finds that one.

The files in `frames` are hard links to those in `images`, because nothing reads them and a second copy doubles the set;
a copy of the directory, or a file system without hard links, has two files of the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..camera_conventions import invert_rigid, matrix_from_intrinsics
from ..camera_files import GEN3R_SIZE, format_gen3r_transforms
from ..errors import InputError
from . import gen3r_examination
from .captions import CAPTION, CAPTION_HELP, caption_notes, caption_stand_ins, captions_of
from .frame_files import MILLIMETRES, cameras_of, clips_of, depth_levels, json_bytes, write_pictures
from .gen3r_names import CLIP_FRAMES, INDEX_FILES, LONGEST_CAPTION, WEIGHTS, frame_names, validation_dataset
from .release import (
    Float16,
    Float32,
    Layout,
    LayoutSummary,
    ReleaseClip,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)

_WHERE = "layout gen3r"
_SCENE_SCALE = 0.8
"""Gen3R's presets move by 0.8 × the median depth (infer.py)."""


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory; see the module for the tree.

    Raises:
        InputError: "train" in the destination, clips that are too short or not 560 × 560, a scene without a usable
            caption, or too few clips to train on or to validate with.
    """
    _check_destination(request)
    clips = list(clips_of(scenes, "gen3r"))
    for _, _, clip in clips:
        _check_size(clip, request)
    captions = _captions(scenes, request)
    train, test = _split(clips, request)
    homes = _shared_out(train), _shared_out(test, request.destination.as_posix())
    beyond = 0
    for home in homes:
        for name, dataset, _, clip in home:
            texts = captions[clip.scene_id, clip.trajectory]
            beyond += _write_clip(directory, f"{dataset}/scenes/{name}", clip, texts, request)
    _write_indices(directory, request, *homes)
    return LayoutSummary(
        counts={"clips": len(clips), "train_clips": len(train), "test_clips": len(test), "datasets": len(WEIGHTS)},
        notes=(*_notes(request, clips, len(train), beyond), *caption_notes(scenes)),
        stand_ins=caption_stand_ins(scenes),
    )


_Clip = tuple[str, ReleaseScene, ReleaseClip]
_Homed = list[tuple[str, str, ReleaseScene, ReleaseClip]]
"""(clip's name, dataset whose folder it stands in, scene, clip)."""


def _check_destination(request: ReleaseRequest) -> None:
    if "train" in str(request.destination):
        raise InputError(
            f'the destination {request.destination} holds the word "train"',
            where=_WHERE,
            remedy='Choose another path: Gen3R finds its validation set by replacing "train" with "test" in all of it.',
        )


def _check_size(clip: ReleaseClip, request: ReleaseRequest) -> None:
    where = f"{_WHERE}, clip {clip.scene_id}/{clip.trajectory}"
    if clip.frames < CLIP_FRAMES:
        raise InputError(
            f"{clip.frames} frames, Gen3R trains on {CLIP_FRAMES}",
            where=where,
            remedy=f"Make clips of {CLIP_FRAMES} frames or more (configs/gen3r.yaml): shorter ones end in stills.",
        )
    if (clip.height, clip.width) != GEN3R_SIZE and request.options.get("any_size") != "true":
        raise InputError(
            f"frames of {clip.height}x{clip.width} (height x width), Gen3R trains on 560x560",
            where=where,
            remedy="Make clips of that size (configs/gen3r.yaml), or give any_size=true: Gen3R then resizes and crops.",
        )


def _captions(scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> dict[tuple[str, str], tuple[str, ...]]:
    """Distinct captions of each clip, by scene id and trajectory."""
    captions = {
        clip: tuple(dict.fromkeys(window.text for window in windows))
        for clip, windows in captions_of(scenes, request, "gen3r").items()
    }
    for (scene_id, _), texts in captions.items():
        longest = max(len(text) for text in texts)
        if longest > LONGEST_CAPTION:
            raise InputError(
                f"a caption of {longest} characters",
                where=f"{_WHERE}, scene {scene_id}",
                remedy=f"Shorten it to {LONGEST_CAPTION}: Gen3R replaces longer ones with nothing.",
            )
    return captions


def _split(clips: Sequence[_Clip], request: ReleaseRequest) -> tuple[list[_Clip], list[_Clip]]:
    """Clips to train on and to validate with; no scene has clips in both."""
    held = {scene.scene_id for _, scene, _ in clips if scene.held_out}
    training = list(dict.fromkeys(scene.scene_id for _, scene, _ in clips if scene.scene_id not in held))
    count = _count(request)
    held |= set(training[len(training) - count :] if count else ())
    train = [clip for clip in clips if clip[1].scene_id not in held]
    test = [clip for clip in clips if clip[1].scene_id in held]
    if len(test) < 2 or not train:
        raise InputError(
            f"{len(train)} clips to train on and {len(test)} of validation and test scenes; 1 and 2 are needed",
            where=_WHERE,
            remedy="Give scenes of both splits, or hold_out=N to validate with the last N training scenes.",
        )
    return train, test


def _count(request: ReleaseRequest) -> int:
    given = request.options.get("hold_out", "0")
    if not given.isdecimal():
        raise InputError(f"hold_out={given}", where=_WHERE, remedy="Give a number of scenes.")
    return int(given)


def _shared_out(clips: Sequence[_Clip], validated_below: str | None = None) -> _Homed:
    """The clips with the dataset of each.

    Args:
        validated_below: where test clips will stand: each gets a dataset that the validation finds in its path. A scene
            "a placid lake" would be taken for one of acid when it stood in a dataset that comes after that.
    """
    counts = dict.fromkeys(WEIGHTS, 0)
    homed: _Homed = []
    for name, scene, clip in clips:
        choice = [
            dataset
            for dataset in WEIGHTS
            if validated_below is None or validation_dataset(f"{validated_below}/{dataset}/scenes/{name}") == dataset
        ]
        empty = [dataset for dataset in choice if not counts[dataset]]
        dataset = empty[0] if empty else min(choice, key=lambda each: (counts[each] + 1) / WEIGHTS[each])
        counts[dataset] += 1
        homed.append((name, dataset, scene, clip))
    return homed


def _write_clip(
    directory: ReleaseDirectory, folder: str, clip: ReleaseClip, captions: Sequence[str], request: ReleaseRequest
) -> int:
    """Write one clip's folder; returns how many depths were too far for its depth pictures."""
    scene, names, depth = clip.scene_id, frame_names(clip.frames), clip.depth()
    write_pictures(directory, f"{folder}/images", names, clip.rgb(), scene)
    cameras = cameras_of(clip, tuple(f"images/{name}" for name in names))
    texts = {
        "transforms.json": format_gen3r_transforms(cameras),
        "captions.txt": "".join(f"{caption}\n" for caption in captions).encode(),
        "prompt.txt": f"{captions[0]}\n".encode(),
        "cameras.json": json_bytes(inference_cameras(clip)),
        "scale.json": json_bytes(_scales(clip, depth)),
    }
    for name, content in texts.items():
        directory.path(f"{folder}/{name}", scene).write_bytes(content)
    _link(directory, folder, names, scene)
    if not request.wants("depth"):
        return 0
    levels, beyond = depth_levels(depth, MILLIMETRES)
    write_pictures(directory, f"{folder}/depth", names, levels, scene)
    return beyond


def _link(directory: ReleaseDirectory, folder: str, names: Sequence[str], scene_id: str) -> None:
    for name in names:
        picture, link = directory.root / folder / "images" / name, directory.path(f"{folder}/frames/{name}", scene_id)
        try:
            link.hardlink_to(picture)
        except OSError:  # no hard links on this file system
            shutil.copyfile(picture, link)


def inference_cameras(clip: ReleaseClip) -> dict[str, Any]:
    """What Gen3R's cameras.json holds: the first 49 cameras, w2c, with K of the picture resized and cropped to 560.

    Gen3R resizes the short side to 560 and crops the middle; the principal point moves with the crop. Its own code
    truncates the resized side where its resize rounds, which is up to a pixel off; here both round.
    """
    c2w, intrinsics = (values[:CLIP_FRAMES].astype(np.float64) for values in clip.cameras())
    side = GEN3R_SIZE[0]
    ratio = max(side / clip.height, side / clip.width)
    height, width = round(clip.height * ratio), round(clip.width * ratio)
    across, down = width / clip.width, height / clip.height
    values = intrinsics * np.array([across, down, across, down])
    values[:, 2] -= (width - side) // 2
    values[:, 3] -= (height - side) // 2
    return {"extrinsics": invert_rigid(c2w).tolist(), "intrinsics": matrix_from_intrinsics(values).tolist()}


def _scales(clip: ReleaseClip, depth: Float16) -> dict[str, Any]:
    """The scene's scale: Gen3R never normalises translations, and its presets live in VGGT's unit.

    VGGT's unit is the mean distance of the valid points from the first camera (its training normalisation).
    """
    valid = np.isfinite(depth) & (depth > 0)
    if not valid.any():
        remedy = "Make the clip's depth again."
        raise InputError("no valid depth", where=f"{_WHERE}, clip {clip.scene_id}/{clip.trajectory}", remedy=remedy)
    c2w, intrinsics = clip.cameras()
    median = float(np.median(depth[valid].astype(np.float32)))
    distance = _mean_distance(depth, valid, c2w, intrinsics)
    return {
        "metric": clip.metric,
        "unit": "metre" if clip.metric else "scene",
        "median_depth": median,
        "scene_scale": _SCENE_SCALE * median,
        "vggt_unit": distance,
        "scene_scale_in_vggt_units": _SCENE_SCALE * median / distance,
    }


def _mean_distance(depth: Float16, valid: np.ndarray[Any, Any], c2w: Float32, intrinsics: Float32) -> float:
    """Mean distance of all valid points of (T, H, W) from the first camera."""
    total = 0.0
    rows, columns = np.mgrid[0 : depth.shape[1], 0 : depth.shape[2]].astype(np.float32) + 0.5
    for plane, seen, pose, (fx, fy, cx, cy) in zip(depth, valid, c2w, intrinsics, strict=True):
        z = plane[seen].astype(np.float32)
        local = np.stack([(columns[seen] - cx) / fx * z, (rows[seen] - cy) / fy * z, z], axis=-1)
        world = local @ pose[:3, :3].T + pose[:3, 3] - c2w[0, :3, 3]
        total += float(np.linalg.norm(world, axis=-1).sum(dtype=np.float64))
    return total / int(valid.sum())


def _write_indices(directory: ReleaseDirectory, request: ReleaseRequest, train: _Homed, test: _Homed) -> None:
    """Index files, after all that they name; a dataset without clips of its own lists all."""
    for dataset in WEIGHTS:
        own = [clip for clip in train if clip[1] == dataset]
        _write_index(directory, f"{dataset}/train", own or train, request)
    _write_index(directory, "train", train, request)
    _write_index(directory, "test", test, request)


def _write_index(directory: ReleaseDirectory, prefix: str, clips: _Homed, request: ReleaseRequest) -> None:
    for suffix, target in INDEX_FILES.items():
        lines = [
            f"{request.destination.as_posix()}/{dataset}/scenes/{name}/{target}\n" for name, dataset, _, _ in clips
        ]
        directory.path(f"{prefix}_{suffix}").write_text("".join(lines), encoding="utf-8")


def _notes(request: ReleaseRequest, clips: Sequence[_Clip], train: int, beyond: int) -> tuple[str, ...]:
    notes = [f"DATASET_PATH={request.destination.as_posix()} in train_dit.sh; the index files hold absolute paths"]
    if any((clip.height, clip.width) != GEN3R_SIZE for _, _, clip in clips):
        notes.append("clips are not 560x560: Gen3R resizes and crops them, and its intrinsics are up to a pixel off")
    if train < len(WEIGHTS):
        notes.append(
            f"{train} clips to train on: of the ten dataset names, those without clips of their own list them all"
        )
    if min(clip.frames for _, _, clip in clips) < 2 * CLIP_FRAMES:
        notes.append(f"clips under {2 * CLIP_FRAMES} frames: the geometry adapter uses every frame, not every second")
    if beyond:
        notes.append(f"{beyond} depths beyond 65.535 units are marked invalid in depth/ (16-bit millimetres)")
    return tuple(notes)


LAYOUT = Layout(
    name="gen3r",
    consumer="Gen3R (train_dit.sh, train_adapter.sh, infer.py)",
    description="frames, cameras, depth and captions under Gen3R's ten dataset names, with its index files",
    fields=("frames", "cameras", "captions", "depth"),
    required=("frames", "cameras", "captions"),
    write=write,
    examine=gen3r_examination.examine,
    options={
        "any_size": '"true" takes clips that are not 560x560; Gen3R resizes and crops them',
        "hold_out": "how many training scenes to validate with, from the last; 0 when not given",
        CAPTION: CAPTION_HELP,
    },
)
