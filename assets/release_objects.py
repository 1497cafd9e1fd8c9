"""What a release holds of a scene's objects, read from what its stages published."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..datasets.errors import InputError
from ..datasets.layouts.release import ReleaseObject, ReleaseObjects, Render, RenderedView
from ..ops.raycast import Frame, RayCaster, decode_normals
from ..ops.scene_model import BACKGROUND_ID, SceneModel, TriangleMesh
from . import conditioning_view, scene_scaffold
from .pictures_of_arrays import read_png
from .scene_objects import MASKS, NAME, read_objects
from .stage import StageInputs

LIGHT_SEED = 0
"""Seed of the draws on lights in every rendered view: the views of a scene then share their noise."""


def load_objects(inputs: StageInputs, *, scene_number: str, rows: Sequence[Mapping[str, Any]]) -> ReleaseObjects:
    """The conditioning view of a scene with its objects, and a way to see the same scene from other cameras.

    Args:
        inputs: what the scene published, at least `conditioning_view`, `scene_scaffold` and `scene_objects`.
        scene_number: seven-digit SceneGen id of the scene.
        rows: the scene's rows of the table `scenegen_metadata`, in any order.

    Raises:
        InputError: the rows are not those of the published objects.
        CorruptFileError: a published file does not hold what was published.
    """
    published = read_objects(inputs)
    instance_ids = read_png(inputs.path(NAME, MASKS)).astype(np.uint16)
    by_index = {int(row["object_index"]): row for row in rows}
    listed = published["objects"]
    _require_rows(inputs, listed, by_index)
    files = _mesh_files(inputs)
    objects = [
        dataclasses.replace(
            _object(item, by_index[index], files, instance_ids), ss_latent=_made(inputs, item.get("ss_latent"))
        )
        for index, item in enumerate(listed)
    ]
    return ReleaseObjects(
        scene_number=scene_number,
        picture=read_png(inputs.path(conditioning_view.NAME, conditioning_view.PICTURE)),
        intrinsics=inputs.arrays(scene_scaffold.NAME, scene_scaffold.DEPTH_FILE)["intrinsics"].astype(np.float64),
        instance_ids=instance_ids,
        metric=bool(published["metric"]),
        objects=tuple(objects),
        render=_renderer(inputs),
        vggt_feature=_made(inputs, published.get("vggt_feature")),
    )


def _made(inputs: StageInputs, name: str | None) -> Path | None:
    """A published file that only some profiles make."""
    return None if name is None else inputs.path(NAME, name)


def _require_rows(
    inputs: StageInputs, listed: Sequence[Mapping[str, Any]], by_index: Mapping[int, Mapping[str, Any]]
) -> None:
    record = inputs.records[NAME]
    digests = {file.path: file.sha256 for file in record.files}
    expected = [digests[item["obj"]] for item in listed]
    found = [by_index[index]["sha256"] for index in sorted(by_index)]
    if sorted(by_index) != list(range(len(listed))) or found != expected:
        raise InputError(
            f"{len(by_index)} rows of scenegen_metadata are not those of its {len(listed)} published objects",
            where=f"scene {record.scene}",
            remedy="The table is older than the objects: make the table scenegen_metadata again.",
        )


def _mesh_files(inputs: StageInputs) -> Mapping[str, Path]:
    """Local paths of the scene's GLB and OBJ files; an OBJ has its MTL and textures beside it."""
    paths = {name: inputs.path(NAME, name) for name in inputs.names(NAME)}
    wanted = {name: path for name, path in paths.items() if name.endswith(".glb") or "/" in name}
    if inputs.store.is_local:
        return wanted
    # Files of a remote store are fetched one by one under names of their own; a mesh has to stand beside its textures.
    root = Path(_folder_of_this_process().name, inputs.records[NAME].key)
    for name, path in wanted.items():
        target = root / PurePosixPath(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return {name: root / PurePosixPath(name) for name in wanted}


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sceneloom-objects-")


def _object(
    item: Mapping[str, Any], row: Mapping[str, Any], files: Mapping[str, Path], instance_ids: np.ndarray
) -> ReleaseObject:
    left, top, right, bottom = item["box"]
    width, height, depth = item["size"]
    x, y, z = item["scenegen"]["translation"]
    a, b, c = item["scenegen"]["rotation"]
    return ReleaseObject(
        instance_id=item["instance_id"],
        name=item["name"],
        family=item["family"],
        glb=files[item["glb"]],
        obj=files[item["obj"]],
        mask=instance_ids == item["instance_id"],
        box=(left, top, right, bottom),
        visible_pixels=item["visible_pixels"],
        visibility=item["visibility"],
        size=(width, height, depth),
        camera_from_object=np.array(item["camera_from_object"], dtype=np.float64),
        translation=(x, y, z),
        rotation=(a, b, c),
        scale=item["scenegen"]["scale"],
        sha256=row["sha256"],
        aesthetic_score=float(row["aesthetic_score"]),
        captions=tuple(row["captions"]),
    )


def _renderer(inputs: StageInputs) -> Render:
    """The scene's geometry is read, and made ready for rays, when the first view is asked for."""

    @functools.cache
    def scene() -> SceneModel:
        geometry = scene_scaffold.read_scaffold(inputs).geometry
        if geometry is None:
            raise InputError(
                "the scene has depth but no geometry, so it cannot be seen from other cameras",
                where=f"scene {inputs.records[NAME].scene}",
                remedy="Make it with engines that give geometry (ground_truth, tour_into_picture), or leave it out.",
            )
        return geometry

    @functools.cache
    def caster(objects_only: bool) -> RayCaster:
        return RayCaster(without_shell(scene()) if objects_only else scene())

    def render(
        c2w: np.ndarray, intrinsics: np.ndarray, height: int, width: int, objects_only: bool = False
    ) -> RenderedView:
        # One sample a pixel where there is no ground to blend a silhouette with.
        frame = caster(objects_only).render(
            c2w, intrinsics, height, width, samples_per_pixel=1 if objects_only else 2, seed=LIGHT_SEED
        )
        return _view(frame, np.asarray(c2w, dtype=np.float64), objects_only)

    return render


def _view(frame: Frame, c2w: np.ndarray, objects_only: bool) -> RenderedView:
    rgb = frame.rgb
    if objects_only:
        rgb = np.where(frame.instance_ids[..., None] == BACKGROUND_ID, np.uint8(255), rgb)
    # Normals are in the world frame; the transpose of c2w's rotation turns them into the camera's.
    normals = decode_normals(frame.normals) @ c2w[:3, :3].astype(np.float32)
    return RenderedView(rgb=rgb, instance_ids=frame.instance_ids, depth=frame.depth, normals=normals)


def without_shell(scene: SceneModel) -> SceneModel:
    """The scene without walls, floor and ceiling, lit by its sky and by its sun and lamps unhindered.

    The ray caster asks for a shell, so one triangle without area, which no ray meets, stands in its place. A scene
    without objects is then empty.
    """
    corner = scene.instances[0].scene_from_object[:3, 3] if scene.instances else scene.scene_from_camera[:3, 3]
    shell = TriangleMesh(
        vertices=np.tile(np.asarray(corner, dtype=np.float32), (3, 1)),
        faces=np.array([[0, 1, 2]], np.int32),
        uv=np.zeros((1, 3, 2), np.float32),
        material=np.zeros(1, np.int32),
    )
    return dataclasses.replace(scene, shell=shell)
