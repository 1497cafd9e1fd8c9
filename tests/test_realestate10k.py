"""RealEstate10K: read back as the format has it, and as CameraCtrl's class and pixelSplat's converter read it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sceneloom.datasets.camera_conventions import rotation_from_quaternion
from sceneloom.datasets.layouts.realestate10k import LAYOUT
from sceneloom.datasets.layouts.release import (
    CaptionWindow,
    FindingKind,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)
from sceneloom.datasets.video import read_video

from .release_scenes import MemoryClip, make_clip, make_scene

CLIP = "hall-turn"
WIDTH, HEIGHT = 48, 32


def turned_clip() -> MemoryClip:
    """A clip whose world frame is turned and moved, so that axes and directions of poses matter."""
    clip = make_clip("hall", "turn", frames=7, direction=(0.2, 0.05, 0.1), seed=4)
    world = np.eye(4)
    world[:3, :3] = rotation_from_quaternion(np.array([0.8, 0.3, -0.4, 0.2]), order="wxyz")
    world[:3, 3] = [1.0, -2.0, 3.0]
    return dataclasses.replace(clip, c2w=(world @ clip.c2w).astype(np.float32))


def scenes() -> list[ReleaseScene]:
    windows = (CaptionWindow(0, 4, "a hall"), CaptionWindow(4, 7, "its end"))
    return [
        dataclasses.replace(
            make_scene("hall", trajectories=()), clips={"turn": turned_clip()}, captions={"turn": windows}
        ),
        make_scene("yard", trajectories=("left",), frames=3, split="validation"),
        make_scene("lane", trajectories=("left",), frames=3, split="test", prompt=None),
    ]


def publish(root: Path, **request: object) -> LayoutSummary:
    root.mkdir(exist_ok=True)
    return LAYOUT.write(ReleaseDirectory(root), scenes(), ReleaseRequest(root, **request))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("realestate10k") / "set"
    publish(folder)
    return folder


def rows_of(file: Path) -> list[np.ndarray]:
    """The numbers of every line but the first, which names the source."""
    return [np.array(line.split(" "), np.float64) for line in file.read_text().splitlines()[1:]]


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# --- readers --------------------------------------------------------------------------------------------------------


def test_a_pixel_is_carried_into_another_frame_by_the_columns(root: Path) -> None:
    """w2c in columns 7 to 18, the lens in 1 to 4 as shares of the picture: the first frame's pixels, carried into the
    last, keep their colour."""
    rows = rows_of(root / f"train/{CLIP}.txt")
    poses = [np.concatenate([row[7:].reshape(3, 4), [[0, 0, 0, 1]]]) for row in rows]
    fx, fy, cx, cy = rows[0][1:5] * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    assert (cx, cy) == (24.0, 16.0)
    assert rows[0][5:7].tolist() == [0.0, 0.0]
    names = [root / f"frames/train/{CLIP}/{int(row[0])}.png" for row in rows]
    first, last = picture(names[0]).astype(int), picture(names[-1]).astype(int)
    y, x = np.mgrid[8:24, 8:40]
    depth = turned_clip().depths[0, 8:24, 8:40].astype(np.float64)
    local = np.stack([(x + 0.5 - cx) / fx * depth, (y + 0.5 - cy) / fy * depth, depth, np.ones_like(depth)], -1)
    seen = local @ (poses[-1] @ np.linalg.inv(poses[0])).T
    across = np.floor(seen[..., 0] / seen[..., 2] * fx + cx).astype(int)
    down = np.floor(seen[..., 1] / seen[..., 2] * fy + cy).astype(int)
    inside = (across >= 0) & (across < WIDTH) & (down >= 0) & (down < HEIGHT)
    assert inside.mean() > 0.7
    moved = np.abs(first[8:24, 8:40][inside] - last[down[inside], across[inside]]).mean()
    still = np.abs(first[8:24, 8:40][inside] - last[8:24, 8:40][inside]).mean()
    assert moved < 8.0
    assert still > 2.0 * moved


def test_pixelsplat_s_converter_finds_a_frame_for_every_time(root: Path) -> None:
    """It splits lines at single spaces, reads times as whole numbers, and wants as many frames as times, named so."""
    for folder, name, frames in (("train", CLIP, 7), ("test", "yard-left", 3), ("test", "lane-left", 3)):
        lines = (root / f"{folder}/{name}.txt").read_text().splitlines()[1:]
        times = [int(line.split(" ")[0]) for line in lines]
        assert {len(line.split(" ")) for line in lines} == {19}
        assert times == [round(index / 24 * 1e6) for index in range(frames)]
        assert {file.name for file in (root / f"frames/{folder}/{name}").iterdir()} == {f"{time}.png" for time in times}


def test_cameractrl_reads_video_cameras_and_caption_of_every_clip(root: Path) -> None:
    """Its class takes paths from the annotations, skips a pose file's first line, splits the others at single spaces,
    multiplies the lens by the picture's size, inverts w2c, and pairs poses and the video's frames by position."""
    captions = {CLIP: "a hall", "yard-left": "a small room with a red chair", "lane-left": ""}
    found = {}
    for split, folder in (("train", "train"), ("validation", "test"), ("test", "test")):
        for entry in json.loads((root / f"annotations/{split}.json").read_text()):
            assert set(entry) == {"clip_name", "clip_path", "pose_file", "caption"}
            assert entry["pose_file"].startswith(f"{folder}/")
            name, rows = entry["clip_name"], rows_of(root / entry["pose_file"])
            found[name] = split
            clip = {f"{scene.scene_id}-{key}": clip for scene in scenes() for key, clip in scene.clips.items()}[name]
            lens = np.array([row[1:5] for row in rows]) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
            w2c = np.array([np.concatenate([row[7:].reshape(3, 4), [[0, 0, 0, 1]]]) for row in rows])
            c2w, intrinsics = clip.cameras()
            np.testing.assert_allclose(np.linalg.inv(w2c), c2w, atol=1e-6)
            np.testing.assert_allclose(lens, intrinsics, rtol=1e-6)
            np.testing.assert_array_equal(read_video(root / entry["clip_path"]), clip.rgb())
            if name in captions:
                assert entry["caption"] == captions[name]
    assert found == {CLIP: "train", "yard-left": "validation", "lane-left": "test"}


def test_what_is_told_of_a_small_set(root: Path, tmp_path: Path) -> None:
    notes = "\n".join(publish(tmp_path / "set").notes)
    lists = "annotations/train.json, annotations/validation.json, annotations/test.json"
    assert f"root_path {tmp_path / 'set'}, annotation_json {lists}" in notes
    assert "1 clips have no caption" in notes
    assert "clips of 3 frames: CameraCtrl wants 17" in notes
    assert "annotations" not in "\n".join(publish(tmp_path / "bare", fields=frozenset({"cameras", "frames"})).notes)
    assert sorted(path.name for path in (tmp_path / "bare").iterdir()) == ["frames", "test", "train"]
    publish(tmp_path / "told", options={"caption": "a  lane"})
    assert json.loads((tmp_path / "told/annotations/test.json").read_text())[0]["caption"] == "a lane"


def test_nothing_is_found_in_fresh_sets(root: Path, tmp_path: Path) -> None:
    assert LAYOUT.examine(root, {}) == []
    for field in ("frames", "video"):
        publish(tmp_path / field, fields=frozenset({"cameras", field}))
        assert LAYOUT.examine(tmp_path / field, {}) == []


# --- damage ---------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def in_pixels(root: Path) -> None:
    path = root / f"train/{CLIP}.txt"
    lines = path.read_text().splitlines()
    rows = [line.split() for line in lines[1:]]
    path.write_text("\n".join([lines[0], *(" ".join([row[0], "38", "38", "24", "16", *row[5:]]) for row in rows)]))


def change_list(root: Path, split: str, change: Callable[[list[dict[str, str]]], object]) -> None:
    path = root / f"annotations/{split}.json"
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


def drop_camera(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def train_on_validation(root: Path) -> None:
    shutil.move(root / "annotations/validation.json", root / "annotations/train.json")


TEXT, VIDEO, FRAMES = f"train/{CLIP}.txt", f"video_clips/train/{CLIP}.mp4", f"frames/train/{CLIP}"
DAMAGES: dict[str, tuple[Callable[[Path], object], str, FindingKind, str]] = {
    "cameras in pixels": (in_pixels, TEXT, FindingKind.OUT_OF_CONVENTION, "shares"),
    "camera line cut": (lambda root: cut(root / TEXT), TEXT, FindingKind.TRUNCATED, "line"),
    "cameras gone": (lambda root: (root / TEXT).unlink(), TEXT, FindingKind.MISSING, "never draws"),
    "frame of another time": (
        lambda root: (root / FRAMES / "0.png").rename(root / FRAMES / "1.png"),
        f"{FRAMES}/0.png",
        FindingKind.MISSING,
        "time",
    ),
    "frame without camera": (
        lambda root: shutil.copy(root / FRAMES / "0.png", root / FRAMES / "1.png"),
        f"{FRAMES}/1.png",
        FindingKind.UNEXPECTED,
        "never read",
    ),
    "frame cut": (lambda root: cut(root / FRAMES / "0.png"), f"{FRAMES}/0.png", FindingKind.TRUNCATED, "decoded"),
    "one camera too few": (lambda root: drop_camera(root / TEXT), VIDEO, FindingKind.MISALIGNED, "7 frames"),
    "video gone": (lambda root: (root / VIDEO).unlink(), VIDEO, FindingKind.MISSING, "without a word"),
    "all videos gone": (
        lambda root: shutil.rmtree(root / "video_clips"),
        VIDEO,
        FindingKind.MISSING,
        "without a word",
    ),
    "video cut": (lambda root: cut(root / VIDEO), VIDEO, FindingKind.TRUNCATED, "without a word"),
    "video of another clip": (
        lambda root: shutil.copy(root / "video_clips/test/yard-left.mp4", root / VIDEO),
        VIDEO,
        FindingKind.MISALIGNED,
        "by position",
    ),
    "clip in no list": (
        lambda root: (root / "annotations/train.json").unlink(),
        "annotations/train.json",
        FindingKind.MISSING,
        "never draws",
    ),
    "list cut": (
        lambda root: cut(root / "annotations/train.json"),
        "annotations/train.json",
        FindingKind.TRUNCATED,
        "stops",
    ),
    "list without captions": (
        lambda root: change_list(root, "train", lambda entries: entries[0].pop("caption")),
        "annotations/train.json",
        FindingKind.TRUNCATED,
        "caption",
    ),
    "empty list": (
        lambda root: change_list(root, "train", lambda entries: entries.clear()),
        "annotations/train.json",
        FindingKind.TRUNCATED,
        "first draw",
    ),
    "held-out clips trained on": (
        train_on_validation,
        "annotations/train.json",
        FindingKind.MISALIGNED,
        "seen wrongly",
    ),
    "clip listed twice": (
        lambda root: change_list(root, "train", lambda entries: entries.append(entries[0])),
        "annotations/train.json",
        FindingKind.MISALIGNED,
        "twice",
    ),
    "poses of another clip": (
        lambda root: change_list(root, "train", lambda entries: entries[0].update(pose_file="test/yard-left.txt")),
        "annotations/train.json",
        FindingKind.MISALIGNED,
        "seen wrongly",
    ),
    "list of no split": (
        lambda root: shutil.copy(root / "annotations/train.json", root / "annotations/all.json"),
        "annotations/all.json",
        FindingKind.UNEXPECTED,
        "no split",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, root: Path, tmp_path: Path) -> None:
    damage, path, kind, message = DAMAGES[name]
    damaged = tmp_path / "damaged"
    shutil.copytree(root, damaged)
    damage(damaged)
    findings = LAYOUT.examine(damaged, {path: "hall"})
    named = [found for found in findings if found.path == path and found.kind == kind and message in found.message]
    assert named, findings
    assert named[0].scene_id == "hall"


def test_a_clip_that_is_gone_but_listed_is_named_once(root: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(root, damaged)
    (damaged / TEXT).unlink()
    (damaged / VIDEO).unlink()
    shutil.rmtree(damaged / FRAMES)
    (found,) = LAYOUT.examine(damaged, {})
    assert (found.path, found.kind) == (TEXT, FindingKind.MISSING)
