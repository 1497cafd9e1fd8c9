"""What the diffusers engines share: remembered prompts, seeds, frames out of tensors, and pipelines one at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.resources.diffusers_settings import FluxViewSettings
from sceneloom.resources.engines import Camera, View, settings_in_key
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.flux_view import FluxView
from sceneloom.resources.pipeline_engine import (
    Made,
    Window,
    chunk_seeds,
    latents_of,
    make_checked,
    require_size,
    require_view_size,
    seeded,
)
from sceneloom.resources.resident_models import ResidentModels

from .tiny_pipelines import LICENCE, prompt_scene, write_flux


def test_embeddings_are_made_once_without_gradients_and_given_on_the_pipelines_device() -> None:
    made: list[str] = []

    def make(text: str) -> Any:
        made.append(text)
        assert not torch.is_grad_enabled()
        return torch.full((1,), float(ord(text))), torch.zeros(2)

    engine = FluxView(FluxViewSettings(path="nowhere"), horizontal_field_of_view_degrees=70)
    for text, device in (("a", "cpu"), ("b", "meta"), ("a", "meta"), ("b", "cpu")):
        pipeline = SimpleNamespace(_execution_device=device)
        first, second = engine.embeddings((text,), pipeline, lambda text=text: make(text))
        assert first.device.type == second.device.type == device
        if device == "cpu":
            assert float(first) == ord(text)
    assert made == ["a", "b"]


def test_one_seed_gives_one_noise() -> None:
    noise = [torch.randn(5, generator=seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    assert torch.isfinite(torch.randn(1, generator=seeded(2**63 - 1))).all()
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match=f"seed {seed}"):
            seeded(seed)


def test_chunks_have_seeds_of_their_own_that_follow_from_the_clips() -> None:
    seeds = chunk_seeds(7, 5)
    assert seeds[0] == 7
    assert len(set(seeds)) == 5
    assert chunk_seeds(7, 3) == seeds[:3]
    assert not set(seeds[1:]) & set(chunk_seeds(8, 5))
    assert all(0 <= seed < 2**63 for seed in seeds)


def made_of(video: Any, latents: Any = None) -> Made:
    return Made.of(video, latents, {"steps": 2}, memory={})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_frames_are_rounded_to_the_nearest_level(dtype: Any) -> None:
    levels = torch.arange(0, 256, dtype=torch.float32).reshape(2, 1, 8, 16)
    made = made_of((levels / 255).repeat(1, 3, 1, 1).to(dtype))
    assert made.frames.shape == (2, 8, 16, 3)
    error = np.abs(made.frames[..., 0].astype(int) - levels[:, 0].numpy().astype(int))
    assert error.max() <= (1 if dtype == torch.bfloat16 else 0)
    np.testing.assert_array_equal(made.frames[..., 0], made.frames[..., 2])
    assert made.not_finite == 0
    assert made.fault() is None
    np.testing.assert_array_equal(made_of(torch.full((1, 3, 2, 2), 1.5)).frames, 255)


def test_what_is_broken_is_told() -> None:
    video = torch.rand(3, 3, 4, 4)
    video[2, 1, 0, 1], video[0, 0, 0, 0] = float("nan"), float("inf")
    fault = made_of(video).fault()
    assert fault is not None
    assert (fault.kind, fault.message) == ("not_finite", "2 of 144 values are NaN or infinite")
    black, flat = made_of(torch.zeros(3, 3, 4, 4)).fault(), made_of(torch.full((3, 3, 4, 4), 0.5)).fault()
    assert black is not None
    assert flat is not None
    assert (black.kind, flat.kind) == ("black", "flat")


def test_broken_output_is_made_once_more_from_another_seed() -> None:
    tried: list[int] = []

    def make(seed: int) -> Made:
        tried.append(seed)
        return made_of(torch.rand(1, 3, 4, 4) if len(tried) == 2 else torch.zeros(1, 3, 4, 4))

    checked = make_checked(make, seed=7, where="test")
    assert checked.seeds == tuple(tried)
    assert checked.seed == tried[1] != 7
    assert [fault.kind for fault in checked.faults] == ["black"]
    with pytest.raises(StageFailed, match=r"test: .*seed 7: 1 of 1 frames.*black"):
        make_checked(lambda seed: made_of(torch.zeros(1, 3, 4, 4)), seed=7, where="test")


def test_latents_that_float16_cannot_hold_are_not_given() -> None:
    latents = torch.randn(1, 4, 2, 3, 3)
    stored = latents_of(latents)
    assert stored is not None
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, latents[0].numpy(), atol=2e-3)
    latents[0, 0, 0, 0, 0] = 1e6
    assert latents_of(latents) is None


def test_sizes_that_a_model_cannot_take_are_refused() -> None:
    require_size(704, 1280, 32, where="test")
    with pytest.raises(ConfigError, match=r"a width of 1296.*multiples of 32.*1280 or 1312"):
        require_size(704, 1296, 32, where="test")
    with pytest.raises(ConfigError, match=r"a height of 16.*32 or 64"):
        require_size(16, 32, 32, where="test")


def test_cameras_must_have_the_views_size_and_are_told_from_its_own() -> None:
    lens = np.array([50.0, 50.0, 8.0, 8.0])
    view = View(np.zeros((16, 16, 3), np.uint8), lens, None, {})
    moved = np.eye(4)
    moved[0, 3] = 1e-3
    require_view_size([Camera(np.eye(4), lens, 16, 16)], view, where="test")
    with pytest.raises(EngineError, match=r"cameras of 16 × 16, 16 × 32 for a view of 16 × 16"):
        require_view_size([Camera(np.eye(4), lens, 16, 32), Camera(np.eye(4), lens, 16, 16)], view, where="test")
    with pytest.raises(EngineError, match="no cameras"):
        require_view_size([], view, where="test")
    assert Camera(np.eye(4, dtype=np.float32), lens.astype(np.float32), 16, 16).sees_as(lens)
    assert not Camera(moved, lens, 16, 16).sees_as(lens)
    assert Camera(moved, lens, 16, 16).sees_as(lens, moved)
    assert not Camera(np.eye(4), lens * 1.01, 16, 16).sees_as(lens)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("pipeline") / "flux", distilled=True)


def engine(folder: Path, models: ResidentModels | None = None, **changes: Any) -> FluxView:
    settings = {"path": str(folder), "precision": "float32", "steps": 1, **changes}
    return FluxView(FluxViewSettings.model_validate(settings), 70.0, models)


def test_contract_and_identity_are_known_before_anything_is_loaded(flux: Path) -> None:
    models = ResidentModels(None)
    made = engine(flux, models)
    assert made.contract.name == "flux"
    assert made.contract.tier == "library"
    assert made.contract.licence == LICENCE
    weights = sum(file.stat().st_size for file in flux.rglob("*.safetensors"))
    assert 0.8 * weights < made.contract.device_memory_bytes <= weights
    assert set(made.identity.weights) >= {"model_index.json", "transformer/diffusion_pytorch_model.safetensors"}
    assert made.identity.licence == LICENCE
    assert models.counters()["loads"] == {}


def test_engines_that_agree_on_the_model_share_its_pipeline(flux: Path) -> None:
    models = ResidentModels(None)
    for made in (engine(flux, models), engine(flux, models, prompt_tokens=8)):
        made.make_view(prompt_scene(), height=16, width=16, seed=1)
    assert list(models.counters()["loads"].values()) == [1]
    engine(flux, models, vae_tiling=True).make_view(prompt_scene(), height=16, width=16, seed=1)
    assert list(models.counters()["loads"].values()) == [1, 1]


def test_a_pipeline_runs_for_one_thread_at_a_time(flux: Path) -> None:
    made = engine(flux)
    inside, most = 0, 0

    def use() -> None:
        nonlocal inside, most
        with made.pipeline():
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_scenes_made_at_once_come_out_as_one_after_the_other(flux: Path) -> None:
    made = engine(flux)
    prompts = ("a red room", "a blue sea", "a green hill", "a red room")
    one_by_one = [made.make_view(prompt_scene(prompt), height=16, width=16, seed=2).picture for prompt in prompts]
    at_once: dict[int, Any] = {}

    def make(index: int) -> None:
        at_once[index] = made.make_view(prompt_scene(prompts[index]), height=16, width=16, seed=2).picture

    threads = [threading.Thread(target=make, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, picture in enumerate(one_by_one):
        np.testing.assert_array_equal(at_once[index], picture)
    assert (one_by_one[0] != one_by_one[1]).any()


def test_the_autoencoder_may_keep_a_precision_of_its_own(flux: Path) -> None:
    settings = FluxViewSettings(path=str(flux), precision="bfloat16", steps=1)
    made = FluxView(settings, 70.0)
    pipeline = made.load_with_autoencoder("AutoencoderKL", "float32")
    assert pipeline.vae.dtype == torch.float32
    assert pipeline.transformer.dtype == torch.bfloat16
    assert made.load_with_autoencoder("AutoencoderKL", "bfloat16").vae.dtype == torch.bfloat16


def test_memory_that_runs_out_is_saved_and_the_record_says_how(flux: Path) -> None:
    made = engine(flux)
    with made.pipeline() as pipeline:
        vae = pipeline.vae

    def too_large(*_: Any) -> None:
        if not vae.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = vae.decoder.register_forward_pre_hook(too_large)
    first = made.make_view(prompt_scene(), height=16, width=16, seed=1)
    assert first.notes["memory"] == {"steps": ["vae_tiling"], "attempts": 2}
    handle.remove()
    # The step stays in force.
    assert made.make_view(prompt_scene(), height=16, width=16, seed=1).notes["memory"]["attempts"] == 1

    def always(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    handle = vae.decoder.register_forward_pre_hook(always)
    with pytest.raises(StageFailed, match="ran out with vae_tiling, vae_slicing") as failed:
        made.make_view(prompt_scene(), height=16, width=16, seed=1)
    assert failed.value.reason is Reason.OUT_OF_MEMORY
    handle.remove()


def test_a_window_is_halved_when_memory_runs_out() -> None:
    def work(frames: int) -> int:
        tried.append(frames)
        if frames > largest:
            raise StageFailed(Reason.OUT_OF_MEMORY, "memory ran out")
        return frames

    largest, tried = 50, []
    window = Window(161, stride=8, least=41, device="cpu", where="test")
    assert window.run(work) == 41
    assert tried == [161, 81, 41]
    tried.clear()
    assert window.run(work) == 41
    assert tried == [41]
    largest = 40
    with pytest.raises(StageFailed, match="window_frames 81, window_frames 41"):
        window.run(work)
    tried.clear()
    with pytest.raises(StageFailed, match=r"^memory ran out$"):
        Window(81, stride=4, least=81, device="cpu", where="test").run(work)
    assert tried == [81]
    with pytest.raises(ZeroDivisionError):
        window.run(lambda frames: frames // 0)


@dataclass(frozen=True)
class Checked:
    """What a pipeline with a safety checker gives."""

    nsfw_content_detected: Any


def test_what_a_safety_checker_flags_is_refused_for_good(flux: Path) -> None:
    made = engine(flux)
    with made.pipeline() as pipeline:
        with pytest.raises(StageFailed, match=r"flagged 1 of 2 pictures.*refuse_flagged: false") as caught:
            made.notes(pipeline, Checked([False, True]))
        passed = made.notes(pipeline, Checked(np.array([False])))
        unchecked = [made.notes(pipeline, output) for output in (Checked(None), object())]
    assert caught.value.reason is Reason.SAFETY_FLAGGED
    assert caught.value.again == "after_change"
    assert passed["safety_verdict"] == [False]
    assert [notes["safety_verdict"] for notes in unchecked] == [None, None]


def test_a_profile_may_take_what_is_flagged_with_its_verdict(flux: Path) -> None:
    lenient = engine(flux, refuse_flagged=False)
    with lenient.pipeline() as pipeline:
        assert lenient.notes(pipeline, Checked([True]))["safety_verdict"] == [True]
    # What is refused decides what is made: it is a part of the key.
    assert settings_in_key(lenient.settings)["refuse_flagged"] is False


def test_a_flagged_picture_is_not_painted_again_from_another_seed(flux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(flux)
    calls: list[int] = []

    def flagged(self: Any, *arguments: Any, **named: Any) -> Checked:
        calls.append(1)
        return Checked([True])

    with made.pipeline() as pipeline:
        monkeypatch.setattr(type(pipeline), "__call__", flagged)
    monkeypatch.setattr(Checked, "images", torch.zeros(1, 3, 8, 8), raising=False)
    with pytest.raises(StageFailed, match="flagged 1 of 1"):
        made.make_view(prompt_scene(), height=32, width=32, seed=1)
    assert calls == [1]
