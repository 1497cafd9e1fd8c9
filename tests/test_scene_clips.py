"""Clips from an index: filters that say what they left, fields as the shard has them, any process, any file system."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from torch.utils.data import DataLoader

from sceneloom.datasets.errors import CorruptFileError, InputError
from sceneloom.datasets.layouts.release import ReleaseClip
from sceneloom.datasets.open_shards import OpenShards
from sceneloom.datasets.picture_runs import MINIMUM_PSNR
from sceneloom.datasets.resumable_sampler import ResumableSampler
from sceneloom.datasets.scene_clips import FIELDS, SceneClips, shard_url

from .clip_collections import clip_arrays, damage_shard, write_collection

TRAJECTORIES = ("left", "zoom_in")
CHANGES: list[dict[str, Any]] = [
    {"quality_sharpness": 5.0},
    {"quality_sharpness": 1.0, "licence": None},
    {"quality_sharpness": float("nan"), "passed": False},
    {"split": "test"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collection")


@pytest.fixture(scope="module")
def collection(folder: Path) -> tuple[Path, dict[tuple[str, str], ReleaseClip]]:
    return write_collection(folder, 4, TRAJECTORIES, changes=CHANGES)


def assert_same_depth(found: torch.Tensor, written: Any) -> None:
    """Equal within the error that shards declare; invalid where it was written so."""
    assert found.dtype == torch.float32
    assert np.array_equal(found == 0, written == 0)
    assert np.allclose(found, written.astype(np.float32), rtol=1e-3)


def assert_same_pictures(found: torch.Tensor, written: Any) -> None:
    """uint8, and equal to nearly the PSNR that a whole run keeps."""
    assert found.dtype == torch.uint8
    assert found.shape == written.shape
    error = np.square(found.numpy().astype(float) - written).mean()
    assert 10 * np.log10(255**2 / error) > MINIMUM_PSNR - 2


def scenes(dataset: SceneClips) -> list[str]:
    return sorted(set(dataset.table["scene_id"].to_pylist()))


def test_a_clip_has_the_fields_that_were_written(collection: tuple[Path, Any]) -> None:
    index, clips = collection
    dataset = SceneClips(index, fields=FIELDS)
    assert len(dataset) == 4
    for sample in (dataset[place] for place in range(len(dataset))):
        clip = clips[sample["scene_id"], sample["trajectory"]]
        assert np.array_equal(sample["latents"], clip.latents())
        assert_same_depth(sample["depth"], clip_arrays(clip).depth)
        assert_same_pictures(sample["rgb"], clip.rgb())
        assert np.array_equal(sample["c2w"], clip.cameras()[0])
        assert np.array_equal(sample["intrinsics"], clip.cameras()[1])


def test_frames_are_given_in_the_order_asked_for(collection: tuple[Path, Any]) -> None:
    index, clips = collection
    sample = SceneClips(index, fields=FIELDS, frames=[5, 0, 5])[0]
    clip = clips[sample["scene_id"], sample["trajectory"]]
    assert_same_pictures(sample["rgb"], clip.rgb([5, 0, 5]))
    assert_same_depth(sample["depth"], clip_arrays(clip).depth[[5, 0, 5]])
    assert np.array_equal(sample["c2w"], clip.cameras()[0][[5, 0, 5]])
    assert np.array_equal(sample["latents"], clip.latents())


def test_only_the_fields_asked_for_are_read(collection: tuple[Path, Any]) -> None:
    assert SceneClips(collection[0])[0].keys() == {"scene_id", "trajectory", "latents", "c2w", "intrinsics"}
    assert SceneClips(collection[0], fields=["depth"])[0].keys() == {"scene_id", "trajectory", "depth"}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1]),
        ({"split": None, "passed": None}, [0, 1, 2, 3]),
        ({"split": "test"}, [3]),
        ({"passed": False}, [2]),
        ({"quality": {"sharpness": (2.0, None)}, "passed": None, "split": None}, [0]),
        ({"quality": {"sharpness": (None, 2.0)}, "passed": None, "split": None}, [1]),
        ({"quality": {"sharpness": (None, None)}, "passed": None, "split": None}, [0, 1]),
        ({"licences": ["CC0-1.0"]}, [0]),
        ({"where": pc.field("quality_sharpness") > 2}, [0]),
    ],
)
def test_filters(collection: tuple[Path, Any], filters: dict[str, Any], expected: list[int]) -> None:
    assert scenes(SceneClips(collection[0], **filters)) == [f"scene-{number}" for number in expected]


def test_trajectories_are_chosen_by_name(collection: tuple[Path, Any]) -> None:
    assert SceneClips(collection[0], trajectories=["zoom_in"]).table["trajectory"].to_pylist() == ["zoom_in"] * 2


def test_an_empty_selection_says_what_each_filter_left(collection: tuple[Path, Any]) -> None:
    with pytest.raises(
        InputError, match="8 in the index, 2 after split = test, 2 after passed = True, 0 after"
    ) as info:
        SceneClips(collection[0], split="test", trajectories=["up"])
    assert "trajectory in ['up']" in str(info.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fields": ["latent"]}, "fields are"),
        ({"fields": []}, "fields are"),
        ({"quality": {"beauty": (0, 1)}}, "no quality number beauty"),
        ({"where": pc.field("beauty") > 1}, "cannot be applied"),
        ({"where": pc.field("prompt") > 1}, "cannot be applied"),
        ({"frames": [0, 9]}, r"frames \[9\] asked for; the shortest clip has 9"),
        ({"frames": []}, "frames none asked for"),
    ],
)
def test_arguments_that_fit_nothing_are_refused(
    collection: tuple[Path, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        SceneClips(collection[0], **arguments)


def test_positions_beyond_the_end(collection: tuple[Path, Any]) -> None:
    dataset = SceneClips(collection[0])
    assert dataset[-1]["trajectory"] == dataset[3]["trajectory"]
    with pytest.raises(IndexError, match="clip 4 of 4"):
        dataset[4]


def test_shards_are_open_in_one_process_and_not_too_many(folder: Path, collection: tuple[Path, Any]) -> None:
    shards = OpenShards(2)
    urls = [str(folder / "shards" / f"scene-{number}") for number in range(3)]
    first = shards.reader(urls[0])
    assert shards.reader(urls[0]) is first
    for url in urls[1:]:
        shards.reader(url)
    assert len(shards) == 2
    assert shards.reader(urls[0]) is not first
    assert len(pickle.loads(pickle.dumps(shards))) == 0
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, bytes([len(shards)]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"\0"


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_resume_and_read_what_this_process_reads(collection: tuple[Path, Any], context: str) -> None:
    dataset = SceneClips(collection[0], split=None, passed=None)
    expected = [dataset[place] for place in range(len(dataset))]  # opens shards before workers are forked
    sampler = ResumableSampler(len(dataset), seed=3)
    first = read_batches(DataLoader(dataset, 2, sampler=sampler, num_workers=2, multiprocessing_context=context), 1)
    sampler.delivered(2)
    resumed = ResumableSampler(len(dataset), seed=0)
    resumed.load_state_dict(sampler.state_dict())
    received = first + read_batches(DataLoader(dataset, 3, sampler=resumed), None)
    names = [names for batch in received for names in zip(batch["scene_id"], batch["trajectory"], strict=True)]
    latents = [each for batch in received for each in batch["latents"]]
    order = sampler.order(0).tolist()
    assert names == [(expected[place]["scene_id"], expected[place]["trajectory"]) for place in order]
    assert all(np.array_equal(found, expected[place]["latents"]) for found, place in zip(latents, order, strict=True))


def read_batches(loader: DataLoader[Any], count: int | None) -> list[dict[str, Any]]:
    received = []
    for batch in loader:
        received.append(batch)
        if len(received) == count:
            break
    return received


def test_an_index_on_another_file_system(folder: Path, collection: tuple[Path, Any]) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/clips-of-a-test", recursive=True)
    try:
        dataset = SceneClips("memory://clips-of-a-test/index/training_index.parquet")
        assert np.array_equal(dataset[1]["latents"], SceneClips(collection[0])[1]["latents"])
    finally:
        memory.rm("/clips-of-a-test", recursive=True)


def test_places_of_shards() -> None:
    assert shard_url("s3://bucket/tables/training_index.parquet", "../scenes/a") == "s3://bucket/scenes/a"
    assert shard_url("simplecache::s3://b/t/i.parquet", "x") == "simplecache::s3://b/t/x"
    assert shard_url(Path("/data/tables/i.parquet"), "../scenes/a") == "/data/scenes/a"
    assert shard_url("tables/i.parquet", "x") == "tables/x"


def test_a_damaged_clip_raises(tmp_path: Path) -> None:
    index, _ = write_collection(tmp_path, 1, ["left"])
    damage_shard(tmp_path / "shards" / "scene-0")
    with pytest.raises(CorruptFileError, match="scene-0"):
        SceneClips(index)[0]
