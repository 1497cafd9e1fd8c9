"""assets/release_text_encoder.py: an encoder by its folder, tiny, through the production path."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sceneloom.assets.release_publication import Publication, publish_release, repair_release
from sceneloom.assets.release_text_encoder import release_text_encoder
from sceneloom.datasets.errors import EngineError
from sceneloom.datasets.layouts.caption_chunks import decode_chunks
from sceneloom.datasets.layouts.publishing import examine
from sceneloom.datasets.layouts.registry import LAYOUTS, require_layout

from .tiny import made_collection
from .tiny_transformers import save_text_encoder

CAPTIONS = "framepack-caption-qwen3-chunk-80-overlap-0"
LYRA_WIDTH = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoders")
    save_text_encoder(place / "alone")
    save_text_encoder(place / "pipeline" / "text_encoder", tokenizer_folder=place / "pipeline" / "tokenizer")
    return place


def test_its_name_holds_a_digest_of_its_weights(folder: Path, tmp_path: Path) -> None:
    encoder = release_text_encoder(str(folder / "alone"))
    place, _, digest = encoder.name.rpartition("@")
    assert place == str(folder / "alone")
    assert len(digest) == 12
    # What a manifest says names the same encoder.
    assert release_text_encoder(encoder.name).name == encoder.name
    save_text_encoder(tmp_path / "other", d_model=32)
    shutil.copytree(folder / "alone", tmp_path / "same")
    digests = {name: release_text_encoder(str(tmp_path / name)).name.rpartition("@")[2] for name in ("other", "same")}
    assert digests["same"] == digest != digests["other"]


def test_a_relative_folder_is_named_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert release_text_encoder("alone").name == release_text_encoder(str(folder / "alone")).name


def test_an_encoder_in_a_pipeline_is_found(folder: Path) -> None:
    alone = release_text_encoder(str(folder / "alone")).encode(["a red sofa", "a lamp"])
    part = release_text_encoder(str(folder / "pipeline")).encode(["a red sofa", "a lamp"])
    for one, other in zip(alone, part, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    for named in (str(tmp_path), str(tmp_path / "nowhere"), "./nowhere", "nobody/nothing", "nothing"):
        with pytest.raises(EngineError):
            release_text_encoder(named)


def test_a_release_is_published_and_repaired_with_its_encoder(tmp_path: Path) -> None:
    save_text_encoder(tmp_path / "umt5", d_model=LYRA_WIDTH)
    made = made_collection()
    asked = Publication(require_layout("lyra2"), out=tmp_path / "set", options={"text_encoder": str(tmp_path / "umt5")})
    manifest, directory = publish_release(made.runtime, asked)
    assert manifest.stand_ins == {}
    assert manifest.options["text_encoder"].startswith(f"{tmp_path / 'umt5'}@")
    assert publish_release(made.runtime, asked)[0] == manifest

    scene = made.scene()
    file = directory / CAPTIONS / f"{scene.scene_id}-left.pkl"
    content = file.read_bytes()
    embedding = decode_chunks(content, "captions")[0]["embedding"].float().numpy()
    [expected] = release_text_encoder(str(tmp_path / "umt5")).encode([scene.prompt or ""])
    np.testing.assert_allclose(embedding, expected, atol=0.05)

    file.unlink()
    assert repair_release(made.runtime, directory, examine(directory, LAYOUTS)) == [scene.scene_id]
    assert file.read_bytes() == content
