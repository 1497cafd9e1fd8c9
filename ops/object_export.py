"""Objects as files other programs open: textured GLB, and OBJ with its MTL and PNG files.

Both hold the mesh as the scene model does: y up, metres, origin at the centre of the axis-aligned bounding box, one
part for each material. Equal objects give equal bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError
from .png import encode_png
from .scene_model import Float32, Material, SceneInstance

OBJ_NAME = "raw_model.obj"
"""Name of the mesh file, as in 3D-FUTURE."""
MTL_NAME = "model.mtl"

_CENTRE_TOLERANCE = 1e-4
# glTF 2.0 enumerations (Khronos specification, sections 3.6 and 3.8).
_FLOAT, _UNSIGNED_INT = 5126, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR = 9729, 9987
_WRAP_MODE = {"repeat": 10497, "clamp": 33071}


@dataclass(frozen=True, slots=True)
class _Part:
    """The faces of one material, with one vertex for each distinct pair of position and texture coordinate."""

    material: int
    positions: Float32
    uv: Float32
    triangles: NDArray[np.uint32]


def to_glb(instance: SceneInstance, materials: Sequence[Material]) -> bytes:
    """Binary glTF 2.0 of one object.

    Base colour textures are PNG with the material's wrap mode; roughness, emission and unlit are carried over.
    No normals are written: the specification then asks viewers for flat shading.

    Args:
        instance: the object, in its own frame; its pose in the scene is not written.
        materials: the scene's materials.

    Raises:
        ContractError: the mesh is empty or not centred on its origin.
    """
    _require_centred(instance)
    parts = _parts(instance)
    document = _GltfDocument()
    primitives = [document.add_part(part, materials[part.material]) for part in parts]
    document.json["meshes"] = [{"name": instance.name, "primitives": primitives}]
    document.json["nodes"] = [{"name": f"{instance.family}_{instance.instance_id}", "mesh": 0}]
    return document.to_bytes()


def to_obj(instance: SceneInstance, materials: Sequence[Material]) -> dict[str, bytes]:
    """Wavefront OBJ of one object with its MTL and one PNG for each material.

    Args:
        instance: the object, in its own frame; its pose in the scene is not written.
        materials: the scene's materials.

    Returns:
        Content by file name: `raw_model.obj`, `model.mtl`, `texture_0.png`, …

    Raises:
        ContractError: the mesh is empty or not centred on its origin.
    """
    _require_centred(instance)
    mesh = instance.mesh
    used = [int(index) for index in np.unique(mesh.material)]
    corners, corner_of = np.unique(mesh.uv.reshape(-1, 2), axis=0, return_inverse=True)
    corner_of = corner_of.reshape(-1, 3) + 1
    # Nine significant digits give back the same float32.
    lines = [f"mtllib {MTL_NAME}", f"o {_obj_word(instance.name)}"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"vt {u:.9g} {v:.9g}" for u, v in corners.tolist()]
    for index in used:
        lines.append(f"usemtl {_mtl_name(index, materials)}")
        chosen = mesh.material == index
        vertices, texture = (mesh.faces[chosen] + 1).tolist(), corner_of[chosen].tolist()
        lines += [f"f {a}/{i} {b}/{j} {c}/{k}" for (a, b, c), (i, j, k) in zip(vertices, texture, strict=True)]
    files = {OBJ_NAME: _text(lines), MTL_NAME: _mtl(used, materials)}
    for number, index in enumerate(used):
        files[_texture_name(number)] = encode_png(materials[index].texture.image)
    return files


def longest_side(instance: SceneInstance) -> float:
    """Longest side of the object's axis-aligned bounding box in its own frame, metres."""
    vertices = instance.mesh.vertices
    return float((vertices.max(axis=0) - vertices.min(axis=0)).max())


def _require_centred(instance: SceneInstance) -> None:
    where = f'object {instance.instance_id} "{instance.name}"'
    if not len(instance.mesh.faces):
        raise ContractError("the mesh has no faces", where=where, remedy="Leave empty objects out of the scene.")
    vertices = instance.mesh.vertices
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    if np.abs(centre).max() > _CENTRE_TOLERANCE * max(1.0, longest_side(instance)):
        raise ContractError(
            f"the bounding box is centred at {[round(float(value), 5) for value in centre]}, expected the origin",
            where=where,
            remedy="Move the mesh so that its bounding box is centred on its origin.",
        )


def _parts(instance: SceneInstance) -> list[_Part]:
    mesh = instance.mesh
    parts = []
    for index in np.unique(mesh.material):
        chosen = mesh.material == index
        corner = np.empty(3 * int(chosen.sum()), dtype=[("vertex", "<i4"), ("u", "<f4"), ("v", "<f4")])
        corner["vertex"] = mesh.faces[chosen].ravel()
        corner["u"], corner["v"] = mesh.uv[chosen].reshape(-1, 2).T
        distinct, inverse = np.unique(corner, return_inverse=True)
        parts.append(
            _Part(
                material=int(index),
                positions=mesh.vertices[distinct["vertex"]],
                uv=np.stack([distinct["u"], distinct["v"]], axis=1),
                triangles=inverse.reshape(-1, 3).astype(np.uint32),
            )
        )
    return parts


class _GltfDocument:
    """A glTF document with one binary buffer, filled part by part."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "sceneloom"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
        }
        for table in ("materials", "textures", "images", "samplers", "accessors", "bufferViews"):
            self.json[table] = []
        self._binary = bytearray()

    def add_part(self, part: _Part, material: Material) -> dict[str, Any]:
        """Add a part's buffers and material; returns its glTF primitive."""
        # glTF counts v downwards from the picture's top row, the scene model upwards.
        uv = np.stack([part.uv[:, 0], 1 - part.uv[:, 1]], axis=1)
        box = {"min": part.positions.min(axis=0).tolist(), "max": part.positions.max(axis=0).tolist()}
        return {
            "attributes": {
                "POSITION": self._accessor(part.positions, "VEC3", _FLOAT, _VERTEX_BUFFER, box),
                "TEXCOORD_0": self._accessor(uv, "VEC2", _FLOAT, _VERTEX_BUFFER),
            },
            "indices": self._accessor(part.triangles.ravel(), "SCALAR", _UNSIGNED_INT, _INDEX_BUFFER),
            "material": self._material(material),
        }

    def to_bytes(self) -> bytes:
        """The document as GLB: header, JSON chunk, binary chunk (each padded to four bytes)."""
        self.json["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(self.json, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self._binary) + bytes(-len(self._binary) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def _append(self, table: str, entry: dict[str, Any]) -> int:
        self.json[table].append(entry)
        return len(self.json[table]) - 1

    def _view(self, content: bytes, **more: int) -> int:
        self._binary += bytes(-len(self._binary) % 4)
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(content), **more}
        self._binary += content
        return self._append("bufferViews", view)

    def _accessor(
        self, array: NDArray[Any], kind: str, component: int, target: int, box: dict[str, list[float]] | None = None
    ) -> int:
        little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        view = self._view(little_endian.tobytes(), target=target)
        entry = {"bufferView": view, "componentType": component, "count": len(array), "type": kind, **(box or {})}
        return self._append("accessors", entry)

    def _material(self, material: Material) -> int:
        image = self._append(
            "images", {"bufferView": self._view(encode_png(material.texture.image)), "mimeType": "image/png"}
        )
        wrap = _WRAP_MODE[material.texture.wrap]
        sampler = self._append(
            "samplers",
            {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": wrap, "wrapT": wrap},
        )
        texture = self._append("textures", {"sampler": sampler, "source": image})
        entry: dict[str, Any] = {
            "name": material.name,
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": texture},
                "metallicFactor": 0.0,
                "roughnessFactor": float(material.roughness),
            },
        }
        extensions: dict[str, Any] = {}
        if material.unlit:
            extensions["KHR_materials_unlit"] = {}
        strength = float(max(material.emission))
        if strength > 0:
            # The factor is limited to 1; what exceeds it goes into the strength extension.
            scale = max(strength, 1.0)
            entry["emissiveFactor"] = [float(channel) / scale for channel in material.emission]
            if scale > 1:
                extensions["KHR_materials_emissive_strength"] = {"emissiveStrength": scale}
        if extensions:
            entry["extensions"] = extensions
            used = set(self.json.get("extensionsUsed", [])) | extensions.keys()
            self.json["extensionsUsed"] = sorted(used)
        return self._append("materials", entry)


def _mtl(used: Sequence[int], materials: Sequence[Material]) -> bytes:
    lines = []
    for number, index in enumerate(used):
        material = materials[index]
        emission = " ".join(f"{float(channel):.6g}" for channel in material.emission)
        lines += [
            f"newmtl {_mtl_name(index, materials)}",
            "Kd 1 1 1",
            f"Ks {' '.join([f'{material.specular:.6g}'] * 3)}",
            f"Ns {_phong_exponent(material.roughness):.6g}",
            f"Ke {emission}",
            f"illum {0 if material.unlit else 2}",
            # No "-clamp on" here: common readers, trimesh among them, then miss the picture.
            f"map_Kd {_texture_name(number)}",
        ]
    return _text(lines)


def _phong_exponent(roughness: float) -> float:
    """Blinn-Phong exponent of a GGX roughness r (alpha = r²): 2/alpha² - 2 (Karis 2013), within MTL's 0..1000."""
    return float(np.clip(2 / max(roughness, 1e-3) ** 4 - 2, 0, 1000))


def _mtl_name(index: int, materials: Sequence[Material]) -> str:
    return f"material_{index}_{_obj_word(materials[index].name)}"


def _obj_word(name: str) -> str:
    """The name without what ends a word or a line in OBJ."""
    return "_".join(name.split()) or "unnamed"


def _texture_name(number: int) -> str:
    return f"texture_{number}.png"


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
