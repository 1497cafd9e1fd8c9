"""Warp kernel of backward reprojection: one source for CPU and CUDA."""

# Warp's built-ins and kernel annotations are resolved by Warp's own compiler, not by Python's type system.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

import warp as wp

# The numbers of warping_reference.ReprojectionState, and its constants.
NO_DEPTH = wp.constant(0)
OUT_OF_VIEW = wp.constant(1)
UNKNOWN = wp.constant(2)
OCCLUDED = wp.constant(3)
CONFLICT = wp.constant(4)
COVISIBLE = wp.constant(5)


@wp.struct
class Taps:
    """The four source pixels around a coordinate."""

    x0: wp.int32
    y0: wp.int32
    x1: wp.int32
    y1: wp.int32
    fx: wp.float32
    fy: wp.float32


@wp.func
def taps_around(u: wp.float32, v: wp.float32, width: wp.int32, height: wp.int32) -> Taps:
    x = wp.clamp(u - 0.5, 0.0, wp.float32(width - 1))
    y = wp.clamp(v - 0.5, 0.0, wp.float32(height - 1))
    taps = Taps()
    taps.x0 = wp.int32(wp.floor(x))
    taps.y0 = wp.int32(wp.floor(y))
    taps.x1 = wp.min(taps.x0 + 1, width - 1)
    taps.y1 = wp.min(taps.y0 + 1, height - 1)
    taps.fx = x - wp.float32(taps.x0)
    taps.fy = y - wp.float32(taps.y0)
    return taps


@wp.func
def colour_at(image: wp.array3d[wp.uint8], y: wp.int32, x: wp.int32) -> wp.vec3:
    return wp.vec3(wp.float32(image[y, x, 0]), wp.float32(image[y, x, 1]), wp.float32(image[y, x, 2]))


@wp.func
def bilinear_colour(image: wp.array3d[wp.uint8], taps: Taps) -> wp.vec3:
    upper = wp.lerp(colour_at(image, taps.y0, taps.x0), colour_at(image, taps.y0, taps.x1), taps.fx)
    lower = wp.lerp(colour_at(image, taps.y1, taps.x0), colour_at(image, taps.y1, taps.x1), taps.fx)
    return wp.lerp(upper, lower, taps.fy)


@wp.func
def depth_at(depth: wp.array2d[wp.float32], taps: Taps, surface_spread: wp.float32) -> wp.vec3:
    """Depth of the surface, then nearest and farthest valid tap; all 0 where there is no valid depth."""
    a = depth[taps.y0, taps.x0]
    b = depth[taps.y0, taps.x1]
    c = depth[taps.y1, taps.x0]
    d = depth[taps.y1, taps.x1]
    far = wp.max(wp.max(a, b), wp.max(c, d))
    near = wp.min(wp.min(a, b), wp.min(c, d))
    if near > 0.0 and far <= near * (1.0 + surface_spread):
        inverse = wp.lerp(wp.lerp(1.0 / a, 1.0 / b, taps.fx), wp.lerp(1.0 / c, 1.0 / d, taps.fx), taps.fy)
        return wp.vec3(1.0 / inverse, near, far)
    upper = wp.where(taps.fx < 0.5, a, b)
    lower = wp.where(taps.fx < 0.5, c, d)
    nearest_tap = wp.where(taps.fy < 0.5, upper, lower)
    if nearest_tap <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    near = nearest_tap
    if a > 0.0:
        near = wp.min(near, a)
    if b > 0.0:
        near = wp.min(near, b)
    if c > 0.0:
        near = wp.min(near, c)
    if d > 0.0:
        near = wp.min(near, d)
    return wp.vec3(nearest_tap, near, far)


@wp.kernel(enable_backward=False)
def reproject_pixels(
    target_depth: wp.array2d[wp.float32],
    source_rgb: wp.array3d[wp.uint8],
    source_depth: wp.array2d[wp.float32],
    source_from_target: wp.mat44,
    target_intrinsics: wp.vec4,
    source_intrinsics: wp.vec4,
    tolerance: wp.float32,
    surface_spread: wp.float32,
    border: wp.float32,
    state: wp.array2d[wp.uint8],
    colour: wp.array2d[wp.vec3],
    depth: wp.array2d[wp.float32],
    expected_depth: wp.array2d[wp.float32],
):
    row, column = wp.tid()
    colour[row, column] = wp.vec3(0.0, 0.0, 0.0)
    depth[row, column] = 0.0
    expected_depth[row, column] = 0.0
    z = target_depth[row, column]
    if z <= 0.0:
        state[row, column] = wp.uint8(NO_DEPTH)
        return
    x = (wp.float32(column) + 0.5 - target_intrinsics[2]) / target_intrinsics[0] * z
    y = (wp.float32(row) + 0.5 - target_intrinsics[3]) / target_intrinsics[1] * z
    point = wp.transform_point(source_from_target, wp.vec3(x, y, z))
    state[row, column] = wp.uint8(OUT_OF_VIEW)
    if point[2] <= 0.0:
        return
    height = source_depth.shape[0]
    width = source_depth.shape[1]
    u = source_intrinsics[0] * point[0] / point[2] + source_intrinsics[2]
    v = source_intrinsics[1] * point[1] / point[2] + source_intrinsics[3]
    lowest = 0.5 - border
    if u < lowest or v < lowest or u > wp.float32(width) - lowest or v > wp.float32(height) - lowest:
        return
    taps = taps_around(u, v, width, height)
    surface = depth_at(source_depth, taps, surface_spread)
    colour[row, column] = bilinear_colour(source_rgb, taps)
    depth[row, column] = surface[0]
    expected_depth[row, column] = point[2]
    found = UNKNOWN
    if surface[0] > 0.0:
        if point[2] > surface[2] * (1.0 + tolerance):
            found = OCCLUDED
        elif point[2] < surface[1] * (1.0 - tolerance):
            found = CONFLICT
        elif wp.abs(point[2] - surface[0]) <= tolerance * surface[0]:
            found = COVISIBLE
    state[row, column] = wp.uint8(found)
