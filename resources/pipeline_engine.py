"""What engines that run diffusers pipelines have in common: one loaded pipeline, known prompts, seeds, provenance."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError, EngineError
from ..datasets.latent_spaces import LatentSpace
from .diffusers_settings import PipelineSettings
from .engines import Camera, View
from .failures import Reason, StageFailed
from .memory_ladder import LadderOutcome, MemoryLadder, pipeline_steps, steps_to
from .model_engine import LibraryEngine
from .model_loading import load_model, load_pipeline, model_facts
from .model_settings import ModelSettings, Precision
from .output_retries import CheckedOutput, Fault, checked_output, frames_fault
from .recently_used import RecentlyUsed
from .resident_models import ResidentModels, lease_name

REMEMBERED_PROMPTS = 64
"""Distinct texts whose embeddings are kept on the host, those used last; in Flux, the largest, they take 4 MB each."""

_SEED_LIMIT = 2**63

_Output = TypeVar("_Output")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A pipeline, what is done when it runs out of memory, and the lock of whoever runs it, as its scheduler holds the
    state of one run."""

    pipeline: Any
    ladder: MemoryLadder
    running: threading.Lock


class PipelineEngine(LibraryEngine):
    """An engine around one diffusers pipeline, which is loaded when it is first needed and leased while it works."""

    _model_settings: PipelineSettings

    def __init__(self, settings: PipelineSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self._embeddings: RecentlyUsed[tuple[str, ...], Any] = RecentlyUsed(REMEMBERED_PROMPTS)

    def class_name(self) -> str:
        """The diffusers pipeline class."""
        raise NotImplementedError

    @contextmanager
    def pipeline(self) -> Iterator[Any]:
        """The loaded pipeline, for this thread alone."""
        with self._leased() as loaded:
            yield loaded.pipeline

    def run(self, work: Callable[[Any], _Output]) -> LadderOutcome[_Output]:
        """Let the pipeline work, for this thread alone; where memory runs out, again with less of it.

        Args:
            work: is given the pipeline; may be called several times.

        Raises:
            StageFailed: memory ran out with everything done that saves some (reason out_of_memory).
        """
        with self._leased() as loaded:
            return loaded.ladder.run(lambda: work(loaded.pipeline))

    def made(self, work: Callable[[Any], tuple[Any, Any, dict[str, Any]]]) -> Made:
        """What the pipeline makes, on the host.

        Args:
            work: as `run` takes it; gives a video or picture and latents as `Made.of` takes them, and the notes.

        Raises:
            StageFailed: as `run`.
        """
        outcome = self.run(work)
        return Made.of(*outcome.output, memory=outcome.for_record())

    @contextmanager
    def _leased(self) -> Iterator[_Loaded]:
        settings = self._model_settings
        name = lease_name(self.class_name(), settings, ModelSettings.model_fields, **self.loaded_with())
        with (
            self._models.get(name, self.contract.device_memory_bytes, settings.device, self._load_to_run) as loaded,
            loaded.running,
        ):
            yield loaded

    def notes(self, pipeline: Any, output: Any, **made_with: Any) -> dict[str, Any]:
        """How something was made, JSON: pipeline and scheduler, `made_with`, the safety verdict, the model.

        The verdict has a truth value a picture, true where the pipeline's safety checker flagged it; null where the
        pipeline has none, as those of Flux, SANA-WM and Wan.

        Raises:
            StageFailed: a picture was flagged and the settings refuse that (reason safety_flagged).
        """
        given = getattr(output, "nsfw_content_detected", None)
        verdict = None if given is None else [bool(flag) for flag in np.ravel(given)]
        if verdict and any(verdict) and self._model_settings.refuse_flagged:
            raise StageFailed(
                Reason.SAFETY_FLAGGED,
                f"engine {self.name}, {self.source.id}: the safety checker flagged {sum(verdict)} of {len(verdict)} "
                "pictures. Change the prompt or picture; refuse_flagged: false takes them all the same.",
                again="after_change",
            )
        return {
            "engine": self.name,
            "pipeline": type(pipeline).__name__,
            "scheduler": type(pipeline.scheduler).__name__,
            **made_with,
            "safety_verdict": verdict,
            "model": model_facts(self._model_settings, self.source),
        }

    def embeddings(self, key: tuple[str, ...], pipeline: Any, make: Callable[[], Any]) -> Any:
        """What the text encoder makes of a text, made once while it is among the last that were used.

        Args:
            key: the text, and what else the embeddings depend on.
            pipeline: on whose device they are wanted.
            make: computes them, a tensor or a tuple of tensors; runs without gradients.
        """
        [embeddings] = self._embeddings.get([key], lambda _: [_on_the_host(make)])
        return _moved(embeddings, pipeline._execution_device)

    def load(self) -> Any:
        """Load the pipeline."""
        return load_pipeline(self.class_name(), self._model_settings)

    def loaded_with(self) -> dict[str, Any]:
        """What `load` depends on beside the model's settings, JSON: engines that agree on all share one pipeline."""
        return {}

    def _load_to_run(self) -> _Loaded:
        settings, pipeline = self._model_settings, self.load()
        ladder = MemoryLadder(
            pipeline_steps(pipeline, settings),
            device=settings.device,
            where=settings.weights,
            make_room=lambda: self._models.release_idle(settings.device),
        )
        return _Loaded(pipeline, ladder, threading.Lock())

    def load_with_autoencoder(self, autoencoder: str, precision: Precision) -> Any:
        """Load the pipeline with its autoencoder in a precision of its own.

        Args:
            autoencoder: its diffusers class.
            precision: of its weights and activations.
        """
        settings = self._model_settings
        if precision == settings.precision:
            return load_pipeline(self.class_name(), settings)
        # On the host, unplaced: the pipeline puts it where it puts its other parts.
        alone = settings.model_copy(
            update={
                "precision": precision,
                "device": "cpu",
                "offload": "none",
                "quantisation": "none",
                "attention": None,
                "compile": False,
                "vae_tiling": False,
                "vae_slicing": False,
            }
        )
        vae = load_model(autoencoder, alone, library="diffusers", subfolder="vae")
        return load_pipeline(self.class_name(), settings, vae=vae)


class VideoPipelineEngine(PipelineEngine):
    """A pipeline that makes clips in the latent space of its own autoencoder, which has a precision of its own.

    Attributes:
        settings: with `vae_precision`.
        autoencoder: the autoencoder's diffusers class.
    """

    settings: Any
    autoencoder: ClassVar[str]

    def load(self) -> Any:
        """The pipeline, with its autoencoder in the precision of its own."""
        return self.load_with_autoencoder(self.autoencoder, self.settings.vae_precision)

    def loaded_with(self) -> dict[str, Any]:
        """The autoencoder's precision."""
        return {"vae_precision": self.settings.vae_precision}

    @functools.cached_property
    def latent_space(self) -> LatentSpace:
        """Of the latents that the model works in, from its autoencoder's files."""
        from .latent_codec import latent_space

        return latent_space(self.settings.weights, revision=self.settings.revision)


def _on_the_host(make: Callable[[], Any]) -> Any:
    import torch

    with torch.no_grad():
        return _moved(make(), "cpu")


def _moved(embeddings: Any, device: Any) -> Any:
    if isinstance(embeddings, tuple):
        return tuple(part.to(device) for part in embeddings)
    return embeddings.to(device)


def seeded(seed: int) -> Any:
    """A generator on the host, so that one seed gives one noise whatever the device. Raises ConfigError below 0."""
    import torch

    if not 0 <= seed < _SEED_LIMIT:
        raise ConfigError(f"seed {seed}", where="seed", remedy="Give a seed of at least 0 and below 2**63.")
    return torch.Generator("cpu").manual_seed(seed)


def chunk_seeds(seed: int, count: int) -> list[int]:
    """A seed a chunk of a clip: the first is the clip's own, the others follow from it."""
    drawn = [np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] for index in range(1, count)]
    return [seed, *(int(value) % _SEED_LIMIT for value in drawn)]


@dataclass(frozen=True, slots=True)
class Made:
    """What a pipeline gave.

    Attributes:
        frames: (T, H, W, 3) uint8 sRGB, rounded to the nearest level; 0 where a value was not finite.
        not_finite: values that were not.
        latents: (C, t, h, w) float16, where the engine gives any and float16 can hold them.
        notes: how it was made, JSON.
        memory: what was done for it to fit into memory, JSON.
    """

    frames: NDArray[np.uint8]
    not_finite: int
    latents: NDArray[np.float16] | None
    notes: dict[str, Any]
    memory: dict[str, Any]

    @classmethod
    def of(cls, video: Any, latents: Any, notes: dict[str, Any], *, memory: dict[str, Any]) -> Made:
        """Take a pipeline's tensors to the host.

        Args:
            video: (T, 3, H, W), 0..1, of any float type.
            latents: (1, C, t, h, w), or None.
            notes, memory: as they are.
        """
        import torch

        frames = np.empty((video.shape[0], *video.shape[2:], 3), np.uint8)
        not_finite = 0
        for index, frame in enumerate(video):
            values = frame.float()
            not_finite += values.numel() - int(torch.isfinite(values).sum())
            levels = values.nan_to_num(0, 0, 0).mul_(255).round_().clamp_(0, 255).to(torch.uint8)
            frames[index] = levels.permute(1, 2, 0).cpu().numpy()
        return cls(frames, not_finite, None if latents is None else latents_of(latents), notes, memory)

    def fault(self) -> Fault | None:
        """What is wrong with it: values that are not finite, black or flat frames."""
        if self.not_finite:
            found = f"{self.not_finite} of {self.frames.size} values are NaN or infinite"
            return Fault("not_finite", found)
        return frames_fault(self.frames)


def make_checked(make: Callable[[int], Made], *, seed: int, where: str) -> CheckedOutput[Made]:
    """Make something; where it is broken, once more from another seed.

    Raises:
        StageFailed: the second is broken too.
    """
    return checked_output(make, seed=seed, fault_of=Made.fault, where=where)


def latents_of(latents: Any) -> NDArray[np.float16] | None:
    """(C, t, h, w) float16 of a (1, C, t, h, w) tensor; None where float16 cannot hold them."""
    with np.errstate(over="ignore"):
        stored = latents[0].float().cpu().numpy().astype(np.float16)
    return stored if np.isfinite(stored).all() else None


class Window:
    """Frames that a video model makes at once: what the settings say, and fewer for good once memory has run out.

    Args:
        frames: 1 + stride·k.
        stride: the autoencoder's temporal stride.
        least: never fewer than this; `frames` where no fewer may be made.
        device: whose memory it is.
        where: the model's name, for errors.

    Attributes:
        frames: at present.
    """

    def __init__(self, frames: int, *, stride: int, least: int, device: str, where: str) -> None:
        self.frames = frames
        halves = _halves(frames, stride, least)
        self._ladder = MemoryLadder(steps_to("window_frames", halves, self._set), device=device, where=where)

    def run(self, work: Callable[[int], _Output]) -> _Output:
        """Do the work with the present number of frames; where memory runs out all the same, again with half of them.

        Raises:
            StageFailed: memory ran out with the fewest frames (reason out_of_memory).
        """
        if not self._ladder.steps:
            return work(self.frames)
        return self._ladder.run(lambda: work(self.frames)).output

    def _set(self, frames: int) -> None:
        self.frames = frames


def _halves(frames: int, stride: int, least: int) -> list[int]:
    halves: list[int] = []
    while least <= (half := frames // (2 * stride) * stride + 1) < frames:
        halves.append(half)
        frames = half
    return halves


def require_size(height: int, width: int, multiple: int, *, where: str) -> None:
    """Refuse frame sides that a model cannot take: pipelines would resize the picture without a word.

    Raises:
        ConfigError: a side is not a multiple.
    """
    for name, side in (("height", height), ("width", width)):
        if side < multiple or side % multiple:
            below = max(side // multiple, 1) * multiple
            raise ConfigError(
                f"a {name} of {side} pixels, which the model cannot take: it needs multiples of {multiple}",
                where=where,
                remedy=f"Set frames.{name} to {below} or {below + multiple}.",
            )


def picture_of(frame: NDArray[np.uint8]) -> Any:
    """A frame as a Pillow image, as pipelines take it."""
    from PIL import Image

    return Image.fromarray(frame)


def pictures_of(frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> list[Any]:
    """Frames as Pillow images."""
    return [picture_of(frame) for frame in frames]


def require_view_size(cameras: Sequence[Camera], view: View, *, where: str) -> None:
    """Refuse cameras whose pictures are not of the view's size, which pipelines would scale and crop to fit.

    Raises:
        EngineError: there are none, or a size is another.
    """
    size = view.picture.shape[:2]
    sizes = {(camera.height, camera.width) for camera in cameras}
    if sizes != {size}:
        found = ", ".join(f"{height} × {width}" for height, width in sorted(sizes)) or "no cameras"
        raise EngineError(
            f"cameras of {found} for a view of {size[0]} × {size[1]}",
            where=where,
            remedy="Make the conditioning view again, at the clips' size.",
        )
