"""Bounding volume hierarchy over triangles, in the arrays that `raycast_bvh_kernels.walk` reads."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..datasets.errors import InputError
from .scene_model import Float32, Int32

_MOST_FACES = 1 << 24
"""Face numbers travel as float32, which counts no further without gaps."""


@dataclass(frozen=True, slots=True)
class Bvh:
    """A built hierarchy of N nodes and L leaves.

    Attributes:
        box: (N, 6, 8) float32 lower x, y, z and upper x, y, z of each node's children; empty places are inf and -inf.
        child: (N, 8) int32 node number, or -1 - leaf number.
        corners: (L, 9, 4) float32 x, y, z of the first, second and third corner of each leaf's triangles.
        block: (L, 4) int32 face numbers of each leaf's triangles, -1 for none.
    """

    box: Float32
    child: Int32
    corners: Float32
    block: Int32


def build_bvh(triangles: Float32, warp: ModuleType, kernels: ModuleType) -> Bvh:
    """Build the hierarchy on the CPU.

    Args:
        triangles: (F, 3, 3) float32 corners.
        warp: the Warp module, initialised.
        kernels: the module `raycast_bvh_kernels`, loaded on the CPU.

    Raises:
        InputError: there are too many triangles, or so many in one place that the hierarchy is too deep.
    """
    count = len(triangles)
    if count >= _MOST_FACES:
        raise InputError(
            f"{count} triangles, the most are {_MOST_FACES - 1}", where="ray caster", remedy="Simplify the meshes."
        )
    nodes = 2 * count

    def empty(shape: int | tuple[int, ...], kind: object) -> Any:
        return warp.zeros(shape, dtype=kind, device="cpu")

    def bound(values: Float32) -> Any:
        return warp.array(values, dtype=warp.vec3, device="cpu")

    order = warp.array(np.arange(count, dtype=np.int32), dtype=warp.int32, device="cpu")
    node_boxes = [empty(nodes, warp.vec3), empty(nodes, warp.vec3)]
    tree = [empty(nodes, warp.int32), empty(nodes, warp.vec2i)]
    inputs = [bound(triangles.min(axis=1)), bound(triangles.max(axis=1)), order, *node_boxes, *tree]
    warp.launch(kernels.build_binary_tree, dim=1, inputs=inputs, device="cpu", record_tape=False)
    box, child = empty((nodes, 6, kernels.WIDTH), warp.float32), empty((nodes, kernels.WIDTH), warp.int32)
    block = empty((nodes, kernels.LANES), warp.int32)
    level, used = empty(nodes, warp.int32), empty(3, warp.int32)
    outputs = [*node_boxes, *tree, order, box, child, block, level, used]
    warp.launch(kernels.widen_tree, dim=1, inputs=outputs, device="cpu", record_tape=False)
    node_count, leaf_count, levels = used.numpy().tolist()
    if levels > kernels.MAX_LEVELS:
        raise InputError(
            f"the triangles need a hierarchy of {levels} levels, the most are {kernels.MAX_LEVELS}",
            where="ray caster",
            remedy="Remove triangles that lie on top of each other.",
        )
    leaf_faces = block.numpy()[:leaf_count].copy()
    # Absent triangles repeat the leaf's first and are told by their face number.
    corners = triangles[np.where(leaf_faces < 0, leaf_faces[:, :1], leaf_faces)]
    corners = corners.reshape(leaf_count, kernels.LANES, 9).transpose(0, 2, 1)
    return Bvh(
        box=box.numpy()[:node_count].copy(),
        child=child.numpy()[:node_count].copy(),
        corners=np.ascontiguousarray(corners),
        block=leaf_faces,
    )
