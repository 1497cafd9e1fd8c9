"""Forward warping of the 3D cache beside the same in plain PyTorch.

    python benchmarks/forward_warping.py [--device cpu] [--repeats 3] [--threads N]

One 704 × 1280 RGB-D frame of a procedural scene, and then two, are warped to cameras along a short path. PyTorch does
the same with one of three ways of adding up at indices; the column "of PyTorch" compares with the fastest of them in
the same table. Occluder masking has no plain PyTorch counterpart short of testing every ray against every triangle, so
it is timed for `SceneCache` alone. Both give colour, depth, mask and confidence, and both get their sources prepared.

Each figure is the best of the repeats. With one CPU thread it is the calling thread's own time, so that other work on
the machine does not count. With all threads, and on a GPU, it is the time that passes, for results in NumPy arrays;
`SceneCache` then warps a frame a thread, and PyTorch does whichever is faster, that or one frame with all its threads.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_cache import (
    DEPTH_WEIGHT,
    SAME_SURFACE,
    SceneCache,
    SourceFrame,
    WarpedFrame,
    depth_spread,
    edge_factor,
)

HEIGHT, WIDTH = 704, 1280
FRAMES = 3
WAYS = ("index_put_", "index_add_", "scatter_add_")
THRESHOLD = 0.05

Work = Callable[[np.ndarray], WarpedFrame]


def main() -> None:
    parser = argparse.ArgumentParser(description="Forward warping beside plain PyTorch.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompt", default="a cosy living room in the morning")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    scene = build_scene(arguments.prompt, seed=0, height=HEIGHT, width=WIDTH)
    caster = RayCaster(scene)
    lens = np.asarray(scene.intrinsics, np.float64)
    sources = []
    for pose in (_pose(0.0), _pose(0.4)):
        view = caster.render(pose, lens, HEIGHT, WIDTH, samples_per_pixel=1, seed=0)
        sources.append(SourceFrame(view.rgb, view.depth, pose, lens))
    cameras = [_pose(x) for x in np.linspace(0.05, 0.35, FRAMES)]
    works = {count: _works(sources[:count], lens, arguments.device) for count in (1, 2)}
    for count, by_name in works.items():
        _print_agreement(count, by_name, cameras[-1])
    single = 1 if arguments.device == "cpu" else 0
    print(f"\n{'milliseconds a frame':34}{'1 source':>10}{'of PyTorch':>12}{'2 sources':>11}{'of PyTorch':>12}")
    for threads in dict.fromkeys((single, arguments.threads) if single else (0,)):
        print(f"{threads} thread{'s' * (threads > 1)}" if threads else arguments.device)
        times = {
            count: {name: _seconds(work, cameras, threads, arguments.repeats, name) for name, work in by_name.items()}
            for count, by_name in works.items()
        }
        for name in works[1]:
            cells = ""
            for by_name in times.values():
                fastest = min(seconds for other, seconds in by_name.items() if other.startswith("PyTorch"))
                cells += f"{1e3 * by_name[name]:10.1f}{fastest / by_name[name]:11.2f}×"
            print(f"  {name:32}{cells}")


def _works(sources: list[SourceFrame], lens: np.ndarray, device: str) -> dict[str, Work]:
    def ours(masking: bool) -> Work:
        cache = SceneCache(device=device, edge_threshold=THRESHOLD, foreground_masking=masking)
        for source in sources:
            cache.add(source)
        return lambda pose: cache.warp(pose, lens, HEIGHT, WIDTH)

    def theirs(way: str) -> Work:
        warper = PlainWarper(sources, device, way)
        return lambda pose: warper.warp(pose, lens)

    return {
        "SceneCache": ours(False),
        "SceneCache, foreground masking": ours(True),
        **{f"PyTorch, {way}": theirs(way) for way in WAYS},
    }


def _print_agreement(count: int, works: dict[str, Work], camera: np.ndarray) -> None:
    mine, other = works["SceneCache"](camera), works["PyTorch, index_add_"](camera)
    both = mine.valid & other.valid
    colour = np.abs(mine.rgb.astype(int) - other.rgb).max(-1)[both] <= 1
    depth = np.isclose(mine.depth, other.depth, rtol=1e-3)[both]
    confidence = np.isclose(mine.confidence, other.confidence, atol=0.01)[both]
    print(
        f"{count} source{'s' * (count > 1)}: {both.mean():.3f} of the pixels valid; alike are masks in "
        f"{(mine.valid == other.valid).mean():.5f} of the pixels, colours within 1 level in {colour.mean():.5f}, "
        f"depths within 0.1 % in {depth.mean():.5f}, confidences within 0.01 in {confidence.mean():.5f}"
    )


def _seconds(work: Work, cameras: list[np.ndarray], threads: int, repeats: int, name: str) -> float:
    """Best time a frame."""

    def one_by_one() -> None:
        for camera in cameras:
            work(camera)

    def side_by_side() -> None:
        # As many frames for each thread as one by one.
        list(pool.map(work, cameras * threads))

    if threads <= 1:
        torch.set_num_threads(1)
        clock = time.thread_time if threads else time.perf_counter
        return _best(one_by_one, repeats, clock) / len(cameras)
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        best = _best(side_by_side, repeats, time.perf_counter) / (threads * len(cameras))
    if name.startswith("PyTorch"):
        torch.set_num_threads(threads)
        best = min(best, _best(one_by_one, repeats, time.perf_counter) / len(cameras))
    return best


def _best(work: Callable[[], None], repeats: int, clock: Callable[[], float]) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def _pose(x: float) -> np.ndarray:
    """A camera to the right of the first by x metres, turned back a little."""
    turn = -0.15 * x
    pose = np.eye(4)
    pose[0, 0] = pose[2, 2] = np.cos(turn)
    pose[0, 2], pose[2, 0] = np.sin(turn), -np.sin(turn)
    pose[:3, 3] = x, -0.1 * x, 0.3 * x
    return pose


class PlainWarper:
    """The warp of `SceneCache` without occluder mesh, as whole-image PyTorch operations in float32."""

    def __init__(self, sources: list[SourceFrame], device: str, way: str) -> None:
        self.device, self.way = torch.device(device), way
        self.sources = [self._prepared(source) for source in sources]

    def _prepared(self, source: SourceFrame) -> tuple[np.ndarray, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pose, (N, 3) points, (N, 3) colours and (N,) edge factors of the usable pixels."""
        usable = (source.depth > 0) & (depth_spread(source.depth) < THRESHOLD)
        fx, fy, cx, cy = np.asarray(source.intrinsics)
        row, column = np.nonzero(usable)
        z = source.depth[usable]
        lifted = np.stack([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z], -1).astype(np.float32)
        arrays = (lifted, source.rgb[usable].astype(np.float32), edge_factor(usable)[usable])
        points, rgb, edge = (torch.from_numpy(value).to(self.device) for value in arrays)
        return np.asarray(source.c2w), points, rgb, edge

    def warp(self, pose: np.ndarray, lens: np.ndarray) -> WarpedFrame:
        layers = [self._splat(pose, lens, *source) for source in self.sources]
        rgb, depth, confidence = layers[0]
        least = torch.where(depth > 0, depth, torch.inf)
        for new_rgb, new_depth, new_confidence in layers[1:]:
            margin = 1 + SAME_SURFACE
            agrees = (new_depth <= least * margin) & (new_confidence > confidence)
            shown = (new_depth > 0) & (torch.isinf(least) | (depth > new_depth * margin) | agrees)
            least = torch.where((new_depth > 0) & (new_depth < least), new_depth, least)
            rgb = torch.where(shown[..., None], new_rgb, rgb)
            depth = torch.where(shown, new_depth, depth)
            confidence = torch.where(shown, new_confidence, confidence)
        return WarpedFrame(
            rgb=rgb.cpu().numpy(),
            depth=depth.cpu().numpy(),
            valid=(depth > 0).cpu().numpy(),
            confidence=confidence.cpu().numpy(),
        )

    def _splat(
        self,
        pose: np.ndarray,
        lens: np.ndarray,
        source_pose: np.ndarray,
        points: torch.Tensor,
        rgb: torch.Tensor,
        edge: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        target_from_source = np.linalg.inv(pose) @ source_pose
        eye = torch.from_numpy(np.linalg.inv(target_from_source)[:3, 3].astype(np.float32)).to(self.device)
        move = torch.from_numpy(target_from_source.astype(np.float32)).to(self.device)
        seen = torch.addmm(move[:3, 3], points, move[:3, :3].T)
        z = seen[:, 2]
        x = torch.round((lens[0] * seen[:, 0] / z + (lens[2] + 0.5)) * 256) / 256
        y = torch.round((lens[1] * seen[:, 1] / z + (lens[3] + 0.5)) * 256) / 256
        log_depth = torch.log1p(z.clamp(min=0))
        weight = torch.exp(log_depth * (-DEPTH_WEIGHT / log_depth.max()))
        weight *= (z > 0) & (x >= 0) & (y >= 0) & (x < WIDTH + 1) & (y < HEIGHT + 1)
        cosine = torch.cosine_similarity(points, points - eye, dim=1).clamp(min=0)
        values = torch.cat([rgb, torch.ones_like(z)[:, None], (edge * cosine)[:, None], (1 / z)[:, None]], dim=1)
        left, top = x.floor().clamp(0, WIDTH), y.floor().clamp(0, HEIGHT)
        right, down = x - left, y - top
        pitch = WIDTH + 2
        cell = top.long() * pitch + left.long()
        sums = torch.zeros((HEIGHT + 2) * pitch, 6, device=self.device)
        nearest = torch.full(((HEIGHT + 2) * pitch,), torch.inf, device=self.device)
        shares = (((1 - right) * (1 - down), 0), (right * (1 - down), 1), ((1 - right) * down, pitch))
        for share, offset in (*shares, (right * down, pitch + 1)):
            self._add(sums, cell + offset, values * (weight * share)[:, None])
            landed = torch.where(weight * share > 0, log_depth, torch.inf)
            nearest.scatter_reduce_(0, cell + offset, landed, "amin")
        sums = sums.view(HEIGHT + 2, pitch, 6)[1:-1, 1:-1]
        nearest = nearest.view(HEIGHT + 2, pitch)[1:-1, 1:-1]
        total = sums[..., 3]
        valid = total > 0
        safe = torch.where(valid, total, 1)
        colour = torch.where(valid[..., None], sums[..., :3] / safe[..., None] + 0.5, 0).to(torch.uint8)
        depth = torch.where(valid, safe / sums[..., 5], 0)
        # The weight is relative to that of the nearest point.
        samples = total * torch.exp(torch.where(valid, nearest, 0) * (DEPTH_WEIGHT / log_depth.max()))
        return colour, depth, samples.clamp(max=1) * sums[..., 4] / safe

    def _add(self, sums: torch.Tensor, cell: torch.Tensor, values: torch.Tensor) -> None:
        if self.way == "index_put_":
            sums.index_put_((cell,), values, accumulate=True)
        elif self.way == "index_add_":
            sums.index_add_(0, cell, values)
        else:
            sums.scatter_add_(0, cell[:, None].expand(-1, 6), values)


if __name__ == "__main__":
    main()
