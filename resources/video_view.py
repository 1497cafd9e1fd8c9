"""Engine `video_frames`: a scene's own video, sampled to the clip's frames, resized and cropped at its centre."""

from __future__ import annotations

import math
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.errors import InputError
from .engines import EngineContract, InputClip, View
from .input_videos import SampledVideo, VideoSampling, sample_video, sha256_of

ASSUMED_STATIC = "assumed_static"
"""Where the poses of an input clip's camera are from while nothing estimates them: it is taken to stand still, as
Lyra's authors ask of the videos that their dynamic set is made from (nv-tlabs/lyra, issue 24)."""
NOT_YET_ESTIMATED = "not_yet_estimated"
"""The same of a camera that moves, where the engine of the scaffold estimates its poses."""
MOST_CHANGED = 0.5
"""Share of the picture that may differ from the first frame beyond what the camera's motion explains; more is a cut,
or a camera that moves too fast to be followed."""
COMPARED_FRAMES = 16
"""Frames, spread over the clip, that are compared with the first one to see whether the camera moves."""


class VideoFramesView:
    """The first frame as the view, and the clip itself.

    Args:
        horizontal_field_of_view_degrees: of the camera, which is not known.
        sampling: which instants are taken.
        maximum_camera_motion: how far the picture may move as a whole for the camera to be taken to stand still, as a
            share of its width; None: it is not looked at.
        cameras_are_estimated: whether a camera that moves farther, or of which that cannot be told, is left to the
            engine of the scaffold.
    """

    contract: EngineContract = EngineContract(
        "video_frames", "embedded", frozenset({"video"}), frozenset({"view", "frames"}), "Apache-2.0"
    )

    def __init__(
        self,
        horizontal_field_of_view_degrees: float,
        sampling: VideoSampling,
        maximum_camera_motion: float | None = None,
        *,
        cameras_are_estimated: bool = False,
    ) -> None:
        self.horizontal_field_of_view_degrees = horizontal_field_of_view_degrees
        self.sampling = sampling
        self.maximum_camera_motion = maximum_camera_motion
        self.cameras_are_estimated = cameras_are_estimated

    def make_view(self, scene: SceneEntry, *, height: int, width: int, seed: int) -> View:
        """Decode the video that the catalogue saw.

        Raises:
            InputError: it is gone, was changed since, cannot be decoded, is too short, or its camera moves or it is cut
                and nobody estimates cameras.
        """
        from ..ops.cameras import centred_intrinsics

        assert scene.video_url is not None
        sampled = self._sampled(scene.video_url, scene.video_sha256, height, width)
        motion = camera_motion(sampled.frames)
        moves = self._moves(motion, width, scene.video_url)
        cameras_from = ASSUMED_STATIC
        seen_still = moves is None and motion["compared"] > 0 and self.maximum_camera_motion is not None
        if self.cameras_are_estimated and not seen_still:
            cameras_from = NOT_YET_ESTIMATED
        elif moves is not None:
            raise moves
        degrees = math.radians(self.horizontal_field_of_view_degrees)
        notes = {**sampled.notes, "camera": cameras_from, "camera_motion": motion}
        poses = np.repeat(np.eye(4, dtype=np.float32)[None], len(sampled.frames), axis=0)
        return View(
            sampled.frames[0],
            centred_intrinsics(height, width, horizontal_field_of_view=degrees),
            None,
            notes,
            InputClip(sampled.frames, poses, cameras_from),
        )

    def _sampled(self, url: str, sha256: str | None, height: int, width: int) -> SampledVideo:
        from ..ops.pictures import fit_picture

        try:
            with fsspec.open(url, "rb") as opened:
                file: Any = opened
                if sha256_of(file) != sha256:
                    raise InputError(
                        "the video was changed after the catalogue was made",
                        where=url,
                        remedy="Refresh the catalogue: the changed video becomes a scene of its own.",
                    )
                return sample_video(file, self.sampling, lambda rgb: fit_picture(rgb, height, width), where=url)
        except FileNotFoundError as error:
            raise InputError(
                "the video is gone",
                where=url,
                remedy="Put it back, or refresh the catalogue to retire its scene.",
            ) from error

    def _moves(self, motion: dict[str, Any], width: int, url: str) -> InputError | None:
        """Why the camera cannot be taken to stand still; None where it can."""
        limit, moved = self.maximum_camera_motion, motion["largest_pixels"]
        if limit is not None and motion["changed_share"] > MOST_CHANGED:
            return InputError(
                f"frame {motion['changed_frame']} has little in common with the first: the camera moves, or the video "
                "is cut",
                where=url,
                remedy="Use one shot of a still camera, choose vipe under engines.scene_scaffold.video, or set "
                "engines.conditioning_view.video.maximum_camera_motion to null.",
            )
        if limit is not None and moved is not None and moved > limit * width:
            return InputError(
                f"the camera moves: frame {motion['frame']} is shifted against the first by {moved:.1f} of {width} "
                "pixels, and the input camera is taken to stand still",
                where=url,
                remedy="Use a video of a still camera, choose vipe under engines.scene_scaffold.video, or raise "
                "engines.conditioning_view.video.maximum_camera_motion.",
            )
        return None


def camera_motion(frames: NDArray[np.uint8]) -> dict[str, Any]:
    """How far the picture moves as a whole against the first frame, JSON.

    Returns:
        `largest_pixels` at `frame`, over the `compared` frames where most corners move together; None and None where
        there is no such frame. `changed_share` at `changed_frame`: the largest share of the picture that differs from
        the first frame beyond that motion.
    """
    from ..ops.camera_motion import changed_share, motions_from_first

    chosen = np.unique(np.linspace(0, len(frames) - 1, COMPARED_FRAMES + 1).round().astype(int))
    motions = list(zip(chosen[1:], motions_from_first(frames[chosen]), strict=True))
    found = [(motion.pixels, int(index)) for index, motion in motions if motion is not None]
    pixels, frame = max(found, default=(None, None))
    changed = [(changed_share(frames[0], frames[index], motion), int(index)) for index, motion in motions]
    share, changed_frame = max(changed, default=(0.0, None))
    return {
        "largest_pixels": pixels,
        "frame": frame,
        "compared": len(found),
        "changed_share": share,
        "changed_frame": changed_frame,
    }
