"""Trains the small video autoencoder that sceneloom ships, and writes its weights, configuration and card.

    python examples/train_latent_codec.py render   # clips of procedural and image scenes, for training and held out
    python examples/train_latent_codec.py train    # stops and resumes at any time; same clips and seed, same result
    python examples/train_latent_codec.py export   # writes the averaged weights to resources/weights/<id>/

The network is diffusers' `AutoencoderKLCosmos` (8×8×8, 16 channels), narrow, its attention off (output projections
zero). It starts as a linear code: the encoder's straight path is a cascade of principal component analyses, the
decoder's last layer is solved by ridge regression, and every residual branch adds nothing yet. From there the mean PSNR
of random crops is raised by AdamW in bfloat16 with averaged weights. All draws come from `--seed`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sceneloom.datasets.errors import ConfigError
from sceneloom.datasets.files import write_atomically
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.ops.block_pca import BlockPca
from sceneloom.ops.box_scene import build_box_scene
from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_model import SceneModel
from sceneloom.ops.trajectories import TrajectoryContext, build_path
from sceneloom.resources.cosmos_streaming import CosmosNetwork
from sceneloom.resources.latent_codec import SHIPPED_WEIGHTS, LatentCodec, weights_digest

if TYPE_CHECKING:
    import torch

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

LOG = logging.getLogger("train_latent_codec")
WEIGHTS_ID = "sceneloom-cosmos-8x8x8"
FRAMES, HEIGHT, WIDTH = 17, 176, 320
ENCODER_WIDTHS = (48, 64, 64)
DECODER_WIDTHS = (64, 64, 80, 80)
LATENT_CHANNELS = 16
KINDS = ("procedural", "image")
SEED_OF_SPLIT = {"held_out": 900_000, "train": 100_000}
TRAJECTORIES = ("left", "right", "up", "zoom_out", "zoom_in", "clockwise")
PLACES = ("living room", "bedroom", "kitchen", "study", "dining room", "workshop", "gallery", "courtyard", "garden")
MOODS = ("bright", "sunlit", "morning", "sunset", "overcast", "lamplit", "night")
ERROR_FLOOR = 1e-4  # of the squared error of values 0..1: crops above 40 dB matter less and less
GRADIENT_LIMIT = 1.0


@dataclass(frozen=True)
class Schedule:
    """One training run: crops first, whole frames (whose group norms are those of use) for the last `full_share`."""

    steps: int
    seed: int
    learning_rate: float = 1.5e-3
    warm_up: int = 200
    batch: int = 2
    crop_height: int = 96
    crop_width: int = 128
    full_share: float = 0.12
    ema_decay: float = 0.998
    checkpoint_every: int = 500
    initial_crops: int = 24


# ----------------------------------------------------------------------------------------------- model


def new_model() -> Any:
    """The shipped architecture with attention off: its zero output projections are not trained."""
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

    model = AutoencoderKLCosmos(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=ENCODER_WIDTHS,
        decode_block_out_channels=DECODER_WIDTHS,
        attention_resolutions=(),
        num_layers=1,
        patch_size=4,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )
    for name, parameter in model.named_parameters():
        if "attentions" in name:
            parameter.requires_grad_(False).zero_()
    return model


def initialise_linear(network: CosmosNetwork, clips: torch.Tensor) -> None:
    """Sets the model to a linear code of (T, B, H, W, 3) clips in -1..1, residual branches adding nothing."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import CosmosResnetBlock3d

    with torch.no_grad():
        for module in network.model.modules():
            if isinstance(module, CosmosResnetBlock3d):
                _zero(module.conv2.conv_t)
        _identity(network.model.quant_conv)
        _identity(network.model.post_quant_conv)
        _initialise_encoder(network, clips)
        _initialise_decoder(network, clips)


def _zero(conv: Any) -> None:
    conv.weight.zero_()
    if conv.bias is not None:
        conv.bias.zero_()


def _identity(conv: Any) -> None:
    """Passes each input channel to the output channel of the same number: this frame, this pixel."""
    _zero(conv)
    _tap(conv, conv.kernel_size[0] - 1, conv.kernel_size[1] // 2, conv.kernel_size[2] // 2).fill_diagonal_(1)


def _tap(conv: Any, *position: int) -> torch.Tensor:
    """View (out, in) of the weights at one (frame, row, column) of the kernel."""
    return conv.weight[:, :, position[0], position[1], position[2]]


def _components(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and the leading components of (N, D) rows, scaled so that each variance becomes its square root."""
    import torch

    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh((rows - mean).T.double() @ (rows - mean).double() / len(rows))
    values, vectors = values.flip(0)[:count].clamp_min(1e-8), vectors.flip(1)[:, :count]
    return mean, (vectors / values**0.25).T.float()


def _initialise_encoder(network: CosmosNetwork, clips: torch.Tensor) -> None:
    """Principal components of patches, then of 2×2 groups of those, then of pairs of frames of those."""
    import torch

    encoder = network.model.encoder
    batch = clips.shape[1]
    down = encoder.down_blocks[0].downsamplers[0]
    patches = network.patch(clips)

    first = encoder.conv_in.conv_s.out_channels
    mean, basis = _components(patches.permute(0, 2, 3, 1).flatten(0, 2), first)
    _identity(encoder.conv_in.conv_s)
    _tap(encoder.conv_in.conv_s, 0, 1, 1).copy_(basis)
    encoder.conv_in.conv_s.bias.copy_(-basis @ mean)
    _identity(encoder.conv_in.conv_t)
    hidden = torch.einsum("nchw,dc->nhwd", patches - mean[:, None, None], basis)
    width = encoder.down_blocks[0].resnets[0].conv_shortcut
    _identity(width)
    hidden = torch.nn.functional.pad(hidden, (0, width.out_channels - first))

    quads = torch.cat([hidden[:, r::2, c::2] for r in (0, 1) for c in (0, 1)], dim=-1)
    mean, basis = _components(quads.flatten(0, 2), width.out_channels)
    _zero(down.conv1)
    for index, part in enumerate(basis.chunk(4, dim=1)):
        _tap(down.conv1, 0, index // 2, index % 2).copy_(part - 0.25 * torch.eye(len(part)))
    down.conv1.bias.copy_(-basis @ mean)
    hidden = ((quads - mean) @ basis.T).unflatten(0, (-1, batch))

    pairs = torch.cat([torch.cat([hidden[:1], hidden[1::2]]), hidden[0::2]], dim=-1)
    mean, basis = _components(pairs.flatten(0, 3), width.out_channels)
    _zero(down.conv2)
    for index, part in enumerate(basis.chunk(2, dim=1)):
        _tap(down.conv2, 1 + index, 0, 0).copy_(part - 0.5 * torch.eye(len(part)))
    down.conv2.bias.copy_(-basis @ mean)
    hidden = (pairs - mean) @ basis.T

    scale = _pairs_of_signs(down.conv3, hidden.flatten(0, 3).square().mean(0))
    deviation = hidden[..., :LATENT_CHANNELS].flatten(0, 3).std(0)
    _zero(encoder.conv_out.conv_s)
    centre = _tap(encoder.conv_out.conv_s, 0, 1, 1)
    half = down.conv3.out_channels // 2
    centre[:, :LATENT_CHANNELS].fill_diagonal_(1)
    centre[:, half : half + LATENT_CHANNELS].fill_diagonal_(-1)
    centre *= scale / deviation[:, None]
    _identity(encoder.conv_out.conv_t)


def _pairs_of_signs(conv: Any, energy: torch.Tensor) -> float:
    """Sends channel c to +c and -c in two halves, of which the last are constant.

    SiLU(x) - SiLU(-x) = x, so a layer behind norm and activation can still read the values; the constants keep the
    norm's divisor, which is returned, nearly the same for every frame.
    """
    _zero(conv)
    half = conv.out_channels // 2
    weights = _tap(conv, 0, 0, 0)
    weights[: half - 1].fill_diagonal_(1)
    weights[half:-1].fill_diagonal_(-1)
    total = float(energy[: half - 1].sum())
    constant = 2 * math.sqrt(total)
    conv.bias[half - 1] = constant
    conv.bias[-1] = -constant
    return math.sqrt(2 * (total + constant**2) / conv.out_channels)


def _initialise_decoder(network: CosmosNetwork, clips: torch.Tensor) -> None:
    """Carries the latents, and their change over time, to the last layer, which is solved for."""
    import torch

    decoder = network.model.decoder
    up = decoder.up_blocks[1].upsamplers[0]
    _identity(decoder.conv_in.conv_s)
    _identity(decoder.conv_in.conv_t)
    _identity(decoder.up_blocks[1].resnets[0].conv_shortcut)
    _zero(up.conv1)
    change = slice(LATENT_CHANNELS, 2 * LATENT_CHANNELS)
    _tap(up.conv1, 2, 0, 0)[change].fill_diagonal_(1)
    _tap(up.conv1, 1, 0, 0)[change].fill_diagonal_(-1)
    _zero(up.conv2)
    _pairs_of_signs(up.conv3, torch.ones(2 * LATENT_CHANNELS))
    _identity(decoder.conv_out.conv_t)
    _solve_last_layer(network, clips)


def _solve_last_layer(network: CosmosNetwork, clips: torch.Tensor, ridge: float = 1e-4) -> None:
    """Ridge regression of the patches on what the last spatial convolution sees."""
    import torch

    seen: list[Any] = []
    last = network.model.decoder.conv_out.conv_s
    norm = network.model.decoder.norm_out.norm
    hook = norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network.decode(network.encode(clips, {}), {})
    hook.remove()
    inputs = torch.nn.functional.unfold(torch.nn.functional.silu(seen[0]), 3, padding=1)
    inputs = torch.nn.functional.pad(inputs.transpose(1, 2).flatten(0, 1), (0, 1), value=1.0).double()
    targets = network.patch(clips).permute(0, 2, 3, 1).flatten(0, 2).double()
    gram = inputs.T @ inputs / len(inputs)
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    solution = torch.linalg.solve(gram, inputs.T @ targets / len(inputs)).T.float()
    last.weight.copy_(solution[:, :-1].reshape(last.weight.shape))
    last.bias.copy_(solution[:, -1])


# ----------------------------------------------------------------------------------------------- clips


def render_clips(cache: Path, counts: dict[str, int], pictures: list[Path]) -> None:
    """Renders what the cache lacks of `counts[split]` clips a split and kind, turn by turn."""
    for index in range(max(counts.values())):
        for split, count in counts.items():
            for kind in KINDS:
                path = cache / split / kind / f"{index:05d}.npy"
                if index < count and not path.exists():
                    clip = render_clip(kind, SEED_OF_SPLIT[split] + index, _own_pictures(pictures, split))
                    write_atomically(path, lambda file, clip=clip: np.save(file, clip))
                    LOG.info("rendered %s", path)


def _own_pictures(pictures: list[Path], split: str) -> list[Path]:
    """Each photograph belongs to one split: every other one to training."""
    return pictures[0::2] if split == "held_out" else pictures[1::2]


def render_clip(kind: str, seed: int, pictures: list[Path]) -> UInt8:
    """One (FRAMES, HEIGHT, WIDTH, 3) clip: part of a trajectory through the scene of this seed."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    scene = _procedural_scene(seed, rng) if kind == "procedural" else _image_scene(seed, rng, pictures)
    caster = RayCaster(scene)
    for factor in (1.0, 0.6, 0.3):
        cameras = _cameras(scene, caster, rng, factor)
        if all((caster.geometry(c2w, scene.intrinsics, HEIGHT, WIDTH).depth > 0.15).all() for c2w in cameras[::4]):
            break
    frames = [
        caster.render(c2w, scene.intrinsics, HEIGHT, WIDTH, samples_per_pixel=2, seed=seed).rgb for c2w in cameras
    ]
    return np.stack(frames)


def _procedural_scene(seed: int, rng: np.random.Generator, scale: int = 1) -> SceneModel:
    prompt = f"a {rng.choice(MOODS)} {rng.choice(PLACES)}"
    return build_scene(prompt, seed=seed, height=HEIGHT * scale, width=WIDTH * scale)


def _image_scene(seed: int, rng: np.random.Generator, pictures: list[Path]) -> SceneModel:
    """The box scene of a photograph's crop (one in three) or of a rendered picture of the same seed."""
    if pictures and rng.random() < 1 / 3:
        picture = _random_crop(np.asarray(Image.open(pictures[rng.integers(len(pictures))]).convert("RGB")), rng)
    else:
        room = _procedural_scene(seed, rng)
        picture = RayCaster(room).render(np.eye(4), room.intrinsics, HEIGHT, WIDTH, samples_per_pixel=4, seed=seed).rgb
    return build_box_scene(picture, seed=seed)


def _random_crop(picture: UInt8, rng: np.random.Generator) -> UInt8:
    height, width = picture.shape[:2]
    largest = min(height / HEIGHT, width / WIDTH)
    scale = rng.uniform(min(1.0, largest), largest)
    crop_height, crop_width = int(HEIGHT * scale), int(WIDTH * scale)
    top, left = rng.integers(height - crop_height + 1), rng.integers(width - crop_width + 1)
    crop = Image.fromarray(picture[top : top + crop_height, left : left + crop_width])
    return np.asarray(crop.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _cameras(scene: SceneModel, caster: RayCaster, rng: np.random.Generator, factor: float) -> Float32:
    """FRAMES neighbouring cameras of a Lyra trajectory of 17 to 121 frames: fast and slow movement alike."""
    centre = caster.geometry(np.eye(4), scene.intrinsics, HEIGHT, WIDTH).depth[
        HEIGHT // 2 - 16 :, WIDTH // 3 : -WIDTH // 3
    ]
    frames = int(rng.choice([FRAMES, 33, 61, 121]))
    context = TrajectoryContext(frames=frames, centre_depth=float(np.median(centre)))
    path = build_path(str(rng.choice(TRAJECTORIES)), context, seed=int(rng.integers(1 << 31)), movement_factor=factor)
    start = int(rng.integers(frames - FRAMES + 1))
    return path.c2w[start : start + FRAMES]


def clip_paths(cache: Path, split: str, kind: str) -> list[Path]:
    """The clips of one split and kind, in order."""
    return sorted((cache / split / kind).glob("*.npy"))


# -------------------------------------------------------------------------------------------- training


class Trainer:
    """A training run that can be stopped after any checkpoint and resumed with the same outcome."""

    def __init__(self, schedule: Schedule, cache: Path, run: Path) -> None:
        import torch

        torch.manual_seed(schedule.seed)
        torch.use_deterministic_algorithms(True)
        self.schedule, self.cache, self.checkpoint = schedule, cache, run / "checkpoint.pt"
        self.rng = np.random.default_rng(schedule.seed)
        self.clips = [np.load(p, mmap_mode="r") for kind in KINDS for p in clip_paths(cache, "train", kind)]
        self.network = CosmosNetwork(new_model())
        self.parameters = [p for p in self.network.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, betas=(0.9, 0.95), weight_decay=1e-3)
        self.step = 0
        if self.checkpoint.exists():
            self._resume()
        else:
            initialise_linear(self.network, self._batch(schedule.initial_crops, 96, 128))
            self.average = [p.detach().clone() for p in self.parameters]

    def _resume(self) -> None:
        import torch

        state = torch.load(self.checkpoint, weights_only=True)
        if state["schedule"] != asdict(self.schedule):
            raise ConfigError(
                f"the checkpoint was made with {state['schedule']}",
                where=str(self.checkpoint),
                remedy="Use another --run",
            )
        self.network.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = state["average"]
        self.step = state["step"]
        self.rng.bit_generator.state = state["rng"]
        LOG.info("resumed at step %d with %d clips", self.step, len(self.clips))

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        import torch

        state = {
            "schedule": asdict(self.schedule),
            "step": self.step,
            "model": self.network.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "rng": self.rng.bit_generator.state,
            "clips": len(self.clips),
        }
        write_atomically(self.checkpoint, lambda file: torch.save(state, file))

    def run(self) -> None:
        """Trains to the end of the schedule."""
        losses: list[float] = []
        started, since = time.perf_counter(), self.step
        while self.step < self.schedule.steps:
            losses.append(self._train_step())
            if self.step % 100 == 0:
                pace = (time.perf_counter() - started) / (self.step - since)
                LOG.info("step %d: crops at %.2f dB, %.3f s a step", self.step, -np.mean(losses), pace)
                losses.clear()
            if self.step % self.schedule.checkpoint_every == 0 or self.step == self.schedule.steps:
                self.save()
                LOG.info("step %d: held out at %s", self.step, self.held_out())

    def _train_step(self) -> float:
        """One step on the mean of the crops' PSNR; returns its negative."""
        import torch

        schedule = self.schedule
        whole = self.step >= schedule.steps * (1 - schedule.full_share)
        frames = self._batch(1) if whole else self._batch(schedule.batch, schedule.crop_height, schedule.crop_width)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = self.network.decode(self.network.encode(frames, {}), {})
        error = (decoded.float() - frames).square().mean((0, 2, 3, 4)) / 4
        loss = (error + ERROR_FLOOR).log10().mul(10).mean()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, GRADIENT_LIMIT)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self.optimiser.step()
        self.step += 1
        decay = min(schedule.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            for average, parameter in zip(self.average, self.parameters, strict=True):
                average.lerp_(parameter, 1 - decay)
        return loss.item()

    def _learning_rate(self) -> float:
        schedule = self.schedule
        warm = min((self.step + 1) / schedule.warm_up, 1.0)
        return schedule.learning_rate * warm * (0.01 + 0.99 * math.cos(math.pi / 2 * self.step / schedule.steps) ** 2)

    def _batch(self, count: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
        """(FRAMES, count, height, width, 3) in -1..1: random crops, mirrored or run backwards at random."""
        import torch

        crops = []
        for _ in range(count):
            clip = self.clips[self.rng.integers(len(self.clips))]
            top, left = (
                8 * self.rng.integers((side - crop) // 8 + 1) for side, crop in ((HEIGHT, height), (WIDTH, width))
            )
            crop = clip[:, top : top + height, left : left + width]
            mirrored, backwards = self.rng.random(2) < 0.5
            crops.append(crop[:: -1 if backwards else 1, :, :: -1 if mirrored else 1])
        return torch.from_numpy(np.stack(crops, axis=1)).float().div_(127.5).sub_(1)

    def averaged_model(self) -> Any:
        """The model with the averaged weights."""
        model = new_model()
        model.load_state_dict(self.network.model.state_dict())
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter, average in zip(trained, self.average, strict=True):
            parameter.data.copy_(average)
        return model.eval()

    def held_out(self, clips: int = 4) -> dict[str, float]:
        """Mean PSNR (dB) of the averaged weights on the first held-out clips of each kind."""
        codec = _raw_codec(self.averaged_model())
        return {
            kind: round(float(np.mean(psnrs(codec, clip_paths(self.cache, "held_out", kind)[:clips]))), 2)
            for kind in KINDS
        }


def _raw_codec(model: Any) -> LatentCodec:
    """The model with latents as it gives them, not normalised."""
    zeros, ones = np.zeros(LATENT_CHANNELS, np.float32), np.ones(LATENT_CHANNELS, np.float32)
    return LatentCodec(CosmosNetwork(model), LatentSpace(WEIGHTS_ID, LATENT_CHANNELS, zeros, ones))


# ---------------------------------------------------------------------------------------------- export


class Codec(Protocol):
    """What is compared: our codec, or the principal components."""

    def encode(self, frames: UInt8, /) -> Any: ...

    def decode(self, latents: Any, /) -> UInt8: ...


def psnr(frames: UInt8, decoded: UInt8) -> float:
    """Peak signal-to-noise ratio of a whole clip, dB."""
    return float(10 * np.log10(255**2 / np.mean(np.square(frames.astype(np.float32) - decoded))))


def psnrs(codec: Codec, paths: list[Path]) -> list[float]:
    """PSNR of every clip after encoding and decoding."""
    clips = (np.load(path) for path in paths)
    return [psnr(clip, codec.decode(codec.encode(clip))) for clip in clips]


def export(trainer: Trainer, folder: Path) -> None:
    """Writes config.json, the float16 weights and the card with figures measured on the written files."""
    import torch

    model = trainer.averaged_model()
    latents = _latent_statistics(model, trainer.clips)
    model.register_to_config(latents_mean=latents[0].tolist(), latents_std=latents[1].tolist())
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    torch.nn.Module.half(model)  # ModelMixin.half warns of layers that this model lacks
    model.save_pretrained(unfinished)
    for path in unfinished.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner may read
    figures = measure(trainer.cache, LatentCodec.load(unfinished))
    (unfinished / "README.md").write_text(card(trainer, figures, unfinished), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    LOG.info("wrote %s: %s", folder, json.dumps(figures))


def _latent_statistics(model: Any, clips: list[UInt8], count: int = 64) -> tuple[Any, Any]:
    """Mean and standard deviation (C,) of the latents of up to `count` training clips spread over the list."""
    codec = _raw_codec(model)
    chosen = clips[:: max(len(clips) // count, 1)][:count]
    values = np.concatenate([codec.encode(np.array(clip)).reshape(LATENT_CHANNELS, -1) for clip in chosen], axis=1)
    return values.mean(axis=1, dtype=np.float64), values.std(axis=1, dtype=np.float64)


def measure(cache: Path, codec: LatentCodec) -> dict[str, dict[str, float]]:
    """PSNR of codec and principal components on every held-out clip, and the seconds a clip takes."""
    paths = [path for kind in KINDS for path in clip_paths(cache, "train", kind)]
    pca = BlockPca.fit((np.load(path) for path in paths), LATENT_CHANNELS)
    figures: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        held_out = clip_paths(cache, "held_out", kind)
        ours, linear = psnrs(codec, held_out), psnrs(pca, held_out)
        figures[kind] = {
            "clips": len(held_out),
            "codec": float(np.mean(ours)),
            "pca": float(np.mean(linear)),
            "gain": float(np.mean(ours) - np.mean(linear)),
            "smallest_gain": float(np.min(np.subtract(ours, linear))),
        }
    return figures


def card(trainer: Trainer, figures: dict[str, dict[str, float]], folder: Path) -> str:
    """The model card, every figure in it measured or counted here."""
    schedule = trainer.schedule
    counts = {kind: len(clip_paths(trainer.cache, "train", kind)) for kind in KINDS}
    rows = "\n".join(
        f"| {kind} scenes | {row['clips']:.0f} | {row['pca']:.2f} | {row['codec']:.2f} | {row['gain']:+.2f} | "
        f"{row['smallest_gain']:+.2f} |"
        for kind, row in figures.items()
    )
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    parameters = sum(p.numel() for p in trainer.network.model.parameters())
    return CARD.format(
        id=WEIGHTS_ID,
        rows=rows,
        megabytes=size / 1e6,
        parameters=parameters / 1e6,
        steps=trainer.step,
        planned=schedule.steps,
        seed=schedule.seed,
        procedural=counts["procedural"],
        image=counts["image"],
        frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
        digest=weights_digest(folder),
    )


CARD = """---
license: apache-2.0
library_name: diffusers
---
# {id}

A small causal video autoencoder: diffusers' `AutoencoderKLCosmos`, 8×8×8 compression, 16 latent channels,
{parameters:.2f} M parameters in float16 ({megabytes:.2f} MB), attention off. A clip of 1 + 8k frames gives 1 + k latent
frames. `config.json` holds the mean and standard deviation of each latent channel; stored latents are (z - mean) / std.

It is the default of a pipeline that needs no download and no GPU. It is trained on rendered rooms and gardens and on
rooms made of pictures, not on video of the world: for photographs in motion take a large autoencoder.

## Held-out reconstruction

Mean PSNR in dB over clips of {frames} frames at {height}×{width}, uint8 in and out, latents stored as float16. Beside
it the best linear code of the same size: 16 principal components of the same causal blocks (8×8 in the first frame,
8×8×8 after it), fitted on all training clips.

| held out | clips | 16 principal components | this codec | gain | smallest gain of a clip |
|---|---|---|---|---|---|
{rows}

## Training

{steps} of {planned} steps, seed {seed}, {procedural} clips of procedural scenes and {image} of image scenes; held-out
scenes have other seeds, held-out photographs are other pictures. Made by `examples/train_latent_codec.py`.

Weights digest: `{digest}`
"""


# ---------------------------------------------------------------------------------------- command line


def main() -> None:
    """Reads the command line and runs one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["render", "train", "export"])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "sceneloom" / "codec_clips")
    parser.add_argument("--run", type=Path, default=Path.home() / ".cache" / "sceneloom" / "codec_training")
    parser.add_argument("--train-clips", type=int, default=300, help="clips of each kind to render for training")
    parser.add_argument("--held-out-clips", type=int, default=24, help="clips of each kind to render for testing")
    parser.add_argument("--pictures", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS / WEIGHTS_ID, help="folder that export writes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if arguments.command == "render":
        pictures = sorted(p for p in arguments.pictures.glob("*") if p.suffix in {".jpg", ".png"})
        render_clips(arguments.cache, {"held_out": arguments.held_out_clips, "train": arguments.train_clips}, pictures)
        return
    import torch

    torch.set_num_threads(arguments.threads)
    trainer = Trainer(Schedule(arguments.steps, arguments.seed), arguments.cache, arguments.run)
    if arguments.command == "train":
        trainer.run()
    else:
        export(trainer, arguments.weights)


if __name__ == "__main__":
    main()
