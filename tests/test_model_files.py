"""Where a model's files lie, what they hold and weigh, and what is refused before any of them is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from sceneloom.datasets.errors import EngineError
from sceneloom.resources import model_files
from sceneloom.resources.model_files import (
    GATED_MODELS,
    device_memory_bytes,
    model_source,
    pipeline_parts,
)
from sceneloom.resources.model_settings import ModelSettings

COMMIT, OTHER_COMMIT = "a" * 40, "b" * 40
CARD = "---\nlicense: {}\n---\n# A model\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache and an empty cache folder, and nobody's token."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model_files._digest_in_state.cache_clear()


def write_weights(folder: Path, name: str = "model.safetensors", **shapes: tuple[int, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: np.zeros(shape, np.float32) for key, shape in shapes.items()}, folder / name)


def write_model(folder: Path) -> Path:
    """A single model: 6 + 4 float32 values."""
    write_weights(folder, a=(2, 3), b=(4,))
    (folder / "config.json").write_text('{"model_type": "t5"}')
    return folder


def write_pipeline(folder: Path) -> Path:
    """A pipeline of a transformer (100 values), a text encoder (10, 4) and a scheduler."""
    write_weights(folder / "transformer", "diffusion_pytorch_model.safetensors", x=(10, 10))
    write_weights(folder / "text_encoder", e=(10,), f=(4,))
    for part in ("transformer", "text_encoder"):
        (folder / part / "config.json").write_text("{}")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    index = {
        "_class_name": "FluxPipeline",
        "_diffusers_version": "0.42.1",
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "image_encoder": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def cached(hub: Path, folder: Path, *, hub_id: str = "owner/name", commit: str = COMMIT, **refs: str) -> Path:
    """Puts a folder into a hub cache the way huggingface_hub lays it out; returns the snapshot."""
    repository = hub / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    (repository / "blobs").mkdir(parents=True, exist_ok=True)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        large = file.suffix == ".safetensors"
        name = (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
        (repository / "blobs" / name).write_bytes(content)
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(repository / "blobs" / name, link.parent))
    for ref, at in refs.items():
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(at)
    return snapshot


def refusal(settings: ModelSettings, **options: str) -> EngineError:
    with pytest.raises(EngineError) as raised:
        model_source(settings, **options)
    return raised.value


# ---------------------------------------------------------------- folders


def test_a_folder_gives_the_digest_of_every_file_that_is_read(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "weights")
    (folder / "README.md").write_text(CARD.format("apache-2.0"))
    (folder / ".gitattributes").write_text("x")
    (folder / "preview.png").write_bytes(b"x")
    source = model_source(ModelSettings(path=str(folder)))
    assert (source.folder, source.id, source.revision, source.commit) == (folder, "weights", None, None)
    assert source.licence == "apache-2.0"
    assert source.files_digest == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("config.json", "model.safetensors")
    }


def test_a_pipeline_s_digests_are_those_of_its_parts(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "flux")
    write_weights(folder, "all_in_one.safetensors", x=(3,))
    write_weights(folder / "left_over", x=(3,))
    assert set(model_source(ModelSettings(path=str(folder))).files_digest) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
    }
    part = model_source(ModelSettings(path=str(folder)), subfolder="text_encoder")
    assert set(part.files_digest) == {"text_encoder/config.json", "text_encoder/model.safetensors"}
    assert pipeline_parts(folder)["text_encoder"] == ("transformers", "T5EncoderModel")
    assert "image_encoder" not in pipeline_parts(folder)


def test_a_changed_file_has_another_digest_even_at_the_same_size(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "weights")
    settings = ModelSettings(path=str(folder))
    before = model_source(settings).files_digest
    config = folder / "config.json"
    config.write_text(config.read_text().replace("t5", "t6"))
    os.utime(config, ns=(1, 1))
    after = model_source(settings).files_digest
    assert before["config.json"] != after["config.json"]
    assert before["model.safetensors"] == after["model.safetensors"]


def test_digests_of_large_files_outlive_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "_REMEMBERED_SIZE", 0)
    settings = ModelSettings(path=str(write_model(tmp_path / "weights")))
    first = model_source(settings).files_digest
    read: list[str] = []
    sha256_of_file = model_files.sha256_of_file
    monkeypatch.setattr(model_files, "sha256_of_file", lambda path: read.append(path.name) or sha256_of_file(path))
    model_files._digest_in_state.cache_clear()  # as a new process begins
    assert model_source(settings).files_digest == first
    assert read == []
    (tmp_path / "weights" / "config.json").write_text("{}")
    assert model_source(settings).files_digest["config.json"] != first["config.json"]
    assert read == ["config.json"]


def test_notes_of_digests_that_are_damaged_or_cannot_be_written_are_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "_REMEMBERED_SIZE", 0)
    settings = ModelSettings(path=str(write_model(tmp_path / "weights")))
    first = model_source(settings).files_digest
    for note in (tmp_path / "cache").rglob("*.json"):
        note.write_text(note.read_text()[:-20])
    model_files._digest_in_state.cache_clear()
    assert model_source(settings).files_digest == first
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    model_files._digest_in_state.cache_clear()
    assert model_source(settings).files_digest == first


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (CARD.format("mit"), "mit"),
        (
            "---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n",
            "flux-1-dev-non-commercial-license",
        ),
        ("---\nlicense:\n- mit\n- apache-2.0\n---\n", "mit AND apache-2.0"),
        ("---\nlicense: other\n---\n", "unknown"),
        ("# no front matter\nlicense: mit\n", "unknown"),
        ("---\nlicense: [mit\n---\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_the_card_s_unless_the_settings_name_one(tmp_path: Path, card: str | None, licence: str) -> None:
    folder = write_model(tmp_path / "weights")
    if card is not None:
        (folder / "README.md").write_text(card)
    assert model_source(ModelSettings(path=str(folder))).licence == licence
    assert model_source(ModelSettings(path=str(folder), licence="OpenRAIL")).licence == "OpenRAIL"


# ---------------------------------------------------------------- the hub cache


def test_a_hub_id_is_resolved_in_the_local_cache_and_large_files_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pipeline(tmp_path / "flux")
    snapshot = cached(tmp_path / "hub", folder, main=COMMIT, v1=COMMIT)
    expected = model_source(ModelSettings(path=str(folder))).files_digest
    read: list[str] = []
    sha256_of_file = model_files.sha256_of_file
    monkeypatch.setattr(model_files, "sha256_of_file", lambda path: read.append(path.name) or sha256_of_file(path))
    for revision in (None, "main", "v1", COMMIT):
        source = model_source(ModelSettings(id="owner/name", revision=revision))
        assert (source.folder, source.commit, source.revision, source.id) == (snapshot, COMMIT, revision, "owner/name")
        assert source.files_digest == expected
    assert len(read) == len(set(read)) > 0  # each small file once
    weights = {file.resolve().name for file in snapshot.rglob("*.safetensors")}
    assert not weights & set(read)


def test_a_hub_id_that_is_not_here_says_how_to_fetch_it() -> None:
    error = refusal(ModelSettings(id="owner/name", revision="v2"))
    assert "not in the local hub cache" in error.found
    assert error.where == "owner/name"
    assert error.remedy == "Download them: hf download owner/name --revision v2"
    assert refusal(ModelSettings(id="owner/name")).remedy == "Download them: hf download owner/name"


def test_another_revision_names_those_that_are_here(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "weights")
    cached(tmp_path / "hub", folder, main=COMMIT)
    cached(tmp_path / "hub", folder, commit=OTHER_COMMIT)
    error = refusal(ModelSettings(id="owner/name", revision="v9"))
    assert error.found == (
        f"the revision 'v9' is not in the local hub cache, which has {COMMIT} (main), {OTHER_COMMIT}"
    )
    assert "hf download owner/name --revision v9" in error.remedy


def test_without_a_revision_main_is_meant(tmp_path: Path) -> None:
    cached(tmp_path / "hub", write_model(tmp_path / "weights"), v1=COMMIT)
    assert f"which has {COMMIT} (v1)" in refusal(ModelSettings(id="owner/name")).found


def test_a_gated_model_without_a_token_asks_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(ModelSettings(id="black-forest-labs/FLUX.1-dev"))
    assert GATED_MODELS["black-forest-labs/FLUX.1-dev"] in error.found
    assert "no hub token is set" in error.found
    assert "https://huggingface.co/black-forest-labs/FLUX.1-dev" in error.remedy
    assert "hf auth login" in error.remedy
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    error = refusal(ModelSettings(id="black-forest-labs/FLUX.1-dev"))
    assert "token" not in error.found
    assert "hf auth login" not in error.remedy
    assert "secret" not in str(error)


def test_a_gated_model_that_is_here_needs_no_token(tmp_path: Path) -> None:
    cached(tmp_path / "hub", write_model(tmp_path / "weights"), hub_id="facebook/sam3", main=COMMIT)
    assert model_source(ModelSettings(id="facebook/sam3")).commit == COMMIT


def test_no_name_leads_out_of_the_cache(tmp_path: Path) -> None:
    assert "no hub id" in refusal(ModelSettings(id="../../etc")).found
    cached(tmp_path / "hub", write_model(tmp_path / "weights"), main=COMMIT)
    assert "not in the local hub cache" in refusal(ModelSettings(id="owner/name", revision="../refs/main")).found


# ---------------------------------------------------------------- incomplete files


def test_a_folder_that_is_not_there_or_no_model_s_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(ModelSettings(path=str(tmp_path / "nowhere"))).found
    assert "neither model_index.json nor config.json" in refusal(ModelSettings(path=str(tmp_path))).found
    folder = write_pipeline(tmp_path / "flux")
    assert "vae/config.json is missing" in refusal(ModelSettings(path=str(folder)), subfolder="vae").found


def test_a_pipeline_without_one_of_its_parts_is_refused(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "flux")
    shutil.rmtree(folder / "transformer")
    error = refusal(ModelSettings(path=str(folder)))
    assert error.found == "the part 'transformer' is missing"
    # Of the other parts each can be taken alone.
    assert model_source(ModelSettings(path=str(folder)), subfolder="text_encoder").files_digest


def test_an_interrupted_download_is_refused_with_the_command_that_ends_it(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "weights")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    snapshot = cached(tmp_path / "hub", folder, main=COMMIT)
    error = refusal(ModelSettings(id="owner/name"))
    assert error.found == "weights are missing: model-00002-of-00002.safetensors"
    assert error.remedy == "Download the rest: hf download owner/name"
    write_weights(folder, "model-00002-of-00002.safetensors", b=(4,))
    assert model_source(ModelSettings(path=str(folder)))
    (snapshot / "model.safetensors.index.json").unlink()
    (snapshot / "model-00001-of-00002.safetensors").resolve().unlink()
    assert "contents of model-00001-of-00002.safetensors are gone" in refusal(ModelSettings(id="owner/name")).found


def test_an_index_that_is_no_json_is_named(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "flux")
    (folder / "model_index.json").write_text("{")
    error = refusal(ModelSettings(path=str(folder)))
    assert error.where == str(folder / "model_index.json")


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "float32"}, 114 * 4),
        ({}, 114 * 2),
        ({"quantisation": "torchao_int8"}, 114),
        ({"quantisation": "bitsandbytes_4bit"}, 57),
        ({"offload": "model"}, 200),
        ({"offload": "sequential"}, 200),
        ({"device_memory": 1.5}, 1_500_000_000),
    ],
    ids=str,
)
def test_memory_follows_from_the_weights_unless_it_is_declared(
    tmp_path: Path, changes: dict[str, object], expected: int
) -> None:
    folder = write_pipeline(tmp_path / "flux")
    assert device_memory_bytes(ModelSettings.model_validate({"path": str(folder), **changes})) == expected


def test_sequential_offload_counts_the_largest_tensor_and_a_part_counts_alone(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "flux")
    settings = ModelSettings(path=str(folder), offload="sequential")
    assert device_memory_bytes(settings, subfolder="text_encoder") == 20
    assert device_memory_bytes(ModelSettings(path=str(folder)), subfolder="text_encoder") == 28


def test_weights_that_are_there_in_two_formats_count_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "weights")
    (folder / "pytorch_model.bin").write_bytes(bytes(4000))
    assert device_memory_bytes(ModelSettings(path=str(folder))) == 20
    (folder / "model.safetensors").unlink()
    assert device_memory_bytes(ModelSettings(path=str(folder))) == 2000
