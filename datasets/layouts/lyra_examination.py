"""Reads a Lyra-1 set the way its loader does, and names every file that would stop, mislead or starve the training.

Lyra's data set swallows every exception and draws another sample, so what is missing or unreadable is not noticed when
it trains; poses, intrinsics and latents of another convention are taken without a message.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError
from .frame_files import Findings
from .lyra_clip_examination import ClipRules, DecodedVideo, examine_clip, examine_masks
from .lyra_files import SUFFIXES, clip_file
from .lyra_names import (
    CHANNELS,
    DATASET,
    HELD_OUT,
    LATENT_FRAMES,
    MASK,
    MEAN_STD,
    REGISTRY_ENTRY,
    STRIDE,
    VIEWS,
    published_fields,
)
from .release import Finding, FindingKind

_SWALLOWED = "Lyra swallows the error and trains on another sample instead"
_UNNOTICED = "Lyra takes it without a message and learns from it"
_RULES = ClipRules(
    on_error=_SWALLOWED,
    wrong_pose=_UNNOTICED,
    float_depth=False,
    dense_depth=False,
    wrong_size="Lyra crops depth or pads it with zeros to the pictures' size, so it is misaligned without a message",
    wrong_depth="Lyra's depth loss takes its median over invalid pixels too",
)
_REMAKE = "Publish the scene again."
_FLAG = "flag"
_CLEARLY_MORE = 0.2
_SPARED_VALUES = 200_000


def examine_static(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults of a published lyra_static directory; `scene_of` maps files to scenes where a manifest says so."""
    return _examine(root, scene_of, VIEWS)


def examine_dynamic(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults of a published lyra_dynamic directory; `scene_of` maps files to scenes where a manifest says so."""
    return _examine(root, scene_of, 2 * VIEWS)


def _examine(root: Path, scene_of: Mapping[str, str], views: int) -> list[Finding]:
    findings = Findings(scene_of)
    fields = _fields(root)
    homes = [DATASET, *([HELD_OUT] if (root / HELD_OUT).exists() else [])]
    for home in homes:
        if not (root / home).is_dir():
            findings.add(home, FindingKind.MISSING, "Lyra's root is missing; it finds no sample at all")
            continue
        _examine_root(findings, root, home, views)
        keys = _keys(findings, root, home, views)
        for key in keys:
            _examine_scene(findings, root, home, key, views, fields)
        if not keys:
            findings.add(home, FindingKind.MISSING, "there is no clip; Lyra finds no sample at all")
    if "latent" in fields:
        _examine_statistics(findings, root)
    return findings.found


def _fields(root: Path) -> Sequence[str]:
    try:
        return published_fields((root / REGISTRY_ENTRY).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return published_fields("")


# --- folders --------------------------------------------------------------------------------------------------------


def _examine_root(findings: Findings, root: Path, home: str, views: int) -> None:
    expected = [str(view) for view in range(views)]
    entries = sorted(entry.name for entry in (root / home).iterdir() if entry.name != _FLAG)
    for name in expected:
        if not (root / home / name).is_dir():
            message = f"view {name} is missing; {_SWALLOWED} whenever it draws that view"
            findings.add(f"{home}/{name}", FindingKind.MISSING, message)
    for name in entries:
        if name not in expected:
            message = (
                f"Lyra counts every entry here as a camera, {len(entries)} where there are {views}: stages 6 and later "
                "fail on every sample and hang, the earlier ones whenever they draw it"
            )
            findings.add(f"{home}/{name}", FindingKind.UNEXPECTED, message)
    known = {f"{name}/rgb" for name in expected}
    for folder in sorted((root / home).rglob("rgb")):
        place = folder.relative_to(root / home).as_posix()
        if folder.is_dir() and place not in known:
            message = "Lyra looks for folders called rgb at any depth: it takes the clips here for further samples"
            findings.add(f"{home}/{place}", FindingKind.UNEXPECTED, message)


def _keys(findings: Findings, root: Path, home: str, views: int) -> list[str]:
    """Keys of all clips in any view and field; notes those that cannot be keys, and other files."""
    keys: set[str] = set()
    for view in range(views):
        for field, suffix in SUFFIXES.items():
            folder = root / home / str(view) / field
            for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
                path = entry.relative_to(root).as_posix()
                if entry.suffix != suffix or not entry.is_file():
                    message = f"it is no {suffix} file; Lyra never reads it"
                    findings.add(path, FindingKind.UNEXPECTED, message)
                    continue
                if "." in entry.stem:
                    message = "its key holds a dot; Lyra's filter lists compare the text before the first dot only"
                    findings.add(path, FindingKind.OUT_OF_CONVENTION, message)
                keys.add(entry.stem)
    return sorted(keys)


# --- one scene ------------------------------------------------------------------------------------------------------


def _examine_scene(findings: Findings, root: Path, home: str, key: str, views: int, fields: Sequence[str]) -> None:
    videos: dict[int, DecodedVideo] = {}
    clip_fields = [field for field in fields if field not in ("latent", MASK)]
    for view in range(views):
        place = f"{home}/{view}"
        if not (root / place).is_dir():
            continue
        video = examine_clip(findings, root, {field: clip_file(place, field, key) for field in clip_fields}, _RULES)
        if video is not None:
            videos[view] = video
        if "latent" in fields and view < VIEWS:
            _examine_latent(findings, root, clip_file(place, "latent", key), video)
        if MASK in fields and video is not None:
            examine_masks(findings, root, clip_file(place, MASK, key), video, _SWALLOWED)
    first = videos.get(0)
    for view, video in videos.items():
        if first is not None and _size(video) != _size(first):
            message = (
                f"frames, height, width are {_size(video)}, those of view 0 {_size(first)}; Lyra counts the frames of "
                f"view 0 alone, {_SWALLOWED} or it joins pictures that do not fit"
            )
            findings.add(clip_file(f"{home}/{view}", "rgb", key), FindingKind.MISALIGNED, message)


def _size(video: DecodedVideo) -> tuple[int, int, int]:
    return video.frames, video.height, video.width


# --- latents --------------------------------------------------------------------------------------------------------


def _examine_latent(findings: Findings, root: Path, file: str, video: DecodedVideo | None) -> None:
    if not (root / file).is_file():
        findings.add(file, FindingKind.MISSING, f"the latents are missing; {_SWALLOWED}")
        return
    latent = _loaded(findings, root, file)
    if latent is None:
        return
    values = _array(latent)
    if values is None:
        message = f"it holds a {type(latent).__name__}, expected a tensor or an array; {_SWALLOWED}"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return
    if video is not None and not _has_shape(findings, file, values.shape, video):
        return
    if not np.isfinite(values).all():
        message = f"it holds values that are not finite; {_UNNOTICED}"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
    elif _axes_swapped(values):
        message = (
            "neighbours along the second axis are alike and those along the third are not: time stands before "
            f"channels; {_UNNOTICED}"
        )
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)


def _has_shape(findings: Findings, file: str, shape: tuple[int, ...], video: DecodedVideo) -> bool:
    grid = (video.height // STRIDE, video.width // STRIDE)
    count = 1 + (video.frames - 1) // STRIDE
    expected = (1, CHANNELS, count, *grid)
    if shape == expected:
        return True
    if shape == (1, count, CHANNELS, *grid):
        kind, reason = FindingKind.OUT_OF_CONVENTION, "time stands before channels; where both are 16, Lyra notices not"
    elif shape == expected[1:]:
        kind, reason = FindingKind.OUT_OF_CONVENTION, f"the batch axis is missing; {_SWALLOWED}"
    elif shape[:3] == expected[:3]:
        kind, reason = FindingKind.MISALIGNED, "the grid is not the pictures' size over 8; the model stops on it"
    else:
        kind, reason = FindingKind.MISALIGNED, f"it does not fit the video's frames; {_SWALLOWED}"
    findings.add(file, kind, f"latents of shape {shape}, expected {expected}: {reason}")
    return False


def _axes_swapped(values: NDArray[np.float32]) -> bool:
    """Whether neighbours along axis 1 (channels) resemble each other clearly more than those along axis 2 (time)."""
    if min(values.shape[1:3]) < 3:
        return False
    maps = values[0].reshape(*values.shape[1:3], -1)
    step = max(1, maps.size // _SPARED_VALUES)
    maps = maps[..., ::step]
    maps = maps - maps.mean(axis=2, keepdims=True)
    maps = maps / np.maximum(np.linalg.norm(maps, axis=2, keepdims=True), 1e-6)
    along_channels = float((maps[1:] * maps[:-1]).sum(axis=2).mean())
    along_time = float((maps[:, 1:] * maps[:, :-1]).sum(axis=2).mean())
    return along_channels > along_time + _CLEARLY_MORE


def _array(latent: Any) -> NDArray[np.float32] | None:
    import torch

    if isinstance(latent, torch.Tensor):
        latent = latent.detach().to(torch.float32).numpy()
    return np.asarray(latent, np.float32) if isinstance(latent, np.ndarray) else None


def _loaded(findings: Findings, root: Path, file: str) -> Any:
    """What torch.save wrote, without running anything that the file names; None with a finding where that fails."""
    try:
        return _torch_load(root / file)
    except pickle.UnpicklingError as error:
        first = str(error).strip().partition("\n")[0]
        if "global" in str(error).lower():
            message = (
                f"it names code that is no tensor's or array's ({first}); Lyra would run it when it loads the file"
            )
            findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
            return None
        reason = first
    except CorruptFileError as error:
        reason = error.found
    findings.add(file, FindingKind.TRUNCATED, f"the file cannot be loaded ({reason}); {_SWALLOWED}")
    return None


def _torch_load(path: Path) -> Any:
    """Raises pickle.UnpicklingError for what is no tensor or array, CorruptFileError for any other damage."""
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                # PyTorch itself passes over the checksums, and gives damaged numbers.
                damaged = archive.testzip()
            if damaged is not None:
                raise CorruptFileError(f"{damaged} has another checksum", where=str(path), remedy=_REMAKE)
        with _arrays_allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, CorruptFileError):
        raise
    except Exception as error:
        # What a damaged file makes torch.load raise depends on where the damage lies.
        first = str(error).strip().partition("\n")[0]
        raise CorruptFileError(first or type(error).__name__, where=str(path), remedy=_REMAKE) from error


@contextmanager
def _arrays_allowed() -> Iterator[None]:
    """Lets torch.load accept NumPy arrays, as Lyra's own files hold them, under the names of old and new NumPy."""
    import _codecs

    import torch
    from numpy._core.multiarray import _reconstruct  # pyright: ignore[reportAttributeAccessIssue]

    allowed: list[Any] = [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        (_reconstruct, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        _codecs.encode,
        *(type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64)),
    ]
    with torch.serialization.safe_globals(allowed):
        yield


def _examine_statistics(findings: Findings, root: Path) -> None:
    if not (root / MEAN_STD).is_file():
        message = "the latents' statistics are missing; Lyra stops when it starts, in every stage"
        findings.add(MEAN_STD, FindingKind.MISSING, message)
        return
    loaded = _loaded(findings, root, MEAN_STD)
    if loaded is None:
        return
    tables = [_array(table) for table in loaded] if isinstance(loaded, tuple | list) else []
    sizes = [table.size for table in tables if table is not None]
    expected = CHANNELS * LATENT_FRAMES
    if sizes != [expected, expected]:
        message = f"tables of {sizes} numbers, expected mean and std of {expected} each; Lyra stops when it starts"
        findings.add(MEAN_STD, FindingKind.OUT_OF_CONVENTION, message)
        return
    mean, std = (table for table in tables if table is not None)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        message = f"mean or std is not finite, or std is not above 0; {_UNNOTICED}"
        findings.add(MEAN_STD, FindingKind.OUT_OF_CONVENTION, message)
