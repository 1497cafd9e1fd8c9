"""What a prompt says about a scene that can be built: place, objects, counts, colours, materials, light and size.

A small grammar of English nouns and the adjectives before them. It never fails: words it does not know are listed as
ignored, and whatever a prompt leaves open is left open here too, for the scene's seed to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .materials import PALETTE

MAXIMUM_OBJECTS = 10


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """Objects that a prompt names: family, how many, and what is said of their looks (None where nothing is)."""

    family: str
    count: int = 1
    colour: str | None = None
    material: str | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class SurfaceRequest:
    """What a prompt says of walls or floor."""

    colour: str | None = None
    material: str | None = None


@dataclass(frozen=True, slots=True)
class PromptReading:
    """A prompt as understood.

    Attributes:
        place: kind of place, None where the prompt names none.
        objects: in the prompt's order, at most `MAXIMUM_OBJECTS` in all.
        mood: kind of light, None where the prompt names none.
        room_scale: factor on the place's size.
        walls, floor, rug: what is said of them.
        excluded: families that the prompt says are absent.
        understood: the words that decided something.
        ignored: the words that did not.
    """

    place: str | None = None
    objects: tuple[ObjectRequest, ...] = ()
    mood: str | None = None
    room_scale: float = 1.0
    walls: SurfaceRequest = field(default_factory=SurfaceRequest)
    floor: SurfaceRequest = field(default_factory=SurfaceRequest)
    rug: SurfaceRequest | None = None
    excluded: tuple[str, ...] = ()
    understood: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


_PLACES = {
    "living_room": "living room, lounge, sitting room, parlour, parlor, loft, apartment, flat, den, lobby, salon",
    "bedroom": "bedroom, guest room, hotel room, nursery, dormitory",
    "kitchen": "kitchen, kitchenette, pantry, bakery",
    "study": "study, library, office, home office, reading room, classroom",
    "dining_room": "dining room, restaurant, cafe, café, bistro, tavern, pub",
    "workshop": "workshop, garage, studio, atelier, warehouse, shed, cellar, attic, basement",
    "gallery": "gallery, museum, exhibition, hall, foyer",
    "courtyard": "courtyard, patio, terrace, plaza, square, cloister, backyard, piazza, balcony, roof terrace",
    "garden": "garden, park, lawn, meadow, yard, orchard",
}

_FAMILIES = {
    "chair": "chair, dining chair, wooden chair, seat",
    "armchair": "armchair, easy chair, recliner, lounge chair, reading chair, wingback",
    "sofa": "sofa, couch, settee, loveseat",
    "stool": "stool, bar stool",
    "bench": "bench, garden bench",
    "pouf": "pouf, ottoman, footstool, hassock, beanbag",
    "bed": "bed, double bed, single bed",
    "table": "table, dining table, kitchen table, round table, garden table",
    "coffee_table": "coffee table, low table",
    "side_table": "side table, end table, bistro table",
    "desk": "desk, writing desk, writing table",
    "workbench": "workbench, work bench, work table",
    "cabinet": "cabinet, sideboard, dresser, chest of drawers, cupboard, buffet, commode, credenza",
    "nightstand": "nightstand, bedside table, night table",
    "wardrobe": "wardrobe, closet, armoire",
    "kitchen_counter": "counter, kitchen counter, worktop, sink, kitchen island, kitchen unit",
    "refrigerator": "refrigerator, fridge",
    "bookshelf": "bookshelf, bookcase, shelf, shelves, bookshelves, shelving",
    "fireplace": "fireplace, hearth, mantelpiece",
    "stove": "stove, oven, wood stove, wood burner, furnace",
    "piano": "piano, upright piano",
    "crate": "crate, box, wooden box, cardboard box",
    "chest": "chest, trunk, treasure chest",
    "basket": "basket, hamper",
    "floor_lamp": "floor lamp, standing lamp, lamp, lamppost",
    "table_lamp": "table lamp, desk lamp, bedside lamp, reading lamp, lantern",
    "vase": "vase, flower, bouquet, rose, tulip, jug, urn",
    "fruit_bowl": "fruit bowl, bowl of fruit, bowl, fruit, apple",
    "books": "book, pile of books, stack of books, magazine",
    "teapot": "teapot, tea pot, kettle, coffee pot",
    "bottles": "bottle, jar, wine bottle",
    "candles": "candle, candlestick, candelabra",
    "clock": "clock, mantel clock",
    "television": "television, tv, telly, screen, monitor, television set",
    "easel": "easel, canvas",
    "sculpture": "sculpture, statue, bust, plinth, pedestal",
    "globe": "globe",
    "toolbox": "toolbox, tool box, tool",
    "plant": "plant, houseplant, potted plant, house plant, fern, palm, monstera",
    "small_plant": "cactus, succulent, small plant, herb",
    "tree": "tree, olive tree, lemon tree, fruit tree",
    "shrub": "shrub, bush, topiary, hedge",
    "planter": "planter, flower box, flower bed, flowerbed",
    "fountain": "fountain, water fountain",
    "barrel": "barrel, cask, keg, rain barrel",
    "parasol": "parasol, umbrella, sunshade",
    "rocks": "rock, boulder",
}

_MOODS = {
    "day": "day, daylight, daytime, noon, midday, bright, sunny, sunlit, airy, sunshine, sunlight, summer, afternoon",
    "morning": "morning, dawn, sunrise, early light, breakfast, spring",
    "sunset": "sunset, dusk, golden hour, golden, evening sun, autumn, late afternoon, sundown",
    "overcast": "overcast, cloudy, rainy, grey light, foggy, misty, rain, snow, winter, soft light, gloomy",
    "night": "night, midnight, moonlight, moonlit, nighttime, starry",
    "lamplight": "lamp lit, lamplight, lamplit, candlelight, candlelit, firelight, evening, cosy, cozy, twilight",
}

_MATERIALS = {
    "wood": "wooden, wood, timber, rustic",
    "fabric": "fabric, cloth, linen, cotton, upholstered, woollen, tweed, checked, striped",
    "velvet": "velvet, plush",
    "leather": "leather",
    "metal": "metal, iron, steel, metallic, brass, wrought iron, chrome",
    "marble": "marble",
    "stone": "stone, granite",
    "brick": "brick",
    "ceramic": "ceramic, porcelain, clay, earthenware, glazed",
    "glass": "glass",
    "wicker": "wicker, rattan, woven",
    "painted": "painted, lacquered, plastic",
    "concrete": "concrete, cement",
    "tiles": "tiled, tile",
    "planks": "plank, floorboard, boarded",
    "parquet": "parquet, herringbone",
    "carpet": "carpeted",
    "grass": "grassy, grass",
    "gravel": "gravel",
    "flagstones": "flagstone, cobblestone, cobbled, paved",
    "plaster": "plaster, plastered, stucco",
    "wallpaper": "wallpaper, papered",
    "rusted metal": "rusty, rusted",
}

_COLOUR_WORDS = {
    "gray": "grey", "dark": "charcoal", "crimson": "red", "scarlet": "red", "maroon": "burgundy",
    "tan": "beige", "emerald": "green", "aqua": "turquoise", "violet": "purple", "golden": "gold", "amber": "mustard",
    "rose coloured": "pink", "light blue": "sky blue", "dark blue": "navy", "indigo": "navy", "lilac": "lavender",
    "oaken": "oak", "silvery": "silver", "mint": "sage", "coral": "terracotta", "cyan": "turquoise",
}  # fmt: skip

_SIZES = {
    "large": 1.15, "big": 1.15, "huge": 1.3, "spacious": 1.2, "grand": 1.2, "tall": 1.1, "wide": 1.1, "giant": 1.3,
    "small": 0.86, "tiny": 0.78, "little": 0.86, "compact": 0.86, "narrow": 0.9, "low": 0.95, "mini": 0.8,
}  # fmt: skip

_COUNTS = {
    "a": 1, "an": 1, "one": 1, "single": 1, "two": 2, "pair": 2, "couple": 2, "both": 2, "three": 3, "few": 3,
    "several": 3, "some": 2, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "many": 5,
    "dozen": 10,
}  # fmt: skip

_SURFACE_NOUNS = {
    "tiles": ("floor", "tiles"), "floor tiles": ("floor", "tiles"), "floorboards": ("floor", "planks"),
    "planks": ("floor", "planks"), "parquet floor": ("floor", "parquet"), "cobblestones": ("floor", "flagstones"),
    "flagstones": ("floor", "flagstones"), "cobbles": ("floor", "flagstones"), "paving stones": ("floor", "flagstones"),
    "bricks": ("walls", "brick"), "brickwork": ("walls", "brick"), "wall paper": ("walls", "wallpaper"),
}  # fmt: skip
"""Materials named as nouns, and the surface of a place that they cover."""

_SURFACES = {"walls": "wall, walls", "floor": "floor, floors, flooring, paving, ground", "rug": "rug, carpet, mat"}

_JOINING = frozenset(
    (
        *("of", "the", "in", "at", "on", "by", "with", "and", "to", "its", "this", "that", "is", "are", "there"),
        *("scene", "view", "photo", "picture"),
    )
)
_BREAKS = frozenset([",", ".", ";", ":"])
_UNCOUNTED_PLURALS = frozenset(["books", "vase", "fruit_bowl", "bottles", "candles", "rocks", "toolbox", "bookshelf"])


def read_prompt(prompt: str) -> PromptReading:
    """Reads a prompt in English; see `PromptReading` for what comes back. Case and punctuation do not matter."""
    reader = _Reader(_tokens(prompt))
    reader.run()
    return reader.reading()


class _Reader:
    """Walks over the words; adjectives wait until the noun that they describe."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._objects: list[ObjectRequest] = []
        self._places: list[str] = []
        self._moods: list[str] = []
        self._surfaces: dict[str, SurfaceRequest] = {}
        self._excluded: list[str] = []
        self._understood: list[str] = []
        self._ignored: list[str] = []
        self._room_scale = 1.0
        self._forget()

    def _forget(self) -> None:
        self._count: int | None = None
        self._colours: list[str] = []
        self._material: str | None = None
        self._scale = 1.0
        self._absent = False
        self._waiting: list[str] = []

    def run(self) -> None:
        position = 0
        while position < len(self._tokens):
            phrase, role, value = _longest_entry(self._tokens, position)
            position += max(1, phrase.count(" ") + 1)
            if role == "break":
                self._drop_waiting()
            elif role == "unknown":
                self._ignored.append(phrase)
            elif role != "joining":
                self._take(phrase, role, value)
        self._drop_waiting()

    def _take(self, phrase: str, role: str, value: object) -> None:
        self._waiting.append(phrase)
        if role == "count":
            self._count = int(str(value))
        elif role == "colour":
            self._colours.append(str(value))
        elif role == "material":
            self._material = str(value)
        elif role == "size":
            self._scale = float(str(value))
        elif role == "absent":
            self._absent = True
        elif role == "mood":
            self._moods.append(str(value))
            self._understood.append(self._waiting.pop())
        else:
            self._noun(role, str(value), plural=phrase.endswith("s"))

    def _noun(self, role: str, value: str, *, plural: bool) -> None:
        if role == "family":
            self._name_object(value, plural=plural)
        elif role == "place":
            self._places.append(value)
            self._room_scale *= self._scale
            if self._colours:
                self._surfaces.setdefault("walls", SurfaceRequest(self._colours[-1], self._material))
        elif not self._absent:
            surface, material = _SURFACE_NOUNS.get(value, (value, self._material))
            self._surfaces[surface] = SurfaceRequest(self._colours[-1] if self._colours else None, material)
        self._understood += self._waiting
        self._forget()

    def _name_object(self, family: str, *, plural: bool) -> None:
        if self._absent:
            self._excluded.append(family)
            return
        colours: list[str | None] = list(self._colours) or [None]
        implied = 2 if plural and family not in _UNCOUNTED_PLURALS else 1
        count = max(self._count or implied, len(colours) if self._count is None else 1)
        if family in _UNCOUNTED_PLURALS and plural:
            count = 1 if family in {"books", "bottles", "candles", "rocks"} else (self._count or 1)
        share, rest = divmod(count, len(colours))
        for index, colour in enumerate(colours):
            number = share + (index < rest)
            if number:
                self._objects.append(ObjectRequest(family, number, colour, self._material, self._scale))

    def _drop_waiting(self) -> None:
        """Adjectives that no noun followed decided nothing; articles are not worth a mention."""
        self._ignored += [word for word in self._waiting if word not in {"a", "an"}]
        self._forget()

    def reading(self) -> PromptReading:
        return PromptReading(
            place=self._places[0] if self._places else None,
            objects=_at_most(self._objects, MAXIMUM_OBJECTS),
            mood=self._moods[-1] if self._moods else None,
            room_scale=min(max(self._room_scale, 0.85), 1.3),
            walls=self._surfaces.get("walls", SurfaceRequest()),
            floor=self._surfaces.get("floor", SurfaceRequest()),
            rug=self._surfaces.get("rug"),
            excluded=tuple(self._excluded),
            understood=tuple(self._understood),
            ignored=tuple(self._ignored),
        )


def _at_most(requests: Iterable[ObjectRequest], limit: int) -> tuple[ObjectRequest, ...]:
    kept, left = [], limit
    for request in requests:
        count = min(request.count, left)
        if count:
            kept.append(ObjectRequest(request.family, count, request.colour, request.material, request.scale))
        left -= count
    return tuple(kept)


def _tokens(prompt: str) -> list[str]:
    text = prompt.lower().replace("-", " ").replace("_", " ").replace("’s", "").replace("'s", "")
    return re.findall(r"[^\W_]+|[,.;:]", text)


def _longest_entry(tokens: list[str], position: int) -> tuple[str, str, object]:
    """The longest known phrase (up to three words) that starts here, its role and its value."""
    for length in (3, 2, 1):
        phrase = " ".join(tokens[position : position + length])
        if phrase.count(" ") == length - 1 and phrase in _LEXICON:
            return phrase, *_LEXICON[phrase]
    word = tokens[position]
    if word in _BREAKS:
        return word, "break", None
    if word in _JOINING:
        return word, "joining", None
    if word.isdecimal() and 0 < int(word) <= 99:
        return word, "count", int(word)
    return word, "unknown", None


def _with_plural(phrase: str) -> tuple[str, ...]:
    """The phrase and its English plurals ("box" boxes, "shelf" shelves, "study" studies)."""
    if phrase.endswith("f"):
        return phrase, phrase[:-1] + "ves", phrase + "s"
    if phrase.endswith(("x", "ch", "sh", "ss")):
        return phrase, phrase + "es"
    if phrase.endswith("y") and phrase[-2] not in "aeiou":
        return phrase, phrase[:-1] + "ies"
    if " of " in phrase:
        head, tail = phrase.split(" of ", 1)
        return phrase, f"{head}s of {tail}"
    return phrase, phrase + "s"


def _build_lexicon() -> dict[str, tuple[str, object]]:
    lexicon: dict[str, tuple[str, object]] = {}
    for role, table in (("place", _PLACES), ("family", _FAMILIES), ("material", _MATERIALS), ("mood", _MOODS)):
        for value, phrases in table.items():
            for phrase in phrases.split(", "):
                for form in _with_plural(phrase) if role in {"family", "place"} else (phrase,):
                    lexicon.setdefault(form, (role, value))
    for value, phrases in _SURFACES.items():
        for phrase in phrases.split(", "):
            lexicon[phrase] = ("surface", value)
    for phrase in _SURFACE_NOUNS:
        lexicon[phrase] = ("surface", phrase)
    for name in PALETTE:
        lexicon.setdefault(name, ("colour", name))
    for word, name in _COLOUR_WORDS.items():
        lexicon.setdefault(word, ("colour", name))
    for role, numbers in (("size", _SIZES), ("count", _COUNTS)):
        for word, value in numbers.items():
            lexicon.setdefault(word, (role, value))
    for word in ("no", "without"):
        lexicon[word] = ("absent", True)
    return lexicon


_LEXICON = _build_lexicon()
