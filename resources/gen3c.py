"""Engine `gen3c`: clips by GEN3C as Lyra-1 runs it, which works as a worker, with the latents it generates.

X. Ren et al., "GEN3C: 3D-Informed World-Consistent Video Generation with Precise Camera Control", CVPR 2025; S. Bahmani
et al., "Lyra: Generative 3D Scene Reconstruction via Video Diffusion Model Self-Distillation", 2025.

A scene from a picture goes through Lyra's static generator, one from a video through its dynamic one: there frame i of
a clip sees what frame i of the video shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError, EngineError
from ..datasets.latent_spaces import LatentSpace
from ..ops.trajectories import runs_backwards
from .engines import Camera, GeneratedClip, InputClip, Part, Scaffold, View
from .output_retries import checked_output, frames_fault, latents_fault
from .pipeline_engine import require_view_size
from .resident_models import ResidentModels
from .worker_batches import BatchTask, WorkerOutcome
from .worker_engine import WorkerEngine, declared_or_digests, files_below
from .worker_engine_settings import Gen3cSettings
from .worker_protocol import Event, Transport
from .worker_results import invalid_output, read_array

Float32 = NDArray[np.float32]

NAME = "gen3c"
CHECKPOINT, TOKENIZER, TEXT_ENCODER = "Gen3C-Cosmos-7B", "Cosmos-Tokenize1-CV8x8x8-720p", "google-t5"
"""Folders of the checkpoints."""
CODE_LICENCE = "Apache-2.0"
CHANNELS, STRIDE = 16, 8
SCALE = 0.5
"""The diffusion model's sigma_data, by which normalised latents are multiplied."""
FAR = 100.0
"""Depth at which Lyra's cache cuts everything off, in middle depths."""
_CAMERA_TOLERANCE = 1e-5
"""As a share of the largest number; Lyra holds cameras in float32."""
_SEEDS = 2**31


@dataclass(frozen=True, slots=True, eq=False)
class Gen3cResult:
    """A clip of T frames.

    Attributes:
        frames: (T, H, W, 3) uint8 sRGB.
        latents: (16, t, H/8, W/8) float16 that they were decoded from, normalised as `space` declares.
        space: the tokenizer's, with the normalisation that Lyra's loader takes away.
        seen_share: share of the pixels that the warped source shows, over all frames.
    """

    frames: NDArray[np.uint8]
    latents: NDArray[np.float16]
    space: LatentSpace
    seen_share: float


class Gen3cVideo(WorkerEngine[Gen3cSettings]):
    """GEN3C in Lyra's environment.

    Args:
        settings: checkout, checkpoints, size, where it runs.
        codec_space: gives the latent space of the profile's codec, for `codec_is_tokenizer`.
        models, transport, report: as `WorkerEngine`.
    """

    name: ClassVar[str] = NAME
    needs: ClassVar[frozenset[Part]] = frozenset({"view", "prompt", "depth", "cameras"})
    gives: ClassVar[frozenset[Part]] = frozenset({"frames", "latents"})
    told: ClassVar[frozenset[str]] = frozenset(
        {"source", "checkpoints", "frames", "height", "width", "frames_per_second", "steps", "guidance"}
        | {"negative_prompt", "text_encoder", "offload", "edge_threshold", "foreground_masking", "noise_augmentation"}
    )

    def __init__(
        self,
        settings: Gen3cSettings,
        codec_space: Callable[[], LatentSpace] | None = None,
        models: ResidentModels | None = None,
        transport: Transport | None = None,
        report: Callable[[Event], None] | None = None,
    ) -> None:
        super().__init__(settings, models, transport, report)
        self.codec_space = codec_space

    @property
    def licence(self) -> str:
        """Of the weights and of Lyra's code."""
        return f"{self.settings.licence} AND {CODE_LICENCE}"

    @functools.cached_property
    def weights(self) -> Mapping[str, str]:
        """The declared version of the checkpoints, else the digests of their files, the text encoder's where it is
        loaded."""
        return declared_or_digests(self.settings.weights_version, NAME, self._files)

    def _files(self) -> dict[str, Path]:
        place, found = Path(self.settings.checkpoints), dict[str, Path]()
        for folder in (CHECKPOINT, TOKENIZER, *([TEXT_ENCODER] if self.settings.text_encoder else [])):
            # The name of one that is not there stands for the files that are missed.
            found |= files_below(place, folder) or {folder: place / folder}
        return found

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> Gen3cScene:
        """Get the scene's source ready: the view with its depth, or the frames of its video with theirs.

        Raises:
            EngineError: objects of the scene move, which pictures of one instant cannot show, or no depth is known.
        """
        if scaffold.motions:
            raise EngineError(
                f"{len(scaffold.motions)} objects of the scene move, and its picture shows them standing still",
                where=f"engine {NAME}",
                remedy="Set motion.objects to 0, or choose another engine for video_latents.",
            )
        words = prompt if self.settings.use_prompt else ""
        return Gen3cScene(self, view, words, Source.of(scaffold, view, self.settings.unknown_depth))


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What clips are generated from, in a unit in which the middle depth is 1, as it is in Lyra's own scenes.

    Attributes:
        frames: (S, H, W, 3) uint8; S is 1 for a picture.
        depth: (S, H, W) float32, 0 where Lyra is to paint.
        c2w: (S, 4, 4) float64 poses.
        intrinsics: (S, 4) float64.
        unit: how many of the scaffold's units are one here.
    """

    frames: NDArray[np.uint8]
    depth: Float32
    c2w: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    unit: float

    @classmethod
    def of(cls, scaffold: Scaffold, view: View, unknown_depth: str) -> Source:
        """The source behind a view. Raises EngineError where no depth is known."""
        frames, depth, c2w = view.picture[None], scaffold.depth[None], np.eye(4)[None]
        if scaffold.clip is not None and view.clip is not None:
            frames, depth, c2w = view.clip.frames, scaffold.clip.depth, view.clip.c2w.astype(np.float64)
        known = depth[0] > 0
        if not known.any():
            raise EngineError("no pixel has a depth", where=f"engine {NAME}", remedy="Choose another scaffold engine.")
        unit = float(np.median(depth[0][known]))
        scaled = depth.astype(np.float32) / np.float32(unit)
        if unknown_depth == "far":
            scaled = np.where(depth > 0, scaled, np.float32(FAR))
        intrinsics = np.tile(np.asarray(scaffold.intrinsics, np.float64), (len(frames), 1))
        return cls(np.ascontiguousarray(frames), scaled, in_unit(c2w, unit), intrinsics, unit)


def in_unit(c2w: NDArray[np.floating], unit: float) -> NDArray[np.float64]:
    """Poses whose centres are told in another unit."""
    scaled = np.asarray(c2w, np.float64).copy()
    scaled[:, :3, 3] /= unit
    return scaled


@dataclass(frozen=True, slots=True)
class Gen3cScene:
    """One scene, ready for its clips."""

    engine: Gen3cVideo
    view: View
    prompt: str
    source: Source

    def generate(self, cameras: Sequence[Camera], *, seed: int) -> GeneratedClip:
        """What the cameras see.

        Raises:
            ConfigError: the size or the count of frames is not what the model makes, or the profile's codec is not the
                tokenizer that it is said to be.
            StageFailed: the worker has no result, or two seeds gave a broken clip.
        """
        self._require_size(cameras)
        answers: list[WorkerOutcome[Gen3cResult]] = []
        # Lyra's generator starts from the source's first frame: a path that ends there is made from its end.
        backwards = runs_backwards([camera.c2w for camera in cameras], self._input_clip().c2w)

        def make(tried: int) -> Gen3cResult:
            # NumPy, which Lyra draws its noise with, takes 32 bits.
            answers.append(self.engine.worker.ask(self._task(cameras, tried % _SEEDS, backwards)))
            return answers[-1].get()

        checked = checked_output(
            make,
            seed=seed,
            fault_of=lambda made: frames_fault(made.frames) or latents_fault(made.latents),
            where=f"engine {NAME}",
        )
        found, settings = checked.output, self.engine.settings
        notes = {
            "engine": NAME,
            "generator": "static" if len(self.source.frames) == 1 else "dynamic",
            "prompt": self.prompt,
            "steps": settings.steps,
            "guidance": settings.guidance,
            "unit": self.source.unit,
            "unknown_depth": settings.unknown_depth,
            "seen_share": found.seen_share,
            **checked.for_record(),
            "tokenizer": found.space.weights_digest,
            "made_backwards": backwards,
            **answers[-1].facts(),
        }
        if backwards:
            # Latents of a clip that runs the other way show none of its frames.
            return GeneratedClip(np.ascontiguousarray(found.frames[::-1]), None, None, notes)
        return GeneratedClip(found.frames, found.latents, self._space(found.space), notes)

    def _require_size(self, cameras: Sequence[Camera]) -> None:
        settings = self.engine.settings
        require_view_size(cameras, self.view, where=f"engine {NAME}")
        found = len(cameras), cameras[0].height, cameras[0].width
        if found != (settings.frames, settings.height, settings.width):
            raise ConfigError(
                f"a clip of {found[0]} frames of {found[1]} × {found[2]} pixels, and the model makes {settings.frames} "
                f"of {settings.height} × {settings.width}",
                where=f"engine {NAME}",
                remedy="Give frames that size.",
            )
        if len(self.source.frames) not in (1, len(cameras)):
            raise ConfigError(
                f"a video of {len(self.source.frames)} frames for clips of {len(cameras)}",
                where=f"engine {NAME}",
                remedy="Make the conditioning view again with this profile.",
            )

    def _input_clip(self) -> InputClip:
        """The input video; a picture is one of a single frame."""
        return self.view.clip or InputClip(self.view.picture[None], np.eye(4, dtype=np.float32)[None], "view")

    def _task(self, cameras: Sequence[Camera], seed: int, backwards: bool) -> BatchTask[Gen3cResult]:
        """What the worker is asked; where the path is made backwards, it and the source run from their ends."""
        source, step = self.source, -1 if backwards else 1
        c2w = in_unit(np.stack([camera.c2w for camera in cameras[::step]]), source.unit)
        intrinsics = np.stack([camera.intrinsics for camera in cameras[::step]]).astype(np.float64)

        def write(folder: Path) -> dict[str, Any]:
            arrays = folder / "arrays"
            arrays.mkdir()
            np.save(arrays / "frames.npy", source.frames[::step])
            np.save(arrays / "depth.npy", source.depth[::step])
            np.save(arrays / "source_c2w.npy", source.c2w[::step])
            np.save(arrays / "source_intrinsics.npy", source.intrinsics[::step])
            np.save(arrays / "c2w.npy", c2w)
            np.save(arrays / "intrinsics.npy", intrinsics)
            return {"prompt": self.prompt, "seed": seed, "arrays": str(arrays)}

        def read(output: Path, figures: Mapping[str, Any]) -> Gen3cResult:
            for name, given in (("c2w.npy", c2w), ("intrinsics.npy", intrinsics)):
                used = read_array(output, name, given.shape, np.floating)
                if np.abs(used - given).max() > _CAMERA_TOLERANCE * max(1.0, np.abs(given).max()):
                    raise invalid_output(name, "the clip was made with other cameras than were commanded")
            return read_result(output, len(cameras), cameras[0].height, cameras[0].width, figures)

        return BatchTask("clip", write, read, frames=len(cameras))

    def _space(self, own: LatentSpace) -> LatentSpace:
        """The space that the latents are declared in."""
        engine = self.engine
        if not engine.settings.codec_is_tokenizer or engine.codec_space is None:
            return own
        space = engine.codec_space()
        same = (space.channels, space.temporal_stride, space.spatial_stride, space.scale) == (
            own.channels,
            own.temporal_stride,
            own.spatial_stride,
            own.scale,
        )
        if not same or not (_equal(space.mean, own.mean) and _equal(space.std, own.std)):
            raise ConfigError(
                f"latents of {own.id} are normalised otherwise than the codec's space {space.id} declares",
                where=f"engine {NAME}: codec_is_tokenizer",
                remedy="Give engines.latent_codec the tokenizer's weights, or set codec_is_tokenizer to false.",
            )
        return space


def read_result(output: Path, frames: int, height: int, width: int, figures: Mapping[str, Any]) -> Gen3cResult:
    """Read what the worker wrote for a clip of T frames of H × W pixels, and check all of it.

    Raises:
        WorkerFailed: invalid-output, naming the file and what is wrong in it.
    """
    pictures = read_array(output, "frames.npy", (frames, height, width, 3), np.uint8)
    digest, seen = figures.get("tokenizer"), figures.get("seen_share")
    if not isinstance(digest, str) or not digest or not isinstance(seen, int | float) or not 0 <= seen <= 1:
        raise invalid_output("figures", f"tokenizer is {digest!r} and seen_share {seen!r}")
    mean = read_array(output, "mean.npy", (CHANNELS, -1), np.floating)
    std = read_array(output, "std.npy", mean.shape, np.floating)
    try:
        space = LatentSpace(
            TOKENIZER,
            CHANNELS,
            mean,
            std,
            SCALE,
            STRIDE,
            STRIDE,
            weights_digest=f"sha256:{digest}",
            licence=_TOKENIZERS,
        )
        shape = space.latent_shape(frames, height, width)
    except ConfigError as error:
        raise invalid_output("std.npy", error.found) from error
    latents = read_array(output, "latents.npy", shape, np.floating)
    if np.abs(latents).max() > np.finfo(np.float16).max:
        raise invalid_output("latents.npy", "values that float16 cannot hold")
    return Gen3cResult(pictures, latents.astype(np.float16), space, float(seen))


_TOKENIZERS = "NVIDIA Open Model License"


def _equal(one: Float32, other: Float32) -> bool:
    """Whether two tables say the same of the latent frames that both know."""
    known = min(one.shape[1], other.shape[1])
    return bool(np.allclose(one[:, :known], other[:, :known], rtol=1e-5, atol=1e-6))
