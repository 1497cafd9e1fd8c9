"""Lyra-2: one video an id with captions every 80 frames, as `lyra_2/_src/datasets` reads them.

    all_filter.lst                    one id a line: the clips to train on
    held_out_filter.lst               the same for validation and test scenes, where there are any beside training ones
    rgb/<id>.mp4                      the clip's own H.264 file
    pose/<id>.npz, intrinsics/<id>.npz   as in Lyra-1: data and inds; OpenCV camera-to-world; pixels of the mp4
    depth/<id>.zip                    00000.exr …, one HALF channel Z, dense and finite
    framepack-caption-qwen3-chunk-80-overlap-0/<id>.pkl
                                      pickled {start frame: {frame_range, caption, embedding}}

`<id>` is `<scene>-<trajectory>` with dots replaced. Lyra-2 takes of all videos below its root those that its
`filter_list_path` names, so held-out clips lie beside the others and only another list names them; in a root of their
own inside this one they would be found again.

Lyra-2 resizes depth with a filter, so an invalid pixel would bleed into its neighbours: it gets the depth of the valid
pixel that is nearest in the picture.

Lyra-2 reads nothing of a caption but its embedding, by UMT5-XXL. No text encoder of that size comes with this package:
without one a stand-in of the same shape and kind takes its place, and the release says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import lyra2_examination
from .caption_chunks import chunk_starts, encode_chunks, hashed_captions
from .captions import CAPTION, CAPTION_HELP, caption_at, caption_notes, caption_stand_ins, captions_of
from .frame_files import clips_of
from .lyra2_names import CAPTIONS, FIELDS, FILTER_LIST, FRAMES, HELD_OUT_LIST, SEGMENT_FRAMES, caption_file
from .lyra_files import key_of, require_distinct_keys, write_depth, write_pictures_and_cameras
from .release import (
    TEXT_ENCODER,
    EncodeText,
    Float16,
    Layout,
    LayoutSummary,
    ReleaseClip,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)

_NAME = "lyra2"
_STAND_IN = {
    "caption embeddings": "UMT5-XXL: one fixed pseudo-random vector of 4096 numbers a word, drawn from the word's hash"
}
_SIZE = (480, 832)
_BATCH = 16
"""Captions that are encoded at a time, so that few embeddings are in memory; more only where one clip has more."""


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory; see the module for the tree.

    The request's text encoder gives UMT5-XXL's last hidden states, (tokens ≤ 512, 4096) float32 without padding; a
    caption is encoded once for all clips that are captioned alike. Without one the embedded stand-in embeds the
    captions.

    Raises:
        InputError: no clip, two clips of one id, scenes without caption, a depth frame without a valid pixel, or an
            embedding of another shape.
        ContractError: cameras out of convention.
    """
    clips = list(clips_of(scenes, _NAME))
    require_distinct_keys([name for name, _, _ in clips], _NAME)
    captions = captions_of(scenes, request, _NAME)
    filled = 0
    for name, _, clip in clips:
        write_pictures_and_cameras(directory, "", key_of(name), clip)
        filled += _write_dense_depth(directory, key_of(name), clip)
    texts = {
        name: tuple(caption_at(captions[scene.scene_id, clip.trajectory], start) for start in chunk_starts(clip.frames))
        for name, scene, clip in clips
    }
    encode_text = request.text_encoder.encode if request.text_encoder is not None else hashed_captions
    _write_captions(directory, clips, texts, encode_text)
    lists = _write_lists(directory, clips)
    counts = {"clips": len(clips), "captions": len(set().union(*texts.values())), "depths filled": filled}
    counts |= {f"clips in {name}": len(listed) for name, listed in lists.items()}
    notes = (*_notes([clip for _, _, clip in clips], request, filled, lists), *caption_notes(scenes))
    stand_ins = _STAND_IN if request.text_encoder is None else {}
    return LayoutSummary(counts, notes, {**stand_ins, **caption_stand_ins(scenes)})


_Named = tuple[str, ReleaseScene, ReleaseClip]


def _write_captions(
    directory: ReleaseDirectory,
    clips: Sequence[_Named],
    texts: Mapping[str, tuple[str, ...]],
    encode_text: EncodeText,
) -> None:
    """Write every clip's chunks; `texts` are its chunks' captions, by its name."""
    clips_by_texts: dict[tuple[str, ...], list[_Named]] = {}
    for named in clips:
        clips_by_texts.setdefault(texts[named[0]], []).append(named)
    for batch in _batches(clips_by_texts):
        distinct = list(dict.fromkeys(itertools.chain.from_iterable(batch)))
        embeddings = dict(zip(distinct, encode_text(distinct), strict=True))
        for chunks in batch:
            for name, scene, clip in clips_by_texts[chunks]:
                content = encode_chunks(clip.frames, [(text, embeddings[text]) for text in chunks])
                directory.path(caption_file(key_of(name)), scene.scene_id).write_bytes(content)


def _batches(texts: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    batch: list[tuple[str, ...]] = []
    distinct: set[str] = set()
    for chunks in texts:
        if batch and len(distinct.union(chunks)) > _BATCH:
            yield batch
            batch, distinct = [], set()
        batch.append(chunks)
        distinct.update(chunks)
    if batch:
        yield batch


def _write_lists(directory: ReleaseDirectory, clips: Sequence[_Named]) -> dict[str, list[str]]:
    """Write the filter lists; returns the ids of each. Clips of held-out scenes alone go into the usual one."""
    train = [key_of(name) for name, scene, _ in clips if not scene.held_out]
    held = [key_of(name) for name, scene, _ in clips if scene.held_out]
    lists = {FILTER_LIST: train, HELD_OUT_LIST: held} if train and held else {FILTER_LIST: train or held}
    for name, listed in lists.items():
        directory.path(name).write_text("".join(f"{key}\n" for key in listed), encoding="utf-8")
    return lists


def _write_dense_depth(directory: ReleaseDirectory, key: str, clip: ReleaseClip) -> int:
    """Write the clip's depth without gaps; returns how many pixels were filled."""
    depth = clip.depth()
    valid = np.isfinite(depth) & (depth > 0)
    gaps = np.flatnonzero(~valid.all(axis=(1, 2)))
    if len(gaps):
        depth = depth.copy()
    for frame in gaps:
        if not valid[frame].any():
            raise InputError(
                f"frame {frame} has no valid depth",
                where=f"layout {_NAME}, clip {clip.scene_id}/{clip.trajectory}",
                remedy="Make the clip's depth again, or leave the scene out: Lyra-2 takes dense depth only.",
            )
        depth[frame] = nearest_filled(depth[frame], valid[frame])
    write_depth(directory, "", key, clip.scene_id, depth)
    return int((~valid).sum())


def nearest_filled(values: Float16, valid: NDArray[np.bool_]) -> Float16:
    """(H, W) values with each invalid one replaced by the valid one nearest in the picture.

    By jump flooding (Rong and Tan, "Jump Flooding in GPU with Applications to Voronoi Diagram and Distance Transform",
    I3D 2006): in rounds of halving steps, each pixel takes over the nearest source that its eight neighbours at that
    step know. A last round of step 1 corrects most of the few pixels that get the second nearest.
    """
    height, width = values.shape
    row, column = np.mgrid[0:height, 0:width].astype(np.int32)
    source = np.where(valid, row * width + column, -1).astype(np.int32)
    step = 1 << max(max(height, width) - 1, 1).bit_length() - 1
    steps = [step >> shift for shift in range(step.bit_length())]
    for size in (*steps, 1):
        for down, right in ((y, x) for y in (-size, 0, size) for x in (-size, 0, size) if y or x):
            other = _shifted(source, down, right)
            closer = (other >= 0) & (
                (source < 0) | (_distance(other, row, column, width) < _distance(source, row, column, width))
            )
            source = np.where(closer, other, source)
    return values.reshape(-1)[source]


def _shifted(source: NDArray[np.int32], down: int, right: int) -> NDArray[np.int32]:
    """What each pixel's neighbour at (down, right) holds; −1 outside."""
    height, width = source.shape
    shifted = np.full_like(source, -1)
    if abs(down) < height and abs(right) < width:
        to = (slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0)))
        of = (slice(max(down, 0), height - max(-down, 0)), slice(max(right, 0), width - max(-right, 0)))
        shifted[to] = source[of]
    return shifted


def _distance(
    source: NDArray[np.int32], row: NDArray[np.int32], column: NDArray[np.int32], width: int
) -> NDArray[np.int32]:
    """Squared distance in pixels to each pixel's source."""
    return (source // width - row) ** 2 + (source % width - column) ** 2


def _notes(
    clips: Sequence[ReleaseClip], request: ReleaseRequest, filled: int, lists: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    root = request.destination.as_posix()
    shortest = min(clip.frames for clip in clips)
    notes = [
        "in Lyra-2's lyra_2/_src/datasets/config_dataverse.py, copy lyra2_sample_data and set "
        f"root_path={root!r}, filter_list_path={f'{root}/{FILTER_LIST}'!r}, t5_embedding_path={f'{root}/{CAPTIONS}'!r} "
        "and data_name; then two overrides in configs/experiment.py name the new entry"
    ]
    if HELD_OUT_LIST in lists:
        notes.append(
            f"{len(lists[HELD_OUT_LIST])} clips of validation and test scenes are only in {HELD_OUT_LIST}: an entry "
            f"with filter_list_path={f'{root}/{HELD_OUT_LIST}'!r} reads them, and none without a filter list should be "
            "made"
        )
    if shortest < SEGMENT_FRAMES:
        notes.append(
            f"clips of {shortest} frames and more: Lyra-2 trains on segments of 80 new frames after the first, so "
            f"clips under {SEGMENT_FRAMES} frames do not fill one; make longer clips to train it"
        )
    if shortest < FRAMES:
        notes.append(
            f"clips of {shortest} frames and more, Lyra-2 trains on {FRAMES}: set sample_n_frames={shortest}; with "
            "video_mirror, shorter ones run back and forth, away from their captions"
        )
    sizes = sorted({(clip.height, clip.width) for clip in clips})
    if any(size != _SIZE for size in sizes):
        found = ", ".join(f"{height}x{width}" for height, width in sizes)
        notes.append(
            f"frames of {found} (height x width), Lyra-2 resizes to 480x854 and crops to 480x832: set sample_size and "
            "crop_size to fit; it holds all frames at the size of the mp4 in memory, so about 480 lines are best"
        )
    if not all(clip.metric for clip in clips):
        notes.append("depth and translations of some clips are not metric; Lyra-2 expects metres")
    if filled:
        notes.append(f"{filled} invalid depths were replaced by the nearest valid one in their frame")
    if request.text_encoder is not None:
        notes.append(f"captions were embedded by {request.text_encoder.name}")
    return tuple(notes)


LAYOUT = Layout(
    name=_NAME,
    consumer="Lyra-2 (lyra_2/_src/datasets)",
    description="one mp4 a clip with poses, intrinsics, dense depth and captions every 80 frames",
    fields=FIELDS,
    required=FIELDS,
    write=write,
    examine=lyra2_examination.examine,
    options={
        CAPTION: CAPTION_HELP,
        TEXT_ENCODER: "folder or hub id of UMT5-XXL that embeds the captions; without it a stand-in does",
    },
)
