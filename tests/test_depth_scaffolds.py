"""Depth engines: the real classes, tiny, through the production path; their numbers against the documented formulas."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sceneloom.datasets.errors import ConfigError, ContractError, EngineError
from sceneloom.ops.depth_alignment import align_affine
from sceneloom.ops.depth_edges import depth_edges
from sceneloom.resources.depth_scaffolds import (
    DepthAnythingScaffold,
    DepthPro,
    DepthProScaffold,
    metric_depth,
    relative_depth,
)
from sceneloom.resources.engines import ScaffoldEngine, View
from sceneloom.resources.resident_models import ResidentModels
from sceneloom.resources.transformers_settings import (
    DepthAnythingScaffoldSettings,
    DepthProModelSettings,
    DepthProScaffoldSettings,
)

from .tiny_transformers import DEPTH_PRO_SIDE, save_depth_anything, save_depth_pro

HEIGHT, WIDTH = 48, 80
INTRINSICS = np.array([100.0, 100.0, 40.0, 24.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("depth")
    save_depth_pro(place / "pro")
    save_depth_pro(place / "pro_without_field_of_view", field_of_view=False)
    save_depth_anything(place / "relative")
    save_depth_anything(place / "exchanged", deviation=-0.2)
    save_depth_anything(place / "metric", "metric")
    return place


@pytest.fixture(scope="module")
def view() -> View:
    generator = np.random.default_rng(0)
    picture = np.kron(generator.integers(0, 256, (6, 10, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return View(picture, INTRINSICS, None, {})


def depth_pro(folder: Path, name: str = "pro", **changes: object) -> DepthProScaffold:
    return DepthProScaffold(DepthProScaffoldSettings.model_validate({"path": str(folder / name), **changes}))


def depth_anything(folder: Path, name: str, **changes: object) -> DepthAnythingScaffold:
    settings = {"path": str(folder / name), "edge_bend": None, **changes}
    return DepthAnythingScaffold(DepthAnythingScaffoldSettings.model_validate(settings))


def depth_pro_output(folder: Path, picture: np.ndarray) -> tuple[np.ndarray, float]:
    """(2·64, 2·64) canonical inverse depth and field of view, by the library's class and the processor's recipe."""
    model = transformers.DepthProForDepthEstimation.from_pretrained(folder / "pro").eval()
    values = torch.from_numpy(picture.astype(np.float32) / 255.0)
    values = ((values - 0.5) / 0.5).permute(2, 0, 1)[None]
    # Without antialiasing, on values that were normalised before.
    side = DEPTH_PRO_SIDE
    resized = torch.nn.functional.interpolate(values, (side, side), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        output = model(pixel_values=resized)
    return output.predicted_depth[0].numpy(), float(output.field_of_view)


def bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resampling at pixel centres, without antialiasing."""
    rows = np.clip((np.arange(height) + 0.5) * values.shape[0] / height - 0.5, 0, values.shape[0] - 1)
    columns = np.clip((np.arange(width) + 0.5) * values.shape[1] / width - 0.5, 0, values.shape[1] - 1)
    by_row = np.stack([np.interp(rows, np.arange(len(values)), column) for column in values.T], axis=1)
    return np.stack([np.interp(columns, np.arange(values.shape[1]), row) for row in by_row])


def test_depth_pro_follows_its_processors_formula(folder: Path, view: View) -> None:
    raw, degrees = depth_pro_output(folder, view.picture)
    assert raw.std() > 0.001
    focal = 0.5 * WIDTH / np.tan(0.5 * np.radians(degrees))
    expected = 1.0 / np.clip(bilinear(raw * WIDTH / focal, HEIGHT, WIDTH), 1e-4, 1e4)
    scaffold = depth_pro(folder, edge_bend=None).build_scaffold(view, seed=0)
    np.testing.assert_allclose(scaffold.depth, expected, rtol=1e-4)
    np.testing.assert_allclose(scaffold.intrinsics, [focal, focal, WIDTH / 2, HEIGHT / 2], rtol=1e-5)
    assert scaffold.depth.shape == (HEIGHT, WIDTH)
    assert scaffold.depth.dtype == np.float32
    assert scaffold.metric
    assert scaffold.geometry is None
    assert scaffold.notes["estimated_horizontal_field_of_view"] == pytest.approx(degrees, rel=1e-5)
    assert scaffold.notes["focal_pixels"] == pytest.approx(focal, rel=1e-5)
    assert scaffold.notes["unit"] == "metre"


def test_a_known_focal_length_scales_depth_pro(folder: Path, view: View) -> None:
    estimated = depth_pro(folder, edge_bend=None).build_scaffold(view, seed=0)
    known = depth_pro(folder, edge_bend=None, focal="view").build_scaffold(view, seed=0)
    np.testing.assert_array_equal(known.intrinsics, INTRINSICS)
    factor = INTRINSICS[0] / estimated.intrinsics[0]
    np.testing.assert_allclose(known.depth, estimated.depth * factor, rtol=1e-4)
    assert abs(factor - 1.0) > 0.1


def test_without_a_field_of_view_part_the_focal_length_must_be_known(folder: Path, view: View) -> None:
    with pytest.raises(ConfigError, match="no part that estimates the field of view"):
        depth_pro(folder, "pro_without_field_of_view").build_scaffold(view, seed=0)
    settings = {"edge_bend": None, "focal": "view"}
    scaffold = depth_pro(folder, "pro_without_field_of_view", **settings).build_scaffold(view, seed=0)
    assert scaffold.notes["estimated_horizontal_field_of_view"] is None
    np.testing.assert_array_equal(scaffold.intrinsics, INTRINSICS)


@pytest.mark.parametrize("degrees", [0.5, 179.5, -60.0, float("nan")])
def test_a_field_of_view_that_no_camera_has_is_refused(
    tmp_path: Path, view: View, degrees: float, folder: Path
) -> None:
    model: Any = transformers.DepthProForDepthEstimation.from_pretrained(folder / "pro")
    last = model.fov_model.head.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, degrees)
    model.save_pretrained(tmp_path)
    settings = (folder / "pro" / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(settings)
    with pytest.raises(EngineError, match="field of view of"):
        DepthProScaffold(DepthProScaffoldSettings(path=str(tmp_path))).build_scaffold(view, seed=0)


@given(st.floats(1e-6, 1e6), st.floats(10.0, 1e4))
@settings(deadline=None, max_examples=30)
def test_metric_depth_stays_between_its_limits(value: float, focal: float) -> None:
    depth = metric_depth(torch.full((1, 4, 4), value), (6, 8), focal)
    assert depth.shape == (6, 8)
    expected = np.clip(focal / (8.0 * value), 1e-4, 1e4)
    np.testing.assert_allclose(depth.numpy(), expected, rtol=1e-3)


def test_edges_are_marked_invalid(folder: Path, view: View) -> None:
    whole = depth_pro(folder, edge_bend=None).build_scaffold(view, seed=0)
    marked = depth_pro(folder, edge_bend=0.03).build_scaffold(view, seed=0)
    edges = depth_edges(whole.depth, bend=0.03)
    # The test asks for something only where there are both.
    assert 0.05 < edges.mean() < 0.95
    np.testing.assert_array_equal(marked.depth, np.where(edges, 0.0, whole.depth))
    assert marked.notes["edges"] == pytest.approx(edges.mean())
    assert whole.notes["edges"] is None
    assert (whole.depth > 0.0).all()


def test_a_view_that_is_edges_all_over_is_refused(folder: Path, view: View) -> None:
    with pytest.raises(EngineError, match="no pixel has a depth: 100% of them are depth edges"):
        depth_pro(folder, edge_bend=1e-6).build_scaffold(view, seed=0)


def depth_anything_output(folder: Path, name: str, picture: np.ndarray) -> np.ndarray:
    """(H, W) by the library's own class, processor and post-processing."""
    model = transformers.DepthAnythingForDepthEstimation.from_pretrained(folder / name).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder / name, backend="pil")
    inputs = processor(images=Image.fromarray(picture), return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    (found,) = processor.post_process_depth_estimation(output, target_sizes=[picture.shape[:2]])
    return found["predicted_depth"].numpy()


def test_metric_depth_anything_is_metric_and_keeps_the_views_camera(folder: Path, view: View) -> None:
    scaffold = depth_anything(folder, "metric").build_scaffold(view, seed=0)
    np.testing.assert_allclose(scaffold.depth, depth_anything_output(folder, "metric", view.picture), rtol=1e-5)
    assert scaffold.depth.std() > 0.1
    assert scaffold.metric
    assert scaffold.notes["unit"] == "metre"
    np.testing.assert_array_equal(scaffold.intrinsics, INTRINSICS)


def test_relative_depth_anything_is_not_metric(folder: Path, view: View) -> None:
    scaffold = depth_anything(folder, "relative", relief=5.0).build_scaffold(view, seed=0)
    inverse = depth_anything_output(folder, "relative", view.picture)
    np.testing.assert_allclose(scaffold.depth, relative_depth(inverse, 5.0, where="test"), rtol=1e-4)
    assert not scaffold.metric
    assert scaffold.notes["unit"] == "arbitrary"
    assert scaffold.geometry is None
    # What the model says is near is near.
    order = np.argsort(inverse.ravel())
    assert (np.diff(scaffold.depth.ravel()[order]) <= 0.0).all()


@given(st.integers(0, 2**32 - 1), st.floats(1.5, 100.0), st.floats(0.01, 100.0), st.floats(-100.0, 100.0))
@settings(deadline=None, max_examples=30)
def test_relative_depth_does_not_hang_on_scale_and_shift(seed: int, relief: float, scale: float, shift: float) -> None:
    inverse = np.random.default_rng(seed).uniform(0.0, 1.0, (20, 30)).astype(np.float32)
    depth = relative_depth(inverse, relief, where="test")
    assert (depth > 0.0).all()
    assert np.quantile(depth, 0.02) == pytest.approx(1.0, rel=0.05)
    assert depth.max() <= 10.0 * relief * (1.0 + 1e-6)
    again = relative_depth((scale * inverse.astype(np.float64) + shift).astype(np.float32), relief, where="test")
    inside = inverse > np.quantile(inverse, 0.1)
    np.testing.assert_allclose(again[inside], depth[inside], rtol=0.02 * max(1.0, abs(shift) / scale / 100.0))


def test_a_constant_estimate_is_refused() -> None:
    with pytest.raises(EngineError, match="same inverse depth"):
        relative_depth(np.full((4, 5), 2.0, np.float32), 10.0, where="test")


def test_a_reference_gives_relative_depth_metres_and_a_camera(folder: Path, view: View) -> None:
    reference = {"path": str(folder / "pro")}
    metres = DepthPro(DepthProModelSettings.model_validate(reference)).estimate(view)
    aligned, refused = [], []
    for name in ("relative", "exchanged"):
        engine = depth_anything(folder, name, reference=reference)
        try:
            aligned.append((engine.build_scaffold(view, seed=0), depth_anything_output(folder, name, view.picture)))
        except ContractError as error:
            refused.append(error.found)
    # Of the two models one has near and far exchanged.
    assert len(aligned) == 1
    assert len(refused) == 1
    assert "run against each other" in refused[0]
    scaffold, inverse = aligned[0]
    expected = align_affine(inverse, metres.depth, space="inverse_depth")
    np.testing.assert_allclose(scaffold.depth, expected.apply(inverse), rtol=1e-3)
    assert scaffold.notes["alignment"]["residual"] == pytest.approx(expected.residual, rel=1e-2)
    np.testing.assert_array_equal(scaffold.intrinsics, metres.intrinsics)
    assert scaffold.metric
    assert scaffold.notes["unit"] == "metre"
    assert scaffold.notes["reference"]["id"] == "pro"


def test_a_metric_model_takes_no_reference(folder: Path, view: View) -> None:
    engine = depth_anything(folder, "metric", reference={"path": str(folder / "pro")})
    with pytest.raises(ConfigError, match="metric already"):
        engine.build_scaffold(view, seed=0)


@pytest.mark.parametrize("name", ["pro", "relative"])
def test_the_same_view_gives_the_same_bytes(folder: Path, view: View, name: str) -> None:
    make = depth_pro if name == "pro" else depth_anything
    first = make(folder, name, edge_bend=None).build_scaffold(view, seed=1)
    second = make(folder, name, edge_bend=None).build_scaffold(view, seed=2)
    assert first.depth.tobytes() == second.depth.tobytes()
    upside_down = dataclasses.replace(view, picture=np.ascontiguousarray(view.picture[::-1]))
    other = make(folder, name, edge_bend=None).build_scaffold(upside_down, seed=1)
    assert first.depth.tobytes() != other.depth.tobytes()


def test_contracts_say_what_is_needed_and_name_the_files(folder: Path) -> None:
    engines: list[ScaffoldEngine] = [depth_pro(folder, licence="apple-amlr"), depth_anything(folder, "metric")]
    assert [engine.contract.name for engine in engines] == ["depth_pro", "depth_anything"]
    assert [engine.contract.licence for engine in engines] == ["apple-amlr", "unknown"]
    for engine in engines:
        assert engine.contract.tier == "library"
        assert {"scaffold", "depth"} == engine.contract.gives
        assert engine.contract.device_memory_bytes > 10_000
    identity = depth_pro(folder).identity
    assert set(identity.weights) == {"config.json", "model.safetensors", "preprocessor_config.json"}


def test_the_identity_holds_the_references_files_and_both_licences(folder: Path) -> None:
    reference = {"path": str(folder / "pro"), "licence": "apple-amlr"}
    identity = depth_anything(folder, "relative", licence="Apache-2.0", reference=reference).identity
    assert identity.licence == "Apache-2.0 AND apple-amlr"
    alone = depth_anything(folder, "relative").identity
    assert set(identity.weights) - set(alone.weights) == {
        f"reference/{name}" for name in depth_pro(folder).identity.weights
    }


def test_a_model_is_loaded_once_for_all_that_use_it(folder: Path, view: View) -> None:
    models = ResidentModels(None)
    settings = DepthProScaffoldSettings(path=str(folder / "pro"), edge_bend=None)
    relative = DepthAnythingScaffoldSettings(
        path=str(folder / "relative"), edge_bend=None, reference=DepthProModelSettings(path=str(folder / "pro"))
    )
    for engine in (DepthProScaffold(settings, models), DepthProScaffold(settings, models)):
        engine.build_scaffold(view, seed=0)
    reference = DepthAnythingScaffold(relative, models).reference
    assert reference is not None
    reference.estimate(view)
    assert list(models.counters()["loads"].values()) == [1]


def test_notes_are_json(folder: Path, view: View) -> None:
    for engine in (
        depth_pro(folder, edge_bend=None),
        depth_anything(folder, "relative"),
        depth_anything(folder, "metric"),
    ):
        notes = engine.build_scaffold(view, seed=0).notes
        assert json.loads(json.dumps(dict(notes), allow_nan=False))["model"]["files"]


def test_missing_files_are_refused_before_anything_is_loaded(tmp_path: Path, view: View) -> None:
    with pytest.raises(EngineError, match="no such folder"):
        depth_pro(tmp_path, "absent").build_scaffold(view, seed=0)
