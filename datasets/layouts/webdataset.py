"""WebDataset: clips in tar files that stream in order, with an index of offsets for reads of one field of one clip.

    train-000000.tar      members of a clip stand together, stored as they are:
        <scene>-<trajectory>.rgb.mp4         H.264
        <scene>-<trajectory>.latents.npy     (C, t, h, w) float16, normalised as latent_spaces.json says
        <scene>-<trajectory>.cameras.npz     c2w (T, 4, 4) and intrinsics (T, 4) float32, OpenCV axes, pixels
        <scene>-<trajectory>.depth.zip       %05d.exr, one HALF channel Z, 0 = invalid: as Lyra and ViPE have it
        <scene>-<trajectory>.metadata.json   prompt, seed, licences, engines, size, whether lengths are metres
    train-000000.json     member → offset, length, SHA-256: one ranged read fetches one field
    latent_spaces.json    codec and normalisation by the id that metadata.json names

Depth is OpenEXR's ZIP of half floats because it is exact, a quarter to a fifth of the size of the plain array, and what
the field's readers know. Tar members have no time and no owner, so the same clips give the same bytes. Keys hold no
dot: WebDataset takes everything after a name's first dot for the field.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import sha256_of_file
from ..latent_spaces import LatentSpace
from ..vipe_files import encode_depth_archive
from . import webdataset_examination
from .frame_files import clips_of, json_bytes
from .release import Layout, LayoutSummary, ReleaseClip, ReleaseDirectory, ReleaseRequest, ReleaseScene

_WHERE = "layout webdataset"
_CLIPS_A_TAR = 32
_KEY = re.compile(r"[A-Za-z0-9_-]+")


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory; tar files are numbered by split.

    Raises:
        InputError: there is no clip, a name that cannot be a key, two latent spaces of one id, or `clips_per_tar` is
            no number above 0.
    """
    clips = list(clips_of(scenes, "webdataset"))
    for key, _, _ in clips:
        _check_key(key)
    spaces = _latent_spaces(scenes)
    size, tars = _clips_a_tar(request), 0
    for split in dict.fromkeys(scene.split for _, scene, _ in clips):
        chosen = [clip for clip in clips if clip[1].split == split]
        for number, start in enumerate(range(0, len(chosen), size)):
            _write_tar(directory, f"{split}-{number:06d}", chosen[start : start + size], request)
            tars += 1
    if spaces:
        directory.path("latent_spaces.json").write_bytes(json_bytes(spaces))
    notes = ("train-{000000..N}.tar for webdataset.WebDataset; the .json beside each has offsets for ranged reads",)
    return LayoutSummary(counts={"clips": len(clips), "tars": tars}, notes=notes)


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise InputError(
            f"the clip's name {key!r} cannot be a key",
            where=_WHERE,
            remedy="Rename the scene or the trajectory: letters, digits, - and _ only (a dot would start the field).",
        )


def _clips_a_tar(request: ReleaseRequest) -> int:
    given = request.options.get("clips_per_tar", str(_CLIPS_A_TAR))
    if not given.isdecimal() or not int(given):
        raise InputError(f"clips_per_tar={given}", where=_WHERE, remedy="Give a number of clips above 0.")
    return int(given)


def _latent_spaces(scenes: Sequence[ReleaseScene]) -> dict[str, Any]:
    spaces: dict[str, LatentSpace] = {}
    for scene in scenes:
        space = scene.latent_space
        if space is None:
            continue
        if spaces.setdefault(space.id, space).numbers() != space.numbers():
            raise InputError(
                f"two latent spaces are called {space.id}",
                where=f"{_WHERE}, scene {scene.scene_id}",
                remedy="Publish scenes of one codec at a time.",
            )
    return {name: space.to_json() for name, space in spaces.items()}


def _write_tar(
    directory: ReleaseDirectory,
    name: str,
    clips: Sequence[tuple[str, ReleaseScene, ReleaseClip]],
    request: ReleaseRequest,
) -> None:
    path, checksums = directory.path(f"{name}.tar"), {}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for key, scene, clip in clips:
            for field, content in _fields(scene, clip, request):
                header = tarfile.TarInfo(f"{key}.{field}")
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
                checksums[header.name] = hashlib.sha256(content).hexdigest()
    # Read back, because a long name takes blocks of its own before its data.
    with tarfile.open(path, "r:") as archive:
        members = [_entry(member, checksums[member.name]) for member in archive]
    index = {
        "format": webdataset_examination.INDEX_FORMAT,
        "tar": path.name,
        "length": path.stat().st_size,
        "sha256": sha256_of_file(path),
        "clips": {key: scene.scene_id for key, scene, _ in clips},
        "members": members,
    }
    directory.path(f"{name}.json").write_bytes(json_bytes(index))


def _entry(member: tarfile.TarInfo, sha256: str) -> dict[str, Any]:
    key, _, field = member.name.partition(".")
    return {"key": key, "field": field, "offset": member.offset_data, "length": member.size, "sha256": sha256}


def _fields(scene: ReleaseScene, clip: ReleaseClip, request: ReleaseRequest) -> Iterator[tuple[str, bytes]]:
    if request.wants("rgb"):
        yield "rgb.mp4", clip.rgb_mp4()
    if request.wants("latents") and scene.latent_space is not None:
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(clip.latents(), np.float16), allow_pickle=False)
        yield "latents.npy", buffer.getvalue()
    if request.wants("cameras"):
        c2w, intrinsics = clip.cameras()
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, c2w=c2w, intrinsics=intrinsics)
        yield "cameras.npz", buffer.getvalue()
    if request.wants("depth"):
        yield "depth.zip", encode_depth_archive(clip.depth())
    yield "metadata.json", json_bytes(_metadata(scene, clip))


def _metadata(scene: ReleaseScene, clip: ReleaseClip) -> Mapping[str, Any]:
    return {
        "scene_id": scene.scene_id,
        "trajectory": clip.trajectory,
        "prompt": scene.prompt,
        "kind": scene.kind,
        "split": scene.split,
        "seed": scene.seed,
        "licence": scene.licence,
        "engines": dict(scene.engines),
        "engine_licences": dict(scene.engine_licences),
        "content_key": scene.content_key,
        "frames": clip.frames,
        "height": clip.height,
        "width": clip.width,
        "frames_per_second": clip.frames_per_second,
        "metric": clip.metric,
        "latent_space": None if scene.latent_space is None else scene.latent_space.id,
        "cameras": "c2w camera-to-world, OpenCV axes; intrinsics fx fy cx cy in pixels, pixel centres at +0.5",
        "depth": "z-depth in the unit of the cameras' translations, 0 = invalid",
    }


LAYOUT = Layout(
    name="webdataset",
    consumer="webdataset, Hugging Face datasets, and readers of ranges",
    description="tar files of clips with an index of member offsets",
    fields=("rgb", "latents", "cameras", "depth"),
    write=write,
    examine=webdataset_examination.examine,
    options={"clips_per_tar": f"at most how many clips a tar file holds; {_CLIPS_A_TAR} when not given"},
)
