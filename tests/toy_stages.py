"""A small scene pipeline made of plain functions, for tests of what carries stages rather than of the stages.

The stages form a fork: `words` feeds `numbers` and `title`; `total` reads `numbers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from sceneloom.assets.scene_pipeline import ScenePipeline, StageEvent
from sceneloom.assets.stage import Made, Stage, StageContext
from sceneloom.datasets.catalog import SceneEntry
from sceneloom.resources.engines import EngineIdentity, Engines
from sceneloom.resources.profiles import Profile, load_profile
from sceneloom.resources.store import SceneStore

STAGE_NAMES = ("words", "numbers", "title", "total")
INPUTS: Mapping[str, tuple[str, ...]] = {
    "words": (),
    "numbers": ("words",),
    "title": ("words",),
    "total": ("numbers",),
}
PROFILE = """\
format: sceneloom.profile/1
collection: {{name: toys, sources: [prompts.txt]}}
store: {{url: {url}}}
frames: {{count: 17, height: 176, width: 320}}
trajectories: {{names: [left]}}
execution: {{max_attempts: 3}}
seed: 7
"""

Make = Callable[[StageContext], Made]


def toy_profile(folder: Path, url: str = "store", **changes: object) -> Profile:
    """A profile whose store is in `folder`; `changes` replace its top-level values."""
    file = folder / "profile.yaml"
    file.write_text(PROFILE.format(url=url))
    return load_profile(file).model_copy(update=changes)


def toy_scene(scene_id: str = "red-room", prompt: str = "a red room") -> SceneEntry:
    """A prompt scene whose content digest follows from its prompt."""
    return SceneEntry(
        scene_id=scene_id,
        kind="prompt",
        prompt=prompt,
        image_url=None,
        image_sha256=None,
        image_bytes=None,
        image_version=None,
        width=None,
        height=None,
        perceptual_hash=None,
        seed=3,
        split="train",
        licence="CC0-1.0",
        tags=[],
        source="prompts.txt:1",
        content_digest=hashlib.sha256(prompt.encode()).hexdigest(),
    )


def _make_words(context: StageContext) -> Made:
    context.write_json("words.json", {"words": (context.scene.prompt or "").split()})
    return Made()


def _make_numbers(context: StageContext) -> Made:
    words = context.inputs.json("words", "words.json")["words"]
    numbers = np.random.default_rng(context.seed).normal(size=(len(words), 3)).astype(np.float32)
    np.savez(context.scratch / "numbers.npz", numbers=numbers)
    return Made(metrics={"count": len(words)})


def _make_title(context: StageContext) -> Made:
    words = context.inputs.json("words", "words.json")["words"]
    (context.scratch / "title.txt").write_text(" ".join(words).title())
    return Made()


def _make_total(context: StageContext) -> Made:
    numbers = context.inputs.arrays("numbers", "numbers.npz")["numbers"]
    context.write_json("total.json", {"total": float(numbers.sum())})
    return Made()


MAKES: Mapping[str, Make] = {
    "words": _make_words,
    "numbers": _make_numbers,
    "title": _make_title,
    "total": _make_total,
}


def toy_stages(
    *,
    makes: Mapping[str, Make] | None = None,
    code_versions: Mapping[str, str] | None = None,
    weights: str = "1" * 64,
    made: list[tuple[str, str]] | None = None,
    checks: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Stage]:
    """The four stages.

    Args:
        makes: other functions than the usual ones, by stage.
        code_versions: other versions than "1", by stage.
        weights: digest of the weights of the engine that `numbers` uses.
        made: takes (scene, stage) every time a stage's function is called.
        checks: contracts by stage, with their descriptions.
    """

    def stage(name: str) -> Stage:
        make = {**MAKES, **(makes or {})}[name]

        def counted(context: StageContext) -> Made:
            if made is not None:
                made.append((context.scene.scene_id, name))
            return make(context)

        identity = EngineIdentity("toy", "CC0-1.0", {"toy": weights} if name == "numbers" else {})
        return Stage(
            name=name,
            inputs=INPUTS[name],
            code_version=(code_versions or {}).get(name, "1"),
            description=f"The {name} of a scene.",
            kinds=frozenset({"json"}),
            make=counted,
            settings=lambda profile, _: (
                {"constant_rate_factor": profile.video.constant_rate_factor} if name == "numbers" else {}
            ),
            engine=lambda _engines, _scene: identity,
            sources=(),
            checks=(checks or {}).get(name, {}),
        )

    return [stage(name) for name in STAGE_NAMES]


def toy_store(profile: Profile) -> SceneStore:
    """The profile's store."""
    return SceneStore(profile.store.url, profile.collection.name)


def toy_pipeline(profile: Profile, stages: Iterable[Stage], run_id: str = "run") -> ScenePipeline:
    """A pipeline of these stages over the profile's store."""
    return ScenePipeline(profile, toy_store(profile), list(stages), Engines(profile), run_id)


def run(
    pipeline: ScenePipeline, scene: SceneEntry, selected: Iterable[str] = STAGE_NAMES
) -> tuple[bool, list[StageEvent]]:
    """Run the stages of a scene; returns whether all are current and what was reported."""
    events: list[StageEvent] = []
    whole = pipeline.run_scene(scene, selected, events.append)
    return whole, events


def outcomes(events: Iterable[StageEvent]) -> dict[str, str]:
    """How each stage ended."""
    return {event.stage: event.outcome for event in events}
