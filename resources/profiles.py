"""Profiles: one YAML file that says what is made, from what, how and where it goes.

`load_profile` reads a profile, refuses what cannot work (naming file, line, key, value and remedy) and fills in every
default. Relative paths in a profile are relative to the folder the profile lies in.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from ..datasets.catalog import SceneKind
from ..datasets.depth_codec import DepthTier
from ..datasets.errors import ConfigError
from ..datasets.picture_runs import MINIMUM_PSNR
from ..ops.quality import QualityThresholds
from .diffusers_settings import FluxFillViewSettings, FluxViewSettings, SanaWMVideoSettings, WanVaceVideoSettings
from .engine_choice import EngineChoice, chosen_section
from .forecast import ForecastSettings
from .input_videos import VideoLimits, VideoSampling
from .latent_codec import ARCHITECTURES
from .located_yaml import KeyPath, LocatedYaml, dotted, parse
from .model_settings import Precision, WeightsSettings
from .profile_sections import Device, EngineSettings, EveryPositive, Fraction, LocationText, Section, refusal
from .quantities import UNITS_AS_TEXT, Angle, Duration, Length, Memory
from .transformers_settings import (
    CaptionSettings,
    DepthAnythingScaffoldSettings,
    DepthProScaffoldSettings,
    Sam2ObjectsSettings,
    Sam3ObjectsSettings,
    TextEncoderSettings,
)
from .vistadream_settings import GaussianVideoSettings, RenderedDepthSettings, VistaDreamScaffoldSettings
from .warped_settings import WarpedDepthSettings, WarpedVideoSettings
from .worker_engine_settings import (
    Gen3cSettings,
    MogeSettings,
    TrellisLatentSettings,
    VggtModelSettings,
    VggtSettings,
)
from .worker_settings import VipeSettings

PROFILE_VARIABLE = "SCENELOOM_CONFIG"
"""Environment variable that names the profile when none is given."""
DEFAULT_PROFILE = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"
"""The profile of a checkout; an installed wheel has none."""

_SIDE_MULTIPLE = 16
_GIVE_GEOMETRY = ("ground_truth", "tour_into_picture")
_SHOW_INPUT_VIDEOS = ("wan_vace", "warped", "gen3c")
_CODEC_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_TRAJECTORY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Split(Section):
    """Share of the scenes in each split; the three add up to 1."""

    train: Fraction = 0.9
    """Share of scenes to train on."""
    validation: Fraction = 0.05
    """Share of scenes to validate on."""
    test: Fraction = 0.05
    """Share of scenes to test on."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise refusal(f"train, validation and test add up to {total:.6g}", "Make the three fractions add up to 1.")
        return self


class PictureLimits(Section):
    """Pictures outside these limits are rejected, by name, before they are decoded."""

    minimum_side_pixels: EveryPositive = 128
    """Shorter side of the smallest picture taken."""
    maximum_pixels: EveryPositive = 80_000_000
    """Width times height of the largest picture taken."""


class Collection(Section):
    """The scenes: where prompts, pictures and videos come from."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]
    """Name of the collection: small letters, digits, - and _."""
    sources: Annotated[tuple[LocationText, ...], Field(strict=False, min_length=1)]
    """Prompt files, tables, folders of pictures and videos: paths or URLs."""
    split: Split = Split()
    """Share of the scenes in each split."""
    limits: PictureLimits = PictureLimits()
    """Limits on pictures."""
    video_limits: VideoLimits = VideoLimits()
    """Limits on videos."""
    perceptual_distance: Annotated[int, Field(ge=0, le=32)] = 6
    """Pictures whose 64-bit perceptual hashes differ in at most this many bits are the same picture, and so are videos
    by their first frames."""


class Store(Section):
    """Where everything made is kept."""

    url: LocationText
    """Folder or fsspec URL."""


class Releases(Section):
    """Where layouts are published."""

    folder: LocationText | None = None
    """Local folder with one directory a layout; null: `releases` in the collection's folder of a local store."""


class Frames(Section):
    """Size of a clip; it must fit the latent codec, whose strides the first frame of a clip stands outside of."""

    count: Annotated[int, Field(ge=5)]
    """Frames in a clip: 8k + 1 (4k + 1 for Wan's codec), so that the first frame and every group make a latent frame
    each."""
    height: Annotated[int, Field(ge=64)]
    """Height in pixels, a multiple of 16 (32 for LTX-2's codec)."""
    width: Annotated[int, Field(ge=64)]
    """Width in pixels, a multiple of 16 (32 for LTX-2's codec)."""
    frames_per_second: Annotated[int, Field(ge=1, le=240)] = 24
    """Frame rate written into the videos."""

    @field_validator("height", "width")
    @classmethod
    def _whole_blocks(cls, side: int) -> int:
        _require_multiple(side, _SIDE_MULTIPLE)
        return side

    def require_groups(self, stride: int, multiple: int) -> None:
        """Refuse clips that cannot be cut into groups of `stride` frames after the first and blocks of `multiple`
        pixels; for the profile's validation.

        Raises:
            PydanticCustomError: naming the nearest sizes that fit.
        """
        extra = (self.count - 1) % stride
        if extra:
            below, above = self.count - extra, self.count - extra + stride
            raise refusal(
                f"{self.count} frames, not {stride}k + 1",
                f"The nearest possible counts are {below} and {above}.",
                ("frames", "count"),
            )
        for name in ("height", "width"):
            _require_multiple(getattr(self, name), multiple, ("frames", name))


def _require_multiple(side: int, multiple: int, below: KeyPath = ()) -> None:
    if side % multiple:
        lower = side - side % multiple
        remedy = f"The nearest possible sides are {lower} and {lower + multiple}."
        raise refusal(f"{side} pixels, not a multiple of {multiple}", remedy, below)


class View(Section):
    """The camera that sees a scene first."""

    horizontal_field_of_view: Annotated[Angle, Field(ge=20, le=120)] = 75.0
    """Full angle between the left and the right edge of the view."""


def _translation_word(value: Any) -> Any:
    # YAML reads a bare `true` as a truth value; here it is the word.
    return "true" if value is True else value


Translation = Annotated[
    Literal["true", "lyra"], BeforeValidator(_translation_word, json_schema_input_type=Literal["true", "lyra", True])
]


class CameraFile(Section):
    """A user's camera path; the file's location alone stands for one in metres."""

    path: LocationText
    """npz, json, TUM, COLMAP, RealEstate10K or transforms.json, recognised by name and content."""
    metres_per_unit: Annotated[float, Field(gt=0)] = 1.0
    """Length of the file's unit; reconstructions such as COLMAP's have one of their own."""

    @model_validator(mode="before")
    @classmethod
    def _location_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Trajectories(Section):
    """The camera paths along which every scene is seen."""

    names: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """Trajectories to make, in this order: built-in names and names under `files`."""
    movement_factor: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Factor on the distance every built-in path covers."""
    translation: Translation = "true"
    """true: the camera centre is the path's point; lyra: the translation column is its negative, as Lyra writes it."""
    minimum_clearance: Annotated[Length, Field(ge=0)] = 0.15
    """Distance a camera keeps from every surface; a path that comes closer is shortened."""
    files: dict[str, CameraFile] = Field(default_factory=dict)
    """Camera files by the name of their trajectory."""

    @field_validator("files")
    @classmethod
    def _names_of_files(cls, files: dict[str, CameraFile]) -> dict[str, CameraFile]:
        for name in files:
            if not _TRAJECTORY_NAME.fullmatch(name):
                raise refusal(f'"{name}" cannot name a trajectory', "Use small letters, digits, - and _.", (name,))
            if name in _built_in_trajectories():
                raise refusal(f'"{name}" is a built-in trajectory', "Give the camera file another name.", (name,))
        return files

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        known = (*_built_in_trajectories(), *self.files)
        for index, name in enumerate(self.names):
            if name not in known:
                remedy = _nearest(name, known, "trajectories")
                raise refusal(f'unknown trajectory "{name}"', remedy, ("names", index))
            if name in self.names[:index]:
                raise refusal(f'the trajectory "{name}" is listed twice', "List it once.", ("names", index))
        for name in self.files:
            if name not in self.names:
                remedy = "Add its name to trajectories.names, or remove the file."
                raise refusal(f'the camera file "{name}" is not used', remedy, ("files", name))
        return self


def _built_in_trajectories() -> tuple[str, ...]:
    from ..ops import trajectories

    return tuple(trajectories.names())


class Motion(Section):
    """Objects of procedural scenes that move while a clip runs; scenes from pictures stay still."""

    objects: Annotated[int, Field(ge=0, le=10)] = 0
    """Most objects of a scene that move, not counting those that they carry; 0: nothing moves."""
    distance: Annotated[Length, Field(gt=0, le=2)] = 0.6
    """Longest way that an object slides during a clip."""


class ProceduralView(EngineSettings):
    """A procedural 3D scene understood from the prompt, seen by its own camera."""

    engine: Literal["procedural"] = "procedural"


class PictureView(EngineSettings):
    """The picture, resized and cropped at its centre."""

    engine: Literal["picture"] = "picture"


class VideoFramesView(EngineSettings):
    """The video's frames, resized and cropped at their centre; the first one is the view."""

    engine: Literal["video_frames"] = "video_frames"
    start: Annotated[Duration, Field(ge=0)] = 0.0
    """Where in the video the clip begins."""
    maximum_camera_motion: Annotated[float, Field(gt=0, le=1)] | None = 0.01
    """How far the picture may move as a whole against the first frame, as a share of its width, for the camera to be
    taken to stand still. Where it moves farther the video is refused, or, where the engine under scene_scaffold.video
    estimates cameras (vipe), left to that. null: it is not looked at."""


class ConditioningView(Section):
    """How a scene gets its first view."""

    prompt: Annotated[ProceduralView | FluxViewSettings, EngineChoice()] = ProceduralView()
    """Engine for scenes that are prompts."""
    image: Annotated[PictureView | FluxFillViewSettings, EngineChoice()] = PictureView()
    """Engine for scenes that are pictures."""
    video: VideoFramesView = VideoFramesView()
    """Engine for scenes that are videos."""

    def of(self, kind: SceneKind) -> EngineSettings:
        """Settings of the engine for scenes of that kind."""
        return {"prompt": self.prompt, "image": self.image, "video": self.video}[kind]


class GroundTruthScaffold(EngineSettings):
    """Depth, intrinsics and geometry of the procedural scene itself."""

    engine: Literal["ground_truth"] = "ground_truth"


class TourIntoPictureScaffold(EngineSettings):
    """A box scene from the picture's vanishing point (Horry, Anjyo and Arai 1997)."""

    engine: Literal["tour_into_picture"] = "tour_into_picture"


class SceneScaffold(Section):
    """How a scene gets its geometry."""

    prompt: Annotated[
        GroundTruthScaffold
        | TourIntoPictureScaffold
        | DepthProScaffoldSettings
        | DepthAnythingScaffoldSettings
        | VistaDreamScaffoldSettings
        | MogeSettings,
        EngineChoice(),
    ] = GroundTruthScaffold()
    """Engine for scenes that are prompts."""
    image: Annotated[
        TourIntoPictureScaffold
        | DepthProScaffoldSettings
        | DepthAnythingScaffoldSettings
        | VistaDreamScaffoldSettings
        | MogeSettings,
        EngineChoice(),
    ] = TourIntoPictureScaffold()
    """Engine for scenes that are pictures."""
    video: Annotated[
        TourIntoPictureScaffold
        | DepthProScaffoldSettings
        | DepthAnythingScaffoldSettings
        | MogeSettings
        | VipeSettings,
        EngineChoice(),
    ] = TourIntoPictureScaffold()
    """Engine for scenes that are videos: depth of every frame, brought into one unit; the box is that of the first
    frame, and what moves is painted on it. vipe also estimates the camera, so that it may move."""

    def of(self, kind: SceneKind) -> EngineSettings:
        """Settings of the engine for scenes of that kind."""
        return {"prompt": self.prompt, "image": self.image, "video": self.video}[kind]

    @property
    def estimates_cameras_of_videos(self) -> bool:
        """Whether the camera of a video may move: the engine finds its poses together with depth."""
        return isinstance(self.video, VipeSettings)


class RaycastVideo(EngineSettings):
    """Frames from the ray caster."""

    engine: Literal["raycast"] = "raycast"
    samples_per_pixel: Annotated[int, Field(ge=1, le=1024)] = 2
    """Rays through each pixel for colour; depth always comes from the pixel's centre."""
    device: Device = "cpu"
    """cpu, cuda or cuda:N."""


class LatentCodecSettings(WeightsSettings):
    """An autoencoder that gives latents: shipped or hub weights by id, or a folder of weights."""

    id: str | None = None
    """Id of shipped weights, or a hub id whose files are already on this machine."""
    path: LocationText | None = None
    """Folder of weights as written by save_pretrained; of a pipeline's folder its `vae` is taken."""
    architecture: Literal["cosmos", "wan", "ltx2"] = "cosmos"
    """Which model the weights are of: AutoencoderKLCosmos, AutoencoderKLWan or AutoencoderKLLTX2Video."""
    device: Device = "cpu"
    """cpu, cuda or cuda:N."""
    precision: Precision = "float32"
    """Of weights and activations."""
    tiling: bool = False
    """Work through large frames and long clips in blended tiles: for ltx2, which takes a clip as a whole."""
    device_memory: Annotated[Memory, Field(gt=0)] | None = None
    """What the codec takes on its device while it works; null: the size of its weights."""
    measure_drift: bool = False
    """Decode and encode every clip's latents once more, and record how far they come out from what they were."""

    @model_validator(mode="after")
    def _tiles_where_they_help(self) -> Self:
        if self.tiling and self.architecture != "ltx2":
            raise refusal(
                f"tiling for {self.architecture}, which works through a clip a few frames at a time",
                "Remove it: memory does not grow with the clip.",
                ("tiling",),
            )
        return self


class GroundTruthDepthAndPoses(EngineSettings):
    """Exact depth and the cameras the frames were rendered with."""

    engine: Literal["ground_truth"] = "ground_truth"


class ClassicalPosesSettings(EngineSettings):
    """Cameras estimated from a clip's frames alone by structure from motion (COLMAP), on the CPU; depth comes from
    another engine, which knows the commanded cameras."""

    engine: Literal["classical"] = "classical"
    depth: Annotated[
        GroundTruthDepthAndPoses | DepthProScaffoldSettings | DepthAnythingScaffoldSettings, EngineChoice()
    ] = GroundTruthDepthAndPoses()
    """Engine for the depth of the frames."""
    time_limit: Annotated[Duration, Field(ge=1)] = 600.0
    """For each of at most three attempts to put a clip's frames together."""


class GroundTruthObjects(EngineSettings):
    """The objects of the scene's geometry; a scene of which only depth is known has none."""

    engine: Literal["ground_truth"] = "ground_truth"


class SceneWordsCaptions(EngineSettings):
    """Captions composed from the scene's words and the trajectory's name; nothing looks at the clip."""

    engine: Literal["scene_words"] = "scene_words"


SHIPPED_CODEC = "sceneloom-cosmos-8x8x8"
"""Id of the autoencoder weights that the package ships."""


class Engines(Section):
    """What does the work of each stage."""

    conditioning_view: ConditioningView = ConditioningView()
    """First view of a scene."""
    scene_scaffold: SceneScaffold = SceneScaffold()
    """Geometry of a scene."""
    video_latents: Annotated[
        RaycastVideo
        | SanaWMVideoSettings
        | WanVaceVideoSettings
        | GaussianVideoSettings
        | WarpedVideoSettings
        | Gen3cSettings,
        EngineChoice(),
    ] = RaycastVideo()
    """Frames of a clip."""
    latent_codec: LatentCodecSettings = LatentCodecSettings(id=SHIPPED_CODEC)
    """Latents of a clip: those that shards hold."""
    extra_latent_codecs: dict[str, LatentCodecSettings] = Field(default_factory=dict)
    """Codecs that give the same clips' latents in further spaces, by a name for each; they lie beside the first."""
    depth_and_poses: Annotated[
        GroundTruthDepthAndPoses
        | DepthProScaffoldSettings
        | DepthAnythingScaffoldSettings
        | RenderedDepthSettings
        | WarpedDepthSettings
        | VipeSettings
        | VggtSettings
        | ClassicalPosesSettings,
        EngineChoice(),
    ] = GroundTruthDepthAndPoses()
    """Depth and cameras of a clip. vipe and vggt estimate both from the clip alone, classical the cameras; with the
    other engines they are the commanded ones."""
    scene_objects: Annotated[GroundTruthObjects | Sam2ObjectsSettings | Sam3ObjectsSettings, EngineChoice()] = (
        GroundTruthObjects()
    )
    """Objects that the conditioning view shows."""
    captions: Annotated[SceneWordsCaptions | CaptionSettings, EngineChoice()] = SceneWordsCaptions()
    """Captions of clips."""
    picture_features: VggtModelSettings | None = None
    """VGGT, for the feature of the conditioning view that SceneGen reads; made by the stage scene_objects where the
    view has objects whose shape is known. null: SceneGen's layout says that a stand-in took its place."""
    object_latents: TrellisLatentSettings | None = None
    """TRELLIS' encoder, for the latents of those objects that SceneGen trains on; likewise."""
    text_encoder: TextEncoderSettings | None = None
    """Encoder of the captions in layouts that hold text embeddings (Lyra-2: UMT5-XXL); null: those layouts say that a
    stand-in took its place."""

    @field_validator("extra_latent_codecs")
    @classmethod
    def _names_of_codecs(cls, codecs: dict[str, LatentCodecSettings]) -> dict[str, LatentCodecSettings]:
        for name in codecs:
            if not _CODEC_NAME.fullmatch(name):
                raise refusal(f'"{name}" cannot name a latent space', "Use small letters, digits, - and _.", (name,))
        return codecs

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Every engine gets what it needs from those before it."""
        views, scaffolds = self.conditioning_view, self.scene_scaffold
        if scaffolds.prompt.engine == "ground_truth" and views.prompt.engine != "procedural":
            raise refusal(
                f"ground_truth for views of the engine {views.prompt.engine}, behind which there is no geometry",
                "Choose an engine that finds depth in a picture, or the view engine procedural.",
                ("scene_scaffold", "prompt"),
            )
        if self.video_latents.engine == "raycast":
            for kind, scaffold in (("prompt", scaffolds.prompt), ("image", scaffolds.image)):
                if scaffold.engine not in _GIVE_GEOMETRY:
                    raise refusal(
                        f"raycast needs geometry, and {scaffold.engine} ({kind}) finds depth alone",
                        f"Choose a scaffold engine that gives geometry ({' or '.join(_GIVE_GEOMETRY)}), or a video "
                        "engine that generates.",
                        ("video_latents",),
                    )
        elif "ground_truth" in (self.depth_and_poses.engine, self._depth_behind_poses()):
            raise refusal(
                f"ground_truth for clips of the engine {self.video_latents.engine}: only rendered clips have one",
                "Choose an engine that estimates depth, such as depth_anything or depth_pro.",
                ("depth_and_poses",),
            )
        self._gaussians_are_there()
        for place, estimator in (
            (("depth_and_poses",), self.depth_and_poses),
            (("scene_scaffold", "video"), scaffolds.video),
        ):
            if isinstance(estimator, VipeSettings):
                estimator.require_pinhole_depth(place)
        if self.depth_and_poses.engine == "warped" and self.video_latents.engine != "warped":
            raise refusal(
                f"warped for clips of the engine {self.video_latents.engine}: they show more than the cache",
                "Choose the video engine warped, or an engine that estimates depth.",
                ("depth_and_poses",),
            )
        return self

    def _depth_behind_poses(self) -> str | None:
        """The engine whose depth goes with cameras that were estimated alone."""
        chosen = self.depth_and_poses
        return chosen.depth.engine if isinstance(chosen, ClassicalPosesSettings) else None

    def _gaussians_are_there(self) -> None:
        """Clips of Gaussians have a scaffold of some, and depth is taken from Gaussians that were rendered."""
        if self.video_latents.engine == "gaussians":
            for kind, scaffold in (("prompt", self.scene_scaffold.prompt), ("image", self.scene_scaffold.image)):
                if scaffold.engine != "vistadream":
                    raise refusal(
                        f"gaussians needs a scaffold of Gaussians, and {scaffold.engine} ({kind}) makes none",
                        "Choose the scaffold engine vistadream for prompts and pictures, or another video engine.",
                        ("video_latents",),
                    )
        elif self.depth_and_poses.engine == "rendered":
            raise refusal(
                f"rendered for clips of the engine {self.video_latents.engine}: only Gaussians are rendered with depth",
                "Choose the video engine gaussians, or another engine for depth.",
                ("depth_and_poses",),
            )


class Video(Section):
    """How clips are encoded (H.264)."""

    constant_rate_factor: Annotated[int, Field(ge=0, le=51)] = 10
    """Quality: lower is better and larger. Lyra writes 10."""
    group_of_pictures: EveryPositive = 8
    """Frames between key frames; short groups let training read single frames quickly."""


class Shards(Section):
    """How training shards hold clips."""

    depth: DepthTier = "bounded"
    """bounded: within 0.1 % of what the stage before gave, the smaller one; exact: every float16 value as it is."""
    minimum_psnr: Annotated[float, Field(ge=30, le=50)] = MINIMUM_PSNR
    """PSNR that every run of sixteen frames keeps against the frames as they were made, dB: 40 takes a quarter fewer
    bytes than 42, 44 four fifths more."""


class Quality(QualityThresholds, Section):
    """A clip outside these limits is kept out of shards; its failures are in the quality report."""

    minimum_clearance: Annotated[Length, Field(ge=0)] | None = 0.05
    """Nearer than 5 cm to a surface the picture is one blurred patch."""


class Objects(Section):
    """Which objects of a view enter the object table."""

    minimum_visible_pixels: EveryPositive = 64
    """Pixels of the object in the conditioning view."""
    minimum_visibility: Fraction = 0.1
    """Visible pixels as a share of those it would have standing alone; for objects whose geometry is known."""


class Execution(Section):
    """How the work is cut and repeated."""

    scenes_per_run: EveryPositive = 50
    """Scenes in one run."""
    parallel_scenes: Annotated[int, Field(ge=1, le=256)] = 2
    """Scenes worked on at once in a run."""
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Attempts before a failing scene is quarantined."""
    device_memory: Annotated[Memory, Field(gt=0)] | None = None
    """Memory of the device that engines may use together; null: all of it."""


class Profile(Section):
    """Everything a deployment is told. `file` is where it was read from."""

    format: Literal["sceneloom.profile/1"]
    """Version of this file's keys."""
    collection: Collection
    """The scenes."""
    store: Store
    """Where everything made is kept."""
    releases: Releases = Releases()
    """Where layouts are published."""
    frames: Frames
    """Size of a clip."""
    view: View = View()
    """The camera that sees a scene first."""
    trajectories: Trajectories
    """The camera paths."""
    motion: Motion = Motion()
    """What moves while a clip runs."""
    engines: Engines = Engines()
    """What does the work of each stage."""
    video: Video = Video()
    """How clips are encoded."""
    shards: Shards = Shards()
    """How training shards hold clips."""
    quality: Quality = Quality.model_validate({})
    """Limits a clip must keep."""
    objects: Objects = Objects()
    """Which objects enter the object table."""
    execution: Execution = Execution()
    """How the work is cut and repeated."""
    forecast: ForecastSettings = ForecastSettings()
    """What `sceneloom forecast` goes by."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Every random draw derives from this and the scene's own seed."""

    _file: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        """Clips are of a size that the codecs, the video engine and the estimator take."""
        codecs = (self.engines.latent_codec, *self.engines.extra_latent_codecs.values())
        architectures = [ARCHITECTURES[codec.architecture] for codec in codecs]
        self.frames.require_groups(
            math.lcm(*(each.temporal_stride for each in architectures)),
            math.lcm(_SIDE_MULTIPLE, *(each.spatial_stride for each in architectures)),
        )
        video = self.engines.video_latents
        if isinstance(video, SanaWMVideoSettings | Gen3cSettings):
            video.require_frames(self.frames.count, self.frames.height, self.frames.width)
        estimator = self.engines.depth_and_poses
        if isinstance(estimator, VggtSettings) and self.frames.count > estimator.maximum_frames:
            raise refusal(
                f"clips of {self.frames.count} frames, and vggt is to take {estimator.maximum_frames} at once",
                "Make shorter clips, or raise maximum_frames.",
                ("engines", "depth_and_poses"),
            )
        return self

    @model_validator(mode="after")
    def _objects_can_move(self) -> Self:
        """Only the ray caster shows motions, and only procedural scenes have them."""
        engines = self.engines
        if self.motion.objects and (
            engines.video_latents.engine != "raycast" or engines.scene_scaffold.prompt.engine != "ground_truth"
        ):
            raise refusal(
                f"{self.motion.objects} moving objects, which the video engine {engines.video_latents.engine} and the "
                f"scaffold engine {engines.scene_scaffold.prompt.engine} cannot show",
                "Set motion.objects to 0, or choose procedural, ground_truth and raycast.",
                ("motion", "objects"),
            )
        return self

    def require_engines_for(self, kinds: AbstractSet[SceneKind]) -> None:
        """Refuse a collection with videos where the video engine cannot show that they move.

        Raises:
            ConfigError: it cannot.
        """
        engine = self.engines.video_latents.engine
        if "video" in kinds and engine not in _SHOW_INPUT_VIDEOS:
            raise ConfigError(
                f"the collection has videos, and the engine {engine} would show their first frame standing still",
                where=f"{self.file}: engines.video_latents",
                remedy=f"Choose {' or '.join(_SHOW_INPUT_VIDEOS)}, or leave the videos out of the sources.",
            )

    def sampling(self) -> VideoSampling:
        """Which instants of a video become the frames of its scene's clip."""
        frames, start = self.frames, self.engines.conditioning_view.video.start
        return VideoSampling(frames.count, frames.frames_per_second, start)

    @property
    def file(self) -> Path:
        """The file the profile was read from."""
        return self._file


def load_profile(path: str | Path | None = None) -> Profile:
    """Read a profile and fill in every default.

    Args:
        path: the YAML file; without it SCENELOOM_CONFIG, and without that the checkout's configs/demo.yaml.

    Raises:
        ConfigError: the file cannot be read, or holds an unknown key, a wrong unit or an impossible value.
    """
    file = Path(path or os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE).expanduser()
    document = parse(_read(file), name=str(file))
    if not isinstance(document.value, dict):
        found = "the file is empty" if document.value is None else "the file does not hold a mapping"
        raise ConfigError(found, where=str(file), remedy="Start from configs/demo.yaml.")
    try:
        profile = Profile.model_validate(document.value, context={"folder": file.absolute().parent})
    except ValidationError as error:
        raise _config_error(error.errors(), document, str(file)) from None
    profile._file = file.absolute()
    return profile


def show(profile: Profile) -> str:
    """The profile as YAML with every default filled in; `load_profile` reads back the same values."""
    values = profile.model_dump(mode="json", context=UNITS_AS_TEXT)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a profile, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"the profile cannot be read ({error.strerror})",
            where=str(file),
            remedy=f"Name an existing profile, as an argument or in {PROFILE_VARIABLE}.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the profile is not UTF-8 text", where=str(file), remedy="Save it as UTF-8.") from error


def _config_error(errors: Sequence[ErrorDetails], document: LocatedYaml, name: str) -> ConfigError:
    """One ConfigError for all refusals, in the order of their lines: the first in full, the others below it."""
    refusals = []
    for error in errors:
        path = (*_path_in(document.value, error["loc"]), *error.get("ctx", {}).get("below", ()))
        line = document.line(path)
        order = (line, error["type"] == "missing")
        explained = _explain(error, path, document.value)
        refusals.append((order, f"{name}:{line}: {dotted(path) or '(top level)'}", *explained))
    refusals.sort(key=lambda refusal: refusal[0])
    _, where, found, remedy = refusals[0]
    others = "".join(f"\n{where}: {found}. {remedy}" for _, where, found, remedy in refusals[1:])
    return ConfigError(found, where=where, remedy=remedy + others)


def _path_in(value: Any, location: Sequence[str | int]) -> KeyPath:
    """The error's location without the names of types that pydantic puts between the keys."""
    path: list[str | int] = []
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(value, Mapping) and part == value.get("engine") and part not in value:
            continue
        if isinstance(value, Mapping) and (part in value or last):
            value = value.get(part)
            path.append(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
            path.append(part)
    return tuple(path)


def _explain(error: ErrorDetails, path: KeyPath, document: Any) -> tuple[str, str]:
    context = error.get("ctx", {})
    key = str(error["loc"][-1]) if error["loc"] else ""
    value = error["input"]
    if error["type"] == "extra_forbidden":
        return f'unknown key "{key}"', _nearest(key, list(_section_at(path[:-1], document).model_fields), "keys here")
    if error["type"] == "missing":
        return f'the key "{key}" is missing', f"Add it: {_description(path, document)}"
    if error["type"] == "union_tag_invalid":
        known = re.findall(r"'([^']*)'", context["expected_tags"])
        return f'unknown engine "{context["tag"]}"', _nearest(context["tag"], known, "engines here")
    if error["type"] == "refused":
        return context["found"], context["remedy"]
    if error["type"] == "quantity":
        return f"{_brief(value)}: {error['msg']}", context["remedy"]
    message = re.sub(r"^\w+ should", "it should", error["msg"]).replace("a valid tuple", "a list")
    return f"{_brief(value)} is refused: {message}", _description(path, document)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "…"


def _nearest(word: str, known: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    suggestion = f'Did you mean "{near[0]}"? ' if near else ""
    return f"{suggestion}Known {what}: {', '.join(known)}."


def _section_at(path: KeyPath, document: Any) -> type[Section]:
    """The section class that the keys of `path` lead to; where engines are to choose from, the one that was chosen."""
    section: type[Section] = Profile
    value = document
    for part in path:
        field = section.model_fields.get(str(part))
        value = value.get(part) if isinstance(value, Mapping) else None
        section = (None if field is None else chosen_section(field.annotation, value)) or section
    return section


def _description(path: KeyPath, document: Any) -> str:
    """What the key at `path` (or the nearest key above it that has a description) is for."""
    for length in range(len(path), 0, -1):
        field = _section_at(path[: length - 1], document).model_fields.get(str(path[length - 1]))
        if field is not None and field.description:
            return field.description
    return "`sceneloom config schema` lists what every key takes."
