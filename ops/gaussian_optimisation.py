"""Fitting 3D Gaussians to pictures, through the differentiable rasteriser.

VistaDream's fit: Adam, one picture a step, smooth-L1 with a structural term, no Gaussian added or taken away; what an
earlier fit settled may be held fixed while the newest Gaussians move. B. Kerbl et al., "3D Gaussian Splatting for
real-time radiance field rendering", 2023, section 5, is where the loss and the parametrisation come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError
from .gaussian_rasteriser import rasterise
from .gaussian_scene import Gaussians
from .gaussian_scene_building import joined
from .gaussian_views import camera_tensors

if TYPE_CHECKING:
    import torch

STRUCTURE_WEIGHT = 0.2
"""Of 1 - SSIM beside the smooth-L1 difference."""

ADAM_EPSILON = 1e-9
"""Gradients of a Gaussian are near 1e-7 in pictures of half a million pixels; smaller than this they are rounding of a
scene that fits already, which the 1e-15 of 3D Gaussian Splatting would turn into whole steps."""

FITTED = 1e-5
"""Loss of a picture that differs by less than a level of 255: it asks for no step, which Adam, whatever the gradient's
size, would make a whole one of."""

_WINDOW, _SIGMA = 11, 1.5
_STABILITY = (0.01**2, 0.03**2)
_MARGIN = 1e-3


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Adam's, each of the parameter as it is optimised.

    Attributes:
        means: world units, for a scene about 1 deep; multiplied by the scene's own scale (`optimise`).
        quaternions: of unit length.
        scales: natural logarithms.
        opacities: logits.
        colours: logits. VistaDream's 5e-4 moves a colour of middle brightness by no more than six levels of 255 in
            192 steps; this is ten times as much.
    """

    means: float = 1e-4
    quaternions: float = 1e-3
    scales: float = 5e-3
    opacities: float = 5e-2
    colours: float = 5e-3


@dataclass(frozen=True, slots=True)
class TargetView:
    """A picture that Gaussians are fitted to.

    Attributes:
        picture: (H, W, 3) float32 tensor 0..1, on the Gaussians' device.
        c2w: (4, 4) camera-to-world.
        intrinsics: (4,) pixels of (H, W).
        mask: (H, W) bool tensor of the pixels that count, or None for all.
        odds: of this picture being the one of a step, against the others.
    """

    picture: torch.Tensor
    c2w: NDArray[np.floating]
    intrinsics: NDArray[np.floating]
    mask: torch.Tensor | None = None
    odds: float = 1.0


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted Gaussians.

    Attributes:
        gaussians: those that were free, without gradients.
        first_loss: mean over all targets before the first step.
        last_loss: mean over all targets after the last step.
    """

    gaussians: Gaussians
    first_loss: float
    last_loss: float


def target_view(
    picture: NDArray[np.uint8],
    c2w: NDArray[np.floating],
    intrinsics: NDArray[np.floating],
    *,
    mask: NDArray[np.bool_] | None = None,
    odds: float = 1.0,
    device: str | torch.device = "cpu",
) -> TargetView:
    """A target from an (H, W, 3) uint8 picture and an (H, W) bool mask."""
    import torch

    pixels = torch.from_numpy(np.array(picture, np.float32) / np.float32(255)).to(device)
    where = None if mask is None else torch.from_numpy(np.array(mask, bool)).to(device)
    return TargetView(pixels, c2w, intrinsics, where, odds)


def optimise(
    free: Gaussians,
    targets: Sequence[TargetView],
    *,
    steps: int,
    seed: int,
    fixed: Gaussians | None = None,
    rates: LearningRates | None = None,
    scale: float = 1.0,
) -> Fit:
    """Fit the free Gaussians, seen together with the fixed ones, to the targets.

    On the CPU equal arguments give equal bytes; gsplat adds up gradients in no fixed order.

    Args:
        free: at least one Gaussian, on the targets' device; not changed.
        targets: at least one.
        steps: pictures looked at.
        seed: of the draw of pictures.
        fixed: Gaussians that are seen and stay as they are.
        rates: learning rates; None: the defaults.
        scale: depth of what is seen, world units; the means' rate is multiplied by it.

    Raises:
        ContractError: no Gaussian is free, there is no target, or the loss is not finite.
    """
    import torch

    if not len(free) or not targets:
        raise ContractError(
            f"{len(free)} free Gaussians and {len(targets)} pictures", where=_WHERE, remedy="Give one of each at least."
        )
    rates = rates or LearningRates()
    parameters = _parameters(free)
    # Without `foreach` Adam adds the same numbers in the same order whatever the number of threads.
    optimiser = torch.optim.Adam(
        [
            {"params": [parameters[name]], "lr": getattr(rates, name) * (scale if name == "means" else 1.0)}
            for name in Gaussians.__slots__
        ],
        eps=ADAM_EPSILON,
        foreach=False,
    )
    first = _mean_loss(parameters, fixed, targets)
    odds = np.array([target.odds for target in targets], np.float64)
    drawn = np.random.default_rng(seed).choice(len(targets), size=steps, p=odds / odds.sum())
    for index in drawn:
        optimiser.zero_grad(set_to_none=True)
        loss = _loss(parameters, fixed, targets[index])
        if loss.item() > FITTED:
            loss.backward()
            optimiser.step()
    last = _mean_loss(parameters, fixed, targets)
    if not np.isfinite(last):
        raise ContractError(
            f"the loss is {last} after {steps} steps", where=_WHERE, remedy="Check the depth that the scene is made of."
        )
    with torch.no_grad():
        fitted = _gaussians(parameters)
    return Fit(Gaussians(*(getattr(fitted, name).detach() for name in Gaussians.__slots__)), first, last)


def structural_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(H, W) map of SSIM, mean over channels (Z. Wang et al. 2004: Gaussian window of 11, σ 1.5, values 0..1).

    Beyond the border values count as 0, as in 3D Gaussian Splatting's own loss.

    Args:
        first, second: (H, W, C) float tensors.
    """
    import torch

    stacked = torch.stack([first, second]).permute(0, 3, 1, 2)
    a, b = stacked
    moments = _blurred(torch.stack([a, b, a * a, b * b, a * b]))
    mean_a, mean_b = moments[0], moments[1]
    variance_a, variance_b = moments[2] - mean_a**2, moments[3] - mean_b**2
    covariance = moments[4] - mean_a * mean_b
    c1, c2 = _STABILITY
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return similarity.mean(dim=0)


_WHERE = "fit of Gaussians"


def _blurred(maps: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) blurred by the window, rows then columns."""
    import torch

    offsets = torch.arange(_WINDOW, dtype=maps.dtype, device=maps.device) - _WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    window = window / window.sum()
    flat = maps.flatten(0, 1)[:, None]
    flat = torch.nn.functional.conv2d(flat, window[None, None, None, :], padding=(0, _WINDOW // 2))
    flat = torch.nn.functional.conv2d(flat, window[None, None, :, None], padding=(_WINDOW // 2, 0))
    return flat[:, 0].unflatten(0, maps.shape[:2])


def _parameters(gaussians: Gaussians) -> dict[str, torch.Tensor]:
    """What is optimised: every number is free to take any value."""
    import torch

    values = {
        "means": gaussians.means,
        "quaternions": gaussians.quaternions,
        "scales": gaussians.scales.log(),
        "opacities": gaussians.opacities.clamp(_MARGIN, 1 - _MARGIN).logit(),
        "colours": gaussians.colours.clamp(_MARGIN, 1 - _MARGIN).logit(),
    }
    return {name: value.detach().to(torch.float32).clone().requires_grad_() for name, value in values.items()}


def _gaussians(parameters: dict[str, torch.Tensor]) -> Gaussians:
    return Gaussians(
        means=parameters["means"],
        quaternions=parameters["quaternions"],
        scales=parameters["scales"].exp(),
        opacities=parameters["opacities"].sigmoid(),
        colours=parameters["colours"].sigmoid(),
    )


def _loss(parameters: dict[str, torch.Tensor], fixed: Gaussians | None, target: TargetView) -> torch.Tensor:
    import torch

    free = _gaussians(parameters)
    height, width = target.picture.shape[:2]
    viewmats, matrices = camera_tensors(target.c2w, target.intrinsics, target.picture.device)
    rendering, _ = rasterise(free if fixed is None else joined((fixed, free)), viewmats, matrices, width, height)
    picture = rendering[0]
    difference = torch.nn.functional.smooth_l1_loss(picture, target.picture, reduction="none").mean(dim=-1)
    loss = difference + STRUCTURE_WEIGHT * (1 - structural_similarity(picture, target.picture))
    if target.mask is None:
        return loss.mean()
    return (loss * target.mask).sum() / target.mask.sum().clamp(min=1)


def _mean_loss(parameters: dict[str, torch.Tensor], fixed: Gaussians | None, targets: Sequence[TargetView]) -> float:
    import torch

    with torch.no_grad():
        return float(np.mean([_loss(parameters, fixed, target).item() for target in targets]))
