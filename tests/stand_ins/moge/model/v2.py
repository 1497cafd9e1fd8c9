"""MoGe's model class of version 2."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import torch

from .plane import answer, require_known


class MoGeModel(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale_head = torch.nn.Linear(1, 1)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | IO[bytes],
        model_kwargs: dict[str, Any] | None = None,
        **hf_kwargs: Any,
    ) -> MoGeModel:
        require_known(str(pretrained_model_name_or_path), hf_kwargs)
        return cls()

    @torch.inference_mode()
    def infer(
        self,
        image: torch.Tensor,
        num_tokens: int | None = None,
        resolution_level: int = 9,
        force_projection: bool = True,
        apply_mask: bool | str = True,
        fov_x: float | torch.Tensor | None = None,
        use_fp16: bool = True,
    ) -> dict[str, torch.Tensor]:
        assert apply_mask is True
        assert force_projection
        return answer(image, fov_x, 3.0)
