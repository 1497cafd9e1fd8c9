"""ViPE's layout: read back by a reader after ViPE's, and damaged in the ways that ViPE's readers mind."""

from __future__ import annotations

import dataclasses
import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from sceneloom.datasets import vipe_files
from sceneloom.datasets.camera_files import read_cameras
from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.release import FindingKind, ReleaseDirectory, ReleaseRequest, ReleaseScene
from sceneloom.datasets.layouts.vipe import LAYOUT
from sceneloom.datasets.video import read_video

from .release_scenes import make_scene

NAME = "hall-left"


def scenes() -> list[ReleaseScene]:
    return [make_scene("hall", trajectories=("left", "zoom_in"), seed=1), make_scene("yard", trajectories=("up",))]


def publish(root: Path, given: list[ReleaseScene], fields: frozenset[str] | None = None) -> dict[str, str]:
    root.mkdir(exist_ok=True)
    directory = ReleaseDirectory(root)
    LAYOUT.write(directory, given, ReleaseRequest(root, fields))
    return directory.scene_of


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vipe") / "set"
    publish(root, scenes())
    return root


def test_every_attribute_reads_back(published: Path) -> None:
    given = scenes()[0].clips["left"]
    clip = vipe_files.read_clip(published, NAME)
    np.testing.assert_array_equal(clip.poses.values, given.cameras()[0])
    np.testing.assert_array_equal(clip.intrinsics.values, given.cameras()[1])
    assert clip.poses.frames.tolist() == list(range(9))
    assert clip.finished
    assert clip.mask_frames is None
    np.testing.assert_array_equal(read_video(published / f"rgb/{NAME}.mp4"), given.rgb())
    cameras = read_cameras(published / f"pose/{NAME}.npz", camera_format="lyra")
    np.testing.assert_allclose(cameras.c2w, given.cameras()[0], atol=1e-6)


def test_depth_as_vipes_reader_takes_it(published: Path) -> None:
    """ViPE sorts the archive's names and reads channel Z of each with OpenEXR."""
    with zipfile.ZipFile(published / f"depth/{NAME}.zip") as archive:
        planes = []
        for member in sorted(archive.namelist()):
            with OpenEXR.File(io.BytesIO(archive.read(member))) as file:
                planes.append(file.channels()["Z"].pixels)
    np.testing.assert_array_equal(np.stack(planes), scenes()[0].clips["left"].depth())


def test_info_is_what_vipe_writes(published: Path) -> None:
    content = (published / f"vipe/{NAME}_info.pkl").read_bytes()
    assert content[:2] == b"\x80\x04"
    assert pickle.loads(content) == {"ba_residual": 0.0}


def test_nothing_is_found_in_a_fresh_set(published: Path, tmp_path: Path) -> None:
    assert LAYOUT.examine(published, {}) == []
    publish(tmp_path / "poses", scenes(), frozenset({"rgb", "cameras"}))
    assert not (tmp_path / "poses/depth").exists()
    assert LAYOUT.examine(tmp_path / "poses", {}) == []


def test_the_same_scenes_give_the_same_bytes(published: Path, tmp_path: Path) -> None:
    publish(tmp_path / "again", scenes())
    for file in published.rglob("*"):
        if file.is_file():
            assert (tmp_path / "again" / file.relative_to(published)).read_bytes() == file.read_bytes()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="_info"):
        publish(tmp_path, [make_scene("my_info_scene", trajectories=("left",))])
    with pytest.raises(InputError, match="no clips"):
        publish(tmp_path, [])
    scene = make_scene("hall", trajectories=("left",))
    odd = dataclasses.replace(scene.clips["left"], width=47)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="32x47"):
        publish(tmp_path, [dataclasses.replace(scene, clips={"left": odd})])
    assert not list(tmp_path.iterdir())


# --- damage ---------------------------------------------------------------------------------------------------------


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("the pickle ran",)


def rewrite_npz(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    with np.load(path) as arrays:
        data, inds = change(arrays["data"], arrays["inds"])
    np.savez(path, data=data, inds=inds)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def depth_of(root: Path, planes: np.ndarray) -> None:
    (root / f"depth/{NAME}.zip").write_bytes(vipe_files.encode_depth_archive(planes.astype(np.float16)))


POSE, LENS = f"pose/{NAME}.npz", f"intrinsics/{NAME}.npz"
DAMAGES: dict[str, tuple[Callable[[Path], object], str, FindingKind, str]] = {
    "video empty": (
        lambda root: (root / f"rgb/{NAME}.mp4").write_bytes(b""),
        f"rgb/{NAME}.mp4",
        FindingKind.TRUNCATED,
        "viewer",
    ),
    "video gone": (lambda root: (root / f"rgb/{NAME}.mp4").unlink(), f"rgb/{NAME}.mp4", FindingKind.MISSING, "viewer"),
    "pose cut": (lambda root: cut(root / POSE), POSE, FindingKind.TRUNCATED, "stops"),
    "pose gone": (lambda root: (root / POSE).unlink(), POSE, FindingKind.MISSING, "stops"),
    "pose short": (
        lambda root: rewrite_npz(root / POSE, lambda data, inds: (data[:-1], inds[:-1])),
        POSE,
        FindingKind.MISALIGNED,
        "position",
    ),
    "frame dropped": (
        lambda root: rewrite_npz(root / POSE, lambda data, inds: (data[[0, *range(2, 9)]], inds[[0, *range(2, 9)]])),
        POSE,
        FindingKind.MISALIGNED,
        "out of step",
    ),
    "pose scaled": (
        lambda root: rewrite_npz(root / POSE, lambda data, inds: (data * np.float32(2.0), inds)),
        POSE,
        FindingKind.OUT_OF_CONVENTION,
        "rigid",
    ),
    "pose not finite": (
        lambda root: rewrite_npz(root / POSE, lambda data, inds: (data * np.float32(np.nan), inds)),
        POSE,
        FindingKind.OUT_OF_CONVENTION,
        "wrongly",
    ),
    "lens normalised": (
        lambda root: rewrite_npz(root / LENS, lambda data, inds: (data / np.float32(48.0), inds)),
        LENS,
        FindingKind.OUT_OF_CONVENTION,
        "back-projects",
    ),
    "lens gone": (lambda root: (root / LENS).unlink(), LENS, FindingKind.MISSING, "stops"),
    "camera types short": (
        lambda root: (root / f"intrinsics/{NAME}_camera.txt").write_text("0: PINHOLE\n"),
        f"intrinsics/{NAME}_camera.txt",
        FindingKind.MISALIGNED,
        "1 types for 9 rows",
    ),
    "camera types gone": (
        lambda root: (root / f"intrinsics/{NAME}_camera.txt").unlink(),
        f"intrinsics/{NAME}_camera.txt",
        FindingKind.MISSING,
        "camera types",
    ),
    "depth gone": (
        lambda root: (root / f"depth/{NAME}.zip").unlink(),
        f"depth/{NAME}.zip",
        FindingKind.MISSING,
        "NaN",
    ),
    "depth cut": (lambda root: cut(root / f"depth/{NAME}.zip"), f"depth/{NAME}.zip", FindingKind.TRUNCATED, "NaN"),
    "depth of another size": (
        lambda root: depth_of(root, np.ones((9, 16, 24))),
        f"depth/{NAME}.zip",
        FindingKind.MISALIGNED,
        "(16, 24)",
    ),
    "depth short": (
        lambda root: depth_of(root, np.ones((8, 32, 48))),
        f"depth/{NAME}.zip",
        FindingKind.MISALIGNED,
        "(8)",
    ),
    "depth not finite": (
        lambda root: depth_of(root, np.full((9, 32, 48), np.nan)),
        f"depth/{NAME}.zip",
        FindingKind.OUT_OF_CONVENTION,
        "0.0%",
    ),
    "info gone": (
        lambda root: (root / f"vipe/{NAME}_info.pkl").unlink(),
        f"vipe/{NAME}_info.pkl",
        FindingKind.MISSING,
        "unfinished",
    ),
    "info cut": (
        lambda root: cut(root / f"vipe/{NAME}_info.pkl"),
        f"vipe/{NAME}_info.pkl",
        FindingKind.TRUNCATED,
        "pickle",
    ),
    "info runs code": (
        lambda root: (root / f"vipe/{NAME}_info.pkl").write_bytes(pickle.dumps(RunsCode(), protocol=4)),
        f"vipe/{NAME}_info.pkl",
        FindingKind.OUT_OF_CONVENTION,
        "code",
    ),
    "file of no clip": (
        lambda root: (root / "vipe/old.txt").write_text("x"),
        "vipe/old.txt",
        FindingKind.UNEXPECTED,
        "belong",
    ),
    "name that vipe changes": (
        lambda root: shutil.copy(root / f"rgb/{NAME}.mp4", root / "rgb/a_info_b.mp4"),
        "rgb/a_info_b.mp4",
        FindingKind.OUT_OF_CONVENTION,
        "a_b",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(published, root)
    damage, path, kind, message = DAMAGES[name]
    damage(root)
    findings = LAYOUT.examine(root, {path: "hall"})
    named = [found for found in findings if found.path == path and found.kind == kind and message in found.message]
    assert named, findings
    assert named[0].scene_id == "hall"
    assert "the pickle ran" not in capsys.readouterr().out


def test_any_file_may_be_junk(published: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(published, root)
    for file in [path for path in sorted(root.rglob("*")) if path.stem.startswith(NAME)]:
        content = file.read_bytes()
        for junk in (b"", b"[1, 2]", b"\xff\xfe\x00", content[: len(content) // 2]):
            file.write_bytes(junk)
            assert LAYOUT.examine(root, {}), (file, junk[:10])
        file.unlink()
        file.mkdir()
        assert LAYOUT.examine(root, {}), file
        file.rmdir()
        file.write_bytes(content)
