"""Stage `scene_objects`: the objects that the conditioning view sees, each with mask, mesh, pose and size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.tensors import INSTANCE_MASK
from ..ops.object_export import to_glb, to_obj
from ..ops.object_poses import VisibleObject, check_reprojection, pixels_of_object_alone, visible_objects
from ..ops.raycast import RayCaster
from ..ops.scene_model import SceneModel
from ..resources.engines import EngineIdentity, Engines
from ..resources.failures import Reason, StageFailed
from ..resources.profiles import Profile
from . import scene_scaffold
from .observations import observe
from .pictures_of_arrays import write_png, write_preview
from .stage import Made, Stage, StageContext, StageInputs

NAME = "scene_objects"
OBJECTS = "objects.json"
MASKS = "instance_ids.png"
PALETTE_SEED = 5

MINIMUM_MASK_INSIDE = 0.999
"""Share of an object's mask that must lie inside its posed mesh's projected box; less means a wrong pose."""


def make(context: StageContext) -> Made:
    """Write objects.json, instance_ids.png, and for every object its GLB, OBJ with textures, and mask."""
    scaffold = scene_scaffold.read_scaffold(context.inputs)
    scene = scaffold.geometry
    height, width = scaffold.depth.shape
    seen = RayCaster(scene).geometry(np.eye(4), scaffold.intrinsics, height, width)
    limits = context.profile.objects
    found = visible_objects(
        scene,
        seen.instance_ids,
        lambda instance: pixels_of_object_alone(scene, instance),
        minimum_visible_pixels=limits.minimum_visible_pixels,
        minimum_visibility=limits.minimum_visibility,
    )
    made = Made(metadata={"objects": [item.instance.name for item in found]})
    observe(made, INSTANCE_MASK, "view", seen.instance_ids[None], T=1, H=height, W=width)
    write_png(context.scratch / MASKS, seen.instance_ids)
    rows = [_write_object(context.scratch, scene, item, scaffold.intrinsics) for item in found]
    context.write_json(OBJECTS, {"metric": scaffold.metric, "estimated": False, "objects": rows})
    made.metrics |= {"objects": len(found), "objects_in_scene": len(scene.instances)}
    write_preview(context.scratch, instance_colours(seen.instance_ids))
    return made


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
    """Which objects are taken."""
    return profile.objects.model_dump(mode="json")


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The scene's own geometry; no engine is chosen."""
    return EngineIdentity("ground_truth", "Apache-2.0")


STAGE = Stage(
    name=NAME,
    inputs=(scene_scaffold.NAME, "conditioning_view"),
    code_version="1",
    description="Every object that the conditioning view sees: instance mask, textured GLB and OBJ, pose in the "
    "camera's frame, size and visibility; each pose is checked by projecting the mesh onto the mask.",
    kinds=frozenset({"glb", "png"}),
    make=make,
    settings=settings,
    engine=engine,
    checks={"instance_mask": "Instance ids are uint16, 0 for the background, objects from 1."},
)
