"""Writes training shards: clips are checked, coded and laid out as `shards` describes."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .depth_codec import BOUNDED_RELATIVE_ERROR, PREDICTIONS, DepthCode, DepthTier, Prediction
from .errors import ContractError, CorruptFileError, InputError, StoreError
from .picture_runs import MINIMUM_PSNR, PictureRun, decode_frames
from .tensors import (
    C2W,
    DYNAMIC_MASK,
    ESTIMATED_C2W,
    ESTIMATED_INTRINSICS,
    EXACT_DEPTH,
    FLOAT16_LARGEST,
    FLOAT16_RELATIVE_ERROR,
    FLOAT16_SMALLEST,
    INTRINSICS,
    LATENTS,
    RGB,
)

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

_DEPTH_LEVEL = 8
"""Blosc's level of zstd for depth: 10 to 30 % smaller than 5; 9 takes 15 % less and up to fifteen times as long."""

FORMAT = "sceneloom.clip-shard"
FORMAT_VERSION = 3
CAMERA_FIELDS = ("c2w", "intrinsics", "estimated_c2w", "estimated_intrinsics")

_DIMENSIONS = {
    "latents": ("clip", "channel", "latent_frame", "latent_row", "latent_column"),
    "depth_residuals": ("clip", "frame", "row", "column"),
    "depth_values": ("code",),
    "depth_relative_error": ("clip", "frame"),
    "depth_sha256": ("clip", "frame", "byte"),
    "depth_prediction": ("clip",),
    "rgb_runs": ("clip", "run", "byte"),
    "rgb_run_bytes": ("clip", "run"),
    "rgb_run_frames": ("clip", "run"),
    "rgb_run_sha256": ("clip", "run", "byte"),
    "rgb_run_psnr": ("clip", "run"),
    "rgb_packets": ("clip", "packet", "value"),
    "quality": ("clip", "number"),
    "c2w": ("clip", "frame", "camera_row", "camera_column"),
    "intrinsics": ("clip", "frame", "parameter"),
    "estimated_c2w": ("clip", "frame", "camera_row", "camera_column"),
    "estimated_intrinsics": ("clip", "frame", "parameter"),
    "dynamic_masks": ("clip", "frame", "byte"),
}


@dataclass(frozen=True, slots=True)
class ClipArrays:
    """One clip to be written.

    Attributes:
        scene_id, trajectory: its name; unique in the shard.
        latents: (C, t, h, w) float16, normalised as the shard's latent space declares.
        depth: (T, H, W) float32 or float16 z-depth, 0 = invalid; a memory map will do.
        rgb: T frames of H × W, coded by `picture_runs`.
        c2w, intrinsics: (T, 4, 4) and (T, 4) float32, the commanded cameras.
        metric: whether depth and translations are truly in metres.
        quality: numbers by name, the same names for every clip of the shard.
        estimated_c2w, estimated_intrinsics: cameras estimated from the pictures, where there are any; either every clip
            of a shard has them or none.
        dynamic_mask: (T, H, W) bool, where something moves, where that is known; either every clip of a shard has one
            or none.
        metadata: JSON-compatible facts about the clip (prompt, licence, engine, alignment of the estimated cameras, …).
    """

    scene_id: str
    trajectory: str
    latents: Float16
    depth: NDArray[np.floating]
    rgb: Sequence[PictureRun]
    c2w: Float32
    intrinsics: Float32
    metric: bool
    quality: Mapping[str, float]
    estimated_c2w: Float32 | None = None
    estimated_intrinsics: Float32 | None = None
    dynamic_mask: NDArray[np.bool_] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What was written: the number of clips, the largest relative error of their depth as it was stored, and the lowest
    PSNR of a run of their frames, dB."""

    clips: int
    depth_relative_error: float
    rgb_psnr: float


def write_shard(
    directory: Path,
    clips: Iterable[ClipArrays],
    *,
    latent_space: Mapping[str, Any],
    depth_range: tuple[float, float] = (FLOAT16_SMALLEST, FLOAT16_LARGEST),
    depth_tier: DepthTier = "bounded",
    minimum_psnr: float = MINIMUM_PSNR,
) -> ShardSummary:
    """Write a shard; the directory appears whole, or not at all.

    Clips are taken one at a time. Memory holds one clip's depth, and the latents and videos of all clips. The same
    clips give the same bytes.

    Args:
        directory: local directory to make; it must not exist.
        clips: at least one, all of one size, length and latent shape.
        latent_space: JSON-compatible declaration of the latents' VAE and normalisation.
        depth_range: smallest and largest valid depth that the clips may hold, in their unit; declared in the shard.
        depth_tier: "bounded" keeps every depth within 0.1 % of what was given; "exact" keeps float16 depth as it is and
            rounds float32 depth to float16. In both the error is measured frame by frame, and stored.
        minimum_psnr: of every run of frames, dB; what `encode_clip` was asked for. Declared in the shard.

    Raises:
        InputError: no clip, the directory exists, the declared range is not one that float16 keeps to 2⁻¹¹, or a video
            is unreadable or of another length or size than the clip.
        ContractError: an array breaks its contract, depth leaves the declared range, a run of frames does not keep the
            PSNR, or clips do not fit together.
        StoreError: the directory cannot be written.
    """
    low, high = depth_range
    if not FLOAT16_SMALLEST <= low < high <= FLOAT16_LARGEST:
        raise InputError(
            f"the depth range {low:g} to {high:g} is not inside {FLOAT16_SMALLEST:g} to {FLOAT16_LARGEST:g}",
            where=str(directory),
            remedy="Give a range that float16 holds with a relative error of 2⁻¹¹.",
        )
    if directory.exists():
        raise InputError("the directory exists", where=str(directory), remedy="Give a new one, or remove it first.")
    unfinished = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.part")
    try:
        unfinished.mkdir(parents=True)
        writer = _ShardWriter(unfinished, str(directory), latent_space, (low, high), depth_tier, minimum_psnr)
        for clip in clips:
            writer.add(clip)
        summary = writer.finish()
        unfinished.rename(directory)
    except StoreError:
        # From where the clips are read: it says already what failed.
        raise
    except OSError as error:
        raise StoreError(
            f"the shard cannot be written ({error})", where=str(directory), remedy="Check the disk."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return summary


def sha256_of_array(values: NDArray[Any]) -> str:
    """SHA-256 of an array's values, little-endian in C order; 64 hex digits."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()


class _ShardWriter:
    """Collects clips; depth goes to disk at once, everything small at the end."""

    def __init__(
        self,
        directory: Path,
        where: str,
        latent_space: Mapping[str, Any],
        depth_range: tuple[float, float],
        depth_tier: DepthTier,
        minimum_psnr: float,
    ) -> None:
        import zarr

        self._group = zarr.create_group(directory, zarr_format=3)
        self._where = where
        self._latent_space = dict(latent_space)
        self._depth_range = depth_range
        self._depth_tier = depth_tier
        self._minimum_psnr = minimum_psnr
        bounded = depth_tier == "bounded"
        self._depth_bound = BOUNDED_RELATIVE_ERROR if bounded else FLOAT16_RELATIVE_ERROR
        self._depth_code = DepthCode.bounded(*depth_range) if bounded else DepthCode.exact(*depth_range)
        self._dims: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._given: set[str] = set()
        self._pictures: list[Sequence[PictureRun]] = []
        self._quality_names: list[str] = []
        self._depth: Any = None
        self._masks: Any = None

    def add(self, clip: ClipArrays) -> None:
        where = f"{self._where}, {clip.scene_id}/{clip.trajectory}"
        arrays = self._checked_arrays(clip, where)
        self._check_pictures(clip, where)
        self._check_fits(clip, arrays, where)
        self._given = set(arrays)
        checksums = {name: sha256_of_array(arrays[name]) for name in ("latents", *CAMERA_FIELDS) if name in arrays}
        mask = arrays.pop(DYNAMIC_MASK.name, None)
        if mask is not None:
            checksums["dynamic_masks"] = self._append_mask(mask)
        arrays |= self._append_depth(clip.depth, where)
        arrays["quality"] = np.array([clip.quality[name] for name in self._quality_names], np.float32)
        for name, values in arrays.items():
            self._columns.setdefault(name, []).append(values)
        self._pictures.append(clip.rgb)
        self._rows.append(
            {
                "scene_id": clip.scene_id,
                "trajectory": clip.trajectory,
                "metric": clip.metric,
                "frames": self._dims["T"],
                "sha256": {**checksums, "rgb_packets": sha256_of_array(_packets_of(clip.rgb))},
                "metadata": dict(clip.metadata),
            }
        )

    def finish(self) -> ShardSummary:
        if not self._rows:
            raise InputError("there is no clip to write", where=self._where, remedy="Give at least one clip.")
        latents = np.stack(self._columns.pop("latents"))
        # Normalised latents are all but Gaussian noise: compression gives a few per cent for a tenth of the speed.
        self._create("latents", latents, chunk=(1, *latents.shape[1:]))
        self._create("depth_values", self._depth_code.values)
        self._create_pictures()
        for name, column in self._columns.items():
            self._create(name, np.stack(column))
        found = float(np.max(self._columns["depth_relative_error"]))
        psnr = min(run.psnr for runs in self._pictures for run in runs)
        self._group.attrs.update(self._attributes(found, psnr))
        return ShardSummary(clips=len(self._rows), depth_relative_error=found, rgb_psnr=psnr)

    def _checked_arrays(self, clip: ClipArrays, where: str) -> dict[str, NDArray[Any]]:
        if (clip.estimated_c2w is None) != (clip.estimated_intrinsics is None):
            raise ContractError(
                "estimated poses and intrinsics do not come together", where=where, remedy="Give both, or neither."
            )
        contracts = (LATENTS, C2W, INTRINSICS, ESTIMATED_C2W, ESTIMATED_INTRINSICS, DYNAMIC_MASK)
        arrays = {each.name: getattr(clip, each.name) for each in contracts}
        arrays = {name: values for name, values in arrays.items() if values is not None}
        for each in contracts:
            if each.name in arrays:
                each.require(arrays[each.name], self._dims, where=where)
        if clip.depth.ndim != 3 or clip.depth.dtype not in (np.float32, np.float16):
            raise ContractError(
                f"depth is {clip.depth.dtype}{clip.depth.shape}",
                where=where,
                remedy="Depth is float32 or float16 (T, H, W).",
            )
        for size, found in zip("THW", clip.depth.shape, strict=True):
            if self._dims.setdefault(size, found) != found:
                raise ContractError(
                    f"depth has {size} = {found}, expected {self._dims[size]}",
                    where=where,
                    remedy="All arrays of a clip, and all clips of a shard, have one length and size.",
                )
        return arrays

    def _check_pictures(self, clip: ClipArrays, where: str) -> None:
        """Hold the runs to the clip's length and size; one frame of each is decoded."""
        frames = sum(len(run.packets) for run in clip.rgb)
        try:
            sizes = {decode_frames(run.stream, run.packets, [0]).shape[1:3] for run in clip.rgb}
        except CorruptFileError as error:
            raise InputError(error.found, where=f"{where}, rgb", remedy="Give the runs of `encode_clip`.") from error
        expected = tuple(self._dims[size] for size in "THW")
        if frames != expected[0] or sizes != {expected[1:]}:
            raise InputError(
                f"the runs hold {frames} frames of {sorted(sizes)}, expected {expected[0]} of {expected[1:]}",
                where=f"{where}, rgb",
                remedy="Give the frames that depth and cameras belong to.",
            )
        lowest = min(run.psnr for run in clip.rgb)
        if lowest < self._minimum_psnr:
            raise ContractError(
                f"a run of frames keeps {lowest:.2f} dB, expected {self._minimum_psnr:g} dB at least",
                where=f"{where}, rgb",
                remedy="Code the frames with that PSNR, or declare a lower one.",
            )

    def _check_fits(self, clip: ClipArrays, arrays: Mapping[str, NDArray[Any]], where: str) -> None:
        names = sorted(clip.quality)
        if not self._rows:
            self._quality_names = names
            return
        if any((row["scene_id"], row["trajectory"]) == (clip.scene_id, clip.trajectory) for row in self._rows):
            raise ContractError("the clip was given twice", where=where, remedy="Give each clip once.")
        if names != self._quality_names or arrays.keys() != self._given:
            raise ContractError(
                f"the clip holds {sorted(arrays)} and the quality numbers {names}, "
                f"those before it {sorted(self._given)} and {self._quality_names}",
                where=where,
                remedy="All clips of a shard hold the same arrays and numbers.",
            )

    def _append_depth(self, depth: NDArray[np.floating], where: str) -> dict[str, NDArray[Any]]:
        """Store a clip's depth; gives its prediction, and the error and the digest of each frame."""
        from zarr.codecs import BloscCodec

        stored = np.empty(depth.shape, np.uint16)
        errors, digests = np.zeros(len(depth), np.float32), np.zeros((len(depth), 32), np.uint8)
        middle = len(depth) // 2
        shown = np.asarray(depth[middle])
        _check_depth(shown, self._depth_range, f"{where}, frame {middle}")
        prediction = self._better_prediction(shown)
        for index in range(len(depth)):
            frame = np.asarray(depth[index])
            _check_depth(frame, self._depth_range, f"{where}, frame {index}")
            stored[index] = self._depth_code.encode(frame, prediction)
            decoded = self._depth_code.decode(stored[index], prediction)
            errors[index] = _depth_error(frame, decoded, self._depth_bound, f"{where}, frame {index}")
            digests[index] = np.frombuffer(bytes.fromhex(sha256_of_array(decoded)), np.uint8)
        if self._depth is None:
            shape, chunk = (1, *depth.shape), (1, 1, *depth.shape[1:])
            compressor = BloscCodec(cname="zstd", clevel=_DEPTH_LEVEL, shuffle="shuffle", typesize=2)
            self._depth = _create_array(self._group, "depth_residuals", shape, stored.dtype, chunk, shape, compressor)
        else:
            self._depth.resize((len(self._rows) + 1, *depth.shape))
        self._depth[len(self._rows)] = stored
        return {
            "depth_relative_error": errors,
            "depth_sha256": digests,
            "depth_prediction": np.array(PREDICTIONS.index(prediction), np.uint8),
        }

    def _append_mask(self, mask: NDArray[np.bool_]) -> str:
        """Store where something moves in a clip, a bit a pixel; gives the digest of the packed bits."""
        from zarr.codecs import ZstdCodec

        packed = np.packbits(mask.reshape(len(mask), -1), axis=1)
        if self._masks is None:
            shape = (1, *packed.shape)
            compressor = ZstdCodec(level=3)
            self._masks = _create_array(self._group, "dynamic_masks", shape, packed.dtype, shape, shape, compressor)
        else:
            self._masks.resize((len(self._rows) + 1, *packed.shape))
        self._masks[len(self._rows)] = packed
        return sha256_of_array(packed)

    def _better_prediction(self, frame: NDArray[np.floating]) -> Prediction:
        """The prediction that codes a frame of the clip in fewer bytes."""
        from numcodecs.blosc import Blosc

        compressor = Blosc("zstd", _DEPTH_LEVEL, Blosc.SHUFFLE)
        return min(PREDICTIONS, key=lambda each: len(compressor.encode(self._depth_code.encode(frame, each))))

    def _create_pictures(self) -> None:
        from zarr.codecs import ZstdCodec

        most = max(len(runs) for runs in self._pictures)
        first_frames = np.full((len(self._pictures), most), self._dims["T"], np.int64)
        psnr = np.full((len(self._pictures), most), np.inf, np.float32)
        for row, numbers, runs in zip(first_frames, psnr, self._pictures, strict=True):
            row[: len(runs)] = np.cumsum([0, *(len(run.packets) for run in runs[:-1])])
            numbers[: len(runs)] = [run.psnr for run in runs]
        streams = [[*(run.stream for run in runs), *[b""] * (most - len(runs))] for runs in self._pictures]
        padded = _padded(streams)
        # A stream cannot be compressed again; the padding behind it can.
        self._create("rgb_runs", padded, chunk=(1, 1, padded.shape[2]), compressor=ZstdCodec(level=1))
        self._create("rgb_run_bytes", np.array([[len(stream) for stream in row] for row in streams], np.int64))
        digests = [[list(hashlib.sha256(stream).digest()) for stream in row] for row in streams]
        self._create("rgb_run_sha256", np.array(digests, np.uint8))
        self._create("rgb_run_frames", first_frames)
        self._create("rgb_run_psnr", psnr)
        self._create("rgb_packets", np.stack([_packets_of(runs) for runs in self._pictures]))

    def _create(
        self, name: str, values: NDArray[Any], *, chunk: tuple[int, ...] | None = None, compressor: Any = None
    ) -> None:
        shard = values.shape if chunk else None
        array = _create_array(self._group, name, values.shape, values.dtype, chunk or values.shape, shard, compressor)
        array[:] = values

    def _attributes(self, depth_error: float, psnr: float) -> dict[str, Any]:
        metric = {row["metric"] for row in self._rows}
        contracts = {each.name: each.describe() for each in (RGB, EXACT_DEPTH, C2W, INTRINSICS, LATENTS)}
        values, invalid = self._depth_code.values, self._depth_code.steps
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "conventions": contracts,
            "latent_space": self._latent_space,
            "depth": {
                "unit": "metre" if metric == {True} else "metre where the clip is metric, else the scene's own unit",
                "tier": self._depth_tier,
                "code": "depth_values[code]",
                "predictions": list(PREDICTIONS),
                "codes_in_a_step": self._depth_code.steps,
                "bits": int(len(values) - 1).bit_length(),
                "near": float(values[invalid]),
                "far": float(values[-1]),
                "invalid_value": 0,
                "invalid_codes": list(range(invalid)),
                "range": list(self._depth_range),
                "relative_error_bound": self._depth_bound,
                "relative_error_found": depth_error,
            },
            "rgb": {
                "run": "H.264 Annex B, High 4:4:4 Predictive, BT.709, full range",
                "packet": "rgb_packets[clip, n]: bytes, frame in the run, whether others need it; in order of decoding",
                "minimum_psnr": self._minimum_psnr,
                "psnr_found": psnr if np.isfinite(psnr) else None,
            },
            "arrays": sorted(name for name, _ in self._group.arrays()),
            "quality_names": self._quality_names,
            "clips": self._rows,
        }


def _packets_of(runs: Sequence[PictureRun]) -> NDArray[np.int32]:
    """(T, 3) packets of all runs of a clip."""
    return np.concatenate([run.packets for run in runs])


def _check_depth(depth: NDArray[np.floating], allowed: tuple[float, float], where: str) -> None:
    """ContractError for a frame that holds what is no depth, or leaves the declared range."""
    if not np.isfinite(depth).all() or depth.min() < 0:
        raise ContractError(
            "depth holds NaN, infinite or negative values", where=where, remedy="Set what is no distance to 0."
        )
    lowest, highest = float(np.min(depth, where=depth > 0, initial=np.inf)), float(depth.max())
    if highest > 0 and (lowest < allowed[0] or highest > allowed[1]):
        raise ContractError(
            f"valid depth runs from {lowest:g} to {highest:g}, declared is {allowed[0]:g} to {allowed[1]:g}",
            where=where,
            remedy="Set depths outside the range to 0, or declare a wider range.",
        )


def _depth_error(given: NDArray[np.floating], stored: Float32, bound: float, where: str) -> float:
    """Largest relative error of one frame's valid depth; ContractError when it is above the bound."""
    exact = given.astype(np.float32, copy=False)
    valid = exact > 0
    difference = np.abs(stored - exact)
    error = float(np.divide(difference, exact, out=difference, where=valid).max())
    if error > bound or not np.array_equal(stored > 0, valid):
        raise ContractError(
            f"storing changes depth by {error:.3g} of its value, declared is {bound:.3g}",
            where=where,
            remedy="Scale the depth into float16's range.",
        )
    return error


def _padded(pieces: list[list[bytes]]) -> UInt8:
    """(N, P, B) uint8 from N lists of P pieces, each followed by zeros."""
    longest = max(len(piece) for row in pieces for piece in row)
    result = np.zeros((len(pieces), len(pieces[0]), max(1, longest)), np.uint8)
    for row, given in zip(result, pieces, strict=True):
        for place, piece in zip(row, given, strict=True):
            place[: len(piece)] = np.frombuffer(piece, np.uint8)
    return result


def _create_array(
    group: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk: tuple[int, ...],
    shard: tuple[int, ...] | None,
    compressor: Any,
) -> Any:
    from zarr.codecs import Crc32cCodec

    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunk,
        # With the index at the start, its place is known without asking for the object's size.
        shards={"shape": shard, "index_location": "start"} if shard else None,
        filters=None,
        compressors=[*([compressor] if compressor else []), Crc32cCodec()],
        fill_value=0,
        dimension_names=_DIMENSIONS[name],
        # A chunk of zeros is written like any other, so a chunk that is not there is always damage.
        config={"write_empty_chunks": True},
    )
