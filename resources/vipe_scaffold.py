"""Scaffolds of input clips by ViPE: depth of every frame, the focal length, and the way of the camera, which may move.

So Lyra's dynamic set is made (nv-tlabs/lyra, gen3c_dynamic_sdg.py): the 3D cache of each frame lies at the pose that
ViPE found for it, and the trajectories are laid on top of that. Of a camera that stands still no pose is taken, as its
estimate would only shake: what moves then shows before the background, as with the other engines of clips.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError
from .clip_scaffold import StillBackground, clip_of, stored_depth
from .engines import (
    Camera,
    ClipDepth,
    ClipGeometry,
    ClipToEstimate,
    EngineContract,
    EngineIdentity,
    InputClip,
    Part,
    Scaffold,
    View,
    engine_identity,
)
from .video_view import NOT_YET_ESTIMATED
from .vipe_engine import NAME, VipeDepthAndPoses

INSTANCE_MASKS, INSTANCE_PHRASES = "instance_masks", "instance_phrases"
"""Where the engine keeps its instances: in `ClipGeometry.kept` and in `ClipGeometry.notes`."""
_SKY = "sky"
_ZOOM = 1e-3
"""Share of the focal length by which it may change in a clip: a scaffold has one."""
_CLIP = "input"


class VipeClipScaffold:
    """A scaffold engine for views that are the first frame of a clip.

    Args:
        engine: ViPE, that sees the clip's frames.
    """

    def __init__(self, engine: VipeDepthAndPoses) -> None:
        self.engine = engine

    @property
    def contract(self) -> EngineContract:
        """What the engine needs and gives; nothing is started."""
        gives = frozenset[Part]({"scaffold", "depth", "cameras"})
        return EngineContract(NAME, "worker", frozenset({"view", "frames"}), gives, self.identity.licence)

    @property
    def identity(self) -> EngineIdentity:
        """ViPE's."""
        return engine_identity(self.engine)

    def close(self) -> None:
        """End the worker's process; it is launched again when it is needed."""
        self.engine.close()

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Depth of every frame in ViPE's unit; the scaffold's `depth` is that of the first, where the world is, too.

        Raises:
            InputError: the view is not that of a clip, or a still camera's first frame shows next to nothing of the
                background.
            EngineError: the focal length changes in the clip.
            WorkerFailed: ViPE has no result, or one that is not sane.
            ConfigError: its environment or scratch directory cannot be used.
        """
        clip = clip_of(view)
        found, depth = self._estimate(clip, view)
        intrinsics = _one_lens(found.intrinsics)
        notes: dict[str, Any] = {name: found.notes[name] for name in ("preset", "versions", "measured")}
        if clip.cameras_from == NOT_YET_ESTIMATED:
            notes["cameras"] = NAME
            instances = movable_pixels(found)
            if instances is not None:
                notes |= {"movable_share": float(instances.mean()), INSTANCE_PHRASES: found.notes[INSTANCE_PHRASES]}
            known = ClipDepth(stored_depth(depth), instances, None, from_first(found.c2w), "instances")
        else:
            still = StillBackground(clip.frames)
            background, shares = still.hold(depth)
            notes |= {"cameras": clip.cameras_from, **shares}
            known = ClipDepth(stored_depth(depth), still.moving, background)
        return Scaffold(depth[0], intrinsics, found.metric, None, {"engine": NAME, "clip": notes}, clip=known)

    def _estimate(self, clip: InputClip, view: View) -> tuple[ClipGeometry, NDArray[np.float32]]:
        """ViPE's estimate from the clip's frames exactly as they are, and its depth (T, H, W) float32."""
        from ..ops.png import encode_png

        height, width = clip.frames.shape[1:3]
        cameras = [Camera(pose, view.intrinsics, height, width) for pose in clip.c2w]
        scratch = self.engine.settings.scratch
        if scratch is not None:
            Path(scratch).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sceneloom-clip-", dir=scratch) as name:
            pictures, results = Path(name, "frames"), Path(name, "results")
            pictures.mkdir()
            results.mkdir()
            for index, frame in enumerate(clip.frames):
                (pictures / f"{index:06d}.png").write_bytes(encode_png(frame))
            # Nothing of a scene reaches ViPE but its clip; what it is opened with plays no part.
            nothing = Scaffold(np.empty((0, 0), np.float32), view.intrinsics, False, None, {})
            scene = self.engine.open_scene(nothing, view)
            [found] = scene.estimate_clips([ClipToEstimate(_CLIP, pictures, cameras)], results).values()
            return found, np.stack(list(found.depth))


def movable_pixels(found: ClipGeometry) -> NDArray[np.bool_] | None:
    """(T, H, W) bool, where the engine of an estimate saw an instance of what may move; None where it looked for none.

    ViPE looks for kinds of things that can move, and for the sky, which is none. Whether they move is not said.
    """
    if INSTANCE_MASKS not in found.kept:
        return None
    phrases = found.notes.get(INSTANCE_PHRASES, {})
    still = [0, *(int(number) for number, phrase in phrases.items() if phrase == _SKY)]
    return ~np.isin(found.kept[INSTANCE_MASKS], still)


def from_first(c2w: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 4, 4) float32 poses in the frame of the first one's camera, their rotations exact to float32."""
    from ..ops.cameras import nearest_rotation

    poses = c2w.astype(np.float64)
    poses[:, :3, :3] = [nearest_rotation(rotation) for rotation in poses[:, :3, :3]]
    seen = np.linalg.inv(poses[0]) @ poses
    seen[0] = np.eye(4)
    return seen.astype(np.float32)


def _one_lens(intrinsics: NDArray[np.float32]) -> NDArray[np.float64]:
    """(4,) intrinsics of a clip that were found for each frame. Raises EngineError where the lens zooms."""
    focal = intrinsics[:, :2].astype(np.float64)
    change = float(np.abs(focal / focal[0] - 1).max())
    if change > _ZOOM:
        raise EngineError(
            f"the focal length changes by {change:.1%} in the clip",
            where=f"scene_scaffold, engine {NAME}",
            remedy="Use a video that does not zoom, or a preset that holds the focal length.",
        )
    return intrinsics[0].astype(np.float64)
