"""The training example: it learns, its held-out views are views held out, and its files appear."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sceneloom.ops.gaussian_scene import gaussians_from_ply

from . import tiny

SCRIPT = Path(__file__).parent.parent / "examples" / "train_gaussian_decoder.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("train_gaussian_decoder", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["train_gaussian_decoder"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def index() -> Path:
    tiny.made_collection()
    return next(tiny.folder_of_this_process().joinpath("collection").rglob("training_index.parquet"))


def test_it_learns_and_beats_the_baselines_and_the_files_appear(script: Any, index: Path, tmp_path: Path) -> None:
    assert script.main(["--steps", "40", "--index", str(index), "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["loss_trained"] < 0.9 * metrics["loss_untrained"]
    assert metrics["held_out_trajectory"] == "zoom_in"
    assert metrics["picture"]["input"] == "left"
    assert len(metrics["losses"]) == 40
    scores = metrics["scores"]["known_scenes"]
    for baseline in ("mean_colour", "copied_frame", "untrained"):
        assert scores["trained"]["psnr"] > scores[baseline]["psnr"] + 0.2, baseline
        assert scores["trained"]["depth_error"] < 0.95 * scores[baseline]["depth_error"], baseline
    assert scores["true_geometry"]["depth_error"] < scores["trained"]["depth_error"]
    picture = np.asarray(Image.open(tmp_path / "novel_view.png"))
    height, width = tiny.HEIGHT // 2, tiny.WIDTH // 2
    assert picture.shape == (2 * height, 3 * width, 3)
    assert _psnr(picture[:height, width : 2 * width], picture[:height, 2 * width :]) == pytest.approx(
        metrics["picture"]["psnr"], abs=0.1
    )
    splats = gaussians_from_ply((tmp_path / "splats.ply").read_bytes())
    assert len(splats) == metrics["gaussians"] == 2 * height * width * script.SIDE**2 // 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "novel_view.png", "splats.ply"]


def _psnr(ours: np.ndarray, truth: np.ndarray) -> float:
    return -10 * float(np.log10(np.mean((ours / 255.0 - truth / 255.0) ** 2)))


def test_the_same_seed_learns_the_same(script: Any, index: Path) -> None:
    clips = script.load_clips(index)
    runs = []
    for seed in (0, 0, 1):
        trainer = script.Trainer(clips, "zoom_in", steps=3, seed=seed, device="cpu")
        runs.append([trainer.step() for _ in range(3)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_nothing_held_out_is_shown(script: Any, index: Path) -> None:
    clips = script.load_clips(index)
    trainer = script.Trainer(clips, "zoom_in", steps=1, seed=0, device="cpu")
    assert {clip.trajectory for clip in trainer.shown} == {"left"}
    assert {clip.split for clip in trainer.shown} == {"train"}
    pairs = script.held_out_pairs(clips, "zoom_in", training_scenes=True)
    assert pairs
    for source, target in pairs:
        assert (source.scene_id, source.split) == (target.scene_id, "train")
        assert (source.trajectory, target.trajectory) == ("left", "zoom_in")


def test_gaussians_at_the_true_depth_reproject_onto_the_other_trajectory(script: Any, index: Path) -> None:
    """Cameras, rays and rasteriser agree: true colours at true depths, seen from elsewhere, match the truth."""
    pairs = script.held_out_pairs(script.load_clips(index), "zoom_in", training_scenes=True)
    best = script.mean_scores(script.true_geometry, pairs)[0]
    unmoved = script.mean_scores(script.copied_frame, pairs)[0]
    assert best.psnr > unmoved.psnr + 1.5
    assert best.depth_error < 0.3 * unmoved.depth_error
    mirrored = [(dataclasses.replace(source, c2w=np.linalg.inv(source.c2w)), target) for source, target in pairs]
    assert script.mean_scores(script.true_geometry, mirrored)[0].psnr < best.psnr - 1


def test_cameras_are_seen_from_the_input_clips_first(script: Any, index: Path) -> None:
    source, target = script.held_out_pairs(script.load_clips(index), "zoom_in", training_scenes=True)[0]
    origin = dataclasses.replace(source, c2w=source.c2w[::-1])  # all trajectories start alike; this one does not
    cameras = script.relative_cameras(target, [4], origin)
    in_target = np.array([0.1, -0.2, 2.0, 1.0])
    in_origin = np.linalg.inv(origin.c2w[0]) @ target.c2w[4] @ in_target
    np.testing.assert_allclose(cameras.viewmats[0].numpy() @ in_origin, in_target, atol=1e-5)


def test_plane_sweep_finds_the_plane_of_a_wall(script: Any) -> None:
    """A textured wall straight ahead at z = 3 seen by cameras that move sideways costs least at the plane 1/3."""
    height, width, focal = 16, 32, 20.0
    Ks = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).expand(3, 3, 3)
    viewmats = torch.eye(4).repeat(3, 1, 1)
    viewmats[:, 0, 3] = torch.tensor([0.0, -0.3, -0.6])  # 0, 2 and 4 pixels at z = 3
    texture = torch.rand(3, height, width + 4, generator=torch.Generator().manual_seed(0))
    pictures = torch.stack([texture[..., shift : shift + width] for shift in (0, 2, 4)])
    disparities = 1 / torch.tensor([1.5, 2.0, 3.0, 4.0, 6.0])
    cost = script.plane_sweep(pictures, script.Cameras(viewmats, Ks, (height, width)), disparities)
    assert cost.shape == (3, 5, height, width)
    assert (cost.argmin(dim=1)[:, 2:-2, 6:-6] == 2).float().mean() > 0.98
    torch.testing.assert_close(cost.mean(dim=1), torch.zeros(3, height, width), atol=1e-6, rtol=0)
    alone = script.plane_sweep(pictures[:1], script.Cameras(viewmats[:1], Ks[:1], (height, width)), disparities)
    assert not alone.any()


def test_least_squares_convolution_finds_a_convolution(script: Any) -> None:
    torch.manual_seed(0)
    truth = torch.nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate")
    inputs = [torch.randn(2, 4, 12, 15) for _ in range(3)]
    with torch.no_grad():
        found = script.least_squares_convolution([(each, truth(each)) for each in inputs])
        torch.testing.assert_close(found(inputs[0]), truth(inputs[0]), atol=2e-3, rtol=0)
    assert not any(weight.requires_grad for weight in found.parameters())


def test_depth_loss_counts_ratios_where_truth_and_gaussians_are(script: Any) -> None:
    truth = 1 + torch.rand(2, 8, 9, generator=torch.Generator().manual_seed(0))
    rendered, alphas = 2 * truth, torch.ones_like(truth)
    rendered[0, 0, 0], truth[0, 0, 0] = 1e6, 0
    rendered[1, 0, 0], alphas[1, 0, 0] = 1e6, 0.4
    assert float(script.depth_loss(rendered, truth, alphas)) == pytest.approx(math.log(2), rel=1e-5)
    rendered.requires_grad_()
    nothing = script.depth_loss(rendered, torch.zeros_like(truth), alphas)
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert rendered.grad is not None
    assert not rendered.grad.any()


def test_scores_and_baselines_have_their_closed_forms(script: Any, index: Path) -> None:
    source, target = script.held_out_pairs(script.load_clips(index), "zoom_in", training_scenes=True)[0]
    frames = target.test_frames
    assert frames == [4, 8]
    exact = script.score((target.rgb[frames] / 255, 1.25 * target.depth[frames]), target, frames)
    assert exact.psnr == 100
    assert exact.depth_error == pytest.approx(0.25, rel=1e-5)
    mean = script.score(script.mean_colour(source, target, frames), target, frames).psnr
    variance = float((target.rgb[frames] / 255).var(dim=(0, 1, 2), correction=0).mean())
    assert mean == pytest.approx(-10 * math.log10(variance), abs=1e-3)
    copied = script.copied_frame(source, target, frames)
    assert torch.equal(copied[0][1] * 255, source.rgb[0].float())


def test_faults_of_the_command_line_are_named(
    script: Any, index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert script.main(["--index", str(tmp_path / "no.parquet"), "--out", str(tmp_path / "out")]) == 1
    assert "no.parquet" in caplog.text
    assert script.main(["--index", str(index), "--held-out", "sideways", "--out", str(tmp_path / "out")]) == 1
    assert "Hold one of left, zoom_in out" in caplog.text
    assert not (tmp_path / "out").exists()
