"""MIDI-3D's data set, read by an independent reader that follows the rules of its dataset class."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sceneloom.datasets.errors import CorruptFileError, InputError
from sceneloom.datasets.exr import decode_exr, encode_exr
from sceneloom.datasets.glb import glb_of_meshes, moved_glb, node_positions
from sceneloom.datasets.layouts import midi
from sceneloom.datasets.layouts.midi_cameras import AZIMUTHS, room_frame, square_intrinsics, view_poses
from sceneloom.datasets.layouts.midi_examination import VIEWS
from sceneloom.datasets.layouts.midi_surfaces import decode_surface
from sceneloom.datasets.layouts.release import FindingKind, ReleaseDirectory, ReleaseObjects, ReleaseRequest
from sceneloom.datasets.layouts.reprojection import mask_covered

from .object_scenes import linked_copy, object_scenes, objects_of, put, scene_of_objects

SIZE = 64
Published = tuple[Path, dict[str, str], Any]


def request(root: Path, **options: str) -> ReleaseRequest:
    return ReleaseRequest(root, options={"size": str(SIZE), **options})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("release") / "midi"
    directory = ReleaseDirectory(root)
    summary = midi.write(directory, object_scenes(), request(root))
    return root, directory.scene_of, summary


# ---------------------------------------------------------------- what MIDI's dataset class does


def lists(root: Path, prefix: str = "midi") -> list[tuple[str, list[str]]]:
    rooms = json.loads((root / f"{prefix}_room_ids.json").read_text())
    furniture = json.loads((root / f"{prefix}_furniture_ids.json").read_text())
    return list(zip(rooms, furniture, strict=True))


def load_room(root: Path, room: str, stems: list[str], view: int, kind: str) -> dict[str, np.ndarray]:
    """Surfaces and pictures of one room and view; objects of at most a thousandth of the picture are dropped."""
    rng = np.random.default_rng(0)
    surfaces = []
    for stem in stems:
        data = np.load(root / "3D-FRONT-SURFACE" / room / f"{stem}.npy", allow_pickle=True).item()
        chosen = rng.choice(len(data["surface_points"]), 20480, replace=False)
        surfaces.append(np.concatenate([data["surface_points"][chosen], data["surface_normals"][chosen]], axis=1))
    folder = root / "3D-FRONT-RENDER" / room
    image = Image.open(folder / f"{kind}_{view:04d}.webp").resize((512, 512))
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    scene = np.asarray(image.convert("RGB"))
    ids = np.asarray(Image.open(folder / f"semantic_{view:04d}.png").resize((512, 512), Image.Resampling.NEAREST))
    assert ids.ndim == 2
    masks = [ids == k for k in range(1, len(stems) + 1)]
    kept = [k for k, mask in enumerate(masks) if mask.mean() > 0.001]
    return {
        "surface": np.stack([surfaces[k] for k in kept]),
        "mask": np.stack([masks[k] for k in kept]),
        "rgb": np.stack([np.where(masks[k][..., None], scene, 255) for k in kept]),
        "rgb_scene": scene,
        "kept": np.array(kept),
    }


def test_a_fresh_release_has_no_faults(published: Published) -> None:
    root, scene_of, summary = published
    assert midi.examine(root, scene_of) == []
    assert summary.counts == {"rooms": 4, "validation rooms": 1, "test rooms": 1, "objects": 18}
    assert summary.scene_names.keys() == {"room-of-four", "room", "corner", "courtyard"}
    assert all((root / path).is_file() for path in scene_of)


def told_slices(summary: Any) -> dict[str, slice]:
    """The slices of the list of rooms that the printed overrides set."""
    pairs = [override.removeprefix("data.").split("_indices=") for override in summary.notes[0].split()]
    return {name: slice(*json.loads(value)) for name, value in pairs}


def test_the_told_overrides_keep_held_out_rooms_apart(published: Published) -> None:
    root, _, summary = published
    rooms = [room for room, _ in lists(root)]
    names = {room: scene for scene, room in summary.scene_names.items()}
    found = {part: [names[room] for room in rooms[chosen]] for part, chosen in told_slices(summary).items()}
    assert found == {"train": ["room-of-four", "room"], "val": ["corner"], "test": ["courtyard"]}


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (["train", "train", "train"], {"train": [0, 1], "val": [2], "test": [2]}),
        (["train", "test", "test"], {"train": [0], "val": [1, 2], "test": [1, 2]}),
        (["train", "validation"], {"train": [0], "val": [1], "test": [1]}),
        (["train", "validation", "validation", "test"], {"train": [0], "val": [1, 2], "test": [3]}),
        (["validation", "test"], {"train": [], "val": [0], "test": [1]}),
    ],
)
def test_overrides_of_every_mix_of_splits(splits: list[str], expected: dict[str, list[int]], tmp_path: Path) -> None:
    few = dataclasses.replace(objects_of(1), objects=objects_of(1).objects[:1])
    scenes = [
        scene_of_objects(f"room-{place}", dataclasses.replace(few, scene_number=str(1000001 + place)), split)
        for place, split in enumerate(splits)
    ]
    fields = frozenset({"training"})
    asked = ReleaseRequest(tmp_path, fields=fields, options={"size": "32"})
    summary = midi.write(ReleaseDirectory(tmp_path), scenes, asked)
    places = list(range(len(splits)))
    assert {part: places[chosen] for part, chosen in told_slices(summary).items()} == expected


def test_every_view_of_every_room_loads(published: Published) -> None:
    root, _, _ = published
    assert len(lists(root)) == 4
    for room, stems in lists(root):
        for view in range(11):
            for kind in ("render", "rerender"):
                loaded = load_room(root, room, stems, view, kind)
                count = len(loaded["kept"])
                assert count >= 2
                assert loaded["surface"].shape == (count, 20480, 6)
                assert loaded["rgb"].shape == (count, 512, 512, 3)
    assert json.loads((root / "valid_room_ids.json").read_text()) == [room for room, _ in lists(root)]


def test_stems_number_the_objects_in_order_and_test_rooms_stand_last(published: Published) -> None:
    root, scene_of, _ = published
    rooms = lists(root)
    assert lists(root, "midi_test") == rooms[-1:]
    test_room, _ = rooms[-1]
    assert scene_of[f"3D-FRONT-RENDER/{test_room}/meta.json"] == "courtyard"
    for _, stems in rooms:
        assert [stem.rsplit("_", 1)[1] for stem in stems] == [str(n) for n in range(1, len(stems) + 1)]
        assert all(len(stem.split("_")) == 3 for stem in stems)


def test_surfaces_glbs_and_objects_share_one_frame(published: Published) -> None:
    trimesh = pytest.importorskip("trimesh")
    root, _, _ = published
    room, stems = lists(root)[1]
    meta = json.loads((root / "3D-FRONT-RENDER" / room / "meta.json").read_text())
    to_room = np.array(meta["sceneloom"]["room_from_world"])
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for stem, item in zip(stems, objects_of(0).objects, strict=True):
        placed = trimesh.load(item.obj, force="mesh", process=False)
        placed.apply_transform(to_room @ item.camera_from_object)
        glb = trimesh.load(root / "3D-FRONT-SCENE" / room / f"{stem}.glb", force="mesh")
        assert np.allclose(glb.bounds, placed.bounds, atol=1e-5)
        data = np.load(root / "3D-FRONT-SURFACE" / room / f"{stem}.npy", allow_pickle=True).item()
        points, normals = data["surface_points"], data["surface_normals"]
        _, distance, face = trimesh.proximity.closest_point_naive(placed, points[:40])
        assert distance.max() < 1e-5
        assert np.abs(normals[:40]).max() <= 1
        same = np.abs((placed.face_normals[face] * normals[:40]).sum(axis=1))
        assert (same > 0.99).mean() > 0.7
        low, high = np.minimum(low, placed.bounds[0]), np.maximum(high, placed.bounds[1])
    assert np.allclose((low + high) / 2, 0, atol=1e-6)
    assert np.isclose((high - low).max(), 1.9)
    assert np.isclose(np.cbrt(np.linalg.det(to_room[:3, :3])), meta["sceneloom"]["room_units_per_metre"])
    # Furniture stands upright: the room's up is the objects' up.
    upright = to_room[:3, :3] @ objects_of(0).objects[0].camera_from_object[:3, 1]
    assert np.allclose(upright, [0, meta["sceneloom"]["room_units_per_metre"], 0])


def surfaces_of(root: Path, room: str, stems: list[str]) -> list[dict[str, np.ndarray]]:
    folder = root / "3D-FRONT-SURFACE" / room
    return [np.load(folder / f"{stem}.npy", allow_pickle=True).item() for stem in stems]


def test_depth_normals_and_cameras_agree_with_the_surfaces(published: Published) -> None:
    root, _, _ = published
    room, stems = lists(root)[0]
    folder = root / "3D-FRONT-RENDER" / room
    meta = json.loads((folder / "meta.json").read_text())
    angle = meta["camera_angle_x"]
    assert math.isclose(meta["camera_lens"], meta["sensor_width"] / 2 / math.tan(angle / 2))
    surfaces = surfaces_of(root, room, stems)
    for location in (meta["locations"][0], meta["locations"][7]):
        index = location["index"]
        ids = np.asarray(Image.open(folder / f"semantic_{index}.png"))
        depth = decode_exr((folder / f"depth_{index}.exr").read_bytes(), "depth")["R"].astype(float)
        assert (depth[ids == 0] == 65504).all()
        rows, columns = np.nonzero(ids)
        focal = SIZE / 2 / math.tan(angle / 2)
        z = depth[rows, columns]
        # OpenGL: y up, looking along -z.
        camera = np.stack([(columns + 0.5 - SIZE / 2) / focal * z, -(rows + 0.5 - SIZE / 2) / focal * z, -z], axis=1)
        pose = np.array(location["transform_matrix"])
        assert np.allclose(pose[:3, 3], location["position"])
        points = camera @ pose[:3, :3].T + pose[:3, 3]
        picture = np.asarray(Image.open(folder / f"normal_{index}.webp"))
        assert np.array_equal(picture[..., 3] > 0, ids > 0)
        normals = (picture[rows, columns, :3] / 255.0 * 2 - 1) @ pose[:3, :3].T
        agree = []
        for number, surface in enumerate(surfaces, 1):
            mine = ids[rows, columns] == number
            apart = np.linalg.norm(points[mine][:40, None] - surface["surface_points"][None], axis=2)
            if len(apart):
                assert np.median(apart.min(axis=1)) < 0.01
                assert apart.min(axis=1).max() < 0.05
                nearest = surface["surface_normals"][apart.argmin(axis=1)]
                agree += ((nearest * normals[mine][:40]).sum(axis=1) > 0.9).tolist()
        # Near edges the nearest point may lie on the next face.
        assert np.mean(agree) > 0.75


def test_rerender_shows_the_objects_of_render_in_their_room(published: Published) -> None:
    root, _, _ = published
    room, _ = lists(root)[0]
    folder = root / "3D-FRONT-RENDER" / room
    render = np.asarray(Image.open(folder / "render_0000.webp"))
    around = np.asarray(Image.open(folder / "rerender_0000.webp")).astype(int)
    shown = render[..., 3] > 127
    assert np.array_equal(shown, np.asarray(Image.open(folder / "semantic_0000.png")) > 0)
    assert (render[..., 3] % 255 == 0).all()
    assert np.std(around[~shown]) > 10
    meta = json.loads((folder / "meta.json").read_text())
    assert 0 not in meta["sceneloom"]["views_with_plain_ground"]


def test_walls_before_the_objects_give_way_to_a_plain_ground(tmp_path: Path) -> None:
    loaded = objects_of(0)

    def behind_a_wall(c2w: Any, intrinsics: Any, height: int, width: int, objects_only: bool) -> Any:
        view = loaded.render(c2w, intrinsics, height, width, objects_only)
        if objects_only:
            return view
        return dataclasses.replace(view, rgb=view.rgb * 0, instance_ids=view.instance_ids * 0)

    walled: ReleaseObjects = dataclasses.replace(loaded, objects=loaded.objects[:2], render=behind_a_wall)
    summary = midi.write(ReleaseDirectory(tmp_path), [scene_of_objects("walled", walled)], request(tmp_path))
    assert summary.notes[-1] == "11 of 11 rerender views have plain ground."
    [(room, stems)] = lists(tmp_path)
    picture = load_room(tmp_path, room, stems, 0, "rerender")["rgb_scene"]
    assert picture.max() > 0
    assert midi.examine(tmp_path, {}) == []


def test_equal_scenes_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        midi.write(ReleaseDirectory(tmp_path / name), [object_scenes()[1]], request(tmp_path))
    assert digests(tmp_path / "first") == digests(tmp_path / "second") != {}


def digests(root: Path) -> dict[str, str]:
    files = [file for file in root.rglob("*") if file.is_file()]
    return {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_path_that_the_loader_would_change_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "set_inpaint"
    with pytest.raises(InputError, match='the path holds "_inpaint"'):
        midi.write(ReleaseDirectory(root), [object_scenes()[1]], request(root))
    assert not root.exists()


def test_what_cannot_be_published_is_refused(tmp_path: Path) -> None:
    scene = object_scenes()[1]
    with pytest.raises(InputError, match="side of 32 to 4096"):
        midi.write(ReleaseDirectory(tmp_path), [scene], request(tmp_path, size="0"))
    with pytest.raises(InputError, match="pictures have no objects"):
        midi.write(ReleaseDirectory(tmp_path), [object_scenes()[3]], request(tmp_path))


def test_fields_that_are_not_wanted_are_not_written(tmp_path: Path) -> None:
    chosen = dataclasses.replace(request(tmp_path), fields=frozenset({"training"}))
    midi.write(ReleaseDirectory(tmp_path), [object_scenes()[1]], chosen)
    kinds = {file.name.split("_")[0] for file in (tmp_path / "3D-FRONT-RENDER").rglob("*_*")}
    assert kinds == {"render", "rerender", "semantic"}
    assert not (tmp_path / "3D-FRONT-SCENE").exists()
    assert midi.examine(tmp_path, {}) == []


def test_every_view_sees_all_objects() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform((-2, -0.3, 3), (3, 1.0, 6), (200, 3))
    frame = room_frame(points, [np.array([0.0, -1.0, 0.0])] * 3)
    assert np.allclose(frame.rotation @ frame.rotation.T, np.eye(3))
    assert np.isclose(np.linalg.det(frame.rotation), 1)
    room = points @ frame.room_from_world[:3, :3].T + frame.room_from_world[:3, 3]
    assert np.allclose(np.abs(room).max(axis=0).max(), 0.95)
    for angle in (50.0, 80.0):
        focal, _, centre, _ = square_intrinsics(100, angle)
        poses = view_poses(frame, points, angle)
        assert len(poses) == len(AZIMUTHS) == VIEWS == 11
        for pose in poses:
            camera = (points - pose[:3, 3]) @ pose[:3, :3]
            pixels = camera[:, :2] / camera[:, 2:] * focal + centre
            assert (camera[:, 2] > 0).all()
            assert (pixels > 0).all()
            assert (pixels < 100).all()
            # Up stays up.
            assert pose[:3, 1] @ [0, 1, 0] > 0.7


def test_covered_masks_notice_a_wrong_pose() -> None:
    rng = np.random.default_rng(1)
    points = np.stack([rng.uniform(-1, 1, 20000), rng.uniform(-0.5, 0.5, 20000), np.full(20000, 4.0)], axis=1)
    mask = np.zeros((100, 200), bool)
    mask[25:75, 50:150] = True
    lens = (200.0, 200.0, 100.0, 50.0)
    assert mask_covered(points, lens, mask) == 1.0
    assert mask_covered(points + np.array([0.1, 0, 0]), lens, mask) < 0.97
    assert mask_covered(points * [1, 0.9, 1], lens, mask) < 0.99
    assert mask_covered(points * [1, 1, -1], lens, mask) == 0.0


def test_moved_glbs_are_where_trimesh_puts_them(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    item = objects_of(0).objects[0]
    matrix = np.eye(4)
    matrix[:3, :3] = 0.5 * trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3]
    matrix[:3, 3] = 1, 2, 3
    moved = trimesh.load(io.BytesIO(moved_glb(item.glb.read_bytes(), matrix, "glb")), file_type="glb", force="mesh")
    expected = trimesh.load(item.glb, force="mesh")
    expected.apply_transform(matrix)
    assert np.allclose(moved.bounds, expected.bounds, atol=1e-5)
    assert moved.visual.uv is not None
    with pytest.raises(CorruptFileError, match="not a whole GLB"):
        moved_glb(item.glb.read_bytes()[:-5], matrix, "glb")
    two = glb_of_meshes([("a", np.eye(3), np.array([[0, 1, 2]])), ("b", 2 * np.eye(3), np.array([[0, 1, 2]]))])
    assert [name for name, _ in node_positions(two, "glb")] == ["a", "b"]
    assert list(trimesh.load(io.BytesIO(two), file_type="glb").graph.nodes_geometry) == ["b", "a"]


# ---------------------------------------------------------------- damage


@dataclasses.dataclass(frozen=True)
class Room:
    """A room of the release, and where its files are."""

    root: Path
    render: str
    surface: str
    mesh: str

    def picture(self, name: str, change: Callable[[Image.Image], Image.Image], kind: str = "PNG") -> None:
        buffer = io.BytesIO()
        change(Image.open(self.root / self.render / name)).save(buffer, format=kind, lossless=True)
        put(self.root / self.render / name, buffer.getvalue())

    def points(self, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
        data = np.load(self.root / self.surface, allow_pickle=True).item()
        buffer = io.BytesIO()
        np.save(buffer, np.array(change(data), dtype=object), allow_pickle=True)
        put(self.root / self.surface, buffer.getvalue())

    def json(self, name: str, change: Callable[[Any], Any]) -> None:
        put(self.root / name, json.dumps(change(json.loads((self.root / name).read_text()))).encode())

    def cut(self, name: str) -> None:
        put(self.root / name, (self.root / name).read_bytes()[:-100])


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must never run",)


def opencv_cameras(meta: Any) -> Any:
    for location in meta["locations"]:
        location["transform_matrix"] = (np.array(location["transform_matrix"]) @ np.diag([1, -1, -1, 1])).tolist()
    return meta


def other_depth(room: Room) -> None:
    depth = np.ones((SIZE, SIZE), np.float16)
    put(room.root / room.render / "depth_0003.exr", encode_exr({"Z": depth}))


CONVENTION, MISALIGNED = FindingKind.OUT_OF_CONVENTION, FindingKind.MISALIGNED
MISSING, TRUNCATED = FindingKind.MISSING, FindingKind.TRUNCATED
DAMAGES: dict[str, tuple[Callable[[Room], Any], str, FindingKind, str | None]] = {
    "view missing": (
        lambda r: (r.root / r.render / "rerender_0004.webp").unlink(),
        "{render}/rerender_0004.webp",
        MISSING,
        "room",
    ),
    "view cut short": (
        lambda r: r.cut(f"{r.render}/render_0002.webp"),
        "{render}/render_0002.webp",
        TRUNCATED,
        "room",
    ),
    "id map in colour": (
        lambda r: r.picture("semantic_0001.png", lambda i: i.convert("RGB")),
        "{render}/semantic_0001.png",
        CONVENTION,
        "room",
    ),
    "id map mirrored": (
        lambda r: r.picture("semantic_0000.png", lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "{render}/render_0000.webp",
        MISALIGNED,
        "room",
    ),
    "ids exchanged": (
        lambda r: r.picture("semantic_0000.png", lambda i: i.point([{1: 2, 2: 1}.get(v, v) for v in range(256)])),
        "{render}/semantic_0000.png",
        CONVENTION,
        "room",
    ),
    "id beyond the list": (
        lambda r: r.picture("semantic_0000.png", lambda i: i.point([99 if v == 1 else v for v in range(256)])),
        "{render}/semantic_0000.png",
        MISALIGNED,
        "room",
    ),
    "empty id map": (
        lambda r: r.picture("semantic_0006.png", lambda i: i.point(lambda _: 0)),
        "{render}/semantic_0006.png",
        CONVENTION,
        "room",
    ),
    "picture of another size": (
        lambda r: r.picture("render_0005.webp", lambda i: i.resize((32, 32)), "WEBP"),
        "{render}/render_0005.webp",
        MISALIGNED,
        "room",
    ),
    "too few points": (
        lambda r: r.points(lambda d: {name: values[:20000] for name, values in d.items()}),
        "{surface}",
        CONVENTION,
        "room",
    ),
    "points in metres": (
        lambda r: r.points(lambda d: {**d, "surface_points": d["surface_points"] * 4}),
        "{surface}",
        CONVENTION,
        "room",
    ),
    "surface without normals": (
        lambda r: r.points(lambda d: {"surface_points": d["surface_points"]}),
        "{surface}",
        TRUNCATED,
        "room",
    ),
    "surface that runs code": (lambda r: r.points(lambda _: Harmful()), "{surface}", CONVENTION, "room"),
    "surface cut short": (lambda r: r.cut(r.surface), "{surface}", TRUNCATED, "room"),
    "mesh in its own frame": (
        lambda r: put(r.root / r.mesh, objects_of(0).objects[0].glb.read_bytes()),
        "{mesh}",
        MISALIGNED,
        "room",
    ),
    "cameras with OpenCV axes": (
        lambda r: r.json(f"{r.render}/meta.json", opencv_cameras),
        "{render}/semantic_0000.png",
        CONVENTION,
        "room",
    ),
    "angle in degrees": (
        lambda r: r.json(f"{r.render}/meta.json", lambda m: m | {"camera_angle_x": math.degrees(m["camera_angle_x"])}),
        "{render}/meta.json",
        CONVENTION,
        "room",
    ),
    "depth in the channel Z": (other_depth, "{render}/depth_0003.exr", CONVENTION, "room"),
    "stems in reverse": (
        lambda r: r.json("midi_furniture_ids.json", lambda f: [f[0], f[1][::-1], *f[2:]]),
        "midi_furniture_ids.json",
        MISALIGNED,
        "room",
    ),
    "lists of different lengths": (
        lambda r: r.json("midi_furniture_ids.json", lambda f: f[:-1]),
        "midi_furniture_ids.json",
        MISALIGNED,
        None,
    ),
    "list missing": (lambda r: (r.root / "midi_room_ids.json").unlink(), "midi_room_ids.json", MISSING, None),
    "a file that no list names": (
        lambda r: put(r.root / r.render / "render_0011.webp", b"more"),
        "{render}/render_0011.webp",
        FindingKind.UNEXPECTED,
        None,
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, scene_of, _ = published
    root = linked_copy(source, tmp_path / "copy")
    place, stems = lists(root)[1]
    room = Room(
        root,
        f"3D-FRONT-RENDER/{place}",
        f"3D-FRONT-SURFACE/{place}/{stems[0]}.npy",
        f"3D-FRONT-SCENE/{place}/{stems[0]}.glb",
    )
    damage, path, kind, scene = DAMAGES[name]
    damage(room)
    findings = midi.examine(root, scene_of)
    expected = path.format(render=room.render, surface=room.surface, mesh=room.mesh), kind, scene
    assert expected in {(item.path, item.kind, item.scene_id) for item in findings}, findings
    assert "never run" not in capsys.readouterr().out


def named_in(file: io.BytesIO) -> set[str]:
    """What the pickle at the file's place names, as module.name."""
    found = set()

    class Recording(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found.add(f"{module}.{name}")
            return super().find_class(module, name)

    Recording(file).load()
    return found


def test_point_sets_name_nothing_that_old_or_new_numpy_lacks(published: Published) -> None:
    root, _, _ = published
    room, stems = lists(root)[0]
    content = (root / "3D-FRONT-SURFACE" / room / f"{stems[0]}.npy").read_bytes()
    assert len(content) < 20480 * 6 * 4 + 2000
    file = io.BytesIO(content)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    assert named_in(file) == {"numpy.ndarray", "numpy.dtype"}
    loaded = np.load(io.BytesIO(content), allow_pickle=True).item()
    assert {name: values.dtype for name, values in loaded.items()} == {
        "surface_points": np.dtype("f4"),
        "surface_normals": np.dtype("f4"),
    }
    assert all(values.flags.writeable for values in loaded.values())


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_point_sets_of_other_programs_are_read(protocol: int) -> None:
    points = np.random.default_rng(0).normal(size=(7, 3))
    found = decode_surface(surface_file(points, protocol))
    np.testing.assert_array_equal(found[0], points)
    np.testing.assert_array_equal(found[1], -points)


@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_point_sets_under_the_names_of_old_and_new_numpy_are_read(package: str) -> None:
    points = np.random.default_rng(0).normal(size=(7, 3))
    content = surface_file(points, 3)
    [written] = {name for name in (b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n") if name in content}
    found = decode_surface(content.replace(written, f"c{package}.multiarray\n".encode()))
    np.testing.assert_array_equal(found[0], points)


def surface_file(points: np.ndarray, protocol: int) -> bytes:
    """A point set as `np.save` writes it, with another protocol."""
    value = np.array({"surface_points": points, "surface_normals": -points}, dtype=object)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(value))
    return buffer.getvalue() + pickle.dumps(value, protocol=protocol)
