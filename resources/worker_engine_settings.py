"""Profile sections of the engines that run as workers, in environments of their models' own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from .profile_sections import EveryPositive, LocationText, absolute_location, refusal
from .transformers_settings import EdgeBend
from .worker_settings import WorkerSettings

FieldOfView = Annotated[float, Field(gt=0, lt=180)]

_PATH = re.compile(r"/|~|\.\.?(/|$)")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)+(?<!\.pt)(?<!\.pth)(?<!\.safetensors)")


def _hub_id_or_path(model: str, info: ValidationInfo) -> str:
    if _PATH.match(model):
        return absolute_location(model, info)
    if not _HUB_ID.fullmatch(model):
        raise refusal(f"{model!r} is neither a hub id nor a path", "Write owner/name, or a path from / or ./ on.")
    return model


HubIdOrPath = Annotated[str, AfterValidator(_hub_id_or_path)]
"""A hub id, or a path, made absolute against the profile's folder: it begins with /, ./, ../ or ~."""


class WorkerModelSettings(WorkerSettings):
    """What workers have in common that run one model of the hub."""

    model: HubIdOrPath
    """Hub id, or path of weights, as the worker sees it."""
    revision: str | None = None
    """Revision (commit, tag or branch) of a hub id; name a commit to make runs repeatable."""
    weights_version: str | None = None
    """Of weights under a path: a text that names them, and is changed with them, in place of their files' digests; for
    files that only the worker sees. null: the files are on this machine."""
    licence: str | None = None
    """Licence of the weights; null: that under which the default weights are published, for other weights unknown."""

    @property
    def path(self) -> Path | None:
        """Where the weights lie; None for those of a hub id."""
        return Path(self.model) if _PATH.match(self.model) else None

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if self.path is None and self.weights_version is not None:
            raise refusal("weights_version for a hub id", "Name its revision instead.", ("weights_version",))
        if self.path is not None and self.revision is not None:
            raise refusal("a revision of a path", "A revision belongs to a hub id; remove it.", ("revision",))
        return self


class MogeSettings(WorkerModelSettings):
    """MoGe: depth, focal length and mask of a single picture; metric with the models of MoGe-2."""

    engine: Literal["moge"] = "moge"
    model: HubIdOrPath = "Ruicheng/moge-2-vitl-normal"
    """Hub id, or path of a model.pt or its folder, as the worker sees it."""
    version: Literal["v1", "v2"] = "v2"
    """Which of MoGe's two model classes the weights are of. Depth of v1 (Ruicheng/moge-vitl, which GEN3C uses) has no
    unit."""
    focal: Literal["estimated", "view"] = "estimated"
    """estimated: the model's own focal length, for pictures whose camera is not known; view: the view's intrinsics."""
    resolution_level: Annotated[int, Field(ge=0, le=9)] = 9
    """How many tokens the picture becomes, from MoGe's least (0) to its most (9)."""
    half_precision: bool = True
    """Run the network in float16, as MoGe does by default; the CPU needs false."""
    edge_bend: EdgeBend | None = 0.05
    """Depth where inverse depth bends by more than this share of itself lies on an edge and is marked invalid; null:
    nothing is marked."""
    minimum_field_of_view: FieldOfView = 10.0
    """Horizontal, degrees; below it the estimated focal length is taken for diverged."""
    maximum_field_of_view: FieldOfView = 150.0
    """Horizontal, degrees; above it likewise."""


class VggtModelSettings(WorkerModelSettings):
    """A VGGT model, such as facebook/VGGT-1B, whose weights may not be used commercially."""

    engine: Literal["vggt"] = "vggt"
    model: HubIdOrPath = "facebook/VGGT-1B"
    """Hub id, or path of a folder of weights or of a .pt file (VGGT-1B-Commercial), as the worker sees it."""
    frames_per_head_call: EveryPositive = 8
    """Frames that a head works on at once; fewer take less memory."""


class VggtSettings(VggtModelSettings):
    """VGGT: depth, cameras and points of a clip, estimated from its frames alone."""

    maximum_frames: EveryPositive = 200
    """Longer clips are refused before the worker starts: 200 frames take about 41 GB of a device's memory."""
    minimum_confidence: Annotated[float, Field(ge=1)] = 1.0
    """Depth that VGGT is less confident of is marked invalid; 1 is the least that it can say."""
    keep_points: bool = False
    """Keep VGGT's points (a third output beside depth and cameras) and their confidence with the clip."""
    minimum_field_of_view: FieldOfView = 10.0
    """Vertical, degrees; below it the estimated focal length is taken for diverged."""
    maximum_field_of_view: FieldOfView = 150.0
    """Vertical, degrees; above it likewise."""


class Gen3cSettings(WorkerSettings):
    """GEN3C as Lyra-1 runs it: clips along cameras, with the Cosmos latents that they were decoded from."""

    engine: Literal["gen3c"] = "gen3c"
    source: LocationText
    """The folder Lyra-1 of a checkout of nv-tlabs/lyra, as the worker sees it; the worker's file names the commit."""
    checkpoints: LocationText
    """Folder that holds Gen3C-Cosmos-7B, Cosmos-Tokenize1-CV8x8x8-720p and, for the text encoder, google-t5."""
    weights_version: str | None = None
    """A text that names what the checkpoints hold, and is changed with it, in place of their files' digests; for files
    that only the worker sees. null: the files are on this machine."""
    licence: str = "NVIDIA Open Model License"
    """Licence of the weights."""
    frames: EveryPositive = 121
    """Frames that the model makes at once: those of every clip."""
    height: EveryPositive = 704
    """Height that the model makes, pixels: that of every clip."""
    width: EveryPositive = 1280
    """Width that the model makes, pixels: that of every clip."""
    frames_per_second: EveryPositive = 24
    """The rate that the model is told."""
    steps: EveryPositive = 35
    """Denoising steps."""
    guidance: Annotated[float, Field(ge=0)] = 1.0
    """As GEN3C counts: 1 is what is 2 in the usual notation."""
    use_prompt: bool = False
    """Tell the model the scene's words; Lyra's own clips were made with an empty prompt."""
    negative_prompt: str | None = None
    """What guidance leads away from; null: the text that Lyra's scripts have for a default."""
    text_encoder: bool = True
    """false: no T5 is loaded, and the model is told nothing, as --disable_prompt_encoder does."""
    offload: bool = False
    """Keep network, tokenizer and text encoder off the device while they do not work: about 43 GB instead of more than
    an 80 GB device has."""
    edge_threshold: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Source pixels in whose 5 × 5 window depth varies by more than this share of its mean are not warped."""
    foreground_masking: bool = True
    """Erase warped pixels that would shine through a foreground's silhouette; Lyra's clips were made so."""
    noise_augmentation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Noise on what is warped from older pictures."""
    unknown_depth: Literal["hole", "far"] = "hole"
    """What becomes of pixels without a depth, such as sky: hole: the model paints what they show; far: they are warped
    from a hundred times the middle depth away, as Lyra does with what MoGe masks out."""
    codec_is_tokenizer: bool = False
    """The profile's latent codec holds the weights of GEN3C's tokenizer: latents are kept as they were generated. Their
    normalisation is compared; that the weights are the same is your word."""

    def require_frames(self, count: int, height: int, width: int) -> None:
        """Refuse clips of another size than the model makes; for the profile's validation.

        Raises:
            PydanticCustomError: naming the size that fits.
        """
        if (count, height, width) != (self.frames, self.height, self.width):
            raise refusal(
                f"clips of {count} frames of {height} × {width} pixels, and GEN3C makes {self.frames} of {self.height} "
                f"× {self.width}",
                "Give frames that size; other checkpoints are told by the engine's frames, height and width.",
                ("frames",),
            )

    @model_validator(mode="after")
    def _prompt_has_an_encoder(self) -> Self:
        if self.use_prompt and not self.text_encoder:
            raise refusal("use_prompt without a text encoder", "Set text_encoder to true.", ("use_prompt",))
        return self


class TrellisLatentSettings(WorkerModelSettings):
    """The encoder of TRELLIS' sparse structures, whose latents SceneGen trains on."""

    engine: Literal["trellis_ss"] = "trellis_ss"
    source: LocationText
    """A checkout of microsoft/TRELLIS, as the worker sees it; the worker's file names the commit."""
    model: HubIdOrPath = "microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16"
    """Hub id with the model's path in it, or a path without its ending, as TRELLIS' from_pretrained takes them."""
