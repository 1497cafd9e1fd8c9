"""Stage `scene_scaffold`: depth and geometry behind the conditioning view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.tensors import C2W, DEPTH, DYNAMIC_MASK, EXACT_DEPTH, INTRINSICS
from ..ops import gaussian_file, object_motion, scene_geometry_file
from ..ops.background_plate import BackgroundPlate
from ..ops.gaussian_scene import ply_from_gaussians
from ..resources.engines import ClipDepth, EngineIdentity, Engines, Scaffold, View, engine_identity, settings_in_key
from ..resources.profiles import Profile
from . import conditioning_view
from .observations import observe
from .pictures_of_arrays import depth_picture, write_preview
from .stage import Made, Stage, StageContext, StageInputs

NAME = "scene_scaffold"
DEPTH_FILE = "depth.npz"
DESCRIPTION = "scaffold.json"
GEOMETRY = "scene.npz"
MOTION = "motion.npz"
CLIP_DEPTH = "clip_depth.npz"
GAUSSIANS = "gaussians.npz"
GAUSSIANS_FOR_VIEWERS = "gaussians.ply"


def make(context: StageContext) -> Made:
    """Write depth.npz and scaffold.json; scene.npz where the engine made geometry that the view did not have (an engine
    that finds depth only makes none); gaussians.npz and gaussians.ply where it made Gaussians; motion.npz where objects
    move; and of a video clip_depth.npz: depth, where they are known moving, background_rgb and background_depth, and
    the camera's poses c2w, where they were estimated with it."""
    view = conditioning_view.read_view(context.inputs, with_clip=True)
    if context.scene.prompt:
        # For engines that paint what the view does not show; not every view's notes hold the words.
        view = replace(view, notes={"prompt": context.scene.prompt, **view.notes})
    scaffold = context.engines.scaffold(context.scene).build_scaffold(view, seed=context.seed)
    height, width = view.picture.shape[:2]
    made = Made(metadata={"metric": scaffold.metric, **scaffold.notes})
    observe(made, EXACT_DEPTH, "depth", scaffold.depth[None], T=1, H=height, W=width)
    observe(made, INTRINSICS, "camera", scaffold.intrinsics[None].astype(np.float32), T=1)
    np.savez_compressed(context.scratch / DEPTH_FILE, depth=scaffold.depth, intrinsics=scaffold.intrinsics)
    geometry_stage = None if scaffold.geometry is None else NAME if view.geometry is None else conditioning_view.NAME
    if scaffold.geometry is not None and geometry_stage == NAME:
        (context.scratch / GEOMETRY).write_bytes(scene_geometry_file.to_bytes(scaffold.geometry))
    centre = centre_depth(scaffold.depth)
    description = {
        "metric": scaffold.metric,
        "unit": "metre" if scaffold.metric else "arbitrary",
        "centre_depth": centre,
        "geometry_stage": geometry_stage,
        "notes": dict(scaffold.notes),
    }
    if scaffold.motions:
        description["motions"] = [motion.record() for motion in scaffold.motions]
        displacement = np.stack([motion.displacement for motion in scaffold.motions])
        np.savez(context.scratch / MOTION, displacement=displacement)
        made.metadata["motions"] = description["motions"]
    if scaffold.gaussians is not None:
        (context.scratch / GAUSSIANS).write_bytes(gaussian_file.to_bytes(scaffold.gaussians))
        (context.scratch / GAUSSIANS_FOR_VIEWERS).write_bytes(ply_from_gaussians(scaffold.gaussians))
        made.metrics["gaussians"] = len(scaffold.gaussians)
    if scaffold.clip is not None:
        _write_clip_depth(context, made, scaffold.clip)
        if scaffold.clip.moving_from == "instances":
            description["moving_from"] = scaffold.clip.moving_from
    if _may_move(context.profile, context.scene):
        made.metrics["moving_objects"] = len(object_motion.moving_ids(scaffold.motions))
    context.write_json(DESCRIPTION, description)
    valid = scaffold.depth[scaffold.depth > 0]
    made.metrics |= {
        "centre_depth": centre,
        "median_depth": float(np.median(valid)) if valid.size else 0.0,
        "depth_coverage": float((scaffold.depth > 0).mean()),
    }
    write_preview(context.scratch, depth_picture(scaffold.depth))
    return made


def _write_clip_depth(context: StageContext, made: Made, clip: ClipDepth) -> None:
    frames = context.profile.frames
    observe(made, DEPTH, "clip", clip.depth, T=frames.count, H=frames.height, W=frames.width)
    known: dict[str, Any] = {}
    if clip.moving is not None:
        observe(made, DYNAMIC_MASK, "clip", clip.moving, T=frames.count, H=frames.height, W=frames.width)
        known["moving"] = clip.moving
        made.metrics["moving_share"] = float(clip.moving.mean())
    if clip.background is not None:
        known |= {"background_rgb": clip.background.rgb, "background_depth": clip.background.depth}
    if clip.c2w is not None:
        observe(made, C2W, "clip camera", clip.c2w, T=frames.count)
        known["c2w"] = clip.c2w
    np.savez_compressed(context.scratch / CLIP_DEPTH, depth=clip.depth, **known)


def _read_clip_depth(inputs: StageInputs, moving_from: Literal["input_video", "instances"]) -> ClipDepth | None:
    if CLIP_DEPTH not in inputs.names(NAME):
        return None
    arrays = inputs.arrays(NAME, CLIP_DEPTH)
    background = None
    if "background_rgb" in arrays:
        background = BackgroundPlate(arrays["background_rgb"], arrays["background_depth"])
    return ClipDepth(arrays["depth"], arrays.get("moving"), background, arrays.get("c2w"), moving_from)


def read_view(inputs: StageInputs, scaffold: Scaffold) -> View:
    """The published view without its geometry; its clip, where there is one, with the poses of its camera that were
    estimated together with the scaffold, where they were."""
    view = conditioning_view.read_view(inputs, with_geometry=False, with_clip=True)
    if view.clip is None or scaffold.clip is None or scaffold.clip.c2w is None:
        return view
    estimated = replace(view.clip, c2w=scaffold.clip.c2w, cameras_from=inputs.records[NAME].engine)
    return replace(view, clip=estimated)


def read_clip_cameras(inputs: StageInputs, scaffold: Scaffold) -> NDArray[np.float32]:
    """(T, 4, 4) float32 poses of the camera of the scene's video, as `read_view` has them; of a scene without one an
    empty array."""
    if scaffold.clip is not None and scaffold.clip.c2w is not None:
        return scaffold.clip.c2w
    return conditioning_view.read_clip_cameras(inputs)


def centre_depth(depth: np.ndarray) -> float:
    """Median valid depth of the view's central tenth: the scale that camera movements follow.

    Lyra's static trajectories take 1.0 for it after normalising depth (its `center_depth`); here depth keeps its unit
    and the movement follows the scene.
    """
    height, width = depth.shape
    rows, columns = max(height // 20, 1), max(width // 20, 1)
    centre = depth[height // 2 - rows : height // 2 + rows, width // 2 - columns : width // 2 + columns]
    valid = centre[centre > 0] if (centre > 0).any() else depth[depth > 0]
    return float(np.median(valid)) if valid.size else 1.0


def read_scaffold(inputs: StageInputs) -> Scaffold:
    """The published scaffold, with its geometry or Gaussians where there are any, with motions where objects move, and
    of a video with the depth of every frame."""
    description = inputs.json(NAME, DESCRIPTION)
    arrays = inputs.arrays(NAME, DEPTH_FILE)
    stage = description["geometry_stage"]
    geometry = None
    if stage is not None:
        geometry = scene_geometry_file.from_bytes(inputs.path(stage, GEOMETRY).read_bytes())
    records = description.get("motions", [])
    motions = object_motion.from_records(records, inputs.arrays(NAME, MOTION)["displacement"]) if records else ()
    gaussians = None
    if GAUSSIANS in inputs.names(NAME):
        file = inputs.path(NAME, GAUSSIANS)
        gaussians = gaussian_file.from_bytes(file.read_bytes(), where=str(file))
    return Scaffold(
        arrays["depth"],
        arrays["intrinsics"],
        description["metric"],
        geometry,
        description["notes"],
        motions,
        clip=_read_clip_depth(inputs, description.get("moving_from", "input_video")),
        gaussians=gaussians,
    )


def _may_move(profile: Profile, scene: SceneEntry) -> bool:
    """Whether objects of the scene are asked to move."""
    return profile.motion.objects > 0 and scene.kind == "prompt"


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """The engine's settings; the field of view for pictures and videos, whose own is not known; motion where objects
    may move."""
    chosen = profile.engines.scene_scaffold
    if scene.kind == "prompt":
        engine_settings: dict[str, Any] = {"engine": settings_in_key(chosen.prompt)}
        if chosen.prompt.engine != "ground_truth":
            engine_settings["horizontal_field_of_view"] = profile.view.horizontal_field_of_view
        if not _may_move(profile, scene):
            return engine_settings
        return {**engine_settings, "motion": profile.motion.model_dump(mode="json"), "frames": profile.frames.count}
    return {
        "engine": settings_in_key(chosen.of(scene.kind)),
        "horizontal_field_of_view": profile.view.horizontal_field_of_view,
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The scaffold engine's identity."""
    return engine_identity(engines.scaffold(scene))


STAGE = Stage(
    name=NAME,
    inputs=(conditioning_view.NAME,),
    code_version="2",
    description="Depth and intrinsics behind the view, and the geometry that further views are rendered from: the "
    "procedural scene itself, or a box of five textured planes behind a picture (Tour into the Picture). Depth that an "
    "estimator finds in a picture comes without geometry. VistaDream's way gives 3D Gaussians, also as a PLY file for "
    "viewers. Of a video, the depth of every frame in one unit, what moves, and the background behind it.",
    kinds=frozenset({"numpy"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=(
        "resources/embedded_engines.py:GroundTruthScaffold",
        "resources/embedded_engines.py:TourIntoPictureScaffold",
        "resources/depth_scaffolds.py:DepthProScaffold",
        "resources/depth_scaffolds.py:DepthAnythingScaffold",
        "resources/clip_scaffold.py:ClipScaffold",
        "resources/vipe_scaffold.py:VipeClipScaffold",
        "resources/moge.py:MogeScaffold",
        "resources/vistadream.py:VistaDreamScaffold",
        "resources/picture_inpainter.py:OpenCvInpainter",
        "resources/picture_inpainter.py:FluxFillInpainter",
        "resources/picture_inpainter.py:StableDiffusionInpainter",
        "resources/multiview_consistency.py:MultiviewConsistency",
    ),
    checks={
        "c2w": "Of a video whose camera's poses were estimated, they are rigid, in OpenCV axes.",
        "depth": "Depth is finite z-depth, 0 where invalid.",
        "dynamic_mask": "Of a video, the mask of what moves has the clip's shape.",
        "intrinsics": "Intrinsics are finite, in pixels.",
    },
)
