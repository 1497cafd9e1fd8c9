"""assets/release_publication.py: what assets and commands share in publishing and repairing."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from sceneloom.assets.clip_captions import read_captions
from sceneloom.assets.release_publication import Publication, publish_release, repair_release
from sceneloom.assets.release_scenes import Selection
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.manifest import read_manifest
from sceneloom.datasets.layouts.publishing import examine, scenes_to_repair
from sceneloom.datasets.layouts.registry import LAYOUTS, require_layout
from sceneloom.datasets.object_table import number_scenes
from sceneloom.resources.profiles import load_profile

from .tiny import made_collection, write_profile, write_sources

CAPTIONS = "framepack-caption-qwen3-chunk-80-overlap-0"


def caption_file(folder: Path, captions: Mapping[str, str]) -> Path:
    path = folder / "captions.csv"
    path.write_text("".join(f"{scene},{caption}\n" for scene, caption in {"scene_id": "caption", **captions}.items()))
    return path


def test_every_layout_of_the_registry_is_published_or_says_what_it_needs(tmp_path: Path) -> None:
    made = made_collection()
    options = {"midi": {"size": "32"}}
    refused, findings = {}, {}
    for name in LAYOUTS:
        asked = Publication(require_layout(name), out=tmp_path / name, options=options.get(name, {}))
        try:
            manifest, directory = publish_release(made.runtime, asked)
        except InputError as error:
            refused[name] = error.found
            continue
        assert (manifest.layout, directory) == (name, tmp_path / name)
        findings[name] = [found.message for found in examine(directory, LAYOUTS)]
    # Two trajectories of nine frames are too few for these.
    assert refused.keys() == {"lyra_static", "lyra_dynamic", "gen3r", "gen3r_inference"}
    assert "trajectories" in refused["lyra_static"]
    assert refused["gen3r"] == "9 frames, Gen3R trains on 49"
    [told] = findings.pop("scenegen")
    assert "no scene has exactly 4 objects" in told
    assert not any(findings.values()), findings


def published_captions(directory: Path) -> dict[str, str]:
    files = sorted((directory / CAPTIONS).glob("*-left.pkl"))
    return {file.stem.removesuffix("-left"): pickle.loads(file.read_bytes())[0]["caption"] for file in files}


def test_a_table_of_captions_decides_and_repair_needs_it_no_more(tmp_path: Path) -> None:
    made = made_collection()
    prompt, picture = made.scene(), made.scene("image")
    table = caption_file(tmp_path, {picture.scene_id: "a hall seen by night"})
    asked = Publication(
        require_layout("lyra2"),
        out=tmp_path / "set",
        selection=Selection(scenes=(prompt.scene_id, picture.scene_id)),
        caption_file=table,
    )
    manifest, directory = publish_release(made.runtime, asked)
    # The table's scene has the table's words; the other one's clips have their own captions.
    own = read_captions(made.inputs(prompt))["left"][0].text
    assert published_captions(directory) == {prompt.scene_id: own, picture.scene_id: "a hall seen by night"}
    words = {prompt.scene_id: prompt.prompt, picture.scene_id: "a hall seen by night"}
    assert {name: scene.prompt for name, scene in manifest.scenes.items()} == words
    engines = {name: scene.engines.get("clip_captions") for name, scene in manifest.scenes.items()}
    assert engines == {prompt.scene_id: "scene_words", picture.scene_id: None}

    # Other captions make another release, which never takes the place of this one.
    caption_file(tmp_path, {picture.scene_id: "a hall at noon"})
    with pytest.raises(InputError, match="is there already"):
        publish_release(made.runtime, asked)

    table.unlink()
    damaged = directory / CAPTIONS / f"{picture.scene_id}-left.pkl"
    content = damaged.read_bytes()
    damaged.unlink()
    findings = examine(directory, LAYOUTS)
    assert scenes_to_repair(findings) == [picture.scene_id]
    assert repair_release(made.runtime, directory, findings) == [picture.scene_id]
    assert damaged.read_bytes() == content
    assert examine(directory, LAYOUTS) == []


def test_a_caption_of_an_unknown_scene_is_refused(tmp_path: Path) -> None:
    asked = Publication(require_layout("tum"), tmp_path / "set", caption_file=caption_file(tmp_path, {"hal": "a hall"}))
    with pytest.raises(InputError, match="unknown scenes"):
        publish_release(made_collection().runtime, asked)
    assert not (tmp_path / "set").exists()


def test_scene_numbers_are_told_in_the_manifest(tmp_path: Path) -> None:
    made = made_collection()
    _, directory = publish_release(made.runtime, Publication(require_layout("scenegen"), out=tmp_path / "set"))
    manifest = read_manifest(directory)
    numbers = number_scenes(manifest.scenes, "tiny")
    assert manifest.scene_names == numbers
    folders = {folder.name for part in directory.glob("masked_images*") for folder in part.iterdir()}
    assert folders == set(numbers.values())


def test_a_release_of_another_collection_is_not_repaired(tmp_path: Path) -> None:
    _, directory = publish_release(made_collection().runtime, Publication(require_layout("tum"), out=tmp_path / "set"))
    collection = {"name": "other", "sources": ["prompts.txt", "images"]}
    profile = load_profile(write_profile(tmp_path, write_sources(tmp_path), collection=collection))
    with pytest.raises(InputError, match="of the collection tiny, the profile of other"):
        repair_release(SceneRuntime(profile), directory, [])
