"""datasets/layouts/captions.py: a table of captions, and which caption a scene has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.captions import (
    caption_at,
    caption_notes,
    caption_stand_ins,
    captions_of,
    read_captions,
    with_captions,
)
from sceneloom.datasets.layouts.release import CaptionWindow, ReleaseRequest

from .release_scenes import make_scene


def table(folder: Path, text: str) -> Path:
    path = folder / "captions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def scene(name: str, prompt: str | None = None, trajectories: tuple[str, ...] = ("left",)):
    return make_scene(name, prompt=prompt, trajectories=trajectories, frames=2, height=8, width=8)


def test_a_table_is_read_whatever_else_it_holds(tmp_path: Path) -> None:
    text = '﻿score,caption,scene_id\n0.5,"a room, with a\nred chair",hall\n,  a   den ,den\n'
    assert read_captions(table(tmp_path, text)) == {"hall": "a room, with a red chair", "den": "a den"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene,text\nhall,a hall\n", "the first line names scene, text"),
        ("", "the first line names nothing"),
        ("scene_id,caption\nhall,a hall\nhall,a hall\n", "line 3: hall has two captions"),
        ("scene_id,caption\nhall,\n", "line 2: hall has no caption"),
        ("scene_id,caption\nhall\n", "line 2: hall has no caption"),
        ("scene_id,caption\n,a hall\n", "line 2: a scene without id has no caption"),
    ],
)
def test_what_is_no_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_captions(table(tmp_path, text))


def test_a_missing_file_and_one_in_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_captions(tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes("scene_id,caption\nhall,größer\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_captions(tmp_path / "latin.csv")


def test_captions_take_the_place_of_prompts() -> None:
    scenes = [scene("hall"), scene("den", "a den"), scene("attic", "an attic")]
    given_captions = {"hall": "a hall", "den": "a small den", "unpublished": "more"}
    captioned = with_captions(scenes, given_captions, ["hall", "den", "attic", "unpublished"], "captions.csv")
    assert [each.prompt for each in captioned] == ["a hall", "a small den", "an attic"]


def test_a_caption_of_no_scene_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match='such as "hal"') as caught:
        with_captions([scene("hall")], {"hal": "a hall"}, ["hall"], "captions.csv")
    assert 'Did you mean "hall"?' in caught.value.remedy


def test_every_scene_without_caption_is_named() -> None:
    scenes = [scene("hall"), scene("den", "a den"), scene("attic", " \n"), scene("view", trajectories=())]
    with pytest.raises(InputError, match="2 of 3 scenes have no caption: hall, attic") as caught:
        captions_of(scenes, ReleaseRequest(Path("/set")), "lyra2")
    assert "--caption-file" in caught.value.remedy
    many = [scene(f"room-{index:02d}") for index in range(13)]
    with pytest.raises(InputError, match=r"13 of 13 .*room-09 and 3 more"):
        captions_of(many, ReleaseRequest(Path("/set")), "lyra2")


@given(st.text())
def test_a_caption_is_one_line_and_prompts_come_before_the_option(prompt: str) -> None:
    found = captions_of([scene("hall", prompt)], ReleaseRequest(Path("/set"), options={"caption": "a  hall"}), "lyra2")
    assert found == {("hall", "left"): (CaptionWindow(0, 2, " ".join(prompt.split()) or "a hall"),)}


def test_a_clips_own_windows_come_first() -> None:
    own = (CaptionWindow(0, 1, "a hall. The camera moves."), CaptionWindow(1, 2, "a door"))
    hall = replace(scene("hall", "a hall", ("left", "right")), captions={"left": own}, captioned_by="vlm")
    silent = replace(scene("den"), captions={"left": own}, captioned_by="scene_words", captions_stand_in=True)
    found = captions_of([hall, silent], ReleaseRequest(Path("/set")), "lyra2")
    assert found["hall", "left"] == found["den", "left"] == own
    assert found["hall", "right"] == (CaptionWindow(0, 2, "a hall"),)
    assert "scene_words" in caption_stand_ins([hall, silent])["captions"]
    assert caption_stand_ins([hall]) == {}
    written, scenes_own = caption_notes([hall, silent])
    assert "scene_words, vlm" in written
    assert "where no engine wrote any" in scenes_own
    assert caption_notes([silent]) == ("captions of clips were written by the engine scene_words, window by window",)


def test_the_window_that_has_begun_last_holds_at_a_frame() -> None:
    windows = [CaptionWindow(0, 80, "one"), CaptionWindow(60, 140, "two"), CaptionWindow(120, 200, "three")]
    assert [caption_at(windows, frame) for frame in (0, 59, 60, 119, 120, 500)] == ["one", "one", "two", "two"] + [
        "three"
    ] * 2
    assert caption_at([CaptionWindow(8, 9, "late")], 0) == "late"
