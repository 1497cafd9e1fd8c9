"""What a process needs to make scenes of one profile: store, engines, mapper and catalogue."""

from __future__ import annotations

from collections.abc import Callable

from ..resources.engines import Engines
from ..resources.profiles import Profile
from ..resources.scene_mapper import LocalSceneMapper, SceneMapper
from ..resources.store import SceneStore
from .catalog import Catalog, read_catalog
from .scene_pipeline import ScenePipeline, StageEvent
from .stages import STAGES


def _ignore(event: StageEvent) -> None:
    """No progress is shown."""


class SceneRuntime:
    """Store, engines, mapper and catalogue of one profile, made once a process.

    Args:
        profile: the profile.
        progress: called with every stage that ends, from the thread that started the batch.
    """

    def __init__(self, profile: Profile, progress: Callable[[StageEvent], None] = _ignore) -> None:
        self.profile = profile
        self.store = SceneStore(profile.store.url, profile.collection.name)
        self.engines = Engines(profile)
        self.mapper: SceneMapper = LocalSceneMapper(profile.execution.parallel_scenes)
        self.progress = progress

    def pipeline(self, run_id: str = "") -> ScenePipeline:
        """A pipeline for one run over the shared store and engines."""
        self.store.remove_abandoned_scratch()
        return ScenePipeline(self.profile, self.store, STAGES, self.engines, run_id)

    def catalog(self) -> Catalog:
        """The catalogue as it was last refreshed. Raises InputError when it never was."""
        return read_catalog(self.store)
