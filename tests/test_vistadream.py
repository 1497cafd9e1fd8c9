"""Engine vistadream with the embedded stand-ins and with tiny models, and clips rendered from its Gaussians."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneloom.assets import scene_scaffold
from sceneloom.datasets.errors import ConfigError, InputError
from sceneloom.datasets.shards import ShardReader
from sceneloom.ops import gaussian_file
from sceneloom.ops.cameras import centred_intrinsics
from sceneloom.ops.gaussian_scene import gaussians_from_ply
from sceneloom.ops.quality import QualityThresholds
from sceneloom.resources.embedded_engines import TourIntoPictureScaffold
from sceneloom.resources.engines import Scaffold, View
from sceneloom.resources.gaussian_video import GaussianVideo, gaussians_behind
from sceneloom.resources.picture_inpainter import FluxFillInpainter, make_inpainter
from sceneloom.resources.profiles import load_profile
from sceneloom.resources.vistadream import TRIES, VistaDreamScaffold, _Frame, _GrowingScene
from sceneloom.resources.vistadream_settings import (
    FluxFillInpaintingSettings,
    MultiviewConsistencySettings,
    OpenCvInpaintingSettings,
    VistaDreamScaffoldSettings,
)

from . import tiny_pipelines
from .tiny import folder_of_this_process, make, write_profile, write_sources

HEIGHT, WIDTH = 64, 96
QUICK: dict[str, Any] = {
    "poses": 6, "views": 1, "margin": 4, "iterations": 4, "repairs": 1, "repair_iterations": 2, "largest_hole": 0.9
}  # fmt: skip


def view() -> View:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    picture = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
    return View(picture, centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=1.3), None, {})


def engine() -> VistaDreamScaffold:
    settings = VistaDreamScaffoldSettings.model_validate(QUICK)
    return VistaDreamScaffold(settings, TourIntoPictureScaffold(75.0), make_inpainter(settings.inpainting))  # type: ignore[arg-type]


@functools.cache
def built() -> Scaffold:
    return engine().build_scaffold(view(), seed=4)


def test_holes_along_the_path_are_closed_and_the_record_says_how() -> None:
    notes = built().notes
    assert notes["open_after"]["mean"] < 0.5 * notes["open_before"]["mean"]
    assert len(notes["views"]) == 1
    assert notes["views"][0]["alignment"]["residual"] < 0.05
    assert notes["view_psnr"] > 15
    assert len(notes["stand_ins"]) == 2
    assert len(gaussians_behind(built())) == notes["gaussians"] > HEIGHT * WIDTH


def test_equal_seeds_give_equal_gaussians() -> None:
    again = engine().build_scaffold(view(), seed=4)
    assert gaussian_file.to_bytes(gaussians_behind(again)) == gaussian_file.to_bytes(gaussians_behind(built()))


def growing(changes: dict[str, Any] | None = None, depth: Any = None) -> _GrowingScene:
    """A scene that holds the view alone."""
    made, settings = engine(), VistaDreamScaffoldSettings.model_validate({**QUICK, **(changes or {})})
    finder = depth or made.depth
    scene = _GrowingScene(settings, finder, made.inpainter, view(), finder.build_scaffold(view(), seed=4), 4)
    scene.plant()
    return scene


def test_what_would_hide_the_view_becomes_no_gaussian_and_is_not_fitted_to() -> None:
    scene = growing()
    pose = np.eye(4)
    pose[0, 3] = 0.05
    size = scene.margin_size
    near = np.full(size, 0.5 * float(scene.found.depth.min()), np.float32)
    wanted = np.zeros(size, bool)
    wanted[:, -12:] = True  # beyond the view's right border, and a strip within it
    picture = np.zeros((*size, 3), np.uint8)
    added = scene._add(_Frame(picture, near, pose, scene.margin_intrinsics, wanted), 1, draw=1)
    made = scene.frames[-1].made
    assert 0 < added == made.sum() < wanted.sum()
    assert not made[8:-8, -12].any()
    assert made[:, -1].all()
    assert len(scene.gaussians) == HEIGHT * WIDTH + added == len(scene.made_up)
    assert scene.made_up.sum() == added


class ContradictingDepth:
    """Depth of the box for the view; for all further pictures the opposite of whatever is there."""

    contract = TourIntoPictureScaffold.contract

    def __init__(self) -> None:
        self.asked = 0

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        self.asked += 1
        found = TourIntoPictureScaffold(75.0).build_scaffold(view, seed=seed)
        depth = found.depth if self.asked == 1 else 1 / found.depth
        return Scaffold(depth.astype(np.float32), found.intrinsics, False, None, {})


def test_views_whose_depth_contradicts_the_scene_are_left_out_and_tries_end() -> None:
    depth = ContradictingDepth()
    scene = growing({"poses": 12, "smallest_hole": 0.0}, depth)
    views = list(iter(scene.grow, None))
    assert len(views) == TRIES == depth.asked - 1
    assert all("left_out" in each for each in views)
    assert len(scene.parts) == 1


def test_the_engine_declares_its_parts() -> None:
    contract = engine().contract
    assert (contract.name, contract.tier, contract.licence) == ("vistadream", "embedded", "Apache-2.0")
    assert "gaussians" in contract.gives
    assert engine().identity.weights == {}


def test_a_scaffold_without_gaussians_cannot_be_rendered() -> None:
    alone = Scaffold(np.ones((4, 4), np.float32), np.ones(4), True, None, {})
    with pytest.raises(InputError, match="no Gaussians"):
        GaussianVideo().open_scene(alone, view(), "")


def test_flux_fill_paints_holes_and_nothing_else() -> None:
    folder = folder_of_this_process() / "flux-fill-inpainting"
    tiny_pipelines.write_flux(folder, fill=True)
    settings = FluxFillInpaintingSettings(path=str(folder), precision="float32", steps=1)
    inpainter = make_inpainter(settings)
    assert isinstance(inpainter, FluxFillInpainter)
    holes = np.zeros((HEIGHT, WIDTH), bool)
    holes[10:30, 20:50] = True
    painted = inpainter.inpaint(view().picture, holes, prompt="a wall", seed=2)
    np.testing.assert_array_equal(painted.picture[~holes], view().picture[~holes])
    assert (painted.picture[holes] != view().picture[holes]).any()
    assert painted.notes["prompt"] == "a wall"
    np.testing.assert_array_equal(
        inpainter.inpaint(view().picture, holes, prompt="a wall", seed=2).picture, painted.picture
    )


def test_settings_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="no hole is larger"):
        VistaDreamScaffoldSettings(smallest_hole=0.5, largest_hole=0.1)
    with pytest.raises(ValueError, match="used steps"):
        MultiviewConsistencySettings(path="x", steps=4, used_steps=5)
    assert OpenCvInpaintingSettings().method == "telea"


@pytest.mark.parametrize("name", ["vistadream_embedded.yaml", "vistadream_gaussians.yaml"])
def test_the_shipped_profiles_are_valid(name: str) -> None:
    profile = load_profile(Path(__file__).parents[1] / "configs" / name)
    assert profile.engines.video_latents.engine == "gaussians"


def test_pictures_become_shards_of_rendered_gaussians(tmp_path: Path) -> None:
    file = _profile(tmp_path)
    made = make(load_profile(file))
    failures = [f"{event.stage}: {event.failure.message}" for event in made.events if event.failure is not None]
    assert not failures, failures
    (scene,) = made.catalog.active()
    inputs = made.inputs(scene)
    scaffold = scene_scaffold.read_scaffold(inputs)
    assert scaffold.notes["prompt"] == "a long corridor"
    assert made.record(scene, "scene_scaffold").metrics["gaussians"] == len(gaussians_behind(scaffold))
    ply = gaussians_from_ply(inputs.path("scene_scaffold", "gaussians.ply").read_bytes())
    np.testing.assert_allclose(ply.means.numpy(), gaussians_behind(scaffold).means.numpy())
    estimation = inputs.json("depth_and_poses", "cameras.json")["vistadream_spiral"]["estimation"]
    assert estimation["engine"] == "rendered"
    assert estimation["open_worst"] < 0.2
    assert len(ShardReader(inputs.url("gaussian_shards", "shard.zarr")).clips) == 1


def _profile(folder: Path, **engines: Any) -> Path:
    sources = write_sources(folder)[1:]
    quick = {"engine": "vistadream", **QUICK}
    tiny_codec = {"path": str(_codec())}
    chosen = {
        "scene_scaffold": {"prompt": quick, "image": quick},
        "video_latents": {"engine": "gaussians"},
        "depth_and_poses": {"engine": "rendered"},
        "latent_codec": tiny_codec,
        **engines,
    }
    return write_profile(
        folder,
        sources,
        frames={"count": 9, "height": HEIGHT, "width": WIDTH},
        trajectories={"names": ["vistadream_spiral"]},
        engines=chosen,
        quality=dict.fromkeys(QualityThresholds.model_fields),
    )


def _codec() -> Path:
    from .tiny import codec_folder

    return codec_folder()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"scene_scaffold": {"image": "tour_into_picture"}}, "gaussians needs a scaffold of Gaussians"),
        ({"depth_and_poses": {"engine": "ground_truth"}}, "only rendered clips have one"),
        (
            {"video_latents": "raycast", "scene_scaffold": {"image": "tour_into_picture"}},
            "only Gaussians are rendered with depth",
        ),
    ],
)
def test_engines_that_do_not_fit_together_are_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        load_profile(_profile(tmp_path, **changes))
