"""A scene as a Rerun recording: cameras that move, what they see, depth, points and objects, in one file to look at.

Entities, in the world frame (the conditioning camera's OpenCV frame):

    world/cameras/<trajectory>         pose and lens on the timeline "frame"
    world/cameras/<trajectory>/rgb     JPEG
    world/cameras/<trajectory>/depth   16-bit PNG
    world/paths/<trajectory>           every camera centre of the clip
    world/points/<trajectory>          coloured points of a few frames' depth
    world/objects/<id>_<family>        pose, mesh and box with the object's name
"""

from __future__ import annotations

import io
import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..datasets.errors import ContractError
from ..datasets.files import unfinished_file
from ..ops import cameras
from ..ops.object_poses import camera_from_object
from ..ops.scene_model import Material, SceneModel, TriangleMesh

if TYPE_CHECKING:
    import rerun as rr

APPLICATION = "sceneloom"
TIMELINE = "frame"

_FRAMES_PER_CLIP = 24
_PICTURE_WIDTH = 320
_JPEG_QUALITY = 80
_POINT_FRAMES = 3
_POINTS_PER_FRAME = 6000
_POINT_PIXELS = 1.5
_DEPTH_LEVELS = 65535
# Recordings of equal scenes share an id, so that a viewer replaces the old one instead of listing both.
_ID_SPACE = uuid.UUID("5c0eff23-3a6e-5f43-9a47-6a0b6d3f4d0a")


@dataclass(frozen=True, slots=True)
class PreviewClip:
    """One clip to show.

    Attributes:
        name: the trajectory.
        rgb: (T, H, W, 3) uint8 sRGB.
        depth: (T, H, W) z-depth, 0 = invalid.
        c2w: (T, 4, 4) poses.
        intrinsics: (T, 4) fx, fy, cx, cy in pixels of (H, W).
    """

    name: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.floating]
    c2w: NDArray[np.floating]
    intrinsics: NDArray[np.floating]


def write_recording(
    path: Path,
    *,
    scene_id: str,
    clips: Iterable[PreviewClip],
    frames_per_second: float,
    scene: SceneModel | None = None,
) -> None:
    """Write a scene's recording; the file appears whole under its name, or not at all.

    Frames are thinned to 24 a clip and made no wider than 320 pixels, so that a scene of six clips stays below 15 MB.
    The recording's id depends on the scene id alone; the bytes differ between runs, since Rerun numbers its chunks
    at random.

    Args:
        path: the .rrd file.
        scene_id: names the recording.
        clips: the clips; they are taken one at a time.
        frames_per_second: rate at which the viewer plays the clips.
        scene: geometry whose objects are shown as meshes and boxes.

    Raises:
        ContractError: a clip's arrays do not belong together, or two clips have one name.
    """
    import rerun as rr

    recording = rr.RecordingStream(APPLICATION, recording_id=uuid.uuid5(_ID_SPACE, scene_id), send_properties=False)
    with unfinished_file(path) as unfinished:
        try:
            recording.save(unfinished)
            recording.set_log_tick_enabled(False)
            recording.set_log_time_enabled(False)
            recording.send_recording_name(scene_id)
            recording.log("world", rr.ViewCoordinates.RDF, static=True)
            names: list[str] = []
            for clip in clips:
                _require_one_clip(clip, names)
                _log_clip(recording, clip)
                names.append(clip.name)
            if scene is not None:
                _log_objects(recording, scene)
            recording.send_blueprint(_blueprint(names, frames_per_second))
            recording.flush()
        finally:
            recording.disconnect()


def _require_one_clip(clip: PreviewClip, names: Sequence[str]) -> None:
    frames, height, width = clip.depth.shape
    expected = {"rgb": (frames, height, width, 3), "c2w": (frames, 4, 4), "intrinsics": (frames, 4)}
    wrong = [
        f"{name} {getattr(clip, name).shape}, expected {shape}"
        for name, shape in expected.items()
        if getattr(clip, name).shape != shape
    ]
    if wrong or clip.name in names:
        found = "; ".join(wrong) or "a clip of this name is already in the recording"
        raise ContractError(found, where=f"clip {clip.name}", remedy="Give each clip once, with arrays of one length.")


def _log_clip(recording: rr.RecordingStream, clip: PreviewClip) -> None:
    import rerun as rr

    frames, height, width = clip.depth.shape
    # A whole step keeps nearest-neighbour depth exact and the lens a plain scaling.
    step = math.ceil(width / _PICTURE_WIDTH)
    camera = f"world/cameras/{clip.name}"
    for frame in _spread(frames, _FRAMES_PER_CLIP):
        recording.set_time(TIMELINE, sequence=frame)
        recording.log(
            camera,
            rr.Transform3D(translation=clip.c2w[frame, :3, 3], mat3x3=clip.c2w[frame, :3, :3]),
            _pinhole(clip.intrinsics[frame], height, width, step),
        )
        recording.log(f"{camera}/rgb", rr.EncodedImage(contents=_jpeg(clip.rgb[frame], step), media_type="image/jpeg"))
        recording.log(f"{camera}/depth", _depth_image(clip.depth[frame], step))
    recording.log(
        f"world/paths/{clip.name}", rr.LineStrips3D([clip.c2w[:, :3, 3]], colors=_colour(clip.name)), static=True
    )
    points, colours = _points(clip)
    recording.log(
        f"world/points/{clip.name}",
        rr.Points3D(points, colors=colours, radii=rr.Radius.ui_points(_POINT_PIXELS)),
        static=True,
    )


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices of `count`, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist()


def _pinhole(intrinsics: NDArray[np.floating], height: int, width: int, step: int) -> rr.Pinhole:
    import rerun as rr

    # ceil(size / step) pixels remain; each still spans `step` original pixels.
    fx, fy, cx, cy = (float(value) / step for value in intrinsics)
    resolution = [math.ceil(width / step), math.ceil(height / step)]
    return rr.Pinhole(
        focal_length=[fx, fy],
        principal_point=[cx, cy],
        resolution=resolution,
        camera_xyz=rr.ViewCoordinates.RDF,
        image_plane_distance=0.3,
    )


def _jpeg(frame: NDArray[np.uint8], step: int) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(frame)).reduce(step)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=_JPEG_QUALITY)
    return target.getvalue()


def _depth_image(depth: NDArray[np.floating], step: int) -> rr.EncodedDepthImage:
    """Depth as 16-bit PNG: millimetres, or coarser where the scene is deeper than 65 m."""
    import rerun as rr

    # The middle of each block of pixels, repeated at the right and lower edge where the last block is not whole.
    middle = [np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in depth.shape]
    kept = depth[np.ix_(*middle)].astype(np.float32)
    levels_per_unit = min(1000.0, _DEPTH_LEVELS / max(float(kept.max()), 1e-6))
    target = io.BytesIO()
    Image.fromarray((kept * levels_per_unit).round().astype(np.uint16)).save(target, "PNG", compress_level=6)
    return rr.EncodedDepthImage(target.getvalue(), media_type="image/png", meter=levels_per_unit)


def _points(clip: PreviewClip) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """World points (N, 3) and colours (N, 3) of a few frames, on a regular grid of pixels."""
    points, colours = [], []
    _, height, width = clip.depth.shape
    stride = max(1, round(math.sqrt(height * width / _POINTS_PER_FRAME)))
    rows, columns = np.mgrid[stride // 2 : height : stride, stride // 2 : width : stride].reshape(2, -1)
    for frame in _spread(len(clip.depth), _POINT_FRAMES):
        depth = clip.depth[frame, rows, columns]
        valid = depth > 0
        pixels = np.stack([columns, rows], axis=1)[valid] + 0.5
        points.append(cameras.unproject(pixels, depth[valid], clip.c2w[frame], clip.intrinsics[frame]))
        colours.append(clip.rgb[frame, rows, columns][valid])
    return np.concatenate(points).astype(np.float32), np.concatenate(colours)


def _log_objects(recording: rr.RecordingStream, scene: SceneModel) -> None:
    import rerun as rr

    for instance in scene.instances:
        entity = f"world/objects/{instance.instance_id}_{instance.family}"
        pose = camera_from_object(scene, instance)
        half_size = np.abs(instance.mesh.vertices).max(axis=0)
        vertices, faces, colours = _flat_coloured(instance.mesh, scene.materials)
        recording.log(entity, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]), static=True)
        recording.log(
            f"{entity}/mesh",
            rr.Mesh3D(vertex_positions=vertices, triangle_indices=faces, vertex_colors=colours),
            static=True,
        )
        recording.log(
            f"{entity}/box",
            rr.Boxes3D(half_sizes=[half_size], labels=[instance.name], colors=_colour(entity)),
            static=True,
        )


def _flat_coloured(
    mesh: TriangleMesh, materials: Sequence[Material]
) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.uint8]]:
    """Vertices (V, 3), faces (F, 3) and a colour (V, 3) a vertex: its material's mean, far smaller than a texture."""
    corners = np.stack([mesh.faces, np.broadcast_to(mesh.material[:, None], mesh.faces.shape)], axis=-1).reshape(-1, 2)
    distinct, inverse = np.unique(corners, axis=0, return_inverse=True)
    means = np.array([material.texture.image.mean(axis=(0, 1)) for material in materials])
    return (
        mesh.vertices[distinct[:, 0]],
        inverse.reshape(-1, 3).astype(np.uint32),
        means[distinct[:, 1]].round().astype(np.uint8),
    )


def _colour(name: str) -> list[int]:
    """A bright colour that belongs to a name."""
    import colorsys

    hue = uuid.uuid5(_ID_SPACE, name).int % 360 / 360
    return [round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.65, 0.95)]


def _blueprint(names: Sequence[str], frames_per_second: float) -> Any:
    """The scene on the left; on the right every trajectory's pictures, and its depth behind a second tab."""
    import rerun.blueprint as rrb

    # Depth pictures would unfold into a cloud each in the 3D view, on top of the points already there.
    world = rrb.Spatial3DView(
        origin="world", name="Scene", contents=["$origin/**", *(f"- world/cameras/{name}/depth" for name in names)]
    )
    grids = [
        rrb.Grid(
            *(
                rrb.Spatial2DView(origin=f"world/cameras/{name}", contents=f"world/cameras/{name}/{content}", name=name)
                for name in names
            ),
            name=title,
        )
        for content, title in (("rgb", "Frames"), ("depth", "Depth"))
    ]
    return rrb.Blueprint(
        rrb.Horizontal(world, rrb.Tabs(*grids), column_shares=[3, 2]),
        rrb.TimePanel(timeline=TIMELINE, fps=frames_per_second, state="collapsed"),
        rrb.SelectionPanel(state="hidden"),
        rrb.BlueprintPanel(state="collapsed"),
        auto_views=False,
    )
