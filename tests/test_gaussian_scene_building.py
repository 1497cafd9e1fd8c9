"""RGB-D pictures into Gaussians, what cameras see of them, files of them, and fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ContractError, CorruptFileError
from sceneloom.ops import gaussian_file
from sceneloom.ops.gaussian_optimisation import optimise, structural_similarity, target_view
from sceneloom.ops.gaussian_scene import Gaussians
from sceneloom.ops.gaussian_scene_building import gaussians_of_view, in_the_way, joined, selected
from sceneloom.ops.gaussian_views import Coverage, view_gaussians

HEIGHT, WIDTH = 24, 32
LENS = np.array([20.0, 20.0, WIDTH / 2, HEIGHT / 2])


def picture(seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(40, 216, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)


def wall(depth: float = 2.0) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), depth, np.float32)


def planted(seed: int = 0) -> Gaussians:
    return gaussians_of_view(picture(seed), wall(), np.eye(4), LENS)


def test_every_pixel_becomes_a_gaussian_at_its_centre_and_of_its_size() -> None:
    made = planted()
    assert len(made) == HEIGHT * WIDTH
    np.testing.assert_allclose(made.means[0].numpy(), [(0.5 - 16) / 20 * 2, (0.5 - 12) / 20 * 2, 2.0], rtol=1e-6)
    np.testing.assert_allclose(made.scales.numpy(), 2.0 / (20 * np.sqrt(2)), rtol=1e-6)


def test_invalid_and_unwanted_pixels_are_left_out() -> None:
    depth, where = wall(), np.ones((HEIGHT, WIDTH), bool)
    depth[0], where[-1] = 0, False
    assert len(gaussians_of_view(picture(), depth, np.eye(4), LENS, where=where)) == (HEIGHT - 2) * WIDTH
    with pytest.raises(ContractError, match="one size"):
        gaussians_of_view(picture(), depth[1:], np.eye(4), LENS)


def test_the_view_sees_its_own_depth_and_colours() -> None:
    seen = view_gaussians(planted(), np.eye(4), LENS, HEIGHT, WIDTH)
    np.testing.assert_allclose(seen.depth, 2.0, rtol=1e-4)
    assert seen.alpha.min() > 0.7
    inner = np.s_[2:6, 2:6]
    np.testing.assert_allclose(seen.picture[inner], picture()[inner], atol=2)


def test_what_nothing_covers_is_black_and_without_depth() -> None:
    pose = np.eye(4)
    pose[0, 3] = 1.0
    seen = view_gaussians(planted(), pose, LENS, HEIGHT, WIDTH)
    open_ = seen.alpha == 0
    assert open_.any()
    assert not seen.picture[open_].any()
    assert not seen.depth[open_].any()


def test_coverage_grows_by_what_is_new_alone() -> None:
    aside = np.eye(4)
    aside[0, 3] = 1.0
    parts = [planted(), gaussians_of_view(picture(1), wall(1.5), aside, LENS)]
    coverage = Coverage([np.eye(4), aside], LENS, HEIGHT, WIDTH)
    assert not coverage.alpha(0).any()
    for part in parts:
        coverage.add(part)
    for index, pose in enumerate((np.eye(4), aside)):
        seen = view_gaussians(joined(parts), pose, LENS, HEIGHT, WIDTH)
        # Where a pixel ended, what lies behind counts here and not there.
        np.testing.assert_allclose(coverage.alpha(index), seen.alpha, atol=1e-3)
        assert (seen.alpha[-1, -4:] > 0.1).any()
    assert coverage.alpha(0)[:, 0].min() < 0.99 < coverage.alpha(0)[:, -4].min()


def test_points_before_a_known_surface_are_in_its_way() -> None:
    points = np.array([[0, 0, 1.0], [0, 0, 1.95], [0, 0, 3.0], [0, 0, -1.0], [50, 0, 1.0]])
    assert in_the_way(points, wall(), np.eye(4), LENS).tolist() == [True, False, False, False, False]
    assert not in_the_way(points, wall(0.0), np.eye(4), LENS).any()


def test_parts_join_and_are_selected_in_order() -> None:
    both = joined([planted(0), planted(1)])
    keep = np.repeat([False, True], HEIGHT * WIDTH)
    torch.testing.assert_close(selected(both, keep).colours, planted(1).colours)
    with pytest.raises(ContractError, match="no Gaussians"):
        joined([])


def test_files_hold_gaussians_exactly_and_damage_is_named() -> None:
    content = gaussian_file.to_bytes(planted())
    assert content == gaussian_file.to_bytes(planted())
    back = gaussian_file.from_bytes(content)
    for name in Gaussians.__slots__:
        assert torch.equal(getattr(back, name), getattr(planted(), name))
    for broken in (content[: len(content) // 2], b"", b"no file"):
        with pytest.raises(CorruptFileError, match="not a file of Gaussians"):
            gaussian_file.from_bytes(broken)


def test_a_fit_comes_nearer_to_its_picture_and_is_the_same_every_time() -> None:
    target = target_view(picture(1), np.eye(4), LENS)
    fits = [optimise(planted(0), [target], steps=25, seed=3) for _ in range(2)]
    assert fits[0].loss < 0.9 * optimise(planted(0), [target], steps=0, seed=3).loss
    assert gaussian_file.to_bytes(fits[0].gaussians) == gaussian_file.to_bytes(fits[1].gaussians)


def test_a_scene_that_fits_stays_as_it_is() -> None:
    shown = view_gaussians(planted(), np.eye(4), LENS, HEIGHT, WIDTH)
    target = target_view(shown.picture, np.eye(4), LENS, mask=np.zeros((HEIGHT, WIDTH), bool))
    fit = optimise(planted(), [target], steps=5, seed=0)
    torch.testing.assert_close(fit.gaussians.means, planted().means)
    torch.testing.assert_close(fit.gaussians.colours, planted().colours)
    with pytest.raises(ContractError, match="free Gaussians"):
        optimise(planted(), [], steps=1, seed=0)


def test_what_is_fixed_is_seen_and_stays_and_changes_nothing_beyond_the_mask() -> None:
    near = gaussians_of_view(picture(2), wall(1.0), np.eye(4), LENS)
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[:, : WIDTH // 2] = True
    target = target_view(picture(0), np.eye(4), LENS, mask=half)
    behind = optimise(planted(), [target], steps=4, seed=0, fixed=near)
    # Behind another wall nothing helps, and of that wall only what the mask's windows look at counts.
    alone = optimise(planted(), [target], steps=4, seed=0)
    assert behind.loss > 1.5 * alone.loss
    seen = near.means[:, 0] < (WIDTH // 2 + 5 + 4 - 16) / 20
    part = optimise(planted(), [target], steps=4, seed=0, fixed=selected(near, seen.numpy()))
    assert gaussian_file.to_bytes(part.gaussians) == gaussian_file.to_bytes(behind.gaussians)
    assert part.loss == behind.loss


def test_pictures_that_do_not_show_what_is_free_are_not_looked_at() -> None:
    away = np.diag([-1.0, 1.0, -1.0, 1.0])
    own, other = (target_view(picture(1), pose, LENS) for pose in (np.eye(4), away))
    alone = optimise(planted(), [own], steps=6, seed=0)
    both = optimise(planted(), [own, other], steps=6, seed=0)
    assert gaussian_file.to_bytes(both.gaussians) == gaussian_file.to_bytes(alone.gaussians)
    unseen = optimise(planted(), [other], steps=6, seed=0)
    torch.testing.assert_close(unseen.gaussians.means, planted().means)
    assert both.loss == pytest.approx((alone.loss + unseen.loss) / 2)


def test_structural_similarity_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 15, 15, 1))
    found = structural_similarity(torch.from_numpy(a), torch.from_numpy(b))[7, 7].item()
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = a[2:13, 2:13, 0], b[2:13, 2:13, 0]
    mx, my = (window * x).sum(), (window * y).sum()
    vx, vy, cxy = ((window * p).sum() for p in ((x - mx) ** 2, (y - my) ** 2, (x - mx) * (y - my)))
    expected = (2 * mx * my + 1e-4) * (2 * cxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert found == pytest.approx(expected, rel=1e-6)
    assert structural_similarity(torch.from_numpy(a), torch.from_numpy(a)).min().item() == pytest.approx(1.0)
