"""Binary glTF 2.0: objects moved to another frame, and plain meshes put into one file.

Only what the layouts need: one buffer in the file itself, triangles, float positions, nodes without children.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import CorruptFileError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# glTF 2.0 enumerations (Khronos specification, sections 3.6 and 3.8).
_FLOAT, _UNSIGNED_INT = 5126, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_JSON, _BINARY = b"JSON", b"BIN\0"
_REMEDY = "The file was cut short or changed after it was written: make it again."


def read_glb(content: bytes, where: str) -> tuple[dict[str, Any], bytearray]:
    """The document and the binary buffer of a GLB file.

    Raises:
        CorruptFileError: the file is not a whole GLB of version 2.
    """
    try:
        magic, version, length = struct.unpack_from("<4sII", content)
        text_length, kind = struct.unpack_from("<I4s", content, 12)
        if (magic, version, kind) != (b"glTF", 2, _JSON) or length != len(content):
            raise ValueError(f"{len(content)} bytes, header says {magic!r} version {version} of {length} bytes")
        document = json.loads(content[20 : 20 + text_length])
        start = 20 + text_length
        binary_length, kind = struct.unpack_from("<I4s", content, start)
        binary = bytearray(content[start + 8 : start + 8 + binary_length])
        if kind != _BINARY or len(binary) != binary_length:
            raise ValueError("the binary chunk is not whole")
    except (ValueError, struct.error) as error:
        raise CorruptFileError(f"not a whole GLB ({error})", where=where, remedy=_REMEDY) from error
    return document, binary


def write_glb(document: dict[str, Any], binary: bytes) -> bytes:
    """A GLB file: header, JSON chunk, binary chunk, each padded to four bytes; the buffer's length is filled in."""
    text = json.dumps({**document, "buffers": [{"byteLength": len(binary)}]}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    padded = bytes(binary) + bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), _JSON) + text + struct.pack("<I4s", len(padded), _BINARY) + padded
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def moved_glb(content: bytes, matrix: ArrayLike, where: str) -> bytes:
    """The file with its vertices in another frame; textures and materials stay.

    The transform is worked into the positions, so that readers which ignore a node's matrix see the same shape.

    Args:
        matrix: (4, 4) similarity, new frame from old frame.

    Raises:
        CorruptFileError: the file is not a whole GLB, or not of the kind that this module reads.
    """
    document, binary = read_glb(content, where)
    transform = np.asarray(matrix, dtype=np.float64)
    for index in sorted({p["attributes"]["POSITION"] for p in _primitives(document, where)}):
        positions = _view(document, binary, index, where)
        moved = (positions.astype(np.float64) @ transform[:3, :3].T + transform[:3, 3]).astype(np.float32)
        positions[:] = moved
        document["accessors"][index] |= {"min": moved.min(axis=0).tolist(), "max": moved.max(axis=0).tolist()}
    return write_glb(document, bytes(binary))


def node_positions(content: bytes, where: str) -> list[tuple[str, Float32]]:
    """Name and vertex positions (V, 3) float32 of every node with a mesh, in the file's order.

    Raises:
        CorruptFileError: the file is not a whole GLB, or not of the kind that this module reads.
    """
    document, binary = read_glb(content, where)
    _primitives(document, where)
    found = []
    for node in document.get("nodes", []):
        if "mesh" in node:
            indices = [p["attributes"]["POSITION"] for p in document["meshes"][node["mesh"]]["primitives"]]
            parts = [_view(document, binary, index, where).copy() for index in indices]
            found.append((str(node.get("name", "")), np.concatenate(parts)))
    return found


def _primitives(document: dict[str, Any], where: str) -> list[dict[str, Any]]:
    nodes = document.get("nodes", [])
    primitives = [primitive for mesh in document.get("meshes", []) for primitive in mesh.get("primitives", [])]
    placed = any(key in node for node in nodes for key in ("matrix", "rotation", "scale", "translation", "children"))
    normals = any("NORMAL" in primitive.get("attributes", {}) for primitive in primitives)
    if placed or normals or not all("POSITION" in primitive.get("attributes", {}) for primitive in primitives):
        raise CorruptFileError(
            "nodes with transforms or children, or meshes with normals or without positions",
            where=where,
            remedy="Write the object with its vertices in its own frame and no normals.",
        )
    return primitives


def _view(document: dict[str, Any], binary: bytearray, index: int, where: str) -> Float32:
    """Positions of an accessor, (V, 3), as a writable view of the buffer."""
    try:
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        if (accessor["componentType"], accessor["type"]) != (_FLOAT, "VEC3") or "byteStride" in view:
            raise ValueError("positions that are not packed float32")
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        return np.frombuffer(binary, "<f4", 3 * accessor["count"], start).reshape(-1, 3)
    except (LookupError, ValueError, TypeError) as error:
        raise CorruptFileError(f"accessor {index} cannot be read ({error})", where=where, remedy=_REMEDY) from error


def glb_of_meshes(meshes: Sequence[tuple[str, NDArray[np.floating], NDArray[np.integer]]]) -> bytes:
    """One node with one mesh of one primitive for each (name, vertices (V, 3), faces (F, 3)), in the given order.

    Readers that take every primitive for a geometry of its own then count as many geometries as meshes.
    """
    binary = bytearray()
    views: list[dict[str, int]] = []
    accessors: list[dict[str, Any]] = []

    def accessor(array: NDArray[Any], kind: str, component: int, target: int, box: dict[str, Any]) -> int:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes, "target": target})
        binary.extend(array.tobytes())
        entry = {"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind, **box}
        accessors.append(entry)
        return len(accessors) - 1

    gltf_meshes = []
    for name, vertices, faces in meshes:
        points = np.ascontiguousarray(vertices, dtype="<f4")
        box = {"min": points.min(axis=0).tolist(), "max": points.max(axis=0).tolist()}
        position = accessor(points, "VEC3", _FLOAT, _VERTEX_BUFFER, box)
        corners = np.ascontiguousarray(faces, dtype="<u4").reshape(-1)
        indices = accessor(corners, "SCALAR", _UNSIGNED_INT, _INDEX_BUFFER, {})
        gltf_meshes.append({"name": name, "primitives": [{"attributes": {"POSITION": position}, "indices": indices}]})
    document = {
        "asset": {"version": "2.0", "generator": "sceneloom"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [{"name": name, "mesh": number} for number, (name, _, _) in enumerate(meshes)],
        "meshes": gltf_meshes,
        "accessors": accessors,
        "bufferViews": views,
    }
    return write_glb(document, bytes(binary))
