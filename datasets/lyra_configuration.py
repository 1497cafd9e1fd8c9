"""What Lyra-1 trains on in each of its nine stages, and what it draws for one sample.

The stages are `configs/training/*.yaml` of nv-tlabs/lyra, in the order in which train.sh runs them. All randomness
comes from one generator a sample, so that the same (seed, epoch, index) gives the same views and frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, InputError

Int64 = NDArray[np.int64]

LATE_FRAMES = 3.0
"""Exponential frame sampling weighs a frame at place p (0 first, 1 last) with exp(3 p): late frames are far ones."""


@dataclass(frozen=True, slots=True)
class LyraConfiguration:
    """One training configuration; names in brackets are those of Lyra's YAML files.

    Attributes:
        image_size: height and width of the pictures in pixels [img_size].
        input_frames: frames of each input view [num_input_views].
        targets: pictures to be predicted: frames of each view when static, views at one time when dynamic
            [num_views - num_input_views].
        input_views: most input views of a sample; their number is drawn from 1 to this [num_input_multi_views].
        latents: inputs are latents, not pictures [load_latents].
        dynamic: all views show one time, out of the input views and their motion-reversed counterparts.
        view_sampling: any views, or views of distinct buckets [static_view_indices_sampling].
        frame_sampling: how the targets of static samples are drawn [static_frame_sampling].
        window: least and most frames from the first to the last input frame in longer clips [min_gap, max_gap].

    Raises:
        ConfigError: a count below its least, or inputs that Lyra cannot take: several views of pictures, pictures of a
            dynamic sample.
    """

    image_size: tuple[int, int] = (704, 1280)
    input_frames: int = 121
    targets: int = 9
    input_views: int = 1
    latents: bool = True
    dynamic: bool = False
    view_sampling: Literal["random", "random_bucket"] = "random"
    frame_sampling: Literal["uniform", "exponential"] = "uniform"
    window: tuple[int, int] = (45, 121)

    def __post_init__(self) -> None:
        least = {"input_frames": 2, "targets": 1, "input_views": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                _refuse(f"{name} is {getattr(self, name)}", f"Give at least {smallest}.")
        if min(self.image_size) < 1:
            _refuse(f"image_size is {self.image_size}", "Give height and width in pixels.")
        if not 1 <= self.window[0] <= self.window[1]:
            _refuse(f"window is {self.window}", "Give the least and the most frames, at least 1.")
        if not self.latents and (self.input_views > 1 or self.dynamic):
            _refuse("pictures of several input views, or of a dynamic sample", "Use latents as input.")

    def adapted(self, frames: int, height: int, width: int) -> LyraConfiguration:
        """The same configuration for shorter or smaller clips: their whole length as input, their size as image size.

        Args:
            frames, height, width: of the clips; no side grows beyond the configuration's own.
        """
        return replace(
            self,
            image_size=(min(self.image_size[0], height), min(self.image_size[1], width)),
            input_frames=min(self.input_frames, frames),
            targets=self.targets if self.dynamic else min(self.targets, frames),
        )


def _refuse(found: str, remedy: str) -> None:
    raise ConfigError(found, where="Lyra configuration", remedy=remedy)


_LATENTS_OF_SIX = LyraConfiguration(input_views=6, view_sampling="random_bucket", frame_sampling="exponential")
_DYNAMIC = replace(_LATENTS_OF_SIX, targets=12, dynamic=True)

LYRA_STAGES = MappingProxyType(
    {
        1: LyraConfiguration((176, 320), input_frames=17, targets=17, latents=False),
        2: LyraConfiguration((176, 320), input_frames=49, targets=49, latents=False),
        3: LyraConfiguration((352, 640), input_frames=49, targets=49, latents=False),
        4: LyraConfiguration((704, 1280), input_frames=49, targets=49, latents=False),
        5: LyraConfiguration(),
        6: _LATENTS_OF_SIX,
        7: _LATENTS_OF_SIX,
        8: _DYNAMIC,
        9: _DYNAMIC,
    }
)
"""Lyra-1's training stages. 7 and 9 are 6 and 8 with pruning, which is none of the data's business."""


@dataclass(frozen=True, slots=True)
class LyraDraw:
    """What was drawn for one sample.

    Attributes:
        input_views: V views, in the order drawn.
        input_frames: (V, input frames) int64, each row ascending (or mirrored).
        target_views: views of the targets, one after the other: the input views when static.
        target_frames: frames of every target view, unsorted; one when dynamic.
    """

    input_views: tuple[str, ...]
    input_frames: Int64
    target_views: tuple[str, ...]
    target_frames: Int64


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one sample's draws."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, index])))


def draw_static(
    configuration: LyraConfiguration, frames: int, buckets: Sequence[Sequence[str]], rng: np.random.Generator
) -> LyraDraw:
    """Views and frames of a static sample from clips of `frames` frames.

    A clip of exactly the input length gives all its frames, a longer one a window of it, a shorter one goes back and
    forth. Targets are places of the window (of the inputs, where there is none) without replacement.

    Raises:
        InputError: a clip of one frame, or more targets than frames.
    """
    views = _draw_views(configuration, buckets, rng)
    if frames > configuration.input_frames:
        first, last = _draw_window(configuration, frames, rng)
        rows = [_between(configuration, first, last, rng) for _ in views]
        candidates = np.arange(first, last + 1)
    else:
        rows = [_back_and_forth(configuration.input_frames, frames, rng) for _ in views]
        candidates = rows[0]
    targets = _choose(candidates, configuration, rng)
    return LyraDraw(views, np.stack(rows), views, targets)


def draw_dynamic(
    configuration: LyraConfiguration,
    frames: int,
    views: Sequence[str],
    reversed_views: Sequence[str],
    rng: np.random.Generator,
) -> LyraDraw:
    """Views and frames of a dynamic sample: the same input frames of every view, targets of all views at one time.

    Raises:
        InputError: a clip of one frame.
    """
    inputs = _some(views, _view_count(configuration, len(views), rng), rng)
    if frames > configuration.input_frames:
        row = _between(configuration, *_draw_window(configuration, frames, rng), rng)
    else:
        row = _back_and_forth(configuration.input_frames, frames, None)
    supervision = [*views, *reversed_views]
    # Lyra repeats views where there are more targets than views, and takes some of them where there are fewer.
    filled = max(configuration.targets, len(supervision))
    places = rng.permutation(np.arange(filled) % len(supervision))[: configuration.targets]
    targets = tuple(supervision[int(place)] for place in places)
    return LyraDraw(inputs, np.tile(row, (len(inputs), 1)), targets, rng.choice(row, 1))


def _view_count(configuration: LyraConfiguration, available: int, rng: np.random.Generator) -> int:
    return min(int(rng.integers(1, configuration.input_views + 1)), available)


def _some(views: Sequence[str], count: int, rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(views[int(place)] for place in rng.permutation(len(views))[:count])


def _draw_views(
    configuration: LyraConfiguration, buckets: Sequence[Sequence[str]], rng: np.random.Generator
) -> tuple[str, ...]:
    views = [view for bucket in buckets for view in bucket]
    count = _view_count(configuration, len(views), rng)
    if configuration.view_sampling == "random":
        return _some(views, count, rng)
    # Only the number of views bounds Lyra's draw: with fewer buckets than that it takes some of them again.
    chosen = rng.permutation(np.arange(max(count, len(buckets))) % len(buckets))[:count]
    return tuple(buckets[int(place)][int(rng.integers(len(buckets[int(place)])))] for place in chosen)


def _draw_window(configuration: LyraConfiguration, frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """First and last frame of the window; never fewer frames than are put in."""
    least, most = configuration.window
    gap = max(min(frames - 1, int(rng.integers(least, most + 1))), configuration.input_frames)
    first = int(rng.integers(0, frames - gap))
    return first, first + gap


def _between(configuration: LyraConfiguration, first: int, last: int, rng: np.random.Generator) -> Int64:
    inside = np.sort(rng.permutation(np.arange(first + 1, last))[: configuration.input_frames - 2])
    return np.array([first, *inside, last], np.int64)


def _back_and_forth(count: int, frames: int, rng: np.random.Generator | None) -> Int64:
    """`count` successive frames of a clip played forwards and backwards; from its beginning without a generator."""
    if frames < 2:
        raise InputError(
            f"a clip of {frames} frame", where="Lyra sample", remedy="Leave clips of fewer than 2 frames out."
        )
    turns = max((count - frames) // (frames - 1), 0) + 1
    length = frames + turns * (frames - 1)
    start = 0 if rng is None or count == frames else int(rng.integers(0, length - count + 1))
    places = np.arange(start, start + count) % (2 * (frames - 1))
    return np.where(places < frames, places, 2 * (frames - 1) - places).astype(np.int64)


def _choose(candidates: Int64, configuration: LyraConfiguration, rng: np.random.Generator) -> Int64:
    if configuration.targets > len(candidates):
        raise InputError(
            f"{configuration.targets} targets from {len(candidates)} frames",
            where="Lyra sample",
            remedy="Ask for fewer targets, or for a longer window.",
        )
    weights = None
    if configuration.frame_sampling == "exponential":
        weights = np.exp(LATE_FRAMES * np.linspace(0.0, 1.0, len(candidates)))
        weights /= weights.sum()
    return rng.choice(candidates, configuration.targets, replace=False, p=weights)
