"""A picture as a room: the five-plane box of "Tour into the Picture", closed behind the camera.

Y. Horry, K. Anjyo, K. Arai, "Tour Into the Picture: Using a Spidery Mesh Interface to Make Animation from a Single
Image", SIGGRAPH 1997. A vanishing point and an inner rectangle divide the picture into a back wall, a floor, a ceiling
and two side walls; each becomes a textured plane.

Geometry, in the camera's OpenCV frame, for focal length f, principal point (cx, cy), vanishing point (vx, vy) and the
back wall at depth D: the box is the inner rectangle's back-projection to z = D swept along the direction
((vx - cx)/f, (vy - cy)/f, 1). A point of the box is (X + a·z, Y + b·z, z) with (a, b) = ((vx - cx)/f, (vy - cy)/f), and
it is seen at (vx + f·X/z, vy + f·Y/z): along each receding line X and Y are constant. The paper's user interface is
replaced by a search for the rectangle; what the picture does not show is the visible part mirrored.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import InputError
from .cameras import centred_intrinsics
from .inner_rectangle import InnerRectangle, find_inner_rectangle
from .scene_model import Material, SceneModel, SkyLight, Texture, TriangleMesh
from .vanishing_point import VanishingPoint, detect_segments, find_vanishing_point

Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

HORIZONTAL_FIELD_OF_VIEW_DEGREES = 75.0
"""Taken where the picture's own is not known; wide, so that the box leaves the camera room to move sideways."""

EYE_HEIGHT = 1.5
"""Metres above the floor that set the box's size, as far as the back wall then stays 3 to 6 m away."""

_SMALLEST_SIDE = 32
_DEPTH_RANGE = (3.0, 6.0)
_BEHIND = 1.0
"""Distance of the front wall behind the camera, in back-wall depths."""
_BAND_RATIO = 1.35
"""Ratio of depths within one band of a side plane: each has its own texture, as fine as its nearest pixels need."""
_TEXELS_PER_PIXEL = 1.5
_DENSITY_OUTSIDE = 0.5
"""Texture of what the picture does not show, against what it shows where the two meet: half keeps textures small."""
_LARGEST_TEXTURE = 2048


@dataclass(frozen=True, slots=True)
class _Box:
    """The room in the camera's OpenCV frame, and the pinhole camera that sees it."""

    focal: float
    vanishing: tuple[float, float]
    slope: tuple[float, float]
    left: float
    right: float
    top: float
    bottom: float
    depth: float
    size: tuple[int, int]

    def points(self, x: Float64, y: Float64, z: Float64) -> Float64:
        """(..., 3) camera-frame points of box coordinates: x and y from the axis, z depth."""
        return np.stack([x + self.slope[0] * z, y + self.slope[1] * z, z], axis=-1)

    def nearest_visible(self, x: Float64, y: Float64) -> Float64:
        """Depth at which the receding line (x, y) enters the picture; less than `depth` for lines on the box."""
        height, width = self.size
        across = np.where(x > 0, x / (width - self.vanishing[0]), -x / self.vanishing[0])
        down = np.where(y > 0, y / (height - self.vanishing[1]), -y / self.vanishing[1])
        return self.focal * np.maximum(across, down)


@dataclass(frozen=True, slots=True)
class _Patch:
    """A planar quadrilateral in box coordinates: corners of its texture's top left, top right and bottom left."""

    name: str
    origin: tuple[float, float, float]
    along_u: tuple[float, float, float]
    along_v: tuple[float, float, float]
    texels: tuple[int, int]

    def grid(self) -> tuple[Float64, Float64, Float64]:
        """Box coordinates of the texels, each (rows, columns); the outermost lie on the patch's border."""
        rows, columns = self.texels
        u = np.linspace(0.0, 1.0, columns)[None, :]
        v = np.linspace(0.0, 1.0, rows)[:, None]
        x, y, z = (o + u * du + v * dv for o, du, dv in zip(self.origin, self.along_u, self.along_v, strict=True))
        return x, y, z


def build_box_scene(
    picture: UInt8,
    *,
    seed: int,
    horizontal_field_of_view_degrees: float = HORIZONTAL_FIELD_OF_VIEW_DEGREES,
) -> SceneModel:
    """Turn one picture into a closed, textured room that shows the picture from where it was taken.

    Where no vanishing point is found with confidence, the picture's centre and a fixed rectangle are used. Materials
    are unlit: the picture already holds its light. The back wall is 3 to 6 m away; the scale is not metric.

    Args:
        picture: (H, W, 3) uint8 sRGB, at the size of the conditioning view.
        seed: for the draw of segment pairs in crowded pictures.
        horizontal_field_of_view_degrees: of the lens that took the picture, degrees; 20 to 120.

    Returns:
        A scene without objects. `description` holds the vanishing point, its confidence, whether it fell back to the
        centre, the inner rectangle (pixels) and the back wall's depth.

    Raises:
        InputError: not an RGB uint8 picture, smaller than 32 pixels a side, or a field of view out of range.
    """
    _check(picture, horizontal_field_of_view_degrees)
    height, width = picture.shape[:2]
    intrinsics = centred_intrinsics(
        height, width, horizontal_field_of_view=np.radians(horizontal_field_of_view_degrees)
    )
    segments = detect_segments(picture)
    vanishing = find_vanishing_point(segments, height, width, seed=seed)
    rectangle = find_inner_rectangle(picture, (vanishing.x, vanishing.y), segments, search=not vanishing.fallback)
    box = _box(float(intrinsics[0]), vanishing, rectangle, (height, width))
    patches = _patches(box)
    scene_from_camera = _scene_from_camera(box)
    return SceneModel(
        shell=_shell(box, patches, scene_from_camera),
        instances=(),
        materials=[_material(picture, box, patch) for patch in patches],
        sun=None,
        sky=SkyLight(zenith=(1.0, 1.0, 1.0), horizon=(0.6, 0.6, 0.6)),
        area_lights=(),
        scene_from_camera=scene_from_camera,
        intrinsics=intrinsics,
        size=(height, width),
        metric=False,
        description=_description(vanishing, rectangle, box, horizontal_field_of_view_degrees, len(segments)),
    )


def _check(picture: UInt8, field_of_view: float) -> None:
    where = "box scene"
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(
            f"the picture is {picture.dtype} {picture.shape}; expected uint8 (H, W, 3)",
            where=where,
            remedy="Decode it with ops.pictures first.",
        )
    height, width = picture.shape[:2]
    if min(height, width) < _SMALLEST_SIDE:
        raise InputError(
            f"the picture has {height} × {width} pixels; at least {_SMALLEST_SIDE} a side are needed",
            where=where,
            remedy="Use a larger picture.",
        )
    if not 20.0 <= field_of_view <= 120.0:
        raise InputError(
            f"the horizontal field of view is {field_of_view:g} degrees; expected 20 to 120",
            where=where,
            remedy="Give the lens's full horizontal angle.",
        )


def _box(focal: float, vanishing: VanishingPoint, rectangle: InnerRectangle, size: tuple[int, int]) -> _Box:
    height, width = size
    slope = ((vanishing.x - width / 2) / focal, (vanishing.y - height / 2) / focal)
    drop = (rectangle.bottom - vanishing.y) / focal
    depth = float(np.clip(EYE_HEIGHT * math.hypot(1.0, slope[1]) / drop, *_DEPTH_RANGE))
    scale = depth / focal
    return _Box(
        focal=focal,
        vanishing=(vanishing.x, vanishing.y),
        slope=slope,
        left=(rectangle.left - vanishing.x) * scale,
        right=(rectangle.right - vanishing.x) * scale,
        top=(rectangle.top - vanishing.y) * scale,
        bottom=(rectangle.bottom - vanishing.y) * scale,
        depth=depth,
        size=size,
    )


def _scene_from_camera(box: _Box) -> Float64:
    """y up along the floor's normal, x to the camera's right, the floor at y = 0 below the camera's place."""
    slope = box.slope[1]
    length = np.hypot(1.0, slope)
    up = np.array([0.0, -1.0, slope]) / length
    right = np.array([1.0, 0.0, 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, up, np.cross(right, up)])
    pose[1, 3] = box.bottom / length
    return pose


def _patches(box: _Box) -> list[_Patch]:
    """Back wall, front wall, and the bands of floor, ceiling and side walls."""
    width, height = box.right - box.left, box.bottom - box.top
    near = -_BEHIND * box.depth
    back_texels = _texels(height, width, box.focal / box.depth, box.focal / box.depth)
    patches = [
        _Patch("back", (box.left, box.top, box.depth), (width, 0.0, 0.0), (0.0, height, 0.0), back_texels),
        _Patch("front", (box.right, box.top, near), (-width, 0.0, 0.0), (0.0, height, 0.0), back_texels),
    ]
    cuts = _cuts(box, near)
    for far, close in pairwise(cuts):
        patches.extend(_ring(box, far, close))
    return patches


def _cuts(box: _Box, near: float) -> list[float]:
    """Depths, falling from the back wall to the front wall, at which the side planes are cut into bands."""
    nearest = min(_entry_depths(box).values())
    bands = max(1, int(np.ceil(np.log(box.depth / nearest) / np.log(_BAND_RATIO))))
    return [*np.geomspace(box.depth, nearest, bands + 1), near]


def _entry_depths(box: _Box) -> dict[str, float]:
    """For each side plane the least depth at which the picture shows it."""
    height, width = box.size
    x, y = box.vanishing
    shares = {"left": -box.left / x, "right": box.right / (width - x)}
    shares |= {"ceiling": -box.top / y, "floor": box.bottom / (height - y)}
    return {name: box.focal * share for name, share in shares.items()}


def _ring(box: _Box, far: float, close: float) -> list[_Patch]:
    """The four side planes between two depths, each upright as seen from inside."""
    length = far - close
    width, height = box.right - box.left, box.bottom - box.top
    entries = _entry_depths(box)

    def density(name: str, distance: float) -> tuple[float, float]:
        """Pixels a metre across and along the plane, where the band is nearest to the camera and in the picture."""
        depth = max(close, entries[name])
        share = 1.0 if far > entries[name] * (1 + 1e-9) else _DENSITY_OUTSIDE
        return share * box.focal / depth, share * box.focal * distance / depth**2

    def level(name: str, distance: float) -> tuple[int, int]:
        across, along = density(name, distance)
        return _texels(length, width, along, across)

    def upright(name: str, distance: float) -> tuple[int, int]:
        across, along = density(name, distance)
        return _texels(height, length, across, along)

    across, down, back = (width, 0.0, 0.0), (0.0, height, 0.0), (0.0, 0.0, length)
    front = (0.0, 0.0, -length)
    return [
        _Patch("floor", (box.left, box.bottom, far), across, front, level("floor", box.bottom)),
        _Patch("ceiling", (box.left, box.top, close), across, back, level("ceiling", -box.top)),
        _Patch("left", (box.left, box.top, close), back, down, upright("left", -box.left)),
        _Patch("right", (box.right, box.top, far), front, down, upright("right", box.right)),
    ]


def _texels(height: float, width: float, down: float, across: float) -> tuple[int, int]:
    """Rows and columns for a patch of `height` × `width` metres seen at `down` and `across` pixels a metre."""
    rows = int(np.ceil(height * down * _TEXELS_PER_PIXEL)) + 1
    columns = int(np.ceil(width * across * _TEXELS_PER_PIXEL)) + 1
    return min(max(rows, 2), _LARGEST_TEXTURE), min(max(columns, 2), _LARGEST_TEXTURE)


def _material(picture: UInt8, box: _Box, patch: _Patch) -> Material:
    """The patch's part of the picture, rectified; what lies outside is mirrored along the receding lines."""
    import cv2

    x, y, z = np.broadcast_arrays(*patch.grid())
    # The front wall repeats the back wall, left and right as one sees them on turning round.
    nearest = np.minimum(box.nearest_visible(x, y), box.depth)
    folded = np.full_like(z, box.depth) if patch.name in {"back", "front"} else _fold(z, nearest, box.depth)
    column = box.vanishing[0] + box.focal * x / folded
    row = box.vanishing[1] + box.focal * y / folded
    # Pixel centres are at +0.5 here and at whole numbers in OpenCV.
    image = cv2.remap(
        picture,
        (column - 0.5).astype(np.float32),
        (row - 0.5).astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    texture = Texture(np.asarray(image, dtype=np.uint8), wrap="clamp")
    return Material(f"picture, {patch.name}", "picture", texture, unlit=True)


def _fold(z: Float64, nearest: Float64, farthest: float) -> Float64:
    """Depths brought into [nearest, farthest] by mirroring at both ends, over and over."""
    span = np.maximum(farthest - nearest, 1e-6)
    return nearest + span - np.abs(np.mod(z - nearest, 2 * span) - span)


def _shell(box: _Box, patches: list[_Patch], scene_from_camera: Float64) -> TriangleMesh:
    """Two triangles a patch, facing into the room, in the scene frame."""
    quads, uvs = [], []
    for patch in patches:
        origin, u, v = (np.array(part) for part in (patch.origin, patch.along_u, patch.along_v))
        corners = np.stack([origin, origin + v, origin + u + v, origin + u])
        quads.append(box.points(corners[:, 0], corners[:, 1], corners[:, 2]))
        # Border texels are centred on the border, so that neighbours show the same colours where they meet.
        rows, columns = patch.texels
        low_u, low_v = 0.5 / columns, 0.5 / rows
        uvs.append([(low_u, 1 - low_v), (low_u, low_v), (1 - low_u, low_v), (1 - low_u, 1 - low_v)])
    vertices = np.concatenate(quads) @ scene_from_camera[:3, :3].T + scene_from_camera[:3, 3]
    pattern = np.array([[0, 1, 2], [0, 2, 3]])
    count = len(patches)
    faces = (4 * np.arange(count)[:, None, None] + pattern).reshape(-1, 3)
    uv = np.array(uvs)[:, pattern].reshape(-1, 3, 2)
    return TriangleMesh(
        vertices=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        uv=uv.astype(np.float32),
        material=np.repeat(np.arange(count), 2).astype(np.int32),
    )


def _description(
    vanishing: VanishingPoint, rectangle: InnerRectangle, box: _Box, field_of_view: float, segments: int
) -> dict[str, object]:
    return {
        "kind": "tour_into_picture",
        "vanishing_point": [round(vanishing.x, 3), round(vanishing.y, 3)],
        "vanishing_point_confidence": round(vanishing.confidence, 4),
        "vanishing_point_fallback": vanishing.fallback,
        "segments": segments,
        "supporting_segments": int(vanishing.supporting.sum()),
        "inner_rectangle": [round(edge, 3) for edge in astuple(rectangle)],
        "back_wall_depth": round(box.depth, 4),
        "camera_height": round(box.bottom / math.hypot(1.0, box.slope[1]), 4),
        "horizontal_field_of_view_degrees": field_of_view,
    }
