"""Lyra-1: clips of six (static) or twelve (dynamic) views a scene, as its unmodified `Radym` loader reads them.

    dataset/                          Lyra's `root_path`; nothing lies in it but view folders
        0/ … 5/                       the six trajectories in order (left, right, up, zoom_out, zoom_in, clockwise)
        6/ … 11/                      dynamic only: the same six, time forward, camera from far to near
            rgb/<key>.mp4             the clip's own H.264 file, short groups of pictures
            pose/<key>.npz            data (T, 4, 4) float32 OpenCV camera-to-world, inds (T,) int64 0 … T − 1
            intrinsics/<key>.npz      data (T, 4) float32 fx, fy, cx, cy in pixels of the mp4, inds
            depth/<key>.zip           00000.exr …, one HALF channel Z of the mp4's size, stored
            mask/<key>.zip            dynamic only, where it is known: 00000.png …, 8-bit, 1 where something moves
            latent/<key>.pkl          float16 tensor (1, 16, t, h, w) by torch.save, views 0 … 5 only
    held_out/                         the same for validation and test scenes, where there are any beside training ones
    Cosmos-Tokenize1-CV8x8x8-720p/mean_std.pt   (mean, std) of 16 channels × 16 latent frames, channel-major
    registry_entry.py                 what to paste into Lyra's src/models/data/registry.py

Whatever lies in Lyra's root counts as a camera, so everything else lies beside it. `<key>` is the scene's id with dots
replaced. Poses of views 6 … 11 are those of the mp4's frames (Lyra's own script writes them in reversed order).

Latents are (z − mean[c, t]) / std[c, t] · 0.5. They stay float16, as they are stored: Lyra's loader multiplies whatever
tensor it finds with float32 statistics, so float16 is read exactly, takes the room of bfloat16 and keeps three more
bits; a pickled array would take three times as much.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..latent_spaces import LatentSpace
from . import lyra_examination
from .lyra_files import (
    clip_file,
    key_of,
    require_distinct_keys,
    write_depth,
    write_mask,
    write_pictures_and_cameras,
)
from .lyra_names import (
    CHANNELS,
    DATASET,
    FIELDS,
    HELD_OUT,
    LATENT_FRAMES,
    LATENT_SCALE,
    MASK,
    MEAN_STD,
    REGISTRY_ENTRY,
    STRIDE,
    VIEWS,
    field_comment,
)
from .release import Layout, LayoutSummary, ReleaseClip, ReleaseDirectory, ReleaseRequest, ReleaseScene

LYRA_TRAJECTORIES = ("left", "right", "up", "zoom_out", "zoom_in", "clockwise")
REVERSED = "_reversed"
"""Ends the name of the trajectory that another one becomes with its camera running from far to near."""

_TOKENIZER = "Cosmos-Tokenize1-CV8x8x8"
_REQUIRED = ("rgb", "pose", "intrinsics")
"""Fields that Lyra reads of every clip, in every stage."""
_SIZE = (121, 704, 1280)
_HELD_BACK_ENTRIES = 16
_MASKS_FROM = {
    "ground_truth": "are the truth of rendered scenes",
    "input_video": "show what moves before the background of a video whose camera stands still",
    "instances": "show the pixels of what may move, as an estimator took them for: they are no proof that it moves",
}
"""What is said of masks by what they rest on."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """lyra_static or lyra_dynamic."""

    name: str
    dynamic: bool

    @property
    def fields(self) -> tuple[str, ...]:
        return (*FIELDS, MASK) if self.dynamic else FIELDS

    def error(self, found: str, remedy: str, scene: str = "") -> InputError:
        return InputError(found, where=f"layout {self.name}" + (f", scene {scene}" if scene else ""), remedy=remedy)


_STATIC = _Variant("lyra_static", dynamic=False)
_DYNAMIC = _Variant("lyra_dynamic", dynamic=True)


def write_static(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory with six views a scene; see the module for the tree.

    Raises:
        InputError: no scene, a scene without exactly the six trajectories of the others, views of unequal length or
            size, depth of which half is invalid, or latents of another kind than Lyra's (16 channels, strides of 8,
            causal, one latent space for all).
        ContractError: cameras out of convention.
    """
    return _write(directory, scenes, request, _STATIC)


def write_dynamic(
    directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest
) -> LayoutSummary:
    """Fill the directory with twelve views a scene: six trajectories and those called `<trajectory>_reversed`.

    Raises:
        InputError, ContractError: as `write_static`.
    """
    return _write(directory, scenes, request, _DYNAMIC)


def _write(
    directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest, variant: _Variant
) -> LayoutSummary:
    fields = tuple(field for field in variant.fields if request.wants(field) and (field != MASK or _have_masks(scenes)))
    _require_still(scenes, variant)
    views = _views(scenes, variant)
    require_distinct_keys([scene.scene_id for scene in scenes], variant.name)
    space = _latent_space(scenes, variant) if "latent" in fields else None
    homes = _homes(scenes)
    sparse = []
    for home, members in homes.items():
        for scene in members:
            _check_views(scene, views, variant, latents=space is not None)
            for view, trajectory in enumerate(views):
                sparse += _write_clip(directory, f"{home}/{view}", scene, trajectory, fields, view < VIEWS)
    if sparse:
        raise variant.error(
            f"half of the depth or more is invalid in {', '.join(sparse)}",
            "Leave these scenes out: Lyra's depth loss takes the median over invalid pixels too.",
        )
    if space is not None:
        directory.path(MEAN_STD).write_bytes(_statistics(space))
    no_latents = _why_no_latents(scenes, fields)
    entries = {home: _registry_entry(home, request, variant, no_latents) for home in homes}
    text = "\n".join([field_comment(fields), *entries.values()])
    directory.path(REGISTRY_ENTRY).write_text(text, encoding="utf-8")
    counts = {"scenes": len(scenes), "clips": len(scenes) * len(views), "views": len(views)}
    counts |= {f"scenes in {home}": len(members) for home, members in homes.items()}
    notes = (*_notes(views, homes, fields, entries, no_latents, request), *_notes_on_masks(scenes, fields))
    return LayoutSummary(counts, notes=notes, stand_ins=_stand_ins(space))


def _have_masks(scenes: Sequence[ReleaseScene]) -> bool:
    return any(scene.dynamic_from for scene in scenes)


def _require_still(scenes: Sequence[ReleaseScene], variant: _Variant) -> None:
    moving = [scene.scene_id for scene in scenes if scene.moving]
    if moving and not variant.dynamic:
        raise variant.error(
            f"objects move in {', '.join(moving[:5])}",
            "Publish them as lyra_dynamic: the static set draws its targets from all times of a clip.",
        )


# --- what is written ------------------------------------------------------------------------------------------------


def _views(scenes: Sequence[ReleaseScene], variant: _Variant) -> tuple[str, ...]:
    """Trajectories in the order of their view folders, the same for every scene."""
    if not scenes:
        raise variant.error("there are no scenes", "Give at least one scene.")
    names = tuple(scenes[0].clips)
    forward = tuple(name for name in names if not (variant.dynamic and name.endswith(REVERSED)))
    if set(forward) == set(LYRA_TRAJECTORIES):
        forward = LYRA_TRAJECTORIES
    views = forward + tuple(f"{name}{REVERSED}" for name in forward) if variant.dynamic else forward
    remedy = f"Make clips along six trajectories, as {', '.join(LYRA_TRAJECTORIES)}"
    if variant.dynamic:
        remedy += f", and along six more called <trajectory>{REVERSED}"
    for scene in scenes:
        if len(forward) != VIEWS or set(scene.clips) != set(views):
            found = f"the trajectories are {', '.join(scene.clips) or 'none'}"
            expected = ", ".join(views) if len(forward) == VIEWS else f"{VIEWS} of them"
            raise variant.error(f"{found}; expected {expected}", f"{remedy}; the same for all scenes.", scene.scene_id)
    return views


def _homes(scenes: Sequence[ReleaseScene]) -> dict[str, list[ReleaseScene]]:
    """Scenes by root: Lyra's own split holds nothing out, so held-out scenes need a root of their own."""
    train = [scene for scene in scenes if not scene.held_out]
    held = [scene for scene in scenes if scene.held_out]
    return {DATASET: train, HELD_OUT: held} if train and held else {DATASET: list(scenes)}


def _check_views(scene: ReleaseScene, views: Sequence[str], variant: _Variant, *, latents: bool) -> None:
    sizes = {(clip.frames, clip.height, clip.width) for clip in scene.clips.values()}
    if len(sizes) > 1:
        raise variant.error(
            f"views of unequal frames, height, width: {sorted(sizes)}",
            "Make all clips of a scene alike: Lyra counts the frames of view 0 alone.",
            scene.scene_id,
        )
    frames, height, width = sizes.pop()
    expected = (CHANNELS, 1 + (frames - 1) // STRIDE, height // STRIDE, width // STRIDE)
    if latents and ((frames - 1) % STRIDE or height % STRIDE or width % STRIDE):
        raise variant.error(
            f"clips of {frames} frames of {height}x{width} (height x width) have no latents with strides of {STRIDE}",
            "Make clips of 121 frames of 704x1280, or leave the field latent out.",
            scene.scene_id,
        )
    for trajectory in views[:VIEWS] if latents else ():
        found = scene.clips[trajectory].latents().shape
        if found != expected:
            raise variant.error(
                f"latents of {trajectory} are {found}, expected {expected}", "Make the scene again.", scene.scene_id
            )


def _write_clip(
    directory: ReleaseDirectory,
    home: str,
    scene: ReleaseScene,
    trajectory: str,
    fields: Sequence[str],
    is_input_view: bool,
) -> list[str]:
    """Write one clip; returns its name when half of a depth frame or more is invalid."""
    clip, key = scene.clips[trajectory], key_of(scene.scene_id)
    write_pictures_and_cameras(directory, home, key, clip)
    if "latent" in fields and is_input_view:
        directory.path(clip_file(home, "latent", key), scene.scene_id).write_bytes(_latent_file(scene, clip))
    mask = clip.dynamic_mask() if MASK in fields else None
    if mask is not None:
        write_mask(directory, home, key, scene.scene_id, mask)
    if "depth" not in fields:
        return []
    depth = clip.depth()
    write_depth(directory, home, key, scene.scene_id, depth)
    valid = (np.isfinite(depth) & (depth > 0)).mean(axis=(1, 2))
    return [f"{scene.scene_id}/{trajectory}"] if valid.min() <= 0.5 else []


# --- latents --------------------------------------------------------------------------------------------------------


def _latent_space(scenes: Sequence[ReleaseScene], variant: _Variant) -> LatentSpace:
    spaces = {scene.scene_id: scene.latent_space for scene in scenes}
    without = [scene_id for scene_id, space in spaces.items() if space is None]
    if without:
        raise variant.error("no latents", "Leave the field latent out: stages 1 to 4 need none.", without[0])
    first = next(space for space in spaces.values() if space is not None)
    strides = (first.temporal_stride, first.spatial_stride, first.causal, first.channels)
    if strides != (STRIDE, STRIDE, True, CHANNELS):
        raise variant.error(
            f"latent space {first.id} has temporal stride, spatial stride, causality, channels {strides}",
            f"Lyra reads causal latents of {CHANNELS} channels with strides of {STRIDE}: make them with such a codec, "
            "or leave the field latent out.",
        )
    other = [scene_id for scene_id, space in spaces.items() if space is None or space.numbers() != first.numbers()]
    if other:
        raise variant.error(
            f"its latent space is not {first.id} as that of {scenes[0].scene_id}",
            "Publish scenes of one latent space: Lyra has one mean_std.pt for all.",
            other[0],
        )
    return first


def _latent_file(scene: ReleaseScene, clip: ReleaseClip) -> bytes:
    """torch.save of the clip's latents with a batch axis, at Lyra's scale."""
    import torch

    space = scene.latent_space
    latents = clip.latents()
    if space is not None and space.scale != LATENT_SCALE:
        latents = replace(space, scale=LATENT_SCALE).normalise(space.denormalise(latents)).astype(np.float16)
    return _saved(torch.from_numpy(np.ascontiguousarray(latents[None], np.float16)))


def _statistics(space: LatentSpace) -> bytes:
    """`mean_std.pt`: always 16 × 16, which Lyra demands even where it reads no latents.

    A space that knows fewer latent frames gets its last one repeated, one that knows more is cut.
    """
    import torch

    places = np.minimum(np.arange(LATENT_FRAMES), space.mean.shape[1] - 1)
    return _saved(tuple(torch.from_numpy(np.ascontiguousarray(table[:, places])) for table in (space.mean, space.std)))


def _saved(value: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


# --- what to tell ---------------------------------------------------------------------------------------------------


def _why_no_latents(scenes: Sequence[ReleaseScene], fields: Sequence[str]) -> str | None:
    """Why Lyra's stages 5 and later cannot train on the latents; None where they can.

    They take all 16 latent frames of a clip whatever frames are drawn, normalise them with a table of 16 latent frames,
    and give the model a grid of img_size / 8: height and width may be any, the same for all clips.
    """
    if "latent" not in fields:
        return "the field latent was not published"
    sizes = _sizes(scenes)
    if len(sizes) == 1 and sizes[0][0] == _SIZE[0]:
        return None
    return f"Lyra's latent stages take {_SIZE[0]} frames of one size only, there are {_listed(sizes)}"


def _sizes(scenes: Iterable[ReleaseScene]) -> list[tuple[int, int, int]]:
    """Frames, height, width of the clips, each once."""
    return sorted({(clip.frames, clip.height, clip.width) for scene in scenes for clip in scene.clips.values()})


def _listed(sizes: Iterable[tuple[int, int, int]]) -> str:
    return ", ".join(f"{frames} of {height}x{width}" for frames, height, width in sizes)


def _registry_entry(home: str, request: ReleaseRequest, variant: _Variant, no_latents: str | None) -> str:
    """Text to paste into Lyra's registry.py; without latents it says why."""
    name = variant.name if home == DATASET else f"{variant.name}_{home}"
    arguments: dict[str, Any] = {
        "root_path": (request.destination / home).as_posix(),
        "is_static": not variant.dynamic,
        "is_multi_view": True,
        "has_latents": no_latents is None,
        "is_generated_cosmos_latent": no_latents is None,
        "sampling_buckets": [[str(view)] for view in range(VIEWS)],
        "start_view_idx": 0,
    }
    if variant.dynamic:
        arguments |= {"end_view_idx": VIEWS - 1, "start_view_target_idx": VIEWS, "end_view_target_idx": 2 * VIEWS - 1}
    lines = [f"        {key!r}: {value!r},\n" for key, value in arguments.items()]
    reason = "" if no_latents is None else f"# has_latents is False: {no_latents}\n"
    return (
        f"{reason}dataset_registry[{name!r}] = {{\n"
        f"    'cls': RadymWrapper,\n    'kwargs': {{\n{''.join(lines)}    }},\n"
        "    'scene_scale': 1.0,\n    'max_gap': 121,\n    'min_gap': 45,\n}\n"
    )


def _stand_ins(space: LatentSpace | None) -> dict[str, str]:
    """Latents of another codec than Lyra's own load, and mean nothing to weights that were trained on Lyra's."""
    if space is None or _TOKENIZER in space.id:
        return {}
    return {f"latents of {space.id}": "latents of Cosmos-Tokenize1-CV8x8x8-720p, which Lyra's encoder gives"}


def _notes(
    views: Sequence[str],
    homes: dict[str, list[ReleaseScene]],
    fields: Sequence[str],
    entries: dict[str, str],
    no_latents: str | None,
    request: ReleaseRequest,
) -> tuple[str, ...]:
    notes = [
        f"paste into Lyra-1's src/models/data/registry.py (also in {REGISTRY_ENTRY}):\n{''.join(entries.values())}"
    ]
    notes.append(f"views 0 to {len(views) - 1} are {', '.join(views)}")
    dynamic = len(views) > VIEWS
    if no_latents is None:
        folder = (request.destination / MEAN_STD).parent.as_posix()
        notes.append(
            f"vae_path={folder}: Lyra takes mean_std.pt from there, and the tokenizer: put its weights there too"
        )
    elif dynamic:
        notes.append(f"has_latents is False: {no_latents}; stages 8 and 9 then encode the pictures themselves")
    else:
        notes.append(f"has_latents is False: {no_latents}; training stages 1 to 4 encode the pictures themselves")
    sizes = _sizes(scene for members in homes.values() for scene in members)
    if sizes != [_SIZE]:
        found = f"clips of {_listed(sizes)} (frames of height x width)"
        if no_latents is None:
            notes.append(f"{found}: set img_size of every stage to {list(sizes[0][1:])}")
        elif dynamic:
            notes.append(f"{found}: set img_size and num_input_views of stages 8 and 9 to fit, num_views to 12 more")
        else:
            notes.append(f"{found}: set img_size and num_input_views of stages 1 to 4 to fit")
    if "depth" not in fields:
        notes.append("no depth: every training stage asks for it unless use_depth is false; sample.py does not")
    count = len(homes[DATASET]) * len(views)
    if count - _HELD_BACK_ENTRIES < len(homes[DATASET]):
        notes.append(
            f"{count} entries: Lyra holds back the last {_HELD_BACK_ENTRIES}, which leaves none of some scenes; set "
            "subsample_data_train_val to false"
        )
    if HELD_OUT in homes:
        notes.append(f"{HELD_OUT}/ holds the validation and test scenes; Lyra's own split would train on them")
    return tuple(notes)


def _notes_on_masks(scenes: Sequence[ReleaseScene], fields: Sequence[str]) -> Iterator[str]:
    """What the masks of how many scenes rest on; Lyra's reader has them as DYNAMIC_INSTANCE_MASK, and its training does
    not ask for it."""
    for source, meaning in _MASKS_FROM.items() if MASK in fields else ():
        count = sum(scene.dynamic_from == source for scene in scenes)
        if count:
            yield f"{MASK}/ of {count} of {len(scenes)} scenes: the masks {meaning}"


STATIC = Layout(
    name="lyra_static",
    consumer="Lyra-1 (train.py, dataset lyra_static)",
    description="six views a scene: mp4, poses, intrinsics, depth EXRs and latents",
    fields=FIELDS,
    required=_REQUIRED,
    write=write_static,
    examine=lyra_examination.examine_static,
)
DYNAMIC = Layout(
    name="lyra_dynamic",
    consumer="Lyra-1 (train.py, dataset lyra_dynamic)",
    description="twelve views a moving scene: six trajectories, and the same with the camera running back",
    fields=_DYNAMIC.fields,
    required=_REQUIRED,
    write=write_dynamic,
    examine=lyra_examination.examine_dynamic,
)
LAYOUTS = (STATIC, DYNAMIC)
