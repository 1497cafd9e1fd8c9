"""Multi-view Consistency Sampling, with a denoiser whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from sceneloom.ops.gaussian_scene import Gaussians
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.multiview_consistency import (
    Sampled,
    ViewCameras,
    _rendered,
    made_up_shares,
    sample_consistent_views,
)

from .test_gaussian_scene_building import HEIGHT, LENS, WIDTH, planted


class Oracle:
    """No autoencoder; says the noise that leaves exactly the pictures it is told of."""

    def __init__(self, pictures: torch.Tensor) -> None:
        self.pictures = pictures
        self.scheduler: Any = DDIMScheduler(clip_sample=False)
        self.scheduler.set_timesteps(50)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.clamp(0, 1)

    def predict(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        cumulative = self.scheduler.alphas_cumprod[int(timestep)]
        return (latents - cumulative**0.5 * self.pictures) / (1 - cumulative) ** 0.5


def cameras() -> ViewCameras:
    poses = [np.eye(4), np.eye(4)]
    poses[1][0, 3] = 0.1
    return ViewCameras(poses, LENS, HEIGHT, WIDTH)


def sampled(pictures: torch.Tensor, scene: Gaussians, iterations: int = 20) -> Sampled:
    return sample_consistent_views(
        scene,
        cameras(),
        Oracle(pictures),
        kept=[],
        used_steps=2,
        weight=0.5,
        iterations=iterations,
        scale=2.0,
        seed=1,
    )


def test_views_that_the_scene_shows_already_leave_it_as_it_is() -> None:
    scene = planted()
    shown = _rendered(scene, cameras())
    made = sampled(shown, scene)
    assert max(made.disagreements) < 2e-3
    assert (_rendered(made.gaussians, cameras()) - shown).abs().mean() < 2e-3


def test_views_that_contradict_each_other_are_shown_by_one_scene() -> None:
    scene = planted()
    shown = _rendered(scene, cameras())
    # One view brighter, the other darker: the scene settles between them.
    wrong = torch.stack([shown[0] + 0.1, shown[1] - 0.1]).clamp(0, 1)
    apart = (wrong - shown)[0].mean() - (wrong - shown)[1].mean()
    fitted = _rendered(sampled(wrong, scene, iterations=30).gaussians, cameras())
    left = (fitted - shown)[0].mean() - (fitted - shown)[1].mean()
    assert left.abs() < 0.5 * apart
    again = _rendered(sampled(wrong, scene, iterations=30).gaussians, cameras())
    assert torch.equal(fitted, again)


def test_predictions_that_are_not_finite_are_named() -> None:
    scene = planted()
    wrong = _rendered(scene, cameras())
    wrong[1, 0, 0, 0] = torch.nan
    with pytest.raises(StageFailed, match="step 1 are not finite") as caught:
        sampled(wrong, scene)
    assert caught.value.reason is Reason.CONTRACT_VIOLATION


def test_shares_count_what_is_made_up_and_what_is_open() -> None:
    scene = planted()
    none, every = np.zeros(len(scene), bool), np.ones(len(scene), bool)
    assert made_up_shares(scene, none, cameras())[0] < 0.1
    assert min(made_up_shares(scene, every, cameras())) > 0.99
