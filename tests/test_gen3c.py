"""Engine `gen3c`, run on a stand-in of Lyra: units and cameras, latents with their space, checks, faults."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.ops.cameras import project, unproject
from sceneloom.resources.engines import Camera, ClipDepth, ClipGenerator, InputClip, Scaffold, View
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.gen3c import Gen3cVideo, Source, in_unit, read_result
from sceneloom.resources.worker_engine_settings import Gen3cSettings
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed

from .worker_stand_ins import lyra_settings, require_empty

COUNT, HEIGHT, WIDTH = 9, 32, 48
INTRINSICS = np.array([30.0, 30.0, WIDTH / 2, HEIGHT / 2])
PICTURE = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
VIEW = View(PICTURE, INTRINSICS, None, {})
DEPTH = np.full((HEIGHT, WIDTH), 5.0, np.float32)
SCAFFOLD = Scaffold(DEPTH, INTRINSICS, True, None, {})


def engine(folder: Path, **changes: Any) -> Gen3cVideo:
    return Gen3cVideo(Gen3cSettings.model_validate({**lyra_settings(folder, COUNT, HEIGHT, WIDTH), **changes}))


def cameras(shift: float = 1.0) -> list[Camera]:
    """To the right, by whole pixels of a wall at depth 5."""
    c2w = np.tile(np.eye(4, dtype=np.float32), (COUNT, 1, 1))
    c2w[:, 0, 3] = shift * np.arange(COUNT) * 5 / INTRINSICS[0]
    return [Camera(pose, INTRINSICS, HEIGHT, WIDTH) for pose in c2w]


def test_clips_of_a_picture_with_their_latents(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path)) as gen3c:
        scene = gen3c.open_scene(SCAFFOLD, VIEW, "a room")
        assert isinstance(scene, ClipGenerator)
        clip = scene.generate(cameras(), seed=2**62 + 5)
        same = scene.generate(cameras(), seed=2**62 + 5)
        other = scene.generate(cameras(), seed=6)
    require_empty(tmp_path / "scratch")
    for index in range(COUNT):
        np.testing.assert_array_equal(clip.frames[index, :, : WIDTH - index], PICTURE[:, index:])
    assert clip.latents is not None
    assert clip.latent_space is not None
    assert clip.latents.dtype == np.float16
    assert clip.latents.shape == clip.latent_space.latent_shape(COUNT, HEIGHT, WIDTH)
    assert clip.latent_space.scale == 0.5
    assert clip.latent_space.mean.shape == (16, 16)
    assert clip.latent_space.weights_digest.startswith("sha256:")
    np.testing.assert_array_equal(clip.frames, same.frames)
    np.testing.assert_array_equal(clip.latents, same.latents)
    assert (clip.latents != other.latents).any()
    assert clip.notes["generator"] == "static"
    assert clip.notes["unit"] == 5.0
    # As Lyra's own clips, without words.
    assert clip.notes["prompt"] == ""
    assert (gen3c.contract.tier, gen3c.identity.licence) == ("worker", "NVIDIA Open Model License AND Apache-2.0")


def test_clips_of_a_video_see_its_frames_one_by_one(tmp_path: Path) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    still = np.tile(np.eye(4, dtype=np.float32), (COUNT, 1, 1))
    view = dataclasses.replace(VIEW, picture=frames[0], clip=InputClip(frames, still, "assumed_static"))
    depth = np.repeat(DEPTH[None].astype(np.float16), COUNT, axis=0)
    scaffold = dataclasses.replace(SCAFFOLD, clip=ClipDepth(depth))
    with contextlib.closing(engine(tmp_path)) as gen3c:
        scene = gen3c.open_scene(scaffold, view, "")
        clip = scene.generate(cameras(), seed=0)
        short = dataclasses.replace(view, clip=InputClip(frames[:4], still[:4], "assumed_static"))
        few = dataclasses.replace(scaffold, clip=ClipDepth(depth[:4]))
        with pytest.raises(ConfigError, match="a video of 4 frames for clips of 9"):
            gen3c.open_scene(few, short, "").generate(cameras(), seed=0)
    for index in range(COUNT):
        np.testing.assert_array_equal(clip.frames[index, :, : WIDTH - index], frames[index, :, index:])
    assert clip.notes["generator"] == "dynamic"


def test_paths_that_end_at_the_view_are_made_from_their_end(tmp_path: Path) -> None:
    """Time of a video runs on all the same: frame i of the clip shows frame i of the video."""
    frames = np.random.default_rng(3).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    still = np.tile(np.eye(4, dtype=np.float32), (COUNT, 1, 1))
    video = dataclasses.replace(VIEW, picture=frames[0], clip=InputClip(frames, still, "assumed_static"))
    moving = dataclasses.replace(SCAFFOLD, clip=ClipDepth(np.repeat(DEPTH[None].astype(np.float16), COUNT, axis=0)))
    with contextlib.closing(engine(tmp_path)) as gen3c:
        forwards = gen3c.open_scene(SCAFFOLD, VIEW, "").generate(cameras(), seed=1)
        backwards = gen3c.open_scene(SCAFFOLD, VIEW, "").generate(cameras()[::-1], seed=1)
        of_video = gen3c.open_scene(moving, video, "").generate(cameras()[::-1], seed=1)
    np.testing.assert_array_equal(backwards.frames, forwards.frames[::-1])
    assert backwards.latents is None
    assert backwards.notes["made_backwards"]
    assert not forwards.notes["made_backwards"]
    for index in range(COUNT):
        shift = COUNT - 1 - index
        np.testing.assert_array_equal(of_video.frames[index, :, : WIDTH - shift], frames[index, :, shift:])


def test_latents_are_kept_in_the_codecs_space_where_it_is_the_tokenizer(tmp_path: Path) -> None:
    gen3c = engine(tmp_path, codec_is_tokenizer=True)
    with contextlib.closing(gen3c):
        own = Gen3cVideo(gen3c.settings)
        own.worker = gen3c.worker
        found = own.open_scene(SCAFFOLD, VIEW, "").generate(cameras(), seed=0).latent_space
        assert found is not None
        codec = dataclasses.replace(found, id="the-codec", weights_digest="sha256:other")
        gen3c.codec_space = lambda: codec
        clip = gen3c.open_scene(SCAFFOLD, VIEW, "").generate(cameras(), seed=0)
        assert clip.latent_space is codec
        other = LatentSpace("other", 16, np.zeros(16, np.float32), np.ones(16, np.float32), 0.5)
        gen3c.codec_space = lambda: other
        with pytest.raises(ConfigError, match="normalised otherwise"):
            gen3c.open_scene(SCAFFOLD, VIEW, "").generate(cameras(), seed=0)


# ---------------------------------------------------------------- faults

FAULTS = {
    "out of memory": (FailureClass.OUT_OF_MEMORY, "CUDA out of memory"),
    "crash": (FailureClass.KILLED, "SIGSEGV"),
    "a frame less": (FailureClass.INVALID_OUTPUT, r"frames.npy: an array \(8, 32, 48, 3\)"),
    "nan": (FailureClass.INVALID_OUTPUT, "latents.npy: .*not finite"),
}


def test_every_fault_fails_by_its_class_and_broken_pictures_are_made_again(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path, use_prompt=True)) as gen3c:
        for prompt, (failure, found) in FAULTS.items():
            with pytest.raises(WorkerFailed, match=found) as raised:
                gen3c.open_scene(SCAFFOLD, VIEW, prompt).generate(cameras(), seed=0)
            assert raised.value.failure is failure, prompt
        clip = gen3c.open_scene(SCAFFOLD, VIEW, "black once").generate(cameras(), seed=0)
        assert len(clip.notes["seeds"]) == 2
        assert [fault["kind"] for fault in clip.notes["faults"]] == ["black"]
        assert clip.notes["prompt"] == "black once"
        with pytest.raises(StageFailed, match="broken from both seeds") as broken:
            gen3c.open_scene(SCAFFOLD, VIEW, "black").generate(cameras(), seed=0)
        assert broken.value.reason is Reason.QUALITY_REJECTED
    require_empty(tmp_path / "scratch")


def test_a_model_that_never_answers_and_checkpoints_that_are_not_there(tmp_path: Path) -> None:
    slow = engine(tmp_path, use_prompt=True, clip_timeout="4 s", frame_timeout="1 ms")
    with contextlib.closing(slow) as gen3c, pytest.raises(WorkerFailed, match="within 4 s"):
        gen3c.open_scene(SCAFFOLD, VIEW, "hang").generate(cameras(), seed=0)
    absent = engine(tmp_path, checkpoints=str(tmp_path / "nowhere"))
    with contextlib.closing(absent) as gen3c, pytest.raises(WorkerFailed, match="nowhere") as raised:
        gen3c.open_scene(SCAFFOLD, VIEW, "").generate(cameras(), seed=0)
    assert raised.value.failure is FailureClass.MODEL_MISSING


# ---------------------------------------------------------------- what is refused, and conversions


def test_what_is_refused_before_anything_starts(tmp_path: Path) -> None:
    gen3c = engine(tmp_path)
    scene = gen3c.open_scene(SCAFFOLD, VIEW, "")
    with pytest.raises(ConfigError, match="a clip of 4 frames"):
        scene.generate(cameras()[:4], seed=0)
    with pytest.raises(EngineError, match="no pixel has a depth"):
        gen3c.open_scene(dataclasses.replace(SCAFFOLD, depth=np.zeros_like(DEPTH)), VIEW, "")
    with pytest.raises(ValidationError, match="use_prompt without a text encoder"):
        engine(tmp_path, use_prompt=True, text_encoder=False)
    assert not (tmp_path / "scratch").exists()


def test_depth_that_is_not_known_is_painted_or_far_away() -> None:
    depth = DEPTH.copy()
    depth[:4] = 0
    scaffold = dataclasses.replace(SCAFFOLD, depth=depth)
    assert (Source.of(scaffold, VIEW, "hole").depth[0, :4] == 0).all()
    far = Source.of(scaffold, VIEW, "far").depth[0]
    assert (far[:4] == 100).all()
    assert (far[4:] == 1).all()


@given(
    unit=st.floats(0.01, 1000),
    place=st.tuples(*[st.floats(-1, 1)] * 3),
    pixel=st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT)),
    depth=st.floats(1.5, 10),
)
def test_another_unit_shows_the_same_picture(
    unit: float, place: tuple[float, float, float], pixel: tuple[float, float], depth: float
) -> None:
    """Depth and camera centres told in another unit leave where points are seen as it is."""
    c2w = np.eye(4)[None].copy()
    c2w[0, :3, 3] = place
    point = unproject(np.array([pixel]), np.array([depth]), np.eye(4), INTRINSICS)
    expected, _ = project(point, c2w[0], INTRINSICS)
    scaled = unproject(np.array([pixel]), np.array([depth / unit]), np.eye(4), INTRINSICS)
    found, _ = project(scaled, in_unit(c2w, unit)[0], INTRINSICS)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


OTHER_CAMERAS = {
    "a path that is shifted": "w2c + 1e-3 * torch.eye(4)[0][:, None] * torch.eye(4)[3], lens",
    "frames in another order": "w2c.flip(1), lens",
    "another focal length": "w2c, lens * torch.tensor([[1.001, 1, 1], [1, 1, 1], [1, 1, 1]])",
    "pixel centres at a half": "w2c, lens + 0.5 * torch.eye(3)[0][:, None] * torch.eye(3)[2]",
}


def test_clips_made_with_other_cameras_than_were_commanded_are_refused(tmp_path: Path) -> None:
    """What Lyra's cache warps into is read back, whatever it was told: here a cache that changes it."""
    lyra_settings(tmp_path, COUNT, HEIGHT, WIDTH)
    lyra = tmp_path / "Lyra-1"
    cache, change = lyra / "cosmos_predict1" / "diffusion" / "inference" / "cache_3d.py", lyra / "change"
    source, mark = cache.read_text(), "        count = target_w2cs.shape[1]\n"
    assert mark in source
    names = "{'torch': torch, 'w2c': target_w2cs, 'lens': target_intrinsics}"
    line = f"        target_w2cs, target_intrinsics = eval(open({str(change)!r}).read(), {names})\n"
    cache.write_text(source.replace(mark, mark + line))
    with contextlib.closing(engine(tmp_path)) as gen3c:
        scene = gen3c.open_scene(SCAFFOLD, VIEW, "")
        for fault, made in OTHER_CAMERAS.items():
            change.write_text(made)
            with pytest.raises(WorkerFailed, match=r"\.npy: the clip was made with other cameras") as raised:
                scene.generate(cameras(), seed=0)
            assert raised.value.failure is FailureClass.INVALID_OUTPUT, fault
        change.write_text("w2c, lens")
        scene.generate(cameras(), seed=0)


def test_what_is_written_is_held_to_what_it_must_be(tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8))
    np.save(tmp_path / "mean.npy", np.zeros((16, 16), np.float32))
    np.save(tmp_path / "std.npy", np.zeros((16, 16), np.float32))
    np.save(tmp_path / "latents.npy", np.full((16, 2, 4, 6), 1e5, np.float32))
    figures = {"tokenizer": "abc", "seen_share": 0.5}
    with pytest.raises(WorkerFailed, match="tokenizer is None"):
        read_result(tmp_path, COUNT, HEIGHT, WIDTH, {})
    with pytest.raises(WorkerFailed, match="not above 0"):
        read_result(tmp_path, COUNT, HEIGHT, WIDTH, figures)
    np.save(tmp_path / "std.npy", np.ones((16, 16), np.float32))
    with pytest.raises(WorkerFailed, match="float16 cannot hold"):
        read_result(tmp_path, COUNT, HEIGHT, WIDTH, figures)
