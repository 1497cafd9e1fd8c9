"""Stage `video_latents`: what the moving cameras see, as videos and as latents."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.tensors import LATENTS, RGB
from ..datasets.video import write_video
from ..ops.contact_sheet import contact_sheet
from ..resources.engines import EngineIdentity, Engines
from ..resources.profiles import Profile
from ..resources.records import digest
from . import camera_paths, scene_scaffold
from .event_metadata import PREVIEW_NAME
from .frame_stream import read_twice
from .observations import observe
from .pictures_of_arrays import PREVIEW_FRAMES, spread
from .stage import Made, Stage, StageContext, StageInputs

NAME = "video_latents"
LATENT_SPACE = "latent_space.json"


def video_name(trajectory: str) -> str:
    """File name of a trajectory's video."""
    return f"{trajectory}.mp4"


def latents_name(trajectory: str) -> str:
    """File name of a trajectory's latents."""
    return f"{trajectory}.latents.npz"


def make(context: StageContext) -> Made:
    """Write <trajectory>.mp4 and <trajectory>.latents.npz for every trajectory, and latent_space.json."""
    profile = context.profile
    frames = profile.frames
    codec = context.engines.latent_codec()
    scene = context.engines.video().open_scene(scene_scaffold.read_scaffold(context.inputs))
    made = Made(metadata={"latent_space": codec.space.id})
    shown: dict[str, list[NDArray[np.uint8]]] = {}
    shape = codec.space.latent_shape(frames.count, frames.height, frames.width)
    for trajectory in profile.trajectories.names:
        cameras = camera_paths.read_cameras(context.inputs, trajectory, height=frames.height, width=frames.width)
        kept = shown[trajectory] = []
        latents = read_twice(
            _keep_some(scene.frames(cameras, seed=context.seed), kept, len(cameras)),
            codec.encode,
            functools.partial(
                write_video,
                context.scratch / video_name(trajectory),
                fps=frames.frames_per_second,
                crf=profile.video.constant_rate_factor,
                group_of_pictures=profile.video.group_of_pictures,
            ),
        )
        observe(made, RGB, trajectory, np.stack(kept), T=len(kept), H=frames.height, W=frames.width)
        observe(made, LATENTS, trajectory, latents, **dict(zip(("C", "t", "h", "w"), shape, strict=True)))
        np.savez(context.scratch / latents_name(trajectory), latents=latents)
    context.write_json(LATENT_SPACE, codec.space.to_json())
    (context.scratch / PREVIEW_NAME).write_bytes(contact_sheet(shown))
    made.metrics |= {
        "clips": len(shown),
        "frames": len(shown) * frames.count,
        "clip_seconds": len(shown) * frames.count / frames.frames_per_second,
    }
    return made


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
    """Size, rate, encoder and engine settings. Where the codec's weights lie does not matter, their digest does."""
    return {
        "frames": profile.frames.model_dump(mode="json"),
        "trajectories": list(profile.trajectories.names),
        "video": profile.video.model_dump(mode="json"),
        "engine": profile.engines.video_latents.model_dump(mode="json", exclude={"device"}),
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The video engine, and the latent space that the codec's weights and normalisation make."""
    space = engines.latent_space()
    contract = engines.video().contract
    licences = dict.fromkeys([contract.licence, space.licence])
    return EngineIdentity(contract.name, " AND ".join(licences), {"latent_space": digest(space.to_json())})


STAGE = Stage(
    name=NAME,
    inputs=(scene_scaffold.NAME, camera_paths.NAME, "conditioning_view"),
    code_version="1",
    description="One clip for each trajectory: what the moving camera sees, as an H.264 video with short groups of "
    "pictures and as latents of a causal video autoencoder, normalised as their latent space declares.",
    kinds=frozenset({"mp4", "pytorch"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=("resources/embedded_engines.py:RaycastVideo", "resources/latent_codec.py:LatentCodec"),
    checks={
        "rgb": "Frames are uint8 sRGB at the profile's size.",
        "latents": "Latents are finite float16 of the latent space's shape.",
    },
)
