"""Engine `moge`: depth, focal length and mask of a single picture by MoGe, which runs as a worker.

R. Wang et al., "MoGe: Unlocking Accurate Monocular Geometry Estimation for Open-Domain Images with Optimal Training
Supervision", CVPR 2025; "MoGe-2: Accurate Monocular Geometry with Metric Scale and Sharp Details", 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.camera_conventions import field_of_view_from_focal, intrinsics_from_matrix, resize_intrinsics
from ..datasets.errors import SceneloomError
from .depth_scaffolds import FARTHEST_DEPTH, without_edges
from .engines import Part, Scaffold, View
from .worker_batches import BatchTask
from .worker_engine import HubModelWorker
from .worker_engine_settings import MogeSettings
from .worker_failures import FailureClass, WorkerFailed
from .worker_results import invalid_output, read_array, write_picture

NAME = "moge"
_FOCAL_AGREEMENT = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class MogeResult:
    """What MoGe says of a picture.

    Attributes:
        depth: (H, W) float32 z-depth, 0 outside the mask.
        mask: (H, W) bool, where MoGe sees a surface at a finite distance; the sky is outside.
        intrinsics: (4,) float64 fx, fy, cx, cy in pixels; the principal point is the picture's centre.
        metric: whether depth is in metres.
    """

    depth: NDArray[np.float32]
    mask: NDArray[np.bool_]
    intrinsics: NDArray[np.float64]
    metric: bool


class MogeScaffold(HubModelWorker[MogeSettings]):
    """MoGe in an environment of its own."""

    name: ClassVar[str] = NAME
    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset({"scaffold", "depth"})
    told: ClassVar[frozenset[str]] = frozenset({"model", "revision", "version", "resolution_level", "half_precision"})
    licences: ClassVar[Mapping[str, str]] = {
        "Ruicheng/moge-2-vitl-normal": "MIT",
        "Ruicheng/moge-vitl": "Apache-2.0",
    }

    def files_at(self, path: Path) -> Mapping[str, Path]:
        """A folder's model.pt, or the file itself."""
        return {"model.pt": path / "model.pt" if path.is_dir() else path}

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Depth at the view's size; nothing is drawn, so every seed gives the same.

        Raises:
            WorkerFailed: MoGe gave no depth, or what it gave is not whole and sane.
            ConfigError: its environment cannot be used.
            EngineError: no pixel keeps a depth.
        """
        height, width = view.picture.shape[:2]
        degrees = None
        if self.settings.focal == "view":
            degrees = float(np.degrees(field_of_view_from_focal(view.intrinsics[0], width)))

        def write(folder: Path) -> dict[str, Any]:
            picture = write_picture(folder / "picture.png", view.picture)
            return {"picture": str(picture), "field_of_view": degrees}

        def read(output: Path, figures: Mapping[str, Any]) -> MogeResult:
            return read_result(output, height, width, self.settings, figures)

        answer = self.worker.ask(BatchTask("view", write, read))
        found = answer.get()
        intrinsics = found.intrinsics
        if self.settings.focal == "view":
            _require_focal(found.intrinsics, view.intrinsics)
            intrinsics = np.asarray(view.intrinsics, np.float64)
        depth, edges = without_edges(found.depth, self.settings.edge_bend, where=f"{NAME}: {self.settings.model}")
        notes = {
            "engine": NAME,
            "unit": "metre" if found.metric else "arbitrary",
            "focal": self.settings.focal,
            "focal_pixels": float(found.intrinsics[0]),
            "masked_out": float(1 - found.mask.mean()),
            **edges,
            "model": {**self.model_facts(), "version": self.settings.version},
            **answer.facts(),
        }
        return Scaffold(depth, intrinsics, found.metric, None, notes)


def read_result(
    output: Path, height: int, width: int, settings: MogeSettings, figures: Mapping[str, Any]
) -> MogeResult:
    """Read what the worker wrote for a picture of H × W pixels, and check all of it.

    Raises:
        WorkerFailed: invalid-output, naming the file and what is wrong in it; diverged where no camera has such a field
            of view.
    """
    depth = read_array(output, "depth.npy", (height, width), np.floating, finite=False).astype(np.float32)
    mask = read_array(output, "mask.npy", (height, width), np.bool_)
    matrix = read_array(output, "intrinsics.npy", (3, 3), np.floating)
    if not mask.any():
        raise invalid_output("mask.npy", "no pixel is inside the mask")
    broken = mask & ~(np.isfinite(depth) & (depth > 0))
    if broken.any():
        raise invalid_output("depth.npy", f"{broken.sum() / mask.sum():.1%} of the mask has no finite, positive depth")
    metric = figures.get("metric")
    if not isinstance(metric, bool):
        raise invalid_output("figures", f"metric is {metric!r}, expected true or false")
    # What is farther than any picture shows is taken to be there; float16 and the 3D cache want a limit.
    kept = np.where(mask, np.minimum(depth, np.float32(FARTHEST_DEPTH)), np.float32(0))
    return MogeResult(kept, mask, pixel_intrinsics(matrix, height, width, settings), metric)


def pixel_intrinsics(
    matrix: NDArray[np.floating], height: int, width: int, settings: MogeSettings
) -> NDArray[np.float64]:
    """(4,) fx, fy, cx, cy in pixels of a calibration matrix of the picture taken for 1 × 1.

    MoGe puts the principal point at (½, ½) of that picture, which is the centre, W/2 and H/2, of one with pixel centres
    at +0.5.

    Raises:
        WorkerFailed: invalid-output where it is no such matrix, diverged where the field of view is absurd.
    """
    try:
        normalised = intrinsics_from_matrix(matrix)
    except SceneloomError as error:
        raise invalid_output("intrinsics.npy", error.found) from error
    if not (normalised[:2] > 0).all() or not ((normalised[2:] > 0) & (normalised[2:] < 1)).all():
        raise invalid_output("intrinsics.npy", f"{normalised.tolist()} are no intrinsics of a picture taken for 1 × 1")
    degrees = float(np.degrees(field_of_view_from_focal(normalised[0], 1.0)))
    low, high = settings.minimum_field_of_view, settings.maximum_field_of_view
    if not low <= degrees <= high:
        found = f"intrinsics.npy: the horizontal field of view is {degrees:.1f}°, expected {low}° to {high}°"
        raise WorkerFailed(FailureClass.DIVERGED, found)
    return resize_intrinsics(normalised, source=(1.0, 1.0), target=(height, width))


def _require_focal(found: NDArray[np.float64], given: NDArray[np.floating]) -> None:
    """MoGe keeps to the field of view that it is told."""
    if abs(found[0] / given[0] - 1) > _FOCAL_AGREEMENT:
        text = f"a focal length of {found[0]:.2f} pixels, though it was told one of {given[0]:.2f}"
        raise invalid_output("intrinsics.npy", text)
