"""Engines: what does the heavy work of a stage, behind a declared contract.

A stage asks `Engines` for the engine that the profile chose; engines are loaded on first use and stay resident for the
life of the process. Stage code knows the protocols here, never an implementation.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..ops.gaussian_scene import Gaussians
from ..ops.object_motion import ObjectMotion, ObjectPoses
from ..ops.scene_model import SceneModel
from .model_settings import ModelSettings
from .profile_sections import Section
from .profiles import ClassicalPosesSettings, LatentCodecSettings, Profile
from .worker_settings import VipeSettings, WorkerSettings

if TYPE_CHECKING:
    from ..datasets.latent_spaces import LatentSpace
    from ..ops.background_plate import BackgroundPlate
    from .clip_captions import ClipCaption
    from .object_masks import ObjectMasks
    from .text_embeddings import TextEncoder
    from .transformers_settings import (
        DepthAnythingScaffoldSettings,
        DepthProScaffoldSettings,
        Sam2ObjectsSettings,
        Sam3ObjectsSettings,
    )
    from .trellis_latents import TrellisLatents
    from .vggt import VggtFeatures
    from .vistadream import VistaDreamScaffold
    from .vistadream_settings import VistaDreamScaffoldSettings

Tier = Literal["embedded", "library", "worker"]
Part = Literal[
    "prompt",
    "image",
    "video",
    "view",
    "scaffold",
    "geometry",
    "gaussians",
    "frames",
    "latents",
    "depth",
    "cameras",
    "captions",
]

Frames = Callable[[], Iterable[NDArray[np.uint8]]]
"""Gives (H, W, 3) uint8 sRGB frames in order, each time that it is called."""

_Engine = TypeVar("_Engine")

_CAMERA_ROUNDING = 1e-5
"""Of poses and intrinsics, float32's."""


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


@dataclass(frozen=True, slots=True, eq=False)
class InputClip:
    """The video that a scene is made from, as the frames of its clips see it.

    Attributes:
        frames: (T, H, W, 3) uint8 sRGB; the first is the view's picture.
        c2w: (T, 4, 4) float32 poses of its camera; world = the camera at frame 0.
        cameras_from: "assumed_static", all poses the identity; the name of the engine that estimated them; or
            "not_yet_estimated": the engine of the scaffold will, and until then they are the identity, too.
    """

    frames: NDArray[np.uint8]
    c2w: NDArray[np.float32]
    cameras_from: str

    @property
    def still(self) -> bool:
        """Whether its camera does not move."""
        return bool((self.c2w == np.eye(4, dtype=np.float32)).all())


@dataclass(frozen=True, slots=True, eq=False)
class ClipDepth:
    """Depth behind an input clip.

    Attributes:
        depth: (T, H, W) float16 z-depth of its frames in the scaffold's unit, 0 = invalid.
        moving: (T, H, W) bool, where something moves before the background; None where that is not known, as of a
            camera that moves.
        background: what stands still behind; None where that is not known.
        c2w: (T, 4, 4) float32 poses of its camera in the unit of depth, where they were estimated together with it;
            None: those that the clip comes with.
        moving_from: what `moving` rests on: "input_video", what differs from the background of a still camera, or
            "instances", pixels of what may move, as the engine took them for.
    """

    depth: NDArray[np.float16]
    moving: NDArray[np.bool_] | None = None
    background: BackgroundPlate | None = None
    c2w: NDArray[np.float32] | None = None
    moving_from: Literal["input_video", "instances"] = "input_video"


@dataclass(frozen=True, slots=True)
class View:
    """The first view of a scene.

    Attributes:
        picture: (H, W, 3) uint8 sRGB.
        intrinsics: (4,) float64 fx, fy, cx, cy in pixels; pixel centres at +0.5.
        geometry: the scene itself where the view was rendered from one.
        notes: what was understood and done, JSON.
        clip: the video of which the view is the first frame, where the scene is made from one.
    """

    picture: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    geometry: SceneModel | None
    notes: Mapping[str, Any]
    clip: InputClip | None = None


@dataclass(frozen=True, slots=True)
class Scaffold:
    """Depth and geometry behind a view.

    Attributes:
        depth: (H, W) float32 z-depth, 0 = invalid.
        intrinsics: (4,) float64 fx, fy, cx, cy in pixels.
        metric: whether depth is in metres, or only up to scale.
        geometry: what further views are rendered from; None where only the view's depth is known.
        notes: how it was found, JSON.
        motions: of the objects that move while a clip runs; the geometry is that of frame 0.
        clip: depth of every frame, where the view is that of a video; `depth` is that of frame 0.
        gaussians: the scene as 3D Gaussians in the view's frame, on the CPU, where the engine makes some.
    """

    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    metric: bool
    geometry: SceneModel | None
    notes: Mapping[str, Any]
    motions: tuple[ObjectMotion, ...] = ()
    clip: ClipDepth | None = None
    gaussians: Gaussians | None = None


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of a clip: c2w (4, 4) in the world frame, intrinsics (4,) in pixels, height and width."""

    c2w: NDArray[np.floating]
    intrinsics: NDArray[np.floating]
    height: int
    width: int

    def sees_as(self, intrinsics: NDArray[np.floating], c2w: NDArray[np.floating] | None = None) -> bool:
        """Whether it is the camera of these (4,) intrinsics and this (4, 4) pose, to what float32 resolves; without a
        pose, the view's own at the origin."""
        return bool(
            np.allclose(self.c2w, np.eye(4) if c2w is None else c2w, atol=_CAMERA_ROUNDING)
            and np.allclose(self.intrinsics, intrinsics, rtol=_CAMERA_ROUNDING)
        )


@dataclass(frozen=True, slots=True)
class MovingObjects:
    """The objects of a clip in which some move.

    Attributes:
        poses: of all objects at every frame; None where only is known where something moves, as in a video.
        pixels: (T, H, W) bool, where a moving object is seen; a frame's are there once its depth has been taken.
    """

    poses: ObjectPoses | None
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
        notes: how it was found, JSON; asked for when all depth has been taken. Empty for what is exact.
        kept: further arrays that are worth keeping with the clip, such as confidence, by name; their first axis is T.
        files: further files that are worth keeping with the clip, by the end of the name that they get.
    """

    depth: Iterator[NDArray[np.float32]]
    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    metric: bool
    moving: MovingObjects | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def at(
        cls,
        commanded: Sequence[Camera],
        depth: Iterator[NDArray[np.float32]],
        *,
        metric: bool,
        moving: MovingObjects | None = None,
        notes: Mapping[str, Any] = {},
    ) -> ClipGeometry:
        """Depth seen from the commanded cameras, where the engine estimates none."""
        c2w = np.stack([camera.c2w for camera in commanded]).astype(np.float32)
        intrinsics = np.stack([camera.intrinsics for camera in commanded]).astype(np.float32)
        return cls(depth, c2w, intrinsics, metric, moving, notes)


@dataclass(frozen=True, slots=True)
class GeneratedClip:
    """A clip that a generator made as a whole.

    Attributes:
        frames: (T, H, W, 3) uint8 sRGB, one for each commanded camera.
        latents: (C, t, h, w) float16 of the same clip, normalised as `latent_space` declares, where the generator
            works in a latent space and its latents show exactly these frames; else None.
        latent_space: of `latents`; None without them.
        notes: how the clip was made, JSON: scheduler, steps, guidance, prompts, seeds, safety verdict, chunks.
    """

    frames: NDArray[np.uint8]
    latents: NDArray[np.float16] | None
    latent_space: LatentSpace | None
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClipToCaption:
    """A clip whose pictures are there, and what is known of its scene.

    Attributes:
        scene: whose clip it is.
        scene_notes: of its conditioning view: what was understood and built.
        trajectory: name of the camera's path.
        frames: T.
        read: gives the frames of these indices, (n, H, W, 3) uint8 sRGB.
    """

    scene: SceneEntry
    scene_notes: Mapping[str, Any]
    trajectory: str
    frames: int
    read: Callable[[Sequence[int]], NDArray[np.uint8]]


class _DeclaresContract(Protocol):
    @property
    def contract(self) -> EngineContract:
        """What the engine needs and gives; an engine's class or each of its instances may hold it."""
        ...


class ViewEngine(_DeclaresContract, Protocol):
    """Makes the first view of a scene."""

    def make_view(self, scene: SceneEntry, *, height: int, width: int, seed: int) -> View:
        """The view at the given size. Raises InputError when the prompt or picture cannot be used."""
        ...


class ScaffoldEngine(_DeclaresContract, Protocol):
    """Finds depth and geometry behind a view."""

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Depth and geometry at the view's size."""
        ...


@runtime_checkable
class SceneRenderer(Protocol):
    """A video engine with one scene loaded that renders frame after frame: what its clips share is done once."""

    def frames(self, cameras: Sequence[Camera], *, seed: int) -> Iterator[NDArray[np.uint8]]:
        """Yield (H, W, 3) uint8 sRGB, one for each camera; the i-th sees the scene at frame i of its motions."""
        ...


@runtime_checkable
class ClipGenerator(Protocol):
    """A video engine with one scene loaded that makes each clip as a whole: what its clips share is done once."""

    def generate(self, cameras: Sequence[Camera], *, seed: int) -> GeneratedClip:
        """The clip that the cameras see; equal seeds give equal clips.

        Broken output (not finite, black, of one colour) is made once more from another seed, which the notes tell.

        Raises:
            StageFailed: the second output is broken too, or memory ran out however small the work was made.
            EngineError: no clip can be made.
        """
        ...


class VideoEngine(_DeclaresContract, Protocol):
    """Makes the frames that a moving camera sees."""

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> SceneRenderer | ClipGenerator:
        """Get the scene ready for its clips.

        Args:
            scaffold: depth, intrinsics and, where there is any, geometry behind the view.
            view: the picture that every clip starts from.
            prompt: the scene's words; empty for a scene without any.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClipToEstimate:
    """A clip whose depth and cameras are looked for.

    Attributes:
        name: of its trajectory, unique in the scene.
        video: its file.
        commanded: the cameras that it was asked for with, one a frame.
    """

    name: str
    video: Path
    commanded: Sequence[Camera]


@runtime_checkable
class ClipsEstimator(Protocol):
    """A depth and poses engine with one scene loaded that takes all of its clips at once, as files."""

    def estimate_clips(self, clips: Sequence[ClipToEstimate], folder: Path) -> Mapping[str, ClipGeometry]:
        """Depth and estimated cameras of every clip, by its name.

        Args:
            clips: of the scene.
            folder: empty; what the results are read from stays there while they are used.

        Raises:
            StageFailed: a clip has no result; the message names it.
        """
        ...


class SceneEstimator(Protocol):
    """A depth and poses engine with one scene loaded."""

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        """Depth and estimated cameras of the clip that was asked for with the commanded cameras.

        Args:
            commanded: one a frame.
            frames: gives the clip's pictures from the first one on, each time that it is called.
        """
        ...


class DepthAndPosesEngine(_DeclaresContract, Protocol):
    """Finds depth and cameras of clips."""

    def open_scene(self, scaffold: Scaffold, view: View) -> SceneEstimator | ClipsEstimator:
        """Get the scene ready for its clips."""
        ...


class ObjectsEngine(_DeclaresContract, Protocol):
    """Finds the objects that a view shows."""

    def find_objects(self, view: View, *, minimum_pixels: int = 1) -> ObjectMasks:
        """Masks at the view's size; objects with fewer pixels are left out."""
        ...


class CaptionEngine(_DeclaresContract, Protocol):
    """Says in words what clips show.

    Attributes:
        is_stand_in: whether the words come from elsewhere than the clip's pictures.
    """

    is_stand_in: bool

    def caption_clip(self, clip: ClipToCaption) -> list[ClipCaption]:
        """Captions of the clip's windows, in order; none where nothing can be said."""
        ...


class LatentCodec(Protocol):
    """A video autoencoder with the latent space that it gives."""

    @property
    def space(self) -> LatentSpace:
        """The space that latents are of; the model need not be loaded for it."""
        ...

    def encode(self, frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]]) -> NDArray[np.float16]:
        """(T, H, W, 3) uint8 sRGB, whole or frame by frame, to (C, t, h, w) float16 normalised latents.

        Raises:
            ConfigError: a number of frames or a size that the codec cannot take.
            ContractError: frames of another shape or dtype, or of changing size.
            EngineError: the model gave values that float16 cannot hold.
        """
        ...

    def round_trip(self, latents: NDArray[np.floating]) -> NDArray[np.float16]:
        """encode(decode(z)), which a perfect codec gives back as z."""
        ...


class Engines:
    """The engines that a profile chose, each made on first use and shared by all threads of the process.

    Library engines load their models when they first work, and share `models`: what one device holds together stays
    within the profile's `execution.device_memory`.
    """

    def __init__(self, profile: Profile) -> None:
        from .resident_models import ResidentModels

        self.profile = profile
        budget = profile.execution.device_memory
        self.models = ResidentModels(None if budget is None else round(budget * 1e9))
        self._resident: dict[str, object] = {}
        self._lock = threading.RLock()

    def view(self, scene: SceneEntry) -> ViewEngine:
        """The engine for the scene's first view."""
        settings = self.profile.engines.conditioning_view.of(scene.kind)
        return self._load(f"conditioning_view/{scene.kind}", lambda: self._make_view_engine(settings))

    def _make_view_engine(self, settings: Section) -> ViewEngine:
        from . import embedded_engines, profiles
        from .diffusers_settings import FluxFillViewSettings, FluxViewSettings

        degrees = self.profile.view.horizontal_field_of_view
        if isinstance(settings, profiles.ProceduralView):
            return embedded_engines.ProceduralView(degrees)
        if isinstance(settings, FluxViewSettings):
            from .flux_view import FluxView

            return cast(ViewEngine, FluxView(settings, degrees, self.models))
        if isinstance(settings, profiles.VideoFramesView):
            from .video_view import VideoFramesView

            estimates = self.profile.engines.scene_scaffold.estimates_cameras_of_videos
            return VideoFramesView(
                degrees, self.profile.sampling(), settings.maximum_camera_motion, cameras_are_estimated=estimates
            )
        picture = embedded_engines.PictureView(degrees, self.profile.collection.limits)
        if isinstance(settings, FluxFillViewSettings):
            from .flux_fill_view import FluxFillView

            return cast(ViewEngine, FluxFillView(settings, picture, self.models))
        return picture

    def scaffold(self, scene: SceneEntry) -> ScaffoldEngine:
        """The engine for the scene's depth and geometry."""
        settings = self.profile.engines.scene_scaffold.of(scene.kind)
        make = self._make_clip_scaffold_engine if scene.kind == "video" else self._make_scaffold_engine
        return self._load(f"scene_scaffold/{scene.kind}", lambda: make(settings))

    def _make_clip_scaffold_engine(self, settings: Section) -> ScaffoldEngine:
        from .clip_scaffold import ClipScaffold

        if isinstance(settings, VipeSettings):
            from .vipe_engine import VipeDepthAndPoses
            from .vipe_scaffold import VipeClipScaffold

            return cast(ScaffoldEngine, VipeClipScaffold(VipeDepthAndPoses(settings, self.models)))
        estimates = isinstance(settings, ModelSettings | WorkerSettings)
        device = settings.device if isinstance(settings, ModelSettings) else "cpu"
        engine = ClipScaffold(self._make_scaffold_engine(settings), device, of_every_frame=estimates)
        return cast(ScaffoldEngine, engine)

    def _make_scaffold_engine(self, settings: Section) -> ScaffoldEngine:
        from . import embedded_engines, profiles
        from .transformers_settings import DepthAnythingScaffoldSettings, DepthProScaffoldSettings
        from .vistadream_settings import VistaDreamScaffoldSettings
        from .worker_engine_settings import MogeSettings

        if isinstance(settings, profiles.GroundTruthScaffold):
            return embedded_engines.GroundTruthScaffold(self.profile.motion, self.profile.frames.count)
        if isinstance(settings, MogeSettings):
            from .moge import MogeScaffold

            return MogeScaffold(settings, self.models)
        if isinstance(settings, DepthProScaffoldSettings | DepthAnythingScaffoldSettings):
            return self._make_depth_engine(settings)
        if isinstance(settings, VistaDreamScaffoldSettings):
            return cast(ScaffoldEngine, self._make_vistadream(settings))
        return embedded_engines.TourIntoPictureScaffold(self.profile.view.horizontal_field_of_view)

    def _make_vistadream(self, settings: VistaDreamScaffoldSettings) -> VistaDreamScaffold:
        from . import picture_inpainter
        from .embedded_engines import TourIntoPictureScaffold
        from .multiview_consistency import MultiviewConsistency
        from .vistadream import VistaDreamScaffold

        chosen, refinement = settings.depth, settings.refinement
        if chosen.engine == "tour_into_picture":
            depth: ScaffoldEngine = TourIntoPictureScaffold(self.profile.view.horizontal_field_of_view)
        else:
            depth = self._make_depth_engine(chosen)
        return VistaDreamScaffold(
            settings,
            depth,
            picture_inpainter.make_inpainter(settings.inpainting, self.models),
            None if refinement is None else MultiviewConsistency(refinement, self.models),
        )

    def _make_depth_engine(self, settings: DepthProScaffoldSettings | DepthAnythingScaffoldSettings) -> ScaffoldEngine:
        from .depth_scaffolds import DepthAnythingScaffold, DepthProScaffold

        if settings.engine == "depth_pro":
            return cast(ScaffoldEngine, DepthProScaffold(settings, self.models))
        return cast(ScaffoldEngine, DepthAnythingScaffold(settings, self.models))

    def video(self) -> VideoEngine:
        """The engine for the frames of clips."""
        return self._load("video_latents", self._make_video_engine)

    def _make_video_engine(self) -> VideoEngine:
        from . import embedded_engines, profiles

        chosen = self.profile.engines.video_latents
        if isinstance(chosen, profiles.RaycastVideo):
            return embedded_engines.RaycastVideo(chosen.samples_per_pixel, chosen.device)
        if chosen.engine == "sana_wm":
            from .sana_wm_video import SanaWMVideo

            return cast(VideoEngine, SanaWMVideo(chosen, self.models))
        if chosen.engine == "warped":
            from .warped_video import WarpedVideo

            return cast(VideoEngine, WarpedVideo(chosen))
        if chosen.engine == "gaussians":
            from .gaussian_video import GaussianVideo

            return GaussianVideo(chosen.device)
        if chosen.engine == "gen3c":
            from .gen3c import Gen3cVideo

            return cast(VideoEngine, Gen3cVideo(chosen, self.latent_space, self.models))
        from .wan_vace_video import WanVaceVideo

        return cast(VideoEngine, WanVaceVideo(chosen, self._frame_depth_engine(), self.models))

    def video_identities(self) -> Mapping[str, EngineIdentity]:
        """What decides the frames of clips beside the video engine itself: identities of the engines that it asks, by
        their part."""
        if self.profile.engines.video_latents.engine != "wan_vace":
            return {}
        depth = self._frame_depth_engine()
        return {} if depth is None else {"depth": engine_identity(depth)}

    def _frame_depth_engine(self) -> ScaffoldEngine | None:
        """The engine that finds the depth of a clip's frames one by one; None where depth is the ground truth."""
        from .transformers_settings import DepthAnythingScaffoldSettings, DepthProScaffoldSettings

        chosen = self.profile.engines.depth_and_poses
        if isinstance(chosen, ClassicalPosesSettings):
            chosen = chosen.depth
        if not isinstance(chosen, DepthProScaffoldSettings | DepthAnythingScaffoldSettings):
            return None
        return self._load("frame_depth", lambda: self._make_depth_engine(chosen))

    def depth_and_poses(self) -> DepthAndPosesEngine:
        """The engine for depth and cameras of clips."""
        return self._load("depth_and_poses", self._make_depth_and_poses_engine)

    def _make_depth_and_poses_engine(self) -> DepthAndPosesEngine:
        chosen = self.profile.engines.depth_and_poses
        from .worker_engine_settings import VggtSettings

        if isinstance(chosen, VipeSettings):
            from .vipe_engine import VipeDepthAndPoses

            return VipeDepthAndPoses(chosen, self.models)
        if isinstance(chosen, VggtSettings):
            from .vggt import VggtDepthAndPoses

            return VggtDepthAndPoses(chosen, self.models)
        if isinstance(chosen, ClassicalPosesSettings):
            from .classical_engine import ClassicalDepthAndPoses

            return ClassicalDepthAndPoses(chosen, self._depth_of_known_cameras(chosen.depth))
        return self._depth_of_known_cameras(chosen)

    def _depth_of_known_cameras(self, chosen: Section) -> DepthAndPosesEngine:
        from . import embedded_engines, profiles
        from .vistadream_settings import GaussianVideoSettings, RenderedDepthSettings
        from .warped_settings import WarpedVideoSettings

        estimator = self._frame_depth_engine()
        if estimator is not None and isinstance(chosen, ModelSettings):
            from .frame_depth import FrameDepth

            return FrameDepth(estimator, chosen.device)
        video = self.profile.engines.video_latents
        if isinstance(chosen, RenderedDepthSettings):
            from .gaussian_video import RenderedDepthAndPoses

            assert isinstance(video, GaussianVideoSettings)
            return RenderedDepthAndPoses(chosen.smallest_coverage, video.device)
        if isinstance(video, WarpedVideoSettings):
            from .warped_video import WarpedDepthAndPoses

            return cast(DepthAndPosesEngine, WarpedDepthAndPoses(video))
        assert isinstance(video, profiles.RaycastVideo)
        return embedded_engines.GroundTruthDepthAndPoses(video.device)

    def scene_objects(self) -> ObjectsEngine | None:
        """The engine that finds objects in the view; None where they are those of the scene's geometry."""
        from .transformers_settings import Sam2ObjectsSettings, Sam3ObjectsSettings

        chosen = self.profile.engines.scene_objects
        if not isinstance(chosen, Sam2ObjectsSettings | Sam3ObjectsSettings):
            return None
        return self._load("scene_objects", lambda: self._make_objects_engine(chosen))

    def _make_objects_engine(self, settings: Sam2ObjectsSettings | Sam3ObjectsSettings) -> ObjectsEngine:
        from .object_masks import Sam2Masks, Sam3Masks

        if settings.engine == "sam2":
            return cast(ObjectsEngine, Sam2Masks(settings, self.models))
        return cast(ObjectsEngine, Sam3Masks(settings, self.models))

    def picture_features(self) -> VggtFeatures | None:
        """What gives the feature of the view that SceneGen reads; None where the profile chose nothing."""
        chosen = self.profile.engines.picture_features
        if chosen is None:
            return None
        from .vggt import VggtFeatures

        return self._load("picture_features", lambda: VggtFeatures(chosen, self.models))

    def object_latents(self) -> TrellisLatents | None:
        """What gives the latents of objects that SceneGen trains on; None where the profile chose nothing."""
        chosen = self.profile.engines.object_latents
        if chosen is None:
            return None
        from .trellis_latents import TrellisLatents

        return self._load("object_latents", lambda: TrellisLatents(chosen, self.models))

    def captions(self) -> CaptionEngine:
        """The engine that captions clips."""
        return self._load("captions", self._make_caption_engine)

    def _make_caption_engine(self) -> CaptionEngine:
        from .transformers_settings import CaptionSettings

        chosen = self.profile.engines.captions
        if isinstance(chosen, CaptionSettings):
            from .clip_captions import ClipCaptioner

            return ClipCaptioner(chosen, self.models)
        from .scene_words import SceneWords

        return SceneWords()

    def text_encoder(self) -> TextEncoder | None:
        """The encoder of captions for layouts that hold text embeddings; None where the profile chose none."""
        chosen = self.profile.engines.text_encoder
        if chosen is None:
            return None
        from .text_embeddings import TextEncoder

        return self._load("text_encoder", lambda: TextEncoder(chosen, self.models))

    def latent_codec(self) -> LatentCodec:
        """The autoencoder that gives the latents of shards."""
        return self._load("latent_codec", lambda: self._make_codec(self.profile.engines.latent_codec))

    def extra_latent_codecs(self) -> Mapping[str, LatentCodec]:
        """The autoencoders that give every clip's latents in further spaces, by the profile's names."""
        chosen = self.profile.engines.extra_latent_codecs
        return {
            name: self._load(f"latent_codec/{name}", functools.partial(self._make_codec, settings))
            for name, settings in chosen.items()
        }

    def _make_codec(self, settings: LatentCodecSettings) -> LatentCodec:
        from .resident_codec import ResidentCodec

        return ResidentCodec(settings, self.models)

    def latent_space(self) -> LatentSpace:
        """The latent codec's space, from its files alone: the model is not loaded."""
        return self.latent_codec().space

    def _load(self, name: str, make: Callable[[], _Engine]) -> _Engine:
        with self._lock:
            if name not in self._resident:
                self._resident[name] = make()
            return cast(_Engine, self._resident[name])


def identity_of(contract: EngineContract) -> EngineIdentity:
    """Identity of an engine without weights."""
    return EngineIdentity(contract.name, contract.licence)


def engine_identity(engine: _DeclaresContract) -> EngineIdentity:
    """An engine's own identity, with the digests of its weights; of one without weights that of its contract."""
    identity = getattr(engine, "identity", None)
    return identity if isinstance(identity, EngineIdentity) else identity_of(engine.contract)


def settings_in_key(settings: Section) -> dict[str, Any]:
    """Settings of an engine as JSON, without what cannot change what it makes: where weights lie (their digests count),
    and how they share a device."""
    dumped = settings.model_dump(mode="json")
    for name, value in settings:
        if name == "device" or name in _places(settings):
            del dumped[name]
        elif isinstance(value, Section):
            dumped[name] = settings_in_key(value)
    return dumped


_PLACES = frozenset({"id", "path", "revision", "licence", "offload", "device_memory"})
_PLACES_OF_WORKERS = frozenset({"model", "revision", "weights_version", "licence", "source", "checkpoints", "offload"})


def _places(settings: Section) -> frozenset[str]:
    if isinstance(settings, WorkerSettings):
        return frozenset(WorkerSettings.model_fields) | _PLACES_OF_WORKERS
    return _PLACES if isinstance(settings, ModelSettings) else frozenset()
