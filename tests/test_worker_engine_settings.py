"""Settings of the engines that run as workers: what enters the content key, what is refused, what is described."""

from __future__ import annotations

from pathlib import Path
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
        device_memory="20 GB",
        **dict.fromkeys(PLACES.get(here.engine, {}), "/elsewhere"),  # type: ignore[attr-defined]
    )
    assert settings_in_key(here) == settings_in_key(elsewhere)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MogeSettings, {"version": "v1"}),
        (MogeSettings, {"focal": "view"}),
        (VggtSettings, {"minimum_confidence": 2.0}),
        (VggtModelSettings, {"frames_per_head_call": 4}),
        (Gen3cSettings, {"steps": 10}),
        (Gen3cSettings, {"codec_is_tokenizer": True}),
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


WITH_MODELS = [MogeSettings, TrellisLatentSettings, VggtModelSettings]


@pytest.mark.parametrize("kind", WITH_MODELS)
def test_a_model_is_a_hub_id_or_a_path_below_the_profiles_folder(kind: Any) -> None:
    for given, path in (
        ("owner/name", None),
        ("owner/name/folder/encoder", None),
        ("/models/a.pt", Path("/models/a.pt")),
        ("./a.pt", Path("/profiles/a.pt")),
        ("../models/a", Path("/models/a")),
        ("~/a", Path.home() / "a"),
    ):
        keys = {"environment": {"uv": True}, **PLACES.get(kind.model_fields["engine"].default, {}), "model": given}
        found = kind.model_validate(keys, context={"folder": "/profiles"})
        assert found.path == path
        assert found.model == (given if path is None else str(path))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"model": "model.pt"}, "neither a hub id nor a path"),
        ({"model": "models/vggt.pt"}, "neither a hub id nor a path"),
        ({"model": "/models/vggt", "revision": "main"}, "a revision of a path"),
        ({"weights_version": "of May"}, "weights_version for a hub id"),
    ],
)
def test_models_that_are_named_in_two_ways_or_none(change: dict[str, Any], found: str) -> None:
    with pytest.raises(ValidationError, match=found):
        settings(VggtModelSettings, **change)
