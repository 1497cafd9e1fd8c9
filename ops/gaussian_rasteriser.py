"""3D Gaussians seen by cameras, differentiably: gsplat on CUDA, the same formulas in PyTorch and Warp on the CPU.

Conventions are gsplat's (Ye et al. 2024, "gsplat: An open-source library for Gaussian splatting"): world-to-camera
matrices with OpenCV axes, calibration matrices in pixels, pixel centres at +0.5. `gaussian_rasteriser_reference`
computes the same pixel by pixel, without tiles and with autograd's own gradients, for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from ..datasets.errors import ContractError, EngineError
from .gaussian_projection import BLUR, FAR_PLANE, NEAR_PLANE, ProjectedGaussians, project
from .gaussian_scene import Gaussians

if TYPE_CHECKING:
    import torch

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
"""RGB: colours. D: z-depth of the centres, weighted as the colours are. ED: D divided by alpha, the expected depth."""

_Arrays = TypeVar("_Arrays", Gaussians, ProjectedGaussians)

_ALPHA_FLOOR = 1e-10


@dataclass(frozen=True, slots=True)
class SettledGaussians:
    """Gaussians that no longer change, as one picture sees them: those that reach none of its pixels are left out.

    Attributes:
        gaussians: M that are left, without gradients.
        projected: of the M, in one picture.
    """

    gaussians: Gaussians
    projected: ProjectedGaussians


def settle(
    gaussians: Gaussians,
    viewmats: torch.Tensor,  # (1, 4, 4)
    Ks: torch.Tensor,  # (1, 3, 3)
    width: int,
    height: int,
    *,
    wanted: torch.Tensor | None = None,  # (H, W)
) -> SettledGaussians:
    """Project Gaussians once for a picture that is to be rendered many times with others that change.

    Args:
        gaussians: N Gaussians in world coordinates.
        viewmats: (1, 4, 4) world-to-camera, OpenCV axes.
        Ks: (1, 3, 3) calibration matrix in pixels of the picture.
        width: of the picture, pixels.
        height: of the picture, pixels.
        wanted: (H, W) bool, pixels that anything will be asked of; None: all. What is rendered elsewhere is then
            meaningless.
    """
    import torch

    with torch.no_grad():
        given = _float32(gaussians)
        projected = project(given, viewmats.float(), Ks.float(), width, height)
        keep = projected.radii[0, :, 0] > 0
        if wanted is not None:
            keep &= _reaches(projected, wanted)
        return SettledGaussians(
            Gaussians(*(getattr(given, name)[keep] for name in Gaussians.__slots__)),
            ProjectedGaussians(*(getattr(projected, name)[:, keep] for name in ProjectedGaussians.__slots__)),
        )


def rasterise(
    gaussians: Gaussians,
    viewmats: torch.Tensor,  # (C, 4, 4)
    Ks: torch.Tensor,  # (C, 3, 3)
    width: int,
    height: int,
    *,
    render_mode: RenderMode = "RGB",
    background: torch.Tensor | None = None,  # (3,) or (C, 3)
    among: SettledGaussians | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render N Gaussians into C pictures, differentiable in all five attributes of the Gaussians.

    A Gaussian covers a pixel with alpha = min(0.999, opacity · exp(−½ dᵀ Σ⁻¹ d)), is passed over below 1/255, and what
    would bring the transmittance to 1e-4 or below ends the pixel. Depth is the z-depth of the centres. CUDA tensors
    are rendered by gsplat in "classic" mode, CPU tensors in float32 by this package; the same Gaussians give the same
    bytes on the CPU every time.

    Args:
        gaussians: N Gaussians in world coordinates.
        viewmats: (C, 4, 4) world-to-camera, OpenCV axes.
        Ks: (C, 3, 3) [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels of the picture.
        width: of the pictures, pixels.
        height: of the pictures, pixels.
        render_mode: what the last axis of the rendering holds.
        background: (3,) or (C, 3) colour seen through what is left of the transmittance; black without one. Depth has
            no background.
        among: further Gaussians that are seen with them; settled for this very camera and size, of which there is one.

    Returns:
        (C, H, W, D) rendering with D = 3 (RGB), 1 (D, ED) or 4 (RGB+D, RGB+ED), and (C, H, W, 1) alphas, float32.

    Raises:
        ContractError: a shape, device or mode is not one of those above.
        EngineError: the tensors are on a CUDA device and gsplat is not installed.
    """
    _check(gaussians, viewmats, Ks, width, height, render_mode, background)
    if background is not None:
        background = background.expand(len(viewmats), 3)
    given = _float32(gaussians)
    seen = given if among is None else _together(among.gaussians, given, axis=0)
    if gaussians.means.is_cuda:
        return _rasterise_with_gsplat(seen, viewmats, Ks, width, height, render_mode, background)
    projected = project(given, viewmats.float(), Ks.float(), width, height)
    if among is not None:
        projected = _together(among.projected, projected, axis=1)
    settled = len(seen) - len(given)
    return _rasterise_on_cpu(seen, projected, width, height, render_mode, background, settled)


def _rasterise_on_cpu(
    given: Gaussians,
    projected: ProjectedGaussians,
    width: int,
    height: int,
    render_mode: RenderMode,
    background: torch.Tensor | None,
    settled: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    from .gaussian_compositing import composite

    colours = given.colours.expand(len(projected.depths), -1, -1)
    features = torch.cat([colours, projected.depths[..., None]], dim=-1)
    sums, transmittance = composite(projected, given.opacities, features, width, height, settled=settled)
    alphas = 1 - transmittance[..., None]
    rgb, depth = sums[..., :3], sums[..., 3:]
    if background is not None:
        rgb = rgb + transmittance[..., None] * background.float()[:, None, None]
    if "ED" in render_mode:
        depth = depth / alphas.clamp(min=_ALPHA_FLOOR)
    if render_mode == "RGB":
        return rgb, alphas
    return (torch.cat([rgb, depth], dim=-1) if "RGB" in render_mode else depth), alphas


def _rasterise_with_gsplat(
    gaussians: Gaussians,
    viewmats: torch.Tensor,
    Ks: torch.Tensor,
    width: int,
    height: int,
    render_mode: RenderMode,
    background: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        from gsplat import rasterization  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise EngineError(
            f"Gaussians on {gaussians.means.device} need gsplat, which cannot be imported ({error})",
            where="rasterise",
            remedy="Install sceneloom[gpu], or move the Gaussians and cameras to the CPU.",
        ) from error
    given = _float32(gaussians)  # gsplat's kernels take nothing else
    rendering, alphas, _ = rasterization(
        means=given.means,
        quats=given.quaternions,
        scales=given.scales,
        opacities=given.opacities,
        colors=given.colours,
        viewmats=viewmats.float(),
        Ks=Ks.float(),
        width=width,
        height=height,
        near_plane=NEAR_PLANE,
        far_plane=FAR_PLANE,
        eps2d=BLUR,
        packed=False,
        backgrounds=background.float() if background is not None and "RGB" in render_mode else None,
        render_mode=render_mode,
        rasterize_mode="classic",
    )
    return rendering, alphas


def _float32(gaussians: Gaussians) -> Gaussians:
    return Gaussians(*(getattr(gaussians, name).float() for name in Gaussians.__slots__))


def _together(first: _Arrays, second: _Arrays, *, axis: int) -> _Arrays:
    """All arrays of two sets, joined along the axis of the Gaussians."""
    import torch

    pairs = ((getattr(first, name), getattr(second, name)) for name in type(first).__slots__)
    return type(first)(*(torch.cat(pair, dim=axis) for pair in pairs))


def _reaches(projected: ProjectedGaussians, wanted: torch.Tensor) -> torch.Tensor:
    """(N,) bool, Gaussians of one picture whose box holds a wanted pixel."""
    import torch

    height, width = wanted.shape
    # Pixels above and to the left of each corner, so that four numbers tell how many a box holds.
    counts = torch.zeros(height + 1, width + 1, dtype=torch.int64, device=wanted.device)
    counts[1:, 1:] = wanted.long().cumsum(0).cumsum(1)
    size = torch.tensor([width, height], device=wanted.device)
    means2d, radii = projected.means2d[0], projected.radii[0]
    first = torch.floor(means2d - radii).long().clamp(min=0).minimum(size)
    last = torch.ceil(means2d + radii).long().clamp(min=0).minimum(size)
    (left, top), (right, bottom) = first.unbind(1), last.unbind(1)
    return counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left] > 0


def _check(
    gaussians: Gaussians,
    viewmats: torch.Tensor,
    Ks: torch.Tensor,
    width: int,
    height: int,
    render_mode: str,
    background: torch.Tensor | None,
) -> None:
    if render_mode not in get_args(RenderMode):
        raise ContractError(
            f"render mode {render_mode!r}", where="rasterise", remedy=f"Use one of {', '.join(get_args(RenderMode))}."
        )
    if width < 1 or height < 1:
        raise ContractError(f"a picture of {width}x{height}", where="rasterise", remedy="Give a size of 1 or more.")
    cameras = len(viewmats) if viewmats.ndim else 0
    shapes: dict[str, tuple[torch.Tensor, list[tuple[int, ...]]]] = {
        "viewmats": (viewmats, [(cameras, 4, 4)]),
        "Ks": (Ks, [(cameras, 3, 3)]),
    }
    if background is not None:
        shapes["background"] = (background, [(3,), (cameras, 3)])
    for name, (tensor, allowed) in shapes.items():
        if tuple(tensor.shape) not in allowed or tensor.device != gaussians.means.device or cameras == 0:
            raise ContractError(
                f"{name} has shape {tuple(tensor.shape)} on {tensor.device}, expected "
                f"{' or '.join(map(str, allowed))} with at least one camera on {gaussians.means.device}",
                where="rasterise",
                remedy="Give one world-to-camera and one calibration matrix a camera, beside the Gaussians.",
            )
