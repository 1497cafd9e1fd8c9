"""The training of the shipped autoencoder: it starts as a good linear code, learns, resumes and exports."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError
from sceneloom.ops.block_pca import BlockPca
from sceneloom.resources.cosmos_streaming import CosmosNetwork
from sceneloom.resources.latent_codec import SHIPPED_WEIGHTS, LatentCodec

SCRIPT = Path(__file__).parent.parent / "examples" / "train_latent_codec.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("train_latent_codec", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["train_latent_codec"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def moving_waves(seed: int, height: int, width: int) -> np.ndarray:
    """(17, height, width, 3) uint8: a few plane waves that travel."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(np.arange(17), np.arange(height), np.arange(width), indexing="ij")
    frames = np.full((17, height, width, 3), 128.0)
    for _ in range(12):
        fy, fx = rng.normal(0, 0.12, 2)
        wave = np.sin(fy * y + fx * x + rng.normal(0, 0.2) * t + rng.uniform(0, 6.3))
        frames += wave[..., None] * rng.uniform(-20, 20, 3)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def cache(script: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for split, seeds in (("train", range(2)), ("held_out", range(10, 11))):
        for kind in script.KINDS:
            (root / split / kind).mkdir(parents=True)
            for seed in seeds:
                np.save(root / split / kind / f"{seed:05d}.npy", moving_waves(seed, script.HEIGHT, script.WIDTH))
    return root


def test_the_network_starts_near_the_best_linear_code(script: Any) -> None:
    clips = [moving_waves(seed, 48, 64) for seed in range(6)]
    batch = torch.from_numpy(np.stack(clips[:5], axis=1)).float() / 127.5 - 1
    network = CosmosNetwork(script.new_model())
    torch.manual_seed(0)
    script.initialise_linear(network, batch)
    pca = BlockPca.fit(clips[:5], 16)
    with torch.inference_mode():
        held_out = torch.from_numpy(clips[5][:, None]).float() / 127.5 - 1
        decoded = network.decode(network.encode(held_out, {}), {})[:, 0]
    ours = script.psnr(clips[5], ((decoded + 1) * 127.5).clamp(0, 255).round().byte().numpy())
    assert ours > script.psnr(clips[5], pca.decode(pca.encode(clips[5]))) - 4
    assert ours > script.psnr(clips[5], np.full_like(clips[5], 128)) + 3


def small_schedule(script: Any, steps: int) -> Any:
    return script.Schedule(
        steps,
        seed=3,
        crop_height=32,
        crop_width=48,
        batch=1,
        full_share=0.0,
        warm_up=2,
        checkpoint_every=steps,
        initial_crops=2,
    )


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    script: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.Trainer, "held_out", lambda _self: {})
    whole = script.Trainer(small_schedule(script, 4), cache, tmp_path / "whole")
    whole.run()
    stopped = script.Trainer(small_schedule(script, 4), cache, tmp_path / "stopped")
    stopped._train_step()
    stopped._train_step()
    stopped.save()
    torch.rand(3)  # a resumed process has drawn other numbers before
    resumed = script.Trainer(small_schedule(script, 4), cache, tmp_path / "stopped")
    assert resumed.step == 2
    resumed.run()
    for first, second in zip(whole.average + whole.parameters, resumed.average + resumed.parameters, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="Use another --run"):
        script.Trainer(small_schedule(script, 5), cache, tmp_path / "stopped")


def test_export_writes_weights_that_load_and_a_card_with_their_figures(
    script: Any, cache: Path, tmp_path: Path
) -> None:
    trainer = script.Trainer(small_schedule(script, 1), cache, tmp_path / "run")
    script.export(trainer, tmp_path / "weights")
    codec = LatentCodec.load(tmp_path / "weights")
    assert codec.space.licence == "apache-2.0"
    clip = np.load(cache / "held_out" / "image" / "00010.npy")
    latents = codec.encode(clip).astype(np.float32)
    assert np.abs(latents.mean(axis=(1, 2, 3))).max() < 1.5
    assert 0.3 < latents.std() < 3
    card = (tmp_path / "weights" / "README.md").read_text()
    held_out = [np.load(path) for path in script.clip_paths(cache, "held_out", "image")]
    mean = np.mean([script.psnr(each, codec.decode(codec.encode(each))) for each in held_out])
    assert f"| {mean:.2f} |" in card
    assert codec.space.weights_digest in card
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_shipped_weights_are_small_and_beat_the_linear_code_by_a_decibel(script: Any) -> None:
    folder = SHIPPED_WEIGHTS / script.WEIGHTS_ID
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= 4_000_000
    rows = [line.split("|")[1:-1] for line in (folder / "README.md").read_text().splitlines() if " scenes |" in line]
    assert [row[0].strip() for row in rows] == [f"{kind} scenes" for kind in script.KINDS]
    assert all(float(row[4]) >= 1.0 for row in rows)
    codec = LatentCodec.load(script.WEIGHTS_ID)
    assert json.loads((folder / "config.json").read_text())["latent_channels"] == codec.space.channels == 16
    assert codec.space.weights_digest in (folder / "README.md").read_text()


def test_photographs_of_training_and_held_out_clips_are_apart(script: Any) -> None:
    pictures = [Path(name) for name in "abcde"]
    held_out, training = (script._own_pictures(pictures, split) for split in ("held_out", "train"))
    assert sorted(held_out + training) == pictures
    assert held_out
    assert training
