"""Models loaded the way a profile says, from tiny pipelines of the real classes with random weights."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from sceneloom.datasets.errors import EngineError
from sceneloom.resources import model_loading
from sceneloom.resources.failures import Reason, classify
from sceneloom.resources.model_loading import (
    load_model,
    load_pipeline,
    model_facts,
    model_source,
    require_loadable,
    require_readable,
)
from sceneloom.resources.model_settings import ModelSettings

HAS_ACCELERATE = importlib.util.find_spec("accelerate") is not None
NO_TOKENIZERS = {"tokenizer": None, "tokenizer_2": None}


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FluxPipeline of a few thousand weights, without tokenizers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "flux"
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            block_out_channels=(4,),
            latent_channels=1,
            norm_num_groups=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.1,
            scaling_factor=1.5,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=32,
                intermediate_size=16,
                num_attention_heads=2,
                num_hidden_layers=1,
                vocab_size=100,
                bos_token_id=0,
                eos_token_id=2,
            )
        ),
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)),
        tokenizer=None,  # type: ignore[arg-type]
        tokenizer_2=None,  # type: ignore[arg-type]
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)
    return folder


def settings(folder: Path, **values: Any) -> ModelSettings:
    return ModelSettings.model_validate({"path": str(folder), **values})


def paint(pipeline: Any) -> Any:
    """A picture of 16 × 16 pixels from embeddings that a seed gives, as (1, H, W, 3) floats."""
    generator = torch.Generator().manual_seed(1)
    return pipeline(
        prompt_embeds=torch.randn(1, 4, 32, generator=generator).to(pipeline.dtype),
        pooled_prompt_embeds=torch.randn(1, 32, generator=generator).to(pipeline.dtype),
        num_inference_steps=2,
        height=16,
        width=16,
        generator=generator,
        output_type="np",
    ).images


def refusal(load: Callable[..., Any], *arguments: Any, **options: Any) -> EngineError:
    with pytest.raises(EngineError) as raised:
        load(*arguments, **options)
    return raised.value


# ---------------------------------------------------------------- pipelines


def test_a_pipeline_is_loaded_in_its_precision_and_paints(flux: Path) -> None:
    exact = load_pipeline("FluxPipeline", settings(flux, precision="float32"), **NO_TOKENIZERS)
    assert {parameter.dtype for parameter in exact.transformer.parameters()} == {torch.float32}
    picture = paint(exact)
    assert picture.shape == (1, 16, 16, 3)
    half = load_pipeline("FluxPipeline", settings(flux), **NO_TOKENIZERS)
    assert half.text_encoder_2.dtype == half.vae.dtype == torch.bfloat16
    # The same weights: bfloat16 has 8 bits.
    assert 0 < abs(paint(half) - picture).max() < 0.1


def test_nothing_is_drawn_on_the_terminal(flux: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = load_pipeline("FluxPipeline", settings(flux), **NO_TOKENIZERS)
    capfd.readouterr()
    paint(pipeline)
    load_pipeline("FluxPipeline", settings(flux), **NO_TOKENIZERS)
    printed = capfd.readouterr()
    assert "it/s" not in printed.out + printed.err


def test_parts_that_are_given_take_the_place_of_those_in_the_folder(flux: Path) -> None:
    vae = load_model("AutoencoderKL", settings(flux, precision="float32"), library="diffusers", subfolder="vae")
    pipeline = load_pipeline("FluxPipeline", settings(flux), vae=vae, text_encoder=None, **NO_TOKENIZERS)
    assert pipeline.vae is vae
    assert pipeline.vae.dtype == torch.float32
    assert pipeline.text_encoder is None
    assert pipeline.transformer.dtype == torch.bfloat16


def test_tiles_and_slices_are_switched_on(flux: Path) -> None:
    plain = load_pipeline("FluxPipeline", settings(flux), **NO_TOKENIZERS)
    assert (plain.vae.use_tiling, plain.vae.use_slicing) == (False, False)
    tiled = load_pipeline("FluxPipeline", settings(flux, vae_tiling=True), **NO_TOKENIZERS)
    assert (tiled.vae.use_tiling, tiled.vae.use_slicing) == (True, False)
    sliced = load_pipeline("FluxPipeline", settings(flux, vae_slicing=True), **NO_TOKENIZERS)
    assert (sliced.vae.use_tiling, sliced.vae.use_slicing) == (False, True)
    vae = settings(flux, vae_tiling=True)
    assert load_model("AutoencoderKL", vae, library="diffusers", subfolder="vae").use_tiling
    error = refusal(load_model, "T5EncoderModel", vae, subfolder="text_encoder_2")
    assert error.found == "vae_tiling is asked for, and the model has T5EncoderModel, which cannot do that"


def test_attention_is_set_on_the_denoiser_and_for_no_other_model(flux: Path) -> None:
    before = _AttentionBackendRegistry.get_active_backend()[0]
    pipeline = load_pipeline("FluxPipeline", settings(flux, attention="_native_math"), **NO_TOKENIZERS)
    backends = {
        module.processor._attention_backend
        for module in pipeline.transformer.modules()
        if hasattr(getattr(module, "processor", None), "_attention_backend")
    }
    assert backends == {AttentionBackendName._NATIVE_MATH}
    assert _AttentionBackendRegistry.get_active_backend()[0] is before
    plain = load_pipeline("FluxPipeline", settings(flux), **NO_TOKENIZERS)
    assert abs(paint(pipeline) - paint(plain)).max() < 0.1


def test_attention_of_a_transformers_model_goes_by_that_library_s_names(flux: Path) -> None:
    for name in ("eager", "sdpa"):
        model = load_model("CLIPTextModel", settings(flux, attention=name), subfolder="text_encoder")
        assert model.config._attn_implementation == name


@pytest.mark.parametrize(
    ("attention", "found"),
    [
        ("magic", "diffusers has no attention backend 'magic'"),
        ("sage", "the attention backend 'sage' cannot be used"),
        ("flash_hub", "the attention 'flash_hub' is fetched from the hub"),
    ],
)
def test_attention_that_cannot_be_used_is_refused(flux: Path, attention: str, found: str) -> None:
    error = refusal(load_pipeline, "FluxPipeline", settings(flux, attention=attention), **NO_TOKENIZERS)
    assert error.found.startswith(found)


def test_compilation_is_set_up_for_the_denoiser_s_blocks(flux: Path) -> None:
    pipeline = load_pipeline("FluxPipeline", settings(flux, compile=True), **NO_TOKENIZERS)
    compiled = {
        type(module).__name__ for module in pipeline.transformer.modules() if module._compiled_call_impl is not None
    }
    assert compiled == {"FluxTransformerBlock", "FluxSingleTransformerBlock"}
    vae = load_model("AutoencoderKL", settings(flux, compile=True), library="diffusers", subfolder="vae")
    assert vae._compiled_call_impl is not None


def test_another_pipeline_class_is_refused_with_both_names(flux: Path) -> None:
    error = refusal(load_pipeline, "FluxFillPipeline", settings(flux), **NO_TOKENIZERS)
    assert error.found == "the files are of the class FluxPipeline, the engine asks for FluxFillPipeline"
    assert refusal(load_pipeline, "NoSuchPipeline", settings(flux)).found.endswith("has no class NoSuchPipeline")
    error = refusal(load_pipeline, "FluxPipeline", settings(flux / "transformer"))
    assert error.found == "model_index.json is missing, so this is no FluxPipeline"


def test_a_pipeline_that_cannot_be_put_together_says_why(flux: Path) -> None:
    error = refusal(load_pipeline, "FluxPipeline", settings(flux))
    assert error.found.startswith("FluxPipeline cannot be loaded: ")
    assert "tokenizer" in error.found


def test_a_pipeline_without_a_denoiser_has_nothing_to_compile(tmp_path: Path, flux: Path) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"], "unet": [None, None]})
    )
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    error = refusal(load_pipeline, DDPMPipeline.__name__, settings(tmp_path, compile=True), unet=None)
    assert "has no denoiser" in error.found


def test_running_out_of_memory_keeps_its_own_type(flux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(FluxPipeline, "from_pretrained", fail)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        load_pipeline("FluxPipeline", settings(flux), **NO_TOKENIZERS)
    assert classify(raised.value) is Reason.OUT_OF_MEMORY


# ---------------------------------------------------------------- single models


def test_a_single_model_is_loaded_for_use_and_not_for_training(flux: Path) -> None:
    model = load_model("T5EncoderModel", settings(flux), subfolder="text_encoder_2")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    alone = load_model("T5EncoderModel", settings(flux / "text_encoder_2", precision="float32"))
    assert alone.dtype == torch.float32
    assert torch.equal(alone.shared.weight.bfloat16(), model.shared.weight)


def test_files_of_another_model_are_refused_instead_of_filled_with_random_numbers(flux: Path, tmp_path: Path) -> None:
    error = refusal(load_model, "CLIPTextModel", settings(flux), subfolder="text_encoder_2")
    assert error.found.startswith("the files lack weights of CLIPTextModel: ")
    error = refusal(load_model, "AutoencoderKLWan", settings(flux), library="diffusers", subfolder="vae")
    assert error.found == "the files are of the class AutoencoderKL, the engine asks for AutoencoderKLWan"


def test_weights_that_are_missing_from_the_files_are_named(flux: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for part, library, class_name in (
        ("vae", "diffusers", "AutoencoderKL"),
        ("text_encoder_2", "transformers", "T5EncoderModel"),
    ):
        folder = tmp_path / part
        folder.mkdir()
        [file] = (flux / part).glob("*.safetensors")
        tensors = load_file(file)
        missing = next(name for name in tensors if name.endswith("weight") and "shared" not in name)
        del tensors[missing]
        save_file(tensors, folder / file.name, metadata={"format": "pt"})
        (folder / "config.json").write_text((flux / part / "config.json").read_text())
        error = refusal(load_model, class_name, settings(folder), library=library)
        assert missing in error.found


def test_a_damaged_file_is_an_error_of_ours(flux: Path, tmp_path: Path) -> None:
    [file] = (flux / "vae").glob("*.safetensors")
    (tmp_path / file.name).write_bytes(file.read_bytes()[:200])
    (tmp_path / "config.json").write_text((flux / "vae" / "config.json").read_text())
    error = refusal(load_model, "AutoencoderKL", settings(tmp_path), library="diffusers")
    assert error.where == str(tmp_path)


# ---------------------------------------------------------------- what this machine cannot do


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(
    flux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    require_loadable(settings(flux, device="cuda"))
    require_loadable(settings(flux, device="cuda:0"))
    error = refusal(load_pipeline, "FluxPipeline", settings(flux, device="cuda:1"), **NO_TOKENIZERS)
    assert error.found.startswith("the device cuda:1 is not there")
    assert error.found.endswith("sees 1 CUDA devices")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal(require_loadable, settings(flux, device="cuda")).found.endswith("sees 0 CUDA devices")


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offload_needs_a_cuda_device_and_accelerate(flux: Path, monkeypatch: pytest.MonkeyPatch, offload: str) -> None:
    assert "with the device cpu" in refusal(require_loadable, settings(flux, offload=offload)).found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    installed = {"accelerate"}
    monkeypatch.setattr(model_loading, "_is_installed", lambda name: name in installed)
    require_loadable(settings(flux, offload=offload, device="cuda"))
    installed.clear()
    error = refusal(require_loadable, settings(flux, offload=offload, device="cuda"))
    assert error.found == f"offload '{offload}' needs the library accelerate, which is not installed"


@pytest.mark.parametrize(
    ("quantisation", "library"),
    [
        ("bitsandbytes_8bit", "bitsandbytes"),
        ("bitsandbytes_4bit", "bitsandbytes"),
        ("torchao_int8", "torchao"),
        ("torchao_float8", "torchao"),
    ],
)
def test_quantisation_needs_its_library(
    flux: Path, monkeypatch: pytest.MonkeyPatch, quantisation: str, library: str
) -> None:
    installed = {library, "accelerate"}
    monkeypatch.setattr(model_loading, "_is_installed", lambda name: name in installed)
    chosen = settings(flux, quantisation=quantisation)
    if library == "bitsandbytes":
        assert "with the device cpu" in refusal(require_loadable, chosen).found
    else:
        require_loadable(chosen)
    for missing in (library, "accelerate"):
        installed.clear()
        installed.update({library, "accelerate"} - {missing})
        error = refusal(load_pipeline, "FluxPipeline", chosen, **NO_TOKENIZERS)
        assert f"quantisation '{quantisation}' needs the library {missing}" in error.found
        assert f"pip install {missing}" in error.remedy


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that keeps some layers in float32."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "wan"
    WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=16,
        freq_dim=16,
        ffn_dim=16,
        num_layers=2,
        rope_max_seq_len=32,
        vace_layers=[0, 1],
        vace_in_channels=48,
    ).save_pretrained(folder / "transformer")
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "WanVACEPipeline", "transformer": ["diffusers", "WanVACETransformer3DModel"]})
    )
    return folder


def test_models_that_keep_layers_in_float32_need_accelerate(wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_loading, "_is_installed", lambda name: False)
    expected = "loading WanVACETransformer3DModel needs the library accelerate, which is not installed"
    assert refusal(load_pipeline, "WanVACEPipeline", settings(wan)).found == expected
    load = settings(wan / "transformer")
    assert refusal(load_model, "WanVACETransformer3DModel", load, library="diffusers").found == expected
    require_readable(wan, given={"transformer"})


@pytest.mark.skipif(not HAS_ACCELERATE, reason="accelerate is not installed")
def test_with_accelerate_they_keep_them(wan: Path) -> None:
    model = load_model("WanVACETransformer3DModel", settings(wan / "transformer"), library="diffusers")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16, torch.float32}


@pytest.mark.skipif(
    not HAS_ACCELERATE or importlib.util.find_spec("torchao") is None, reason="torchao or accelerate is not installed"
)
@pytest.mark.parametrize("quantisation", ["torchao_int8", "torchao_float8"])
def test_torchao_takes_the_denoiser_and_the_text_encoders_and_leaves_the_autoencoder(
    flux: Path, quantisation: str
) -> None:
    pipeline = load_pipeline("FluxPipeline", settings(flux, quantisation=quantisation), **NO_TOKENIZERS)

    def kinds(model: torch.nn.Module) -> set[str]:
        return {type(each.weight).__name__ for each in model.modules() if isinstance(each, torch.nn.Linear)}

    name = "Int8Tensor" if quantisation == "torchao_int8" else "Float8Tensor"
    assert kinds(pipeline.transformer) == kinds(pipeline.text_encoder_2) == {name}
    assert kinds(pipeline.vae) == {"Parameter"}
    plain = load_pipeline("FluxPipeline", settings(flux), **NO_TOKENIZERS)
    assert abs(paint(pipeline) - paint(plain)).max() < 0.2


# ---------------------------------------------------------------- what a record says


def test_the_facts_of_a_model_are_json_and_say_how_it_ran(flux: Path) -> None:
    chosen = settings(flux, vae_tiling=True, attention="native", licence="mit")
    source = model_source(chosen)
    facts = json.loads(json.dumps(model_facts(chosen, source)))
    assert facts["files"] == source.files_digest
    assert len(facts["files"]) == 10
    versions = facts.pop("versions")
    assert versions["diffusers"].startswith("0.42")
    assert set(versions) >= {"torch", "transformers"}
    assert {key: value for key, value in facts.items() if key != "files"} == {
        "id": "flux",
        "revision": None,
        "commit": None,
        "licence": "mit",
        "device": "cpu",
        "precision": "bfloat16",
        "attention": "native",
        "offload": "none",
        "vae_tiling": True,
        "vae_slicing": False,
        "compile": False,
        "quantisation": "none",
    }
