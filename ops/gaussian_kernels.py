"""Warp kernels that composite projected Gaussians front to back, and the hand-written gradient of that.

One thread draws one camera's picture, Gaussian by Gaussian over the pixels of its box: Warp runs the threads of a CPU
one after the other, so that pixels have nothing to gain from threads of their own, and a Gaussian's gradient is summed
without atomic additions, in one order.
"""

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
class Pictures:
    """Pictures of all cameras, one after the other, row by row, and the Gaussians that each is made of.

    Of the `count` Gaussians of a camera the first `settled` need no gradient.
    """

    width: wp.int32
    height: wp.int32
    count: wp.int32
    settled: wp.int32


@wp.func
def box_of(pictures: Pictures, mean: wp.vec2, radius: wp.vec2i) -> wp.vec4i:
    """First column and row, and those after the last, of the pixels whose centres a Gaussian's box holds."""
    return wp.vec4i(
        wp.max(wp.int32(wp.ceil(mean[0] - wp.float32(radius[0]) - 0.5)), 0),
        wp.max(wp.int32(wp.ceil(mean[1] - wp.float32(radius[1]) - 0.5)), 0),
        wp.min(wp.int32(wp.floor(mean[0] + wp.float32(radius[0]) + 0.5)), pictures.width),
        wp.min(wp.int32(wp.floor(mean[1] + wp.float32(radius[1]) + 0.5)), pictures.height),
    )


@wp.func
def offset_of(mean: wp.vec2, column: wp.int32, row: wp.int32) -> wp.vec2:
    """From a pixel's centre to a Gaussian's."""
    return wp.vec2(mean[0] - (wp.float32(column) + 0.5), mean[1] - (wp.float32(row) + 0.5))


@wp.func
def is_asked_for(image_gradient: wp.vec4, leaving_gradient: wp.float32) -> bool:
    """Whether anything of a pixel matters."""
    size = wp.abs(image_gradient[0]) + wp.abs(image_gradient[1]) + wp.abs(image_gradient[2])
    return size + wp.abs(image_gradient[3]) + wp.abs(leaving_gradient) > 0.0


@wp.func
def exponent(conic: wp.vec3, offset: wp.vec2) -> wp.float32:
    """Half the squared Mahalanobis distance; `conic` is the inverse covariance's xx, xy, yy."""
    return (
        0.5 * (conic[0] * offset[0] * offset[0] + conic[2] * offset[1] * offset[1]) + conic[1] * offset[0] * offset[1]
    )


@wp.kernel
def composite(
    pictures: Pictures,
    starts: wp.array1d[wp.int32],
    members: wp.array1d[wp.int32],
    means2d: wp.array1d[wp.vec2],
    conics: wp.array1d[wp.vec3],
    radii: wp.array1d[wp.vec2i],
    opacities: wp.array1d[wp.float32],
    features: wp.array1d[wp.vec4],
    image: wp.array1d[wp.vec4],
    transmittance: wp.array1d[wp.float32],
    ends: wp.array1d[wp.int32],
):
    """One camera a thread: its Gaussians, nearest first.

    `image` starts at 0 and `transmittance` at 1; that of a pixel that has ended becomes negative. `ends` tells how far
    each pixel got in the list; it stays 0 where nothing of a pixel needs a gradient.
    """
    camera = wp.tid()
    first_pixel = camera * pictures.height * pictures.width
    for place in range(starts[camera], starts[camera + 1]):
        member = members[place]
        mean = means2d[member]
        conic = conics[member]
        opacity = opacities[member]
        feature = features[member]
        box = box_of(pictures, mean, radii[member])
        is_settled = member % pictures.count < pictures.settled
        for row in range(box[1], box[3]):
            for column in range(box[0], box[2]):
                pixel = first_pixel + row * pictures.width + column
                remaining = transmittance[pixel]
                if remaining < 0.0:
                    continue
                sigma = exponent(conic, offset_of(mean, column, row))
                if sigma < 0.0 or sigma > LARGEST_EXPONENT:
                    continue
                alpha = wp.min(MAXIMUM_ALPHA, opacity * wp.exp(-sigma))
                if alpha < ALPHA_THRESHOLD:
                    continue
                beyond = remaining * (1.0 - alpha)
                if beyond <= TRANSMITTANCE_STOP:
                    transmittance[pixel] = -remaining
                    continue
                image[pixel] = image[pixel] + feature * (alpha * remaining)
                transmittance[pixel] = beyond
                if ends[pixel] > 0 or not is_settled:
                    ends[pixel] = place + 1


@wp.kernel
def composite_gradient(
    pictures: Pictures,
    starts: wp.array1d[wp.int32],
    members: wp.array1d[wp.int32],
    means2d: wp.array1d[wp.vec2],
    conics: wp.array1d[wp.vec3],
    radii: wp.array1d[wp.vec2i],
    opacities: wp.array1d[wp.float32],
    features: wp.array1d[wp.vec4],
    leaving: wp.array1d[wp.float32],
    ends: wp.array1d[wp.int32],
    image_gradient: wp.array1d[wp.vec4],
    leaving_gradient: wp.array1d[wp.float32],
    remaining: wp.array1d[wp.float32],
    behind: wp.array1d[wp.vec4],
    means2d_gradient: wp.array1d[wp.vec2],
    conics_gradient: wp.array1d[wp.vec3],
    opacities_gradient: wp.array1d[wp.float32],
    features_gradient: wp.array1d[wp.vec4],
):
    """One camera a thread, from its last Gaussian back to its first, so that what lies behind is summed as it goes.

    Each pixel's state moves with it: `remaining`, the transmittance before the Gaussians passed so far, starts as that
    `leaving` the picture, and `behind`, the sum of their features, at 0.
    """
    camera = wp.tid()
    first_pixel = camera * pictures.height * pictures.width
    first, last = starts[camera], starts[camera + 1]
    for step in range(last - first):
        place = last - 1 - step
        member = members[place]
        mean = means2d[member]
        conic = conics[member]
        opacity = opacities[member]
        feature = features[member]
        box = box_of(pictures, mean, radii[member])
        is_settled = member % pictures.count < pictures.settled
        mean_gradient = wp.vec2(0.0, 0.0)
        conic_gradient = wp.vec3(0.0, 0.0, 0.0)
        opacity_gradient = wp.float32(0.0)
        feature_gradient = wp.vec4(0.0, 0.0, 0.0, 0.0)
        for row in range(box[1], box[3]):
            for column in range(box[0], box[2]):
                pixel = first_pixel + row * pictures.width + column
                gradient = image_gradient[pixel]
                if place >= ends[pixel] or not is_asked_for(gradient, leaving_gradient[pixel]):
                    continue
                offset = offset_of(mean, column, row)
                sigma = exponent(conic, offset)
                if sigma < 0.0 or sigma > LARGEST_EXPONENT:
                    continue
                falloff = wp.exp(-sigma)
                unlimited = opacity * falloff
                alpha = wp.min(MAXIMUM_ALPHA, unlimited)
                if alpha < ALPHA_THRESHOLD:
                    continue
                through = 1.0 / (1.0 - alpha)
                before = remaining[pixel] * through
                remaining[pixel] = before
                weight = alpha * before
                after = behind[pixel]
                behind[pixel] = after + feature * weight
                if is_settled:
                    continue
                feature_gradient += gradient * weight
                alpha_gradient = (
                    wp.dot(feature * before - after * through, gradient)
                    - leaving_gradient[pixel] * leaving[pixel] * through
                )
                if unlimited <= MAXIMUM_ALPHA:
                    sigma_gradient = -unlimited * alpha_gradient
                    opacity_gradient += falloff * alpha_gradient
                    conic_gradient += (
                        wp.vec3(0.5 * offset[0] * offset[0], offset[0] * offset[1], 0.5 * offset[1] * offset[1])
                        * sigma_gradient
                    )
                    mean_gradient += (
                        wp.vec2(
                            conic[0] * offset[0] + conic[1] * offset[1],
                            conic[1] * offset[0] + conic[2] * offset[1],
                        )
                        * sigma_gradient
                    )
        means2d_gradient[member] = mean_gradient
        conics_gradient[member] = conic_gradient
        opacities_gradient[member] = opacity_gradient
        features_gradient[member] = feature_gradient
