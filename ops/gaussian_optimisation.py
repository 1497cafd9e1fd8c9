"""Fitting 3D Gaussians to pictures, through the differentiable rasteriser.

VistaDream's fit: Adam, one picture a step, smooth-L1 with a structural term, no Gaussian added or taken away; what an
earlier fit settled may be held fixed while the newest Gaussians move. B. Kerbl et al., "3D Gaussian Splatting for
real-time radiance field rendering", 2023, section 5, is where the loss and the parametrisation come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError
from .gaussian_rasteriser import SettledGaussians, rasterise, settle
from .gaussian_scene import Gaussians
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

SHOWN = 1e-4
"""Share of what counts of a picture above which Gaussians show in it, and not only what is left of their rims."""

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
        loss: mean over all targets after the last step.
    """

    gaussians: Gaussians
    loss: float


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
        targets: at least one. One in which the free Gaussians do not show is not looked at: no step could change it.
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
    pictures = [_Picture(target, fixed) for target in targets]
    for picture in _drawn(pictures, free, steps, seed):
        optimiser.zero_grad(set_to_none=True)
        loss = picture.loss(_gaussians(parameters))
        if loss.item() > FITTED:
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        fitted = _gaussians(parameters)
        loss = float(np.mean([picture.loss(fitted).item() for picture in pictures]))
    if not np.isfinite(loss):
        raise ContractError(
            f"the loss is {loss} after {steps} steps", where=_WHERE, remedy="Check the depth that the scene is made of."
        )
    return Fit(Gaussians(*(getattr(fitted, name).detach() for name in Gaussians.__slots__)), loss)


def structural_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(H, W) map of SSIM, mean over channels (Z. Wang et al. 2004: Gaussian window of 11, σ 1.5, values 0..1).

    Beyond the border values count as 0, as in 3D Gaussian Splatting's own loss.

    Args:
        first, second: (H, W, C) float tensors.
    """
    return _Structure(second).similarity(first)


_WHERE = "fit of Gaussians"


class _Structure:
    """The means and variances of a picture around its pixels, with which others are compared to it.

    Args:
        picture: (H, W, C) float tensor.
    """

    def __init__(self, picture: torch.Tensor) -> None:
        import torch

        height, width = picture.shape[:2]
        self.channels = picture.permute(2, 0, 1)
        self.down, self.across = (_blur_matrix(side, picture) for side in (height, width))
        self.mean, square = self._blurred(torch.stack([self.channels, self.channels**2]))
        self.variance = square - self.mean**2

    def similarity(self, other: torch.Tensor) -> torch.Tensor:
        """(H, W) map of SSIM with another (H, W, C) picture."""
        import torch

        channels = other.permute(2, 0, 1)
        mean, square, product = self._blurred(torch.stack([channels, channels**2, channels * self.channels]))
        variance, covariance = square - mean**2, product - mean * self.mean
        c1, c2 = _STABILITY
        similarity = ((2 * mean * self.mean + c1) * (2 * covariance + c2)) / (
            (mean**2 + self.mean**2 + c1) * (variance + self.variance + c2)
        )
        return similarity.mean(dim=0)

    def _blurred(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) blurred by the window; as matrices, whose product PyTorch differentiates ten times as fast as a
        convolution of single channels on the CPU."""
        return self.down @ (maps @ self.across)


def _blur_matrix(side: int, like: torch.Tensor) -> torch.Tensor:
    """(side, side) matrix that blurs by SSIM's window; symmetric."""
    import torch

    def weights(offsets: torch.Tensor) -> torch.Tensor:
        return torch.exp(-(offsets.to(like.dtype) ** 2) / (2 * _SIGMA**2)) * (offsets.abs() <= _WINDOW // 2)

    places = torch.arange(side, device=like.device)
    window = weights(torch.arange(_WINDOW, device=like.device) - _WINDOW // 2)
    return weights(places[:, None] - places) / window.sum()


class _Picture:
    """A target with all that stays the same while Gaussians are fitted to it.

    Args:
        target: the picture.
        fixed: Gaussians that are seen with those that are fitted.
    """

    def __init__(self, target: TargetView, fixed: Gaussians | None) -> None:
        import torch

        self.target = target
        self.height, self.width = target.picture.shape[:2]
        self.cameras = camera_tensors(target.c2w, target.intrinsics, target.picture.device)
        self.structure = _Structure(target.picture)
        self.settled: SettledGaussians | None = None
        if fixed is not None:
            wanted = target.mask
            if wanted is not None:
                # The windows of pixels that count look as far as this.
                reach = _WINDOW // 2
                wanted = torch.nn.functional.max_pool2d(wanted[None].float(), _WINDOW, stride=1, padding=reach)[0] > 0
            self.settled = settle(fixed, *self.cameras, self.width, self.height, wanted=wanted)

    def share_of(self, free: Gaussians) -> float:
        """How much of the pixels that count is theirs, 0..1."""
        import torch

        def painted(gaussians: Gaussians, value: float) -> Gaussians:
            return replace(gaussians, colours=torch.full_like(gaussians.colours, value))

        settled = self.settled
        if settled is not None:
            settled = replace(settled, gaussians=painted(settled.gaussians, 0.0))
        with torch.no_grad():
            weights, _ = rasterise(painted(free, 1.0), *self.cameras, self.width, self.height, among=settled)
        weights, mask = weights[0, ..., 0], self.target.mask
        return float(weights.mean() if mask is None else (weights * mask).sum() / mask.sum().clamp(min=1))

    def loss(self, free: Gaussians) -> torch.Tensor:
        """Mean over the pixels that count."""
        import torch

        given, mask = self.target.picture, self.target.mask
        rendering, _ = rasterise(free, *self.cameras, self.width, self.height, among=self.settled)
        difference = torch.nn.functional.smooth_l1_loss(rendering[0], given, reduction="none").mean(dim=-1)
        loss = difference + STRUCTURE_WEIGHT * (1 - self.structure.similarity(rendering[0]))
        if mask is None:
            return loss.mean()
        return (loss * mask).sum() / mask.sum().clamp(min=1)


def _drawn(pictures: Sequence[_Picture], free: Gaussians, steps: int, seed: int) -> list[_Picture]:
    """The picture of each step; no step where the free Gaussians show in none."""
    odds = np.array([picture.target.odds * (picture.share_of(free) > SHOWN) for picture in pictures], np.float64)
    if not odds.any():
        return []
    drawn = np.random.default_rng(seed).choice(len(pictures), size=steps, p=odds / odds.sum())
    return [pictures[index] for index in drawn]


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
