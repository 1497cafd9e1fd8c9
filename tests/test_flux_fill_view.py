"""Engine `flux_fill` on a tiny pipeline of the real class: the picture stays as it is, and what is around it is new."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sceneloom.datasets.catalog import SceneEntry
from sceneloom.datasets.errors import ConfigError, InputError
from sceneloom.ops.cameras import centred_intrinsics
from sceneloom.resources.diffusers_settings import FluxFillViewSettings
from sceneloom.resources.embedded_engines import PictureView
from sceneloom.resources.flux_fill_view import FluxFillView
from sceneloom.resources.profiles import PictureLimits

from .tiny_pipelines import calls_of, write_flux

HEIGHT, WIDTH = 64, 96
PICTURE = Path(__file__).parent.parent / "examples" / "images" / "corridor.jpg"
EXPANSION = {"left": 30, "right": 10, "top": 0, "bottom": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("flux") / "fill", fill=True)


def picture_engine() -> PictureView:
    return PictureView(70.0, PictureLimits())


def engine(folder: Path, **changes: Any) -> FluxFillView:
    settings = {
        "path": str(folder),
        "precision": "float32",
        "steps": 2,
        "prompt_tokens": 32,
        "expansion_percent": EXPANSION,
        **changes,
    }
    return FluxFillView(FluxFillViewSettings.model_validate(settings), picture_engine())


def scene(prompt: str | None = "a long corridor", url: Path = PICTURE) -> SceneEntry:
    content = PICTURE.read_bytes()
    return SceneEntry(
        scene_id="scene-1",
        kind="image",
        prompt=prompt,
        image_url=str(url),
        image_sha256=hashlib.sha256(content).hexdigest(),
        image_bytes=len(content),
        image_version=None,
        width=None,
        height=None,
        perceptual_hash=None,
        seed=5,
        split="train",
        licence=None,
        tags=[],
        source="images",
        content_digest="0" * 64,
    )


def make(made: FluxFillView, prompt: str | None = "a long corridor", seed: int = 3) -> Any:
    return made.make_view(scene(prompt), height=HEIGHT, width=WIDTH, seed=seed)


def test_the_picture_lies_pixel_for_pixel_where_the_notes_say(folder: Path) -> None:
    view = make(engine(folder))
    notes = json.loads(json.dumps(view.notes))
    assert view.picture.shape == (HEIGHT, WIDTH, 3)
    record = notes["outpainting"]
    assert record["canvas"] == [HEIGHT, WIDTH]
    assert record["picture"] == [53, 69]  # 64 / 1.2 and 96 / 1.4
    assert record["offset"] == [0, 20]  # 27 columns added, three quarters of them on the left
    (top, left), (height, width) = record["offset"], record["picture"]
    original = picture_engine().make_view(scene(), height=height, width=width, seed=0)
    np.testing.assert_array_equal(view.picture[top : top + height, left : left + width], original.picture)
    lens = centred_intrinsics(height, width, horizontal_field_of_view=np.deg2rad(70.0))
    np.testing.assert_allclose(view.intrinsics, lens + np.array([0, 0, left, top]))
    assert notes["picture"]["format"] == "JPEG"
    assert record["expansion_percent"] == {name: float(value) for name, value in EXPANSION.items()}


def test_what_is_around_follows_from_picture_prompt_and_seed(folder: Path) -> None:
    made = engine(folder)
    first = make(made)
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[:53, 20:89] = False
    np.testing.assert_array_equal(make(made).picture, first.picture)
    assert (make(made, seed=4).picture[outside] != first.picture[outside]).any()
    assert (make(made, "a dark forest").picture[outside] != first.picture[outside]).any()
    assert first.picture[outside].std() > 1


def test_the_model_is_given_the_canvas_and_the_mask(folder: Path) -> None:
    made = engine(folder)
    with made.pipeline() as pipeline:
        pass
    with calls_of(pipeline.transformer) as calls:
        view = make(made)
    tokens = calls[0][1]["hidden_states"]
    # Packed: 8 channels of noise, 8 of the masked picture, and the 4 × 4 pixels of the mask that a token stands for.
    assert tokens.shape == (1, (HEIGHT // 4) * (WIDTH // 4), 32)
    mask = tokens[0, :, 16:].reshape(HEIGHT // 4, WIDTH // 4, 16).mean(-1).numpy()
    expected = np.ones((HEIGHT, WIDTH), np.float32)
    expected[:53, 20:89] = 0
    np.testing.assert_allclose(mask, expected.reshape(HEIGHT // 4, 4, WIDTH // 4, 4).mean((1, 3)), atol=1e-6)
    assert view.notes["outpainting"]["repainted_border_difference"] > 0


def test_the_repainted_border_is_measured(folder: Path) -> None:
    made = engine(folder)
    with made.pipeline() as pipeline:
        decoder = pipeline.vae.decoder
    # Whatever the model denoised, a ramp from black to white is decoded.
    ramp = torch.linspace(-1, 1, WIDTH).expand(1, 3, HEIGHT, WIDTH)
    handle = decoder.register_forward_hook(lambda *_: ramp)
    view = make(made)
    handle.remove()
    levels = np.rint(np.linspace(0, 255, WIDTH))[None, :, None]
    difference = np.abs(view.picture[:53, 20:89] - levels[:, 20:89])
    ring = np.ones(difference.shape[:2], bool)
    ring[8:-8, 8:-8] = False
    assert view.notes["outpainting"]["repainted_border_difference"] == pytest.approx(difference[ring].mean(), abs=0.02)
    np.testing.assert_allclose(view.picture[53:], np.broadcast_to(levels, (HEIGHT - 53, WIDTH, 3)), atol=1)


def test_pictures_without_words_take_the_profiles(folder: Path) -> None:
    made = engine(folder, prompt="an empty hall")
    view = make(made, None)
    assert view.notes["prompt"] == "an empty hall"
    np.testing.assert_array_equal(view.picture, make(engine(folder), "an empty hall").picture)
    with made.pipeline() as pipeline:
        pass
    with calls_of(pipeline.text_encoder_2) as calls:
        for seed in range(3):
            make(made, None, seed)
    assert not calls


def test_what_cannot_be_painted_is_refused(folder: Path) -> None:
    made = engine(folder)
    with pytest.raises(ConfigError, match=r"a height of 62.*multiples of 4"):
        made.make_view(scene(), height=62, width=96, seed=1)
    with pytest.raises(InputError, match="the picture is gone"):
        made.make_view(scene(url=Path("nowhere.jpg")), height=HEIGHT, width=WIDTH, seed=1)


def test_notes_say_how_it_was_made(folder: Path) -> None:
    notes = make(engine(folder), seed=9).notes
    expected = {"engine": "flux_fill", "pipeline": "FluxFillPipeline", "steps": 2, "guidance": 30.0, "seed": 9}
    assert {name: notes[name] for name in expected} == expected
    assert notes["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    assert notes["model"]["licence"] == "Apache-2.0"
    assert torch.__version__.startswith(notes["model"]["versions"]["torch"].partition("+")[0])
