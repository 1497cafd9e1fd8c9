"""Collections: prompts, pictures and videos, from any mix of sources, into one catalogue of scenes.

Sources are fsspec URLs or local paths: text files (a prompt a line), tables (CSV, JSON lines, Parquet), folders of
pictures and videos with captions beside them, single pictures and videos. What a scene is called depends on what it is
made from alone, so the order of sources, the machine and the time play no part.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from ..datasets.catalog import SPLITS, Reject, SceneEntry, SceneKind, Split, catalog_entries
from ..datasets.errors import InputError
from ..datasets.parquet import parquet_table
from ..ops.perceptual_hash import first_alike, perceptual_hash
from ..ops.pictures import MAXIMUM_PIXELS, MINIMUM_SIDE, PictureRefused, decode_picture
from .input_videos import VIDEO_SUFFIXES, VideoLimits, VideoRefused, VideoSampling, examine_video, sha256_of

COLUMNS = ("id", "prompt", "image", "video", "seed", "split", "licence", "tags")
"""The columns that a table may have; it must have `prompt`, `image` or `video`."""

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".ppm", ".pgm"}
    | {".avif", ".jp2", ".heic", ".heif"}
)
"""Files of a folder that are taken for pictures; everything else but videos and captions is left alone."""

PERCEPTUAL_DISTANCE = 6
"""Default largest number of differing fingerprint bits for two pictures, or the first frames of two videos, to count as
one."""

DEFAULT_SPLIT: Mapping[Split, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{2,62}")
_SLUG_LENGTH = 40
_LARGEST_PICTURE = 256 * 2**20
_LARGEST_VIDEO = 16 * 2**30
_READERS = 8
_LARGEST_SEED = 2**63 - 1


class RowProblem(StrEnum):
    """Why a row gives no scene, beside those of `PictureProblem` and `VideoProblem`. Never rename one."""

    EMPTY = "empty"
    INVALID_ROW = "invalid_row"
    INVALID_ID = "invalid_id"
    INVALID_SEED = "invalid_seed"
    INVALID_SPLIT = "invalid_split"
    MISSING_IMAGE = "missing_image"
    MISSING_VIDEO = "missing_video"
    FILE_TOO_LARGE = "file_too_large"
    CAPTION_WITHOUT_IMAGE = "caption_without_image"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    ID_COLLISION = "id_collision"
    STILL_ENGINE = "still_engine"


@dataclass(frozen=True, slots=True)
class CatalogResult:
    """What the sources hold: scenes, and every row that gave none, both in source order."""

    entries: list[SceneEntry]
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as the source states it; `problem` where it could not even be read."""

    source: str
    values: Mapping[str, Any] = field(default_factory=dict)
    folder: _Folder | None = None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where a source's relative paths start."""

    filesystem: Any
    path: str


@dataclass(frozen=True, slots=True)
class _Material:
    """What the catalogue holds of a picture or video; `frames` and `seconds` are a video's."""

    kind: SceneKind
    url: str
    sha256: str
    size: int
    version: str
    width: int
    height: int
    fingerprint: str
    frames: int | None = None
    seconds: float | None = None

    def columns(self) -> dict[str, Any]:
        """Values of the entry's attributes."""
        kind = self.kind
        shared = {"width": self.width, "height": self.height, "perceptual_hash": self.fingerprint}
        own = {
            f"{kind}_url": self.url,
            f"{kind}_sha256": self.sha256,
            f"{kind}_bytes": self.size,
            f"{kind}_version": self.version,
        }
        lasting = {"video_frames": self.frames, "video_seconds": self.seconds} if kind == "video" else {}
        return {**shared, **own, **lasting}


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row that is a scene on its own, before it is held against the others."""

    entry: SceneEntry
    stated_seed: int | None


class _RowRefused(Exception):
    def __init__(self, reason: str, message: str, url: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.url = url


def read_sources(
    sources: Sequence[str | os.PathLike[str]],
    *,
    split: Mapping[Split, float] = DEFAULT_SPLIT,
    minimum_side: int = MINIMUM_SIDE,
    maximum_pixels: int = MAXIMUM_PIXELS,
    perceptual_distance: int = PERCEPTUAL_DISTANCE,
    video_limits: VideoLimits = VideoLimits(),  # noqa: B008 - frozen
    sampling: VideoSampling | None = None,
    previous: pa.Table | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> CatalogResult:
    """Read every source into scenes and rejects.

    A row that repeats an earlier scene exactly (same words, bytes and stated seed), a picture that looks the same as an
    earlier one, or a video that begins with the same frame, is a reject that names the scene it repeats. Pictures and
    videos are only compared with those of the same stated seed: rows that state different seeds ask for variants.

    Args:
        sources: paths or fsspec URLs. `.txt`: a prompt a line, blank lines and lines that start with # left out.
            `.jsonl`, `.csv`, `.parquet`: tables with the columns `COLUMNS`; relative paths of pictures and videos start
            at the table's folder. A folder: its pictures and videos, sub-folders included, each with the caption in the
            .txt file of the same name. A picture or video file.
        split: fractions of the splits, summing to 1; a row's own split wins.
        minimum_side, maximum_pixels: limits on pictures, pixels.
        perceptual_distance: largest Hamming distance, bits of 64, at which pictures are the same; negative keeps all.
        video_limits: on videos.
        sampling: which part of a video becomes the clip: it must be whole, and its first frame stands for the video
            where videos are compared. None: the first frame.
        previous: the table `scene_catalog` as it was: what it holds of pictures and videos by URL, size and version is
            not read again.
        storage_options: for the file systems of sources, pictures and videos, as fsspec takes them.

    Raises:
        InputError: a source is missing, damaged, in an unknown format or encoding, or has unknown columns; or the
            fractions do not sum to 1.
    """
    _check_split(split)
    options = dict(storage_options or {})
    rows = [row for source in sources for row in _read_source(os.fspath(source), options)]
    once = sampling or VideoSampling(1, 1)
    reader = _MaterialReader(minimum_side, maximum_pixels, video_limits, once, options, _known_materials(previous))
    rejects: dict[int, Reject] = {}
    candidates: dict[int, _Candidate] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        materials = pool.map(reader.read, rows)
        for number, (row, material) in enumerate(zip(rows, materials, strict=True)):
            try:
                candidates[number] = _candidate(row, material, split)
            except _RowRefused as refused:
                rejects[number] = _reject(row, refused)
    rejects |= _drop_repeats(candidates, perceptual_distance)
    return CatalogResult(
        entries=[candidate.entry for number, candidate in candidates.items() if number not in rejects],
        rejects=[rejects[number] for number in sorted(rejects)],
    )


def merge_with_previous(previous: pa.Table | None, current: Sequence[SceneEntry]) -> list[SceneEntry]:
    """The current entries, active, then those of the previous catalogue that no source holds any more, retired.

    Nothing is ever left out, so what was made from a retired scene keeps its lineage; a scene that returns to the
    sources is active again.
    """
    present = {entry.scene_id for entry in current}
    gone = [] if previous is None else [e for e in catalog_entries(previous) if e.scene_id not in present]
    return [replace(e, status="active") for e in current] + [replace(e, status="retired") for e in gone]


def split_of(scene_id: str, fractions: Mapping[Split, float]) -> Split:
    """The split a scene falls into: its id hashed to [0, 1), against the cumulated fractions.

    A small change of the fractions moves only the scenes between the old and the new bounds.
    """
    place = int.from_bytes(hashlib.sha256(scene_id.encode()).digest()[:8], "big") / 2**64
    bound = 0.0
    for name in SPLITS:
        bound += fractions.get(name, 0.0)
        if place < bound:
            return name
    return next(name for name in reversed(SPLITS) if fractions.get(name, 0.0) > 0)


def _check_split(fractions: Mapping[Split, float]) -> None:
    unknown = sorted(set(fractions) - set(SPLITS))
    if unknown or any(value < 0 for value in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise InputError(
            f"the split is {dict(fractions)}",
            where="split",
            remedy=f"Give fractions of {', '.join(SPLITS)} that sum to 1.",
        )


# --- sources -------------------------------------------------------------------------------------------------------


def _read_source(source: str, options: dict[str, Any]) -> Iterator[_Row]:
    filesystem, path = _resolve(source, options)
    suffix = posixpath.splitext(path)[1].lower()
    if _is_folder(filesystem, path, source):
        return _read_folder(source, filesystem, path)
    folder = _Folder(filesystem, posixpath.dirname(path))
    kind = _kind_of(path)
    if kind is not None:
        return iter([_Row(source, {kind: posixpath.basename(path)}, folder)])
    reader = _READER_BY_SUFFIX.get(suffix)
    if reader is None:
        raise InputError(
            f"the suffix {suffix!r} is not one of {', '.join(_READER_BY_SUFFIX)}, a picture's, a video's or a folder",
            where=source,
            remedy="Rename or convert the source.",
        )
    return reader(source, _read_bytes(filesystem, path, source), folder)


def _kind_of(name: str) -> SceneKind | None:
    """Whether a file is taken for a picture or a video, by its name; None for neither."""
    suffix = posixpath.splitext(name)[1].lower()
    return "image" if suffix in PICTURE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def _resolve(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except (ValueError, ImportError) as error:
        raise InputError(str(error), where=url, remedy="Use a path or a URL that fsspec knows.") from error
    return filesystem, path


def _is_folder(filesystem: Any, path: str, source: str) -> bool:
    try:
        return filesystem.info(path)["type"] == "directory"
    except FileNotFoundError as error:
        raise InputError("there is no such file or folder", where=source, remedy="Check the source's path.") from error
    except OSError as error:
        raise _unreadable(source, error) from error


def _read_bytes(filesystem: Any, path: str, source: str) -> bytes:
    try:
        return filesystem.cat_file(path)
    except OSError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: str, error: Exception) -> InputError:
    return InputError(
        f"the source cannot be read ({error})", where=source, remedy="Check that it is whole and allowed."
    )


def _decode(source: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte {error.start} ({content[error.start]:#04x}) is not UTF-8",
            where=source,
            remedy="Save the file as UTF-8.",
        ) from error


def _read_prompts(source: str, content: bytes, folder: _Folder) -> Iterator[_Row]:
    for number, line in enumerate(_lines(_decode(source, content)), 1):
        if line.strip() and not line.startswith("#"):
            yield _Row(f"{source}#{number}", {"prompt": line}, folder)


def _lines(text: str) -> list[str]:
    """Lines by line feeds alone: `splitlines` would also cut at characters that occur inside prompts and JSON."""
    return [line.rstrip("\r") for line in text.split("\n")]


def _read_json_lines(source: str, content: bytes, folder: _Folder) -> Iterator[_Row]:
    for number, line in enumerate(_lines(_decode(source, content)), 1):
        where = f"{source}#{number}"
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            yield _Row(where, problem=(RowProblem.INVALID_ROW, f"the line is not JSON ({error})"))
            continue
        if not isinstance(values, dict):
            yield _Row(where, problem=(RowProblem.INVALID_ROW, "the line is not a JSON object"))
            continue
        _check_columns(where, values)
        yield _Row(where, values, folder)


def _read_csv(source: str, content: bytes, folder: _Folder) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(_decode(source, content), newline=""), strict=True)
    try:
        _check_table_columns(source, list(reader.fieldnames or ()))
        for values in reader:
            where = f"{source}#{reader.line_num}"
            surplus = values.pop(None, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
            if surplus:
                yield _Row(where, problem=(RowProblem.INVALID_ROW, f"{len(surplus)} values more than columns"))
            else:
                yield _Row(where, values, folder)
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num} is not CSV ({error})",
            where=source,
            remedy="Quote values that hold commas or quotes.",
        ) from error


def _read_parquet(source: str, content: bytes, folder: _Folder) -> Iterator[_Row]:
    try:
        table = parquet_table(content)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(source, error) from error
    _check_table_columns(source, table.column_names)
    for number, values in enumerate(table.to_pylist(), 1):
        yield _Row(f"{source}#{number}", values, folder)


_READER_BY_SUFFIX: Mapping[str, Callable[[str, bytes, _Folder], Iterator[_Row]]] = {
    ".txt": _read_prompts,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _check_table_columns(source: str, names: Sequence[str]) -> None:
    _check_columns(source, names)
    if len(set(names)) != len(names) or not {"prompt", "image", "video"} & set(names):
        raise InputError(
            f"the columns are {', '.join(names) or 'none'}",
            where=source,
            remedy="Each column comes once, and prompt, image or video must be there.",
        )


def _check_columns(where: str, names: Iterable[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"unknown columns {', '.join(map(repr, unknown))}",
            where=where,
            remedy=f"Known columns are {', '.join(COLUMNS)}.",
        )


def _read_folder(source: str, filesystem: Any, path: str) -> Iterator[_Row]:
    try:
        names = sorted(posixpath.relpath(name, path) for name in filesystem.find(path))
    except OSError as error:
        raise _unreadable(source, error) from error
    names = [name for name in names if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))]
    captions = {posixpath.splitext(name)[0]: name for name in names if name.lower().endswith(".txt")}
    kinds = {name: kind for name in names if (kind := _kind_of(name)) is not None}
    folder, base = _Folder(filesystem, path), source.rstrip("/")
    for name, kind in kinds.items():
        caption = captions.get(posixpath.splitext(name)[0])
        where = f"{base}/{name}"
        if caption is None:
            yield _Row(where, {kind: name}, folder)
            continue
        text = _read_bytes(filesystem, posixpath.join(path, caption), f"{base}/{caption}")
        yield _Row(where, {kind: name, "prompt": _decode(f"{base}/{caption}", text)}, folder)
    stems = {posixpath.splitext(name)[0] for name in kinds}
    for stem in sorted(set(captions) - stems):
        message = "no picture or video has this name"
        yield _Row(f"{base}/{captions[stem]}", problem=(RowProblem.CAPTION_WITHOUT_IMAGE, message))


# --- pictures and videos -------------------------------------------------------------------------------------------


def _known_materials(previous: pa.Table | None) -> dict[tuple[str, int, str], _Material]:
    known: dict[tuple[str, int, str], _Material] = {}
    for e in [] if previous is None else catalog_entries(previous):
        material = _material_of(e)
        if material is not None:
            known[material.url, material.size, material.version] = material
    return known


def _material_of(e: SceneEntry) -> _Material | None:
    """The picture or video of an entry, where it is known well enough not to be read again."""
    video = e.kind == "video"
    url, sha256 = (e.video_url, e.video_sha256) if video else (e.image_url, e.image_sha256)
    size, version = (e.video_bytes, e.video_version) if video else (e.image_bytes, e.image_version)
    if not (url and sha256 and size and version and e.width and e.height):
        return None
    fingerprint = e.perceptual_hash or ""
    return _Material(
        e.kind, url, sha256, size, version, e.width, e.height, fingerprint, e.video_frames, e.video_seconds
    )


@dataclass(frozen=True, slots=True)
class _MaterialReader:
    minimum_side: int
    maximum_pixels: int
    video_limits: VideoLimits
    sampling: VideoSampling
    options: dict[str, Any]
    known: Mapping[tuple[str, int, str], _Material]

    def read(self, row: _Row) -> _Material | _RowRefused | None:
        """The row's picture or video, why it cannot be used, or None where it names none."""
        image, video = row.values.get("image"), row.values.get("video")
        if row.problem is not None or not (image or video):
            return None
        if image and video:
            return _RowRefused(RowProblem.INVALID_ROW, "the row has both an image and a video; give each a row")
        kind, place = ("video", video) if video else ("image", image)
        if not isinstance(place, str) or row.folder is None:
            return _RowRefused(RowProblem.INVALID_ROW, f"{kind} is {place!r}; expected a path or URL")
        try:
            return self._read(kind, place, row.folder)
        except _RowRefused as refused:
            return refused

    def _read(self, kind: SceneKind, place: str, folder: _Folder) -> _Material:
        missing = RowProblem.MISSING_VIDEO if kind == "video" else RowProblem.MISSING_IMAGE
        filesystem, path = self._locate(place.strip(), folder, missing)
        url = filesystem.unstrip_protocol(path)
        try:
            information = filesystem.info(path)
            size, version = int(information["size"] or 0), _version(information)
            if kind == "video" and version:
                version = f"{version}; {self._taken}"
            found = self.known.get((url, size, version)) if version else None
            if found and found.kind == kind and self._within_limits(found):
                return found
            largest = _LARGEST_VIDEO if kind == "video" else _LARGEST_PICTURE
            if size > largest:
                message = f"the file has {size:,} bytes, the limit is {largest:,}"
                raise _RowRefused(RowProblem.FILE_TOO_LARGE, message, url)
            if kind == "video":
                with filesystem.open(path, "rb") as file:
                    return self._measure_video(file, url, size, version)
            return self._measure_picture(filesystem.cat_file(path), url, version)
        except OSError as error:
            name = "video" if kind == "video" else "picture"
            raise _RowRefused(missing, f"the {name} cannot be read ({error})", url) from error

    @property
    def _taken(self) -> str:
        """What is taken of videos: what the catalogue holds of one is true of that alone."""
        sampling = self.sampling
        return f"{sampling.frames} frames at {sampling.frames_per_second} a second from {float(sampling.start):g} s"

    def _within_limits(self, found: _Material) -> bool:
        if found.kind == "video":
            try:
                self.video_limits.check(
                    height=found.height,
                    width=found.width,
                    frames=found.frames or 0,
                    seconds=found.seconds or 0.0,
                    where=found.url,
                )
            except VideoRefused:
                return False
            return True
        smallest, pixels = min(found.width, found.height), found.width * found.height
        return smallest >= self.minimum_side and pixels <= self.maximum_pixels

    def _locate(self, place: str, folder: _Folder, missing: RowProblem) -> tuple[Any, str]:
        if "://" in place:
            try:
                return _resolve(place, self.options)
            except InputError as error:
                raise _RowRefused(missing, error.found, place) from error
        # Absolute paths only mean something on a local disk; `join` keeps them as they are.
        return folder.filesystem, posixpath.normpath(posixpath.join(folder.path, place.replace("\\", "/")))

    def _measure_picture(self, content: bytes, url: str, version: str) -> _Material:
        try:
            picture = decode_picture(
                content, where=url, minimum_side=self.minimum_side, maximum_pixels=self.maximum_pixels
            )
        except PictureRefused as refused:
            raise _RowRefused(refused.problem, refused.found, url) from refused
        height, width = picture.rgb.shape[:2]
        sha256, fingerprint = hashlib.sha256(content).hexdigest(), f"{perceptual_hash(picture.rgb):016x}"
        return _Material("image", url, sha256, len(content), version, width, height, fingerprint)

    def _measure_video(self, file: Any, url: str, size: int, version: str) -> _Material:
        sha256 = sha256_of(file)
        try:
            found = examine_video(file, self.video_limits, self.sampling, where=url)
        except VideoRefused as refused:
            raise _RowRefused(refused.problem, refused.found, url) from refused
        fingerprint = f"{perceptual_hash(found.first):016x}"
        return _Material(
            "video", url, sha256, size, version, found.width, found.height, fingerprint, found.frames, found.seconds
        )


def _version(information: Mapping[str, Any]) -> str:
    """What tells one version of a file from the next: an ETag, else a time of modification, else nothing."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified", "created"):
        if information.get(key):
            return str(information[key])
    return ""


# --- rows ----------------------------------------------------------------------------------------------------------


def _candidate(row: _Row, material: _Material | _RowRefused | None, split: Mapping[Split, float]) -> _Candidate:
    if row.problem is not None:
        raise _RowRefused(*row.problem)
    if isinstance(material, _RowRefused):
        raise material
    prompt = _prompt(row.values.get("prompt"))
    if prompt is None and material is None:
        raise _RowRefused(RowProblem.EMPTY, "the row has neither a prompt nor an image nor a video")
    kind: SceneKind = "prompt" if material is None else material.kind
    seed = _seed(row.values.get("seed"))
    digest = _content_digest(kind, prompt, material.sha256 if material else None, seed)
    name = prompt or posixpath.splitext(posixpath.basename(material.url if material else ""))[0]
    scene_id = _stated_id(row.values.get("id")) or f"{_slug(name)}-{digest[:8]}"
    entry = SceneEntry(
        scene_id=scene_id,
        kind=kind,
        prompt=prompt,
        image_url=None,
        image_sha256=None,
        image_bytes=None,
        image_version=None,
        width=None,
        height=None,
        perceptual_hash=None,
        seed=int(digest[-8:], 16) if seed is None else seed,
        split=_stated_split(row.values.get("split")) or split_of(scene_id, split),
        licence=_text(row.values.get("licence"), "licence"),
        tags=_tags(row.values.get("tags")),
        source=row.source,
        content_digest=digest,
    )
    if material is not None:
        entry = replace(entry, **material.columns())
    return _Candidate(entry, seed)


def _reject(row: _Row, refused: _RowRefused) -> Reject:
    prompt, scene_id = row.values.get("prompt"), row.values.get("id")
    return Reject(
        source=row.source,
        reason=refused.reason,
        message=refused.message,
        scene_id=scene_id if isinstance(scene_id, str) else None,
        prompt=prompt if isinstance(prompt, str) else None,
        **{"video_url" if row.values.get("video") else "image_url": refused.url},
    )


def _content_digest(kind: str, prompt: str | None, sha256: str | None, seed: int | None) -> str:
    content = json.dumps([kind, prompt, sha256, seed], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _text(value: object, name: str) -> str | None:
    """A value as text in Unicode NFC with single spaces; None where it is absent or blank."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _RowRefused(RowProblem.INVALID_ROW, f"{name} is {value!r}; expected text")
    return " ".join(unicodedata.normalize("NFC", value).split()) or None


def _prompt(value: object) -> str | None:
    prompt = _text(value, "prompt")
    try:
        (prompt or "").encode()
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair, which no file can hold.
        raise _RowRefused(RowProblem.INVALID_ROW, f"prompt is not Unicode text ({error.reason})") from error
    return prompt


def _seed(value: object) -> int | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = value.strip() if isinstance(value, str) else str(value)
    plain = isinstance(value, (int, str)) and not isinstance(value, bool) and text.isascii() and text.isdigit()
    if not plain or len(text) > 19 or int(text) > _LARGEST_SEED:
        raise _RowRefused(
            RowProblem.INVALID_SEED, f"seed is {value!r}; expected a whole number from 0 to {_LARGEST_SEED}"
        )
    return int(text)


def _stated_id(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _ID.fullmatch(value):
        expected = "3 to 63 of a-z, 0-9, _ and -, the first a letter or digit"
        raise _RowRefused(RowProblem.INVALID_ID, f"id is {value!r}; expected {expected}")
    return value


def _stated_split(value: object) -> Split | None:
    if value is None or value == "":
        return None
    for name in SPLITS:
        if value == name:
            return name
    raise _RowRefused(RowProblem.INVALID_SPLIT, f"split is {value!r}; expected {', '.join(SPLITS)}")


def _tags(value: object) -> list[str]:
    """Tags from a list, or from text with commas or semicolons between them; sorted, each once."""
    parts = re.split(r"[;,]", value) if isinstance(value, str) else value if value is not None else []
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _RowRefused(RowProblem.INVALID_ROW, f"tags is {value!r}; expected a list of words")
    return sorted({part.strip() for part in parts} - {""})


def _slug(text: str) -> str:
    """The first words in a-z, 0-9 and hyphens; "scene" where none are left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if len(words) > _SLUG_LENGTH:
        words = words[: _SLUG_LENGTH + 1].rsplit("-", 1)[0][:_SLUG_LENGTH]
    return words.strip("-") or "scene"


# --- repeats -------------------------------------------------------------------------------------------------------


def _drop_repeats(candidates: Mapping[int, _Candidate], perceptual_distance: int) -> dict[int, Reject]:
    """Rejects by row number: exact repeats first, then pictures and videos that look alike, then ids that are taken."""
    rejects: dict[int, Reject] = {}
    by_digest: dict[str, SceneEntry] = {}
    for number, candidate in candidates.items():
        first = by_digest.setdefault(candidate.entry.content_digest, candidate.entry)
        if first is not candidate.entry:
            message = f"the same content as {first.scene_id} ({first.source})"
            rejects[number] = _repeat(candidate.entry, RowProblem.EXACT_DUPLICATE, message, first)
    rejects |= _near_duplicates({n: c for n, c in candidates.items() if n not in rejects}, perceptual_distance)
    by_id: dict[str, SceneEntry] = {}
    for number, candidate in candidates.items():
        if number in rejects:
            continue
        entry = candidate.entry
        first = by_id.setdefault(entry.scene_id, entry)
        if first is not entry:
            message = f"the id {entry.scene_id} belongs to other content ({first.source}); give one of them another id"
            rejects[number] = _repeat(entry, RowProblem.ID_COLLISION, message, first)
    return rejects


def _near_duplicates(candidates: Mapping[int, _Candidate], distance: int) -> dict[int, Reject]:
    rejects: dict[int, Reject] = {}
    groups: dict[tuple[SceneKind, int | None], list[int]] = {}
    for number, candidate in candidates.items():
        if candidate.entry.perceptual_hash is not None:
            groups.setdefault((candidate.entry.kind, candidate.stated_seed), []).append(number)
    for numbers in groups.values():
        hashes = np.array([int(candidates[n].entry.perceptual_hash or "0", 16) for n in numbers], dtype=np.uint64)
        for index, first in enumerate(first_alike(hashes, distance)):
            if first == index:
                continue
            entry, other = candidates[numbers[index]].entry, candidates[numbers[first]].entry
            bits = int(np.bitwise_count(hashes[index] ^ hashes[first]))
            what = "first frame" if entry.kind == "video" else "picture"
            message = f"the {what} looks the same as that of {other.scene_id} ({bits} of 64 bits differ)"
            rejects[numbers[index]] = _repeat(entry, RowProblem.NEAR_DUPLICATE, message, other)
    return rejects


def _repeat(entry: SceneEntry, reason: RowProblem, message: str, first: SceneEntry) -> Reject:
    return Reject(
        source=entry.source,
        reason=reason,
        message=message,
        repeats=first.scene_id,
        scene_id=entry.scene_id,
        prompt=entry.prompt,
        image_url=entry.image_url,
        video_url=entry.video_url,
    )
