"""What a person sees of one stage of one scene on its asset page, and of what went wrong in a run."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator

import dagster as dg

from ..datasets.errors import CorruptFileError, SceneloomError
from ..resources.records import Record
from ..resources.store import SceneStore
from .scene_pipeline import StageEvent

PREVIEW_NAME = "preview.webp"
"""A file of this name in a stage's output is shown inline; stages keep it below 40 kB."""


def stage_metadata(store: SceneStore, event: StageEvent) -> dict[str, dg.MetadataValue]:
    """Metadata of a materialization: the preview inline, numbers that plot over scenes, where the files are."""
    record = event.record
    assert record is not None
    preview = _preview(store, record)
    metadata: dict[str, dg.MetadataValue] = {
        **({"preview": dg.MetadataValue.md(preview)} if preview is not None else {}),
        "outcome": dg.MetadataValue.text(event.outcome),
        "engine": dg.MetadataValue.text(record.engine),
        "licence": dg.MetadataValue.text(record.licence),
        "seconds": dg.MetadataValue.float(round(record.seconds, 3)),
        "bytes": dg.MetadataValue.int(record.bytes),
        "files": dg.MetadataValue.int(len(record.files)),
        "dagster/uri": dg.MetadataValue.text(store.file_url(record, "")),
    }
    for name, value in record.metrics.items():
        metadata[name] = dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(value)
    if record.metadata:
        metadata["details"] = dg.MetadataValue.json(record.metadata)
    return metadata


@contextlib.contextmanager
def plain_failures() -> Iterator[None]:
    """Let an error of ours fail the step with its own message (found, where, remedy), not with a stack of Dagster's."""
    try:
        yield
    except SceneloomError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _preview(store: SceneStore, record: Record) -> str | None:
    if not any(file.path == PREVIEW_NAME for file in record.files):
        return None
    try:
        content = store.fetch(record, PREVIEW_NAME).read_bytes()
    except CorruptFileError as error:
        # Said on the page, not raised: a picture for people must not stop the other scenes of the batch.
        return str(error)
    return f"![preview](data:image/webp;base64,{base64.b64encode(content).decode()})"
