"""Folders of tiny, untrained transformers models of the real classes, as save_pretrained writes them.

Random weights of these classes give constant outputs where a last layer is dead; where that is so, the last layer is
given weights with which outputs vary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

DEPTH_PRO_SIDE = 64


def save_depth_pro(folder: Path, *, field_of_view: bool = True) -> Any:
    """A DepthProForDepthEstimation for 64 × 64 pixels; with its field-of-view part it says about 60 degrees."""
    import torch
    from transformers import DepthProConfig, DepthProForDepthEstimation

    torch.manual_seed(3)
    encoder = {
        "model_type": "dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = DepthProConfig(
        patch_size=32,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[16, 16],
        merge_padding_value=0,
        use_fov_model=field_of_view,
        image_model_config=dict(encoder),
        patch_model_config=dict(encoder),
        fov_model_config=dict(encoder),
    )
    model: Any = DepthProForDepthEstimation(config).eval()
    # Canonical inverse depth of rooms.
    last = [layer for layer in model.head.layers if hasattr(layer, "bias")][-1]
    _spread_outputs(model, last, DEPTH_PRO_SIDE, mean=0.5, deviation=0.004)
    if field_of_view:
        torch.nn.init.constant_(model.fov_model.head.layers[-1].bias, 60.0)
    model.save_pretrained(folder)
    _write_preprocessor(
        folder,
        image_processor_type="DepthProImageProcessor",
        size={"height": DEPTH_PRO_SIDE, "width": DEPTH_PRO_SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=2,
    )
    return model


def save_depth_anything(
    folder: Path, kind: Literal["relative", "metric"] = "relative", *, deviation: float = 0.2
) -> Any:
    """A DepthAnythingForDepthEstimation for about 70 pixels a side; a metric one reaches 20 metres.

    Args:
        deviation: of what it says before its last activation; negative: near and far exchanged.
    """
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(4)
    backbone: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 70,
        "patch_size": 14,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
        "apply_layernorm": True,
    }
    config = DepthAnythingConfig(
        backbone_config=Dinov2Config(**backbone),
        patch_size=14,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 32, 32],
        fusion_hidden_size=16,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    model: Any = DepthAnythingForDepthEstimation(config).eval()
    _spread_outputs(model, model.head.conv3, 70, mean=0.0 if kind == "metric" else 3.0, deviation=deviation)
    model.save_pretrained(folder)
    _write_preprocessor(
        folder,
        image_processor_type="DPTImageProcessor",
        size={"height": 70, "width": 70},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        do_resize=True,
        do_rescale=True,
        do_normalize=True,
        resample=3,
        rescale_factor=1 / 255,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return model


def _spread_outputs(model: Any, last: Any, side: int, *, mean: float, deviation: float) -> None:
    """Give a model's last convolution the weights with which it gives this mean and deviation for noise."""
    import torch

    noise = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    given: list[Any] = []
    hook = last.register_forward_hook(lambda module, inputs, output: given.append(output))
    with torch.no_grad():
        last.bias.zero_()
        model(pixel_values=noise)
        last.weight.mul_(deviation / given[0].std())
        last.bias.fill_(mean - float(given[0].mean()) * deviation / float(given[0].std()))
    hook.remove()


def _write_preprocessor(folder: Path, **values: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def save_sam2(folder: Path) -> Any:
    """A Sam2Model for 128 × 128 pixels with masks of 32 × 32."""
    import torch
    from transformers import Sam2Config, Sam2Model
    from transformers.models.sam2.configuration_sam2 import (
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    torch.manual_seed(5)
    backbone = Sam2HieraDetConfig(
        hidden_size=12,
        num_attention_heads=1,
        image_size=[128, 128],
        blocks_per_stage=[1, 1, 3, 1],
        embed_dim_per_stage=[12, 24, 48, 96],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 2, 4, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[96, 48, 24, 12],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    )
    prompts = Sam2PromptEncoderConfig(hidden_size=32, image_size=128, patch_size=16, mask_input_channels=8)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=32, mlp_dim=64, num_hidden_layers=2, num_attention_heads=2, iou_head_hidden_dim=32
    )
    config = Sam2Config(
        vision_config=vision.to_dict(), prompt_encoder_config=prompts.to_dict(), mask_decoder_config=decoder.to_dict()
    )
    model: Any = Sam2Model(config).eval()
    _enliven(model)
    model.save_pretrained(folder)
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    _write_preprocessor(
        folder, image_processor_type="Sam2ImageProcessor", size={"height": 128, "width": 128}, resample=2, **imagenet
    )
    return model


def save_sam3(folder: Path) -> Any:
    """A Sam3Model for 112 × 112 pixels with six queries and masks of 32 × 32, and its tokenizer."""
    import torch
    from transformers import Sam3Config, Sam3Model
    from transformers.models.sam3.configuration_sam3 import Sam3ViTConfig

    torch.manual_seed(6)
    small: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    backbone = Sam3ViTConfig(
        **small,
        num_hidden_layers=2,
        image_size=112,
        patch_size=14,
        window_size=4,
        global_attn_indexes=[1],
        pretrain_image_size=56,
    )
    tokenizer = clip_tokenizer()
    config = Sam3Config(
        vision_config={
            "backbone_config": backbone.to_dict(),
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config={
            **small,
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 2,
            "max_position_embeddings": 32,
            "projection_dim": 32,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        geometry_encoder_config={**small, "num_layers": 1},
        detr_encoder_config={**small, "num_layers": 1},
        detr_decoder_config={**small, "num_layers": 1, "num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_upsampling_stages": 2, "num_attention_heads": 2},
    )
    model: Any = Sam3Model(config).eval()
    _enliven(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_preprocessor(
        folder,
        image_processor_type="Sam3ImageProcessor",
        size={"height": 112, "width": 112},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=2,
    )
    return model


def clip_tokenizer() -> Any:
    """A CLIPTokenizer that knows single letters."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])


def _enliven(model: Any) -> None:
    """Weights as large as trained ones have them: with those of the initialisation, outputs hardly vary."""
    import torch

    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1 and "positional" not in name:
                fan_in = parameter[0].numel()
                parameter.normal_(0.0, 1.4 / fan_in**0.5)


def t5_tokenizer() -> Any:
    """A T5Tokenizer that knows single letters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def save_text_encoder(
    folder: Path, kind: Literal["t5", "umt5"] = "umt5", *, tokenizer_folder: Path | None = None, d_model: int = 24
) -> Any:
    """The encoder of a T5 or UMT5 with `d_model` numbers a token, and its tokenizer beside it or elsewhere."""
    import torch
    import transformers

    torch.manual_seed(7)
    tokenizer = t5_tokenizer()
    config_class, model_class = {
        "t5": (transformers.T5Config, transformers.T5EncoderModel),
        "umt5": (transformers.UMT5Config, transformers.UMT5EncoderModel),
    }[kind]
    config = config_class(vocab_size=len(tokenizer), d_model=d_model, d_kv=8, d_ff=32, num_layers=2, num_heads=3)
    model: Any = model_class(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(tokenizer_folder or folder)
    return model


CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} :{% endif %}"
)


def caption_words() -> list[str]:
    """What the tiny vision-language model can say, by token id; the first four mark end, padding, unknown and image."""
    nouns = ["sofa", "chair", "table", "lamp", "window", "wall", "floor", "plant", "rug", "shelf"]
    others = ["a", "the", "red", "blue", "large", "small", "room", "with", "and", "is", "on", "near", "camera", "moves"]
    return ["</s>", "<pad>", "<unk>", "<image>", ".", ",", ":", *nouns, *others]


def save_vision_language(folder: Path) -> Any:
    """A LlavaForConditionalGeneration for pictures of 28 × 28 pixels that says words of `caption_words`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(8)
    words = {word: index for index, word in enumerate(caption_words())}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    small: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, num_attention_heads=2, image_size=28, patch_size=14),
        text_config=LlamaConfig(
            **small,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=len(words),
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=1,
        ),
        image_token_index=words["<image>"],
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    model: Any = LlavaForConditionalGeneration(config).eval()
    _enliven(model)
    with torch.no_grad():
        # It says words: no marks for padding, unknown words and pictures.
        model.lm_head.weight[1:4] = 0.0
    model.save_pretrained(folder)
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    return model
