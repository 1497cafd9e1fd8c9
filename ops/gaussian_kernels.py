"""Warp kernels that composite projected Gaussians front to back, and the hand-written gradient of that."""

# Warp's built-ins and kernel annotations are resolved by Warp's own compiler, not by Python's type system.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

import warp as wp

wp.set_module_options({"enable_backward": False})

# The numbers of gaussian_projection.
MAXIMUM_ALPHA = wp.constant(0.999)
ALPHA_THRESHOLD = wp.constant(1.0 / 255.0)
TRANSMITTANCE_STOP = wp.constant(1e-4)
LARGEST_EXPONENT = wp.constant(5.55)
"""Above ln 255 = 5.541 alpha is below the threshold at any opacity: the exponential need not be computed."""


@wp.struct
class Grid:
    """Pictures cut into square tiles, row by row; pixels and tiles of all cameras are numbered in one sequence."""

    width: wp.int32
    height: wp.int32
    tile: wp.int32
    tiles_across: wp.int32
    tiles_down: wp.int32


@wp.func
def tile_of(grid: Grid, pixel: wp.int32) -> wp.int32:
    camera = pixel / (grid.width * grid.height)
    within = pixel % (grid.width * grid.height)
    row = (within / grid.width) / grid.tile
    column = (within % grid.width) / grid.tile
    return (camera * grid.tiles_down + row) * grid.tiles_across + column


@wp.func
def centre_of(grid: Grid, pixel: wp.int32) -> wp.vec2:
    within = pixel % (grid.width * grid.height)
    return wp.vec2(wp.float32(within % grid.width) + 0.5, wp.float32(within / grid.width) + 0.5)


@wp.func
def exponent(conic: wp.vec3, offset: wp.vec2) -> wp.float32:
    """Half the squared Mahalanobis distance; `conic` is the inverse covariance's xx, xy, yy."""
    return (
        0.5 * (conic[0] * offset[0] * offset[0] + conic[2] * offset[1] * offset[1]) + conic[1] * offset[0] * offset[1]
    )


@wp.kernel
def composite(
    grid: Grid,
    tile_starts: wp.array1d[wp.int32],
    members: wp.array1d[wp.int32],
    means2d: wp.array1d[wp.vec2],
    conics: wp.array1d[wp.vec3],
    opacities: wp.array1d[wp.float32],
    features: wp.array1d[wp.vec4],
    image: wp.array1d[wp.vec4],
    transmittance: wp.array1d[wp.float32],
    ends: wp.array1d[wp.int32],
):
    """One pixel a thread: its tile's Gaussians, nearest first; `ends` tells how far the pixel got in the list."""
    pixel = wp.tid()
    tile = tile_of(grid, pixel)
    centre = centre_of(grid, pixel)
    total = wp.vec4(0.0, 0.0, 0.0, 0.0)
    remaining = wp.float32(1.0)
    end = tile_starts[tile]
    for place in range(tile_starts[tile], tile_starts[tile + 1]):
        member = members[place]
        sigma = exponent(conics[member], means2d[member] - centre)
        if sigma < 0.0 or sigma > LARGEST_EXPONENT:
            continue
        alpha = wp.min(MAXIMUM_ALPHA, opacities[member] * wp.exp(-sigma))
        if alpha < ALPHA_THRESHOLD:
            continue
        beyond = remaining * (1.0 - alpha)
        if beyond <= TRANSMITTANCE_STOP:
            break
        total += features[member] * (alpha * remaining)
        remaining = beyond
        end = place + 1
    image[pixel] = total
    transmittance[pixel] = remaining
    ends[pixel] = end


@wp.kernel
def composite_gradient(
    grid: Grid,
    tile_starts: wp.array1d[wp.int32],
    members: wp.array1d[wp.int32],
    means2d: wp.array1d[wp.vec2],
    conics: wp.array1d[wp.vec3],
    opacities: wp.array1d[wp.float32],
    features: wp.array1d[wp.vec4],
    transmittance: wp.array1d[wp.float32],
    ends: wp.array1d[wp.int32],
    image_gradient: wp.array1d[wp.vec4],
    transmittance_gradient: wp.array1d[wp.float32],
    means2d_gradient: wp.array1d[wp.vec2],
    conics_gradient: wp.array1d[wp.vec3],
    opacities_gradient: wp.array1d[wp.float32],
    features_gradient: wp.array1d[wp.vec4],
):
    """One pixel a thread, from its last Gaussian back to its first, so that what lies behind is summed as it goes."""
    pixel = wp.tid()
    start = tile_starts[tile_of(grid, pixel)]
    end = ends[pixel]
    centre = centre_of(grid, pixel)
    gradient = image_gradient[pixel]
    leaving = transmittance[pixel]
    leaving_gradient = transmittance_gradient[pixel]
    remaining = leaving
    behind = wp.vec4(0.0, 0.0, 0.0, 0.0)
    for step in range(end - start):
        member = members[end - 1 - step]
        conic = conics[member]
        offset = means2d[member] - centre
        sigma = exponent(conic, offset)
        if sigma < 0.0 or sigma > LARGEST_EXPONENT:
            continue
        falloff = wp.exp(-sigma)
        unlimited = opacities[member] * falloff
        alpha = wp.min(MAXIMUM_ALPHA, unlimited)
        if alpha < ALPHA_THRESHOLD:
            continue
        through = 1.0 / (1.0 - alpha)
        remaining = remaining * through
        weight = alpha * remaining
        feature = features[member]
        wp.atomic_add(features_gradient, member, gradient * weight)
        alpha_gradient = wp.dot(feature * remaining - behind * through, gradient) - leaving_gradient * leaving * through
        behind += feature * weight
        if unlimited <= MAXIMUM_ALPHA:
            sigma_gradient = -unlimited * alpha_gradient
            wp.atomic_add(opacities_gradient, member, falloff * alpha_gradient)
            wp.atomic_add(
                conics_gradient,
                member,
                wp.vec3(0.5 * offset[0] * offset[0], offset[0] * offset[1], 0.5 * offset[1] * offset[1])
                * sigma_gradient,
            )
            wp.atomic_add(
                means2d_gradient,
                member,
                wp.vec2(
                    conic[0] * offset[0] + conic[1] * offset[1],
                    conic[1] * offset[0] + conic[2] * offset[1],
                )
                * sigma_gradient,
            )
