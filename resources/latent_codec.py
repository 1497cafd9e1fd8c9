"""Video latents: frames in, normalised latents of a causal Cosmos autoencoder out, and back, a few frames at a time."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, EngineError
from ..datasets.files import sha256_of_file
from ..datasets.latent_spaces import LatentSpace

if TYPE_CHECKING:
    from .cosmos_streaming import CosmosNetwork

UInt8 = NDArray[np.uint8]
Float16 = NDArray[np.float16]

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
LATENT_SPACE_FILE = "latent_space.json"
UNKNOWN_LICENCE = "unknown"


class LatentCodec:
    """A trained `AutoencoderKLCosmos` with the latent space that it gives.

    Frames pass through in groups as long as the temporal stride, with the numbers of one pass over the whole clip, so
    memory does not grow with a clip's length. One codec may be shared by any number of threads.
    """

    def __init__(self, network: CosmosNetwork, space: LatentSpace) -> None:
        self._network = network
        self.space = space
        parameter = next(network.model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype

    @classmethod
    def load(
        cls, weights: str | Path, *, device: str = "cpu", dtype: str = "float32", revision: str | None = None
    ) -> LatentCodec:
        """Loads a codec from files on this machine; nothing is fetched.

        Args:
            weights: id of shipped weights, a folder as `save_pretrained` writes it, or a hub id whose files are in the
                local hub cache. A pipeline's folder works too: its `vae` is taken.
            device: "cpu", "cuda" or "cuda:N".
            dtype: "float32", "bfloat16" or "float16", of weights and activations.
            revision: of a hub id.

        Raises:
            EngineError: files are missing, unreadable or of another model class, or the device cannot be used.
        """
        import torch

        from .cosmos_streaming import CosmosNetwork

        folder = weights_folder(weights, revision=revision)
        space = latent_space(weights, revision=revision)
        network = CosmosNetwork(_read_model(folder))
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
            frames: (T, H, W, 3) uint8 sRGB, or T frames (H, W, 3) one after the other; T = 1 + 8k, H and W
                multiples of 16.

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
        """Decodes as `decode`, one latent frame at a time: 1 frame first, then 8 a group."""
        import torch

        raw = torch.from_numpy(self.space.denormalise(latents))
        history: dict[Any, Any] = {}
        for index in range(raw.shape[1]):
            with torch.inference_mode():
                latent = raw[None, None, :, index].to(self._device, self._dtype)
                frames = self._network.decode(latent, history)[:, 0].float()
                yield frames.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()

    def _groups(self, frames: Iterable[UInt8]) -> Iterator[UInt8]:
        """The first frame, then groups as long as the temporal stride."""
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
        EngineError: there is no such folder here, or it lacks the files.
    """
    shipped, given = SHIPPED_WEIGHTS / str(weights), Path(weights)
    folder = next((path for path in (shipped, given) if path.is_dir()), None) or _hub_snapshot(str(weights), revision)
    if not (folder / "config.json").exists() and (folder / "vae" / "config.json").exists():
        folder = folder / "vae"
    if not (folder / "config.json").exists() or not _weight_files(folder):
        raise EngineError(
            "config.json or *.safetensors is missing",
            where=str(folder),
            remedy="Give a folder as save_pretrained writes it, or download the whole model",
        )
    return folder


def weights_digest(weights: str | Path, *, revision: str | None = None) -> str:
    """ "sha256:…" of the safetensors file, or of the digests of several in the order of their names.

    Raises:
        EngineError: as `weights_folder`.
    """
    digests = [sha256_of_file(path) for path in _weight_files(weights_folder(weights, revision=revision))]
    joined = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"sha256:{joined}"


def weights_licence(weights: str | Path, *, revision: str | None = None) -> str:
    """The licence that the model's card (README.md) names, or "unknown".

    Raises:
        EngineError: as `weights_folder`.
    """
    folder = weights_folder(weights, revision=revision)
    for card in (folder / "README.md", folder.parent / "README.md"):
        found = re.search(r"^license(?:_name)?:\s*(?!other\b)(\S.*)$", _front_matter(card), flags=re.MULTILINE)
        if found:
            return found[1].strip()
    return UNKNOWN_LICENCE


def latent_space(weights: str | Path, *, revision: str | None = None) -> LatentSpace:
    """The latent space that a model's files declare; the model is not loaded.

    A `latent_space.json` beside the weights decides. Without one, mean and std are the model configuration's, and the
    scale is the `sigma_data` of the scheduler of the pipeline that the model is part of (Cosmos: 0.5), or 1.

    Raises:
        EngineError: as `weights_folder`, the model is of another class, or the declared space of other weights.
        ConfigError: the declared values cannot be a latent space.
    """
    folder = weights_folder(weights, revision=revision)
    digest = weights_digest(weights, revision=revision)
    declared = folder / LATENT_SPACE_FILE
    if declared.exists():
        space = LatentSpace.from_json(json.loads(declared.read_text()), where=str(declared))
        if space.weights_digest != digest:
            raise EngineError(
                f"the latent space is of weights {space.weights_digest}, these are {digest}",
                where=str(declared),
                remedy="Put the weights back, or write latent_space.json for these",
            )
        return space
    config = _read_config(folder)
    channels = config["latent_channels"]
    return LatentSpace(
        id=_space_id(weights, revision),
        channels=channels,
        mean=_table(config["latents_mean"], channels, missing=0),
        std=_table(config["latents_std"], channels, missing=1),
        scale=_scheduler_scale(folder),
        temporal_stride=config["temporal_compression_ratio"],
        spatial_stride=config["spatial_compression_ratio"],
        weights_digest=digest,
        licence=weights_licence(weights, revision=revision),
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
    if folder.name != "vae" or not scheduler.exists():
        return 1.0
    return float(json.loads(scheduler.read_text()).get("sigma_data", 1.0))


def _front_matter(card: Path) -> str:
    if not card.exists():
        return ""
    parts = card.read_text(encoding="utf-8").split("---\n", 2)
    return parts[1] if len(parts) == 3 and not parts[0].strip() else ""


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _hub_snapshot(weights: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(weights, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, FileNotFoundError) as error:
        shipped = ", ".join(sorted(path.name for path in SHIPPED_WEIGHTS.iterdir())) if SHIPPED_WEIGHTS.is_dir() else ""
        option = f" --revision {revision}" if revision else ""
        raise EngineError(
            f"no folder, shipped weights ({shipped or 'none'}) or local hub files of this name",
            where=f"latent codec {weights!r}",
            remedy=f"Give an existing folder, or download a hub model first: hf download {weights}{option}",
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    kind = config.get("_class_name")
    if kind != "AutoencoderKLCosmos":
        raise EngineError(
            f"the model is of class {kind}", where=str(folder / "config.json"), remedy="Give an AutoencoderKLCosmos"
        )
    return config


def _read_model(folder: Path) -> Any:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

    try:
        # Without low_cpu_mem_usage=False diffusers warns where accelerate is not installed.
        model = AutoencoderKLCosmos.from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(str(error), where=str(folder), remedy="Download or write the model again") from error
    return model.eval().requires_grad_(False)
