from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from sceneloom.datasets.layouts import hugging_face
from sceneloom.datasets.layouts.croissant import CONFORMS_TO
from sceneloom.datasets.layouts.publishing import publish

from .release_scenes import make_scene

OPTIONS = {
    "name": "toy rooms",
    "version": "2.1.0",
    "url": "https://example.org/toy-rooms",
    "creator": "Example",
    "date": "2026-11-25",
    "citation": "@misc{toy}",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("croissant") / "out"
    scenes = [
        make_scene("room-a", trajectories=("left", "zoom_in"), seed=1),
        make_scene("room-b", trajectories=("left",), split="test", prompt=None, seed=2),
    ]
    publish(hugging_face.LAYOUT, scenes, out, collection="toy", options=OPTIONS)
    return out


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_mlcroissant_accepts_it_without_a_remark_and_reads_every_row(root: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant, the reference reader, is not installed")
    dataset = mlcroissant.Dataset(jsonld=str(root / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    assert dataset.metadata.name == "toy rooms"
    assert dataset.metadata.version == "2.1.0"
    assert [each.url if hasattr(each, "url") else each for each in dataset.metadata.license] == [
        "https://spdx.org/licenses/CC0-1.0.html"
    ]
    assert {file.name for file in dataset.metadata.distribution} >= {"train-00000.parquet", "tables", "depth-files"}
    records = {record["clips/clip"].decode(): record for record in dataset.records("clips")}
    assert sorted(records) == ["room-a-left", "room-a-zoom_in", "room-b-left"]
    row = records["room-a-zoom_in"]
    assert row["clips/frames"] == 9
    assert row["clips/metric"] in (True, np.True_)
    assert row["clips/prompt"].decode() == "a small room with a red chair"
    assert records["room-b-left"]["clips/prompt"] is None
    assert (root / row["clips/latents"].decode()).stat().st_size == row["clips/latents_bytes"]


@pytest.mark.usefixtures("no_network")
def test_mlcroissant_refuses_a_missing_column(root: Path, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant, the reference reader, is not installed")
    content = json.loads((root / "croissant.json").read_text())
    content["recordSet"][0]["field"][0]["source"]["extract"]["column"] = "klip"
    shutil.copytree(root / "data", tmp_path / "data")
    (tmp_path / "croissant.json").write_text(json.dumps(content))
    with pytest.raises(Exception, match=r"Read\(tables\)"):
        list(mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json")).records("clips"))


def test_files_are_described_with_relative_paths_sizes_and_checksums(root: Path) -> None:
    content = json.loads((root / "croissant.json").read_text())
    assert content["conformsTo"] == list(CONFORMS_TO)
    assert content["datePublished"] == "2026-11-25"
    assert content["citeAs"] == "@misc{toy}"
    objects = [each for each in content["distribution"] if each["@type"] == "cr:FileObject"]
    assert [each["contentUrl"] for each in objects] == ["data/test-00000.parquet", "data/train-00000.parquet"]
    for each in objects:
        assert each["contentSize"] == f"{(root / each['contentUrl']).stat().st_size} B"
        assert len(each["sha256"]) == 64
    sets = [each for each in content["distribution"] if each["@type"] == "cr:FileSet"]
    for each in sets:
        assert list(root.glob(each["includes"].replace("clips/*", "clips/*/*"))), each["includes"]


def test_it_says_how_the_data_came_to_be(root: Path) -> None:
    content = json.loads((root / "croissant.json").read_text())
    assert content["rai:dataCollection"].startswith("Synthetic")
    assert content["rai:machineAnnotationTools"] == ["ground_truth", "raycast"]
    agents = [each["prov:wasAssociatedWith"]["name"] for each in content["prov:wasGeneratedBy"]]
    assert agents == ["ground_truth", "raycast"]
    assert content["isLiveDataset"] is False
