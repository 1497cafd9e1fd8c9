"""Time, memory and arithmetic of the released models' architectures at their real sizes, with random weights.

    python benchmarks/full_size_models.py [--device cuda] [--precision bfloat16] [--models cosmos sana_wm]
        [--frames 121 --height 704 --width 1280] [--steps 4] [--layers 20]

Speed depends on no weight's value, so nothing is downloaded. Sizes are diffusers' defaults, which are those of the
released models: AutoencoderKLCosmos (106 million parameters) saved, loaded and run as the profile's latent codec, and
SANA-WM's transformer (2.7 billion) with LTX-2's video autoencoder (1.2 billion) in SanaWMPipeline, with guidance, on
given prompt embeddings. Beside each stands what one large matrix product reaches on the same device in the same run:
the limit. On a CUDA device, "busy" is the share of the time in which a kernel ran. Less `--layers` or smaller clips
only try the command; they are no figures of the models.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from sceneloom.resources.latent_codec import LatentCodec
from sceneloom.resources.machine_name import machine_name

PROMPT_TOKENS = 300


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing.

    Attributes:
        seconds: of one run of it.
        arithmetic: floating-point operations of one run, a multiplication and an addition as two.
        memory: peak bytes, of the device, or of the process where that is the CPU.
        busy: share of the time in which the device worked; NaN where the device is the CPU.
    """

    name: str
    seconds: float
    arithmetic: float
    memory: int
    busy: float


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--models", nargs="+", default=["cosmos", "sana_wm"], choices=("cosmos", "sana_wm"))
    parser.add_argument("--frames", type=int, default=121)
    parser.add_argument("--height", type=int, default=704)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--steps", type=int, default=4, help="of denoising; the profile's default is 60")
    parser.add_argument("--layers", type=int, default=20, help="of SANA-WM's transformer; the released one has 20")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    limit = matrix_product_rate(chosen.device, getattr(torch, chosen.precision))
    measured = {"cosmos": cosmos, "sana_wm": sana_wm}
    rows = [row for name in chosen.models for row in measured[name](chosen)]
    print(
        f"{chosen.frames} × {chosen.height} × {chosen.width}, {chosen.precision}, {chosen.layers} layers, torch "
        f"{torch.__version__}, {chosen.device} of {machine_name()}; one matrix product: {limit / 1e12:.3g} TFLOP/s"
    )
    print(f"  {'':<44}{'seconds':>9}{'TFLOP':>9}{'of limit':>10}{'peak GB':>9}{'busy':>7}")
    for row in rows:
        share = row.arithmetic / row.seconds / limit
        busy = f"{row.busy:>7.0%}" if row.busy == row.busy else f"{'':>7}"
        print(
            f"  {row.name:<44}{row.seconds:>9.2f}{row.arithmetic / 1e12:>9.2f}{share:>10.0%}"
            f"{row.memory / 1e9:>9.1f}{busy}"
        )


def matrix_product_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of two square matrices, the best of five."""
    size = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(5):
        started = _now(device)
        torch.mm(left, right)
        seconds.append(_now(device) - started)
    return 2.0 * size**3 / min(seconds)


def cosmos(chosen: argparse.Namespace) -> list[Row]:
    """A clip encoded and decoded, frame group by frame group, by the codec of the profile."""
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

    with tempfile.TemporaryDirectory() as folder:
        AutoencoderKLCosmos().save_pretrained(folder)
        codec = LatentCodec.load(folder, device=chosen.device, dtype=chosen.precision)
    shape = (chosen.frames, chosen.height, chosen.width, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    first = frames[: 1 + codec.space.temporal_stride]
    latents = codec.encode(first)  # also chooses the kernels, outside of what is timed
    codec.decode(latents)
    encoded = _measure("AutoencoderKLCosmos, encode a clip", chosen.device, lambda: codec.encode(frames))
    latents = codec.encode(frames)
    return [encoded, _measure("AutoencoderKLCosmos, decode a clip", chosen.device, lambda: codec.decode(latents))]


def sana_wm(chosen: argparse.Namespace) -> list[Row]:
    """A step of denoising with guidance, and a clip's decoding."""
    pipeline = _sana_wm_pipeline(chosen)
    device, dtype = chosen.device, getattr(torch, chosen.precision)
    poses = np.tile(np.eye(4, dtype=np.float32), (chosen.frames, 1, 1))
    poses[:, 0, 3] = np.linspace(0.0, 0.5, chosen.frames)
    focal = chosen.width * 0.65
    prompt = torch.randn(1, 1, PROMPT_TOKENS, 2304, device=device, dtype=dtype)
    mask = torch.ones(1, PROMPT_TOKENS, dtype=torch.int64, device=device)

    ends: list[float] = []

    def note_end(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        ends.append(_now(device))
        return values

    def latents(steps: int) -> Any:
        ends.clear()
        return pipeline(
            image=Image.new("RGB", (chosen.width, chosen.height), (90, 120, 150)),
            prompt="",
            prompt_embeds=prompt,
            prompt_attention_mask=mask,
            negative_prompt_embeds=prompt,
            negative_prompt_attention_mask=mask,
            c2w=poses,
            intrinsics=np.array([focal, focal, chosen.width / 2, chosen.height / 2], np.float32),
            height=chosen.height,
            width=chosen.width,
            num_frames=chosen.frames,
            num_inference_steps=steps,
            generator=torch.Generator(device).manual_seed(0),
            output_type="latent",
            callback_on_step_end=note_end,
        ).frames

    made = latents(1 + chosen.steps)
    seconds = float(np.median(np.diff(ends)))
    several = _measure("", device, lambda: latents(1 + chosen.steps))
    one = _measure("", device, lambda: latents(1))
    step = Row(
        "SanaWMTransformer3DModel, a step with guidance",
        seconds,
        (several.arithmetic - one.arithmetic) / chosen.steps,
        several.memory,
        several.busy,
    )
    with torch.inference_mode():
        decoded = _measure(
            "AutoencoderKLLTX2Video, decode a clip", device, lambda: pipeline._decode_latents(made.to(dtype))
        )
    return [step, decoded]


def _sana_wm_pipeline(chosen: argparse.Namespace) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
    from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel
    from diffusers.pipelines.sana_wm.pipeline_sana_wm import SanaWMPipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    torch.set_default_dtype(getattr(torch, chosen.precision))
    try:
        with torch.device(chosen.device):
            transformer = SanaWMTransformer3DModel(
                num_layers=chosen.layers, chunk_plucker_post_attn_blocks=chosen.layers
            )
            vae = AutoencoderKLLTX2Video(spatial_compression_ratio=32, temporal_compression_ratio=8)
    finally:
        torch.set_default_dtype(torch.float32)
    parts: dict[str, Any] = {"tokenizer": None, "text_encoder": None, "vae": vae, "transformer": transformer}
    pipeline = SanaWMPipeline(**parts, scheduler=FlowMatchEulerDiscreteScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _measure(name: str, device: str, run: Callable[[], object]) -> Row:
    """Run it once for its time and peak memory, once for its arithmetic and, on CUDA, once for the device's share."""
    from torch.utils.flop_counter import FlopCounterMode

    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    started = _now(device)
    run()
    seconds = _now(device) - started
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = torch.cuda.max_memory_allocated(device) if cuda else resident
    with FlopCounterMode(display=False) as counter:
        run()
    return Row(name, seconds, float(counter.get_total_flops()), memory, _busy(device, run) if cuda else float("nan"))


def _busy(device: str, run: Callable[[], object]) -> float:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        started = _now(device)
        run()
        seconds = _now(device) - started
    return sum(event.self_device_time_total for event in trace.key_averages()) / 1e6 / seconds


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
