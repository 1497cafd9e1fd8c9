"""Engine `scene_words`: captions of clips composed from what is known of the scene, without looking at them.

A stand-in for a vision-language model: it needs no weights, and says what a procedural scene was built with (or else
the scene's prompt) and how the camera was sent through it. What is not in these words it cannot know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .clip_captions import ClipCaption
from .engines import ClipToCaption, EngineContract

MOTIONS: Mapping[str, str] = {
    "left": "moves to the left",
    "right": "moves to the right",
    "up": "moves upwards",
    "down": "moves downwards",
    "zoom_out": "moves backwards",
    "zoom_in": "moves forwards",
    "clockwise": "circles clockwise",
    "counterclockwise": "circles counterclockwise",
    "gen3r_zoom_in": "moves forwards",
    "gen3r_zoom_out": "moves backwards",
    "gen3r_arc_right": "turns to the right in place",
    "gen3r_arc_left": "turns to the left in place",
    "gen3r_translate_up": "tilts upwards in place",
    "gen3r_translate_down": "tilts downwards in place",
    "gen3r_free": "does not move",
    "vistadream_spiral": "moves in a loop and looks down",
    "vistadream_wobble": "moves in a loop and looks up",
    "vistadream_rot": "turns right once in place",
    "left_reversed": "moves to the right",
    "right_reversed": "moves to the left",
    "up_reversed": "moves downwards",
    "zoom_out_reversed": "moves forwards",
    "zoom_in_reversed": "moves backwards",
    "clockwise_reversed": "circles counterclockwise",
}
"""What the camera does on each built-in trajectory."""

_MOODS: Mapping[str, str] = {
    "day": "by day",
    "morning": "in the morning",
    "sunset": "at sunset",
    "overcast": "under an overcast sky",
    "night": "at night",
    "lamplight": "by lamplight",
}
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class SceneWords:
    """One caption for the whole of each clip; none for a scene of which no words are known."""

    contract: EngineContract = EngineContract(
        "scene_words", "embedded", frozenset({"prompt", "view"}), frozenset({"captions"}), "Apache-2.0"
    )
    is_stand_in = True

    def caption_clip(self, clip: ClipToCaption) -> list[ClipCaption]:
        """The scene's words and the camera's motion."""
        words = scene_words(clip.scene_notes) or " ".join((clip.scene.prompt or "").split())
        if not words:
            return []
        motion = MOTIONS.get(clip.trajectory, f"follows the path {clip.trajectory}")
        text = f"{words[:1].upper()}{words[1:].rstrip('.')}. The camera {motion}."
        return [ClipCaption((0, clip.frames), text, (), None, True)]


def scene_words(notes: Mapping[str, Any]) -> str:
    """What a procedural scene was built with, in one phrase; empty for other scenes.

    Args:
        notes: of the conditioning view.
    """
    place, objects = notes.get("place"), notes.get("objects")
    if not place or not objects:
        return ""
    words = [_a(str(place).replace("_", " "))]
    mood = notes.get("mood")
    if mood:
        words.append(_MOODS.get(mood, str(mood)))
    return f"{' '.join(words)} with {_listed([_counted(name, count) for name, count in Counter(objects).items()])}"


def _counted(name: str, count: int) -> str:
    if count == 1:
        return name if name.endswith("s") and not name.endswith("ss") else _a(name)
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"{number} {_plural(name)}"


def _a(name: str) -> str:
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def _plural(name: str) -> str:
    if name.endswith("shelf"):
        return f"{name[:-1]}ves"
    if name.endswith(("ch", "sh", "x", "ss")):
        return f"{name}es"
    return name if name.endswith("s") else f"{name}s"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
