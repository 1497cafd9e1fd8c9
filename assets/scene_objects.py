"""Stage `scene_objects`: the objects that the conditioning view sees, each with mask, mesh, pose and size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.layouts import scenegen_files
from ..datasets.tensors import INSTANCE_MASK
from ..datasets.triangle_meshes import read_obj
from ..ops.object_boxes import estimated_boxes
from ..ops.object_export import to_glb, to_obj
from ..ops.object_poses import VisibleObject, check_reprojection, pixels_of_object_alone, visible_objects
from ..ops.raycast import RayCaster
from ..ops.scene_model import SceneModel
from ..resources.engines import EngineIdentity, Engines, Scaffold, engine_identity, settings_in_key
from ..resources.failures import Reason, StageFailed
from ..resources.profiles import Profile
from . import conditioning_view, scene_scaffold
from .observations import observe
from .pictures_of_arrays import write_png, write_preview
from .stage import Made, Stage, StageContext, StageInputs

if TYPE_CHECKING:
    from ..resources.object_masks import ObjectMasks

NAME = "scene_objects"
OBJECTS = "objects.json"
MASKS = "instance_ids.png"
FEATURE = "vggt_feature.npz"
PALETTE_SEED = 5

MINIMUM_MASK_INSIDE = 0.999
"""Share of an object's mask that must lie inside its posed mesh's projected box; less means a wrong pose."""


def make(context: StageContext) -> Made:
    """Write objects.json and instance_ids.png.

    Of the scene's own geometry also, for every object, its GLB, OBJ with textures, and mask, and, where the profile
    names engines for them, <object>.ss_latent.npz and vggt_feature.npz as SceneGen reads them. Objects that an engine
    finds in the view have a mask each, and boxes and poses that are estimated from depth: they are listed under
    `estimated_objects`, apart from those whose shape is known. Where only depth is known of the scene and no engine is
    chosen, nothing is listed, and `reason` says why.
    """
    scaffold = scene_scaffold.read_scaffold(context.inputs)
    finder = context.engines.scene_objects()
    if finder is not None:
        view = conditioning_view.read_view(context.inputs, with_geometry=False)
        return _write_masked(context, scaffold, finder.find_objects(view, minimum_pixels=_minimum_pixels(context)))
    if scaffold.geometry is None:
        return _write_unknown(context, scaffold)
    return _write_known(context, scaffold, scaffold.geometry)


def _minimum_pixels(context: StageContext) -> int:
    return context.profile.objects.minimum_visible_pixels


def _write_known(context: StageContext, scaffold: Scaffold, scene: SceneModel) -> Made:
    """The objects of the scene's geometry that the view sees."""
    height, width = scaffold.depth.shape
    seen = RayCaster(scene).geometry(np.eye(4), scaffold.intrinsics, height, width)
    found = visible_objects(
        scene,
        seen.instance_ids,
        lambda instance: pixels_of_object_alone(scene, instance),
        minimum_visible_pixels=_minimum_pixels(context),
        minimum_visibility=context.profile.objects.minimum_visibility,
    )
    made = Made(metadata={"objects": [item.instance.name for item in found]})
    _write_masks(context, made, seen.instance_ids)
    rows = [_write_object(context.scratch, scene, item, scaffold.intrinsics) for item in found]
    feature = _write_features(context, made, rows) if rows else {}
    context.write_json(OBJECTS, {"metric": scaffold.metric, "estimated": False, "objects": rows, **feature})
    made.metrics |= {"objects": len(found), "objects_in_scene": len(scene.instances)}
    return made


def _write_features(context: StageContext, made: Made, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Write what SceneGen trains on beside pictures and poses, where the profile names engines for it.

    Each row of an object gets `ss_latent`, the file of its latent; returned is the entry for the view's feature.
    """
    latents, features = context.engines.object_latents(), context.engines.picture_features()
    if latents is not None:
        meshes = {row["obj"]: read_obj((context.scratch / row["obj"]).read_bytes(), row["obj"]) for row in rows}
        for row, mean in zip(rows, latents.of_meshes(meshes).values(), strict=True):
            row["ss_latent"] = f"object_{row['instance_id']:03d}.ss_latent.npz"
            (context.scratch / row["ss_latent"]).write_bytes(scenegen_files.latent_npz(mean))
        made.metadata["ss_latents"] = {"engine": latents.identity.name, "count": len(rows)}
    if features is None:
        return {}
    view = conditioning_view.read_view(context.inputs, with_geometry=False)
    # Of the very file that the layout writes: SceneGen's own script reads it too.
    feature = features.feature(scenegen_files.jpeg(view.picture))
    (context.scratch / FEATURE).write_bytes(scenegen_files.feature_npz(feature))
    made.metadata["vggt_feature"] = {"engine": features.identity.name, "shape": list(feature.shape)}
    return {"vggt_feature": FEATURE}


def _write_masked(context: StageContext, scaffold: Scaffold, found: ObjectMasks) -> Made:
    """The objects that an engine found, with boxes and poses from the depth behind their masks."""
    made = Made(metadata={"objects": [item.label for item in found.objects], "engine": found.notes})
    _write_masks(context, made, found.instance_ids)
    boxes = {
        box.instance_id: box.record()
        for box in estimated_boxes(found.instance_ids, scaffold.depth, scaffold.intrinsics)
    }
    rows = []
    for item in found.objects:
        mask = f"object_{item.instance_id:03d}_mask.png"
        write_png(context.scratch / mask, (found.instance_ids == item.instance_id).astype(np.uint8) * 255)
        row = {"instance_id": item.instance_id, "label": item.label, "score": item.score, "mask": mask}
        pixels = {"estimated": True, "box": list(item.box), "visible_pixels": item.pixels}
        rows.append({**row, **boxes.get(item.instance_id, pixels)})
    context.write_json(
        OBJECTS,
        {"metric": scaffold.metric, "estimated": True, "objects": [], "estimated_objects": rows},
    )
    made.metrics |= {"objects": 0, "estimated_objects": len(rows), "objects_with_boxes": len(boxes)}
    return made


def _write_unknown(context: StageContext, scaffold: Scaffold) -> Made:
    """No objects: of the scene only the view's depth is known, and no engine looks for objects in pictures."""
    why = (
        "the scaffold has depth but no geometry, and engines.scene_objects names no engine that finds objects in views"
    )
    made = Made(metadata={"objects": [], "reason": why})
    _write_masks(context, made, np.zeros(scaffold.depth.shape, np.uint16))
    context.write_json(OBJECTS, {"metric": scaffold.metric, "estimated": True, "objects": [], "reason": why})
    made.metrics |= {"objects": 0}
    return made


def _write_masks(context: StageContext, made: Made, instance_ids: NDArray[np.uint16]) -> None:
    height, width = instance_ids.shape
    observe(made, INSTANCE_MASK, "view", instance_ids[None], T=1, H=height, W=width)
    write_png(context.scratch / MASKS, instance_ids)
    write_preview(context.scratch, instance_colours(instance_ids))


def _write_object(
    directory: Path, scene: SceneModel, item: VisibleObject, intrinsics: NDArray[np.float64]
) -> dict[str, Any]:
    """Write one object's files and return its row of objects.json."""
    name = f"object_{item.instance.instance_id:03d}"
    fit = check_reprojection(item.instance.mesh.vertices, item.scenegen, item.mask, intrinsics)
    if fit.mask_inside < MINIMUM_MASK_INSIDE:
        raise StageFailed(
            Reason.CONTRACT_VIOLATION,
            f"{name} ({item.instance.name}): {fit.mask_inside:.1%} of its mask lies inside its posed mesh's box, "
            f"{MINIMUM_MASK_INSIDE:.1%} are required. The pose is wrong.",
        )
    (directory / f"{name}.glb").write_bytes(to_glb(item.instance, scene.materials))
    (directory / name).mkdir()
    for file, content in to_obj(item.instance, scene.materials).items():
        (directory / name / file).write_bytes(content)
    write_png(directory / f"{name}_mask.png", item.mask.astype(np.uint8) * 255)
    return {
        "instance_id": item.instance.instance_id,
        "family": item.instance.family,
        "name": item.instance.name,
        "support": item.instance.support,
        "mask": f"{name}_mask.png",
        "glb": f"{name}.glb",
        "obj": f"{name}/raw_model.obj",
        "box": list(item.box),
        "visible_pixels": item.visible_pixels,
        "visibility": item.visibility,
        "size": list(item.size),
        "camera_from_object": item.camera_from_object.tolist(),
        "scenegen": dataclasses.asdict(item.scenegen),
        "mask_inside": fit.mask_inside,
        "box_difference": fit.box_difference,
    }


def instance_colours(instance_ids: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Instance ids (H, W) as colours; the shell is dark."""
    palette = np.random.default_rng(PALETTE_SEED).integers(80, 256, (int(instance_ids.max()) + 1, 3), dtype=np.uint8)
    palette[0] = 24
    return palette[instance_ids]


def read_objects(inputs: StageInputs) -> dict[str, Any]:
    """The published objects.json."""
    return inputs.json(NAME, OBJECTS)


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Which objects are taken, and the settings of an engine that finds them."""
    chosen = profile.engines.scene_objects
    if chosen.engine == "ground_truth":
        engines = profile.engines
        further = {"picture_features": engines.picture_features, "object_latents": engines.object_latents}
        return {
            **profile.objects.model_dump(mode="json"),
            **{name: settings_in_key(section) for name, section in further.items() if section is not None},
        }
    # How much of an object is hidden is only known where its geometry is.
    limits = profile.objects.model_dump(mode="json", include={"minimum_visible_pixels"})
    return {**limits, "engine": settings_in_key(chosen)}


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The engine that finds objects; without one, the scene's own geometry."""
    finder = engines.scene_objects()
    if finder is not None:
        return engine_identity(finder)
    makers = {"picture_features": engines.picture_features(), "object_latents": engines.object_latents()}
    identities = {name: maker.identity for name, maker in makers.items() if maker is not None}
    licences = dict.fromkeys(["Apache-2.0", *(identity.licence for identity in identities.values())])
    weights = {f"{name}/{file}": value for name, each in identities.items() for file, value in each.weights.items()}
    return EngineIdentity("ground_truth", " AND ".join(licences), weights)


STAGE = Stage(
    name=NAME,
    inputs=(scene_scaffold.NAME, conditioning_view.NAME),
    code_version="1",
    description="Every object that the conditioning view sees: instance mask, textured GLB and OBJ, pose in the "
    "camera's frame, size and visibility; each pose is checked by projecting the mesh onto the mask. Objects that an "
    "engine finds in a picture have masks, and boxes and poses estimated from depth.",
    kinds=frozenset({"glb", "png"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=(
        "resources/object_masks.py:Sam2Masks",
        "resources/object_masks.py:Sam3Masks",
        "resources/vggt.py:VggtFeatures",
        "resources/trellis_latents.py:TrellisLatents",
    ),
    checks={"instance_mask": "Instance ids are uint16, 0 for the background, objects from 1."},
)
