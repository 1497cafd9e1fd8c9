"""The stages of a scene's way, in the order of their dependencies."""

from __future__ import annotations

from . import (
    camera_paths,
    clip_captions,
    conditioning_view,
    depth_and_poses,
    gaussian_shards,
    quality_report,
    scene_objects,
    scene_preview,
    scene_scaffold,
    video_latents,
)
from .stage import Stage

STAGES: tuple[Stage, ...] = (
    conditioning_view.STAGE,
    scene_scaffold.STAGE,
    camera_paths.STAGE,
    video_latents.STAGE,
    depth_and_poses.STAGE,
    scene_objects.STAGE,
    # Before the verdict, which ends the scene where it is bad: a rejected scene is the one that people want to look at.
    scene_preview.STAGE,
    quality_report.STAGE,
    gaussian_shards.STAGE,
    # After the verdict: a vision-language model is not asked about clips that nobody trains on.
    clip_captions.STAGE,
)
