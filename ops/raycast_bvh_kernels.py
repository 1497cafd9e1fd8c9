"""Bounding volume hierarchy with eight children a node and four triangles a leaf, built and walked by Warp code.

The wide layout exists for the CPU: a node's boxes lie side by side in memory, so its eight tests are one pass of vector
instructions, and so are a leaf's four triangles. The walk is written in portable C++ with plain loops over these lanes,
which Clang turns into vector code; on CUDA the same text runs one ray a thread.
"""

# Warp's built-ins and kernel annotations are resolved by Warp's own compiler, not by Python's type system.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportInvalidTypeForm=false
# pyright: reportAssignmentType=false, reportGeneralTypeIssues=false

import re

import warp as wp

wp.set_module_options({"enable_backward": False})

WIDTH = 8
"""Children of a node."""

LANES = 4
"""Triangles of a leaf."""

BINS = wp.constant(16)
NODE_COST = wp.constant(1.0)
LEAF_COST = wp.constant(1.0)
MEDIAN_DEPTH = wp.constant(48)
STACK = wp.constant(64)

WALK_STACK = 192
"""Nodes that can wait during a walk."""

MAX_LEVELS = WALK_STACK // (WIDTH - 1)


@wp.func
def half_area(lower: wp.vec3, upper: wp.vec3) -> float:
    side = upper - lower
    if side[0] < 0.0:
        return 0.0
    return side[0] * side[1] + side[1] * side[2] + side[2] * side[0]


@wp.func
def leaves(count: int) -> float:
    return float((count + LANES - 1) / LANES)


@wp.func
def bin_of(centre: float, lowest: float, scale: float) -> int:
    return wp.clamp(int((centre - lowest) * scale), 0, BINS - 1)


@wp.kernel
def build_binary_tree(
    lower: wp.array[wp.vec3],
    upper: wp.array[wp.vec3],
    order: wp.array[wp.int32],
    node_lower: wp.array[wp.vec3],
    node_upper: wp.array[wp.vec3],
    node_child: wp.array[wp.int32],
    node_range: wp.array[wp.vec2i],
):
    """One thread builds the tree top down, splitting where the binned surface area heuristic is lowest.

    `order` (F,) starts as 0 … F-1 and ends with each leaf's triangles side by side; `node_child` is the first of a
    node's two neighbouring children, or -1 for a leaf; `node_range` its part of `order`.
    """
    stack = wp.zeros(shape=(STACK,), dtype=wp.int32)
    depths = wp.zeros(shape=(STACK,), dtype=wp.int32)
    bin_lower = wp.zeros(shape=(BINS,), dtype=wp.vec3)
    bin_upper = wp.zeros(shape=(BINS,), dtype=wp.vec3)
    bin_count = wp.zeros(shape=(BINS,), dtype=wp.int32)
    right_cost = wp.zeros(shape=(BINS,), dtype=wp.float32)
    big = wp.vec3(wp.inf, wp.inf, wp.inf)
    node_range[0] = wp.vec2i(0, order.shape[0])
    used = wp.int32(1)
    size = wp.int32(1)
    stack[0] = 0
    depths[0] = 0
    while size > 0:
        size -= 1
        node = stack[size]
        depth = depths[size]
        begin = node_range[node][0]
        end = node_range[node][1]
        count = end - begin
        low = big
        high = -big
        centre_low = big
        centre_high = -big
        for place in range(begin, end):
            item = order[place]
            low = wp.min(low, lower[item])
            high = wp.max(high, upper[item])
            centre = lower[item] + upper[item]
            centre_low = wp.min(centre_low, centre)
            centre_high = wp.max(centre_high, centre)
        node_lower[node] = low
        node_upper[node] = high
        node_child[node] = -1
        best_cost = wp.float32(wp.inf)
        best_axis = wp.int32(-1)
        best_split = wp.int32(0)
        extent = centre_high - centre_low
        if count > 1 and depth < MEDIAN_DEPTH:
            for axis in range(3):
                if extent[axis] > 0.0:
                    scale = float(BINS) / extent[axis]
                    for b in range(BINS):
                        bin_lower[b] = big
                        bin_upper[b] = -big
                        bin_count[b] = 0
                    for place in range(begin, end):
                        item = order[place]
                        b = bin_of(lower[item][axis] + upper[item][axis], centre_low[axis], scale)
                        bin_lower[b] = wp.min(bin_lower[b], lower[item])
                        bin_upper[b] = wp.max(bin_upper[b], upper[item])
                        bin_count[b] = bin_count[b] + 1
                    sweep_low = big
                    sweep_high = -big
                    sweep_count = wp.int32(0)
                    for back in range(BINS - 1):
                        b = BINS - 1 - back
                        sweep_low = wp.min(sweep_low, bin_lower[b])
                        sweep_high = wp.max(sweep_high, bin_upper[b])
                        sweep_count += bin_count[b]
                        right_cost[b] = half_area(sweep_low, sweep_high) * leaves(sweep_count)
                    sweep_low = big
                    sweep_high = -big
                    sweep_count = wp.int32(0)
                    for b in range(BINS - 1):
                        sweep_low = wp.min(sweep_low, bin_lower[b])
                        sweep_high = wp.max(sweep_high, bin_upper[b])
                        sweep_count += bin_count[b]
                        cost = half_area(sweep_low, sweep_high) * leaves(sweep_count) + right_cost[b + 1]
                        if sweep_count > 0 and sweep_count < count and cost < best_cost:
                            best_cost = cost
                            best_axis = axis
                            best_split = b
        area = half_area(low, high)
        split = count > LANES or (best_axis >= 0 and NODE_COST * area + LEAF_COST * best_cost < LEAF_COST * area)
        if split:
            middle = wp.int32(begin + count / 2)
            if best_axis >= 0:
                scale = float(BINS) / extent[best_axis]
                middle = begin
                for place in range(begin, end):
                    item = order[place]
                    centre_on_axis = lower[item][best_axis] + upper[item][best_axis]
                    if bin_of(centre_on_axis, centre_low[best_axis], scale) <= best_split:
                        order[place] = order[middle]
                        order[middle] = item
                        middle += 1
            node_child[node] = used
            node_range[used] = wp.vec2i(begin, middle)
            node_range[used + 1] = wp.vec2i(middle, end)
            # The larger half waits, so that at most log2(F) + 1 entries are on the stack.
            first = used
            if middle - begin < end - middle:
                first = used + 1
            stack[size] = first
            depths[size] = depth + 1
            stack[size + 1] = used + used + 1 - first
            depths[size + 1] = depth + 1
            size += 2
            used += 2


@wp.kernel
def widen_tree(
    node_lower: wp.array[wp.vec3],
    node_upper: wp.array[wp.vec3],
    node_child: wp.array[wp.int32],
    node_range: wp.array[wp.vec2i],
    order: wp.array[wp.int32],
    box: wp.array3d[wp.float32],
    child: wp.array2d[wp.int32],
    block: wp.array2d[wp.int32],
    level: wp.array[wp.int32],
    used: wp.array[wp.int32],
):
    """One thread gathers up to WIDTH descendants under each node, opening the one of largest surface first.

    `box` (N, 6, WIDTH) lower x, y, z and upper x, y, z; empty places hold inf and -inf. `child` (N, WIDTH) is a node,
    or -1 - leaf. `block` (L, LANES) lists the leaves' triangles, -1 for none. `level` (N,) counts nodes from the root.
    `used` returns (nodes, leaves, levels).
    """
    member = wp.zeros(shape=(WIDTH,), dtype=wp.int32)
    nodes = wp.int32(1)
    blocks = wp.int32(0)
    # A wide node's binary counterpart is kept in child[node, 0] until the node's turn comes.
    child[0, 0] = 0
    level[0] = 1
    node = wp.int32(0)
    while node < nodes:
        member[0] = child[node, 0]
        members = wp.int32(1)
        growing = wp.bool(True)
        while growing and members < WIDTH:
            largest = wp.int32(-1)
            largest_area = wp.float32(-1.0)
            for place in range(members):
                candidate = member[place]
                if node_child[candidate] >= 0:
                    area = half_area(node_lower[candidate], node_upper[candidate])
                    if area > largest_area:
                        largest = place
                        largest_area = area
            growing = largest >= 0
            if growing:
                first = node_child[member[largest]]
                member[largest] = first
                member[members] = first + 1
                members += 1
        for place in range(WIDTH):
            low = wp.vec3(wp.inf, wp.inf, wp.inf)
            high = -low
            if place < members:
                source = member[place]
                low = node_lower[source]
                high = node_upper[source]
                if node_child[source] >= 0:
                    child[node, place] = nodes
                    child[nodes, 0] = source
                    level[nodes] = level[node] + 1
                    nodes += 1
                else:
                    begin = node_range[source][0]
                    for lane in range(LANES):
                        block[blocks, lane] = -1
                        if begin + lane < node_range[source][1]:
                            block[blocks, lane] = order[begin + lane]
                    child[node, place] = -1 - blocks
                    blocks += 1
            for axis in range(3):
                box[node, axis, place] = low[axis]
                box[node, axis + 3, place] = high[axis]
        node += 1
    used[0] = nodes
    used[1] = blocks
    used[2] = level[nodes - 1]


_WALK = """
#if defined(__CUDA_ARCH__)
#define LOWEST_BIT(mask) (__ffs(mask) - 1)
#else
#define LOWEST_BIT(mask) __builtin_ctz(mask)
#endif
const int W = WIDTH, L = LANES;
int waiting[WALK_STACK];
float waiting_t[WALK_STACK];
int size = 0;
const float ox = origin[0], oy = origin[1], oz = origin[2];
const float dx = direction[0], dy = direction[1], dz = direction[2];
// A direction along an axis gets a reciprocal that is huge but finite: 0 * inf would be NaN.
const float rx = 1.0f / (fabsf(dx) > 1e-18f ? dx : (dx < 0.0f ? -1e-18f : 1e-18f));
const float ry = 1.0f / (fabsf(dy) > 1e-18f ? dy : (dy < 0.0f ? -1e-18f : 1e-18f));
const float rz = 1.0f / (fabsf(dz) > 1e-18f ? dz : (dz < 0.0f ? -1e-18f : 1e-18f));
const int near_x = rx > 0.0f ? 0 : 3 * W, far_x = 3 * W - near_x;
const int near_y = ry > 0.0f ? W : 4 * W, far_y = 5 * W - near_y;
const int near_z = rz > 0.0f ? 2 * W : 5 * W, far_z = 7 * W - near_z;
float best_t = reach, best_u = 0.0f, best_v = 0.0f;
int best_face = -1;
int node = 0;
while (true) {
    if (node >= 0) {
        const float* box = boxes.data + node * 6 * W;
        const int* children = child.data + node * W;
        float enter[W];
        int met = 0;
        for (int i = 0; i < W; ++i) {
            const float ax = (box[near_x + i] - ox) * rx, bx = (box[far_x + i] - ox) * rx;
            const float ay = (box[near_y + i] - oy) * ry, by = (box[far_y + i] - oy) * ry;
            const float az = (box[near_z + i] - oz) * rz, bz = (box[far_z + i] - oz) * rz;
            float a = ax > ay ? ax : ay;
            a = a > az ? a : az;
            a = a > 0.0f ? a : 0.0f;
            float b = bx < by ? bx : by;
            b = b < bz ? b : bz;
            b *= 1.0000004f;  // three roundings (Ize, "Robust BVH ray traversal", 2013)
            b = b < best_t ? b : best_t;
            enter[i] = a;
            met |= (a <= b ? 1 : 0) << i;
        }
        if (met) {
            // The nearest child comes next, the others wait in order of their distance, the nearest on top.
            const int base = size;
            while (met) {
                const int i = LOWEST_BIT(met);
                met &= met - 1;
                const float t = enter[i];
                const int c = children[i];
                int place = size++;
                while (place > base && waiting_t[place - 1] < t) {
                    waiting_t[place] = waiting_t[place - 1];
                    waiting[place] = waiting[place - 1];
                    --place;
                }
                waiting_t[place] = t;
                waiting[place] = c;
            }
            node = waiting[--size];
            continue;
        }
    } else {
        const int leaf = -1 - node;
        const float* p = corners.data + leaf * 9 * L;
        float ts[L], us[L], vs[L];
        int met = 0;
        for (int i = 0; i < L; ++i) {
            const float ax = p[i] - ox, ay = p[L + i] - oy, az = p[2 * L + i] - oz;
            const float bx = p[3 * L + i] - ox, by = p[4 * L + i] - oy, bz = p[5 * L + i] - oz;
            const float cx = p[6 * L + i] - ox, cy = p[7 * L + i] - oy, cz = p[8 * L + i] - oz;
            const float ex = cx - ax, ey = cy - ay, ez = cz - az;
            const float fx = ax - bx, fy = ay - by, fz = az - bz;
            const float gx = bx - cx, gy = by - cy, gz = bz - cz;
            float sx = cx + ax, sy = cy + ay, sz = cz + az;
            const float u = (ey * sz - ez * sy) * dx + (ez * sx - ex * sz) * dy + (ex * sy - ey * sx) * dz;
            sx = ax + bx, sy = ay + by, sz = az + bz;
            const float v = (fy * sz - fz * sy) * dx + (fz * sx - fx * sz) * dy + (fx * sy - fy * sx) * dz;
            sx = bx + cx, sy = by + cy, sz = bz + cz;
            const float w = (gy * sz - gz * sy) * dx + (gz * sx - gx * sz) * dy + (gx * sy - gy * sx) * dz;
            const float sum = u + v + w;
            const float slack = fabsf(sum) * 1.2e-7f;
            float low = u < v ? u : v;
            low = low < w ? low : w;
            float high = u > v ? u : v;
            high = high > w ? high : w;
            const float nx = ey * fz - ez * fy, ny = ez * fx - ex * fz, nz = ex * fy - ey * fx;
            const float slope = nx * dx + ny * dy + nz * dz;
            const float t = (nx * ax + ny * ay + nz * az) / slope;
            const int inside = (low >= -slack ? 1 : 0) | (high <= slack ? 1 : 0);
            const int ahead = (t > 0.0f ? 1 : 0) & (t < best_t ? 1 : 0) & (slope != 0.0f ? 1 : 0);
            ts[i] = t;
            us[i] = u / sum;
            vs[i] = v / sum;
            met |= (inside & ahead) << i;
        }
        while (met) {
            const int i = LOWEST_BIT(met);
            met &= met - 1;
            const int face = block.data[leaf * L + i];
            if (any) {
                if (face >= 0 && opaque.data[face])
                    return wp::vec4(0.0f, 0.0f, 0.0f, 1.0f);
            } else if (face >= 0 && ts[i] < best_t) {
                best_t = ts[i];
                best_u = us[i];
                best_v = vs[i];
                best_face = face;
            }
        }
    }
    do {
        if (size == 0)
            return wp::vec4(best_t, best_u, best_v, (float)best_face);
        node = waiting[--size];
    } while (waiting_t[size] >= best_t);
}
"""

for _name in ("WIDTH", "LANES", "WALK_STACK"):
    _WALK = re.sub(rf"\b{_name}\b", str(globals()[_name]), _WALK)


@wp.func_native(_WALK)
def walk(
    boxes: wp.array3d[wp.float32],
    child: wp.array2d[wp.int32],
    corners: wp.array3d[wp.float32],
    block: wp.array2d[wp.int32],
    opaque: wp.array[wp.int32],
    origin: wp.vec3,
    direction: wp.vec3,
    reach: wp.float32,
    any: wp.int32,
) -> wp.vec4:
    """Closest triangle along a ray: (t, u, v, face), u and v the weights of its second and third corner; face -1: none.

    `reach` bounds t, in lengths of `direction`. With `any`, the walk stops at the first opaque triangle and returns
    face 1, or -1 if there is none. Triangles share the rounding of their common edges (Plücker coordinates relative to
    the ray's origin, as in Davidovič et al., "3D rasterization: a bridge between rasterization and ray casting", 2012),
    so no ray slips through between two.
    """
