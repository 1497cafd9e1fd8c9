"""Object masks: SAM 2 and SAM 3, tiny, through the production path; prompts and masks land on the view's pixels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from pydantic import ValidationError

from sceneloom.datasets.errors import EngineError, InputError
from sceneloom.ops.object_boxes import estimated_boxes
from sceneloom.ops.object_poses import mask_box
from sceneloom.resources.engines import View
from sceneloom.resources.object_masks import ObjectMasks, Sam2Masks, Sam3Masks, point_grid, stability
from sceneloom.resources.resident_models import ResidentModels
from sceneloom.resources.transformers_settings import Sam2ObjectsSettings, Sam3ObjectsSettings

from .tiny_transformers import save_sam2, save_sam3

HEIGHT, WIDTH = 60, 140
EVERYTHING = {"minimum_score": 0.0, "minimum_stability": 0.0, "maximum_share": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("masks")
    save_sam2(place / "sam2")
    save_sam3(place / "sam3")
    return place


@pytest.fixture(scope="module")
def view() -> View:
    generator = np.random.default_rng(0)
    picture = np.kron(generator.integers(0, 256, (6, 14, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    return View(picture, np.array([100.0, 100.0, 70.0, 30.0]), None, {})


def sam2(folder: Path, **changes: Any) -> Sam2Masks:
    settings: dict[str, Any] = {"path": str(folder / "sam2"), "points_per_side": 3, **changes}
    return Sam2Masks(Sam2ObjectsSettings.model_validate(settings))


def sam3(folder: Path, *prompts: str, **changes: Any) -> Sam3Masks:
    settings = {"path": str(folder / "sam3"), "prompts": prompts, "minimum_score": 0.0, **changes}
    return Sam3Masks(Sam3ObjectsSettings.model_validate(settings))


def prepared(picture: np.ndarray, side: int, mean: list[float], std: list[float]) -> torch.Tensor:
    """By the processors' recipe, with Pillow: stretched to the square with antialiasing, in 8 bits, then normalised."""
    square = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy((square / 255.0 - mean) / std).permute(2, 0, 1)[None].float()


IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def assert_consistent(found: ObjectMasks) -> None:
    """Ids, boxes and counts say the same."""
    assert found.instance_ids.shape == (HEIGHT, WIDTH)
    assert found.instance_ids.dtype == np.uint16
    ids = sorted(set(found.instance_ids.ravel().tolist()) - {0})
    assert ids == [each.instance_id for each in found.objects] == list(range(1, len(ids) + 1))
    for each in found.objects:
        mask = found.instance_ids == each.instance_id
        assert (each.pixels, each.box) == (int(mask.sum()), mask_box(mask))
    scores = [each.score for each in found.objects]
    assert scores == sorted(scores, reverse=True)
    json.dumps(found.notes, allow_nan=False)


def test_a_point_gives_what_the_library_gives_for_it(folder: Path, view: View) -> None:
    x, y = 0.75, 0.25
    model = transformers.Sam2Model.from_pretrained(folder / "sam2").eval()
    with torch.inference_mode():
        # The processor scales pixel coordinates by side / width and side / height.
        points = torch.tensor([[[[x * WIDTH * 128 / WIDTH, y * HEIGHT * 128 / HEIGHT]]]])
        output = model(pixel_values=prepared(view.picture, 128, *IMAGENET), input_points=points)
    best = int(output.iou_scores[0, 0].argmax())
    logits = torch.nn.functional.interpolate(output.pred_masks[0, :, best : best + 1], (HEIGHT, WIDTH), mode="bilinear")
    found = sam2(folder, points=[(x, y)]).find_objects(view)
    assert_consistent(found)
    expected = logits[0, 0].numpy() > 0.0
    assert 0.05 < expected.mean() < 0.95
    # Pillow resamples in integers, so a few values of the input differ by one level.
    assert ((found.instance_ids == 1) != expected).mean() < 0.01
    assert found.objects[0].score == pytest.approx(float(output.iou_scores[0, 0, best]), abs=5e-3)


@contextmanager
def discs_for_masks(engine: Sam2Masks, radius: float) -> Iterator[list[np.ndarray]]:
    """While it lasts, the mask decoder draws a disc around each point that the prompt encoder was given.

    Yields:
        The points, in the model's pixels.
    """
    points: list[np.ndarray] = []

    def keep(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        points.append(named["input_points"][0, :, 0].numpy())

    def draw(module: Any, arguments: Any, named: Any, output: Any) -> Any:
        rows, columns = torch.meshgrid(*[(torch.arange(32) + 0.5) * 4.0] * 2, indexing="ij")
        centres = torch.from_numpy(points[-1]) + 0.5
        distances = torch.stack([((columns - x) ** 2 + (rows - y) ** 2).sqrt() for x, y in centres])
        masks = (radius - distances)[None, :, None].expand(-1, -1, 3, -1, -1)
        return masks.contiguous(), torch.full(masks.shape[:3], 0.9), *output[2:]

    with engine.model() as model:
        hooks = [
            model.prompt_encoder.register_forward_pre_hook(keep, with_kwargs=True),
            model.mask_decoder.register_forward_hook(draw, with_kwargs=True),
        ]
    try:
        yield points
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("shape", [(60, 140), (120, 50)])
def test_points_and_masks_land_where_they_belong_in_views_that_are_not_square(
    folder: Path, shape: tuple[int, int]
) -> None:
    height, width = shape
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    view = View(picture, np.array([100.0, 100.0, width / 2, height / 2]), None, {})
    engine = sam2(folder, points=[(0.25, 0.25), (0.75, 0.7)])
    with discs_for_masks(engine, radius=20.0) as points:
        found = engine.find_objects(view)
    np.testing.assert_allclose(points[0], [[32.0, 32.0], [96.0, 89.6]], rtol=1e-6)
    assert len(found.objects) == 2
    boxes = sorted(each.box for each in found.objects)
    for (left, top, right, bottom), (x, y) in zip(boxes, [(0.25, 0.25), (0.75, 0.7)], strict=True):
        assert (left + right) / 2 == pytest.approx(x * width, abs=1.5)
        assert (top + bottom) / 2 == pytest.approx(y * height, abs=1.5)
        # A disc of the model's square is an ellipse of the view.
        assert right - left == pytest.approx(40 / 128 * width, abs=3)
        assert bottom - top == pytest.approx(40 / 128 * height, abs=3)


def test_the_grid_goes_row_by_row_through_the_centres_of_its_cells() -> None:
    assert point_grid(2) == [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]


def test_a_grid_finds_each_object_once(folder: Path, view: View) -> None:
    engine = sam2(folder, points_per_side=4, points_at_once=5, minimum_stability=0.5)
    with discs_for_masks(engine, radius=14.0) as points:
        found = engine.find_objects(view)
    # 16 points in batches of 5, three equal masks each.
    assert [len(batch) for batch in points] == [5, 5, 5, 1]
    np.testing.assert_allclose(np.concatenate(points) / 128, point_grid(4), atol=1e-6)
    assert found.notes["proposals"] == 48
    assert len(found.objects) == 16
    assert_consistent(found)


def test_large_masks_are_taken_for_the_surroundings(folder: Path, view: View) -> None:
    engine = sam2(folder, points_per_side=1, minimum_stability=0.5, maximum_share=0.3)
    with discs_for_masks(engine, radius=30.0):
        assert len(engine.find_objects(view).objects) == 1
    with discs_for_masks(engine, radius=45.0):
        assert engine.find_objects(view).objects == ()


def test_masks_that_hang_on_the_threshold_are_left_out(folder: Path, view: View) -> None:
    # Around (64, 64) the nearest four centres of 4-pixel cells lie at 2.8, the next eight at 6.3: between the radii.
    strict = sam2(folder, points_per_side=1, minimum_stability=0.95)
    lenient = sam2(folder, points_per_side=1, minimum_stability=0.2)
    with discs_for_masks(strict, radius=6.0):
        assert strict.find_objects(view).objects == ()
    with discs_for_masks(lenient, radius=6.0):
        assert len(lenient.find_objects(view).objects) == 1


def test_stability_is_the_overlap_of_both_thresholds() -> None:
    values = np.array([[2.0, 0.5, -0.5], [-2.0, 3.0, 1.5]], np.float32)
    assert stability(values) == pytest.approx(3 / 5)
    assert stability(np.full((2, 2), -5.0, np.float32)) == 0.0


def test_unsure_masks_of_a_grid_are_left_out(folder: Path, view: View) -> None:
    every = sam2(folder, **EVERYTHING).find_objects(view)
    assert_consistent(every)
    assert every.objects
    least = min(each.score for each in every.objects)
    fewer = sam2(folder, **{**EVERYTHING, "minimum_score": least + 1e-4}).find_objects(view)
    assert fewer.notes["proposals"] < every.notes["proposals"]
    assert all(each.score > least for each in fewer.objects)
    none = sam2(folder, **{**EVERYTHING, "minimum_score": 1.0}).find_objects(view)
    assert none.objects == ()
    assert not none.instance_ids.any()


def test_small_objects_are_left_out(folder: Path, view: View) -> None:
    found = sam2(folder, **EVERYTHING).find_objects(view, minimum_pixels=500)
    assert all(each.pixels >= 500 for each in found.objects)
    assert_consistent(found)
    assert sam2(folder, **EVERYTHING).find_objects(view, minimum_pixels=HEIGHT * WIDTH + 1).objects == ()


def test_sam3_follows_its_processors_recipe(folder: Path, view: View) -> None:
    model = transformers.Sam3Model.from_pretrained(folder / "sam3").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "sam3")
    tokens = tokenizer("red sofa", return_tensors="pt", padding="max_length", max_length=32)
    with torch.inference_mode():
        pixels = prepared(view.picture, 112, [0.5] * 3, [0.5] * 3)
        output = model(pixel_values=pixels, **{name: tokens[name] for name in ("input_ids", "attention_mask")})
    scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
    masks = torch.nn.functional.interpolate(output.pred_masks.sigmoid(), (HEIGHT, WIDTH), mode="bilinear")[0] > 0.5
    best = int(scores.argmax())
    found = sam3(folder, "red sofa").find_objects(view)
    assert_consistent(found)
    assert found.objects[0].label == "red sofa"
    assert found.objects[0].score == pytest.approx(float(scores[best]), abs=2e-3)
    assert ((found.instance_ids == 1) != masks[best].numpy()).mean() < 0.01
    assert 0.02 < masks[best].float().mean() < 0.98
    # Only what is surer than the limit.
    limit = float(scores.sort().values[-2:].mean())
    assert len(sam3(folder, "red sofa", minimum_score=limit).find_objects(view).objects) == 1


def test_sam3_encodes_the_view_once_for_all_prompts(folder: Path, view: View) -> None:
    engine = sam3(folder, "chair", "table", "lamp", duplicate_overlap=1.0)
    calls: list[str] = []
    with engine.model() as parts:
        hooks = [
            parts.model.vision_encoder.register_forward_hook(lambda *_: calls.append("view")),
            parts.model.text_encoder.register_forward_hook(lambda *_: calls.append("prompt")),
        ]
    found = engine.find_objects(view)
    for hook in hooks:
        hook.remove()
    assert calls == ["view", "prompt", "prompt", "prompt"]
    assert_consistent(found)
    assert {each.label for each in found.objects} <= {"chair", "table", "lamp"}
    assert len({each.label for each in found.objects}) > 1


def test_the_prompt_decides(folder: Path, view: View) -> None:
    chair, lamp = (sam3(folder, word).find_objects(view) for word in ("chair", "lamp"))
    assert chair.objects[0].score != lamp.objects[0].score


def test_prompts_that_cannot_be_used_are_refused(folder: Path, view: View) -> None:
    with pytest.raises(InputError, match="tokens, 32 are read"):
        sam3(folder, "a very long description of one single red sofa").find_objects(view)
    for prompts in ([], [" "], ["chair", "chair"]):
        with pytest.raises(ValidationError):
            Sam3ObjectsSettings.model_validate({"path": "x", "prompts": prompts})


@pytest.mark.parametrize("name", ["sam2", "sam3"])
def test_the_same_view_gives_the_same_objects(folder: Path, view: View, name: str) -> None:
    def find(seen: View) -> ObjectMasks:
        engine = sam2(folder, **EVERYTHING) if name == "sam2" else sam3(folder, "chair", "lamp")
        return engine.find_objects(seen)

    first, second = find(view), find(view)
    assert first.objects == second.objects
    assert first.instance_ids.tobytes() == second.instance_ids.tobytes()
    mirrored = dataclasses.replace(view, picture=np.ascontiguousarray(view.picture[:, ::-1]))
    assert find(mirrored).objects != first.objects


@pytest.mark.parametrize("name", ["sam2", "sam3"])
def test_half_precision_works(folder: Path, view: View, name: str) -> None:
    settings = {"precision": "bfloat16"}
    engine = sam2(folder, **EVERYTHING, **settings) if name == "sam2" else sam3(folder, "chair", **settings)
    assert_consistent(engine.find_objects(view))


def test_values_that_are_not_finite_are_refused(folder: Path, view: View) -> None:
    engine = sam2(folder, points=[(0.5, 0.5)])
    with engine.model() as model:
        hook = model.mask_decoder.register_forward_hook(lambda m, a, o: (o[0] * float("nan"), *o[1:]))
    with pytest.raises(EngineError, match="not finite"):
        engine.find_objects(view)
    hook.remove()


def test_engines_share_one_loaded_model(folder: Path, view: View) -> None:
    models = ResidentModels(None)
    for points in ([(0.5, 0.5)], [(0.2, 0.2)]):
        settings = Sam2ObjectsSettings.model_validate({"path": str(folder / "sam2"), "points": points})
        Sam2Masks(settings, models).find_objects(view)
    assert list(models.counters()["loads"].values()) == [1]


def test_contracts_name_the_model_and_its_files(folder: Path) -> None:
    engine = sam2(folder, licence="Apache-2.0")
    assert engine.contract.name == "sam2"
    assert engine.contract.licence == "Apache-2.0"
    assert engine.contract.device_memory_bytes > 10_000
    assert set(sam3(folder, "chair").identity.weights) > {"model.safetensors", "tokenizer.json"}


def test_masks_and_depth_give_boxes(folder: Path, view: View) -> None:
    engine = sam2(folder, points=[(0.25, 0.5), (0.75, 0.5)])
    with discs_for_masks(engine, radius=18.0):
        found = engine.find_objects(view)
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    boxes = estimated_boxes(found.instance_ids, depth, view.intrinsics)
    assert [box.instance_id for box in boxes] == [1, 2]
    for box, each in zip(boxes, found.objects, strict=True):
        assert box.box == each.box
        left, _, right, _ = each.box
        assert box.size[0] == pytest.approx((right - left) * 2.0 / 100.0, rel=0.1)
