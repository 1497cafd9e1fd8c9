"""The rasteriser against its plain twin, closed forms and gsplat; the PLY file against its definition."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError, CorruptFileError, EngineError
from sceneloom.ops import gaussian_rasteriser
from sceneloom.ops import gaussian_rasteriser_reference as reference
from sceneloom.ops.gaussian_projection import project
from sceneloom.ops.gaussian_rasteriser import RenderMode, rasterise, settle
from sceneloom.ops.gaussian_scene import SH_C0, Gaussians, gaussians_from_ply, ply_from_gaussians

WIDTH, HEIGHT = 27, 18  # no multiple of a tile
NAMES = ("means", "quaternions", "scales", "opacities", "colours")


def random_gaussians(seed: int, count: int, dtype: torch.dtype = torch.float32) -> Gaussians:
    """Before, beside and behind cameras near the origin; faint and opaque ones, slivers and blobs."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    low, high = torch.tensor([-3.0, -2.0, -0.5]), torch.tensor([3.0, 2.0, 6.0])
    return Gaussians(
        means=(low + (high - low) * draw(count, 3)).to(dtype),
        quaternions=torch.randn(count, 4, generator=generator).to(dtype),
        scales=(0.02 * 40 ** draw(count, 3)).to(dtype),
        opacities=(1.2 * draw(count)).clamp(max=1.0).to(dtype),
        colours=draw(count, 3).to(dtype),
    )


def cameras(count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Cameras that turn and move a little, with a principal point off the middle."""
    viewmats, Ks = [], []
    for index in range(count):
        angle = 0.2 * index - 0.1
        viewmat = torch.eye(4)
        viewmat[0, 0] = viewmat[2, 2] = math.cos(angle)
        viewmat[0, 2], viewmat[2, 0] = math.sin(angle), -math.sin(angle)
        viewmat[:3, 3] = torch.tensor([0.1 * index, -0.05, 0.3])
        viewmats.append(viewmat)
        Ks.append(torch.tensor([[20.0 + index, 0, 12.0], [0, 22.0, 10.0], [0, 0, 1]]))
    return torch.stack(viewmats), torch.stack(Ks)


def converted(gaussians: Gaussians, dtype: torch.dtype, *, requires_grad: bool = False) -> Gaussians:
    return Gaussians(*(getattr(gaussians, name).detach().to(dtype).requires_grad_(requires_grad) for name in NAMES))


def one_gaussian(**changes: torch.Tensor) -> Gaussians:
    """A ball of 0.5 three units before the camera."""
    ball = Gaussians(
        means=torch.tensor([[0.0, 0.0, 3.0]]),
        quaternions=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.full((1, 3), 0.5),
        opacities=torch.tensor([0.8]),
        colours=torch.tensor([[1.0, 0.5, 0.25]]),
    )
    return dataclasses.replace(ball, **changes)


def joined(*parts: Gaussians) -> Gaussians:
    return Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in NAMES))


CENTRED = torch.eye(4)[None], torch.tensor([[[12.0, 0, 4.5], [0, 12.0, 4.5], [0, 0, 1]]])
"""A camera whose pixel (4, 4) of 9 × 9 looks straight ahead."""


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
def test_equals_the_plain_twin(seed: int, count: int) -> None:
    gaussians = random_gaussians(seed, count)
    viewmats, Ks = cameras(2)
    rendering, alphas = rasterise(gaussians, viewmats, Ks, WIDTH, HEIGHT, render_mode="RGB+D")
    exact = converted(gaussians, torch.float64)
    for camera in range(2):
        expected = reference.render(exact, viewmats[camera].double(), Ks[camera].double(), WIDTH, HEIGHT)
        keep = expected.decisive
        assert keep.float().mean() > 0.9
        torch.testing.assert_close(rendering[camera, ..., :3][keep].double(), expected.rgb[keep], atol=1e-4, rtol=0)
        torch.testing.assert_close(rendering[camera, ..., 3][keep].double(), expected.depth[keep], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alphas[camera, ..., 0][keep].double(), expected.alpha[keep], atol=1e-4, rtol=0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_gradients_equal_autograd_through_the_plain_twin(seed: int, count: int) -> None:
    start = random_gaussians(seed, count)
    viewmats, Ks = cameras(1)
    ours, exact = (converted(start, dtype, requires_grad=True) for dtype in (torch.float32, torch.float64))
    expected = reference.render(exact, viewmats[0].double(), Ks[0].double(), WIDTH, HEIGHT)
    weights = torch.randn(HEIGHT, WIDTH, 5, generator=torch.Generator().manual_seed(seed))
    weights[~expected.decisive] = 0
    rendering, alphas = rasterise(ours, viewmats, Ks, WIDTH, HEIGHT, render_mode="RGB+D")
    (torch.cat([rendering, alphas], dim=-1)[0] * weights).sum().backward()
    stacked = torch.cat([expected.rgb, expected.depth[..., None], expected.alpha[..., None]], dim=-1)
    (stacked * weights.double()).sum().backward()
    for name in NAMES:
        found, wanted = getattr(ours, name).grad, getattr(exact, name).grad
        wanted = torch.zeros_like(found).double() if wanted is None else wanted
        scale = max(float(wanted.abs().max()), 1.0)
        assert float((found.double() - wanted).abs().max()) <= 2e-3 * scale, name


def test_one_gaussian_has_the_closed_form() -> None:
    rendering, alphas = rasterise(one_gaussian(), *CENTRED, 9, 9)
    # On the axis the picture is a circle of variance (f·s/z)² + 0.3.
    variance = (12.0 * 0.5 / 3.0) ** 2 + 0.3
    rows, columns = torch.meshgrid(torch.arange(9.0) - 4, torch.arange(9.0) - 4, indexing="ij")
    expected = 0.8 * torch.exp(-(rows**2 + columns**2) / (2 * variance))
    torch.testing.assert_close(alphas[0, ..., 0], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rendering[0], expected[..., None] * torch.tensor([1.0, 0.5, 0.25]), atol=1e-6, rtol=1e-5)


def test_alpha_ends_at_one_255th_and_never_reaches_one() -> None:
    opaque = one_gaussian(opacities=torch.tensor([1.0]), scales=torch.full((1, 3), 0.2))
    _, alphas = rasterise(opaque, *CENTRED, 9, 9)
    assert float(alphas.max()) == pytest.approx(0.999, abs=1e-6)
    covered = alphas[alphas > 0]
    assert float(covered.min()) >= 1 / 255 - 1e-6
    assert 0 < len(covered) < 81
    _, nothing = rasterise(one_gaussian(opacities=torch.tensor([0.0039])), *CENTRED, 9, 9)
    assert not nothing.any()


def test_the_nearer_covers_the_farther_whatever_their_order() -> None:
    far = one_gaussian(colours=torch.tensor([[0.0, 0.0, 1.0]]), means=torch.tensor([[0.0, 0.0, 5.0]]))
    near = one_gaussian(colours=torch.tensor([[1.0, 0.0, 0.0]]))
    for order in ((near, far), (far, near)):
        rendering, alphas = rasterise(joined(*order), *CENTRED, 9, 9, render_mode="RGB+D")
        # 0.8 of the near one, then 0.8 of the 0.2 that is left.
        expected = [0.8, 0.0, 0.16, 0.8 * 3 + 0.16 * 5]
        assert rendering[0, 4, 4].tolist() == pytest.approx(expected, abs=1e-5)
        assert float(alphas[0, 4, 4, 0]) == pytest.approx(0.96, abs=1e-6)


def test_a_pixel_ends_before_its_transmittance_falls_to_1e_4() -> None:
    layers = [
        one_gaussian(opacities=torch.tensor([0.9]), means=torch.tensor([[0.0, 0.0, 3.0 + index]])) for index in range(5)
    ]
    _, alphas = rasterise(joined(*layers), *CENTRED, 9, 9)
    # 0.1⁴ would be 1e-4: in float32 a touch below or above, so the fourth may count, the fifth cannot.
    assert 1 - 0.1**3 - 1e-6 <= float(alphas[0, 4, 4, 0]) <= 1 - 0.1**4 + 1e-6


def test_depth_modes_and_background() -> None:
    gaussians = random_gaussians(3, 30)
    viewmats, Ks = cameras(2)

    def render(mode: RenderMode, background: torch.Tensor | None = None) -> torch.Tensor:
        return rasterise(gaussians, viewmats, Ks, WIDTH, HEIGHT, render_mode=mode, background=background)[0]

    alphas = rasterise(gaussians, viewmats, Ks, WIDTH, HEIGHT)[1]
    rgb, depth, expected_depth = render("RGB"), render("D"), render("ED")
    torch.testing.assert_close(expected_depth, depth / alphas.clamp(min=1e-10))
    torch.testing.assert_close(render("RGB+D"), torch.cat([rgb, depth], dim=-1))
    torch.testing.assert_close(render("RGB+ED"), torch.cat([rgb, expected_depth], dim=-1))
    colour = torch.tensor([0.2, 0.4, 0.6])
    torch.testing.assert_close(render("RGB", colour), rgb + (1 - alphas) * colour)
    torch.testing.assert_close(render("D", colour), depth)
    each = torch.stack([colour, 1 - colour])
    torch.testing.assert_close(render("RGB", each)[1], rgb[1] + (1 - alphas[1]) * (1 - colour))


def test_order_does_not_matter_and_runs_are_equal() -> None:
    gaussians = random_gaussians(5, 200)
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    other = Gaussians(*(getattr(gaussians, name)[shuffled] for name in NAMES))
    viewmats, Ks = cameras(2)
    gradients = []
    renderings = []
    for each in (gaussians, other, gaussians):
        leaves = converted(each, torch.float32, requires_grad=True)
        rendering, _ = rasterise(leaves, viewmats, Ks, WIDTH, HEIGHT)
        rendering.square().sum().backward()
        renderings.append(rendering)
        gradients.append(leaves.means.grad)
    torch.testing.assert_close(renderings[0], renderings[1], atol=1e-6, rtol=0)
    assert torch.equal(renderings[0], renderings[2])
    assert gradients[0] is not None
    assert torch.equal(gradients[0], gradients[2])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), settled=st.integers(0, 60))
def test_among_settled_gaussians_is_as_together_with_them(seed: int, settled: int) -> None:
    everything = random_gaussians(seed, 80)
    parts = [Gaussians(*(getattr(everything, n)[cut] for n in NAMES)) for cut in (slice(settled), slice(settled, None))]
    camera = cameras(1)
    wanted = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    wanted[3:9, 5:20] = wanted[-1, -1] = True
    weights = wanted[..., None] * torch.rand(HEIGHT, WIDTH, 4, generator=torch.Generator().manual_seed(seed))
    expected = converted(joined(*parts), torch.float32, requires_grad=True)
    found = converted(parts[1], torch.float32, requires_grad=True)
    among = settle(parts[0], *camera, WIDTH, HEIGHT, wanted=wanted)
    wholes = []
    for each, others in ((expected, None), (found, among)):
        rendering, alphas = rasterise(each, *camera, WIDTH, HEIGHT, render_mode="RGB+D", among=others)
        (rendering[0] * weights).sum().backward()
        wholes.append(torch.cat([rendering, alphas], dim=-1)[0].detach())
    assert torch.equal(wholes[0][wanted], wholes[1][wanted])
    for name in NAMES:
        torch.testing.assert_close(getattr(found, name).grad, getattr(expected, name).grad[settled:], atol=1e-6, rtol=0)
    # Those that no wanted pixel needs are gone.
    assert len(among.gaussians) <= len(settle(parts[0], *camera, WIDTH, HEIGHT).gaussians) <= settled
    assert len(settle(parts[0], *camera, WIDTH, HEIGHT, wanted=torch.zeros_like(wanted)).gaussians) == 0


def test_what_is_not_seen_has_no_gradient_and_gives_no_nan() -> None:
    on_the_camera = one_gaussian(means=torch.zeros(1, 3))
    behind = one_gaussian(means=torch.tensor([[0.0, 0.0, -2.0]]))
    beside = one_gaussian(means=torch.tensor([[40.0, 0.0, 1.0]]))
    leaves = converted(joined(on_the_camera, behind, beside), torch.float32, requires_grad=True)
    rendering, alphas = rasterise(leaves, *CENTRED, 9, 9, render_mode="RGB+ED")
    assert not alphas.any()
    assert not rendering.any()
    rendering.sum().backward()
    for name in NAMES:
        gradient = getattr(leaves, name).grad
        assert gradient is not None
        assert torch.equal(gradient, torch.zeros_like(gradient)), name


def test_no_gaussians_give_the_background() -> None:
    nothing = Gaussians(*(getattr(one_gaussian(), name)[:0] for name in NAMES))
    rendering, alphas = rasterise(nothing, *CENTRED, 9, 9, background=torch.tensor([0.1, 0.2, 0.3]))
    assert rendering[0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert not alphas.any()


def test_wrong_shapes_and_modes_are_named() -> None:
    with pytest.raises(ContractError, match=r"viewmats has shape \(4, 4\)"):
        rasterise(one_gaussian(), torch.eye(4), CENTRED[1], 9, 9)
    with pytest.raises(ContractError, match="background has shape"):
        rasterise(one_gaussian(), *CENTRED, 9, 9, background=torch.zeros(4))
    with pytest.raises(ContractError, match="render mode 'depth'"):
        rasterise(one_gaussian(), *CENTRED, 9, 9, render_mode="depth")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ContractError, match="0x9"):
        rasterise(one_gaussian(), *CENTRED, 0, 9)
    with pytest.raises(ContractError, match="scales"):
        one_gaussian(scales=torch.ones(2, 3))


def test_equals_gsplat_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    start = random_gaussians(7, 500)
    viewmats, Ks = cameras(2)
    results = []
    for device in ("cpu", "cuda"):
        leaves = Gaussians(*(getattr(start, name).to(device).requires_grad_() for name in NAMES))
        rendering, alphas = rasterise(
            leaves,
            viewmats.to(device),
            Ks.to(device),
            WIDTH,
            HEIGHT,
            render_mode="RGB+ED",
            background=torch.ones(3, device=device),
        )
        rendering[..., :3].square().sum().backward()
        gradients = [getattr(leaves, name).grad.cpu() for name in NAMES]
        results.append([rendering.detach().cpu(), alphas.detach().cpu(), *gradients])
    for ours, theirs in zip(*results, strict=True):
        # A few pixels lie so near a threshold that the GPU's approximate exponential decides otherwise.
        close = torch.isclose(ours, theirs, atol=1e-3 * max(1.0, float(theirs.abs().max())), rtol=1e-3)
        assert close.float().mean() > 0.99


class StandInForGsplat:
    """In gsplat's place where no GPU is: records what `rasterization` is given and draws it with the plain twin.

    The parameters are those of gsplat 1.5.3, in its order and with its defaults, so that an argument it does not know
    fails here as it would there; the checks are those it makes. It draws what gsplat's documentation says the arguments
    mean: wxyz quaternions, linear scales, world-to-camera matrices, a background a camera with a channel a colour.
    """

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def rasterization(
        self,
        means: torch.Tensor,
        quats: torch.Tensor,
        scales: torch.Tensor,
        opacities: torch.Tensor,
        colors: torch.Tensor,
        viewmats: torch.Tensor,
        Ks: torch.Tensor,
        width: int,
        height: int,
        near_plane: float = 0.01,
        far_plane: float = 1e10,
        radius_clip: float = 0.0,
        eps2d: float = 0.3,
        sh_degree: int | None = None,
        packed: bool = True,
        tile_size: int = 16,
        backgrounds: torch.Tensor | None = None,
        render_mode: str = "RGB",
        sparse_grad: bool = False,
        absgrad: bool = False,
        rasterize_mode: str = "classic",
        channel_chunk: int = 32,
        distributed: bool = False,
        camera_model: str = "pinhole",
        segmented: bool = False,
        covars: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        self.given = {name: value for name, value in locals().items() if name != "self"}
        count, cameras = len(means), len(viewmats)
        shapes = {"means": (count, 3), "quats": (count, 4), "scales": (count, 3), "opacities": (count,)}
        shapes |= {"colors": (count, 3), "viewmats": (cameras, 4, 4), "Ks": (cameras, 3, 3)}
        if backgrounds is not None:
            shapes["backgrounds"] = (cameras, 3)
        for name, shape in shapes.items():
            assert (tuple(self.given[name].shape), self.given[name].dtype) == (shape, torch.float32), name
        exact = converted(Gaussians(means, quats, scales, opacities, colors), torch.float64)
        drawn = [
            reference.render(exact, w2c.double(), K.double(), width, height)
            for w2c, K in zip(viewmats, Ks, strict=True)
        ]
        alphas = torch.stack([each.alpha for each in drawn])[..., None].float()
        rgb, depth = (torch.stack([getattr(each, name) for each in drawn]).float() for name in ("rgb", "depth"))
        if backgrounds is not None:
            rgb = rgb + (1 - alphas) * backgrounds[:, None, None]
        depth = depth[..., None] / (alphas.clamp(min=1e-10) if "ED" in render_mode else 1)
        parts = [part for part, wanted in ((rgb, "RGB" in render_mode), (depth, render_mode != "RGB")) if wanted]
        return torch.cat(parts, dim=-1), alphas, {}


@pytest.mark.parametrize("mode", get_args(RenderMode))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_call_of_gsplat_means_what_the_cpu_draws(
    mode: RenderMode, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandInForGsplat()
    monkeypatch.setitem(sys.modules, "gsplat", stand_in)
    gaussians = random_gaussians(11, 40, dtype)
    viewmats, Ks = (each.to(dtype) for each in cameras(2))
    background = torch.tensor([0.1, 0.5, 0.9], dtype=dtype).expand(2, 3)
    drawn = gaussian_rasteriser._rasterise_with_gsplat(gaussians, viewmats, Ks, WIDTH, HEIGHT, mode, background)
    expected = rasterise(gaussians, viewmats, Ks, WIDTH, HEIGHT, render_mode=mode, background=background)
    for ours, theirs in zip(expected, drawn, strict=True):
        assert ours.shape == theirs.shape
        # Where rounding decides at a threshold, the two may differ.
        assert torch.isclose(ours, theirs, atol=2e-3, rtol=1e-3).float().mean() > 0.99
    given = stand_in.given
    assert (given["packed"], given["rasterize_mode"], given["camera_model"]) == (False, "classic", "pinhole")
    assert (given["near_plane"], given["far_plane"], given["eps2d"]) == (0.01, 1e10, 0.3)
    assert (given["sh_degree"], given["covars"], given["radius_clip"]) == (None, None, 0.0)
    assert (given["backgrounds"] is None) == ("RGB" not in mode)


def test_the_call_of_gsplat_fits_the_gsplat_that_is_installed() -> None:
    gsplat = pytest.importorskip("gsplat", reason="gsplat is not installed")
    known = inspect.signature(gsplat.rasterization).parameters
    ours = inspect.signature(StandInForGsplat().rasterization).parameters
    assert list(known)[: len(ours)] == list(ours)
    assert all(known[name].default == ours[name].default for name in ours)


def test_projects_as_gsplat_does_in_pytorch() -> None:
    theirs = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")
    gaussians = random_gaussians(3, 500)
    viewmats, Ks = cameras(2)
    covariances, _ = theirs._quat_scale_to_covar_preci(gaussians.quaternions, gaussians.scales, True, False)
    radii, means2d, depths, conics, _ = theirs._fully_fused_projection(
        gaussians.means, covariances, viewmats, Ks, WIDTH, HEIGHT, eps2d=0.3, near_plane=0.01, far_plane=1e10
    )
    ours = project(gaussians, viewmats, Ks, WIDTH, HEIGHT)
    seen = (ours.radii > 0).all(dim=-1)
    assert seen.sum() > 300
    assert (radii[seen] > 0).all()
    for found, expected in ((ours.means2d, means2d), (ours.depths, depths), (ours.conics, conics)):
        torch.testing.assert_close(found[seen], expected[seen], atol=1e-5, rtol=2e-4)


def test_cuda_tensors_without_gsplat_are_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(EngineError, match="Install"):
        gaussian_rasteriser._rasterise_with_gsplat(one_gaussian(), *CENTRED, 9, 9, "RGB", None)


# ----------------------------------------------------------------------------------------------- PLY


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 20))
def test_ply_round_trip(seed: int, count: int) -> None:
    gaussians = random_gaussians(seed, count)
    content = ply_from_gaussians(gaussians)
    assert content == ply_from_gaussians(gaussians)
    found = gaussians_from_ply(content)
    for name in ("means", "scales", "colours"):
        torch.testing.assert_close(getattr(found, name), getattr(gaussians, name), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.opacities, gaussians.opacities, atol=2e-6, rtol=1e-5)
    unit = torch.nn.functional.normalize(gaussians.quaternions, dim=-1)
    torch.testing.assert_close(found.quaternions, unit, atol=1e-6, rtol=1e-5)


def test_ply_is_laid_out_as_the_viewers_expect() -> None:
    """Read by the definition: 62 floats a vertex, in the order of the original training code."""
    content = ply_from_gaussians(one_gaussian())
    header, _, body = content.partition(b"end_header\n")
    names = [line.split()[-1] for line in header.decode().splitlines() if line.startswith("property float")]
    rest = [f"f_rest_{index}" for index in range(45)]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:54] == rest
    assert names[54:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    row = dict(zip(names, np.frombuffer(body, "<f4"), strict=True))
    assert row["z"] == 3.0
    assert row["f_dc_0"] == pytest.approx(0.5 / SH_C0)
    assert row["opacity"] == pytest.approx(math.log(0.8 / 0.2), rel=1e-5)
    assert row["scale_1"] == pytest.approx(math.log(0.5))
    assert [row[f"rot_{index}"] for index in range(4)] == [1, 0, 0, 0]


def test_a_damaged_ply_is_refused() -> None:
    content = ply_from_gaussians(one_gaussian())
    with pytest.raises(CorruptFileError, match="244 bytes follow the header, 248 are declared"):
        gaussians_from_ply(content[:-4])
    with pytest.raises(CorruptFileError, match="rot_3"):
        gaussians_from_ply(content.replace(b"property float rot_3\n", b""))
    with pytest.raises(CorruptFileError, match="not a binary"):
        gaussians_from_ply(b"ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(CorruptFileError, match="float properties"):
        gaussians_from_ply(content.replace(b"float x", b"double x"))
    header, mark, body = content.partition(b"end_header\n")
    turning = np.frombuffer(body, "<f4").copy()
    turning[12] = 0.3
    with pytest.raises(ContractError, match="direction of view"):
        gaussians_from_ply(header + mark + turning.tobytes())


def test_what_a_ply_cannot_hold_is_refused() -> None:
    with pytest.raises(ContractError, match="scale is not above 0"):
        ply_from_gaussians(one_gaussian(scales=torch.zeros(1, 3)))
    with pytest.raises(ContractError, match="not finite"):
        ply_from_gaussians(one_gaussian(means=torch.full((1, 3), math.nan)))
