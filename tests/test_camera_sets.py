"""Pictures with cameras: read back by our importers, by pycolmap, and by readers written after each format."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sceneloom.datasets.camera_conventions import rotation_from_quaternion
from sceneloom.datasets.camera_files import CameraFormat, read_cameras
from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.camera_sets import LAYOUTS
from sceneloom.datasets.layouts.colmap_model import sparse_points
from sceneloom.datasets.layouts.colmap_observations import read_binary_points, read_text_points
from sceneloom.datasets.layouts.frame_files import depth_levels
from sceneloom.datasets.layouts.release import FindingKind, ReleaseDirectory, ReleaseRequest, ReleaseScene

from .release_scenes import MemoryClip, make_clip, make_scene

LAYOUT = {layout.name: layout for layout in LAYOUTS}
CLIP = "hall-turn"
OPTIONS = {"points": "900"}


def turned_clip(scene: str = "hall", direction: tuple[float, float, float] = (0.2, 0.05, 0.1)) -> MemoryClip:
    """A clip whose world frame is turned and moved, so that axes and directions of poses matter."""
    clip = make_clip(scene, "turn", frames=7, direction=direction, seed=4)
    world = np.eye(4)
    world[:3, :3] = rotation_from_quaternion(np.array([0.8, 0.3, -0.4, 0.2]), order="wxyz")
    world[:3, 3] = [1.0, -2.0, 3.0]
    depths = clip.depths.copy()
    depths[:, :4, :6] = 0
    return dataclasses.replace(clip, c2w=(world @ clip.c2w).astype(np.float32), depths=depths)


def scenes() -> list[ReleaseScene]:
    return [
        dataclasses.replace(make_scene("hall", trajectories=()), clips={"turn": turned_clip()}),
        make_scene("yard", trajectories=("left",), frames=3, split="validation"),
    ]


def publish(root: Path, name: str, given: list[ReleaseScene], **request: object) -> None:
    root.mkdir(exist_ok=True)
    LAYOUT[name].write(ReleaseDirectory(root), given, ReleaseRequest(root, **request))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {name: tmp_path_factory.mktemp(name) / "set" for name in LAYOUT}
    for name, root in roots.items():
        publish(root, name, scenes(), options=OPTIONS)
    return roots


@pytest.mark.parametrize(
    ("name", "file", "camera_format"),
    [
        ("nerfstudio", f"{CLIP}/transforms.json", "nerfstudio"),
        ("colmap", CLIP, "colmap"),
        ("realestate10k", f"train/{CLIP}.txt", "realestate10k"),
        ("tum", f"{CLIP}/groundtruth.txt", "tum"),
    ],
)
def test_our_importers_give_the_cameras_back(
    name: str, file: str, camera_format: CameraFormat, published: dict[str, Path]
) -> None:
    clip = turned_clip()
    cameras = read_cameras(published[name] / file, camera_format=camera_format)
    np.testing.assert_allclose(cameras.c2w, clip.c2w, atol=1e-6)
    if name != "tum":
        assert cameras.size is not None
        sized = cameras.resized(32, 48)
        assert sized.intrinsics is not None
        np.testing.assert_allclose(sized.intrinsics, clip.intrinsics, rtol=1e-6)
    if name in ("realestate10k", "tum"):
        np.testing.assert_allclose(cameras.times, np.arange(7) / 24, atol=1e-6)


@pytest.mark.parametrize("name", LAYOUT)
def test_nothing_is_found_in_a_fresh_set(name: str, published: dict[str, Path]) -> None:
    assert LAYOUT[name].examine(published[name], {}) == []


@pytest.mark.parametrize("name", LAYOUT)
def test_the_same_scenes_give_the_same_bytes(name: str, published: dict[str, Path], tmp_path: Path) -> None:
    publish(tmp_path / "again", name, scenes(), options=OPTIONS)
    files = [file.relative_to(published[name]) for file in published[name].rglob("*") if file.is_file()]
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (published[name] / file).read_bytes()


def test_empty_releases_are_refused(tmp_path: Path) -> None:
    for name in LAYOUT:
        with pytest.raises(InputError, match="no clips"):
            publish(tmp_path, name, [])


# --- readers written after each format ------------------------------------------------------------------------------


def assert_photometric(
    unproject: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    project: Callable[[np.ndarray], np.ndarray],
    first: np.ndarray,
    last: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Pixels of the first picture, carried into the last by the reader's cameras, keep their colour."""
    rows, columns = np.mgrid[8:24, 8:40]
    world = unproject(columns + 0.5, rows + 0.5, depth[8:24, 8:40])
    seen = project(world)
    across, down = np.floor(seen[..., 0]).astype(int), np.floor(seen[..., 1]).astype(int)
    inside = (across >= 0) & (across < 48) & (down >= 0) & (down < 32)
    assert inside.mean() > 0.7
    moved = np.abs(first[8:24, 8:40][inside].astype(int) - last[down[inside], across[inside]].astype(int)).mean()
    still = np.abs(first[8:24, 8:40][inside].astype(int) - last[8:24, 8:40][inside].astype(int)).mean()
    assert moved < 8.0
    assert still > 2.0 * moved


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_nerfstudio_reads_opengl_rays_and_millimetres(published: dict[str, Path]) -> None:
    """nerfstudio's rays: ((x + 0.5 − cx) / fx, −(y + 0.5 − cy) / fy, −1) turned by the matrix; depth × 0.001."""
    root = published["nerfstudio"] / CLIP
    frames = json.loads((root / "transforms.json").read_text())["frames"]
    first, last = frames[0], frames[-1]

    def unproject(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        rays = np.stack([(x - first["cx"]) / first["fl_x"], -(y - first["cy"]) / first["fl_y"], -np.ones(x.shape)], -1)
        c2w = np.array(first["transform_matrix"])
        return (rays * z[..., None]) @ c2w[:3, :3].T + c2w[:3, 3]

    def project(world: np.ndarray) -> np.ndarray:
        c2w = np.array(last["transform_matrix"])
        local = (world - c2w[:3, 3]) @ c2w[:3, :3]
        x, y = local[..., 0] / -local[..., 2], local[..., 1] / local[..., 2]
        return np.stack([x * last["fl_x"] + last["cx"], y * last["fl_y"] + last["cy"]], -1)

    depth = picture(root / first["depth_file_path"]).astype(np.float64) * 0.001
    assert depth[0, 0] == 0
    assert_photometric(unproject, project, picture(root / first["file_path"]), picture(root / last["file_path"]), depth)


def test_tum_as_its_tools_read_it(published: dict[str, Path]) -> None:
    root = published["tum"] / CLIP
    fx, fy, cx, cy = np.loadtxt(root / "calibration.txt")
    assert (cx, cy) == (23.5, 15.5)
    truth = np.loadtxt(root / "groundtruth.txt")
    rgb, depth = (
        [line.split() for line in (root / f"{kind}.txt").read_text().splitlines()[1:]] for kind in ("rgb", "depth")
    )
    np.testing.assert_array_equal([float(time) for time, _ in rgb], truth[:, 0])
    assert [time for time, _ in depth] == [time for time, _ in rgb]

    def pose(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rotation_from_quaternion(row[4:], order="xyzw"), row[1:4]

    def unproject(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        rotation, centre = pose(truth[0])
        # TUM counts pixels from the first one's centre.
        return np.stack([(x - 0.5 - cx) / fx * z, (y - 0.5 - cy) / fy * z, z], -1) @ rotation.T + centre

    def project(world: np.ndarray) -> np.ndarray:
        rotation, centre = pose(truth[-1])
        local = (world - centre) @ rotation
        return np.stack([local[..., 0] / local[..., 2] * fx + cx, local[..., 1] / local[..., 2] * fy + cy], -1) + 0.5

    levels = picture(root / depth[0][1])
    assert levels[10, 10] == 10000
    assert_photometric(unproject, project, picture(root / rgb[0][1]), picture(root / rgb[-1][1]), levels / 5000.0)


@pytest.mark.parametrize("suffix", ["txt", "bin"])
@pytest.mark.parametrize("clip", [CLIP, "yard-left"])
def test_pycolmap_reads_the_model(suffix: str, clip: str, published: dict[str, Path], tmp_path: Path) -> None:
    for file in (published["colmap"] / clip / "sparse/0").glob(f"*.{suffix}"):
        shutil.copy(file, tmp_path)
    model = pycolmap.Reconstruction(tmp_path)
    frames = 7 if clip == CLIP else 3
    assert model.num_reg_images() == frames
    assert model.num_points3D() > 300
    worst, observations = 0.0, 0
    for image in model.images.values():
        assert (published["colmap"] / clip / "images" / image.name).is_file()
        assert image.num_points3D > 0
        for point2d in image.points2D:
            point = model.points3D[point2d.point3D_id]
            pixel = image.project_point(point.xyz)
            assert pixel is not None
            worst = max(worst, float(np.abs(pixel - point2d.xy).max()))
            observations += 1
    assert worst < 0.01
    assert sum(point.track.length() for point in model.points3D.values()) == observations
    assert min(point.track.length() for point in model.points3D.values()) >= 2


def test_colmap_poses_and_points_are_those_of_the_clip(published: dict[str, Path]) -> None:
    clip, model = turned_clip(), pycolmap.Reconstruction(published["colmap"] / CLIP / "sparse/0")
    for image in model.images.values():
        w2c = np.asarray(image.cam_from_world().matrix())
        index = int(image.name.removeprefix("frame_").removesuffix(".png"))
        np.testing.assert_allclose(w2c, np.linalg.inv(clip.c2w[index].astype(np.float64))[:3], atol=1e-5)
    # All points lie on the plane before the first camera, within what float16 depth can say.
    world = np.array([point.xyz for point in model.points3D.values()])
    inverse = np.linalg.inv(clip.c2w[0].astype(np.float64))
    np.testing.assert_allclose((world @ inverse[:3, :3].T + inverse[:3, 3])[:, 2], 2.0, rtol=1e-3)


def test_both_forms_hold_the_points_that_were_tracked(published: dict[str, Path]) -> None:
    clip, folder = turned_clip(), published["colmap"] / CLIP / "sparse/0"
    cameras = read_cameras(folder, camera_format="colmap")
    points = sparse_points(cameras, clip.depth(), clip.rgb(), int(OPTIONS["points"]), where="test")
    text = read_text_points((folder / "points3D.txt").read_bytes())
    binary = read_binary_points((folder / "points3D.bin").read_bytes())
    assert text.keys() == binary.keys() == set(range(1, len(points.xyz) + 1))
    assert all(text[key].same(binary[key]) for key in text)
    np.testing.assert_allclose([text[key].xyz for key in sorted(text)], points.xyz, atol=1e-5)
    assert sum(len(point.track) for point in text.values()) == len(points.image)


def test_frames_that_see_nothing_of_the_others_get_points_of_their_own(tmp_path: Path) -> None:
    clip = turned_clip()
    depths = clip.depths.copy()
    depths[2] = 5.0
    scene = dataclasses.replace(make_scene("hall", trajectories=()))
    publish(tmp_path, "colmap", [dataclasses.replace(scene, clips={"turn": dataclasses.replace(clip, depths=depths)})])
    model = pycolmap.Reconstruction(tmp_path / CLIP / "sparse/0")
    assert min(image.num_points3D for image in model.images.values()) > 0
    depths[2] = 0.0
    with pytest.raises(InputError, match="frame 2 has no valid depth"):
        publish(
            tmp_path, "colmap", [dataclasses.replace(scene, clips={"turn": dataclasses.replace(clip, depths=depths)})]
        )
    with pytest.raises(InputError, match="points=many"):
        publish(tmp_path, "colmap", scenes(), options={"points": "many"})


def test_depth_levels() -> None:
    depth = np.array([0.0, 0.0001, 2.0, 65.535, 65.6, np.inf, np.nan, -1.0])
    levels, beyond = depth_levels(depth, 1000.0)
    assert levels.tolist() == [0, 1, 2000, 65535, 0, 0, 0, 0]
    assert beyond == 1


# --- damage ---------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def change_frames(root: Path, change: Callable[[dict], object]) -> None:
    path = root / CLIP / "transforms.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        change(frame)
    path.write_text(json.dumps(content))


def drop_observations(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line if index % 2 == 0 else "" for index, line in enumerate(lines[1:]))]))


def move_points(path: Path) -> None:
    rows = [line.split() for line in path.read_text().splitlines()[1:]]
    path.write_text("".join(" ".join([row[0], str(float(row[1]) + 0.5), *row[2:]]) + "\n" for row in rows))


def shift_poses(path: Path) -> None:
    lines = path.read_text().splitlines()
    for index in range(1, len(lines), 2):
        row = lines[index].split()
        lines[index] = " ".join([*row[:5], str(float(row[5]) + 0.5), *row[6:]])
    path.write_text("\n".join(lines) + "\n")


def drop_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


MODEL = f"{CLIP}/sparse/0"
DAMAGES: dict[str, tuple[str, Callable[[Path], object], str, FindingKind, str]] = {
    "transforms gone": (
        "nerfstudio",
        lambda root: (root / CLIP / "transforms.json").unlink(),
        f"{CLIP}/transforms.json",
        FindingKind.MISSING,
        "no data set",
    ),
    "transforms cut": (
        "nerfstudio",
        lambda root: cut(root / CLIP / "transforms.json"),
        f"{CLIP}/transforms.json",
        FindingKind.TRUNCATED,
        "parser stops",
    ),
    "poses not rigid": (
        "nerfstudio",
        lambda root: change_frames(root, lambda frame: frame["transform_matrix"][0].__setitem__(0, 3.0)),
        f"{CLIP}/transforms.json",
        FindingKind.TRUNCATED,
        "parser stops",
    ),
    "normalised lens": (
        "nerfstudio",
        lambda root: change_frames(root, lambda frame: frame.update(fl_x=0.8, fl_y=0.8, cx=0.5, cy=0.5)),
        f"{CLIP}/transforms.json",
        FindingKind.OUT_OF_CONVENTION,
        "every ray",
    ),
    "depth of some frames": (
        "nerfstudio",
        lambda root: change_frames(
            root, lambda frame: frame["file_path"].endswith("3.png") and frame.pop("depth_file_path")
        ),
        f"{CLIP}/transforms.json",
        FindingKind.MISALIGNED,
        "of none",
    ),
    "picture gone": (
        "nerfstudio",
        lambda root: (root / CLIP / "images/frame_00002.png").unlink(),
        f"{CLIP}/images/frame_00002.png",
        FindingKind.MISSING,
        "leaves the frame out",
    ),
    "picture without camera": (
        "nerfstudio",
        lambda root: shutil.copy(root / CLIP / "images/frame_00002.png", root / CLIP / "images/frame_00009.png"),
        f"{CLIP}/images/frame_00009.png",
        FindingKind.UNEXPECTED,
        "no camera",
    ),
    "8-bit depth": (
        "nerfstudio",
        lambda root: Image.new("L", (48, 32)).save(root / CLIP / "depth/frame_00000.png"),
        f"{CLIP}/depth/frame_00000.png",
        FindingKind.OUT_OF_CONVENTION,
        "16-bit grey",
    ),
    "clip gone": (
        "nerfstudio",
        lambda root: shutil.rmtree(root / CLIP),
        CLIP,
        FindingKind.MISSING,
        "folder is missing",
    ),
    "model file gone": (
        "colmap",
        lambda root: (root / MODEL / "points3D.bin").unlink(),
        f"{MODEL}/points3D.bin",
        FindingKind.MISSING,
        "stop",
    ),
    "binary images cut": (
        "colmap",
        lambda root: cut(root / MODEL / "images.bin"),
        f"{MODEL}/images.bin",
        FindingKind.TRUNCATED,
        "cut off",
    ),
    "binary points cut": (
        "colmap",
        lambda root: cut(root / MODEL / "points3D.bin"),
        f"{MODEL}/points3D.bin",
        FindingKind.TRUNCATED,
        "cut off",
    ),
    "empty observations": (
        "colmap",
        lambda root: drop_observations(root / MODEL / "images.txt"),
        f"{MODEL}/images.txt",
        FindingKind.OUT_OF_CONVENTION,
        "3DGRUT",
    ),
    "points moved": (
        "colmap",
        lambda root: move_points(root / MODEL / "points3D.txt"),
        f"{MODEL}/images.txt",
        FindingKind.OUT_OF_CONVENTION,
        "project",
    ),
    "points dropped": (
        "colmap",
        lambda root: drop_line(root / MODEL / "points3D.txt"),
        f"{MODEL}/points3D.txt",
        FindingKind.MISALIGNED,
        "in no track",
    ),
    "poses differ between forms": (
        "colmap",
        lambda root: shift_poses(root / MODEL / "images.txt"),
        f"{MODEL}/images.bin",
        FindingKind.MISALIGNED,
        "different cameras",
    ),
    "distorted lens": (
        "colmap",
        lambda root: replace(root / MODEL / "cameras.txt", "PINHOLE", "RADIAL"),
        f"{MODEL}/cameras.txt",
        FindingKind.TRUNCATED,
        "stop",
    ),
    "colmap picture cut": (
        "colmap",
        lambda root: cut(root / CLIP / "images/frame_00002.png"),
        f"{CLIP}/images/frame_00002.png",
        FindingKind.TRUNCATED,
        "decoded",
    ),
    "trajectory short": (
        "tum",
        lambda root: drop_line(root / CLIP / "groundtruth.txt"),
        f"{CLIP}/rgb.txt",
        FindingKind.MISALIGNED,
        "7 times",
    ),
    "trajectory gone": (
        "tum",
        lambda root: (root / CLIP / "groundtruth.txt").unlink(),
        f"{CLIP}/groundtruth.txt",
        FindingKind.MISSING,
        "compare",
    ),
    "depth list gone": (
        "tum",
        lambda root: (root / CLIP / "depth.txt").unlink(),
        f"{CLIP}/depth.txt",
        FindingKind.MISSING,
        "depth pictures",
    ),
    "list broken": (
        "tum",
        lambda root: replace(root / CLIP / "rgb.txt", " rgb/", ",rgb/"),
        f"{CLIP}/rgb.txt",
        FindingKind.TRUNCATED,
        "tools stop",
    ),
    "depth picture cut": (
        "tum",
        lambda root: cut(root / CLIP / "depth/0.000000.png"),
        f"{CLIP}/depth/0.000000.png",
        FindingKind.TRUNCATED,
        "decoded",
    ),
    "calibration gone": (
        "tum",
        lambda root: (root / CLIP / "calibration.txt").unlink(),
        f"{CLIP}/calibration.txt",
        FindingKind.MISSING,
        "lens",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, published: dict[str, Path], tmp_path: Path) -> None:
    layout, damage, path, kind, message = DAMAGES[name]
    root = tmp_path / "damaged"
    shutil.copytree(published[layout], root)
    scene_of = {f"{CLIP}/transforms.json": "hall", path: "hall"}
    damage(root)
    findings = LAYOUT[layout].examine(root, scene_of)
    named = [found for found in findings if found.path == path and found.kind == kind and message in found.message]
    assert named, findings
    assert named[0].scene_id == "hall"


@pytest.mark.parametrize("name", LAYOUT)
def test_any_file_may_be_junk(name: str, published: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(published[name], root)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".png")
    kinds = {file.name if name != "realestate10k" else file.suffix: file for file in files}
    for file in kinds.values():
        content = file.read_bytes()
        for junk in (b"", b"[1, 2]", b"\xff\xfe\x00" + content, content[: len(content) // 2]):
            file.write_bytes(junk)
            assert LAYOUT[name].examine(root, {}), (file, junk[:10])
        file.unlink()
        file.mkdir()
        assert LAYOUT[name].examine(root, {}), file
        file.rmdir()
        file.write_bytes(content)
