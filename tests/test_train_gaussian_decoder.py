"""The training example: it learns, its held-out views are views held out, and its files appear."""

from __future__ import annotations

import importlib.util
import json
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


def test_the_loss_falls_and_the_files_appear(script: Any, index: Path, tmp_path: Path) -> None:
    assert script.main(["--steps", "30", "--index", str(index), "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["loss_trained"] < 0.9 * metrics["loss_untrained"]
    assert metrics["novel_view_psnr"] > metrics["novel_view_psnr_untrained"]
    assert metrics["held_out_trajectory"] == "zoom_in"
    assert metrics["picture"]["input"] == "left"
    assert len(metrics["losses"]) == 30
    picture = np.asarray(Image.open(tmp_path / "novel_view.png"))
    assert picture.shape == (tiny.HEIGHT // 2, tiny.WIDTH, 3)
    splats = gaussians_from_ply((tmp_path / "splats.ply").read_bytes())
    assert len(splats) == metrics["gaussians"] == 2 * (tiny.HEIGHT // 4) * (tiny.WIDTH // 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "novel_view.png", "splats.ply"]


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
    clips = {(clip.scene_id, clip.trajectory): clip for clip in script.load_clips(index)}
    scene = tiny.made_collection().scene().scene_id
    source, target = clips[scene, "left"], clips[scene, "zoom_in"]
    size = tuple(source.rgb.shape[1:3])
    cameras = script.relative_cameras(source, [0], source)
    rays = script.rays_of(cameras, size, size)
    in_camera = torch.einsum("ij,jfhw->ifhw", cameras.viewmats[0, :3, :3], rays.directions)[2]
    along = source.depth[:1] / in_camera
    count = size[0] * size[1]
    gaussians = script.Gaussians(
        means=script._as_rows(rays.origins + along * rays.directions),
        quaternions=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=(0.5 * along * rays.cell).reshape(-1, 1).expand(count, 3),
        opacities=torch.full((count,), 0.95),
        colours=source.rgb[0].reshape(-1, 3) / 255,
    )
    rgb, alphas = script.rasterise(
        gaussians, *vars(script.relative_cameras(target, [4], source)).values(), size[1], size[0]
    )
    filled = (alphas[0, ..., 0] > 0.9) & (source.depth[:1] > 0)[0]
    error = (rgb[0] - target.rgb[4] / 255)[filled].square().mean()
    unmoved = (source.rgb[0] / 255 - target.rgb[4] / 255)[filled].square().mean()
    assert filled.float().mean() > 0.5
    assert error < 0.6 * unmoved


def test_depth_loss_counts_neither_scale_nor_shift_nor_invalid_pixels(script: Any) -> None:
    truth = 1 + torch.rand(2, 8, 9, generator=torch.Generator().manual_seed(0))
    rendered = 3 * truth + 7
    rendered[0, 0, 0], truth[0, 0, 0] = 1e6, 0
    assert float(script.depth_loss(rendered, truth)) < 1e-9
    assert float(script.depth_loss(rendered.flip(2), truth)) > 0.1
    assert float(script.depth_loss(rendered, torch.zeros_like(truth))) == 0


def test_faults_of_the_command_line_are_named(
    script: Any, index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert script.main(["--index", str(tmp_path / "no.parquet"), "--out", str(tmp_path / "out")]) == 1
    assert "no.parquet" in caplog.text
    assert script.main(["--index", str(index), "--held-out", "sideways", "--out", str(tmp_path / "out")]) == 1
    assert "Hold one of left, zoom_in out" in caplog.text
    assert not (tmp_path / "out").exists()
