"""Publishing finished scenes in a layout and repairing what was published, for assets and commands alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..datasets.errors import InputError
from ..datasets.layouts.captions import CAPTION, read_captions, with_captions
from ..datasets.layouts.manifest import ReleaseManifest, manifest_path, read_manifest
from ..datasets.layouts.publishing import publish, repair
from ..datasets.layouts.registry import require_layout
from ..datasets.layouts.release import TEXT_ENCODER, Finding, Layout, ReleaseScene, ReleaseTextEncoder
from . import clip_captions
from .release_scenes import Selection, default_destination, release_scenes
from .release_text_encoder import profile_text_encoder, release_text_encoder
from .scene_runtime import SceneRuntime


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish where.

    Attributes:
        layout: what to write.
        out: the directory to make; None for the profile's folder of releases.
        selection: which scenes.
        fields: names of the layout's fields; None for all.
        options: settings of the layout; `text_encoder` names a folder or hub id, from which it is loaded, in place of
            the profile's.
        caption_file: CSV with the columns scene_id and caption; its captions take the place of the scenes' prompts and
            of what the stage clip_captions wrote.
        commercial: refuse scenes that may not be used commercially.
    """

    layout: Layout
    out: Path | None = None
    selection: Selection = field(default_factory=Selection)
    fields: frozenset[str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    caption_file: Path | None = None
    commercial: bool = False


def publish_release(runtime: SceneRuntime, asked: Publication) -> tuple[ReleaseManifest, Path]:
    """Publish what is asked for; returns the manifest and the directory.

    Raises:
        InputError, StoreError: as `publish` and `release_scenes`; a caption is of a scene that is not in the catalogue.
        EngineError: the text encoder's files are missing, or are of another kind of model.
    """
    layout = asked.layout
    destination = asked.out.absolute() if asked.out else default_destination(runtime, layout.name)
    table = read_captions(asked.caption_file) if asked.caption_file is not None else {}
    scenes = release_scenes(
        runtime,
        layout.needs,
        asked.selection,
        captioned=lambda scene_id: CAPTION in layout.options and scene_id not in table,
    )
    if asked.caption_file is not None:
        known = [scene.scene_id for scene in runtime.catalog().active()]
        scenes = with_captions(scenes, table, known, str(asked.caption_file))
    # A layout that takes no encoder refuses the option by name, before any model is loaded.
    takes_encoder = TEXT_ENCODER in layout.options
    options = {name: value for name, value in asked.options.items() if not (takes_encoder and name == TEXT_ENCODER)}
    manifest = publish(
        layout,
        scenes,
        destination,
        collection=runtime.profile.collection.name,
        fields=asked.fields,
        options=options,
        commercial=asked.commercial,
        text_encoder=_text_encoder(runtime, asked.options) or profile_text_encoder(runtime.engines)
        if takes_encoder
        else None,
    )
    return manifest, destination


def repair_release(runtime: SceneRuntime, directory: Path, findings: Sequence[Finding]) -> list[str]:
    """Publish again what the findings say is damaged; returns the ids of the scenes that needed it.

    Raises:
        InputError, StoreError: as `repair`; the release is of another collection than the profile's.
    """
    manifest = read_manifest(directory)
    if manifest.collection != runtime.profile.collection.name:
        raise InputError(
            f"the release is of the collection {manifest.collection}, the profile of {runtime.profile.collection.name}",
            where=str(manifest_path(directory)),
            remedy="Name the profile that it was published from with --config.",
        )
    layout = require_layout(manifest.layout)
    scenes = release_scenes(
        runtime,
        layout.needs,
        Selection(scenes=tuple(manifest.scenes)),
        captioned=lambda scene_id: clip_captions.NAME in manifest.scenes[scene_id].engines,
    )
    scenes = _as_published(scenes, manifest)
    return repair(layout, scenes, directory, findings, text_encoder=_text_encoder(runtime, manifest.options))


def _text_encoder(runtime: SceneRuntime, options: Mapping[str, str]) -> ReleaseTextEncoder | None:
    return release_text_encoder(options[TEXT_ENCODER], runtime.engines) if TEXT_ENCODER in options else None


def _as_published(scenes: Sequence[ReleaseScene], manifest: ReleaseManifest) -> list[ReleaseScene]:
    """The scenes with the captions that they were published with, which may have come from a table."""
    return [replace(scene, prompt=manifest.scenes[scene.scene_id].prompt) for scene in scenes]
