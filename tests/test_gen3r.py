"""Gen3R's layout: read by a loader written after Gen3R's training code, and damaged in every way that it minds."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sceneloom.assets.catalog import refresh_catalog
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.datasets.camera_files import read_cameras
from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.gen3r import LAYOUT, inference_cameras
from sceneloom.datasets.layouts.gen3r_examination import examine
from sceneloom.datasets.layouts.gen3r_names import WEIGHTS, validation_dataset
from sceneloom.datasets.layouts.release import (
    Finding,
    FindingKind,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)
from sceneloom.resources.profiles import load_profile

from .release_scenes import PLANE_DEPTH, make_clip, make_scene

ANY_SIZE = {"any_size": "true"}
SPLITS = ("train", "train", "validation", "test")


def scenes(frames: int = 49, trajectories: tuple[str, ...] = ("right",)) -> list[ReleaseScene]:
    return [
        make_scene(
            f"room{index}", split=split, frames=frames, height=32, width=48, seed=index, trajectories=trajectories
        )
        for index, split in enumerate(SPLITS)
    ]


def publish(root: Path, given: list[ReleaseScene], **request: Any) -> LayoutSummary:
    root.mkdir(exist_ok=True)
    directory = ReleaseDirectory(root)
    settings = {"destination": root, "options": ANY_SIZE, **request}
    return LAYOUT.write(directory, given, ReleaseRequest(**settings))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gen3r") / "set"
    publish(root, scenes())
    return root


class Gen3RReader:
    """What Gen3R's DiT data set does: index by line number, 49 frames, resize and centre crop, poses to the first."""

    def __init__(self, prefix: Path, side: int = 560, frames: int = 49) -> None:
        def read(suffix: str) -> list[str]:
            return [line for line in Path(f"{prefix}_{suffix}").read_text().splitlines() if line.strip()]

        self.videos, self.cameras = read("videos_dirs.txt"), read("cameras_paths.txt")
        self.captions = read("captions_paths.txt")
        assert len(self.cameras) == len(self.videos)
        self.side, self.frames = side, frames

    def __getitem__(self, index: int) -> dict[str, Any]:
        entries = json.loads(Path(self.cameras[index]).read_text())["frames"][: self.frames]
        pictures, lenses = [], []
        for entry in entries:
            name = entry["file_path"].split("/")[-1]
            picture = np.asarray(Image.open(Path(self.videos[index], name)))[..., :3]
            assert picture.shape[:2] == (entry["h"], entry["w"])
            pictures.append(picture)
            lenses.append([entry["fl_x"], entry["fl_y"], entry["cx"], entry["cy"]])
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
        height, width = stacked.shape[-2:]
        ratio = max(self.side / height, self.side / width)
        size = (round(height * ratio), round(width * ratio))
        resized = torch.nn.functional.interpolate(stacked, size=size, mode="bilinear", antialias=True)
        top, left = (size[0] - self.side) // 2, (size[1] - self.side) // 2
        cropped = resized[..., top : top + self.side, left : left + self.side]
        scaled = torch.tensor(lenses) * ratio
        matrices = torch.zeros(len(entries), 3, 3)
        matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 2, 2] = scaled[:, 0], scaled[:, 1], 1.0
        matrices[:, 0, 2] = scaled[:, 2] - (int(width * ratio) - self.side) // 2
        matrices[:, 1, 2] = scaled[:, 3] - (int(height * ratio) - self.side) // 2
        c2w = torch.stack([torch.tensor(entry["transform_matrix"]) for entry in entries])
        return {
            "pixel_values": (cropped / 255.0).clamp(0.0, 1.0),
            "c2ws": torch.linalg.inv(c2w[0]) @ c2w,
            "Ks": matrices,
            "text": Path(self.captions[index]).read_text().splitlines()[0],
        }


def test_a_loader_written_after_gen3r_reads_samples(published: Path) -> None:
    for dataset in WEIGHTS:
        assert len(Gen3RReader(published / dataset / "train").videos) >= 1
    sample = Gen3RReader(published / "test")[0]
    assert sample["pixel_values"].shape == (49, 3, 560, 560)
    assert sample["pixel_values"].dtype == sample["c2ws"].dtype == sample["Ks"].dtype == torch.float32
    assert sample["c2ws"].shape == (49, 4, 4)
    assert sample["Ks"].shape == (49, 3, 3)
    assert torch.equal(sample["c2ws"][0], torch.eye(4))
    assert sample["text"] == "a small room with a red chair"


def test_cameras_and_pictures_agree_after_gen3rs_crop(published: Path) -> None:
    """A pixel of the first frame, carried through the plane it sees, has the same colour in the last frame."""
    sample = Gen3RReader(published / "test")[0]
    pictures = sample["pixel_values"].numpy()
    rows, columns = np.mgrid[100:460:9, 100:460:9]
    directions = (
        np.stack([columns + 0.5, rows + 0.5, np.ones(rows.shape)], axis=-1) @ np.linalg.inv(sample["Ks"].numpy()[0]).T
    )
    w2c = np.linalg.inv(sample["c2ws"][-1].numpy())
    moved = (directions * PLANE_DEPTH) @ w2c[:3, :3].T + w2c[:3, 3]
    seen = moved @ sample["Ks"].numpy()[-1].T
    across, down = (np.floor(seen[..., axis] / seen[..., 2]).astype(int) for axis in (0, 1))
    inside = (across >= 0) & (across < 560) & (down >= 0) & (down < 560)
    assert inside.mean() > 0.6
    before = pictures[0][:, rows[inside], columns[inside]]
    after = pictures[-1][:, down[inside], across[inside]]
    still = pictures[-1][:, rows[inside], columns[inside]]
    assert np.abs(before - after).mean() < 0.02
    assert np.abs(before - still).mean() > 0.05


def test_nothing_is_found_in_a_fresh_set(published: Path) -> None:
    assert examine(published, {}) == []


def test_training_and_validation_share_no_scene(published: Path) -> None:
    train = {Path(line).name for line in map(parent, Gen3RReader(published / "train").videos)}
    test = {Path(line).name for line in map(parent, Gen3RReader(published / "test").videos)}
    assert train == {"room0-right", "room1-right"}
    assert test == {"room2-right", "room3-right"}


def parent(line: str) -> Path:
    return Path(line).parent


def test_inference_cameras_are_for_the_cropped_picture(published: Path) -> None:
    folder = next(published.glob("*/scenes/room2-right"))
    cameras = read_cameras(folder / "cameras.json")
    assert cameras.intrinsics is not None
    # 32x48 becomes 560x840, of which the middle 560 columns stay.
    focal = 0.8 * 48 * 560 / 32
    np.testing.assert_allclose(cameras.intrinsics[0], [focal, focal, 280.0, 280.0], rtol=1e-6)
    trained = read_cameras(folder / "transforms.json")
    np.testing.assert_allclose(cameras.c2w, trained.c2w, atol=1e-6)


def test_inference_cameras_of_native_pictures_are_unchanged() -> None:
    small = make_clip("room", "right", frames=49)
    clip = dataclasses.replace(small, height=560, width=560, intrinsics=np.tile([400.0, 410, 280, 280], (49, 1)))
    matrix = np.array(inference_cameras(clip)["intrinsics"])[0]
    np.testing.assert_allclose(matrix, [[400, 0, 280], [0, 410, 280], [0, 0, 1]])


def test_documented_files(published: Path) -> None:
    folder = next(published.glob("*/scenes/room0-right"))
    assert (folder / "frames" / "frame00048.png").read_bytes() == (folder / "images" / "frame00048.png").read_bytes()
    assert (folder / "frames" / "frame00048.png").samefile(folder / "images" / "frame00048.png")
    assert (folder / "prompt.txt").read_text() == (folder / "captions.txt").read_text()
    depth = np.asarray(Image.open(folder / "depth" / "frame00000.png"))
    np.testing.assert_array_equal(depth, np.full((32, 48), 2000))
    scale = json.loads((folder / "scale.json").read_text())
    assert scale["metric"] is True
    assert scale["scene_scale"] == pytest.approx(0.8 * PLANE_DEPTH)
    # Points of a plane at 2 m, seen through a lens of 0.8 widths, are between 2 m and 2 m / cos of the corner away.
    assert PLANE_DEPTH < scale["vggt_unit"] < PLANE_DEPTH * math.hypot(1.0, 0.5 / 0.8, 0.5 / 0.8)
    assert scale["scene_scale_in_vggt_units"] == pytest.approx(scale["scene_scale"] / scale["vggt_unit"])


def test_clips_are_shared_out_by_the_weights_of_the_names(tmp_path: Path) -> None:
    tiny = make_clip("x", "right", frames=49, height=8, width=8)
    many = [
        dataclasses.replace(
            make_scene(f"s{index:02d}", trajectories=(), frames=49, split="train" if index < 31 else "test"),
            clips={"right": dataclasses.replace(tiny, scene_id=f"s{index:02d}")},
        )
        for index in range(33)
    ]
    summary = publish(tmp_path / "set", many, fields=frozenset({"frames"}))
    counts = {dataset: len(Gen3RReader(tmp_path / "set" / dataset / "train").videos) for dataset in WEIGHTS}
    assert summary.counts["train_clips"] == sum(counts.values()) == 31
    assert all(counts[name] == 4 for name in WEIGHTS if WEIGHTS[name] == 1.0)
    assert all(counts[name] == 2 for name in WEIGHTS if WEIGHTS[name] == 0.5)
    assert counts["mvimgnet"] == 1
    assert not list((tmp_path / "set").rglob("depth"))


def test_the_same_scenes_give_the_same_bytes(published: Path, tmp_path: Path) -> None:
    publish(tmp_path / "again", scenes(), destination=published)
    for file in published.rglob("*"):
        if file.is_file():
            assert (tmp_path / "again" / file.relative_to(published)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("changes", "request_changes", "found"),
    [
        ({}, {"destination": Path("/data/train_set")}, "train"),
        ({}, {"options": {}}, "32x48"),
        ({"frames": 41}, {}, "41 frames"),
        ({"prompt": None}, {}, "no caption"),
        ({"prompt": "x" * 1001}, {}, "1001 characters"),
        ({"split": "train"}, {}, "0 of validation"),
        ({}, {"options": {**ANY_SIZE, "hold_out": "all"}}, "hold_out=all"),
    ],
)
def test_refusals(changes: dict[str, Any], request_changes: dict[str, Any], found: str, tmp_path: Path) -> None:
    frames = changes.pop("frames", 49)
    given = [dataclasses.replace(scene, **changes) for scene in scenes(frames)]
    with pytest.raises(InputError, match=found):
        publish(tmp_path / "set", given, **request_changes)
    assert not list((tmp_path / "set").iterdir())


def test_scenes_can_be_held_out(tmp_path: Path) -> None:
    given = [dataclasses.replace(scene, split="train", prompt=None) for scene in scenes()[:3]]
    options = {**ANY_SIZE, "hold_out": "2", "caption": "a  room\nwith chairs"}
    publish(tmp_path / "set", given, options=options, fields=frozenset({"frames"}))
    assert LAYOUT.examine(tmp_path / "set", {}) == []
    test = Gen3RReader(tmp_path / "set" / "test")
    assert [parent(line).name for line in test.videos] == ["room1-right", "room2-right"]
    assert test[0]["text"] == "a room with chairs"


def test_names_are_in_the_order_in_which_the_validation_looks_for_them() -> None:
    # create_dataset_config of Gen3R's training code; the first name that a path holds decides.
    order = "dl3dv acid mvimgnet waymo co3d re10k kitti360 vkitti wildrgbd tartanair"
    assert list(WEIGHTS) == order.split()
    assert validation_dataset("/data/re10k/scenes/A-Placid-Lake/captions.txt") == "acid"
    assert validation_dataset("/data/scenes/room/captions.txt") is None


def test_a_test_clip_stands_where_the_validation_looks_for_it(tmp_path: Path) -> None:
    # "placid" holds acid, the second name, and the set's own folder holds re10k, the sixth.
    held = [f"placid-{number}" for number in range(4)] + [f"hall-{number}" for number in range(7)]
    names = {**dict.fromkeys(held, "test"), **dict.fromkeys("ab", "train")}
    given = [
        make_scene(name, split=split, frames=49, height=16, width=16, trajectories=("right",))
        for name, split in names.items()
    ]
    root = tmp_path / "like-re10k"
    publish(root, given)
    paths = (root / "test_captions_paths.txt").read_text().split()
    assert len(paths) == len(held)
    for path in paths:
        found = next(name for name in WEIGHTS if name in path.lower())
        assert Path(path).is_relative_to(root / found)
    assert examine(root, {}) == []


def test_a_test_clip_in_another_dataset_is_named(published: Path, tmp_path: Path) -> None:
    root = tmp_path / "acid"
    publish(root, scenes(), destination=root)
    folder = next(Path(line).parent for line in (root / "test_captions_paths.txt").read_text().split())
    moved = root / "tartanair" / "scenes" / folder.name
    moved.parent.mkdir(exist_ok=True)
    folder.rename(moved)
    for suffix in ("videos_dirs", "cameras_paths", "captions_paths"):
        index = root / f"test_{suffix}.txt"
        index.write_text(index.read_text().replace(str(folder), str(moved)))
    [finding] = examine(root, {})
    assert (finding.path, finding.kind) == ("test_captions_paths.txt", FindingKind.OUT_OF_CONVENTION)
    assert "takes the clip for that dataset" in finding.message


def test_the_profile_holds_out_enough_to_validate_with(tmp_path: Path) -> None:
    checkout = Path(__file__).resolve().parents[1]
    text = (checkout / "configs" / "gen3r.yaml").read_text().replace("../", f"{checkout}/")
    (tmp_path / "gen3r.yaml").write_text(text.replace(f"{checkout}/.sceneloom/gen3r", str(tmp_path / "store")))
    profile = load_profile(tmp_path / "gen3r.yaml")
    splits = [scene.split for scene in refresh_catalog(profile, SceneRuntime(profile).store).catalog.active()]
    assert splits.count("train") >= 5
    assert {"validation", "test"} <= set(splits)
    assert (profile.frames.count, profile.frames.height, profile.frames.width) == (49, 560, 560)


# --- damage ---------------------------------------------------------------------------------------------------------


def clip_folder(root: Path) -> Path:
    return next(root.glob("*/scenes/room0-right"))


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_frames(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    def all_frames(content: dict[str, Any]) -> None:
        for frame in content["frames"]:
            change(frame)

    change_json(clip_folder(root) / "transforms.json", all_frames)


def to_opengl(frame: dict[str, Any]) -> None:
    frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])).tolist()


def whole_numbers(frame: dict[str, Any]) -> None:
    frame["transform_matrix"] = np.eye(4, dtype=int).tolist()


def sheared(frame: dict[str, Any]) -> None:
    frame["transform_matrix"][0][1] += 0.2


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def grey(path: Path) -> None:
    Image.new("L", (48, 32)).save(path)


DAMAGES: dict[str, tuple[Callable[[Path], object], FindingKind, str]] = {
    "dataset name gone": (lambda root: shutil.rmtree(root / "waymo"), FindingKind.MISSING, "stops when it starts"),
    "empty index": (lambda root: (root / "acid/train_videos_dirs.txt").write_text("\n"), FindingKind.MISSING, "empty"),
    "short caption list": (
        lambda root: (root / "train_captions_paths.txt").write_text(
            (root / "train_captions_paths.txt").read_text().splitlines(keepends=True)[0]
        ),
        FindingKind.MISALIGNED,
        "differ in length",
    ),
    "lists out of step": (
        lambda root: (root / "train_cameras_paths.txt").write_text(
            "".join(reversed((root / "train_cameras_paths.txt").read_text().splitlines(keepends=True)))
        ),
        FindingKind.MISALIGNED,
        "different clips",
    ),
    "clip gone": (lambda root: shutil.rmtree(clip_folder(root)), FindingKind.MISSING, "names nothing"),
    "trained on and tested with": (
        lambda root: [
            shutil.copy(root / f"test_{suffix}", root / f"train_{suffix}")
            for suffix in ("videos_dirs.txt", "cameras_paths.txt", "captions_paths.txt")
        ],
        FindingKind.OUT_OF_CONVENTION,
        "trained on and validated",
    ),
    "one test clip": (
        lambda root: [
            path.write_text(path.read_text().splitlines(keepends=True)[0]) for path in root.glob("test_*.txt")
        ],
        FindingKind.MISSING,
        "Eval error",
    ),
    "relative path": (
        lambda root: (root / "train_videos_dirs.txt").write_text(
            (root / "train_videos_dirs.txt").read_text().replace(f"{root}/", "")
        ),
        FindingKind.OUT_OF_CONVENTION,
        "relative",
    ),
    "frame cut": (lambda root: cut(clip_folder(root) / "images/frame00007.png"), FindingKind.TRUNCATED, "repeats"),
    "frame gone": (
        lambda root: (clip_folder(root) / "images/frame00007.png").unlink(),
        FindingKind.MISSING,
        "not in images",
    ),
    "frame of another size": (
        lambda root: Image.new("RGB", (40, 32)).save(clip_folder(root) / "images/frame00007.png"),
        FindingKind.MISALIGNED,
        "expected 32x48",
    ),
    "grey frame": (
        lambda root: grey(clip_folder(root) / "images/frame00007.png"),
        FindingKind.OUT_OF_CONVENTION,
        "8-bit RGB",
    ),
    "mask among the frames": (
        lambda root: Image.new("RGB", (48, 32)).save(clip_folder(root) / "images/mask.png"),
        FindingKind.MISALIGNED,
        "without a camera",
    ),
    "depth among the frames": (
        lambda root: (clip_folder(root) / "images/depth.exr").write_bytes(b"x"),
        FindingKind.UNEXPECTED,
        "no picture",
    ),
    "cameras cut": (lambda root: cut(clip_folder(root) / "transforms.json"), FindingKind.TRUNCATED, "loader stops"),
    "intrinsics at the top only": (
        lambda root: change_frames(root, lambda frame: frame.pop("fl_x")),
        FindingKind.OUT_OF_CONVENTION,
        "without fl_x",
    ),
    "integer poses": (
        lambda root: change_frames(root, whole_numbers),
        FindingKind.OUT_OF_CONVENTION,
        "integer tensors",
    ),
    "OpenGL poses": (
        lambda root: change_frames(root, to_opengl),
        FindingKind.OUT_OF_CONVENTION,
        "not in its convention",
    ),
    "sheared poses": (lambda root: change_frames(root, sheared), FindingKind.OUT_OF_CONVENTION, "transform_matrix"),
    "normalised intrinsics": (
        lambda root: change_frames(root, lambda frame: frame.update(fl_x=0.8)),
        FindingKind.OUT_OF_CONVENTION,
        "not in pixels",
    ),
    "size of another picture": (
        lambda root: change_frames(root, lambda frame: frame.update(w=96)),
        FindingKind.MISALIGNED,
        "its camera is for",
    ),
    "frames shuffled": (
        lambda root: change_json(clip_folder(root) / "transforms.json", lambda content: content["frames"].reverse()),
        FindingKind.MISALIGNED,
        "order of their names",
    ),
    "no caption": (
        lambda root: (clip_folder(root) / "captions.txt").write_text(""),
        FindingKind.TRUNCATED,
        "no caption",
    ),
    "blank caption": (
        lambda root: (clip_folder(root) / "captions.txt").write_text("a room\n\na hall\n"),
        FindingKind.OUT_OF_CONVENTION,
        "blank",
    ),
    "long caption": (
        lambda root: (clip_folder(root) / "captions.txt").write_text("x" * 1001),
        FindingKind.OUT_OF_CONVENTION,
        "1000",
    ),
    "unlisted clip": (
        lambda root: (root / "co3d/scenes/left_over").mkdir(parents=True),
        FindingKind.UNEXPECTED,
        "no index",
    ),
    "depth cut": (lambda root: cut(clip_folder(root) / "depth/frame00003.png"), FindingKind.TRUNCATED, "depth"),
    "documented frame gone": (
        lambda root: (clip_folder(root) / "frames/frame00003.png").unlink(),
        FindingKind.MISSING,
        "README",
    ),
    "scale not a number": (
        lambda root: change_json(clip_folder(root) / "scale.json", lambda content: content.update(vggt_unit="m")),
        FindingKind.TRUNCATED,
        "scale is not known",
    ),
    "prompt of another clip": (
        lambda root: (clip_folder(root) / "prompt.txt").write_text("a hall\n"),
        FindingKind.MISALIGNED,
        "first caption",
    ),
    "prompt gone": (lambda root: (clip_folder(root) / "prompt.txt").unlink(), FindingKind.MISSING, "README"),
    "camera file cut": (lambda root: cut(clip_folder(root) / "cameras.json"), FindingKind.TRUNCATED, "infer.py"),
}


@pytest.fixture(scope="module")
def damaged(published: Path) -> Path:
    """A name for copies, made in place of the published set so that its absolute paths hold."""
    keeper = published.with_name("kept")
    shutil.copytree(published, keeper)
    return keeper


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, published: Path, damaged: Path) -> None:
    damage, kind, message = DAMAGES[name]
    damage(published)
    try:
        findings = LAYOUT.examine(published, {})
    finally:
        shutil.rmtree(published)
        shutil.copytree(damaged, published)
    assert any(finding.kind == kind and message in finding.message for finding in findings), findings


def test_a_moved_set_is_noticed(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "elsewhere")
    published.rename(published.with_name("away"))
    try:
        findings: list[Finding] = LAYOUT.examine(tmp_path / "elsewhere", {})
    finally:
        published.with_name("away").rename(published)
    assert any("was the set moved?" in finding.message for finding in findings)


def test_findings_name_the_scene(published: Path) -> None:
    file = clip_folder(published) / "images/frame00007.png"
    content = file.read_bytes()
    cut(file)
    relative = file.relative_to(published).as_posix()
    findings = LAYOUT.examine(published, {relative: "room0"})
    file.write_bytes(content)
    assert (relative, "room0") in [(finding.path, finding.scene_id) for finding in findings]


def test_any_file_may_be_junk(published: Path) -> None:
    folder = clip_folder(published)
    for file in [
        folder / name for name in ("transforms.json", "cameras.json", "captions.txt", "prompt.txt", "scale.json")
    ]:
        content = file.read_bytes()
        for junk in (b"", b"[1, 2]", b"\xff\xfe\x00" + content, content[: len(content) // 2]):
            file.write_bytes(junk)
            assert LAYOUT.examine(published, {}), (file, junk[:10])
        file.write_bytes(content)
