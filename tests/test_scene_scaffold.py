"""Stage scene_scaffold: depth and geometry behind the view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.assets import conditioning_view, scene_scaffold
from sceneloom.assets.stage import StageContext
from sceneloom.ops.cameras import unproject
from sceneloom.ops.raycast_reference import closest_hits, world_triangles
from sceneloom.resources.embedded_engines import geometry_behind
from sceneloom.resources.engines import Engines, Scaffold, View

from .tiny import HEIGHT, WIDTH, made_collection

KINDS = pytest.mark.parametrize("kind", ["prompt", "image"])


@KINDS
def test_depth_is_that_of_the_geometry_by_the_plain_oracle(kind: str) -> None:
    made = made_collection()
    scaffold = scene_scaffold.read_scaffold(made.inputs(made.scene(kind)))
    assert (scaffold.depth.dtype, scaffold.depth.shape) == (np.float32, (HEIGHT, WIDTH))
    assert (scaffold.depth > 0).all()
    rows, columns = np.mgrid[3:HEIGHT:12, 5:WIDTH:17].reshape(2, -1)
    pixels = np.stack([columns, rows], axis=1) + 0.5
    # At depth 1 a ray's parameter is its z-depth.
    directions = unproject(pixels, np.ones(len(pixels)), np.eye(4), scaffold.intrinsics)
    depth, _, _ = closest_hits(world_triangles(geometry_behind(scaffold)), np.zeros_like(directions), directions)
    np.testing.assert_allclose(scaffold.depth[rows, columns], depth, rtol=2e-4)


def test_a_prompts_geometry_is_published_once_with_the_view() -> None:
    made = made_collection()
    inputs = made.inputs(made.scene("prompt"))
    assert "scene.npz" not in inputs.names("scene_scaffold")
    assert inputs.json("scene_scaffold", "scaffold.json")["geometry_stage"] == "conditioning_view"
    assert made.record(made.scene("prompt"), "scene_scaffold").engine == "ground_truth"


def test_a_pictures_geometry_is_a_closed_box_with_the_picture_on_it() -> None:
    made = made_collection()
    inputs = made.inputs(made.scene("image"))
    description = inputs.json("scene_scaffold", "scaffold.json")
    scaffold = scene_scaffold.read_scaffold(inputs)
    assert description["geometry_stage"] == "scene_scaffold"
    assert geometry_behind(scaffold).instances == []
    assert (description["metric"], description["unit"]) == (False, "arbitrary")
    assert made.record(made.scene("image"), "scene_scaffold").engine == "tour_into_picture"


@KINDS
def test_intrinsics_are_the_views(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    view = conditioning_view.read_view(inputs)
    np.testing.assert_array_equal(scene_scaffold.read_scaffold(inputs).intrinsics, view.intrinsics)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(2, 90),
    st.integers(2, 90),
    st.floats(0.5, 50),
    st.floats(51, 200),
)
def test_centre_depth_sees_the_middle_and_no_holes(height: int, width: int, near: float, far: float) -> None:
    depth = np.full((height, width), far, np.float32)
    rows, columns = max(height // 20, 1), max(width // 20, 1)
    middle = (slice(height // 2 - rows, height // 2 + rows), slice(width // 2 - columns, width // 2 + columns))
    depth[middle] = near
    assert scene_scaffold.centre_depth(depth) == pytest.approx(near)
    depth[middle] = 0
    outside = (depth > 0).any()
    assert scene_scaffold.centre_depth(depth) == pytest.approx(far if outside else 1.0)


class _DepthAlone:
    """A scaffold engine that finds depth and a lens of its own, but no geometry."""

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        depth = np.full(view.picture.shape[:2], 2.5, np.float32)
        return Scaffold(depth, view.intrinsics * 1.1, True, None, {"engine": "depth_alone"})


@KINDS
def test_depth_alone_publishes_no_geometry_and_reads_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_collection()
    scene = made.scene(kind)
    engines = Engines(made.profile)
    monkeypatch.setattr(engines, "scaffold", lambda scene: _DepthAlone())
    context = StageContext(
        scene=scene, profile=made.profile, inputs=made.inputs(scene), scratch=tmp_path, seed=0, engines=engines
    )
    result = scene_scaffold.make(context)
    assert not (tmp_path / "scene.npz").exists()
    description = json.loads((tmp_path / "scaffold.json").read_text())
    assert description["geometry_stage"] is None
    assert result.metrics["centre_depth"] == 2.5
    with np.load(tmp_path / "depth.npz") as archive:
        np.testing.assert_allclose(
            archive["intrinsics"], conditioning_view.read_view(made.inputs(scene)).intrinsics * 1.1
        )
