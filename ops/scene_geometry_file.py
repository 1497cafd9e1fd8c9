"""A SceneModel as bytes and back, exactly.

The container is a zip that `numpy.load` opens: `header.json` (lights, materials, names), one PNG per distinct
texture, and one .npy per array. Entries carry a fixed time, so equal scenes give equal bytes. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..datasets.errors import ContractError, CorruptFileError
from .png import encode_png
from .scene_model import (
    AreaLight,
    Material,
    SceneInstance,
    SceneModel,
    SkyLight,
    SunLight,
    Texture,
    TriangleMesh,
)

FORMAT = "sceneloom.scene_geometry/1"

# A damaged zip shows as any of these: RuntimeError for entries that now look encrypted or differently compressed.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, KeyError, TypeError)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_REMEDY = "The file was changed or cut short after it was written: make the scene's scaffold again."
_MESH_ARRAYS: dict[str, tuple[type[np.generic], tuple[int | None, ...]]] = {
    "vertices": (np.float32, (None, 3)),
    "faces": (np.int32, (None, 3)),
    "uv": (np.float32, (None, 3, 2)),
    "material": (np.int32, (None,)),
}


def to_bytes(scene: SceneModel) -> bytes:
    """Serialise a scene.

    Raises:
        ContractError: an array has another dtype or shape than SceneModel declares, an index points outside its
            table, or the description is not JSON.
    """
    textures, texture_of = _distinct_textures(scene.materials)
    arrays = {
        "scene_from_camera": np.asarray(scene.scene_from_camera),
        "intrinsics": np.asarray(scene.intrinsics),
        "scene_from_object": np.stack([i.scene_from_object for i in scene.instances])
        if scene.instances
        else np.zeros((0, 4, 4)),
    }
    for name, mesh in {"shell": scene.shell, **{_mesh_name(i): s.mesh for i, s in enumerate(scene.instances)}}.items():
        arrays |= {f"{name}.{field}": getattr(mesh, field) for field in _MESH_ARRAYS}
    problem = _array_problem(arrays, len(scene.instances), len(scene.materials))
    if problem:
        raise ContractError(problem, where="scene geometry", remedy="Build the scene with the declared array types.")
    return _zip(_header(scene, texture_of), textures, arrays)


def from_bytes(content: bytes) -> SceneModel:
    """Read what `to_bytes` wrote; every array, texture and number is equal to what was written.

    Raises:
        CorruptFileError: the bytes are damaged, or of a format version that this code does not know.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        header = json.loads(entries["header.json"])
        found_format = header["format"]
    except _ZIP_ERRORS as error:
        raise _corrupt(f"not a whole scene geometry file ({error})") from error
    if found_format != FORMAT:
        raise CorruptFileError(
            f'format "{found_format}", this code reads "{FORMAT}"',
            where="scene geometry",
            remedy="Read it with the version of sceneloom that wrote it, or make the scene's scaffold again.",
        )
    try:
        return _scene(header, entries)
    except (ValueError, KeyError, TypeError, IndexError, OSError, EOFError) as error:
        raise _corrupt(f"inconsistent content ({error})") from error


def _corrupt(found: str) -> CorruptFileError:
    return CorruptFileError(found, where="scene geometry", remedy=_REMEDY)


def _mesh_name(index: int) -> str:
    return f"instance.{index:04d}"


def _distinct_textures(materials: Sequence[Material]) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """The distinct images in order of first use, and each material's index into them."""
    images: list[NDArray[np.uint8]] = []
    index_of: dict[tuple[tuple[int, ...], bytes], int] = {}
    texture_of = []
    for material in materials:
        image = material.texture.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ContractError(
                f"texture is {image.dtype} {image.shape}, expected uint8 (H, W, 3)",
                where=f'material "{material.name}"',
                remedy="Give every texture as sRGB bytes.",
            )
        key = (image.shape, hashlib.sha256(image.tobytes()).digest())
        if key not in index_of:
            index_of[key] = len(images)
            images.append(image)
        texture_of.append(index_of[key])
    return images, texture_of


def _plain(record: object, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A flat dataclass as JSON values; tuples of numbers become lists of plain floats."""
    plain: dict[str, Any] = {}
    for field in fields(record):  # pyright: ignore[reportArgumentType]
        if field.name in leave_out:
            continue
        value = getattr(record, field.name)
        if isinstance(value, tuple | list):
            value = [float(part) for part in value]
        plain[field.name] = value.item() if isinstance(value, np.generic) else value
    return plain


def _header(scene: SceneModel, texture_of: Sequence[int]) -> bytes:
    header = {
        "format": FORMAT,
        "size": [int(side) for side in scene.size],
        "exposure": float(scene.exposure),
        "metric": bool(scene.metric),
        "sun": None if scene.sun is None else _plain(scene.sun),
        "sky": _plain(scene.sky),
        "area_lights": [_plain(light) for light in scene.area_lights],
        "materials": [
            {**_plain(material, ("texture",)), "texture": index, "wrap": material.texture.wrap}
            for material, index in zip(scene.materials, texture_of, strict=True)
        ],
        "instances": [_plain(instance, ("mesh", "scene_from_object")) for instance in scene.instances],
        "description": scene.description,
    }
    try:
        text = json.dumps(header, ensure_ascii=False, allow_nan=False, default=_mapping)
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"not JSON: {error}", where="scene description, lights or materials", remedy="Use finite plain values."
        ) from error
    return text.encode()


def _mapping(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} {value!r} is not a JSON value")


def _zip(header: bytes, textures: Sequence[NDArray[np.uint8]], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        _add(archive, "header.json", header, zipfile.ZIP_DEFLATED)
        for index, image in enumerate(textures):
            _add(archive, f"texture.{index:04d}.png", encode_png(image), zipfile.ZIP_STORED)
        for name, array in arrays.items():
            npy = io.BytesIO()
            np.lib.format.write_array(npy, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            _add(archive, f"{name}.npy", npy.getvalue(), zipfile.ZIP_DEFLATED)
    return target.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    entry = zipfile.ZipInfo(name, _ZIP_TIME)
    entry.compress_type = compression
    entry.create_system = 3  # the same bytes on every operating system
    archive.writestr(entry, content, compresslevel=6)


def _array_problem(arrays: Mapping[str, NDArray[Any]], instances: int, materials: int) -> str | None:
    """What is wrong with the arrays' types, shapes or indices, or None."""
    declared: dict[str, tuple[type[np.generic], tuple[int | None, ...]]] = {
        "scene_from_camera": (np.float64, (4, 4)),
        "intrinsics": (np.float64, (4,)),
        "scene_from_object": (np.float64, (instances, 4, 4)),
    }
    meshes = ["shell", *map(_mesh_name, range(instances))]
    for mesh in meshes:
        declared |= {f"{mesh}.{field}": kind for field, kind in _MESH_ARRAYS.items()}
    for name, (dtype, shape) in declared.items():
        array = arrays[name]
        fits = array.ndim == len(shape) and all(w in (None, s) for w, s in zip(shape, array.shape, strict=True))
        if array.dtype != dtype or not fits:
            return f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}"
    for mesh in meshes:
        problem = _mesh_problem({field: arrays[f"{mesh}.{field}"] for field in _MESH_ARRAYS}, materials)
        if problem:
            return f"{mesh}: {problem}"
    return None


def _mesh_problem(mesh: Mapping[str, NDArray[Any]], materials: int) -> str | None:
    vertices, faces, uv, material = (mesh[field] for field in _MESH_ARRAYS)
    if not len(faces) == len(uv) == len(material):
        return f"{len(faces)} faces, {len(uv)} uv rows and {len(material)} material indices"
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        return f"a face points outside the {len(vertices)} vertices"
    if len(material) and (material.min() < 0 or material.max() >= materials):
        return f"a face points outside the {materials} materials"
    return None


def _array(content: bytes) -> NDArray[Any]:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _picture(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        return np.array(image.convert("RGB"))


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}


def _scene(header: Mapping[str, Any], entries: Mapping[str, bytes]) -> SceneModel:
    arrays = {name.removesuffix(".npy"): _array(content) for name, content in entries.items() if name.endswith(".npy")}
    images = [_picture(entries[name]) for name in sorted(entries) if name.startswith("texture.")]
    problem = _array_problem(arrays, len(header["instances"]), len(header["materials"]))
    if problem:
        raise ValueError(problem)
    materials = []
    for record in map(_tuples, header["materials"]):
        texture = Texture(images[record.pop("texture")], record.pop("wrap"))
        materials.append(Material(texture=texture, **record))
    poses = arrays["scene_from_object"]
    instances = [
        SceneInstance(mesh=_mesh(arrays, _mesh_name(index)), scene_from_object=poses[index], **row)
        for index, row in enumerate(header["instances"])
    ]
    return SceneModel(
        shell=_mesh(arrays, "shell"),
        instances=instances,
        materials=materials,
        sun=None if header["sun"] is None else SunLight(**_tuples(header["sun"])),
        sky=SkyLight(**_tuples(header["sky"])),
        area_lights=[AreaLight(**_tuples(light)) for light in header["area_lights"]],
        scene_from_camera=arrays["scene_from_camera"],
        intrinsics=arrays["intrinsics"],
        size=(header["size"][0], header["size"][1]),
        exposure=header["exposure"],
        metric=header["metric"],
        description=header["description"],
    )


def _mesh(arrays: Mapping[str, NDArray[Any]], name: str) -> TriangleMesh:
    return TriangleMesh(*(arrays[f"{name}.{field}"] for field in _MESH_ARRAYS))
