"""assets/release_text_encoder.py: an encoder by its folder or the profile's, tiny, through the production path."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneloom.assets.release_publication import Publication, publish_release, repair_release
from sceneloom.assets.release_text_encoder import profile_text_encoder, release_text_encoder
from sceneloom.datasets.errors import EngineError
from sceneloom.datasets.layouts.caption_chunks import decode_chunks
from sceneloom.datasets.layouts.publishing import examine
from sceneloom.datasets.layouts.registry import LAYOUTS, require_layout
from sceneloom.datasets.layouts.release import ReleaseTextEncoder
from sceneloom.resources.engines import Engines
from sceneloom.resources.profiles import load_profile

from .tiny import codec_folder, copied_collection, made_collection, write_profile
from .tiny_transformers import save_text_encoder

CAPTIONS = "framepack-caption-qwen3-chunk-80-overlap-0"
LYRA_WIDTH = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoders")
    save_text_encoder(place / "alone")
    save_text_encoder(place / "pipeline" / "text_encoder", tokenizer_folder=place / "pipeline" / "tokenizer")
    return place


def engines_with(text_encoder: dict[str, Any] | None) -> dict[str, Any]:
    return {"latent_codec": {"path": str(codec_folder())}, "text_encoder": text_encoder}


def engines(folder: Path, text_encoder: dict[str, Any] | None = None) -> Engines:
    return Engines(load_profile(write_profile(folder, ["prompts.txt"], engines=engines_with(text_encoder))))


def named(name: str) -> ReleaseTextEncoder:
    return release_text_encoder(name, made_collection().runtime.engines)


def test_its_name_holds_a_digest_of_its_weights(folder: Path, tmp_path: Path) -> None:
    encoder = named(str(folder / "alone"))
    place, _, digest = encoder.name.rpartition("@")
    assert place == str(folder / "alone")
    assert len(digest) == 12
    # What a manifest says names the same encoder.
    assert named(encoder.name).name == encoder.name
    save_text_encoder(tmp_path / "other", d_model=32)
    shutil.copytree(folder / "alone", tmp_path / "same")
    digests = {name: named(str(tmp_path / name)).name.rpartition("@")[2] for name in ("other", "same")}
    assert digests["same"] == digest != digests["other"]


def test_a_relative_folder_is_named_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert named("alone").name == named(str(folder / "alone")).name


def test_an_encoder_in_a_pipeline_is_found(folder: Path) -> None:
    alone = named(str(folder / "alone")).encode(["a red sofa", "a lamp"])
    part = named(str(folder / "pipeline")).encode(["a red sofa", "a lamp"])
    for one, other in zip(alone, part, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path), str(tmp_path / "nowhere"), "./nowhere", "nobody/nothing", "nothing"):
        with pytest.raises(EngineError):
            named(name)


def test_the_profiles_encoder_is_run_as_the_profile_says(folder: Path, tmp_path: Path) -> None:
    assert profile_text_encoder(engines(tmp_path)) is None
    path = str(folder / "alone")
    chosen = engines(tmp_path, {"path": path, "precision": "float32", "maximum_tokens": 3})
    own = profile_text_encoder(chosen)
    assert own is not None
    [embedding] = own.encode(["a red sofa and a lamp"])
    assert len(embedding) == 3
    # Named with or without its digest it is the profile's; run otherwise, or from elsewhere, it is another one.
    assert release_text_encoder(path, chosen).name == release_text_encoder(own.name, chosen).name == own.name
    usual = named(path)
    assert usual.name != own.name
    assert release_text_encoder(usual.name, chosen).name == usual.name
    assert release_text_encoder(str(folder / "pipeline"), chosen).name.startswith(f"{folder / 'pipeline'}@")


def test_a_release_is_published_and_repaired_with_its_encoder(tmp_path: Path) -> None:
    save_text_encoder(tmp_path / "umt5", d_model=LYRA_WIDTH)
    made = made_collection()
    asked = Publication(require_layout("lyra2"), out=tmp_path / "set", options={"text_encoder": str(tmp_path / "umt5")})
    manifest, directory = publish_release(made.runtime, asked)
    assert list(manifest.stand_ins) == ["captions"]
    assert manifest.options["text_encoder"].startswith(f"{tmp_path / 'umt5'}@")
    assert publish_release(made.runtime, asked)[0] == manifest

    scene = made.scene()
    file = directory / CAPTIONS / f"{scene.scene_id}-left.pkl"
    content = file.read_bytes()
    chunk = decode_chunks(content, "captions")[0]
    assert chunk["caption"].endswith("The camera moves to the left.")
    [expected] = named(str(tmp_path / "umt5")).encode([chunk["caption"]])
    np.testing.assert_allclose(chunk["embedding"].float().numpy(), expected, atol=0.05)

    file.unlink()
    assert repair_release(made.runtime, directory, examine(directory, LAYOUTS)) == [scene.scene_id]
    assert file.read_bytes() == content


def test_the_profiles_encoder_is_the_default_of_a_release(tmp_path: Path) -> None:
    save_text_encoder(tmp_path / "umt5", d_model=LYRA_WIDTH)
    encoder = {"path": str(tmp_path / "umt5"), "precision": "float32"}
    made = copied_collection(tmp_path / "with", engines=engines_with(encoder))
    manifest, directory = publish_release(made.runtime, Publication(require_layout("lyra2"), out=tmp_path / "set"))
    own = profile_text_encoder(made.runtime.engines)
    assert own is not None
    assert manifest.options == {"text_encoder": own.name}
    chunk = decode_chunks(next((directory / CAPTIONS).iterdir()).read_bytes(), "captions")[0]
    [expected] = own.encode([chunk["caption"]])
    np.testing.assert_allclose(chunk["embedding"].float().numpy(), expected, rtol=0.01, atol=1e-4)
    # A release that was published without one is repaired without one.
    usual, plain = publish_release(
        made_collection().runtime, Publication(require_layout("lyra2"), out=tmp_path / "plain")
    )
    assert "caption embeddings" in usual.stand_ins
    (lost := next((plain / CAPTIONS).iterdir())).unlink()
    repair_release(made.runtime, plain, examine(plain, LAYOUTS))
    assert lost.is_file()
    assert examine(plain, LAYOUTS) == []
