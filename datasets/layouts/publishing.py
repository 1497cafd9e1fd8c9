"""Publishing a layout, reading it back, and repairing it.

A release appears whole or not at all: a layout fills a directory with a temporary name beside the destination, every
file is hashed and brought to disk, the manifest is written beside, and the directory takes its name. One process at a
time works on a destination (an advisory lock on `.NAME.lock` beside it, which the system lets go when a process dies),
so temporary directories that are found under the lock belong to dead processes and are removed.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, SceneloomError, StoreError
from ..files import sha256_of_file
from ..licences import LicenceVerdict, combined
from .manifest import (
    CommercialUse,
    ReleasedScene,
    ReleaseFile,
    ReleaseManifest,
    manifest_path,
    read_manifest,
    write_manifest,
)
from .release import (
    TEXT_ENCODER,
    Finding,
    FindingKind,
    Layout,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
    ReleaseTextEncoder,
)

LAYOUT_CODE_VERSION = 2
"""Part of every release's key; to be raised when a layout writes other bytes from the same scenes."""


def publish(
    layout: Layout,
    scenes: Sequence[ReleaseScene],
    destination: Path,
    *,
    collection: str,
    fields: frozenset[str] | None = None,
    options: Mapping[str, str] | None = None,
    commercial: bool = False,
    text_encoder: ReleaseTextEncoder | None = None,
) -> ReleaseManifest:
    """Publish scenes in a layout; where this very release is already published, nothing is done.

    Args:
        layout: what to write.
        scenes: in any order; they are written in the order of their ids.
        destination: absolute path of the directory to make.
        collection: name of the scenes' collection.
        fields: names of the layout's fields; None for all.
        options: settings of the layout.
        commercial: refuse scenes whose inputs or engines forbid commercial use, or do not clearly allow it.
        text_encoder: for layouts that hold text embeddings; its name becomes the option of that name.

    Returns:
        The manifest, which lies beside the directory.

    Raises:
        InputError: the destination holds something else, a name is unknown, there is no scene, commercial use is asked
            for and not allowed, or the layout cannot be made of these scenes.
        StoreError: the file system is full or cannot be written. Nothing is left behind.
    """
    options = dict(options or {}) | ({TEXT_ENCODER: text_encoder.name} if text_encoder is not None else {})
    ordered = sorted(scenes, key=lambda scene: scene.scene_id)
    _require_request(layout, ordered, destination, fields, options)
    _require_encoder(options, text_encoder)
    verdict = commercial_verdict(ordered, text_encoder)
    if commercial and not verdict.allowed:
        raise InputError(
            "; ".join(verdict.reasons),
            where=f"release of {collection} for commercial use",
            remedy="Leave these scenes out, make them with other engines, or state the licence of their source.",
        )
    key = _release_key(layout, ordered, collection, fields, options)
    with _errors_named(destination), _locked(destination):
        published = _published_before(destination, key, layout)
        if published is not None:
            return published
        with _part_directory(destination) as part:
            directory = ReleaseDirectory(part)
            summary = layout.write(directory, ordered, ReleaseRequest(destination, fields, options, text_encoder))
            files = _hashed_files(part, directory.scene_of)
            manifest = _manifest(layout, ordered, collection, key, fields, options, verdict, summary, files)
            _move_into_place(part, destination, manifest)
    return manifest


def commercial_verdict(
    scenes: Sequence[ReleaseScene], text_encoder: ReleaseTextEncoder | None = None
) -> LicenceVerdict:
    """Whether what is made of these scenes may be used commercially, by the licences of all inputs and engines."""
    inputs = [(f"scene {scene.scene_id}", scene.licence) for scene in scenes]
    engines = [
        (f"engine {engine}", scene.engine_licences.get(engine))
        for scene in scenes
        for engine in sorted({*scene.engines.values(), *scene.engine_licences})
    ]
    spaces = [
        (f"latent space {scene.latent_space.id}", scene.latent_space.licence)
        for scene in scenes
        if scene.latent_space is not None
    ]
    encoders = [(f"text encoder {text_encoder.name}", text_encoder.licence)] if text_encoder is not None else []
    return combined([*inputs, *dict.fromkeys(engines), *dict.fromkeys(spaces), *encoders])


# --- what is asked for ----------------------------------------------------------------------------------------------


def _require_request(
    layout: Layout,
    scenes: Sequence[ReleaseScene],
    destination: Path,
    fields: frozenset[str] | None,
    options: Mapping[str, str],
) -> None:
    where = f"layout {layout.name}"
    if not destination.is_absolute():
        raise InputError("the path is relative", where=str(destination), remedy="Give an absolute path.")
    if fields is not None and not fields:
        raise InputError("no field is asked for", where=where, remedy=f"Name some of: {', '.join(layout.fields)}.")
    _require_known("field", fields or (), layout.fields, where)
    left_out = [name for name in layout.required if fields is not None and name not in fields]
    if left_out:
        raise InputError(
            f"the subset leaves out {', '.join(left_out)}",
            where=where,
            remedy=f"Add {'it' if len(left_out) == 1 else 'them'}: {layout.consumer} cannot do without.",
        )
    _require_known("option", options, tuple(layout.options), where)
    if not scenes:
        raise InputError("there is no scene to publish", where=where, remedy="Choose at least one finished scene.")
    ids = [scene.scene_id for scene in scenes]
    twice = sorted({scene_id for scene_id in ids if ids.count(scene_id) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise InputError(f"{', '.join(twice)} is given twice", where=where, remedy="Give every scene once.")


def _require_encoder(options: Mapping[str, str], text_encoder: ReleaseTextEncoder | None) -> None:
    named, given = options.get(TEXT_ENCODER), text_encoder.name if text_encoder is not None else None
    if named != given:
        raise InputError(
            f"the text encoder {named} is named, {given or 'none'} is given",
            where=f"option {TEXT_ENCODER}",
            remedy="Load the encoder that is named: a release is made with one alone.",
        )


def _require_known(what: str, given: Collection[str], known: Sequence[str], where: str) -> None:
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        suggestion = f'Did you mean "{near[0]}"? ' if near else ""
        listed = f"Known: {', '.join(known)}." if known else f"The layout has no {what}s."
        raise InputError(f'there is no {what} "{name}"', where=where, remedy=suggestion + listed)


def _release_key(
    layout: Layout,
    scenes: Sequence[ReleaseScene],
    collection: str,
    fields: frozenset[str] | None,
    options: Mapping[str, str],
) -> str:
    decisive = {
        "layout": layout.name,
        "code": LAYOUT_CODE_VERSION,
        "collection": collection,
        "fields": sorted(fields) if fields is not None else None,
        "options": dict(options),
        "scenes": {scene.scene_id: _scene_key(_released(scene)) for scene in scenes},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _scene_key(scene: ReleasedScene) -> list[object]:
    """All of a scene that a file of a layout may hold."""
    return [str(getattr(scene, name)) for name in sorted(ReleasedScene.__dataclass_fields__)]


def _published_before(destination: Path, key: str, layout: Layout) -> ReleaseManifest | None:
    """The manifest of this very release; None where nothing stands in its place."""
    if not os.path.lexists(destination):
        return None
    where = str(destination)
    if not manifest_path(destination).exists():
        raise InputError(
            "something that is no release is there already",
            where=where,
            remedy="Publish somewhere else, or move it away.",
        )
    manifest = read_manifest(destination)
    if manifest.release_key == key:
        return manifest
    raise InputError(
        f"the release {manifest.release_key[:12]} ({manifest.layout}, {len(manifest.scenes)} scenes of "
        f"{manifest.collection}) is there already, asked for is the release {key[:12]} ({layout.name})",
        where=where,
        remedy="A release never changes: publish somewhere else, or remove the directory and its manifest.",
    )


# --- one directory, whole or not at all -----------------------------------------------------------------------------


@contextmanager
def _errors_named(destination: Path) -> Iterator[None]:
    try:
        yield
    except SceneloomError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            "the disk is full; nothing of the release was kept" if full else f"it cannot be written ({error})",
            where=str(destination),
            remedy="Free space or publish on another disk." if full else "Check the path and its permissions.",
        ) from error


@contextmanager
def _locked(destination: Path) -> Iterator[None]:
    """Work on the destination alone. Raises InputError when another process does, or another thread of this one."""
    import fcntl

    destination.parent.mkdir(parents=True, exist_ok=True)
    path = destination.with_name(f".{destination.name}.lock")
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The file may have been removed by the one who held it before; then the lock guards nothing.
            held = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            raise InputError(
                "another process is publishing or repairing it",
                where=str(destination),
                remedy="Wait until that has ended, then try again.",
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _part_directory(destination: Path) -> Iterator[Path]:
    """A new empty directory beside the destination, gone at the end unless it was moved; the lock is held."""
    for leftover in destination.parent.iterdir():
        if leftover.name.startswith(f".{destination.name}.") and leftover.name.endswith(".part"):
            _remove(leftover)
    part = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    part.mkdir()
    try:
        yield part
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _hashed_files(root: Path, scene_of: Mapping[str, str]) -> dict[str, ReleaseFile]:
    """Size and checksum of every file, which are then on the disk."""
    files = {}
    for path in sorted(root.rglob("*")):
        _sync(path)
        if path.is_file():
            name = path.relative_to(root).as_posix()
            files[name] = ReleaseFile(path.stat().st_size, sha256_of_file(path), scene_of.get(name))
    return files


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_into_place(part: Path, destination: Path, manifest: ReleaseManifest) -> None:
    _sync(part)
    # The manifest comes first: a directory without one would be taken for somebody else's. A crash between the two
    # leaves a manifest without a directory, which the next publication writes anew.
    write_manifest(destination, manifest)
    try:
        part.rename(destination)
    except BaseException:
        manifest_path(destination).unlink(missing_ok=True)
        raise
    _sync(destination.parent)


def _released(scene: ReleaseScene) -> ReleasedScene:
    return ReleasedScene(
        content_key=scene.content_key,
        split=scene.split,
        seed=scene.seed,
        licence=scene.licence,
        prompt=scene.prompt,
        engines=dict(sorted(scene.engines.items())),
        engine_licences=dict(sorted(scene.engine_licences.items())),
        metric=all(clip.metric for clip in scene.clips.values()) if scene.clips else None,
        latent_space=scene.latent_space.id if scene.latent_space is not None else None,
        clips=tuple(scene.clips),
    )


def _manifest(
    layout: Layout,
    scenes: Sequence[ReleaseScene],
    collection: str,
    key: str,
    fields: frozenset[str] | None,
    options: Mapping[str, str],
    verdict: LicenceVerdict,
    summary: LayoutSummary,
    files: Mapping[str, ReleaseFile],
) -> ReleaseManifest:
    engine_licences: dict[str, set[str]] = {}
    for scene in scenes:
        for engine, licence in scene.engine_licences.items():
            engine_licences.setdefault(engine, set()).add(licence)
    return ReleaseManifest(
        layout=layout.name,
        consumer=layout.consumer,
        collection=collection,
        release_key=key,
        fields=tuple(sorted(fields)) if fields is not None else None,
        options=options,
        scenes={scene.scene_id: _released(scene) for scene in scenes},
        engine_licences={engine: tuple(sorted(found)) for engine, found in sorted(engine_licences.items())},
        commercial_use=CommercialUse(verdict.allowed, verdict.reasons),
        attribution=verdict.attribution,
        share_alike=verdict.share_alike,
        counts=dict(summary.counts),
        notes=summary.notes,
        stand_ins=dict(summary.stand_ins),
        scene_names=dict(summary.scene_names),
        latent_spaces=tuple(sorted({scene.latent_space.id for scene in scenes if scene.latent_space is not None})),
        files=files,
    )


# --- examine --------------------------------------------------------------------------------------------------------


def examine(destination: Path, layouts: Mapping[str, Layout], *, layout: str | None = None) -> list[Finding]:
    """All faults of a published directory: files unlike the manifest's, and what its consumer would stumble over.

    Args:
        destination: the directory.
        layouts: every layout by name.
        layout: name of its layout, needed where there is no manifest beside it; checksums are not checked then.

    Returns:
        One finding a path and kind, in the order of the paths.

    Raises:
        InputError: no such directory, an unknown layout, none named without a manifest, or another than the manifest's.
        CorruptFileError: the manifest is damaged.
    """
    where = str(destination)
    if not destination.is_dir():
        raise InputError("there is no such directory", where=where, remedy="Check the path, or publish the release.")
    manifest = read_manifest(destination) if manifest_path(destination).exists() else None
    name = manifest.layout if manifest is not None else layout
    if name is None or (layout is not None and layout != name):
        found = "there is no manifest beside it" if name is None else f"it is published as {name}, not as {layout}"
        raise InputError(found, where=where, remedy=f"Name its layout: {', '.join(sorted(layouts))}.")
    if name not in layouts:
        raise InputError(f'there is no layout "{name}"', where=where, remedy=f"Known: {', '.join(sorted(layouts))}.")
    if manifest is None:
        return _merged(layouts[name].examine(destination, {}), {})
    scene_of = manifest.scene_of()
    return _merged([*_unlike(destination, manifest), *layouts[name].examine(destination, scene_of)], scene_of)


def scenes_to_repair(findings: Sequence[Finding]) -> list[str]:
    """Ids of the scenes with files that have to be published again, sorted. A file too many is none's fault."""
    return sorted({found.scene_id for found in findings if found.scene_id and found.kind != FindingKind.UNEXPECTED})


def _unlike(root: Path, manifest: ReleaseManifest) -> Iterator[Finding]:
    for name, file in manifest.files.items():
        fault = _fault(root / name, file)
        if fault is not None:
            yield Finding(name, fault[0], fault[1], file.scene)
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name not in manifest.files and (path.is_symlink() or not path.is_dir()):
            yield Finding(name, FindingKind.UNEXPECTED, "it was not published; move it away")


def _fault(path: Path, file: ReleaseFile) -> tuple[FindingKind, str] | None:
    """What is wrong with a file that should hold what the manifest says; None when it does."""
    if not path.is_file():
        return FindingKind.MISSING, f"there is no such file, {file.bytes} bytes were published"
    size = path.stat().st_size
    if size != file.bytes:
        kind = FindingKind.TRUNCATED if size < file.bytes else FindingKind.CHANGED
        return kind, f"it holds {size} bytes, {file.bytes} were published"
    try:
        found = sha256_of_file(path)
    except OSError as error:
        return FindingKind.CHANGED, f"it cannot be read ({error.strerror})"
    if found != file.sha256:
        return FindingKind.CHANGED, f"its SHA-256 is {found[:12]}…, {file.sha256[:12]}… was published"
    return None


def _merged(findings: Sequence[Finding], scene_of: Mapping[str, str]) -> list[Finding]:
    merged: dict[tuple[str, FindingKind], Finding] = {}
    for found in findings:
        key = (found.path, found.kind)
        scene = found.scene_id or scene_of.get(found.path)
        before = merged.get(key)
        messages = [before.message] if before is not None else []
        if found.message not in messages:
            messages.append(found.message)
        scene = before.scene_id or scene if before is not None else scene
        merged[key] = Finding(found.path, found.kind, "; ".join(messages), scene)
    return [merged[key] for key in sorted(merged)]


# --- repair ---------------------------------------------------------------------------------------------------------


def repair(
    layout: Layout,
    scenes: Sequence[ReleaseScene],
    destination: Path,
    findings: Sequence[Finding],
    *,
    text_encoder: ReleaseTextEncoder | None = None,
) -> list[str]:
    """Put back what the findings say is damaged, and nothing else.

    The scenes that need it are written again beside the release, and each damaged file takes its place only when it
    has the manifest's checksum; so a repaired release is, byte for byte, the one that was published. Where that does
    not give a file (it belongs to the whole release, or depends on the other scenes), all scenes are written again.
    Files too many are left alone.

    Args:
        layout: the manifest's.
        scenes: all scenes of the release, as they were published.
        destination: the release.
        findings: what `examine` said.
        text_encoder: the one that the manifest's options name.

    Returns:
        Ids of the scenes whose files were put back, sorted.

    Raises:
        InputError: a scene is missing or was made anew since, or the layout now writes other bytes.
        StoreError: the file system is full or cannot be written.
    """
    manifest = read_manifest(destination)
    ordered = sorted(scenes, key=lambda scene: scene.scene_id)
    _require_same_scenes(manifest, ordered, destination)
    _require_encoder(manifest.options, text_encoder)
    named = sorted({found.path for found in findings} & manifest.files.keys())
    damaged = [name for name in named if _fault(destination / name, manifest.files[name]) is not None]
    affected = {scene for name in damaged if (scene := manifest.files[name].scene) is not None}
    fields = frozenset(manifest.fields) if manifest.fields is not None else None
    request = ReleaseRequest(destination, fields, manifest.options, text_encoder)
    with _errors_named(destination), _locked(destination):
        remaining = damaged
        if affected and affected != manifest.scenes.keys():
            some = [scene for scene in ordered if scene.scene_id in affected]
            try:
                remaining = _put_back(layout, some, request, manifest, remaining)
            except InputError:
                remaining = damaged  # The layout cannot be made of these scenes alone.
        if remaining:
            remaining = _put_back(layout, ordered, request, manifest, remaining)
    if remaining:
        raise InputError(
            f"{len(remaining)} files come out with other bytes than were published: {', '.join(remaining[:5])}",
            where=str(destination),
            remedy="This version writes the layout differently: publish the release again somewhere else.",
        )
    return sorted(affected)


def _put_back(
    layout: Layout,
    scenes: Sequence[ReleaseScene],
    request: ReleaseRequest,
    manifest: ReleaseManifest,
    damaged: Sequence[str],
) -> list[str]:
    """Write the scenes and move what fits the manifest into the release; returns the damaged files still left."""
    with _part_directory(request.destination) as part:
        layout.write(ReleaseDirectory(part), scenes, request)
        whole = [name for name in damaged if _fault(part / name, manifest.files[name]) is None]
        for name in whole:
            target = request.destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync(part / name)
            (part / name).replace(target)
            _sync(target.parent)
    return [name for name in damaged if name not in set(whole)]


def _require_same_scenes(manifest: ReleaseManifest, scenes: Sequence[ReleaseScene], destination: Path) -> None:
    now = {scene.scene_id: _scene_key(_released(scene)) for scene in scenes}
    then = {scene_id: _scene_key(scene) for scene_id, scene in manifest.scenes.items()}
    unlike = sorted(scene_id for scene_id in now.keys() | then.keys() if now.get(scene_id) != then.get(scene_id))
    if unlike:
        raise InputError(
            f"{', '.join(unlike)} changed since, came or went",
            where=str(destination),
            remedy="The files of the release cannot be made again: publish a new release somewhere else.",
        )
