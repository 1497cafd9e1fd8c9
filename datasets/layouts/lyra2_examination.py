"""Reads a Lyra-2 set as its data set does, and names every file that would stop, mislead or starve the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CorruptFileError
from .caption_chunks import TOKENS, WIDTH, decode_chunks
from .frame_files import Findings
from .lyra2_names import CAPTIONS, FILTER_LIST, HELD_OUT_LIST, caption_file
from .lyra_clip_examination import ClipRules, DecodedVideo, examine_clip
from .lyra_files import SUFFIXES, clip_file
from .release import Finding, FindingKind
from .safe_pickles import UnsafePickleError

_STOPS = "Lyra-2 stops when it draws the clip"
_UNNOTICED = "Lyra-2 takes it without a message and learns from it"
_RULES = ClipRules(
    on_error=_STOPS,
    wrong_pose=_UNNOTICED,
    float_depth=True,
    dense_depth=True,
    wrong_size="Lyra-2 scales both to one size, so depth that was cropped otherwise is misaligned without a message",
    wrong_depth="Lyra-2 resizes depth with a filter, so what is invalid bleeds into its neighbours",
)
_CLIP_FIELDS = ("rgb", "pose", "intrinsics", "depth")


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults of a published lyra2 directory; `scene_of` maps files to scenes where a manifest says so."""
    findings = Findings(scene_of)
    listed = _listed(findings, root, FILTER_LIST)
    held = (_listed(findings, root, HELD_OUT_LIST) or []) if (root / HELD_OUT_LIST).exists() else []
    for both in sorted(set(listed or ()) & set(held)):
        message = f"{both} is in {HELD_OUT_LIST} too; Lyra-2 trains on a clip that is held out"
        findings.add(FILTER_LIST, FindingKind.OUT_OF_CONVENTION, message)
    keys = list(dict.fromkeys([*(_keys(root) if listed is None else listed), *held]))
    _examine_folders(findings, root, set(keys))
    for key in keys:
        video = examine_clip(findings, root, {field: clip_file("", field, key) for field in _CLIP_FIELDS}, _RULES)
        _examine_npz_depth(findings, root, key)
        _examine_captions(findings, root, key, video)
    return findings.found


def _listed(findings: Findings, root: Path, name: str) -> list[str] | None:
    """Ids of a filter list, None where it cannot be read: Lyra-2 takes the text before each line's first dot."""
    try:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        findings.add(name, FindingKind.MISSING, "the list of ids is missing; Lyra-2 stops when it starts")
        return None
    except (OSError, UnicodeDecodeError) as error:
        message = f"the list of ids cannot be read ({error}); Lyra-2 stops when it starts"
        findings.add(name, FindingKind.TRUNCATED, message)
        return None
    ids = [line.strip().partition(".")[0] for line in lines if line.strip()]
    if not ids:
        findings.add(name, FindingKind.MISSING, "the list of ids is empty; Lyra-2 finds no sample at all")
    for twice in sorted({key for key in ids if ids.count(key) > 1} if len(set(ids)) < len(ids) else ()):
        message = f"it lists {twice} more than once; Lyra-2 still counts the clip once"
        findings.add(name, FindingKind.UNEXPECTED, message)
    return list(dict.fromkeys(ids))


def _keys(root: Path) -> list[str]:
    return sorted(file.stem for file in (root / "rgb").glob("*.mp4"))


def _examine_folders(findings: Findings, root: Path, listed: set[str]) -> None:
    for folder in sorted(root.rglob("rgb")):
        place = folder.relative_to(root).as_posix()
        if folder.is_dir() and place != "rgb":
            message = "Lyra-2 looks for folders called rgb at any depth: clips here of the same ids count twice"
            findings.add(place, FindingKind.UNEXPECTED, message)
    for field, suffix in {**{field: SUFFIXES[field] for field in _CLIP_FIELDS}, CAPTIONS: ".pkl"}.items():
        for entry in sorted((root / field).iterdir()) if (root / field).is_dir() else ():
            if entry.name == f"{entry.stem}.npz" and field == "depth" and entry.stem in listed:
                continue
            if entry.suffix != suffix or entry.stem not in listed:
                message = "no list names it, so Lyra-2 never reads it"
                findings.add(entry.relative_to(root).as_posix(), FindingKind.UNEXPECTED, message)


def _examine_npz_depth(findings: Findings, root: Path, key: str) -> None:
    file = f"depth/{key}.npz"
    if (root / file).exists():
        message = f"Lyra-2 prefers it to depth/{key}.zip, which is then never read"
        findings.add(file, FindingKind.UNEXPECTED, message)


def _examine_captions(findings: Findings, root: Path, key: str, video: DecodedVideo | None) -> None:
    file = caption_file(key)
    if not (root / file).is_file():
        message = "the captions are missing; Lyra-2 prints a line and trains on another sample instead"
        findings.add(file, FindingKind.MISSING, message)
        return
    try:
        chunks = decode_chunks((root / file).read_bytes(), file)
    except UnsafePickleError as error:
        message = f"{error.found}, which Lyra-2 would run when it loads the file"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return
    except (CorruptFileError, OSError) as error:
        found = error.found if isinstance(error, CorruptFileError) else str(error)
        findings.add(file, FindingKind.TRUNCATED, f"{found}; {_STOPS}")
        return
    starts = _starts(chunks)
    if starts is None:
        message = f"it is no dictionary by start frame, or an empty one ({type(chunks).__name__}); {_STOPS}"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return
    if starts[0] != 0:
        message = f"the first chunk starts at frame {starts[0]}; Lyra-2 finds no caption for the frames before it"
        findings.add(file, FindingKind.MISALIGNED, message)
    if video is not None and starts[-1] >= video.frames:
        message = f"a chunk starts at frame {starts[-1]} of {video.frames}: captions of another video; {_UNNOTICED}"
        findings.add(file, FindingKind.MISALIGNED, message)
    for start, chunk in chunks.items():
        reason = _wrong_chunk(chunk)
        if reason:
            findings.add(file, FindingKind.OUT_OF_CONVENTION, f"chunk {start}: {reason}; {_STOPS}")


def _starts(chunks: Any) -> list[int] | None:
    """Start frames in order; None where Lyra-2 could not tell them."""
    if not isinstance(chunks, dict) or not chunks:
        return None
    try:
        return sorted(int(start) for start in chunks)
    except (TypeError, ValueError):
        return None


def _wrong_chunk(chunk: Any) -> str | None:
    import torch

    if not isinstance(chunk, dict) or not isinstance(chunk.get("embedding"), torch.Tensor):
        return "there is no tensor called embedding"
    embedding = chunk["embedding"]
    shape = tuple(embedding.shape)
    if len(shape) != 2 or not 1 <= shape[0] <= TOKENS or not 1 <= shape[1] <= WIDTH:
        return f"the embedding is {shape}, expected up to ({TOKENS}, {WIDTH})"
    if not embedding.dtype.is_floating_point or not torch.isfinite(embedding).all():
        return f"the embedding is {embedding.dtype}, or holds values that are not finite"
    return None
