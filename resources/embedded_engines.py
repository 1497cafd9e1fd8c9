"""The embedded tier: engines that need no GPU, no downloaded weights and no network, with exact ground truth."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import fsspec
import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.errors import InputError
from ..ops.scene_model import SceneModel
from .engines import Camera, ClipGeometry, EngineContract, Frames, MovingObjects, Scaffold, View
from .profiles import Motion, PictureLimits

_LICENCE = "Apache-2.0"


class ProceduralView:
    """A procedural 3D scene built from the prompt's words, seen by its own camera."""

    contract: EngineContract = EngineContract(
        "procedural", "embedded", frozenset({"prompt"}), frozenset({"view", "geometry"}), _LICENCE
    )
    samples_per_pixel: ClassVar[int] = 8

    def __init__(self, horizontal_field_of_view_degrees: float) -> None:
        self.horizontal_field_of_view_degrees = horizontal_field_of_view_degrees

    def make_view(self, scene: SceneEntry, *, height: int, width: int, seed: int) -> View:
        """Build the scene that the prompt describes and render its first view."""
        from ..ops.procedural_scene import build_scene
        from ..ops.raycast import RayCaster

        model = build_scene(
            scene.prompt or "",
            seed=seed,
            height=height,
            width=width,
            horizontal_field_of_view_degrees=self.horizontal_field_of_view_degrees,
        )
        frame = RayCaster(model).render(
            np.eye(4), model.intrinsics, height, width, samples_per_pixel=self.samples_per_pixel, seed=seed
        )
        return View(frame.rgb, model.intrinsics, model, model.description)


class PictureView:
    """The scene's own picture, resized and cropped at its centre."""

    contract: EngineContract = EngineContract(
        "picture", "embedded", frozenset({"image"}), frozenset({"view"}), _LICENCE
    )

    def __init__(self, horizontal_field_of_view_degrees: float, limits: PictureLimits) -> None:
        self.horizontal_field_of_view_degrees = horizontal_field_of_view_degrees
        self.limits = limits

    def make_view(self, scene: SceneEntry, *, height: int, width: int, seed: int) -> View:
        """Decode the picture the catalogue saw. Raises InputError when it is gone or was changed since."""
        from ..ops.cameras import centred_intrinsics
        from ..ops.pictures import decode_picture, fit_picture

        assert scene.image_url is not None
        try:
            with fsspec.open(scene.image_url, "rb") as file:
                content = file.read()  # type: ignore[union-attr]
        except FileNotFoundError as error:
            raise InputError(
                "the picture is gone",
                where=scene.image_url,
                remedy="Put it back, or refresh the catalogue to retire its scene.",
            ) from error
        if hashlib.sha256(content).hexdigest() != scene.image_sha256:
            raise InputError(
                "the picture was changed after the catalogue was made",
                where=scene.image_url,
                remedy="Refresh the catalogue: the changed picture becomes a scene of its own.",
            )
        picture = decode_picture(
            content,
            where=scene.image_url,
            minimum_side=self.limits.minimum_side_pixels,
            maximum_pixels=self.limits.maximum_pixels,
        )
        intrinsics = centred_intrinsics(
            height, width, horizontal_field_of_view=math.radians(self.horizontal_field_of_view_degrees)
        )
        notes = {
            "format": picture.file_format,
            "mode": picture.file_mode,
            "size": list(picture.file_size),
            "steps": list(picture.steps),
        }
        return View(fit_picture(picture.rgb, height, width), intrinsics, None, notes)


class GroundTruthScaffold:
    """Depth and geometry of the very scene that the view was rendered from, and motions for its objects if asked for.

    Args:
        motion: which objects move.
        frames: T of the clips that they move in.
    """

    contract: EngineContract = EngineContract(
        "ground_truth", "embedded", frozenset({"view", "geometry"}), frozenset({"scaffold", "depth"}), _LICENCE
    )

    def __init__(self, motion: Motion | None = None, frames: int = 0) -> None:
        self.motion = motion or Motion()
        self.frames = frames

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Cast one ray through the centre of every pixel."""
        from ..ops.motion_planning import plan_motions

        if view.geometry is None:
            raise InputError(
                "the view has no geometry behind it",
                where="engines.scene_scaffold",
                remedy="Use ground_truth only after an engine that gives geometry, such as procedural.",
            )
        scaffold = _scaffold_of(view.geometry, view)
        if not self.motion.objects:
            return scaffold
        motions = plan_motions(
            view.geometry,
            seed=seed,
            frames=self.frames,
            objects=self.motion.objects,
            distance=self.motion.distance,
        )
        return dataclasses.replace(scaffold, motions=motions)


class TourIntoPictureScaffold:
    """A box of five textured planes behind the picture (Horry, Anjyo and Arai 1997)."""

    contract: EngineContract = EngineContract(
        "tour_into_picture", "embedded", frozenset({"view"}), frozenset({"scaffold", "depth", "geometry"}), _LICENCE
    )

    def __init__(self, horizontal_field_of_view_degrees: float) -> None:
        self.horizontal_field_of_view_degrees = horizontal_field_of_view_degrees

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Build the box and cast one ray through the centre of every pixel."""
        from ..ops.box_scene import build_box_scene

        model = build_box_scene(
            view.picture, seed=seed, horizontal_field_of_view_degrees=self.horizontal_field_of_view_degrees
        )
        return _scaffold_of(model, view)


class RaycastVideo:
    """Frames from the ray caster."""

    contract: EngineContract = EngineContract(
        "raycast", "embedded", frozenset({"geometry", "cameras"}), frozenset({"frames"}), _LICENCE
    )

    def __init__(self, samples_per_pixel: int, device: str) -> None:
        self.samples_per_pixel = samples_per_pixel
        self.device = device

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> _RaycastScene:
        """Build the ray caster's hierarchy and textures once for all clips of the scene."""
        return _RaycastScene(scaffold, self.samples_per_pixel, self.device)


class GroundTruthDepthAndPoses:
    """Exact depth from the geometry; the estimated cameras are the commanded ones."""

    contract: EngineContract = EngineContract(
        "ground_truth", "embedded", frozenset({"geometry", "cameras"}), frozenset({"depth", "cameras"}), _LICENCE
    )

    def __init__(self, device: str) -> None:
        self.device = device

    def open_scene(self, scaffold: Scaffold, view: View) -> _GroundTruthScene:
        """Build the ray caster's hierarchy once for all clips of the scene."""
        return _GroundTruthScene(scaffold, self.device)


class _RaycastScene:
    def __init__(self, scaffold: Scaffold, samples_per_pixel: int, device: str) -> None:
        from ..ops.raycast import RayCaster

        self.scaffold = scaffold
        self.scene = geometry_behind(scaffold)
        self.caster = RayCaster(self.scene, device=device)
        self.samples_per_pixel = samples_per_pixel

    def frames(self, cameras: Sequence[Camera], *, seed: int) -> Iterator[NDArray[np.uint8]]:
        from ..ops.object_motion import instances_at

        for frame, camera in enumerate(cameras):
            self.caster.place(instances_at(self.scene, self.scaffold.motions, frame))
            yield self.caster.render(
                camera.c2w,
                camera.intrinsics,
                camera.height,
                camera.width,
                samples_per_pixel=self.samples_per_pixel,
                seed=seed,
            ).rgb


class _GroundTruthScene:
    def __init__(self, scaffold: Scaffold, device: str) -> None:
        from ..ops.raycast import RayCaster

        self.scaffold = scaffold
        self.scene = geometry_behind(scaffold)
        self.caster = RayCaster(self.scene, device=device)

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        moving = self._moving_objects(commanded) if self.scaffold.motions else None
        return ClipGeometry.at(
            commanded,
            self._depth(commanded, moving),
            metric=self.scaffold.metric,
            moving=moving,
        )

    def _moving_objects(self, commanded: Sequence[Camera]) -> MovingObjects:
        from ..ops.object_motion import object_poses

        shape = (len(commanded), commanded[0].height, commanded[0].width)
        poses = object_poses(self.scene, self.scaffold.motions, len(commanded))
        return MovingObjects(poses, np.zeros(shape, bool))

    def _depth(self, commanded: Sequence[Camera], moving: MovingObjects | None) -> Iterator[NDArray[np.float32]]:
        from ..ops.object_motion import instances_at

        for frame, camera in enumerate(commanded):
            self.caster.place(instances_at(self.scene, self.scaffold.motions, frame))
            seen = self.caster.geometry(camera.c2w, camera.intrinsics, camera.height, camera.width)
            if moving is not None and moving.poses is not None:
                moving.pixels[frame] = np.isin(seen.instance_ids, moving.poses.instance_ids[moving.poses.moving])
            yield seen.depth


def geometry_behind(scaffold: Scaffold) -> SceneModel:
    """The scaffold's geometry. Raises InputError where only the view's depth is known."""
    if scaffold.geometry is None:
        raise InputError(
            "the scaffold has depth but no geometry to cast rays at",
            where="engines.scene_scaffold",
            remedy="Use raycast and ground_truth only after an engine that gives geometry, such as tour_into_picture.",
        )
    return scaffold.geometry


def _scaffold_of(model: SceneModel, view: View) -> Scaffold:
    from ..ops.raycast import RayCaster

    height, width = view.picture.shape[:2]
    seen = RayCaster(model).geometry(np.eye(4), view.intrinsics, height, width)
    return Scaffold(seen.depth, view.intrinsics, model.metric, model, model.description)
