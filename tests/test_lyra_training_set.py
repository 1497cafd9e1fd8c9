"""Lyra's samples: keys, shapes and conventions of its Provider, geometry that holds after cropping, equal draws."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from sceneloom.datasets.errors import ConfigError, CorruptFileError, InputError
from sceneloom.datasets.lyra_configuration import (
    LYRA_STAGES,
    LyraConfiguration,
    draw_dynamic,
    draw_static,
    generator,
)
from sceneloom.datasets.lyra_training_set import LYRA_REVERSED_VIEWS, LYRA_VIEWS, LyraTrainingSet
from sceneloom.datasets.picture_fitting import Fitting
from sceneloom.datasets.picture_runs import MINIMUM_PSNR
from sceneloom.datasets.resumable_sampler import ResumableSampler

from .clip_collections import clip_arrays, damage_shard, write_collection
from .release_scenes import PLANE_DEPTH, latent_space

FRAMES, HEIGHT, WIDTH = 9, 32, 48
SIX = tuple((view,) for view in LYRA_VIEWS)
PICTURES = LyraConfiguration((16, 20), input_frames=5, targets=4, latents=False, window=(6, 7))
SAMPLE_KEYS = {
    "images_output",
    "intrinsics",
    "cam_view",
    "time_embeddings",
    "time_embeddings_target",
    "num_input_multi_views",
    "intrinsics_input",
    "c2ws_input",
    "flip_flag",
    "file_name",
    "target_index",
    "depths_output",
}


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return write_collection(tmp_path_factory.mktemp("static"), 2, LYRA_VIEWS)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return write_collection(tmp_path_factory.mktemp("dynamic"), 1, (*LYRA_VIEWS, *LYRA_REVERSED_VIEWS))


def small(stage: int) -> LyraConfiguration:
    return LYRA_STAGES[stage].adapted(FRAMES, HEIGHT, WIDTH)


# --- configurations and draws ----------------------------------------------------------------------------------------


def test_the_stages_are_lyras() -> None:
    facts = {
        stage: (each.image_size, each.input_frames, each.targets, each.input_views, each.latents, each.dynamic)
        for stage, each in LYRA_STAGES.items()
    }
    assert facts == {
        1: ((176, 320), 17, 17, 1, False, False),
        2: ((176, 320), 49, 49, 1, False, False),
        3: ((352, 640), 49, 49, 1, False, False),
        4: ((704, 1280), 49, 49, 1, False, False),
        5: ((704, 1280), 121, 9, 1, True, False),
        6: ((704, 1280), 121, 9, 6, True, False),
        7: ((704, 1280), 121, 9, 6, True, False),
        8: ((704, 1280), 121, 12, 6, True, True),
        9: ((704, 1280), 121, 12, 6, True, True),
    }
    assert {stage for stage, each in LYRA_STAGES.items() if each.view_sampling == "random_bucket"} == {6, 7, 8, 9}
    assert {stage for stage, each in LYRA_STAGES.items() if each.frame_sampling == "exponential"} == {6, 7, 8, 9}


@pytest.mark.parametrize(
    "change",
    [
        {"input_frames": 1},
        {"targets": 0},
        {"input_views": 0},
        {"image_size": (0, 8)},
        {"window": (9, 3)},
        {"latents": False, "input_views": 2},
        {"latents": False, "dynamic": True},
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Lyra configuration"):
        replace(LYRA_STAGES[5], **change)


def test_an_adapted_configuration_keeps_its_kind() -> None:
    adapted = LYRA_STAGES[6].adapted(17, 176, 320)
    assert (adapted.image_size, adapted.input_frames, adapted.targets) == ((176, 320), 17, 9)
    assert (adapted.input_views, adapted.frame_sampling) == (6, "exponential")
    assert LYRA_STAGES[8].adapted(9, 32, 48).targets == 12


@given(stage=st.integers(1, 7), frames=st.integers(50, 140), seed=st.integers(0, 2**40))
def test_a_long_clip_gives_a_window(stage: int, frames: int, seed: int) -> None:
    configuration = replace(LYRA_STAGES[stage], input_frames=min(LYRA_STAGES[stage].input_frames, 49))
    draw = draw_static(configuration, frames, SIX, generator(seed, 0, 0))
    assert draw.input_frames.shape == (len(draw.input_views), configuration.input_frames)
    first, last = draw.input_frames[0, 0], draw.input_frames[0, -1]
    assert 0 <= first <= last < frames
    assert 45 <= last - first <= 121
    assert (draw.input_frames[:, 0] == first).all()
    assert (draw.input_frames[:, -1] == last).all()
    assert (np.diff(draw.input_frames, axis=1) > 0).all()
    assert len(set(draw.target_frames.tolist())) == configuration.targets
    assert first <= draw.target_frames.min()
    assert draw.target_frames.max() <= last
    assert draw.target_views == draw.input_views
    assert len(set(draw.input_views)) == len(draw.input_views)


@given(count=st.integers(2, 60), frames=st.integers(2, 60), seed=st.integers(0, 2**40))
def test_a_short_clip_goes_back_and_forth(count: int, frames: int, seed: int) -> None:
    configuration = LyraConfiguration((8, 8), input_frames=count, targets=1, latents=False, window=(1, 60))
    (row,) = draw_static(configuration, frames, SIX, generator(seed, 0, 0)).input_frames
    if frames == count:
        assert row.tolist() == list(range(frames))
    if frames < count:
        assert set(np.abs(np.diff(row)).tolist()) == {1}
        assert row.min() >= 0
        assert row.max() < frames
        played = np.concatenate([np.arange(frames), *[np.arange(frames)[-2::-1], np.arange(frames)[1:]] * count])
        assert any((played[start : start + count] == row).all() for start in range(len(played) - count + 1))


def test_a_dynamic_short_clip_begins_at_its_beginning() -> None:
    configuration = replace(LYRA_STAGES[8], input_frames=7)
    draw = draw_dynamic(configuration, 4, LYRA_VIEWS, LYRA_REVERSED_VIEWS, generator(1, 2, 3))
    assert draw.input_frames[0].tolist() == [0, 1, 2, 3, 2, 1, 0]


def test_a_clip_of_one_frame_is_refused() -> None:
    with pytest.raises(InputError, match="a clip of 1 frame"):
        draw_static(PICTURES, 1, SIX, generator(0, 0, 0))


def test_more_targets_than_frames_are_refused() -> None:
    with pytest.raises(InputError, match="9 targets from 5 frames"):
        draw_static(replace(PICTURES, targets=9), 5, SIX, generator(0, 0, 0))


def test_exponential_sampling_favours_late_frames_and_targets_are_not_sorted() -> None:
    draws = [draw_static(LYRA_STAGES[6], 121, SIX, generator(0, 0, index)) for index in range(300)]
    frames = np.concatenate([draw.target_frames for draw in draws])
    # The mean place of the weight exp(3p) over 0 to 1 is 0.72; without replacement it is a little less.
    assert 0.68 < frames.mean() / 120 < 0.73
    assert any((np.diff(draw.target_frames) < 0).any() for draw in draws)
    uniform = np.concatenate(
        [draw_static(LYRA_STAGES[5], 121, SIX, generator(0, 0, index)).target_frames for index in range(300)]
    )
    assert 0.47 < uniform.mean() / 120 < 0.53


def test_views_and_their_number_are_drawn_evenly() -> None:
    draws = [draw_static(LYRA_STAGES[6], 121, SIX, generator(0, 0, index)) for index in range(600)]
    assert all(70 < count < 130 for count in Counter(len(draw.input_views) for draw in draws).values())
    assert all(70 < count < 130 for count in Counter(draw.input_views[0] for draw in draws).values())


def test_buckets_give_one_view_each_until_all_were_taken() -> None:
    buckets = [("left", "right"), ("up",)]
    draws = [draw_static(LYRA_STAGES[6], 121, buckets, generator(0, 0, index)).input_views for index in range(60)]
    assert {len(views) for views in draws} == {1, 2, 3}
    for views in draws:
        taken = Counter("up" if view == "up" else "sides" for view in views)
        assert max(taken.values()) - (min(taken.values()) if len(taken) == 2 else 0) <= 1
        assert len(views) < 3 or len(taken) == 2
    assert any(len(set(views)) < len(views) for views in draws)


def test_a_dynamic_draw_supervises_all_views_at_one_input_time() -> None:
    draw = draw_dynamic(LYRA_STAGES[8], 121, LYRA_VIEWS, LYRA_REVERSED_VIEWS, generator(5, 0, 0))
    assert sorted(draw.target_views) == sorted((*LYRA_VIEWS, *LYRA_REVERSED_VIEWS))
    assert draw.target_views != (*LYRA_VIEWS, *LYRA_REVERSED_VIEWS)
    assert set(draw.input_views) <= set(LYRA_VIEWS)
    assert draw.target_frames.shape == (1,)
    assert (draw.input_frames == np.arange(121)).all()


# --- cropping and resizing -------------------------------------------------------------------------------------------


def test_pictures_are_resized_as_pillow_resizes_them() -> None:
    """Pillow's bilinear filter is antialiased; torchvision's promise is to agree with it."""
    rgb = np.random.default_rng(0).integers(0, 256, (1, 40, 60, 3), dtype=np.uint8)
    fitting = Fitting.largest_centre_crop((40, 60), (10, 10))
    assert (fitting.crop, fitting.corner) == ((40, 40), (0, 10))
    expected = Image.fromarray(rgb[0, :, 10:50]).resize((10, 10), Image.Resampling.BILINEAR)
    found = fitting.pictures(rgb.transpose(0, 3, 1, 2))[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(found - np.asarray(expected, np.float32)).max() <= 1.01


def test_depth_takes_the_nearest_pixel() -> None:
    depth = np.arange(1, 41, dtype=np.float32).reshape(1, 4, 10)
    depth[0, 0, 1], depth[0, 2, 5] = 0, 7
    fitting = Fitting.largest_centre_crop((4, 10), (2, 4))
    assert (fitting.crop, fitting.corner) == ((4, 8), (0, 1))
    assert fitting.depth(depth)[0, 0].tolist() == [[0, 4, 6, 8], [22, 24, 7, 28]]


def test_pictures_of_the_right_size_are_only_scaled() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6), dtype=np.uint8)
    found = Fitting.largest_centre_crop((4, 6), (4, 6)).pictures(rgb)
    assert np.array_equal(found.numpy(), rgb.astype(np.float32) / np.float32(255))


@given(
    source=st.tuples(st.integers(8, 200), st.integers(8, 200)), target=st.tuples(st.integers(4, 99), st.integers(4, 99))
)
def test_the_crop_is_centred_and_as_large_as_it_can_be(source: tuple[int, int], target: tuple[int, int]) -> None:
    fitting = Fitting.largest_centre_crop(source, target)
    assert any(side - 1 <= crop <= side for side, crop in zip(source, fitting.crop, strict=True))
    for side, crop, corner in zip(source, fitting.crop, fitting.corner, strict=True):
        assert 0 <= corner <= side - crop
        assert abs(corner - (side - crop - corner)) <= 1


# --- samples ---------------------------------------------------------------------------------------------------------


def test_a_sample_of_pictures(static: tuple[Path, Any]) -> None:
    sample = LyraTrainingSet(static[0], PICTURES, seed=1)[0]
    assert sample.keys() == SAMPLE_KEYS | {"images_input_vae"}
    shapes = {name: tuple(values.shape) for name, values in sample.items() if isinstance(values, torch.Tensor)}
    assert shapes == {
        "images_input_vae": (5, 3, 16, 20),
        "images_output": (4, 3, 16, 20),
        "depths_output": (4, 1, 16, 20),
        "cam_view": (4, 4, 4),
        "intrinsics": (4, 4),
        "c2ws_input": (5, 4, 4),
        "intrinsics_input": (5, 4),
        "time_embeddings": (5, 3),
        "time_embeddings_target": (1, 3),
        "target_index": (4,),
        "flip_flag": (9,),
    }
    integers = {"target_index": torch.int64, "flip_flag": torch.bool}
    assert all(sample[name].dtype == integers.get(name, torch.float32) for name in shapes)
    assert (sample["num_input_multi_views"], sample["file_name"]) == (1, "scene-0")
    assert -1 <= sample["images_input_vae"].min() < 0 < sample["images_input_vae"].max() <= 1


def assert_nearly_shown(found: torch.Tensor, shown: torch.Tensor) -> None:
    """Equal to nearly the PSNR that a whole run of frames keeps."""
    assert found.shape == shown.shape
    assert -10 * torch.log10(torch.mean((found - shown) ** 2)) > MINIMUM_PSNR - 2


def test_a_sample_of_latents(static: tuple[Path, Any]) -> None:
    dataset = LyraTrainingSet(static[0], small(6), seed=1)
    index, draw = next((index, draw) for index in range(2) if len((draw := dataset.draw(0, index)).input_views) > 1)
    sample, count = dataset[index], len(draw.input_views)
    assert sample.keys() == SAMPLE_KEYS | {"rgb_latents"}
    assert sample["rgb_latents"].shape == (2 * count, 16, 4, 6)
    assert sample["images_output"].shape == (9 * count, 3, HEIGHT, WIDTH)
    assert sample["c2ws_input"].shape == (FRAMES * count, 4, 4)
    assert sample["num_input_multi_views"] == count
    assert sample["target_index"].tolist() == [*range(FRAMES)] * (count - 1) + draw.target_frames.tolist()
    space = latent_space(FRAMES)
    for place, view in enumerate(draw.input_views):
        clip = static[1][dataset.scene(index), view]
        stored = torch.from_numpy(clip.latents()).float()
        mean, std = torch.from_numpy(space.mean.copy()), torch.from_numpy(space.std.copy())
        expected = (stored / 0.5 * std[..., None, None] + mean[..., None, None]).transpose(0, 1)
        assert torch.allclose(sample["rgb_latents"][2 * place : 2 * place + 2], expected, atol=1e-5)
        shown = torch.from_numpy(clip.rgb(draw.target_frames.tolist())).permute(0, 3, 1, 2) / 255
        assert_nearly_shown(sample["images_output"][9 * place : 9 * place + 9], shown)
        depth = torch.from_numpy(clip_arrays(clip).depth.astype(np.float32)[draw.target_frames])[:, None]
        assert torch.allclose(sample["depths_output"][9 * place : 9 * place + 9], depth, rtol=2e-3)


def test_a_dynamic_sample(dynamic: tuple[Path, Any]) -> None:
    dataset = LyraTrainingSet(dynamic[0], small(8), seed=1)
    epoch = next(epoch for epoch in range(9) if len(dataset.draw(epoch, 0).input_views) > 1)
    sample, draw = dataset[epoch, 0], dataset.draw(epoch, 0)
    (time,) = draw.target_frames.tolist()
    assert sample["images_output"].shape == (12, 3, HEIGHT, WIDTH)
    assert sample["target_index"].tolist() == [time]
    assert sample["c2ws_input"].shape == (FRAMES * len(draw.input_views), 4, 4)
    for place, view in enumerate(draw.target_views):
        shown = torch.from_numpy(dynamic[1]["scene-0", view].rgb([time])[0]).permute(2, 0, 1) / 255
        assert_nearly_shown(sample["images_output"][place], shown)
    seconds = time / (FRAMES - 1)
    expected = [seconds, np.cos(seconds), np.sin(seconds)]
    assert torch.allclose(sample["time_embeddings_target"][0], torch.tensor(expected, dtype=torch.float32))
    assert torch.allclose(sample["time_embeddings"][:, 0], torch.linspace(0, 1, FRAMES))


@pytest.mark.parametrize("stage", [0, 6, 8])
def test_every_target_pixel_lies_on_the_plane_that_it_shows(
    static: tuple[Path, Any], dynamic: tuple[Path, Any], stage: int
) -> None:
    """Depth, intrinsics and poses together: all scenes of these tests are a plane before the first camera."""
    configuration = small(stage) if stage else PICTURES
    dataset = LyraTrainingSet((dynamic if stage == 8 else static)[0], configuration, seed=2)
    for index in range(len(dataset)):
        sample, draw = dataset[index], dataset.draw(0, index)
        clip = (dynamic if stage == 8 else static)[1][dataset.scene(index), draw.input_views[0]]
        first = clip.cameras()[0][draw.input_frames[0, 0]]
        assert torch.allclose(sample["c2ws_input"][0], torch.eye(4), atol=1e-6)
        height, width = configuration.image_size
        row, column = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        for depth, view, (fx, fy, cx, cy) in zip(
            sample["depths_output"], sample["cam_view"], sample["intrinsics"], strict=True
        ):
            depth = depth[0]
            rays = torch.stack([(column - cx) / fx, (row - cy) / fy, torch.ones(height, width)], -1)
            points = torch.cat([rays * depth[..., None], torch.ones(height, width, 1)], -1)
            # cam_view is transposed: a row vector times it is the point in the camera, so its inverse leads back.
            world = points @ torch.linalg.inv(view)
            assert torch.allclose(world[depth > 0][:, 2], torch.tensor(PLANE_DEPTH - first[2, 3]), atol=5e-3)


def test_the_principal_ray_stays_in_the_middle(static: tuple[Path, Any]) -> None:
    sample = LyraTrainingSet(static[0], PICTURES, seed=1)[1]
    # 32 × 48 is cropped to 32 × 40 and halved; the focal length is 0.8 · 48 pixels.
    expected = torch.tensor([0.8 * 48 / 2, 0.8 * 48 / 2, 10.0, 8.0])
    assert torch.allclose(sample["intrinsics"], expected.expand(4, 4))
    assert torch.allclose(sample["intrinsics_input"], expected.expand(5, 4))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        torch.equal(values, other[name]) if isinstance(values, torch.Tensor) else values == other[name]
        for name, values in one.items()
    )


def test_a_sample_depends_on_seed_epoch_and_index_alone(static: tuple[Path, Any]) -> None:
    dataset = LyraTrainingSet(static[0], PICTURES, seed=1)
    expected = {item: dataset[item] for item in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    assert not torch.equal(expected[0, 0]["images_output"], expected[1, 0]["images_output"])
    assert same(dataset[0], expected[0, 0])
    assert same(pickle.loads(pickle.dumps(dataset))[1, 1], expected[1, 1])
    sampler = ResumableSampler(2, seed=9, with_epoch=True)
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for place, sample in zip(sampler.order(epoch).tolist(), loader, strict=True):
            assert same(expected[epoch, place], sample)


def test_a_damaged_clip_raises_and_is_not_replaced(tmp_path: Path) -> None:
    index, _ = write_collection(tmp_path, 2, ["left"])
    damage_shard(tmp_path / "shards" / "scene-1")
    dataset = LyraTrainingSet(index, PICTURES, seed=1, views=["left"])
    assert dataset[0]["file_name"] == "scene-0"
    with pytest.raises(CorruptFileError, match="scene-1"):
        dataset[1]


def test_incomplete_scenes_are_named_or_left_out(tmp_path: Path) -> None:
    index, _ = write_collection(tmp_path, 2, ["left", "up"])
    keep = (pc.field("scene_id") != "scene-1") | (pc.field("trajectory") != "up")
    with pytest.raises(InputError, match="1 of 2 scenes lack a view; scene-1 lacks up"):
        LyraTrainingSet(index, PICTURES, seed=1, views=["left", "up"], where=keep)
    left = LyraTrainingSet(index, PICTURES, seed=1, views=["left", "up"], where=keep, leave_out_incomplete=True)
    assert [left.scene(place) for place in range(len(left))] == ["scene-0"]
    with pytest.raises(InputError, match="2 of 2 scenes lack a view"):
        LyraTrainingSet(index, PICTURES, seed=1, views=["left", "up", "right"], leave_out_incomplete=True)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (LYRA_STAGES[5], "2 of 2 scenes do not fit: scene-0 has frames = 9, the configuration 121"),
        (replace(small(5), image_size=(16, 48)), "has height = 32, the configuration 16"),
    ],
)
def test_latents_that_stand_for_other_frames_or_pixels_are_refused(
    static: tuple[Path, Any], configuration: LyraConfiguration, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        LyraTrainingSet(static[0], configuration, seed=1)


def test_buckets_that_are_not_the_views_are_refused(static: tuple[Path, Any]) -> None:
    with pytest.raises(InputError, match="Name every view in exactly one bucket"):
        LyraTrainingSet(static[0], small(6), seed=1, buckets=[["left", "up"], ["left"]])


def test_an_index_beyond_the_end(static: tuple[Path, Any]) -> None:
    with pytest.raises(IndexError, match="scene 2 of 2"):
        LyraTrainingSet(static[0], PICTURES, seed=1)[2]
