"""Warp kernels of forward warping: one source of code for CPU and CUDA.

One source frame is splatted, the depth of its occluder mesh found (`cover`), and each target pixel's sums are divided,
erased where the mesh lies before them, and merged with the result of the sources before. There are two ways to add up:

- In any order (CUDA): `lower_nearest` finds the nearest depth that reaches each pixel, `deposit` adds up colours and
  depths with weights relative to it, `resolve` divides. The order in which threads come to a pixel cannot change a
  result, for a minimum has no order and the sums are of integers: weights count in 2^-20, and 64 bits are enough for
  2^27 points on one pixel.
- In one order (CPU, where Warp runs a launch's threads one after the other): `find_farthest`, `deposit_in_order` and
  `resolve_in_order` do the same in float32, with weights as they are. That saves a pass and a third of the memory;
  where a million points fall on one pixel, it costs 1 % of the colour.

Positions are rounded to 1/256 of a pixel, so the four bilinear weights are multiples of 2^-16 that add up to 1, and a
point that rounding has moved by less than 1/512 of a pixel still falls on one pixel alone.

Sums have a border of one pixel on each side, which takes what falls half outside and is never read. The source's rows
are padded to a multiple of RUN with depth 0: on the CPU a thread takes RUN pixels in plain loops, which Clang turns
into vector code; on CUDA it takes one.
"""

# Warp's built-ins and kernel annotations are resolved by Warp's own compiler, not by Python's type system.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportInvalidTypeForm=false
# pyright: reportAssignmentType=false, reportGeneralTypeIssues=false

import warp as wp

wp.set_module_options({"enable_backward": False})

RUN = 64
"""Source pixels that one thread of a CPU launch takes; rows are padded to a multiple of it."""

Sums = wp.types.vector(length=6, dtype=wp.int64)
"""Weighted red, green, blue, weight, weighted quality, weighted ratio of the nearest depth to the point's."""

OrderedSums = wp.types.vector(length=8, dtype=wp.float32)
"""Weighted red, green, blue, weight, weighted quality, weighted inverse depth, greatest depth weight, nothing."""

UNSEEN = 3.0e38
"""A depth beyond all others, where nothing landed."""

_RUN = f"""
#if defined(__CUDA_ARCH__)
const int RUN = 1;
#else
const int RUN = {RUN};
#endif
const int begin = run * RUN;
const float* z = depth.data + (size_t)row * depth.shape[1] + begin;
const float y = row + 0.5f;
const float row_z = m.data[2][1] * y + m.data[2][2];
"""

# Where the points of a run fall in `grid`, an array of target pixels with their border: target depth, and the pixel
# above and left of them with the fractions below and right of it, in 1/256 pixels.
_PROJECT = (
    _RUN
    + """
const int pitch = grid.shape[1];
const float limit_x = 256.0f * (grid.shape[1] - 1), limit_y = 256.0f * (grid.shape[0] - 1);
const float row_x = m.data[0][1] * y + m.data[0][2], row_y = m.data[1][1] * y + m.data[1][2];
float target_z[RUN];
int place_x[RUN], place_y[RUN], seen[RUN];
for (int i = 0; i < RUN; ++i) {
    const float x = begin + i + 0.5f, d = z[i];
    const float pz = d * (m.data[2][0] * x + row_z) + b[2];
    const float scale = 256.0f / pz;
    const float fx = (d * (m.data[0][0] * x + row_x) + b[0]) * scale + 128.5f;
    const float fy = (d * (m.data[1][0] * x + row_y) + b[1]) * scale + 128.5f;
    const int ahead = (d > 0.0f ? 1 : 0) & (pz > 0.0f ? 1 : 0);
    const int inside_x = (fx >= 0.0f ? 1 : 0) & (fx < limit_x ? 1 : 0);
    const int inside_y = (fy >= 0.0f ? 1 : 0) & (fy < limit_y ? 1 : 0);
    seen[i] = ahead & inside_x & inside_y;
    target_z[i] = seen[i] ? pz : 1.0f;
    place_x[i] = (int)(seen[i] ? fx : 0.0f);
    place_y[i] = (int)(seen[i] ? fy : 0.0f);
}
"""
)

_FARTHEST = (
    _RUN
    + """
float farthest = 0.0f;
for (int i = 0; i < RUN; ++i) {
    const float pz = z[i] * (m.data[2][0] * (begin + i + 0.5f) + row_z) + b[2];
    const float reached = z[i] > 0.0f ? pz : 0.0f;
    farthest = farthest > reached ? farthest : reached;
}
return farthest;
"""
)

_LOWER_NEAREST = (
    _PROJECT
    + """
#if defined(__CUDA_ARCH__)
#define LOWER(cell) atomicMin((int*)(grid.data + (cell)), __float_as_int(pz))
#else
#define LOWER(cell) if (pz < grid.data[cell]) grid.data[cell] = pz
#endif
for (int i = 0; i < RUN; ++i) {
    if (!seen[i]) continue;
    const float pz = target_z[i];
    const int right = place_x[i] & 255, down = place_y[i] & 255;
    const int cell = (place_y[i] >> 8) * pitch + (place_x[i] >> 8);
    LOWER(cell);
    if (right) { LOWER(cell + 1); }
    if (down) { LOWER(cell + pitch); }
    if (right && down) { LOWER(cell + pitch + 1); }
}
#undef LOWER
"""
)

# The cosine of the angle at each point between the directions to the two cameras, 0 where it is negative.
_FACING = """
float facing[RUN];
const float ray_y = (y - lens[3]) / lens[1];
for (int i = 0; i < RUN; ++i) {
    const float d = z[i], ray_x = (begin + i + 0.5f - lens[2]) / lens[0];
    const float px = d * ray_x, py = d * ray_y;
    const float qx = px - eye[0], qy = py - eye[1], qz = d - eye[2];
    const float dot = px * qx + py * qy + d * qz;
    const float size = (px * px + py * py + d * d) * (qx * qx + qy * qy + qz * qz);
    const float cosine = dot / sqrtf(size > 1e-30f ? size : 1e-30f);
    facing[i] = cosine > 0.0f ? cosine : 0.0f;
}
"""

# soft = ((1 + front) / (1 + pz))^exponent. log2 to 7e-7 on [√½, √2] and exp2 to 5e-7 on [-1, 0] are polynomials through
# the Chebyshev nodes, exact at 1 and at 0: where pz is front the weight is exactly 1.
_SOFT = """
union { float f; int i; } part, power;
part.f = (1.0f + front) / (1.0f + pz);
const int shift = (part.i - 0x3f3504f3) >> 23;
part.i -= shift * (1 << 23);
const float f = part.f - 1.0f;
const float log2 = shift + f * (1.44269652f + f * (-0.72136018f + f * (0.48061313f + f * (-0.35952446f
    + f * (0.29611956f + f * (-0.26796387f + f * 0.16818659f))))));
float t = exponent * log2;
t = t > -126.0f ? t : -126.0f;
t = t < 0.0f ? t : 0.0f;
const int whole = (int)t;
t -= whole;
power.i = (whole + 127) << 23;
const float soft = power.f * (1.0f + t * (0.69314694f + t * (0.24021469f + t * (0.05540856f
    + t * (0.00934423f + t * 0.00100363f)))));
"""

_DEPOSIT = (
    _PROJECT
    + _FACING
    + f"""
int weight[4][RUN], ratio[4][RUN];
for (int corner = 0; corner < 4; ++corner) {{
    const int to_right = corner & 1, below = corner >> 1;
    float bilinear[RUN], before[RUN];
    for (int i = 0; i < RUN; ++i) {{
        const int right = place_x[i] & 255, down = place_y[i] & 255;
        const int share = (to_right ? right : 256 - right) * (below ? down : 256 - down);
        bilinear[i] = (float)(seen[i] ? share : 0);
    }}
    for (int i = 0; i < RUN; ++i) {{
        const int cell = ((place_y[i] >> 8) + below) * pitch + (place_x[i] >> 8) + to_right;
        before[i] = bilinear[i] > 0.0f ? nearest.data[cell] : 1.0f;
    }}
    for (int i = 0; i < RUN; ++i) {{
        // The two launches may round differently: a point that `lower_nearest` put elsewhere is left out.
        const int counts = before[i] < 3.0e38f ? 1 : 0;
        const float pz = target_z[i];
        const float front = counts ? before[i] : 1.0f;
        {_SOFT}
        weight[corner][i] = counts * (int)(bilinear[i] * soft * 16.0f + 0.5f);
        ratio[corner][i] = (int)(front / pz * 65536.0f + 0.5f);
    }}
}}
#if defined(__CUDA_ARCH__)
#define ADD(channel, value) atomicAdd((unsigned long long*)(to + (channel)), (unsigned long long)(value))
#else
#define ADD(channel, value) to[channel] += (value)
#endif
for (int i = 0; i < RUN; ++i) {{
    if (!seen[i]) continue;
    const wp::vec4ub texel = texels.data[(size_t)row * depth.shape[1] + begin + i];
    const int red = texel[0], green = texel[1], blue = texel[2], quality = (int)(facing[i] * texel[3] + 0.5f);
    const int cell = (place_y[i] >> 8) * pitch + (place_x[i] >> 8);
    for (int corner = 0; corner < 4; ++corner) {{
        const int w = weight[corner][i];
        if (w == 0) continue;
        wp::int64* to = &grid.data[cell + (corner >> 1) * pitch + (corner & 1)][0];
        ADD(0, (wp::int64)(w * red));
        ADD(1, (wp::int64)(w * green));
        ADD(2, (wp::int64)(w * blue));
        ADD(3, (wp::int64)w);
        ADD(4, (wp::int64)(w * quality));
        ADD(5, (wp::int64)w * ratio[corner][i]);
    }}
}}
#undef ADD
"""
)

# No sum is negative, so the greatest of a sum and 0 is the sum: one multiply-add and one maximum over eight lanes, the
# seventh of which has a factor of 0 and keeps the greatest weight.
_DEPOSIT_IN_ORDER = (
    _PROJECT
    + _FACING
    + f"""
float weight[RUN], inverse[RUN];
for (int i = 0; i < RUN; ++i) {{
    const float pz = target_z[i], front = 0.0f;
    {_SOFT}
    weight[i] = soft;
    inverse[i] = 1.0f / pz;
}}
for (int i = 0; i < RUN; ++i) {{
    if (!seen[i]) continue;
    const wp::vec4ub texel = texels.data[(size_t)row * depth.shape[1] + begin + i];
    const float w = weight[i];
    const float value[8] = {{(float)texel[0], (float)texel[1], (float)texel[2], 1.0f,
                             facing[i] * texel[3] * (1.0f / 255.0f), inverse[i], 0.0f, 0.0f}};
    const float least[8] = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, w, 0.0f}};
    const float right = (place_x[i] & 255) * (1.0f / 256.0f), down = (place_y[i] & 255) * (1.0f / 256.0f);
    float* to = &grid.data[(place_y[i] >> 8) * pitch + (place_x[i] >> 8)][0];
    const float share[4] = {{(1.0f - right) * (1.0f - down) * w, right * (1.0f - down) * w,
                             (1.0f - right) * down * w, right * down * w}};
    for (int corner = 0; corner < 4; ++corner) {{
        if (share[corner] == 0.0f) continue;
        float* cell = to + 8 * ((corner >> 1) * pitch + (corner & 1));
        for (int k = 0; k < 8; ++k) {{
            const float sum = cell[k] + share[corner] * value[k];
            cell[k] = sum > least[k] ? sum : least[k];
        }}
    }}
}}
"""
)

# One source's pixels of a run of target pixels, as sums to divide: `scale` is what colours are multiplied by, and
# `new_depth` is 0 where nothing landed.
_RESOLVE = f"""
#if defined(__CUDA_ARCH__)
const int RUN = 1;
#else
const int RUN = {RUN};
#endif
const int width = depth.shape[1], begin = run * RUN;
const int count = width - begin < RUN ? width - begin : RUN;
const size_t cell = (size_t)(row + 1) * sums.shape[1] + begin + 1, start = (size_t)row * width + begin;
float sum[6][RUN] = {{}}, scale[RUN], new_depth[RUN], new_confidence[RUN];
"""

_DIVIDE = (
    _RESOLVE
    + """
for (int i = 0; i < count; ++i) {
    const float front = nearest.data[cell + i];
    wp::int64* from = &sums.data[cell + i][0];
    for (int k = 0; k < 6; ++k) sum[k][i] = (float)from[k];
    const int landed = (front < 3.0e38f ? 1 : 0) & (from[3] > 0 ? 1 : 0);
    scale[i] = landed ? 1.0f / sum[3][i] : 0.0f;
    new_depth[i] = landed ? front * (sum[3][i] * 65536.0f / sum[5][i]) : 0.0f;
    const float samples = sum[3][i] * (1.0f / (1 << 20));
    new_confidence[i] = (samples < 1.0f ? samples : 1.0f) * sum[4][i] * scale[i] * (1.0f / 255.0f);
    nearest.data[cell + i] = 3.0e38f;
    for (int k = 0; k < 6; ++k) from[k] = 0;
}
"""
)

_DIVIDE_IN_ORDER = (
    _RESOLVE
    + """
float greatest[RUN] = {};
float* from = &sums.data[cell][0];
for (int i = 0; i < count; ++i) {
    for (int k = 0; k < 6; ++k) sum[k][i] = from[8 * i + k];
    greatest[i] = from[8 * i + 6];
}
for (int k = 0; k < 8 * count; ++k) from[k] = 0.0f;
for (int i = 0; i < RUN; ++i) {
    const int landed = sum[3][i] > 0.0f ? 1 : 0;
    const float total = landed ? sum[3][i] : 1.0f;
    scale[i] = landed ? 1.0f / total : 0.0f;
    new_depth[i] = landed ? total / (landed ? sum[5][i] : 1.0f) : 0.0f;
    const float samples = total / (landed ? greatest[i] : 1.0f);
    new_confidence[i] = (samples < 1.0f ? samples : 1.0f) * sum[4][i] * scale[i];
}
"""
)

_MERGE = """
float* __restrict__ mesh = occluder.data + start;
float* __restrict__ shown_depth = depth.data + start;
float* __restrict__ shown_confidence = confidence.data + start;
float* __restrict__ nearest_of_all = least.data + start;
int taken[RUN], code[3][RUN];
for (int i = 0; i < count; ++i) {
    const float z = new_depth[i], c = new_confidence[i] < 1.0f ? new_confidence[i] : 1.0f;
    const float old_z = first ? 0.0f : shown_depth[i], old_c = first ? 0.0f : shown_confidence[i];
    const float old_least = first ? 0.0f : nearest_of_all[i];
    const int lands = (z > 0.0f ? 1 : 0) & (mesh[i] * (1.0f + margin) >= z ? 1 : 0);
    const int alone = old_least == 0.0f ? 1 : 0;
    const int agrees = (z <= old_least * (1.0f + margin) ? 1 : 0) & (c > old_c ? 1 : 0);
    const int before = old_z > z * (1.0f + margin) ? 1 : 0;
    const int take = lands & (alone | agrees | before);
    const int nearer = lands & (alone | (z < old_least ? 1 : 0));
    nearest_of_all[i] = nearer ? z : old_least;
    shown_depth[i] = take ? z : old_z;
    shown_confidence[i] = take ? c : old_c;
    mesh[i] = 3.0e38f;
    taken[i] = take;
}
for (int k = 0; k < 3; ++k)
    for (int i = 0; i < RUN; ++i) {
        const float level = sum[k][i] * scale[i] + 0.5f;
        code[k][i] = (int)(level < 255.0f ? level : 255.0f);
    }
for (int i = 0; i < count; ++i) {
    wp::vec3ub& pixel = rgb.data[start + i];
    if (taken[i] || first)
        for (int k = 0; k < 3; ++k) pixel[k] = (wp::uint8)(taken[i] ? code[k][i] : 0);
}
"""

# A ray through pixel coordinates (x, y) meets the triangle p, q, r (columns of pixel coordinates times depth, and
# depth) where the three determinants e of (x, y, 1) and two corners have the sign of det(p, q, r), and there its depth
# is det(p, q, r) / sum of e (Olano & Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997). This
# holds for triangles that reach behind the camera, too. Each e is linear in x, so a row's pixels are one span.
_COVER = """
#if defined(__CUDA_ARCH__)
#define LOWER(cell, z) atomicMin((int*)(occluder.data + (cell)), __float_as_int(z))
#else
#define LOWER(cell, z) if (z < occluder.data[cell]) occluder.data[cell] = z
#endif
const int height = occluder.shape[0], width = occluder.shape[1];
double p[3][3];
int ahead = 0;
double top = 1e300, bottom = -1e300;
for (int k = 0; k < 3; ++k) {
    const wp::vec3 corner = corners.data[3 * triangle + k];
    for (int axis = 0; axis < 3; ++axis)
        p[k][axis] = m.data[axis][0] * corner[0] + m.data[axis][1] * corner[1] + m.data[axis][2] * corner[2] + b[axis];
    if (p[k][2] > 0.0) {
        const double v = p[k][1] / p[k][2];
        top = v < top ? v : top;
        bottom = v > bottom ? v : bottom;
        ++ahead;
    }
}
if (ahead == 0) return;
if (ahead < 3) { top = 0.0; bottom = height; }
double e[3][3];
for (int k = 0; k < 3; ++k) {
    const double* q = p[(k + 1) % 3];
    const double* r = p[(k + 2) % 3];
    e[k][0] = q[1] * r[2] - q[2] * r[1];
    e[k][1] = q[2] * r[0] - q[0] * r[2];
    e[k][2] = q[0] * r[1] - q[1] * r[0];
}
double volume = p[0][0] * e[0][0] + p[0][1] * e[0][1] + p[0][2] * e[0][2];
const double sign = volume < 0.0 ? -1.0 : 1.0;
volume *= sign;
if (!(volume > 0.0)) return;
for (int k = 0; k < 3; ++k)
    for (int axis = 0; axis < 3; ++axis)
        e[k][axis] *= sign;
top = top > 0.5 ? top : 0.5;
bottom = bottom < height - 0.5 ? bottom : height - 0.5;
if (top > bottom) return;
for (int row = (int)ceil(top - 0.5); row <= bottom - 0.5; ++row) {
    double left = 0.5, right = width - 0.5, constant[3];
    for (int k = 0; k < 3; ++k) {
        const double slope = e[k][0];
        constant[k] = e[k][1] * (row + 0.5) + e[k][2];
        const double root = -constant[k] / slope;
        if (slope > 0.0) left = root > left ? root : left;
        else if (slope < 0.0) right = root < right ? root : right;
        else if (constant[k] < 0.0) right = -1.0;
    }
    if (left > right) continue;
    const double slope = e[0][0] + e[1][0] + e[2][0], rest = constant[0] + constant[1] + constant[2];
    for (int column = (int)ceil(left - 0.5); column <= right - 0.5; ++column) {
        const float z = (float)(volume / (slope * (column + 0.5) + rest));
        if (z > 0.0f) { LOWER(row * width + column, z); }
    }
}
#undef LOWER
"""


@wp.func_native(_FARTHEST)
def farthest_of_run(depth: wp.array2d[wp.float32], m: wp.mat33, b: wp.vec3, row: wp.int32, run: wp.int32) -> wp.float32:
    """Greatest target depth of the run's points, 0 where none is before the camera."""


@wp.func_native(_LOWER_NEAREST)
def lower_run(
    depth: wp.array2d[wp.float32],
    m: wp.mat33,
    b: wp.vec3,
    row: wp.int32,
    run: wp.int32,
    grid: wp.array2d[wp.float32],
):
    """Lower `grid` to the depths of the run's points."""


@wp.func_native(_DEPOSIT)
def deposit_run(
    depth: wp.array2d[wp.float32],
    texels: wp.array2d[wp.vec4ub],
    m: wp.mat33,
    b: wp.vec3,
    lens: wp.vec4,
    eye: wp.vec3,
    exponent: wp.float32,
    row: wp.int32,
    run: wp.int32,
    nearest: wp.array2d[wp.float32],
    grid: wp.array2d[Sums],
):
    """Add the run's points to the sums of the pixels they fall on."""


@wp.func_native(_DEPOSIT_IN_ORDER)
def deposit_run_in_order(
    depth: wp.array2d[wp.float32],
    texels: wp.array2d[wp.vec4ub],
    m: wp.mat33,
    b: wp.vec3,
    lens: wp.vec4,
    eye: wp.vec3,
    exponent: wp.float32,
    row: wp.int32,
    run: wp.int32,
    grid: wp.array2d[OrderedSums],
):
    """Add the run's points to the sums of the pixels they fall on, which no other thread may touch."""


@wp.func_native(_COVER)
def cover_pixels(
    corners: wp.array[wp.vec3],
    m: wp.mat33d,
    b: wp.vec3d,
    triangle: wp.int32,
    occluder: wp.array2d[wp.float32],
):
    """Lower `occluder` to the triangle's depth where its pixels' centres see the triangle."""


@wp.func_native(_DIVIDE + _MERGE)
def resolve_run(
    nearest: wp.array2d[wp.float32],
    sums: wp.array2d[Sums],
    occluder: wp.array2d[wp.float32],
    margin: wp.float32,
    first: wp.int32,
    row: wp.int32,
    run: wp.int32,
    rgb: wp.array2d[wp.vec3ub],
    depth: wp.array2d[wp.float32],
    confidence: wp.array2d[wp.float32],
    least: wp.array2d[wp.float32],
):
    """See `resolve`."""


@wp.func_native(_DIVIDE_IN_ORDER + _MERGE)
def resolve_run_in_order(
    sums: wp.array2d[OrderedSums],
    occluder: wp.array2d[wp.float32],
    margin: wp.float32,
    first: wp.int32,
    row: wp.int32,
    run: wp.int32,
    rgb: wp.array2d[wp.vec3ub],
    depth: wp.array2d[wp.float32],
    confidence: wp.array2d[wp.float32],
    least: wp.array2d[wp.float32],
):
    """See `resolve_in_order`."""


@wp.kernel
def find_farthest(depth: wp.array2d[wp.float32], m: wp.mat33, b: wp.vec3, farthest: wp.array[wp.float32]):
    """Greatest target depth of each source row, in view or not.

    A source pixel's centre (x, y) of depth d lands at d·m·(x, y, 1) + b: pixel coordinates times target depth, and
    target depth.
    """
    row, run = wp.tid()
    wp.atomic_max(farthest, row, farthest_of_run(depth, m, b, row, run))


@wp.kernel
def lower_nearest(depth: wp.array2d[wp.float32], m: wp.mat33, b: wp.vec3, nearest: wp.array2d[wp.float32]):
    """Least target depth of what reaches each pixel."""
    row, run = wp.tid()
    lower_run(depth, m, b, row, run, nearest)


@wp.kernel
def deposit(
    depth: wp.array2d[wp.float32],
    texels: wp.array2d[wp.vec4ub],
    m: wp.mat33,
    b: wp.vec3,
    lens: wp.vec4,
    eye: wp.vec3,
    exponent: wp.float32,
    nearest: wp.array2d[wp.float32],
    sums: wp.array2d[Sums],
):
    """Add weighted colours, qualities and depths, in any order.

    `texels` are red, green, blue and 255 times the distance factor of an edge; `eye` is the target camera's centre in
    the source camera's axes.
    """
    row, run = wp.tid()
    deposit_run(depth, texels, m, b, lens, eye, exponent, row, run, nearest, sums)


@wp.kernel
def deposit_in_order(
    depth: wp.array2d[wp.float32],
    texels: wp.array2d[wp.vec4ub],
    m: wp.mat33,
    b: wp.vec3,
    lens: wp.vec4,
    eye: wp.vec3,
    exponent: wp.float32,
    sums: wp.array2d[OrderedSums],
):
    """`deposit` for threads that run one after the other."""
    row, run = wp.tid()
    deposit_run_in_order(depth, texels, m, b, lens, eye, exponent, row, run, sums)


@wp.kernel
def cover(corners: wp.array[wp.vec3], m: wp.mat33d, b: wp.vec3d, occluder: wp.array2d[wp.float32]):
    """Depth of the occluder mesh a pixel: what the ray through the pixel's centre meets first.

    `corners` (3F,) are in the source camera's axes; a corner p lands at m·p + b, pixel coordinates times target depth,
    and target depth. float64, because triangles are a pixel wide and seen from the side.
    """
    cover_pixels(corners, m, b, wp.tid(), occluder)


@wp.kernel
def resolve(
    nearest: wp.array2d[wp.float32],
    sums: wp.array2d[Sums],
    occluder: wp.array2d[wp.float32],
    margin: wp.float32,
    first: wp.int32,
    rgb: wp.array2d[wp.vec3ub],
    depth: wp.array2d[wp.float32],
    confidence: wp.array2d[wp.float32],
    least: wp.array2d[wp.float32],
):
    """Make one source's pixels of its sums, merge them with those of the sources before, and clear what was read.

    `rgb`, `depth` and `confidence` are what the sources before gave, and `least` their nearest depth, 0 for none; with
    `first` they are overwritten. Pixels behind the `occluder` by more than the relative `margin` are left out.
    """
    row, run = wp.tid()
    resolve_run(nearest, sums, occluder, margin, first, row, run, rgb, depth, confidence, least)


@wp.kernel
def resolve_in_order(
    sums: wp.array2d[OrderedSums],
    occluder: wp.array2d[wp.float32],
    margin: wp.float32,
    first: wp.int32,
    rgb: wp.array2d[wp.vec3ub],
    depth: wp.array2d[wp.float32],
    confidence: wp.array2d[wp.float32],
    least: wp.array2d[wp.float32],
):
    """`resolve` for the sums of `deposit_in_order`."""
    row, run = wp.tid()
    resolve_run_in_order(sums, occluder, margin, first, row, run, rgb, depth, confidence, least)
