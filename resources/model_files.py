"""The files of a library model on this machine: where they lie, what they hold, under which licence.

Nothing here fetches anything: a hub id stands for files that are already in the local hub cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.errors import EngineError
from ..datasets.files import sha256_of_file, write_bytes_atomically
from .model_settings import ModelSettings, Precision

PIPELINE_INDEX = "model_index.json"
MODEL_CONFIG = "config.json"
UNKNOWN_LICENCE = "unknown"

GATED_MODELS = {
    "black-forest-labs/FLUX.1-dev": "FLUX.1 [dev] Non-Commercial License",
    "black-forest-labs/FLUX.1-Fill-dev": "FLUX.1 [dev] Non-Commercial License",
    "black-forest-labs/FLUX.1-Depth-dev": "FLUX.1 [dev] Non-Commercial License",
    "black-forest-labs/FLUX.1-Canny-dev": "FLUX.1 [dev] Non-Commercial License",
    "black-forest-labs/FLUX.1-Redux-dev": "FLUX.1 [dev] Non-Commercial License",
    "black-forest-labs/FLUX.1-Kontext-dev": "FLUX.1 [dev] Non-Commercial License",
    "black-forest-labs/FLUX.2-dev": "FLUX Non-Commercial License",
    "black-forest-labs/FLUX.2-klein-9B": "FLUX Non-Commercial License",
    "facebook/sam3": "SAM License",
    "facebook/dinov3-vitl16-pretrain-lvd1689m": "DINOv3 License",
    "facebook/VGGT-1B-Commercial": "VGGT License",
    "google/gemma-2-2b-it": "Gemma Terms of Use",
    "google/gemma-3-12b-it": "Gemma Terms of Use",
    "stabilityai/stable-diffusion-3.5-large": "Stability AI Community License",
    "stabilityai/stable-diffusion-3.5-medium": "Stability AI Community License",
}
"""Hub ids whose files are given only to accounts that accepted the licence named, as their model cards ask."""

READ_BY_LIBRARIES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".json", ".txt", ".model", ".jinja"})
"""Endings of the files that hold a model: weights, configurations, tokenizers."""
_WEIGHTS = (".safetensors", ".bin")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REMEMBERED_SIZE = 64 << 20
"""Digests of files at least this large outlive the process; smaller ones are read again in a moment."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's files on this machine.

    Attributes:
        folder: as written by save_pretrained: a pipeline's (model_index.json) or a single model's (config.json).
        id: hub id, or the folder's name.
        revision: as the settings name it.
        commit: of a hub id's files.
        files_digest: SHA-256 (64 hex digits) of every file that the libraries read, by its path inside the folder.
        licence: what the settings say, else the model card; "unknown" where neither does.
    """

    folder: Path
    id: str
    revision: str | None
    commit: str | None
    files_digest: dict[str, str]
    licence: str


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model's files lie, before any of them is read.

    Attributes:
        commit: of a hub id's files.
    """

    path: Path
    commit: str | None


def model_source(settings: ModelSettings, *, subfolder: str | None = None) -> ModelSource:
    """The files that the settings stand for; no model is loaded and nothing is fetched.

    Args:
        subfolder: take only this part of a pipeline, such as "vae"; `folder` stays the pipeline's.

    Raises:
        EngineError: the files are not on this machine, are incomplete, or are of another revision.
    """
    found = model_folder(settings, subfolder=subfolder)
    return ModelSource(
        folder=found.path,
        id=settings.id or found.path.name,
        revision=settings.revision,
        commit=found.commit,
        files_digest={name: file_digest(found.path / name) for name in _files_read(found.path, subfolder)},
        licence=model_licence(settings, found.path),
    )


def model_folder(settings: ModelSettings, *, subfolder: str | None = None) -> ModelFolder:
    """Where the model's files lie, checked to be complete.

    Raises:
        EngineError: as `model_source`.
    """
    found = hub_folder(settings.id, settings.revision) if settings.id else _given_folder(settings.weights)
    required = Path(subfolder, MODEL_CONFIG) if subfolder else None
    if required is not None and not (found.path / required).exists():
        raise EngineError(
            f"{required} is missing",
            where=str(found.path),
            remedy="Name a folder as written by save_pretrained that has this part.",
        )
    if required is None and not any((found.path / name).exists() for name in (PIPELINE_INDEX, MODEL_CONFIG)):
        raise EngineError(
            f"neither {PIPELINE_INDEX} nor {MODEL_CONFIG} is there",
            where=str(found.path),
            remedy="Give a folder as written by save_pretrained, or download the whole model.",
        )
    download = download_command(settings.id, settings.revision) if settings.id else None
    require_complete(found.path, subfolder, download)
    return found


def model_licence(settings: ModelSettings, folder: Path) -> str:
    """Licence of the weights: what the settings say, else the model card in the folder; "unknown" without either."""
    return settings.licence or card_licence(folder)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises EngineError where it cannot be read as one."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(
            f"the file cannot be read ({error})", where=str(file), remedy="Download or write the model again."
        ) from error
    if not isinstance(value, dict):
        raise EngineError("the file holds no JSON object", where=str(file), remedy="Download or write the model again.")
    return value


def pipeline_parts(folder: Path) -> dict[str, tuple[str, str]]:
    """(library, class) of each part of a pipeline that has one, by name; empty for a single model."""
    index = folder / PIPELINE_INDEX
    parts = read_json(index) if index.exists() else {}
    return {
        name: (value[0], value[1])
        for name, value in parts.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value)
    }


# ---------------------------------------------------------------- memory


def device_memory_bytes(settings: ModelSettings, *, subfolder: str | None = None) -> int:
    """Memory that the model takes on its device: as declared in the settings, else the size of its weights there.

    The weights' size is the number of their elements times the bytes of the precision (of the quantisation for what is
    quantised). With offload `model` it is that of the largest part, with `sequential` that of the largest tensor.

    Raises:
        EngineError: as `model_source`.
    """
    if settings.device_memory is not None:
        return round(settings.device_memory * 1e9)
    folder = model_folder(settings, subfolder=subfolder).path
    sizes: dict[str, list[float]] = {}
    for name in _weight_files(folder, subfolder):
        part = Path(name).parent.as_posix()
        sizes.setdefault(part, []).extend(
            count * _bytes_per_element(settings, part) for count in element_counts(folder / name)
        )
    if not sizes:
        return 0
    if settings.offload == "sequential":
        return round(max(max(tensors, default=0) for tensors in sizes.values()))
    parts = [sum(tensors) for tensors in sizes.values()]
    return round(max(parts) if settings.offload == "model" else sum(parts))


BYTES_PER_ELEMENT: dict[Precision, int] = {"float32": 4, "bfloat16": 2, "float16": 2}

DENOISERS = ("transformer", "transformer_2", "unet")
"""Names of the parts of a pipeline that denoise."""


def is_quantised_part(name: str) -> bool:
    """Whether quantisation takes this part of a pipeline: denoisers and text encoders hold nearly all weights."""
    return name in DENOISERS or name.startswith("text_encoder")


def _bytes_per_element(settings: ModelSettings, part: str) -> float:
    full = BYTES_PER_ELEMENT[settings.precision]
    if settings.quantisation == "none" or not (part == "." or is_quantised_part(part)):
        return full
    return 0.5 if settings.quantisation == "bitsandbytes_4bit" else 1


def element_counts(file: Path) -> Iterator[float]:
    """How many elements each tensor of a file of weights has; none of them is read."""
    if file.suffix != ".safetensors":
        # A pickle cannot be looked into without running it; its size in float32 is the nearest guess.
        yield file.stat().st_size / 4
        return
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            count = 1
            for side in tensors.get_slice(name).get_shape():
                count *= side
            yield count


def _weight_files(folder: Path, subfolder: str | None) -> list[str]:
    """Weights, by their path inside the folder: of a part that has both kinds, the safetensors are what is read."""
    files = [name for name in _files_read(folder, subfolder) if name.endswith(_WEIGHTS)]
    with_safetensors = {Path(name).parent for name in files if name.endswith(".safetensors")}
    return [name for name in files if name.endswith(".safetensors") or Path(name).parent not in with_safetensors]


# ---------------------------------------------------------------- where the files lie


def _given_folder(location: str) -> ModelFolder:
    folder = Path(location)
    if not folder.is_dir():
        raise EngineError(
            "there is no such folder",
            where=location,
            remedy="Give a local folder as written by save_pretrained, or a hub id.",
        )
    return ModelFolder(folder, None)


def hub_folder(hub_id: str, revision: str | None) -> ModelFolder:
    """Where the local hub cache has the files of a hub id; whether they are complete is not looked at.

    Raises:
        EngineError: they are not there, or are of another revision.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(hub_id)
    except HFValidationError as error:
        raise EngineError("this is no hub id", where=hub_id, remedy="Write it as owner/name.") from error
    cached = Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=hub_id, repo_type="model")
    wanted = revision or constants.DEFAULT_REVISION
    reference = cached / "refs" / wanted
    named = reference.is_file() and ".." not in reference.parts
    commit = reference.read_text().strip() if named else wanted
    snapshot = cached / "snapshots" / commit
    if _COMMIT.fullmatch(commit) and snapshot.is_dir() and any(snapshot.iterdir()):
        return ModelFolder(snapshot, commit)
    present = _revisions_present(cached)
    if present:
        raise EngineError(
            f"the revision {wanted!r} is not in the local hub cache, which has {', '.join(present)}",
            where=hub_id,
            remedy=f"Name one of these as the revision, or download this one: {download_command(hub_id, revision)}",
        )
    raise _not_cached(hub_id, revision)


def _not_cached(hub_id: str, revision: str | None) -> EngineError:
    command = download_command(hub_id, revision)
    licence = GATED_MODELS.get(hub_id)
    if licence is None:
        return EngineError(
            "the model's files are not in the local hub cache", where=hub_id, remedy=f"Download them: {command}"
        )
    log_in = "" if has_hub_token() else "log in with `hf auth login`, "
    return EngineError(
        f"the model's files are not in the local hub cache, and its licence ({licence}) must be accepted first"
        + ("" if has_hub_token() else "; no hub token is set"),
        where=hub_id,
        remedy=f"Accept the licence on https://huggingface.co/{hub_id}, {log_in}then download: {command}",
    )


def has_hub_token() -> bool:
    """Whether a token for the hub is set (HF_TOKEN, or stored by `hf auth login`)."""
    from huggingface_hub import get_token

    return get_token() is not None


def _revisions_present(cached: Path) -> list[str]:
    """Commits whose files are here, each with the branches and tags that stand for it."""
    names: dict[str, list[str]] = {}
    references = cached / "refs"
    for file in sorted(path for path in references.rglob("*") if path.is_file()) if references.is_dir() else ():
        names.setdefault(file.read_text().strip(), []).append(file.relative_to(references).as_posix())
    snapshots = cached / "snapshots"
    commits = sorted(path.name for path in snapshots.iterdir() if any(path.iterdir())) if snapshots.is_dir() else []
    return [f"{commit} ({', '.join(names[commit])})" if commit in names else commit for commit in commits]


def download_command(hub_id: str, revision: str | None) -> str:
    """What fetches the files of a hub id."""
    return f"hf download {hub_id}" + (f" --revision {revision}" if revision else "")


# ---------------------------------------------------------------- what the files hold


def _files_read(folder: Path, subfolder: str | None) -> list[str]:
    """Files that the libraries read, by their path inside the folder: a pipeline's own and its parts', or a model's."""
    if subfolder is not None:
        places: Sequence[str] = (subfolder,)
    elif (folder / PIPELINE_INDEX).exists():
        places = [name for name in pipeline_parts(folder) if (folder / name).is_dir()]
    else:
        places = ("",)
    files = [
        path.relative_to(folder).as_posix()
        for place in places
        for path in (folder / place).iterdir()
        if path.suffix in READ_BY_LIBRARIES and not path.name.startswith(".") and path.is_file()
    ]
    if subfolder is None and (folder / PIPELINE_INDEX).exists():
        files.append(PIPELINE_INDEX)
    return sorted(files)


def require_complete(folder: Path, subfolder: str | None, download: str | None) -> None:
    """Refuse a folder that lacks parts that its own indices name, as an interrupted download leaves it.

    Args:
        subfolder: look at this part of a pipeline alone.
        download: what fetches the rest, for the remedy.

    Raises:
        EngineError: a part, weights or their contents are missing.
    """
    remedy = f"Download the rest: {download}" if download else "Copy the whole folder again."
    parts = {subfolder: None} if subfolder is not None else pipeline_parts(folder)
    for name in parts:
        if not (folder / name).is_dir():
            raise EngineError(f"the part {name!r} is missing", where=str(folder), remedy=remedy)
    for place in [folder / name for name in parts] or [folder]:
        missing = _missing_shards(place)
        if missing:
            raise EngineError(f"weights are missing: {', '.join(missing)}", where=str(place), remedy=remedy)
        # In the hub cache the names are links to the contents.
        dangling = sorted(path.name for path in place.iterdir() if path.is_symlink() and not path.exists())
        if dangling:
            raise EngineError(f"the contents of {', '.join(dangling)} are gone", where=str(place), remedy=remedy)


def _missing_shards(place: Path) -> list[str]:
    """Shards that an index names and that are not there; an index whose shards are all absent is of another format."""
    for index in sorted(place.glob("*.safetensors.index.json")):
        shards = set(read_json(index).get("weight_map", {}).values())
        missing = sorted(shard for shard in shards if not (place / shard).exists())
        others = [path for path in place.iterdir() if path.name.endswith(_WEIGHTS) and path.name not in shards]
        if missing and not (len(missing) == len(shards) and others):
            return missing
    return []


def file_digest(file: Path) -> str:
    """SHA-256 (64 hex digits) of a file; what large files hold is remembered as long as they are not written to."""
    blob = file.resolve().name
    if file.is_symlink() and _SHA256.fullmatch(blob):
        # The hub cache names large contents by their SHA-256.
        return blob
    status = file.stat()
    return _digest_in_state(file.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest_in_state(file: Path, size: int, modified_ns: int) -> str:
    if size < _REMEMBERED_SIZE:
        return sha256_of_file(file)
    note = _notes_folder() / f"{hashlib.sha256(str(file).encode()).hexdigest()}.json"
    state = {"file": str(file), "bytes": size, "modified_ns": modified_ns}
    remembered = _read_note(note)
    if remembered is not None and {**state, "sha256": remembered.get("sha256")} == remembered:
        return str(remembered["sha256"])
    digest = sha256_of_file(file)
    # Where no note can be left, the file is read again next time.
    with contextlib.suppress(OSError):
        write_bytes_atomically(note, json.dumps({**state, "sha256": digest}).encode())
    return digest


def _notes_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sceneloom" / "digests"


def _read_note(note: Path) -> dict[str, Any] | None:
    try:
        remembered = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    return remembered if isinstance(remembered, dict) and _SHA256.fullmatch(str(remembered.get("sha256"))) else None


def card_licence(folder: Path) -> str:
    """The licence that the model card (README.md) names in its front matter; "unknown" where it names none."""
    card = folder / "README.md"
    if not card.is_file():
        return UNKNOWN_LICENCE
    import yaml
    from huggingface_hub import ModelCard

    try:
        data = ModelCard.load(card, ignore_metadata_errors=True).data
    except (OSError, ValueError, yaml.YAMLError):
        return UNKNOWN_LICENCE
    named = data.get("license_name") if data.get("license") == "other" else data.get("license")
    licences = [str(one) for one in named if one] if isinstance(named, list) else [str(named)] if named else []
    return " AND ".join(licences) or UNKNOWN_LICENCE
