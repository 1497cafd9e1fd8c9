"""The latent codec: streaming equals one pass of the diffusers class, and files decide what is loaded."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

from sceneloom.datasets.errors import ConfigError, ContractError, EngineError
from sceneloom.resources import latent_codec
from sceneloom.resources.cosmos_streaming import CosmosNetwork
from sceneloom.resources.latent_codec import LatentCodec
from sceneloom.resources.model_files import GATED_MODELS

from .test_model_files import COMMIT, cached

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "patches of 4": {"encoder_block_out_channels": (8, 16, 16), "decode_block_out_channels": (8, 8, 16, 16)},
    "attention in every block": {
        "encoder_block_out_channels": (8, 16, 16),
        "decode_block_out_channels": (8, 8, 16, 16),
        "attention_resolutions": (8, 16),
        "patch_type": "rearrange",
    },
    "patches of 2, two temporal strides": {
        "encoder_block_out_channels": (8, 12, 16, 16),
        "decode_block_out_channels": (8, 8, 12, 16, 16),
        "patch_size": 2,
        "num_layers": 2,
    },
}


def tiny_model(**configuration: Any) -> Any:
    torch.manual_seed(0)
    tables: dict[str, Any] = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [0.5, 0.6, 0.7, 0.8]}
    defaults: dict[str, Any] = {"num_layers": 1, "resolution": 64, "attention_resolutions": (), "latent_channels": 4}
    return AutoencoderKLCosmos(**(defaults | tables | configuration)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_model(**CONFIGURATIONS["patches of 4"]).save_pretrained(path)
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny\n")
    return path


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (25, 32, 48, 3)).astype(np.uint8)


def in_chunks(step: Any, values: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    history: dict[Any, Any] = {}
    with torch.inference_mode():
        return torch.cat([step(chunk, history) for chunk in values.split(lengths)])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_streaming_equals_one_pass_of_the_diffusers_class(name: str) -> None:
    model = tiny_model(**CONFIGURATIONS[name])
    network = CosmosNetwork(model)
    frames = torch.rand(25, 2, 32, 48, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        expected_latents = model.encode(frames.permute(1, 4, 0, 2, 3)).latent_dist.mode()
        expected_frames = model.decode(expected_latents).sample.permute(2, 0, 3, 4, 1)
    latents = expected_latents.permute(2, 0, 1, 3, 4)
    for lengths in ([25], [1, 8, 8, 8], [9, 16]):
        torch.testing.assert_close(in_chunks(network.encode, frames, lengths), latents, rtol=1e-4, atol=2e-5)
    for lengths in ([4], [1, 1, 1, 1], [2, 2]):
        torch.testing.assert_close(in_chunks(network.decode, latents, lengths), expected_frames, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_layer_that_is_used() -> None:
    model = tiny_model(**CONFIGURATIONS["attention in every block"]).train()
    network = CosmosNetwork(model)
    frames = torch.rand(9, 1, 32, 32, 3)
    network.decode(network.encode(frames, {}), {}).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_attention_with_a_zero_output_is_left_out_without_a_difference() -> None:
    model = tiny_model(**CONFIGURATIONS["patches of 4"])
    for name, parameter in model.named_parameters():
        if "to_out" in name:
            parameter.data.zero_()
    calls: list[object] = []
    attention = model.encoder.mid_block.attentions[0].norm.norm
    attention.register_forward_hook(lambda *arguments: calls.append(arguments))
    frames = torch.rand(9, 1, 32, 48, 3)
    with torch.inference_mode():
        expected = model.encode(frames.permute(1, 4, 0, 2, 3)).latent_dist.mode()
        assert len(calls) == 1
        torch.testing.assert_close(
            CosmosNetwork(model).encode(frames, {}), expected.permute(2, 0, 1, 3, 4), rtol=1e-4, atol=2e-5
        )
    assert len(calls) == 1


def test_a_saved_model_gives_its_own_normalised_latents(folder: Path, clip: np.ndarray) -> None:
    codec = LatentCodec.load(folder)
    model: Any = AutoencoderKLCosmos.from_pretrained(folder, low_cpu_mem_usage=False)
    with torch.inference_mode():
        frames = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        raw = model.encode(frames).latent_dist.mode()
        pixels = (model.decode(raw).sample[0].permute(1, 2, 3, 0) + 1) * 127.5
    mean, std = np.array([0.1, -0.2, 0.3, 0.0]), np.array([0.5, 0.6, 0.7, 0.8])
    expected = (raw[0].numpy() - mean[:, None, None, None]) / std[:, None, None, None]
    latents = codec.encode(clip)
    assert latents.dtype == np.float16
    assert latents.shape == codec.space.latent_shape(25, 32, 48)
    np.testing.assert_allclose(latents, expected, rtol=2e-3, atol=2e-3)
    decoded = codec.decode(expected.astype(np.float32))
    assert decoded.dtype == np.uint8
    assert np.abs(decoded - np.clip(np.rint(pixels.numpy()), 0, 255)).max() <= 1


def test_a_stream_of_frames_and_an_array_are_the_same(folder: Path, clip: np.ndarray) -> None:
    codec = LatentCodec.load(folder)
    taken: list[int] = []

    def stream() -> Any:
        for index, frame in enumerate(clip):
            taken.append(index)
            yield frame

    np.testing.assert_array_equal(codec.encode(stream()), codec.encode(clip))
    assert taken == list(range(25))
    groups = list(codec.decode_groups(codec.encode(clip)))
    assert [len(group) for group in groups] == [1, 8, 8, 8]


def test_a_longer_clip_begins_with_the_latents_of_the_shorter_one(folder: Path, clip: np.ndarray) -> None:
    codec = LatentCodec.load(folder)
    np.testing.assert_array_equal(codec.encode(clip[:9]), codec.encode(clip)[:, :2])


def test_threads_share_one_codec(folder: Path) -> None:
    codec = LatentCodec.load(folder)
    clips = np.random.default_rng(5).integers(0, 256, (6, 17, 32, 32, 3)).astype(np.uint8)
    expected = [codec.encode(each) for each in clips]
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda index=index: found.update({index: codec.encode(clips[index])}))
        for index in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(6):
        np.testing.assert_array_equal(found[index], expected[index])


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (np.zeros((8, 32, 32, 3), np.uint8), ConfigError, "Use 1 or 9 frames"),
        (iter(np.zeros((12, 32, 32, 3), np.uint8)), ConfigError, "Use 9 or 17 frames"),
        (iter(()), ConfigError, "0 frames"),
        (np.zeros((9, 24, 32, 3), np.uint8), ConfigError, "Use a height of 16 or 32"),
        (np.zeros((9, 32, 32, 3), np.float32), ContractError, "float32"),
        (np.zeros((9, 32, 32), np.uint8), ContractError, "expected"),
        (
            iter([np.zeros((32, 32, 3), np.uint8)] * 5 + [np.zeros((16, 32, 3), np.uint8)] * 4),
            ContractError,
            "one size",
        ),
    ],
)
def test_frames_that_cannot_be_encoded(folder: Path, frames: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LatentCodec.load(folder).encode(frames)


def test_latents_of_other_channels_are_refused(folder: Path) -> None:
    with pytest.raises(ContractError, match="Drop the batch axis"):
        LatentCodec.load(folder).decode(np.zeros((1, 4, 2, 4, 4), np.float16))


def test_digest_and_licence_are_read_without_the_model(folder: Path, tmp_path: Path) -> None:
    digest = latent_codec.weights_digest(folder)
    assert digest.startswith("sha256:")
    assert latent_codec.weights_licence(folder) == "apache-2.0"
    assert LatentCodec.load(folder).space.weights_digest == digest
    other = shutil.copytree(folder, tmp_path / "other")
    tiny_model(**(CONFIGURATIONS["patches of 4"] | {"num_layers": 2})).save_pretrained(other)
    assert latent_codec.weights_digest(other) != digest
    (other / "README.md").unlink()
    assert latent_codec.weights_licence(other) == "unknown"


def test_a_pipeline_gives_its_vae_and_the_schedulers_scale(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "pipeline" / "vae")
    (tmp_path / "pipeline" / "scheduler").mkdir()
    (tmp_path / "pipeline" / "scheduler" / "scheduler_config.json").write_text('{"sigma_data": 0.5}')
    space = latent_codec.latent_space(tmp_path / "pipeline")
    assert space.scale == 0.5
    assert space.licence == "apache-2.0"
    assert space.id == "pipeline"


def test_the_configurations_tables_by_channel_and_frame(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config |= {"latents_mean": list(range(12)), "latents_std": None}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="same shape"):
        latent_codec.latent_space(other)
    (other / "config.json").write_text(json.dumps(config | {"latents_std": [2.0] * 12}))
    space = latent_codec.latent_space(other)
    np.testing.assert_array_equal(space.mean, np.arange(12).reshape(4, 3))
    (other / "config.json").write_text(json.dumps(config | {"latents_mean": None}))
    space = latent_codec.latent_space(other)
    assert (space.mean == 0).all()
    assert (space.std == 1).all()


def test_a_declared_latent_space_decides_and_belongs_to_its_weights(folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(folder, tmp_path / "own")
    fields = latent_codec.latent_space(folder).to_json() | {"id": "mine", "scale": 0.5}
    (own / "latent_space.json").write_text(json.dumps(fields))
    assert LatentCodec.load(own).space.scale == 0.5
    (own / "latent_space.json").write_text(json.dumps(fields | {"weights_digest": "sha256:00"}))
    with pytest.raises(EngineError, match="sha256:00"):
        LatentCodec.load(own)


def test_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EngineError, match="hf download nvidia/some-model --revision abc"):
        LatentCodec.load("nvidia/some-model", revision="abc")
    with pytest.raises(EngineError, match=r"no folder and no shipped weights \(sceneloom-cosmos-8x8x8\) of this name"):
        LatentCodec.load("no such weights")


def test_hub_weights_are_found_and_refused_as_those_of_any_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setitem(GATED_MODELS, "owner/gated", "A Licence")
    with pytest.raises(EngineError, match=r"A Licence\) must be accepted first; no hub token is set") as refused:
        latent_codec.latent_space("owner/gated")
    assert "https://huggingface.co/owner/gated, log in with `hf auth login`" in refused.value.remedy
    snapshot = cached(hub, folder, main=COMMIT)
    assert latent_codec.weights_folder("owner/name") == snapshot
    assert latent_codec.weights_digest("owner/name") == latent_codec.weights_digest(folder)
    assert latent_codec.latent_space("owner/name", revision=COMMIT).id == f"owner/name@{COMMIT}"
    with pytest.raises(EngineError, match=rf"revision 'v9' is not in the local hub cache, which has {COMMIT} \(main\)"):
        latent_codec.weights_folder("owner/name", revision="v9")
    (snapshot / "diffusion_pytorch_model.safetensors").resolve().unlink()
    with pytest.raises(EngineError, match=r"are gone.*Download the rest: hf download owner/name"):
        latent_codec.weights_folder("owner/name")


def test_a_pipelines_card_speaks_for_its_part_and_no_other_folders_does(folder: Path, tmp_path: Path) -> None:
    for part in ("vae", "mine"):
        shutil.copytree(folder, tmp_path / part)
        (tmp_path / part / "README.md").unlink()
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: its-own\n---\n")
    assert latent_codec.weights_licence(tmp_path) == "its-own"
    assert latent_codec.weights_licence(tmp_path / "mine") == "unknown"


def test_incomplete_broken_and_foreign_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="missing"):
        LatentCodec.load(tmp_path)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(EngineError, match="broken"):
        LatentCodec.load(broken)
    foreign = shutil.copytree(folder, tmp_path / "foreign")
    (foreign / "config.json").write_text('{"_class_name": "AutoencoderKL", "latent_channels": 4}')
    with pytest.raises(EngineError, match=r"of class AutoencoderKL.*Give one of these: AutoencoderKLCosmos"):
        LatentCodec.load(foreign)
    (foreign / "config.json").write_text('{"_class_name": "AutoencoderKLWan", "latent_channels": 4}')
    with pytest.raises(EngineError, match="the configuration has no 'z_dim'"):
        LatentCodec.load(foreign)


def test_tiling_is_refused_where_frames_stream(folder: Path) -> None:
    with pytest.raises(EngineError, match="AutoencoderKLCosmos works through a clip a few frames at a time"):
        LatentCodec.load(folder, tiling=True)


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match="cuda"):
        LatentCodec.load(folder, device="cuda")
