"""`sceneloom publish` and `sceneloom doctor`: write a layout, and read one back as its consumer does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ..assets.release_scenes import Selection, default_destination, release_scenes
from ..assets.scene_runtime import SceneRuntime
from ..datasets.errors import InputError
from ..datasets.layouts.manifest import ReleaseManifest, manifest_path, read_manifest
from ..datasets.layouts.publishing import examine, repair, scenes_to_repair
from ..datasets.layouts.publishing import publish as publish_layout
from ..datasets.layouts.registry import LAYOUTS, require_layout
from ..datasets.layouts.release import Finding
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
    commercial: Annotated[bool, typer.Option("--commercial", help="Refuse what may not be used commercially.")] = False,
) -> None:
    """Publish the collection's finished scenes in a layout that existing training code reads."""
    chosen = require_layout(layout)
    runtime = SceneRuntime(load_profile(config))
    destination = out.absolute() if out else default_destination(runtime, layout)
    manifest = publish_layout(
        chosen,
        release_scenes(runtime, chosen.needs, Selection(tuple(split or ()), tuple(scene or ()))),
        destination,
        collection=runtime.profile.collection.name,
        fields=frozenset(field) if field else None,
        options=_options(option or []),
        commercial=commercial,
    )
    _print_release(manifest, destination)


def doctor(
    directory: Annotated[Path, typer.Argument(help="A published layout.")],
    layout: Annotated[
        str | None, typer.Option(help="Its layout, where there is no manifest beside the directory.")
    ] = None,
    repair_scenes: Annotated[
        bool, typer.Option("--repair", help="Publish again exactly the scenes that need it.")
    ] = False,
    config: _Config = None,
) -> None:
    """Read a published layout as its consumer does; name what is missing, damaged or out of convention."""
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
    _repair(directory, findings, SceneRuntime(load_profile(config)))
    remaining = examine(directory, LAYOUTS)
    _print_findings(directory, remaining)
    if remaining:
        raise typer.Exit(1)


def _repair(directory: Path, findings: list[Finding], runtime: SceneRuntime) -> None:
    manifest = read_manifest(directory)
    if manifest.collection != runtime.profile.collection.name:
        raise InputError(
            f"the release is of the collection {manifest.collection}, the profile of {runtime.profile.collection.name}",
            where=str(manifest_path(directory)),
            remedy="Name the profile that it was published from with --config.",
        )
    chosen = require_layout(manifest.layout)
    scenes = release_scenes(runtime, chosen.needs, Selection(scenes=tuple(manifest.scenes)))
    repaired = repair(chosen, scenes, directory, findings)
    print(f"scenes published again: {', '.join(repaired) or 'none'}")


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
