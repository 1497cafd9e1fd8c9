"""Engine `wan_vace`: the 3D cache seen along the cameras, with what it does not show painted by Wan VACE.

GEN3C's idea (Ren et al., CVPR 2025) on a model with open weights: the view's RGB-D pixels are warped to every camera;
Wan VACE is given those frames, a mask of what is missing in them, and the view as a reference image.

Of a scene that is made from a video, frame i is warped from the RGB-D of the video's frame i, as GEN3C does it for
Lyra's dynamic set (its Cache4D). A path that ends at the input's camera is then made as Lyra makes its motion-reversed
views: the video backwards, the camera from near to far, and what comes out turned round again.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError, ContractError, EngineError
from ..ops.trajectories import runs_backwards
from ..ops.video_chunks import plan_chunks, reanchor_depth
from .chunked_clip import ChunkedClip
from .clip_cache import ClipCache
from .diffusers_settings import WAN_STRIDE, WanVaceVideoSettings
from .engines import Camera, GeneratedClip, Part, Scaffold, ScaffoldEngine, View
from .pipeline_engine import (
    Made,
    VideoPipelineEngine,
    Window,
    chunk_seeds,
    picture_of,
    pictures_of,
    require_size,
    require_view_size,
    seeded,
)
from .profile_sections import device_with_index
from .resident_models import ResidentModels

if TYPE_CHECKING:
    from ..ops.scene_cache import SceneCache, SourceFrame

UInt8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

UNSEEN = 128
"""Grey level of what the cache does not show: nothing, in the range that the autoencoder takes, as VACE is used."""

LEAST_WINDOW = 21
"""Frames below which the window is not halved when memory runs out."""


class WanVaceVideo(VideoPipelineEngine):
    """Clips from the scaffold's depth, the view, the prompt and the cameras.

    Args:
        settings: the profile's.
        depth: finds the depth of the last frame of a chunk, for the cache of the next; None: paths longer than the
            window are refused.
        models: where the pipeline stays loaded.
    """

    name: ClassVar[str] = "wan_vace"
    needs: ClassVar[frozenset[Part]] = frozenset({"view", "prompt", "depth", "cameras"})
    gives: ClassVar[frozenset[Part]] = frozenset({"frames", "latents"})
    autoencoder: ClassVar[str] = "AutoencoderKLWan"

    def __init__(
        self,
        settings: WanVaceVideoSettings,
        depth: ScaffoldEngine | None = None,
        models: ResidentModels | None = None,
    ) -> None:
        super().__init__(settings, models)
        self.settings = settings
        self.depth = depth
        least = settings.window_frames if depth is None else max(LEAST_WINDOW, settings.overlap_frames + WAN_STRIDE)
        self.window = Window(
            settings.window_frames, stride=WAN_STRIDE, least=least, device=settings.device, where=settings.weights
        )

    def class_name(self) -> str:
        """WanVACEPipeline."""
        return "WanVACEPipeline"

    def load(self) -> Any:
        """The pipeline, with its autoencoder in the precision of its own.

        Raises:
            EngineError: as `load_pipeline`, or ftfy, with which diffusers cleans Wan's prompts, is not installed.
        """
        if importlib.util.find_spec("ftfy") is None:
            raise EngineError(
                "WanVACEPipeline needs the library ftfy, which is not installed",
                where=self.settings.weights,
                remedy="Install it: pip install ftfy.",
            )
        return super().load()

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> WanVaceScene:
        """Build the scene's 3D cache, once for all of its clips.

        Raises:
            EngineError: objects of the scene's geometry move, which the cache does not show.
        """
        from ..ops.scene_cache import SourceFrame

        if scaffold.motions:
            raise EngineError(
                f"{len(scaffold.motions)} objects of the scene move, and the cache shows them standing still",
                where=f"engine {self.name}",
                remedy="Set motion.objects to 0, or choose another engine for video_latents.",
            )
        base = SourceFrame(view.picture, scaffold.depth, np.eye(4), scaffold.intrinsics)
        words = prompt or self.settings.prompt
        if scaffold.clip is None:
            return WanVaceScene(self, scaffold, view, words, base, self.new_cache(base))
        moving = ClipCache(
            scaffold,
            view,
            device=self.cache_device,
            edge_threshold=self.settings.edge_threshold,
            foreground_masking=self.settings.foreground_masking,
        )
        return WanVaceScene(self, scaffold, view, words, base, None, moving)

    @property
    def cache_device(self) -> str:
        """Warp's name of the device that caches lie on."""
        return device_with_index(self.settings.device)

    def new_cache(self, base: SourceFrame) -> SceneCache:
        """A cache that holds the view."""
        from ..ops.scene_cache import SceneCache

        cache = SceneCache(
            device=self.cache_device,
            edge_threshold=self.settings.edge_threshold,
            foreground_masking=self.settings.foreground_masking,
            # Scaffolds in metres go on to 10 km; of no depth at all nothing is cut off.
            depth_limit=float(base.depth.max()) or 1.0,
        )
        cache.add(base)
        return cache


@dataclass(frozen=True, slots=True)
class WanVaceScene:
    """One scene, ready for its clips.

    Attributes:
        base: the view with its depth.
        cache: holds `base` alone; clips made at once share it. None where there is `moving`.
        moving: every frame of the scene's video with its depth, where it is made from one.
    """

    engine: WanVaceVideo
    scaffold: Scaffold
    view: View
    prompt: str
    base: SourceFrame
    cache: SceneCache | None
    moving: ClipCache | None = None

    def generate(self, cameras: Sequence[Camera], *, seed: int) -> GeneratedClip:
        """What the cameras see: of the cache what it shows, the rest painted.

        A path longer than the model's window is made in chunks. The frames that a chunk shares with the one before are
        given to the model as known; the last of them, with a depth brought onto the cache's, is added to a cache of
        the clip's own, so that what was painted stays where it is; not so in a scene that moves, where it would be seen
        at another time. Latents are given where they show exactly the clip's frames: of a clip made at once, and
        forwards.

        Raises:
            ConfigError: the model does not take the size or the count of frames, or chunks are needed and there is no
                engine for depth.
            EngineError: a chunk's last frame cannot be brought onto the cache, or there are more or fewer cameras than
                frames of the scene's video.
            StageFailed: memory ran out, or two seeds gave a broken chunk.
        """
        engine = self.engine
        require_view_size(cameras, self.view, where=f"engine {engine.name}")
        with engine.pipeline() as pipeline:
            denoiser = pipeline.transformer if pipeline.transformer is not None else pipeline.transformer_2
            multiple = pipeline.vae_scale_factor_spatial * denoiser.config.patch_size[1]
            require_size(cameras[0].height, cameras[0].width, multiple, where=f"engine {engine.name}")
        if self.moving is None:
            return engine.window.run(functools.partial(self._generate, cameras, seed))
        if len(cameras) != len(self.moving):
            raise EngineError(
                f"{len(cameras)} cameras for a video of {len(self.moving)} frames",
                where=f"engine {engine.name}",
                remedy="Make the conditioning view and the camera paths again, with one frames.count.",
            )
        times = range(len(cameras))
        if not runs_backwards([camera.c2w for camera in cameras], self.moving.clip.c2w):
            return engine.window.run(functools.partial(self._generate, cameras, seed, times=times))
        clip = engine.window.run(functools.partial(self._generate, cameras[::-1], seed, times=times[::-1]))
        # The latents are those of the reversed video: a causal autoencoder's are not the others turned round.
        return GeneratedClip(
            np.ascontiguousarray(clip.frames[::-1]), None, None, {**clip.notes, "made_backwards": True}
        )

    def _generate(self, cameras: Sequence[Camera], seed: int, window: int, times: Sequence[int] = ()) -> GeneratedClip:
        """The clip with `window` frames made at once.

        Args:
            times: of a scene that moves, the frame of its video that each camera sees.
        """
        engine, settings = self.engine, self.engine.settings
        chunks = plan_chunks(len(cameras), window=window, overlap=settings.overlap_frames, stride=WAN_STRIDE)
        shared = len(chunks) == 1 or self.moving is not None
        cache = self.cache if shared else self._cache_of_its_own(len(cameras), window)
        first = self.view.picture if self.moving is None else self.moving.clip.frames[times[0]]
        clip = ChunkedClip(engine, np.empty((0, *self.view.picture.shape), np.uint8))
        for chunk, chunk_seed in zip(chunks, chunk_seeds(seed, len(chunks)), strict=True):
            facts: dict[str, Any] = {}
            if chunk.overlap and cache is not None:
                last = len(clip.frames) - 1
                facts["anchor"] = {"frame": last, **self._anchor(cache, cameras[last], clip.frames[last], chunk_seed)}
            seen, missing = self._condition(
                cache, cameras[chunk.start : chunk.stop], clip.frames[chunk.start :], times[chunk.start : chunk.stop]
            )
            facts["unseen_share"] = float(missing.mean())
            clip.add(chunk, functools.partial(self._make, seen, missing, reference=first), seed=chunk_seed, **facts)
        return clip.finished(seed=seed, window_frames=window)

    def _cache_of_its_own(self, frames: int, window: int) -> SceneCache:
        if self.engine.depth is None:
            raise ConfigError(
                f"clips of {frames} frames are made in chunks of {window}, and there is no "
                "engine for the depth of the frames between them",
                where=f"engine {self.engine.name}",
                remedy="Raise window_frames, lower frames.count, or choose a scaffold engine that finds depth.",
            )
        return self.engine.new_cache(self.base)

    def _condition(
        self, cache: SceneCache | None, cameras: Sequence[Camera], made: UInt8, times: Sequence[int] = ()
    ) -> tuple[UInt8, Bool]:
        """What is known of a chunk's frames.

        Args:
            made: (n, H, W, 3), the first n of them as the chunk before made them.
            times: of a scene that moves, the frame of its video that each camera sees.

        Returns:
            (T, H, W, 3) uint8, grey where nothing is known, and (T, H, W) bool, where that is.
        """
        shape = (len(cameras), *self.view.picture.shape[:2])
        seen, missing = np.full((*shape, 3), UNSEEN, np.uint8), np.zeros(shape, bool)
        for index, camera in enumerate(cameras):
            if index < len(made):
                seen[index] = made[index]
                continue
            whole = self._seen_whole(camera, times[index] if self.moving is not None else 0)
            if whole is not None:
                seen[index] = whole
                continue
            if self.moving is not None:
                warped = self.moving.warp(times[index], camera)
            else:
                assert cache is not None
                warped = cache.warp(camera.c2w, camera.intrinsics, camera.height, camera.width)
            seen[index][warped.valid] = warped.rgb[warped.valid]
            missing[index] = ~warped.valid
        return seen, missing

    def _seen_whole(self, camera: Camera, time: int) -> UInt8 | None:
        """The input's own picture where the camera is the one that took it: a warped one lacks its depth edges."""
        if self.moving is not None:
            return self.moving.clip.frames[time] if self.moving.sees_as_input(time, camera) else None
        return self.view.picture if camera.sees_as(self.scaffold.intrinsics) else None

    def _anchor(self, cache: SceneCache, camera: Camera, frame: UInt8, seed: int) -> dict[str, Any]:
        """Add a generated frame to the cache, with its estimated depth where the cache knows none."""
        from ..ops.scene_cache import SourceFrame

        assert self.engine.depth is not None
        estimated = self.engine.depth.build_scaffold(
            View(frame, np.asarray(camera.intrinsics, np.float64), None, {}), seed=seed
        ).depth
        warped = cache.warp(camera.c2w, camera.intrinsics, camera.height, camera.width)
        try:
            depth, alignment = reanchor_depth(estimated, warped.depth, trusted=warped.valid)
        except ContractError as error:
            raise EngineError(
                f"a generated frame cannot be brought onto the 3D cache: {error.found}",
                where=f"engine {self.engine.name}",
                remedy="Shorten the path (trajectories.movement_factor), or raise window_frames.",
            ) from error
        cache.add(SourceFrame(frame, depth, camera.c2w, camera.intrinsics))
        return {"depth_engine": self.engine.depth.contract.name, "alignment": alignment.record()}

    def _make(self, seen: UInt8, missing: Bool, seed: int, reference: UInt8 | None = None) -> Made:
        """A chunk, of which `seen` is known but where it is `missing`; `reference` takes the view's place."""
        picture = self.view.picture if reference is None else reference
        return self.engine.made(functools.partial(self._call, seen, missing, picture, seed))

    def _call(
        self, seen: UInt8, missing: Bool, reference: UInt8, seed: int, pipeline: Any
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(T, 3, H, W) tensor, (1, C, t, h, w) latents, and the notes."""
        engine, settings = self.engine, self.engine.settings
        guided = settings.guidance > 1.0
        denoised = _LastLatents()
        texts = [self.prompt, settings.negative_prompt] if guided else [self.prompt]
        embedded = [
            engine.embeddings((text,), pipeline, functools.partial(self._encode, pipeline, text)) for text in texts
        ]
        output = pipeline(
            prompt_embeds=embedded[0],
            negative_prompt_embeds=embedded[1] if guided else None,
            video=pictures_of(seen),
            mask=pictures_of(missing.astype(np.uint8) * 255),
            reference_images=picture_of(reference) if settings.reference_image else None,
            conditioning_scale=settings.conditioning_scale,
            height=seen.shape[1],
            width=seen.shape[2],
            num_frames=len(seen),
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=seeded(seed),
            callback_on_step_end=denoised,
            output_type="pt",
        )
        notes = engine.notes(
            pipeline,
            output,
            steps=settings.steps,
            guidance=settings.guidance,
            prompt=self.prompt,
            negative_prompt=settings.negative_prompt if guided else None,
            prompt_tokens=settings.prompt_tokens,
            conditioning_scale=settings.conditioning_scale,
            reference_image=settings.reference_image,
            vae_precision=settings.vae_precision,
        )
        # The latent of the reference image comes before those of the frames.
        return output.frames[0], denoised.latents[:, :, int(settings.reference_image) :], notes

    def _encode(self, pipeline: Any, text: str) -> Any:
        """(1, L, d) embeddings."""
        return pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=self.engine.settings.prompt_tokens
        )[0]


class _LastLatents:
    """A pipeline's callback that keeps the latents of the last step."""

    def __init__(self) -> None:
        self.latents: Any = None

    def __call__(self, pipeline: Any, step: int, timestep: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        self.latents = arguments["latents"]
        return {}
