"""Engine `vipe`: depth and cameras of a scene's clips by ViPE, which runs as a worker and sees nothing but the clips.

J. Huang et al., "ViPE: Video Pose Engine for 3D Geometric Perception", arXiv 2508.10934, 2025.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .engines import ClipGeometry, ClipToEstimate, Part, Scaffold, View
from .resident_models import ResidentModels
from .vipe import VipeClipTask, VipeOutcome, ViPEWorker
from .vipe_results import CLIP, VipeResult
from .worker_batches import LOG_NAME
from .worker_engine import WorkerEngine
from .worker_failures import WorkerFailed
from .worker_protocol import Event, Transport
from .worker_settings import VIPE_PRESETS, VipeSettings

NAME = "vipe"
_PROGRAM, _MASKS, _DEPTH = "Apache-2.0", "AGPL-3.0-only", "CC-BY-NC-4.0"
"""Licences of ViPE's own code, of what tracks its instance masks (Segment-and-Track-Anything), and of the weights
behind its depth: UniDepth, Depth Anything V2 ViT-B in every aligned depth, DA3-GIANT."""


class VipeDepthAndPoses(WorkerEngine[VipeSettings]):
    """ViPE in an environment of its own; which models it runs follows from its preset, which is among its settings."""

    name: ClassVar[str] = NAME
    needs: ClassVar[frozenset[Part]] = frozenset({"frames"})
    gives: ClassVar[frozenset[Part]] = frozenset({"depth", "cameras"})
    worker: ViPEWorker

    def new_worker(
        self, models: ResidentModels | None, transport: Transport | None, report: Callable[[Event], None] | None
    ) -> ViPEWorker:
        """ViPE's worker, which takes clips."""
        return ViPEWorker(self.settings, models, transport, report)

    @property
    def licence(self) -> str:
        """Of ViPE's code and of the models of the preset."""
        masks = [_MASKS] if VIPE_PRESETS[self.settings.preset].masks else []
        return " AND ".join([_PROGRAM, *masks, _DEPTH])

    def open_scene(self, scaffold: Scaffold, view: View) -> VipeScene:
        """ViPE needs nothing of a scene but its clips."""
        return VipeScene(self)


@dataclass(frozen=True, slots=True)
class VipeScene:
    """One scene, ready for its clips."""

    engine: VipeDepthAndPoses

    def estimate_clips(self, clips: Sequence[ClipToEstimate], folder: Path) -> Mapping[str, ClipGeometry]:
        """Depth and cameras of all clips in ViPE's own world and unit, from one batch.

        `kept` of a result holds instance_masks (T, H, W) uint8 where the preset makes masks, whose words are in the
        notes; `files` holds ViPE's log, and the SLAM map where the overrides ask for one.

        Raises:
            WorkerFailed: a clip has no result, or one that is not sane; the message names the clip. Those after it are
                given up.
            ConfigError: its environment or scratch directory cannot be used.
        """
        batch = [
            VipeClipTask(
                clip.name,
                clip.video,
                frames=len(clip.commanded),
                height=clip.commanded[0].height,
                width=clip.commanded[0].width,
                destination=folder / clip.name,
            )
            for clip in clips
        ]
        found: dict[str, ClipGeometry] = {}
        with contextlib.closing(self.engine.worker.estimate(batch)) as outcomes:
            for outcome in outcomes:
                found[outcome.task] = _geometry(outcome, self.engine.settings)
        return found


def _geometry(outcome: VipeOutcome, settings: VipeSettings) -> ClipGeometry:
    if outcome.failure is not None:
        failure = outcome.failure
        raise WorkerFailed(failure.failure, f"clip {outcome.task}: {failure.found}", log=failure.log) from failure
    result = outcome.result
    assert result is not None
    geometry = result.geometry()
    kept: dict[str, NDArray[Any]] = {"instance_masks": np.stack(list(result.masks()))} if result.has_masks else {}
    notes = {
        "engine": NAME,
        "estimated_depth": True,
        "estimated_poses": True,
        "preset": settings.preset,
        "attempts": outcome.attempts,
        "seconds": outcome.seconds,
        "versions": dict(outcome.versions),
        "measured": {name: value for name, value in result.figures.items() if name not in {"preset", "versions"}},
    }
    if result.has_masks:
        notes["instance_phrases"] = {str(number): phrase for number, phrase in result.phrases.items()}
    return ClipGeometry(
        geometry.depth, geometry.c2w, geometry.intrinsics, geometry.metric, notes=notes, kept=kept, files=_files(result)
    )


def _files(result: VipeResult) -> dict[str, Path]:
    candidates = {"vipe.log": result.root / LOG_NAME, "slam_map.pt": result.root / "vipe" / f"{CLIP}_slam_map.pt"}
    return {name: path for name, path in candidates.items() if path.exists()}
