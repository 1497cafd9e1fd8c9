"""Engine `wan_vace` on a tiny pipeline of the real class: what the cache shows and lacks is what the model is given."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.ops.background_plate import BackgroundPlate
from sceneloom.ops.cameras import centred_intrinsics
from sceneloom.ops.object_motion import ObjectMotion
from sceneloom.ops.scene_cache import SceneCache
from sceneloom.ops.trajectories import LYRA_VIEWS, TrajectoryContext, build_path
from sceneloom.resources.diffusers_settings import WanVaceVideoSettings
from sceneloom.resources.engines import (
    Camera,
    ClipDepth,
    EngineContract,
    GeneratedClip,
    InputClip,
    Scaffold,
    ScaffoldEngine,
    View,
)
from sceneloom.resources.failures import StageFailed
from sceneloom.resources.latent_codec import latent_space
from sceneloom.resources.wan_vace_video import UNSEEN, WanVaceScene, WanVaceVideo

from .tiny_pipelines import calls_of, write_wan_vace

# diffusers reads Wan's transformer only with the one, and cleans its prompts only with the other.
pytest.importorskip("accelerate")
pytest.importorskip("ftfy")

FRAMES, HEIGHT, WIDTH = 5, 64, 96
LENS = centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=1.2)
NEAR, FAR = 2.0, 4.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wan_vace(tmp_path_factory.mktemp("wan") / "wan_vace")


def engine(folder: Path, depth: ScaffoldEngine | None = None, **changes: Any) -> WanVaceVideo:
    settings = {"path": str(folder), "precision": "float32", "steps": 1, "prompt_tokens": 16, **changes}
    return WanVaceVideo(WanVaceVideoSettings.model_validate(settings), depth)


def view() -> View:
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return View(picture, LENS, None, {})


def depth_map() -> np.ndarray:
    """A near square before a far wall that leans back: the wall looks the same from cameras farther left or right."""
    depth = np.repeat(np.linspace(FAR, FAR + 1.5, HEIGHT, dtype=np.float32)[:, None], WIDTH, axis=1)
    depth[20:44, 32:64] = NEAR
    return depth


def scaffold() -> Scaffold:
    return Scaffold(depth_map(), LENS, True, None, {})


def sideways(frames: int) -> list[Camera]:
    """A path to the right, without a turn."""
    poses = np.repeat(np.eye(4, dtype=np.float32)[None], frames, axis=0)
    poses[:, 0, 3] = np.linspace(0, 0.8, frames)
    return [Camera(pose, LENS, HEIGHT, WIDTH) for pose in poses]


def scene(made: WanVaceVideo, prompt: str = "a red room") -> WanVaceScene:
    return made.open_scene(scaffold(), view(), prompt)


def cameras(trajectory: str, frames: int = FRAMES) -> list[Camera]:
    path = build_path(trajectory, TrajectoryContext(frames=frames, centre_depth=FAR), seed=1)
    return [Camera(pose, LENS, HEIGHT, WIDTH) for pose in path.c2w]


class SquintingDepth:
    """The scaffold's depth, in a unit of its own and bent as networks for relative depth bend it."""

    def __init__(self) -> None:
        self.contract = EngineContract("squinting", "library", frozenset({"view"}), frozenset({"depth"}), "Apache-2.0")
        self.asked: list[View] = []

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        self.asked.append(view)
        height, width = view.picture.shape[:2]
        depth = (1 / (0.3 / depth_map()[:height, :width] + 0.1)).astype(np.float32)
        return Scaffold(depth, view.intrinsics, False, None, {})


def cache_of(opened: WanVaceScene) -> SceneCache:
    assert opened.cache is not None
    return opened.cache


def test_a_clip_follows_from_cameras_prompt_and_seed(folder: Path) -> None:
    made = engine(folder)
    clip = scene(made).generate(cameras("left"), seed=3)
    assert clip.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert clip.frames.dtype == np.uint8
    np.testing.assert_array_equal(scene(made).generate(cameras("left"), seed=3).frames, clip.frames)
    for other in (
        scene(made).generate(cameras("right"), seed=3),
        scene(made).generate(cameras("left"), seed=4),
        scene(made, "a blue sea").generate(cameras("left"), seed=3),
        scene(engine(folder, conditioning_scale=0.5)).generate(cameras("left"), seed=3),
        scene(engine(folder, reference_image=False)).generate(cameras("left"), seed=3),
        scene(engine(folder, negative_prompt="fog")).generate(cameras("left"), seed=3),
    ):
        assert other.frames.shape == clip.frames.shape
        assert (other.frames != clip.frames).any()


def test_the_clip_is_what_the_pipeline_makes_of_the_words(folder: Path) -> None:
    # The engine hands over embeddings; the pipeline's own way, with words, must give the same frames.
    from PIL import Image

    made = engine(folder, negative_prompt="fog")
    opened, path = scene(made), cameras("zoom_in")
    seen, missing = opened._condition(opened.cache, path, np.empty((0, HEIGHT, WIDTH, 3), np.uint8))
    with made.pipeline() as pipeline:
        frames = pipeline(
            prompt="a red room",
            negative_prompt="fog",
            video=[Image.fromarray(frame) for frame in seen],
            mask=[Image.fromarray(mask.astype(np.uint8) * 255) for mask in missing],
            reference_images=Image.fromarray(view().picture),
            height=HEIGHT,
            width=WIDTH,
            num_frames=FRAMES,
            num_inference_steps=1,
            generator=torch.Generator("cpu").manual_seed(3),
            max_sequence_length=16,
        ).frames[0]
    np.testing.assert_array_equal(opened.generate(path, seed=3).frames, np.rint(frames * 255).astype(np.uint8))


def test_the_model_is_given_the_cache_and_what_it_lacks(folder: Path) -> None:
    opened, path = scene(engine(folder, guidance=1.0, reference_image=False)), cameras("right")
    with opened.engine.pipeline() as pipeline:
        pass
    with calls_of(pipeline.transformer) as calls, calls_of(pipeline.vae.encoder) as encoded:
        clip = opened.generate(path, seed=3)
    seen, missing = np.full((FRAMES, HEIGHT, WIDTH, 3), UNSEEN, np.uint8), np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    seen[0] = view().picture
    for index, camera in enumerate(path[1:], start=1):
        warped = cache_of(opened).warp(camera.c2w, LENS, HEIGHT, WIDTH)
        seen[index][warped.valid], missing[index] = warped.rgb[warped.valid], ~warped.valid
    assert 0.01 < missing[-1].mean() < 0.5
    assert clip.notes["chunks"][0]["unseen_share"] == pytest.approx(missing.mean())

    # The autoencoder sees the known pixels with black (0) holes first, then the holes alone.
    values = torch.from_numpy(seen / 127.5 - 1).permute(3, 0, 1, 2)
    holes = torch.from_numpy(missing)
    passes = [torch.cat([call[0][0] for call in encoded[start : start + 2]], dim=2)[0] for start in (0, 2)]
    assert len(encoded) == 4
    torch.testing.assert_close(passes[0], (values * ~holes).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(passes[1], (values * holes).float(), atol=1e-5, rtol=0)
    assert passes[1].abs().max() < 0.01  # grey: nothing to go by

    # The mask comes to the transformer as 64 channels, one for each pixel of a latent's 8 × 8.
    control = calls[0][1]["control_hidden_states"][0]
    assert control.shape == (96, 2, HEIGHT // 8, WIDTH // 8)
    given = control[32:].reshape(8, 8, 2, HEIGHT // 8, WIDTH // 8).permute(2, 3, 0, 4, 1)
    frames_of_latents = np.array([1, 3])  # nearest of 5 frames to 2
    np.testing.assert_array_equal(
        given.reshape(2, HEIGHT, WIDTH).numpy(), missing[frames_of_latents].astype(np.float32)
    )


def test_frames_and_mask_change_what_is_made(folder: Path) -> None:
    opened = scene(engine(folder))
    seen = np.random.default_rng(1).integers(0, 256, (5, HEIGHT, WIDTH, 3)).astype(np.uint8)
    none = np.zeros((5, HEIGHT, WIDTH), bool)
    half = none.copy()
    half[:, :, WIDTH // 2 :] = True
    made = [
        opened._make(pictures, mask, 3).frames
        for pictures, mask in ((seen, none), (seen, half), (255 - seen, none), (seen, none))
    ]
    assert (made[0] != made[1]).any()
    assert (made[0] != made[2]).any()
    np.testing.assert_array_equal(made[0], made[3])


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_the_cache_shows_far_surfaces_where_they_are(folder: Path, unit: float) -> None:
    far = Scaffold((unit * depth_map()).astype(np.float32), LENS, True, None, {})
    opened = engine(folder).open_scene(far, view(), "a red room")
    pose = np.eye(4)
    pose[0, 3] = 0.2
    own = cache_of(scene(engine(folder))).warp(pose, LENS, HEIGHT, WIDTH)
    pose[0, 3] *= unit
    warped = cache_of(opened).warp(pose, LENS, HEIGHT, WIDTH)
    both = warped.valid & own.valid
    assert both.sum() > 0.98 * own.valid.sum()
    np.testing.assert_allclose(warped.depth[both], unit * own.depth[both], rtol=0.01)
    assert warped.depth.max() > 1.3 * FAR * unit


def test_a_scaffold_without_any_depth_leaves_all_to_the_model(folder: Path) -> None:
    empty = Scaffold(np.zeros_like(depth_map()), LENS, True, None, {})
    opened = engine(folder).open_scene(empty, view(), "a red room")
    assert not cache_of(opened).warp(cameras("left")[-1].c2w, LENS, HEIGHT, WIDTH).valid.any()


def test_six_trajectories_share_the_prompt_and_the_cache(folder: Path) -> None:
    opened = scene(engine(folder))
    with opened.engine.pipeline() as pipeline:
        encoder = pipeline.text_encoder
    with calls_of(encoder) as calls:
        clips = [opened.generate(cameras(name), seed=1).frames for name in LYRA_VIEWS]
    assert len(calls) == 2  # the prompt, and the negative prompt
    assert len({clip.tobytes() for clip in clips}) == 6
    assert len(cache_of(opened)) == 1
    with calls_of(encoder) as calls:
        scene(opened.engine, "a blue sea").generate(cameras("left"), seed=1)
    assert len(calls) == 1


@pytest.mark.parametrize("reference_image", [True, False])
def test_the_latents_show_the_frames(folder: Path, reference_image: bool) -> None:
    made = engine(folder, reference_image=reference_image)
    clip = scene(made).generate(cameras("up"), seed=2)
    assert clip.latents is not None
    assert clip.latent_space is not None
    assert clip.latents.dtype == np.float16
    assert clip.latents.shape == clip.latent_space.latent_shape(FRAMES, HEIGHT, WIDTH)
    assert clip.latent_space == latent_space(folder)
    assert (clip.latent_space.temporal_stride, clip.latent_space.spatial_stride) == (4, 8)
    raw = torch.from_numpy(clip.latent_space.denormalise(clip.latents))[None]
    with made.pipeline() as pipeline, torch.no_grad():
        decoded = pipeline.vae.decode(raw).sample[0].permute(1, 2, 3, 0)
    frames = ((decoded + 1) * 127.5).clamp(0, 255).numpy()
    # float16 storage moves a few levels at most.
    assert np.abs(frames - clip.frames).mean() < 0.5


def test_reversed_paths_end_at_the_view(folder: Path) -> None:
    opened = scene(engine(folder))
    empty = np.empty((0, HEIGHT, WIDTH, 3), np.uint8)
    seen, missing = opened._condition(opened.cache, cameras("left")[::-1], empty)
    np.testing.assert_array_equal(seen[-1], view().picture)
    assert not missing[-1].any()
    assert missing[0].any()
    assert opened.generate(cameras("left")[::-1], seed=1).latents is not None


@pytest.fixture(scope="module")
def long_clip(folder: Path) -> tuple[WanVaceScene, SquintingDepth, GeneratedClip, list[Camera]]:
    depth = SquintingDepth()
    opened = scene(engine(folder, depth, window_frames=9, overlap_frames=5))
    path = sideways(17)
    return opened, depth, opened.generate(path, seed=3), path


LongClip = tuple[WanVaceScene, SquintingDepth, GeneratedClip, list[Camera]]


def test_long_paths_are_made_in_chunks(long_clip: LongClip) -> None:
    opened, depth, clip, path = long_clip
    assert clip.frames.shape == (17, HEIGHT, WIDTH, 3)
    assert clip.latents is None
    assert clip.latent_space is None
    np.testing.assert_array_equal(clip.frames[:9], opened.generate(path[:9], seed=3).frames)
    notes = json.loads(json.dumps(dict(clip.notes)))
    spans = [(chunk["start"], chunk["stop"], chunk["overlap"]) for chunk in notes["chunks"]]
    assert spans == [(0, 9, 0), (4, 13, 5), (8, 17, 5)]
    assert [seam["frame"] for seam in notes["seams"]] == [9, 13]
    assert all(seam["difference"] > 0 and seam["usual_step"] > 0 for seam in notes["seams"])
    assert notes["window_frames"] == 9
    assert len({chunk["seed"] for chunk in notes["chunks"]}) == 3
    # The scene's own cache stays as it was, for the other clips.
    assert len(cache_of(opened)) == 1
    assert [asked.intrinsics.tolist() for asked in depth.asked] == [LENS.tolist()] * 2
    np.testing.assert_array_equal(depth.asked[0].picture, clip.frames[8])
    np.testing.assert_array_equal(depth.asked[1].picture, clip.frames[12])


def test_the_last_frame_of_a_chunk_anchors_the_next(long_clip: LongClip) -> None:
    opened, _, clip, path = long_clip
    anchors = [chunk.get("anchor") for chunk in clip.notes["chunks"]]
    assert anchors[0] is None
    assert [anchor["frame"] for anchor in anchors[1:]] == [8, 12]
    alignment = anchors[1]["alignment"]
    # 1 / depth = (1 / estimate - 0.1) / 0.3
    assert alignment["scale"] == pytest.approx(1 / 0.3, rel=0.05)
    assert alignment["shift"] == pytest.approx(-0.1 / 0.3, rel=0.1)
    assert alignment["residual"] < 0.02
    assert anchors[1]["depth_engine"] == "squinting"
    # What the view never saw is known to the second chunk from the frame before it.
    fresh = opened.engine.new_cache(opened.base)
    opened._anchor(fresh, path[8], clip.frames[8], 0)
    seen, missing = opened._condition(fresh, path[4:13], clip.frames[4:9])
    _, without = opened._condition(opened.cache, path[4:13], clip.frames[4:9])
    np.testing.assert_array_equal(seen[:5], clip.frames[4:9])
    assert not missing[:5].any()
    assert missing[5:].mean() < 0.7 * without[5:].mean()


def test_long_paths_need_an_engine_for_depth(folder: Path) -> None:
    opened = scene(engine(folder, window_frames=9))
    with pytest.raises(ConfigError, match="clips of 17 frames are made in chunks of 9, and there is no engine"):
        opened.generate(cameras("left", 17), seed=1)


@pytest.mark.parametrize("depth", [SquintingDepth(), None])
def test_a_clip_too_large_for_memory_is_made_in_smaller_chunks(folder: Path, depth: SquintingDepth | None) -> None:
    made = engine(folder, depth, window_frames=41)
    small = View(view().picture[:32, :48], LENS, None, {})
    opened = made.open_scene(Scaffold(depth_map()[:32, :48], LENS, True, None, {}), small, "a red room")
    path = [dataclasses.replace(camera, height=32, width=48) for camera in cameras("left", 25)]
    with made.pipeline() as pipeline:
        denoiser = pipeline.transformer

    def too_large(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if named["hidden_states"].shape[2] > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = denoiser.register_forward_pre_hook(too_large, with_kwargs=True)
    if depth is None:
        # Without depth there are no chunks.
        with pytest.raises(StageFailed, match="memory of cpu ran out"):
            opened.generate(path, seed=1)
    else:
        clip = opened.generate(path, seed=1)
        assert len(clip.frames) == 25
        assert clip.notes["window_frames"] == 21
        assert [chunk["stop"] for chunk in clip.notes["chunks"]] == [21, 25]
    handle.remove()


def test_notes_say_how_it_was_made(folder: Path) -> None:
    clip = scene(engine(folder, guidance=1.0)).generate(cameras("left"), seed=5)
    notes = json.loads(json.dumps(dict(clip.notes)))
    assert notes.pop("model")["id"] == "wan_vace"
    chunk = notes["chunks"][0]
    assert 0 < chunk.pop("unseen_share") < 0.5
    assert notes == {
        "engine": "wan_vace",
        "pipeline": "WanVACEPipeline",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "steps": 1,
        "guidance": 1.0,
        "prompt": "a red room",
        "negative_prompt": None,
        "prompt_tokens": 16,
        "conditioning_scale": 1.0,
        "reference_image": True,
        "vae_precision": "float32",
        "safety_verdict": None,
        "seed": 5,
        "window_frames": 81,
        "chunks": [
            {
                "start": 0,
                "stop": 5,
                "overlap": 0,
                "seed": 5,
                "seeds": [5],
                "faults": [],
                "memory": {"steps": [], "attempts": 1},
            }
        ],
        "seams": [],
    }


def test_what_the_engine_cannot_make_is_refused(folder: Path) -> None:
    made = engine(folder)
    opened = scene(made)
    with pytest.raises(EngineError, match="cameras of 64 × 64 for a view of 64 × 96"):
        opened.generate([dataclasses.replace(camera, width=64) for camera in cameras("left")], seed=1)
    with pytest.raises(ConfigError, match="frames is 4"):
        opened.generate(cameras("left")[:4], seed=1)
    moving = dataclasses.replace(scaffold(), motions=(ObjectMotion.__new__(ObjectMotion),))
    with pytest.raises(EngineError, match="1 objects of the scene move"):
        made.open_scene(moving, view(), "")
    odd = Scaffold(scaffold().depth[:56], LENS, True, None, {})
    path = [dataclasses.replace(camera, height=56) for camera in cameras("left")]
    with pytest.raises(ConfigError, match=r"a height of 56.*multiples of 16"):
        made.open_scene(odd, View(view().picture[:56], LENS, None, {}), "").generate(path, seed=1)


def test_a_frame_that_does_not_fit_the_cache_is_refused(folder: Path) -> None:
    class Backwards(SquintingDepth):
        def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
            given = super().build_scaffold(view, seed=seed)
            return dataclasses.replace(given, depth=np.float32(8) - given.depth)

    opened = scene(engine(folder, Backwards(), window_frames=9))
    with pytest.raises(EngineError, match="cannot be brought onto the 3D cache"):
        opened.generate(cameras("right", 17), seed=3)


# --- scenes that move ----------------------------------------------------------------------------------------------


def moving_scene(made: WanVaceVideo, frames: int = FRAMES) -> WanVaceScene:
    """A near square that slides before the far wall, in front of a still camera; the wall is known behind it."""
    pictures = np.repeat(view().picture[None], frames, axis=0)
    depth = np.repeat(np.linspace(FAR, FAR + 1.5, HEIGHT, dtype=np.float32)[:, None], WIDTH, axis=1)
    background = BackgroundPlate(pictures[0].copy(), depth)
    depths = np.repeat(depth[None], frames, axis=0)
    moving = np.zeros(depths.shape, bool)
    for index in range(frames):
        left = 20 + 4 * index
        pictures[index, 20:44, left : left + 24] = (255 - 10 * index, 0, 0)
        depths[index, 20:44, left : left + 24] = NEAR
        moving[index, 20:44, left : left + 24] = True
    poses = np.repeat(np.eye(4, dtype=np.float32)[None], frames, axis=0)
    clip = InputClip(pictures, poses, "assumed_static")
    seen = View(pictures[0], LENS, None, {}, clip)
    behind = ClipDepth(depths.astype(np.float16), moving, background)
    return made.open_scene(Scaffold(depths[0], LENS, True, None, {}, clip=behind), seen, "a red room")


def test_every_frame_is_warped_from_the_videos_own(folder: Path) -> None:
    opened, path = moving_scene(engine(folder)), sideways(FRAMES)
    assert opened.moving is not None
    empty = np.empty((0, HEIGHT, WIDTH, 3), np.uint8)
    seen, missing = opened._condition(opened.cache, path, empty, range(FRAMES))
    np.testing.assert_array_equal(seen[0], opened.moving.clip.frames[0])
    assert not missing[0].any()
    for index, camera in enumerate(path[1:], start=1):
        red = (seen[index] == (255 - 10 * index, 0, 0)).all(axis=-1)
        assert red.sum() > 300
        # The square is where that frame has it, not where another does: it slides by 4 pixels a frame, and the camera's
        # own motion carries it to the left.
        shift = camera.c2w[0, 3] * LENS[0] / NEAR
        assert abs(np.nonzero(red)[1].mean() - (20 + 4 * index + 12 - shift)) < 2
        warped = opened.moving.warp(index, camera)
        np.testing.assert_array_equal(missing[index], ~warped.valid)
        np.testing.assert_array_equal(seen[index][warped.valid], warped.rgb[warped.valid])
        assert (seen[index][missing[index]] == UNSEEN).all()
    # What the square hides is known from other times: less is missing than of a cache of the frame alone.
    alone = dataclasses.replace(
        opened.scaffold,
        clip=dataclasses.replace(opened.scaffold.clip, background=None),  # pyright: ignore[reportArgumentType]
    )
    bare = opened.engine.open_scene(alone, opened.view, "")
    _, without = bare._condition(bare.cache, path, empty, range(FRAMES))
    assert missing[-1].mean() < 0.8 * without[-1].mean()


def test_reversed_paths_are_made_from_the_video_backwards(folder: Path) -> None:
    made = engine(folder)
    opened, path = moving_scene(made), cameras("left")[::-1]
    clip = opened.generate(path, seed=3)
    assert clip.notes["made_backwards"]
    assert clip.latents is None
    assert opened.moving is not None

    # Lyra's way: the video and its depth turned round, the camera from near to far, the outcome turned round again.
    turned = dataclasses.replace(opened.moving.clip, frames=opened.moving.clip.frames[::-1].copy())
    behind = opened.scaffold.clip
    assert behind is not None
    depth = dataclasses.replace(behind, depth=behind.depth[::-1].copy())
    scaffold_back = dataclasses.replace(opened.scaffold, clip=depth)
    view_back = dataclasses.replace(opened.view, picture=turned.frames[0], clip=turned)
    backwards = made.open_scene(scaffold_back, view_back, "a red room").generate(path[::-1], seed=3)
    assert "made_backwards" not in backwards.notes
    assert backwards.latents is not None
    np.testing.assert_array_equal(clip.frames, backwards.frames[::-1])

    forwards = opened.generate(cameras("left"), seed=3)
    assert forwards.latents is not None
    assert (clip.frames != forwards.frames).any()


def test_the_reference_is_the_frame_that_a_clip_is_made_from(folder: Path) -> None:
    opened = moving_scene(engine(folder))
    assert opened.moving is not None
    given: list[np.ndarray] = []
    original = opened.engine.run

    def noted(work: Any) -> Any:
        given.append(work.args[2])
        return original(work)

    opened.engine.run = noted  # pyright: ignore[reportAttributeAccessIssue]
    for path in (cameras("left"), cameras("left")[::-1]):
        opened.generate(path, seed=1)
    frames = opened.moving.clip.frames
    np.testing.assert_array_equal(given[0], frames[0])
    np.testing.assert_array_equal(given[1], frames[-1])


def test_long_clips_of_a_moving_scene_take_nothing_over_but_the_overlap(folder: Path) -> None:
    opened = moving_scene(engine(folder, window_frames=9, overlap_frames=5), frames=17)
    path = cameras("right", 17)
    clip = opened.generate(path, seed=3)
    assert clip.frames.shape == (17, HEIGHT, WIDTH, 3)
    assert [chunk["stop"] for chunk in clip.notes["chunks"]] == [9, 13, 17]
    # No anchors, hence no engine for depth: what was painted at one time is not what is there at another.
    assert not any("anchor" in chunk for chunk in clip.notes["chunks"])
    assert opened.moving is not None
    assert len(opened.moving) == 17
    assert opened.cache is None


def test_twelve_clips_share_one_cache(folder: Path) -> None:
    opened = moving_scene(engine(folder))
    cache = opened.moving
    clips = [opened.generate(path, seed=1).frames for name in LYRA_VIEWS[:2] for path in both_ways(name)]
    assert opened.moving is cache
    assert len({clip.tobytes() for clip in clips}) == 4


def both_ways(name: str) -> tuple[list[Camera], list[Camera]]:
    return cameras(name), cameras(name)[::-1]


def test_a_path_of_another_length_than_the_video_is_refused(folder: Path) -> None:
    opened = moving_scene(engine(folder))
    with pytest.raises(EngineError, match="9 cameras for a video of 5 frames"):
        opened.generate(cameras("left", 9), seed=1)
