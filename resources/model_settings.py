"""How a library model is loaded and run, as a profile says it: where its weights lie, and how it shares the device."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .profile_sections import Device, LocationText, Section, refusal
from .quantities import Memory

Precision = Literal["float32", "bfloat16", "float16"]
Offload = Literal["none", "model", "sequential"]
Quantisation = Literal["none", "bitsandbytes_8bit", "bitsandbytes_4bit", "torchao_int8", "torchao_float8"]


class WeightsSettings(Section):
    """Where a model's weights lie: a hub id whose files are on this machine, or a folder."""

    id: str | None = None
    """Hub id; its files must already be in the local hub cache."""
    path: LocationText | None = None
    """Folder as written by save_pretrained."""
    revision: str | None = None
    """Revision (commit, tag or branch) of the hub id; name a commit to make runs repeatable."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.id is None) == (self.path is None):
            found = "neither id nor path is given" if self.id is None else "both id and path are given"
            raise refusal(found, "Give one of the two.")
        if self.revision is not None and self.id is None:
            raise refusal("a revision without an id", "A revision belongs to a hub id; remove it, or give the id.")
        return self

    @property
    def weights(self) -> str:
        """The path or id to load from."""
        return self.path or self.id or ""


class ModelSettings(WeightsSettings):
    """A model of diffusers or transformers, and how it is run."""

    licence: str | None = None
    """Licence of the weights; null: that of the model's card."""
    device: Device = "cpu"
    """cpu, cuda or cuda:N."""
    precision: Precision = "bfloat16"
    """Of weights and activations."""
    attention: str | None = None
    """Attention by the library's own name: of diffusers (native, flash, sage) for pipelines and autoencoders, of
    transformers (sdpa, eager, flash_attention_2) for its models; null: the library's choice."""
    offload: Offload = "none"
    """model: each part is on the device while it works; sequential: each layer."""
    vae_tiling: bool = False
    """Decode and encode pictures in tiles."""
    vae_slicing: bool = False
    """Decode and encode batches one by one."""
    compile: bool = False
    """torch.compile of the denoiser."""
    quantisation: Quantisation = "none"
    """Weights in fewer bits; the library named must be installed."""
    device_memory: Annotated[Memory, Field(gt=0)] | None = None
    """What the model takes on its device while it works; null: the size of its weights."""
