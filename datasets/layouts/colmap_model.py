"""COLMAP models with pictures, one folder a clip, for 3D Gaussian splatting code and COLMAP itself.

    <clip>/images/frame_00000.png
    <clip>/sparse/0/{cameras,images,points3D}.{txt,bin}   text and binary hold the same model

Points come from the depth of a few frames. Each is projected with the written cameras into every frame and observed
where that frame's depth agrees, so its track has exact pixels. Some readers (3DGRUT) refuse a picture without
observations, so every frame gets some: frames that see none of the points give points of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import Float64, invert_rigid
from ..camera_sequence import CameraSequence
from ..colmap_files import SparsePoints, format_colmap, parse_colmap
from ..errors import InputError, SceneloomError
from .colmap_observations import (
    ModelImage,
    ModelPoint,
    read_binary_observations,
    read_binary_points,
    read_text_observations,
    read_text_points,
)
from .frame_files import (
    Findings,
    cameras_of,
    clip_folders,
    clips_of,
    examine_pictures,
    examine_strays,
    frame_names,
    lens_fault,
    write_pictures,
)
from .release import (
    Finding,
    FindingKind,
    Float16,
    Layout,
    LayoutSummary,
    ReleaseClip,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
    UInt8,
)

_WHERE = "layout colmap"
_KEY_FRAMES = 5
_POINTS = 5000
_AGREEMENT = 0.01
"""Largest relative difference between a point's distance and a frame's depth at which the frame sees the point."""
_LARGEST_ERROR = 0.01
"""Pixels that an observation may lie from its point's projection."""
_NAMES = ("cameras", "images", "points3D")


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory.

    Raises:
        InputError: there is no clip, a frame has no valid depth to take points from, or `points` is no number.
    """
    given = request.options.get("points", str(_POINTS))
    if not given.isdecimal() or not int(given):
        raise InputError(f"points={given}", where=_WHERE, remedy="Give how many points a clip should have.")
    count, total = 0, 0
    for name, scene, clip in clips_of(scenes, "colmap"):
        count += 1
        names = frame_names(clip.frames)
        cameras, pictures = cameras_of(clip, names), clip.rgb()
        points = sparse_points(cameras, clip.depth(), pictures, int(given), where=_where(clip))
        total += len(points.xyz)
        write_pictures(directory, f"{name}/images", names, pictures, scene.scene_id)
        for binary in (False, True):
            for file, content in format_colmap(cameras, points=points, binary=binary).items():
                directory.path(f"{name}/sparse/0/{file}", scene.scene_id).write_bytes(content)
    return LayoutSummary(counts={"clips": count, "points": total})


def _where(clip: ReleaseClip) -> str:
    return f"{_WHERE}, clip {clip.scene_id}/{clip.trajectory}"


def sparse_points(cameras: CameraSequence, depth: Float16, pictures: UInt8, count: int, *, where: str) -> SparsePoints:
    """Points on the surfaces that the frames see, with every frame in which each is visible.

    Args:
        cameras: with intrinsics in pixels, centres at +0.5.
        depth: (T, H, W) z-depth, 0 = invalid.
        pictures: (T, H, W, 3) uint8, for the points' colours.
        count: about how many points.

    Raises:
        InputError: a frame has no valid depth.
    """
    frames = len(depth)
    keys = np.unique(np.linspace(0, frames - 1, min(_KEY_FRAMES, frames)).round().astype(int)).tolist()
    share = max(1, count // len(keys))
    points = _tracked(cameras, depth, pictures, keys, share, least=min(2, frames))
    blind = sorted(set(range(frames)) - set(points.image.tolist()))
    if blind:
        points = _tracked(cameras, depth, pictures, sorted({*keys, *blind}), share, least=1)
        blind = sorted(set(range(frames)) - set(points.image.tolist()))
    if blind:
        raise InputError(
            f"frame {blind[0]} has no valid depth to take points from",
            where=where,
            remedy="Make the clip's depth again: COLMAP readers refuse a picture without observations.",
        )
    return points


def _tracked(
    cameras: CameraSequence, depth: Float16, pictures: UInt8, keys: Sequence[int], share: int, *, least: int
) -> SparsePoints:
    """About `share` points of each key frame that at least `least` frames see."""
    worlds, colours = zip(*(_unprojected(cameras, depth, pictures, key, share) for key in keys), strict=True)
    xyz, rgb = np.concatenate(worlds), np.concatenate(colours)
    seen, pixels = np.zeros((len(depth), len(xyz)), bool), np.zeros((len(depth), len(xyz), 2))
    for frame, plane in enumerate(depth):
        pixels[frame], distance = project(cameras, frame, xyz)
        seen[frame] = _visible(plane, pixels[frame], distance)
    kept = seen.sum(axis=0) >= least
    image, point = np.nonzero(seen[:, kept])
    return SparsePoints(xyz[kept], rgb[kept], image, point, pixels[:, kept][image, point])


def _unprojected(
    cameras: CameraSequence, depth: Float16, pictures: UInt8, key: int, share: int
) -> tuple[Float64, UInt8]:
    """World positions (N, 3) and colours (N, 3) of valid pixels on a regular grid."""
    assert cameras.intrinsics is not None
    height, width = depth.shape[1:]
    step = max(1, int(np.sqrt(height * width / share)))
    rows, columns = (grid.reshape(-1) for grid in np.mgrid[step // 2 : height : step, step // 2 : width : step])
    z = depth[key, rows, columns].astype(np.float64)
    valid = np.isfinite(z) & (z > 0.0)
    rows, columns, z = rows[valid], columns[valid], z[valid]
    fx, fy, cx, cy = cameras.intrinsics[key].astype(np.float64)
    local = np.stack([(columns + 0.5 - cx) / fx * z, (rows + 0.5 - cy) / fy * z, z], axis=-1)
    c2w = cameras.c2w[key].astype(np.float64)
    return local @ c2w[:3, :3].T + c2w[:3, 3], pictures[key, rows, columns]


def project(cameras: CameraSequence, frame: int, xyz: Float64) -> tuple[Float64, Float64]:
    """Pixels (N, 2) and z-depths (N,) of world points in a frame."""
    assert cameras.intrinsics is not None
    w2c = invert_rigid(cameras.c2w[frame])
    local = xyz @ w2c[:3, :3].T + w2c[:3, 3]
    z = local[:, 2]
    safe = np.where(z > 1e-9, z, 1.0)
    fx, fy, cx, cy = cameras.intrinsics[frame].astype(np.float64)
    return np.stack([local[:, 0] / safe * fx + cx, local[:, 1] / safe * fy + cy], axis=-1), z


def _visible(plane: NDArray[np.float16], pixels: Float64, distance: Float64) -> NDArray[np.bool_]:
    height, width = plane.shape
    inside = (distance > 1e-9) & (pixels >= 0.0).all(axis=1) & (pixels < [width, height]).all(axis=1)
    columns, rows = np.where(inside[:, None], pixels, 0.0).astype(int).T
    measured = plane[rows, columns].astype(np.float64)
    measured[~np.isfinite(measured)] = 0.0
    return inside & (measured > 0.0) & (np.abs(measured - distance) <= _AGREEMENT * distance)


# --- examine --------------------------------------------------------------------------------------------------------


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults that COLMAP's readers would stop at, or train on."""
    findings = Findings(scene_of)
    for clip in clip_folders(findings, root, scene_of):
        folder = f"{clip}/sparse/0"
        expected = [f"{name}.{suffix}" for name in _NAMES for suffix in ("txt", "bin")]
        missing = [name for name in expected if not (root / folder / name).is_file()]
        for name in missing:
            findings.add(f"{folder}/{name}", FindingKind.MISSING, "it is missing; readers of the model stop")
        examine_strays(findings, root, folder, expected, "readers may take it for part of the model")
        if not missing:
            _examine_model(findings, root, clip, folder)
    return findings.found


def _examine_model(findings: Findings, root: Path, clip: str, folder: str) -> None:
    models = {suffix: _cameras(findings, root, folder, suffix) for suffix in ("txt", "bin")}
    text, binary = models["txt"], models["bin"]
    if text is not None and binary is not None and not _same(text, binary):
        message = "text and binary hold different cameras; readers prefer one or the other"
        findings.add(f"{folder}/images.bin", FindingKind.MISALIGNED, message)
    cameras = text or binary
    if cameras is None:
        return
    files = [f"{clip}/images/{name}" for name in cameras.names]
    consequence = "readers stop, or leave the camera out"
    examine_pictures(findings, root, files, size=cameras.size, depth=False, consequence=consequence)
    examine_strays(findings, root, f"{clip}/images", cameras.names, "the model has no camera for it")
    if cameras.intrinsics is not None:
        fault = lens_fault(cameras.intrinsics, cameras.size)
        if fault is not None:
            findings.add(f"{folder}/cameras.txt", FindingKind.OUT_OF_CONVENTION, f"{fault}; every ray would be wrong")
    _examine_points(findings, root, folder, cameras)


def _cameras(findings: Findings, root: Path, folder: str, suffix: str) -> CameraSequence | None:
    contents = [(root / folder / f"{name}.{suffix}").read_bytes() for name in ("cameras", "images")]
    try:
        return parse_colmap(*contents, binary=suffix == "bin", where=folder)
    except SceneloomError as error:
        file = f"{folder}/cameras.{suffix}" if f"cameras.{suffix}" in error.where else f"{folder}/images.{suffix}"
        findings.add(file, FindingKind.TRUNCATED, f"{error.found}; readers of the model stop")
        return None


def _same(one: CameraSequence, other: CameraSequence) -> bool:
    return (
        one.names == other.names
        and np.allclose(one.c2w, other.c2w, atol=1e-6)
        and one.intrinsics is not None
        and other.intrinsics is not None
        and np.allclose(one.intrinsics, other.intrinsics, rtol=1e-6)
    )


def _examine_points(findings: Findings, root: Path, folder: str, cameras: CameraSequence) -> None:
    """Check that points and observations name each other and agree, in both forms."""
    read = {
        "points3D.txt": read_text_points,
        "points3D.bin": read_binary_points,
        "images.txt": read_text_observations,
        "images.bin": read_binary_observations,
    }
    held: dict[str, Any] = {}
    for name, reader in read.items():
        try:
            held[name] = reader((root / folder / name).read_bytes())
        except (ValueError, IndexError) as error:
            message = f"it cannot be read to its end ({error}); readers of the model stop"
            findings.add(f"{folder}/{name}", FindingKind.TRUNCATED, message)
    for name in ("points3D", "images"):
        text, binary = held.get(f"{name}.txt"), held.get(f"{name}.bin")
        if text is not None and binary is not None and not _equal(text, binary):
            message = "text and binary hold different points; readers prefer one or the other"
            findings.add(f"{folder}/{name}.bin", FindingKind.MISALIGNED, message)
    if "images.txt" in held and "points3D.txt" in held:
        _examine_tracks(findings, folder, cameras, held["images.txt"], held["points3D.txt"])


def _equal(text: Mapping[int, ModelPoint | ModelImage], binary: Mapping[int, ModelPoint | ModelImage]) -> bool:
    return text.keys() == binary.keys() and all(text[key].same(binary[key]) for key in text)


def _examine_tracks(
    findings: Findings,
    folder: str,
    cameras: CameraSequence,
    images: Mapping[int, ModelImage],
    points: Mapping[int, ModelPoint],
) -> None:
    blind = [image.name for image in images.values() if not len(image.points)]
    if blind:
        message = f"{blind[0]} and {len(blind) - 1} others have no observations; 3DGRUT refuses the model"
        findings.add(f"{folder}/images.txt", FindingKind.OUT_OF_CONVENTION, message)
    seen = {
        (identifier, index, point)
        for identifier, image in images.items()
        for index, point in enumerate(image.points.tolist())
    }
    named = {
        (image, index, identifier) for identifier, point in points.items() for image, index in point.track.tolist()
    }
    if seen != named:
        message = f"{len(seen - named)} observations are in no track, {len(named - seen)} track entries name none"
        findings.add(f"{folder}/points3D.txt", FindingKind.MISALIGNED, f"{message}; COLMAP stops")
        return
    worst = _largest_error(cameras, images, points)
    if not worst <= _LARGEST_ERROR:
        message = f"points project up to {worst:.3g} pixels from their observations: poses, lens or points are wrong"
        findings.add(f"{folder}/images.txt", FindingKind.OUT_OF_CONVENTION, message)


def _largest_error(
    cameras: CameraSequence, images: Mapping[int, ModelImage], points: Mapping[int, ModelPoint]
) -> float:
    """Largest distance in pixels, along x or y, between an observation and its point's projection."""
    frames = {name: frame for frame, name in enumerate(cameras.names)}
    worst = 0.0
    for image in images.values():
        if len(image.points) and image.name in frames:
            xyz = np.array([points[point].xyz for point in image.points.tolist()])
            pixels, _ = project(cameras, frames[image.name], xyz)
            worst = max(worst, float(np.abs(pixels - image.pixels).max()))
    return worst


LAYOUT = Layout(
    name="colmap",
    consumer="COLMAP, pycolmap, 3D Gaussian splatting code (gsplat, 3DGS, 3DGRUT, nerfstudio)",
    description="sparse model, text and binary, with points from depth and their tracks, one folder a clip",
    fields=("frames", "cameras", "points"),
    required=("frames", "cameras", "points"),
    write=write,
    examine=examine,
    options={"points": f"about how many points a clip has; {_POINTS} when not given"},
)
