"""ViPE's files: results of ViPE's own writers read to their known truth, and damaged ones refused by name."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets import vipe_files
from sceneloom.datasets.errors import CorruptFileError, InputError, SceneloomError

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples" / "vipe"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no results of ViPE's own writers in {SAMPLES}")


@needs_samples
@pytest.mark.parametrize("name", ["orbit_lyra", "pan_dav3"])
def test_results_of_vipes_own_writers(name: str) -> None:
    assert name in vipe_files.clip_names(SAMPLES)
    clip = vipe_files.read_clip(SAMPLES, name)
    with np.load(SAMPLES / "truth" / f"{name}.npz") as truth:
        frames = list(range(len(truth["c2w"])))
        assert clip.poses.frames.tolist() == clip.intrinsics.frames.tolist() == frames
        np.testing.assert_allclose(clip.poses.values, truth["c2w"], atol=1e-6)
        np.testing.assert_allclose(clip.intrinsics.values, truth["intrinsics"], atol=1e-6)
        assert clip.camera_types == ("PINHOLE",) * len(frames)
        assert clip.depth_frames == clip.mask_frames == tuple(frames)
        for index, depth in vipe_files.iter_depth(SAMPLES, name):
            np.testing.assert_array_equal(depth, truth["depth"][index].astype(np.float16))
        for index, ids in vipe_files.iter_masks(SAMPLES, name):
            np.testing.assert_array_equal(ids, truth["instance"][index])
    assert clip.phrases[0] == "background"
    assert clip.finished


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_depth_archives_give_back_their_frames(frames: int, height: int, width: int, seed: int) -> None:
    depth = np.random.default_rng(seed).uniform(0.1, 50.0, (frames, height, width)).astype(np.float16)
    content = vipe_files.encode_depth_archive(depth)
    assert content == vipe_files.encode_depth_archive(depth)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [f"{index:05d}.exr" for index in range(frames)]
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        for index, member in enumerate(archive.namelist()):
            with OpenEXR.File(io.BytesIO(archive.read(member))) as file:
                assert file.channels()["Z"].pixels.dtype == np.float16
                assert file.header()["compression"] == OpenEXR.ZIP_COMPRESSION
                np.testing.assert_array_equal(file.channels()["Z"].pixels, depth[index])


def write_clip(root: Path, frames: int = 3) -> None:
    for folder in ("pose", "intrinsics", "depth", "mask", "vipe"):
        (root / folder).mkdir(parents=True)
    numbers = np.arange(frames)
    np.savez(root / "pose/a.npz", data=np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)), inds=numbers)
    np.savez(root / "intrinsics/a.npz", data=np.full((frames, 4), 8, np.float32), inds=numbers)
    (root / "intrinsics/a_camera.txt").write_text("".join(f"{index}: PINHOLE\n" for index in numbers))
    planes = np.ones((frames, 4, 6), np.float16)
    (root / "depth/a.zip").write_bytes(vipe_files.encode_depth_archive(planes))
    (root / "mask/a.txt").write_text("0: background\n2: sky\n")


def test_absent_depth_and_masks_are_told_apart_from_empty_ones(tmp_path: Path) -> None:
    write_clip(tmp_path)
    (tmp_path / "depth/a.zip").unlink()
    clip = vipe_files.read_clip(tmp_path, "a")
    assert (clip.depth_frames, clip.mask_frames, clip.phrases, clip.finished) == (None, None, {}, False)


def save(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, allow_pickle=True, **arrays)


IDENTITY = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
DAMAGES: dict[str, tuple[Callable[[Path], object], type[SceneloomError], str]] = {
    "pose gone": (lambda root: (root / "pose/a.npz").unlink(), InputError, "missing"),
    "pose cut": (
        lambda root: (root / "pose/a.npz").write_bytes((root / "pose/a.npz").read_bytes()[:100]),
        CorruptFileError,
        "npz",
    ),
    "pose empty": (lambda root: (root / "pose/a.npz").write_bytes(b""), CorruptFileError, "npz"),
    "pose of objects": (
        lambda root: save(root / "pose/a.npz", data=np.array([{}], object), inds=np.arange(1)),
        CorruptFileError,
        "npz",
    ),
    "3x4 poses": (
        lambda root: save(root / "pose/a.npz", data=IDENTITY[:, :3], inds=np.arange(3)),
        CorruptFileError,
        "expected",
    ),
    "frames repeat": (
        lambda root: save(root / "pose/a.npz", data=IDENTITY, inds=np.array([0, 1, 1])),
        CorruptFileError,
        "increase",
    ),
    "inds short": (lambda root: save(root / "pose/a.npz", data=IDENTITY, inds=np.arange(2)), CorruptFileError, "inds"),
    "unknown camera": (
        lambda root: (root / "intrinsics/a_camera.txt").write_text("0: FISHEYE\n"),
        CorruptFileError,
        "FISHEYE",
    ),
    "phrase with a colon": (
        lambda root: [
            (root / "mask/a.txt").write_text("1: a: b\n"),
            zipfile.ZipFile(root / "mask/a.zip", "w").close(),
        ],
        CorruptFileError,
        "line 1",
    ),
    "depth is no zip": (lambda root: (root / "depth/a.zip").write_bytes(b"PK"), CorruptFileError, "zip"),
    "depth member misnamed": (
        lambda root: zipfile.ZipFile(root / "depth/a.zip", "a").writestr("depth.exr", b""),
        CorruptFileError,
        "depth.exr",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_by_name(name: str, tmp_path: Path) -> None:
    write_clip(tmp_path)
    vipe_files.read_clip(tmp_path, "a")
    damage, kind, message = DAMAGES[name]
    damage(tmp_path)
    with pytest.raises(kind, match=message):
        vipe_files.read_clip(tmp_path, "a")


def test_damaged_pictures_are_refused_when_they_are_read(tmp_path: Path) -> None:
    write_clip(tmp_path)
    archive = bytearray((tmp_path / "depth/a.zip").read_bytes())
    archive[80:120] = bytes(40)
    (tmp_path / "depth/a.zip").write_bytes(archive)
    with pytest.raises(CorruptFileError, match=r"00000\.exr"):
        list(vipe_files.iter_depth(tmp_path, "a"))
    with zipfile.ZipFile(tmp_path / "mask/a.zip", "w") as masks:
        masks.writestr("00000.png", b"no picture")
    with pytest.raises(CorruptFileError, match=r"00000\.png"):
        list(vipe_files.iter_masks(tmp_path, "a"))


@needs_samples
def test_a_copy_without_its_last_file_is_unfinished(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(SAMPLES, root, copy_function=shutil.copyfile)
    for folder in (root, root / "vipe"):
        folder.chmod(0o755)
    (root / "vipe/pan_dav3_info.pkl").unlink()
    assert not vipe_files.read_clip(root, "pan_dav3").finished
