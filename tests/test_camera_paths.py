"""Stage camera_paths: the commanded cameras of every trajectory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sceneloom.assets import camera_paths, scene_scaffold
from sceneloom.assets.stage import StageContext
from sceneloom.datasets.errors import ConfigError
from sceneloom.ops.raycast_reference import closest_distances, world_triangles
from sceneloom.resources.embedded_engines import geometry_behind
from sceneloom.resources.profiles import CameraFile

from .tiny import FRAMES, HEIGHT, TRAJECTORIES, WIDTH, copied_collection, made_collection, run_scene

KINDS = pytest.mark.parametrize("kind", ["prompt", "image"])


@KINDS
def test_every_trajectory_starts_at_the_conditioning_camera_and_keeps_its_lens(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    scaffold = scene_scaffold.read_scaffold(inputs)
    for trajectory in TRAJECTORIES:
        arrays = inputs.arrays("camera_paths", f"{trajectory}.npz")
        assert {name: (values.dtype, values.shape) for name, values in arrays.items()} == {
            "c2w": (np.float32, (FRAMES, 4, 4)),
            "intrinsics": (np.float32, (FRAMES, 4)),
            "clearance": (np.float32, (FRAMES,)),
        }
        np.testing.assert_array_equal(arrays["c2w"][0], np.eye(4))
        np.testing.assert_array_equal(arrays["intrinsics"], np.tile(np.float32(scaffold.intrinsics), (FRAMES, 1)))


@KINDS
def test_cameras_move_the_way_their_trajectory_is_called(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    last = {name: inputs.arrays("camera_paths", f"{name}.npz")["c2w"][-1, :3, 3] for name in TRAJECTORIES}
    assert last["left"][0] < -0.05
    assert abs(last["left"][2]) < abs(last["left"][0])
    assert last["zoom_in"][2] > 0.05


@KINDS
def test_clearance_is_the_distance_to_the_nearest_surface_and_is_kept(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    triangles = world_triangles(geometry_behind(scene_scaffold.read_scaffold(inputs)))
    summary = inputs.json("camera_paths", "paths.json")
    for trajectory in TRAJECTORIES:
        arrays = inputs.arrays("camera_paths", f"{trajectory}.npz")
        expected = closest_distances(triangles, arrays["c2w"][-1:, :3, 3])
        np.testing.assert_allclose(arrays["clearance"][-1:], expected, rtol=1e-3, atol=1e-4)
        assert arrays["clearance"].min() >= made.profile.trajectories.minimum_clearance
        assert summary[trajectory]["smallest_clearance"] == pytest.approx(float(arrays["clearance"].min()))


def test_what_was_drawn_and_the_length_of_the_way_are_recorded() -> None:
    made = made_collection()
    scene = made.scene()
    summary = made.inputs(scene).json("camera_paths", "paths.json")
    assert list(summary) == sorted(TRAJECTORIES)
    for trajectory, facts in summary.items():
        centres = made.inputs(scene).arrays("camera_paths", f"{trajectory}.npz")["c2w"][:, :3, 3]
        assert facts["travelled"] == pytest.approx(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum(), rel=1e-5)
        assert facts["draws"]
        assert 0 < facts["factor"] <= 1
        assert facts["translation"] == "true"
        assert "lyra" in facts["source"].lower()


def test_a_large_clearance_shortens_paths_and_says_by_how_much(tmp_path: Path) -> None:
    made = copied_collection(
        tmp_path / "copy",
        trajectories={"names": list(TRAJECTORIES), "minimum_clearance": 1.0, "movement_factor": 2.5},
    )
    scene = made.scene("prompt")
    events = run_scene(made, scene, ["camera_paths"])
    assert [event.outcome for event in events] == ["made"], events[-1].failure
    summary = made.runtime.store.fetch(made.record(scene, "camera_paths"), "paths.json")
    facts = json.loads(summary.read_text())
    assert min(path["factor"] for path in facts.values()) < 1
    assert min(path["smallest_clearance"] for path in facts.values()) >= 1.0
    assert made.record(scene, "camera_paths").metrics["shortened"] >= 1


def test_a_users_camera_file_becomes_a_trajectory(tmp_path: Path) -> None:
    c2w = np.tile(np.eye(4), (5, 1, 1))
    c2w[:, 0, 3] = np.linspace(0, 0.2, 5)
    np.savez(tmp_path / "walk.npz", c2w=c2w, intrinsics=np.tile([60.0, 60.0, 56.0, 32.0], (5, 1)))
    file = {"path": str(tmp_path / "walk.npz"), "metres_per_unit": 0.5}
    made = copied_collection(tmp_path / "copy", trajectories={"names": ["walk"], "files": {"walk": file}})
    scene = made.scene("prompt")
    events = run_scene(made, scene, ["camera_paths"])
    assert [event.outcome for event in events] == ["made"], events[-1].failure
    cameras = made.inputs(scene).arrays("camera_paths", "walk.npz")["c2w"]
    np.testing.assert_allclose(cameras[:, 0, 3], np.linspace(0, 0.1, FRAMES), atol=1e-6)


def test_the_content_of_a_camera_file_decides_and_its_place_does_not(tmp_path: Path) -> None:
    made = made_collection()

    def settings_with(file: Path) -> dict[str, object]:
        files = {"walk": CameraFile(path=str(file))}
        trajectories = made.profile.trajectories.model_copy(update={"files": files})
        return camera_paths.settings(made.profile.model_copy(update={"trajectories": trajectories}), made.scene())

    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    first.write_bytes(b"one way")
    second.write_bytes(b"one way")
    assert settings_with(first) == settings_with(second)
    second.write_bytes(b"another")
    assert settings_with(first) != settings_with(second)
    with pytest.raises(ConfigError, match=r"trajectories.files.walk: .*absent.npz.*No such file"):
        settings_with(tmp_path / "absent.npz")


def test_cameras_are_read_back_one_a_frame() -> None:
    made = made_collection()
    cameras = camera_paths.read_cameras(made.inputs(made.scene()), "left", height=HEIGHT, width=WIDTH)
    assert len(cameras) == FRAMES
    assert {(camera.height, camera.width) for camera in cameras} == {(HEIGHT, WIDTH)}


def test_cameras_keep_clear_of_what_the_view_shows_where_only_depth_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_collection()
    scene = made.scene("prompt")
    inputs = made.inputs(scene)
    whole = scene_scaffold.read_scaffold(inputs)
    wall = dataclasses.replace(whole, geometry=None, depth=np.full_like(whole.depth, 0.5), motions=())
    paths = {}
    for name, scaffold in (("whole", dataclasses.replace(whole, geometry=None)), ("wall", wall)):
        monkeypatch.setattr(scene_scaffold, "read_scaffold", lambda _, scaffold=scaffold: scaffold)
        (tmp_path / name).mkdir()
        context = StageContext(
            scene=scene,
            profile=made.profile,
            inputs=inputs,
            scratch=tmp_path / name,
            seed=made.record(scene, "camera_paths").key_parts.seed,
            engines=made.runtime.engines,
        )
        paths[name] = camera_paths.make(context).metadata
    # Of an open scene the view's surface gives nearly the path that its geometry gives.
    known = made.record(scene, "camera_paths").metadata
    for trajectory in TRAJECTORIES:
        assert paths["whole"][trajectory]["factor"] == pytest.approx(known[trajectory]["factor"], abs=0.1)
    # Half a metre from a wall the camera does not go through it.
    assert paths["wall"]["zoom_in"]["smallest_clearance"] >= made.profile.trajectories.minimum_clearance
    with np.load(tmp_path / "wall" / "zoom_in.npz") as archive:
        assert archive["c2w"][:, 2, 3].max() <= 0.5 - made.profile.trajectories.minimum_clearance + 1e-3
        np.testing.assert_allclose(archive["clearance"], 0.5 - archive["c2w"][:, 2, 3], atol=2e-3)
