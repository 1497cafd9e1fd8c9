"""Stage scene_preview: a recording that Rerun opens, with every trajectory and object in it."""

from __future__ import annotations

from rerun.chunk import RrdReader

from sceneloom.assets import scene_preview

from .tiny import TRAJECTORIES, made_collection


def test_the_recording_holds_every_trajectory_and_object() -> None:
    made = made_collection()
    scene = made.scene("prompt")
    path = made.inputs(scene).path("scene_preview", scene_preview.RECORDING)
    entities = {str(chunk.entity_path) for chunk in RrdReader(path).stream()}
    for trajectory in TRAJECTORIES:
        assert f"/world/cameras/{trajectory}/rgb" in entities
        assert f"/world/cameras/{trajectory}/depth" in entities
        assert f"/world/points/{trajectory}" in entities
    for row in made.objects(scene):
        assert f"/world/objects/{row['instance_id']}_{row['family']}/mesh" in entities


def test_the_record_says_how_to_open_it() -> None:
    made = made_collection()
    scene = made.scene("image")
    record = made.record(scene, "scene_preview")
    assert record.metadata["open"] == f"sceneloom view {scene.scene_id}"
    assert record.metrics["recording_bytes"] == record.bytes > 1000
