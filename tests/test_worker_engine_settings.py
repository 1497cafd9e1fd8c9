"""Settings of the engines that run as workers: what enters the content key, what is refused, what is described."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sceneloom.resources.engines import settings_in_key
from sceneloom.resources.worker_engine_settings import (
    Gen3cSettings,
    MogeSettings,
    TrellisLatentSettings,
    VggtModelSettings,
    VggtSettings,
)
from sceneloom.resources.worker_settings import WorkerSettings, worker_file

PLACES = {"gen3c": {"source": "/opt/Lyra-1", "checkpoints": "/models"}, "trellis_ss": {"source": "/opt/TRELLIS"}}
KINDS = [Gen3cSettings, MogeSettings, TrellisLatentSettings, VggtModelSettings, VggtSettings]


def settings(kind: type[WorkerSettings], **changes: Any) -> WorkerSettings:
    name = kind.model_fields["engine"].default
    return kind.model_validate({"environment": {"uv": True}, **PLACES.get(name, {}), **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_worker_runs_does_not_enter_the_key(kind: type[WorkerSettings]) -> None:
    here = settings(kind)
    elsewhere = settings(
        kind,
        environment={"container": "image"},
        device="cuda:1",
        scratch="/fast",
        variables={"HF_HOME": "/models"},
        clip_timeout="1 h",
        **dict.fromkeys(PLACES.get(here.engine, {}), "/elsewhere"),  # type: ignore[attr-defined]
    )
    assert settings_in_key(here) == settings_in_key(elsewhere)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MogeSettings, {"model": "other/model"}),
        (MogeSettings, {"revision": "abc"}),
        (MogeSettings, {"focal": "view"}),
        (VggtSettings, {"minimum_confidence": 2.0}),
        (VggtModelSettings, {"model": "other/model"}),
        (Gen3cSettings, {"steps": 10}),
        (Gen3cSettings, {"codec_is_tokenizer": True}),
        (TrellisLatentSettings, {"model": "other/model/encoder"}),
    ],
)
def test_what_a_model_makes_enters_it(kind: type[WorkerSettings], change: dict[str, Any]) -> None:
    assert settings_in_key(settings(kind)) != settings_in_key(settings(kind, **change))


@pytest.mark.parametrize("kind", KINDS)
def test_every_worker_has_its_file_and_every_key_a_description(kind: type[WorkerSettings]) -> None:
    assert worker_file(kind.model_fields["engine"].default).is_file()
    described = {name: field.description for name, field in kind.model_fields.items() if name != "engine"}
    assert all(described.values()), described


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MogeSettings, {"version": "v3"}),
        (MogeSettings, {"resolution_level": 10}),
        (MogeSettings, {"unknown": 1}),
        (VggtSettings, {"minimum_confidence": 0.5}),
        (Gen3cSettings, {"unknown_depth": "guessed"}),
    ],
)
def test_values_that_no_model_takes(kind: type[WorkerSettings], change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(kind, **change)
