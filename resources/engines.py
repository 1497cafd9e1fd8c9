"""Engines: what does the heavy work of a stage, behind a declared contract.

A stage asks `Engines` for the engine that the profile chose; engines are loaded on first use and stay resident for the
life of the process. Stage code knows the protocols here, never an implementation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..ops.object_motion import ObjectMotion, ObjectPoses
from ..ops.scene_model import SceneModel
from .profiles import Profile

if TYPE_CHECKING:
    from ..datasets.latent_spaces import LatentSpace
    from .latent_codec import LatentCodec

Tier = Literal["embedded", "library", "worker"]
Part = Literal["prompt", "image", "view", "scaffold", "geometry", "frames", "latents", "depth", "cameras"]

_Engine = TypeVar("_Engine")


@dataclass(frozen=True, slots=True)
class EngineContract:
    """What an engine declares about itself.

    Attributes:
        name: as written in a profile.
        tier: where its models live: in the package, in a library, or in an environment of their own.
        needs: what it must be given.
        gives: what it makes.
        licence: SPDX id or the licence's own name; it goes into every record.
        device_memory_bytes: what it holds on the device while resident.
    """

    name: str
    tier: Tier
    needs: frozenset[Part]
    gives: frozenset[Part]
    licence: str
    device_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """What of an engine decides its output: its name and the digests of its weights.

    Attributes:
        weights: digest by name of weights; empty for engines without any.
    """

    name: str
    licence: str
    weights: Mapping[str, str] = field(default_factory=dict)

    def for_key(self) -> dict[str, Any]:
        """The part that enters the content key."""
        return {"name": self.name, **({"weights": dict(self.weights)} if self.weights else {})}


@dataclass(frozen=True, slots=True)
class View:
    """The first view of a scene.

    Attributes:
        picture: (H, W, 3) uint8 sRGB.
        intrinsics: (4,) float64 fx, fy, cx, cy in pixels; pixel centres at +0.5.
        geometry: the scene itself where the view was rendered from one.
        notes: what was understood and done, JSON.
    """

    picture: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    geometry: SceneModel | None
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scaffold:
    """Depth and geometry behind a view.

    Attributes:
        depth: (H, W) float32 z-depth, 0 = invalid.
        intrinsics: (4,) float64 fx, fy, cx, cy in pixels.
        metric: whether depth is in metres, or only up to scale.
        geometry: what further views are rendered from.
        notes: how it was found, JSON.
        motions: of the objects that move while a clip runs; the geometry is that of frame 0.
    """

    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    metric: bool
    geometry: SceneModel
    notes: Mapping[str, Any]
    motions: tuple[ObjectMotion, ...] = ()


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of a clip: c2w (4, 4) in the world frame, intrinsics (4,) in pixels, height and width."""

    c2w: NDArray[np.floating]
    intrinsics: NDArray[np.floating]
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class MovingObjects:
    """The objects of a clip in which some move.

    Attributes:
        poses: of all objects at every frame.
        pixels: (T, H, W) bool, where a moving object is seen; a frame's are there once its depth has been taken.
    """

    poses: ObjectPoses
    pixels: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClipGeometry:
    """Depth and cameras of a clip.

    Attributes:
        depth: yields (H, W) float32 z-depth, one a frame, in the unit of the estimated cameras.
        c2w: (T, 4, 4) float32 estimated poses.
        intrinsics: (T, 4) float32 estimated intrinsics.
        metric: whether depth is in metres.
        moving: of clips in which objects move and the engine knows where.
    """

    depth: Iterator[NDArray[np.float32]]
    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    metric: bool
    moving: MovingObjects | None = None


class ViewEngine(Protocol):
    """Makes the first view of a scene."""

    contract: ClassVar[EngineContract]

    def make_view(self, scene: SceneEntry, *, height: int, width: int, seed: int) -> View:
        """The view at the given size. Raises InputError when the prompt or picture cannot be used."""
        ...


class ScaffoldEngine(Protocol):
    """Finds depth and geometry behind a view."""

    contract: ClassVar[EngineContract]

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Depth and geometry at the view's size."""
        ...


class SceneRenderer(Protocol):
    """A video engine with one scene loaded: what its clips share is done once."""

    def frames(self, cameras: Sequence[Camera], *, seed: int) -> Iterator[NDArray[np.uint8]]:
        """Yield (H, W, 3) uint8 sRGB, one for each camera; the i-th sees the scene at frame i of its motions."""
        ...


class VideoEngine(Protocol):
    """Makes the frames that a moving camera sees."""

    contract: ClassVar[EngineContract]

    def open_scene(self, scaffold: Scaffold) -> SceneRenderer:
        """Get the scene ready for its clips."""
        ...


class SceneEstimator(Protocol):
    """A depth and poses engine with one scene loaded."""

    def estimate(self, commanded: Sequence[Camera]) -> ClipGeometry:
        """Depth and estimated cameras of the clip that was asked for with the commanded cameras."""
        ...


class DepthAndPosesEngine(Protocol):
    """Finds depth and cameras of clips."""

    contract: ClassVar[EngineContract]

    def open_scene(self, scaffold: Scaffold) -> SceneEstimator:
        """Get the scene ready for its clips."""
        ...


class Engines:
    """The engines that a profile chose, each loaded on first use and shared by all threads of the process."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._resident: dict[str, object] = {}
        self._lock = threading.RLock()

    def view(self, scene: SceneEntry) -> ViewEngine:
        """The engine for the scene's first view."""
        from . import embedded_engines

        chosen = self.profile.engines.conditioning_view
        degrees = self.profile.view.horizontal_field_of_view
        if scene.kind == "prompt":
            return self._load(
                f"conditioning_view/{chosen.prompt.engine}", lambda: embedded_engines.ProceduralView(degrees)
            )
        limits = self.profile.collection.limits
        return self._load(
            f"conditioning_view/{chosen.image.engine}", lambda: embedded_engines.PictureView(degrees, limits)
        )

    def scaffold(self, scene: SceneEntry) -> ScaffoldEngine:
        """The engine for the scene's depth and geometry."""
        from . import embedded_engines

        if scene.kind == "prompt":
            motion, frames = self.profile.motion, self.profile.frames.count
            return self._load(
                "scene_scaffold/ground_truth", lambda: embedded_engines.GroundTruthScaffold(motion, frames)
            )
        degrees = self.profile.view.horizontal_field_of_view
        return self._load("scene_scaffold/tour_into_picture", lambda: embedded_engines.TourIntoPictureScaffold(degrees))

    def video(self) -> VideoEngine:
        """The engine for the frames of clips."""
        from . import embedded_engines

        chosen = self.profile.engines.video_latents
        return self._load(
            "video_latents/raycast",
            lambda: embedded_engines.RaycastVideo(chosen.samples_per_pixel, chosen.device),
        )

    def depth_and_poses(self) -> DepthAndPosesEngine:
        """The engine for depth and cameras of clips."""
        from . import embedded_engines

        device = self.profile.engines.video_latents.device
        return self._load("depth_and_poses/ground_truth", lambda: embedded_engines.GroundTruthDepthAndPoses(device))

    def latent_codec(self) -> LatentCodec:
        """The autoencoder that gives latents."""
        from .latent_codec import LatentCodec

        chosen = self.profile.engines.latent_codec
        return self._load(
            "latent_codec",
            lambda: LatentCodec.load(chosen.weights, device=chosen.device, revision=chosen.revision),
        )

    def latent_space(self) -> LatentSpace:
        """The latent codec's space, from its files alone: the model is not loaded."""
        from .latent_codec import latent_space

        chosen = self.profile.engines.latent_codec
        return self._load("latent_space", lambda: latent_space(chosen.weights, revision=chosen.revision))

    def _load(self, name: str, make: Callable[[], _Engine]) -> _Engine:
        with self._lock:
            if name not in self._resident:
                self._resident[name] = make()
            return cast(_Engine, self._resident[name])


def identity_of(contract: EngineContract) -> EngineIdentity:
    """Identity of an engine without weights."""
    return EngineIdentity(contract.name, contract.licence)
