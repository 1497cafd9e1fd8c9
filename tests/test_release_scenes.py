from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneloom.assets import gaussian_shards
from sceneloom.assets.release_scenes import Selection, default_destination, release_scenes
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.datasets.errors import InputError
from sceneloom.resources.profiles import load_profile

from .tiny import (
    FRAMES,
    HEIGHT,
    TRAJECTORIES,
    WIDTH,
    copied_collection,
    made_collection,
    write_profile,
    write_sources,
)


def test_every_finished_scene_comes_with_its_clips_engines_and_licences() -> None:
    made = made_collection()
    scenes = release_scenes(made.runtime, "clips", Selection())

    assert [scene.scene_id for scene in scenes] == [scene.scene_id for scene in made.catalog.active()]
    for scene in scenes:
        assert tuple(scene.clips) == TRAJECTORIES
        assert scene.engines["video_latents"] == "raycast"
        assert "Apache-2.0" in scene.engine_licences["raycast"]
        assert scene.latent_space is not None
        for name, clip in scene.clips.items():
            assert (clip.scene_id, clip.trajectory) == (scene.scene_id, name)
            assert clip.depth().shape == (clip.frames, clip.height, clip.width) == (FRAMES, HEIGHT, WIDTH)
    assert len({scene.content_key for scene in scenes}) == len(scenes)


def test_objects_are_loaded_when_they_are_asked_for() -> None:
    made = made_collection()
    entry = made.scene()
    [scene] = release_scenes(made.runtime, "objects", Selection(scenes=(entry.scene_id,)))
    assert scene.clips == {}
    assert scene.objects is not None
    loaded = scene.objects()
    assert len(loaded.scene_number) == 7
    assert [item.instance_id for item in loaded.objects] == [row["instance_id"] for row in made.objects(entry)]
    assert loaded.picture.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(np.unique(loaded.instance_ids[loaded.objects[0].mask]), [loaded.objects[0].instance_id])


def test_a_release_takes_the_scenes_and_splits_it_is_told() -> None:
    made = made_collection()
    first = made.catalog.active()[0]
    assert [scene.scene_id for scene in release_scenes(made.runtime, "clips", Selection(scenes=(first.scene_id,)))] == [
        first.scene_id
    ]
    expected = [scene.scene_id for scene in made.catalog.active() if scene.split == first.split]
    chosen = release_scenes(made.runtime, "clips", Selection(splits=(first.split,)))
    assert [scene.scene_id for scene in chosen] == expected
    with pytest.raises(InputError, match="no active scene is in the split holdout"):
        release_scenes(made.runtime, "clips", Selection(splits=("holdout",)))
    with pytest.raises(InputError, match="1 of 1 scenes are unknown: nowhere"):
        release_scenes(made.runtime, "clips", Selection(scenes=("nowhere",)))


def test_a_scene_that_is_not_finished_is_left_out_or_refused_by_name(tmp_path: Path) -> None:
    made = copied_collection(tmp_path)
    open_scene = made.catalog.active()[0].scene_id
    made.runtime.store.set_aside_record(open_scene, gaussian_shards.NAME)
    assert open_scene not in {scene.scene_id for scene in release_scenes(made.runtime, "clips", Selection())}
    with pytest.raises(InputError, match=f"have nothing current from gaussian_shards: {open_scene}"):
        release_scenes(made.runtime, "clips", Selection(scenes=(open_scene,)))


def test_a_scene_that_shows_no_object_is_left_out_of_layouts_of_objects() -> None:
    # The picture of a corridor is a box without objects.
    made = made_collection()
    empty = [scene.scene_id for scene in made.catalog.active() if not made.objects(scene)]
    assert empty
    assert not set(empty) & {scene.scene_id for scene in release_scenes(made.runtime, "objects", Selection())}
    with pytest.raises(InputError, match=f"nothing current from scene_objects: {empty[0]}"):
        release_scenes(made.runtime, "objects", Selection(scenes=(empty[0],)))


def test_releases_go_beside_the_store_or_where_the_profile_says(tmp_path: Path) -> None:
    made = copied_collection(tmp_path)
    assert default_destination(made.runtime, "tum") == tmp_path / "store" / "tiny" / "releases" / "tum"
    told = copied_collection(tmp_path, releases={"folder": "published"})
    assert default_destination(told.runtime, "tum") == tmp_path / "published" / "tum"


@pytest.mark.parametrize("name", ["demo", "gen3r"])
def test_every_layout_may_go_where_the_profile_says(name: str) -> None:
    checkout = Path(__file__).resolve().parents[1]
    profile = load_profile(checkout / "configs" / f"{name}.yaml")
    place = default_destination(SceneRuntime(profile), "scenegen").relative_to(checkout)
    # SceneGen drops all dots from paths; Gen3R replaces "train" in all of them.
    assert "." not in str(place)
    assert "train" not in str(place)


def test_a_remote_store_needs_a_folder_for_releases(tmp_path: Path) -> None:
    file = write_profile(tmp_path, write_sources(tmp_path), store={"url": "memory://elsewhere"})
    with pytest.raises(InputError, match=r"Name a folder under `releases\.folder`"):
        default_destination(SceneRuntime(load_profile(file)), "tum")
