from __future__ import annotations

import base64
from pathlib import Path

import dagster as dg
import pytest

from sceneloom.assets.event_metadata import PREVIEW_NAME, stage_metadata
from sceneloom.assets.scene_pipeline import StageEvent
from sceneloom.assets.stage import Made, StageContext
from sceneloom.resources.profiles import Profile

from .toy_stages import run, toy_pipeline, toy_profile, toy_scene, toy_stages, toy_store

PREVIEW = b"RIFF....WEBP"


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return toy_profile(tmp_path)


def make_with_preview(context: StageContext) -> Made:
    (context.scratch / PREVIEW_NAME).write_bytes(PREVIEW)
    return Made(metrics={"clips": 6, "clearance": 0.25}, metadata={"places": ["room"]})


def made_event(profile: Profile) -> StageEvent:
    _, events = run(toy_pipeline(profile, toy_stages(makes={"words": make_with_preview})), toy_scene(), ["words"])
    return events[0]


def test_the_asset_page_shows_numbers_files_and_preview(profile: Profile) -> None:
    event = made_event(profile)
    assert event.record is not None

    metadata = stage_metadata(toy_store(profile), event)

    assert metadata["outcome"].value == "made"
    assert metadata["engine"].value == "toy"
    assert metadata["licence"].value == "CC0-1.0"
    assert metadata["files"].value == 1
    assert metadata["bytes"].value == len(PREVIEW)
    assert isinstance(metadata["clips"], dg.IntMetadataValue)
    assert isinstance(metadata["clearance"], dg.FloatMetadataValue)
    assert metadata["details"].value == {"places": ["room"]}
    assert Path(str(metadata["dagster/uri"].value), PREVIEW_NAME).read_bytes() == PREVIEW
    encoded = str(metadata["preview"].value).removeprefix("![preview](data:image/webp;base64,").removesuffix(")")
    assert base64.b64decode(encoded) == PREVIEW


def test_a_stage_without_preview_or_metadata_shows_none(profile: Profile) -> None:
    _, events = run(toy_pipeline(profile, toy_stages()), toy_scene(), ["words"])
    assert stage_metadata(toy_store(profile), events[0]).keys().isdisjoint({"preview", "details"})


def test_a_corrupt_preview_is_said_so_and_stops_nothing(profile: Profile) -> None:
    event = made_event(profile)
    assert event.record is not None
    Path(toy_store(profile).file_url(event.record, PREVIEW_NAME)).write_bytes(b"x" * len(PREVIEW))

    metadata = stage_metadata(toy_store(profile), event)

    assert f"red-room/words/{PREVIEW_NAME}: the file's SHA-256" in str(metadata["preview"].value)
