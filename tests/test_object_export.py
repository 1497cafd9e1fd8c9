from __future__ import annotations

import dataclasses
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from sceneloom.datasets.errors import ContractError
from sceneloom.ops import object_export
from sceneloom.ops.scene_model import Material, SceneInstance, Texture, TriangleMesh

from .scenes import box_mesh, checker_texture, sphere_mesh

SIZE = (0.6, 1.2, 0.4)


def picture() -> Texture:
    """Four fields of one colour each: red top left, green top right, blue bottom left, white bottom right."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, :4], image[:4, 4:], image[4:, :4], image[4:, 4:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3
    return Texture(image, "clamp")


MATERIALS = [
    Material("unused", "painted", checker_texture(1, 4)),
    Material("oak planks", "wood", checker_texture(2, 4), roughness=0.7, specular=0.2),
    Material("a picture", "picture", picture(), unlit=True, emission=(4.0, 2.0, 0.0)),
]


def wardrobe() -> SceneInstance:
    """A box whose +z side shows the picture."""
    mesh = box_mesh(SIZE, (1, 1, 1, 1, 1, 2))
    return SceneInstance(3, "cabinet", "tall cabinet", mesh, np.eye(4))


def load_glb(content: bytes) -> trimesh.Scene:
    scene = trimesh.load_scene(io.BytesIO(content), file_type="glb")
    assert isinstance(scene, trimesh.Scene)
    return scene


def welded(parts: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    """The parts as one surface, vertices joined where only texture coordinates set them apart."""
    vertices = np.concatenate([part.vertices for part in parts])
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
    return trimesh.Trimesh(vertices, faces, process=True)


def texel(part: trimesh.Trimesh, point: NDArray[np.floating]) -> tuple[int, ...]:
    """Texture colour at a point of the surface, looked up through the loaded file alone."""
    weights = trimesh.triangles.points_to_barycentric(part.triangles, np.tile(point, (len(part.faces), 1)))
    face = int(weights.min(axis=1).argmax())
    visual: Any = part.visual
    u, v = weights[face] @ visual.uv[part.faces[face]]
    image = getattr(visual.material, "baseColorTexture", None) or visual.material.image
    column, row = int(u * image.width), int((1 - v) * image.height)
    return image.convert("RGB").getpixel((column, row))


def test_glb_has_the_bounds_and_is_closed() -> None:
    parts = list(load_glb(object_export.to_glb(wardrobe(), MATERIALS)).geometry.values())
    assert len(parts) == 2
    whole = welded(parts)
    np.testing.assert_allclose(whole.bounds, [-np.array(SIZE) / 2, np.array(SIZE) / 2], atol=1e-7)
    assert whole.is_watertight
    assert whole.is_winding_consistent
    assert whole.volume == pytest.approx(np.prod(SIZE), rel=1e-6)


def test_glb_of_one_material_is_one_closed_part() -> None:
    ball = SceneInstance(1, "ball", "ball", sphere_mesh(0.5, material=1), np.eye(4))
    (part,) = load_glb(object_export.to_glb(ball, MATERIALS)).geometry.values()
    assert welded([part]).is_watertight


@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_the_picture_stands_upright(kind: str, tmp_path: Path) -> None:
    # Where each corner of the picture lies is read from the mesh, what is seen there from the file.
    mesh = wardrobe().mesh
    side = mesh.material == 2
    points, uv = mesh.vertices[mesh.faces[side]].reshape(-1, 3), mesh.uv[side].reshape(-1, 2)
    at = {tuple(np.round(corner).astype(int)): point for corner, point in zip(uv, points, strict=True)}
    if kind == "glb":
        parts = load_glb(object_export.to_glb(wardrobe(), MATERIALS)).geometry.values()
    else:
        parts = load_obj(tmp_path).geometry.values()
    (part,) = [part for part in parts if len(part.faces) == 2]
    colours = {(0, 1): (255, 0, 0), (1, 1): (0, 255, 0), (0, 0): (0, 0, 255), (1, 0): (255, 255, 255)}
    middle = np.mean(list(at.values()), axis=0)
    for corner, colour in colours.items():
        assert texel(part, 0.7 * at[corner] + 0.3 * middle) == colour


def test_glb_document_carries_the_materials() -> None:
    content = object_export.to_glb(wardrobe(), MATERIALS)
    magic, version, length, json_length, chunk = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, chunk) == (b"glTF", 2, len(content), b"JSON")
    document = json.loads(content[20 : 20 + json_length])
    oak, shown = document["materials"]
    assert oak["name"] == "oak planks"
    assert oak["pbrMetallicRoughness"]["roughnessFactor"] == 0.7
    assert document["samplers"][0]["wrapS"] == 10497
    assert document["samplers"][1]["wrapT"] == 33071
    assert shown["emissiveFactor"] == [1.0, 0.5, 0.0]
    assert shown["extensions"]["KHR_materials_emissive_strength"]["emissiveStrength"] == 4.0
    assert document["extensionsUsed"] == ["KHR_materials_emissive_strength", "KHR_materials_unlit"]
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= document["buffers"][0]["byteLength"]


def load_obj(folder: Path) -> trimesh.Scene:
    for name, content in object_export.to_obj(wardrobe(), MATERIALS).items():
        (folder / name).write_bytes(content)
    return trimesh.load_scene(folder / object_export.OBJ_NAME)


def test_obj_has_the_bounds_is_closed_and_textured(tmp_path: Path) -> None:
    parts = list(load_obj(tmp_path).geometry.values())
    assert len(parts) == 2
    whole = welded(parts)
    assert whole.is_watertight
    np.testing.assert_allclose(whole.bounds, [-np.array(SIZE) / 2, np.array(SIZE) / 2], atol=1e-7)
    files = object_export.to_obj(wardrobe(), MATERIALS)
    assert sorted(files) == ["model.mtl", "raw_model.obj", "texture_0.png", "texture_1.png"]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(files["texture_1.png"]))), picture().image)


def test_equal_objects_give_equal_bytes() -> None:
    assert object_export.to_glb(wardrobe(), MATERIALS) == object_export.to_glb(wardrobe(), MATERIALS)
    assert object_export.to_obj(wardrobe(), MATERIALS) == object_export.to_obj(wardrobe(), MATERIALS)


def test_objects_off_their_centre_or_empty_are_refused() -> None:
    good = wardrobe()
    moved = dataclasses.replace(good.mesh, vertices=good.mesh.vertices + np.array([0, 0.6, 0], np.float32))
    with pytest.raises(ContractError, match=r"centred at \[0\.0, 0\.6, 0\.0\]"):
        object_export.to_glb(dataclasses.replace(good, mesh=moved), MATERIALS)
    mesh = good.mesh
    empty = TriangleMesh(mesh.vertices, mesh.faces[:0], mesh.uv[:0], mesh.material[:0])
    with pytest.raises(ContractError, match="no faces"):
        object_export.to_obj(dataclasses.replace(good, mesh=empty), MATERIALS)


def test_longest_side() -> None:
    assert object_export.longest_side(wardrobe()) == pytest.approx(1.2)
