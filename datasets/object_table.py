"""The table of objects: one row an object seen in a scene's conditioning view, and SceneGen's CSV made from it.

The Parquet table `scenegen_metadata` holds typed columns: our own, and under their own names the 18 columns of
SceneGen's `metadata_scene.csv` (dataset_toolkits/build_metadata_scene.py). The CSV holds those 18 alone, in SceneGen's
order, lists as JSON text.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from .errors import ContractError, InputError

FIRST_SCENE_NUMBER = 1_000_001
"""SceneGen reads scene ids of exactly seven characters; from here on they survive being read as integers."""
LAST_SCENE_NUMBER = 9_999_999
MAXIMUM_OBJECTS = 16
"""SceneGen leaves out scenes with more rows."""
SNAPSHOT_OBJECTS = 4
"""SceneGen's trainer takes a snapshot of scenes of exactly this many objects before its first step."""
MINIMUM_AESTHETIC_SCORE = 4.5
"""SceneGen leaves out rows below this score."""

_LATENT_FLAG = "ss_latent_ss_enc_conv3d_16l8_fp16"


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_OWN_FIELDS = [
    _required("scene_name", pa.string()),
    _required("object_index", pa.int32()),
    _required("instance_id", pa.int32()),
    _required("family", pa.string()),
    _required("object_name", pa.string()),
    _required("visible_pixels", pa.int32()),
    _required("visibility", pa.float64()),
    _required("mask_box", pa.list_(pa.int32(), 4)),
    _required("size", pa.list_(pa.float64(), 3)),
    _required("camera_from_object", pa.list_(pa.float64(), 16)),
    _required("mask_path", pa.string()),
]
_SCENEGEN_FIELDS = [
    _required("scene_id", pa.string()),
    _required("model_id", pa.string()),
    _required("translation", pa.list_(pa.float64(), 3)),
    _required("rotation", pa.list_(pa.float64(), 3)),
    _required("scale", pa.float64()),
    _required("vggt_feature", pa.string()),
    _required("masked_image_path", pa.string()),
    _required("scene_image_path", pa.string()),
    _required("sha256", pa.string()),
    _required("file_identifier", pa.string()),
    _required("aesthetic_score", pa.float64()),
    _required("captions", pa.list_(pa.string())),
    _required("rendered", pa.bool_()),
    _required("voxelized", pa.bool_()),
    _required("num_voxels", pa.int64()),
    _required("cond_rendered", pa.bool_()),
    _required("local_path", pa.string()),
    _required(_LATENT_FLAG, pa.bool_()),
]
SCENEGEN_METADATA = pa.schema([*_OWN_FIELDS, *_SCENEGEN_FIELDS], metadata={"format": "sceneloom.scenegen_metadata/1"})
"""Schema of the Parquet table."""
SCENEGEN_CSV = pa.schema(_SCENEGEN_FIELDS)
"""Schema of `metadata_scene.csv` once read."""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object of one scene, before the columns that follow from it are added.

    Attributes:
        scene_name: sceneloom's scene id.
        object_index: 0, 1, … within the scene; names the picture and mask files.
        instance_id: id in the scene's instance images.
        family: what kind of thing it is.
        object_name: family with what sets it apart.
        visible_pixels: pixels in the conditioning view.
        visibility: share of the object that is seen, 0..1.
        mask_box: (left, top, right, bottom) pixels, right and bottom exclusive.
        size: sides of its bounding box (x, y, z), metres.
        camera_from_object: 16 numbers, row-major rigid transform to the OpenCV camera frame, metres.
        translation: metres, OpenGL camera frame.
        rotation: degrees, extrinsic xyz.
        scale: longest side, metres.
        sha256: digest of the asset's mesh file; names its latents.
        aesthetic_score: quality score of the asset.
        captions: descriptions of the asset.
        num_voxels: occupied cells of its 64³ grid, 0 where it was not voxelised.
        rendered, voxelized, cond_rendered, ss_latent: which of TRELLIS' products exist for the asset.
    """

    scene_name: str
    object_index: int
    instance_id: int
    family: str
    object_name: str
    visible_pixels: int
    visibility: float
    mask_box: tuple[int, int, int, int]
    size: tuple[float, float, float]
    camera_from_object: tuple[float, ...]
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float]
    scale: float
    sha256: str
    aesthetic_score: float
    captions: tuple[str, ...]
    num_voxels: int = 0
    rendered: bool = False
    voxelized: bool = False
    cond_rendered: bool = False
    ss_latent: bool = False


def number_scenes(
    scene_names: Iterable[str], collection: str, previous: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Seven-digit SceneGen ids of scenes: SHA-256 of the collection's and the scene's name, taken as a number.

    The same scene gets the same number wherever its collection is made, and scenes of different collections rarely
    share one: SceneGen looks rows up by it, also when it trains on several data sets at once. Where a number is taken
    within the collection, the next digest decides. Scenes numbered before keep their numbers, also those that left the
    collection, so that no number is ever given to a second scene.

    Args:
        scene_names: sceneloom's scene ids.
        collection: the collection's name.
        previous: the numbers of the former table (`scene_numbers`).

    Raises:
        InputError: more than half of all numbers would be taken, where draws no longer end.
    """
    numbers = dict(previous or {})
    new = sorted(set(scene_names) - numbers.keys())
    space = LAST_SCENE_NUMBER - FIRST_SCENE_NUMBER + 1
    if 2 * (len(numbers) + len(new)) > space:
        raise InputError(
            f"more than {space // 2} scenes",
            where="SceneGen scene ids",
            remedy="Publish the scenes as several collections.",
        )
    taken = set(numbers.values())
    for name in new:
        number = next(number for number in _drawn_numbers(collection, name, space) if number not in taken)
        numbers[name] = number
        taken.add(number)
    return numbers


def _drawn_numbers(collection: str, name: str, space: int) -> Iterator[str]:
    for draw in itertools.count():
        digest = hashlib.sha256(json.dumps([collection, name, draw]).encode()).digest()
        yield str(FIRST_SCENE_NUMBER + int.from_bytes(digest[:8], "big") % space)


def scene_numbers(table: pa.Table) -> dict[str, str]:
    """The seven-digit id of every scene in an object table, by sceneloom's scene id."""
    names, numbers = table["scene_name"].to_pylist(), table["scene_id"].to_pylist()
    return dict(zip(names, numbers, strict=True))


def object_table(rows: Iterable[ObjectRow], numbers: Mapping[str, str]) -> pa.Table:
    """The table `scenegen_metadata`, ordered by scene number and object index.

    Args:
        rows: the objects.
        numbers: seven-digit ids of at least the rows' scenes (`number_scenes`).

    Raises:
        ContractError: two rows are the same object, or the indices of a scene are not 0, 1, ….
    """
    ordered = sorted(rows, key=lambda row: (numbers[row.scene_name], row.object_index))
    indices_of: dict[str, list[int]] = {}
    for row in ordered:
        indices_of.setdefault(row.scene_name, []).append(row.object_index)
    for name, indices in indices_of.items():
        if indices != list(range(len(indices))):
            raise ContractError(
                f"object indices {indices}, expected 0 to {len(indices) - 1}",
                where=f"scene {name}",
                remedy="Number the objects of a scene without gaps.",
            )
    return pa.Table.from_pylist([_columns(row, numbers[row.scene_name]) for row in ordered], SCENEGEN_METADATA)


def _columns(row: ObjectRow, scene_id: str) -> dict[str, Any]:
    columns = {field.name: getattr(row, field.name) for field in fields(row)}
    columns[_LATENT_FLAG] = columns.pop("ss_latent")
    model_id = f"{row.scene_name}-{row.object_index}"
    folder = f"masked_images/{scene_id}"
    return columns | {
        "scene_id": scene_id,
        "model_id": model_id,
        "mask_path": f"{folder}/{row.object_index}_mask.png",
        "masked_image_path": f"{folder}/{row.object_index}.png",
        "scene_image_path": f"{folder}/scene.jpg",
        "vggt_feature": f"vggt_features/{scene_id}.npz",
        "file_identifier": f"3D-FUTURE-model/{model_id}",
        "local_path": f"raw/3D-FUTURE-model/{model_id}/raw_model.obj",
    }


def scenegen_problems(table: pa.Table) -> list[str]:
    """What keeps SceneGen's training from reading the table as it is; empty when nothing does.

    Args:
        table: with at least the columns of `SCENEGEN_CSV`.
    """
    problems = []
    for row in table.select(SCENEGEN_CSV.names).to_pylist():
        where = f"scene {row['scene_id']}, model {row['model_id']}"
        problems += [f"{where}: {problem}" for problem in _row_problems(row)]
    counts = Counter(table["scene_id"].to_pylist())
    problems += [
        f"scene {scene}: {count} objects, SceneGen takes at most {MAXIMUM_OBJECTS}"
        for scene, count in counts.items()
        if count > MAXIMUM_OBJECTS
    ]
    if SNAPSHOT_OBJECTS not in counts.values():
        problems.append(f"no scene has exactly {SNAPSHOT_OBJECTS} objects, which the trainer's snapshot needs")
    return problems


def _row_problems(row: Mapping[str, Any]) -> list[str]:
    problems = []
    scene_id = row["scene_id"]
    if not (scene_id.isascii() and scene_id.isdigit() and FIRST_SCENE_NUMBER <= int(scene_id) <= LAST_SCENE_NUMBER):
        problems.append(f'scene_id "{scene_id}", expected a number from {FIRST_SCENE_NUMBER} to {LAST_SCENE_NUMBER}')
    if not all(map(math.isfinite, [*row["translation"], *row["rotation"], row["scale"]])) or row["scale"] <= 0:
        problems.append("the pose is not finite, or its scale not positive")
    for name in ("vggt_feature", "masked_image_path", "scene_image_path", "sha256"):
        if not row[name]:
            problems.append(f"{name} is empty")
    for name in ("cond_rendered", _LATENT_FLAG):
        if not row[name]:
            problems.append(f"{name} is False, so the row is left out")
    if not row["aesthetic_score"] >= MINIMUM_AESTHETIC_SCORE:
        problems.append(f"aesthetic_score {row['aesthetic_score']} is below {MINIMUM_AESTHETIC_SCORE}")
    return problems


def require_scenegen_root(root: str) -> None:
    """Refuse a data set root that SceneGen cannot read from.

    SceneGen derives a mask's name by dropping every dot of the picture's path, so a root with a dot finds no masks; and
    it takes a comma for the end of one root and the start of another.

    Raises:
        InputError: the path holds a dot or a comma.
    """
    if "," in root:
        raise InputError(
            'the path holds a ","; SceneGen takes it for two roots', where=root, remedy="Choose a root without commas."
        )
    if "." in root:
        raise InputError(
            'the path holds a "."; SceneGen then does not find the masks',
            where=root,
            remedy="Choose a root without dots, given as an absolute path.",
        )


def to_csv(table: pa.Table) -> bytes:
    """`metadata_scene.csv`: SceneGen's 18 columns, UTF-8, lists as JSON text, flags as True and False.

    Raises:
        ContractError: a pose or score is not finite.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SCENEGEN_CSV.names)
    for row in table.select(SCENEGEN_CSV.names).to_pylist():
        try:
            writer.writerow([_as_text(row[field.name]) for field in SCENEGEN_CSV])
        except ValueError as error:
            raise ContractError(
                f"model {row['model_id']} holds a number that is not finite",
                where="metadata_scene.csv",
                remedy="Leave the object out, or correct its pose.",
            ) from error
    return text.getvalue().encode()


def _as_text(value: Any) -> str:
    # json writes the shortest text that reads back to the same float, and refuses nan and inf here.
    return value if isinstance(value, str) else str(value) if isinstance(value, bool) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def from_csv(content: bytes) -> pa.Table:
    """Read `metadata_scene.csv`, with the types of `SCENEGEN_CSV`.

    Raises:
        InputError: columns are missing or unknown, or a value does not have its column's type; with the line.
    """
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = next(reader, [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(f"not CSV text ({error})", 1) from error
    if header != SCENEGEN_CSV.names:
        raise _unreadable(f"columns {header}, expected {SCENEGEN_CSV.names}", 1)
    rows = [_read_row(cells, reader.line_num) for cells in reader]
    return pa.Table.from_pylist(rows, SCENEGEN_CSV)


def _unreadable(found: str, line: int) -> InputError:
    return InputError(found, where=f"metadata_scene.csv:{line}", remedy="Write the table again from scenegen_metadata.")


def _read_row(cells: Sequence[str], line: int) -> dict[str, Any]:
    if len(cells) != len(SCENEGEN_CSV):
        raise _unreadable(f"{len(cells)} cells, expected {len(SCENEGEN_CSV)}", line)
    row = {}
    for field, cell in zip(SCENEGEN_CSV, cells, strict=True):
        try:
            row[field.name] = _parser(field.type)(cell)
            pa.scalar(row[field.name], field.type)
        except (ValueError, TypeError, KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise _unreadable(f'{field.name} is "{cell}", expected {field.type}', line) from error
    return row


def _parser(kind: pa.DataType) -> Callable[[str], Any]:
    if pa.types.is_string(kind):
        return str
    if pa.types.is_boolean(kind):
        return {"True": True, "False": False}.__getitem__
    return json.loads
