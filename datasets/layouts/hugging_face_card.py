"""The dataset card and the licence page of the Hugging Face layout, from what was published.

The card's header is the Hub's dataset metadata (https://huggingface.co/docs/hub/datasets-cards).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..latent_spaces import LatentSpace
from ..licences import Commercial, LicenceVerdict, read_licence
from .manifest import CONVENTIONS

_HUB_LICENCES = frozenset(
    (
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "isc",
        "zlib",
        "bsl-1.0",
        "ncsa",
        "afl-3.0",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nd-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl-2.1",
        "lgpl-3.0",
        "agpl-3.0",
        "mpl-2.0",
        "odbl-1.0",
        "pddl-1.0",
        "unlicense",
        "ofl-1.1",
        "apple-amlr",
    )
)
_HUB_NAMES = {"odbl-1.0": "odbl", "pddl-1.0": "pddl"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card says.

    Attributes:
        clips, scenes: numbers by split.
        prompts: number of scenes with a text.
        moving: number of scenes whose objects move.
        sizes: (frames, height, width) of the clips, each once.
        metric: whether the clips are in metres: (True,), (False,) or both.
        example: path of one clip's file by field.
        engines: (stage, engine), each once.
        engine_licences: licences by engine.
        input_licences: number of scenes by licence of their source.
    """

    name: str
    citation: str | None
    options: Mapping[str, str]
    clips: Mapping[str, int]
    scenes: Mapping[str, int]
    prompts: int
    moving: int
    trajectories: tuple[str, ...]
    sizes: tuple[tuple[int, int, int], ...]
    metric: tuple[bool, ...]
    fields: tuple[str, ...]
    example: Mapping[str, str]
    engines: tuple[tuple[str, str], ...]
    engine_licences: Mapping[str, tuple[str, ...]]
    input_licences: Mapping[str | None, int]
    latent_spaces: Mapping[str, LatentSpace]
    verdict: LicenceVerdict

    def summary(self) -> str:
        """One sentence on what the dataset is."""
        sizes = ", ".join(f"{frames} frames of {height} × {width}" for frames, height, width in self.sizes)
        return (
            f"{sum(self.clips.values())} synthetic clips of {sum(self.scenes.values())} 3D scenes along the camera "
            f"paths {', '.join(self.trajectories)} ({sizes} pixels), with {', '.join(self.fields)}."
        )


def header_licences(facts: CardFacts) -> list[str]:
    """Licences that the dataset as a whole is under: the inputs', and of the engines those that pass a condition on."""
    inputs = {read_licence(licence).name for licence in facts.input_licences}
    engines = [read_licence(licence) for licences in facts.engine_licences.values() for licence in licences]
    engines += [read_licence(space.licence) for space in facts.latent_spaces.values()]
    binding = {each.name for each in engines if each.share_alike or each.commercial is not Commercial.ALLOWED}
    return sorted(inputs | binding)


def dataset_card(facts: CardFacts) -> str:
    """README.md."""
    parts = [_header(facts), f"# {facts.name}", facts.summary(), _counts(facts), _files(facts), _conventions(facts)]
    parts += [_making(facts), _licences(facts), _loading(facts)]
    if facts.citation:
        parts.append(f"## Citation\n\n```\n{facts.citation}\n```")
    return "\n\n".join(parts) + "\n"


def licence_page(facts: CardFacts) -> str:
    """LICENSE.md."""
    inputs = sorted((licence or "none stated", count) for licence, count in facts.input_licences.items())
    spaces = [(f"latent space {name}", space.licence or "none stated") for name, space in facts.latent_spaces.items()]
    engines = [(f"engine {engine}", ", ".join(found)) for engine, found in facts.engine_licences.items()]
    verdict = facts.verdict
    parts = [
        "# Licences",
        "## Inputs\n\n| licence | scenes |\n|---|---|\n" + "\n".join(f"| {name} | {count} |" for name, count in inputs),
        "## Engines\n\n| what | licence |\n|---|---|\n"
        + "\n".join(f"| {what} | {licence} |" for what, licence in [*engines, *spaces]),
        "## Commercial use\n\n" + (_bullets(verdict.reasons) if verdict.reasons else "Allowed by all of them."),
    ]
    if verdict.attribution:
        parts.append("## To be named\n\n" + _bullets(verdict.attribution))
    if verdict.share_alike:
        parts.append("## Passed on to what is made of it\n\n" + _bullets(verdict.share_alike))
    return "\n\n".join(parts) + "\n"


def _header(facts: CardFacts) -> str:
    count = sum(facts.clips.values())
    lines = ["---", *_licence_lines(header_licences(facts)), f"pretty_name: {json.dumps(facts.name)}"]
    lines += ["task_categories:", "- text-to-video", "- image-to-video", "- depth-estimation", "- image-to-3d"]
    lines += ["size_categories:", f"- {next((size for limit, size in _SIZES if count < limit), _LARGEST)}"]
    lines += ["tags:", "- 3d", "- camera-control", "- synthetic", "- video", "- croissant"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for split in facts.clips:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "\n".join([*lines, "---"])


def _licence_lines(names: list[str]) -> list[str]:
    on_the_hub = [_HUB_NAMES.get(name.lower(), name.lower()) for name in names if name.lower() in _HUB_LICENCES]
    if len(on_the_hub) < len(names):
        # The Hub knows no name for all of it; the page says what holds for what.
        return ["license: other", f"license_name: {json.dumps(' and '.join(names))}", "license_link: LICENSE.md"]
    if len(names) == 1:
        return [f"license: {on_the_hub[0]}"]
    return ["license:", *(f"- {name}" for name in on_the_hub)]


def _counts(facts: CardFacts) -> str:
    rows = [f"| {split} | {count} | {facts.scenes[split]} |" for split, count in facts.clips.items()]
    return "\n".join(["| split | clips | scenes |", "|---|---|---|", *rows])


def _files(facts: CardFacts) -> str:
    said = {
        "rgb": "H.264, a key frame every few frames",
        "depth": "one EXR a frame, channel `Z`, half float",
        "latents": "(C, t, h, w) float16",
        "cameras": "`c2w` (T, 4, 4), `intrinsics` (T, 4), and `estimated_…` where cameras were estimated",
    }
    rows = [f"| `{name}` | `{facts.example[name]}` | {said[name]} |" for name in facts.fields]
    table = "\n".join(["| column | for example | content |", "|---|---|---|", *rows])
    return (
        "## Files\n\nOne row of `data/*.parquet` is one clip; its columns name the clip's files, with `…_bytes` and "
        f"`…_sha256` of each.\n\n{table}"
    )


def _conventions(facts: CardFacts) -> str:
    metric = "metres" if all(facts.metric) else "metres where the column `metric` is true, else of no known unit"
    lines = [f"{name.replace('_', ' ')}: {said}" for name, said in CONVENTIONS.items()]
    lines.append(f"lengths: {metric}")
    for name, space in facts.latent_spaces.items():
        lines.append(
            f"latent space `{name}`: {space.channels} channels, strides {space.temporal_stride} × "
            f"{space.spatial_stride} × {space.spatial_stride}, stored = (z - mean) / std · {space.scale:g}, weights "
            f"`{space.weights_digest or 'unknown'}`; models of another space cannot use these latents"
        )
    return "## Conventions\n\n" + _bullets(lines)


def _making(facts: CardFacts) -> str:
    rows = [f"| {stage} | `{engine}` |" for stage, engine in facts.engines]
    table = "\n".join(["| stage | engine |", "|---|---|", *rows])
    total = sum(facts.scenes.values())
    said = f"All frames are synthetic. {facts.prompts} of {total} scenes have a prompt."
    if facts.moving:
        said += f" Objects move in {facts.moving} of them: those where the column `moving` is true."
    return f"## How it was made\n\n{said}\n\n{table}"


def _licences(facts: CardFacts) -> str:
    if facts.verdict.allowed:
        said = "Commercial use is allowed by the licences of all inputs and engines."
    else:
        said = "Not for commercial use:\n\n" + _bullets(facts.verdict.reasons)
    return f"## Licences\n\n{said}\n\n`LICENSE.md` lists the licence of every input and engine."


def _loading(facts: CardFacts) -> str:
    split = next(iter(facts.clips))
    lines = [
        "from datasets import load_dataset",
        "",
        'clips = load_dataset("PATH OR REPOSITORY")',
        f'row = clips["{split}"][0]',
    ]
    if "latents" in facts.fields:
        lines = ["import numpy as np", *lines, "latents = np.load(f\"{ROOT}/{row['latents']}\")"]
    return "## Loading\n\n```python\n" + "\n".join(lines) + "\n```\n\nPaths are relative to the root of the dataset."


def _bullets(lines: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)
