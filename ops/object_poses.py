"""Where the objects of a scene stand in its conditioning view: masks, visibility and poses.

Two conventions of the same pose are given:

* ours: `camera_from_object`, a rigid (4, 4) from the object frame (y up, centred on its bounding box, metres) to the
  OpenCV camera frame. The world frame is the conditioning camera's, so this is also `world_from_object`.
* SceneGen's: translation in metres in the OpenGL camera frame (x right, y up, looking along -z), rotation in degrees
  as scipy's extrinsic "xyz", R = Rz(c)·Ry(b)·Rx(a), and scale = the longest side of the mesh's bounding box
  (SceneGen, dataset_toolkits/build_metadata_scene.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ContractError
from . import cameras
from .object_export import longest_side
from .scene_model import BACKGROUND_ID, Float64, Material, SceneInstance, SceneModel, Texture

_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_NEAR = 1e-3


@dataclass(frozen=True, slots=True)
class SceneGenPose:
    """A pose as SceneGen's table holds it.

    Attributes:
        translation: metres, OpenGL camera frame.
        rotation: degrees, extrinsic xyz, object (y up) to OpenGL camera.
        scale: longest side of the mesh's bounding box, metres.
    """

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float]
    scale: float


@dataclass(frozen=True, slots=True)
class VisibleObject:
    """One object in the conditioning view.

    Attributes:
        instance: the object.
        mask: (H, W) bool, pixels in which it is seen.
        box: (left, top, right, bottom) of the mask in pixels, right and bottom exclusive.
        visible_pixels: pixels of the mask.
        visibility: visible pixels as a share of those it would have standing alone before the same camera.
        camera_from_object: (4, 4) float64 rigid, OpenCV camera frame.
        size: sides of its bounding box in its own frame (x, y, z), metres.
        scenegen: the same pose in SceneGen's convention.
    """

    instance: SceneInstance
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    visible_pixels: int
    visibility: float
    camera_from_object: Float64
    size: tuple[float, float, float]
    scenegen: SceneGenPose


@dataclass(frozen=True, slots=True)
class Reprojection:
    """How a posed mesh, projected into the view, fits the object's mask.

    Attributes:
        mask_inside: share of the mask's pixels inside the projected bounding box; 1 unless the pose is wrong.
        box_difference: largest distance in pixels between a side of the mask's box and of the projected box (cut at
            the picture's edge); below 1 for an object that nothing hides, a little more where thin tips fall between
            pixel centres.
    """

    mask_inside: float
    box_difference: float


def visible_objects(
    scene: SceneModel,
    instance_ids: NDArray[np.integer],
    pixels_alone: Callable[[SceneInstance], int],
    *,
    minimum_visible_pixels: int = 1,
    minimum_visibility: float = 0.0,
) -> list[VisibleObject]:
    """The objects seen in the conditioning view, in the order of their instance ids.

    Args:
        scene: the scene.
        instance_ids: (H, W) instance id of each pixel of the conditioning view.
        pixels_alone: how many pixels an object would have in this view if nothing hid it, e.g.
            `lambda instance: pixels_of_object_alone(scene, instance)`.
        minimum_visible_pixels: objects with fewer are left out.
        minimum_visibility: objects of which a smaller share is seen are left out.

    Raises:
        ContractError: the id image is not two-dimensional or holds an id that the scene does not.
    """
    known = {BACKGROUND_ID, *(instance.instance_id for instance in scene.instances)}
    ids, counts = np.unique(instance_ids, return_counts=True)
    unknown = sorted(set(ids.tolist()) - known)
    if instance_ids.ndim != 2 or unknown:
        found = f"ids {unknown} are not in the scene" if unknown else f"shape {instance_ids.shape}, expected (H, W)"
        raise ContractError(found, where="instance id image", remedy="Render the ids from the same scene.")
    pixels = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    found = []
    for instance in scene.instances:
        visible = pixels.get(instance.instance_id, 0)
        if visible < max(minimum_visible_pixels, 1):
            continue
        # Rays at silhouettes can fall either way between the two renderings, so the share may exceed 1 by a pixel.
        visibility = min(visible / max(pixels_alone(instance), 1), 1.0)
        if visibility >= minimum_visibility:
            found.append(_visible_object(scene, instance, instance_ids == instance.instance_id, visibility))
    return found


def _visible_object(
    scene: SceneModel, instance: SceneInstance, mask: NDArray[np.bool_], visibility: float
) -> VisibleObject:
    pose = camera_from_object(scene, instance)
    vertices = instance.mesh.vertices
    sides = (vertices.max(axis=0) - vertices.min(axis=0)).tolist()
    return VisibleObject(
        instance=instance,
        mask=mask,
        box=mask_box(mask),
        visible_pixels=int(mask.sum()),
        visibility=visibility,
        camera_from_object=pose,
        size=(sides[0], sides[1], sides[2]),
        scenegen=scenegen_pose(pose, longest_side(instance)),
    )


def camera_from_object(scene: SceneModel, instance: SceneInstance) -> Float64:
    """(4, 4) float64 rigid transform from the object frame to the conditioning camera's OpenCV frame."""
    return cameras.invert_rigid(scene.scene_from_camera) @ np.asarray(instance.scene_from_object, dtype=np.float64)


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a mask's pixels, right and bottom exclusive.

    Raises:
        ContractError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ContractError("the mask is empty", where="object mask", remedy="Leave objects that are not seen out.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def scenegen_pose(pose: ArrayLike, scale: float) -> SceneGenPose:
    """SceneGen's form of an OpenCV `camera_from_object` pose.

    Args:
        pose: (4, 4) rigid, OpenCV camera frame.
        scale: longest side of the mesh's bounding box, metres.
    """
    opengl = _OPENGL_FROM_OPENCV @ np.asarray(pose, dtype=np.float64)
    x, y, z = opengl[:3, 3].tolist()
    return SceneGenPose((x, y, z), euler_degrees_from_rotation(opengl[:3, :3]), float(scale))


def camera_from_scenegen(pose: SceneGenPose) -> Float64:
    """(4, 4) rigid OpenCV `camera_from_object` of a SceneGen pose; inverse of `scenegen_pose`."""
    opengl = np.eye(4)
    opengl[:3, :3] = rotation_from_euler_degrees(pose.rotation)
    opengl[:3, 3] = pose.translation
    return _OPENGL_FROM_OPENCV @ opengl


def euler_degrees_from_rotation(rotation: ArrayLike) -> tuple[float, float, float]:
    """Extrinsic xyz angles (a, b, c) in degrees with R = Rz(c)·Ry(b)·Rx(a); b in [-90, 90].

    R₂₀ = -sin b, R₂₁ = cos b sin a, R₂₂ = cos b cos a, R₁₀ = cos b sin c, R₀₀ = cos b cos c. Where cos b vanishes
    only c ∓ a is determined, and a is set to 0.
    """
    r = np.asarray(rotation, dtype=np.float64)
    cosine = np.hypot(r[0, 0], r[1, 0])
    b = np.arctan2(-r[2, 0], cosine)
    if cosine > 1e-8:
        a, c = np.arctan2(r[2, 1], r[2, 2]), np.arctan2(r[1, 0], r[0, 0])
    else:
        a, c = 0.0, np.arctan2(-r[0, 1], r[1, 1])
    x, y, z = np.degrees([a, b, c]).tolist()
    return x, y, z


def rotation_from_euler_degrees(angles: ArrayLike) -> Float64:
    """(3, 3) rotation Rz(c)·Ry(b)·Rx(a) of extrinsic xyz angles (a, b, c) in degrees."""
    (sa, sb, sc), (ca, cb, cc) = np.sin(np.radians(angles)), np.cos(np.radians(angles))
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def projected_box(
    vertices: ArrayLike, pose: SceneGenPose, intrinsics: ArrayLike, height: int, width: int
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels of a mesh placed by a SceneGen pose, cut at the picture's edge.

    The mesh is first scaled to longest side 1, then by the pose's scale, as SceneGen does with its canonical assets.
    A mesh that reaches behind the camera is given the whole picture.

    Args:
        vertices: (V, 3) of the OBJ, y up, centred.
        pose: the pose.
        intrinsics: (4,) fx, fy, cx, cy in pixels of the (height, width) picture.
    """
    points = np.asarray(vertices, dtype=np.float64)
    points = points * (pose.scale / (points.max(axis=0) - points.min(axis=0)).max())
    camera_from_mesh = camera_from_scenegen(pose)
    placed = points @ camera_from_mesh[:3, :3].T + camera_from_mesh[:3, 3]
    if placed[:, 2].min() < _NEAR:
        return 0.0, 0.0, float(width), float(height)
    pixels, _ = cameras.project(placed, np.eye(4), intrinsics)
    left, top = np.clip(pixels.min(axis=0), 0, (width, height)).tolist()
    right, bottom = np.clip(pixels.max(axis=0), 0, (width, height)).tolist()
    return left, top, right, bottom


def check_reprojection(
    vertices: ArrayLike, pose: SceneGenPose, mask: NDArray[np.bool_], intrinsics: ArrayLike
) -> Reprojection:
    """Project a posed OBJ into the view and compare it with the object's mask.

    Args:
        vertices: (V, 3) of the OBJ, y up, centred.
        pose: the pose as written into the table.
        mask: (H, W) bool.
        intrinsics: (4,) fx, fy, cx, cy in pixels of the mask.

    Raises:
        ContractError: the mask is empty.
    """
    height, width = mask.shape
    left, top, right, bottom = box = projected_box(vertices, pose, intrinsics, height, width)
    difference = np.abs(np.subtract(box, mask_box(mask))).max()
    # Pixel centres lie at +0.5; a ray through a centre hits the mesh only inside the projected box.
    rows, columns = np.nonzero(mask)
    inside = (columns + 0.5 >= left) & (columns + 0.5 <= right) & (rows + 0.5 >= top) & (rows + 0.5 <= bottom)
    return Reprojection(mask_inside=float(inside.mean()), box_difference=float(difference))


def pixels_of_object_alone(scene: SceneModel, instance: SceneInstance, *, device: str = "cpu") -> int:
    """Pixels of the conditioning view that an object covers when nothing stands before it.

    Only the part of the picture that the object can reach is cast.
    """
    from .raycast import RayCaster

    height, width = scene.size
    pose = scenegen_pose(camera_from_object(scene, instance), longest_side(instance))
    left, top, right, bottom = projected_box(instance.mesh.vertices, pose, scene.intrinsics, height, width)
    left, top, right, bottom = int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))
    if right <= left or bottom <= top:
        return 0
    intrinsics = cameras.crop_intrinsics(scene.intrinsics, top=top, left=left)
    geometry = RayCaster(_alone(scene, instance), device=device).geometry(
        np.eye(4), intrinsics, bottom - top, right - left
    )
    return int((geometry.instance_ids != BACKGROUND_ID).sum())


def _alone(scene: SceneModel, instance: SceneInstance) -> SceneModel:
    """The scene with its shell and one object, without textures or lamps."""
    plain = Material("plain", "painted", Texture(np.full((1, 1, 3), 128, np.uint8)))
    meshes = [dataclasses.replace(mesh, material=np.zeros_like(mesh.material)) for mesh in (scene.shell, instance.mesh)]
    only = dataclasses.replace(instance, instance_id=1, mesh=meshes[1], support=BACKGROUND_ID)
    return dataclasses.replace(
        scene, shell=meshes[0], instances=[only], materials=[plain], sun=None, area_lights=(), description={}
    )
