"""Tiny diffusers pipelines of the real classes with random weights, as save_pretrained writes them."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sceneloom.datasets.catalog import SceneEntry

CHARACTERS = string.ascii_letters + string.digits + string.punctuation
LICENCE = "Apache-2.0"


def write_flux(folder: Path, *, distilled: bool = False, fill: bool = False) -> Path:
    """A FluxPipeline (FLUX.1 dev, or schnell where distilled), or a FluxFillPipeline: pictures of any multiple of 4."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
    from diffusers.pipelines.flux.pipeline_flux_fill import FluxFillPipeline

    torch.manual_seed(1 if fill else 0)
    vae = AutoencoderKL(**_picture_autoencoder(), shift_factor=0.0609, scaling_factor=1.5035)
    # Fill: 4 · 2 channels of noise, as many of the masked picture, and the mask's 2 · 2 pixels a latent, packed 2 × 2.
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=8 + 8 + 4 * 4 if fill else 8,
        out_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=not distilled,
    )
    pipeline = (FluxFillPipeline if fill else FluxPipeline)(
        scheduler=flow_scheduler(),
        vae=vae,
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
    )
    return _saved(pipeline, folder)


def write_flux2_klein(folder: Path, *, distilled: bool = False) -> Path:
    """A Flux2KleinPipeline: pictures of any multiple of 4."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
    from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
    from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
    from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

    torch.manual_seed(2)
    vocabulary = {character: index for index, character in enumerate(["<|endoftext|>", "Ġ", "Ċ", *CHARACTERS])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.chat_template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{% endfor %}"
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(vocabulary),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=28,  # the pipeline reads the hidden states of layers 9, 18 and 27
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=4,
            max_position_embeddings=512,
        )
    )
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(**_picture_autoencoder())
    pipeline = Flux2KleinPipeline(
        scheduler=flow_scheduler(),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )
    return _saved(pipeline, folder)


def write_sana_wm(folder: Path) -> Path:
    """A SanaWMPipeline with the strides of the released one: clips of 1 + 8k frames, sides multiples of 32."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
    from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel
    from diffusers.pipelines.sana_wm.pipeline_sana_wm import SanaWMPipeline
    from transformers.models.gemma.tokenization_gemma import GemmaTokenizer
    from transformers.models.gemma2.configuration_gemma2 import Gemma2Config
    from transformers.models.gemma2.modeling_gemma2 import Gemma2ForCausalLM

    torch.manual_seed(3)
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = {token: index for index, token in enumerate([*special, "▁", *CHARACTERS])}
    vocabulary |= {f"<0x{byte:02X}>": len(vocabulary) + byte for byte in range(256)}
    text_encoder = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=4096,
        )
    )
    transformer = SanaWMTransformer3DModel(
        in_channels=4,
        num_layers=2,
        hidden_size=32,
        num_attention_heads=2,
        linear_head_dim=16,
        softmax_every_n=2,
        caption_channels=16,
        mlp_ratio=1.0,
    )
    _away_from_zero(transformer)
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8, 16, 16, 32),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 4))
    vae.latents_std.copy_(torch.linspace(0.5, 2.0, 4))
    pipeline = SanaWMPipeline(
        tokenizer=GemmaTokenizer(vocab=vocabulary, merges=[]),
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=flow_scheduler(),
    )
    return _saved(pipeline, folder)


def write_wan_vace(folder: Path) -> Path:
    """A WanVACEPipeline with the strides of the released ones: clips of 1 + 4k frames, sides multiples of 16."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
    from diffusers.pipelines.wan.pipeline_wan_vace import WanVACEPipeline

    torch.manual_seed(4)
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    transformer = WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=16,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        vace_layers=[0],
        vace_in_channels=96,
    )
    _away_from_zero(transformer)
    pipeline = WanVACEPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5_encoder(),
        vae=vae,
        scheduler=flow_scheduler(shift=3.0),
        transformer=transformer,
    )
    return _saved(pipeline, folder)


def flow_scheduler(**configuration: Any) -> Any:
    """The scheduler of all four."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**configuration)


def clip_tokenizer() -> Any:
    """Letters, each as itself and as the end of a word."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    tokens = [*special, *CHARACTERS, *(f"{character}</w>" for character in CHARACTERS)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def clip_text_encoder() -> Any:
    """A CLIPTextModel for `clip_tokenizer`."""
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=2 + 2 * len(CHARACTERS),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def t5_tokenizer() -> Any:
    """Characters of equal likelihood."""
    from transformers.models.t5.tokenization_t5 import T5Tokenizer

    tokens = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -9.0),
        ("▁", -2.0),
        *((character, -3.0) for character in CHARACTERS),
    ]
    return T5Tokenizer(vocab=tokens, extra_ids=0, model_max_length=512)


def t5_encoder() -> Any:
    """A T5EncoderModel for `t5_tokenizer`."""
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    return T5EncoderModel(T5Config(**_T5))


def umt5_encoder() -> Any:
    """A UMT5EncoderModel for `t5_tokenizer`."""
    from transformers.models.umt5.configuration_umt5 import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(**_T5))


_T5: dict[str, Any] = {
    "vocab_size": 4 + len(CHARACTERS),
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 1,
    "num_heads": 2,
}


def _picture_autoencoder() -> dict[str, Any]:
    """Configuration with a stride of 2 and two latent channels."""
    return {
        "sample_size": 32,
        "block_out_channels": (4, 4),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "latent_channels": 2,
        "norm_num_groups": 1,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }


def _away_from_zero(model: Any) -> None:
    """Noise on every weight: parts that training starts at zero, such as control layers, then have an effect."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)


def _saved(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text(f"---\nlicense: {LICENCE}\n---\n")
    return folder


@contextmanager
def calls_of(module: Any) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """The arguments of every call of a model's part while the block runs."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = module.register_forward_pre_hook(
        lambda _, arguments, named: calls.append((arguments, named)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


def prompt_scene(prompt: str | None = "a red room") -> SceneEntry:
    """A scene that is a prompt."""
    return SceneEntry(
        scene_id="scene-1",
        kind="prompt",
        prompt=prompt,
        image_url=None,
        image_sha256=None,
        image_bytes=None,
        image_version=None,
        width=None,
        height=None,
        perceptual_hash=None,
        seed=5,
        split="train",
        licence=None,
        tags=[],
        source="prompts.txt:1",
        content_digest="0" * 64,
    )
