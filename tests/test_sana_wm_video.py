"""Engine `sana_wm` on a tiny pipeline of the real class: the model gets our cameras, and the clips follow from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.ops.cameras import centred_intrinsics, look_at
from sceneloom.ops.trajectories import LYRA_VIEWS, TrajectoryContext, build_path
from sceneloom.resources.diffusers_settings import SanaWMVideoSettings
from sceneloom.resources.engines import Camera, Scaffold, View
from sceneloom.resources.failures import StageFailed
from sceneloom.resources.latent_codec import latent_space
from sceneloom.resources.sana_wm_video import SanaWMScene, SanaWMVideo

from .tiny_pipelines import calls_of, write_sana_wm

FRAMES, HEIGHT, WIDTH = 9, 64, 96
LENS = centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=1.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sana_wm(tmp_path_factory.mktemp("sana") / "sana_wm")


def engine(folder: Path, **changes: Any) -> SanaWMVideo:
    settings = {"path": str(folder), "precision": "float32", "steps": 2, "prompt_tokens": 16, **changes}
    return SanaWMVideo(SanaWMVideoSettings.model_validate(settings))


def view() -> View:
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return View(picture, LENS, None, {})


def scaffold(*, metric: bool = True) -> Scaffold:
    depth = np.full((HEIGHT, WIDTH), 2.5, np.float32)
    depth[0] = 0
    return Scaffold(depth, LENS, metric, None, {})


def scene(made: SanaWMVideo, prompt: str = "a red room", *, metric: bool = True) -> SanaWMScene:
    return made.open_scene(scaffold(metric=metric), view(), prompt)


def cameras(trajectory: str, frames: int = FRAMES) -> list[Camera]:
    path = build_path(trajectory, TrajectoryContext(frames=frames, centre_depth=2.5), seed=1)
    return [Camera(pose, LENS, HEIGHT, WIDTH) for pose in path.c2w]


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
    ):
        assert (other.frames != clip.frames).mean() > 0.01


def test_long_clips_are_decoded_in_runs_of_frames_as_the_model_was_trained_on(folder: Path) -> None:
    latents = torch.randn(1, 4, 17, 2, 2, generator=torch.Generator().manual_seed(0))
    with engine(folder).pipeline() as pipeline, torch.inference_mode():
        vae, runs = pipeline.vae, []
        hook = vae.decoder.register_forward_pre_hook(lambda _, arguments: runs.append(arguments[0].shape[2]))
        frames = pipeline._decode_latents(latents)
        assert frames.shape == (1, 3, 129, 64, 64)
        # Of 12 latent frames, one more to begin each with, every 8.
        assert runs == [13, 9, 1]
        runs.clear()
        pipeline._decode_latents(latents[:, :, :11])
        hook.remove()
    assert runs == [11]


def test_the_clip_is_what_the_pipeline_makes_of_the_words(folder: Path) -> None:
    # The engine hands over embeddings; the pipeline's own way, with words, must give the same frames.
    made = engine(folder, negative_prompt="fog")
    path = cameras("zoom_in")
    clip = scene(made).generate(path, seed=3)
    from PIL import Image

    with made.pipeline() as pipeline:
        output = pipeline(
            image=Image.fromarray(view().picture),
            prompt="a red room",
            negative_prompt="fog",
            c2w=np.stack([camera.c2w for camera in path]),
            intrinsics=LENS,
            height=HEIGHT,
            width=WIDTH,
            num_frames=FRAMES,
            num_inference_steps=2,
            generator=torch.Generator("cpu").manual_seed(3),
            max_sequence_length=16,
        )
    np.testing.assert_array_equal(clip.frames, np.rint(output.frames * 255).astype(np.uint8))


@pytest.mark.parametrize("metric", [True, False])
def test_the_model_gets_our_cameras(folder: Path, metric: bool) -> None:
    # A path that turns, rolls and moves, with a zooming lens.
    times = np.linspace(0, 1, 17)
    c2w = look_at(np.stack([times, -0.4 * times, 0.3 * times], axis=1), np.array([0.2, 0.1, 3.0]))
    c2w = np.linalg.inv(c2w[0]) @ c2w
    lenses = LENS * np.stack([1 + 0.3 * times, 1 + 0.2 * times, np.ones(17), np.ones(17)], axis=1)
    path = [
        Camera(pose.astype(np.float32), lens.astype(np.float32), HEIGHT, WIDTH)
        for pose, lens in zip(c2w, lenses, strict=True)
    ]
    opened = scene(engine(folder, guidance=1.0, scene_depth=5.0), metric=metric)
    # Depth is 2.5 units deep: where those are not metres, the scene is taken to be 5 m deep.
    assert opened.metres_per_unit == (1.0 if metric else 2.0)
    with opened.engine.pipeline() as pipeline:
        pass
    with calls_of(pipeline.transformer) as calls:
        opened.generate(path, seed=1)
    conditions = calls[0][1]["camera_conditions"].numpy()
    plucker = calls[0][1]["chunk_plucker"].numpy()

    rows, columns = HEIGHT // 32, WIDTH // 32
    assert conditions.shape == (1, 3, 20)
    assert plucker.shape == (1, 6 * 8, 3, rows, columns)
    poses = c2w.copy()
    poses[:, :3, 3] *= opened.metres_per_unit
    lens_of_latents = lenses / 32
    for latent, frame in enumerate((0, 8, 16)):
        np.testing.assert_allclose(conditions[0, latent, :16].reshape(4, 4), poses[frame], atol=1e-6)
        np.testing.assert_allclose(conditions[0, latent, 16:], lens_of_latents[frame], rtol=1e-5)
        first = max(frame - 7, 0)
        for step in range(8):
            fx, fy, cx, cy = lens_of_latents[first + step]
            pose = poses[first + step]
            for row in range(rows):
                for column in range(columns):
                    ray = pose[:3, :3] @ np.array([(column - cx) / fx, (row - cy) / fy, 1.0])
                    ray /= np.linalg.norm(ray)
                    expected = [*ray, *np.cross(pose[:3, 3], ray)]
                    given = plucker[0, 6 * step : 6 * step + 6, latent, row, column]
                    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_the_first_frame_is_the_view(folder: Path) -> None:
    opened = scene(engine(folder))
    with opened.engine.pipeline() as pipeline:
        pass
    with calls_of(pipeline.vae.encoder) as calls:
        opened.generate(cameras("left"), seed=1)
    given = calls[0][0][0][0, :, 0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(given, view().picture / 127.5 - 1, atol=1e-6)


def test_six_trajectories_encode_the_prompt_once(folder: Path) -> None:
    opened = scene(engine(folder))
    with opened.engine.pipeline() as pipeline:
        encoder = pipeline.text_encoder
    with calls_of(encoder) as calls:
        clips = [opened.generate(cameras(name), seed=1).frames for name in LYRA_VIEWS]
    assert len(calls) == 2  # the prompt, and the negative prompt
    assert len({clip.tobytes() for clip in clips}) == 6
    with calls_of(encoder) as calls:
        scene(opened.engine, "a blue sea").generate(cameras("left"), seed=1)
    assert len(calls) == 1


def test_the_latents_show_the_frames(folder: Path) -> None:
    made = engine(folder)
    clip = scene(made).generate(cameras("up"), seed=2)
    assert clip.latents is not None
    assert clip.latent_space is not None
    assert clip.latents.dtype == np.float16
    assert clip.latents.shape == clip.latent_space.latent_shape(FRAMES, HEIGHT, WIDTH)
    assert clip.latent_space == latent_space(folder)
    assert (clip.latent_space.temporal_stride, clip.latent_space.spatial_stride) == (8, 32)
    raw = torch.from_numpy(clip.latent_space.denormalise(clip.latents))[None]
    with made.pipeline() as pipeline, torch.no_grad():
        decoded = pipeline.vae.decode(raw).sample[0].permute(1, 2, 3, 0)
    frames = ((decoded + 1) * 127.5).clamp(0, 255).numpy()
    # float16 storage moves a few levels at most.
    assert np.abs(frames - clip.frames).mean() < 0.5


def test_a_path_that_ends_at_the_view_is_made_backwards(folder: Path) -> None:
    opened = scene(engine(folder))
    forwards = opened.generate(cameras("left"), seed=3)
    backwards = opened.generate(cameras("left")[::-1], seed=3)
    np.testing.assert_array_equal(backwards.frames, forwards.frames[::-1])
    assert backwards.latents is None
    assert backwards.latent_space is None
    assert backwards.notes["made_backwards"]
    assert not forwards.notes["made_backwards"]


def test_long_paths_go_on_from_the_last_frame(folder: Path) -> None:
    opened = scene(engine(folder, window_frames=9))
    path = cameras("zoom_out", 21 - 4)
    with opened.engine.pipeline() as pipeline:
        encoder = pipeline.vae.encoder
    with calls_of(encoder) as calls:
        clip = opened.generate(path, seed=3)
    assert clip.frames.shape == (17, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(clip.frames[:9], opened.generate(path[:9], seed=3).frames)
    second = calls[1][0][0][0, :, 0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(second, clip.frames[8] / 127.5 - 1, atol=1e-6)
    assert clip.latents is None
    notes = json.loads(json.dumps(clip.notes))
    assert [(chunk["start"], chunk["stop"], chunk["overlap"]) for chunk in notes["chunks"]] == [(0, 9, 0), (8, 17, 1)]
    assert notes["chunks"][0]["seed"] == notes["seed"] == 3
    assert notes["chunks"][1]["seed"] != 3
    assert [seam["frame"] for seam in notes["seams"]] == [9]
    assert clip.frames[9:].std() > 0


def test_notes_say_how_it_was_made(folder: Path) -> None:
    notes = json.loads(json.dumps(dict(scene(engine(folder, guidance=1.0)).generate(cameras("left"), seed=5).notes)))
    assert notes.pop("model")["id"] == "sana_wm"
    assert notes == {
        "engine": "sana_wm",
        "pipeline": "SanaWMPipeline",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "steps": 2,
        "guidance": 1.0,
        "prompt": "a red room",
        "negative_prompt": None,
        "prompt_tokens": 16,
        "vae_precision": "float32",
        "safety_verdict": None,
        "seed": 5,
        "window_frames": 161,
        "chunks": [
            {
                "start": 0,
                "stop": 9,
                "overlap": 0,
                "seed": 5,
                "seeds": [5],
                "faults": [],
                "memory": {"steps": [], "attempts": 1},
            }
        ],
        "seams": [],
        "made_backwards": False,
        "metres_per_unit": 1.0,
    }


def test_scenes_without_words_take_the_profiles(folder: Path) -> None:
    clip = scene(engine(folder, prompt="a red room"), "").generate(cameras("left"), seed=3)
    assert clip.notes["prompt"] == "a red room"
    np.testing.assert_array_equal(clip.frames, scene(engine(folder)).generate(cameras("left"), seed=3).frames)


def test_what_the_model_cannot_make_is_refused(folder: Path) -> None:
    made = engine(folder)
    opened = scene(made)
    with pytest.raises(EngineError, match="neither starts nor ends at the view's own camera"):
        opened.generate(cameras("left")[2:-2], seed=1)
    with pytest.raises(EngineError, match="cameras of 64 × 64 for a view of 64 × 96"):
        opened.generate([dataclasses.replace(camera, width=64) for camera in cameras("left")], seed=1)
    with pytest.raises(ConfigError, match="frames is 8"):
        opened.generate(cameras("left")[:8], seed=1)
    with pytest.raises(EngineError, match="no valid depth"):
        made.open_scene(Scaffold(np.zeros((HEIGHT, WIDTH), np.float32), LENS, False, None, {}), view(), "")
    small = View(view().picture[:48], LENS, None, {})
    path = [dataclasses.replace(camera, height=48) for camera in cameras("left")]
    with pytest.raises(ConfigError, match=r"a height of 48.*multiples of 32"):
        made.open_scene(scaffold(), small, "a red room").generate(path, seed=1)


def test_frames_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    opened = scene(engine(write_sana_wm(tmp_path / "broken")))
    with opened.engine.pipeline() as pipeline, torch.no_grad():
        next(pipeline.vae.decoder.conv_out.parameters()).fill_(float("nan"))
    with pytest.raises(StageFailed, match=r"frames 0 to 8, engine sana_wm: .*NaN"):
        opened.generate(cameras("left"), seed=1)


def test_a_clip_too_large_for_memory_is_made_in_smaller_chunks(folder: Path) -> None:
    opened = scene(engine(folder, window_frames=81))
    with opened.engine.pipeline() as pipeline:
        denoiser = pipeline.transformer

    def too_large(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if arguments[0].shape[2] > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = denoiser.register_forward_pre_hook(too_large, with_kwargs=True)
    clip = opened.generate(cameras("left", 57), seed=1)
    handle.remove()
    assert len(clip.frames) == 57
    assert clip.notes["window_frames"] == 41
    assert [chunk["stop"] for chunk in clip.notes["chunks"]] == [41, 57]
    assert clip.notes["chunks"][0]["memory"]["steps"] == ["vae_tiling", "vae_slicing"]
