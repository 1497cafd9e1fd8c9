from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.datasets.errors import CorruptFileError, InputError
from sceneloom.datasets.layouts.manifest import (
    FORMAT,
    CommercialUse,
    ReleasedScene,
    ReleaseFile,
    ReleaseManifest,
    manifest_path,
    read_manifest,
    write_manifest,
)

_TEXT = st.text(max_size=12)
_TEXTS = st.lists(_TEXT, max_size=3).map(tuple)
_WORDS = st.dictionaries(_TEXT, _TEXT, max_size=3)
_SCENES = st.builds(
    ReleasedScene,
    content_key=_TEXT,
    split=_TEXT,
    seed=st.integers(0, 2**63),
    licence=st.none() | _TEXT,
    prompt=st.none() | _TEXT,
    engines=_WORDS,
    engine_licences=_WORDS,
    metric=st.none() | st.booleans(),
    latent_space=st.none() | _TEXT,
    clips=_TEXTS,
)
_MANIFESTS = st.builds(
    ReleaseManifest,
    layout=_TEXT,
    consumer=_TEXT,
    collection=_TEXT,
    release_key=_TEXT,
    fields=st.none() | _TEXTS,
    options=_WORDS,
    scenes=st.dictionaries(_TEXT, _SCENES, max_size=3),
    engine_licences=st.dictionaries(_TEXT, _TEXTS, max_size=2),
    commercial_use=st.builds(CommercialUse, st.booleans(), _TEXTS),
    attribution=_TEXTS,
    share_alike=_TEXTS,
    counts=st.dictionaries(_TEXT, st.integers(0, 10**9), max_size=2),
    notes=_TEXTS,
    stand_ins=_WORDS,
    scene_names=_WORDS,
    latent_spaces=_TEXTS,
    files=st.dictionaries(_TEXT, st.builds(ReleaseFile, st.integers(0, 2**40), _TEXT, st.none() | _TEXT), max_size=3),
)


@given(manifest=_MANIFESTS)
def test_round_trip(manifest: ReleaseManifest) -> None:
    text = json.dumps(manifest.to_json())
    assert ReleaseManifest.from_json(json.loads(text), where="test") == manifest


def a_manifest() -> ReleaseManifest:
    scene = ReleasedScene("k", "train", 1, None, "a room", {"video": "x"}, {"x": "MIT"}, True, "space", ("left",))
    return ReleaseManifest(
        layout="l",
        consumer="c",
        collection="demo",
        release_key="f" * 64,
        fields=None,
        options={},
        scenes={"b": scene, "a": scene},
        engine_licences={"x": ("MIT",)},
        commercial_use=CommercialUse(False, ("why",)),
        attribution=(),
        share_alike=(),
        counts={"clips": 2},
        notes=("größer",),
        stand_ins={},
        scene_names={"a": "1234567"},
        latent_spaces=("space",),
        files={"a.txt": ReleaseFile(1, "0" * 64, "a"), "b.txt": ReleaseFile(2, "1" * 64)},
    )


def test_it_lies_beside_the_directory_and_is_the_same_every_time(tmp_path: Path) -> None:
    destination = tmp_path / "release.v1"
    write_manifest(destination, a_manifest())
    assert manifest_path(destination) == tmp_path / "release.v1.release.json"
    first = manifest_path(destination).read_bytes()
    assert read_manifest(destination) == a_manifest()
    write_manifest(destination, read_manifest(destination))
    assert manifest_path(destination).read_bytes() == first
    content = json.loads(first)
    assert content["format"] == FORMAT
    assert list(content) == sorted(content)
    assert [path.name for path in tmp_path.iterdir()] == ["release.v1.release.json"]


def test_scenes_of_files(tmp_path: Path) -> None:
    assert a_manifest().scene_of() == {"a.txt": "a"}


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.release\.json: there is no manifest"):
        read_manifest(tmp_path / "x")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: b"[]",
        lambda text: b"\xff\xfe",
        lambda text: text.replace(b"sceneloom.release/2", b"sceneloom.release/9"),
        lambda text: text.replace(b'"counts"', b'"count"'),
        lambda text: text.replace(b'"sha256"', b'"sha1"'),
        lambda text: text.replace(b'"split"', b'"part"'),
        lambda text: json.dumps({**json.loads(text), "files": []}).encode(),
    ],
)
def test_damage_is_told(tmp_path: Path, damage: object) -> None:
    destination = tmp_path / "release"
    write_manifest(destination, a_manifest())
    file = manifest_path(destination)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(CorruptFileError, match=r"release\.json"):
        read_manifest(destination)
