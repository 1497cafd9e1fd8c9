"""The files of SceneGen's layout, each from arrays: pictures, masks, features, latents, annotations, ground truth."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ContractError, InputError
from ..glb import glb_of_meshes
from ..triangle_meshes import ObjMesh
from .release import UInt8

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

CROP_SIDE = 518
"""Side of an object's picture, and width of the picture that VGGT sees."""
PATCH = 14
SPECIAL_TOKENS = 5
"""VGGT's camera token and four register tokens stand before its patch tokens."""
FEATURE_WIDTH = 2048
LATENT_SHAPE = (8, 16, 16, 16)
GRID = 64

_FEATURE_SEED = 2048
_LATENT_SEED = 816
_JPEG_QUALITY = 95
_SCENE_SIDE = 1.96
_X_BY_90 = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def jpeg(picture: UInt8) -> bytes:
    """The scene's picture; full chroma."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def png(picture: UInt8) -> bytes:
    """A picture without loss."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def crop_size(box: Sequence[int]) -> tuple[int, int]:
    """(height, width) to which a mask's box is scaled: the longer side to CROP_SIDE, the other rounded down."""
    left, top, right, bottom = box
    scale = CROP_SIDE / max(bottom - top, right - left)
    return int((bottom - top) * scale), int((right - left) * scale)


def object_crop(picture: UInt8, mask: NDArray[np.bool_], box: Sequence[int]) -> UInt8:
    """(518, 518, 4) uint8: the picture in the mask's box with the mask as alpha, padded with transparent black.

    Colours outside the mask stay under alpha 0, so colour and alpha are scaled apart.
    """
    from PIL import Image

    left, top, right, bottom = box
    height, width = crop_size(box)
    colour = Image.fromarray(picture[top:bottom, left:right]).resize((width, height), Image.Resampling.BILINEAR)
    alpha = Image.fromarray(mask[top:bottom, left:right].astype(np.uint8) * 255)
    alpha = alpha.resize((width, height), Image.Resampling.BILINEAR)
    crop = np.zeros((CROP_SIDE, CROP_SIDE, 4), np.uint8)
    above, before = (CROP_SIDE - height) // 2, (CROP_SIDE - width) // 2
    crop[above : above + height, before : before + width] = np.dstack([np.asarray(colour), np.asarray(alpha)])
    return crop


def mask_picture(mask: NDArray[np.bool_]) -> UInt8:
    """(H, W, 3) uint8, 0 and 255."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths: column by column, the first run of zeros (which may be 0 long)."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def mask_of_run_lengths(counts: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Inverse of `run_lengths`. Raises ValueError when the runs do not fill the picture."""
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def field_of_view(intrinsics: ArrayLike, height: int, width: int, where: str) -> float:
    """Radians along the picture's longer side, as 3D-FUTURE's annotations and Blender's camera have it.

    Raises:
        InputError: the camera has oblong pixels or its axis is not at the picture's centre, which one angle cannot say.
    """
    fx, fy, cx, cy = np.asarray(intrinsics, dtype=np.float64).tolist()
    if abs(fx - fy) > 1e-3 * fx or abs(cx - width / 2) > 1 or abs(cy - height / 2) > 1:
        raise InputError(
            f"intrinsics {[fx, fy, cx, cy]} of a {width} × {height} picture cannot be given as a field of view",
            where=where,
            remedy="Use a camera with square pixels and its axis at the picture's centre.",
        )
    return 2 * math.atan(max(height, width) / (2 * fx))


def feature_tokens(height: int, width: int) -> int:
    """Tokens P that VGGT makes of one picture: width 518, height a multiple of 14, cut to 518 where it is taller."""
    rows = max(round(height * CROP_SIDE / width / PATCH), 1)
    return SPECIAL_TOKENS + min(rows, CROP_SIDE // PATCH) * (CROP_SIDE // PATCH)


def stand_in_feature(picture: UInt8) -> NDArray[np.float16]:
    """(1, P, 2048) float16 in the place of VGGT's feature: colours and gradients of patches, randomly projected.

    Equal pictures give equal features, and similar ones similar features; nothing of a scene's shape is in them.
    """
    from PIL import Image

    columns = CROP_SIDE // PATCH
    rows = (feature_tokens(*picture.shape[:2]) - SPECIAL_TOKENS) // columns
    tall = max(round(picture.shape[0] * CROP_SIDE / picture.shape[1] / PATCH), 1) * PATCH
    resized = np.asarray(Image.fromarray(picture).resize((CROP_SIDE, tall), Image.Resampling.BICUBIC), np.float32) / 255
    above = (tall - rows * PATCH) // 2
    cut = resized[above : above + rows * PATCH]
    across = np.abs(np.diff(cut.mean(axis=2), axis=1, append=0))
    down = np.abs(np.diff(cut.mean(axis=2), axis=0, append=0))
    patches = np.dstack([cut, across, down]).reshape(rows, PATCH, columns, PATCH, 5)
    place = np.stack(np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"), axis=2)
    described = np.concatenate([patches.mean(axis=(1, 3)), patches.std(axis=(1, 3)), place], axis=2)
    flat = described.reshape(rows * columns, -1)
    parts = np.array_split(flat, SPECIAL_TOKENS - 1) if len(flat) >= SPECIAL_TOKENS else [flat] * (SPECIAL_TOKENS - 1)
    tokens = np.concatenate([[flat.mean(axis=0)], [part.mean(axis=0) for part in parts], flat])
    projection = np.random.default_rng(_FEATURE_SEED).normal(size=(tokens.shape[1], FEATURE_WIDTH))
    return (tokens @ projection / math.sqrt(tokens.shape[1])).astype(np.float16)[None]


def stand_in_latent(cells: NDArray[np.integer]) -> Float32:
    """(8, 16, 16, 16) float32 in the place of TRELLIS' encoder mean: 4³ blocks of the occupied grid, projected.

    The projection has orthonormal columns, so that it keeps as much of a block's pattern as eight numbers can.

    Args:
        cells: (N, 3) occupied cells of the 64³ grid.
    """
    grid = np.zeros((GRID, GRID, GRID), np.float64)
    grid[tuple(cells.T)] = 1.0
    channels, side, _, _ = LATENT_SHAPE
    block = GRID // side
    blocks = (
        grid.reshape(side, block, side, block, side, block).transpose(0, 2, 4, 1, 3, 5).reshape(side, side, side, -1)
    )
    drawn = np.random.default_rng(_LATENT_SEED).normal(size=(block**3, channels))
    projection = np.linalg.qr(drawn)[0]
    return np.ascontiguousarray((blocks @ projection).transpose(3, 0, 1, 2).astype(np.float32))


def read_feature(path: Path, tokens: int) -> NDArray[np.floating]:
    """VGGT's feature of a picture from a file that the user made, (1, P, 2048).

    Raises:
        InputError: the file does not hold such a feature of this picture.
    """
    return _read_array(path, "vggt_feature", (1, tokens, FEATURE_WIDTH))


def read_latent(path: Path) -> NDArray[np.floating]:
    """TRELLIS' sparse-structure latent of an asset from a file that the user made, (8, 16, 16, 16).

    Raises:
        InputError: the file does not hold such a latent.
    """
    return _read_array(path, "mean", LATENT_SHAPE)


def _read_array(path: Path, key: str, shape: tuple[int, ...]) -> NDArray[np.floating]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array = archive[key]
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise InputError(
            f'no array "{key}" can be read ({error})', where=str(path), remedy="Encode it again."
        ) from error
    if array.shape != shape or not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(
            f"{key} of shape {array.shape} and type {array.dtype}, expected finite floats of shape {shape}",
            where=str(path),
            remedy="Encode it again from the files of this release.",
        )
    return array


def feature_npz(feature: NDArray[np.floating]) -> bytes:
    """`vggt_features/<id>.npz`; equal arrays give equal bytes (members carry numpy's fixed date)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, vggt_feature=feature)
    return buffer.getvalue()


def latent_npz(latent: NDArray[np.floating]) -> bytes:
    """`ss_latents/…/<sha256>.npz`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, mean=latent.astype(np.float32))
    return buffer.getvalue()


def voxel_ply(cells: NDArray[np.integer]) -> bytes:
    """Binary PLY of the centres of occupied cells, in [-0.5, 0.5]³."""
    centres = ((np.asarray(cells) + 0.5) / GRID - 0.5).astype("<f4")
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(centres)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    return header.encode() + centres.tobytes()


def rotation_of_euler(degrees: ArrayLike) -> Float64:
    """(3, 3) Rz(c)·Ry(b)·Rx(a) of (a, b, c) degrees, scipy's extrinsic "xyz"."""
    (sa, sb, sc), (ca, cb, cc) = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def euler_of_rotation(rotation: Float64) -> list[float]:
    """Inverse of `rotation_of_euler`; a is 0 where b is ±90° and only one of a and c is determined."""
    cosine = math.hypot(rotation[0, 0], rotation[1, 0])
    b = math.atan2(-rotation[2, 0], cosine)
    if cosine > 1e-8:
        a, c = math.atan2(rotation[2, 1], rotation[2, 2]), math.atan2(rotation[1, 0], rotation[0, 0])
    else:
        a, c = 0.0, math.atan2(-rotation[0, 1], rotation[1, 1])
    return [math.degrees(angle) for angle in (a, b, c)]


@dataclass(frozen=True, slots=True)
class PlacedMesh:
    """A mesh with its pose in the table: OpenGL camera frame, metres, degrees of extrinsic xyz."""

    mesh: ObjMesh
    translation: Sequence[float]
    rotation: Sequence[float]

    def in_camera(self) -> Float64:
        """(V, 3) vertices in the OpenGL camera frame, metres."""
        return self.mesh.vertices @ rotation_of_euler(self.rotation).T + np.asarray(self.translation)


def ground_truth(objects: Sequence[PlacedMesh]) -> tuple[list[Float64], dict[str, Any]]:
    """A test scene's meshes in one frame, and the camera that sees them, as SceneGen's build_scene.py places both.

    The objects stand in the first one's frame turned z up, are scaled so that the scene's longest side is 1.96, then
    moved by the centre that they had before scaling, then turned back to y up; the camera is left z up, for Blender.

    Returns:
        (V, 3) vertices of each object, and `camera_pos` and `camera_rotation` (degrees, extrinsic xyz).
    """
    to_scene = _X_BY_90 @ rotation_of_euler(objects[0].rotation).T
    origin = np.asarray(objects[0].translation)
    placed = [(item.in_camera() - origin) @ to_scene.T for item in objects]
    low = np.min([points.min(axis=0) for points in placed], axis=0)
    high = np.max([points.max(axis=0) for points in placed], axis=0)
    scale, centre = _SCENE_SIDE / (high - low).max(), (low + high) / 2
    camera = to_scene @ -origin * scale - centre
    vertices = [(points * scale - centre) @ _X_BY_90 for points in placed]
    return vertices, {"camera_pos": camera.tolist(), "camera_rotation": euler_of_rotation(to_scene)}


def ground_truth_glb(objects: Sequence[PlacedMesh]) -> bytes:
    """`scene_test/<id>.glb`: one node an object in the given order.

    trimesh reads the nodes of this file, as of those that it writes itself, in reverse.
    """
    vertices, _ = ground_truth(objects)
    parts = zip(vertices, objects, strict=True)
    return glb_of_meshes([(f"geometry_{k}", points, item.mesh.faces) for k, (points, item) in enumerate(parts)])


def require_centred(mesh: ObjMesh, where: str) -> None:
    """Refuse a mesh whose box is not centred on its origin: SceneGen turns it about the one, its tools about the other.

    Raises:
        ContractError: the box's centre is off by more than a thousandth of its longest side.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    if np.abs(low + high).max() / 2 > 1e-3 * (high - low).max():
        raise ContractError(
            f"the mesh's box is centred at {((low + high) / 2).round(4).tolist()}",
            where=where,
            remedy="Centre the mesh on its origin.",
        )
