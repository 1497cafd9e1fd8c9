"""The manifest of a release: what was published, from what, under which terms, and the checksum of every file.

It lies beside the published directory (`NAME.release.json` beside `NAME`), never inside, so that the directory holds
exactly what its consumer expects. There is no time in it: the same scenes give the same manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CorruptFileError, InputError
from ..files import write_bytes_atomically

FORMAT = "sceneloom.release/2"

CONVENTIONS: Mapping[str, str] = {
    "camera_axes": "OpenCV: x right, y down, z forward",
    "poses": "camera-to-world",
    "intrinsics": "fx, fy, cx, cy in pixels, pixel centres at +0.5",
    "depth": "z-depth, 0 = invalid",
    "rgb": "uint8 sRGB",
    "latents": "float16, normalised as the latent space declares",
}
"""Of the scenes that a release is written from; a layout converts them to what its consumer reads."""


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One published file: its size, SHA-256 (64 hex digits), and the scene it belongs to (None: the whole release)."""

    bytes: int
    sha256: str
    scene: str | None = None


@dataclass(frozen=True, slots=True)
class ReleasedScene:
    """What a release says of one scene; attributes as those of `ReleaseScene`.

    Attributes:
        metric: whether all its clips are truly in metres; None for a scene without clips.
        latent_space: id of the space of its latents.
        clips: names of its trajectories.
    """

    content_key: str
    split: str
    seed: int
    licence: str | None
    prompt: str | None
    engines: Mapping[str, str]
    engine_licences: Mapping[str, str]
    metric: bool | None
    latent_space: str | None
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommercialUse:
    """Whether the release may be used commercially, and why not."""

    allowed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReleaseManifest:
    """What a release is.

    Attributes:
        layout, consumer: which layout it is in, and whose code reads that.
        collection: the collection it is a part of.
        release_key: digest of all that decides the files' bytes; another key is another release.
        fields: names of the fields asked for, None for all.
        options: the layout's settings.
        scenes: by id.
        engine_licences: every licence that an engine's work came under, by engine.
        commercial_use: whether it is allowed.
        attribution: sources that must be named.
        share_alike: licences that pass on to what is made of the release.
        counts, notes, stand_ins, scene_names: as the layout's summary says.
        latent_spaces: ids of the latents' spaces.
        conventions: of the scenes that it was written from.
        files: by POSIX path below the directory.
    """

    layout: str
    consumer: str
    collection: str
    release_key: str
    fields: tuple[str, ...] | None
    options: Mapping[str, str]
    scenes: Mapping[str, ReleasedScene]
    engine_licences: Mapping[str, tuple[str, ...]]
    commercial_use: CommercialUse
    attribution: tuple[str, ...]
    share_alike: tuple[str, ...]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    stand_ins: Mapping[str, str]
    scene_names: Mapping[str, str]
    latent_spaces: tuple[str, ...]
    files: Mapping[str, ReleaseFile]
    conventions: Mapping[str, str] = field(default_factory=lambda: dict(CONVENTIONS))

    def scene_of(self) -> dict[str, str]:
        """Scene by path, of the files that belong to one."""
        return {path: file.scene for path, file in self.files.items() if file.scene is not None}

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        content = {name: getattr(self, name) for name in _PLAIN}
        content["format"] = FORMAT
        content["scenes"] = {scene_id: _values(scene) for scene_id, scene in self.scenes.items()}
        content["files"] = {path: _values(file) for path, file in self.files.items()}
        content["commercial_use"] = _values(self.commercial_use)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, where: str) -> ReleaseManifest:
        """The manifest that `to_json` gave. Raises CorruptFileError naming `where` for anything else."""
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise CorruptFileError(f"the format is {found}, expected {FORMAT}", where=where, remedy=_REMEDY)
        try:
            return cls(
                **{name: _frozen(content[name]) for name in _PLAIN},
                scenes={scene_id: ReleasedScene(**_frozen_values(row)) for scene_id, row in content["scenes"].items()},
                files={path: ReleaseFile(**row) for path, row in content["files"].items()},
                commercial_use=CommercialUse(**_frozen_values(content["commercial_use"])),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise CorruptFileError(f"a part is missing or unknown ({error})", where=where, remedy=_REMEDY) from error


_REMEDY = "Publish the release again in another place; its files cannot be told from damaged ones without a manifest."
_PLAIN = tuple(
    name for name in ReleaseManifest.__dataclass_fields__ if name not in ("scenes", "files", "commercial_use")
)


def manifest_path(destination: Path) -> Path:
    """Where the manifest of the directory `destination` lies."""
    return destination.with_name(f"{destination.name}.release.json")


def write_manifest(destination: Path, manifest: ReleaseManifest) -> None:
    """Write the manifest beside the directory, whole or not at all; the same manifest gives the same bytes."""
    text = json.dumps(manifest.to_json(), indent=1, sort_keys=True, ensure_ascii=False)
    write_bytes_atomically(manifest_path(destination), f"{text}\n".encode())


def read_manifest(destination: Path) -> ReleaseManifest:
    """The manifest of the directory `destination`.

    Raises:
        InputError: there is none.
        CorruptFileError: it is cut short, or is none of this version.
    """
    path = manifest_path(destination)
    where = str(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            "there is no manifest",
            where=where,
            remedy="Check the path; a copied release needs the .release.json from beside it too.",
        ) from error
    except ValueError as error:
        raise CorruptFileError(f"the manifest is not JSON ({error})", where=where, remedy=_REMEDY) from error
    return ReleaseManifest.from_json(content, where=where)


def _values(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return {name: _frozen(each) for name, each in value.items()}
    return value


def _frozen_values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _frozen(value) for name, value in row.items()}
