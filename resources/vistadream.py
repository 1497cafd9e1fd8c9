"""Engine `vistadream`: a scaffold of 3D Gaussians, grown from one view by painting what it leaves open.

H. Wang et al., "VistaDream: Sampling multiview consistent images for single-view scene reconstruction", ICCV 2025.
The view becomes Gaussians; along a dense path the camera that sees the largest holes is looked for, its picture and
depth are painted and joined to what is there, and its Gaussians added; then, if wanted, the whole is refined by
Multi-view Consistency Sampling. The outpainted view that VistaDream starts from is the conditioning view's business.

Otherwise than in the published program: pixel centres lie at +0.5, depth that cannot be brought onto the scene leaves
its view out instead of entering as it is, new Gaussians never hide what an earlier view shows, and a fit looks most at
the views in which what it fits is seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError
from ..ops.cameras import crop_intrinsics
from ..ops.gaussian_optimisation import optimise, target_view
from ..ops.gaussian_scene import Gaussians
from ..ops.gaussian_scene_building import gaussians_of_view, in_the_way, joined, moved, selected
from ..ops.gaussian_views import Coverage, GaussianView, view_gaussians
from ..ops.hole_selection import ALPHA_OF_HOLES, holes_in, next_view
from ..ops.picture_inpainting import inpaint_classically, joined_depth, nearest_filled
from ..ops.trajectories import TrajectoryContext, build_path, scene_radius
from .engines import EngineContract, EngineIdentity, Part, Scaffold, ScaffoldEngine, View, engine_identity
from .vistadream_settings import VistaDreamScaffoldSettings

if TYPE_CHECKING:
    from ..ops.depth_alignment import DepthAlignment
    from .multiview_consistency import MultiviewConsistency
    from .picture_inpainter import PictureInpainter

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

TRIES = 2
"""Views that are painted at most, as a multiple of those wanted: some may have to be left out."""

REPAIRED = 0.001
"""Share of a view that open pixels take, up to which it is not repaired."""

STAND_INS: Mapping[str, str] = {
    "opencv": "holes are painted by OpenCV's classical inpainting, which invents nothing, not by a generative model",
    "tour_into_picture": "depth is that of a box behind the view, not an estimate of the picture's",
}
"""What the embedded tier does in place of a model, by the engine's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Frame:
    """A view whose picture and depth the scene keeps.

    Attributes:
        made: (H, W) bool, what of it is to become Gaussians; of frames that are kept, what did and is fitted to.
    """

    picture: UInt8
    depth: Float32
    c2w: Float64
    intrinsics: Float64
    made: Bool


class VistaDreamScaffold:
    """Gaussians behind the view and beyond it.

    Args:
        settings: the profile's.
        depth: finds the depth of single pictures; one that gives geometry is asked once, and its geometry seen from
            every further camera.
        inpainter: paints holes of pictures.
        refinement: Multi-view Consistency Sampling; None: none.
    """

    name: ClassVar[str] = "vistadream"
    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset({"scaffold", "depth", "gaussians"})

    def __init__(
        self,
        settings: VistaDreamScaffoldSettings,
        depth: ScaffoldEngine,
        inpainter: PictureInpainter,
        refinement: MultiviewConsistency | None = None,
    ) -> None:
        self.settings = settings
        self.depth = depth
        self.inpainter = inpainter
        self.refinement = refinement

    @property
    def _parts(self) -> dict[str, Any]:
        """The engines that it is made of."""
        parts = {"depth": self.depth, "inpainting": self.inpainter}
        return parts if self.refinement is None else {**parts, "refinement": self.refinement}

    @property
    def contract(self) -> EngineContract:
        """What the engine needs and gives, with the licences of its parts."""
        contracts = [part.contract for part in self._parts.values()]
        embedded = all(contract.tier == "embedded" for contract in contracts)
        return EngineContract(
            self.name,
            "embedded" if embedded else "library",
            self.needs,
            self.gives,
            " AND ".join(dict.fromkeys(contract.licence for contract in contracts)),
            max(contract.device_memory_bytes for contract in contracts),
        )

    @property
    def identity(self) -> EngineIdentity:
        """The engine with the digests of its parts' weights."""
        identities = {name: engine_identity(part) for name, part in self._parts.items()}
        weights = {f"{part}/{name}": value for part, own in identities.items() for name, value in own.weights.items()}
        licence = " AND ".join(dict.fromkeys(own.licence for own in identities.values()))
        return EngineIdentity(self.name, licence, weights)

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """The view's depth, and Gaussians of the scene in the view's frame.

        On the CPU equal seeds give equal Gaussians.

        Raises:
            InputError: nothing is known of the view's depth.
            EngineError, StageFailed: a part cannot work.
        """
        found = self.depth.build_scaffold(view, seed=seed)
        scene = _GrowingScene(self.settings, self.depth, self.inpainter, view, found, seed)
        scene.plant()
        before = scene.open_shares()
        views = list(iter(scene.grow, None))
        repairs = list(iter(scene.repair, None))
        refined, refinement, after = scene.gaussians, None, scene.open_shares()
        if self.refinement is not None:
            refined, refinement = self.refinement.refine(
                scene.gaussians,
                view,
                scene.path,
                made_up=scene.made_up,
                intrinsics=found.intrinsics,
                margin=self.settings.margin,
                scale=scene.radius,
                prompt=_words(view),
                seed=_derived(seed, 2000),
            )
            after = scene.open_shares(refined)
        notes = {
            "engine": self.name,
            "prompt": _words(view),
            "unit": "metre" if found.metric else "arbitrary",
            "gaussians": len(refined),
            "views": views,
            "repairs": repairs,
            "refinement": refinement,
            "open_before": _spread_of(before),
            "open_after": _spread_of(after),
            "view_psnr": _view_psnr(refined, view.picture, found.intrinsics),
            "inpainting": self.inpainter.contract.name,
            "depth": dict(found.notes),
            "stand_ins": [
                STAND_INS[part.contract.name] for part in self._parts.values() if part.contract.name in STAND_INS
            ],
        }
        return Scaffold(found.depth, found.intrinsics, found.metric, None, notes, gaussians=moved(refined, "cpu"))


class _GrowingScene:
    """Gaussians of one scene while views are added."""

    def __init__(
        self,
        settings: VistaDreamScaffoldSettings,
        depth: ScaffoldEngine,
        inpainter: PictureInpainter,
        view: View,
        found: Scaffold,
        seed: int,
    ) -> None:
        self.settings = settings
        self.depth_engine = depth
        self.inpainter = inpainter
        self.view = view
        self.found = found
        self.seed = seed
        self.radius = scene_radius(found.depth, found.intrinsics)
        self.path = self._dense_path()
        self.margin_intrinsics = crop_intrinsics(found.intrinsics, top=-settings.margin, left=-settings.margin)
        height, width = view.picture.shape[:2]
        self.margin_size = height + 2 * settings.margin, width + 2 * settings.margin
        self.caster = None
        if found.geometry is not None:
            from ..ops.raycast import RayCaster

            self.caster = RayCaster(found.geometry)
        self.coverage = Coverage(self.path, self.margin_intrinsics, *self.margin_size)
        self.parts: list[Gaussians] = []
        self.frames: list[_Frame] = []
        self.tried: list[int] = []
        self.repaired: list[int] = []
        self.grown = 0

    @property
    def gaussians(self) -> Gaussians:
        """All of them."""
        return joined(self.parts)

    @property
    def made_up(self) -> Bool:
        """(N,) bool, Gaussians of what the view does not show."""
        counts = [len(part) for part in self.parts]
        return np.repeat([False] + [True] * (len(counts) - 1), counts)

    def plant(self) -> None:
        """Make the Gaussians of the view itself."""
        depth = self.found.depth
        # At depth edges the estimate is none of a surface; the nearest surface's is.
        whole = nearest_filled(depth, depth > 0)
        frame = _Frame(self.view.picture, whole, np.eye(4), self.found.intrinsics, np.ones(depth.shape, bool))
        self._add(frame, self.settings.iterations, draw=0)

    def grow(self) -> dict[str, Any] | None:
        """Paint the view with the largest hole and add it; what was done, or None when nothing is left to do."""
        settings = self.settings
        if self.grown >= settings.views or len(self.tried) >= TRIES * settings.views:
            return None
        holes = [holes_in(self.coverage.alpha(index)) for index in range(len(self.path))]
        shares = [float(each.mean()) for each in holes]
        index = next_view(shares, taken=self.tried, smallest=settings.smallest_hole, largest=settings.largest_hole)
        if index is None:
            return None
        self.tried.append(index)
        record: dict[str, Any] = {"pose": index, "hole": shares[index]}
        return record | self._paint(index, holes[index])

    def repair(self) -> dict[str, Any] | None:
        """Close what is still open in the worst view with what lies nearest; None when nothing is left to do."""
        if len(self.repaired) >= self.settings.repairs:
            return None
        index = next_view(_open_shares(self.coverage), taken=self.repaired, smallest=REPAIRED, largest=1.0, spacing=0)
        if index is None:
            return None
        self.repaired.append(index)
        seen = self._seen(self.path[index])
        holes = seen.alpha < ALPHA_OF_HOLES
        picture = inpaint_classically(seen.picture, holes)
        depth = nearest_filled(seen.depth, ~holes)
        frame = _Frame(picture, depth, self.path[index], self.margin_intrinsics, holes)
        added = self._add(frame, self.settings.repair_iterations, draw=1000 + len(self.repaired))
        return {"pose": index, "hole": float(holes.mean()), "gaussians": added}

    def open_shares(self, refined: Gaussians | None = None) -> list[float]:
        """Of each camera of the path, without its margin: share of the pixels that the scene, or what it was refined
        to, leaves open."""
        coverage = self.coverage
        if refined is not None:
            coverage = Coverage(self.path, self.margin_intrinsics, *self.margin_size)
            coverage.add(refined)
        return _open_shares(coverage, self.settings.margin)

    def _paint(self, index: int, holes: Bool) -> dict[str, Any]:
        pose, seen = self.path[index], self._seen(self.path[index])
        draw = len(self.tried)
        known = ~holes & (seen.alpha >= ALPHA_OF_HOLES)
        painted = self.inpainter.inpaint(seen.picture, holes, prompt=_words(self.view), seed=_derived(self.seed, draw))
        try:
            estimate, edges, alignment = self._depth(painted.picture, pose, seen, known, draw)
        except ContractError as error:
            return {"left_out": error.found, "inpainting": dict(painted.notes)}
        record = {"alignment": alignment.record(), "inpainting": dict(painted.notes)}
        if alignment.residual > self.settings.largest_residual:
            return {"left_out": f"depth is off by {alignment.residual:.2g} (median)", **record}
        depth = joined_depth(estimate, seen.depth, known)
        frame = _Frame(painted.picture, depth, pose, self.margin_intrinsics, holes & ~edges)
        added = self._add(frame, self.settings.iterations, draw=draw)
        self.grown += added > 0
        return {**record, "gaussians": added}

    def _depth(
        self, picture: UInt8, pose: Float64, seen: GaussianView, known: Bool, draw: int
    ) -> tuple[Float32, Bool, DepthAlignment]:
        """Depth of a painted view in the scene's unit, where it lies on an edge, and how it was aligned."""
        from ..ops.depth_alignment import align_affine, align_relative_depth, align_scale

        if self.caster is not None:
            estimate = self.caster.geometry(pose, self.margin_intrinsics, *self.margin_size).depth
            # Both are of one world: only what is left over is of interest.
            alignment = align_scale(estimate, seen.depth, where=known)
            return estimate, np.zeros(known.shape, bool), dataclasses.replace(alignment, scale=1.0)
        view = View(picture, np.asarray(self.margin_intrinsics, np.float64), None, {})
        found = self.depth_engine.build_scaffold(view, seed=_derived(self.seed, draw))
        edges = found.depth <= 0
        estimate = nearest_filled(found.depth, ~edges)
        where = known & ~edges
        if not found.metric:
            alignment = align_relative_depth(estimate, seen.depth, where=where)
        else:
            try:
                alignment = align_affine(estimate, seen.depth, space="depth", where=where)
            except ContractError:
                alignment = align_scale(estimate, seen.depth, where=where)
        return alignment.apply_to_depth(estimate), edges, alignment

    def _add(self, frame: _Frame, steps: int, *, draw: int) -> int:
        """Make Gaussians of what is new in a frame and fit them beside those that are there; returns how many."""
        device = self.settings.device
        made = frame.made & (frame.depth > 0)
        new = gaussians_of_view(frame.picture, frame.depth, frame.c2w, frame.intrinsics, where=made)
        hidden = np.zeros(len(new), bool)
        for other in self.frames:
            hidden |= in_the_way(new.means.numpy(), other.depth, other.c2w, other.intrinsics)
        if hidden.all():
            return 0
        # What did not become a Gaussian is not to be shown by its neighbours.
        made[made] = ~hidden
        self.frames.append(dataclasses.replace(frame, made=made))
        new = moved(selected(new, ~hidden), device)
        targets = [
            target_view(each.picture, each.c2w, each.intrinsics, mask=each.made, device=device) for each in self.frames
        ]
        fit = optimise(
            new,
            targets,
            steps=steps,
            seed=_derived(self.seed, draw),
            fixed=self.gaussians if self.parts else None,
            scale=self.radius,
        )
        self.parts.append(fit.gaussians)
        self.coverage.add(fit.gaussians)
        return len(new)

    def _seen(self, pose: Float64) -> GaussianView:
        return view_gaussians(self.gaussians, pose, self.margin_intrinsics, *self.margin_size)

    def _dense_path(self) -> list[Float64]:
        height, width = self.view.picture.shape[:2]
        context = TrajectoryContext(
            frames=self.settings.poses, centre_depth=self.radius, radius=self.radius, landscape=width > height
        )
        paths = [
            build_path(name, context, seed=0, movement_factor=self.settings.movement_factor)
            for name in self.settings.trajectories
        ]
        # A loop's ends are the view's own camera.
        return [pose for path in paths for pose in path.c2w[1:-1].astype(np.float64)]


def _words(view: View) -> str | None:
    """What the view was painted from, or what is known to be in it."""
    prompt = view.notes.get("prompt")
    return prompt if isinstance(prompt, str) and prompt else None


def _derived(seed: int, draw: int) -> int:
    """The seed of one draw of many."""
    return int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)[0]) >> 1


def _open_shares(coverage: Coverage, margin: int = 0) -> list[float]:
    """Of each camera, share of the pixels inside a margin that are open."""
    height, width = coverage.transmittances.shape[1:]
    inside = (slice(margin, height - margin), slice(margin, width - margin))
    alphas = (coverage.alpha(index)[inside] for index in range(len(coverage.poses)))
    return [float((alpha < ALPHA_OF_HOLES).mean()) for alpha in alphas]


def _spread_of(shares: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(shares)), "worst": max(shares)}


def _view_psnr(gaussians: Gaussians, picture: UInt8, intrinsics: Float64) -> float:
    """Peak signal-to-noise ratio, dB, of the view rendered from its own camera; 99 at most."""
    seen = view_gaussians(gaussians, np.eye(4), intrinsics, *picture.shape[:2])
    error = float(np.mean((seen.picture.astype(np.float64) - picture) ** 2))
    return 99.0 if error == 0 else float(min(20 * np.log10(255.0) - 10 * np.log10(error), 99.0))
