"""Camera paths in the file formats of the field: npz, Lyra, Gen3R, nerfstudio, COLMAP, TUM, RealEstate10K.

Whatever the format, cameras come out as a `CameraSequence`: camera-to-world, OpenCV axes, the file's own world frame
and unit. Parsers take bytes and the name to blame in an error; `read_cameras` and `write_cameras` add the files.

| format | poses in the file | intrinsics in the file |
|---|---|---|
| `npz` | `c2w` or `w2c` (T,4,4), OpenCV | optional `intrinsics` (T,4), (4,), (T,3,3), (3,3) with the picture's size |
| `lyra` | `pose/<name>.npz`: `data` c2w, `inds` frame numbers | `intrinsics/<name>.npz`: `data` (T,4), `inds` |
| `gen3r` | `extrinsics` T×4×4 w2c | `intrinsics` T×3×3 for a 560×560 picture |
| `gen3r_transforms` | `transform_matrix` c2w, OpenCV | per frame `fl_x fl_y cx cy w h` |
| `nerfstudio` | `transform_matrix` c2w, OpenGL | per file or per frame |
| `colmap` | w2c quaternion wxyz and translation | PINHOLE, per camera |
| `tum` | c2w translation and quaternion xyzw, with time | none |
| `realestate10k` | w2c 3×4, with time in µs | normalised by the picture's size |

`npz` gives the size as `image_height` and `image_width` and may hold `times`; with `w2c` and 3×3 intrinsics it is also
the custom trajectory file of Lyra-2. `lyra` is ViPE's form too.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .camera_conventions import (
    Float64,
    focal_from_field_of_view,
    intrinsics_from_matrix,
    invert_rigid,
    matrix_from_intrinsics,
    opencv_from_opengl,
    opengl_from_opencv,
    quaternion_from_rotation,
    resize_intrinsics,
)
from .camera_sequence import (
    CORRECT_FILE,
    UNDISTORT,
    CameraSequence,
    camera_sequence,
    decode_text,
    image_names,
    number_text,
    poses_from_quaternions,
    repaired_poses,
    require_intrinsics,
)
from .colmap_files import format_colmap, read_colmap
from .errors import InputError, SceneloomError
from .files import write_bytes_atomically

CameraFormat = Literal["npz", "lyra", "gen3r", "gen3r_transforms", "nerfstudio", "colmap", "tum", "realestate10k"]

GEN3R_SIZE = (560, 560)
"""(height, width) for which Gen3R's cameras.json gives its intrinsics (its inference code is fixed to it)."""

_AXES_KEY = "camera_axes"


def read_cameras(path: Path, *, camera_format: CameraFormat | None = None) -> CameraSequence:
    """Read a camera path.

    Args:
        path: the file; for `colmap` the model's folder, or one that holds `sparse/0`.
        camera_format: one of `CameraFormat`; None recognises it from the name and the content. A transforms.json is
            taken for nerfstudio's unless its top level says `"camera_axes": "opencv"`, because the two flavours cannot
            be told apart by their numbers.

    Raises:
        InputError: the file is missing, is not recognised or cannot be used; the message names the place in it.
    """
    if not path.exists():
        raise InputError("no such file", where=str(path), remedy="Correct the path of the camera file.")
    chosen = camera_format or recognise_format(path)
    if chosen == "colmap":
        return read_colmap(path)
    content = path.read_bytes()
    if chosen == "lyra":
        sibling = path.parent.parent / "intrinsics" / path.name
        has_intrinsics = sibling.is_file() and sibling != path
        return parse_lyra(content, sibling.read_bytes() if has_intrinsics else None, where=str(path))
    return _PARSERS[chosen](content, str(path))


def write_cameras(path: Path, cameras: CameraSequence, *, camera_format: CameraFormat) -> None:
    """Write a camera path so that `read_cameras` gives it back; each file appears whole or not at all.

    For `lyra` the path is `<root>/pose/<name>.npz` and the intrinsics go beside it; for `colmap` it is the folder that
    receives a text model (use `format_colmap` for a binary one or for one with points).

    Raises:
        InputError: the format needs intrinsics or their picture size and the sequence does not have them.
    """
    if camera_format == "colmap":
        for name, content in format_colmap(cameras).items():
            write_bytes_atomically(path / name, content)
    elif camera_format == "lyra":
        pose, intrinsics = format_lyra(cameras)
        write_bytes_atomically(path.parent.parent / "intrinsics" / path.name, intrinsics)
        write_bytes_atomically(path, pose)
    else:
        write_bytes_atomically(path, _FORMATTERS[camera_format](cameras))


def recognise_format(path: Path) -> CameraFormat:
    """Format of a camera file by its name and content; see `read_cameras`.

    Raises:
        InputError: it looks like none of the formats.
    """
    if path.is_dir():
        return "colmap"
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return "lyra" if "data" in arrays.files else "npz"
        if path.suffix == ".json":
            content = json.loads(path.read_bytes())
            if "extrinsics" in content:
                return "gen3r"
            if "frames" in content:
                return "gen3r_transforms" if content.get(_AXES_KEY) == "opencv" else "nerfstudio"
        else:
            columns = {len(line.split()) for line in path.read_text().splitlines() if line.strip()}
            if 19 in columns:
                return "realestate10k"
            if 8 in columns:
                return "tum"
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise InputError(f"cannot be read ({error})", where=str(path), remedy=_FORMAT_REMEDY) from error
    raise InputError("not a camera file of a known format", where=str(path), remedy=_FORMAT_REMEDY)


_FORMAT_REMEDY = f"Give one of these formats: {', '.join(get_args(CameraFormat))}."


# --- npz ------------------------------------------------------------------------------------------------------------


def _load_npz(content: bytes, where: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"not an npz of plain arrays ({error})", where=where, remedy=_FORMAT_REMEDY) from error


def _save_npz(**arrays: ArrayLike) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    return buffer.getvalue()


def parse_npz(content: bytes, where: str) -> CameraSequence:
    """Plain npz: see the module's table. Raises InputError."""
    arrays = _load_npz(content, where)
    if "c2w" in arrays:
        c2w = arrays["c2w"]
    elif "w2c" in arrays:
        c2w = invert_rigid(repaired_poses(arrays["w2c"], where=f"{where}: w2c"))
    else:
        found = f"arrays {sorted(arrays)}, neither c2w nor w2c"
        raise InputError(found, where=where, remedy="Name the poses c2w or w2c.")
    intrinsics = _npz_intrinsics(arrays, np.atleast_1d(c2w).shape[0], where)
    return camera_sequence(c2w, intrinsics, _npz_size(arrays, where), where=where, times=arrays.get("times"))


def _npz_size(arrays: Mapping[str, NDArray[Any]], where: str) -> tuple[int, int] | None:
    if "image_height" not in arrays or "image_width" not in arrays:
        return None
    try:
        return int(arrays["image_height"]), int(arrays["image_width"])
    except (ValueError, TypeError, OverflowError) as error:
        found = f"image_height or image_width is no number of pixels ({error})"
        raise InputError(found, where=where, remedy=CORRECT_FILE) from error


def _npz_intrinsics(arrays: Mapping[str, NDArray[Any]], frames: int, where: str) -> Float64 | None:
    if "intrinsics" not in arrays:
        return None
    given = _numbers(arrays["intrinsics"], (None,) * arrays["intrinsics"].ndim, f"{where}: intrinsics")
    if given.shape[-2:] == (3, 3):
        given = _four_intrinsics(given, f"{where}: intrinsics")
    return np.broadcast_to(given, (frames, 4)) if given.shape == (4,) else given


def _four_intrinsics(matrices: Float64, where: str) -> Float64:
    try:
        return intrinsics_from_matrix(matrices)
    except SceneloomError as error:
        raise InputError(error.found, where=where, remedy=error.remedy) from error


def format_npz(cameras: CameraSequence) -> bytes:
    """Plain npz with `c2w`, `times` and, where known, `intrinsics`, `image_height` and `image_width`."""
    arrays: dict[str, ArrayLike] = {"c2w": cameras.c2w, "times": cameras.times}
    if cameras.intrinsics is not None:
        arrays["intrinsics"] = cameras.intrinsics
    if cameras.size is not None:
        arrays |= {"image_height": cameras.size[0], "image_width": cameras.size[1]}
    return _save_npz(**arrays)


def parse_lyra(pose: bytes, intrinsics: bytes | None, *, where: str) -> CameraSequence:
    """Lyra's and ViPE's `data`/`inds` pair; frame numbers become the times, so dropped frames are interpolated later.

    Raises:
        InputError: arrays are missing, or poses and intrinsics are of different frames.
    """
    poses = _load_npz(pose, where)
    _require_keys(poses, ("data", "inds"), where)
    values = None
    if intrinsics is not None:
        loaded = _load_npz(intrinsics, f"{where} (intrinsics)")
        _require_keys(loaded, ("data", "inds"), f"{where} (intrinsics)")
        if not np.array_equal(loaded["inds"], poses["inds"]):
            raise InputError("pose and intrinsics are of different frames", where=where, remedy="Write both again.")
        values = loaded["data"]
    return camera_sequence(poses["data"], values, None, where=where, times=poses["inds"])


def format_lyra(cameras: CameraSequence) -> tuple[bytes, bytes]:
    """`pose/<name>.npz` and `intrinsics/<name>.npz` of Lyra's layout: `data` float32 and `inds` int64.

    Raises:
        InputError: the cameras have no intrinsics, or their times are not whole frame numbers.
    """
    where = "camera file, format lyra"
    if cameras.intrinsics is None:
        raise InputError("the cameras have no intrinsics", where=where, remedy="Add them in pixels of the video.")
    indices = cameras.times.astype(np.int64)
    if not np.array_equal(indices, cameras.times):
        raise InputError("times are not frame numbers", where=where, remedy="Resample the path to frames.")
    return _save_npz(data=cameras.c2w, inds=indices), _save_npz(data=cameras.intrinsics, inds=indices)


def _require_keys(found: Mapping[str, Any], needed: tuple[str, ...], where: str) -> None:
    missing = [key for key in needed if key not in found]
    if missing:
        raise InputError(f"{', '.join(missing)} missing", where=where, remedy=f"It needs {', '.join(needed)}.")


# --- JSON -----------------------------------------------------------------------------------------------------------


def _load_json(content: bytes, where: str) -> dict[str, Any]:
    try:
        loaded = json.loads(content)
    except ValueError as error:
        raise InputError(f"not JSON ({error})", where=where, remedy=_FORMAT_REMEDY) from error
    if not isinstance(loaded, dict):
        raise InputError("not a JSON object", where=where, remedy=_FORMAT_REMEDY)
    return loaded


def _numbers(values: object, shape: tuple[int | None, ...], where: str) -> Float64:
    """Nested lists as an array of the expected shape (None: any length)."""
    try:
        array = np.array(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(f"not numbers ({error})", where=where, remedy=CORRECT_FILE) from error
    matches = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not matches:
        raise InputError(f"shape {array.shape}, expected {shape}", where=where, remedy=CORRECT_FILE)
    return array


def parse_gen3r(content: bytes, where: str) -> CameraSequence:
    """Gen3R's inference cameras.json: `extrinsics` (world-to-camera) and `intrinsics` (3×3). Raises InputError."""
    loaded = _load_json(content, where)
    _require_keys(loaded, ("extrinsics", "intrinsics"), where)
    w2c = _numbers(loaded["extrinsics"], (None, 4, 4), f"{where}: extrinsics")
    matrices = _numbers(loaded["intrinsics"], (None, 3, 3), f"{where}: intrinsics")
    c2w = invert_rigid(repaired_poses(w2c, where=f"{where}: extrinsics"))
    return camera_sequence(c2w, _four_intrinsics(matrices, f"{where}: intrinsics"), GEN3R_SIZE, where=where)


def format_gen3r(cameras: CameraSequence) -> bytes:
    """Gen3R's cameras.json; intrinsics are scaled to 560×560, so the picture should be square already."""
    values, size = require_intrinsics(cameras, "gen3r")
    matrices = matrix_from_intrinsics(resize_intrinsics(values, source=size, target=GEN3R_SIZE))
    return _dump({"extrinsics": invert_rigid(cameras.c2w).tolist(), "intrinsics": matrices.tolist()})


def parse_nerfstudio(content: bytes, where: str) -> CameraSequence:
    """nerfstudio's (and instant-ngp's) transforms.json: camera-to-world with OpenGL axes. Raises InputError."""
    return _parse_transforms(content, where, axes="opengl")


def parse_gen3r_transforms(content: bytes, where: str) -> CameraSequence:
    """Gen3R's training transforms.json: camera-to-world with OpenCV axes. Raises InputError."""
    return _parse_transforms(content, where, axes="opencv")


def _parse_transforms(content: bytes, where: str, *, axes: Literal["opengl", "opencv"]) -> CameraSequence:
    loaded = _load_json(content, where)
    frames = loaded.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise InputError("no frames", where=where, remedy="Give a list `frames` with one entry a camera.")
    poses, intrinsics, sizes, names = [], [], set(), []
    for index, frame in enumerate(frames):
        place = f"{where}: frames[{index}]"
        _require_keys(frame, ("transform_matrix",), place)
        poses.append(_numbers(frame["transform_matrix"], (4, 4), place))
        values, size = _transforms_intrinsics({**loaded, **frame}, place)
        intrinsics.append(values)
        sizes.add(size)
        names.append(str(frame.get("file_path", "")))
    if len(sizes) != 1:
        raise InputError(f"pictures of {len(sizes)} sizes", where=where, remedy="Resize the pictures to one size.")
    stacked = np.stack(poses)
    c2w = opencv_from_opengl(stacked) if axes == "opengl" else stacked
    has_names = all(names)
    return camera_sequence(c2w, np.stack(intrinsics), sizes.pop(), where=where, names=tuple(names) if has_names else ())


def _transforms_intrinsics(entry: Mapping[str, Any], where: str) -> tuple[Float64, tuple[int, int]]:
    """Intrinsics of one frame, its own keys before the file's; fl_y follows fl_x, the centre follows the size."""
    _require_keys(entry, ("w", "h"), where)
    distortion = {key: entry.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2")}
    if any(distortion.values()):
        raise InputError(f"lens distortion {distortion}", where=where, remedy=UNDISTORT)
    if "fl_x" not in entry and "camera_angle_x" not in entry:
        raise InputError("neither fl_x nor camera_angle_x", where=where, remedy="Add fl_x in pixels.")
    try:
        width, height = int(entry["w"]), int(entry["h"])
        if "fl_x" in entry:
            fx = float(entry["fl_x"])
        else:
            fx = float(focal_from_field_of_view(float(entry["camera_angle_x"]), width))
        fy = float(entry.get("fl_y", fx))
        values = [fx, fy, float(entry.get("cx", width / 2.0)), float(entry.get("cy", height / 2.0))]
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"not numbers ({error})", where=where, remedy=CORRECT_FILE) from error
    return np.array(values), (height, width)


def format_nerfstudio(cameras: CameraSequence) -> bytes:
    """nerfstudio's transforms.json, intrinsics per frame."""
    return _format_transforms(cameras, opengl_from_opencv(cameras.c2w), {"camera_model": "OPENCV"})


def format_gen3r_transforms(cameras: CameraSequence) -> bytes:
    """Gen3R's training transforms.json; `camera_axes` tells it apart from nerfstudio's (Gen3R reads `frames` only)."""
    return _format_transforms(cameras, cameras.c2w.astype(np.float64), {_AXES_KEY: "opencv"})


def _format_transforms(cameras: CameraSequence, poses: Float64, head: Mapping[str, str]) -> bytes:
    values, (height, width) = require_intrinsics(cameras, "transforms.json")
    frames = [
        {
            "file_path": name,
            "w": width,
            "h": height,
            "fl_x": fx,
            "fl_y": fy,
            "cx": cx,
            "cy": cy,
            # Floats throughout: a matrix of integers becomes an int64 tensor in Gen3R, which it cannot invert.
            "transform_matrix": pose.tolist(),
        }
        for name, (fx, fy, cx, cy), pose in zip(image_names(cameras), values.tolist(), poses, strict=True)
    ]
    return _dump({**head, "frames": frames})


def _dump(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


# --- text -----------------------------------------------------------------------------------------------------------


def _rows(text: str, columns: int, where: str, *, skip: int = 0) -> Float64:
    """Numbers of every line that is neither empty nor a comment, after `skip` lines; (N, columns)."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if number <= skip or not line.strip() or line.lstrip().startswith("#"):
            continue
        rows.append(_numbers(line.replace(",", " ").split(), (columns,), f"{where}, line {number}"))
    if not rows:
        raise InputError("no cameras", where=where, remedy="Give at least one camera.")
    return np.stack(rows)


def parse_tum(content: bytes, where: str) -> CameraSequence:
    """TUM RGB-D trajectory: lines `time tx ty tz qx qy qz qw`, camera-to-world. Raises InputError."""
    rows = _rows(decode_text(content, where), 8, where)
    c2w = poses_from_quaternions(rows[:, 4:], rows[:, 1:4], order="xyzw", where=where)
    return camera_sequence(c2w, None, None, where=where, times=rows[:, 0])


def format_tum(cameras: CameraSequence) -> bytes:
    """TUM RGB-D trajectory."""
    quaternion = quaternion_from_rotation(cameras.c2w[:, :3, :3], order="xyzw")
    rows = np.concatenate([cameras.times[:, None], cameras.c2w[:, :3, 3], quaternion], axis=1)
    return ("# timestamp tx ty tz qx qy qz qw\n" + "".join(f"{number_text(row)}\n" for row in rows)).encode()


def parse_realestate10k(content: bytes, where: str) -> CameraSequence:
    """RealEstate10K: a source line, then `time fx fy cx cy 0 0` and a 3×4 world-to-camera row-major a line.

    The intrinsics are normalised: `size` is (1, 1), use `resized`. Times are microseconds in the file. Raises
    InputError.
    """
    rows = _rows(decode_text(content, where), 19, where, skip=1)
    w2c = np.tile(np.eye(4), (len(rows), 1, 1))
    w2c[:, :3] = rows[:, 7:].reshape(-1, 3, 4)
    c2w = invert_rigid(repaired_poses(w2c, where=where))
    return camera_sequence(c2w, rows[:, 1:5], (1, 1), where=where, times=rows[:, 0] * 1e-6)


def format_realestate10k(cameras: CameraSequence) -> bytes:
    """RealEstate10K's text; "sceneloom" takes the place of the video's address in the first line."""
    values, size = require_intrinsics(cameras, "realestate10k")
    normalised = resize_intrinsics(values, source=size, target=(1, 1))
    w2c = invert_rigid(cameras.c2w)[:, :3].reshape(-1, 12)
    lines = [
        f"{round(time * 1e6)} {number_text(lens)} 0 0 {number_text(pose)}"
        for time, lens, pose in zip(cameras.times, normalised, w2c, strict=True)
    ]
    return "\n".join(["sceneloom", *lines, ""]).encode()


_PARSERS: dict[str, Callable[[bytes, str], CameraSequence]] = {
    "npz": parse_npz,
    "gen3r": parse_gen3r,
    "gen3r_transforms": parse_gen3r_transforms,
    "nerfstudio": parse_nerfstudio,
    "tum": parse_tum,
    "realestate10k": parse_realestate10k,
}
_FORMATTERS: dict[str, Callable[[CameraSequence], bytes]] = {
    "npz": format_npz,
    "gen3r": format_gen3r,
    "gen3r_transforms": format_gen3r_transforms,
    "nerfstudio": format_nerfstudio,
    "tum": format_tum,
    "realestate10k": format_realestate10k,
}
