from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sceneloom.datasets.errors import EngineError, InputError
from sceneloom.datasets.layouts.manifest import manifest_path, read_manifest
from sceneloom.orchestration.cli import app

from .tiny import MadeCollection, copied_collection


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeCollection:
    collection = copied_collection(tmp_path / "project")
    monkeypatch.setenv("SCENELOOM_CONFIG", str(collection.profile.file))
    return collection


def sceneloom(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_publish_and_doctor_end_to_end(made: MadeCollection, tmp_path: Path) -> None:
    out = tmp_path / "tum"
    status, printed = sceneloom("publish", "tum", "--out", out)
    assert status == 0
    assert f"{out}: {len(made.catalog.active())} scenes" in printed
    assert sceneloom("doctor", out) == (0, f"{out}: nothing wrong found\n")


def test_publish_takes_a_part(made: MadeCollection, tmp_path: Path) -> None:
    scene = made.scene().scene_id
    assert sceneloom("publish", "tum", "--out", tmp_path / "one", "--scene", scene)[0] == 0
    assert set(read_manifest(tmp_path / "one").scenes) == {scene}


def test_captions_and_a_text_encoder_are_taken_from_where_they_are_said_to_be(
    made: MadeCollection, tmp_path: Path
) -> None:
    scene = made.scene("image").scene_id
    (tmp_path / "captions.csv").write_text(f"scene_id,caption\n{scene},a hall by night\n")
    arguments = ("publish", "lyra2", "--out", tmp_path / "set", "--caption-file", tmp_path / "captions.csv")
    assert sceneloom(*arguments)[0] == 0
    assert read_manifest(tmp_path / "set").scenes[scene].prompt == "a hall by night"
    with pytest.raises(EngineError, match="nowhere"):
        sceneloom("publish", "lyra2", "--out", tmp_path / "other", "--text-encoder", tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()


def test_without_a_place_a_release_goes_to_the_folder_of_releases(made: MadeCollection) -> None:
    status, printed = sceneloom("publish", "tum")
    assert status == 0
    assert str(made.profile.file.parent / "store" / "tiny" / "releases" / "tum") in printed


def test_another_release_is_never_overwritten(made: MadeCollection, tmp_path: Path) -> None:
    out = tmp_path / "tum"
    sceneloom("publish", "tum", "--out", out)
    before = manifest_path(out).read_bytes()
    with pytest.raises(InputError):
        sceneloom("publish", "tum", "--out", out, "--scene", made.scene().scene_id)
    assert manifest_path(out).read_bytes() == before
    assert sceneloom("publish", "tum", "--out", out)[0] == 0


def test_doctor_names_the_damage_and_repairs_exactly_those_scenes(made: MadeCollection, tmp_path: Path) -> None:
    out = tmp_path / "tum"
    sceneloom("publish", "tum", "--out", out)
    scene = made.scene().scene_id
    owner = read_manifest(out).files
    damaged = next(path for path, file in owner.items() if file.scene == scene and path.endswith("groundtruth.txt"))
    content = (out / damaged).read_bytes()
    (out / damaged).write_bytes(content[: len(content) // 2])

    status, printed = sceneloom("doctor", out)
    assert status == 1
    assert damaged in printed
    assert f"1 scenes need repair: {scene}" in printed

    status, printed = sceneloom("doctor", out, "--repair")
    assert status == 0
    assert f"published again: {scene}\n" in printed
    assert (out / damaged).read_bytes() == content
    assert sceneloom("doctor", out)[0] == 0


def test_repair_needs_the_profile_of_the_release(
    made: MadeCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tum"
    sceneloom("publish", "tum", "--out", out)
    next(out.rglob("groundtruth.txt")).unlink()
    other = copied_collection(tmp_path / "other")
    text = other.profile.file.read_text().replace("name: tiny", "name: other")
    other.profile.file.write_text(text)
    with pytest.raises(InputError, match="the release is of the collection tiny, the profile of other"):
        sceneloom("doctor", out, "--repair", "--config", other.profile.file)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("tun",), 'Did you mean "tum"'),
        (("tum", "--option", "speed"), '"speed" is no setting'),
        (("tum", "--option", "speed=9"), "speed"),
        (("tum", "--field", "smell"), "smell"),
        (("vipe", "--field", "depth"), "the subset leaves out rgb, cameras"),
    ],
)
def test_wrong_words_are_answered_before_anything_is_written(
    made: MadeCollection, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        sceneloom("publish", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
