"""The 3D cache: RGB-D frames kept on a device and seen from other cameras by forward warping.

The method is GEN3C's (Ren et al., "GEN3C: 3D-informed world-consistent video generation with precise camera control",
CVPR 2025, section 4.1, and its published forward warp): every usable source pixel is lifted by its depth, splatted
bilinearly into the target picture with weights that fall steeply with depth, and erased where a mesh over the source's
depth edges lies before it. `forward_warping_reference` computes the same in plain NumPy, for tests.

What is done otherwise, and why:

- Pixel centres lie at +0.5, the convention of every camera here; GEN3C's lie on integers.
- Within one source the weights are GEN3C's, a soft z-buffer: bilinear weight × exp(-50·log1p(z) / max log1p), z the
  depth in the target camera, max over the source's usable points in front of it. Between sources the z-buffer is hard:
  a source's pixel is only shown where no other source has one nearer by more than SAME_SURFACE. A weight that merely
  falls with depth would let many far sources outvote a near one, and what is a crisp silhouette in one source would be
  blurred by what the others see past it. Sources that agree on the surface are not mixed either, which would blur what
  their depths misplace: the more confident one is shown.
- The mesh's margin is relative (SAME_SURFACE) where GEN3C's is 0.02 in scenes scaled to a depth of about 1, so that
  results do not hang on the unit. Its patches are those of the full picture, where GEN3C takes every fourth pixel: a
  coarse patch reaches pixels beyond the edge and erases them even for the source's own camera, and it lets twice as
  much shine through. GEN3C casts a ray through each pixel's centre against every triangle. The kernel asks the same,
  but goes through triangles, not rays: the triangles are a pixel wide, seen from the side and all near each other, the
  worst case of a ray's hierarchy. At 704 × 1280 with 80,000 triangles that is 4 ms, where rays took 1 s.
- The 5×5 window of the edge filter is cut off at the picture's border, where GEN3C averages in zeros.

As with any splatting, a surface that is seen at more than twice its source's resolution has gaps between its samples.
"""

from __future__ import annotations

import math
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.camera_conventions import check_c2w, check_intrinsics, invert_rigid, matrix_from_intrinsics
from ..datasets.errors import ContractError, CorruptFileError, InputError
from ..datasets.files import write_bytes_atomically
from ..datasets.zip_files import encode_npz
from .warp_runtime import load_kernels, load_warp

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

SAME_SURFACE = 0.02
"""Relative depth difference up to which two sources, or a source and the occluder mesh, show the same surface."""

DEPTH_WEIGHT = 50.0
"""GEN3C's depth_weight_scale: the farthest point's weight is exp(-50) of that of a point at the camera."""

EDGE_WINDOW = 5
"""Side, in pixels, of the window whose depth range tells an edge."""

OCCLUDER_THRESHOLD = 0.05
"""Spread from which a pixel is part of an edge and carries the occluder mesh, whatever the cache's own threshold."""

EDGE_REACH = 8
"""Pixels from the nearest unusable pixel at which a source pixel's confidence is no longer reduced: GEN3C's latent
codec mixes 8 × 8 pixels, so what lies nearer shares a latent with the edge."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame that the cache is made of.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32 z-depth; 0, negative and NaN are invalid, what is beyond the cache's limit counts as it.
        c2w: (4, 4) camera-to-world, OpenCV axes.
        intrinsics: (4,) fx, fy, cx, cy in pixels, pixel centres at +0.5.
        mask: (H, W) bool pixels that may be used, or None for all. The others are as if their depth were invalid,
            except that they still count in the edge filter of the pixels around them.
    """

    rgb: UInt8
    depth: Float32
    c2w: NDArray[np.floating]
    intrinsics: NDArray[np.floating]
    mask: Bool | None = None


@dataclass(frozen=True, slots=True)
class WarpedFrame:
    """The cache seen by one camera.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB, 0 in holes.
        depth: (H, W) float32 z-depth in the target camera, 0 in holes.
        valid: (H, W) bool, False in holes: where nothing landed, or what landed shines through an edge.
        confidence: (H, W) float32 0..1, 0 in holes: min(1, Σw) · Σw·q / Σw over the points that landed. w is a point's
            weight, relative to that of the nearest: Σw is the number of source samples a target pixel, so it falls
            as the surface is stretched or seen closer. q = min(1, d / EDGE_REACH) · max(0, cos α), d the distance in
            pixels (the greater of rows and columns) to the nearest source pixel that cannot be used, α the angle at the
            point between the directions to the two cameras.
    """

    rgb: UInt8
    depth: Float32
    valid: Bool
    confidence: Float32


class SceneCache:
    """RGB-D frames, kept on the device, that are forward-warped to any camera.

    Warping may be asked for by several threads at once: on the CPU a frame is one thread's work, and frames run in
    parallel. Results are the same bytes every time: on the CPU a frame is added up in one order, on a GPU of integers,
    whose sum has no order. The two differ by rounding.

    Sources are numbered in the order in which they are added, and keep their number when older ones are dropped.

    Args:
        device: a Warp device, "cpu" or "cuda:0" for instance.
        edge_threshold: pixels are used where (max - min) / (mean + 1e-6) of the depths in a 5×5 window is below this.
        foreground_masking: erase what shines through the depth edges of its own source.
        maximum_frames: how many sources are kept; beyond it the oldest is dropped. None for all.
        depth_limit: depths beyond it, and infinite ones, count as this; GEN3C's is 100 in scenes about 1 deep.

    Raises:
        EngineError: the device is not there.
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        edge_threshold: float = 0.05,
        foreground_masking: bool = True,
        maximum_frames: int | None = None,
        depth_limit: float = 100.0,
    ) -> None:
        if not (edge_threshold > 0 and math.isfinite(depth_limit) and depth_limit > 0):
            raise InputError(
                f"edge_threshold={edge_threshold}, depth_limit={depth_limit}",
                where="3D cache",
                remedy="Give a positive threshold and a positive, finite depth.",
            )
        if maximum_frames is not None and maximum_frames < 1:
            raise InputError(
                f"maximum_frames={maximum_frames}", where="3D cache", remedy="Give at least 1, or None for no limit."
            )
        self._device = device
        self._edge_threshold = float(edge_threshold)
        self._foreground_masking = foreground_masking
        self._maximum_frames = maximum_frames
        self._depth_limit = float(depth_limit)
        self._warp = load_warp(device)
        self._kernels = _load_kernels(device)
        self._in_order = device == "cpu"
        self._buffers = threading.local()
        self._sources: dict[int, _Source] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._sources)

    @property
    def sources(self) -> tuple[int, ...]:
        """Numbers of the sources that are held, oldest first."""
        return tuple(self._sources)

    def add(self, frame: SourceFrame) -> None:
        """Take a source frame; its arrays are copied.

        Raises:
            ContractError: an array has another shape or dtype than declared, or the camera is not one.
        """
        frame = _checked(frame)
        source = self._upload(frame)
        sources = {**self._sources, self._added: source}
        self._added += 1
        if self._maximum_frames is not None and len(sources) > self._maximum_frames:
            del sources[min(sources)]
        self._sources = sources

    def warp(
        self, c2w: ArrayLike, intrinsics: ArrayLike, height: int, width: int, *, source: int | None = None
    ) -> WarpedFrame:
        """What a camera sees of the cache.

        Args:
            c2w: (4, 4) camera-to-world pose, OpenCV axes.
            intrinsics: (4,) fx, fy, cx, cy in pixels of (height, width), pixel centres at +0.5.
            height: of the result; sources may have other sizes.
            width: of the result.
            source: the only source to look at (a cache of a moving scene: frame i sees source i), or None for all.

        Raises:
            ContractError: the camera is not one.
            InputError: the cache holds no such source, or the size is not positive.
        """
        chosen = self._chosen(source)
        if height < 1 or width < 1:
            raise InputError(f"a picture of {width} × {height}", where="3D cache", remedy="Give a positive size.")
        pose, lens = _checked_camera(c2w, intrinsics, "target camera")
        # Buffers are clean only after a whole frame: they are kept for the next one once this one is done.
        buffers = self._take_buffers(height, width)
        for order, one in enumerate(chosen):
            self._splat(one, pose, lens, buffers, first=order == 0)
        frame = buffers.frame()
        self._buffers.kept = buffers
        return frame

    def save(self, path: str | Path) -> None:
        """Write settings and source frames as an uncompressed NPZ, the same bytes every time; whole, or not at all."""
        arrays: dict[str, NDArray[Any]] = {
            "edge_threshold": np.array([self._edge_threshold]),
            "foreground_masking": np.array([self._foreground_masking]),
            "maximum_frames": np.array([self._maximum_frames or 0], np.int64),
            "depth_limit": np.array([self._depth_limit]),
            "sources": np.array(self.sources, np.int64),
        }
        for number, source in self._sources.items():
            frame = source.frame
            for name in ("rgb", "depth", "c2w", "intrinsics"):
                arrays[f"{name}_{number}"] = getattr(frame, name)
            if frame.mask is not None:
                arrays[f"mask_{number}"] = frame.mask
        write_bytes_atomically(Path(path), encode_npz(arrays))

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> SceneCache:
        """Read what `save` wrote, on to a device of choice.

        Raises:
            CorruptFileError: the file does not hold a cache.
            EngineError: the device is not there.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            cache = cls(
                device=device,
                edge_threshold=float(arrays["edge_threshold"][0]),
                foreground_masking=bool(arrays["foreground_masking"][0]),
                maximum_frames=int(arrays["maximum_frames"][0]) or None,
                depth_limit=float(arrays["depth_limit"][0]),
            )
            for number in arrays["sources"].tolist():
                cache._added = number
                names = ("rgb", "depth", "c2w", "intrinsics")
                cache.add(
                    SourceFrame(*(arrays[f"{name}_{number}"] for name in names), mask=arrays.get(f"mask_{number}"))
                )
        except (KeyError, IndexError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CorruptFileError(
                f"not a saved 3D cache ({error})", where=str(path), remedy="Save the cache again."
            ) from error
        return cache

    def _chosen(self, source: int | None) -> list[_Source]:
        sources = self._sources
        if not sources or (source is not None and source not in sources):
            held = ", ".join(map(str, sources)) or "none"
            asked = "a frame of an empty cache" if source is None else f"source {source}, where those held are: {held}"
            raise InputError(asked, where="3D cache", remedy="Add the frame first, or ask for a source that is held.")
        return list(sources.values()) if source is None else [sources[source]]

    def _splat(self, source: _Source, pose: Float64, lens: Float64, buffers: _Buffers, *, first: bool) -> None:
        """Splat one source and merge it with those before; see `forward_warping_kernels`."""
        wp, kernels = self._warp, self._kernels
        target_from_source = invert_rigid(pose) @ np.asarray(source.frame.c2w, np.float64)
        rotation, shift = target_from_source[:3, :3], target_from_source[:3, 3]
        projection = matrix_from_intrinsics(lens)
        landing = projection @ rotation @ np.linalg.inv(matrix_from_intrinsics(source.frame.intrinsics))
        m, b = wp.mat33(*landing.ravel()), wp.vec3(*(projection @ shift))
        eye = wp.vec3(*(-rotation.T @ shift))
        height, padded = source.depth.shape
        runs = (height, padded // kernels.RUN if self._device == "cpu" else padded)

        farthest = wp.zeros(height, dtype=wp.float32, device=self._device)
        self._launch(kernels.find_farthest, runs, [source.depth, m, b, farthest])
        greatest = float(farthest.numpy().max())
        if greatest > 0:
            camera = [m, b, wp.vec4(*source.frame.intrinsics.tolist()), eye, DEPTH_WEIGHT / math.log1p(greatest)]
            points = [source.depth, source.texels, *camera]
            if self._in_order:
                self._launch(kernels.deposit_in_order, runs, [*points, buffers.sums])
            else:
                self._launch(kernels.lower_nearest, runs, [source.depth, m, b, buffers.nearest])
                self._launch(kernels.deposit, runs, [*points, buffers.nearest, buffers.sums])
        if len(source.corners):
            lifted = [wp.mat33d(*(projection @ rotation).ravel()), wp.vec3d(*(projection @ shift))]
            triangles = (len(source.corners) // 3,)
            self._launch(kernels.cover, triangles, [source.corners, *lifted, buffers.occluder])
        merging = [buffers.occluder, SAME_SURFACE, int(first), *buffers.merged()]
        shape = buffers.rgb.shape
        pixels = (shape[0], -(-shape[1] // kernels.RUN) if self._device == "cpu" else shape[1])
        if self._in_order:
            self._launch(kernels.resolve_in_order, pixels, [buffers.sums, *merging])
        else:
            self._launch(kernels.resolve, pixels, [buffers.nearest, buffers.sums, *merging])

    def _launch(self, kernel: Any, shape: tuple[int, ...], inputs: list[Any]) -> None:
        self._warp.launch(kernel, dim=shape, inputs=inputs, device=self._device, record_tape=False)

    def _upload(self, frame: SourceFrame) -> _Source:
        depth = _cleaned(frame.depth, self._depth_limit)
        present = depth > 0 if frame.mask is None else (depth > 0) & frame.mask
        spread = depth_spread(depth)
        usable = present & (spread < self._edge_threshold)
        padding = [(0, 0), (0, -depth.shape[1] % self._kernels.RUN)]
        texels = np.dstack([frame.rgb, np.rint(255 * edge_factor(usable)).astype(np.uint8)])
        triangles = np.zeros((0, 3, 3), np.float32)
        if self._foreground_masking:
            triangles = occluder_triangles(depth, frame.intrinsics, present, spread >= OCCLUDER_THRESHOLD)
        return _Source(
            frame=frame,
            depth=self._array(np.pad(np.where(usable, depth, np.float32(0)), padding), self._warp.float32),
            texels=self._array(np.pad(texels, [*padding, (0, 0)]), self._warp.vec4ub),
            corners=self._array(triangles.reshape(-1, 3), self._warp.vec3),
        )

    def _take_buffers(self, height: int, width: int) -> _Buffers:
        """This thread's arrays for frames of one size, made once."""
        kept: _Buffers | None = getattr(self._buffers, "kept", None)
        self._buffers.kept = None
        if kept is None or kept.rgb.shape != (height, width):
            sums = self._kernels.OrderedSums if self._in_order else self._kernels.Sums
            return _Buffers.allocate(self._warp, sums, self._kernels.UNSEEN, height, width, self._device)
        return kept

    def _array(self, values: NDArray[Any], dtype: Any) -> Any:
        return self._warp.array(np.ascontiguousarray(values), dtype=dtype, device=self._device)


def depth_spread(depth: Float32) -> Float32:
    """(H, W) float32 (max - min) / (mean + 1e-6) over the 5×5 window around each pixel, cut off at the border.

    Args:
        depth: (H, W) float32, 0 = invalid; a window with an invalid pixel has a great spread.
    """
    import cv2

    window = np.ones((EDGE_WINDOW, EDGE_WINDOW), np.uint8)
    size = (EDGE_WINDOW, EDGE_WINDOW)
    span = cv2.dilate(depth, window) - cv2.erode(depth, window)
    sums = cv2.boxFilter(depth, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
    counts = cv2.boxFilter(np.ones_like(depth), -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return (span / (sums / counts + np.float32(1e-6))).astype(np.float32)


def edge_factor(usable: Bool) -> Float32:
    """(H, W) float32 min(1, d / EDGE_REACH), d the distance to the nearest unusable pixel; 0 where a pixel is one.

    The distance is the greater of the two along rows and columns. The picture's border is no edge.
    """
    import cv2

    distance = cv2.distanceTransform(usable.astype(np.uint8), cv2.DIST_C, 3)
    return np.minimum(distance / np.float32(EDGE_REACH), np.float32(1)).astype(np.float32)


def occluder_triangles(depth: Float32, intrinsics: NDArray[np.floating], present: Bool, edge: Bool) -> Float32:
    """(F, 3, 3) float32 corners, in the camera's axes, of the mesh over a frame's depth edges.

    The corners are the points of pixel centres. Each square of four neighbouring pixels, all of them present and at
    least one of them on an edge, gives two triangles: the surface on both sides of the edge, and the sheet that joins
    them.
    """
    touched = edge[:-1, :-1] | edge[:-1, 1:] | edge[1:, :-1] | edge[1:, 1:]
    whole = present[:-1, :-1] & present[:-1, 1:] & present[1:, :-1] & present[1:, 1:]
    row, column = np.nonzero(touched & whole)
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)

    def corner(below: int, right: int) -> Float64:
        z = depth[row + below, column + right].astype(np.float64)
        return np.stack([(column + right + 0.5 - cx) / fx * z, (row + below + 0.5 - cy) / fy * z, z], axis=1)

    upper_right, lower_left = corner(0, 1), corner(1, 0)
    halves = [
        np.stack([corner(0, 0), upper_right, lower_left], axis=1),
        np.stack([upper_right, corner(1, 1), lower_left], axis=1),
    ]
    return np.concatenate(halves).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Source:
    """A source frame and its arrays on the device."""

    frame: SourceFrame
    depth: Any  # (H, padded W) float32, 0 where a pixel is not used
    texels: Any  # (H, padded W) vec4ub: red, green, blue, 255 times the edge factor
    corners: Any  # (3F,) vec3 of the occluder mesh, in the camera's axes


@dataclass(frozen=True, slots=True)
class _Buffers:
    """One thread's Warp arrays of one target size. The first three are cleared by the launch that reads them."""

    nearest: Any
    sums: Any
    occluder: Any
    rgb: Any
    depth: Any
    confidence: Any
    least: Any

    @classmethod
    def allocate(cls, wp: Any, sums: Any, unseen: float, height: int, width: int, device: str) -> _Buffers:
        bordered = (height + 2, width + 2)
        kinds = {"rgb": wp.vec3ub, "depth": wp.float32, "confidence": wp.float32, "least": wp.float32}
        return cls(
            nearest=wp.full(bordered, unseen, dtype=wp.float32, device=device),
            sums=wp.zeros(bordered, dtype=sums, device=device),
            occluder=wp.full((height, width), unseen, dtype=wp.float32, device=device),
            **{name: wp.empty((height, width), dtype=kind, device=device) for name, kind in kinds.items()},
        )

    def merged(self) -> tuple[Any, ...]:
        """What the sources up to now give."""
        return self.rgb, self.depth, self.confidence, self.least

    def frame(self) -> WarpedFrame:
        """Copies of the result."""
        depth = self.depth.numpy().copy()
        return WarpedFrame(
            rgb=self.rgb.numpy().copy(),
            depth=depth,
            valid=depth > 0,
            confidence=self.confidence.numpy().copy(),
        )


def _cleaned(depth: Float32, limit: float) -> Float32:
    """Invalid depths as 0, far ones at the limit."""
    return np.where(depth > 0, np.minimum(depth, np.float32(limit)), np.float32(0))


def _checked(frame: SourceFrame) -> SourceFrame:
    """The frame with arrays of its own, if they are what it declares."""
    size = np.shape(frame.depth)
    fits = (
        len(size) == 2
        and min(size) >= 1
        and np.shape(frame.rgb) == (*size, 3)
        and np.asarray(frame.rgb).dtype == np.uint8
        and np.asarray(frame.depth).dtype == np.float32
        and (frame.mask is None or (np.shape(frame.mask) == size and np.asarray(frame.mask).dtype == np.bool_))
    )
    if not fits:
        given = {name: getattr(frame, name) for name in ("rgb", "depth", "mask")}
        found = ", ".join(f"{k} {np.asarray(v).dtype} {np.shape(v)}" for k, v in given.items() if v is not None)
        raise ContractError(
            found, where="source frame", remedy="Give rgb (H, W, 3) uint8, depth (H, W) float32, mask (H, W) bool."
        )
    pose, lens = _checked_camera(frame.c2w, frame.intrinsics, "source frame")
    return SourceFrame(
        rgb=np.array(frame.rgb),
        depth=np.array(frame.depth),
        c2w=pose,
        intrinsics=lens,
        mask=None if frame.mask is None else np.array(frame.mask),
    )


def _checked_camera(c2w: ArrayLike, intrinsics: ArrayLike, where: str) -> tuple[Float64, Float64]:
    pose, lens = np.array(c2w, np.float64), np.array(intrinsics, np.float64)
    check_c2w(pose[None], where=where)
    check_intrinsics(lens[None], where=where)
    return pose, lens


def _load_kernels(device: str) -> ModuleType:
    from . import forward_warping_kernels

    return load_kernels(forward_warping_kernels, device)
