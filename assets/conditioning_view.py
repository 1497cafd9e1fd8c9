"""Stage `conditioning_view`: the picture that a scene is seen by first; of a video, the clip that begins with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.lossless_video import write_lossless_video
from ..datasets.tensors import C2W, INTRINSICS, RGB
from ..datasets.video import read_video, write_video
from ..ops import scene_geometry_file
from ..resources.engines import EngineIdentity, Engines, InputClip, View, engine_identity, settings_in_key
from ..resources.profiles import Profile
from ..resources.video_view import NOT_YET_ESTIMATED
from .observations import observe
from .pictures_of_arrays import read_png, write_png, write_preview
from .stage import Made, Stage, StageContext, StageInputs

NAME = "conditioning_view"
PICTURE = "view.png"
CAMERA = "camera.json"
GEOMETRY = "scene.npz"
CLIP = "clip.mp4"
EXACT_CLIP = "clip.lossless.mp4"
CLIP_CAMERAS = "clip_cameras.npz"


def make(context: StageContext) -> Made:
    """Write view.png, camera.json, and scene.npz where the view was rendered from a scene of our own.

    Of a video also clip.mp4 for people, clip.lossless.mp4 with exactly the frames that later stages see, and
    clip_cameras.npz (c2w) with the poses of its camera, unless the stage of the scaffold estimates them.
    """
    frames = context.profile.frames
    view = context.engines.view(context.scene).make_view(
        context.scene, height=frames.height, width=frames.width, seed=context.seed
    )
    made = Made(metadata={"prompt": context.scene.prompt, **view.notes})
    observe(made, RGB, "view", view.picture[None], T=1, H=frames.height, W=frames.width)
    observe(made, INTRINSICS, "camera", view.intrinsics[None].astype(np.float32), T=1)
    write_png(context.scratch / PICTURE, view.picture)
    context.write_json(
        CAMERA,
        {
            "intrinsics": [float(value) for value in view.intrinsics],
            "height": frames.height,
            "width": frames.width,
            "notes": dict(view.notes),
        },
    )
    if view.geometry is not None:
        (context.scratch / GEOMETRY).write_bytes(scene_geometry_file.to_bytes(view.geometry))
        made.metrics["objects"] = len(view.geometry.instances)
        made.metrics["triangles"] = sum(len(instance.mesh.faces) for instance in view.geometry.instances)
    if view.clip is not None:
        _write_clip(context, made, view.clip)
    made.metrics["mean_brightness"] = float(view.picture.mean() / 255)
    write_preview(context.scratch, view.picture)
    return made


def _write_clip(context: StageContext, made: Made, clip: InputClip) -> None:
    frames, video = context.profile.frames, context.profile.video
    observe(made, RGB, "clip", clip.frames, T=frames.count, H=frames.height, W=frames.width)
    write_lossless_video(context.scratch / EXACT_CLIP, clip.frames, fps=frames.frames_per_second)
    write_video(
        context.scratch / CLIP,
        clip.frames,
        fps=frames.frames_per_second,
        crf=video.constant_rate_factor,
        group_of_pictures=video.group_of_pictures,
    )
    if clip.cameras_from != NOT_YET_ESTIMATED:
        observe(made, C2W, "clip camera", clip.c2w, T=frames.count)
        np.savez(context.scratch / CLIP_CAMERAS, c2w=clip.c2w)
    made.metrics["frames"] = len(clip.frames)


def read_view(inputs: StageInputs, *, with_geometry: bool = True, with_clip: bool = False) -> View:
    """The published view, with its geometry and its clip where there is one and it is wanted."""
    camera = inputs.json(NAME, CAMERA)
    geometry = None
    if with_geometry and GEOMETRY in inputs.names(NAME):
        geometry = scene_geometry_file.from_bytes(inputs.path(NAME, GEOMETRY).read_bytes())
    clip = None
    if with_clip and EXACT_CLIP in inputs.names(NAME):
        frames, cameras_from = read_video(inputs.path(NAME, EXACT_CLIP)), camera["notes"]["camera"]
        unknown = cameras_from == NOT_YET_ESTIMATED
        poses = np.tile(np.eye(4, dtype=np.float32), (len(frames), 1, 1)) if unknown else read_clip_cameras(inputs)
        clip = InputClip(frames, poses, cameras_from)
    return View(read_png(inputs.path(NAME, PICTURE)), np.array(camera["intrinsics"]), geometry, camera["notes"], clip)


def read_clip_cameras(inputs: StageInputs) -> NDArray[np.float32]:
    """(T, 4, 4) float32 poses of the camera of the scene's video; of a scene without one, or of which the stage of the
    scaffold estimates them, an empty array."""
    if CLIP_CAMERAS not in inputs.names(NAME):
        return np.empty((0, 4, 4), np.float32)
    return inputs.arrays(NAME, CLIP_CAMERAS)["c2w"]


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Size, field of view and the engine's settings; of a video also how many frames are taken, and at what rate."""
    engine = profile.engines.conditioning_view.of(scene.kind)
    lasting: dict[str, Any] = {}
    if scene.kind == "video":
        lasting = {"frames": profile.frames.model_dump(mode="json"), "video": profile.video.model_dump(mode="json")}
        if profile.engines.scene_scaffold.estimates_cameras_of_videos:
            lasting["cameras_are_estimated"] = True
    return {
        "height": profile.frames.height,
        "width": profile.frames.width,
        "horizontal_field_of_view": profile.view.horizontal_field_of_view,
        "engine": settings_in_key(engine),
        **lasting,
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The view engine's identity; a picture or video brings its own licence."""
    identity = engine_identity(engines.view(scene))
    licences = dict.fromkeys([identity.licence, scene.licence] if identity.weights else [scene.licence])
    return dataclasses.replace(identity, licence=" AND ".join(filter(None, licences)) or identity.licence)


STAGE = Stage(
    name=NAME,
    inputs=(),
    code_version="1",
    description="The picture at the clips' size that a scene is seen by first: rendered from a procedural scene that "
    "the prompt describes, or painted from it by a generator; or the collection's own picture, resized and cropped at "
    "its centre, or with what may lie beyond its borders painted around it. Of a video, its first frame, and all "
    "frames of the clip that is taken from it.",
    kinds=frozenset({"png"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=(
        "resources/embedded_engines.py:ProceduralView",
        "resources/embedded_engines.py:PictureView",
        "resources/flux_view.py:FluxView",
        "resources/flux_fill_view.py:FluxFillView",
        "resources/video_view.py:VideoFramesView",
    ),
    checks={
        "rgb": "RGB is uint8 sRGB at the profile's size.",
        "intrinsics": "Intrinsics are finite, in pixels.",
        "c2w": "Of a video, the poses of its camera are rigid, in OpenCV axes.",
    },
)
