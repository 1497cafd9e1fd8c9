"""Gen3R's inputs for inference: read as infer.py reads them, presets against the trajectories, damage found."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.gen3r_inference import LAYOUT, preset_poses
from sceneloom.datasets.layouts.gen3r_inference_examination import PRESETS, examine
from sceneloom.datasets.layouts.release import FindingKind, LayoutSummary, ReleaseDirectory, ReleaseRequest
from sceneloom.ops import trajectories

from .release_scenes import make_scene

CLIP = "room-right"
FRAMES = 51


def publish(root: Path, frames: int = FRAMES, **options: str) -> LayoutSummary:
    root.mkdir(exist_ok=True)
    scene = make_scene("room", trajectories=("right",), frames=frames, height=32, width=48)
    return LAYOUT.write(ReleaseDirectory(root), [scene], ReleaseRequest(root, options=options))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gen3r") / "inputs"
    publish(root)
    return root


def infer_cameras(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Camera-to-world in the first camera's frame and K, as infer.py makes them."""
    read = json.loads(file.read_text())
    c2w = np.linalg.inv(np.array(read["extrinsics"])[:49])
    return np.linalg.inv(c2w[0]) @ c2w, np.array(read["intrinsics"])[:49]


def test_infer_gets_the_clips_cameras_and_pictures(published: Path) -> None:
    clip = make_scene("room", trajectories=("right",), frames=FRAMES, height=32, width=48).clips["right"]
    c2w, intrinsics = clip.cameras()
    poses, lenses = infer_cameras(published / CLIP / "2view" / "cameras.json")
    np.testing.assert_allclose(poses, (np.linalg.inv(c2w[0]) @ c2w)[:49], atol=1e-5)
    # 32 × 48 is enlarged by 17.5 to 560 × 840, of which the middle is cut out.
    assert lenses[0, 0, 0] == pytest.approx(intrinsics[0, 0] * 17.5)
    assert lenses[0, 0, 2] == pytest.approx(intrinsics[0, 2] * 17.5 - 140)
    pictures = clip.rgb()
    for task, name, frame in (("1view", "first", 0), ("2view", "first", 0), ("2view", "last", 48)):
        shown = np.asarray(Image.open(published / CLIP / task / f"{name}.png"))
        np.testing.assert_array_equal(shown, pictures[frame])
    frames = sorted((published / CLIP / "allview" / "frames").iterdir())
    assert len(frames) == 49
    np.testing.assert_array_equal(np.asarray(Image.open(frames[30])), pictures[30])
    assert not (published / CLIP / "allview" / "cameras.json").exists()
    for task in ("1view", "2view", "allview"):
        assert (published / CLIP / task / "prompts.txt").read_text() == "a small room with a red chair\n"
    levels = np.asarray(Image.open(published / CLIP / "depth" / "frame00007.png"))
    np.testing.assert_allclose(levels / 1000, clip.depth([7])[0], atol=6e-4)


def test_a_whole_set_has_no_findings(published: Path) -> None:
    assert examine(published, {}) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_gen3rs_in_the_clips_scale(published: Path, preset: str) -> None:
    clip = make_scene("room", trajectories=("right",), frames=FRAMES, height=32, width=48).clips["right"]
    scale = trajectories.scene_scale(clip.depth([0])[0].astype(np.float32))
    context = trajectories.TrajectoryContext(frames=49, centre_depth=1.0, scene_scale=scale)
    expected = trajectories.build_path(f"gen3r_{preset}", context, seed=0).c2w
    poses, lenses = infer_cameras(published / CLIP / "presets" / f"{preset}.json")
    np.testing.assert_allclose(poses, expected, atol=1e-5)
    assert np.ptp(lenses, axis=0).max() == 0
    assert json.loads((published / CLIP / "scale.json").read_text())["scene_scale"] == pytest.approx(scale)


def test_a_turn_looks_where_its_name_says() -> None:
    forward = {preset: preset_poses(preset, 2.0)[-1, :3, 2] for preset in PRESETS}
    sine = math.sin(math.radians(15))
    assert forward["arc_right"][0] == pytest.approx(sine)
    assert forward["arc_left"][0] == pytest.approx(-sine)
    assert forward["translate_up"][1] == pytest.approx(-sine)
    assert forward["translate_down"][1] == pytest.approx(sine)


def test_conditions_are_chosen_and_told(tmp_path: Path) -> None:
    summary = publish(tmp_path / "some", conditions="allview, 1view")
    assert {path.name for path in (tmp_path / "some" / CLIP).iterdir()} == {
        "1view",
        "allview",
        "presets",
        "depth",
        "scale.json",
    }
    assert summary.counts == {"clips": 1, "inputs": 2}
    assert any("--task 1view" in note for note in summary.notes)
    assert not any("--task 2view" in note for note in summary.notes)
    assert examine(tmp_path / "some", {}) == []
    with pytest.raises(InputError, match='no condition "3view"'):
        publish(tmp_path / "other", conditions="1view,3view")


def test_clips_that_are_too_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="48 frames, Gen3R works on 49"):
        publish(tmp_path / "short", frames=48)


def _json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = json.loads((root / name).read_text())
        change(content)
        (root / name).write_text(json.dumps(content))

    return damage


def _inverted(cameras: dict) -> None:
    cameras["extrinsics"] = np.linalg.inv(np.array(cameras["extrinsics"])).tolist()


def _other_size(root: Path) -> None:
    Image.new("RGB", (40, 32)).save(root / CLIP / "2view" / "last.png")


FAULTS: dict[str, tuple[Callable[[Path], object], FindingKind, str]] = {
    "no picture": (
        lambda root: (root / CLIP / "1view/first.png").unlink(),
        FindingKind.MISSING,
        f"{CLIP}/1view/first.png",
    ),
    "another size": (_other_size, FindingKind.MISALIGNED, f"{CLIP}/2view/last.png"),
    "no prompt": (lambda root: (root / CLIP / "2view/prompts.txt").unlink(), FindingKind.MISSING, "2view/prompts.txt"),
    "blank prompt": (
        lambda root: (root / CLIP / "2view/prompts.txt").write_text(" \na room\n"),
        FindingKind.OUT_OF_CONVENTION,
        "2view/prompts.txt",
    ),
    "no cameras": (lambda root: (root / CLIP / "2view/cameras.json").unlink(), FindingKind.MISSING, "cameras.json"),
    "few cameras": (
        _json(f"{CLIP}/1view/cameras.json", lambda cameras: [cameras[key].pop() for key in cameras]),
        FindingKind.TRUNCATED,
        "1view/cameras.json",
    ),
    "normalised lens": (
        _json(
            f"{CLIP}/1view/cameras.json",
            lambda cameras: cameras.update(intrinsics=[[[0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]]] * 49),
        ),
        FindingKind.OUT_OF_CONVENTION,
        "1view/cameras.json",
    ),
    "camera-to-world": (
        _json(f"{CLIP}/presets/zoom_in.json", _inverted),
        FindingKind.OUT_OF_CONVENTION,
        "zoom_in.json",
    ),
    "turned the wrong way": (
        _json(f"{CLIP}/presets/translate_up.json", _inverted),
        FindingKind.OUT_OF_CONVENTION,
        "translate_up.json",
    ),
    "a frame too many": (
        lambda root: shutil.copy(root / CLIP / "1view/first.png", root / CLIP / "allview/frames/frame00049.png"),
        FindingKind.UNEXPECTED,
        "frame00049.png",
    ),
    "a frame too few": (
        lambda root: (root / CLIP / "allview/frames/frame00048.png").unlink(),
        FindingKind.MISSING,
        "frame00048.png",
    ),
    "no scale": (
        _json(f"{CLIP}/scale.json", lambda scales: scales.update(scene_scale=0.0)),
        FindingKind.OUT_OF_CONVENTION,
        "scale.json",
    ),
    "no conditions": (
        lambda root: [shutil.rmtree(root / CLIP / name) for name in ("1view", "2view", "allview")],
        FindingKind.MISSING,
        CLIP,
    ),
    "depth gone": (lambda root: (root / CLIP / "depth/frame00003.png").unlink(), FindingKind.MISSING, "frame00003.png"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_found(published: Path, tmp_path: Path, fault: str) -> None:
    damage, kind, path = FAULTS[fault]
    shutil.copytree(published, tmp_path / "set")
    damage(tmp_path / "set")
    found = examine(tmp_path / "set", {})
    assert [(finding.kind, finding.path.endswith(path)) for finding in found] == [(kind, True)], found
