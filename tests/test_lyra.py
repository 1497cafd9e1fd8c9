"""datasets/layouts/lyra.py: read back by Lyra's own rules, and every deliberate damage named."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from numpy.typing import NDArray

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.exr import encode_exr
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.layouts import lyra, publishing
from sceneloom.datasets.layouts.lyra import DYNAMIC, LYRA_TRAJECTORIES, STATIC
from sceneloom.datasets.layouts.release import (
    Finding,
    FindingKind,
    Layout,
    LayoutSummary,
    ReleaseClip,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)
from sceneloom.datasets.zip_files import encode_npz, write_stored_zip

from . import release_scenes
from .release_scenes import PLANE_DEPTH, MemoryClip, latent_space, make_clip

FRAMES, HEIGHT, WIDTH = 9, 32, 64  # decord fails on frames 48 pixels wide
SCENES = ("scene-a", "scene-b")


def make_scene(scene_id: str, **changes: Any) -> ReleaseScene:
    """A scene of this module's size."""
    return release_scenes.make_scene(scene_id, **{"width": WIDTH, **changes})


@dataclass(frozen=True)
class Published:
    """A directory as `write` left it."""

    root: Path
    summary: LayoutSummary
    scene_of: dict[str, str]

    def examine(self, layout: Layout) -> list[Finding]:
        """Findings with the scenes that the writer noted."""
        return layout.examine(self.root, self.scene_of)


def _publish(
    root: Path, scenes: list[ReleaseScene], layout: Layout = STATIC, fields: frozenset[str] | None = None
) -> Published:
    root.mkdir(parents=True)
    directory = ReleaseDirectory(root)
    summary = layout.write(directory, scenes, ReleaseRequest(destination=root, fields=fields))
    return Published(root, summary, directory.scene_of)


def _moving_scene(scene_id: str, seed: int = 0) -> ReleaseScene:
    """A scene with six trajectories and six reversed ones, whose camera runs from far to near."""
    scene = make_scene(scene_id, seed=seed)
    clips: dict[str, ReleaseClip] = dict(scene.clips)
    for name, clip in scene.clips.items():
        assert isinstance(clip, MemoryClip)
        back = replace(clip, trajectory=f"{name}_reversed", c2w=clip.c2w[::-1].copy())
        clips[back.trajectory] = replace(back, pictures=clip.pictures[::-1].copy(), depths=clip.depths[::-1].copy())
    return replace(scene, clips=clips)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Published:
    scenes = [make_scene(name, seed=seed) for seed, name in enumerate(SCENES)]
    return _publish(tmp_path_factory.mktemp("static") / "release", scenes)


def _masked(scene: ReleaseScene, source: str) -> ReleaseScene:
    """The scene with masks in which a square moves."""
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for frame in range(FRAMES):
        masks[frame, 8:16, 3 * frame : 3 * frame + 8] = True
    clips: dict[str, ReleaseClip] = {}
    for name, clip in scene.clips.items():
        assert isinstance(clip, MemoryClip)
        clips[name] = replace(clip, dynamic=masks)
    return replace(scene, clips=clips, dynamic_from=source)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Two scenes of which one has masks."""
    scenes = [_masked(_moving_scene("scene-a"), "instances"), _moving_scene("scene-b", seed=1)]
    return _publish(tmp_path_factory.mktemp("dynamic") / "release", scenes, DYNAMIC)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return _publish(tmp_path_factory.mktemp("single") / "release", [make_scene("scene-a")])


@pytest.fixture
def copy(single: Published, tmp_path: Path) -> Published:
    shutil.copytree(single.root, tmp_path / "release")
    return replace(single, root=tmp_path / "release")


# --- Lyra's rules of reading, written again from their description --------------------------------------------------


class LyraReader:
    """What Lyra's loader does with a root: discovery, camera count, and one clip's fields for some frames."""

    def __init__(self, root: Path) -> None:
        folders = [folder for folder in root.rglob("rgb") if folder.is_dir()]
        self.entries = sorted(file for folder in folders for file in folder.glob("*.mp4"))
        self.cameras = len([name for name in os.listdir(root) if name != "flag"])  # noqa: PTH208 (as Lyra does)

    def read(self, entry: int, view: int, frames: list[int], *, latents: bool = True) -> dict[str, Any]:
        """Every field of the entry's scene in one view; the entry's own view plays no part."""
        decord = pytest.importorskip("decord", reason="decord, which Lyra reads videos with, is not installed")
        mp4 = self.entries[entry]
        base, key = mp4.parent.parent.parent / str(view), mp4.stem
        index = np.asarray(frames, np.int64)
        fields: dict[str, Any] = {
            "rgb": decord.VideoReader(str(base / "rgb" / mp4.name), num_threads=1).get_batch(frames).asnumpy()
        }
        for field in ("pose", "intrinsics"):
            stored = np.load(base / field / f"{key}.npz")
            places = np.searchsorted(stored["inds"], index)
            assert np.all(stored["inds"][places] == index), f"{field} not found"
            fields[field] = stored["data"][places].astype(np.float32)
        archive = zipfile.ZipFile(base / "depth" / f"{key}.zip")
        fields["depth"] = np.stack([self._depth(archive, frame) for frame in frames]).astype(np.float32)
        if latents:
            loaded = torch.load(base / "latent" / f"{key}.pkl", map_location="cpu", weights_only=False)
            fields["latent"] = (torch.from_numpy(loaded) if isinstance(loaded, np.ndarray) else loaded)[0]
        return fields

    @staticmethod
    def _depth(archive: zipfile.ZipFile, frame: int) -> NDArray[np.float16]:
        with archive.open(f"{frame:05d}.exr", "r") as file:
            exr = OpenEXR.InputFile(file)
            window = exr.header()["dataWindow"]
            height, width = window.max.y - window.min.y + 1, window.max.x - window.min.x + 1
            return np.frombuffer(exr.channel("Z"), np.float16).reshape(height, width)


def _raw_latents(root: Path, latent: torch.Tensor) -> torch.Tensor:
    """Lyra's way back to the tokenizer's latents."""
    path = next(path for path in root.rglob("mean_std.pt") if "Cosmos-Tokenize1-CV8x8x8-720p" in path.parent.name)
    mean, std = torch.load(path, weights_only=True)
    count = latent.shape[1]
    mean, std = (table.reshape(16, 16, 1, 1)[:, :count] for table in (mean, std))
    return latent / 0.5 * std + mean


def test_lyra_reads_every_view_of_every_scene(static: Published) -> None:
    reader = LyraReader(static.root / "dataset")
    assert reader.cameras == 6
    assert len(reader.entries) == 12
    frames = [8, 0, 3, 3]
    for entry in (0, 11):
        scene = make_scene(reader.entries[entry].stem, seed=SCENES.index(reader.entries[entry].stem))
        for view, trajectory in enumerate(LYRA_TRAJECTORIES):
            clip = scene.clips[trajectory]
            read = reader.read(entry, view, frames)
            c2w, intrinsics = clip.cameras()
            np.testing.assert_array_equal(read["pose"], c2w[frames])
            np.testing.assert_array_equal(read["intrinsics"], intrinsics[frames])
            np.testing.assert_array_equal(read["depth"], clip.depth(frames).astype(np.float32))
            # decord repeats chroma instead of interpolating it; another frame is 10 levels off and more.
            assert np.abs(read["rgb"].astype(int) - clip.rgb(frames)).mean() < 5.0
            np.testing.assert_array_equal(read["latent"].numpy(), clip.latents())


def test_lyra_gets_the_codecs_own_latents(static: Published) -> None:
    read = LyraReader(static.root / "dataset").read(0, 4, [0])
    scene = make_scene(SCENES[0])
    assert scene.latent_space is not None
    raw = scene.latent_space.denormalise(scene.clips["zoom_in"].latents())
    torch.testing.assert_close(_raw_latents(static.root, read["latent"]), torch.from_numpy(raw), rtol=1e-5, atol=1e-5)


def test_latents_of_another_scale_are_brought_to_lyras(tmp_path: Path) -> None:
    space = replace(latent_space(FRAMES), scale=1.0)
    scene = replace(make_scene("scene-a"), latent_space=space)
    published = _publish(tmp_path / "release", [scene])
    read = LyraReader(published.root / "dataset").read(0, 0, [0])
    raw = torch.from_numpy(space.denormalise(scene.clips["left"].latents()))
    torch.testing.assert_close(_raw_latents(published.root, read["latent"]), raw, rtol=2e-3, atol=2e-3)


def test_a_whole_set_has_no_findings(static: Published, dynamic: Published) -> None:
    assert static.examine(STATIC) == []
    assert dynamic.examine(DYNAMIC) == []


def test_the_root_holds_nothing_but_views(static: Published) -> None:
    assert sorted(entry.name for entry in (static.root / "dataset").iterdir()) == [str(view) for view in range(6)]
    assert static.summary.counts["clips"] == 12


def test_a_moving_scene_has_twelve_views_with_the_poses_of_their_frames(dynamic: Published) -> None:
    reader = LyraReader(dynamic.root / "dataset")
    assert reader.cameras == 12
    forward = reader.read(0, 0, [0, 8])
    back = reader.read(0, 6, [0, 8], latents=False)
    np.testing.assert_array_equal(forward["pose"], back["pose"][::-1])
    assert not (dynamic.root / "dataset" / "6" / "latent").exists()
    assert "'end_view_target_idx': 11" in (dynamic.root / "registry_entry.py").read_text()


def test_masks_of_what_moves_are_as_lyras_reader_takes_them(dynamic: Published, static: Published) -> None:
    from PIL import Image

    files = sorted(dynamic.root.glob("dataset/*/mask/*"))
    assert {file.name for file in files} == {"scene-a.zip"}
    assert len(files) == 12
    with zipfile.ZipFile(files[3]) as archive:
        # Radym: one picture a frame, decoded as it is, uint8.
        pictures = [Image.open(io.BytesIO(archive.read(f"{frame:05d}.png"))) for frame in range(FRAMES)]
        assert {picture.mode for picture in pictures} == {"L"}
        planes = np.stack([np.asarray(picture) for picture in pictures])
    expected = _masked(_moving_scene("scene-a"), "instances").clips["left"].dynamic_mask()
    assert expected is not None
    np.testing.assert_array_equal(planes, expected)
    [note] = [note for note in dynamic.summary.notes if note.startswith("mask/")]
    assert note.startswith("mask/ of 1 of 2 scenes: the masks show the pixels of what may move")
    assert not list(static.root.glob("dataset/*/mask"))
    assert DYNAMIC.fields == (*STATIC.fields, "mask")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda members: dict(list(members.items())[:-1]), FindingKind.MISSING),
        (lambda members: members | {"00003.png": b"noise"}, FindingKind.TRUNCATED),
        (lambda members: members | {"00003.png": _grey(HEIGHT, WIDTH // 2)}, FindingKind.MISALIGNED),
    ],
)
def test_damaged_masks_are_named(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], kind: FindingKind, dynamic: Published, tmp_path: Path
) -> None:
    copied = replace(dynamic, root=Path(shutil.copytree(dynamic.root, tmp_path / "copy")))
    file = "dataset/7/mask/scene-a.zip"
    with zipfile.ZipFile(copied.root / file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (copied.root / file).unlink()
    write_stored_zip(copied.root / file, change(members).items())
    found = [(finding.path, finding.kind, finding.scene_id) for finding in copied.examine(DYNAMIC)]
    assert found == [(file, kind, "scene-a")]


def _grey(height: int, width: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def test_the_registry_entry_is_python_with_the_destination(static: Published) -> None:
    registry: dict[str, Any] = {}
    text = (static.root / "registry_entry.py").read_text()
    exec(text, {"dataset_registry": registry, "RadymWrapper": object})
    entry = registry["lyra_static"]
    assert entry["kwargs"]["root_path"] == str(static.root / "dataset")
    assert len(entry["kwargs"]["sampling_buckets"]) == 6
    assert any("subsample_data_train_val" in note for note in static.summary.notes)
    assert any("img_size" in note for note in static.summary.notes)


def test_latents_that_lyras_latent_stages_cannot_take_are_registered_as_none(static: Published) -> None:
    text = (static.root / "registry_entry.py").read_text()
    reason = "# has_latents is False: Lyra's latent stages take 121 frames of one size only, there are 9 of 32x64"
    assert reason in text
    assert "'has_latents': False" in text
    assert "'is_generated_cosmos_latent': False" in text
    assert any(note.startswith("has_latents is False") for note in static.summary.notes)
    # They are published all the same: the sizes of other trainings are theirs to choose.
    assert (static.root / "dataset/0/latent/scene-a.pkl").is_file()


@pytest.mark.parametrize("size", [(FRAMES, HEIGHT, WIDTH), (FRAMES, 704, 1280)])
def test_clips_of_lyras_length_are_registered_with_their_latents(
    size: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lyra's Provider takes latents of 121 frames and of any height and width, where img_size says it."""
    monkeypatch.setattr(lyra, "_SIZE", size)
    published = _publish(tmp_path / "release", [make_scene("scene-a")])
    text = (published.root / "registry_entry.py").read_text()
    assert "'has_latents': True" in text
    assert "'is_generated_cosmos_latent': True" in text
    assert "is False" not in text
    assert any(note.startswith("vae_path=") for note in published.summary.notes)
    told = [note for note in published.summary.notes if f"set img_size of every stage to [{HEIGHT}, {WIDTH}]" in note]
    assert len(told) == (size != (FRAMES, HEIGHT, WIDTH))


def test_what_is_told_of_a_dynamic_set_without_latents_is_of_its_own_stages(dynamic: Published) -> None:
    assert sum("stages 8 and 9" in note for note in dynamic.summary.notes) == 2
    assert not any("stages 1 to 4" in note for note in dynamic.summary.notes)


def test_the_same_scenes_give_the_same_bytes(static: Published, tmp_path: Path) -> None:
    again = _publish(tmp_path / "release", [make_scene(name, seed=seed) for seed, name in enumerate(SCENES)])
    files = [file for file in sorted(static.root.rglob("*")) if file.is_file() and file.suffix != ".py"]
    assert files
    for file in files:
        assert file.read_bytes() == (again.root / file.relative_to(static.root)).read_bytes(), file


def test_held_out_scenes_get_a_root_of_their_own(tmp_path: Path) -> None:
    scenes = [make_scene("kept"), make_scene("held", seed=1, split="test")]
    published = _publish(tmp_path / "release", scenes)
    assert [file.stem for file in LyraReader(published.root / "dataset").entries] == ["kept"] * 6
    assert [file.stem for file in LyraReader(published.root / "held_out").entries] == ["held"] * 6
    assert published.examine(STATIC) == []


def test_a_subset_without_latents_serves_the_first_stages(tmp_path: Path) -> None:
    fields = frozenset({"rgb", "pose", "intrinsics", "depth"})
    published = _publish(tmp_path / "release", [make_scene("scene-a")], fields=fields)
    assert not list(published.root.rglob("*.pkl"))
    assert not list(published.root.rglob("mean_std.pt"))
    assert "'has_latents': False" in (published.root / "registry_entry.py").read_text()
    assert published.examine(STATIC) == []
    LyraReader(published.root / "dataset").read(0, 5, [1], latents=False)


def test_other_six_trajectories_keep_their_order(tmp_path: Path) -> None:
    names = ("pan", "tilt", "left", "right", "up", "zoom_in")
    scene = make_scene("scene-a", trajectories=names)
    published = _publish(tmp_path / "release", [scene])
    read = LyraReader(published.root / "dataset").read(0, 5, [8])
    np.testing.assert_array_equal(read["pose"][0], scene.clips["zoom_in"].cameras()[0][8])


def test_keys_hold_no_dot(tmp_path: Path) -> None:
    published = _publish(tmp_path / "release", [make_scene("v1.0-room")])
    assert LyraReader(published.root / "dataset").entries[0].name == "v1_0-room.mp4"


# --- refusals -------------------------------------------------------------------------------------------------------


def _sparse(scene: ReleaseScene) -> ReleaseScene:
    clip = scene.clips["up"]
    assert isinstance(clip, MemoryClip)
    depths = clip.depths.copy()
    depths[4, : HEIGHT // 2 + 2] = 0
    return replace(scene, clips={**scene.clips, "up": replace(clip, depths=depths)})


def _strided(scene: ReleaseScene) -> ReleaseScene:
    return replace(scene, latent_space=replace(latent_space(FRAMES), temporal_stride=4))


def _uneven(scene: ReleaseScene) -> ReleaseScene:
    return replace(scene, clips={**scene.clips, "up": make_clip("scene-a", "up", frames=17, width=WIDTH)})


def _with_unfit_latents(scene: ReleaseScene) -> ReleaseScene:
    clip = scene.clips["left"]
    assert isinstance(clip, MemoryClip)
    return replace(scene, clips={**scene.clips, "left": replace(clip, latent=clip.latent[:, :1])})


@pytest.mark.parametrize(
    ("scenes", "layout", "message"),
    [
        ([], STATIC, "no scenes"),
        ([make_scene("a", trajectories=("left", "right"))], STATIC, "expected 6 of them"),
        ([make_scene("a"), make_scene("b", trajectories=LYRA_TRAJECTORIES[:5])], STATIC, "scene b"),
        ([make_scene("a")], DYNAMIC, "left_reversed"),
        ([_moving_scene("a")], STATIC, "expected 6 of them"),
        ([make_scene("a.b"), make_scene("a_b")], STATIC, "both be called a_b"),
        ([_sparse(make_scene("a"))], STATIC, "a/up"),
        ([_strided(make_scene("a"))], STATIC, "temporal stride"),
        ([_uneven(make_scene("a"))], STATIC, "unequal frames"),
        ([_with_unfit_latents(make_scene("a"))], STATIC, "latents of left"),
        ([make_scene("a", frames=10)], STATIC, "no latents with strides"),
        ([replace(make_scene("a"), latent_space=None)], STATIC, "no latents"),
        ([make_scene("a"), replace(make_scene("b"), latent_space=latent_space(17))], STATIC, "latent space is not"),
    ],
)
def test_scenes_that_cannot_make_the_layout_are_refused(
    scenes: list[ReleaseScene], layout: Layout, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        _publish(tmp_path / "release", scenes, layout)


def test_moving_scenes_are_refused_as_static_ones(tmp_path: Path) -> None:
    moving = replace(make_scene("scene-a"), moving=True)
    with pytest.raises(InputError, match=r"objects move in scene-a.*lyra_dynamic"):
        _publish(tmp_path / "static", [moving])
    _publish(tmp_path / "dynamic", [replace(_moving_scene("scene-a"), moving=True)], DYNAMIC)


def test_one_latent_space_under_two_names_and_licences_is_one(tmp_path: Path) -> None:
    first, second = make_scene("scene-a"), make_scene("scene-b")
    assert second.latent_space is not None
    renamed = replace(second.latent_space, id="the same weights elsewhere", licence="MIT")
    _publish(tmp_path / "release", [first, replace(second, latent_space=renamed)])
    assert {path.suffix for path in (tmp_path / "release" / "dataset" / "0" / "latent").iterdir()} == {".pkl"}


def test_latents_of_another_codec_are_declared(tmp_path: Path) -> None:
    scene = make_scene("scene-a")
    assert scene.latent_space is not None
    cosmos = replace(scene.latent_space, id="nvidia/Cosmos-Tokenize1-CV8x8x8-720p")
    for space, expected in ((scene.latent_space, [f"latents of {scene.latent_space.id}"]), (cosmos, [])):
        root = tmp_path / str(len(expected))
        written = STATIC.write(
            ReleaseDirectory(root), [replace(scene, latent_space=space)], ReleaseRequest(destination=root)
        )
        assert list(written.stand_ins) == expected


def test_a_subset_without_pictures_is_refused(tmp_path: Path) -> None:
    fields = frozenset({"depth", "pose", "intrinsics"})
    with pytest.raises(InputError, match="leaves out rgb"):
        publishing.publish(STATIC, [make_scene("a")], tmp_path / "release", collection="test", fields=fields)


# --- damage ---------------------------------------------------------------------------------------------------------

MP4, POSE, LENS = (f"dataset/3/{name}" for name in ("rgb/scene-a.mp4", "pose/scene-a.npz", "intrinsics/scene-a.npz"))
DEPTH, LATENT = "dataset/3/depth/scene-a.zip", "dataset/3/latent/scene-a.pkl"


def _cut(file: str, share: float = 0.6) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: int(len(content) * share)])

    return damage


def _cameras(file: str, change: Callable[[NDArray[Any]], NDArray[Any]], inds: Any = None) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with np.load(root / file) as stored:
            data = change(stored["data"])
        given = np.arange(len(data)) if inds is None else np.asarray(inds)
        (root / file).write_bytes(encode_npz({"data": data, "inds": given}))

    return damage


def _depth(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with zipfile.ZipFile(root / DEPTH) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        (root / DEPTH).unlink()
        write_stored_zip(root / DEPTH, change(members).items())

    return damage


def _frame(values: NDArray[Any], channel: str = "Z") -> Callable[[Path], None]:
    return _depth(lambda members: {**members, "00002.exr": encode_exr({channel: values})})


def _latent(change: Callable[[torch.Tensor], Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        torch.save(change(torch.load(root / LATENT)), root / LATENT)

    return damage


def _flip_bytes(file: str, place: float) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = bytearray((root / file).read_bytes())
        start = int(len(content) * place)
        content[start : start + 64] = bytes(255 - byte for byte in content[start : start + 64])
        (root / file).write_bytes(content)

    return damage


def _renamed(file: str, name: bytes) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / file).write_bytes((root / file).read_bytes().replace(name, bytes(len(name))))

    return damage


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def _evil(root: Path) -> None:
    torch.save(_Evil(), root / LATENT)


def _make(path: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / MP4, root / path)

    return damage


def _shear(data: NDArray[Any]) -> NDArray[Any]:
    return data * np.array([2.0, 1.0, 1.0, 1.0], data.dtype)


_FLAT = np.full((HEIGHT, WIDTH), PLANE_DEPTH, np.float16)
_NAN = np.full((HEIGHT, WIDTH), np.nan, np.float16)

DAMAGES: dict[str, tuple[Callable[[Path], None], FindingKind, str, str]] = {
    "view folder gone": (
        lambda root: shutil.rmtree(root / "dataset/3"), FindingKind.MISSING, "dataset/3", "view 3 is missing"),
    "mp4 gone": (lambda root: (root / MP4).unlink(), FindingKind.MISSING, MP4, "another sample"),
    "pose gone": (lambda root: (root / POSE).unlink(), FindingKind.MISSING, POSE, "another sample"),
    "depth gone": (lambda root: (root / DEPTH).unlink(), FindingKind.MISSING, DEPTH, "another sample"),
    "latent gone": (lambda root: (root / LATENT).unlink(), FindingKind.MISSING, LATENT, "another sample"),
    "stray file": (_make("dataset/.DS_Store"), FindingKind.UNEXPECTED, "dataset/.DS_Store", "as a camera, 7"),
    "nested rgb": (_make("dataset/3/old/rgb/x.mp4"), FindingKind.UNEXPECTED, "dataset/3/old/rgb", "any depth"),
    "dotted key": (_make("dataset/3/rgb/scene.c.mp4"), FindingKind.OUT_OF_CONVENTION, "dataset/3/rgb/scene.c.mp4",
                   "dot"),
    "other suffix": (_make("dataset/3/rgb/scene-a.mp4.part"), FindingKind.UNEXPECTED,
                     "dataset/3/rgb/scene-a.mp4.part", "never reads"),
    "mp4 cut": (_cut(MP4), FindingKind.TRUNCATED, MP4, "another sample"),
    "mp4 damaged": (_flip_bytes(MP4, 0.7), FindingKind.TRUNCATED, MP4, "another sample"),
    "mp4 without codec": (_renamed(MP4, b"avc1"), FindingKind.TRUNCATED, MP4, "another sample"),
    "pose cut": (_cut(POSE), FindingKind.TRUNCATED, POSE, "another sample"),
    "zip cut": (_cut(DEPTH), FindingKind.TRUNCATED, DEPTH, "cannot be opened"),
    "zip member damaged": (_flip_bytes(DEPTH, 0.5), FindingKind.TRUNCATED, DEPTH, "cannot be read"),
    "latent cut": (_cut(LATENT), FindingKind.TRUNCATED, LATENT, "cannot be loaded"),
    "latent damaged": (_flip_bytes(LATENT, 0.5), FindingKind.TRUNCATED, LATENT, "checksum"),
    "a pose too few": (_cameras(POSE, lambda data: data[:-1]), FindingKind.MISALIGNED, POSE, "8 cameras for 9"),
    "inds unsorted": (_cameras(POSE, lambda data: data, [1, 0, *range(2, 9)]), FindingKind.MISALIGNED, POSE, "inds"),
    "sheared pose": (_cameras(POSE, _shear), FindingKind.OUT_OF_CONVENTION, POSE, "orthonormal"),
    "w2c": (_cameras(POSE, np.linalg.inv), FindingKind.OUT_OF_CONVENTION, POSE, "world-to-camera"),
    "half-size intrinsics": (_cameras(LENS, lambda data: data / 2), FindingKind.OUT_OF_CONVENTION, LENS,
                             "another resolution"),
    "normalised intrinsics": (_cameras(LENS, lambda data: data / WIDTH), FindingKind.OUT_OF_CONVENTION, LENS,
                              "principal"),
    "depth frame gone": (
        _depth(lambda members: {name: content for name, content in members.items() if name != "00005.exr"}),
        FindingKind.MISSING, DEPTH, "frame 5: no EXR"),
    "depth frame extra": (_depth(lambda members: {**members, "9.exr": b""}), FindingKind.UNEXPECTED, DEPTH, "9.exr"),
    "float depth": (_frame(_FLAT.astype(np.float32)), FindingKind.OUT_OF_CONVENTION, DEPTH, "expected HALF"),
    "other channel": (_frame(_FLAT, "Y"), FindingKind.OUT_OF_CONVENTION, DEPTH, "expected Z"),
    "small depth": (_frame(_FLAT[::2].copy()), FindingKind.MISALIGNED, DEPTH, "zeros"),
    "invalid depth": (_frame(_NAN), FindingKind.OUT_OF_CONVENTION, DEPTH, "valid"),
    "no batch axis": (_latent(lambda latent: latent[0].clone()), FindingKind.OUT_OF_CONVENTION, LATENT, "batch axis"),
    "time before channels": (
        _latent(lambda latent: latent.transpose(1, 2).contiguous()), FindingKind.OUT_OF_CONVENTION, LATENT,
        "before channels"),
    "latent of another clip": (_latent(lambda latent: latent[:, :, :1].clone()), FindingKind.MISALIGNED, LATENT, "fit"),
    "latent of another size": (_latent(lambda latent: latent[..., :3].clone()), FindingKind.MISALIGNED, LATENT, "grid"),
    "latent not finite": (_latent(lambda latent: latent * torch.inf), FindingKind.OUT_OF_CONVENTION, LATENT, "finite"),
    "latent of text": (_latent(lambda latent: "text"), FindingKind.OUT_OF_CONVENTION, LATENT, "holds a str"),
    "latent that runs code": (_evil, FindingKind.OUT_OF_CONVENTION, LATENT, "would run it"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, copy: Published, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damage, kind, path, message = DAMAGES[name]
    monkeypatch.chdir(tmp_path)
    damage(copy.root)
    findings = copy.examine(STATIC)
    found = [finding for finding in findings if finding.path == path]
    assert found, findings
    assert found[0].kind is kind
    assert message in found[0].message
    if path in copy.scene_of:
        assert found[0].scene_id == "scene-a"
        assert {finding.path for finding in findings} == {path}
    assert not (tmp_path / "ran").exists()


STATISTICS = "Cosmos-Tokenize1-CV8x8x8-720p/mean_std.pt"


@pytest.mark.parametrize(
    ("tables", "kind"),
    [
        (None, FindingKind.MISSING),
        ((torch.zeros(16, 2), torch.ones(16, 2)), FindingKind.OUT_OF_CONVENTION),
        ((torch.zeros(16, 16), torch.zeros(16, 16)), FindingKind.OUT_OF_CONVENTION),
        ({"mean": torch.zeros(256)}, FindingKind.OUT_OF_CONVENTION),
    ],
)
def test_wrong_statistics_are_named(tables: Any, kind: FindingKind, copy: Published) -> None:
    (copy.root / STATISTICS).unlink()
    if tables is not None:
        torch.save(tables, copy.root / STATISTICS)
    assert [(finding.path, finding.kind) for finding in copy.examine(STATIC)] == [(STATISTICS, kind)]


def test_a_lost_root_is_named(copy: Published) -> None:
    shutil.rmtree(copy.root / "dataset")
    assert [(finding.path, finding.kind) for finding in copy.examine(STATIC)] == [("dataset", FindingKind.MISSING)]


def test_poses_in_generation_order_are_found_by_the_pictures(dynamic: Published, tmp_path: Path) -> None:
    root = tmp_path / "release"
    shutil.copytree(dynamic.root, root)
    for view in range(6, 12):
        _cameras(f"dataset/{view}/pose/scene-b.npz", lambda data: data[::-1])(root)
    findings = replace(dynamic, root=root).examine(DYNAMIC)
    expected = {f"dataset/{view}/pose/scene-b.npz" for view in range(6, 12)}
    assert {finding.path for finding in findings} == expected
    for finding in findings:
        assert finding.kind is FindingKind.OUT_OF_CONVENTION
        assert finding.scene_id == "scene-b"
        assert "in reversed time order" in finding.message


@pytest.mark.parametrize("file", ["0/pose/scene-a.npz", "2/pose/scene-a.npz", "4/pose/scene-a.npz"])
def test_world_to_camera_poses_are_found_in_every_direction(file: str, copy: Published) -> None:
    _cameras(f"dataset/{file}", np.linalg.inv)(copy.root)
    findings = copy.examine(STATIC)
    assert [finding.path for finding in findings] == [f"dataset/{file}"]
    assert "world-to-camera" in findings[0].message


def test_latents_with_time_first_are_found_where_their_shape_is_lyras(tmp_path: Path) -> None:
    """121 frames give 16 latent frames of 16 channels: only the values tell the axes apart."""
    rng = np.random.default_rng(0)
    slow = np.cumsum(rng.normal(size=(16, 16, HEIGHT // 8, WIDTH // 8)), axis=1).astype(np.float16)
    scene = make_scene("scene-a", frames=121)
    clips: dict[str, ReleaseClip] = {}
    for name, clip in scene.clips.items():
        assert isinstance(clip, MemoryClip)
        clips[name] = replace(clip, latent=slow)
    published = _publish(tmp_path / "release", [replace(scene, clips=clips)])
    assert published.examine(STATIC) == []
    _latent(lambda latent: latent.transpose(1, 2).contiguous())(published.root)
    findings = published.examine(STATIC)
    assert [(finding.path, finding.kind) for finding in findings] == [(LATENT, FindingKind.OUT_OF_CONVENTION)]


@pytest.mark.parametrize("kind", [np.float32, torch.bfloat16, torch.float32])
def test_latents_in_the_other_forms_that_lyra_reads_are_accepted(kind: Any, copy: Published) -> None:
    if isinstance(kind, torch.dtype):
        _latent(lambda latent: latent.to(kind))(copy.root)
    else:
        _latent(lambda latent: latent.numpy().astype(kind))(copy.root)
    assert copy.examine(STATIC) == []


def test_nothing_is_run_when_a_plain_pickle_stands_in_for_latents(copy: Published, tmp_path: Path) -> None:
    (copy.root / LATENT).write_bytes(pickle.dumps(np.zeros(3), protocol=2))
    findings = copy.examine(STATIC)
    assert [finding.path for finding in findings] == [LATENT]


def test_a_space_shared_by_all_latent_frames_fills_the_whole_table(tmp_path: Path) -> None:
    space = LatentSpace(
        id="shared", channels=16, mean=np.arange(16, dtype=np.float32), std=np.ones(16, np.float32), scale=0.5
    )
    published = _publish(tmp_path / "release", [replace(make_scene("a"), latent_space=space)])
    mean, std = torch.load(io.BytesIO((published.root / STATISTICS).read_bytes()), weights_only=True)
    assert mean.shape == std.shape == (16, 16)
    assert mean[:, 7].tolist() == list(range(16))


# --- damage to what a dynamic set alone has: views 6 to 11, reversed ones, and no latents for them ------------------

_Damages = dict[str, tuple[Callable[[Path, str], object], FindingKind, str]]


def _unlink(root: Path, file: str) -> None:
    (root / file).unlink()


def _forward_video(root: Path, file: str) -> None:
    """The clip's pictures in forward order, where its poses run back."""
    shutil.copy(root / "dataset/1/rgb/scene-b.mp4", root / file.replace("pose", "rgb").replace("npz", "mp4"))


DYNAMIC_DAMAGES: _Damages = {
    "dataset/11": (lambda root, file: shutil.rmtree(root / file), FindingKind.MISSING, "view 11 is missing"),
    "dataset/12": (lambda root, file: (root / file).mkdir(), FindingKind.UNEXPECTED, "as a camera"),
    "dataset/6/rgb/scene-a.mp4": (_unlink, FindingKind.MISSING, "another sample"),
    "dataset/6/rgb/scene-b.mp4": (lambda root, file: _cut(file)(root), FindingKind.TRUNCATED, "another sample"),
    "dataset/7/pose/scene-a.npz": (_unlink, FindingKind.MISSING, "another sample"),
    "dataset/7/pose/scene-b.npz": (_forward_video, FindingKind.OUT_OF_CONVENTION, "in reversed time order"),
    "dataset/8/pose/scene-a.npz": (
        lambda root, file: _cameras(file, lambda data: data[:-1])(root), FindingKind.MISALIGNED, "8 cameras for 9"),
    "dataset/8/pose/scene-b.npz": (lambda root, file: _cut(file)(root), FindingKind.TRUNCATED, "another sample"),
    "dataset/9/pose/scene-b.npz": (
        lambda root, file: _cameras(file, _shear)(root), FindingKind.OUT_OF_CONVENTION, "orthonormal"),
    "dataset/9/intrinsics/scene-a.npz": (
        lambda root, file: _cameras(file, lambda data: data / 2)(root), FindingKind.OUT_OF_CONVENTION,
        "another resolution"),
    "dataset/10/depth/scene-a.zip": (
        lambda root, file: _flip_bytes(file, 0.5)(root), FindingKind.TRUNCATED, "cannot be read"),
    "dataset/10/depth/scene-b.zip": (_unlink, FindingKind.MISSING, "another sample"),
    "dataset/2/latent/scene-b.pkl": (_unlink, FindingKind.MISSING, "the latents are missing"),
    "dataset/3/latent/scene-b.pkl": (lambda root, file: _cut(file)(root), FindingKind.TRUNCATED, "cannot be loaded"),
}  # fmt: skip


def test_damage_to_a_dynamic_set_is_named_file_by_file(dynamic: Published, tmp_path: Path) -> None:
    copied = replace(dynamic, root=Path(shutil.copytree(dynamic.root, tmp_path / "copy")))
    for file, (damage, _, _) in DYNAMIC_DAMAGES.items():
        damage(copied.root, file)
    findings = copied.examine(DYNAMIC)
    assert {finding.path for finding in findings} == set(DYNAMIC_DAMAGES)
    for finding in findings:
        _, kind, message = DYNAMIC_DAMAGES[finding.path]
        assert finding.kind is kind
        assert message in finding.message
