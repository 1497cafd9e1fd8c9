from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from sceneloom.datasets.errors import CorruptFileError, InputError, StoreError
from sceneloom.datasets.layouts import publishing
from sceneloom.datasets.layouts.manifest import manifest_path, read_manifest, write_manifest
from sceneloom.datasets.layouts.publishing import commercial_verdict, examine, publish, repair, scenes_to_repair
from sceneloom.datasets.layouts.release import (
    Finding,
    FindingKind,
    Layout,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)

from .release_scenes import make_scene

WRITTEN: list[tuple[str, ...]] = []
"""Scenes of every call of the toy layout's `write`."""


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    WRITTEN.append(tuple(scene.scene_id for scene in scenes))
    for scene in scenes:
        folder = f"scenes/{scene.scene_id}"
        directory.path(f"{folder}/prompt.txt", scene.scene_id).write_text(f"{scene.prompt}\n" * 10)
        if request.wants("numbers"):
            directory.path(f"{folder}/seed.txt", scene.scene_id).write_text(f"{scene.seed} {request.options}")
    directory.path("scenes.lst").write_text("".join(f"{scene.scene_id}\n" for scene in scenes))
    return LayoutSummary({"scenes": len(scenes)}, ("a note",), {"embedding": "T5"})


def examine_toy(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    found = []
    for path in root.glob("scenes/*/prompt.txt"):
        if len(path.read_text().splitlines()) < 10:
            name = path.relative_to(root).as_posix()
            found.append(Finding(name, FindingKind.TRUNCATED, "the trainer stops", scene_of.get(name)))
    return found


TOY = Layout("toy", "a test", "Text.", ("prompts", "numbers"), write, examine_toy, {"speed": "how fast"})
LAYOUTS = {"toy": TOY}


@pytest.fixture
def scenes() -> list[ReleaseScene]:
    WRITTEN.clear()
    return [make_scene(f"room-{name}", trajectories=("left",), seed=seed) for seed, name in enumerate("abc")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "place" / "release"


def beside(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir()) if out.parent.exists() else []


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def changed(scene: ReleaseScene, **what: object) -> ReleaseScene:
    return dataclasses.replace(scene, **what)  # type: ignore[arg-type]


# --- publish --------------------------------------------------------------------------------------------------------


def test_a_release_is_whole_with_its_manifest_beside(scenes: list[ReleaseScene], out: Path) -> None:
    manifest = publish(TOY, scenes, out, collection="demo", options={"speed": "2"})
    assert beside(out) == ["release", "release.release.json"]
    assert read_manifest(out) == manifest
    files = contents(out)
    assert manifest.files.keys() == files.keys()
    assert all(manifest.files[name].bytes == len(content) for name, content in files.items())
    assert manifest.files["scenes/room-b/prompt.txt"].scene == "room-b"
    assert manifest.files["scenes.lst"].scene is None
    assert manifest.counts == {"scenes": 3}
    assert manifest.stand_ins == {"embedding": "T5"}
    assert manifest.commercial_use.allowed
    assert manifest.latent_spaces == ("test-cosmos-8x8x8",)
    assert "room-a" in manifest.scenes
    assert str(out) not in manifest_path(out).read_text()


def test_the_order_of_scenes_does_not_matter_and_bytes_repeat(scenes: list[ReleaseScene], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    publish(TOY, scenes, first, collection="demo")
    publish(TOY, scenes[::-1], second, collection="demo")
    assert contents(first) == contents(second)
    assert manifest_path(first).read_bytes() == manifest_path(second).read_bytes()


def test_the_same_release_again_does_nothing(scenes: list[ReleaseScene], out: Path) -> None:
    first = publish(TOY, scenes, out, collection="demo")
    assert publish(TOY, scenes, out, collection="demo") == first
    assert len(WRITTEN) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"fields": frozenset({"prompts"})},
        {"options": {"speed": "9"}},
        {"collection": "other"},
    ],
)
def test_another_release_is_refused_naming_both(
    scenes: list[ReleaseScene], out: Path, other: dict[str, object]
) -> None:
    first = publish(TOY, scenes, out, collection="demo")
    before = contents(out.parent)
    with pytest.raises(InputError, match=first.release_key[:12]) as raised:
        publish(TOY, scenes, out, **{"collection": "demo", **other})  # type: ignore[arg-type]
    assert "asked for is the release" in str(raised.value)
    assert contents(out.parent) == before


@pytest.mark.parametrize("what", ["content_key", "prompt", "split", "licence"])
def test_changed_scenes_are_another_release(scenes: list[ReleaseScene], out: Path, what: str) -> None:
    publish(TOY, scenes, out, collection="demo")
    with pytest.raises(InputError, match="A release never changes"):
        publish(TOY, [changed(scenes[0], **{what: "test"}), *scenes[1:]], out, collection="demo")


def test_somebody_elses_directory_is_left_alone(scenes: list[ReleaseScene], out: Path) -> None:
    out.mkdir(parents=True)
    with pytest.raises(InputError, match="something that is no release"):
        publish(TOY, scenes, out, collection="demo")
    assert beside(out) == ["release"]


def test_wrong_requests_are_refused_before_anything_is_made(scenes: list[ReleaseScene], out: Path) -> None:
    wrong: list[tuple[dict[str, object], str]] = [
        ({"fields": frozenset({"numbrs"})}, 'no field "numbrs".*Did you mean "numbers".*prompts, numbers'),
        ({"fields": frozenset()}, "no field is asked for"),
        ({"options": {"sped": "1"}}, 'no option "sped".*Did you mean "speed"'),
    ]
    for request, told in wrong:
        with pytest.raises(InputError, match=told):
            publish(TOY, scenes, out, collection="demo", **request)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no scene"):
        publish(TOY, [], out, collection="demo")
    with pytest.raises(InputError, match="room-a is given twice"):
        publish(TOY, [*scenes, scenes[0]], out, collection="demo")
    with pytest.raises(InputError, match="relative"):
        publish(TOY, scenes, Path("release"), collection="demo")
    assert not out.parent.exists()


# --- failures -------------------------------------------------------------------------------------------------------


def failing(error: BaseException) -> Layout:
    def write_and_fail(
        directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest
    ) -> LayoutSummary:
        write(directory, scenes, request)
        raise error

    return dataclasses.replace(TOY, write=write_and_fail)


@pytest.mark.parametrize(
    ("error", "expected", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoreError, "disk is full.*Free space"),
        (PermissionError(errno.EACCES, "denied"), StoreError, "cannot be written"),
        (InputError("no train scene", where="x", remedy="y"), InputError, "no train scene"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_nothing_is_left_of_a_failure(
    scenes: list[ReleaseScene], out: Path, error: BaseException, expected: type[BaseException], told: str | None
) -> None:
    with pytest.raises(expected, match=told):
        publish(failing(error), scenes, out, collection="demo")
    assert beside(out) == []


@pytest.mark.parametrize("step", ["write_manifest", "_hashed_files"])
def test_nothing_is_left_when_a_later_step_fails(
    scenes: list[ReleaseScene], out: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publishing, step, full)
    with pytest.raises(StoreError, match="disk is full"):
        publish(TOY, scenes, out, collection="demo")
    assert beside(out) == []


def test_nothing_is_left_when_the_rename_fails(
    scenes: list[ReleaseScene], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError):
        publish(TOY, scenes, out, collection="demo")
    assert beside(out) == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from sceneloom.datasets.layouts import publishing
from tests.test_publishing import TOY
from tests.release_scenes import make_scene

def die(*arguments, **settings):
    os.kill(os.getpid(), signal.SIGKILL)

{patch}
scenes = [make_scene(f"room-{{name}}", trajectories=("left",), seed=seed) for seed, name in enumerate("abc")]
publishing.publish(TOY, scenes, Path({out!r}), collection="demo")
"""


@pytest.mark.parametrize(
    ("patch", "left"),
    [
        ("publishing._hashed_files = die", ["part"]),
        ("Path.rename = die", ["part", "release.release.json"]),
    ],
)
def test_a_killed_publication_is_recovered_by_the_next(
    scenes: list[ReleaseScene], out: Path, patch: str, left: list[str]
) -> None:
    program = textwrap.dedent(KILLED).format(root=str(Path(__file__).parent.parent), out=str(out), patch=patch)
    ended = subprocess.run([sys.executable, "-c", program], cwd=out.parent.parent, capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    remains = ["part" if name.endswith(".part") else name for name in beside(out) if not name.endswith(".lock")]
    assert remains == left
    publish(TOY, scenes, out, collection="demo")
    assert beside(out) == ["release", "release.release.json"]
    assert examine(out, LAYOUTS) == []


def test_only_one_works_on_a_destination(scenes: list[ReleaseScene], out: Path) -> None:
    def write_while_another_tries(
        directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest
    ) -> LayoutSummary:
        with pytest.raises(InputError, match="another process is publishing"):
            publish(TOY, scenes, out, collection="demo")
        return write(directory, scenes, request)

    publish(dataclasses.replace(TOY, write=write_while_another_tries), scenes, out, collection="demo")
    assert examine(out, LAYOUTS) == []


def test_neighbours_with_similar_names_are_left_alone(scenes: list[ReleaseScene], out: Path) -> None:
    neighbour = out.parent / ".release-two.0123.part"
    neighbour.mkdir(parents=True)
    publish(TOY, scenes, out, collection="demo")
    assert neighbour.is_dir()


# --- licences -------------------------------------------------------------------------------------------------------


def test_commercial_use_is_said_and_can_be_required(scenes: list[ReleaseScene], out: Path) -> None:
    mixed = [
        changed(scenes[0], licence="CC-BY-NC-4.0"),
        changed(scenes[1], licence=None),
        changed(scenes[2], engine_licences={"raycast": "FLUX.1-dev"}),
    ]
    with pytest.raises(InputError) as raised:
        publish(TOY, mixed, out, collection="demo", commercial=True)
    for part in (
        "scene room-a: CC-BY-NC-4.0 forbids commercial use",
        "scene room-b",
        "no licence is stated",
        "engine raycast: FLUX.1-dev Non-Commercial License forbids",
        "engine ground_truth",
    ):
        assert part in str(raised.value)
    assert not out.parent.exists()
    manifest = publish(TOY, mixed, out, collection="demo")
    assert not manifest.commercial_use.allowed
    assert manifest.commercial_use.reasons == commercial_verdict(mixed).reasons
    assert manifest.engine_licences == {"ground_truth": ("Apache-2.0",), "raycast": ("Apache-2.0", "FLUX.1-dev")}


def test_the_licence_of_the_latents_weights_counts(scenes: list[ReleaseScene]) -> None:
    space = scenes[0].latent_space
    assert space is not None
    bound = [changed(scenes[0], latent_space=dataclasses.replace(space, licence="CC-BY-NC-4.0"))]
    assert commercial_verdict(scenes).allowed
    assert not commercial_verdict(bound).allowed


# --- examine --------------------------------------------------------------------------------------------------------


def found(out: Path, **settings: str) -> set[tuple[str, FindingKind, str | None]]:
    return {(each.path, each.kind, each.scene_id) for each in examine(out, LAYOUTS, **settings)}


DAMAGES: list[tuple[Callable[[Path], object], set[tuple[str, FindingKind, str | None]]]] = [
    (
        lambda out: (out / "scenes/room-a/seed.txt").unlink(),
        {("scenes/room-a/seed.txt", FindingKind.MISSING, "room-a")},
    ),
    (
        lambda out: (out / "scenes/room-a/seed.txt").write_text(""),
        {("scenes/room-a/seed.txt", FindingKind.TRUNCATED, "room-a")},
    ),
    (
        lambda out: (out / "scenes/room-b/prompt.txt").write_text("A small room with a red chair\n" * 10),
        {("scenes/room-b/prompt.txt", FindingKind.CHANGED, "room-b")},
    ),
    (
        lambda out: (out / "scenes/room-b/prompt.txt").write_text("x\n"),
        {("scenes/room-b/prompt.txt", FindingKind.TRUNCATED, "room-b")},
    ),
    (
        lambda out: (out / "scenes.lst").write_text("room-a\nroom-b\nroom-c\nroom-d\n"),
        {("scenes.lst", FindingKind.CHANGED, None)},
    ),
    (lambda out: (out / "scenes/more.txt").write_text(""), {("scenes/more.txt", FindingKind.UNEXPECTED, None)}),
    (lambda out: (out / "link").symlink_to(out), {("link", FindingKind.UNEXPECTED, None)}),
]


@pytest.mark.parametrize(("damage", "expected"), DAMAGES)
def test_damage_is_found(
    scenes: list[ReleaseScene],
    out: Path,
    damage: Callable[[Path], object],
    expected: set[tuple[str, FindingKind, str | None]],
) -> None:
    publish(TOY, scenes, out, collection="demo")
    assert examine(out, LAYOUTS) == []
    damage(out)
    assert found(out) == expected


def test_what_the_checksum_and_the_layout_say_of_a_file_is_one_finding(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo")
    (out / "scenes/room-a/prompt.txt").write_text("x\n")
    (finding,) = examine(out, LAYOUTS)
    assert "were published" in finding.message
    assert "the trainer stops" in finding.message


def test_without_a_manifest_the_layout_has_to_be_named(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo")
    (out / "scenes/room-a/prompt.txt").write_text("x\n")
    manifest_path(out).unlink()
    with pytest.raises(InputError, match="Name its layout: toy"):
        examine(out, LAYOUTS)
    assert found(out, layout="toy") == {("scenes/room-a/prompt.txt", FindingKind.TRUNCATED, None)}
    with pytest.raises(InputError, match='no layout "toi"'):
        examine(out, LAYOUTS, layout="toi")


def test_wrong_questions_are_refused(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo")
    with pytest.raises(InputError, match="published as toy, not as other"):
        examine(out, LAYOUTS, layout="other")
    with pytest.raises(InputError, match="no such directory"):
        examine(out.with_name("nowhere"), LAYOUTS)
    manifest_path(out).write_text("{")
    with pytest.raises(CorruptFileError):
        examine(out, LAYOUTS)


# --- repair ---------------------------------------------------------------------------------------------------------


def test_only_scenes_that_need_it_are_written_again(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo", options={"speed": "3"})
    before, manifest = contents(out), manifest_path(out).read_bytes()
    untouched = (out / "scenes/room-c/prompt.txt").stat()
    (out / "scenes/room-b/prompt.txt").write_text("")
    (out / "scenes/room-b/seed.txt").unlink()
    findings = examine(out, LAYOUTS)
    assert scenes_to_repair(findings) == ["room-b"]
    WRITTEN.clear()
    assert repair(TOY, scenes, out, findings) == ["room-b"]
    assert WRITTEN == [("room-b",)]
    assert contents(out) == before
    assert manifest_path(out).read_bytes() == manifest
    assert (out / "scenes/room-c/prompt.txt").stat().st_ino == untouched.st_ino
    assert examine(out, LAYOUTS) == []
    assert beside(out) == ["release", "release.release.json"]


def test_files_of_the_whole_release_are_made_of_all_scenes(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo", fields=frozenset({"prompts"}))
    before = contents(out)
    (out / "scenes.lst").unlink()
    (out / "scenes/room-a/prompt.txt").unlink()
    (out / "scenes/room-a").rmdir()
    WRITTEN.clear()
    assert repair(TOY, scenes, out, examine(out, LAYOUTS)) == ["room-a"]
    assert WRITTEN == [("room-a",), ("room-a", "room-b", "room-c")]
    assert contents(out) == before


def test_files_too_many_are_left_alone(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo")
    (out / "scenes/room-a/own.txt").write_text("mine")
    findings = [dataclasses.replace(each, scene_id="room-a") for each in examine(out, LAYOUTS)]
    assert scenes_to_repair(findings) == []
    assert repair(TOY, scenes, out, findings) == []
    assert (out / "scenes/room-a/own.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "change",
    [
        lambda scenes: scenes[1:],
        lambda scenes: [changed(scenes[0], content_key="other"), *scenes[1:]],
        lambda scenes: [*scenes, make_scene("room-d", trajectories=("left",))],
    ],
)
def test_scenes_that_changed_since_are_refused(
    scenes: list[ReleaseScene], out: Path, change: Callable[[list[ReleaseScene]], list[ReleaseScene]]
) -> None:
    publish(TOY, scenes, out, collection="demo")
    (out / "scenes.lst").unlink()
    with pytest.raises(InputError, match=r"room-[ad] changed since"):
        repair(TOY, change(scenes), out, examine(out, LAYOUTS))


def test_a_layout_that_now_writes_other_bytes_never_replaces_a_file(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo")
    (out / "scenes/room-a/prompt.txt").unlink()
    before = contents(out)

    def write_newer(
        directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest
    ) -> LayoutSummary:
        summary = write(directory, scenes, request)
        directory.path("scenes/room-a/prompt.txt", "room-a").write_text("newer")
        return summary

    with pytest.raises(InputError, match=r"other bytes than were published: scenes/room-a/prompt\.txt"):
        repair(dataclasses.replace(TOY, write=write_newer), scenes, out, examine(out, LAYOUTS))
    assert contents(out) == before
    assert beside(out) == ["release", "release.release.json"]


def test_a_layout_that_needs_all_scenes_is_repaired_with_all(scenes: list[ReleaseScene], out: Path) -> None:
    def write_all(
        directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest
    ) -> LayoutSummary:
        if len(scenes) < 3:
            raise InputError("too few", where="toy", remedy="Give three.")
        return write(directory, scenes, request)

    layout = dataclasses.replace(TOY, write=write_all)
    publish(layout, scenes, out, collection="demo")
    (out / "scenes/room-a/prompt.txt").unlink()
    assert repair(layout, scenes, out, examine(out, LAYOUTS)) == ["room-a"]
    assert examine(out, LAYOUTS) == []


def test_the_manifest_holds_no_time(scenes: list[ReleaseScene], out: Path) -> None:
    publish(TOY, scenes, out, collection="demo")
    first = manifest_path(out).read_bytes()
    os.utime(out / "scenes.lst", (1, 1))
    assert examine(out, LAYOUTS) == []
    write_manifest(out, read_manifest(out))
    assert manifest_path(out).read_bytes() == first
    assert json.loads(first)["layout"] == "toy"
