"""The surface that one depth map shows, as triangles: what a camera can be kept clear of where nothing else is known.

Pixels are joined to their neighbours except across depth edges, so that a camera may pass beside an object into what
the view does not show, but not through what it shows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import InputError
from . import cameras
from .scene_model import Material, SceneModel, SkyLight, Texture, TriangleMesh

EDGE_SPREAD = 0.1
"""Neighbours whose depths differ by more than this share of the nearer one are two surfaces with nothing between."""

MOST_CELLS = 80_000
"""Cells of the triangulated grid; more of them would change a distance by less than depth estimates are wrong by."""


def depth_surface(depth: NDArray[np.floating], intrinsics: NDArray[np.floating], *, metric: bool) -> SceneModel:
    """The visible surface as a scene without objects, in the frame of the camera that saw it.

    Maps with more than MOST_CELLS pixels are thinned to square blocks, each at its nearest depth: the surface then
    comes out a little too near, never too far.

    Args:
        depth: (H, W) z-depth, 0 = invalid.
        intrinsics: (4,) fx, fy, cx, cy in pixels, pixel centres at +0.5.
        metric: whether the depth is in metres.

    Returns:
        A scene whose shell is the surface. It is open: a ray that hits nothing met only what the view does not show.

    Raises:
        InputError: there is no surface: fewer than three neighbouring pixels have valid depth.
    """
    height, width = depth.shape
    nearest, rows, columns = _thinned(depth)
    vertices = _vertices(nearest, rows, columns, intrinsics)
    faces = _faces(nearest)
    if not len(faces):
        raise InputError(
            f"{int((depth > 0).sum())} of {depth.size} pixels have valid depth, and no neighbours lie on one surface",
            where="depth surface",
            remedy="Give a depth map that shows a surface.",
        )
    return SceneModel(
        shell=TriangleMesh(
            vertices=vertices.astype(np.float32),
            faces=faces.astype(np.int32),
            uv=np.zeros((len(faces), 3, 2), np.float32),
            material=np.zeros(len(faces), np.int32),
        ),
        instances=[],
        materials=[Material("seen surface", "picture", Texture(np.full((1, 1, 3), 128, np.uint8)), unlit=True)],
        sun=None,
        sky=SkyLight((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        area_lights=[],
        scene_from_camera=np.eye(4),
        intrinsics=np.asarray(intrinsics, np.float64),
        size=(height, width),
        metric=metric,
    )


def _thinned(depth: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(h, w) nearest valid depth of every block, 0 where a block has none, and the blocks' centres in pixels."""
    height, width = depth.shape
    side = math.ceil(math.sqrt(depth.size / MOST_CELLS))
    far = np.where(depth > 0, depth.astype(np.float64), np.inf)
    starts = [np.arange(0, size, side) for size in (height, width)]
    blocks = np.minimum.reduceat(np.minimum.reduceat(far, starts[0], axis=0), starts[1], axis=1)
    rows, columns = (
        (start + np.minimum(start + side, size)) / 2 for start, size in zip(starts, (height, width), strict=True)
    )
    return np.where(np.isfinite(blocks), blocks, 0.0), rows, columns


def _vertices(
    depth: NDArray[np.float64],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    intrinsics: NDArray[np.floating],
) -> NDArray[np.float64]:
    x, y = np.meshgrid(columns, rows)
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    return np.asarray(cameras.unproject(pixels, depth.ravel(), np.eye(4), intrinsics))


def _faces(depth: NDArray[np.float64]) -> NDArray[np.int64]:
    """(F, 3) triangles of the grid whose corners are valid and on one surface."""
    index = np.arange(depth.size).reshape(depth.shape)
    upper_left, upper_right = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    lower_left, lower_right = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    triangles = np.concatenate(
        [
            np.stack([upper_left, lower_left, upper_right], axis=1),
            np.stack([upper_right, lower_left, lower_right], axis=1),
        ]
    )
    corners = depth.ravel()[triangles]
    nearest = corners.min(axis=1)
    joined = (nearest > 0) & (corners.max(axis=1) <= (1 + EDGE_SPREAD) * nearest)
    return triangles[joined]
