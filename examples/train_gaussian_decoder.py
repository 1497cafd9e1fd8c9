"""Trains a small decoder from video latents to 3D Gaussians on a collection's shards, and shows a view held out.

    python examples/train_gaussian_decoder.py --steps 200
    python examples/train_gaussian_decoder.py --device cuda --steps 5000 --index s3://…/tables/training_index.parquet

Like Lyra's decoder, it takes a clip's latents and the cameras of the clip, and gives Gaussians along the pixel rays of
each latent frame's camera; pictures rendered from them are compared with the clip's own frames and with frames of the
scene's other trajectories. Colours start from a linear map of the latents that is solved for, depths from a plane sweep
over the latent frames; the network learns the rest. One trajectory is never shown in training: its frames are the test.
Writes metrics.json, novel_view.png (conditioning frame, rendered, truth; depth below) and splats.ply. All draws come
from `--seed`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

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

SIDE = 4
"""Each latent cell gives SIDE × SIDE Gaussians: with strides of 8 and pictures of half the size, one a pixel."""

PLANES = 24
FRAMES_PER_TARGET = 1
DEPTH_WEIGHT = 0.1
WARM_UP_STEPS = 10

Drawn = tuple[torch.Tensor, torch.Tensor]
"""(F, H, W, 3) colours 0..1 and (F, H, W) z-depth."""


# ----------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Clip:
    """One scene along one trajectory; pictures, depth and intrinsics at the size that is rendered.

    Attributes:
        latents: (t, C, h, w) float32.
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
    def latent_frames(self) -> list[int]:
        """The frame whose camera stands for each latent frame: the last that went into it."""
        return [round(index) for index in np.linspace(0, len(self.rgb) - 1, len(self.latents))]

    @property
    def test_frames(self) -> list[int]:
        """Every fourth frame, counted from the last; the first is left out: all trajectories start with it."""
        return list(range(len(self.rgb) - 1, 0, -4))[::-1]

    def on_grid(self, frames: Sequence[int], grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(F, 3, h, w) mean colours 0..1 and (F, 1, h, w) nearest depth of each cell of a grid of h × w."""
        chosen = list(frames)
        step = self.rgb.shape[1] // grid[0]
        colours = functional.avg_pool2d(self.rgb[chosen].permute(0, 3, 1, 2) / 255, step)
        return colours, nearest_depth(self.depth[chosen][:, None], step)


def nearest_depth(depth: torch.Tensor, step: int) -> torch.Tensor:
    """The nearest valid depth of each block of step × step: a mean over an edge would be where nothing is."""
    nearest = -functional.max_pool2d(-torch.where(depth > 0, depth, torch.inf), step)
    return torch.where(nearest.isinf(), 0.0, nearest)


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
    small = functional.avg_pool2d(rgb, REDUCTION).round().to(torch.uint8)
    depth = torch.from_numpy(reader.depth(*key).astype(np.float32))[:, None]
    size, reduced = ((each.shape[2], each.shape[3]) for each in (rgb, small))
    return Clip(
        scene_id=row["scene_id"],
        trajectory=row["trajectory"],
        split=row["split"],
        latents=torch.from_numpy(reader.latents(*key).astype(np.float32)).transpose(0, 1).contiguous(),
        rgb=small.permute(0, 2, 3, 1).contiguous(),
        depth=nearest_depth(depth, REDUCTION)[:, 0],
        c2w=c2w.astype(np.float64),
        intrinsics=resize_intrinsics(intrinsics, source=size, target=reduced),
    )


@dataclass(frozen=True)
class Cameras:
    """F cameras in the coordinates of an input clip's first camera.

    Attributes:
        viewmats: (F, 4, 4) world-to-camera.
        Ks: (F, 3, 3) calibration matrices in pixels of `size`.
        size: height and width of the pictures.
    """

    viewmats: torch.Tensor
    Ks: torch.Tensor
    size: tuple[int, int]

    def to(self, device: str) -> Cameras:
        return Cameras(self.viewmats.to(device), self.Ks.to(device), self.size)


def relative_cameras(clip: Clip, frames: Sequence[int], origin: Clip) -> Cameras:
    """Cameras of some frames of a clip, seen from the first camera of `origin`, a clip of the same scene."""
    chosen = list(frames)
    viewmats = invert_rigid(clip.c2w[chosen]) @ origin.c2w[0]
    Ks = matrix_from_intrinsics(clip.intrinsics[chosen])
    size = (clip.rgb.shape[1], clip.rgb.shape[2])
    return Cameras(torch.from_numpy(viewmats).float(), torch.from_numpy(Ks).float(), size)


@dataclass(frozen=True)
class Rays:
    """Rays of F cameras through the cells of a grid of h × w: a point at z-depth d is origin + d · direction.

    Attributes:
        origins: (F, 3, 1, 1).
        directions: (F, 3, h, w) with a z of 1 in the camera.
        cell: (F, 1, 1, 1) width of a cell at z-depth 1.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    cell: torch.Tensor

    def plucker(self) -> torch.Tensor:
        """(F, 6, h, w): unit direction and moment origin × direction."""
        directions = functional.normalize(self.directions, dim=1)
        moments = torch.linalg.cross(self.origins.expand_as(directions), directions, dim=1)
        return torch.cat([directions, moments], dim=1)


def rays_of(cameras: Cameras, grid: tuple[int, int]) -> Rays:
    """Rays through the centres of the cells of a grid (rows, columns) laid over the pictures."""
    device = cameras.Ks.device
    rows = (torch.arange(grid[0], device=device) + 0.5) * cameras.size[0] / grid[0]
    columns = (torch.arange(grid[1], device=device) + 0.5) * cameras.size[1] / grid[1]
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)])
    c2w = torch.linalg.inv(cameras.viewmats)
    return Rays(
        origins=c2w[:, :3, 3, None, None],
        directions=torch.einsum("fij,fjk,khw->fihw", c2w[:, :3, :3], torch.linalg.inv(cameras.Ks), pixels),
        cell=(cameras.size[1] / grid[1] / cameras.Ks[:, 0, 0])[:, None, None, None],
    )


# ----------------------------------------------------------------------------------------------- model


def least_squares_convolution(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> nn.Conv2d:
    """The 3 × 3 convolution that maps inputs (F, C, h, w) to targets (F, K, h, w) with the least squared error."""
    channels = pairs[0][0].shape[1]
    gram: torch.Tensor | float = 0.0
    moment: torch.Tensor | float = 0.0
    for inputs, targets in pairs:
        patches = functional.unfold(functional.pad(inputs, (1, 1, 1, 1), mode="replicate"), 3)
        patches = torch.cat([patches, torch.ones_like(patches[:, :1])], dim=1).transpose(0, 1).flatten(1).double()
        gram = gram + patches @ patches.T
        moment = moment + patches @ targets.transpose(0, 1).flatten(1).double().T
    assert isinstance(gram, torch.Tensor)
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram + ridge, moment).float()
    convolution = nn.Conv2d(channels, solution.shape[1], 3, padding=1, padding_mode="replicate")
    with torch.no_grad():
        convolution.weight.copy_(solution[:-1].T.reshape(-1, channels, 3, 3))
        assert convolution.bias is not None
        convolution.bias.copy_(solution[-1])
    return convolution.requires_grad_(False)


@torch.no_grad()
def plane_sweep(pictures: torch.Tensor, cameras: Cameras, disparities: torch.Tensor) -> torch.Tensor:
    """How badly each cell of each frame matches the other frames, were it at each of D disparities.

    Collins 1996, "A space-sweep approach to true multi-image matching": a cell is moved to each plane, seen by the
    other cameras, and its colour compared with what they show there.

    Args:
        pictures: (F, 3, h, w).
        cameras: of the F frames.
        disparities: (D,) 1 / z-depth of the planes.

    Returns:
        (F, D, h, w) mean absolute difference less its mean over the planes; 0 where no other frame sees the place.
    """
    frames, _, height, width = pictures.shape
    rays = rays_of(cameras, (height, width))
    points = rays.origins[:, :, None] + rays.directions[:, :, None] / disparities[:, None, None]
    sums = pictures.new_zeros(frames, len(disparities), height, width)
    counts = torch.zeros_like(sums)
    limits = pictures.new_tensor([cameras.size[1], cameras.size[0]]) / 2
    for other in range(frames):
        others = [frame for frame in range(frames) if frame != other]
        projection = cameras.Ks[other] @ cameras.viewmats[other, :3]
        places = torch.einsum("ij,fjdhw->fdhwi", projection[:, :3], points[others]) + projection[:, 3]
        ahead = places[..., 2] > 0.01
        grid = places[..., :2] / places[..., 2:].clamp(min=0.01) / limits - 1
        seen = ahead & (grid.abs() < 1).all(dim=-1)
        shown = functional.grid_sample(
            pictures[other].expand(len(others), -1, -1, -1), grid.flatten(1, 2), align_corners=False
        ).unflatten(2, (len(disparities), height))
        sums[others] += seen * (shown - pictures[others][:, :, None]).abs().mean(dim=1)
        counts[others] += seen
    means = sums / counts.clamp(min=1)
    known = counts > 0
    centred = means - means.sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp(min=1)
    return functional.avg_pool2d(centred * known, 3, stride=1, padding=1, count_include_pad=False)


def place_gaussians(
    rays: Rays,
    depth: torch.Tensor,
    colours: torch.Tensor,
    *,
    opacity: torch.Tensor,
    scale: torch.Tensor,
    rotation: torch.Tensor,
) -> Gaussians:
    """One Gaussian a cell, at its depth on its ray; where the last three are 0, an opaque ball that fills the cell.

    Args:
        rays: of F cameras on a grid of h × w.
        depth: (F, 1, h, w) z-depth.
        colours: (F, 3, h, w).
        opacity: (F, 1, h, w) logit, beside that of 0.92.
        scale: (F, 3, h, w) from about -2 to 2; at the ends 7 times smaller or larger.
        rotation: (F, 4, h, w) added to the quaternion wxyz of no rotation.
    """
    # A standard deviation of 0.35 cells closes the surface and blurs little.
    spread = 0.35 * depth * rays.cell * torch.exp(2 * torch.tanh(scale / 2))
    identity = rotation.new_tensor([1.0, 0.0, 0.0, 0.0])[:, None, None]
    return Gaussians(
        means=_as_rows(rays.origins + depth * rays.directions),
        quaternions=_as_rows(rotation + identity),
        scales=_as_rows(spread),
        opacities=_as_rows(torch.sigmoid(opacity + 2.5))[:, 0],
        colours=_as_rows(colours),
    )


def _as_rows(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 2, 3, 1).flatten(0, 2).contiguous()


class Block(nn.Module):
    """Residual: normalise, mix neighbours, mix channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.out(functional.silu(self.mix(self.norm(values))))


class GaussianDecoder(nn.Module):
    """Latents (t, C, h, w) and their cameras to t · h · w · SIDE² Gaussians.

    A depth is the mean over planes of disparity, weighted by the softmax of the network's score less the plane sweep's
    cost. The network starts at 0: at first, the score is the prior and the colours are the linear map's.

    Args:
        colour: maps latents to the colours of a cell's Gaussians; left as it is.
        disparities: (D,) 1 / z-depth of the planes.
        prior: (D,) logarithm of the share of depths near each plane.
        width: channels inside.
    """

    disparities: torch.Tensor

    def __init__(self, colour: nn.Conv2d, disparities: torch.Tensor, prior: torch.Tensor, width: int = 96) -> None:
        super().__init__()
        self.colour = colour
        self.register_buffer("disparities", disparities)
        cells, planes = SIDE**2, len(disparities)
        self.entry = nn.Conv2d(colour.in_channels + 6 + planes * cells, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(3)))
        self.head = nn.Conv2d(width, planes + 11, 1)
        self.sharpness = nn.Parameter(torch.tensor(math.log(200.0)))
        with torch.no_grad():
            self.head.weight.zero_()
            assert self.head.bias is not None
            self.head.bias.zero_()
            self.head.bias[:planes] = prior

    def forward(self, latents: torch.Tensor, cameras: Cameras) -> Gaussians:
        pictures = functional.pixel_shuffle(self.colour(latents), SIDE)
        cost = plane_sweep(pictures, cameras, self.disparities)
        rays = rays_of(cameras, (latents.shape[2], latents.shape[3])).plucker()
        # Costs are differences of colours: ×20 brings them to the size of the other inputs.
        inputs = torch.cat([latents, rays, functional.pixel_unshuffle(20 * cost, SIDE)], dim=1)
        hidden = functional.silu(self.blocks(self.entry(inputs)))
        # A cell's Gaussians differ by colours and costs; what the network adds to them is smooth.
        raw = functional.interpolate(self.head(hidden), scale_factor=SIDE, mode="bilinear")
        score, opacity, scale, rotation, colour = raw.split([len(self.disparities), 1, 3, 4, 3], dim=1)
        weights = torch.softmax(score - torch.exp(self.sharpness) * cost, dim=1)
        depth = 1 / (weights * self.disparities[:, None, None]).sum(dim=1, keepdim=True)
        fine = rays_of(cameras, (pictures.shape[2], pictures.shape[3]))
        return place_gaussians(fine, depth, pictures + colour, opacity=opacity, scale=scale, rotation=rotation)


def decoder_for(clips: Sequence[Clip]) -> GaussianDecoder:
    """A decoder whose linear map and planes fit some clips; the rest of its weights is drawn from torch's generator."""
    pairs = []
    for clip in clips:
        grid = (clip.latents.shape[2] * SIDE, clip.latents.shape[3] * SIDE)
        colours, _ = clip.on_grid(clip.latent_frames, grid)
        pairs.append((clip.latents, functional.pixel_unshuffle(colours, SIDE)))
    depths = torch.cat([clip.depth[clip.depth > 0][::7] for clip in clips])
    near, far = np.quantile(depths.numpy(), [0.005, 0.995])
    disparities = torch.linspace(1 / near, 1 / far, PLANES)
    place = (1 / depths - disparities[0]) / (disparities[-1] - disparities[0]) * (PLANES - 1)
    shares = torch.bincount(place.round().long().clamp(0, PLANES - 1), minlength=PLANES) / len(place)
    # A plane that no depth is near keeps a small share, so that the network can still choose it.
    return GaussianDecoder(least_squares_convolution(pairs), disparities, (shares + 1e-3).log())


# ----------------------------------------------------------------------------------------------- training


def depth_loss(rendered: torch.Tensor, truth: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the logarithms of depth, where the truth is valid and Gaussians cover half a pixel.

    Lyra's depth loss is blind to scale and shift, because its depth is estimated. Shards hold depth in the unit of the
    cameras, and where Gaussians lie counts in exactly that unit.

    Args:
        rendered, truth, alphas: (F, H, W); 0 = invalid.
    """
    valid = (truth > 0) & (alphas > 0.5)
    if not valid.any():
        return rendered.sum() * 0
    return (rendered[valid].log() - truth[valid].log()).abs().mean()


class Trainer:
    """The decoder with its optimiser; every draw from `seed`."""

    def __init__(self, clips: Sequence[Clip], held_out: str, *, steps: int, seed: int, device: str) -> None:
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
        self.decoder = decoder_for(self.shown).to(device)
        self.optimiser = torch.optim.AdamW(self.decoder.parameters(), lr=2e-3, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._learning_rate)

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to a twentieth."""
        falling = 0.525 + 0.475 * math.cos(math.pi * min(step / self.steps, 1.0))
        return min((step + 1) / WARM_UP_STEPS, falling)

    def decode(self, clip: Clip) -> Gaussians:
        """The Gaussians of a clip, in the coordinates of its first camera."""
        cameras = relative_cameras(clip, clip.latent_frames, clip)
        return self.decoder(clip.latents.to(self.device), cameras.to(self.device))

    def step(self) -> float:
        """One update from one clip; half of its targets are its own, half of another trajectory of its scene."""
        source = self.random.choice(self.shown)
        others = [clip for clip in self.shown if clip.scene_id == source.scene_id and clip is not source]
        targets = [source, self.random.choice(others or [source])]
        gaussians = self.decode(source)
        losses = []
        for target in targets:
            frames = self.random.sample(range(len(target.rgb)), FRAMES_PER_TARGET)
            losses.append(self._loss(gaussians, source, target, frames))
        loss = torch.stack(losses).mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def _loss(self, gaussians: Gaussians, source: Clip, target: Clip, frames: list[int]) -> torch.Tensor:
        rgb, depth, alphas = render(gaussians, relative_cameras(target, frames, source).to(self.device))
        colour_loss = functional.mse_loss(rgb, target.rgb[frames].to(self.device) / 255)
        return colour_loss + DEPTH_WEIGHT * depth_loss(depth, target.depth[frames].to(self.device), alphas)

    @torch.no_grad()
    def mean_loss(self) -> float:
        """Over a dozen of the clips shown, each in its own test frames: the same targets every time, so comparable."""
        some = random.Random(0).sample(self.shown, min(12, len(self.shown)))
        losses = [self._loss(self.decode(clip), clip, clip, clip.test_frames) for clip in some]
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def novel_views(self, source: Clip, target: Clip, frames: Sequence[int]) -> Drawn:
        """Frames of `target` from the Gaussians of `source`, on the CPU."""
        cameras = relative_cameras(target, frames, source).to(self.device)
        rgb, depth, _ = render(self.decode(source), cameras)
        return rgb.clamp(0, 1).cpu(), depth.cpu()


def render(gaussians: Gaussians, cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(F, H, W, 3) colours, (F, H, W) expected depth and (F, H, W) alphas; behind all is the Gaussians' mean colour."""
    height, width = cameras.size
    background = gaussians.colours.mean(dim=0)
    rendering, alphas = rasterise(
        gaussians, cameras.viewmats, cameras.Ks, width, height, render_mode="RGB+ED", background=background
    )
    return rendering[..., :3], rendering[..., 3], alphas[..., 0]


# ----------------------------------------------------------------------------------------------- test


def mean_colour(_: Clip, target: Clip, frames: Sequence[int]) -> Drawn:
    """Baseline that knows the truth's mean colour and each frame's median depth, and nothing else."""
    chosen = list(frames)
    colour = (target.rgb[chosen] / 255).mean(dim=(0, 1, 2))
    medians = [frame[frame > 0].median() if (frame > 0).any() else frame[0, 0] for frame in target.depth[chosen]]
    height, width = target.rgb.shape[1:3]
    depth = torch.stack(medians)[:, None, None].expand(-1, height, width)
    return colour.expand(len(chosen), height, width, 3), depth


def copied_frame(source: Clip, _: Clip, frames: Sequence[int]) -> Drawn:
    """Baseline: the conditioning frame and its depth, unchanged."""
    count = len(frames)
    return source.rgb[:1].expand(count, -1, -1, -1) / 255, source.depth[:1].expand(count, -1, -1)


def true_geometry(source: Clip, target: Clip, frames: Sequence[int]) -> Drawn:
    """What Gaussians as many as the decoder's reach at the true depths with the true colours of the input's frames."""
    grid = (source.latents.shape[2] * SIDE, source.latents.shape[3] * SIDE)
    colours, depth = source.on_grid(source.latent_frames, grid)
    depth = torch.where(depth > 0, depth, depth.max())
    nothing = torch.zeros(len(depth), 8, *grid)
    rays = rays_of(relative_cameras(source, source.latent_frames, source), grid)
    gaussians = place_gaussians(
        rays, depth, colours, opacity=nothing[:, :1], scale=nothing[:, 1:4], rotation=nothing[:, 4:]
    )
    rgb, rendered, _ = render(gaussians, relative_cameras(target, frames, source))
    return rgb.clamp(0, 1), rendered


@dataclass(frozen=True)
class Scores:
    """Means over pairs of an input clip and a clip held out.

    Attributes:
        psnr: of the colours, dB.
        depth_error: mean of |depth − truth| / truth over valid pixels.
    """

    psnr: float
    depth_error: float


def score(drawn: Drawn, target: Clip, frames: Sequence[int]) -> Scores:
    """Of some frames of a clip, drawn by whatever means."""
    chosen = list(frames)
    error = float(functional.mse_loss(drawn[0], target.rgb[chosen] / 255))
    truth = target.depth[chosen]
    valid = truth > 0
    depth_error = float(((drawn[1] - truth).abs()[valid] / truth[valid]).mean())
    return Scores(-10 * math.log10(max(error, 1e-10)), depth_error)


def mean_scores(
    draw: Callable[[Clip, Clip, Sequence[int]], Drawn], pairs: Sequence[tuple[Clip, Clip]]
) -> tuple[Scores, list[float]]:
    """The mean over pairs, and each pair's PSNR."""
    each = [score(draw(*pair, pair[1].test_frames), pair[1], pair[1].test_frames) for pair in pairs]
    means = (float(np.mean([getattr(one, name) for one in each])) for name in ("psnr", "depth_error"))
    return Scores(*means), [one.psnr for one in each]


def held_out_pairs(clips: Sequence[Clip], held_out: str, *, training_scenes: bool) -> list[tuple[Clip, Clip]]:
    """(input, target): each clip of the training split's scenes, or of the others', with its scene's clip held out."""
    targets = {clip.scene_id: clip for clip in clips if clip.trajectory == held_out}
    return [
        (clip, targets[clip.scene_id])
        for clip in clips
        if clip.trajectory != held_out and clip.scene_id in targets and (clip.split == "train") == training_scenes
    ]


# ----------------------------------------------------------------------------------------------- program


def train(index: str | Path, out: Path, *, steps: int, seed: int, device: str, held_out: str) -> dict[str, Any]:
    """Train, render the views held out, write the three files; returns what metrics.json holds."""
    clips = load_clips(index)
    trajectories = sorted({clip.trajectory for clip in clips})
    if held_out not in trajectories:
        raise InputError(
            f"no clip follows {held_out!r}", where=str(index), remedy=f"Hold one of {', '.join(trajectories)} out."
        )
    trainer = Trainer(clips, held_out, steps=steps, seed=seed, device=device)
    sets = {"known_scenes": held_out_pairs(clips, held_out, training_scenes=True)}
    if not sets["known_scenes"]:
        raise InputError(
            f"no scene of the training split has a clip along {held_out}",
            where=str(index),
            remedy="Hold another trajectory out.",
        )
    if unseen := held_out_pairs(clips, held_out, training_scenes=False):
        sets["unseen_scenes"] = unseen
    draws = {"mean_colour": mean_colour, "copied_frame": copied_frame, "untrained": trainer.novel_views}
    scores = {name: {way: mean_scores(draw, pairs)[0] for way, draw in draws.items()} for name, pairs in sets.items()}
    loss_untrained = trainer.mean_loss()
    losses, seconds = _run(trainer)
    pair_psnrs = {}
    for name, pairs in sets.items():
        scores[name]["trained"], pair_psnrs[name] = mean_scores(trainer.novel_views, pairs)
        scores[name]["true_geometry"], _ = mean_scores(true_geometry, pairs)
    metrics = {
        "index": str(index),
        "steps": steps,
        "seed": seed,
        "device": device,
        "held_out_trajectory": held_out,
        "training_clips": len(trainer.shown),
        "loss_untrained": loss_untrained,
        "loss_trained": trainer.mean_loss(),
        "scores": {name: {way: vars(each) for way, each in ways.items()} for name, ways in scores.items()},
        "seconds": seconds,
        "losses": losses,
    }
    psnrs = pair_psnrs["known_scenes"]
    typical = int(np.argsort(psnrs)[len(psnrs) // 2])
    _write(trainer, *sets["known_scenes"][typical], metrics, out)
    return metrics


def _run(trainer: Trainer) -> tuple[list[float], float]:
    """All steps; each one's loss, and the seconds that they took."""
    started = time.perf_counter()
    losses = []
    for step in range(trainer.steps):
        losses.append(trainer.step())
        if step % 20 == 0 or step == trainer.steps - 1:
            passed = time.perf_counter() - started
            LOG.info("step %d of %d: loss %.4f, %.0f s", step + 1, trainer.steps, losses[-1], passed)
    return losses, time.perf_counter() - started


def _write(trainer: Trainer, source: Clip, target: Clip, metrics: dict[str, Any], out: Path) -> None:
    """The last frame of the held-out trajectory, where the camera is farthest from its start, of a typical pair."""
    last = len(target.rgb) - 1
    drawn = trainer.novel_views(source, target, [last])
    psnr = score(drawn, target, [last]).psnr
    colours = [source.rgb[0], (drawn[0][0] * 255).round().to(torch.uint8), target.rgb[last]]
    depths = [source.depth[0], drawn[1][0], target.depth[last]]
    nearest = min(float(depth[depth > 0].min()) for depth in depths[::2])
    greys = [torch.where(depth > 0, 255 * nearest / depth, 0).clamp(0, 255).round().to(torch.uint8) for depth in depths]
    below = torch.cat([grey[..., None].expand(-1, -1, 3) for grey in greys], dim=1)
    picture = torch.cat([torch.cat(colours, dim=1), below])
    with torch.no_grad():
        gaussians = trainer.decode(source)
    metrics["picture"] = {"scene_id": source.scene_id, "input": source.trajectory, "frame": last, "psnr": psnr}
    metrics["gaussians"] = len(gaussians)
    write_bytes_atomically(out / "splats.ply", ply_from_gaussians(gaussians))
    write_bytes_atomically(out / "novel_view.png", encode_png(picture.numpy()))
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
    parser.add_argument("--held-out", default="zoom_in", help="trajectory that is never shown")
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
    LOG.info("loss %.4f to %.4f in %.0f s", *(metrics[name] for name in ("loss_untrained", "loss_trained", "seconds")))
    for name, ways in metrics["scores"].items():
        LOG.info("%s, %s held out:", name.replace("_", " "), metrics["held_out_trajectory"])
        for way, each in ways.items():
            LOG.info(
                "  %-14s PSNR %5.2f dB, depth error %.3f", way.replace("_", " "), each["psnr"], each["depth_error"]
            )
    LOG.info("metrics.json, novel_view.png and splats.ply are in %s", given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
