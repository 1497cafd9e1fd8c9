from __future__ import annotations

import pytest

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.registry import LAYOUTS, require_layout

PUBLISHED = {
    "lyra_static",
    "lyra_dynamic",
    "lyra2",
    "gen3r",
    "gen3r_inference",
    "scenegen",
    "midi",
    "vipe",
    "nerfstudio",
    "colmap",
    "realestate10k",
    "tum",
    "webdataset",
    "hugging_face",
}


def test_every_layout_is_there_under_its_own_name() -> None:
    assert set(LAYOUTS) == PUBLISHED
    assert all(layout.name == name and layout.fields and layout.description for name, layout in LAYOUTS.items())


def test_layouts_of_objects_are_made_from_objects() -> None:
    assert {name for name, layout in LAYOUTS.items() if layout.needs == "objects"} == {"scenegen", "midi"}


def test_a_misspelt_layout_is_answered_with_the_nearest() -> None:
    assert require_layout("lyra2") is LAYOUTS["lyra2"]
    with pytest.raises(InputError, match='Did you mean "scenegen"'):
        require_layout("scene_gen")
