"""Code versions: the code behind each stage is found whole, and it does not change under the same version."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sceneloom.assets.stages import STAGES
from sceneloom.resources import embedded_engines

from . import code_versions
from .code_versions import Source, UnknownSource, closure, digest, lock_entry, stage_sources

OPS_OF_NO_STAGE = {
    "ops/block_pca.py": "yardstick of the latent codec",
    "ops/forward_warping_reference.py": "oracle of the 3D cache",
    "ops/gaussian_rasteriser_reference.py": "oracle of the Gaussian rasteriser",
    "ops/perceptual_hash.py": "duplicates in collections",
    "ops/raycast_reference.py": "oracle of the ray caster",
    "ops/warping_reference.py": "oracle of the reprojection",
}
BY_NAME = {stage.name: stage for stage in STAGES}


def test_no_code_changed_under_the_same_code_version() -> None:
    lock = code_versions.read_lock()
    now = {stage.name: lock_entry(stage) for stage in STAGES}
    forgotten = code_versions.forgotten_versions(lock, now)
    assert not forgotten, f"bump code_version, then run python tests/code_versions.py: {forgotten}"
    unlocked = [name for name, entry in now.items() if lock.get(name, {}).get("code_version") != entry["code_version"]]
    assert not unlocked, f"run python tests/code_versions.py: {unlocked} have new versions"


def test_every_op_belongs_to_a_stage_or_to_a_reason() -> None:
    used = {source.module for stage in STAGES for source in stage_sources(stage)}
    ops = {f"ops/{path.name}" for path in (code_versions.ROOT / "ops").glob("*.py") if path.name != "__init__.py"}
    assert ops - used == OPS_OF_NO_STAGE.keys()


def test_every_embedded_engine_belongs_to_a_stage() -> None:
    named = {source for stage in STAGES for source in stage.sources}
    engines = [name for name, value in vars(embedded_engines).items() if "contract" in getattr(value, "__dict__", {})]
    assert engines
    assert {f"resources/embedded_engines.py:{name}" for name in engines} <= named


@pytest.mark.parametrize(
    ("stage", "uses", "spares"),
    [
        ("conditioning_view", {"ops/rooms.py", "ops/pictures.py", "ops/raycast_kernels.py"}, {"ops/box_scene.py"}),
        ("scene_scaffold", {"ops/box_scene.py", "ops/vanishing_point.py"}, {"ops/rooms.py"}),
        ("camera_paths", {"ops/clearance.py", "ops/trajectories.py", "datasets/colmap_files.py"}, {"ops/quality.py"}),
        ("video_latents", {"datasets/video.py", "ops/raycast_kernels.py"}, {"ops/rooms.py", "ops/clearance.py"}),
        ("depth_and_poses", {"ops/alignment.py", "ops/scene_cache.py"}, {"ops/rooms.py"}),
        ("scene_objects", {"ops/object_export.py", "ops/object_poses.py"}, {"ops/alignment.py"}),
        ("quality_report", {"ops/quality.py", "ops/warping_kernels.py"}, {"ops/raycast.py"}),
        ("gaussian_shards", {"datasets/shards.py"}, {"ops/quality.py"}),
        ("scene_preview", {"ops/object_poses.py"}, {"datasets/shards.py"}),
    ],
)
def test_a_stage_answers_for_what_it_uses_and_for_nothing_else(stage: str, uses: set[str], spares: set[str]) -> None:
    modules = {source.module for source in stage_sources(BY_NAME[stage])}
    assert uses <= modules
    assert not spares & modules


def test_an_engine_of_one_stage_is_no_matter_of_another() -> None:
    of_video = set(map(str, stage_sources(BY_NAME["video_latents"])))
    of_depth = set(map(str, stage_sources(BY_NAME["depth_and_poses"])))
    assert "resources/embedded_engines.py:_RaycastScene" in of_video - of_depth
    assert "resources/embedded_engines.py:_GroundTruthScene" in of_depth - of_video
    assert any(source.startswith("resources/cosmos_streaming.py:") for source in of_video - of_depth)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository: a stage module, a helper beside it, and two modules of ops."""
    files = {
        "assets/painting.py": '''
from ..ops import colours
from .helpers import frame as framed
LIMIT = 3
UNUSED = 4

def make(context):
    """Paint."""
    from ..ops.lazy import late
    return framed(colours.mix(LIMIT), late)
''',
        "assets/helpers.py": "def frame(picture, other):\n    return _edge(picture)\n\n"
        "def _edge(picture):\n    return picture\n\ndef stranger():\n    return 1\n",
        "ops/colours.py": "from .pigments import RED\nmix = RED.mix\n",
        "ops/pigments.py": "RED = object()\n",
        "ops/lazy.py": "late = 1\n",
        "ops/stranger.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    code_versions.read_module.cache_clear()
    return tmp_path


START = [Source("assets/painting.py", "make")]


def test_names_are_followed_to_their_definitions(checkout: Path) -> None:
    assert set(map(str, closure(START, checkout))) == {
        "assets/painting.py:make",
        "assets/painting.py:LIMIT",
        "assets/helpers.py:frame",
        "assets/helpers.py:_edge",
        "ops/colours.py",
        "ops/pigments.py",
        "ops/lazy.py",
    }


def _digests(checkout: Path) -> dict[str, str]:
    code_versions.read_module.cache_clear()
    return {str(source): digest(source, checkout) for source in closure(START, checkout)}


def _edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("file", "before", "after", "changed"),
    [
        ("assets/painting.py", '"""Paint."""', '"""Paint a wall."""  # soon', set()),
        ("assets/painting.py", "UNUSED = 4", "UNUSED = 5", set()),
        ("assets/helpers.py", "return 1", "return 2", set()),
        ("assets/painting.py", "LIMIT = 3", "LIMIT = 2", {"assets/painting.py:LIMIT"}),
        ("assets/helpers.py", "return picture", "return picture + 1", {"assets/helpers.py:_edge"}),
        ("ops/pigments.py", "object()", "str()", {"ops/pigments.py"}),
        ("ops/lazy.py", "late = 1", "late = True", {"ops/lazy.py"}),
    ],
)
def test_only_code_that_counts_changes_a_digest(
    checkout: Path, file: str, before: str, after: str, changed: set[str]
) -> None:
    old = _digests(checkout)
    _edit(checkout / file, before, after)
    new = _digests(checkout)
    assert {name for name in old if old[name] != new.get(name)} == changed


def test_sources_that_do_not_exist_are_named() -> None:
    stage = BY_NAME["video_latents"]
    with pytest.raises(UnknownSource, match=r"video_latents names resources/no_engine\.py"):
        stage_sources(dataclasses.replace(stage, sources=("resources/no_engine.py:Engine",)))
    with pytest.raises(UnknownSource, match=r"embedded_engines\.py does not define it"):
        stage_sources(dataclasses.replace(stage, sources=("resources/embedded_engines.py:NoEngine",)))


def test_the_lock_is_not_rewritten_where_a_version_was_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock.json"
    stage = BY_NAME["quality_report"]
    assert code_versions.main([], lock, [stage]) == 0
    entry = json.loads(lock.read_text())
    entry["quality_report"]["sources"]["ops/quality.py"] = "0" * 16
    lock.write_text(json.dumps(entry))

    assert code_versions.main([], lock, [stage]) == 1
    assert "quality_report: ops/quality.py changed; bump" in capsys.readouterr().out
    assert json.loads(lock.read_text()) == entry

    bumped = dataclasses.replace(stage, code_version="2")
    assert code_versions.main([], lock, [bumped]) == 0
    assert json.loads(lock.read_text())["quality_report"]["code_version"] == "2"

    lock.write_text(json.dumps(entry))
    assert code_versions.main(["--same-output"], lock, [stage]) == 0
    assert code_versions.forgotten_versions(code_versions.read_lock(lock), {stage.name: lock_entry(stage)}) == {}
