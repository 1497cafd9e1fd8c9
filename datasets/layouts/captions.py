"""Captions of scenes: their prompts, a table for those that have none, and one text for all the rest."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from .release import CaptionWindow, ReleaseRequest, ReleaseScene

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


def captions_of(
    scenes: Sequence[ReleaseScene], request: ReleaseRequest, layout: str
) -> dict[tuple[str, str], tuple[CaptionWindow, ...]]:
    """Captions of every clip, by scene id and trajectory, each in one line of text.

    They are the clip's own windows; of a clip without any, one for all its frames: the scene's prompt, else the option
    `caption`.

    Raises:
        InputError: scenes have none of these.
    """
    captions: dict[tuple[str, str], tuple[CaptionWindow, ...]] = {}
    without: list[str] = []
    for scene in scenes:
        words = _one_line(scene.prompt or "") or _one_line(request.options.get(CAPTION, ""))
        for trajectory, clip in scene.clips.items():
            own = scene.captions.get(trajectory)
            captions[scene.scene_id, trajectory] = own or (CaptionWindow(0, clip.frames, words),)
            if not own and not words and scene.scene_id not in without:
                without.append(scene.scene_id)
    if without:
        named = ", ".join(without[:_NAMED]) + (f" and {len(without) - _NAMED} more" if len(without) > _NAMED else "")
        count = len({scene_id for scene_id, _ in captions})
        raise InputError(
            f"{len(without)} of {count} scenes have no caption: {named}",
            where=f"layout {layout}",
            remedy="Give --caption-file, a CSV with the columns scene_id and caption, or caption=TEXT for all of them.",
        )
    return captions


def caption_at(windows: Sequence[CaptionWindow], frame: int) -> str:
    """The text that holds at a frame: of the last window that has begun by then, or of the first one."""
    begun = [window for window in windows if window.start <= frame]
    return (begun[-1] if begun else windows[0]).text


def caption_notes(scenes: Sequence[ReleaseScene]) -> tuple[str, ...]:
    """Where the captions of a release come from, for its notes."""
    by = sorted({scene.captioned_by for scene in scenes if scene.captions})
    notes = [f"captions of clips were written by the engine {', '.join(by)}, window by window"] if by else []
    if any(clip not in scene.captions for scene in scenes for clip in scene.clips):
        notes.append(
            "captions are the scenes' own, the same for all their clips" + (", where no engine wrote any" if by else "")
        )
    return tuple(notes)


def caption_stand_ins(scenes: Sequence[ReleaseScene]) -> dict[str, str]:
    """What a release says of captions that no model wrote from the clips; empty where there are none."""
    by = sorted({scene.captioned_by for scene in scenes if scene.captions and scene.captions_stand_in})
    if not by:
        return {}
    return {"captions": f"a vision-language model: {', '.join(by)} composed them without looking at the clips"}


def _one_line(text: str) -> str:
    return " ".join(text.split())
