from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rerun.chunk import Chunk, RrdReader

from sceneloom.assets import rerun_preview
from sceneloom.assets.rerun_preview import PreviewClip, write_recording
from sceneloom.datasets.errors import ContractError
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_model import SceneModel

from .scenes import room_scene

HEIGHT, WIDTH, FRAMES = 96, 160, 5


@pytest.fixture(scope="module")
def scene() -> SceneModel:
    return room_scene(height=HEIGHT, width=WIDTH, unlit=True)


def clip_of(scene: SceneModel, name: str, step: float) -> PreviewClip:
    """A camera that slides sideways by `step` metres a frame."""
    c2w = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    c2w[:, 0, 3] = step * np.arange(FRAMES)
    caster = RayCaster(scene)
    frames = [caster.render(pose, scene.intrinsics, HEIGHT, WIDTH, samples_per_pixel=1, seed=0) for pose in c2w]
    return PreviewClip(
        name,
        np.stack([frame.rgb for frame in frames]),
        np.stack([frame.depth for frame in frames]),
        c2w,
        np.tile(scene.intrinsics.astype(np.float32), (FRAMES, 1)),
    )


@pytest.fixture(scope="module")
def clips(scene: SceneModel) -> list[PreviewClip]:
    return [clip_of(scene, "left", -0.05), clip_of(scene, "right", 0.05)]


@pytest.fixture(scope="module")
def recording(scene: SceneModel, clips: list[PreviewClip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preview") / "scene.rrd"
    write_recording(path, scene_id="attic-01", clips=clips, frames_per_second=24, scene=scene)
    return path


def chunks(path: Path) -> dict[str, list[Chunk]]:
    found: dict[str, list[Chunk]] = {}
    for chunk in RrdReader(path).stream():
        found.setdefault(chunk.entity_path, []).append(chunk)
    return found


def values(path: Path, entity: str, component: str) -> list:
    """All rows of one component of one entity, in the order of the timeline."""
    rows = []
    for chunk in chunks(path)[entity]:
        batch = chunk.to_record_batch()
        for index, name in enumerate(batch.schema.names):
            if name.endswith(component):
                times = batch["frame"].to_pylist() if "frame" in batch.schema.names else [0] * batch.num_rows
                rows += list(zip(times, batch.column(index).to_pylist(), strict=True))
    return [value for _, value in sorted((row for row in rows if row[1] is not None), key=lambda row: row[0])]


def test_every_part_of_the_scene_is_there(recording: Path) -> None:
    entities = set(chunks(recording))
    for name in ("left", "right"):
        expected = {f"/world/cameras/{name}", f"/world/cameras/{name}/rgb", f"/world/cameras/{name}/depth"}
        assert expected | {f"/world/paths/{name}", f"/world/points/{name}"} <= entities
    assert {"/world/objects/1_box/mesh", "/world/objects/2_ball/box"} <= entities


def test_frames_and_depth_read_back(recording: Path, clips: list[PreviewClip]) -> None:
    pictures = values(recording, "/world/cameras/right/rgb", "EncodedImage:blob")
    assert len(pictures) == FRAMES
    shown = np.array(Image.open(io.BytesIO(bytes(pictures[3][0]))), dtype=float)
    assert np.abs(shown - clips[1].rgb[3]).mean() < 4
    depths = values(recording, "/world/cameras/right/depth", "EncodedDepthImage:blob")
    millimetres = np.array(Image.open(io.BytesIO(bytes(depths[3][0]))), dtype=float)
    np.testing.assert_allclose(millimetres / 1000, clips[1].depth[3], atol=0.00051)


def test_points_lie_on_the_rooms_surfaces(recording: Path, scene: SceneModel) -> None:
    (points,) = values(recording, "/world/points/left", "Points3D:positions")
    assert len(points) > 1000
    distance = RayCaster(scene).closest_distance(np.array(points, np.float32))
    assert distance.max() < 2e-3


def test_the_recording_is_named_by_the_scene(
    recording: Path, clips: list[PreviewClip], scene: SceneModel, tmp_path: Path
) -> None:
    again, other = tmp_path / "again.rrd", tmp_path / "other.rrd"
    write_recording(again, scene_id="attic-01", clips=clips[:1], frames_per_second=24)
    write_recording(other, scene_id="den-01", clips=clips[:1], frames_per_second=24)
    first, second, third = (RrdReader(path).recordings()[0].recording_id for path in (recording, again, other))
    assert first == second != third
    assert RrdReader(recording).blueprints()


def test_a_large_clip_is_thinned(tmp_path: Path) -> None:
    frames, height, width = 61, 352, 644
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    clip = PreviewClip(
        "left",
        np.broadcast_to(noise, (frames, height, width, 3)),
        np.broadcast_to(np.float16(90.0), (frames, height, width)),
        np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
        np.tile(np.array([500.0, 500.0, width / 2, height / 2], np.float32), (frames, 1)),
    )
    path = tmp_path / "large.rrd"
    write_recording(path, scene_id="large", clips=[clip], frames_per_second=24)
    assert path.stat().st_size < 15e6 / 6
    pictures = values(path, "/world/cameras/left/rgb", "EncodedImage:blob")
    depths = values(path, "/world/cameras/left/depth", "EncodedDepthImage:blob")
    assert len(pictures) == 24
    sizes = {Image.open(io.BytesIO(bytes(blob[0]))).size for blob in (*pictures, *depths)}
    assert sizes == {(215, 118)}
    (lens,) = {tuple(value[0]) for value in values(path, "/world/cameras/left", "Pinhole:image_from_camera")}
    assert lens == pytest.approx((500 / 3, 0, 0, 0, 500 / 3, 0, width / 6, height / 6, 1))
    (unit,) = {value[0] for value in values(path, "/world/cameras/left/depth", "EncodedDepthImage:meter")}
    levels = np.array(Image.open(io.BytesIO(bytes(depths[0][0]))), dtype=float)
    np.testing.assert_allclose(levels / unit, 90.0, rtol=1e-4)


def test_nothing_is_left_behind_when_a_clip_is_refused(clips: list[PreviewClip], tmp_path: Path) -> None:
    path = tmp_path / "scene.rrd"
    short = dataclasses.replace(clips[1], c2w=clips[1].c2w[:2])
    with pytest.raises(ContractError, match=r"clip right: c2w \(2, 4, 4\), expected \(5, 4, 4\)"):
        write_recording(path, scene_id="attic", clips=[clips[0], short], frames_per_second=24)
    with pytest.raises(ContractError, match="already in the recording"):
        write_recording(path, scene_id="attic", clips=[clips[0], clips[0]], frames_per_second=24)
    assert list(tmp_path.iterdir()) == []


def test_names_keep_their_colours() -> None:
    assert rerun_preview._colour("left") == rerun_preview._colour("left") != rerun_preview._colour("right")
