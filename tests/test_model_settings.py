"""What a profile may say of a model, and what is refused with a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sceneloom.resources.model_settings import ModelSettings


def settings(**values: Any) -> ModelSettings:
    return ModelSettings.model_validate(values, context={"folder": Path("/profiles")})


def refusal_of(**values: Any) -> tuple[str, str]:
    """(what was found, remedy) of the one refusal."""
    with pytest.raises(ValidationError) as raised:
        settings(**values)
    [error] = raised.value.errors()
    return error["msg"], error.get("ctx", {}).get("remedy", "")


def test_a_hub_id_and_a_folder_each_stand_for_weights() -> None:
    assert settings(id="owner/name", revision="v1").weights == "owner/name"
    assert settings(path="weights/flux").weights == "/profiles/weights/flux"


def test_defaults_need_nothing_that_may_be_missing() -> None:
    chosen = settings(id="owner/name")
    assert (chosen.device, chosen.precision, chosen.offload, chosen.quantisation) == ("cpu", "bfloat16", "none", "none")
    assert (chosen.compile, chosen.vae_tiling, chosen.vae_slicing) == (False, False, False)
    assert chosen.attention is None
    assert chosen.device_memory is None


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, "neither id nor path is given"),
        ({"id": "owner/name", "path": "weights"}, "both id and path are given"),
        ({"path": "weights", "revision": "main"}, "a revision without an id"),
    ],
)
def test_weights_come_from_one_place(values: dict[str, str], found: str) -> None:
    message, remedy = refusal_of(**values)
    assert message == found
    assert remedy


@pytest.mark.parametrize(
    "values",
    [
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"precision": "float8"},
        {"offload": "disk"},
        {"quantisation": "gptq"},
        {"device_memory": 0},
        {"device_memory": "-1 GB"},
        {"compile": "yes"},
        {"tiling": True},
    ],
    ids=str,
)
def test_what_no_engine_understands_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(id="owner/name", **values)


def test_memory_is_given_with_a_unit() -> None:
    assert settings(id="owner/name", device_memory="24 GiB").device_memory == pytest.approx(25.769803776)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        settings(id="owner/name").device = "cuda"  # type: ignore[misc]
