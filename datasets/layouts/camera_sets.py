"""Pictures with cameras for reconstruction code, one folder a clip: nerfstudio, COLMAP, RealEstate10K, TUM RGB-D.

    nerfstudio     <clip>/transforms.json   c2w with OpenGL axes; depth_file_path to 16-bit millimetres, which is what
                   <clip>/images, /depth    nerfstudio's default depth_unit_scale_factor of 0.001 expects
    colmap         see `colmap_model`
    realestate10k  see `realestate10k`
    tum            <clip>/groundtruth.txt   c2w as translation and quaternion, by time
                   <clip>/rgb.txt, depth.txt, rgb/<seconds>.png, depth/<seconds>.png (16 bits, 5000 levels a metre)
                   <clip>/calibration.txt   fx fy cx cy, with the first pixel's centre at (0, 0) as TUM has it

Cameras are the commanded ones, in the world frame and unit of the clip; pictures are numbered so that sorted order is
frame order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..camera_conventions import check_c2w
from ..camera_files import format_nerfstudio, format_tum, parse_nerfstudio, read_cameras
from ..camera_sequence import CameraSequence, number_text
from ..errors import SceneloomError
from . import colmap_model, realestate10k
from .frame_files import (
    MILLIMETRES,
    Findings,
    cameras_of,
    clip_folders,
    clips_of,
    depth_levels,
    examine_pictures,
    examine_strays,
    frame_names,
    json_bytes,
    lens_fault,
    write_pictures,
)
from .release import (
    Finding,
    FindingKind,
    Layout,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)

_TUM_LEVELS = 5000.0


# --- nerfstudio -----------------------------------------------------------------------------------------------------


def _write_nerfstudio(
    directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest
) -> LayoutSummary:
    beyond, count = 0, 0
    for name, scene, clip in clips_of(scenes, "nerfstudio"):
        count += 1
        names = frame_names(clip.frames)
        document = json.loads(format_nerfstudio(cameras_of(clip, tuple(f"images/{file}" for file in names))))
        write_pictures(directory, f"{name}/images", names, clip.rgb(), scene.scene_id)
        if request.wants("depth"):
            levels, lost = depth_levels(clip.depth(), MILLIMETRES)
            beyond += lost
            write_pictures(directory, f"{name}/depth", names, levels, scene.scene_id)
            for frame, file in zip(document["frames"], names, strict=True):
                frame["depth_file_path"] = f"depth/{file}"
        directory.path(f"{name}/transforms.json", scene.scene_id).write_bytes(json_bytes(document))
    notes = ("depth is in millimetres: depth_unit_scale_factor 0.001, nerfstudio's default", *_beyond(beyond, 65.535))
    return LayoutSummary(counts={"clips": count}, notes=notes)


def _beyond(count: int, limit: float) -> tuple[str, ...]:
    return (f"{count} depths beyond {limit} units are marked invalid",) if count else ()


def _examine_nerfstudio(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    findings = Findings(scene_of)
    for clip in clip_folders(findings, root, scene_of):
        file = f"{clip}/transforms.json"
        try:
            content = (root / file).read_bytes()
            cameras = parse_nerfstudio(content, file)
            depth = [frame.get("depth_file_path") for frame in json.loads(content)["frames"]]
        except FileNotFoundError:
            findings.add(file, FindingKind.MISSING, "it is missing; nerfstudio finds no data set here")
            continue
        except (SceneloomError, OSError) as error:
            found = error.found if isinstance(error, SceneloomError) else str(error)
            findings.add(file, FindingKind.TRUNCATED, f"{found}; nerfstudio's parser stops")
            continue
        _examine_cameras(findings, file, cameras)
        consequence = "nerfstudio leaves the frame out or stops when it loads it"
        pictures = [f"{clip}/{name}" for name in cameras.names]
        examine_pictures(findings, root, pictures, size=cameras.size, depth=False, consequence=consequence)
        _examine_listed(findings, root, f"{clip}/images", cameras.names)
        if any(depth) and not all(depth):
            message = "some frames have no depth_file_path; nerfstudio takes depth of all frames or of none"
            findings.add(file, FindingKind.MISALIGNED, message)
        planes = [name for name in depth if name]
        files = [f"{clip}/{name}" for name in planes]
        examine_pictures(findings, root, files, size=cameras.size, depth=True, consequence="nerfstudio stops")
        _examine_listed(findings, root, f"{clip}/depth", planes)
    return findings.found


def _examine_listed(findings: Findings, root: Path, folder: str, names: Sequence[str]) -> None:
    known = [name.rpartition("/")[2] for name in names]
    examine_strays(findings, root, folder, known, "no camera belongs to it, so it is never read")


def _examine_cameras(findings: Findings, file: str, cameras: CameraSequence) -> None:
    if not cameras.names:
        findings.add(file, FindingKind.TRUNCATED, "frames without file_path; their pictures cannot be found")
    if list(cameras.names) != sorted(cameras.names):
        findings.add(file, FindingKind.MISALIGNED, "pictures are not in the order of frames; pairs would be mixed up")
    if cameras.intrinsics is not None:
        fault = lens_fault(cameras.intrinsics, cameras.size)
        if fault is not None:
            findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{fault}; every ray would be wrong")
    try:
        check_c2w(cameras.c2w)
    except SceneloomError as error:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{error.found}; every ray would be wrong")


# --- TUM RGB-D ------------------------------------------------------------------------------------------------------


def _write_tum(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    beyond, count = 0, 0
    for name, scene, clip in clips_of(scenes, "tum"):
        count += 1
        cameras = cameras_of(clip, seconds=True)
        names = [f"{time:.6f}.png" for time in cameras.times]
        write_pictures(directory, f"{name}/rgb", names, clip.rgb(), scene.scene_id)
        contents = {"groundtruth.txt": format_tum(cameras), "calibration.txt": _calibration(cameras)}
        contents["rgb.txt"] = _listing("rgb", names)
        if request.wants("depth"):
            levels, lost = depth_levels(clip.depth(), _TUM_LEVELS)
            beyond += lost
            write_pictures(directory, f"{name}/depth", names, levels, scene.scene_id)
            contents["depth.txt"] = _listing("depth", names)
        for file, content in contents.items():
            directory.path(f"{name}/{file}", scene.scene_id).write_bytes(content)
    notes = ("depth has 5000 levels a unit; rgb, depth and groundtruth share their times", *_beyond(beyond, 13.107))
    return LayoutSummary(counts={"clips": count}, notes=notes)


def _calibration(cameras: CameraSequence) -> bytes:
    """Lens of the first frame; half a pixel less than here, where the first pixel's centre is (0.5, 0.5)."""
    assert cameras.intrinsics is not None
    lens = cameras.intrinsics[0].astype(np.float64) - [0.0, 0.0, 0.5, 0.5]
    return f"# fx fy cx cy, centre of the first pixel at (0, 0)\n{number_text(lens)}\n".encode()


def _listing(folder: str, names: Sequence[str]) -> bytes:
    lines = [f"{name.removesuffix('.png')} {folder}/{name}\n" for name in names]
    return ("# timestamp filename\n" + "".join(lines)).encode()


def _examine_tum(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    findings = Findings(scene_of)
    for clip in clip_folders(findings, root, scene_of):
        file, times = f"{clip}/groundtruth.txt", None
        if not (root / file).is_file():
            findings.add(file, FindingKind.MISSING, "it is missing; TUM's tools have nothing to compare with")
        else:
            try:
                times = read_cameras(root / file, camera_format="tum").times.tolist()
            except (SceneloomError, OSError) as error:
                findings.add(file, FindingKind.TRUNCATED, f"{error}; TUM's tools stop")
        size = _examine_listing(findings, root, clip, "rgb", times, None)
        _examine_calibration(findings, root, f"{clip}/calibration.txt", size)
        if (root / clip / "depth").is_dir() or (root / clip / "depth.txt").is_file():
            _examine_listing(findings, root, clip, "depth", times, size)
    return findings.found


def _examine_calibration(findings: Findings, root: Path, file: str, size: tuple[int, int] | None) -> None:
    try:
        lines = (root / file).read_text().splitlines()
        lens = np.array([line.split() for line in lines if not line.startswith("#")], np.float64)
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "the lens is missing; depth has no rays")
        return
    except (OSError, ValueError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"no four numbers ({error}); depth has no rays")
        return
    fault = f"{lens.size} numbers" if lens.shape != (1, 4) else lens_fault(np.add(lens, [0.0, 0.0, 0.5, 0.5]), size)
    if fault is not None:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{fault}; every ray would be wrong")


def _examine_listing(
    findings: Findings,
    root: Path,
    clip: str,
    kind: str,
    times: Sequence[float] | None,
    size: tuple[int, int] | None,
) -> tuple[int, int] | None:
    """Check `rgb.txt` or `depth.txt` and its pictures; returns their size."""
    file = f"{clip}/{kind}.txt"
    try:
        lines = [line.split() for line in (root / file).read_text().splitlines() if not line.startswith("#")]
        listed = [(float(time), name) for time, name in lines]
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, f"it is missing; TUM's tools find no {kind} pictures")
        return None
    except (OSError, ValueError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"no lines of time and file ({error}); TUM's tools stop")
        return None
    if times is not None and [time for time, _ in listed] != list(times):
        message = f"{len(listed)} times, not those of the {len(times)} poses; association would drop or shift frames"
        findings.add(file, FindingKind.MISALIGNED, message)
    names = [name for _, name in listed]
    consequence = "TUM's tools stop when they read it"
    pictures = [f"{clip}/{name}" for name in names]
    found = examine_pictures(findings, root, pictures, size=size, depth=kind == "depth", consequence=consequence)
    _examine_listed(findings, root, f"{clip}/{kind}", names)
    return found


LAYOUTS = (
    Layout(
        name="nerfstudio",
        consumer="nerfstudio (ns-train … --data FOLDER)",
        description="transforms.json with pictures and depth, one folder a clip",
        fields=("frames", "cameras", "depth"),
        required=("frames", "cameras"),
        write=_write_nerfstudio,
        examine=_examine_nerfstudio,
    ),
    colmap_model.LAYOUT,
    realestate10k.LAYOUT,
    Layout(
        name="tum",
        consumer="TUM RGB-D's tools and readers (evo, Open3D and SLAM systems)",
        description="trajectory, pictures and 16-bit depth by time, one folder a clip",
        fields=("frames", "cameras", "depth"),
        required=("frames", "cameras"),
        write=_write_tum,
        examine=_examine_tum,
    ),
)
