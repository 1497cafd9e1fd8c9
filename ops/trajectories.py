"""Camera paths: the named trajectories of Lyra, Gen3R and VistaDream, and paths that users bring.

Every path starts at the conditioning camera (its first pose is the identity) and is in its frame, metres, OpenCV axes;
only Lyra's reversed trajectories run from far to near and end there.
Lyra's trajectories follow a distance d that is drawn here, once for each (seed, trajectory name), so that a path does
not depend on which other trajectories are asked for, or in what order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ConfigError, InputError
from . import cameras
from .cameras import Float64

Translation = Literal["true", "lyra"]
"""How a Lyra trajectory's positions pᵢ become poses.

* "true": the camera centre is pᵢ, so that the camera really looks at its target.
* "lyra": the world-to-camera translation column is −pᵢ, so that the centre is Rᵢᵀpᵢ and the camera drifts off its
  target as it turns; exactly what Lyra's generator writes. The two agree to first order in the distance.
"""

Facing = Literal["center_facing", "no_rotation", "trajectory_aligned"]
"""Where a Lyra trajectory looks from pᵢ, with c the centre depth: at (0, 0, c); along z; at (0, 0, c) + 2pᵢ."""

Family = Literal["lyra", "gen3r", "vistadream"]

LYRA_VIEWS = ("left", "right", "up", "zoom_out", "zoom_in", "clockwise")
"""The six trajectories of Lyra's training set, in the order of its view directories 0 … 5."""

REVERSED = "_reversed"
"""End of the name of a trajectory that runs its counterpart's poses from last to first."""

LYRA_REVERSED_VIEWS = tuple(name + REVERSED for name in LYRA_VIEWS)
"""The motion-reversed six of Lyra's dynamic set, in the order of its view directories 6 … 11: time runs forwards and
the camera from far to near, so that far cameras are also supervised at early times. (Lyra's generator makes them with
`--flip_supervision`, from distances drawn anew and with poses stored from near to far; here they share the draw of
their counterpart, and the poses are those of the frames.)"""

_POSE_ROUNDING = 1e-5
"""Of poses, metres: float32's."""

_LYRA_SOURCE = "nv-tlabs/lyra, Lyra-1/cosmos_predict1/diffusion/inference/camera_utils.py"
_GEN3R_SOURCE = "JaceyHuang/Gen3R, infer.py, camera presets"
_VISTADREAM_SOURCE = "rerun-io/vistadream, src/vistadream/ops/trajs"


@dataclass(frozen=True, slots=True)
class TrajectoryContext:
    """What a path is scaled to.

    Attributes:
        frames: T, at least 2.
        centre_depth: depth of what the camera looks at first, metres: Lyra's c.
        radius: VistaDream's R, metres (`scene_radius`).
        scene_scale: Gen3R's s, metres (`scene_scale`).
        landscape: whether the picture is wider than high, which widens VistaDream's spiral.
    """

    frames: int
    centre_depth: float
    radius: float | None = None
    scene_scale: float | None = None
    landscape: bool = True

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ConfigError(f"{self.frames} frames", where="trajectory", remedy="A path needs at least 2 frames.")
        for name in ("centre_depth", "radius", "scene_scale"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0.0):
                raise ConfigError(f"{name} {value}", where="trajectory", remedy="Give a length above 0 in metres.")


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A named way to move the camera.

    Attributes:
        name: what it is asked for by.
        family: whose trajectory it is.
        summary: the motion, in words.
        source: where its formula comes from.
        scale: the context's field that its motion follows, "" for pure rotations.
        distance: bounds of the uniform draw of d, in units of the scale; None where nothing is drawn.
        reverses: name of the trajectory whose path, with the same draw, this one runs from last to first; "" for none.
    """

    name: str
    family: Family
    summary: str
    source: str
    scale: Literal["centre_depth", "radius", "scene_scale", ""]
    distance: tuple[float, float] | None
    _motion: Callable[[TrajectoryContext, float], Float64]
    """Lyra: (T, 3) positions for a context and d; others: (T, 4, 4) poses for a context and movement factor."""
    reverses: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CameraPath:
    """A camera path and everything it takes to make it again.

    Attributes:
        name: the trajectory, or the user's name for it.
        c2w: (T, 4, 4) float32, world = first camera's frame, metres.
        draws: what was drawn at random; {"distance": d} for Lyra's trajectories, before the movement factor.
        parameters: all settings as JSON-compatible values, for the record.
        source: where the formula or the cameras come from.
        translation: how positions became poses; "true" for everything but a Lyra path that asked for "lyra".
        movement_factor: factor on the motion, shortening included.
        context: what a registered trajectory was scaled to; None for a user's cameras.
        facing: where a Lyra trajectory looks.
    """

    name: str
    c2w: NDArray[np.float32]
    draws: Mapping[str, float]
    parameters: Mapping[str, object]
    source: str
    translation: Translation = "true"
    movement_factor: float = 1.0
    context: TrajectoryContext | None = None
    facing: Facing = "center_facing"

    def __post_init__(self) -> None:
        cameras.check_c2w(self.c2w, where=f"trajectory {self.name}")


def names() -> tuple[str, ...]:
    """Names of all registered trajectories: Lyra's six in the order of its views, then the others."""
    return tuple(_REGISTRY)


def describe(name: str) -> Trajectory:
    """The registered trajectory of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in _REGISTRY:
        raise ConfigError(
            f"unknown trajectory {name!r}", where="trajectory", remedy=f"Choose one of: {', '.join(_REGISTRY)}."
        )
    return _REGISTRY[name]


def build_path(
    name: str,
    context: TrajectoryContext,
    *,
    seed: int,
    movement_factor: float = 1.0,
    translation: Translation = "true",
    facing: Facing = "center_facing",
) -> CameraPath:
    """Make a registered trajectory.

    Args:
        name: one of `names()`.
        context: number of frames and the scene's scales.
        seed: ≥ 0; with the name it fixes the drawn distance, independently of any other trajectory.
        movement_factor: > 0, factor on the distance covered (on the angle, for pure rotations): Lyra's
            `total_movement_distance_factor`.
        translation: see `Translation`; only Lyra's trajectories know "lyra".
        facing: see `Facing`; only Lyra's trajectories turn by it.

    Raises:
        ConfigError: unknown name, a scale the trajectory needs is missing, a negative seed, a factor that is not
            positive, or one so large that the camera would pass what it looks at.
    """
    trajectory = describe(name)
    if seed < 0:
        raise ConfigError(f"seed {seed}", where=f"trajectory {name}", remedy="Give a seed ≥ 0.")
    if trajectory.scale and getattr(context, trajectory.scale) is None:
        raise ConfigError(
            f"no {trajectory.scale}", where=f"trajectory {name}", remedy=f"Give {trajectory.scale} in the context."
        )
    draws = _draw(trajectory, seed)
    return _assemble(trajectory, context, draws, movement_factor, translation, facing)


def _draw(trajectory: Trajectory, seed: int) -> dict[str, float]:
    if trajectory.distance is None:
        return {}
    name = trajectory.reverses or trajectory.name
    key = np.random.SeedSequence(seed, spawn_key=tuple(name.encode()))
    return {"distance": float(np.random.default_rng(key).uniform(*trajectory.distance))}


def _assemble(
    trajectory: Trajectory,
    context: TrajectoryContext,
    draws: Mapping[str, float],
    movement_factor: float,
    translation: Translation,
    facing: Facing,
) -> CameraPath:
    where = f"trajectory {trajectory.name}"
    if not (np.isfinite(movement_factor) and movement_factor > 0.0):
        raise ConfigError(f"movement factor {movement_factor}", where=where, remedy="Give a factor above 0.")
    parameters: dict[str, object] = {"context": asdict(context)}
    if trajectory.family == "lyra":
        positions = trajectory._motion(context, draws["distance"] * movement_factor)
        c2w = _lyra_poses(positions, context.centre_depth, translation, facing, where)
        parameters["facing"] = facing
    else:
        c2w = trajectory._motion(context, movement_factor)
    return CameraPath(
        name=trajectory.name,
        c2w=(c2w[::-1] if trajectory.reverses else c2w).astype(np.float32),
        draws=draws,
        parameters=parameters,
        source=trajectory.source,
        translation=translation if trajectory.family == "lyra" else "true",
        movement_factor=movement_factor,
        context=context,
        facing=facing,
    )


def path_from_cameras(
    c2w: ArrayLike,
    *,
    name: str,
    source: str,
    frames: int | None = None,
    times: ArrayLike | None = None,
    scale: float = 1.0,
) -> CameraPath:
    """A user's cameras as a path: re-based to the first camera, scaled to metres, resampled to `frames`.

    Args:
        c2w: (K, 4, 4) OpenCV camera-to-world in any world frame.
        name: what to call the path.
        source: where the cameras come from, for the record.
        frames: T; None keeps the K cameras. Other lengths are resampled evenly in time, centres linearly and rotations
            at constant angular speed between neighbours.
        times: (K,) strictly increasing; evenly spaced when None.
        scale: metres per unit of the given translations (COLMAP's unit is arbitrary).

    Raises:
        ContractError: the cameras are no rigid poses or the times do not increase.
        InputError: fewer than 2 cameras or frames, or a scale that is not positive.
    """
    given = np.array(c2w, dtype=np.float64)
    cameras.check_c2w(given, where=source)
    wanted = len(given) if frames is None else frames
    if len(given) < 2 or wanted < 2:
        raise InputError(
            f"{len(given)} cameras for {wanted} frames", where=source, remedy="Give at least 2 cameras and 2 frames."
        )
    if not (np.isfinite(scale) and scale > 0.0):
        raise InputError(f"scale {scale}", where=source, remedy="Give metres per unit, above 0.")
    knots = np.arange(len(given), dtype=np.float64) if times is None else np.asarray(times, dtype=np.float64)
    poses = cameras.poses_relative_to_first(given)
    poses[:, :3, 3] *= scale
    poses = cameras.interpolate_poses(poses, knots, np.linspace(knots[0], knots[-1], wanted))
    parameters = {"cameras": len(given), "frames": wanted, "metres_per_unit": scale, "resampled": wanted != len(given)}
    return CameraPath(name, poses.astype(np.float32), {}, parameters, source)


def scale_path(path: CameraPath, factor: float) -> CameraPath:
    """The same path with its motion about the first camera multiplied by `factor`, the number of frames unchanged.

    A registered trajectory is made again with its movement factor multiplied, the same draw and the same context, so
    that the camera still looks where the trajectory says. A user's path keeps its shape: camera centres are multiplied,
    and each turn from one frame to the next is multiplied in angle about its own axis, which is continuous however
    far the path turns in all.

    Raises:
        ConfigError: the factor is not positive, or a registered trajectory would pass what it looks at.
    """
    if path.context is not None:
        movement_factor = path.movement_factor * factor
        return _assemble(describe(path.name), path.context, path.draws, movement_factor, path.translation, path.facing)
    if not (np.isfinite(factor) and factor > 0.0):
        raise ConfigError(f"factor {factor}", where=f"trajectory {path.name}", remedy="Give a factor above 0.")
    poses = path.c2w.astype(np.float64)
    rotation = poses[:, :3, :3].copy()
    turns = cameras.vector_from_rotation(np.swapaxes(rotation[:-1], 1, 2) @ rotation[1:])
    for index, turn in enumerate(cameras.rotation_from_vector(factor * turns), start=1):
        poses[index, :3, :3] = poses[index - 1, :3, :3] @ turn
    poses[:, :3, 3] *= factor
    return replace(path, c2w=poses.astype(np.float32), movement_factor=path.movement_factor * factor)


def is_reversed(path: CameraPath) -> bool:
    """Whether the path is a registered trajectory that is another one's from last to first."""
    return path.context is not None and bool(describe(path.name).reverses)


def runs_backwards(c2w: Sequence[ArrayLike] | NDArray[np.floating], seen_from: ArrayLike | None = None) -> bool:
    """Whether cameras end nearer to where their scene was seen from than they begin, beyond what float32 resolves: such
    a path is made, and compared, from its end. One that ends where it begins does not.

    Args:
        c2w: (T, 4, 4) poses.
        seen_from: (T, 4, 4) poses of the input's camera, or (1, 4, 4) of one that stands still; None: the identity, the
            conditioning camera.
    """
    places = np.eye(4)[None] if seen_from is None else np.asarray(seen_from, np.float64)
    first, last = (float(np.linalg.norm(np.asarray(c2w[at], np.float64) - places[at])) for at in (0, -1))
    return last < first - _POSE_ROUNDING


def reversed_in_time(path: CameraPath) -> CameraPath:
    """The same cameras from last to first, under the name of the trajectory's counterpart.

    Raises:
        ConfigError: the trajectory has no counterpart.
    """
    counterpart = path.name.removesuffix(REVERSED) if path.name.endswith(REVERSED) else path.name + REVERSED
    describe(counterpart)
    return replace(path, name=counterpart, c2w=np.ascontiguousarray(path.c2w[::-1]))


def scene_radius(depth: NDArray[np.floating], intrinsics: ArrayLike) -> float:
    """VistaDream's R, metres: mean over x, y and z of the 5th-to-50th percentile range of the first view's points.

    Args:
        depth: (H, W) z-depth, 0 = invalid.
        intrinsics: (4,) pixels.

    Raises:
        InputError: no valid depth.
    """
    height, width = depth.shape
    rows, columns = np.nonzero(depth > 0)
    if len(rows) == 0:
        raise InputError("no valid depth", where=f"depth map {width}×{height}", remedy="Give a view of a surface.")
    pixels = np.stack([columns + 0.5, rows + 0.5], axis=-1)
    points = cameras.unproject(pixels, depth[rows, columns], np.eye(4), intrinsics)
    low, middle = np.percentile(points, [5.0, 50.0], axis=0)
    return float((middle - low).mean())


def scene_scale(depth: NDArray[np.floating]) -> float:
    """Gen3R's s, metres: 0.8 × the median of all valid depth.

    Raises:
        InputError: no valid depth.
    """
    valid = depth[depth > 0]
    if valid.size == 0:
        raise InputError("no valid depth", where="depth map", remedy="Give a view of a surface.")
    return 0.8 * float(np.median(valid))


# --- Lyra -----------------------------------------------------------------------------------------------------------


def _lyra_poses(
    positions: Float64, centre_depth: float, translation: Translation, facing: Facing, where: str
) -> Float64:
    """(T, 4, 4) poses at (T, 3) positions; see `Translation` and `Facing`."""
    ahead = np.array([0.0, 0.0, centre_depth])
    targets = ahead + {"center_facing": 0.0, "no_rotation": 1.0, "trajectory_aligned": 2.0}[facing] * positions
    if not (targets[:, 2] - positions[:, 2] > 1e-3 * centre_depth).all():
        raise ConfigError(
            "the camera would pass what it looks at",
            where=where,
            remedy="Lower the movement factor, or choose no_rotation.",
        )
    poses = cameras.look_at(positions, targets)
    if translation == "lyra":
        poses[:, :3, 3] = (poses[:, :3, :3] @ positions[:, :, None])[:, :, 0]
    return poses


def _line(axis: int, sign: float) -> Callable[[TrajectoryContext, float], Float64]:
    """pᵢ = ±i·d·c/N along an axis. Division is by N, not N − 1, so the last frame stops short of d·c by 1/N."""

    def positions(context: TrajectoryContext, distance: float) -> Float64:
        points = np.zeros((context.frames, 3))
        points[:, axis] = sign * distance * context.centre_depth * np.arange(context.frames) / context.frames
        return points

    return positions


def _circle(sign: float) -> Callable[[TrajectoryContext, float], Float64]:
    """Two ellipses in the image plane: θ = 4π·i/(N − 1), x = ±0.15·d·c·(cos θ − 1), y = 0.10·d·c·sin θ."""

    def positions(context: TrajectoryContext, distance: float) -> Float64:
        angle = 4.0 * np.pi * np.linspace(0.0, 1.0, context.frames)
        size = distance * context.centre_depth
        x, y = sign * 0.15 * size * (np.cos(angle) - 1.0), 0.10 * size * np.sin(angle)
        return np.stack([x, y, np.zeros_like(x)], axis=-1)

    return positions


# --- Gen3R ----------------------------------------------------------------------------------------------------------

_GEN3R_ANGLE = np.radians(15.0)


def _gen3r_zoom(sign: float) -> Callable[[TrajectoryContext, float], Float64]:
    """z from 0 to ±s, linear in i/(F − 1)."""

    def poses(context: TrajectoryContext, factor: float) -> Float64:
        assert context.scene_scale is not None
        moved = _at_origin(context.frames)
        moved[:, 2, 3] = np.linspace(0.0, sign * factor * context.scene_scale, context.frames)
        return moved

    return poses


def _gen3r_turn(axis: ArrayLike) -> Callable[[TrajectoryContext, float], Float64]:
    """Rotation about the camera's own centre from 0 to 15° about `axis`, linear in i/(F − 1); nothing moves, though
    the presets are called arc and translate."""

    def poses(context: TrajectoryContext, factor: float) -> Float64:
        angle = np.linspace(0.0, factor * _GEN3R_ANGLE, context.frames)
        return _at_origin(context.frames, cameras.rotation_from_vector(angle[:, None] * np.asarray(axis)))

    return poses


def _still(context: TrajectoryContext, _factor: float) -> Float64:
    """The first camera throughout."""
    return _at_origin(context.frames)


def _at_origin(frames: int, rotation: Float64 | None = None) -> Float64:
    poses = np.tile(np.eye(4), (frames, 1, 1))
    if rotation is not None:
        poses[:, :3, :3] = rotation
    return poses


# --- VistaDream -----------------------------------------------------------------------------------------------------


def _spiral(context: TrajectoryContext, factor: float) -> Float64:
    """r = 0.3·R·sin τ: x = a·r·cos τ, y = 0.3·r·sin τ, z = −r times 0.3 where negative and 0.4 where positive.

    τ runs from 2π to 0, backwards as in the original; a is 1 for landscape pictures and 0.6 for others; the camera
    looks at (0, 0, 0.5·R).
    """
    return _loop(context, factor, down=1.0, across=1.0 if context.landscape else 0.6, near=0.3, far=0.4, reverse=True)


def _wobble(context: TrajectoryContext, factor: float) -> Float64:
    """As the spiral, with y upwards, z multiplied by 0.4 where negative and 0.3 where positive, and time forwards."""
    return _loop(context, factor, down=-1.0, across=1.0, near=0.4, far=0.3, reverse=False)


def _loop(
    context: TrajectoryContext, factor: float, *, down: float, across: float, near: float, far: float, reverse: bool
) -> Float64:
    """VistaDream's loop. Its angle is 2πtN with t = i/(N − 1), which is 2πt up to whole turns: no spiral, but a
    Lissajous figure."""
    assert context.radius is not None
    turn = 2.0 * np.pi * np.linspace(0.0, 1.0, context.frames)
    angle = turn[::-1] if reverse else turn
    size = 0.3 * context.radius * np.sin(angle)
    x, y, z = across * size * np.cos(angle), 0.3 * down * size * np.sin(angle), -size
    z = np.where(z < 0.0, near * z, far * z)
    positions = factor * np.stack([x, y, z], axis=-1)
    return _looking_at(positions, np.array([0.0, 0.0, 0.5 * context.radius]))


def _looking_at(positions: Float64, target: Float64) -> Float64:
    if not (positions[:, 2] < target[2]).all():
        raise ConfigError(
            "the camera would pass what it looks at", where="trajectory", remedy="Lower the movement factor."
        )
    return cameras.look_at(positions, target)


def _turn_round(context: TrajectoryContext, factor: float) -> Float64:
    """One whole turn to the right about the camera's own centre: forward (sin τ, 0, cos τ), τ = 2πt."""
    angle = 2.0 * np.pi * factor * np.linspace(0.0, 1.0, context.frames)
    return _at_origin(context.frames, cameras.rotation_from_vector(angle[:, None] * np.array([0.0, 1.0, 0.0])))


# --- registry -------------------------------------------------------------------------------------------------------


def _lyra(
    name: str, summary: str, distance: tuple[float, float], motion: Callable[[TrajectoryContext, float], Float64]
) -> Trajectory:
    return Trajectory(name, "lyra", summary, _LYRA_SOURCE, "centre_depth", distance, motion)


def _backwards(forward: Trajectory) -> Trajectory:
    summary = f"{forward.summary}; from there back to the conditioning camera"
    return replace(forward, name=forward.name + REVERSED, summary=summary, reverses=forward.name)


_TRAJECTORIES = (
    _lyra("left", "to the left by d·c, d in 0.2 … 0.3", (0.2, 0.3), _line(0, -1.0)),
    _lyra("right", "to the right by d·c, d in 0.2 … 0.3", (0.2, 0.3), _line(0, 1.0)),
    _lyra("up", "upwards by d·c, d in 0.1 … 0.2", (0.1, 0.2), _line(1, -1.0)),
    _lyra("zoom_out", "backwards by d·c, d in 0.3 … 0.4", (0.3, 0.4), _line(2, -1.0)),
    _lyra("zoom_in", "forwards by d·c, d in 0.3 … 0.4", (0.3, 0.4), _line(2, 1.0)),
    _lyra("clockwise", "two ellipses, 0.15·d·c by 0.10·d·c, d in 0.4 … 0.6", (0.4, 0.6), _circle(1.0)),
    # Lyra's code knows these two but its training set does not draw them: they take the range of their mirror image.
    _lyra("down", "downwards by d·c, d in 0.1 … 0.2", (0.1, 0.2), _line(1, 1.0)),
    _lyra("counterclockwise", "clockwise mirrored in x", (0.4, 0.6), _circle(-1.0)),
    Trajectory("gen3r_zoom_in", "gen3r", "forwards by s", _GEN3R_SOURCE, "scene_scale", None, _gen3r_zoom(1.0)),
    Trajectory("gen3r_zoom_out", "gen3r", "backwards by s", _GEN3R_SOURCE, "scene_scale", None, _gen3r_zoom(-1.0)),
    Trajectory(
        "gen3r_arc_right", "gen3r", "turns right by 15° in place", _GEN3R_SOURCE, "", None, _gen3r_turn([0, 1, 0])
    ),
    Trajectory(
        "gen3r_arc_left", "gen3r", "turns left by 15° in place", _GEN3R_SOURCE, "", None, _gen3r_turn([0, -1, 0])
    ),
    Trajectory(
        "gen3r_translate_up", "gen3r", "tilts up by 15° in place", _GEN3R_SOURCE, "", None, _gen3r_turn([1, 0, 0])
    ),
    Trajectory(
        "gen3r_translate_down", "gen3r", "tilts down by 15° in place", _GEN3R_SOURCE, "", None, _gen3r_turn([-1, 0, 0])
    ),
    Trajectory("gen3r_free", "gen3r", "does not move", _GEN3R_SOURCE, "", None, _still),
    Trajectory(
        "vistadream_spiral", "vistadream", "loop of 0.3·R that looks down", _VISTADREAM_SOURCE, "radius", None, _spiral
    ),
    Trajectory(
        "vistadream_wobble", "vistadream", "loop of 0.3·R that looks up", _VISTADREAM_SOURCE, "radius", None, _wobble
    ),
    Trajectory("vistadream_rot", "vistadream", "turns right once in place", _VISTADREAM_SOURCE, "", None, _turn_round),
)
_REGISTRY: Mapping[str, Trajectory] = {
    trajectory.name: trajectory
    for trajectory in (*_TRAJECTORIES, *(_backwards(each) for each in _TRAJECTORIES if each.name in LYRA_VIEWS))
}
