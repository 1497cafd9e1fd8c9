"""Results of ViPE read back: those of its own writers to their truth, and every fault refused by name."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneloom.datasets import vipe_files
from sceneloom.datasets.video import probe, write_video
from sceneloom.resources.vipe_results import CLIP, VipeResult, read_result
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed
from sceneloom.resources.worker_settings import VIPE_PRESETS, VipeSettings

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples" / "vipe"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no results of ViPE's own writers in {SAMPLES}")
FRAMES, HEIGHT, WIDTH = 5, 16, 24


def settings(preset: str = "default", **changes: Any) -> VipeSettings:
    return VipeSettings.model_validate({"environment": {"uv": True}, "preset": preset, **changes})


def read(root: Path, preset: str = "default", *, frames: int = FRAMES, **changes: Any) -> VipeResult:
    return read_result(root, frames=frames, height=HEIGHT, width=WIDTH, settings=settings(preset, **changes))


# ---------------------------------------------------------------- ViPE's own writers


@needs_samples
@pytest.mark.parametrize(("name", "preset"), [("orbit_lyra", "lyra"), ("pan_dav3", "dav3")])
def test_results_of_vipes_own_writers(name: str, preset: str, tmp_path: Path) -> None:
    for path in SAMPLES.glob(f"*/{name}*"):
        target = tmp_path / path.parent.name / path.name.replace(name, CLIP)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    video = probe(tmp_path / f"rgb/{CLIP}.mp4")
    found = read_result(
        tmp_path, frames=video.frames, height=video.height, width=video.width, settings=settings(preset)
    )
    with np.load(tmp_path / f"truth/{CLIP}.npz") as truth:
        np.testing.assert_allclose(found.c2w, truth["c2w"], atol=1e-6)
        np.testing.assert_allclose(found.intrinsics, truth["intrinsics"], atol=1e-6)
        for plane, expected in zip(found.depth(), truth["depth"], strict=True):
            np.testing.assert_allclose(plane, expected, rtol=2.0**-11, atol=0)
        np.testing.assert_array_equal(np.stack(list(found.masks())), truth["instance"])
    assert found.metric == (preset == "dav3")
    assert (found.camera, found.distortion) == ("PINHOLE", None)


# ---------------------------------------------------------------- presets


def write_result(root: Path, preset: str = "default") -> None:
    """A whole result as the preset writes it."""
    made = VIPE_PRESETS[preset]
    numbers = np.arange(FRAMES)
    for folder in ("pose", "intrinsics", "rgb", "vipe", *(["depth"] * made.depth), *(["mask"] * made.masks)):
        (root / folder).mkdir(parents=True)
    np.savez(root / f"pose/{CLIP}.npz", data=poses(), inds=numbers)
    values = np.tile(np.array([20, 20.5, WIDTH / 2, HEIGHT / 2], np.float32), (FRAMES, 1))
    if made.camera == "MEI":
        values = np.concatenate([values, np.full((FRAMES, 1), 0.4, np.float32)], axis=1)
    if made.camera == "PANORAMA":
        values[:] = 0
    np.savez(root / f"intrinsics/{CLIP}.npz", data=values, inds=numbers)
    (root / f"intrinsics/{CLIP}_camera.txt").write_text("".join(f"{number}: {made.camera}\n" for number in numbers))
    write_video(root / f"rgb/{CLIP}.mp4", [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * FRAMES)
    if made.depth:
        write_depth(root, depth())
    if made.masks:
        write_masks(root, np.full((FRAMES, HEIGHT, WIDTH), 2, np.uint8))
        (root / f"mask/{CLIP}.txt").write_text("0: background\n2: sky\n")
    (root / f"vipe/{CLIP}_info.pkl").write_bytes(pickle.dumps({"ba_residual": 0.0}))


def poses() -> np.ndarray:
    values = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    values[:, 0, 3] = np.arange(FRAMES) * 0.1
    return values


def depth() -> np.ndarray:
    return np.tile(np.linspace(1, 3, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.float16), (FRAMES, 1, 1))


def write_depth(root: Path, planes: np.ndarray) -> None:
    (root / f"depth/{CLIP}.zip").write_bytes(vipe_files.encode_depth_archive(planes))


def write_masks(root: Path, planes: np.ndarray) -> None:
    from PIL import Image

    with zipfile.ZipFile(root / f"mask/{CLIP}.zip", "w") as archive:
        for number, plane in enumerate(planes):
            picture = io.BytesIO()
            Image.fromarray(plane).save(picture, "png")
            archive.writestr(f"{number:05d}.png", picture.getvalue())


@pytest.mark.parametrize("preset", VIPE_PRESETS)
def test_every_preset_is_read_as_it_writes(preset: str, tmp_path: Path) -> None:
    write_result(tmp_path, preset)
    found = read(tmp_path, preset)
    made = VIPE_PRESETS[preset]
    assert (found.camera, found.has_depth, found.has_masks) == (made.camera, made.depth, made.masks)
    assert found.c2w.shape == (FRAMES, 4, 4)
    assert found.intrinsics.shape == (FRAMES, 4)
    assert found.distortion == (pytest.approx(0.4) if made.camera == "MEI" else None)
    if made.depth:
        np.testing.assert_array_equal(np.stack(list(found.depth())), depth().astype(np.float32))
        assert found.figures["depth_valid_fraction"] == 1.0
    else:
        with pytest.raises(WorkerFailed, match="no depth"):
            next(found.depth())
    if made.masks:
        assert {int(ids.max()) for ids in found.masks()} == {2}
        assert found.phrases[2] == "sky"
    else:
        with pytest.raises(WorkerFailed, match="no masks"):
            found.masks()
    if made.camera == "PINHOLE" and made.depth:
        geometry = found.geometry()
        assert geometry.c2w is found.c2w
        assert geometry.intrinsics is found.intrinsics
        assert geometry.metric == made.metric
        assert len(list(geometry.depth)) == FRAMES
    else:
        with pytest.raises(WorkerFailed, match="no depth" if made.camera == "PINHOLE" else made.camera) as refused:
            found.geometry()
        assert refused.value.failure is FailureClass.USAGE


def test_depth_that_is_not_finite_becomes_invalid(tmp_path: Path) -> None:
    write_result(tmp_path)
    planes = depth()
    planes[1, 0, :3] = np.nan, np.inf, -1
    write_depth(tmp_path, planes)
    found = read(tmp_path)
    expected = depth().astype(np.float32)
    expected[1, 0, :3] = 0
    np.testing.assert_array_equal(np.stack(list(found.depth())), expected)
    assert found.figures["depth_finite_fraction"] == pytest.approx(1 - 2 / (HEIGHT * WIDTH))


# ---------------------------------------------------------------- faults


def changed(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    """Change the values of an npz file."""

    def damage(root: Path) -> None:
        path = root / name
        with np.load(path) as arrays:
            values, frames = arrays["data"], arrays["inds"]
        result = change(values)
        np.savez(
            path, data=values if result is None else result, inds=frames[: len(values if result is None else result)]
        )

    return damage


def put(index: Any, value: Any) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[index] = value

    return change


def gap(root: Path) -> None:
    np.savez(root / f"pose/{CLIP}.npz", data=poses()[[0, 1, 3, 4]], inds=np.array([0, 1, 3, 4]))


def depth_with(index: Any, value: float) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        planes = depth()
        planes[index] = value
        write_depth(root, planes)

    return damage


def removed(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def emptied(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / name).write_bytes(b"")

    return damage


def cut(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])

    return damage


FILES = (
    f"pose/{CLIP}.npz",
    f"intrinsics/{CLIP}.npz",
    f"intrinsics/{CLIP}_camera.txt",
    f"rgb/{CLIP}.mp4",
    f"depth/{CLIP}.zip",
    f"mask/{CLIP}.zip",
    f"mask/{CLIP}.txt",
    f"vipe/{CLIP}_info.pkl",
)
FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    **{f"no {name}": (removed(name), f"{name}: the file is missing", "invalid-output") for name in FILES},
    **{f"empty {name}": (emptied(name), f"{name}: the file is empty", "invalid-output") for name in FILES},
    **{
        f"half of {name}": (cut(name), name.split("/")[1], "invalid-output")
        for name in FILES
        if name.endswith((".npz", ".zip", ".mp4"))
    },
    "gap": (gap, r"pose: frames 2 have none \(1 of 5\)", "invalid-output"),
    "pose of NaN": (
        changed(FILES[0], put((3, 0, 3), np.nan)),
        "pose of frame 3 is not finite",
        "invalid-output",
    ),
    "pose that stretches": (changed(FILES[0], put((1, 0, 0), 1.5)), "pose: ", "invalid-output"),
    "pose that mirrors": (changed(FILES[0], put((1, 0, 0), -1)), "pose: ", "invalid-output"),
    "no row 0 0 0 1": (changed(FILES[0], put((1, 3, 0), 1)), "pose: ", "invalid-output"),
    "fewer intrinsics": (changed(FILES[1], lambda values: values[:-1]), "intrinsics: frames 4", "invalid-output"),
    "negative focal": (changed(FILES[1], put((0, 1), -20)), "focal length is not positive", "invalid-output"),
    "focal of NaN": (changed(FILES[1], put((0, 1), np.nan)), "intrinsics: a value is not finite", "invalid-output"),
    "principal point": (changed(FILES[1], put((0, 2), 99)), "principal point", "invalid-output"),
    "absurd focal": (changed(FILES[1], put((slice(None), slice(2)), 250)), "field of view is 3.7° to", "diverged"),
    "five columns": (
        changed(FILES[1], lambda values: np.concatenate([values, values[:, :1]], axis=1)),
        "5 columns, PINHOLE has 4",
        "invalid-output",
    ),
    "MEI": (
        lambda root: (root / FILES[2]).write_text("".join(f"{number}: MEI\n" for number in range(FRAMES))),
        "MEI cameras, preset default makes PINHOLE",
        "invalid-output",
    ),
    "panorama": (
        lambda root: (root / FILES[2]).write_text("".join(f"{number}: PANORAMA\n" for number in range(FRAMES))),
        "PANORAMA cameras",
        "invalid-output",
    ),
    "fewer camera types": (lambda root: (root / FILES[2]).write_text("0: PINHOLE\n"), "1 lines", "invalid-output"),
    "shorter video": (
        lambda root: write_video(root / FILES[3], [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 4),
        r"clip.mp4: frames 4 have none \(1 of 5\)",
        "invalid-output",
    ),
    "longer video": (
        lambda root: write_video(root / FILES[3], [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 6),
        "6 frames, the clip has 5",
        "invalid-output",
    ),
    "video of another size": (
        lambda root: write_video(root / FILES[3], [np.zeros((HEIGHT, HEIGHT, 3), np.uint8)] * FRAMES),
        "16 × 16 pixels, the clip has 16 × 24",
        "invalid-output",
    ),
    "depth of NaN": (depth_with(slice(2), np.nan), "100.0 % of frame 0 is not finite", "invalid-output"),
    "infinite depth": (depth_with((4, slice(8)), np.inf), "50.0 % of frame 4 is not finite", "invalid-output"),
    "no depth in a frame": (depth_with(3, 0), "frame 3 has no depth at all", "invalid-output"),
    "fewer depth frames": (lambda root: write_depth(root, depth()[:3]), "frames 3, 4 have none", "invalid-output"),
    "depth of another size": (
        lambda root: write_depth(root, depth()[:, :8]),
        "frames of 8 × 24 pixels",
        "invalid-output",
    ),
    "instance without phrase": (
        lambda root: write_masks(root, np.full((FRAMES, HEIGHT, WIDTH), 7, np.uint8)),
        "instance 7 in frame 0 has no phrase",
        "invalid-output",
    ),
    "fewer masks": (
        lambda root: write_masks(root, np.zeros((2, HEIGHT, WIDTH), np.uint8)),
        r"mask/clip.zip: frames 2, 3, 4 have none \(3 of 5\)",
        "invalid-output",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_refused_by_name(name: str, tmp_path: Path) -> None:
    write_result(tmp_path)
    damage, message, failure = FAULTS[name]
    damage(tmp_path)
    with pytest.raises(WorkerFailed, match=message) as refused:
        read(tmp_path)
    assert refused.value.failure == failure
    assert str(tmp_path) not in str(refused.value)


def test_the_limits_are_the_profile_s(tmp_path: Path) -> None:
    write_result(tmp_path)
    planes = depth()
    planes[0, :2] = np.nan
    write_depth(tmp_path, planes)
    with pytest.raises(WorkerFailed, match=r"12\.5 % of frame 0"):
        read(tmp_path)
    assert read(tmp_path, finite_depth_fraction=0.8).figures["depth_finite_fraction"] == 0.875
    with pytest.raises(WorkerFailed, match="field of view"):
        read(tmp_path, finite_depth_fraction=0.8, minimum_field_of_view=50.0)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pickle_was_run"),)


def test_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_result(tmp_path)
    evil = pickle.dumps(Evil())
    (tmp_path / FILES[-1]).write_bytes(evil)
    read(tmp_path)
    assert not Path("pickle_was_run").exists()
    pickle.loads(evil)
    assert Path("pickle_was_run").exists()
