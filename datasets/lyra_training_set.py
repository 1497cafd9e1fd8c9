"""Lyra-1's training samples, read from training shards: the dictionary that Lyra's own Provider gives.

The keys, with V input views of F input frames, N targets in all (V times the targets of a static sample) of h × w
pixels, in float32 where nothing else is said:

    images_output           (N, 3, h, w)         targets, 0 to 1; view after view
    depths_output           (N, 1, h, w)         their z-depth, 0 = invalid
    cam_view                (N, 4, 4)            their world-to-camera poses, transposed
    intrinsics              (N, 4)               their fx, fy, cx, cy in pixels of h × w
    rgb_latents             (V·t, C, h/8, w/8)   latents as the codec gives them; stages with latents
    images_input_vae        (F, 3, h, w)         pictures from -1 to 1; stages without
    c2ws_input              (V·F, 4, 4)          camera-to-world poses of the input frames
    intrinsics_input        (V·F, 4)
    time_embeddings         (F, 3)               t, cos t, sin t of the first view's frames, t from 0 to 1
    time_embeddings_target  (1, 3)               the same of the last target
    target_index            int64                frame numbers of the targets; in static samples behind those of all
                                                 input views but the first, as Lyra has them
    num_input_multi_views   int                  V
    flip_flag               bool                 False for each picture read: N, or F + N in stages without latents
    file_name               str                  the scene's id

The world of a sample is the camera of the first input frame of its first view: `c2ws_input[0]` is the identity.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch.utils.data import Dataset

from .camera_conventions import invert_rigid
from .errors import InputError
from .latent_spaces import LatentSpace
from .lyra_configuration import LyraConfiguration, LyraDraw, draw_dynamic, draw_static, generator
from .open_shards import OpenShards
from .picture_fitting import Fitting
from .scene_clips import OPEN_SHARDS, Range, select_clips, shard_url
from .shards import ShardReader

if TYPE_CHECKING:
    import torch

LYRA_VIEWS = ("left", "right", "up", "zoom_out", "zoom_in", "clockwise")
"""Trajectories in the order of Lyra's view directories 0 to 5."""

LYRA_REVERSED_VIEWS = tuple(f"{name}_reversed" for name in LYRA_VIEWS)
"""Their motion-reversed counterparts, in the order of the view directories 6 to 11."""


class LyraTrainingSet(Dataset[dict[str, Any]]):
    """Samples of one of Lyra's training configurations, one item a scene; see the module for the dictionary.

    What is drawn depends on (seed, epoch, index) alone, not on workers, ranks or the samples before. The epoch comes
    with the index, from a `ResumableSampler(with_epoch=True)`; a bare index is of epoch 0. A scene that cannot be read
    raises, where Lyra takes another one in silence.

    Lyra visits a scene once a view directory in an epoch; here it is once, so six of these epochs (twelve when dynamic)
    are one of Lyra's.

    Args:
        index: path or fsspec URL of training_index.parquet.
        configuration: one of `LYRA_STAGES`, or one adapted to the clips.
        seed: of all draws; to be recorded with the training.
        views: trajectories that stand for Lyra's view directories 0, 1, …
        reversed_views: those that stand for 6, 7, …; only dynamic configurations read them.
        buckets: views by bucket, for `random_bucket`; every view its own by default.
        split, passed, quality, licences, where: which clips, as in `SceneClips`.
        leave_out_incomplete: leave scenes out that lack a view after selection, instead of refusing.
        open_shards: most shards that a process keeps open.
        decoding_threads: runs of frames that are decoded at once; Lyra gives its decoder four.

    Raises:
        InputError: no scene is left, a scene lacks a view or has it twice, the buckets are not the views, or clips do
            not fit a configuration with latents: their length has to be the input frames, their size the image size,
            because latents cannot be cut.
    """

    def __init__(
        self,
        index: str | Path,
        configuration: LyraConfiguration,
        *,
        seed: int,
        views: Sequence[str] = LYRA_VIEWS,
        reversed_views: Sequence[str] = LYRA_REVERSED_VIEWS,
        buckets: Sequence[Sequence[str]] | None = None,
        split: str | None = "train",
        passed: bool | None = True,
        quality: Mapping[str, Range] | None = None,
        licences: Collection[str] | None = None,
        where: pc.Expression | None = None,
        leave_out_incomplete: bool = False,
        open_shards: int = OPEN_SHARDS,
        decoding_threads: int = 1,
    ) -> None:
        self._index = str(index)
        self._configuration = configuration
        self._seed = seed
        self._views = tuple(views)
        self._reversed = tuple(reversed_views) if configuration.dynamic else ()
        self._buckets = tuple(map(tuple, buckets)) if buckets is not None else tuple((view,) for view in views)
        self._require_buckets()
        self._shards = OpenShards(open_shards)
        self._threads = decoding_threads
        self._table = select_clips(
            index,
            split=split,
            passed=passed,
            quality=quality,
            licences=licences,
            trajectories=(*self._views, *self._reversed),
            where=where,
        )
        self._rows = self._rows_of_scenes(leave_out_incomplete)
        self._require_fit()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """The sample of an index, or of (epoch, index).

        Raises:
            IndexError: beyond the end.
            CorruptFileError, StoreError: a clip cannot be read.
            InputError: the clips cannot make the sample.
        """
        epoch, index = item if isinstance(item, tuple) else (0, item)
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        draw = self.draw(epoch, index)
        fitting = Fitting.largest_centre_crop(self._size(index), self._configuration.image_size)
        if self._configuration.latents:
            pictures = self._targets(index, draw, fitting)
            pictures["rgb_latents"] = self._latents(index, draw)
        else:
            pictures = self._inputs_and_targets(index, draw, fitting)
        return {
            **pictures,
            **self._cameras(index, draw, fitting),
            **_times(draw, self._configuration.dynamic),
            "num_input_multi_views": len(draw.input_views),
            "file_name": self.scene(index),
        }

    def scene(self, index: int) -> str:
        """The scene of an index."""
        return self._value(index, 0, "scene_id")

    def draw(self, epoch: int, index: int) -> LyraDraw:
        """The views and frames of a sample, without reading a shard."""
        frames = self._value(index, 0, "frames")
        rng = generator(self._seed, epoch, index)
        if self._configuration.dynamic:
            return draw_dynamic(self._configuration, frames, self._views, self._reversed, rng)
        return draw_static(self._configuration, frames, self._buckets, rng)

    # --- which scenes -------------------------------------------------------------------------------------------------

    def _require_buckets(self) -> None:
        if sorted(view for bucket in self._buckets for view in bucket) != sorted(set(self._views)):
            self._refuse(f"buckets {self._buckets} of views {self._views}", "Name every view in exactly one bucket.")

    def _rows_of_scenes(self, leave_out_incomplete: bool) -> NDArray[np.int64]:
        """(scenes, views) int64 rows of the table, scenes in the order of the index."""
        names = [*self._views, *self._reversed]
        scene_ids, scenes = _codes(self._table, "scene_id")
        trajectories, codes = _codes(self._table, "trajectory")
        places = np.array([names.index(trajectory) for trajectory in trajectories])[codes]
        rows = np.full((len(scene_ids), len(names)), -1, np.int64)
        rows[scenes, places] = np.arange(len(scenes))
        if (rows >= 0).sum() != len(scenes):
            self._refuse("a scene has a trajectory twice", "Select the clips of one shard with `where`.")
        complete = (rows >= 0).all(axis=1)
        if not complete.any() or not (complete.all() or leave_out_incomplete):
            first = int(np.argmin(complete))
            missing = [name for name, row in zip(names, rows[first], strict=True) if row < 0]
            self._refuse(
                f"{(~complete).sum()} of {len(rows)} scenes lack a view; {scene_ids[first]} lacks {', '.join(missing)}",
                "Give the trajectories that the scenes have as `views`, or leave_out_incomplete=True to do without "
                "these scenes.",
            )
        return rows[complete]

    def _require_fit(self) -> None:
        used = self._table.take(pa.array(self._rows.ravel()))
        sizes = {name: used[name].to_numpy().reshape(self._rows.shape) for name in ("frames", "height", "width")}
        for name, values in sizes.items():
            different = (values != values[:, :1]).any(axis=1)
            if different.any():
                scene = self.scene(int(np.argmax(different)))
                self._refuse(f"the views of {scene} differ in {name}", "Leave the scene out.")
        if not self._configuration.latents:
            return
        height, width = self._configuration.image_size
        expected = {"frames": self._configuration.input_frames, "height": height, "width": width}
        for name, values in sizes.items():
            wrong = (values != expected[name]).any(axis=1)
            if wrong.any():
                place = int(np.argmax(wrong))
                self._refuse(
                    f"{wrong.sum()} of {len(wrong)} scenes do not fit: {self.scene(place)} has {name} = "
                    f"{values[place, 0]}, the configuration {expected[name]}",
                    "Latents stand for whole clips: use `configuration.adapted(frames, height, width)` of the clips.",
                )

    def _refuse(self, found: str, remedy: str) -> None:
        raise InputError(found, where=self._index, remedy=remedy)

    def _value(self, index: int, view: int, column: str) -> Any:
        return self._table[column][int(self._rows[index, view])].as_py()

    def _size(self, index: int) -> tuple[int, int]:
        return self._value(index, 0, "height"), self._value(index, 0, "width")

    def _clip(self, index: int, view: str) -> tuple[ShardReader, str, str]:
        shard = self._value(index, (*self._views, *self._reversed).index(view), "shard")
        return self._shards.reader(shard_url(self._index, shard)), self.scene(index), view

    # --- one sample ---------------------------------------------------------------------------------------------------

    def _targets(self, index: int, draw: LyraDraw, fitting: Fitting) -> dict[str, Any]:
        """Pictures and depth of all targets, view after view."""
        import torch

        frames = draw.target_frames.tolist()
        count = len(frames)
        images = torch.empty((len(draw.target_views) * count, 3, *fitting.target))
        depths = torch.empty((len(draw.target_views) * count, 1, *fitting.target))
        for place, view in enumerate(draw.target_views):
            reader, scene, trajectory = self._clip(index, view)
            part = slice(place * count, (place + 1) * count)
            pictures = reader.rgb(scene, trajectory, frames, channels_first=True, threads=self._threads)
            fitting.pictures(pictures, out=images[part])
            depths[part] = fitting.depth(reader.depth(scene, trajectory, frames))
        flip = torch.zeros(len(images), dtype=torch.bool)
        return {"images_output": images, "depths_output": depths, "flip_flag": flip}

    def _inputs_and_targets(self, index: int, draw: LyraDraw, fitting: Fitting) -> dict[str, Any]:
        """Input pictures, and target pictures with depth, of the only view; each frame is decoded once."""
        import torch

        inputs, targets = draw.input_frames[0].tolist(), draw.target_frames.tolist()
        reader, scene, view = self._clip(index, draw.input_views[0])
        distinct, places = np.unique([*inputs, *targets], return_inverse=True)
        pictures = reader.rgb(scene, view, distinct.tolist(), channels_first=True, threads=self._threads)
        images = fitting.pictures(pictures)[torch.from_numpy(places)]
        return {
            "images_input_vae": images[: len(inputs)].mul_(2.0).sub_(1.0),
            "images_output": images[len(inputs) :],
            "depths_output": fitting.depth(reader.depth(scene, view, targets)),
            "flip_flag": torch.zeros(len(images), dtype=torch.bool),
        }

    def _latents(self, index: int, draw: LyraDraw) -> torch.Tensor:
        """(V·t, C, h, w) float32, as the codec gives them."""
        import torch

        latents = []
        for view in draw.input_views:
            reader, scene, trajectory = self._clip(index, view)
            space = LatentSpace.from_json(reader.latent_space, where=f"latent space of {scene}/{view}")
            values = space.denormalise(reader.latents(scene, trajectory))
            latents.append(torch.from_numpy(values).transpose(0, 1))
        return torch.cat(latents)

    def _cameras(self, index: int, draw: LyraDraw, fitting: Fitting) -> dict[str, torch.Tensor]:
        """Poses relative to the first input frame of the first view, and intrinsics of the fitted pictures."""
        import torch

        views = {*draw.input_views, *draw.target_views}
        cameras = {view: self._read_cameras(index, view) for view in views}
        chosen = [*zip(draw.input_views, draw.input_frames, strict=True)]
        chosen += [(view, draw.target_frames) for view in draw.target_views]
        c2w = np.concatenate([cameras[view][0][frames] for view, frames in chosen]).astype(np.float64)
        intrinsics = fitting.intrinsics(np.concatenate([cameras[view][1][frames] for view, frames in chosen]))
        relative = invert_rigid(c2w[0]) @ c2w
        inputs = draw.input_frames.size
        w2c = invert_rigid(relative[inputs:])
        return {
            "c2ws_input": torch.from_numpy(relative[:inputs].astype(np.float32)),
            "intrinsics_input": torch.from_numpy(intrinsics[:inputs]),
            "cam_view": torch.from_numpy(np.ascontiguousarray(w2c.swapaxes(1, 2), np.float32)),
            "intrinsics": torch.from_numpy(intrinsics[inputs:]),
        }

    def _read_cameras(self, index: int, view: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        reader, scene, trajectory = self._clip(index, view)
        return reader.cameras(scene, trajectory)


def _codes(table: pa.Table, column: str) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct values of a text column in the order of their first appearance, and each row's place among them."""
    encoded = pa.array(table[column].combine_chunks()).dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _times(draw: LyraDraw, dynamic: bool) -> dict[str, torch.Tensor]:
    """Time embeddings: t from 0 to 1 over all frames of the sample, with its cosine and sine.

    Lyra lists the input frames of a static sample view after view, those of a dynamic one, alike in all views, once.
    """
    import torch

    inputs = draw.input_frames[:1] if dynamic else draw.input_frames
    frames = torch.from_numpy(np.concatenate([inputs.ravel(), draw.target_frames]))
    times = frames.float()
    times = (times - times.min()) / (times.max() - times.min())
    embedded = torch.stack([times, times.cos(), times.sin()], dim=1)
    count = draw.input_frames.shape[1]
    return {
        "time_embeddings": embedded[:count],
        "time_embeddings_target": embedded[-1:],
        "target_index": frames[count:],
    }
