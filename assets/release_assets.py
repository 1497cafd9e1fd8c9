"""Assets `release/<layout>`: the collection published in each layout, with a check that reads it back."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from ..datasets.layouts.manifest import ReleaseManifest, manifest_path
from ..datasets.layouts.publishing import examine
from ..datasets.layouts.registry import LAYOUTS
from ..datasets.layouts.release import Layout
from .collection_tables import SCENEGEN_TABLE, TRAINING_INDEX
from .event_metadata import plain_failures
from .release_publication import Publication, publish_release
from .release_scenes import Selection, default_destination
from .scene_assets import OWNERS, RUNTIME_RESOURCE
from .scene_runtime import SceneRuntime

RELEASE_GROUP = "releases"
SHOWN_FINDINGS = 50


class ReleaseConfig(dg.Config):
    """What to publish where; the launchpad shows the descriptions."""

    out: str = Field(default="", description="Directory to publish; empty for the profile's folder of releases.")
    splits: list[str] = Field(default=[], description="Splits to take; empty for all.")
    scenes: list[str] = Field(default=[], description="Ids of scenes; empty for all that are finished.")
    fields: list[str] = Field(default=[], description="Fields of the layout; empty for all.")
    options: dict[str, str] = Field(default={}, description="Further settings of the layout.")
    caption_file: str = Field(
        default="", description="CSV with the columns scene_id and caption, in place of the scenes' prompts."
    )
    commercial: bool = Field(default=False, description="Refuse scenes that may not be used commercially.")


def build_release_assets() -> list[dg.AssetsDefinition]:
    """One asset a layout."""
    return [_release_asset(layout) for layout in LAYOUTS.values()]


def build_release_checks() -> list[dg.AssetChecksDefinition]:
    """One check a layout: the release is read back as its consumer reads it."""
    return [_release_check(layout) for layout in LAYOUTS.values()]


def _key(layout: Layout) -> dg.AssetKey:
    return dg.AssetKey(["release", layout.name])


def _release_asset(layout: Layout) -> dg.AssetsDefinition:
    @dg.asset(
        key=_key(layout),
        deps=[TRAINING_INDEX if layout.needs == "clips" else SCENEGEN_TABLE],
        description=f"{layout.description[:1].upper()}{layout.description[1:].rstrip('.')}. Read by {layout.consumer}.",
        group_name=RELEASE_GROUP,
        owners=OWNERS,
        kinds={"dataset"},
        required_resource_keys={RUNTIME_RESOURCE},
    )
    def release(context: dg.AssetExecutionContext, config: ReleaseConfig) -> dg.MaterializeResult:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        with plain_failures():
            manifest, destination = publish_release(runtime, _asked(layout, config))
        return dg.MaterializeResult(metadata=_metadata(manifest, destination))

    return release


def _asked(layout: Layout, config: ReleaseConfig) -> Publication:
    return Publication(
        layout,
        out=Path(config.out) if config.out else None,
        selection=Selection(tuple(config.splits), tuple(config.scenes)),
        fields=frozenset(config.fields) if config.fields else None,
        options=config.options,
        caption_file=Path(config.caption_file) if config.caption_file else None,
        commercial=config.commercial,
    )


def _metadata(manifest: ReleaseManifest, destination: Path) -> dict[str, dg.MetadataValue]:
    return {
        "dagster/uri": dg.MetadataValue.path(str(destination)),
        "manifest": dg.MetadataValue.path(str(manifest_path(destination))),
        "scenes": dg.MetadataValue.int(len(manifest.scenes)),
        "files": dg.MetadataValue.int(len(manifest.files)),
        "bytes": dg.MetadataValue.int(sum(file.bytes for file in manifest.files.values())),
        "counts": dg.MetadataValue.json(dict(manifest.counts)),
        "commercial_use": dg.MetadataValue.bool(manifest.commercial_use.allowed),
        "stand_ins": dg.MetadataValue.json(dict(manifest.stand_ins)),
        "notes": dg.MetadataValue.md("\n\n".join(manifest.notes)),
    }


def _release_check(layout: Layout) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name="reads_back",
        asset=_key(layout),
        description=f"Every file holds what was published and reads as {layout.consumer} reads it.",
        required_resource_keys={RUNTIME_RESOURCE},
    )
    def reads_back(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        destination = _published(context, runtime, layout)
        findings = examine(destination, LAYOUTS)
        return dg.AssetCheckResult(
            passed=not findings,
            metadata={
                "directory": dg.MetadataValue.path(str(destination)),
                "findings": len(findings),
                "first": dg.MetadataValue.md(
                    "\n".join(f"* `{found.path}`: {found.kind}: {found.message}" for found in findings[:SHOWN_FINDINGS])
                ),
            },
        )

    return reads_back


def _published(context: dg.AssetCheckExecutionContext, runtime: SceneRuntime, layout: Layout) -> Path:
    """Where the latest release of the layout was published, as its materialization says."""
    event = context.instance.get_latest_materialization_event(_key(layout))
    materialization = event.asset_materialization if event else None
    uri = materialization.metadata.get("dagster/uri") if materialization else None
    return Path(str(uri.value)) if uri else default_destination(runtime, layout.name)
