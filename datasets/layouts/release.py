"""What a layout is published from, and what publishing and examining it say.

A layout module has a constant `LAYOUT`, a `Layout`: its `write` fills an empty directory from scenes, its `examine`
reads a directory back as the consumer does. The directory is made and moved into place by `publishing.publish`, which
also writes the manifest beside it; a layout never writes outside the directory that it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..latent_spaces import LatentSpace

Needs = Literal["clips", "objects"]
"""What of its scenes a layout is made from: their clips, or the objects that their first views see."""

EncodeText = Callable[[Sequence[str]], Sequence[NDArray[np.float32]]]
"""Texts → one (tokens, width) float32 array each: a text encoder's last hidden states without padding."""

TRAIN, VALIDATION, TEST = "train", "validation", "test"
"""Splits of scenes."""

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]
UInt16 = NDArray[np.uint16]


class ReleaseClip(Protocol):
    """One clip of a scene; arrays are read when they are asked for."""

    @property
    def scene_id(self) -> str:
        """Its scene."""
        ...

    @property
    def trajectory(self) -> str:
        """Its camera path's name."""
        ...

    @property
    def frames(self) -> int:
        """Number of frames T."""
        ...

    @property
    def height(self) -> int:
        """H, in pixels."""
        ...

    @property
    def width(self) -> int:
        """W, in pixels."""
        ...

    @property
    def frames_per_second(self) -> float:
        """Rate that the video declares."""
        ...

    @property
    def metric(self) -> bool:
        """Whether depth and translations are truly in metres."""
        ...

    def rgb(self, frames: Sequence[int] | None = None) -> UInt8:
        """(T, H, W, 3) uint8 sRGB of all frames, or of those asked for."""
        ...

    def rgb_mp4(self) -> bytes:
        """The clip's MP4 file: H.264 yuv420p, short groups of pictures, no B-frames."""
        ...

    def depth(self, frames: Sequence[int] | None = None) -> Float16:
        """(T, H, W) float16 z-depth, 0 = invalid, of all frames, or of those asked for."""
        ...

    def latents(self) -> Float16:
        """(C, t, h, w) float16, normalised as the scene's latent space declares."""
        ...

    def dynamic_mask(self) -> NDArray[np.bool_] | None:
        """(T, H, W) bool, where something moves; None where that is not known."""
        ...

    def cameras(self, *, estimated: bool = False) -> tuple[Float32, Float32]:
        """c2w (T, 4, 4) and intrinsics (T, 4), OpenCV axes, pixels with centres at +0.5."""
        ...


@dataclass(frozen=True, slots=True)
class ReleaseObject:
    """One object that a scene's conditioning view sees.

    Attributes:
        instance_id: its value in the view's instance ids, from 1.
        name, family: what it is.
        glb: path of its textured GLB in its own frame (y up, metres, centred on its box).
        obj: path of its `raw_model.obj` in the same frame; MTL and textures lie beside it.
        mask: (H, W) bool, where the view sees it.
        box: (left, top, right, bottom) of the mask in pixels, the last two exclusive.
        visible_pixels, visibility: as `object_table.ObjectRow` has them.
        size: (3,) side lengths of its box, metres.
        camera_from_object: (4, 4) float64, rigid, object frame to OpenCV camera frame.
        translation, rotation, scale: SceneGen's pose of it (`specs` of `object_table`): OpenGL camera frame, metres,
            degrees of extrinsic xyz, longest side.
        sha256: of the OBJ; the asset's key.
        aesthetic_score, captions: as in the object table.
        ss_latent: npz file with its latent by TRELLIS' encoder (key mean); None where none was made.
    """

    instance_id: int
    name: str
    family: str
    glb: Path
    obj: Path
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    visible_pixels: int
    visibility: float
    size: tuple[float, float, float]
    camera_from_object: NDArray[np.float64]
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float]
    scale: float
    sha256: str
    aesthetic_score: float
    captions: tuple[str, ...]
    ss_latent: Path | None = None


@dataclass(frozen=True, slots=True)
class RenderedView:
    """One view of a scene's objects, seen from any camera.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB, the whole scene with its walls.
        instance_ids: (H, W) uint16, 0 where no object is seen, else `ReleaseObject.instance_id` of any object in the
            scene (also of objects that the conditioning view does not see).
        depth: (H, W) float32 z-depth, 0 = invalid.
        normals: (H, W, 3) float32 unit vectors in the OpenCV camera frame, 0 where nothing is hit.
    """

    rgb: UInt8
    instance_ids: UInt16
    depth: Float32
    normals: Float32


Render = Callable[[NDArray[np.floating], NDArray[np.floating], int, int, bool], RenderedView]
"""(c2w (4, 4), intrinsics (4,), height, width, objects only) → view; the world is the conditioning camera's frame.

With `objects only`, walls, floor and ceiling are left out: rgb is white and depth 0 where no object is hit."""


@dataclass(frozen=True, slots=True)
class ReleaseObjects:
    """The conditioning view of a scene with its objects.

    Attributes:
        scene_number: seven-digit SceneGen id of the scene.
        picture: (H, W, 3) uint8 sRGB, the conditioning view.
        intrinsics: (4,) float64 of that view.
        instance_ids: (H, W) uint16, 0 = no object.
        metric: whether lengths are truly metres.
        objects: those listed in objects.json, in its order.
        render: renders the same scene from other cameras.
        vggt_feature: npz file with VGGT's feature of the picture (key vggt_feature); None where none was made.
    """

    scene_number: str
    picture: UInt8
    intrinsics: NDArray[np.float64]
    instance_ids: UInt16
    metric: bool
    objects: tuple[ReleaseObject, ...]
    render: Render
    vggt_feature: Path | None = None


@dataclass(frozen=True, slots=True)
class CaptionWindow:
    """What the frames start … stop - 1 of a clip show, in one line."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True, slots=True)
class ReleaseScene:
    """One scene of a release.

    Attributes:
        scene_id: its name; unique in the release.
        prompt: text, or None for a picture without caption.
        split: train, validation or test.
        licence: of the prompt or picture, None when the source is silent.
        engines: engine name by stage.
        engine_licences: licence by engine name.
        content_key: digest of all that made the scene's clips (or objects).
        latent_space: of the clips' latents; None where a release has no clips.
        clips: by trajectory, in the profile's order.
        objects: loads the conditioning view and its objects; None where none were made.
        moving: whether objects move while the clips run.
        dynamic_from: what the dynamic masks of its clips rest on: "ground_truth", "input_video" (what moves before the
            background of a still camera), "instances" (pixels of what may move, as an estimator took them for); None
            where there are none.
        captions: windows of each clip in order, by trajectory, for layouts that hold captions; clips without any have
            the prompt's words.
        captioned_by: the engine that wrote them; "" without any.
        captions_stand_in: whether that engine never saw the clips.
    """

    scene_id: str
    kind: str
    prompt: str | None
    split: str
    seed: int
    licence: str | None
    engines: Mapping[str, str]
    engine_licences: Mapping[str, str]
    content_key: str
    latent_space: LatentSpace | None
    clips: Mapping[str, ReleaseClip]
    objects: Callable[[], ReleaseObjects] | None = None
    moving: bool = False
    dynamic_from: str | None = None
    captions: Mapping[str, tuple[CaptionWindow, ...]] = field(default_factory=dict)
    captioned_by: str = ""
    captions_stand_in: bool = False

    @property
    def held_out(self) -> bool:
        """Whether it is a validation or test scene: no layout gives those to its consumer's training."""
        return self.split != TRAIN


class ReleaseDirectory:
    """The directory that a layout writes into, with a note of which scene each file belongs to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scene_of: dict[str, str] = {}

    def path(self, relative: str, scene_id: str | None = None) -> Path:
        """Where the file `relative` (POSIX path below the root) is to be written; its folder is made.

        Args:
            scene_id: the scene that the file belongs to; None for files of the whole release.
        """
        if scene_id is not None:
            self.scene_of[relative] = scene_id
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


TEXT_ENCODER = "text_encoder"
"""Option of layouts that hold text embeddings: the encoder's name."""


@dataclass(frozen=True, slots=True)
class ReleaseTextEncoder:
    """A text encoder that whoever publishes has loaded; layouts cannot.

    Attributes:
        name: what it was loaded from, with a digest of its weights: another one makes another release.
        licence: of its weights; None where nobody states one.
        encode: embeds texts.
    """

    name: str
    licence: str | None
    encode: EncodeText


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What of a layout is wanted.

    Attributes:
        destination: where the directory will stand once it is published (absolute); paths written into files use it.
        fields: names of the layout's fields to publish; None for all that the scenes hold.
        options: further settings that the layout declares in `Layout.options`.
        text_encoder: for the layouts that hold text embeddings; None where none was chosen.
    """

    destination: Path
    fields: frozenset[str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    text_encoder: ReleaseTextEncoder | None = None

    def wants(self, name: str) -> bool:
        """Whether the field is to be published."""
        return self.fields is None or name in self.fields


@dataclass(frozen=True, slots=True)
class LayoutSummary:
    """What a layout's `write` says of what it wrote.

    Attributes:
        counts: what there is of what ("clips": 84).
        notes: lines for whoever trains on it: what to paste where, which overrides a small set needs.
        stand_ins: what stands in for something else (an embedded text encoder), each with what it stands in for.
        scene_names: what the layout calls a scene, by its id, where a consumer's rules do not let it keep that.
    """

    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    scene_names: Mapping[str, str] = field(default_factory=dict)


class FindingKind(StrEnum):
    """What is wrong with a file of a published layout."""

    MISSING = "missing"
    TRUNCATED = "truncated"
    MISALIGNED = "misaligned"
    OUT_OF_CONVENTION = "out_of_convention"
    UNEXPECTED = "unexpected"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One fault of a published layout.

    Attributes:
        path: POSIX path below the root.
        message: what was found, and what the consumer would do with it.
        scene_id: the scene that has to be published again; None when it is none's.
    """

    path: str
    kind: FindingKind
    message: str
    scene_id: str | None = None


class Write(Protocol):
    """Fills an empty directory. Raises InputError when the scenes cannot make this layout."""

    def __call__(
        self, directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest
    ) -> LayoutSummary: ...


class Examine(Protocol):
    """Reads a directory as the consumer does; `scene_of` maps files to scenes where a manifest says so."""

    def __call__(self, root: Path, scene_of: Mapping[str, str]) -> list[Finding]: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """A published layout.

    Attributes:
        name: as in `sceneloom publish NAME`.
        consumer: whose code reads it.
        description: one line.
        fields: names of its fields, for subsets.
        options: what `ReleaseRequest.options` may hold, with a description each.
        needs: what of its scenes it is made from.
        required: fields that its consumer cannot do without; a subset that leaves one out is refused.
    """

    name: str
    consumer: str
    description: str
    fields: tuple[str, ...]
    write: Write
    examine: Examine
    options: Mapping[str, str] = field(default_factory=dict)
    needs: Needs = "clips"
    required: tuple[str, ...] = ()
