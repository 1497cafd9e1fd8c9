"""Stage `clip_captions`: what every clip shows, in words, window by window."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ..datasets.catalog import SceneEntry
from ..datasets.layouts.release import CaptionWindow
from ..datasets.video import read_video
from ..resources.engines import ClipToCaption, EngineIdentity, Engines, engine_identity, settings_in_key
from ..resources.profiles import Profile, SceneWordsCaptions
from . import conditioning_view, video_latents
from .stage import Made, Stage, StageContext, StageInputs

NAME = "clip_captions"
CAPTIONS = "captions.json"


def make(context: StageContext) -> Made:
    """Write captions.json: engine, and for every trajectory its windows with frame range, text and frames seen."""
    engine = context.engines.captions()
    notes = context.inputs.json(conditioning_view.NAME, conditioning_view.CAMERA)["notes"]
    clips: dict[str, list[dict[str, Any]]] = {}
    for trajectory in context.profile.trajectories.names:
        video = context.inputs.path(video_latents.NAME, video_latents.video_name(trajectory))
        clip = ClipToCaption(
            scene=context.scene,
            scene_notes=notes,
            trajectory=trajectory,
            frames=context.profile.frames.count,
            read=functools.partial(read_video, video),
        )
        clips[trajectory] = [caption.record() for caption in engine.caption_clip(clip)]
    context.write_json(CAPTIONS, {"engine": engine.contract.name, "stand_in": engine.is_stand_in, "clips": clips})
    texts = [window["text"] for windows in clips.values() for window in windows]
    made = Made(
        metrics={"captions": len(texts), "words": sum(len(text.split()) for text in texts)},
        metadata={
            "captions": {trajectory: [window["text"] for window in windows] for trajectory, windows in clips.items()},
            "stand_in": engine.is_stand_in,
        },
    )
    if not texts:
        made.metadata["reason"] = f"the engine {engine.contract.name} knows no words of this scene"
    return made


def read_captions(inputs: StageInputs) -> Mapping[str, tuple[CaptionWindow, ...]]:
    """The published captions by trajectory; clips without any are left out."""
    return {
        trajectory: tuple(
            CaptionWindow(window["frame_range"][0], window["frame_range"][1], window["text"]) for window in windows
        )
        for trajectory, windows in inputs.json(NAME, CAPTIONS)["clips"].items()
        if windows
    }


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Trajectories and the engine's settings; the prompt, where the words are taken from it."""
    chosen = profile.engines.captions
    words = {"prompt": scene.prompt} if isinstance(chosen, SceneWordsCaptions) else {}
    return {
        "trajectories": list(profile.trajectories.names),
        "frames": profile.frames.count,
        "engine": settings_in_key(chosen),
        **words,
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The caption engine with its weights."""
    return engine_identity(engines.captions())


STAGE = Stage(
    name=NAME,
    inputs=(conditioning_view.NAME, video_latents.NAME),
    code_version="1",
    description="What every clip shows, in words, one caption for each window of frames: written by a vision-language "
    "model that is shown the frames, or composed from the scene's words and the camera's path, and marked as that.",
    kinds=frozenset({"json"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=(
        "resources/scene_words.py:SceneWords",
        "resources/clip_captions.py:ClipCaptioner",
    ),
)
