"""Boxes and poses of objects that are known by mask and depth alone: an estimate from the surface that one view shows.

What the view does not show, an object's back above all, is not in its box: depth along the line of sight is a lower
bound. Frames and conventions are those of `object_poses`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ContractError
from . import cameras
from .object_poses import SceneGenPose, mask_box, scenegen_pose
from .scene_model import BACKGROUND_ID, Float64

SURFACE_SPREAD = 0.1
"""Neighbouring pixels whose depths differ by more than this share of the nearer one lie on two surfaces."""
SMALLEST_PIECE = 0.05
"""Share of an object's pixels below which a surface of its own is left out: masks spill over edges."""
TRIM = 0.005
"""Share of points left out at each end of each side of a box: single depths are wrong by more than all others."""
MINIMUM_POINTS = 16
"""An object with fewer pixels of valid depth gets no box."""


@dataclass(frozen=True, slots=True)
class EstimatedBox:
    """Where an object seems to stand, from its mask and the depth behind it.

    Lengths are metres where the depth is metric, and the depth's own unit otherwise.

    Attributes:
        instance_id: in the id image.
        box: (left, top, right, bottom) of the mask in pixels, right and bottom exclusive.
        visible_pixels: of the mask.
        used_pixels: of them, those whose depth the box follows from.
        minimum: (x, y, z) of the axis-aligned box, OpenCV camera frame.
        maximum: (x, y, z) of the axis-aligned box.
        camera_from_object: (4, 4) float64 rigid, from the frame of the upright oriented box (y up, centred on it,
            +z the side turned most towards the camera) to the OpenCV camera frame.
        size: sides of the oriented box along its own x, y and z.
        scenegen: the same pose in SceneGen's convention.
    """

    instance_id: int
    box: tuple[int, int, int, int]
    visible_pixels: int
    used_pixels: int
    minimum: tuple[float, float, float]
    maximum: tuple[float, float, float]
    camera_from_object: Float64
    size: tuple[float, float, float]
    scenegen: SceneGenPose

    def record(self) -> dict[str, Any]:
        """JSON, with `estimated` true; keys as in objects.json where the meaning is the same."""
        return {
            "instance_id": self.instance_id,
            "estimated": True,
            "box": list(self.box),
            "visible_pixels": self.visible_pixels,
            "used_pixels": self.used_pixels,
            "axis_aligned_box": [list(self.minimum), list(self.maximum)],
            "camera_from_object": self.camera_from_object.tolist(),
            "size": list(self.size),
            "scenegen": dataclasses.asdict(self.scenegen),
        }


def estimated_boxes(
    instance_ids: NDArray[np.integer], depth: NDArray[np.floating], intrinsics: ArrayLike
) -> list[EstimatedBox]:
    """Boxes of the objects of an id image, in the order of their ids; objects with too little depth have none.

    Of each mask those surfaces (neighbours without a depth edge between them) are left out that are small, or lie
    farther from the largest one than that is wide: what stands behind, where a mask spills over the object's outline.
    The upright box is turned about the camera's y axis, the world's vertical, so that its base is the smallest
    rectangle around the points seen from above.

    Args:
        instance_ids: (H, W), 0 = background.
        depth: (H, W) z-depth, 0 = invalid.
        intrinsics: (4,) fx, fy, cx, cy in pixels, pixel centres at +0.5.

    Raises:
        ContractError: the shapes differ.
    """
    if instance_ids.shape != depth.shape or depth.ndim != 2:
        raise ContractError(
            f"ids of shape {instance_ids.shape} and depth of shape {depth.shape}",
            where="object boxes",
            remedy="Give the masks and the depth of one view.",
        )
    boxes = [
        _box(instance_id, instance_ids, depth, np.asarray(intrinsics, np.float64))
        for instance_id in np.unique(instance_ids).tolist()
        if instance_id != BACKGROUND_ID
    ]
    return [box for box in boxes if box is not None]


def _box(
    instance_id: int, instance_ids: NDArray[np.integer], depth: NDArray[np.floating], intrinsics: Float64
) -> EstimatedBox | None:
    whole = instance_ids == instance_id
    left, top, right, bottom = box = mask_box(whole)
    mask, depth = whole[top:bottom, left:right], depth[top:bottom, left:right]
    intrinsics = cameras.crop_intrinsics(intrinsics, top=top, left=left)
    used = _trusted_pixels(mask, depth, intrinsics)
    if used.sum() < MINIMUM_POINTS:
        return None
    rows, columns = np.nonzero(used)
    pixels = np.stack([columns, rows], axis=1) + 0.5
    points = cameras.unproject(pixels, depth[used], np.eye(4), intrinsics)
    minimum, maximum = _extent(points)
    rotation = _upright_rotation(points)
    low, high = _extent(points @ rotation)
    # A flat or thin object is at least as thick as the pixels that show it.
    smallest = float(np.median(depth[used]) / intrinsics[:2].max())
    x, y, z = np.maximum(high - low, smallest).tolist()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, rotation @ ((low + high) / 2)
    return EstimatedBox(
        instance_id=int(instance_id),
        box=box,
        visible_pixels=int(mask.sum()),
        used_pixels=len(points),
        minimum=_triple(minimum),
        maximum=_triple(maximum),
        camera_from_object=pose,
        size=(x, y, z),
        scenegen=scenegen_pose(pose, max(x, y, z)),
    )


def _triple(values: Float64) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z


def _extent(points: Float64) -> tuple[Float64, Float64]:
    """Least and greatest coordinate along each axis, without the outermost points."""
    low, high = np.quantile(points, [TRIM, 1.0 - TRIM], axis=0)
    return low, high


def _trusted_pixels(mask: NDArray[np.bool_], depth: NDArray[np.floating], intrinsics: Float64) -> NDArray[np.bool_]:
    """(H, W) pixels of the mask that show the object's own surfaces."""
    seen = mask & (depth > 0)
    pieces = _surfaces(seen, depth)
    counts = np.bincount(pieces[seen], minlength=1)
    if not counts.any():
        return seen
    largest = int(counts.argmax())
    main = seen & (pieces == largest)
    centre, reach = float(np.median(depth[main])), _width(main, depth, intrinsics)
    kept = [
        piece
        for piece, count in enumerate(counts.tolist())
        if count >= SMALLEST_PIECE * seen.sum()
        and abs(float(np.median(depth[seen & (pieces == piece)])) - centre) <= reach
    ]
    return np.logical_and(seen, np.isin(pieces, kept))


def _width(pixels: NDArray[np.bool_], depth: NDArray[np.floating], intrinsics: Float64) -> float:
    """Diagonal of what these pixels show, across the line of sight."""
    left, top, right, bottom = mask_box(pixels)
    return float(np.median(depth[pixels]) * np.hypot((right - left) / intrinsics[0], (bottom - top) / intrinsics[1]))


def _surfaces(seen: NDArray[np.bool_], depth: NDArray[np.floating]) -> NDArray[np.intp]:
    """(H, W) number of the surface that each seen pixel lies on; other pixels hold any number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number: NDArray[np.intp] = np.full(seen.shape, -1, np.intp)
    number[seen] = np.arange(seen.sum())
    links = []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        a, b = depth[first], depth[second]
        joined = seen[first] & seen[second] & (np.abs(a - b) <= SURFACE_SPREAD * np.minimum(a, b))
        links.append(np.stack([number[first][joined], number[second][joined]]))
    ends, count = np.concatenate(links, axis=1), int(seen.sum())
    graph = coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    number[seen] = labels
    return number


def _upright_rotation(points: Float64) -> Float64:
    """(3, 3) rotation, object (y up) to OpenCV camera, of the upright box with the smallest base.

    The smallest rectangle around points has a side along one of their convex hull (H. Freeman and R. Shapira,
    "Determining the minimum-area encasing rectangle for an arbitrary closed curve", CACM 18(7), 1975).
    """
    ground = points[:, [0, 2]]
    sides = _hull_directions(ground)
    turned = np.einsum("nd,kd->kn", ground, sides), np.einsum("nd,kd->kn", ground, sides[:, ::-1] * [-1.0, 1.0])
    areas = np.ptp(turned[0], axis=1) * np.ptp(turned[1], axis=1)
    along = sides[int(areas.argmin())]
    across = np.array([-along[1], along[0]])
    # Of the four directions the front is the one that looks to the camera, which is at the origin.
    base = np.stack([along, across])
    towards = -_middle(ground @ base.T) @ base
    front = max((along, across, -along, -across), key=lambda side: float(side @ towards))
    z = np.array([front[0], 0.0, front[1]])
    y = np.array([0.0, -1.0, 0.0])
    return np.stack([np.cross(y, z), y, z], axis=1)


def _middle(values: Float64) -> Float64:
    return (values.min(axis=0) + values.max(axis=0)) / 2


def _hull_directions(ground: Float64) -> Float64:
    """(K, 2) unit directions of the sides of the convex hull; of points on a line that line's."""
    from scipy.spatial import ConvexHull

    centred = ground - ground.mean(axis=0)
    _, extents, axes = np.linalg.svd(centred, full_matrices=False)
    if extents[1] <= 1e-6 * extents[0]:
        return axes[:1]
    corners = ground[ConvexHull(centred / extents[0]).vertices]
    edges = np.roll(corners, -1, axis=0) - corners
    return edges / np.linalg.norm(edges, axis=1, keepdims=True)
