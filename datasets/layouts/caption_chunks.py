"""Lyra-2's pickled captions with text embeddings: written the same every time, read without running what they name."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError, InputError
from .safe_pickles import Allowed, UnsafePickleError, load_allowed

CHUNK_FRAMES = 80
TOKENS, WIDTH = 512, 4096
"""Most tokens, and numbers a token, of the embedding that Lyra-2 pads to."""

_END = "</s>"
_PROTOCOL = 4


def hashed_captions(captions: Sequence[str]) -> list[NDArray[np.float32]]:
    """`hashed_words` of each caption."""
    return [hashed_words(caption) for caption in captions]


def hashed_words(caption: str) -> NDArray[np.float32]:
    """Stand-in for UMT5-XXL: a fixed standard normal vector of 4096 numbers for each word and for the end of the text.

    Each vector is drawn from PCG64 seeded with the SHA-256 of the lower-case word, so equal words have equal vectors in
    every process. It carries which words there are and their order, nothing of their meaning.
    """
    words = [*caption.lower().split()[: TOKENS - 1], _END]
    return np.stack([_vector(word) for word in words])


def _vector(word: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest(), "big")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(WIDTH, np.float32)


def chunk_starts(frames: int) -> range:
    """First frame of every chunk of a clip."""
    return range(0, frames, CHUNK_FRAMES)


def encode_chunks(frames: int, captions: Sequence[tuple[str, NDArray[np.float32]]]) -> bytes:
    """Pickle of {start: {frame_range (start, stop), caption, embedding}} for every 80 frames of a clip.

    `stop` is exclusive; `embedding` is a bfloat16 tensor (tokens, 4096). Equal arguments give equal bytes.

    Args:
        captions: text and embedding of each chunk, in order.

    Raises:
        InputError: an embedding is not (1 … 512, 4096), or not finite.
    """
    tensors = {caption: _tensor(caption, embedding) for caption, embedding in dict(captions).items()}
    chunks = {
        start: {
            "frame_range": (start, min(start + CHUNK_FRAMES, frames)),
            "caption": caption,
            "embedding": tensors[caption],
        }
        for start, (caption, _) in zip(chunk_starts(frames), captions, strict=True)
    }
    buffer = io.BytesIO()
    _Pickler(buffer, _PROTOCOL).dump(chunks)
    return buffer.getvalue()


def _tensor(caption: str, embedding: NDArray[np.float32]) -> Any:
    import torch

    if embedding.ndim != 2 or not 1 <= len(embedding) <= TOKENS or embedding.shape[1] != WIDTH:
        raise InputError(
            f"the text encoder gives {embedding.shape}",
            where=f"caption {caption[:40]!r}",
            remedy=f"It has to give (1 … {TOKENS}, {WIDTH}), without a batch axis and without padding.",
        )
    if not np.isfinite(embedding).all():
        raise InputError(
            "the text encoder gives values that are not finite",
            where=f"caption {caption[:40]!r}",
            remedy="Run it in float32 or bfloat16.",
        )
    return torch.from_numpy(np.array(embedding, np.float32)).to(torch.bfloat16)


class _Pickler(pickle.Pickler):
    """Pickles tensors by torch.save's bytes: a tensor's own reduction holds a memory address, so it never repeats."""

    def reducer_override(self, obj: Any) -> Any:
        import torch
        from torch.storage import _load_from_bytes  # what a tensor's own reduction names too

        if not isinstance(obj, torch.Tensor):
            return NotImplemented
        saved = io.BytesIO()
        torch.save(obj, saved)
        return _load_from_bytes, (saved.getvalue(),)


def _load_tensor(content: bytes) -> Any:
    import torch

    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # PyTorch itself passes over the checksums, and gives damaged numbers.
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} has another checksum")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _allowed() -> Allowed:
    from torch._utils import _rebuild_tensor_v2

    return {
        ("torch.storage", "_load_from_bytes"): _load_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
        ("collections", "OrderedDict"): OrderedDict,
    }


def decode_chunks(content: bytes, where: str) -> Any:
    """What a file of captions holds; nothing that it names is run but the making of tensors.

    Raises:
        UnsafePickleError: it names other code.
        CorruptFileError: it does not unpickle.
    """
    try:
        return load_allowed(io.BytesIO(content), _allowed(), where)
    except UnsafePickleError:
        raise
    except Exception as error:
        # A damaged pickle raises whatever its instructions happen to do to the values on its stack.
        first = str(error).strip().partition("\n")[0]
        raise CorruptFileError(
            f"it does not unpickle ({type(error).__name__}: {first})", where=where, remedy="Make the clip again."
        ) from error
