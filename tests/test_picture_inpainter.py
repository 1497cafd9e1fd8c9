"""Stable Diffusion's parts of VistaDream's way, loaded from files: inpainting, and Multi-view Consistency Sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError
from sceneloom.resources.engines import View
from sceneloom.resources.multiview_consistency import MultiviewConsistency
from sceneloom.resources.picture_inpainter import make_inpainter
from sceneloom.resources.vistadream_settings import MultiviewConsistencySettings, StableDiffusionInpaintingSettings

from .test_gaussian_scene_building import HEIGHT, LENS, WIDTH, picture, planted
from .tiny_stable_diffusion import write_stable_diffusion


def test_stable_diffusion_paints_holes_and_nothing_else(tmp_path: Path) -> None:
    folder = write_stable_diffusion(tmp_path, inpainting=True)
    settings = StableDiffusionInpaintingSettings(path=str(folder), precision="float32", steps=1)
    inpainter = make_inpainter(settings)
    holes = np.zeros((HEIGHT, WIDTH), bool)
    holes[4:20, 8:24] = True
    painted = inpainter.inpaint(picture(), holes, prompt=None, seed=2)
    np.testing.assert_array_equal(painted.picture[~holes], picture()[~holes])
    assert painted.notes["pipeline"] == "StableDiffusionInpaintPipeline"
    again = inpainter.inpaint(picture(), holes, prompt=None, seed=2)
    np.testing.assert_array_equal(again.picture, painted.picture)
    with pytest.raises(ConfigError, match="multiples of"):
        inpainter.inpaint(picture()[:-1], holes[:-1], prompt=None, seed=2)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_scene_is_refined_by_a_model_from_files(tmp_path: Path, guidance: float) -> None:
    folder = write_stable_diffusion(tmp_path)
    settings = MultiviewConsistencySettings(
        path=str(folder), precision="float32", used_steps=2, views=2, iterations=2, guidance=guidance
    )
    scene = planted()
    path = []
    for shift in np.linspace(0.02, 0.2, 8):
        pose = np.eye(4)
        pose[0, 3] = shift
        path.append(pose)

    def refined() -> tuple:
        return MultiviewConsistency(settings).refine(
            scene,
            View(picture(), LENS, None, {}),
            path,
            made_up=np.zeros(len(scene), bool),
            intrinsics=LENS,
            margin=4,
            scale=2.0,
            prompt=None,
            seed=7,
        )

    gaussians, notes = refined()
    assert len(gaussians) == len(scene)
    assert notes["scheduler"] == "DDIMScheduler"
    assert len(notes["disagreements"]) == len(notes["poses"]) == 2
    assert not torch.equal(gaussians.colours, scene.colours)
    assert torch.equal(refined()[0].colours, gaussians.colours)
