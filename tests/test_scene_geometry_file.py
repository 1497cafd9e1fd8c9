from __future__ import annotations

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError, CorruptFileError
from sceneloom.ops import scene_geometry_file
from sceneloom.ops.scene_model import SceneModel, SunLight, TriangleMesh

from .scenes import ceiling_light, room_scene


def full_scene() -> SceneModel:
    sun = SunLight((0.1, 0.7, 1 / 3), (3.0, 2.9, 2.5), 0.02)
    scene = room_scene(sun=sun, area_lights=(ceiling_light(),), rings=6, sectors=8)
    description = {"prompt": "a röd chair", "counts": {"chair": 2}, "ignored": ["the", None], "share": 0.1}
    return dataclasses.replace(scene, exposure=1.7, metric=False, description=description)


def assert_equal(found: object, expected: object) -> None:
    if dataclasses.is_dataclass(expected):
        assert type(found) is type(expected)
        for field in dataclasses.fields(expected):
            assert_equal(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, list | tuple):
        assert isinstance(found, list | tuple)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def content() -> bytes:
    return scene_geometry_file.to_bytes(full_scene())


def test_round_trip_is_exact(content: bytes) -> None:
    assert_equal(scene_geometry_file.from_bytes(content), full_scene())


def test_no_sun_no_lamps_no_objects() -> None:
    scene = dataclasses.replace(room_scene(), instances=[], sun=None, area_lights=())
    assert_equal(scene_geometry_file.from_bytes(scene_geometry_file.to_bytes(scene)), scene)


@settings(deadline=None, max_examples=30)
@given(st.floats(allow_nan=False, allow_infinity=False, width=64), st.integers(0, 2**32 - 1))
def test_every_number_survives(exposure: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = rng.normal(size=(4, 4)) * 10.0 ** rng.integers(-300, 300)
    scene = dataclasses.replace(room_scene(rings=2, sectors=3), exposure=exposure, scene_from_camera=pose)
    assert_equal(scene_geometry_file.from_bytes(scene_geometry_file.to_bytes(scene)), scene)


def test_equal_scenes_give_equal_bytes(content: bytes) -> None:
    assert scene_geometry_file.to_bytes(full_scene()) == content
    assert scene_geometry_file.to_bytes(scene_geometry_file.from_bytes(content)) == content


def test_numpy_opens_it_without_pickle(content: bytes) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["instance.0001.faces"], full_scene().instances[1].mesh.faces)


def test_shared_textures_are_stored_once() -> None:
    scene = full_scene()
    doubled = dataclasses.replace(scene, materials=[*scene.materials, *scene.materials])
    single, double = scene_geometry_file.to_bytes(scene), scene_geometry_file.to_bytes(doubled)
    names = [
        [name for name in zipfile.ZipFile(io.BytesIO(content)).namelist() if name.endswith(".png")]
        for content in (single, double)
    ]
    assert names[0] == names[1]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_byte_is_refused_or_harmless(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    position = data.draw(st.integers(0, len(content) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        scene = scene_geometry_file.from_bytes(bytes(damaged))
    except CorruptFileError:
        return
    # What no checksum of a zip covers (times, attributes) changes nothing that is read.
    assert_equal(scene, full_scene())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_cut_file_is_refused(content: bytes, share: float) -> None:
    with pytest.raises(CorruptFileError):
        scene_geometry_file.from_bytes(content[: int(len(content) * share)])


def rewritten(content: bytes, name: str, entry: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as archive:
        for other in source.namelist():
            archive.writestr(other, entry if other == name else source.read(other))
    return target.getvalue()


def test_other_format_versions_are_refused_by_name(content: bytes) -> None:
    other = rewritten(content, "header.json", json.dumps({"format": "sceneloom.scene_geometry/2"}).encode())
    with pytest.raises(CorruptFileError, match=r'"sceneloom\.scene_geometry/2", this code reads'):
        scene_geometry_file.from_bytes(other)


def test_an_index_outside_its_table_is_refused(content: bytes) -> None:
    faces = io.BytesIO()
    np.save(faces, np.full((12, 3), 99, np.int32))
    with pytest.raises(CorruptFileError, match=r"instance\.0000: a face points outside the 8 vertices"):
        scene_geometry_file.from_bytes(rewritten(content, "instance.0000.faces.npy", faces.getvalue()))


def test_pickled_arrays_are_refused(content: bytes) -> None:
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptFileError):
        scene_geometry_file.from_bytes(rewritten(content, "intrinsics.npy", pickled.getvalue()))


def test_wrong_arrays_are_refused_when_written() -> None:
    scene = full_scene()
    shell = dataclasses.replace(scene.shell, vertices=scene.shell.vertices.astype(np.float64))
    with pytest.raises(ContractError, match=r"shell\.vertices is float64"):
        scene_geometry_file.to_bytes(dataclasses.replace(scene, shell=shell))
    few = TriangleMesh(scene.shell.vertices, scene.shell.faces, scene.shell.uv, scene.shell.material + 7)
    with pytest.raises(ContractError, match="outside the 5 materials"):
        scene_geometry_file.to_bytes(dataclasses.replace(scene, shell=few))
    with pytest.raises(ContractError, match="not JSON"):
        scene_geometry_file.to_bytes(dataclasses.replace(scene, description={"when": object()}))
