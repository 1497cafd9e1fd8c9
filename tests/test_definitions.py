"""What Dagster sees when it loads the code location, and that loading it is light."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest

from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stages import STAGES
from sceneloom.datasets.layouts.registry import LAYOUTS
from sceneloom.orchestration.code_location import ACCELERATOR_POOL, build_definitions, device_pool
from sceneloom.orchestration.instance import CHECKOUT
from sceneloom.resources.profiles import Profile
from sceneloom.resources.transformers_settings import CaptionSettings

from .dagster_servers import environment
from .toy_stages import toy_profile

SCENE_ASSETS = {
    "conditioning_view",
    "scene_scaffold",
    "camera_paths",
    "video_latents",
    "depth_and_poses",
    "scene_objects",
    "quality_report",
    "gaussian_shards",
    "clip_captions",
    "scene_preview",
}
TABLE_ASSETS = {"scene_catalog", "scenegen_metadata", "training_index"}
RELEASE_ASSETS = {f"release/{name}" for name in LAYOUTS}
RELEASE_CHECKS = {(asset, "reads_back") for asset in RELEASE_ASSETS}
TABLE_CHECKS = {
    ("scene_catalog", "scene_catalog_schema"),
    ("scene_catalog", "scene_rejects_schema"),
    ("scenegen_metadata", "scenegen_metadata_schema"),
    ("training_index", "training_index_schema"),
}
HEAVY = ("torch", "diffusers", "transformers", "warp", "cv2", "rerun", "trimesh", "scipy", "av", "zarr")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return toy_profile(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def definitions(profile: Profile) -> dg.Definitions:
    return build_definitions(SceneRuntime(profile))


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_exactly_these_assets_in_their_groups(definitions: dg.Definitions) -> None:
    groups = {name: spec.group_name for name, spec in specs(definitions).items()}
    expected = {"scenes": SCENE_ASSETS, "tables": TABLE_ASSETS, "releases": RELEASE_ASSETS}
    assert groups == {name: group for group, names in expected.items() for name in names}


def test_every_asset_tells_what_it_is(definitions: dg.Definitions) -> None:
    for name, spec in specs(definitions).items():
        assert len(spec.description or "") > 30, name
        assert spec.owners == ["team:scene-data"], name
        assert spec.kinds, name


def test_the_lineage_is_that_of_the_stages(definitions: dg.Definitions) -> None:
    parents = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs(definitions).items()}
    for stage in STAGES:
        assert parents[stage.name] == (set(stage.inputs) or {"scene_catalog"})
    assert parents["scene_catalog"] == set()
    assert parents["scenegen_metadata"] == {"scene_objects"}
    assert parents["training_index"] == {"gaussian_shards", "clip_captions"}
    assert parents["release/lyra_static"] == {"training_index"}
    assert parents["release/scenegen"] == {"scenegen_metadata"}


def test_only_scenes_are_partitioned_and_versioned(definitions: dg.Definitions) -> None:
    for name, spec in specs(definitions).items():
        assert isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition) == (name in SCENE_ASSETS), name
    versions = {stage.name: stage.code_version for stage in STAGES}
    assert {name: specs(definitions)[name].code_version for name in versions} == versions


def test_every_contract_and_every_table_has_its_check(definitions: dg.Definitions) -> None:
    keys = definitions.resolve_asset_graph().asset_check_keys
    contracts = {(stage.name, check) for stage in STAGES for check in stage.checks}
    assert {(key.asset_key.to_user_string(), key.name) for key in keys} == contracts | TABLE_CHECKS | RELEASE_CHECKS
    arrays = {"camera_paths", "video_latents", "depth_and_poses", "scene_objects"}
    assert arrays <= {asset for asset, _ in contracts}


def test_the_verdict_on_quality_is_a_check(definitions: dg.Definitions) -> None:
    assert ("quality_report", "clips_within_thresholds") in {
        (key.asset_key.to_user_string(), key.name) for key in definitions.resolve_asset_graph().asset_check_keys
    }


def test_jobs_schedules_and_sensors(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert jobs == {"make_scenes", "rebuild_tables", "refresh", "repair"}
    assert {schedule.name for schedule in repository.schedule_defs} == {"nightly_refresh"}
    assert {sensor.name for sensor in repository.sensor_defs} == {"new_inputs", "missing_scenes"}
    told = [*(job for job in repository.get_all_jobs() if job.name in jobs), *repository.sensor_defs]
    assert all(each.description for each in told)


def test_a_backfill_puts_the_profiles_number_of_scenes_into_a_run(profile: Profile) -> None:
    few = profile.model_copy(update={"execution": profile.execution.model_copy(update={"scenes_per_run": 3})})
    graph = build_definitions(SceneRuntime(few)).resolve_asset_graph()
    policy = graph.get(dg.AssetKey("video_latents")).backfill_policy
    assert policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=3)


def test_stages_share_a_pool_only_where_they_share_a_device(profile: Profile) -> None:
    assert device_pool(profile) is None
    engines = profile.engines
    codec = engines.latent_codec.model_copy(update={"device": "cuda:0"})
    on_device = profile.model_copy(update={"engines": engines.model_copy(update={"latent_codec": codec})})
    assert device_pool(on_device) == ACCELERATOR_POOL
    captions = CaptionSettings(id="owner/model", device="cuda")
    captioned = profile.model_copy(update={"engines": engines.model_copy(update={"captions": captions})})
    assert device_pool(captioned) == ACCELERATOR_POOL


def test_importing_the_definitions_loads_no_model_library(profile: Profile, tmp_path: Path) -> None:
    program = (
        "import sys, sceneloom.orchestration.definitions; "
        f"print(sorted(name for name in {HEAVY!r} if name in sys.modules))"
    )
    assert _run([sys.executable, "-c", program], tmp_path, profile.file).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        ["dagster", "definitions", "validate", "-w", str(CHECKOUT / "workspace.yaml")],
        ["dg", "check", "defs"],
    ],
    ids=["dagster", "dg"],
)
def test_dagsters_own_checks_pass(command: Sequence[str], home: Path, profile: Profile) -> None:
    done = _run(command, home, profile.file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_faulty_profile_is_told_where_dagster_loads_the_code(home: Path, tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text("format: sceneloom.profile/1\nframes: {count: 17, height: 180, width: 320}\n")
    done = _run(["dagster", "definitions", "validate", "-w", str(CHECKOUT / "workspace.yaml")], home, faulty)
    assert done.returncode != 0
    assert (
        f"{faulty}:2: frames.height: 180 pixels, not a multiple of 16. The nearest possible sides are 176 and 192."
        in (done.stdout + done.stderr)
    )


def _run(command: Sequence[str], home: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout, by which `dg` finds the project; in a session of its own, as Dagster interrupts
    the code servers it started."""
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env=environment(home, profile),
        capture_output=True,
        text=True,
        timeout=180,
        start_new_session=True,
    )
