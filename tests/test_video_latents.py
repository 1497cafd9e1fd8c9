"""Stage video_latents: videos and latents of what the moving cameras see."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sceneloom.assets import camera_paths, conditioning_view, scene_scaffold, video_latents
from sceneloom.assets.observations import ContractBroken
from sceneloom.assets.stage import Made, StageContext
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.picture_runs import decode_frames, load_runs
from sceneloom.datasets.video import probe, read_video
from sceneloom.ops.quality import LUMA
from sceneloom.resources.diffusers_settings import WanVaceVideoSettings
from sceneloom.resources.engines import (
    Camera,
    EngineContract,
    Engines,
    GeneratedClip,
    Scaffold,
    SceneRenderer,
    View,
)
from sceneloom.resources.latent_codec import LatentCodec
from sceneloom.resources.profiles import LatentCodecSettings, Shards
from sceneloom.resources.transformers_settings import DepthAnythingScaffoldSettings

from .tiny import FRAMES, HEIGHT, TRAJECTORIES, WIDTH, MadeCollection, made_collection
from .tiny_autoencoders import save_cosmos, save_wan

KINDS = pytest.mark.parametrize("kind", ["prompt", "image"])


def psnr(first: NDArray[np.number], second: NDArray[np.number]) -> float:
    return float(-10 * np.log10(np.mean((first.astype(float) - second.astype(float)) ** 2 / 255**2) + 1e-12))


def video(made: MadeCollection, kind: str, trajectory: str) -> NDArray[np.uint8]:
    return read_video(made.inputs(made.scene(kind)).path("video_latents", f"{trajectory}.mp4"))


def rendered(made: MadeCollection, kind: str, trajectory: str, seed: int | None = None) -> NDArray[np.uint8]:
    """The frames as the engine gives them, before any encoder."""
    inputs = made.inputs(made.scene(kind))
    cameras = camera_paths.read_cameras(inputs, trajectory, height=HEIGHT, width=WIDTH)
    scene = made.runtime.engines.video().open_scene(
        scene_scaffold.read_scaffold(inputs), conditioning_view.read_view(inputs), ""
    )
    assert isinstance(scene, SceneRenderer)
    if seed is None:
        seed = made.record(made.scene(kind), "video_latents").key_parts.seed
    return np.stack(list(scene.frames(cameras, seed=seed)))


@KINDS
def test_videos_hold_every_frame_at_the_profiles_size_and_rate(kind: str) -> None:
    made = made_collection()
    for trajectory in TRAJECTORIES:
        info = probe(made.inputs(made.scene(kind)).path("video_latents", f"{trajectory}.mp4"))
        assert (info.frames, info.height, info.width, info.codec) == (FRAMES, HEIGHT, WIDTH, "h264")
        assert info.fps == made.profile.frames.frames_per_second


@KINDS
def test_the_first_frame_of_every_trajectory_looks_like_the_view(kind: str) -> None:
    made = made_collection()
    view = conditioning_view.read_view(made.inputs(made.scene(kind))).picture
    for trajectory in TRAJECTORIES:
        frames = video(made, kind, trajectory)
        assert psnr(frames[0], view) > 24
        assert psnr(frames[-1], view) < psnr(frames[0], view) - 3, "the camera moved"


@KINDS
def test_videos_are_what_the_engine_gave(kind: str) -> None:
    made = made_collection()
    published, given = video(made, kind, "left"), rendered(made, kind, "left")
    # H.264 keeps colour at half the resolution, so brightness is compared.
    assert psnr(published @ LUMA, given @ LUMA) > 36
    assert psnr(published, given) > 28


@KINDS
def test_latents_are_the_codecs_of_the_very_frames(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    codec = made.runtime.engines.latent_codec()
    for trajectory in TRAJECTORIES:
        latents = video_latents.read_latents(inputs, trajectory)
        assert (latents.dtype, latents.shape) == (np.float16, (16, 2, HEIGHT // 8, WIDTH // 8))
        np.testing.assert_array_equal(latents, codec.encode(rendered(made, kind, trajectory)))


def test_frames_for_shards_keep_the_psnr_that_the_profile_asks_for(tmp_path: Path) -> None:
    made = made_collection()
    frames, kept = rendered(made, "prompt", "left")[:3], {}
    for asked in (40.0, 46.0):
        profile = made.profile.model_copy(update={"shards": Shards(minimum_psnr=asked)})
        inputs, engines = made.inputs(made.scene()), made.runtime.engines
        context = StageContext(made.scene(), profile, inputs, tmp_path, seed=0, engines=engines)
        video_latents._write_pictures(context, "left", iter(frames))
        (run,) = load_runs(tmp_path / video_latents.pictures_name("left"))
        kept[asked] = run
        assert psnr(decode_frames(run.stream, run.packets, range(3)), frames) >= asked
    assert len(kept[40.0].stream) < len(kept[46.0].stream)
    assert (tmp_path / "left.mp4").is_file()


def test_the_latent_space_is_declared_beside_the_latents() -> None:
    made = made_collection()
    scene = made.scene()
    declared = made.inputs(scene).json("video_latents", "latent_space.json")
    space = LatentSpace.from_json(declared)
    assert space == made.runtime.engines.latent_codec().space
    assert space.latent_shape(FRAMES, HEIGHT, WIDTH) == (16, 2, HEIGHT // 8, WIDTH // 8)
    assert made.record(scene, "video_latents").metadata["latent_space"] == declared["id"]


def test_what_moves_the_codecs_files_does_not_change_the_key_and_what_changes_them_does() -> None:
    made = made_collection()
    identity = video_latents.engine(made.runtime.engines, made.scene())
    assert identity.name == "raycast"
    assert set(identity.weights) == {"latent_space"}
    settings = video_latents.settings(made.profile, made.scene())
    assert "path" not in str(settings)
    assert "device" not in settings["engine"]


def test_the_name_and_the_licence_of_a_codecs_weights_change_no_key_and_its_numbers_do(tmp_path: Path) -> None:
    made = made_collection()

    def weights_in_key(folder: Path) -> dict[str, Any]:
        codec = LatentCodecSettings(path=str(folder))
        engines = made.profile.engines.model_copy(update={"latent_codec": codec})
        identity = video_latents.engine(Engines(made.profile.model_copy(update={"engines": engines})), made.scene())
        return identity.for_key()

    save_cosmos(tmp_path / "weights")
    first = weights_in_key(tmp_path / "weights")
    shutil.copytree(tmp_path / "weights", tmp_path / "moved")
    (tmp_path / "moved" / "README.md").write_text("---\nlicense: mit\n---\n")
    assert LatentCodec.load(tmp_path / "moved").space.licence == "mit"
    assert weights_in_key(tmp_path / "moved") == first
    save_cosmos(tmp_path / "normalised", latents_std=[2.0] * 16)
    save_cosmos(tmp_path / "larger", num_layers=2)
    assert len({json.dumps(weights_in_key(tmp_path / name)) for name in ("weights", "normalised", "larger")}) == 3


def test_the_contact_sheet_shows_a_row_of_frames_for_each_trajectory() -> None:
    made = made_collection()
    content = made.inputs(made.scene()).path("video_latents", "preview.webp").read_bytes()
    sheet = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    first = video(made, "prompt", "left")[0]
    assert sheet.shape[1] == 4 * (WIDTH + 2) - 2
    # Below the first row's label stands the first frame of the first trajectory.
    assert psnr(sheet[14 : 14 + HEIGHT, :WIDTH], first) > 22
    assert sheet.shape[0] == len(TRAJECTORIES) * (14 + HEIGHT + 2)


def test_numbers_of_the_record_count_clips_and_frames() -> None:
    made = made_collection()
    metrics = made.record(made.scene(), "video_latents").metrics
    assert metrics["clips"] == len(TRAJECTORIES)
    assert metrics["frames"] == len(TRAJECTORIES) * FRAMES
    assert metrics["clip_seconds"] == pytest.approx(len(TRAJECTORIES) * FRAMES / 24)


def test_trajectories_share_their_first_picture() -> None:
    made = made_collection()
    pictures = [rendered(made, "prompt", trajectory)[0] for trajectory in TRAJECTORIES]
    for first, second in itertools.pairwise(pictures):
        np.testing.assert_array_equal(first, second)


def test_a_pixel_is_seen_where_its_depth_projects_it() -> None:
    """The video's camera is the published one: an independent warp of frame 0 lands on frame 4."""
    made = made_collection()
    inputs = made.inputs(made.scene("prompt"))
    cameras = camera_paths.read_cameras(inputs, "left", height=HEIGHT, width=WIDTH)
    depth = inputs.arrays("depth_and_poses", "left.depth.npz")["depth"][4].astype(np.float64)
    frames = video(made, "prompt", "left")
    seen = _sampled_from(frames[0], depth, cameras[4], cameras[0])
    covered = ~np.isnan(seen[..., 0])
    assert covered.mean() > 0.7
    difference = np.abs(seen - frames[4])[covered].mean(axis=-1)
    unmoved = np.abs(frames[0].astype(float) - frames[4])[covered].mean(axis=-1)
    assert np.median(difference) < 6
    assert np.mean(difference) < np.mean(unmoved)


def _sampled_from(
    picture: NDArray[np.uint8], depth: NDArray[np.float64], target: Camera, source: Camera
) -> NDArray[np.float64]:
    """The target's view, each pixel fetched from `picture` by the nearest pixel; NaN where it is not in the picture."""
    fx, fy, cx, cy = target.intrinsics
    rows, columns = np.indices(depth.shape) + 0.5
    local = np.stack([(columns - cx) / fx * depth, (rows - cy) / fy * depth, depth, np.ones_like(depth)], axis=-1)
    in_source = local @ (np.linalg.inv(source.c2w) @ target.c2w).T
    fx, fy, cx, cy = source.intrinsics
    column = np.floor(in_source[..., 0] / in_source[..., 2] * fx + cx).astype(int)
    row = np.floor(in_source[..., 1] / in_source[..., 2] * fy + cy).astype(int)
    inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    seen = np.full((*depth.shape, 3), np.nan)
    seen[inside] = picture[row[inside], column[inside]]
    return seen


class _Generator:
    """A video engine that makes clips as a whole: the view, moved sideways."""

    contract = EngineContract("generator", "library", frozenset({"view"}), frozenset({"frames"}), "MIT")

    def __init__(self, space: LatentSpace | None = None) -> None:
        self.space = space
        self.seeds: list[int] = []
        self.opened_with: list[object] = []

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> _Generator:
        self.opened_with = [scaffold, view, prompt]
        self.picture = view.picture
        return self

    def generate(self, cameras: Sequence[Camera], *, seed: int) -> GeneratedClip:
        self.seeds.append(seed)
        frames = np.stack([np.roll(self.picture, 3 * index, axis=1) for index in range(len(cameras))])
        latents = None
        if self.space is not None:
            draws = np.random.default_rng(seed).standard_normal(self.space.latent_shape(*frames.shape[:3]))
            latents = draws.astype(np.float16)
        return GeneratedClip(frames, latents, self.space, {"steps": 3})


def generate(folder: Path, generator: _Generator, **codecs: Any) -> Made:
    """Make the stage for the shared prompt scene with a generator in place of the ray caster."""
    made = made_collection()
    scene = made.scene("prompt")
    chosen = made.profile.engines.model_copy(update=codecs)
    profile = made.profile.model_copy(update={"engines": chosen})
    engines = Engines(profile)
    context = StageContext(
        scene=scene, profile=profile, inputs=made.inputs(scene), scratch=folder, seed=11, engines=engines
    )
    with mock.patch.object(engines, "video", return_value=generator):
        return video_latents.make(context)


def test_a_generators_clips_are_written_with_its_own_latents_and_notes(tmp_path: Path) -> None:
    made = made_collection()
    space = dataclasses.replace(made.runtime.engines.latent_space(), id="as the generator calls it")
    generator = _Generator(space)
    result = generate(tmp_path, generator)
    assert generator.opened_with[2] == made.scene("prompt").prompt
    assert generator.seeds == [11] * len(TRAJECTORIES)
    for trajectory in TRAJECTORIES:
        frames = read_video(tmp_path / f"{trajectory}.mp4")
        expected = np.stack([np.roll(generator.picture, 3 * index, axis=1) for index in range(FRAMES)])
        assert psnr(frames @ LUMA, expected @ LUMA) > 34
        with np.load(tmp_path / f"{trajectory}.latents.npz") as archive:
            draws = np.random.default_rng(11).standard_normal(space.latent_shape(FRAMES, HEIGHT, WIDTH))
            np.testing.assert_array_equal(archive["latents"], draws.astype(np.float16))
        facts = result.metadata["clips"][trajectory]
        assert facts["steps"] == 3
        assert facts["latents_from"] == {"primary": "generator"}
    assert [each.array for each in result.contracts if each.contract == "latents"] == list(TRAJECTORIES)
    assert (tmp_path / "preview.webp").stat().st_size > 0


def test_a_clip_of_another_size_breaks_its_contract(tmp_path: Path) -> None:
    generator = _Generator(made_collection().runtime.engines.latent_space())
    whole = generator.generate

    def shorter(cameras: Sequence[Camera], *, seed: int) -> GeneratedClip:
        clip = whole(cameras, seed=seed)
        return dataclasses.replace(clip, frames=clip.frames[:-1])

    with (
        mock.patch.object(generator, "generate", shorter),
        pytest.raises(ContractBroken, match=r"expected shape \(9, 64, 112, 3\), found shape \(8, 64, 112, 3\)"),
    ):
        generate(tmp_path, generator)


@pytest.mark.parametrize("generated", [True, False])
def test_a_clip_is_stored_in_every_latent_space_that_is_asked_for(generated: bool, tmp_path: Path) -> None:
    save_wan(tmp_path / "wan")
    made = made_collection()
    extra = LatentCodecSettings(path=str(tmp_path / "wan"), architecture="wan")
    (tmp_path / "out").mkdir()
    generator: Any = _Generator() if generated else made.runtime.engines.video()
    result = generate(tmp_path / "out", generator, extra_latent_codecs={"wan": extra})
    codec = LatentCodec.load(tmp_path / "wan")
    declared = LatentSpace.from_json(json.loads((tmp_path / "out" / "latent_space.wan.json").read_text()))
    assert declared == codec.space
    assert result.metadata["extra_latent_spaces"] == {"wan": codec.space.id}
    with np.load(tmp_path / "out" / "left.wan.latents.npz") as archive:
        assert archive["latents"].shape == codec.space.latent_shape(FRAMES, HEIGHT, WIDTH)
    if not generated:
        seed_of_the_test = 11
        frames = rendered(made, "prompt", "left", seed_of_the_test)
        with np.load(tmp_path / "out" / "left.latents.npz") as archive:
            np.testing.assert_array_equal(archive["latents"], made.runtime.engines.latent_codec().encode(frames))


def test_drift_is_recorded_by_clip_and_the_worst_as_a_metric(tmp_path: Path) -> None:
    save_cosmos(tmp_path / "cosmos")
    (tmp_path / "out").mkdir()
    codec = LatentCodecSettings(path=str(tmp_path / "cosmos"), measure_drift=True)
    result = generate(tmp_path / "out", _Generator(), latent_codec=codec)
    drifts = [result.metadata["clips"][trajectory]["latent_drift"] for trajectory in TRAJECTORIES]
    assert result.metrics["latent_drift"] == max(drifts) > 0


@pytest.mark.parametrize("generated", [True, False])
def test_every_codec_has_its_own_say_on_whether_drift_is_measured(generated: bool, tmp_path: Path) -> None:
    save_wan(tmp_path / "wan")
    (tmp_path / "out").mkdir()
    generator: Any = _Generator() if generated else made_collection().runtime.engines.video()
    extra = LatentCodecSettings(path=str(tmp_path / "wan"), architecture="wan", measure_drift=True)
    result = generate(tmp_path / "out", generator, extra_latent_codecs={"wan": extra})
    drifts = [result.metadata["clips"][trajectory]["latent_drift_wan"] for trajectory in TRAJECTORIES]
    assert result.metrics["latent_drift_wan"] == max(drifts) > 0
    assert "latent_drift" not in result.metrics


def test_the_depth_engine_enters_the_key_of_the_generator_that_asks_it() -> None:
    made = made_collection()
    assert "depth" not in video_latents.settings(made.profile, made.scene())
    keys = []
    for relief in (5.0, 9.0):
        chosen = {
            "video_latents": WanVaceVideoSettings(id="owner/video"),
            "depth_and_poses": DepthAnythingScaffoldSettings(id="owner/depth", relief=relief),
        }
        profile = made.profile.model_copy(update={"engines": made.profile.engines.model_copy(update=chosen)})
        keys.append(video_latents.settings(profile, made.scene()))
    assert keys[0]["depth"]["engine"] == "depth_anything"
    assert [key.pop("depth")["relief"] for key in keys] == [5.0, 9.0]
    assert keys[0] == keys[1]


def test_codecs_with_what_changes_their_numbers_enter_the_key(tmp_path: Path) -> None:
    save_wan(tmp_path)
    made = made_collection()
    plain = {"precision": "float32", "tiling": False, "measure_drift": False}
    assert video_latents.settings(made.profile, made.scene())["codecs"] == {"": plain}
    extra = LatentCodecSettings(path=str(tmp_path), architecture="wan", precision="bfloat16")
    engines = made.profile.engines.model_copy(update={"extra_latent_codecs": {"wan": extra}})
    profile = made.profile.model_copy(update={"engines": engines})
    assert video_latents.settings(profile, made.scene())["codecs"] == {
        "": plain,
        "wan": {**plain, "precision": "bfloat16"},
    }
    identity = video_latents.engine(Engines(profile), made.scene())
    assert set(identity.weights) == {"latent_space", "latent_space.wan"}
