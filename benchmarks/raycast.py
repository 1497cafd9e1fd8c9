"""Rates of the ray caster on a procedural scene, on one CPU core beside Embree, or on a GPU.

    python benchmarks/raycast.py [--device cpu] [--prompt …] [--repeats 5]

The first table is closest hits with depth: the same rays, through the centres of a 704 × 1280 picture's pixels, for
`RayCaster.geometry` (which also gives normals and ids), `RayCaster.cast` and Embree (by way of embreex). The second is
whole frames with light and texture. Each figure is the best of the repeats; on the CPU it is the calling thread's own
time, so that other work on the machine does not count, on a GPU the time until the result is back in NumPy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.raycast_reference import world_triangles
from sceneloom.ops.scene_model import SceneModel

SIZES = ((176, 320), (704, 1280))
SAMPLES = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates of the ray caster.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompt", default="a cosy living room in the morning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    height, width = SIZES[-1]
    scene = build_scene(arguments.prompt, seed=arguments.seed, height=height, width=width)
    RayCaster(scene, device=arguments.device)  # compiles the kernels where the cache does not hold them
    clock = time.thread_time if arguments.device == "cpu" else time.perf_counter

    def best(work: Callable[[], object]) -> float:
        return min(_seconds(work, clock) for _ in range(arguments.repeats))

    made = best(lambda: RayCaster(scene, device=arguments.device))
    triangles = world_triangles(scene).astype(np.float32)
    print(f"{len(triangles)} triangles, ray caster made in {1e3 * made:.0f} ms on {arguments.device}\n")
    caster = RayCaster(scene, device=arguments.device)
    _print_ray_rates(caster, scene, triangles, best)
    _print_frame_rates(caster, scene, best)


def _print_ray_rates(
    caster: RayCaster,
    scene: SceneModel,
    triangles: NDArray[np.float32],
    best: Callable[[Callable[[], object]], float],
) -> None:
    height, width = scene.size
    origins, directions = _centre_rays(scene)
    embree = _embree(triangles)
    rates = {
        "RayCaster.geometry": best(lambda: caster.geometry(np.eye(4), scene.intrinsics, height, width)),
        "RayCaster.cast": best(lambda: caster.cast(origins, directions)),
        "Embree, distances": best(lambda: embree.run(origins, directions, query="DISTANCE")),
    }
    reference = rates["Embree, distances"]
    print(f"{'closest hit with depth':24}{'million rays/s':>16}{'of Embree':>12}")
    for name, seconds in rates.items():
        print(f"{name:24}{len(origins) / seconds / 1e6:16.2f}{reference / seconds:12.2f}")
    depth = caster.geometry(np.eye(4), scene.intrinsics, height, width).depth.ravel()
    distance = embree.run(origins, directions, query="DISTANCE") * directions[:, 2]
    print(f"depth within 1e-4 of Embree's: {np.isclose(depth, distance, rtol=1e-4).mean():.6f} of the rays\n")


def _print_frame_rates(caster: RayCaster, scene: SceneModel, best: Callable[[Callable[[], object]], float]) -> None:
    print(f"{'frames/s, full shading':24}" + "".join(f"{f'{n} a pixel':>14}" for n in SAMPLES))
    for height, width in SIZES:
        lens = scene.intrinsics * (height / scene.size[0])
        rates = []
        for samples in SAMPLES:

            def frame(h: int = height, w: int = width, n: int = samples, k: NDArray[np.float64] = lens) -> object:
                return caster.render(np.eye(4), k, h, w, samples_per_pixel=n, seed=0)

            rates.append(1 / best(frame))
        print(f"{f'{height} × {width}':24}" + "".join(f"{rate:14.2f}" for rate in rates))


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def _centre_rays(scene: SceneModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, 3) origins and unit directions through the pixel centres of the scene's own camera."""
    height, width = scene.size
    fx, fy, cx, cy = scene.intrinsics
    row, column = np.indices((height, width)) + 0.5
    way = np.stack([(column - cx) / fx, (row - cy) / fy, np.ones((height, width))], axis=-1).reshape(-1, 3)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    return np.zeros_like(way, dtype=np.float32), way.astype(np.float32)


def _embree(triangles: NDArray[np.float32]):
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, triangles)
    return scene


if __name__ == "__main__":
    main()
