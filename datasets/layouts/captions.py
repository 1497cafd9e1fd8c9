"""Captions of scenes: their prompts, a table for those that have none, and one text for all the rest."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from .release import ReleaseRequest, ReleaseScene

CAPTION = "caption"
"""Option of the layouts that need captions: text for scenes that have none."""
CAPTION_HELP = "caption of scenes that have none"

_COLUMNS = ("scene_id", "caption")
_NAMED = 10


def read_captions(path: Path) -> dict[str, str]:
    """Caption by scene id, of a CSV file (UTF-8) with the columns `scene_id` and `caption`; others are passed over.

    Raises:
        InputError: no such file, it is no such table, or a scene has two captions or an empty one.
    """
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the captions cannot be read ({error})", where=where, remedy="Give a CSV file in UTF-8."
        ) from error
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        return _captions(rows, where)
    except csv.Error as error:
        place = f"{where}, line {rows.line_num}"
        raise InputError(f"the line is no CSV ({error})", where=place, remedy="Close every quote.") from error


def _captions(rows: csv.DictReader[str], where: str) -> dict[str, str]:
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise InputError(
            f"the first line names {', '.join(rows.fieldnames or ()) or 'nothing'}",
            where=where,
            remedy=f"It has to name the columns {' and '.join(_COLUMNS)}.",
        )
    captions: dict[str, str] = {}
    for row in rows:
        if None in row:
            raise InputError(
                "more cells than columns",
                where=f"{where}, line {rows.line_num}",
                remedy="Put captions that hold commas into double quotes.",
            )
        scene, caption = (_one_line(row[name] or "") for name in _COLUMNS)
        if not scene or not caption or scene in captions:
            raise InputError(
                f"{scene or 'a scene without id'} has {'two captions' if scene in captions else 'no caption'}",
                where=f"{where}, line {rows.line_num}",
                remedy="Give every scene one line with a caption, or leave it out.",
            )
        captions[scene] = caption
    return captions


def with_captions(
    scenes: Sequence[ReleaseScene], captions: Mapping[str, str], known: Collection[str], where: str
) -> list[ReleaseScene]:
    """The scenes with the captions of a table as their prompts, in place of what they had.

    Args:
        captions: by scene id; scenes of the collection that are not published may be among them.
        known: ids of all scenes of the collection.
        where: the table, for errors.

    Raises:
        InputError: the table names a scene that the collection does not have.
    """
    unknown = sorted(captions.keys() - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        raise InputError(
            f'{len(unknown)} captions are of unknown scenes, such as "{unknown[0]}"',
            where=where,
            remedy=f'Did you mean "{near[0]}"?' if near else "`sceneloom scenes list` shows the ids.",
        )
    return [replace(scene, prompt=captions.get(scene.scene_id, scene.prompt)) for scene in scenes]


def captions_of(scenes: Sequence[ReleaseScene], request: ReleaseRequest, layout: str) -> dict[str, str]:
    """Caption of every scene with clips, by its id, in one line of text: its prompt, else the option `caption`.

    Raises:
        InputError: scenes have neither.
    """
    captions = {
        scene.scene_id: _one_line(scene.prompt or "") or _one_line(request.options.get(CAPTION, ""))
        for scene in scenes
        if scene.clips
    }
    without = [scene_id for scene_id, caption in captions.items() if not caption]
    if without:
        named = ", ".join(without[:_NAMED]) + (f" and {len(without) - _NAMED} more" if len(without) > _NAMED else "")
        raise InputError(
            f"{len(without)} of {len(captions)} scenes have no caption: {named}",
            where=f"layout {layout}",
            remedy="Give --caption-file, a CSV with the columns scene_id and caption, or caption=TEXT for all of them.",
        )
    return captions


def _one_line(text: str) -> str:
    return " ".join(text.split())
