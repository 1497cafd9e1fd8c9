from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sceneloom.datasets.errors import ConfigError
from sceneloom.orchestration import instance
from sceneloom.orchestration.instance import CHECKOUT, instance_folder, open_instance
from sceneloom.orchestration.instance_storage import URL_VARIABLE


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in an empty folder, with nothing said by the environment."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv(URL_VARIABLE, raising=False)


def with_yaml(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "dagster.yaml", folder)
    return folder


def test_the_home_counts_before_the_current_folder_and_that_before_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert instance_folder() == CHECKOUT
    here = with_yaml(tmp_path / "here")
    monkeypatch.chdir(here)
    assert instance_folder() == here
    monkeypatch.setenv("DAGSTER_HOME", str(with_yaml(tmp_path / "home")))
    assert instance_folder() == tmp_path / "home"


def test_a_home_without_dagster_yaml_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=f"^{tmp_path / 'empty'}: no dagster.yaml. Set DAGSTER_HOME"):
        instance_folder()


def test_where_no_folder_has_one_both_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "CHECKOUT", tmp_path / "wheel")
    with pytest.raises(ConfigError, match=f"{tmp_path / 'empty'} and {tmp_path / 'wheel'}: no dagster.yaml"):
        instance_folder()


def test_everything_of_the_instance_lies_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = with_yaml(tmp_path / "home")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with open_instance() as opened:
        opened.add_dynamic_partitions("scenes", ["a-room"])
    with open_instance() as again:
        assert again.get_dynamic_partitions("scenes") == ["a-room"]

    assert Path.cwd() == tmp_path / "empty"
    assert list((tmp_path / "empty").iterdir()) == []
    assert {path.name for path in home.iterdir()} == {"dagster.yaml", ".dagster"}
