"""The catalogue of scenes as tables: one row a scene, one row a reject, with declared schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from .errors import ContractError

SceneKind = Literal["prompt", "image", "video"]
Split = Literal["train", "validation", "test"]
SceneStatus = Literal["active", "retired"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SceneEntry:
    """One scene of a collection: what it is made from, and where that came from.

    Attributes:
        scene_id: unique in the collection, `[a-z0-9][a-z0-9_-]{2,62}`.
        kind: "prompt" for a scene made from words, "image" or "video" for one made from a picture or a video (with or
            without words).
        prompt: the words, in Unicode NFC with single spaces; None for a picture or video without caption.
        image_url: fsspec URL of the picture; None for other kinds, as are the next three.
        image_sha256: SHA-256 of the picture's bytes, 64 hex digits.
        image_bytes: the picture file's size, bytes.
        image_version: what the file system tells of the file's version (ETag or modification time); with the URL and
            the size it tells whether the picture has to be read again.
        width, height: size of the upright picture, or of the video's upright frames, pixels; None for kind "prompt".
        perceptual_hash: 64-bit fingerprint of the picture or of the first frame that is taken of the video, 16 hex
            digits; None for kind "prompt".
        seed: for every random draw of the scene, 0 ≤ seed < 2**63.
        split: "train", "validation" or "test".
        licence: of the prompt, picture or video, as the source states it.
        tags: free words from the source.
        source: where the row was read: the source and its line or file.
        content_digest: SHA-256 of what the scene is made from; equal digests are the same scene.
        status: "active", or "retired" once no source holds it any more.
        video_url, video_sha256, video_bytes, video_version: of the video what the `image_…` are of a picture, the
            version with what is taken of the video; None for other kinds, as are the next two.
        video_frames: how many frames the video has.
        video_seconds: from its first frame to the end of its last.
    """

    scene_id: str
    kind: SceneKind
    prompt: str | None
    image_url: str | None
    image_sha256: str | None
    image_bytes: int | None
    image_version: str | None
    width: int | None
    height: int | None
    perceptual_hash: str | None
    seed: int
    split: Split
    licence: str | None
    tags: list[str]
    source: str
    content_digest: str
    status: SceneStatus = "active"
    video_url: str | None = None
    video_sha256: str | None = None
    video_bytes: int | None = None
    video_version: str | None = None
    video_frames: int | None = None
    video_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """One row, picture or video of a source that gives no scene, and why.

    Attributes:
        source: where it was read: the source and its line or file.
        reason: one word from a fixed list ("empty", "exact_duplicate", "too_small", …).
        message: what was found, for people.
        repeats: id of the scene that it repeats or collides with.
        scene_id: the id it would have had, where one was known.
        prompt, image_url, video_url: what it held.
    """

    source: str
    reason: str
    message: str
    repeats: str | None = None
    scene_id: str | None = None
    prompt: str | None = None
    image_url: str | None = None
    video_url: str | None = None


def _text(name: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=nullable)


_FIELDS_OF_1 = [
    _text("scene_id"),
    _text("kind"),
    _text("prompt", nullable=True),
    _text("image_url", nullable=True),
    _text("image_sha256", nullable=True),
    pa.field("image_bytes", pa.int64()),
    _text("image_version", nullable=True),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    _text("perceptual_hash", nullable=True),
    pa.field("seed", pa.int64(), nullable=False),
    _text("split"),
    _text("licence", nullable=True),
    pa.field("tags", pa.list_(pa.string()), nullable=False),
    _text("source"),
    _text("content_digest"),
    _text("status"),
]

SCENE_CATALOG = pa.schema(
    [
        *_FIELDS_OF_1,
        _text("video_url", nullable=True),
        _text("video_sha256", nullable=True),
        pa.field("video_bytes", pa.int64()),
        _text("video_version", nullable=True),
        pa.field("video_frames", pa.int32()),
        pa.field("video_seconds", pa.float64()),
    ],
    metadata={"format": "sceneloom.scene_catalog/2"},
)
"""Schema of the table `scene_catalog`; columns as the attributes of `SceneEntry`."""

SCENE_CATALOG_1 = pa.schema(_FIELDS_OF_1, metadata={"format": "sceneloom.scene_catalog/1"})
"""The same before there were videos: a store that holds such a table keeps its scenes."""

SCENE_REJECTS = pa.schema(
    [
        _text("source"),
        _text("reason"),
        _text("message"),
        _text("repeats", nullable=True),
        _text("scene_id", nullable=True),
        _text("prompt", nullable=True),
        _text("image_url", nullable=True),
        _text("video_url", nullable=True),
    ],
    metadata={"format": "sceneloom.scene_rejects/2"},
)
"""Schema of the table `scene_rejects`; columns as the attributes of `Reject`."""


def catalog_table(entries: Iterable[SceneEntry]) -> pa.Table:
    """The entries as a table of schema `SCENE_CATALOG`, in their order."""
    return _table(map(asdict, entries), SCENE_CATALOG)


def rejects_table(rejects: Iterable[Reject]) -> pa.Table:
    """The rejects as a table of schema `SCENE_REJECTS`, in their order."""
    return _table(map(asdict, rejects), SCENE_REJECTS)


def catalog_entries(table: pa.Table) -> list[SceneEntry]:
    """The rows of a `SCENE_CATALOG` or `SCENE_CATALOG_1` table as entries.

    Raises:
        ContractError: the table's columns are not the schema's.
    """
    if not table.schema.equals(SCENE_CATALOG_1, check_metadata=False):
        _require_schema(table, SCENE_CATALOG, "scene_catalog")
    return [SceneEntry(**row) for row in table.to_pylist()]


def rejects(table: pa.Table) -> list[Reject]:
    """The rows of a `SCENE_REJECTS` table.

    Raises:
        ContractError: the table's columns are not the schema's.
    """
    _require_schema(table, SCENE_REJECTS, "scene_rejects")
    return [Reject(**row) for row in table.to_pylist()]


def _table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


def _require_schema(table: pa.Table, schema: pa.Schema, name: str) -> None:
    if not table.schema.equals(schema, check_metadata=False):
        raise ContractError(
            f"the columns are {_columns(table.schema)}; expected {_columns(schema)}",
            where=name,
            remedy="The table was written by another version of sceneloom: make it again.",
        )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{item.name}: {item.type}{'' if item.nullable else ' not null'}" for item in schema)
