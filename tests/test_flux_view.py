"""Engine `flux` on tiny pipelines of the real classes: what goes in shows, what cannot be done is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError, EngineError, InputError
from sceneloom.ops.cameras import centred_intrinsics
from sceneloom.resources.diffusers_settings import FluxViewSettings
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.flux_view import FluxView

from .tiny_pipelines import calls_of, prompt_scene, write_flux, write_flux2_klein, write_wan_vace

HEIGHT, WIDTH = 16, 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("flux")
    return {
        "dev": write_flux(root / "dev"),
        "schnell": write_flux(root / "schnell", distilled=True),
        "klein": write_flux2_klein(root / "klein", distilled=True),
        "klein_base": write_flux2_klein(root / "klein_base"),
    }


def engine(folder: Path, **changes: Any) -> FluxView:
    settings = {"path": str(folder), "precision": "float32", "steps": 2, "prompt_tokens": 32, **changes}
    return FluxView(FluxViewSettings.model_validate(settings), 70.0)


def picture(made: FluxView, prompt: str = "a red room", seed: int = 3) -> np.ndarray:
    return made.make_view(prompt_scene(prompt), height=HEIGHT, width=WIDTH, seed=seed).picture


@pytest.mark.parametrize("model", ["dev", "schnell", "klein", "klein_base"])
def test_a_view_follows_from_prompt_and_seed(folders: dict[str, Path], model: str) -> None:
    made = engine(folders[model])
    first = picture(made)
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(picture(made), first)
    np.testing.assert_array_equal(picture(engine(folders[model])), first)
    assert (picture(made, seed=4) != first).mean() > 0.5
    assert (picture(made, "a blue sea") != first).any()


@pytest.mark.parametrize("model", ["dev", "schnell", "klein", "klein_base"])
def test_the_picture_is_what_the_pipeline_makes_of_the_words(folders: dict[str, Path], model: str) -> None:
    # The engine hands over embeddings; the pipeline's own way, with words, must give the same picture.
    made = engine(folders[model])
    with made.pipeline() as pipeline:
        guidance = {"dev": 3.5, "schnell": 0.0, "klein": 1.0, "klein_base": 4.0}[model]
        image = pipeline(
            prompt="a red room",
            height=HEIGHT,
            width=WIDTH,
            num_inference_steps=2,
            guidance_scale=guidance,
            generator=torch.Generator("cpu").manual_seed(3),
            output_type="np",
            max_sequence_length=32,
        ).images[0]
    np.testing.assert_array_equal(picture(made), np.rint(image * 255).astype(np.uint8))


def test_each_model_runs_with_its_own_defaults(folders: dict[str, Path]) -> None:
    expected = {"dev": (28, 3.5, 512), "schnell": (4, None, 256), "klein": (4, None, 512), "klein_base": (50, 4.0, 512)}
    for model, (steps, guidance, tokens) in expected.items():
        notes = (
            engine(folders[model], steps=None, prompt_tokens=None)
            .make_view(prompt_scene(), height=4, width=4, seed=1)
            .notes
        )
        assert (notes["steps"], notes["guidance"], notes["prompt_tokens"]) == (steps, guidance, tokens), model


def test_a_negative_prompt_has_its_effect(folders: dict[str, Path]) -> None:
    for model, changes in (("dev", {"true_guidance": 3.0}), ("klein_base", {})):
        one = engine(folders[model], negative_prompt="fog", **changes)
        other = engine(folders[model], negative_prompt="a crowd of people", **changes)
        view = one.make_view(prompt_scene(), height=HEIGHT, width=WIDTH, seed=3)
        assert (view.picture != picture(other)).any()
        assert view.notes["negative_prompt"] == "fog"


@pytest.mark.parametrize(
    ("model", "changes", "found"),
    [
        ("schnell", {"guidance": 3.0}, "a guidance of 3.0 for a step-distilled model"),
        ("klein", {"guidance": 3.0}, "a guidance of 3.0 for a step-distilled model"),
        ("klein_base", {"true_guidance": 2.0}, "true_guidance for FLUX.2 klein"),
        ("dev", {"negative_prompt": "fog"}, "a negative prompt that would have no effect"),
        ("klein", {"negative_prompt": "fog"}, "a negative prompt that would have no effect"),
        ("klein_base", {"negative_prompt": "fog", "guidance": 1.0}, "a negative prompt that would have no effect"),
    ],
)
def test_settings_without_effect_are_refused(
    folders: dict[str, Path], model: str, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        picture(engine(folders[model], **changes))
    assert refused.value.found.startswith(found)


def test_each_text_is_encoded_once(folders: dict[str, Path]) -> None:
    made = engine(folders["dev"], negative_prompt="fog", true_guidance=2.0)
    with made.pipeline() as pipeline:
        encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
    with calls_of(encoders[0]) as clip, calls_of(encoders[1]) as t5:
        for prompt, seed in (("a red room", 1), ("a red room", 2), ("a blue sea", 1), ("a red room", 3)):
            picture(made, prompt, seed)
    # Two prompts and the negative prompt, each through both encoders.
    assert (len(clip), len(t5)) == (3, 3)


def test_the_view_has_the_lens_that_was_asked_for(folders: dict[str, Path]) -> None:
    view = engine(folders["schnell"]).make_view(prompt_scene(), height=HEIGHT, width=WIDTH, seed=1)
    expected = centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=np.deg2rad(70.0))
    np.testing.assert_allclose(view.intrinsics, expected)
    assert view.geometry is None


def test_notes_say_how_it_was_made(folders: dict[str, Path]) -> None:
    view = engine(folders["dev"]).make_view(prompt_scene(), height=HEIGHT, width=WIDTH, seed=9)
    notes = json.loads(json.dumps(view.notes))
    model = notes.pop("model")
    assert notes == {
        "engine": "flux",
        "pipeline": "FluxPipeline",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "steps": 2,
        "guidance": 3.5,
        "true_guidance": 1.0,
        "seed": 9,
        "prompt": "a red room",
        "negative_prompt": None,
        "prompt_tokens": 32,
        "safety_verdict": None,
        "seeds": [9],
        "faults": [],
        "memory": {"steps": [], "attempts": 1},
    }
    assert model["id"] == "dev"
    assert model["precision"] == "float32"
    assert "transformer/diffusion_pytorch_model.safetensors" in model["files"]


def test_what_cannot_be_painted_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    made = engine(folders["schnell"])
    with pytest.raises(InputError, match="the scene has no prompt"):
        made.make_view(prompt_scene(None), height=HEIGHT, width=WIDTH, seed=1)
    with pytest.raises(ConfigError, match=r"a width of 30.*multiples of 4"):
        made.make_view(prompt_scene(), height=HEIGHT, width=30, seed=1)
    with pytest.raises(EngineError, match="the files are of the class WanVACEPipeline"):
        picture(engine(write_wan_vace(tmp_path / "wan")))
    with pytest.raises(EngineError, match="no such folder"):
        picture(engine(tmp_path / "nowhere"))


def test_a_picture_that_is_not_finite_is_made_again_and_then_refused(tmp_path: Path) -> None:
    made = engine(write_flux(tmp_path / "broken", distilled=True))
    with made.pipeline() as pipeline, torch.no_grad():
        bias = pipeline.vae.decoder.conv_out.bias
        whole = bias.clone()
        bias.fill_(float("nan"))
    with pytest.raises(StageFailed, match=r"scene-1, engine flux: .*NaN") as failed:
        picture(made)
    assert failed.value.reason is Reason.CONTRACT_VIOLATION

    def heal(*_: Any) -> None:
        with torch.no_grad():
            bias.copy_(whole)

    handle = pipeline.vae.decoder.register_forward_hook(heal)
    view = made.make_view(prompt_scene(), height=HEIGHT, width=WIDTH, seed=3)
    handle.remove()
    assert view.notes["seeds"][0] == 3
    assert view.notes["seed"] == view.notes["seeds"][1] != 3
    assert [fault["kind"] for fault in view.notes["faults"]] == ["not_finite"]
    np.testing.assert_array_equal(view.picture, picture(made, seed=view.notes["seed"]))
