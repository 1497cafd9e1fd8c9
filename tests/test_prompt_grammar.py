"""What prompts mean, and that nothing is lost: every word is understood, joining or ignored."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.ops.furniture import FAMILIES
from sceneloom.ops.materials import RECIPES
from sceneloom.ops.place_catalog import PLACES
from sceneloom.ops.prompt_grammar import MAXIMUM_OBJECTS, ObjectRequest, SurfaceRequest, read_prompt
from sceneloom.ops.scene_lighting import MOODS


@pytest.mark.parametrize(
    ("prompt", "place", "mood"),
    [
        ("A cozy living room", "living_room", "lamplight"),
        ("bedroom at sunset", "bedroom", "sunset"),
        ("A bright KITCHEN!", "kitchen", "day"),
        ("an old library by night", "study", "night"),
        ("courtyard on a rainy day, overcast", "courtyard", "overcast"),
        ("two benches in a garden at dawn", "garden", "morning"),
        ("a dining-room by candlelight", "dining_room", "lamplight"),
        ("something else", None, None),
    ],
)
def test_places_and_moods(prompt: str, place: str | None, mood: str | None) -> None:
    reading = read_prompt(prompt)
    assert (reading.place, reading.mood) == (place, mood)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("two red chairs", [ObjectRequest("chair", 2, "red")]),
        ("a large green velvet sofa", [ObjectRequest("sofa", 1, "green", "velvet", 1.15)]),
        ("3 wooden stools and a marble coffee table", [
            ObjectRequest("stool", 3, None, "wood"), ObjectRequest("coffee_table", 1, None, "marble")]),
        ("a pair of armchairs", [ObjectRequest("armchair", 2)]),
        ("lamps", [ObjectRequest("floor_lamp", 2)]),
        ("a table lamp on a table", [ObjectRequest("table_lamp"), ObjectRequest("table")]),
        ("red and blue chairs", [ObjectRequest("chair", 1, "red"), ObjectRequest("chair", 1, "blue")]),
        ("a bowl of fruit, a stack of books", [ObjectRequest("fruit_bowl"), ObjectRequest("books")]),
        ("bookshelves", [ObjectRequest("bookshelf")]),
        ("a gray couch", [ObjectRequest("sofa", 1, "grey")]),
        ("forty chairs", [ObjectRequest("chair", 2)]),
    ],
)  # fmt: skip
def test_objects(prompt: str, expected: list[ObjectRequest]) -> None:
    assert list(read_prompt(prompt).objects) == expected


def test_surfaces_sizes_and_absences() -> None:
    reading = read_prompt("a small study with sage walls, a parquet floor and a navy rug, without plants")
    assert reading.walls == SurfaceRequest("sage", None)
    assert reading.floor == SurfaceRequest(None, "parquet")
    assert reading.rug == SurfaceRequest("navy", None)
    assert reading.excluded == ("plant",)
    assert reading.room_scale < 1.0
    assert not reading.objects
    assert read_prompt("terrace with terracotta tiles").floor == SurfaceRequest("terracotta", "tiles")


def test_what_was_not_understood_is_told() -> None:
    reading = read_prompt("a serene kitchen with a purple dragon")
    assert reading.ignored == ("serene", "dragon", "purple")
    assert "kitchen" in reading.understood


def test_counts_are_kept_up_to_the_limit() -> None:
    assert sum(request.count for request in read_prompt("eight chairs, six stools").objects) == MAXIMUM_OBJECTS
    assert read_prompt("twenty chairs").objects[0].count <= MAXIMUM_OBJECTS
    assert read_prompt("99 chairs").objects[0].count == MAXIMUM_OBJECTS


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    reading = read_prompt(text)
    assert reading == read_prompt(text.upper()) or text.upper().lower() != text.lower()
    assert sum(request.count for request in reading.objects) <= MAXIMUM_OBJECTS


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.sampled_from(
            [
                "red",
                "two",
                "wooden",
                "chair",
                "sofa",
                "lamp",
                "kitchen",
                "night",
                "no",
                "floor",
                "and",
                ",",
                "large",
                "xyz",
            ]
        ),
        max_size=9,
    )
)
def test_every_word_is_accounted_for(words: list[str]) -> None:
    reading = read_prompt(" ".join(words))
    told = set(" ".join((*reading.understood, *reading.ignored)).split())
    assert set(words) - {"and", ","} <= told


def test_the_vocabulary_is_what_can_be_built() -> None:
    from sceneloom.ops import prompt_grammar

    for role, known in (("family", FAMILIES), ("place", PLACES), ("mood", MOODS), ("material", RECIPES)):
        values = {value for entry, value in prompt_grammar._LEXICON.values() if entry == role}
        assert values <= set(known)
    assert {value for role, value in prompt_grammar._LEXICON.values() if role == "family"} == set(FAMILIES)
