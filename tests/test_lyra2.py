"""datasets/layouts/lyra2.py: read back by Lyra-2's own rules, and every deliberate damage named."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.exr import encode_exr
from sceneloom.datasets.layouts.caption_chunks import decode_chunks, encode_chunks, hashed_words
from sceneloom.datasets.layouts.lyra2 import LAYOUT, _batches, nearest_filled, write
from sceneloom.datasets.layouts.publishing import examine, publish, repair
from sceneloom.datasets.layouts.release import (
    Finding,
    FindingKind,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
    ReleaseTextEncoder,
)
from sceneloom.datasets.layouts.safe_pickles import UnsafePickleError
from sceneloom.datasets.zip_files import encode_npz, write_stored_zip

from .release_scenes import MemoryClip, make_scene

CAPTIONS = "framepack-caption-qwen3-chunk-80-overlap-0"
HEIGHT, WIDTH, FRAMES = 32, 64, 97
ID = "room-left"


def _scene(scene_id: str = "room", **changes: Any) -> ReleaseScene:
    return make_scene(scene_id, **{"trajectories": ("left",), "frames": FRAMES, "width": WIDTH, **changes})


def _with_gaps(scene: ReleaseScene) -> ReleaseScene:
    """The scene with a column of invalid depth in frame 3 and a NaN in frame 4."""
    clip = scene.clips["left"]
    assert isinstance(clip, MemoryClip)
    depths = clip.depths.copy()
    depths[3] = np.arange(1, WIDTH + 1, dtype=np.float16) / 8
    depths[3, :, 10] = 0
    depths[4, 2, 2] = np.nan
    return replace(scene, clips={"left": replace(clip, depths=depths)})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    root = tmp_path_factory.mktemp("lyra2") / "release"
    directory = ReleaseDirectory(root)
    write(directory, [_scene()], ReleaseRequest(destination=root))
    return root, directory.scene_of


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    root = tmp_path_factory.mktemp("lyra2") / "mixed"
    directory = ReleaseDirectory(root)
    splits = {"a-train": "train", "b-validation": "validation", "c-test": "test", "d-train": "train"}
    scenes = [_scene(name, split=split, frames=9) for name, split in splits.items()]
    write(directory, scenes, ReleaseRequest(destination=root))
    return root, directory.scene_of


@pytest.fixture
def copy(published: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    shutil.copytree(published[0], tmp_path / "release")
    return tmp_path / "release"


def _read_as_lyra2(root: Path, frames: list[int], first_frame: int) -> Mapping[str, Any]:
    """What Lyra-2's reader does with its single video: filter list, rglob, arrays by bisection, caption by frame."""
    decord = pytest.importorskip("decord", reason="decord, which Lyra-2 reads videos with, is not installed")
    listed = {line.strip().split(".")[0] for line in (root / "all_filter.lst").open()}
    videos = [file for folder in root.rglob("rgb") for file in folder.glob("*.mp4") if file.stem in listed]
    assert len(videos) == len(listed)
    mp4, read = videos[0], dict[str, Any]()
    read["rgb"] = decord.VideoReader(str(mp4), num_threads=1).get_batch(frames).asnumpy()
    for field in ("pose", "intrinsics"):
        stored = np.load(root / field / f"{mp4.stem}.npz")
        places = np.searchsorted(stored["inds"], frames)
        assert np.all(stored["inds"][places] == frames)
        read[field] = stored["data"][places]
    depth = []
    with zipfile.ZipFile(root / "depth" / f"{mp4.stem}.zip") as archive:
        for frame in frames:
            with archive.open(f"{frame:05d}.exr") as file:
                depth.append(np.frombuffer(OpenEXR.InputFile(file).channel("Z"), np.float16).reshape(HEIGHT, WIDTH))
    read["depth"] = np.stack(depth)
    chunks = pickle.loads((root / CAPTIONS / f"{mp4.stem}.pkl").read_bytes())
    start = max(start for start in map(int, chunks) if start <= first_frame)
    read["embedding"], read["chunk"] = chunks[start]["embedding"], chunks[start]
    return read


def test_lyra2_reads_a_clip(published: tuple[Path, dict[str, str]]) -> None:
    frames = [0, 50, 96]
    read = _read_as_lyra2(published[0], frames, first_frame=85)
    clip = _scene().clips["left"]
    c2w, intrinsics = clip.cameras()
    np.testing.assert_array_equal(read["pose"], c2w[frames])
    np.testing.assert_array_equal(read["intrinsics"], intrinsics[frames])
    np.testing.assert_array_equal(read["depth"], clip.depth(frames))
    assert read["rgb"].shape == (3, HEIGHT, WIDTH, 3)
    assert read["chunk"]["frame_range"] == (80, 97)
    assert read["chunk"]["caption"] == "a small room with a red chair"
    assert read["embedding"].dtype == torch.bfloat16
    assert read["embedding"].shape == (8, 4096)


def test_a_whole_set_has_no_findings(published: tuple[Path, dict[str, str]]) -> None:
    assert LAYOUT.examine(*published) == []


def test_the_stand_in_and_the_overrides_are_told(tmp_path: Path) -> None:
    summary = write(ReleaseDirectory(tmp_path), [_scene()], ReleaseRequest(destination=Path("/data/set")))
    assert "UMT5-XXL" in summary.stand_ins["caption embeddings"]
    text = "\n".join(summary.notes)
    for expected in ("sample_n_frames=97", "crop_size", f"'/data/set/{CAPTIONS}'", "config_dataverse.py"):
        assert expected in text


def _encoder(calls: list[str], licence: str | None = "Apache-2.0") -> ReleaseTextEncoder:
    def encode(captions: Sequence[str]) -> list[NDArray[np.float32]]:
        calls.extend(captions)
        return [np.full((len(caption.split()), 4096), 0.5, np.float32) for caption in captions]

    return ReleaseTextEncoder("/umt5@0123456789ab", licence, encode)


def test_a_real_encoder_takes_the_stand_ins_place(tmp_path: Path) -> None:
    calls: list[str] = []
    scene = _scene(trajectories=("left", "right"), frames=9)
    directory = ReleaseDirectory(tmp_path)
    asked = ReleaseRequest(destination=tmp_path, text_encoder=_encoder(calls))
    summary = write(directory, [scene], asked)
    assert summary.stand_ins == {}
    assert calls == ["a small room with a red chair"]
    assert any("embedded by /umt5@" in note for note in summary.notes)
    chunks = pickle.loads((tmp_path / CAPTIONS / "room-right.pkl").read_bytes())
    assert chunks[0]["embedding"].tolist() == [[0.5] * 4096] * 7
    assert (tmp_path / "all_filter.lst").read_text() == "room-left\nroom-right\n"
    assert LAYOUT.examine(tmp_path, directory.scene_of) == []


def test_each_caption_is_encoded_once_and_goes_to_its_own_scenes(tmp_path: Path) -> None:
    calls: list[str] = []
    # More captions than are encoded at a time, each of two scenes.
    texts = {f"room{index:02d}": " ".join(["word"] * (1 + index % 18)) for index in range(36)}
    scenes = [_scene(name, prompt=text, frames=9, width=32) for name, text in texts.items()]
    asked = ReleaseRequest(destination=tmp_path, text_encoder=_encoder(calls))
    summary = write(ReleaseDirectory(tmp_path), scenes, asked)
    assert sorted(calls) == sorted(set(texts.values()))
    assert summary.counts["captions"] == 18
    for name, text in texts.items():
        [chunk] = decode_chunks((tmp_path / CAPTIONS / f"{name}-left.pkl").read_bytes(), name).values()
        assert chunk["caption"] == text
        assert len(chunk["embedding"]) == len(text.split())


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.lists(st.integers(0, 60).map(str), min_size=1, max_size=20).map(tuple), min_size=1, max_size=30, unique=True
    )
)
def test_few_captions_are_encoded_at_a_time(texts: list[tuple[str, ...]]) -> None:
    batches = list(_batches(texts))
    assert [chunks for batch in batches for chunks in batch] == texts
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        captions = {text for chunks in batch for text in chunks}
        assert len(captions) <= 16 or len(batch) == 1
        assert following is None or len(captions.union(following[0])) > 16


def test_the_encoder_is_a_part_of_the_release(tmp_path: Path) -> None:
    scenes, out = [_scene(frames=9)], tmp_path / "set"
    manifest = publish(LAYOUT, scenes, out, collection="test", text_encoder=_encoder([]))
    assert manifest.options == {"text_encoder": "/umt5@0123456789ab"}
    assert manifest.commercial_use.allowed
    # Without it, the release would be another one; so it cannot be repaired without it either.
    with pytest.raises(InputError, match="is there already"):
        publish(LAYOUT, scenes, out, collection="test")
    with pytest.raises(InputError, match="/umt5@0123456789ab is named, none is given"):
        repair(LAYOUT, scenes, out, [])
    other = replace(_encoder([]), name="/umt5@ffffffffffff")
    with pytest.raises(InputError, match="/umt5@ffffffffffff is given"):
        repair(LAYOUT, scenes, out, [], text_encoder=other)
    (out / CAPTIONS / f"{ID}.pkl").unlink()
    assert repair(LAYOUT, scenes, out, examine(out, {"lyra2": LAYOUT}), text_encoder=_encoder([])) == ["room"]
    assert examine(out, {"lyra2": LAYOUT}) == []


def test_an_encoder_that_is_not_for_commercial_use_says_so(tmp_path: Path) -> None:
    encoder = _encoder([], "CC-BY-NC-4.0")
    with pytest.raises(InputError, match="text encoder /umt5"):
        publish(LAYOUT, [_scene(frames=9)], tmp_path / "a", collection="test", commercial=True, text_encoder=encoder)


def test_an_encoder_that_is_only_named_is_refused(tmp_path: Path) -> None:
    options = {"text_encoder": "/umt5"}
    with pytest.raises(InputError, match="/umt5 is named, none is given"):
        publish(LAYOUT, [_scene(frames=9)], tmp_path / "set", collection="test", options=options)
    assert not (tmp_path / "set").exists()


def test_held_out_clips_are_in_a_list_of_their_own(mixed: tuple[Path, dict[str, str]]) -> None:
    root, scene_of = mixed
    assert (root / "all_filter.lst").read_text().split() == ["a-train-left", "d-train-left"]
    assert (root / "held_out_filter.lst").read_text().split() == ["b-validation-left", "c-test-left"]
    assert LAYOUT.examine(root, scene_of) == []


def test_the_list_of_held_out_clips_is_told(tmp_path: Path) -> None:
    scenes = [_scene("a", frames=9), _scene("b", frames=9, split="test")]
    summary = write(ReleaseDirectory(tmp_path), scenes, ReleaseRequest(destination=Path("/data/set")))
    assert any("filter_list_path='/data/set/held_out_filter.lst'" in note for note in summary.notes)
    assert summary.counts["clips in all_filter.lst"] == summary.counts["clips in held_out_filter.lst"] == 1


def test_held_out_clips_alone_are_a_set_to_read(tmp_path: Path) -> None:
    scenes = [_scene("b", frames=9, split="test")]
    write(ReleaseDirectory(tmp_path), scenes, ReleaseRequest(destination=tmp_path))
    assert (tmp_path / "all_filter.lst").read_text() == "b-left\n"
    assert not (tmp_path / "held_out_filter.lst").exists()


HELD_OUT_DAMAGES: dict[str, tuple[str, str, FindingKind, str]] = {
    "held out in both": (
        "a-train-left\nc-test-left\nd-train-left\n",
        "b-validation-left\nc-test-left\n",
        FindingKind.OUT_OF_CONVENTION,
        "all_filter.lst",
    ),
    "held out in none": (
        "a-train-left\nd-train-left\n",
        "b-validation-left\n",
        FindingKind.UNEXPECTED,
        "rgb/c-test-left.mp4",
    ),
    "held-out list empty": ("a-train-left\nd-train-left\n", "", FindingKind.MISSING, "held_out_filter.lst"),
}


@pytest.mark.parametrize("name", HELD_OUT_DAMAGES)
def test_damage_to_the_lists_is_named(name: str, mixed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    train, held, kind, path = HELD_OUT_DAMAGES[name]
    root = tmp_path / "set"
    shutil.copytree(mixed[0], root)
    (root / "all_filter.lst").write_text(train)
    (root / "held_out_filter.lst").write_text(held)
    assert (kind, path) in {(finding.kind, finding.path) for finding in LAYOUT.examine(root, mixed[1])}


@pytest.mark.parametrize(("frames", "told"), [(73, True), (81, False)])
def test_clips_shorter_than_a_segment_are_told(frames: int, told: bool, tmp_path: Path) -> None:
    summary = write(ReleaseDirectory(tmp_path), [_scene(frames=frames)], ReleaseRequest(destination=tmp_path))
    assert any("under 81 frames" in note for note in summary.notes) == told


def test_gaps_in_depth_are_filled_and_counted(tmp_path: Path) -> None:
    directory = ReleaseDirectory(tmp_path)
    summary = write(directory, [_with_gaps(_scene())], ReleaseRequest(destination=tmp_path))
    assert summary.counts["depths filled"] == HEIGHT + 1
    assert any(f"{HEIGHT + 1} invalid depths" in note for note in summary.notes)
    depth = _read_as_lyra2(tmp_path, [3, 4], 0)["depth"]
    assert set(depth[0, :, 10].tolist()) <= {10 / 8, 12 / 8}
    assert np.isfinite(depth).all()
    assert (depth > 0).all()


def test_the_same_scenes_give_the_same_bytes(published: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    write(ReleaseDirectory(tmp_path), [_scene()], ReleaseRequest(destination=tmp_path))
    for file in (file for file in published[0].rglob("*") if file.is_file()):
        assert file.read_bytes() == (tmp_path / file.relative_to(published[0])).read_bytes(), file


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_filled_values_come_from_a_nearest_valid_pixel(valid: NDArray[np.bool_]) -> None:
    valid.flat[0] = True
    values = np.arange(valid.size, dtype=np.float16).reshape(valid.shape)
    places = np.argwhere(valid)
    filled = nearest_filled(values, valid)
    nearest = far = 0
    for place in np.ndindex(valid.shape):
        chosen = np.array(np.unravel_index(int(filled[place]), valid.shape))
        assert valid[tuple(chosen)]
        best = np.linalg.norm(places - place, axis=1).min()
        nearest += 1
        far += np.linalg.norm(chosen - place) > best + 1e-9
        assert np.linalg.norm(chosen - place) <= best + 1.0
    assert far <= 0.05 * nearest + 1
    np.testing.assert_array_equal(filled[valid], values[valid])


# --- refusals -------------------------------------------------------------------------------------------------------


def _blind(scene: ReleaseScene) -> ReleaseScene:
    clip = scene.clips["left"]
    assert isinstance(clip, MemoryClip)
    depths = clip.depths.copy()
    depths[5] = 0
    return replace(scene, clips={"left": replace(clip, depths=depths)})


@pytest.mark.parametrize(
    ("scenes", "message"),
    [
        ([], "no clips"),
        (
            [_scene("b", prompt=None, frames=9), _scene("a", frames=9), _scene("c", prompt=" ", frames=9)],
            "2 of 3 scenes have no caption: b, c",
        ),
        ([_scene("a.b", frames=9), _scene("a_b", frames=9)], "both be called a_b-left"),
        ([_blind(_scene(frames=9))], "frame 5 has no valid depth"),
    ],
)
def test_scenes_that_cannot_make_the_layout_are_refused(
    scenes: list[ReleaseScene], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        write(ReleaseDirectory(tmp_path), scenes, ReleaseRequest(destination=tmp_path))


def test_an_option_captions_pictures(tmp_path: Path) -> None:
    request = ReleaseRequest(destination=tmp_path, options={"caption": "a  room"})
    write(ReleaseDirectory(tmp_path), [_scene(prompt=None, frames=9)], request)
    assert decode_chunks((tmp_path / CAPTIONS / f"{ID}.pkl").read_bytes(), "test")[0]["caption"] == "a room"


def test_a_subset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leaves out pose, intrinsics, depth, captions"):
        publish(LAYOUT, [_scene(frames=9)], tmp_path / "set", collection="test", fields=frozenset({"rgb"}))


@pytest.mark.parametrize("shape", [(513, 4096), (3, 4095), (4096,), (0, 4096)])
def test_an_encoder_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="text encoder"):
        encode_chunks(9, [("a room", np.zeros(shape, np.float32))])


def test_the_stand_in_depends_on_words_alone() -> None:
    one, other = hashed_words("A red chair"), hashed_words("a RED sofa")
    np.testing.assert_array_equal(one[[0, 1, 3]], other[[0, 1, 3]])
    assert np.abs(np.corrcoef(one[2], other[2])[0, 1]) < 0.1
    assert len(hashed_words("word " * 600)) == 512


def test_pickles_of_plain_tensors_are_read() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).to(torch.bfloat16)
    decoded = decode_chunks(pickle.dumps({0: {"embedding": tensor}}), "test")
    assert torch.equal(decoded[0]["embedding"], tensor)


# --- damage ---------------------------------------------------------------------------------------------------------

MP4, POSE, LENS, DEPTH = f"rgb/{ID}.mp4", f"pose/{ID}.npz", f"intrinsics/{ID}.npz", f"depth/{ID}.zip"
PICKLE = f"{CAPTIONS}/{ID}.pkl"


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def _pickled(change: Callable[[dict[int, Any]], Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        chunks = pickle.loads((root / PICKLE).read_bytes())
        (root / PICKLE).write_bytes(pickle.dumps(change(chunks)))

    return damage


def _cut(file: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) * 6 // 10])

    return damage


def _flipped(file: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = bytearray((root / file).read_bytes())
        content[len(content) // 2] ^= 255
        (root / file).write_bytes(content)

    return damage


def _cameras(file: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with np.load(root / file) as stored:
            data = change(stored["data"])
        (root / file).write_bytes(encode_npz({"data": data, "inds": np.arange(len(data))}))

    return damage


def _depth_frame(values: NDArray[Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with zipfile.ZipFile(root / DEPTH) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        (root / DEPTH).unlink()
        write_stored_zip(root / DEPTH, {**members, "00007.exr": encode_exr({"Z": values})}.items())

    return damage


def _write(file: str, text: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)

    return damage


def _hole() -> NDArray[np.float16]:
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float16)
    depth[3, 3] = 0
    return depth


def _embedding(shape: tuple[int, ...]) -> Callable[[dict[int, Any]], Any]:
    return lambda chunks: {**chunks, 80: {**chunks[80], "embedding": torch.zeros(shape)}}


DAMAGES: dict[str, tuple[Callable[[Path], None], FindingKind, str, str]] = {
    "list gone": (lambda root: (root / "all_filter.lst").unlink(), FindingKind.MISSING, "all_filter.lst", "starts"),
    "list empty": (_write("all_filter.lst", "\n"), FindingKind.MISSING, "all_filter.lst", "no sample"),
    "unknown id": (_write("all_filter.lst", f"{ID}\nother\n"), FindingKind.MISSING, "rgb/other.mp4", "stops"),
    "id twice": (_write("all_filter.lst", f"{ID}\n{ID}.mp4\n"), FindingKind.UNEXPECTED, "all_filter.lst", "more than"),
    "unlisted file": (_write("rgb/other.mp4", ""), FindingKind.UNEXPECTED, "rgb/other.mp4", "never reads"),
    "nested rgb": (_write("old/rgb/x.mp4", ""), FindingKind.UNEXPECTED, "old/rgb", "any depth"),
    "mp4 cut": (_cut(MP4), FindingKind.TRUNCATED, MP4, "stops"),
    "pose gone": (lambda root: (root / POSE).unlink(), FindingKind.MISSING, POSE, "stops"),
    "w2c": (_cameras(POSE, np.linalg.inv), FindingKind.OUT_OF_CONVENTION, POSE, "world-to-camera"),
    "too few lenses": (_cameras(LENS, lambda data: data[:5]), FindingKind.MISALIGNED, LENS, "5 cameras for 97"),
    "zip cut": (_cut(DEPTH), FindingKind.TRUNCATED, DEPTH, "cannot be opened"),
    "hole in depth": (_depth_frame(_hole()), FindingKind.OUT_OF_CONVENTION, DEPTH, "bleeds"),
    "npz beside zip": (_write(f"depth/{ID}.npz", ""), FindingKind.UNEXPECTED, f"depth/{ID}.npz", "prefers"),
    "captions gone": (lambda root: (root / PICKLE).unlink(), FindingKind.MISSING, PICKLE, "another sample"),
    "captions cut": (_cut(PICKLE), FindingKind.TRUNCATED, PICKLE, "unpickle"),
    "captions that run code": (_pickled(lambda _: _Evil()), FindingKind.OUT_OF_CONVENTION, PICKLE, "would run"),
    "embedding damaged": (_flipped(PICKLE), FindingKind.TRUNCATED, PICKLE, "checksum"),
    "no dictionary": (_pickled(lambda _: []), FindingKind.OUT_OF_CONVENTION, PICKLE, "no dictionary"),
    "keys of text": (_pickled(lambda chunks: {"first": chunks[0]}), FindingKind.OUT_OF_CONVENTION, PICKLE, "no dict"),
    "no first chunk": (_pickled(lambda chunks: {80: chunks[80]}), FindingKind.MISALIGNED, PICKLE, "starts at frame 80"),
    "chunk too late": (_pickled(lambda chunks: {**chunks, 160: chunks[80]}), FindingKind.MISALIGNED, PICKLE, "another"),
    "wide embedding": (_pickled(_embedding((3, 5000))), FindingKind.OUT_OF_CONVENTION, PICKLE, "chunk 80"),
    "long embedding": (_pickled(_embedding((513, 4096))), FindingKind.OUT_OF_CONVENTION, PICKLE, "chunk 80"),
    "no embedding": (_pickled(lambda _: {0: {"caption": ""}}), FindingKind.OUT_OF_CONVENTION, PICKLE, "no tensor"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(
    name: str, copy: Path, published: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damage, kind, path, message = DAMAGES[name]
    monkeypatch.chdir(tmp_path)
    damage(copy)
    findings: list[Finding] = LAYOUT.examine(copy, published[1])
    found = [finding for finding in findings if finding.path == path]
    assert found, findings
    assert found[0].kind is kind
    assert message in found[0].message
    if path in published[1]:
        assert found[0].scene_id == "room"
        assert {finding.path for finding in findings} == {path}
    assert not (tmp_path / "ran").exists()


def test_float_depth_is_accepted(copy: Path, published: tuple[Path, dict[str, str]]) -> None:
    _depth_frame(np.full((HEIGHT, WIDTH), 2.0, np.float32))(copy)
    assert LAYOUT.examine(copy, published[1]) == []


def test_an_unsafe_pickle_is_named_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickleError, match="mkdir"):
        decode_chunks(pickle.dumps({0: _Evil()}), "captions")
    assert not (tmp_path / "ran").exists()
