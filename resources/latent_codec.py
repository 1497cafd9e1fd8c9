"""Video latents: frames in, normalised latents of a video autoencoder out, and back.

One codec class serves every architecture; a `CodecNetwork` per architecture runs the diffusers model: Cosmos and Wan,
which are causal, a few frames at a time, and LTX-2 over the whole clip.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, EngineError
from ..datasets.latent_spaces import LatentSpace
from .loading_lock import LOADING
from .model_files import (
    MODEL_CONFIG,
    UNKNOWN_LICENCE,
    card_licence,
    download_command,
    file_digest,
    hub_folder,
    read_json,
    require_complete,
)

UInt8 = NDArray[np.uint8]
Float16 = NDArray[np.float16]

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
LATENT_SPACE_FILE = "latent_space.json"
PIPELINE_PART = "vae"
"""Name of a pipeline's part that is its autoencoder."""


class CodecNetwork(Protocol):
    """Encoder and decoder of one autoencoder architecture.

    Attributes:
        model: the diffusers model.
        streams: whether a pass may be cut into the first frame and groups as long as the temporal stride, with the
            numbers of one pass over the whole clip; else every pass is one call.
    """

    model: Any
    streams: bool

    def encode(self, frames: Any, history: dict[Any, Any]) -> Any:
        """(T, B, H, W, 3) tensor in -1..1 to (t, B, C, h, w) latents, not normalised; `history` is the pass's own."""
        ...

    def decode(self, latents: Any, history: dict[Any, Any]) -> Any:
        """(t, B, C, h, w) latents to (T, B, H, W, 3) frames, about -1..1."""
        ...


class LatentCodec:
    """A trained video autoencoder with the latent space that it gives.

    Where the architecture allows it, frames pass through in groups as long as the temporal stride, with the numbers of
    one pass over the whole clip, so that memory does not grow with a clip's length. One codec may be shared by any
    number of threads.
    """

    def __init__(self, network: CodecNetwork, space: LatentSpace) -> None:
        self._network = network
        self.space = space
        parameter = next(network.model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        revision: str | None = None,
        tiling: bool = False,
    ) -> LatentCodec:
        """Loads a codec from files on this machine; nothing is fetched.

        Args:
            weights: id of shipped weights, a folder as `save_pretrained` writes it, or a hub id whose files are in the
                local hub cache. A pipeline's folder works too: its `vae` is taken.
            device: "cpu", "cuda" or "cuda:N".
            dtype: "float32", "bfloat16" or "float16", of weights and activations.
            revision: of a hub id.
            tiling: work through large frames in blended tiles; only for an architecture that takes a clip as a whole.

        Raises:
            EngineError: files are missing, unreadable or of another model class, the device cannot be used, or tiling
                is asked of an architecture that has no use for it.
        """
        import torch

        folder = weights_folder(weights, revision=revision)
        space = latent_space(weights, revision=revision)
        network = ARCHITECTURES[architecture_of(folder)].network(_read_model(folder))
        if tiling:
            _use_tiles(network, folder)
        try:
            # ModelMixin.to warns of layers that this model lacks.
            torch.nn.Module.to(network.model, device=torch.device(device), dtype=getattr(torch, dtype))
        except (RuntimeError, AssertionError) as error:
            raise EngineError(
                f"the device {device!r} cannot be used: {error}", where=str(weights), remedy="Choose the device cpu"
            ) from error
        return cls(network, space)

    def encode(self, frames: UInt8 | Iterable[UInt8]) -> Float16:
        """Encodes a clip.

        Args:
            frames: (T, H, W, 3) uint8 sRGB, or T frames (H, W, 3) one after the other; T = 1 + temporal stride · k,
                H and W multiples of 16 and of the spatial stride.

        Returns:
            (C, t, h, w) float16, normalised as `space` declares.

        Raises:
            ConfigError: a number of frames or a size that the codec cannot take.
            ContractError: frames of another shape or dtype, or of changing size.
            EngineError: the model gave values that float16 cannot hold.
        """
        if isinstance(frames, np.ndarray):
            self.space.latent_frames(len(frames))
        history: dict[Any, Any] = {}
        latents = [self._encode_group(group, history) for group in self._groups(frames)]
        stored = self.space.normalise(np.concatenate(latents, axis=1)).astype(np.float16)
        if not np.isfinite(stored).all():
            raise EngineError(
                "latents are not finite in float16",
                where=self.space.id,
                remedy="Check the weights and the normalisation",
            )
        return stored

    def decode(self, latents: NDArray[np.floating]) -> UInt8:
        """Decodes (C, t, h, w) normalised latents to (T, H, W, 3) uint8 sRGB.

        Raises:
            ContractError: latents of another shape.
        """
        return np.concatenate(list(self.decode_groups(latents)))

    def decode_groups(self, latents: NDArray[np.floating]) -> Iterator[UInt8]:
        """Decodes as `decode`, one latent frame at a time where the architecture allows it: 1 frame first, then a
        group as long as the temporal stride for each."""
        import torch

        raw = torch.from_numpy(self.space.denormalise(latents))
        history: dict[Any, Any] = {}
        for group in raw.split(1, dim=1) if self._network.streams else (raw,):
            with torch.inference_mode():
                latent = group.transpose(0, 1)[:, None].to(self._device, self._dtype)
                frames = self._network.decode(latent, history)[:, 0].float()
                yield frames.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()

    def round_trip(self, latents: NDArray[np.floating]) -> Float16:
        """Latents of the decoded latents: encode(decode(z)), which a perfect codec gives back as z."""
        return self.encode(self.decode(latents))

    def _groups(self, frames: Iterable[UInt8]) -> Iterator[UInt8]:
        """The first frame, then groups as long as the temporal stride; or the whole clip at once."""
        if not self._network.streams:
            yield self._whole_clip(frames)
            return
        remaining = iter(frames)
        size: tuple[int, ...] | None = None
        count = 0
        for length in itertools.chain([1], itertools.repeat(self.space.temporal_stride)):
            group = list(itertools.islice(remaining, length))
            count += len(group)
            if len(group) < length:
                self.space.latent_frames(count)  # refuses 0 frames and a last group that is not full
            if not group:
                return
            for frame in group:
                size = self._checked_size(frame, size)
            yield np.stack(group)

    def _whole_clip(self, frames: Iterable[UInt8]) -> UInt8:
        size: tuple[int, ...] | None = None
        clip = []
        for frame in frames:
            size = self._checked_size(frame, size)
            clip.append(frame)
        self.space.latent_frames(len(clip))
        return np.stack(clip)

    def _checked_size(self, frame: UInt8, size: tuple[int, ...] | None) -> tuple[int, ...]:
        good = frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8
        if not good or (size is not None and frame.shape != size):
            raise ContractError(
                f"a frame of shape {frame.shape} and dtype {frame.dtype}, expected {size or '(H, W, 3)'} uint8",
                where=f"latent codec {self.space.id}",
                remedy="Give every frame as RGB uint8 of one size",
            )
        if size is None:
            self.space.latent_shape(1, *frame.shape[:2])
        return frame.shape

    def _encode_group(self, group: UInt8, history: dict[Any, Any]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            frames = torch.from_numpy(group)[:, None].to(self._device, torch.float32).div_(127.5).sub_(1)
            latents = self._network.encode(frames.to(self._dtype), history)[:, 0]
            return latents.float().transpose(0, 1).cpu().numpy()


def weights_folder(weights: str | Path, *, revision: str | None = None) -> Path:
    """The folder on this machine that holds a model's config.json and safetensors.

    Args:
        weights: id of shipped weights, a folder, or a hub id.
        revision: of a hub id.

    Raises:
        EngineError: there is no such folder here, or it lacks files.
    """
    shipped, given = SHIPPED_WEIGHTS / str(weights), Path(weights)
    folder = next((path for path in (shipped, given) if path.is_dir()), None)
    download = None
    if folder is None:
        folder = _cached_folder(str(weights), revision)
        download = download_command(str(weights), revision)
    if not (folder / MODEL_CONFIG).exists() and (folder / PIPELINE_PART / MODEL_CONFIG).exists():
        folder = folder / PIPELINE_PART
    if not (folder / MODEL_CONFIG).exists() or not _weight_files(folder):
        raise EngineError(
            f"{MODEL_CONFIG} or *.safetensors is missing",
            where=str(folder),
            remedy=f"Download the rest: {download}" if download else "Give a folder as save_pretrained writes it",
        )
    require_complete(folder, None, download)
    return folder


def weights_digest(weights: str | Path, *, revision: str | None = None) -> str:
    """ "sha256:…" of the safetensors file, or of the digests of several in the order of their names.

    Raises:
        EngineError: as `weights_folder`.
    """
    digests = [file_digest(path) for path in _weight_files(weights_folder(weights, revision=revision))]
    joined = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"sha256:{joined}"


def weights_licence(weights: str | Path, *, revision: str | None = None) -> str:
    """The licence that the card (README.md) of the model, or of the pipeline that it is part of, names, or "unknown".

    Raises:
        EngineError: as `weights_folder`.
    """
    folder = weights_folder(weights, revision=revision)
    own = card_licence(folder)
    return card_licence(folder.parent) if own == UNKNOWN_LICENCE and folder.name == PIPELINE_PART else own


def latent_space(weights: str | Path, *, revision: str | None = None) -> LatentSpace:
    """The latent space that a model's files declare; the model is not loaded.

    A `latent_space.json` beside the weights decides. Without one, mean, std and scale are those that the architecture's
    pipelines normalise with: of Cosmos and Wan the configuration's (Cosmos: scaled by the `sigma_data` of the scheduler
    of the pipeline that the model is part of, 0.5, or 1), of LTX-2 buffers among the weights and `scaling_factor`.

    Raises:
        EngineError: as `weights_folder`, the model is of another class, or the declared space of other weights.
        ConfigError: the declared values cannot be a latent space.
    """
    folder = weights_folder(weights, revision=revision)
    digest = weights_digest(weights, revision=revision)
    declared = folder / LATENT_SPACE_FILE
    if declared.exists():
        space = LatentSpace.from_json(read_json(declared), where=str(declared))
        if space.weights_digest != digest:
            raise EngineError(
                f"the latent space is of weights {space.weights_digest}, these are {digest}",
                where=str(declared),
                remedy="Put the weights back, or write latent_space.json for these",
            )
        return space
    try:
        fields = ARCHITECTURES[architecture_of(folder)].space(read_json(folder / MODEL_CONFIG), folder)
    except KeyError as error:
        raise EngineError(
            f"the configuration has no {error}", where=str(folder / MODEL_CONFIG), remedy="Download the model again"
        ) from error
    return LatentSpace(
        id=_space_id(weights, revision),
        **fields,
        weights_digest=digest,
        licence=weights_licence(weights, revision=revision),
    )


def _cosmos_network(model: Any) -> CodecNetwork:
    from .cosmos_streaming import CosmosNetwork

    return CosmosNetwork(model)


def _cosmos_space(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Mean and std are those of the configuration; the scale is the scheduler's `sigma_data` (Cosmos: 0.5)."""
    channels = config["latent_channels"]
    return {
        "channels": channels,
        "mean": _table(config["latents_mean"], channels, missing=0),
        "std": _table(config["latents_std"], channels, missing=1),
        "scale": _scheduler_scale(folder),
        "temporal_stride": config["temporal_compression_ratio"],
        "spatial_stride": config["spatial_compression_ratio"],
    }


def _wan_network(model: Any) -> CodecNetwork:
    from .latent_codecs_wan import WanNetwork

    return WanNetwork(model)


def _wan_space(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    from .latent_codecs_wan import space_fields

    return space_fields(config)


def _ltx2_network(model: Any) -> CodecNetwork:
    from .latent_codecs_ltx2 import Ltx2Network

    return Ltx2Network(model)


def _ltx2_space(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    from .latent_codecs_ltx2 import space_fields

    return space_fields(config, folder)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of video autoencoder.

    Attributes:
        class_name: of diffusers, as the model's config.json names it.
        temporal_stride: that of its published weights; those of a folder are in its config.json.
        spatial_stride: likewise.
        network: runs a model of this kind.
        space: the fields of the latent space, of config.json and the folder that it lies in.
    """

    class_name: str
    temporal_stride: int
    spatial_stride: int
    network: Callable[[Any], CodecNetwork]
    space: Callable[[dict[str, Any], Path], dict[str, Any]]


ARCHITECTURES: dict[str, Architecture] = {
    "cosmos": Architecture("AutoencoderKLCosmos", 8, 8, _cosmos_network, _cosmos_space),
    "wan": Architecture("AutoencoderKLWan", 4, 8, _wan_network, _wan_space),
    "ltx2": Architecture("AutoencoderKLLTX2Video", 8, 32, _ltx2_network, _ltx2_space),
}
"""The architectures that latents can come from. Wan 2.2's 5B weights have a spatial stride of 16."""


def architecture_of(folder: Path) -> str:
    """Which of `ARCHITECTURES` a folder's config.json names.

    Raises:
        EngineError: none that is known.
    """
    kind = read_json(folder / MODEL_CONFIG).get("_class_name")
    for name, architecture in ARCHITECTURES.items():
        if architecture.class_name == kind:
            return name
    known = ", ".join(architecture.class_name for architecture in ARCHITECTURES.values())
    raise EngineError(
        f"the model is of class {kind}", where=str(folder / MODEL_CONFIG), remedy=f"Give one of these: {known}"
    )


def _table(values: list[float] | None, channels: int, *, missing: float) -> NDArray[np.float32]:
    """(C, t) from the configuration's flat, channel-major list; a model without one is not normalised."""
    flat = np.full(channels, missing) if values is None else np.array(values)
    return flat.reshape(channels, -1).astype(np.float32)


def _space_id(weights: str | Path, revision: str | None) -> str:
    name = Path(weights).name if Path(weights).is_dir() else str(weights)
    return f"{name}@{revision}" if revision else name


def _scheduler_scale(folder: Path) -> float:
    scheduler = folder.parent / "scheduler" / "scheduler_config.json"
    if folder.name != PIPELINE_PART or not scheduler.exists():
        return 1.0
    return float(read_json(scheduler).get("sigma_data", 1.0))


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _cached_folder(weights: str, revision: str | None) -> Path:
    """Where the local hub cache has the files of a hub id, written owner/name."""
    if len(weights.split("/")) != 2:
        shipped = ", ".join(sorted(path.name for path in SHIPPED_WEIGHTS.iterdir())) if SHIPPED_WEIGHTS.is_dir() else ""
        raise EngineError(
            f"no folder and no shipped weights ({shipped or 'none'}) of this name",
            where=f"latent codec {weights!r}",
            remedy="Give an existing folder, the id of shipped weights, or a hub id (owner/name)",
        )
    return hub_folder(weights, revision).path


def _read_model(folder: Path) -> Any:
    import diffusers
    import torch

    model_class = getattr(diffusers, ARCHITECTURES[architecture_of(folder)].class_name)
    try:
        # Without low_cpu_mem_usage=False diffusers warns where accelerate is not installed.
        with LOADING:
            model = model_class.from_pretrained(
                folder, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(str(error), where=str(folder), remedy="Download or write the model again") from error
    return model.eval().requires_grad_(False)


def _use_tiles(network: CodecNetwork, folder: Path) -> None:
    if network.streams:
        raise EngineError(
            f"tiling is asked for, and {type(network.model).__name__} works through a clip a few frames at a time",
            where=str(folder),
            remedy="Remove tiling: its memory does not grow with the clip",
        )
    network.model.enable_tiling()
    # Time too is cut into tiles: the whole clip at once is what fills the memory.
    network.model.use_framewise_encoding = network.model.use_framewise_decoding = True
