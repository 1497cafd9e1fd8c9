"""Where things stand: on the floor or on supports, apart from one another, and seen well from the camera.

Each object is placed by trying many poses that suit its kind (against a wall, around a table, on a top) and keeping
the one that the view likes best. Objects are kept apart as oriented boxes with a margin; a mesh lies inside its box,
so boxes that do not meet prove that the meshes do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .furniture_piece import Piece, Top
from .meshes import bounds
from .scene_model import Float64

FLOOR = -1
"""Support index of what stands on the floor."""

_GAP_TO_WALL = 0.045  # skirting and picture frames stand out by up to 0.035 m
_GAP_ON_TOP = 0.001
_CANDIDATES = 140


@dataclass(frozen=True, slots=True)
class FloorArea:
    """Level rectangle between walls, scene frame: (x, z) corners in metres; -z is the wall the camera looks at."""

    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True, slots=True)
class View:
    """What composes the picture: camera pose (OpenCV axes, scene frame) and the tangents of half its angles."""

    scene_from_camera: Float64
    tangent_x: float
    tangent_y: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Pose of one object: centre of its box (3,), yaw about y in radians, and the index of what it stands on."""

    centre: Float64
    yaw: float
    support: int = FLOOR

    def matrix(self) -> Float64:
        """(4, 4) scene-from-object transform."""
        pose = np.eye(4)
        pose[:3, :3] = yaw_matrix(self.yaw)
        pose[:3, 3] = self.centre
        return pose


@dataclass(frozen=True, slots=True)
class UprightBoxes:
    """N upright boxes: centres (N, 3), half sizes (N, 3), yaws (N,)."""

    centre: Float64
    half: Float64
    yaw: Float64

    def corners(self) -> Float64:
        """(N, 8, 3)."""
        local = _SIGNS[None] * self.half[:, None]
        x, z = _turned(local[..., 0], local[..., 2], self.yaw[:, None])
        return np.stack([x, local[..., 1], z], axis=-1) + self.centre[:, None]

    def take(self, index: np.ndarray) -> UprightBoxes:
        """Those at the given indices."""
        return UprightBoxes(self.centre[index], self.half[index], self.yaw[index])


_SIGNS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


def boxes_meet(first: UprightBoxes, second: UprightBoxes, margin: float) -> np.ndarray:
    """(N, M) whether upright boxes come closer than `margin` metres along every separating direction.

    Source: separating axis theorem for convex sets (S. Gottschalk et al., "OBBTree", SIGGRAPH 1996); upright boxes have
    the vertical and the two sides' directions of each box as their only candidates.
    """
    offset = second.centre[None, :] - first.centre[:, None]
    apart = np.abs(offset[..., 1]) >= first.half[:, None, 1] + second.half[None, :, 1] + margin
    for yaw in (first.yaw[:, None] + 0.0 * second.yaw, second.yaw[None, :] + 0.0 * first.yaw[:, None]):
        for quarter in (0.0, np.pi / 2):
            x, z = np.cos(yaw + quarter), -np.sin(yaw + quarter)
            reach = _reach(first, x, z, 0) + _reach(second, x, z, 1) + margin
            apart |= np.abs(offset[..., 0] * x + offset[..., 2] * z) >= reach
    return ~apart


def _reach(boxes: UprightBoxes, x: Float64, z: Float64, axis: int) -> Float64:
    """Half extent of each box along directions (N, M); `axis` tells which of the two the boxes run along."""
    shape = (-1, 1) if axis == 0 else (1, -1)
    cosine, sine = np.cos(boxes.yaw).reshape(shape), np.sin(boxes.yaw).reshape(shape)
    half_x, half_z = boxes.half[:, 0].reshape(shape), boxes.half[:, 2].reshape(shape)
    return half_x * np.abs(x * cosine - z * sine) + half_z * np.abs(x * sine + z * cosine)


class Arrangement:
    """Places pieces one after another.

    Args:
        pieces: the objects; those placed later may stand on those placed earlier.
        area: the floor they share.
        view: the camera's.
        rng: source of every candidate.
        clear_distance: least distance, metres, from the camera's plane to any object.
        margin: least gap between objects, metres.
        leniency: 0 asks that objects are seen well; towards 1 they may stand out of the picture or be hidden.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        area: FloorArea,
        view: View,
        rng: np.random.Generator,
        *,
        clear_distance: float,
        margin: float = 0.04,
        leniency: float = 0.0,
    ) -> None:
        self.pieces = pieces
        self.area = area
        self.view = view
        self.rng = rng
        self.clear_distance = clear_distance
        self.margin = margin
        self.leniency = leniency
        self.placed: dict[int, Placement] = {}
        self._halves = [np.diff(bounds(piece.mesh), axis=0)[0] / 2.0 for piece in pieces]

    def place(self, index: int) -> bool:
        """Places piece `index` in the best of its candidate poses; False when none is free and well seen."""
        options = {
            "wall": (self._against_walls,),
            "beside": (self._beside, self._against_walls),
            "around": (self._around, self._open),
            "front": (self._in_front, self._open),
            "open": (self._open,),
            "side": (self._beside, self._against_walls, self._open),
            "top": (self._on_tops, self._open),
        }[self._rule(index)]
        for propose in options:
            for least_seen in (0.72, 0.5 * (1.0 - self.leniency)):
                if self._choose(index, *propose(index), least_seen=least_seen):
                    return True
        return False

    def _rule(self, index: int) -> str:
        return RULES.get(self.pieces[index].family, "open")

    def _choose(self, index: int, boxes: UprightBoxes, support: np.ndarray, *, least_seen: float) -> bool:
        if len(boxes.yaw) == 0:
            return False
        most_hidden = (0.75 if self._rule(index) in {"around", "top"} else 0.55) + self.leniency
        liked = 3.0 if self._rule(index) == "side" else 2.2
        score = self._score(boxes, support, least_seen, most_hidden, liked)
        score[self._collides(boxes, support)] = -np.inf
        best = int(np.argmax(score))
        if not np.isfinite(score[best]):
            return False
        self.placed[index] = Placement(boxes.centre[best], float(boxes.yaw[best]), int(support[best]))
        return True

    def _collides(self, boxes: UprightBoxes, support: np.ndarray) -> np.ndarray:
        corners = boxes.corners()
        outside = (corners[..., 0] < self.area.low[0] + 0.01) | (corners[..., 0] > self.area.high[0] - 0.01)
        outside |= (corners[..., 2] < self.area.low[1] + 0.01) | (corners[..., 2] > self.area.high[1] - 0.01)
        bad = np.asarray(outside.any(axis=1))
        for other, placement in self.placed.items():
            theirs = UprightBoxes(placement.centre[None], self._halves[other][None], np.array([placement.yaw]))
            meets = boxes_meet(boxes, theirs, self.margin)[:, 0]
            on_it = support == other
            bad |= np.where(on_it, boxes_meet(boxes, theirs, 0.0)[:, 0], meets)
        return bad

    def _score(
        self, boxes: UprightBoxes, support: np.ndarray, least_seen: float, most_hidden: float, liked_depth: float
    ) -> Float64:
        """Higher is better: whole in the picture, not hidden and not hiding, spread to both sides; -inf rules out."""
        corners = boxes.corners()
        rectangle, depth = self._on_screen(corners)
        size = rectangle[:, 2:] - rectangle[:, :2]
        inside = np.clip(np.minimum(rectangle[:, 2:], 1.0) - np.maximum(rectangle[:, :2], -1.0), 0.0, None)
        seen = inside.prod(axis=1) / np.maximum(size.prod(axis=1), 1e-9)
        near = depth.min(axis=1)
        score = 1.2 * seen + 0.25 * self.rng.random(len(seen)) - 0.16 * np.abs(near - liked_depth)
        score[(near < self.clear_distance) | (seen < least_seen)] = -np.inf
        middle = rectangle.reshape(-1, 2, 2).mean(axis=1)[:, 0]
        # Tall things stand to the sides, where they frame the picture and hide little.
        tall = np.clip(2.0 * boxes.half[:, 1] - 1.0, 0.0, 0.8)
        score -= tall * np.clip(1.0 - np.abs(middle), 0.0, 1.0) * (near < 3.2)
        weight_x = 0.0
        for other, placement in self.placed.items():
            box = UprightBoxes(placement.centre[None], self._halves[other][None], np.array([placement.yaw]))
            theirs, their_depth = self._on_screen(box.corners())
            low = np.maximum(rectangle[:, :2], theirs[:, :2])
            high = np.minimum(rectangle[:, 2:], theirs[:, 2:])
            shared = np.clip(high - low, 0.0, None).prod(axis=1)
            theirs_area = float((theirs[:, 2:] - theirs[:, :2]).prod())
            in_front = depth.mean(axis=1) < their_depth.mean()
            hidden = shared / np.where(in_front, theirs_area, size.prod(axis=1) + 1e-9)
            hidden[support == other] = 0.0
            score -= 2.0 * hidden
            score[hidden > most_hidden] = -np.inf
            weight_x += theirs_area * float(theirs[0, 0] + theirs[0, 2]) / 2.0
        return score - 0.35 * np.abs(np.clip(weight_x, -1.0, 1.0) + middle) * (len(self.placed) > 0)

    def _on_screen(self, corners: Float64) -> tuple[Float64, Float64]:
        """(N, 4) bounding rectangles (left, top, right, bottom; the picture is -1..1) and (N, 8) depths of corners."""
        pose = self.view.scene_from_camera
        local = (corners - pose[:3, 3]) @ pose[:3, :3]
        depth = np.maximum(local[..., 2], 0.05)
        x = local[..., 0] / (depth * self.view.tangent_x)
        y = local[..., 1] / (depth * self.view.tangent_y)
        return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=-1), local[..., 2]

    def _standing(self, index: int, x: Float64, z: Float64, yaw: Float64) -> tuple[UprightBoxes, np.ndarray]:
        half = self._halves[index]
        centre = np.stack([x, np.full_like(x, half[1]), z], axis=-1)
        return UprightBoxes(centre, np.broadcast_to(half, centre.shape), yaw), np.full(len(x), FLOOR)

    def _against_walls(self, index: int) -> tuple[UprightBoxes, np.ndarray]:
        """Backs to the wall ahead or to the side walls."""
        half = self._halves[index]
        wall = self.rng.choice(3, _CANDIDATES, p=[0.6, 0.2, 0.2])
        along = self.rng.random(_CANDIDATES)
        depth = half[2] + _GAP_TO_WALL
        span_x = self.area.low[0] + half[0] + 0.06 + along * (self.area.high[0] - self.area.low[0] - 2 * half[0] - 0.12)
        span_z = self.area.low[1] + half[0] + 0.06 + along * 4.0
        x = np.select(
            [wall == 0, wall == 1], [span_x, np.full_like(along, self.area.low[0] + depth)], self.area.high[0] - depth
        )
        z = np.where(wall == 0, self.area.low[1] + depth, span_z)
        yaw = np.select([wall == 0, wall == 1], [0.0 * along, np.full_like(along, np.pi / 2)], -np.pi / 2)
        return self._standing(index, x, z, yaw)

    def _open(self, index: int) -> tuple[UprightBoxes, np.ndarray]:
        """Anywhere on the floor before the camera, fronts turned towards the middle of the group or the camera."""
        pose = self.view.scene_from_camera
        forward = pose[[0, 2], 2] / np.linalg.norm(pose[[0, 2], 2])
        right = pose[[0, 2], 0]
        depth = self.rng.uniform(1.6, 5.2, _CANDIDATES)
        across = self.rng.uniform(-0.95, 0.95, _CANDIDATES) * depth * self.view.tangent_x
        spot = pose[[0, 2], 3] + depth[:, None] * forward + across[:, None] * right
        middle = pose[[0, 2], 3] + 2.9 * forward
        towards = middle - spot
        if self.pieces[index].family in {"easel", "sculpture", "television"}:
            towards = pose[[0, 2], 3] - spot
        yaw = np.arctan2(towards[:, 0], towards[:, 1]) + self.rng.normal(0.0, 0.25, _CANDIDATES)
        if self.pieces[index].family in _SQUARE_TO_ROOM:
            yaw = self.rng.integers(0, 2, _CANDIDATES) * (np.pi / 2) + self.rng.normal(0.0, 0.06, _CANDIDATES)
        return self._standing(index, spot[:, 0], spot[:, 1], yaw)

    def _around(self, index: int) -> tuple[UprightBoxes, np.ndarray]:
        """At the sides of a table, facing it."""
        families = _SEATED_AT[self.pieces[index].family]
        anchors = next((found for group in families if (found := self._of_families(group))), [])
        if not anchors:
            return _NOWHERE
        anchor = self.rng.choice(anchors, _CANDIDATES)
        side = self.rng.integers(0, 4, _CANDIDATES)
        half = self._halves[index]
        centre, anchor_half, anchor_yaw = self._of(anchor)
        gap = self.rng.uniform(self.margin + 0.01, 0.12, _CANDIDATES) + half[2]
        slide = self.rng.uniform(-0.75, 0.75, _CANDIDATES)
        lengthwise = side % 2 == 0
        sign = np.where(side < 2, 1.0, -1.0)
        local_x = np.where(
            lengthwise, slide * np.maximum(anchor_half[:, 0] - half[0], 0), sign * (anchor_half[:, 0] + gap)
        )
        local_z = np.where(
            lengthwise, sign * (anchor_half[:, 2] + gap), slide * np.maximum(anchor_half[:, 2] - half[0], 0)
        )
        facing = np.where(lengthwise, np.where(sign > 0, np.pi, 0.0), np.where(sign > 0, -np.pi / 2, np.pi / 2))
        x, z = _turned(local_x, local_z, anchor_yaw)
        yaw = anchor_yaw + facing + self.rng.normal(0.0, 0.06, _CANDIDATES)
        return self._standing(index, centre[:, 0] + x, centre[:, 2] + z, yaw)

    def _in_front(self, index: int) -> tuple[UprightBoxes, np.ndarray]:
        """Before a sofa, an armchair or a bed."""
        anchors = self._of_families(("sofa", "armchair", "bed"))
        if not anchors:
            return _NOWHERE
        anchor = self.rng.choice(anchors, _CANDIDATES)
        centre, anchor_half, anchor_yaw = self._of(anchor)
        forward = anchor_half[:, 2] + self._halves[index][2] + self.rng.uniform(0.3, 0.6, _CANDIDATES)
        x, z = _turned(self.rng.normal(0.0, 0.2, _CANDIDATES), forward, anchor_yaw)
        yaw = anchor_yaw + self.rng.normal(0.0, 0.05, _CANDIDATES)
        return self._standing(index, centre[:, 0] + x, centre[:, 2] + z, yaw)

    def _beside(self, index: int) -> tuple[UprightBoxes, np.ndarray]:
        """Next to larger furniture, in line with its back."""
        anchors = self._of_families(_FLANKED)
        if not anchors:
            return _NOWHERE
        if self.pieces[index].family == "nightstand" and self._of_families(("bed",)):
            anchors = self._of_families(("bed",))
        anchor = self.rng.choice(anchors, _CANDIDATES)
        half = self._halves[index]
        centre, anchor_half, anchor_yaw = self._of(anchor)
        side = self.rng.choice([-1.0, 1.0], _CANDIDATES)
        gap = self.rng.uniform(self.margin + 0.01, 0.3, _CANDIDATES)
        back = -anchor_half[:, 2] + half[2] + self.rng.uniform(0.0, 0.12, _CANDIDATES)
        x, z = _turned(side * (anchor_half[:, 0] + half[0] + gap), back, anchor_yaw)
        return self._standing(index, centre[:, 0] + x, centre[:, 2] + z, anchor_yaw)

    def _on_tops(self, index: int) -> tuple[UprightBoxes, np.ndarray]:
        """On free tops of what stands already."""
        spots = [(other, top) for other in self.placed for top in self.pieces[other].tops if self._fits(index, top)]
        if not spots:
            return _NOWHERE
        picks = self.rng.integers(0, len(spots), _CANDIDATES)
        support = np.array([spots[pick][0] for pick in picks])
        rect = np.array([(*spots[pick][1].low, *spots[pick][1].high, spots[pick][1].height) for pick in picks])
        centre, _, anchor_yaw = self._of(support)
        half = self._halves[index]
        turn = self.rng.normal(0.0, 0.25, _CANDIDATES)
        reach = np.array([_CONTACT.get(self.pieces[index].family, 1.0), 1.0])[None] * half[[0, 2]]
        reach = np.abs(np.cos(turn))[:, None] * reach + np.abs(np.sin(turn))[:, None] * reach[:, ::-1]
        low, high = rect[:, :2] + reach, rect[:, 2:4] - reach
        share = self.rng.random((_CANDIDATES, 2))
        local = np.where(high > low, low + share * (high - low), (low + high) / 2)
        x, z = _turned(local[:, 0], local[:, 1], anchor_yaw)
        y = centre[:, 1] + rect[:, 4] + half[1] + _GAP_ON_TOP
        boxes = UprightBoxes(
            np.stack([centre[:, 0] + x, y, centre[:, 2] + z], axis=-1),
            np.broadcast_to(half, (_CANDIDATES, 3)),
            anchor_yaw + turn,
        )
        keep = np.flatnonzero((high >= low).all(axis=1))
        return boxes.take(keep), support[keep]

    def _fits(self, index: int, top: Top) -> bool:
        half = self._halves[index]
        contact = _CONTACT.get(self.pieces[index].family, 1.0)
        return 2 * contact * half[0] <= top.high[0] - top.low[0] and 2 * half[2] <= top.high[1] - top.low[1]

    def _of_families(self, families: Sequence[str]) -> list[int]:
        return [index for index in self.placed if self.pieces[index].family in families]

    def _of(self, indices: np.ndarray) -> tuple[Float64, Float64, Float64]:
        centre = np.array([self.placed[int(index)].centre for index in indices])
        half = np.array([self._halves[int(index)] for index in indices])
        yaw = np.array([self.placed[int(index)].yaw for index in indices])
        return centre, half, yaw


def placing_order(pieces: Sequence[Piece]) -> list[int]:
    """Indices in the order that leaves room: what others stand by first, then by floor area, small things last."""
    ranks = {"wall": 0, "front": 1, "open": 1, "beside": 2, "around": 2, "side": 3, "top": 4}

    def key(index: int) -> tuple[int, float]:
        piece = pieces[index]
        width, _, depth = np.diff(bounds(piece.mesh), axis=0)[0]
        rule = RULES.get(piece.family, "open")
        rank = 0 if rule == "open" and piece.family in _TABLES else ranks[rule]
        return rank, -float(width * depth)

    return sorted(range(len(pieces)), key=key)


def _turned(x: Float64, z: Float64, yaw: Float64) -> tuple[Float64, Float64]:
    """(x, z) turned about y by a right-handed angle, radians."""
    return np.cos(yaw) * x + np.sin(yaw) * z, -np.sin(yaw) * x + np.cos(yaw) * z


def yaw_matrix(yaw: float) -> Float64:
    """(3, 3) right-handed rotation about y by an angle in radians."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


RULES: dict[str, str] = {
    **dict.fromkeys(("sofa", "bed", "cabinet", "wardrobe", "kitchen_counter", "refrigerator", "bookshelf"), "wall"),
    **dict.fromkeys(("fireplace", "stove", "piano", "desk", "workbench"), "wall"),
    **dict.fromkeys(("chair", "stool"), "around"),
    **dict.fromkeys(("coffee_table", "pouf"), "front"),
    **dict.fromkeys(("floor_lamp", "plant", "basket", "side_table", "shrub", "crate", "chest"), "side"),
    "nightstand": "beside",
    **dict.fromkeys(("table_lamp", "vase", "fruit_bowl", "books", "teapot", "bottles", "candles"), "top"),
    **dict.fromkeys(("clock", "television", "globe", "toolbox", "small_plant"), "top"),
}
"""How a family is placed; the others stand in the open."""

_TABLES = ("table", "desk", "workbench", "coffee_table", "side_table", "kitchen_counter")
_SEATED_AT = {
    "chair": (("table",), ("desk",), ("side_table", "workbench")),
    "stool": (("kitchen_counter", "table"), ("workbench", "piano"), ("desk",)),
}
_FLANKED = ("sofa", "bed", "cabinet", "bookshelf", "fireplace", "desk", "piano", "bench", "armchair", "kitchen_counter")
_SQUARE_TO_ROOM = ("table", "fountain", "tree", "parasol", "crate", "coffee_table", "bench")
_CONTACT = {"television": 0.45}
"""Share of the width that touches the support, where a piece is much wider than its foot."""

_NOWHERE = (UprightBoxes(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)), np.zeros(0, dtype=np.int64))
