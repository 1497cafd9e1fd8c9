"""`sceneloom publish` and `sceneloom doctor`: write a layout, and read one back as its consumer does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ..assets.release_publication import Publication, publish_release, repair_release
from ..assets.release_scenes import Selection
from ..assets.scene_runtime import SceneRuntime
from ..datasets.errors import InputError
from ..datasets.layouts.manifest import ReleaseManifest, manifest_path
from ..datasets.layouts.publishing import examine, scenes_to_repair
from ..datasets.layouts.registry import LAYOUTS, require_layout
from ..datasets.layouts.release import TEXT_ENCODER, Finding
from ..resources.profiles import load_profile

_Config = Annotated[str | None, typer.Option(help="The profile; without it SCENELOOM_CONFIG, else the demo's.")]


def publish(
    layout: Annotated[str, typer.Argument(help=f"One of: {', '.join(LAYOUTS)}.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory to publish; without it the profile's folder of releases.")
    ] = None,
    config: _Config = None,
    split: Annotated[list[str] | None, typer.Option(help="Take only this split; may be given again.")] = None,
    scene: Annotated[list[str] | None, typer.Option(help="Take only this scene; may be given again.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="Write only this field; may be given again.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="A setting of the layout, NAME=VALUE.")] = None,
    caption_file: Annotated[
        Path | None, typer.Option(help="CSV with the columns scene_id and caption, in place of the scenes' prompts.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Folder or hub id of the text encoder, for layouts that hold embeddings.")
    ] = None,
    commercial: Annotated[bool, typer.Option("--commercial", help="Refuse what may not be used commercially.")] = False,
) -> None:
    """Publish the collection's finished scenes in a layout that existing training code reads."""
    chosen = require_layout(layout)
    options = _options(option or []) | ({TEXT_ENCODER: text_encoder} if text_encoder else {})
    asked = Publication(
        chosen,
        out=out,
        selection=Selection(tuple(split or ()), tuple(scene or ())),
        fields=frozenset(field) if field else None,
        options=options,
        caption_file=caption_file,
        commercial=commercial,
    )
    manifest, destination = publish_release(SceneRuntime(load_profile(config)), asked)
    _print_release(manifest, destination)


def doctor(
    directory: Annotated[
        Path | None, typer.Argument(help="A published layout; without it the machine is examined, for the profile.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Its layout, where there is no manifest beside the directory.")
    ] = None,
    repair_scenes: Annotated[
        bool, typer.Option("--repair", help="Publish again exactly the scenes that need it.")
    ] = False,
    config: _Config = None,
) -> None:
    """Examine this machine for the profile, or read a published layout as its consumer does; name what is wrong."""
    if directory is None:
        _examine_machine(config, layout, repair_scenes)
        return
    directory = directory.absolute()
    findings = examine(directory, LAYOUTS, layout=layout)
    _print_findings(directory, findings)
    if not findings:
        return
    affected = scenes_to_repair(findings)
    if not repair_scenes:
        if affected:
            print(f"{len(affected)} scenes need repair: {', '.join(affected)}. `--repair` publishes them again.")
        raise typer.Exit(1)
    repaired = repair_release(SceneRuntime(load_profile(config)), directory, findings)
    print(f"scenes published again: {', '.join(repaired) or 'none'}")
    remaining = examine(directory, LAYOUTS)
    _print_findings(directory, remaining)
    if remaining:
        raise typer.Exit(1)


def _examine_machine(config: str | None, layout: str | None, repair_scenes: bool) -> None:
    from .doctor_machine import examine_machine

    if layout is not None or repair_scenes:
        raise InputError(
            "--layout and --repair are of a published layout, and no directory is named",
            where="sceneloom doctor",
            remedy="Name the directory, or leave them out to examine the machine.",
        )
    if not examine_machine(load_profile(config)):
        raise typer.Exit(1)


def _options(given: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    wrong = [name for name, equals, _ in pairs if not equals or not name]
    if wrong:
        raise InputError(f'"{wrong[0]}" is no setting', where="--option", remedy="Write --option NAME=VALUE.")
    return {name: value for name, _, value in pairs}


def _print_release(manifest: ReleaseManifest, destination: Path) -> None:
    size = sum(file.bytes for file in manifest.files.values())
    counts = ", ".join(f"{count} {what}" for what, count in manifest.counts.items() if what != "scenes")
    print(f"{destination}: {len(manifest.scenes)} scenes, {counts}, {len(manifest.files)} files, {size / 1e6:.1f} MB")
    print(f"manifest: {manifest_path(destination)}")
    for part, stands_for in manifest.stand_ins.items():
        print(f"stand-in: {part}, in place of {stands_for}")
    if not manifest.commercial_use.allowed:
        print(f"not for commercial use: {'; '.join(manifest.commercial_use.reasons)}")
    for note in manifest.notes:
        print(note)


def _print_findings(directory: Path, findings: list[Finding]) -> None:
    for found in findings:
        print(f"{found.path}: {found.kind}: {found.message}")
    kinds = Counter(str(found.kind) for found in findings)
    summary = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{directory}: {summary or 'nothing wrong found'}")
