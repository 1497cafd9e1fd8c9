"""Shards: what goes in comes out, the declared depth error holds, damage is named, any Zarr reader can open them."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sceneloom.datasets.depth_codec import BOUNDED_RELATIVE_ERROR, PREDICTIONS
from sceneloom.datasets.errors import ContractError, CorruptFileError, InputError, StoreError
from sceneloom.datasets.picture_runs import MINIMUM_PSNR, decode_frames, encode_clip
from sceneloom.datasets.shards import ClipArrays, ShardReader, sha256_of_array, write_shard
from sceneloom.datasets.tensors import FLOAT16_RELATIVE_ERROR
from sceneloom.datasets.zarr_chunks import ChunkedArray, RangedFiles

FRAMES, HEIGHT, WIDTH = 19, 32, 48
LATENT_SPACE = {"id": "test-vae", "channels": 4, "temporal_stride": 4}
NAMES = [("lamp-1", "left"), ("lamp-1", "right"), ("desk-2", "left")]


def noisy_wall(rng: np.random.Generator) -> NDArray[np.float32]:
    """A plane with an estimator's fine noise: what the smooth prediction is for."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wall = (4 + 0.002 * rows + 0.001 * columns) * (1 + 5e-4 * rng.normal(size=(FRAMES, HEIGHT, WIDTH)))
    return wall.astype(np.float32)


def make_clip(seed: int, scene_id: str, trajectory: str) -> ClipArrays:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    depth = noisy_wall(rng) if seed == 2 else rng.uniform(0.3, 60, (FRAMES, HEIGHT, WIDTH)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.1] = 0
    c2w = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    c2w[:, :3, 3] = rng.normal(size=(FRAMES, 3))
    return ClipArrays(
        scene_id=scene_id,
        trajectory=trajectory,
        latents=rng.normal(size=(4, 2, 4, 6)).astype(np.float16),
        depth=depth,
        rgb=encode_clip(frames),
        c2w=c2w,
        intrinsics=np.tile(np.array([40, 41, 24, 16], np.float32), (FRAMES, 1)),
        metric=seed % 2 == 0,
        quality={"psnr": 30.0 + seed, "sharpness": float("nan")},
        estimated_c2w=c2w.copy(),
        estimated_intrinsics=np.full((FRAMES, 4), 39, np.float32),
        dynamic_mask=rng.random((FRAMES, HEIGHT, WIDTH)) < 0.3,
        metadata={"prompt": f"scene {seed}"},
    )


@pytest.fixture(scope="module")
def clips() -> list[ClipArrays]:
    return [make_clip(seed, *name) for seed, name in enumerate(NAMES)]


def frames_of(clip: ClipArrays) -> NDArray[np.uint8]:
    """All frames, decoded run by run."""
    return np.concatenate([decode_frames(run.stream, run.packets, range(len(run.packets))) for run in clip.rgb])


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory, clips: list[ClipArrays]) -> Path:
    path = tmp_path_factory.mktemp("shards") / "shard-0"
    write_shard(path, iter(clips), latent_space=LATENT_SPACE, depth_range=(0.1, 100))
    return path


@pytest.fixture
def damaged(shard: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(shard, tmp_path / "shard-0"))


def test_every_field_comes_back(shard: Path, clips: list[ClipArrays]) -> None:
    reader = ShardReader(shard)
    assert [(clip.scene_id, clip.trajectory) for clip in reader.clips] == NAMES
    assert reader.latent_space == LATENT_SPACE
    for entry, clip in zip(reader.clips, clips, strict=True):
        name = (clip.scene_id, clip.trajectory)
        np.testing.assert_array_equal(reader.latents(*name), clip.latents)
        np.testing.assert_allclose(reader.depth(*name), clip.depth, rtol=BOUNDED_RELATIVE_ERROR)
        assert reader.rgb_runs(*name) == [run.stream for run in clip.rgb]
        np.testing.assert_array_equal(reader.rgb(*name), frames_of(clip))
        channels_first = reader.rgb(*name, [18, 0, 18], channels_first=True)
        np.testing.assert_array_equal(channels_first.transpose(0, 2, 3, 1), frames_of(clip)[[18, 0, 18]])
        for estimated, expected in (
            (False, (clip.c2w, clip.intrinsics)),
            (True, (clip.estimated_c2w, clip.estimated_intrinsics)),
        ):
            for found, wanted in zip(reader.cameras(*name, estimated=estimated), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)
        mask = clip.dynamic_mask
        assert mask is not None
        stored = reader.dynamic_mask(*name)
        assert stored is not None
        assert stored.dtype == bool
        np.testing.assert_array_equal(stored, mask)
        np.testing.assert_array_equal(reader.dynamic_mask(*name, [18, 0, 18]), mask[[18, 0, 18]])
        assert (entry.metric, entry.frames, entry.metadata) == (clip.metric, FRAMES, clip.metadata)
        assert entry.quality["psnr"] == clip.quality["psnr"]
        assert np.isnan(entry.quality["sharpness"])


@settings(deadline=None, max_examples=15)
@given(frames=st.lists(st.integers(0, FRAMES - 1), max_size=7))
def test_any_selection_of_depth_frames(shard: Path, frames: list[int]) -> None:
    reader = ShardReader(shard)
    np.testing.assert_array_equal(reader.depth(*NAMES[1], frames), reader.depth(*NAMES[1])[frames])


@settings(deadline=None, max_examples=10)
@given(frames=st.lists(st.integers(0, FRAMES - 1), max_size=5))
def test_any_selection_of_rgb_frames(shard: Path, clips: list[ClipArrays], frames: list[int]) -> None:
    found = ShardReader(shard).rgb(*NAMES[1], frames)
    np.testing.assert_array_equal(found, frames_of(clips[1])[frames])
    np.testing.assert_array_equal(ShardReader(shard).rgb(*NAMES[1], frames, threads=3), found)


def test_the_exact_tier_keeps_float16_depth(clips: list[ClipArrays], tmp_path: Path) -> None:
    given = [replace(clip, depth=clip.depth.astype(np.float16)) for clip in clips]
    given[0].depth[1] = 0  # a frame without any valid depth
    write_shard(tmp_path / "exact", given, latent_space=LATENT_SPACE, depth_tier="exact")
    reader = ShardReader(tmp_path / "exact")
    for clip in given:
        np.testing.assert_array_equal(reader.depth(clip.scene_id, clip.trajectory), clip.depth)
    declared = reader.attributes["depth"]
    assert (declared["tier"], declared["relative_error_found"]) == ("exact", 0)


def test_the_error_of_every_frame_is_stored(shard: Path, clips: list[ClipArrays]) -> None:
    group = zarr.open_group(shard, mode="r")
    reader = ShardReader(shard)
    errors: Any = group["depth_relative_error"]
    for index, clip in enumerate(clips):
        stored = reader.depth(clip.scene_id, clip.trajectory).astype(np.float32)
        valid = clip.depth > 0
        error = np.abs(stored - clip.depth) / np.where(valid, clip.depth, 1)
        np.testing.assert_allclose(errors[index], error.max(axis=(1, 2)), rtol=1e-3)


@pytest.mark.parametrize("clip", [1, 2])
def test_depth_by_hand_with_plain_zarr(shard: Path, clip: int) -> None:
    stored: Any = zarr.open_group(shard, mode="r")["depth_prediction"]
    assert sorted(set(stored[:])) == [0, 1], "both predictions are used"
    assert stored[2] == PREDICTIONS.index("smooth")
    path, frame, run = str(shard), 3, 1
    names: dict[str, Any] = {"zarr": zarr, "np": np, "path": path, "clip": clip, "frame": frame, "run": run}
    page = (Path(__file__).parent.parent / "docs" / "shards.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(snippet, names)
    np.testing.assert_array_equal(names["depth"], ShardReader(shard).depth(*NAMES[clip], [frame])[0])
    assert names["stream"] == ShardReader(shard).rgb_runs(*NAMES[clip])[run]


def test_every_array_opens_in_zarr_and_tensorstore(shard: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    group = zarr.open(str(shard), mode="r")
    assert isinstance(group, zarr.Group)
    for name in ShardReader(shard).attributes["arrays"]:
        array: Any = group[name]
        store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{shard / name}/"}}
        found = tensorstore.open(store, open=True, read=True).result().read().result()
        np.testing.assert_array_equal(found, array[:], err_msg=name)


def test_an_own_read_equals_zarrs(shard: Path) -> None:
    files = RangedFiles(str(shard), {})
    group = zarr.open_group(shard, mode="r")
    for name, place in (("latents", (2, 0, 0, 0, 0)), ("depth_residuals", (1, 4, 0, 0)), ("rgb_runs", (1, 1, 0))):
        array: Any = group[name]
        (chunk,) = ChunkedArray(files, name, "always").chunks([place])
        part = tuple(slice(p * n, (p + 1) * n) for p, n in zip(place, array.chunks, strict=True))
        np.testing.assert_array_equal(chunk, array[part])


def test_each_read_is_verified_when_asked_for(damaged: Path) -> None:
    reader = ShardReader(damaged, verify="first")
    reader.latents(*NAMES[0])
    file = only_file(damaged / "latents" / "c")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptFileError, match="CRC-32C"):
        reader.latents(*NAMES[0])
    always = pickle.loads(pickle.dumps(ShardReader(damaged, verify="always")))
    assert always.latents(*NAMES[1]).tobytes() == reader.latents(*NAMES[1]).tobytes()


def test_depth_keeps_the_declared_error_bound(shard: Path, clips: list[ClipArrays]) -> None:
    reader = ShardReader(shard)
    declared = reader.attributes["depth"]
    assert (declared["relative_error_bound"], declared["range"]) == (BOUNDED_RELATIVE_ERROR, [0.1, 100])
    assert (declared["tier"], declared["bits"], declared["invalid_codes"]) == ("bounded", 14, [0, 1, 2, 3])
    assert 0.0998 < declared["near"] < 0.1
    assert 100 < declared["far"] < 100.3
    worst = 0.0
    for clip in clips:
        stored = reader.depth(clip.scene_id, clip.trajectory).astype(float)
        valid = clip.depth > 0
        np.testing.assert_array_equal(stored > 0, valid)
        worst = max(worst, float(np.abs(stored[valid] / clip.depth[valid] - 1).max()))
    assert FLOAT16_RELATIVE_ERROR < worst <= BOUNDED_RELATIVE_ERROR
    assert declared["relative_error_found"] == pytest.approx(worst, rel=1e-3)


def test_the_psnr_of_every_run_is_stored(shard: Path, clips: list[ClipArrays]) -> None:
    group = zarr.open_group(shard, mode="r")
    stored: Any = group["rgb_run_psnr"]
    np.testing.assert_allclose(stored[:], [[run.psnr for run in clip.rgb] for clip in clips], rtol=1e-6)
    found: Any = group.attrs["rgb"]
    assert found["psnr_found"] == pytest.approx(stored[:].min(), rel=1e-6)
    assert found["psnr_found"] >= MINIMUM_PSNR == found["minimum_psnr"]


def test_runs_that_keep_less_than_is_declared_are_refused(clips: list[ClipArrays], tmp_path: Path) -> None:
    lowest = min(run.psnr for run in clips[0].rgb)
    summary = write_shard(tmp_path / "kept", clips[:1], latent_space=LATENT_SPACE, minimum_psnr=lowest)
    assert summary.rgb_psnr == lowest
    with pytest.raises(ContractError, match="a run of frames keeps"):
        write_shard(tmp_path / "finer", clips[:1], latent_space=LATENT_SPACE, minimum_psnr=lowest + 0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_plain_zarr_reads_it_with_names_and_conventions(shard: Path) -> None:
    group = zarr.open(str(shard), mode="r")
    assert isinstance(group, zarr.Group)
    depth: Any = group["depth_residuals"]
    assert (depth.chunks, depth.shards) == ((1, 1, HEIGHT, WIDTH), (1, FRAMES, HEIGHT, WIDTH))
    assert depth.metadata.dimension_names == ("clip", "frame", "row", "column")
    latents: Any = group["latents"]
    assert (latents.chunks, latents.shards) == ((1, 4, 2, 4, 6), (3, 4, 2, 4, 6))
    conventions: Any = group.attrs["conventions"]
    assert "OpenCV" in conventions["c2w"]


def test_same_clips_give_the_same_files(shard: Path, clips: list[ClipArrays], tmp_path: Path) -> None:
    write_shard(tmp_path / "again", clips, latent_space=LATENT_SPACE, depth_range=(0.1, 100))
    files = sorted(path.relative_to(shard) for path in shard.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for name in files:
        assert (shard / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_readers_pickle_and_read_remote_stores(shard: Path, clips: list[ClipArrays]) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(shard), "/shards/shard-0", recursive=True)
    reader = pickle.loads(pickle.dumps(ShardReader("memory://shards/shard-0")))
    np.testing.assert_array_equal(reader.latents("desk-2", "left"), clips[2].latents)
    np.testing.assert_allclose(reader.depth("desk-2", "left", [4]), clips[2].depth[[4]], rtol=BOUNDED_RELATIVE_ERROR)


def test_clips_without_estimated_cameras_or_masks(clips: list[ClipArrays], tmp_path: Path) -> None:
    bare = [replace(clip, estimated_c2w=None, estimated_intrinsics=None, dynamic_mask=None) for clip in clips]
    write_shard(tmp_path / "bare", bare, latent_space=LATENT_SPACE)
    reader = ShardReader(tmp_path / "bare")
    assert reader.cameras("desk-2", "left")[0].shape == (FRAMES, 4, 4)
    with pytest.raises(InputError, match="no estimated cameras"):
        reader.cameras("desk-2", "left", estimated=True)
    assert reader.dynamic_mask("desk-2", "left") is None


def only_file(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x40
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip_a_byte,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("latents", lambda reader, clip: reader.latents(*clip)),
        ("depth_residuals", lambda reader, clip: reader.depth(*clip)),
        ("depth_values", lambda reader, clip: reader.depth(*clip)),
        ("depth_sha256", lambda reader, clip: reader.depth(*clip)),
        ("depth_prediction", lambda reader, clip: reader.depth(*clip)),
        ("rgb_runs", lambda reader, clip: reader.rgb(*clip)),
        ("rgb_runs", lambda reader, clip: reader.rgb(*clip, range(FRAMES))),
        ("rgb_run_bytes", lambda reader, clip: reader.rgb(*clip)),
        ("rgb_run_sha256", lambda reader, clip: reader.rgb(*clip, [3])),
        ("rgb_run_frames", lambda reader, clip: reader.rgb(*clip, [3])),
        ("rgb_packets", lambda reader, clip: reader.rgb(*clip, [3])),
        ("c2w", lambda reader, clip: reader.cameras(*clip)),
        ("intrinsics", lambda reader, clip: reader.cameras(*clip)),
        ("estimated_c2w", lambda reader, clip: reader.cameras(*clip, estimated=True)),
        ("estimated_intrinsics", lambda reader, clip: reader.cameras(*clip, estimated=True)),
        ("dynamic_masks", lambda reader, clip: reader.dynamic_mask(*clip)),
    ],
)
def test_damage_names_shard_clip_and_field(
    damaged: Path, name: str, read: Callable[[ShardReader, tuple[str, str]], object], damage: str
) -> None:
    reader = ShardReader(damaged)
    DAMAGES[damage](only_file(damaged / name / "c"))
    failures = []
    for clip in NAMES:
        try:
            read(reader, clip)
        except CorruptFileError as error:
            failures.append((error.where, clip))
    assert failures
    for where, (scene_id, trajectory) in failures:
        assert where == f"{damaged}, {name} of {scene_id}/{trajectory}"


def test_damage_in_one_depth_frame_leaves_the_others_readable(damaged: Path, clips: list[ClipArrays]) -> None:
    flip_a_byte(damaged / "depth_residuals" / "c" / "0" / "0" / "0" / "0")
    reader = ShardReader(damaged)
    readable = 0
    for frame in range(FRAMES):
        try:
            found = reader.depth(*NAMES[0], [frame])[0]
            np.testing.assert_allclose(found, clips[0].depth[frame], rtol=BOUNDED_RELATIVE_ERROR)
            readable += 1
        except CorruptFileError:
            continue
    assert readable == FRAMES - 1


def test_changed_values_with_a_valid_chunk_checksum_are_found(damaged: Path) -> None:
    group = zarr.open_group(damaged, mode="r+")
    latents: Any = group["latents"]
    latents[1, 0, 0, 0, 0] = 1.5
    reader = ShardReader(damaged)
    with pytest.raises(CorruptFileError, match=r"latents of lamp-1/right: the SHA-256 is"):
        reader.latents("lamp-1", "right")
    assert reader.latents("lamp-1", "left").shape == (4, 2, 4, 6)


def test_metadata_of_another_format_or_none_is_refused(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shard"):
        ShardReader(tmp_path / "absent")
    root = damaged / "zarr.json"
    metadata = json.loads(root.read_text())
    metadata["attributes"]["format_version"] = 99
    root.write_text(json.dumps(metadata))
    with pytest.raises(CorruptFileError, match="version 99, expected"):
        ShardReader(damaged)
    root.write_text(root.read_text()[:50])
    with pytest.raises(CorruptFileError, match="metadata"):
        ShardReader(damaged)


def test_unknown_clips_and_frames_are_refused(shard: Path) -> None:
    with pytest.raises(InputError, match="no clip of scene lamp-1 along up"):
        ShardReader(shard).latents("lamp-1", "up")
    with pytest.raises(InputError, match="frame 19 is not in a clip of 19 frames"):
        ShardReader(shard).depth("lamp-1", "left", [FRAMES])


def bad_depth(value: float) -> Callable[[ClipArrays], ClipArrays]:
    def change(clip: ClipArrays) -> ClipArrays:
        depth = clip.depth.copy()
        depth[2, 3, 4] = value
        return replace(clip, depth=depth)

    return change


def with_middle_row(depth: NDArray[np.floating], value: float) -> NDArray[np.floating]:
    changed = depth.copy()
    changed[FRAMES // 2, 0] = value
    return changed


def scaled_pose(clip: ClipArrays) -> ClipArrays:
    return replace(clip, c2w=clip.c2w * np.float32(1.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bad_depth(float("nan")), "frame 2: depth holds NaN"),
        (bad_depth(-1.0), "negative"),
        (lambda clip: replace(clip, depth=with_middle_row(clip.depth, np.inf)), "frame 9: depth holds NaN"),
        (bad_depth(101.0), "valid depth runs from .* to 101"),
        (bad_depth(0.05), "valid depth runs from 0.05"),
        (lambda clip: replace(clip, depth=clip.depth[:, :-1]), "H = 31"),
        (lambda clip: replace(clip, depth=clip.depth.astype(np.float64)), "float64"),
        (lambda clip: replace(clip, latents=clip.latents[:, :1]), r"latents: expected shape \(4, 2, 4, 6\)"),
        (lambda clip: replace(clip, latents=clip.latents * np.float16(np.inf)), "latents: expected finite"),
        (scaled_pose, "c2w: expected a rigid transform"),
        (lambda clip: replace(clip, intrinsics=clip.intrinsics[:-1]), "intrinsics: expected shape"),
        (lambda clip: replace(clip, estimated_intrinsics=None), "do not come together"),
        (lambda clip: replace(clip, estimated_c2w=None, estimated_intrinsics=None), "those before it"),
        (lambda clip: replace(clip, dynamic_mask=None), "those before it"),
        (lambda clip: replace(clip, dynamic_mask=clip.depth[:, 1:] > 0), "dynamic_mask: expected shape"),
        (lambda clip: replace(clip, quality={"psnr": 1.0}), "quality numbers"),
        (lambda clip: replace(clip, scene_id="lamp-1", trajectory="left"), "given twice"),
        (lambda clip: replace(clip, rgb=clip.rgb[:1]), r"the runs hold 16 frames of \[\(32, 48\)\], expected 19"),
        (lambda clip: replace(clip, rgb=[replace(run, stream=run.stream[:-9]) for run in clip.rgb]), "packets"),
    ],
)
def test_a_clip_that_breaks_the_contract_is_named_and_leaves_nothing(
    clips: list[ClipArrays], tmp_path: Path, change: Callable[[ClipArrays], ClipArrays], message: str
) -> None:
    with pytest.raises((ContractError, InputError), match=message) as caught:
        write_shard(tmp_path / "bad", [clips[0], change(clips[1])], latent_space=LATENT_SPACE, depth_range=(0.1, 100))
    assert "lamp-1/" in caught.value.where
    assert list(tmp_path.iterdir()) == []


def test_a_source_of_clips_that_fails_leaves_nothing(clips: list[ClipArrays], tmp_path: Path) -> None:
    def failing() -> Iterator[ClipArrays]:
        yield clips[0]
        raise KeyError("the store went away")

    with pytest.raises(KeyError):
        write_shard(tmp_path / "half", failing(), latent_space=LATENT_SPACE)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_fails_under_the_clips_is_not_taken_for_the_shards_disk(
    clips: list[ClipArrays], tmp_path: Path
) -> None:
    def failing() -> Iterator[ClipArrays]:
        yield clips[0]
        raise StoreError("cannot be read", where="s3://scenes/lamp-1", remedy="Check the store.")

    with pytest.raises(StoreError) as caught:
        write_shard(tmp_path / "half", failing(), latent_space=LATENT_SPACE)
    assert caught.value.where == "s3://scenes/lamp-1"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_and_an_empty_shard_is_refused(clips: list[ClipArrays], tmp_path: Path) -> None:
    write_shard(tmp_path / "one", clips[:1], latent_space=LATENT_SPACE)
    with pytest.raises(InputError, match="exists"):
        write_shard(tmp_path / "one", clips, latent_space=LATENT_SPACE)
    assert len(ShardReader(tmp_path / "one").clips) == 1
    with pytest.raises(InputError, match="no clip"):
        write_shard(tmp_path / "none", [], latent_space=LATENT_SPACE)
    with pytest.raises(InputError, match="depth range"):
        write_shard(tmp_path / "far", clips, latent_space=LATENT_SPACE, depth_range=(1, 1e6))


def test_the_digest_does_not_depend_on_memory_layout() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert (
        sha256_of_array(values) == sha256_of_array(np.asfortranarray(values)) == sha256_of_array(values.astype(">f4"))
    )
    assert sha256_of_array(values) == hashlib.sha256(values.tobytes()).hexdigest()
