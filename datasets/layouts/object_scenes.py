"""Choosing scenes and objects for the layouts that describe objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import InputError
from .release import TEST, TRAIN, VALIDATION, ReleaseObject, ReleaseObjects, ReleaseScene

_ORDER = (TRAIN, VALIDATION, TEST)


def scenes_with_objects(scenes: Sequence[ReleaseScene]) -> Iterator[tuple[ReleaseScene, ReleaseObjects]]:
    """The scenes whose views see objects, one at a time: training scenes, then those of validation, then of test.

    Raises:
        InputError: no scene has any, or two scenes have the same number.
    """
    numbers: dict[str, str] = {}
    for scene in sorted(scenes, key=lambda scene: _ORDER.index(scene.split)):
        loaded = scene.objects() if scene.objects is not None else None
        if loaded is None or not loaded.objects:
            continue
        if loaded.scene_number in numbers:
            raise InputError(
                f"scenes {numbers[loaded.scene_number]} and {scene.scene_id} both have the number "
                f"{loaded.scene_number}",
                where="scenes",
                remedy="Publish scenes of one collection at a time, or make the table scenegen_metadata again.",
            )
        numbers[loaded.scene_number] = scene.scene_id
        yield scene, loaded
    if not numbers:
        raise InputError(
            f"none of the {len(scenes)} scenes has an object in its conditioning view",
            where="scenes",
            remedy="Publish scenes made from prompts, with the stage scene_objects made: pictures have no objects.",
        )


def largest_objects(objects: Sequence[ReleaseObject], limit: int) -> list[ReleaseObject]:
    """At most `limit` objects, those with the most visible pixels, in their former order."""
    by_size = sorted(range(len(objects)), key=lambda index: -objects[index].visible_pixels)
    return [objects[index] for index in sorted(by_size[:limit])]
