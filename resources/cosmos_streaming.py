"""The Cosmos video autoencoder, evaluated a few frames at a time with the result of one pass over the whole clip.

`diffusers.AutoencoderKLCosmos` is causal in time: every convolution looks back, group norms are per frame and
temporal attention is lower triangular. So a pass over frames 0..n and then n+1.. gives the same numbers as one pass
over all, provided that each layer keeps what it will look back on: the last frames of its input, or its keys and
values. That is what `CosmosNetwork` does with the modules and weights of the diffusers class, which is the oracle in
the tests.

It also runs the layers in the form that CPUs and GPUs are fast at. Activations are (time · batch, channels, height,
width) in channels-last memory with time outermost, so a (1,3,3) kernel is a 2D convolution over frames, a (3,1,1)
kernel is a 2D convolution over (time, batch · height · width), and looking back is a slice. The wavelet patching,
which is linear, is one matrix product. Measured on one core of a Zen 4 EPYC: a (1,3,3) convolution of 64 channels,
forward and backward, takes 7.0 ms so and 19.7 ms as conv3d; 3.8 ms in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

    Tensor = torch.Tensor
    History = dict[torch.nn.Module, Any]


class CosmosNetwork:
    """Encoder and decoder of one `AutoencoderKLCosmos`, in chunks of frames.

    A pass over one batch of clips needs one `history` for encoding and another for decoding: a dict that starts
    empty, is handed to each call in turn and belongs to that pass alone. The network itself holds no state of a pass,
    so any number of threads may share it. Gradients flow through it, and parameters are read at every call.

    Args:
        model: the autoencoder; its modules and parameters are used as they are, in their dtype and on their device.
    """

    streams = True

    def __init__(self, model: AutoencoderKLCosmos) -> None:
        self.model: Any = model  # modules are reached by the names diffusers gives them
        self.patch_size = int(model.config["patch_size"])
        self._patch_matrix = _probe_patching(model.encoder.patch_embed, self.patch_size, model.config["in_channels"])
        self._unpatch_matrix = _probe_unpatching(
            model.decoder.unpatch_embed, self.patch_size, model.config["out_channels"]
        )

    def encode(self, frames: Tensor, history: History) -> Tensor:
        """Encodes the next frames of a batch of clips.

        Args:
            frames: (T, B, H, W, 3) in -1..1, in the model's dtype: 1 + 8k of them in a pass's first call, 8k later.
            history: the pass's memory, changed in place.

        Returns:
            (t, B, C, h, w) latents as the model gives them, not normalised.
        """
        encoder = self.model.encoder
        batch = frames.shape[1]
        hidden = self._patch(frames, first=not history)
        hidden = _projection(encoder.conv_in, hidden, batch, history)
        for block in encoder.down_blocks:
            hidden = _layers(block, hidden, batch, history)
            for downsampler in block.downsamplers or ():
                hidden = _downsample(downsampler, hidden, batch, history)
        hidden = _mid_block(encoder.mid_block, hidden, batch, history)
        hidden = _projection(encoder.conv_out, _norm_act(encoder.norm_out, hidden), batch, history)
        hidden = _causal_conv(self.model.quant_conv, hidden, batch, history)
        return hidden.unflatten(0, (-1, batch))

    def decode(self, latents: Tensor, history: History) -> Tensor:
        """Decodes the next latent frames of a batch of clips.

        Args:
            latents: (t, B, C, h, w), not normalised, in the model's dtype.
            history: the pass's memory, changed in place.

        Returns:
            (T, B, H, W, 3) frames, about -1..1 (not clipped): 1 + 8(t - 1) in the first call of a pass, 8t later.
        """
        decoder = self.model.decoder
        first = not history
        batch = latents.shape[1]
        hidden = _channels_last(latents.flatten(0, 1))
        hidden = _causal_conv(self.model.post_quant_conv, hidden, batch, history)
        hidden = _projection(decoder.conv_in, hidden, batch, history)
        hidden = _mid_block(decoder.mid_block, hidden, batch, history)
        for block in decoder.up_blocks:
            hidden = _layers(block, hidden, batch, history)
            for upsampler in block.upsamplers or ():
                hidden = _upsample(upsampler, hidden, batch, history)
        hidden = _projection(decoder.conv_out, _norm_act(decoder.norm_out, hidden), batch, history)
        return self._unpatch(hidden, batch, first=first)

    def patch(self, frames: Tensor) -> Tensor:
        """The model's patching (wavelets) of (T, B, H, W, 3) frames from a clip's start: (t · B, 3p³, H/p, W/p)."""
        return self._patch(frames, first=True)

    def _patch(self, frames: Tensor, *, first: bool) -> Tensor:
        import torch

        size = self.patch_size
        if first:  # the first frame is a group of its own
            frames = torch.cat([frames[:1].expand(size, -1, -1, -1, -1), frames[1:]])
        time, batch, height, width, colours = frames.shape
        blocks = frames.reshape(time // size, size, batch, height // size, size, width // size, size, colours)
        blocks = blocks.permute(0, 2, 3, 5, 7, 1, 4, 6).flatten(4)
        patched = blocks @ self._patch_matrix.to(frames)
        return patched.flatten(0, 1).permute(0, 3, 1, 2)

    def _unpatch(self, hidden: Tensor, batch: int, *, first: bool) -> Tensor:
        size = self.patch_size
        blocks = hidden.permute(0, 2, 3, 1) @ self._unpatch_matrix.to(hidden)
        time, height, width = blocks.shape[0] // batch, blocks.shape[1], blocks.shape[2]
        blocks = blocks.reshape(time, batch, height, width, -1, size, size, size)
        frames = blocks.permute(0, 5, 1, 2, 6, 3, 7, 4).reshape(time * size, batch, height * size, width * size, -1)
        return frames[size - 1 :] if first else frames


def _probe_patching(patching: Callable[[Tensor], Tensor], size: int, colours: int) -> Tensor:
    """The matrix (colours · size³, channels) of a linear patching, found by sending each unit block through it."""
    import torch

    count = colours * size**3
    frames = torch.zeros(count, colours, 1 + size, size, size)
    frames[:, :, 1:] = torch.eye(count).reshape(count, colours, size, size, size)
    with torch.no_grad():
        return patching(frames)[:, :, 1, 0, 0].clone()


def _probe_unpatching(unpatching: Callable[[Tensor], Tensor], size: int, colours: int) -> Tensor:
    """The matrix (channels, colours · size³) of a linear unpatching, found likewise."""
    import torch

    count = colours * size**3
    channels = torch.zeros(count, count, 2, 1, 1)
    channels[:, :, 1, 0, 0] = torch.eye(count)
    with torch.no_grad():
        return unpatching(channels)[:, :, 1:].flatten(1).clone()


def _channels_last(hidden: Tensor) -> Tensor:
    import torch

    return hidden.contiguous(memory_format=torch.channels_last)


def _look_back(key: torch.nn.Module, hidden: Tensor, frames: int, batch: int, history: History) -> Tensor:
    """`hidden` with the `frames` frames before it in front; before a clip's first frame, that frame repeated."""
    import torch

    past = history.get(key)
    if past is None:
        past = hidden[:batch].repeat(frames, 1, 1, 1)
    joined = torch.cat([past, hidden])
    history[key] = joined[joined.shape[0] - frames * batch :]
    return joined


def _causal_conv(conv: Any, hidden: Tensor, batch: int, history: History, *, stride: int = 1) -> Tensor:
    """A CosmosCausalConv3d of kernel (1,k,k) or (3,1,1); `stride` is the temporal one."""
    import torch.nn.functional as F

    weight = conv.weight
    if weight.shape[2] == 1:
        padding = conv.spatial_pad[0]
        return F.conv2d(hidden, weight.squeeze(2), conv.bias, stride=conv.stride[1:], padding=padding)
    if stride == 1:  # a downsampling layer brings its past along
        hidden = _look_back(conv, hidden, weight.shape[2] - 1, batch, history)
    _, channels, height, width = hidden.shape
    rows = hidden.permute(0, 2, 3, 1).reshape(1, hidden.shape[0] // batch, batch * height * width, channels)
    rows = F.conv2d(rows.permute(0, 3, 1, 2), weight.squeeze(4), conv.bias, stride=(stride, 1))
    return rows.permute(0, 2, 3, 1).reshape(-1, height, width, rows.shape[1]).permute(0, 3, 1, 2)


def _projection(projection: Any, hidden: Tensor, batch: int, history: History) -> Tensor:
    hidden = _causal_conv(projection.conv_s, hidden, batch, history)
    return _causal_conv(projection.conv_t, hidden, batch, history)


def _norm_act(norm: Any, hidden: Tensor) -> Tensor:
    import torch.nn.functional as F

    return F.silu(norm.norm(hidden))


def _resnet(resnet: Any, hidden: Tensor, batch: int, history: History) -> Tensor:
    import torch

    residual = hidden
    if not isinstance(resnet.conv_shortcut, torch.nn.Identity):
        residual = _causal_conv(resnet.conv_shortcut, hidden, batch, history)
    hidden = _projection(resnet.conv1, _norm_act(resnet.norm1, hidden), batch, history)
    hidden = _projection(resnet.conv2, _norm_act(resnet.norm2, hidden), batch, history)
    return hidden + residual


def _layers(block: Any, hidden: Tensor, batch: int, history: History) -> Tensor:
    """The residual blocks of a down or up block, each with its attentions where the configuration has them."""
    for resnet, spatial, temporal in zip(block.resnets, block.attentions, block.temp_attentions, strict=True):
        hidden = _resnet(resnet, hidden, batch, history)
        if spatial is not None:
            hidden = _spatial_attention(spatial, hidden)
            hidden = _temporal_attention(temporal, hidden, batch, history)
    return hidden


def _mid_block(block: Any, hidden: Tensor, batch: int, history: History) -> Tensor:
    hidden = _resnet(block.resnets[0], hidden, batch, history)
    for spatial, temporal, resnet in zip(block.attentions, block.temp_attentions, block.resnets[1:], strict=True):
        hidden = _spatial_attention(spatial, hidden)
        hidden = _temporal_attention(temporal, hidden, batch, history)
        hidden = _resnet(resnet, hidden, batch, history)
    return hidden


def _is_off(attention: Any) -> bool:
    """Whether the attention's output projection is zero, so that it adds nothing whatever it sees."""
    output = attention.to_out[0]
    return not (output.weight.any() or output.bias.any())


def _queries_keys_values(attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    hidden = attention.norm.norm(hidden)
    query, key, value = (
        _causal_conv(layer, hidden, 1, {}) for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    return query, key, value


def _spatial_attention(attention: Any, hidden: Tensor) -> Tensor:
    """Every pixel of a frame attends to every pixel of the same frame."""
    import torch.nn.functional as F

    if _is_off(attention):
        return hidden
    height, width = hidden.shape[2:]
    heads = attention.num_attention_heads
    query, key, value = (
        part.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (heads, -1)).transpose(1, 2)
        for part in _queries_keys_values(attention, hidden)
    )
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    attended = attended.unflatten(1, (height, width)).permute(0, 3, 1, 2)
    return hidden + _causal_conv(attention.to_out[0], attended, 1, {})


def _temporal_attention(attention: Any, hidden: Tensor, batch: int, history: History) -> Tensor:
    """Every pixel attends to the same pixel in its own frame and all earlier ones, whose keys and values are kept."""
    import torch
    import torch.nn.functional as F

    if _is_off(attention):
        return hidden
    height, width = hidden.shape[2:]
    heads = attention.num_attention_heads
    query, key, value = (
        part.permute(0, 2, 3, 1).unflatten(0, (-1, batch)).flatten(1, 3)
        for part in _queries_keys_values(attention, hidden)
    )  # (time, pixels, channels)
    past = history.get(attention)
    if past is not None:
        key, value = torch.cat([past[0], key]), torch.cat([past[1], value])
    history[attention] = (key, value)
    new, seen = query.shape[0], key.shape[0]
    mask = torch.ones(new, seen, dtype=torch.bool, device=hidden.device).tril(seen - new)
    query, key, value = (part.transpose(0, 1).unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
    attended = attended.transpose(0, 1).reshape(new * batch, height, width, -1).permute(0, 3, 1, 2)
    return hidden + _causal_conv(attention.to_out[0], attended, 1, {})


def _downsample(layer: Any, hidden: Tensor, batch: int, history: History) -> Tensor:
    import torch.nn.functional as F

    if layer.spatial_downsample:
        hidden = F.pad(hidden, (0, 1, 0, 1))
        hidden = _causal_conv(layer.conv1, hidden, batch, history) + F.avg_pool2d(hidden, 2)
    if layer.temporal_downsample:
        starts = layer.conv2 not in history
        joined = _look_back(layer.conv2, hidden, 2 if starts else 1, batch, history)
        history[layer.conv2] = hidden[hidden.shape[0] - batch :]
        pairs = joined[batch:].unflatten(0, (-1, 2, batch))
        pooled = pairs.mean(dim=1).flatten(0, 1)
        hidden = _causal_conv(layer.conv2, joined, batch, history, stride=2) + pooled
    if layer.spatial_downsample or layer.temporal_downsample:
        hidden = _causal_conv(layer.conv3, hidden, batch, history)
    return hidden


def _upsample(layer: Any, hidden: Tensor, batch: int, history: History) -> Tensor:
    import torch.nn.functional as F

    if layer.temporal_upsample:
        first = layer.conv1 not in history
        hidden = hidden.unflatten(0, (-1, batch)).repeat_interleave(2, dim=0)[1 if first else 0 :].flatten(0, 1)
        hidden = _causal_conv(layer.conv1, hidden, batch, history) + hidden
    if layer.spatial_upsample:
        hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
        hidden = _causal_conv(layer.conv2, hidden, batch, history) + hidden
    if layer.temporal_upsample or layer.spatial_upsample:
        hidden = _causal_conv(layer.conv3, hidden, batch, history)
    return hidden
