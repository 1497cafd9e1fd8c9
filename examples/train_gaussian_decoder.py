"""Trains a small decoder from video latents to 3D Gaussians on a collection's shards, and shows a view held out.

    python examples/train_gaussian_decoder.py --steps 200
    python examples/train_gaussian_decoder.py --device cuda --steps 5000 --index s3://…/tables/training_index.parquet

Like Lyra's decoder, it takes a clip's latents and the Plücker rays of the clip's cameras, and gives Gaussians along the
pixel rays of each latent frame's camera; pictures rendered from them are compared with the clip's own frames and with
frames of the scene's other trajectories. One trajectory is never shown in training: its frames are the test. Writes
metrics.json, novel_view.png (rendered, truth) and splats.ply. All draws come from `--seed`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sceneloom.datasets.camera_conventions import invert_rigid, matrix_from_intrinsics, resize_intrinsics
from sceneloom.datasets.errors import InputError, SceneloomError
from sceneloom.datasets.files import write_bytes_atomically
from sceneloom.datasets.scene_clips import shard_url
from sceneloom.datasets.shards import ShardReader
from sceneloom.datasets.training_index import read_table
from sceneloom.ops.gaussian_rasteriser import rasterise
from sceneloom.ops.gaussian_scene import Gaussians, ply_from_gaussians
from sceneloom.ops.png import encode_png

LOG = logging.getLogger("train_gaussian_decoder")
DEFAULT_INDEX = Path(".sceneloom/demo/demo/tables/training_index.parquet")
REDUCTION = 2
"""Pictures are rendered and compared at the stored size divided by this."""

GAUSSIAN_CHANNELS = 12
"""Distance, opacity, 3 scales, 4 of the rotation, 3 of the colour."""

GAUSSIANS_PER_CELL_SIDE = 2
TARGETS_PER_STEP = 4
DEPTH_WEIGHT = 0.05
WARM_UP_STEPS = 10


# ----------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Clip:
    """One scene along one trajectory; pictures, depth and intrinsics at the size that is rendered.

    Attributes:
        latents: (C, t, h, w) float32.
        rgb: (T, H, W, 3) uint8 sRGB.
        depth: (T, H, W) float32 z-depth, 0 = invalid.
        c2w: (T, 4, 4) float64 camera-to-world, OpenCV axes.
        intrinsics: (T, 4) float64 fx, fy, cx, cy.
    """

    scene_id: str
    trajectory: str
    split: str
    latents: torch.Tensor
    rgb: torch.Tensor
    depth: torch.Tensor
    c2w: np.ndarray
    intrinsics: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.rgb.shape[1], self.rgb.shape[2]

    @property
    def latent_frames(self) -> list[int]:
        """The frame whose camera stands for each latent frame: the last that went into it."""
        frames, latent_frames = len(self.rgb), self.latents.shape[1]
        return [round(index) for index in np.linspace(0, frames - 1, latent_frames)]


def load_clips(index: str | Path) -> list[Clip]:
    """Every clip of the training index, in its order.

    Raises:
        InputError: there is no index, or it lists fewer than two trajectories.
    """
    rows = read_table(index).to_pylist()
    if len({row["trajectory"] for row in rows}) < 2:
        raise InputError(
            "fewer than two trajectories are listed",
            where=str(index),
            remedy="Make a collection with two trajectories: one is held out.",
        )
    readers = {row["shard"]: ShardReader(shard_url(index, row["shard"])) for row in rows}
    return [_load_clip(readers[row["shard"]], row) for row in rows]


def _load_clip(reader: ShardReader, row: dict[str, Any]) -> Clip:
    key = (row["scene_id"], row["trajectory"])
    c2w, intrinsics = reader.cameras(*key)
    rgb = torch.from_numpy(reader.rgb(*key)).permute(0, 3, 1, 2).float()
    depth = torch.from_numpy(reader.depth(*key).astype(np.float32))[:, None]
    small = nn.functional.avg_pool2d(rgb, REDUCTION).round().to(torch.uint8)
    # A mean over an edge would be a distance at which nothing is; the nearest of a block is.
    nearest = -nn.functional.max_pool2d(-torch.where(depth > 0, depth, torch.inf), REDUCTION)
    size, reduced = ((each.shape[2], each.shape[3]) for each in (rgb, small))
    return Clip(
        scene_id=row["scene_id"],
        trajectory=row["trajectory"],
        split=row["split"],
        latents=torch.from_numpy(reader.latents(*key).astype(np.float32)),
        rgb=small.permute(0, 2, 3, 1).contiguous(),
        depth=torch.where(nearest.isinf(), 0.0, nearest)[:, 0],
        c2w=c2w.astype(np.float64),
        intrinsics=resize_intrinsics(intrinsics, source=size, target=reduced),
    )


@dataclass(frozen=True)
class Cameras:
    """F cameras in the coordinates of an input clip's first camera: (F, 4, 4) world-to-camera, (F, 3, 3) matrices."""

    viewmats: torch.Tensor
    Ks: torch.Tensor


def relative_cameras(clip: Clip, frames: Sequence[int], origin: Clip) -> Cameras:
    """Cameras of some frames of a clip, seen from the first camera of `origin`, a clip of the same scene."""
    chosen = list(frames)
    viewmats = invert_rigid(clip.c2w[chosen]) @ origin.c2w[0]
    Ks = matrix_from_intrinsics(clip.intrinsics[chosen])
    return Cameras(torch.from_numpy(viewmats).float(), torch.from_numpy(Ks).float())


@dataclass(frozen=True)
class Rays:
    """Pixel rays of the F cameras of a clip's latent frames, on a grid of h × w cells.

    Attributes:
        origins: (3, F, 1, 1).
        directions: (3, F, h, w) of unit length.
        cell: (F,) angle in radians that one cell spans at the centre of the picture.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    cell: torch.Tensor

    def plucker(self) -> torch.Tensor:
        """(6, F, h, w): direction and moment origin × direction."""
        moments = torch.linalg.cross(self.origins.expand_as(self.directions), self.directions, dim=0)
        return torch.cat([self.directions, moments])


def rays_of(cameras: Cameras, size: tuple[int, int], grid: tuple[int, int]) -> Rays:
    """Rays through the centres of a grid's cells laid over pictures of `size` (height, width)."""
    rows = (torch.arange(grid[0]) + 0.5) * size[0] / grid[0]
    columns = (torch.arange(grid[1]) + 0.5) * size[1] / grid[1]
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)])
    c2w = torch.linalg.inv(cameras.viewmats)
    lifted = torch.einsum("fij,fjk,khw->ifhw", c2w[:, :3, :3], torch.linalg.inv(cameras.Ks), pixels)
    return Rays(
        origins=c2w[:, :3, 3].T[:, :, None, None],
        directions=nn.functional.normalize(lifted, dim=0),
        cell=size[1] / grid[1] / cameras.Ks[:, 0, 0],
    )


# ----------------------------------------------------------------------------------------------- model


class Block(nn.Module):
    """Residual: normalise, mix neighbours (in time too), mix channels."""

    def __init__(self, width: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.mix = nn.Conv3d(width, width, kernel, padding="same")
        self.out = nn.Conv3d(width, width, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.out(nn.functional.silu(self.mix(self.norm(values))))


class GaussianDecoder(nn.Module):
    """Latents (C, t, h, w) and rays to t · 2h · 2w Gaussians.

    Args:
        latent_channels: C.
        distances: nearest and farthest distance along a ray; between them the network chooses on a logarithmic scale.
        width: channels inside.
    """

    def __init__(self, latent_channels: int, distances: tuple[float, float], width: int = 96) -> None:
        super().__init__()
        self.distances = distances
        self.entry = nn.Conv3d(latent_channels + 6, width, (1, 3, 3), padding=(0, 1, 1))
        self.blocks = nn.Sequential(*(Block(width, kernel) for kernel in ((1, 3, 3), (3, 3, 3), (1, 3, 3))))
        self.head = nn.Conv3d(width, GAUSSIAN_CHANNELS * GAUSSIANS_PER_CELL_SIDE**2, 1)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, latents: torch.Tensor, coarse: Rays, fine: Rays) -> Gaussians:
        """`coarse` rays lie on the latents' grid, `fine` ones on that of the Gaussians."""
        inputs = torch.cat([latents, coarse.plucker()])[None]
        hidden = nn.functional.silu(self.blocks(self.entry(inputs)))
        raw = nn.functional.pixel_shuffle(self.head(hidden)[0].transpose(0, 1), GAUSSIANS_PER_CELL_SIDE)
        distance, opacity, scale, rotation, colour = raw.transpose(0, 1).split([1, 1, 3, 4, 3])
        near, far = self.distances
        along = near * (far / near) ** torch.sigmoid(distance)
        # A standard deviation of half a cell closes the surface; the network may make it 8 times smaller or larger.
        spread = 0.5 * along * fine.cell[None, :, None, None] * 8 ** torch.tanh(scale)
        identity = rotation.new_tensor([1.0, 0.0, 0.0, 0.0])[:, None, None, None]
        return Gaussians(
            means=_as_rows(fine.origins + along * fine.directions),
            quaternions=_as_rows(rotation + identity),
            scales=_as_rows(spread),
            opacities=_as_rows(torch.sigmoid(opacity))[:, 0],
            colours=_as_rows(torch.sigmoid(colour)),
        )


def _as_rows(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).T.contiguous()


# ----------------------------------------------------------------------------------------------- training


def depth_loss(rendered: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Lyra's: each frame's depth minus its median, over its mean absolute deviation, compared by smooth L1.

    Neither scale nor shift of the depth counts. Unlike Lyra's, the median is taken over the valid pixels only, so that
    it stays a distance where more than half of a frame is invalid.

    Args:
        rendered: (F, H, W).
        truth: (F, H, W), 0 = invalid.
    """
    losses = []
    for ours, theirs in zip(rendered, truth, strict=True):
        valid = theirs > 0
        if valid.any():
            losses.append(nn.functional.smooth_l1_loss(_normalised(ours[valid]), _normalised(theirs[valid])))
    return torch.stack(losses).mean() if losses else rendered.sum() * 0


def _normalised(depth: torch.Tensor) -> torch.Tensor:
    centred = depth - depth.median()
    return centred / centred.abs().mean().clamp(min=1e-6)


def psnr(mean_squared_error: float) -> float:
    """Of values 0..1, in dB."""
    return -10 * math.log10(max(mean_squared_error, 1e-10))


class Trainer:
    """The decoder with its optimiser; every draw from `seed`."""

    def __init__(self, clips: Sequence[Clip], held_out: str, *, steps: int, seed: int, device: str) -> None:
        self.clips = clips
        self.shown = [clip for clip in clips if clip.split == "train" and clip.trajectory != held_out]
        if not self.shown:
            raise InputError(
                f"no clip of the training split follows another trajectory than {held_out}",
                where="training index",
                remedy="Make more scenes, or hold another trajectory out.",
            )
        self.device, self.steps = device, steps
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        self.decoder = GaussianDecoder(self.shown[0].latents.shape[0], _distances(self.shown)).to(device)
        self.optimiser = torch.optim.AdamW(self.decoder.parameters(), lr=2e-3, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._learning_rate)

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to a twentieth."""
        falling = 0.525 + 0.475 * math.cos(math.pi * min(step / self.steps, 1.0))
        return min((step + 1) / WARM_UP_STEPS, falling)

    def decode(self, clip: Clip) -> Gaussians:
        """The Gaussians of a clip, in the coordinates of its first camera."""
        cameras = relative_cameras(clip, clip.latent_frames, clip)
        grid = (clip.latents.shape[2], clip.latents.shape[3])
        fine = (grid[0] * GAUSSIANS_PER_CELL_SIDE, grid[1] * GAUSSIANS_PER_CELL_SIDE)
        rays = (_on(rays_of(cameras, clip.size, each), self.device) for each in (grid, fine))
        return self.decoder(clip.latents.to(self.device), *rays)

    def render(
        self, gaussians: Gaussians, cameras: Cameras, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(F, H, W, 3) colours and (F, H, W) expected depth."""
        viewmats, Ks = cameras.viewmats.to(self.device), cameras.Ks.to(self.device)
        rendering, _ = rasterise(gaussians, viewmats, Ks, size[1], size[0], render_mode="RGB+ED")
        return rendering[..., :3], rendering[..., 3]

    def step(self) -> float:
        """One update from one clip; half of its targets are its own, half of a trajectory drawn from its scene's."""
        source = self.random.choice(self.shown)
        of_scene = [clip for clip in self.shown if clip.scene_id == source.scene_id]
        targets = [source, self.random.choice(of_scene)]
        gaussians = self.decode(source)
        share = TARGETS_PER_STEP // len(targets)
        losses = [self._loss(gaussians, source, each, self._frames(each, share)) for each in targets]
        loss = torch.stack(losses).mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def _frames(self, target: Clip, count: int) -> list[int]:
        return self.random.sample(range(len(target.rgb)), count)

    def _loss(self, gaussians: Gaussians, source: Clip, target: Clip, frames: Sequence[int]) -> torch.Tensor:
        frames = list(frames)
        cameras = relative_cameras(target, frames, source)
        rgb, depth = self.render(gaussians, cameras, target.size)
        colour_loss = nn.functional.mse_loss(rgb, target.rgb[frames].to(self.device) / 255)
        return colour_loss + DEPTH_WEIGHT * depth_loss(depth, target.depth[frames].to(self.device))

    @torch.no_grad()
    def mean_loss(self) -> float:
        """Over the clips shown, each in the frames of its own latents: the same targets every time, so comparable."""
        losses = [self._loss(self.decode(clip), clip, clip, clip.latent_frames) for clip in self.shown]
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def novel_views(self, source: Clip, target: Clip) -> tuple[torch.Tensor, float]:
        """All frames of `target` from the Gaussians of `source`: (T, H, W, 3) 0..1, and their PSNR in dB."""
        cameras = relative_cameras(target, range(len(target.rgb)), source)
        rgb, _ = self.render(self.decode(source), cameras, target.size)
        shown = rgb.clamp(0, 1).cpu()
        return shown, psnr(float(nn.functional.mse_loss(shown, target.rgb / 255)))


def _on(rays: Rays, device: str) -> Rays:
    return Rays(rays.origins.to(device), rays.directions.to(device), rays.cell.to(device))


def _distances(clips: Sequence[Clip]) -> tuple[float, float]:
    """Where Gaussians may lie: from the nearest to the farthest 0.5 % of the depths shown, with some room."""
    depths = np.concatenate([clip.depth[clip.depth > 0].numpy()[::7] for clip in clips])
    near, far = np.quantile(depths, [0.005, 0.995])
    return float(near) / 1.5, float(far) * 1.5


def held_out_pairs(clips: Sequence[Clip], held_out: str, *, training_scenes: bool) -> list[tuple[Clip, Clip]]:
    """(input, target) of every scene of the training split, or of the other splits; the target was never shown."""
    targets = {clip.scene_id: clip for clip in clips if clip.trajectory == held_out}
    inputs: dict[str, Clip] = {}
    for clip in clips:
        if clip.trajectory != held_out and (clip.split == "train") == training_scenes:
            inputs.setdefault(clip.scene_id, clip)
    return [(clip, targets[scene]) for scene, clip in inputs.items() if scene in targets]


# ----------------------------------------------------------------------------------------------- program


def train(index: str | Path, out: Path, *, steps: int, seed: int, device: str, held_out: str | None) -> dict[str, Any]:
    """Train, render the views held out, write the three files; returns what metrics.json holds."""
    clips = load_clips(index)
    trajectories = sorted({clip.trajectory for clip in clips})
    held_out = held_out or trajectories[-1]
    if held_out not in trajectories:
        raise InputError(
            f"no clip follows {held_out!r}", where=str(index), remedy=f"Hold one of {', '.join(trajectories)} out."
        )
    trainer = Trainer(clips, held_out, steps=steps, seed=seed, device=device)
    known = held_out_pairs(clips, held_out, training_scenes=True)
    unknown = held_out_pairs(clips, held_out, training_scenes=False)
    loss_untrained, psnr_untrained = trainer.mean_loss(), _mean_psnr(trainer, known)
    started = time.perf_counter()
    losses = []
    for step in range(steps):
        losses.append(trainer.step())
        if step % 20 == 0 or step == steps - 1:
            LOG.info("step %d of %d: loss %.4f, %.0f s", step + 1, steps, losses[-1], time.perf_counter() - started)
    seconds = time.perf_counter() - started
    metrics = {
        "index": str(index),
        "steps": steps,
        "seed": seed,
        "device": device,
        "held_out_trajectory": held_out,
        "training_clips": len(trainer.shown),
        "distances": trainer.decoder.distances,
        "loss_untrained": loss_untrained,
        "loss_trained": trainer.mean_loss(),
        "novel_view_psnr_untrained": psnr_untrained,
        "novel_view_psnr": _mean_psnr(trainer, known),
        "novel_view_psnr_of_mean_colour": _mean_colour_psnr(known),
        "unseen_scene_psnr": _mean_psnr(trainer, unknown),
        "seconds": seconds,
        "losses": losses,
    }
    _write(trainer, *known[0], metrics, out)
    return metrics


def _mean_psnr(trainer: Trainer, pairs: Sequence[tuple[Clip, Clip]]) -> float | None:
    values = [trainer.novel_views(source, target)[1] for source, target in pairs]
    return float(np.mean(values)) if values else None


def _mean_colour_psnr(pairs: Sequence[tuple[Clip, Clip]]) -> float:
    """What a picture of one colour, the clip's own mean, would reach."""
    return float(
        np.mean([psnr(float(((clip.rgb / 255).var(dim=(0, 1, 2), correction=0)).mean())) for _, clip in pairs])
    )


def _write(trainer: Trainer, source: Clip, target: Clip, metrics: dict[str, Any], out: Path) -> None:
    """The last frame of the held-out trajectory, where the camera is farthest from its start, beside the truth."""
    rendered, _ = trainer.novel_views(source, target)
    pictures = torch.cat([(rendered[-1] * 255).round().to(torch.uint8), target.rgb[-1]], dim=1)
    with torch.no_grad():
        gaussians = trainer.decode(source)
    metrics["picture"] = {"scene_id": source.scene_id, "input": source.trajectory, "frame": len(target.rgb) - 1}
    metrics["picture"]["psnr"] = psnr(float(nn.functional.mse_loss(rendered[-1], target.rgb[-1] / 255)))
    metrics["gaussians"] = len(gaussians)
    write_bytes_atomically(out / "splats.ply", ply_from_gaussians(gaussians))
    write_bytes_atomically(out / "novel_view.png", encode_png(pictures.numpy()))
    write_bytes_atomically(out / "metrics.json", (json.dumps(metrics, indent=1) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary, _, description = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", default=DEFAULT_INDEX, help="training_index.parquet, a path or an fsspec URL")
    parser.add_argument("--out", type=Path, default=Path(".sceneloom/gaussian_decoder"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--held-out", help="trajectory that is never shown; the last by name when left out")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.steps < 1:
        parser.error("--steps must be at least 1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options = {"steps": given.steps, "seed": given.seed, "device": given.device, "held_out": given.held_out}
        metrics = train(given.index, given.out, **options)
    except SceneloomError as error:
        LOG.error("%s", error)
        return 1
    LOG.info(
        "loss %.4f to %.4f in %.0f s; novel views of known scenes: PSNR %.2f dB (untrained %.2f, mean colour %.2f)",
        *(metrics[name] for name in ("loss_untrained", "loss_trained", "seconds", "novel_view_psnr")),
        *(metrics[name] for name in ("novel_view_psnr_untrained", "novel_view_psnr_of_mean_colour")),
    )
    if metrics["unseen_scene_psnr"] is not None:
        LOG.info("scenes not in the training split: PSNR %.2f dB", metrics["unseen_scene_psnr"])
    LOG.info("metrics.json, novel_view.png and splats.ply are in %s", given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
