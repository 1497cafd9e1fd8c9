"""A result of ViPE, believed only after every file of it has been read back and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..datasets import vipe_files
from ..datasets.errors import SceneloomError
from ..ops import cameras
from .engines import ClipGeometry
from .worker_failures import FailureClass, WorkerFailed
from .worker_settings import VIPE_PRESETS, VipeSettings

CLIP = "clip"
"""Name of ViPE's files: that of the input it is given."""

_POSE_TOLERANCE = 1e-3
_Frame = TypeVar("_Frame", bound=NDArray[Any])


@dataclass(frozen=True, slots=True, eq=False)
class VipeResult:
    """Depth and cameras that ViPE found for a clip of T frames of H × W pixels.

    Attributes:
        root: the directory with ViPE's files, named `clip`.
        c2w: (T, 4, 4) float32 camera-to-world, OpenCV axes, in ViPE's world and unit; the first is near identity.
        intrinsics: (T, 4) float32 fx, fy, cx, cy in pixels. ViPE puts the principal point at W / 2, H / 2 and never
            moves it, which is the centre of a picture with pixel centres at +0.5; its own readers take pixel centres at
            whole numbers, half a pixel beside that.
        camera: PINHOLE, MEI or PANORAMA.
        distortion: MEI's xi; None for other cameras.
        metric: whether the preset's scale is metric by its authors.
        has_depth: whether there is depth.
        has_masks: whether there are instance masks.
        phrases: what was looked for, by instance id; empty without masks.
        figures: what was measured of it and what ViPE printed, JSON.
    """

    root: Path
    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    camera: str
    distortion: float | None
    metric: bool
    has_depth: bool
    has_masks: bool
    phrases: Mapping[int, str]
    figures: Mapping[str, Any]

    def depth(self) -> Iterator[NDArray[np.float32]]:
        """Yield (H, W) float32 z-depth of every frame in ViPE's unit; 0 where ViPE has none or it is not finite.

        Raises:
            WorkerFailed: the preset makes no depth.
        """
        if not self.has_depth:
            raise WorkerFailed(FailureClass.USAGE, f"there is no depth with {self.camera} cameras of this preset")
        for _, plane in vipe_files.iter_depth(self.root, CLIP):
            values = plane.astype(np.float32)
            yield np.where(np.isfinite(values) & (values > 0), values, np.float32(0))

    def masks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield (H, W) uint8 instance ids of every frame, 0 = background.

        Raises:
            WorkerFailed: the preset makes no masks.
        """
        if not self.has_masks:
            raise WorkerFailed(FailureClass.USAGE, "this preset makes no masks")
        return (ids for _, ids in vipe_files.iter_masks(self.root, CLIP))

    def geometry(self) -> ClipGeometry:
        """What a stage takes of an engine: depth and pinhole cameras.

        Raises:
            WorkerFailed: usage, by name, where the preset makes no depth or the cameras are no pinhole cameras.
        """
        if self.camera != "PINHOLE":
            found = f"the cameras are {self.camera}, and clips are of pinhole cameras"
            raise WorkerFailed(FailureClass.USAGE, found)
        if not self.has_depth:
            raise WorkerFailed(FailureClass.USAGE, "this preset makes no depth")
        return ClipGeometry(self.depth(), self.c2w, self.intrinsics, self.metric)


def read_result(
    root: Path,
    *,
    frames: int,
    height: int,
    width: int,
    settings: VipeSettings,
    figures: Mapping[str, Any] | None = None,
) -> VipeResult:
    """Read every file of a result and check it against what the clip and the preset say it must hold.

    ViPE ends with 0 for some broken results, so nothing here is taken on trust: number and size of the frames of every
    file, rigid and finite poses without gaps, a sane field of view, finite depth, masks whose ids have phrases.

    Args:
        root: the output directory that ViPE was given.
        frames, height, width: T, H, W of the clip.
        settings: preset and limits.
        figures: what ViPE printed; it is kept with what is measured here.

    Raises:
        WorkerFailed: invalid-output or diverged; the message names the file and what is wrong in it.
    """
    check = _Check(root, frames, height, width, settings)
    return check.run(figures or {})


class _Check:
    def __init__(self, root: Path, frames: int, height: int, width: int, settings: VipeSettings) -> None:
        self.root = root
        self.frames = frames
        self.height, self.width = height, width
        self.settings = settings
        self.preset = VIPE_PRESETS[settings.preset]
        self.measured: dict[str, Any] = {}

    def run(self, figures: Mapping[str, Any]) -> VipeResult:
        self._require_whole_files()
        clip = _read(lambda: vipe_files.read_clip(self.root, CLIP))
        self._check_frames("pose", clip.poses.frames)
        self._check_frames("intrinsics", clip.intrinsics.frames)
        self._check_poses(clip.poses.values)
        self._check_camera_types(clip.camera_types)
        self._check_intrinsics(clip.intrinsics.values)
        self._check_video()
        if self.preset.depth:
            self._check_depth()
        if self.preset.masks:
            self._check_masks(clip.phrases)
        return VipeResult(
            root=self.root,
            c2w=clip.poses.values,
            intrinsics=np.ascontiguousarray(clip.intrinsics.values[:, :4]),
            camera=self.preset.camera,
            distortion=float(clip.intrinsics.values[0, 4]) if self.preset.camera == "MEI" else None,
            metric=self.preset.metric,
            has_depth=self.preset.depth,
            has_masks=self.preset.masks,
            phrases=clip.phrases,
            figures={**figures, **self.measured},
        )

    def _require_whole_files(self) -> None:
        """Every file in the order in which ViPE writes them, so that the first one missing says where it stopped."""
        names = [f"pose/{CLIP}.npz", f"intrinsics/{CLIP}.npz", f"intrinsics/{CLIP}_camera.txt", f"rgb/{CLIP}.mp4"]
        names += [f"depth/{CLIP}.zip"] if self.preset.depth else []
        names += [f"mask/{CLIP}.zip", f"mask/{CLIP}.txt"] if self.preset.masks else []
        for name in [*names, f"vipe/{CLIP}_info.pkl"]:
            path = self.root / name
            if not path.is_file():
                raise _invalid(name, "the file is missing")
            if path.stat().st_size == 0:
                raise _invalid(name, "the file is empty")

    def _check_frames(self, what: str, numbers: NDArray[np.int64] | list[int]) -> None:
        missing = sorted(set(range(self.frames)) - set(map(int, numbers)))
        if missing:
            shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            raise _invalid(what, f"frames {shown} have none ({len(missing)} of {self.frames})")
        if len(numbers) != self.frames:
            raise _invalid(what, f"{len(numbers)} frames, the clip has {self.frames}")

    def _check_poses(self, poses: NDArray[np.float32]) -> None:
        broken = np.flatnonzero(~np.isfinite(poses).all(axis=(1, 2)))
        if len(broken):
            raise _invalid("pose", f"the pose of frame {broken[0]} is not finite ({len(broken)} of {self.frames})")
        try:
            cameras.check_c2w(poses, where="pose", tolerance=_POSE_TOLERANCE)
        except SceneloomError as error:
            raise _invalid("pose", error.found) from error

    def _check_camera_types(self, types: tuple[str, ...]) -> None:
        if len(types) != self.frames:
            raise _invalid(f"intrinsics/{CLIP}_camera.txt", f"{len(types)} lines, the clip has {self.frames} frames")
        others = sorted(set(types) - {self.preset.camera})
        if others:
            found = f"{others[0]} cameras, preset {self.settings.preset} makes {self.preset.camera}"
            raise _invalid(f"intrinsics/{CLIP}_camera.txt", found)

    def _check_intrinsics(self, values: NDArray[np.float32]) -> None:
        columns = vipe_files.CAMERA_COLUMNS[self.preset.camera]
        if values.shape[1] != columns:
            found = f"{values.shape[1]} columns, {self.preset.camera} has {columns}"
            raise _invalid("intrinsics", found)
        if not np.isfinite(values).all():
            raise _invalid("intrinsics", "a value is not finite")
        if self.preset.camera == "PANORAMA":
            return
        if (values[:, :2] <= 0).any():
            raise _invalid("intrinsics", "a focal length is not positive")
        inside = (values[:, 2:4] > 0) & (values[:, 2:4] < (self.width, self.height))
        if not inside.all():
            raise _invalid("intrinsics", "a principal point lies outside the picture")
        view = np.degrees(2 * np.arctan(self.height / (2 * values[:, 1].astype(np.float64))))
        self.measured["vertical_field_of_view_degrees"] = [float(view.min()), float(view.max())]
        low, high = self.settings.minimum_field_of_view, self.settings.maximum_field_of_view
        if self.preset.camera == "PINHOLE" and not ((view >= low) & (view <= high)).all():
            found = f"the vertical field of view is {view.min():.1f}° to {view.max():.1f}°, expected {low}° to {high}°"
            raise WorkerFailed(FailureClass.DIVERGED, f"intrinsics: {found}")

    def _check_video(self) -> None:
        """ViPE's re-encoding of the frames it saw: the witness that it saw all of them."""
        from ..datasets.video import iter_video

        name = f"rgb/{CLIP}.mp4"
        pictures = _read(lambda: [picture.shape[:2] for picture in iter_video(self.root / name)])
        self._check_frames(name, list(range(len(pictures))))
        self._check_size(name, pictures)

    def _check_size(self, name: str, sizes: Iterable[tuple[int, ...]]) -> None:
        for size in sizes:
            if size != (self.height, self.width):
                found = f"frames of {size[0]} × {size[1]} pixels, the clip has {self.height} × {self.width}"
                raise _invalid(name, found)

    def _check_depth(self) -> None:
        name = f"depth/{CLIP}.zip"
        numbers: list[int] = []
        lowest_finite, valid = 1.0, []
        for number, plane in _each(vipe_files.iter_depth(self.root, CLIP)):
            self._check_size(name, [plane.shape])
            finite = np.isfinite(plane)
            fraction = float(finite.mean())
            if fraction < self.settings.finite_depth_fraction:
                found = f"{100 * (1 - fraction):.1f} % of frame {number} is not finite"
                raise _invalid(name, found)
            seen = float((finite & (plane > 0)).mean())
            if seen == 0.0:
                raise _invalid(name, f"frame {number} has no depth at all")
            numbers.append(number)
            lowest_finite = min(lowest_finite, fraction)
            valid.append(seen)
        self._check_frames(name, numbers)
        self.measured["depth_finite_fraction"] = lowest_finite
        self.measured["depth_valid_fraction"] = float(np.mean(valid))

    def _check_masks(self, phrases: Mapping[int, str]) -> None:
        name = f"mask/{CLIP}.zip"
        numbers: list[int] = []
        for number, ids in _each(vipe_files.iter_masks(self.root, CLIP)):
            self._check_size(name, [ids.shape])
            nameless = sorted(set(np.unique(ids).tolist()) - set(phrases) - {0})
            if nameless:
                raise _invalid(name, f"instance {nameless[0]} in frame {number} has no phrase")
            numbers.append(number)
        self._check_frames(name, numbers)
        self.measured["instances"] = {str(number): phrase for number, phrase in phrases.items() if number}


_Read = TypeVar("_Read")


def _read(read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except SceneloomError as error:
        raise WorkerFailed(FailureClass.INVALID_OUTPUT, f"{_short(error.where)}: {error.found}") from error


def _each(frames: Iterator[tuple[int, _Frame]]) -> Iterator[tuple[int, _Frame]]:
    while (frame := _read(lambda: next(frames, None))) is not None:
        yield frame


def _short(where: str) -> str:
    """The last two parts of a path: the scratch directory before them is gone when the message is read."""
    return "/".join(where.split("/")[-2:])


def _invalid(name: str, found: str) -> WorkerFailed:
    return WorkerFailed(FailureClass.INVALID_OUTPUT, f"{name}: {found}")
