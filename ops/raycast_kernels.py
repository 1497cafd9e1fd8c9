"""Warp kernels of the ray caster: one source for CPU and CUDA.

Everything is in the world frame, metres, linear RGB. Primary rays are not normalised: their direction has z = 1 in the
camera's axes, so a hit's ray parameter is its z-depth. A frame is made in four launches: `trace_geometry` (one ray
through each pixel's centre), `sample_visibility` and `filter_visibility` (light that is blocked), `shade`.
"""

# Warp's built-ins and kernel annotations are resolved by Warp's own compiler, not by Python's type system.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportInvalidTypeForm=false
# pyright: reportAssignmentType=false, reportGeneralTypeIssues=false

import warp as wp

from .raycast_bvh_kernels import walk

wp.set_module_options({"enable_backward": False})

TILE = 4
"""Side of the square of pixels that share out one stratified set of light samples, TILE² in all."""

KNEE = wp.constant(0.6)
PI = wp.constant(3.14159265)
FILTER_RADIUS = wp.constant(TILE // 2)


@wp.struct
class SceneArrays:
    boxes: wp.array3d[wp.float32]  # the hierarchy, see raycast_bvh.Bvh
    child: wp.array2d[wp.int32]
    corners: wp.array3d[wp.float32]
    block: wp.array2d[wp.int32]
    corner_point: wp.array[wp.vec3]  # (3F,)
    face_opaque: wp.array[wp.int32]  # (F,) 1 where light is blocked
    face_normal: wp.array[wp.vec3]  # (F,) unit, geometric
    corner_normal: wp.array[wp.vec3]  # (3F,) unit, smoothed
    corner_uv: wp.array[wp.vec2]  # (3F,)
    face_material: wp.array[wp.int32]
    face_instance: wp.array[wp.int32]
    face_lod: wp.array[wp.float32]  # (F,) log2 of texels per metre
    # materials
    emission: wp.array[wp.vec3]
    gloss: wp.array[wp.vec2]  # reflectance at normal incidence, GGX alpha²
    unlit: wp.array[wp.int32]
    material_texture: wp.array[wp.int32]
    # textures, see texture_pyramid.TexturePyramids
    texels: wp.array[wp.vec4us]
    level_start: wp.array2d[wp.int32]
    texture_size: wp.array[wp.vec2i]
    level_count: wp.array[wp.int32]
    repeat: wp.array[wp.int32]
    # lights
    has_sun: wp.int32
    sun_direction: wp.vec3  # unit, towards the sun
    sun_tangent: wp.vec3  # half-axes of the sun's disc at unit distance
    sun_bitangent: wp.vec3
    sun_colour: wp.vec3
    up: wp.vec3
    zenith: wp.vec3
    horizon: wp.vec3
    light_centre: wp.array[wp.vec3]
    light_u: wp.array[wp.vec3]
    light_v: wp.array[wp.vec3]
    light_normal: wp.array[wp.vec3]
    light_radiance: wp.array[wp.vec3]
    light_area: wp.array[wp.float32]
    exposure: wp.float32


@wp.struct
class CameraArrays:
    origin: wp.vec3
    rotation: wp.mat33  # world from camera
    focal: wp.vec2
    centre: wp.vec2


@wp.struct
class Hit:
    t: wp.float32
    u: wp.float32  # barycentric weight of the triangle's second corner
    v: wp.float32  # … and of its third
    face: wp.int32  # -1: no hit


@wp.func
def closest_hit(scene: SceneArrays, origin: wp.vec3, direction: wp.vec3, reach: float) -> Hit:
    found = walk(scene.boxes, scene.child, scene.corners, scene.block, scene.face_opaque, origin, direction, reach, 0)
    hit = Hit()
    hit.t = found[0]
    hit.u = found[1]
    hit.v = found[2]
    hit.face = int(found[3])
    return hit


@wp.func
def open_way(scene: SceneArrays, origin: wp.vec3, direction: wp.vec3, reach: float) -> float:
    """1 where nothing opaque lies on the way along `direction` up to `reach`, else 0."""
    found = walk(scene.boxes, scene.child, scene.corners, scene.block, scene.face_opaque, origin, direction, reach, 1)
    if found[3] > 0.0:
        return 0.0
    return 1.0


@wp.func
def pixel_ray(camera: CameraArrays, x: float, y: float) -> wp.vec3:
    local = wp.vec3((x - camera.centre[0]) / camera.focal[0], (y - camera.centre[1]) / camera.focal[1], 1.0)
    return camera.rotation * local


@wp.func
def facing(normal: wp.vec3, direction: wp.vec3) -> wp.vec3:
    if wp.dot(normal, direction) > 0.0:
        return -normal
    return normal


@wp.func
def leave_surface(point: wp.vec3, normal: wp.vec3, t: float) -> wp.vec3:
    """Start of a secondary ray: off the surface by more than float32 can have misplaced the hit.

    A coordinate's rounding grows with its size and with the ray's length, so the step does too.
    """
    size = wp.max(wp.max(wp.abs(point[0]), wp.abs(point[1])), wp.max(wp.abs(point[2]), t))
    return point + normal * (1.0e-4 * size)


@wp.func
def texel(scene: SceneArrays, start: int, width: int, x: int, y: int) -> wp.vec3:
    packed = scene.texels[start + y * width + x]
    return wp.vec3(float(packed[0]), float(packed[1]), float(packed[2]))


@wp.func
def bilinear(scene: SceneArrays, texture: int, level: int, u: float, v: float) -> wp.vec3:
    size = scene.texture_size[texture]
    width = wp.max(size[0] >> level, 1)
    height = wp.max(size[1] >> level, 1)
    start = scene.level_start[texture, level]
    x = u * float(width) - 0.5
    y = (1.0 - v) * float(height) - 0.5
    left = int(wp.floor(x))
    top = int(wp.floor(y))
    fx = x - float(left)
    fy = y - float(top)
    right = left + 1
    below = top + 1
    if scene.repeat[texture] == 1:
        # u and v lie in 0..1 here, so an index is at most one texel outside.
        if left < 0:
            left = width - 1
        if right >= width:
            right = 0
        if top < 0:
            top = height - 1
        if below >= height:
            below = 0
    else:
        left = wp.clamp(left, 0, width - 1)
        right = wp.clamp(right, 0, width - 1)
        top = wp.clamp(top, 0, height - 1)
        below = wp.clamp(below, 0, height - 1)
    upper = wp.lerp(texel(scene, start, width, left, top), texel(scene, start, width, right, top), fx)
    lower = wp.lerp(texel(scene, start, width, left, below), texel(scene, start, width, right, below), fx)
    return wp.lerp(upper, lower, fy)


@wp.func
def base_colour(scene: SceneArrays, face: int, material: int, bu: float, bv: float, lod: float) -> wp.vec3:
    """Linear RGB of the surface: trilinear between the two pyramid levels around `lod`."""
    texture = scene.material_texture[material]
    uv = (
        (1.0 - bu - bv) * scene.corner_uv[3 * face]
        + bu * scene.corner_uv[3 * face + 1]
        + bv * scene.corner_uv[3 * face + 2]
    )
    u = uv[0]
    v = uv[1]
    if scene.repeat[texture] == 1:
        u = u - wp.floor(u)
        v = v - wp.floor(v)
    last = scene.level_count[texture] - 1
    level = wp.clamp(lod, 0.0, float(last))
    lower = int(level)
    blend = level - float(lower)
    colour = bilinear(scene, texture, lower, u, v)
    if blend > 0.0:
        colour = wp.lerp(colour, bilinear(scene, texture, wp.min(lower + 1, last), u, v), blend)
    return colour / 65535.0


@wp.func
def footprint_lod(scene: SceneArrays, face: int, t: float, pixel: float, slant: float, samples: float) -> float:
    """Pyramid level for one of `samples` rays through a pixel.

    A pixel's footprint on the surface is `pixel * t` metres across and 1 / slant times as long (slant = |n · d|, d with
    z = 1 in the camera). The samples' footprints together must cover it both in area and along its length.
    """
    across = pixel * t
    along = across / wp.max(slant, 1.0e-3)
    area = wp.sqrt(across * along / samples)
    return scene.face_lod[face] + wp.log2(wp.max(area, along / samples))


@wp.func
def edge_integral(a: wp.vec3, b: wp.vec3) -> wp.vec3:
    """cross(a, b) × angle / sin(angle) of two unit vectors; the quotient from a rational function of the
    cosine, fitted by least squares over 0..1 (largest relative error 1.3e-6); below 0, angles are supplementary."""
    cosine = wp.dot(a, b)
    y = wp.abs(cosine)
    quotient = (5.44804462 + (3.13299277 + 0.08966372 * y) * y) / (3.46833738 + (4.20235516 + y) * y)
    if cosine < 0.0:
        quotient = PI / wp.sqrt(wp.max(1.0 - cosine * cosine, 1.0e-7)) - quotient
    return wp.cross(a, b) * quotient


@wp.func
def area_irradiance(scene: SceneArrays, light: int, point: wp.vec3, normal: wp.vec3) -> float:
    """Unshadowed irradiance per unit radiance of a rectangle: Lambert's formula for polygons (Photometria, 1760).

    A light that dips under the surface's horizon counts with its part below subtracted, and never less than zero.
    """
    centre = scene.light_centre[light] - point
    if wp.dot(centre, scene.light_normal[light]) >= 0.0:
        return 0.0
    u = scene.light_u[light]
    v = scene.light_v[light]
    a = wp.normalize(centre - u - v)
    b = wp.normalize(centre + u - v)
    c = wp.normalize(centre + u + v)
    d = wp.normalize(centre - u + v)
    flux = edge_integral(a, b) + edge_integral(b, c) + edge_integral(c, d) + edge_integral(d, a)
    # The corners run clockwise seen from the lit side, hence the sign.
    return wp.max(-0.5 * wp.dot(flux, normal), 0.0)


@wp.func
def luminance(rgb: wp.vec3) -> float:
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]


@wp.func
def highlight(half_normal: float, half_view: float, light_normal: float, view_normal: float, f0: float, alpha: float):
    """GGX reflectance with Schlick's Fresnel term and Hammon's visibility term (Karis 2013; Hammon 2017)."""
    a2 = alpha * alpha
    base = half_normal * half_normal * (a2 - 1.0) + 1.0
    distribution = a2 / (PI * base * base)
    grazing = 1.0 - half_view
    fresnel = f0 + (1.0 - f0) * (grazing * grazing) * (grazing * grazing) * grazing
    shadowing = 0.5 / (wp.lerp(2.0 * light_normal * view_normal, light_normal + view_normal, alpha) + 1.0e-4)
    return distribution * fresnel * shadowing


@wp.func
def reflection(scene: SceneArrays, material: int, normal: wp.vec3, view: wp.vec3, towards: wp.vec3, spread: float):
    """Highlight per unit irradiance of a light in direction `towards` whose half-angle's tangent is `spread`."""
    gloss = scene.gloss[material]
    light_normal = wp.dot(normal, towards)
    if gloss[0] <= 0.0 or light_normal <= 0.0:
        return 0.0
    half_way = wp.normalize(towards + view)
    alpha = wp.min(gloss[1] + 0.5 * spread, 1.0)
    view_normal = wp.max(wp.dot(normal, view), 1.0e-3)
    half_view = wp.clamp(wp.dot(half_way, view), 0.0, 1.0)
    return highlight(wp.dot(normal, half_way), half_view, light_normal, view_normal, gloss[0], alpha)


@wp.struct
class Lighting:
    diffuse: wp.vec3  # radiance given back by a white surface
    glossy: wp.vec3  # radiance of the highlights


@wp.func
def light_surface(
    scene: SceneArrays, material: int, point: wp.vec3, normal: wp.vec3, view: wp.vec3, visibility: wp.vec3
) -> Lighting:
    """All light that reaches a point, each kind times the share of it that is not blocked (sun, area lights, sky)."""
    result = Lighting()
    share = 0.5 + 0.5 * wp.dot(normal, scene.up)
    result.diffuse = wp.lerp(scene.horizon, scene.zenith, share) * visibility[2]
    if scene.has_sun == 1 and visibility[0] > 0.0:
        arriving = scene.sun_colour * (wp.max(wp.dot(normal, scene.sun_direction), 0.0) * visibility[0])
        result.diffuse += arriving / PI
        spread = wp.length(scene.sun_tangent)
        result.glossy += arriving * reflection(scene, material, normal, view, scene.sun_direction, spread)
    if visibility[1] > 0.0:
        for light in range(scene.light_centre.shape[0]):
            factor = area_irradiance(scene, light, point, normal) * visibility[1]
            if factor > 0.0:
                arriving = scene.light_radiance[light] * factor
                result.diffuse += arriving / PI
                towards = scene.light_centre[light] - point
                distance = wp.length(towards)
                spread = 0.5 * wp.sqrt(scene.light_area[light]) / distance
                result.glossy += arriving * reflection(scene, material, normal, view, towards / distance, spread)
    return result


@wp.func
def shading_normal(scene: SceneArrays, face: int, bu: float, bv: float, direction: wp.vec3) -> wp.vec3:
    smooth = (
        (1.0 - bu - bv) * scene.corner_normal[3 * face]
        + bu * scene.corner_normal[3 * face + 1]
        + bv * scene.corner_normal[3 * face + 2]
    )
    if wp.dot(scene.face_normal[face], direction) > 0.0:
        smooth = -smooth
    return wp.normalize(smooth)


@wp.func
def tone(value: float) -> float:
    """Identity up to KNEE, then an exponential shoulder that reaches 1 at infinity; slope and value are continuous."""
    if value <= KNEE:
        return wp.max(value, 0.0)
    return 1.0 - (1.0 - KNEE) * wp.exp((KNEE - value) / (1.0 - KNEE))


@wp.func
def srgb_code(value: float) -> wp.uint8:
    encoded = 12.92 * value
    if value > 0.0031308:
        encoded = 1.055 * wp.pow(value, 1.0 / 2.4) - 0.055
    return wp.uint8(wp.clamp(encoded, 0.0, 1.0) * 255.0 + 0.5)


@wp.kernel
def trace_geometry(
    scene: SceneArrays,
    camera: CameraArrays,
    depth: wp.array2d[wp.float32],
    normal: wp.array2d[wp.vec3b],
    instance: wp.array2d[wp.uint16],
    material: wp.array2d[wp.uint16],
    face: wp.array2d[wp.int32],
    barycentric: wp.array2d[wp.vec2],
):
    row, column = wp.tid()
    direction = pixel_ray(camera, float(column) + 0.5, float(row) + 0.5)
    hit = closest_hit(scene, camera.origin, direction, wp.inf)
    face[row, column] = hit.face
    if hit.face < 0:
        depth[row, column] = 0.0
        normal[row, column] = wp.vec3b(wp.int8(0), wp.int8(0), wp.int8(0))
        instance[row, column] = wp.uint16(0)
        material[row, column] = wp.uint16(0)
        return
    depth[row, column] = hit.t
    barycentric[row, column] = wp.vec2(hit.u, hit.v)
    toward = facing(scene.face_normal[hit.face], direction) * 127.0
    normal[row, column] = wp.vec3b(
        wp.int8(wp.rint(toward[0])), wp.int8(wp.rint(toward[1])), wp.int8(wp.rint(toward[2]))
    )
    instance[row, column] = wp.uint16(scene.face_instance[hit.face])
    material[row, column] = wp.uint16(scene.face_material[hit.face])


@wp.func
def chosen_light(scene: SceneArrays, point: wp.vec3, normal: wp.vec3, draw: float) -> int:
    """Area light drawn in proportion to what it would give unblocked; -1 where none gives anything."""
    total = wp.float32(0.0)
    chosen = wp.int32(-1)
    rest = wp.float32(draw)
    for light in range(scene.light_centre.shape[0]):
        weight = area_irradiance(scene, light, point, normal) * luminance(scene.light_radiance[light])
        if weight > 0.0:
            # What is left of the draw after each decision is again uniform, and stays as stratified as it was.
            total += weight
            share = weight / total
            if rest < share:
                chosen = light
                rest = rest / share
            else:
                rest = (rest - share) / (1.0 - share)
    return chosen


@wp.func
def open_to_sky(
    scene: SceneArrays, start: wp.vec3, normal: wp.vec3, draws: wp.array2d[wp.vec3], member: int, reach: float
) -> float:
    """Share of cosine-distributed rays that get away; their lengths are spread over 0..reach, so that what is near
    darkens more than what is far."""
    axis = wp.vec3(0.0, 1.0, 0.0)
    if wp.abs(normal[1]) > 0.7:
        axis = wp.vec3(1.0, 0.0, 0.0)
    tangent = wp.normalize(wp.cross(axis, normal))
    bitangent = wp.cross(normal, tangent)
    open = wp.float32(0.0)
    rays = draws.shape[1]
    for ray in range(rays):
        draw = draws[member, ray]
        radius = wp.sqrt(draw[0])
        turn = 2.0 * PI * draw[1]
        direction = (
            tangent * (radius * wp.cos(turn))
            + bitangent * (radius * wp.sin(turn))
            + normal * wp.sqrt(wp.max(1.0 - draw[0], 0.0))
        )
        open += open_way(scene, start, direction, reach * draw[2])
    return open / float(rays)


@wp.kernel
def sample_visibility(
    scene: SceneArrays,
    camera: CameraArrays,
    depth: wp.array2d[wp.float32],
    face: wp.array2d[wp.int32],
    sun_draws: wp.array[wp.vec2],
    area_draws: wp.array[wp.vec3],
    sky_draws: wp.array2d[wp.vec3],
    shadows: int,
    sky_reach: float,
    visibility: wp.array2d[wp.vec3],
):
    """Sun, area lights, sky: 1 open, 0 blocked, for the one draw of the pixel's place in its tile."""
    row, column = wp.tid()
    hit_face = face[row, column]
    result = wp.vec3(1.0, 1.0, 1.0)
    visibility[row, column] = result
    if hit_face < 0:
        return
    if scene.unlit[scene.face_material[hit_face]] == 1:
        return
    member = (row % TILE) * TILE + column % TILE
    direction = pixel_ray(camera, float(column) + 0.5, float(row) + 0.5)
    t = depth[row, column]
    point = camera.origin + t * direction
    normal = facing(scene.face_normal[hit_face], direction)
    start = leave_surface(point, normal, t)
    if shadows == 1:
        if scene.has_sun == 1:
            if wp.dot(normal, scene.sun_direction) > 0.0:
                disc = sun_draws[member]
                towards = scene.sun_direction + disc[0] * scene.sun_tangent + disc[1] * scene.sun_bitangent
                result[0] = open_way(scene, start, towards, wp.inf)
            else:
                result[0] = 0.0
        if scene.light_centre.shape[0] > 0:
            draw = area_draws[member]
            light = chosen_light(scene, point, normal, draw[2])
            if light >= 0:
                target = scene.light_centre[light] + draw[0] * scene.light_u[light] + draw[1] * scene.light_v[light]
                result[1] = open_way(scene, start, target - start, 0.999)
    if sky_draws.shape[1] > 0:
        result[2] = open_to_sky(scene, start, normal, sky_draws, member, sky_reach)
    visibility[row, column] = result


@wp.func
def same_surface(
    scene: SceneArrays, camera: CameraArrays, face: int, point: wp.vec3, t: float, other: int, x: int, y: int, z: float
) -> bool:
    """Whether the hit on `other` at pixel centre (x, y) and z-depth z continues the surface of `face` at `point`."""
    if other < 0:
        return False
    if other == face:
        return True
    normal = scene.face_normal[face]
    if wp.dot(normal, scene.face_normal[other]) < 0.9:
        return False
    neighbour = camera.origin + z * pixel_ray(camera, float(x) + 0.5, float(y) + 0.5)
    return wp.abs(wp.dot(normal, neighbour - point)) < 0.01 * t


@wp.kernel
def filter_visibility(
    scene: SceneArrays,
    camera: CameraArrays,
    depth: wp.array2d[wp.float32],
    face: wp.array2d[wp.int32],
    sampled: wp.array2d[wp.vec3],
    filtered: wp.array2d[wp.vec3],
):
    """Mean over the pixels of the same surface in a window TILE + 1 wide whose border counts half.

    Every draw of the tile then weighs the same wherever the window lies, so an open surface has no noise at all.
    """
    row, column = wp.tid()
    hit_face = face[row, column]
    if hit_face < 0:
        return
    t = depth[row, column]
    point = camera.origin + t * pixel_ray(camera, float(column) + 0.5, float(row) + 0.5)
    total = wp.vec3(0.0, 0.0, 0.0)
    weights = wp.float32(0.0)
    for dy in range(-FILTER_RADIUS, FILTER_RADIUS + 1):
        y = row + dy
        if y >= 0 and y < face.shape[0]:
            for dx in range(-FILTER_RADIUS, FILTER_RADIUS + 1):
                x = column + dx
                inside = x >= 0 and x < face.shape[1]
                if inside and same_surface(scene, camera, hit_face, point, t, face[y, x], x, y, depth[y, x]):
                    weight = wp.float32(1.0)
                    if wp.abs(dx) == FILTER_RADIUS:
                        weight *= 0.5
                    if wp.abs(dy) == FILTER_RADIUS:
                        weight *= 0.5
                    total += weight * sampled[y, x]
                    weights += weight
    filtered[row, column] = total / weights


@wp.func
def nearest_visibility(
    scene: SceneArrays,
    camera: CameraArrays,
    depth: wp.array2d[wp.float32],
    face: wp.array2d[wp.int32],
    visibility: wp.array2d[wp.vec3],
    row: int,
    column: int,
    hit: Hit,
    point: wp.vec3,
) -> wp.vec3:
    """Visibility for a sample that hit something else than its pixel's centre did: that of a neighbour which hit it."""
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            y = wp.clamp(row + dy, 0, face.shape[0] - 1)
            x = wp.clamp(column + dx, 0, face.shape[1] - 1)
            if same_surface(scene, camera, hit.face, point, hit.t, face[y, x], x, y, depth[y, x]):
                return visibility[y, x]
    if face[row, column] >= 0:
        return visibility[row, column]
    return wp.vec3(1.0, 1.0, 1.0)


@wp.func
def surrounded(face: wp.array2d[wp.int32], row: int, column: int) -> bool:
    """Whether the 3 × 3 pixel centres hit one triangle; being convex it then fills the pixel."""
    if row == 0 or column == 0 or row == face.shape[0] - 1 or column == face.shape[1] - 1:
        return False
    own = face[row, column]
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if face[row + dy, column + dx] != own:
                return False
    return True


@wp.func
def hit_triangle_plane(scene: SceneArrays, face: int, origin: wp.vec3, direction: wp.vec3) -> Hit:
    """Where a ray that is known to meet a triangle meets it."""
    a = scene.corner_point[3 * face]
    e1 = scene.corner_point[3 * face + 1] - a
    e2 = scene.corner_point[3 * face + 2] - a
    cross_direction = wp.cross(direction, e2)
    scale = 1.0 / wp.dot(e1, cross_direction)
    offset = origin - a
    cross_offset = wp.cross(offset, e1)
    hit = Hit()
    hit.u = wp.dot(offset, cross_direction) * scale
    hit.v = wp.dot(direction, cross_offset) * scale
    hit.t = wp.dot(e2, cross_offset) * scale
    hit.face = face
    return hit


@wp.kernel
def shade(
    scene: SceneArrays,
    camera: CameraArrays,
    depth: wp.array2d[wp.float32],
    face: wp.array2d[wp.int32],
    barycentric: wp.array2d[wp.vec2],
    visibility: wp.array2d[wp.vec3],
    offsets: wp.array[wp.vec2],
    rgb: wp.array2d[wp.vec3ub],
):
    """Colour of a pixel: the mean, after the tone curve, of rays at fixed places in it.

    Light changes slowly over a surface and texture does not, so rays that meet the surface of the pixel's centre share
    its light and read the texture each for themselves.
    """
    row, column = wp.tid()
    pixel = 1.0 / wp.sqrt(camera.focal[0] * camera.focal[1])
    samples = offsets.shape[0]
    centre = Hit()
    centre.face = face[row, column]
    centre_lighting = Lighting()
    fills_pixel = wp.bool(False)
    if centre.face >= 0:
        centre.t = depth[row, column]
        weights = barycentric[row, column]
        centre.u = weights[0]
        centre.v = weights[1]
        material = scene.face_material[centre.face]
        direction = pixel_ray(camera, float(column) + 0.5, float(row) + 0.5)
        if scene.unlit[material] == 0:
            point = camera.origin + centre.t * direction
            normal = shading_normal(scene, centre.face, centre.u, centre.v, direction)
            view = wp.normalize(-direction)
            centre_lighting = light_surface(scene, material, point, normal, view, visibility[row, column])
        fills_pixel = samples > 1 and surrounded(face, row, column)
    total = wp.vec3(0.0, 0.0, 0.0)
    for sample in range(samples):
        offset = offsets[sample]
        direction = pixel_ray(camera, float(column) + offset[0], float(row) + offset[1])
        hit = centre
        if samples > 1:
            if fills_pixel:
                hit = hit_triangle_plane(scene, centre.face, camera.origin, direction)
            else:
                hit = closest_hit(scene, camera.origin, direction, wp.inf)
        if hit.face >= 0:
            material = scene.face_material[hit.face]
            slant = wp.abs(wp.dot(scene.face_normal[hit.face], direction))
            lod = footprint_lod(scene, hit.face, hit.t, pixel, slant, float(samples))
            colour = base_colour(scene, hit.face, material, hit.u, hit.v, lod)
            if scene.unlit[material] == 1:
                total += colour
            else:
                lighting = centre_lighting
                point = camera.origin + hit.t * direction
                if not (
                    same_surface(scene, camera, hit.face, point, hit.t, centre.face, column, row, centre.t)
                    and material == scene.face_material[centre.face]
                ):
                    light_share = nearest_visibility(scene, camera, depth, face, visibility, row, column, hit, point)
                    normal = shading_normal(scene, hit.face, hit.u, hit.v, direction)
                    view = wp.normalize(-direction)
                    lighting = light_surface(scene, material, point, normal, view, light_share)
                radiance = wp.cw_mul(colour, lighting.diffuse) + lighting.glossy + scene.emission[material]
                radiance = radiance * scene.exposure
                total += wp.vec3(tone(radiance[0]), tone(radiance[1]), tone(radiance[2]))
    total = total / float(samples)
    rgb[row, column] = wp.vec3ub(srgb_code(total[0]), srgb_code(total[1]), srgb_code(total[2]))


@wp.kernel
def cast_rays(
    scene: SceneArrays,
    origins: wp.array[wp.vec3],
    directions: wp.array[wp.vec3],
    reach: float,
    distance: wp.array[wp.float32],
    face: wp.array[wp.int32],
    barycentric: wp.array[wp.vec2],
    instance: wp.array[wp.int32],
    normal: wp.array[wp.vec3],
):
    ray = wp.tid()
    direction = directions[ray]
    hit = closest_hit(scene, origins[ray], direction, reach)
    face[ray] = hit.face
    distance[ray] = wp.inf
    instance[ray] = -1
    normal[ray] = wp.vec3(0.0, 0.0, 0.0)
    barycentric[ray] = wp.vec2(hit.u, hit.v)
    if hit.face >= 0:
        distance[ray] = hit.t
        instance[ray] = scene.face_instance[hit.face]
        normal[ray] = facing(scene.face_normal[hit.face], direction)


@wp.kernel
def nearest_surface(mesh: wp.uint64, points: wp.array[wp.vec3], reach: float, distance: wp.array[wp.float32]):
    index = wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[index], reach)
    distance[index] = wp.inf
    if query.result:
        nearest = wp.mesh_eval_position(mesh, query.face, query.u, query.v)
        distance[index] = wp.length(nearest - points[index])
