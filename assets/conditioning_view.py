"""Stage `conditioning_view`: the picture that a scene is seen by first."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..datasets.catalog import SceneEntry
from ..datasets.tensors import INTRINSICS, RGB
from ..ops import scene_geometry_file
from ..resources.engines import EngineIdentity, Engines, View, engine_identity, settings_in_key
from ..resources.profiles import Profile
from .observations import observe
from .pictures_of_arrays import read_png, write_png, write_preview
from .stage import Made, Stage, StageContext, StageInputs

NAME = "conditioning_view"
PICTURE = "view.png"
CAMERA = "camera.json"
GEOMETRY = "scene.npz"


def make(context: StageContext) -> Made:
    """Write view.png, camera.json, and scene.npz where the view was rendered from a scene of our own."""
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
    made.metrics["mean_brightness"] = float(view.picture.mean() / 255)
    write_preview(context.scratch, view.picture)
    return made


def read_view(inputs: StageInputs, *, with_geometry: bool = True) -> View:
    """The published view, with its geometry where there is one and it is wanted."""
    camera = inputs.json(NAME, CAMERA)
    geometry = None
    if with_geometry and GEOMETRY in inputs.names(NAME):
        geometry = scene_geometry_file.from_bytes(inputs.path(NAME, GEOMETRY).read_bytes())
    return View(read_png(inputs.path(NAME, PICTURE)), np.array(camera["intrinsics"]), geometry, camera["notes"])


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Size, field of view and the engine's settings."""
    chosen = profile.engines.conditioning_view
    engine = chosen.prompt if scene.kind == "prompt" else chosen.image
    return {
        "height": profile.frames.height,
        "width": profile.frames.width,
        "horizontal_field_of_view": profile.view.horizontal_field_of_view,
        "engine": settings_in_key(engine),
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The view engine's identity; a picture brings its own licence."""
    identity = engine_identity(engines.view(scene))
    licences = dict.fromkeys([identity.licence, scene.licence] if identity.weights else [scene.licence])
    return dataclasses.replace(identity, licence=" AND ".join(filter(None, licences)) or identity.licence)


STAGE = Stage(
    name=NAME,
    inputs=(),
    code_version="1",
    description="The picture at the clips' size that a scene is seen by first: rendered from a procedural scene that "
    "the prompt describes, or painted from it by a generator; or the collection's own picture, resized and cropped at "
    "its centre, or with what may lie beyond its borders painted around it.",
    kinds=frozenset({"png"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=(
        "resources/embedded_engines.py:ProceduralView",
        "resources/embedded_engines.py:PictureView",
        "resources/flux_view.py:FluxView",
        "resources/flux_fill_view.py:FluxFillView",
    ),
    checks={"rgb": "RGB is uint8 sRGB at the profile's size.", "intrinsics": "Intrinsics are finite, in pixels."},
)
