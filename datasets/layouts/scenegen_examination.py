"""Reading SceneGen's data set as its dataset class, inference and evaluation do, without their silent second tries."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..glb import node_positions
from ..object_table import from_csv, scenegen_problems
from ..triangle_meshes import ObjMesh, read_obj, sample_surface
from . import scenegen_files as files
from .object_examination import Report, arrays_of_npz
from .release import Finding, FindingKind
from .reprojection import MINIMUM_COVERED, SURFACE_POINTS, mask_covered

Row = dict[str, Any]

TRAIN_TABLE, TEST_TABLE = "metadata_scene.csv", "metadata_scene_test.csv"
_LATENTS = "ss_latents/ss_enc_conv3d_16l8_fp16"
_REDRAW = "SceneGen's dataset class prints an error and silently draws another sample in its place"
_SCRIPT = "SceneGen's dataset_toolkits cannot use it"
_MAXIMUM_TEST_OBJECTS = 10
_ALPHA_TOLERANCE = 6.0
"""Mean difference in grey levels between a crop's alpha and its mask; other programs scale a little differently."""
_POSE_TOLERANCE = 1e-3
_SNAPSHOT_PROBLEM = "no scene has exactly"


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Everything that keeps SceneGen from reading the data set as it was meant."""
    report = Report(root, scene_of)
    _examine_root(report)
    tables = {"train": _read_table(report, TRAIN_TABLE)}
    if (root / TEST_TABLE).exists() or (root / "masked_images_test").exists():
        tables["test"] = _read_table(report, TEST_TABLE)
    for part, rows in tables.items():
        _examine_table(report, part, rows)
        for number in sorted({row["scene_id"] for row in rows}):
            _examine_scene(report, part, number, [row for row in rows if row["scene_id"] == number])
    every_row = [row for rows in tables.values() for row in rows]
    _examine_ids(report, tables)
    _examine_assets(report, every_row)
    if not (root / "renders_cond").is_dir():
        report.add("renders_cond", FindingKind.MISSING, f"the folder is missing; {_SCRIPT}")
    folders = ("masked_images", "masked_images_test", "vggt_features", "ss_latents", "scene_test")
    report.unexpected(folders, "SceneGen's inference takes every entry of such a folder for a scene or an object")
    return sorted(report.findings, key=lambda finding: (finding.path, finding.kind, finding.message))


def _examine_root(report: Report) -> None:
    parts = report.root.absolute().parts
    # A hidden folder is where a release is being written, before it has its name.
    if any("." in part for part in parts) and not any(part.startswith(".") for part in parts):
        report.add(
            ".",
            FindingKind.OUT_OF_CONVENTION,
            f'the path {report.root} holds a "."; SceneGen drops all dots from a mask\'s path and finds no masks',
        )


def _read_table(report: Report, name: str) -> list[Row]:
    report.read.add(name)
    try:
        return from_csv((report.root / name).read_bytes()).to_pylist()
    except FileNotFoundError:
        report.add(name, FindingKind.MISSING, "the table is missing; SceneGen's dataset class stops")
    except InputError as error:
        report.add(name, FindingKind.OUT_OF_CONVENTION, f"{error.where}: {error.found}; {_REDRAW}, or stops")
    return []


def _examine_table(report: Report, part: str, rows: Sequence[Row]) -> None:
    import pyarrow as pa

    if not rows:
        return
    name = TRAIN_TABLE if part == "train" else TEST_TABLE
    for problem in scenegen_problems(pa.Table.from_pylist(list(rows))):
        if part == "train" or not problem.startswith(_SNAPSHOT_PROBLEM):
            found = re.match(r"scene (\w+)", problem)
            beside = f"{_folder(part)}/{found[1]}/scene.jpg" if found else None
            report.add(name, FindingKind.OUT_OF_CONVENTION, problem, beside=beside)
    for number in sorted({row["scene_id"] for row in rows}):
        paths = [row["masked_image_path"] for row in rows if row["scene_id"] == number]
        scene_file = f"{_folder(part)}/{number}/scene.jpg"
        if sorted(paths) != sorted(f"{_folder(part)}/{number}/{k}.png" for k in range(len(paths))):
            message = f"scene {number}: pictures {paths}, expected {_folder(part)}/{number}/0.png and so on"
            report.add(name, FindingKind.MISALIGNED, message, beside=scene_file)
        if part == "test" and len(paths) > _MAXIMUM_TEST_OBJECTS:
            message = f"scene {number}: {len(paths)} objects; from the 11th on inference pairs masks wrongly"
            report.add(name, FindingKind.OUT_OF_CONVENTION, message, beside=scene_file)


def _folder(part: str) -> str:
    return "masked_images" if part == "train" else "masked_images_test"


def _examine_ids(report: Report, tables: Mapping[str, Sequence[Row]]) -> None:
    scenes = {part: {row["scene_id"] for row in rows} for part, rows in tables.items()}
    for number in sorted(scenes["train"] & scenes.get("test", set())):
        message = f"scene {number} is in the training table too; rows are looked up by id only"
        report.add(TEST_TABLE, FindingKind.OUT_OF_CONVENTION, message)


def _examine_scene(report: Report, part: str, number: str, rows: Sequence[Row]) -> None:
    folder = f"{_folder(part)}/{number}"
    picture = report.picture(f"{folder}/scene.jpg", "RGB", _REDRAW)
    annotations = _annotations(report, part, number, rows)
    if picture is not None:
        _examine_feature(report, number, files.feature_tokens(*picture.shape[:2]))
    placed = [_examine_object(report, row, picture, annotations) for row in rows]
    if part == "test" and (report.root / "scene_test").is_dir():
        _examine_ground_truth(report, number, placed)


def _annotations(report: Report, part: str, number: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The scene's entries in the COCO file, in the order of the rows; empty where they are not to be used."""
    if not (report.root / "raw").is_dir():
        return []
    path = f"raw/3D-FUTURE-scene/GT/{part}_set.json"
    content = report.json(path, _SCRIPT)
    beside = f"{_folder(part)}/{number}/scene.jpg"
    if not (report.root / f"raw/3D-FUTURE-scene/{part}/image/{number}.jpg").is_file():
        jpg = f"raw/3D-FUTURE-scene/{part}/image/{number}.jpg"
        report.add(jpg, FindingKind.MISSING, f"the picture is missing; {_SCRIPT}", beside=beside)
    try:
        found = [item for item in content["annotations"] if item["image_id"] == int(number)] if content else []
        models = [item["model_id"] for item in found]
    except (LookupError, TypeError, ValueError) as error:
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"not a COCO file ({error!r}); {_SCRIPT}", beside=beside)
        return []
    if content is not None and models != [row["model_id"] for row in rows]:
        message = f"scene {number}: annotations of models {models} are not the rows of the table; {_SCRIPT}"
        report.add(path, FindingKind.MISALIGNED, message, beside=beside)
        return []
    return found


def _examine_feature(report: Report, number: str, tokens: int) -> None:
    path = f"vggt_features/{number}.npz"
    arrays = report.load(path, arrays_of_npz, _REDRAW)
    if arrays is not None:
        _examine_array(report, path, arrays, "vggt_feature", (1, tokens, files.FEATURE_WIDTH))


def _examine_array(
    report: Report, path: str, arrays: Mapping[str, np.ndarray], key: str, shape: tuple[int, ...]
) -> None:
    array = arrays.get(key)
    if array is None:
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"keys {sorted(arrays)}, expected {key}; {_REDRAW}")
    elif array.shape != shape or not np.issubdtype(array.dtype, np.floating):
        found = f"{key} is {array.dtype} of shape {array.shape}, expected floats of shape {shape}"
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"{found}; {_REDRAW}, or trains on the wrong tokens")
    elif not np.isfinite(array).all():
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"{key} holds values that are not finite; the loss becomes nan")


def _examine_object(
    report: Report, row: Row, picture: np.ndarray | None, annotations: Sequence[Mapping[str, Any]]
) -> files.PlacedMesh | None:
    crop_path = row["masked_image_path"]
    # The dataset class derives the mask's name like this: all dots are dropped, not only the last.
    mask_path = crop_path.removesuffix(".png").replace(".", "") + "_mask.png"
    crop = report.picture(crop_path, "RGBA", _REDRAW)
    colours = report.picture(mask_path, "RGB", _REDRAW)
    mask = None
    if colours is not None:
        mask = _examine_mask(report, mask_path, colours, picture)
    if crop is not None:
        _examine_crop(report, crop_path, crop, mask)
    mesh = _examine_mesh(report, row)
    k = int(Path(crop_path).stem) if Path(crop_path).stem.isdigit() else -1
    annotation = annotations[k] if 0 <= k < len(annotations) else None
    if annotation is not None:
        _examine_pose(report, row, annotation, mesh, mask, mask_path)
    return None if mesh is None else files.PlacedMesh(mesh, row["translation"], row["rotation"])


def _examine_mask(report: Report, path: str, colours: np.ndarray, picture: np.ndarray | None) -> np.ndarray | None:
    mask = colours[..., 0] > 127
    if picture is not None and picture.shape[:2] != mask.shape:
        message = f"{mask.shape[1]} × {mask.shape[0]} pixels, the picture has {picture.shape[1]} × {picture.shape[0]}"
        report.add(path, FindingKind.MISALIGNED, f"{message}; SceneGen resizes both and trains on a shifted mask")
        return None
    if not mask.any():
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"the mask is empty; {_REDRAW}")
        return None
    return mask


def _examine_crop(report: Report, path: str, crop: np.ndarray, mask: np.ndarray | None) -> None:
    if crop.shape[:2] != (files.CROP_SIDE, files.CROP_SIDE):
        message = f"{crop.shape[1]} × {crop.shape[0]} pixels, expected {files.CROP_SIDE} × {files.CROP_SIDE}"
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"{message}; SceneGen scales the object differently")
        return
    seen = crop[..., 3] > 0
    if min(seen.any(axis=0).sum(), seen.any(axis=1).sum()) < 2:
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"its alpha is empty or one pixel wide; {_REDRAW}")
    elif mask is not None:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        expected = files.object_crop(np.zeros((*mask.shape, 3), np.uint8), mask, box)[..., 3]
        difference = np.abs(expected.astype(int) - crop[..., 3]).mean()
        if difference > _ALPHA_TOLERANCE:
            message = f"its alpha differs from the object's mask by {difference:.0f} levels on average"
            report.add(
                path, FindingKind.MISALIGNED, f"{message}; SceneGen would see one object and the mask of another"
            )


def _examine_mesh(report: Report, row: Row) -> ObjMesh | None:
    if not (report.root / "raw").is_dir():
        return None
    path = row["local_path"]
    mesh = report.load(path, lambda content: read_obj(content, path), _SCRIPT)
    if mesh is None:
        return None
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    longest = float((high - low).max())
    beside = row["masked_image_path"]
    if abs(longest - row["scale"]) > _POSE_TOLERANCE * longest:
        message = f"scale {row['scale']:.4f}, the longest side of {path} is {longest:.4f}; positions come out scaled"
        report.add(beside, FindingKind.OUT_OF_CONVENTION, message)
    if np.abs(low + high).max() / 2 > _POSE_TOLERANCE * longest:
        message = "the mesh is not centred on its origin; SceneGen turns it about its box's centre, its tools do not"
        report.add(path, FindingKind.OUT_OF_CONVENTION, message, beside=beside)
    return mesh


def _examine_pose(
    report: Report,
    row: Row,
    annotation: Mapping[str, Any],
    mesh: ObjMesh | None,
    mask: np.ndarray | None,
    mask_path: str,
) -> None:
    try:
        stated = [*annotation["pose"]["translation"], *annotation["pose"]["euler"]]
        size, counts = annotation["segmentation"]["size"], annotation["segmentation"]["counts"]
        runs = files.mask_of_run_lengths(counts, size[0], size[1])
        angle = float(annotation["fov"])
    except (LookupError, TypeError, ValueError) as error:
        message = f"its annotation in the COCO file cannot be read ({error!r}); {_SCRIPT}"
        report.add(mask_path, FindingKind.OUT_OF_CONVENTION, message)
        return
    if not np.allclose(stated, [*row["translation"], *row["rotation"]], atol=_POSE_TOLERANCE):
        message = "its pose in the COCO file is not that of the table; the data set built from raw/ would differ"
        report.add(mask_path, FindingKind.MISALIGNED, message)
    if mask is None:
        return
    if not np.array_equal(runs, mask):
        message = "the mask in the COCO file is another one; the data set built from raw/ would differ"
        report.add(mask_path, FindingKind.MISALIGNED, message)
    if mesh is not None:
        _examine_reprojection(report, row, mesh, mask, angle)


def _examine_reprojection(report: Report, row: Row, mesh: ObjMesh, mask: np.ndarray, angle: float) -> None:
    height, width = mask.shape
    focal = max(height, width) / (2 * math.tan(angle / 2))
    longest = (mesh.vertices.max(axis=0) - mesh.vertices.min(axis=0)).max()
    points, _ = sample_surface(mesh, SURFACE_POINTS, seed=0)
    scaled = ObjMesh(points * (row["scale"] / longest), mesh.faces)
    placed = files.PlacedMesh(scaled, row["translation"], row["rotation"]).in_camera() * (1, -1, -1)
    covered = mask_covered(placed, (focal, focal, width / 2, height / 2), mask)
    if covered < MINIMUM_COVERED:
        message = (
            f"the posed mesh covers {covered:.1%} of the object's mask, at least {MINIMUM_COVERED:.0%} are expected"
        )
        consequence = "SceneGen would learn a wrong translation, rotation or scale"
        report.add(row["masked_image_path"], FindingKind.OUT_OF_CONVENTION, f"{message}; {consequence}")


def _examine_ground_truth(report: Report, number: str, placed: Sequence[files.PlacedMesh | None]) -> None:
    path = f"scene_test/{number}.glb"
    nodes = report.load(path, lambda content: node_positions(content, path), "evalscene skips the scene")
    render = report.json("scene_test_render/render_cfg.json", "the picture metrics have no camera")
    if isinstance(render, dict) and number not in render:
        message = f"scene {number} has no camera; its picture metrics cannot be computed"
        report.add("scene_test_render/render_cfg.json", FindingKind.MISSING, message, beside=path)
    known = [item for item in placed if item is not None]
    if nodes is None or len(known) != len(placed):
        return
    expected, _ = files.ground_truth(known)
    same = len(nodes) == len(expected) and all(
        found.shape == wanted.shape and np.allclose(found, wanted, atol=_POSE_TOLERANCE)
        for (_, found), wanted in zip(nodes, expected, strict=True)
    )
    if not same:
        message = f"its {len(nodes)} nodes are not the {len(expected)} objects of the table in their order and places"
        report.add(path, FindingKind.MISALIGNED, f"{message}; evalscene pairs objects by node order")


def _examine_assets(report: Report, rows: Sequence[Row]) -> None:
    for sha256, row in {row["sha256"]: row for row in reversed(rows)}.items():
        path = f"{_LATENTS}/{sha256}.npz"
        arrays = report.load(path, arrays_of_npz, _REDRAW)
        if arrays is not None:
            _examine_array(report, path, arrays, "mean", files.LATENT_SHAPE)
        if (report.root / "voxels").is_dir():
            _examine_voxels(report, f"voxels/{sha256}.ply", row["num_voxels"])
    table = report.load("metadata.csv", _asset_rows, _SCRIPT)
    if table is None:
        return
    missing = {row["model_id"] for row in rows} - {
        str(asset.get("file_identifier", "")).removeprefix("3D-FUTURE-model/") for asset in table
    }
    for model in sorted(missing):
        message = f"model {model} is not in the table; build_metadata_scene.py would leave its objects out"
        report.add("metadata.csv", FindingKind.MISSING, message)


def _asset_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def _examine_voxels(report: Report, path: str, count: int) -> None:
    content = report.load(path, lambda data: data, "TRELLIS' encoder cannot read it")
    if content is None:
        return
    header, _, body = content.partition(b"end_header\n")
    if f"element vertex {count}\n".encode() not in header or len(body) != 12 * count:
        message = f"not the centres of {count} cells as num_voxels says; TRELLIS' encoder cannot read it"
        report.add(path, FindingKind.TRUNCATED, message)
