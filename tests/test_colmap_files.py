"""COLMAP models: text and binary agree, and read as COLMAP's documentation has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneloom.datasets.camera_conventions import rotation_from_quaternion
from sceneloom.datasets.camera_files import read_cameras
from sceneloom.datasets.camera_sequence import CameraSequence, camera_sequence
from sceneloom.datasets.colmap_files import SparsePoints, format_colmap, parse_colmap
from sceneloom.datasets.errors import InputError

CAMERAS_TEXT = b"""# Camera list
3 SIMPLE_PINHOLE 640 352 500 320 176
7 PINHOLE 640 352 500 510 321 177
"""
IMAGES_TEXT = b"""# Image list with two lines of data per image
2 0.7071067811865476 0 0.7071067811865476 0 1 2 3 7 b with space.png
10.5 20.5 4 30 40 -1
9 1 0 0 0 -1 -2 -3 3 a.png

"""


def two_lens_cameras() -> CameraSequence:
    generator = np.random.default_rng(3)
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, :3, :3] = rotation_from_quaternion(generator.normal(size=(4, 4)), order="wxyz")
    poses[:, :3, 3] = generator.normal(size=(4, 3))
    intrinsics = np.array([[500.0, 510.0, 320.0, 176.0], [600.0, 610.0, 320.0, 176.0]])[[0, 1, 0, 1]]
    return camera_sequence(poses, intrinsics, (352, 640), where="test")


def some_points() -> SparsePoints:
    return SparsePoints(
        xyz=np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
        rgb=np.array([[1, 2, 3], [250, 251, 252]], dtype=np.uint8),
        image=np.array([0, 2, 2]),
        point=np.array([1, 1, 0]),
        pixel=np.array([[10.25, 20.5], [30.0, 40.0], [50.0, 60.0]]),
    )


def test_a_hand_written_text_model() -> None:
    cameras = parse_colmap(CAMERAS_TEXT, IMAGES_TEXT, binary=False, where="model")
    assert cameras.names == ("a.png", "b with space.png")
    assert cameras.size == (352, 640)
    assert cameras.intrinsics is not None
    np.testing.assert_allclose(cameras.intrinsics, [[500, 500, 320, 176], [500, 510, 321, 177]])
    np.testing.assert_allclose(cameras.c2w[0, :3, 3], [1.0, 2.0, 3.0])
    # World-to-camera is a quarter turn about y, x ↦ −z: the camera's forward axis is the world's −x.
    np.testing.assert_allclose(cameras.c2w[1, :3, 2], [-1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(cameras.c2w[1, :3, 3], [3.0, -2.0, -1.0], atol=1e-6)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("points", [None, some_points()])
def test_models_give_back_their_cameras(binary: bool, points: SparsePoints | None) -> None:
    cameras = two_lens_cameras()
    files = format_colmap(cameras, points=points, binary=binary)
    suffix = "bin" if binary else "txt"
    assert set(files) == {f"cameras.{suffix}", f"images.{suffix}", f"points3D.{suffix}"}
    back = parse_colmap(files[f"cameras.{suffix}"], files[f"images.{suffix}"], binary=binary, where="model")
    np.testing.assert_allclose(back.c2w, cameras.c2w, atol=1e-6)
    np.testing.assert_array_equal(back.intrinsics, cameras.intrinsics)
    assert back.names == tuple(f"images/frame_{index:05d}.png" for index in range(4))


def test_each_lens_is_written_once() -> None:
    text = format_colmap(two_lens_cameras())["cameras.txt"].decode()
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [["1", "PINHOLE"], ["2", "PINHOLE"]]


def test_observations_and_tracks_refer_to_each_other() -> None:
    files = format_colmap(two_lens_cameras(), points=some_points())
    images = files["images.txt"].decode().splitlines()[1:]
    assert images[1] == "10.25 20.5 2"
    assert images[3] == ""
    assert images[5] == "30.0 40.0 2 50.0 60.0 1"
    points = files["points3D.txt"].decode().splitlines()[1:]
    assert points == ["1 0.0 1.0 2.0 1 2 3 0.0 3 1", "2 3.0 4.0 5.0 250 251 252 0.0 1 0 3 0"]


def test_binary_points_are_laid_out_as_colmap_reads_them() -> None:
    content = format_colmap(two_lens_cameras(), points=some_points(), binary=True)["points3D.bin"]
    point = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")])
    assert np.frombuffer(content, "<u8", 1)[0] == 2
    first = np.frombuffer(content, point, 1, 8)[0]
    assert (first["id"], first["length"]) == (1, 1)
    np.testing.assert_array_equal(first["xyz"], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(first["rgb"], [1, 2, 3])
    np.testing.assert_array_equal(np.frombuffer(content, "<i4", 2, 8 + point.itemsize), [3, 1])
    assert len(content) == 8 + 2 * point.itemsize + 8 * 3


def test_the_model_is_found_where_colmap_puts_it(tmp_path: Path) -> None:
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    for name, content in format_colmap(two_lens_cameras(), binary=True).items():
        (folder / name).write_bytes(content)
    np.testing.assert_allclose(read_cameras(tmp_path).c2w, two_lens_cameras().c2w, atol=1e-6)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_a_binary_file_that_is_cut_off_is_refused(name: str, kept: float) -> None:
    files = format_colmap(two_lens_cameras(), points=some_points(), binary=True)
    files[name] = files[name][: int(kept * len(files[name]))]
    with pytest.raises(InputError, match=f"{name}.*cut off"):
        parse_colmap(files["cameras.bin"], files["images.bin"], binary=True, where="model")


@pytest.mark.parametrize(
    ("cameras", "images", "message"),
    [
        (b"3 SIMPLE_RADIAL 640 352 500 320 176 0.1\n", IMAGES_TEXT.replace(b" 7 b", b" 3 b"), "lens distortion"),
        (b"3 FISHEYE 640 352 500 320 176\n", IMAGES_TEXT, "cannot read the line '3 FISHEYE"),
        (CAMERAS_TEXT.replace(b"7 PINHOLE 640", b"7 PINHOLE 320"), IMAGES_TEXT, "2 sizes"),
        (CAMERAS_TEXT, IMAGES_TEXT.replace(b" 7 b", b" 8 b"), "no camera 8"),
        (CAMERAS_TEXT, IMAGES_TEXT.replace(b"9 1 0", b"9 one 0"), "images.txt: cannot read the line"),
        (CAMERAS_TEXT, b"# empty\n", "no images"),
    ],
)
def test_models_that_cannot_be_used_are_refused(cameras: bytes, images: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_colmap(cameras, images, binary=False, where="model")


def test_a_radial_camera_without_distortion_is_a_pinhole() -> None:
    text = b"3 SIMPLE_RADIAL 640 352 500 320 176 0\n"
    cameras = parse_colmap(text, IMAGES_TEXT.replace(b" 7 b", b" 3 b"), binary=False, where="model")
    assert cameras.intrinsics is not None
    np.testing.assert_allclose(cameras.intrinsics, np.tile([500, 500, 320, 176], (2, 1)))
