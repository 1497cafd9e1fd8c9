"""resources/scene_words.py: what is said of a procedural scene, and that the camera is said to do what it does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sceneloom.ops import trajectories
from sceneloom.ops.scene_lighting import MOODS
from sceneloom.resources.engines import ClipToCaption
from sceneloom.resources.scene_words import MOTIONS, SceneWords, scene_words

from .toy_stages import toy_scene


def unread(indices: Sequence[int]) -> np.ndarray:
    raise AssertionError("the stand-in looked at the clip")


def clip(trajectory: str = "left", notes: dict | None = None, prompt: str = "a  red room.") -> ClipToCaption:
    return ClipToCaption(toy_scene("room", prompt), notes or {}, trajectory, 17, unread)


def test_what_was_built_is_said_and_not_what_was_asked_for() -> None:
    notes = {
        "place": "living_room",
        "mood": "sunset",
        "objects": ["red sofa", "oak bookshelf", "oak bookshelf", "oak chair", "oak chair", "oak chair", "grey books"],
        "left_out": ["piano"],
    }
    [caption] = SceneWords().caption_clip(clip("zoom_in", notes, "a living room with a piano"))
    assert caption.text == (
        "A living room at sunset with a red sofa, two oak bookshelves, three oak chairs and grey books. "
        "The camera moves forwards."
    )
    assert (caption.frame_range, caption.seen, caption.tokens, caption.complete) == ((0, 17), (), None, True)


def test_the_prompt_is_said_where_nothing_was_built() -> None:
    [caption] = SceneWords().caption_clip(clip("my_path"))
    assert caption.text == "A red room. The camera follows the path my_path."


def test_of_a_scene_without_words_nothing_is_said() -> None:
    assert SceneWords().caption_clip(clip(prompt=" ")) == []


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (["orange bench"], "an orange bench"),
        (["bench", "bench"], "two benches"),
        (["box"] * 3, "three boxes"),
        (["wall glass"], "a wall glass"),
        (["plant"] * 12, "12 plants"),
    ],
)
def test_objects_are_counted(objects: list[str], expected: str) -> None:
    assert scene_words({"place": "attic", "objects": objects}) == f"an attic with {expected}"


@pytest.mark.parametrize("mood", MOODS)
def test_every_mood_has_its_words(mood: str) -> None:
    assert scene_words({"place": "den", "mood": mood, "objects": ["bed"]}) not in (
        f"a den {mood} with a bed",
        "a den with a bed",
    )


DIRECTIONS = {
    "to the left": (0, -1),
    "to the right": (0, 1),
    "upwards": (1, -1),
    "downwards": (1, 1),
    "backwards": (2, -1),
    "forwards": (2, 1),
}
"""Axis (x right, y down, z forward) and sign of a motion."""


@pytest.mark.parametrize("name", trajectories.names())
def test_the_camera_is_said_to_do_what_it_does(name: str) -> None:
    context = trajectories.TrajectoryContext(frames=33, centre_depth=2.0, radius=1.5, scene_scale=1.2)
    path = trajectories.build_path(name, context, seed=3).c2w.astype(np.float64)
    said = MOTIONS[name]
    moved = path[-1, :3, 3] - path[0, :3, 3]
    stays = np.allclose(path[:, :3, 3], path[0, :3, 3])
    words = next((words for words in DIRECTIONS if said == f"moves {words}"), None)
    if words is not None:
        axis, sign = DIRECTIONS[words]
        assert np.argmax(np.abs(moved)) == axis
        assert np.sign(moved[axis]) == sign
    elif "in place" in said or said == "does not move":
        assert stays
        assert np.allclose(path[-1], path[0]) == (said == "does not move" or "once" in said)
        forward = path[-1, :3, 2]
        for word, (axis, sign) in {"right": (0, 1), "left": (0, -1), "upwards": (1, -1), "downwards": (1, 1)}.items():
            if word in said and "once" not in said:
                assert np.sign(forward[axis]) == sign
                assert abs(forward[axis]) > 0.2
    else:
        assert "circles" in said or "loop" in said
        assert not stays
        if "circles" in said:
            (across, down), (next_across, next_down) = (
                np.diff(path[:-1, :2, 3], axis=0).T,
                np.diff(path[1:, :2, 3], axis=0).T,
            )
            # With y down, a turn with the hands of a clock is a positive one.
            assert ((across * next_down - down * next_across).sum() > 0) == (said == "circles clockwise")
