"""The catalogue as a collection's two tables: refreshed, retired, never emptied by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneloom.assets.catalog import CATALOG_TABLE, REJECTS_TABLE, read_catalog, refresh_catalog
from sceneloom.datasets.catalog import SCENE_CATALOG, SCENE_REJECTS, rejects
from sceneloom.datasets.errors import CorruptFileError, InputError
from sceneloom.datasets.parquet import read_parquet
from sceneloom.resources.profiles import Profile, load_profile
from sceneloom.resources.store import SceneStore

from .moving_videos import write_moving_square
from .tiny import PROMPTS, write_profile, write_sources


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return load_profile(write_profile(tmp_path, write_sources(tmp_path)))


@pytest.fixture
def store(profile: Profile) -> SceneStore:
    return SceneStore(profile.store.url, profile.collection.name)


def test_a_refresh_writes_both_tables_and_says_what_is_new(profile: Profile, store: SceneStore) -> None:
    refresh = refresh_catalog(profile, store)
    assert len(refresh.added) == len(refresh.catalog.entries) == len(PROMPTS) + 1
    assert refresh.retired == refresh.rejects == ()
    assert read_catalog(store).entries == refresh.catalog.entries
    assert read_parquet(store.table_url(CATALOG_TABLE), SCENE_CATALOG).num_rows == len(PROMPTS) + 1
    assert read_parquet(store.table_url(REJECTS_TABLE), SCENE_REJECTS).num_rows == 0


def test_nothing_is_new_the_second_time(profile: Profile, store: SceneStore) -> None:
    first = refresh_catalog(profile, store)
    second = refresh_catalog(profile, store)
    assert (second.added, second.retired) == ((), ())
    assert second.catalog.entries == first.catalog.entries


def test_a_removed_input_retires_its_scene_and_its_return_brings_it_back(
    profile: Profile, store: SceneStore, tmp_path: Path
) -> None:
    everything = refresh_catalog(profile, store).catalog
    write_sources(tmp_path, PROMPTS[:1])
    less = refresh_catalog(profile, store)
    (gone,) = less.retired
    assert everything.entries[gone].prompt == PROMPTS[1]
    assert less.catalog.entries[gone].status == "retired"
    assert gone not in [scene.scene_id for scene in less.catalog.active()]
    assert refresh_catalog(profile, store).retired == (), "retired once"

    write_sources(tmp_path)
    back = refresh_catalog(profile, store)
    assert back.added == ()
    assert back.catalog.entries[gone] == everything.entries[gone]


def test_rejects_are_listed_with_their_reason(profile: Profile, store: SceneStore, tmp_path: Path) -> None:
    write_sources(tmp_path, [*PROMPTS, PROMPTS[0]])
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no picture")
    refresh = refresh_catalog(profile, store)
    listed = rejects(read_parquet(store.table_url(REJECTS_TABLE), SCENE_REJECTS))
    assert [str(reject.reason) for reject in listed] == [str(reject.reason) for reject in refresh.rejects]
    assert {str(reject.reason) for reject in listed} == {"exact_duplicate", "unreadable"}


def test_videos_that_the_engines_cannot_show_are_rejects(profile: Profile, store: SceneStore, tmp_path: Path) -> None:
    write_moving_square(tmp_path / "images" / "corridor.mov", frames=12, height=144, width=160)
    refresh = refresh_catalog(profile, store)
    assert {scene.kind for scene in refresh.catalog.active()} == {"prompt", "image"}
    [reject] = rejects(read_parquet(store.table_url(REJECTS_TABLE), SCENE_REJECTS))
    assert refresh.rejects == (reject,)
    assert (reject.reason, Path(reject.video_url or "").name) == ("still_engine", "corridor.mov")
    assert "the engine raycast would show their first frame standing still" in reject.message


def test_an_empty_collection_is_refused_and_the_catalogue_stays(
    profile: Profile, store: SceneStore, tmp_path: Path
) -> None:
    before = refresh_catalog(profile, store).catalog
    (tmp_path / "prompts.txt").write_text("# nothing\n")
    (tmp_path / "images" / "corridor.jpg").write_bytes(b"no picture")
    (tmp_path / "images" / "corridor.txt").unlink()
    with pytest.raises(
        InputError, match=r"no scene in .*prompts.txt, .*images \(1 rejects, .*Add prompts, pictures or videos"
    ):
        refresh_catalog(profile, store)
    assert read_catalog(store).entries == before.entries


def test_a_source_that_does_not_exist_is_named(profile: Profile, store: SceneStore, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").unlink()
    with pytest.raises(InputError, match=r"prompts\.txt"):
        refresh_catalog(profile, store)


def test_a_collection_without_a_catalogue_says_how_to_make_one(store: SceneStore) -> None:
    with pytest.raises(InputError, match=r"has no catalogue yet.*Materialize scene_catalog, or run `sceneloom make`"):
        read_catalog(store)


def test_unknown_scenes_are_named(profile: Profile, store: SceneStore) -> None:
    catalog = refresh_catalog(profile, store).catalog
    known = next(iter(catalog.entries))
    assert [scene.scene_id for scene in catalog.require([known])] == [known]
    with pytest.raises(InputError, match="1 of 2 scenes are unknown: no-such-scene"):
        catalog.require([known, "no-such-scene"])


def test_a_damaged_catalogue_is_not_taken_for_an_absent_one(profile: Profile, store: SceneStore) -> None:
    refresh_catalog(profile, store)
    path = Path(store.table_url(CATALOG_TABLE))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptFileError, match="scene_catalog"):
        refresh_catalog(profile, store)
