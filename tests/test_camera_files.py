"""Camera files: every format gives back what it was given, and says where it is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sceneloom.datasets import camera_files
from sceneloom.datasets.camera_conventions import invert_rigid, rotation_from_quaternion
from sceneloom.datasets.camera_files import CameraFormat, read_cameras, write_cameras
from sceneloom.datasets.camera_sequence import CameraSequence, camera_sequence
from sceneloom.datasets.errors import InputError

FORMATS: tuple[CameraFormat, ...] = get_args(CameraFormat)
SUFFIX = {"npz": "npz", "lyra": "npz", "gen3r": "json", "gen3r_transforms": "json", "nerfstudio": "json"}


def some_cameras(seed: int = 0, count: int = 6, size: tuple[int, int] = (560, 560)) -> CameraSequence:
    generator = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = rotation_from_quaternion(generator.normal(size=(count, 4)), order="wxyz")
    poses[:, :3, 3] = generator.normal(size=(count, 3)) * 3.0
    focal = generator.uniform(300.0, 700.0, (count, 2))
    centre = np.array([size[1], size[0]]) / 2.0 + generator.uniform(-9.0, 9.0, (count, 2))
    return camera_sequence(poses, np.concatenate([focal, centre], axis=1), size, where="test")


def place(folder: Path, camera_format: CameraFormat) -> Path:
    if camera_format == "colmap":
        return folder / "model"
    return folder / "pose" / f"cameras.{SUFFIX.get(camera_format, 'txt')}"


@pytest.mark.parametrize("camera_format", FORMATS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_format_gives_back_what_it_was_given(tmp_path: Path, camera_format: CameraFormat, seed: int) -> None:
    cameras = some_cameras(seed)
    path = place(tmp_path, camera_format)
    write_cameras(path, cameras, camera_format=camera_format)
    back = read_cameras(path, camera_format=camera_format)
    np.testing.assert_allclose(back.c2w, cameras.c2w, atol=2e-6)
    np.testing.assert_allclose(back.times, cameras.times, atol=1e-9)
    assert back.c2w.dtype == np.float32
    if camera_format == "tum":
        assert back.intrinsics is None
        return
    pixels = back.resized(560, 560).intrinsics if camera_format == "realestate10k" else back.intrinsics
    assert pixels is not None
    assert cameras.intrinsics is not None
    np.testing.assert_allclose(pixels, cameras.intrinsics, rtol=1e-6)
    if camera_format not in ("lyra", "realestate10k"):
        assert back.size == (560, 560)


@pytest.mark.parametrize("camera_format", FORMATS)
def test_every_format_is_recognised(tmp_path: Path, camera_format: CameraFormat) -> None:
    path = place(tmp_path, camera_format)
    write_cameras(path, some_cameras(), camera_format=camera_format)
    assert camera_files.recognise_format(path) == camera_format
    np.testing.assert_allclose(read_cameras(path).c2w, some_cameras().c2w, atol=2e-6)


@pytest.mark.parametrize("camera_format", FORMATS)
def test_the_same_cameras_give_the_same_bytes(tmp_path: Path, camera_format: CameraFormat) -> None:
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_cameras(place(folder, camera_format), some_cameras(), camera_format=camera_format)
        contents.append({file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()})
    assert contents[0] == contents[1]


def test_lyra_files_are_as_lyra_writes_them(tmp_path: Path) -> None:
    cameras = some_cameras()
    write_cameras(tmp_path / "pose" / "clip.npz", cameras, camera_format="lyra")
    for kind, shape in (("pose", (6, 4, 4)), ("intrinsics", (6, 4))):
        with np.load(tmp_path / kind / "clip.npz") as arrays:
            assert sorted(arrays.files) == ["data", "inds"]
            assert (arrays["data"].dtype, arrays["data"].shape) == (np.float32, shape)
            np.testing.assert_array_equal(arrays["inds"], np.arange(6))


def test_lyra_frames_that_were_dropped_leave_a_gap_in_the_times(tmp_path: Path) -> None:
    path = tmp_path / "pose" / "clip.npz"
    path.parent.mkdir()
    np.savez(path, data=some_cameras(count=3).c2w, inds=np.array([0, 1, 4]))
    cameras = read_cameras(path)
    np.testing.assert_array_equal(cameras.times, [0.0, 1.0, 4.0])
    assert cameras.intrinsics is None


def test_lyra_poses_and_intrinsics_of_different_frames_are_refused(tmp_path: Path) -> None:
    cameras = some_cameras()
    write_cameras(tmp_path / "pose" / "clip.npz", cameras, camera_format="lyra")
    np.savez(tmp_path / "intrinsics" / "clip.npz", data=cameras.intrinsics, inds=np.arange(1, 7))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="different frames"):
        read_cameras(tmp_path / "pose" / "clip.npz")


def test_a_lyra_2_trajectory_is_read(tmp_path: Path) -> None:
    w2c = invert_rigid(some_cameras().c2w).astype(np.float32)
    matrices = np.tile(np.array([[500.0, 0.0, 416.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]], np.float32), (6, 1, 1))
    np.savez(tmp_path / "trajectory.npz", w2c=w2c, intrinsics=matrices, image_height=480, image_width=832)
    cameras = read_cameras(tmp_path / "trajectory.npz")
    np.testing.assert_allclose(cameras.c2w, some_cameras().c2w, atol=2e-6)
    assert cameras.size == (480, 832)
    assert cameras.intrinsics is not None
    np.testing.assert_array_equal(cameras.intrinsics[2], [500.0, 500.0, 416.0, 240.0])


def test_one_lens_for_all_frames_of_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "path.npz", c2w=some_cameras().c2w, intrinsics=np.array([500.0, 500.0, 320.0, 176.0]))
    intrinsics = read_cameras(tmp_path / "path.npz").intrinsics
    assert intrinsics is not None
    assert intrinsics.shape == (6, 4)


def test_gen3r_cameras_are_world_to_camera(tmp_path: Path) -> None:
    write_cameras(tmp_path / "cameras.json", some_cameras(), camera_format="gen3r")
    content = json.loads((tmp_path / "cameras.json").read_text())
    assert set(content) == {"extrinsics", "intrinsics"}
    unity = np.array(content["extrinsics"]) @ some_cameras().c2w
    np.testing.assert_allclose(unity, np.tile(np.eye(4), (6, 1, 1)), atol=1e-5)


def test_gen3r_transforms_hold_what_its_training_reads(tmp_path: Path) -> None:
    still = camera_sequence(np.tile(np.eye(4), (2, 1, 1)), np.full((2, 4), 280.0), (560, 560), where="test")
    write_cameras(tmp_path / "transforms.json", still, camera_format="gen3r_transforms")
    text = (tmp_path / "transforms.json").read_text()
    frame = json.loads(text)["frames"][0]
    assert {"w", "h", "fl_x", "fl_y", "cx", "cy", "file_path", "transform_matrix"} <= set(frame)
    # An identity written as integers would become a tensor of integers, which Gen3R cannot invert.
    assert all(isinstance(value, float) for row in frame["transform_matrix"] for value in row)


def test_nerfstudio_poses_have_opengl_axes(tmp_path: Path) -> None:
    still = camera_sequence(np.eye(4)[None], [[500.0, 500.0, 320.0, 176.0]], (352, 640), where="test")
    write_cameras(tmp_path / "transforms.json", still, camera_format="nerfstudio")
    frame = json.loads((tmp_path / "transforms.json").read_text())["frames"][0]
    np.testing.assert_array_equal(frame["transform_matrix"], np.diag([1.0, -1.0, -1.0, 1.0]))


def transforms(path: Path, **changes: object) -> Path:
    frames = [{"transform_matrix": np.eye(4).tolist()}]
    content: dict[str, object] = {"w": 640, "h": 352, "fl_x": 500.0, "frames": frames}
    path.write_text(json.dumps({key: value for key, value in {**content, **changes}.items() if value is not None}))
    return path


def test_nerfstudio_intrinsics_of_the_whole_file(tmp_path: Path) -> None:
    cameras = read_cameras(transforms(tmp_path / "transforms.json"))
    assert cameras.intrinsics is not None
    np.testing.assert_array_equal(cameras.intrinsics, [[500.0, 500.0, 320.0, 176.0]])
    wide = read_cameras(transforms(tmp_path / "transforms.json", fl_x=None, camera_angle_x=np.pi / 2))
    assert wide.intrinsics is not None
    np.testing.assert_allclose(wide.intrinsics[0, :2], 320.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": []}, "no frames"),
        ({"frames": [{}]}, r"frames\[0\]: transform_matrix missing"),
        ({"frames": [{"transform_matrix": [[1.0]]}]}, r"frames\[0\]: shape"),
        ({"k1": 0.1}, "lens distortion"),
        ({"w": None}, "w missing"),
        ({"fl_x": None}, "neither fl_x nor camera_angle_x"),
        ({"fl_x": "wide"}, "wide"),
        ({"fl_x": -3.0}, "focal length"),
    ],
)
def test_broken_transforms_are_refused_by_place(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_cameras(transforms(tmp_path / "transforms.json", **changes))


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    frame = {"transform_matrix": np.eye(4).tolist()}
    with pytest.raises(InputError, match="2 sizes"):
        read_cameras(transforms(tmp_path / "transforms.json", frames=[frame, {**frame, "w": 320}]))


TUM = "# time tx ty tz qx qy qz qw\n1.5 1 2 3 0 0.7071068 0 0.7071068\n2.0 1 2 4 0 0 0 1\n"


def test_tum_is_camera_to_world_with_the_scalar_last(tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text(TUM)
    cameras = read_cameras(tmp_path / "path.txt")
    np.testing.assert_allclose(cameras.c2w[0, :3, 3], [1.0, 2.0, 3.0])
    # A quarter turn about y takes the camera's forward axis to the world's x.
    np.testing.assert_allclose(cameras.c2w[0, :3, 2], [1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_array_equal(cameras.times, [1.5, 2.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TUM.replace("2.0 1", "two 1"), "line 3"),
        (TUM.replace("2.0 1", "2.0"), "line 3.*expected"),
        (TUM.replace("0 0 0 1\n", "0 0 0 0\n"), "quaternion"),
        (TUM.replace("2.0 1", "1.0 1"), "do not increase"),
        (TUM.replace("1 2 4", "1 nan 4"), "frame 1 is not finite"),
        ("# nothing\n", "no cameras"),
    ],
)
def test_broken_tum_files_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "path.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_cameras(tmp_path / "path.txt", camera_format="tum")


def test_realestate10k_is_world_to_camera_and_normalised(tmp_path: Path) -> None:
    line = "33000 0.5 0.9 0.5 0.5 0 0 1 0 0 -1 0 1 0 -2 0 0 1 -3"
    (tmp_path / "clip.txt").write_text(f"https://example.org/watch?v=1\n{line}\n")
    cameras = read_cameras(tmp_path / "clip.txt")
    np.testing.assert_allclose(cameras.c2w[0, :3, 3], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(cameras.times, [0.033])
    assert cameras.size == (1, 1)
    intrinsics = cameras.resized(360, 640).intrinsics
    assert intrinsics is not None
    np.testing.assert_allclose(intrinsics, [[320.0, 324.0, 320.0, 180.0]], rtol=1e-6)


def test_a_pose_rounded_in_text_is_repaired_and_a_scaled_one_refused(tmp_path: Path) -> None:
    poses = some_cameras().c2w.astype(np.float64)
    np.savez(tmp_path / "rounded.npz", c2w=np.round(poses, 4))
    repaired = read_cameras(tmp_path / "rounded.npz").c2w.astype(np.float64)
    gram = np.swapaxes(repaired[:, :3, :3], 1, 2) @ repaired[:, :3, :3]
    np.testing.assert_allclose(gram, np.tile(np.eye(3), (6, 1, 1)), atol=1e-6)
    np.savez(tmp_path / "scaled.npz", c2w=poses * 1.1)
    with pytest.raises(InputError, match="frame 0"):
        read_cameras(tmp_path / "scaled.npz")


def test_files_that_are_no_camera_files_are_refused(tmp_path: Path) -> None:
    contents = {
        "cut.npz": b"PK\x03\x04 cut",
        "list.json": b"[1, 2]",
        "broken.json": b"{",
        "other.json": b"{}",
        "prose.txt": b"Twenty cameras stood in a row.",
        "binary.txt": b"\xff\xfe\x00",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_cameras(tmp_path / name)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "absent.npz"):
        with pytest.raises(InputError, match=path.name):
            read_cameras(path)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "path.npz", c2w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="not an npz of plain arrays"):
        read_cameras(tmp_path / "path.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"c2w": np.float64(3.0)},
        {"c2w": np.array(["a", "b"])},
        {"intrinsics": np.array(["wide", "narrow"])},
        {"intrinsics": np.ones((2, 3, 2))},
        {"image_height": np.full(2, 480), "image_width": 640},
        {"image_height": np.nan, "image_width": 640},
        {"image_height": 0, "image_width": 640},
    ],
)
def test_arrays_of_another_kind_in_an_npz_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "path.npz", **({"c2w": some_cameras().c2w} | arrays))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"path\.npz"):
        read_cameras(tmp_path / "path.npz")


def test_an_npz_without_poses_names_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "path.npz", poses=np.eye(4)[None])
    with pytest.raises(InputError, match="poses"):
        read_cameras(tmp_path / "path.npz")


@pytest.mark.parametrize("camera_format", [name for name in FORMATS if name not in ("npz", "tum")])
def test_formats_that_need_intrinsics_leave_nothing_behind_without_them(
    tmp_path: Path, camera_format: CameraFormat
) -> None:
    bare = camera_sequence(np.eye(4)[None], None, None, where="test")
    with pytest.raises(InputError, match="no intrinsics"):
        write_cameras(place(tmp_path, camera_format), bare, camera_format=camera_format)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
