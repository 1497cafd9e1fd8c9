from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.layouts.hugging_face import LAYOUT
from sceneloom.datasets.layouts.hugging_face_card import CardFacts, dataset_card, header_licences, licence_page
from sceneloom.datasets.layouts.publishing import publish
from sceneloom.datasets.licences import combined

from .release_scenes import latent_space, make_scene


def facts(
    inputs: Mapping[str | None, int],
    engines: Mapping[str, tuple[str, ...]] | None = None,
    *,
    clips: Mapping[str, int] | None = None,
    metric: tuple[bool, ...] = (True,),
    space: LatentSpace | None = None,
    moving: int = 0,
) -> CardFacts:
    """Facts of a dataset whose sources come under these licences."""
    engines = engines or {}
    sources = [(f"scene {number}", licence) for number, licence in enumerate(inputs)]
    made = [(f"engine {engine}", licence) for engine, found in engines.items() for licence in found]
    clips = clips or {"train": 6}
    return CardFacts(
        name="rooms: 2",
        citation=None,
        options={},
        clips=clips,
        scenes=dict.fromkeys(clips, 1),
        prompts=1,
        moving=moving,
        trajectories=("left",),
        sizes=((9, 32, 48),),
        metric=metric,
        fields=("rgb", "latents"),
        example={"rgb": "clips/a/left.mp4", "latents": "clips/a/left.latents.npy"},
        engines=(("video_latents", "raycast"),),
        engine_licences=engines,
        input_licences=inputs,
        latent_spaces={} if space is None else {space.id: space},
        verdict=combined([*sources, *made]),
    )


def header(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize(
    ("inputs", "engines", "expected"),
    [
        ({"CC0-1.0": 2}, {"x": ("Apache-2.0",)}, {"license": "cc0-1.0"}),
        ({"CC0-1.0": 1, "CC-BY-SA-4.0": 1}, {}, {"license": ["cc-by-sa-4.0", "cc0-1.0"]}),
        ({"ODbL-1.0": 1}, {}, {"license": "odbl"}),
        ({"MIT": 1}, {"x": ("AGPL-3.0",)}, {"license": ["agpl-3.0", "mit"]}),
        ({"MIT": 1}, {"x": ("CC-BY-NC-4.0",)}, {"license": ["cc-by-nc-4.0", "mit"]}),
        (
            {None: 1},
            {},
            {"license": "other", "license_name": "no licence stated", "license_link": "LICENSE.md"},
        ),
        (
            {"MIT": 1},
            {"x": ("FLUX.1-dev",)},
            {
                "license": "other",
                "license_name": "FLUX.1-dev Non-Commercial License and MIT",
                "license_link": "LICENSE.md",
            },
        ),
    ],
)
def test_the_header_names_every_licence_that_binds(
    inputs: dict[str | None, int], engines: dict[str, tuple[str, ...]], expected: dict[str, object]
) -> None:
    found = header(dataset_card(facts(inputs, engines)))
    assert {name: value for name, value in found.items() if name.startswith("license")} == expected


def test_the_weights_of_the_latents_bind_too() -> None:
    space = dataclasses.replace(latent_space(9), licence="CC-BY-NC-4.0")
    assert header_licences(facts({"MIT": 1}, space=space)) == ["CC-BY-NC-4.0", "MIT"]


@pytest.mark.parametrize(
    ("count", "size"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (354_186, "100K<n<1M"), (2_000_000, "1M<n<10M")]
)
def test_size_categories(count: int, size: str) -> None:
    assert header(dataset_card(facts({"MIT": 1}, clips={"train": count})))["size_categories"] == [size]


def test_names_are_quoted_and_splits_listed() -> None:
    found = header(dataset_card(facts({"MIT": 1}, clips={"test": 1, "train": 2})))
    assert found["pretty_name"] == "rooms: 2"
    assert [entry["split"] for entry in found["configs"][0]["data_files"]] == ["test", "train"]


def test_scenes_that_move_are_counted() -> None:
    assert "Objects move in 2 of them" in dataset_card(facts({"MIT": 3}, moving=2))
    assert "Objects move" not in dataset_card(facts({"MIT": 3}))


def test_lengths_of_no_known_unit_are_said() -> None:
    assert "* lengths: metres\n" in dataset_card(facts({"MIT": 1}))
    assert "else of no known unit" in dataset_card(facts({"MIT": 1}, metric=(False, True)))


def test_the_licence_page_tells_what_is_owed_and_forbidden() -> None:
    page = licence_page(facts({"CC-BY-4.0": 3, None: 1}, {"flux": ("FLUX.1-dev",), "x": ("GPL-3.0",)}))
    for line in (
        "| CC-BY-4.0 | 3 |",
        "| none stated | 1 |",
        "| engine flux | FLUX.1-dev |",
        "* engine flux: FLUX.1-dev Non-Commercial License forbids commercial use",
        "* scene 1: no licence is stated",
        "* scene 0: CC-BY-4.0",
        "## Passed on to what is made of it\n\n* GPL-3.0",
    ):
        assert line in page
    assert "Allowed by all of them." in licence_page(facts({"MIT": 1}))


def test_licences_of_scenes_reach_the_card(tmp_path: Path) -> None:
    first = make_scene("room-a", trajectories=("left",))
    mixed = [
        dataclasses.replace(first, licence="CC-BY-4.0", engine_licences={"raycast": "FLUX.1-dev"}),
        make_scene("room-b", trajectories=("left",), split="test", seed=2),
    ]
    out = tmp_path / "out"
    publish(LAYOUT, mixed, out, collection="toy", fields=frozenset({"cameras"}))
    card = (out / "README.md").read_text()
    assert header(card)["license_name"] == "CC-BY-4.0 and CC0-1.0 and FLUX.1-dev Non-Commercial License"
    assert "Not for commercial use:" in card
    assert "scene room-a: CC-BY-4.0" in (out / "LICENSE.md").read_text()
