"""SceneGen's data set: a picture's objects with masks, poses and latents, and 3D-FUTURE's raw form of the same.

The layout is what SceneGen's training, inference and evaluation read (scenegen/datasets, inference.py, evalscene) and
what its dataset_toolkits would make it from: `raw/` holds the meshes, pictures and COCO annotations of 3D-FUTURE.

Scenes of the split validation stand with the test scenes: SceneGen knows no third part, and never trains on those.

Departures from what SceneGen's own build_metadata_scene.py writes: `metadata_scene_test.csv` names the files where
they are (`masked_images_test/`), and features of test scenes lie in `vggt_features/`, where its dataset class looks.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import InputError
from ..object_table import (
    MAXIMUM_OBJECTS,
    SCENEGEN_METADATA,
    SNAPSHOT_OBJECTS,
    ObjectRow,
    object_table,
    require_scenegen_root,
    scenegen_problems,
    to_csv,
)
from ..triangle_meshes import ObjMesh, canonical_vertices, occupied_cells, read_obj
from . import scenegen_files as files
from .object_scenes import largest_objects, scenes_with_objects
from .release import (
    TEST,
    TRAIN,
    VALIDATION,
    Layout,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseObject,
    ReleaseObjects,
    ReleaseRequest,
    ReleaseScene,
)
from .scenegen_examination import examine

LATENTS = "ss_latents/ss_enc_conv3d_16l8_fp16"
MAXIMUM_TEST_OBJECTS = 10
"""Inference sorts pictures and masks as text, which pairs them wrongly from the eleventh on."""

_LATENT_FLAG = "ss_latent_ss_enc_conv3d_16l8_fp16"
_ASSET_COLUMNS = (
    *("sha256", "file_identifier", "aesthetic_score", "captions", "local_path", "rendered", "voxelized"),
    *("num_voxels", "cond_rendered", _LATENT_FLAG),
)
_RENDERS_COND = b"""SceneGen's scripts ask for this folder. Views of single assets would lie here; training on scenes
(use_single_asset false) reads none.
"""
_COND_STAND_IN = "TRELLIS' renders_cond pictures of single assets, which training on scenes never opens (flag only)"


@dataclass(slots=True)
class _Set:
    """What is known of the training or the test scenes once they are written."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Release:
    """What is known of the release while it is written.

    Attributes:
        models: model id of each asset, by its digest.
        voxels: occupied cells of each asset, by its digest.
        left_out: objects that are not in the release, and why.
        names: SceneGen's id of each scene.
        validation: ids of the validation scenes among the test scenes.
    """

    directory: ReleaseDirectory
    request: ReleaseRequest
    sets: Mapping[str, _Set] = field(default_factory=lambda: {TRAIN: _Set(), TEST: _Set()})
    models: dict[str, str] = field(default_factory=dict)
    voxels: dict[str, int] = field(default_factory=dict)
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)
    validation: list[str] = field(default_factory=list)
    stand_ins: Counter[str] = field(default_factory=Counter)


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Write the data set; scenes without objects are left out.

    Raises:
        InputError: the destination's path holds a dot, no scene has objects, a camera is not one of 3D-FUTURE's kind,
            or a file of features or latents does not hold them.
    """
    require_scenegen_root(str(request.destination))
    release = _Release(directory, request)
    for scene, loaded in scenes_with_objects(scenes):
        _write_scene(release, scene, loaded)
    if not any(part.rows for part in release.sets.values()):
        raise InputError(
            f"no object of the scenes can be used ({dict(release.left_out)})",
            where="layout scenegen",
            remedy="Publish scenes with larger objects.",
        )
    _write_tables(release)
    return _summary(release)


def _write_scene(release: _Release, scene: ReleaseScene, loaded: ReleaseObjects) -> None:
    part = TEST if scene.held_out else TRAIN
    where = f"scene {scene.scene_id}"
    height, width = loaded.picture.shape[:2]
    angle = files.field_of_view(loaded.intrinsics, height, width, where)
    objects = _usable(release, loaded.objects, MAXIMUM_TEST_OBJECTS if part == TEST else MAXIMUM_OBJECTS)
    if not objects:
        return
    release.names[scene.scene_id] = loaded.scene_number
    if scene.split == VALIDATION:
        release.validation.append(loaded.scene_number)
    meshes = [_mesh(item, f"{where}, {item.name}") for item in objects]
    for item, mesh in zip(objects, meshes, strict=True):
        _write_asset(release, scene, item, mesh, model_id=f"{scene.scene_id}-{objects.index(item)}")
    _write_pictures(release, scene, loaded, objects, part)
    _write_feature(release, scene, loaded)
    _add_rows(release.sets[part], release, scene, loaded.scene_number, objects, test=part == TEST)
    _add_annotations(release, loaded, objects, part, angle)
    if part == TEST and release.request.wants("ground_truth"):
        poses = zip(objects, meshes, strict=True)
        placed = [files.PlacedMesh(mesh, item.translation, item.rotation) for item, mesh in poses]
        _write_ground_truth(release, scene, loaded, objects, placed, angle)


def _usable(release: _Release, objects: Sequence[ReleaseObject], limit: int) -> list[ReleaseObject]:
    wide = [item for item in objects if min(files.crop_size(item.box)) > 1]
    release.left_out["with a mask one pixel wide"] += len(objects) - len(wide)
    chosen = largest_objects(wide, limit)
    release.left_out[f"beyond the {limit} largest of a scene"] += len(wide) - len(chosen)
    return chosen


def _mesh(item: ReleaseObject, where: str) -> ObjMesh:
    mesh = read_obj(item.obj.read_bytes(), where)
    files.require_centred(mesh, where)
    return mesh


def _write_asset(release: _Release, scene: ReleaseScene, item: ReleaseObject, mesh: ObjMesh, model_id: str) -> None:
    """An asset's raw files, voxels and latent, once for all scenes it occurs in."""
    if item.sha256 in release.models:
        return
    release.models[item.sha256] = model_id
    if release.request.wants("raw"):
        for source in sorted(path for path in item.obj.parent.iterdir() if path.is_file()):
            target = release.directory.path(f"raw/3D-FUTURE-model/{model_id}/{source.name}", scene.scene_id)
            shutil.copyfile(source, target)
    cells = occupied_cells(canonical_vertices(mesh.vertices), mesh.faces, files.GRID)
    release.voxels[item.sha256] = len(cells)
    if release.request.wants("voxels"):
        _put(release, f"voxels/{item.sha256}.ply", files.voxel_ply(cells), scene)
    given = _given(release, "ss_latents_dir", f"{item.sha256}.npz") or item.ss_latent
    if given is None:
        release.stand_ins["ss_latents"] += 1
    latent = files.stand_in_latent(cells) if given is None else files.read_latent(given)
    _put(release, f"{LATENTS}/{item.sha256}.npz", files.latent_npz(latent), scene)


def _write_pictures(
    release: _Release, scene: ReleaseScene, loaded: ReleaseObjects, objects: Sequence[ReleaseObject], part: str
) -> None:
    folder = f"{_masked_images(part == TEST)}/{loaded.scene_number}"
    picture = files.jpeg(loaded.picture)
    _put(release, f"{folder}/scene.jpg", picture, scene)
    if release.request.wants("raw"):
        _put(release, f"raw/3D-FUTURE-scene/{part}/image/{loaded.scene_number}.jpg", picture, scene)
    for k, item in enumerate(objects):
        crop = files.object_crop(loaded.picture, item.mask, item.box)
        _put(release, f"{folder}/{k}.png", files.png(crop), scene)
        _put(release, f"{folder}/{k}_mask.png", files.png(files.mask_picture(item.mask)), scene)


def _masked_images(test: bool) -> str:
    return "masked_images_test" if test else "masked_images"


def _write_feature(release: _Release, scene: ReleaseScene, loaded: ReleaseObjects) -> None:
    given = _given(release, "vggt_features_dir", f"{loaded.scene_number}.npz") or loaded.vggt_feature
    if given is None:
        release.stand_ins["vggt_features"] += 1
        feature = files.stand_in_feature(loaded.picture)
    else:
        feature = files.read_feature(given, files.feature_tokens(*loaded.picture.shape[:2]))
    _put(release, f"vggt_features/{loaded.scene_number}.npz", files.feature_npz(feature), scene)


def _given(release: _Release, option: str, name: str) -> Path | None:
    """The user's own file, where there is one."""
    folder = release.request.options.get(option)
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise InputError("the folder does not exist", where=f"{option}={folder}", remedy="Correct the path.")
    path = Path(folder, name)
    return path if path.exists() else None


def _add_rows(
    part: _Set, release: _Release, scene: ReleaseScene, number: str, objects: Sequence[ReleaseObject], *, test: bool
) -> None:
    rows = [_object_row(release, scene, k, item) for k, item in enumerate(objects)]
    for row in object_table(rows, {scene.scene_id: number}).to_pylist():
        model_id = release.models[row["sha256"]]
        row |= {
            "model_id": model_id,
            "file_identifier": f"3D-FUTURE-model/{model_id}",
            "local_path": f"raw/3D-FUTURE-model/{model_id}/raw_model.obj",
        }
        for column in ("masked_image_path", "scene_image_path", "mask_path"):
            row[column] = row[column].replace("masked_images/", f"{_masked_images(test)}/", 1)
        part.rows.append(row)


def _object_row(release: _Release, scene: ReleaseScene, k: int, item: ReleaseObject) -> ObjectRow:
    return ObjectRow(
        scene_name=scene.scene_id,
        object_index=k,
        instance_id=item.instance_id,
        family=item.family,
        object_name=item.name,
        visible_pixels=item.visible_pixels,
        visibility=item.visibility,
        mask_box=item.box,
        size=item.size,
        camera_from_object=tuple(np.asarray(item.camera_from_object, np.float64).ravel().tolist()),
        translation=item.translation,
        rotation=item.rotation,
        scale=item.scale,
        sha256=item.sha256,
        aesthetic_score=item.aesthetic_score,
        captions=item.captions,
        num_voxels=release.voxels[item.sha256],
        voxelized=True,
        cond_rendered=True,
        ss_latent=True,
    )


def _add_annotations(
    release: _Release, loaded: ReleaseObjects, objects: Sequence[ReleaseObject], part: str, angle: float
) -> None:
    height, width = loaded.picture.shape[:2]
    number = int(loaded.scene_number)
    known = release.sets[part]
    known.images.append({"id": number, "file_name": loaded.scene_number, "width": width, "height": height})
    for item in objects:
        left, top, right, bottom = item.box
        known.annotations.append(
            {
                "id": len(known.annotations) + 1,
                "image_id": number,
                "category_id": 0,
                "category": item.family,
                "segmentation": {"size": [height, width], "counts": files.run_lengths(item.mask)},
                "area": item.visible_pixels,
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 1,
                "model_id": release.models[item.sha256],
                "pose": {"translation": list(item.translation), "euler": list(item.rotation)},
                "fov": angle,
            }
        )


def _write_ground_truth(
    release: _Release,
    scene: ReleaseScene,
    loaded: ReleaseObjects,
    objects: Sequence[ReleaseObject],
    placed: Sequence[files.PlacedMesh],
    angle: float,
) -> None:
    number = loaded.scene_number
    height, width = loaded.picture.shape[:2]
    _, camera = files.ground_truth(placed)
    _put(release, f"scene_test/{number}.glb", files.ground_truth_glb(placed), scene)
    view = loaded.render(np.eye(4), loaded.intrinsics, height, width, True)
    shown = np.isin(view.instance_ids, [item.instance_id for item in objects])
    picture = np.dstack([view.rgb, shown.astype(np.uint8) * 255])
    _put(release, f"scene_test_render/{number}.png", files.png(picture), scene)
    path = str(release.request.destination / f"scene_test_render/{number}.png")
    release.cameras[number] = {**camera, "fov": angle, "render_path": path, "width": width, "height": height}


def _write_tables(release: _Release) -> None:
    for name, part in release.sets.items():
        if name == TEST and not part.rows:
            continue
        suffix = "" if name == TRAIN else "_test"
        _put(release, f"metadata_scene{suffix}.csv", to_csv(_table(part.rows)))
        if release.request.wants("raw"):
            _put(release, f"raw/3D-FUTURE-scene/GT/{name}_set.json", _annotation_file(part))
    if release.cameras:
        _put(release, "scene_test_render/render_cfg.json", json.dumps(release.cameras, indent=4).encode())
    rows = [row for part in release.sets.values() for row in part.rows]
    _put(release, "metadata.csv", _asset_table(rows))
    _put(release, "renders_cond/README.txt", _RENDERS_COND)


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(sorted(rows, key=lambda r: (r["scene_id"], r["object_index"])), SCENEGEN_METADATA)


def _annotation_file(part: _Set) -> bytes:
    families = sorted({annotation["category"] for annotation in part.annotations})
    categories = [{"id": number, "name": family} for number, family in enumerate(families, 1)]
    number_of = {category["name"]: category["id"] for category in categories}
    annotations = [
        {key: value for key, value in annotation.items() if key != "category"}
        | {"category_id": number_of[annotation["category"]]}
        for annotation in part.annotations
    ]
    content = {"images": part.images, "annotations": annotations, "categories": categories}
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _asset_table(rows: Sequence[dict[str, Any]]) -> bytes:
    """TRELLIS' `metadata.csv`: one row an asset."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _ASSET_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in {row["sha256"]: row for row in reversed(rows)}.values():
        writer.writerow(row | {"captions": json.dumps(row["captions"], ensure_ascii=False)})
    return text.getvalue().encode()


def _put(release: _Release, relative: str, content: bytes, scene: ReleaseScene | None = None) -> None:
    release.directory.path(relative, scene.scene_id if scene else None).write_bytes(content)


def _summary(release: _Release) -> LayoutSummary:
    train, test = release.sets[TRAIN], release.sets[TEST]
    counts = {
        "scenes": len(train.images),
        "test scenes": len(test.images),
        "objects": len(train.rows) + len(test.rows),
        "assets": len(release.models),
    }
    stand_ins = {"cond_rendered": _COND_STAND_IN}
    for name, real in (
        ("vggt_features", "VGGT-1B's last aggregator output (engine picture_features or option vggt_features_dir)"),
        ("ss_latents", "the mean of TRELLIS' ss_enc_conv3d_16l8_fp16 (engine object_latents or option ss_latents_dir)"),
    ):
        total = len(train.images) + len(test.images) if name == "vggt_features" else len(release.models)
        if release.stand_ins[name]:
            stand_ins[name] = f"{real}, in {release.stand_ins[name]} of {total} files"
    return LayoutSummary(counts, _notes(release), stand_ins, release.names)


def _notes(release: _Release) -> tuple[str, ...]:
    train, test = release.sets[TRAIN], release.sets[TEST]
    root = release.request.destination
    sizes = Counter(Counter(row["scene_id"] for row in train.rows).values())
    notes = [f"train.py --config configs/generation/ss_scenegen_flow_img_train.json --data_dir {root}"]
    if train.rows:
        notes.append("Scenes by number of objects: " + ", ".join(f"{n}: {sizes[n]}" for n in sorted(sizes)) + ".")
        notes += [f"SceneGen: {problem}." for problem in scenegen_problems(_table(train.rows))]
        notes.append(
            "Before training on this root together with that of another collection, compare the scene_names of both "
            "manifests: ids are drawn from names, so two scenes rarely share one, but SceneGen looks rows up by id."
        )
        notes.append("On 8 GPUs each scene size needs at least 64 cases (scenes × objects) to give a batch.")
    if not sizes[SNAPSHOT_OBJECTS]:
        notes.append(
            f"TRAINING WILL NOT START: no training scene has exactly {SNAPSHOT_OBJECTS} objects, and the trainer takes "
            "its first snapshot from such scenes. Add scenes to the collection until one has."
        )
    notes += [f"{count} objects {why} were left out." for why, count in release.left_out.items() if count]
    if release.validation:
        notes.append(
            f"{len(release.validation)} of the {len(test.images)} test scenes are validation scenes: "
            f"{', '.join(release.validation)}."
        )
    if not test.rows:
        notes.append(
            "No scene is in the splits validation and test: there are no test pictures, ground truth or test table."
        )
    shapes = {(image["height"], image["width"]) for part in (train, test) for image in part.images}
    if any(height != width for height, width in shapes):
        notes.append(
            "Pictures are not square: in inference SceneGen pads them for VGGT, in training it does not. Square frames "
            "avoid the difference."
        )
    return tuple(notes)


LAYOUT = Layout(
    name="scenegen",
    consumer="SceneGen (ImageConditionedSparseStructureLatentVGGT, inference.py, evalscene)",
    description="Pictures with masks, poses, meshes and latents of their objects, and 3D-FUTURE's raw form of them.",
    fields=("training", "raw", "voxels", "ground_truth"),
    required=("training",),
    write=write,
    examine=examine,
    options={
        "vggt_features_dir": "folder with VGGT features <seven-digit id>.npz, key vggt_feature, (1, P, 2048)",
        "ss_latents_dir": "folder with TRELLIS latents <sha256 of the OBJ>.npz, key mean, (8, 16, 16, 16)",
    },
    needs="objects",
)
