"""Stage `video_latents`: what the moving cameras see, as videos and as latents."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.latent_spaces import LatentSpace
from ..datasets.picture_runs import MINIMUM_PSNR, PictureRunEncoder, save_runs
from ..datasets.tensors import LATENTS, RGB
from ..datasets.video import write_video
from ..ops.contact_sheet import contact_sheet
from ..resources.engines import (
    ClipGenerator,
    EngineIdentity,
    Engines,
    GeneratedClip,
    LatentCodec,
    engine_identity,
    settings_in_key,
)
from ..resources.profiles import LatentCodecSettings, Profile
from ..resources.records import digest
from . import camera_paths, scene_scaffold
from .clip_latents import ClipLatents, latents_of
from .clip_writer import ClipWriter
from .event_metadata import PREVIEW_NAME
from .frame_stream import read_twice
from .observations import observe
from .pictures_of_arrays import PREVIEW_FRAMES, spread
from .stage import Made, Stage, StageContext, StageInputs

NAME = "video_latents"
PRIMARY = ""
"""The latent space that shards hold, where others have the profile's names."""


def video_name(trajectory: str) -> str:
    """File name of a trajectory's video."""
    return f"{trajectory}.mp4"


def pictures_name(trajectory: str) -> str:
    """File name of a trajectory's frames as shards hold them: runs of H.264 with full chroma."""
    return f"{trajectory}.pictures.npz"


def latents_name(trajectory: str, space: str = "") -> str:
    """File name of a trajectory's latents: of shards, or in one more latent space, by the profile's name for it."""
    return ".".join(filter(None, (trajectory, space, "latents", "npz")))


def latent_space_name(space: str = "") -> str:
    """File name of a latent space's declaration, by the same names."""
    return ".".join(filter(None, ("latent_space", space, "json")))


def make(context: StageContext) -> Made:
    """Write <trajectory>.mp4, .pictures.npz and .latents.npz for every trajectory, and latent_space.json.

    Where the profile asks for more latent spaces: also <trajectory>.<space>.latents.npz and latent_space.<space>.json.
    A clip that was generated as a whole is written while the next one is being generated.
    """
    profile = context.profile
    profile.require_engines_for({context.scene.kind})
    frames = profile.frames
    codecs = {PRIMARY: context.engines.latent_codec(), **context.engines.extra_latent_codecs()}
    chosen = _codecs(profile)
    in_one_pass = len(codecs) == 1 and not chosen[PRIMARY].measure_drift
    scaffold = scene_scaffold.read_scaffold(context.inputs)
    view = scene_scaffold.read_view(context.inputs, scaffold)
    scene = context.engines.video().open_scene(scaffold, view, context.scene.prompt or "")
    made = Made(metadata={"latent_space": codecs[PRIMARY].space.id})
    shown: dict[str, list[NDArray[np.uint8]]] = {}
    with ClipWriter() as writer:
        for trajectory in profile.trajectories.names:
            cameras = camera_paths.read_cameras(context.inputs, trajectory, height=frames.height, width=frames.width)
            kept = shown[trajectory] = []
            if isinstance(scene, ClipGenerator):
                clip = scene.generate(cameras, seed=context.seed)
            elif in_one_pass:
                frames_of_clip = scene.frames(cameras, seed=context.seed)
                _write_rendered(context, made, codecs[PRIMARY], trajectory, frames_of_clip, kept)
                continue
            else:
                rendered = np.stack(list(scene.frames(cameras, seed=context.seed)))
                clip = GeneratedClip(rendered, None, None, {})
            spaces = {
                space: latents_of(clip, codec, measure_drift=chosen[space].measure_drift)
                for space, codec in codecs.items()
            }
            writer.submit(functools.partial(_write_clip, context, made, trajectory, clip, spaces, kept))
    for space, codec in codecs.items():
        context.write_json(latent_space_name(space), codec.space.to_json())
    extra = {space: codec.space.id for space, codec in codecs.items() if space != PRIMARY}
    if extra:
        made.metadata["extra_latent_spaces"] = extra
    (context.scratch / PREVIEW_NAME).write_bytes(contact_sheet(shown))
    made.metrics |= {
        "clips": len(shown),
        "frames": len(shown) * frames.count,
        "clip_seconds": len(shown) * frames.count / frames.frames_per_second,
    }
    return made


def _write_rendered(
    context: StageContext,
    made: Made,
    codec: LatentCodec,
    trajectory: str,
    frames: Iterable[NDArray[np.uint8]],
    kept: list[NDArray[np.uint8]],
) -> None:
    """Encode and write a clip as its frames come; the whole clip is never in memory."""
    size = context.profile.frames
    latents = read_twice(
        _keep_some(frames, kept, size.count), codec.encode, functools.partial(_write_pictures, context, trajectory)
    )
    observe(made, RGB, trajectory, np.stack(kept), T=len(kept), H=size.height, W=size.width)
    _write_latents(context, made, trajectory, PRIMARY, latents, codec.space)


def _write_clip(
    context: StageContext,
    made: Made,
    trajectory: str,
    clip: GeneratedClip,
    spaces: Mapping[str, ClipLatents],
    kept: list[NDArray[np.uint8]],
) -> None:
    """Hold a generated clip to its contracts and write its files; runs in the writer's thread."""
    size = context.profile.frames
    observe(made, RGB, trajectory, clip.frames, T=size.count, H=size.height, W=size.width)
    kept += [clip.frames[index] for index in spread(size.count, PREVIEW_FRAMES)]
    facts: dict[str, Any] = dict(clip.notes)
    for space, found in spaces.items():
        _write_latents(context, made, trajectory, space, found.latents, found.space)
        if found.drift is not None:
            metric = "_".join(filter(None, ("latent_drift", space)))
            facts[metric] = found.drift
            made.metrics[metric] = max(found.drift, made.metrics.get(metric, 0.0))
    facts["latents_from"] = {space or "primary": found.source for space, found in spaces.items()}
    made.metadata.setdefault("clips", {})[trajectory] = facts
    _write_pictures(context, trajectory, iter(clip.frames))


def _write_latents(
    context: StageContext, made: Made, trajectory: str, name: str, latents: NDArray[np.float16], space: LatentSpace
) -> None:
    size = context.profile.frames
    shape = space.latent_shape(size.count, size.height, size.width)
    array = ".".join(filter(None, (trajectory, name)))
    observe(made, LATENTS, array, latents, **dict(zip(("C", "t", "h", "w"), shape, strict=True)))
    np.savez(context.scratch / latents_name(trajectory, name), latents=latents)


def _write_pictures(context: StageContext, trajectory: str, frames: Iterator[NDArray[np.uint8]]) -> None:
    """Write a clip's frames twice in one pass: the video for people and layouts, and the runs for shards."""
    video = context.profile.video
    runs = PictureRunEncoder(context.profile.shards.minimum_psnr)
    write_video(
        context.scratch / video_name(trajectory),
        runs.passing(frames),
        fps=context.profile.frames.frames_per_second,
        crf=video.constant_rate_factor,
        group_of_pictures=video.group_of_pictures,
    )
    save_runs(context.scratch / pictures_name(trajectory), runs.runs)


def _keep_some(
    frames: Iterable[NDArray[np.uint8]], kept: list[NDArray[np.uint8]], count: int
) -> Iterator[NDArray[np.uint8]]:
    """Pass frames on, keeping a few spread over the clip."""
    wanted = spread(count, PREVIEW_FRAMES)
    for index, frame in enumerate(frames):
        if index in wanted:
            kept.append(frame)
        yield frame


def read_latents(inputs: StageInputs, trajectory: str) -> np.ndarray:
    """The published latents of a trajectory: (C, t, h, w) float16, normalised as latent_space.json declares."""
    return inputs.arrays(NAME, latents_name(trajectory))["latents"]


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Size, rate, encoder, engine and codec settings. Where weights lie does not matter, their digests do."""
    anchors = {}
    if profile.engines.video_latents.engine == "wan_vace":
        # The depth of a chunk's last frame decides what the next chunk is shown.
        anchors["depth"] = settings_in_key(profile.engines.depth_and_poses)
    # The default is left out: keys of clips that were made before there was a choice stay as they are.
    psnr = profile.shards.minimum_psnr
    pictures = {} if psnr == MINIMUM_PSNR else {"minimum_psnr": psnr}
    return {
        "frames": profile.frames.model_dump(mode="json"),
        "trajectories": list(profile.trajectories.names),
        "video": profile.video.model_dump(mode="json"),
        "engine": settings_in_key(profile.engines.video_latents),
        "codecs": {name: _numerics(codec) for name, codec in _codecs(profile).items()},
        **anchors,
        **pictures,
    }


def _codecs(profile: Profile) -> dict[str, LatentCodecSettings]:
    """Settings of every codec by the name of its space."""
    return {PRIMARY: profile.engines.latent_codec, **profile.engines.extra_latent_codecs}


def _numerics(codec: LatentCodecSettings) -> dict[str, Any]:
    """Settings of a codec that change its numbers or what is recorded of them."""
    return codec.model_dump(mode="json", include={"precision", "tiling", "measure_drift"})


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The video engine with its weights, and the latent spaces that the codecs' weights and normalisation make: a codec
    that is only called otherwise, or has another licence, gives the same latents."""
    video = engine_identity(engines.video())
    weights = dict(video.weights)
    licences = [video.licence]
    for part, identity in engines.video_identities().items():
        weights |= {f"{part}/{name}": value for name, value in identity.weights.items()}
        licences.append(identity.licence)
    spaces = {"latent_space": engines.latent_space()}
    spaces |= {f"latent_space.{name}": codec.space for name, codec in engines.extra_latent_codecs().items()}
    weights |= {name: digest(space.numbers()) for name, space in spaces.items()}
    licences += [space.licence for space in spaces.values()]
    return EngineIdentity(video.name, " AND ".join(dict.fromkeys(licences)), weights)


STAGE = Stage(
    name=NAME,
    inputs=(scene_scaffold.NAME, camera_paths.NAME, "conditioning_view"),
    code_version="3",
    description="One clip for each trajectory: what the moving camera sees, as an H.264 video with short groups of "
    "pictures, as runs of frames with full chroma for training shards, and as latents of a causal video autoencoder, "
    "normalised as their latent space declares.",
    kinds=frozenset({"mp4", "pytorch"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=(
        "resources/embedded_engines.py:RaycastVideo",
        "resources/latent_codec.py:LatentCodec",
        "resources/sana_wm_video.py:SanaWMVideo",
        "resources/wan_vace_video.py:WanVaceVideo",
        "resources/warped_video.py:WarpedVideo",
        "resources/gaussian_video.py:GaussianVideo",
        "resources/gen3c.py:Gen3cVideo",
    ),
    checks={
        "rgb": "Frames are uint8 sRGB at the profile's size.",
        "latents": "Latents are finite float16 of the latent space's shape.",
    },
)
