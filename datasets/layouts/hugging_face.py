"""A directory for `hf upload`: a dataset card, tables that the Hub's viewer shows, and the files of each clip.

    README.md                                   dataset card: YAML header and what a reader has to know
    LICENSE.md                                  licences of inputs and engines, and what they ask for
    croissant.json                              Croissant 1.1 metadata
    data/<split>-NNNNN.parquet                  one row a clip: scalars, prompt, paths, sizes and SHA-256 of its files
    clips/<scene>/<trajectory>.mp4              H.264
    clips/<scene>/<trajectory>.latents.npy      (C, t, h, w) float16
    clips/<scene>/<trajectory>.depth.zip        %05d.exr, one half-float channel Z, as ViPE and Lyra store depth
    clips/<scene>/<trajectory>.cameras.npz      c2w (T, 4, 4), intrinsics (T, 4), and the estimated ones if there are

Each kind of file can be fetched alone (`hf download --include "clips/*.latents.npy"`). Paths are relative to the root.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..camera_conventions import check_c2w, check_intrinsics
from ..errors import InputError, SceneloomError
from ..files import sha256_of_file
from ..licences import LicenceVerdict, read_licence
from ..parquet import parquet_table, write_parquet
from ..vipe_files import encode_depth_archive
from .croissant import Described, FileSet, TableFile, croissant_metadata, described_columns
from .frame_files import Findings, clips_of, json_bytes
from .hugging_face_card import CardFacts, dataset_card, header_licences, licence_page
from .publishing import commercial_verdict
from .release import (
    Finding,
    FindingKind,
    Layout,
    LayoutSummary,
    ReleaseClip,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)

FIELDS: Mapping[str, str] = {"rgb": "mp4", "depth": "depth.zip", "latents": "latents.npy", "cameras": "cameras.npz"}
"""Ending of the file of each field."""

OPTIONS: Mapping[str, str] = {
    "name": "Name of the dataset; without it the word `sceneloom-scenes`.",
    "version": "MAJOR.MINOR.PATCH; without it 1.0.0.",
    "url": "Where the dataset will be found.",
    "creator": "Organisation that publishes it.",
    "date": "Day of publication, YYYY-MM-DD.",
    "citation": "How to cite it, best as BibTeX.",
}

ROWS_PER_TABLE = 10_000
"""At about 10 kB a row with its preview, a table stays near 100 MB."""

_PREVIEW_SIDE = 256
_FILES_OF_A_REPOSITORY = 100_000
"""The Hub advises against more files in one repository."""

_DESCRIPTIONS: Mapping[str, str] = {
    "clip": "Name of the clip, <scene>-<trajectory>.",
    "scene_id": "Name of its scene.",
    "trajectory": "Name of its camera path.",
    "split": "train, validation or test.",
    "kind": "What the scene was made from.",
    "prompt": "Text of the scene; null for a picture without caption.",
    "seed": "Seed of the scene's random draws.",
    "licence": "Licence of the prompt or picture; null where its source states none.",
    "engines": "Engine by stage, as JSON.",
    "content_key": "Digest of all that made the scene.",
    "frames": "Number of frames.",
    "height": "Height in pixels.",
    "width": "Width in pixels.",
    "frames_per_second": "Rate that the video declares.",
    "metric": "Whether depth and translations are truly in metres.",
    "moving": "Whether objects of the scene move while the clip runs.",
    "latent_space": "Id of the latents' space; null without one.",
    "rgb": "Path of the MP4 file.",
    "depth": "Path of the archive of EXR frames: z-depth, 0 = invalid.",
    "latents": "Path of the (C, t, h, w) float16 array, normalised as the latent space declares.",
    "cameras": "Path of the cameras: camera-to-world, OpenCV axes; intrinsics in pixels, centres at +0.5.",
}
_SCALARS: Mapping[str, pa.DataType] = {
    "clip": pa.string(),
    "scene_id": pa.string(),
    "trajectory": pa.string(),
    "split": pa.string(),
    "kind": pa.string(),
    "prompt": pa.string(),
    "seed": pa.int64(),
    "licence": pa.string(),
    "engines": pa.string(),
    "content_key": pa.string(),
    "frames": pa.int32(),
    "height": pa.int32(),
    "width": pa.int32(),
    "frames_per_second": pa.float64(),
    "metric": pa.bool_(),
    "moving": pa.bool_(),
    "latent_space": pa.string(),
}
_MAY_BE_NULL = ("prompt", "licence", "latent_space")
_PREVIEW = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_MEDIA_TYPES = {
    "rgb": "video/mp4",
    "depth": "application/zip",
    "latents": "https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html",
    "cameras": "https://numpy.org/doc/stable/reference/generated/numpy.savez.html",
}


def table_schema(fields: Sequence[str]) -> pa.Schema:
    """Columns of the tables when these fields of `FIELDS` are published."""
    columns = [pa.field(name, kind, nullable=name in _MAY_BE_NULL) for name, kind in _SCALARS.items()]
    for name in fields:
        columns += [
            pa.field(name, pa.string(), nullable=False),
            pa.field(f"{name}_bytes", pa.int64(), nullable=False),
            pa.field(f"{name}_sha256", pa.string(), nullable=False),
        ]
    if "rgb" in fields:
        columns.append(pa.field("preview", _PREVIEW))
    # The viewer draws a column as pictures when the schema says so in this form.
    features = {"preview": {"_type": "Image"}} if "rgb" in fields else {}
    return pa.schema(columns, {"huggingface": json.dumps({"info": {"features": _hub_features(columns, features)}})})


def _hub_features(columns: Sequence[pa.Field], special: Mapping[str, Any]) -> dict[str, Any]:
    names = {pa.string(): "string", pa.bool_(): "bool", pa.int32(): "int32", pa.int64(): "int64"}
    return {
        column.name: special.get(column.name) or {"dtype": names.get(column.type, "float64"), "_type": "Value"}
        for column in columns
    }


# --- write ----------------------------------------------------------------------------------------------------------


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory.

    Raises:
        InputError: there is no clip, a scene lacks a latent space although latents are wanted, or the date is none.
    """
    _require_date(request.options.get("date"))
    fields = [name for name in FIELDS if request.wants(name)]
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, scene, clip in clips_of(scenes, LAYOUT.name):
        if "latents" in fields and scene.latent_space is None:
            raise InputError(
                "the scene has no latent space",
                where=f"layout {LAYOUT.name}, scene {scene.scene_id}",
                remedy="Publish without the field latents.",
            )
        row = _scalars(name, scene, clip) | _write_files(directory, scene, clip, fields)
        rows.setdefault(scene.split, []).append(row)
    schema = table_schema(fields)
    tables = [table for split in sorted(rows) for table in _write_tables(directory, split, rows[split], schema)]
    verdict = commercial_verdict(scenes)
    facts = _facts(scenes, rows, fields, request, verdict)
    directory.path("README.md").write_text(dataset_card(facts), encoding="utf-8")
    directory.path("LICENSE.md").write_text(licence_page(facts), encoding="utf-8")
    described = _described(facts, tables, schema, scenes)
    directory.path("croissant.json").write_bytes(json_bytes(croissant_metadata(described)))
    clips = sum(len(each) for each in rows.values())
    return LayoutSummary({"clips": clips, "scenes": len(scenes)}, _notes(request, clips * len(fields)))


def _require_date(date: str | None) -> None:
    try:
        valid = date is None or datetime.date.fromisoformat(date).isoformat() == date
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f'"{date}" is no day', where="option date", remedy="Write YYYY-MM-DD.")


def _notes(request: ReleaseRequest, files: int) -> tuple[str, ...]:
    notes = ["hf upload --repo-type dataset NAME/OF-IT DIRECTORY . uploads it"]
    missing = [name for name in ("url", "creator", "date") if name not in request.options]
    if missing:
        notes.append(f"a public dataset also states {', '.join(missing)} in croissant.json: --option NAME=VALUE")
    if files > _FILES_OF_A_REPOSITORY:
        notes.append(f"{files} files are more than a repository on the Hub takes well: publish the layout webdataset")
    return tuple(notes)


def _scalars(name: str, scene: ReleaseScene, clip: ReleaseClip) -> dict[str, Any]:
    return {
        "clip": name,
        "scene_id": scene.scene_id,
        "trajectory": clip.trajectory,
        "split": scene.split,
        "kind": scene.kind,
        "prompt": scene.prompt,
        "seed": scene.seed,
        "licence": scene.licence,
        "engines": json.dumps(dict(scene.engines), sort_keys=True),
        "content_key": scene.content_key,
        "frames": clip.frames,
        "height": clip.height,
        "width": clip.width,
        "frames_per_second": float(clip.frames_per_second),
        "metric": clip.metric,
        "moving": scene.moving,
        "latent_space": scene.latent_space.id if scene.latent_space is not None else None,
    }


def _write_files(
    directory: ReleaseDirectory, scene: ReleaseScene, clip: ReleaseClip, fields: Sequence[str]
) -> dict[str, Any]:
    encoders = {
        "rgb": clip.rgb_mp4,
        "depth": lambda: encode_depth_archive(clip.depth()),
        "latents": lambda: _npy(clip.latents()),
        "cameras": lambda: _cameras(clip),
    }
    row: dict[str, Any] = {}
    for name in fields:
        path = f"clips/{scene.scene_id}/{clip.trajectory}.{FIELDS[name]}"
        content = encoders[name]()
        directory.path(path, scene.scene_id).write_bytes(content)
        row |= {name: path, f"{name}_bytes": len(content), f"{name}_sha256": hashlib.sha256(content).hexdigest()}
    if "rgb" in fields:
        row["preview"] = {"bytes": _jpeg(clip.rgb([0])[0]), "path": None}
    return row


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, np.float16), allow_pickle=False)
    return buffer.getvalue()


def _cameras(clip: ReleaseClip) -> bytes:
    c2w, intrinsics = clip.cameras()
    arrays = {"c2w": c2w, "intrinsics": intrinsics}
    with contextlib.suppress(InputError):  # Not every clip has estimated cameras.
        arrays["estimated_c2w"], arrays["estimated_intrinsics"] = clip.cameras(estimated=True)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _jpeg(picture: np.ndarray) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _write_tables(
    directory: ReleaseDirectory, split: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> Iterator[TableFile]:
    for number, start in enumerate(range(0, len(rows), ROWS_PER_TABLE)):
        name = f"data/{split}-{number:05d}.parquet"
        path = directory.path(name)
        table = pa.Table.from_pylist(list(rows[start : start + ROWS_PER_TABLE]), schema=schema)
        write_parquet(path, table, schema)
        yield TableFile(name, path.stat().st_size, sha256_of_file(path))


def _facts(
    scenes: Sequence[ReleaseScene],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    fields: Sequence[str],
    request: ReleaseRequest,
    verdict: LicenceVerdict,
) -> CardFacts:
    first = next(iter(rows.values()))[0]
    every = [row for split in rows.values() for row in split]
    engine_licences: dict[str, set[str]] = {}
    for scene in scenes:
        for engine, licence in scene.engine_licences.items():
            engine_licences.setdefault(engine, set()).add(licence)
    return CardFacts(
        name=request.options.get("name", "sceneloom-scenes"),
        citation=request.options.get("citation"),
        options=request.options,
        clips={split: len(rows[split]) for split in sorted(rows)},
        scenes=Counter(scene.split for scene in scenes if scene.clips),
        prompts=sum(scene.prompt is not None for scene in scenes),
        moving=sum(scene.moving for scene in scenes),
        trajectories=tuple(dict.fromkeys(row["trajectory"] for row in every)),
        sizes=tuple(sorted({(row["frames"], row["height"], row["width"]) for row in every})),
        metric=tuple(sorted({row["metric"] for row in every})),
        fields=tuple(fields),
        example={name: first[name] for name in fields},
        engines=tuple(sorted({pair for scene in scenes for pair in scene.engines.items()})),
        engine_licences={engine: tuple(sorted(found)) for engine, found in sorted(engine_licences.items())},
        input_licences=Counter(scene.licence for scene in scenes),
        latent_spaces={scene.latent_space.id: scene.latent_space for scene in scenes if scene.latent_space is not None},
        verdict=verdict,
    )


def _described(
    facts: CardFacts, tables: Sequence[TableFile], schema: pa.Schema, scenes: Sequence[ReleaseScene]
) -> Described:
    version = facts.options.get("version", "1.0.0")
    sizes = {f"{name}_bytes": f"Size in bytes of the file in {name}." for name in facts.fields}
    sums = {f"{name}_sha256": f"SHA-256 of the file in {name}, hexadecimal." for name in facts.fields}
    licences = [read_licence(name) for name in header_licences(facts)]
    engines = [engine for engine, _ in sorted(Counter(engine for _, engine in facts.engines).items())]
    return Described(
        name=facts.name,
        description=facts.summary(),
        version=version,
        licences=[licence.url or licence.name for licence in licences],
        keywords=["3D", "camera control", "depth", "synthetic", "video"],
        tables=tables,
        tables_glob="data/*.parquet",
        schema=schema,
        columns={**_DESCRIPTIONS, **sizes, **sums},
        file_sets=[
            FileSet(f"{name}-files", f"clips/*.{FIELDS[name]}", _MEDIA_TYPES[name], _DESCRIPTIONS[name])
            for name in facts.fields
        ],
        engines=engines,
        rai=_responsible_ai(facts, engines, scenes),
        url=facts.options.get("url"),
        creator=facts.options.get("creator"),
        date_published=facts.options.get("date"),
        cite_as=facts.citation or f"{facts.name}, version {version}: synthetic 3D scenes made with sceneloom.",
    )


_NAMES_OF_KINDS = {"image": "pictures", "video": "videos"}


def _responsible_ai(facts: CardFacts, engines: Sequence[str], scenes: Sequence[ReleaseScene]) -> dict[str, Any]:
    given = {name: sum(scene.kind == kind for scene in scenes) for kind, name in _NAMES_OF_KINDS.items()}
    personal = "None: every frame was generated from text."
    if any(given.values()):
        made_from = " and ".join(f"{count} scenes were made from {name}" for name, count in given.items() if count)
        personal = f"{made_from}, which were not searched for personal information."
    limitations = ["Frames are synthetic: their statistics are not those of photographs."]
    if False in facts.metric:
        limitations.append("Not all depth and translations are in metres; the column metric says which are.")
    limitations += [f"Not for commercial use: {reason}." for reason in facts.verdict.reasons]
    return {
        "dataCollection": "Synthetic: every clip was generated by software from a prompt, picture or video and a seed.",
        "dataCollectionType": ["Synthetic generation"],
        "dataPreprocessingProtocol": [f"{space}: latents are normalised as declared" for space in facts.latent_spaces],
        "machineAnnotationTools": list(engines),
        "dataLimitations": limitations,
        "dataUseCases": ["Training of camera-controlled video generators and of 3D scene decoders."],
        "personalSensitiveInformation": [personal],
    }


# --- examine --------------------------------------------------------------------------------------------------------


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults that the Hub's viewer, `datasets`, Croissant loaders, or whoever follows the paths would stumble over."""
    findings = Findings(scene_of)
    known = {"README.md", "LICENSE.md", "croissant.json"}
    tables = {}
    for path in sorted(root.glob("data/*")):
        name = path.relative_to(root).as_posix()
        table = _examine_table(findings, path, name)
        if table is not None:
            tables[name] = table
        known.add(name)
    if not tables:
        findings.add("data", FindingKind.MISSING, "there is no table; load_dataset finds no data files")
    rows = [(name, row) for name, table in tables.items() for row in table.to_pylist()]
    twice = [clip for clip, count in Counter(row["clip"] for _, row in rows).items() if count > 1]
    if twice:
        findings.add("data", FindingKind.MISALIGNED, f"{', '.join(twice[:5])} stand in more than one row")
    for name, row in rows:
        known.update(_examine_clip(findings, root, name, row))
    _examine_card(findings, root, tables)
    _examine_licence(findings, root)
    _examine_croissant(findings, root, tables)
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not path.is_dir() and name not in known:
            findings.add(name, FindingKind.UNEXPECTED, "no row names it; it would be uploaded all the same")
    return findings.found


def _examine_table(findings: Findings, path: Path, name: str) -> pa.Table | None:
    try:
        table = parquet_table(path.read_bytes())
    except (pa.ArrowException, OSError) as error:
        message = f"it is not a whole Parquet table ({error}); load_dataset would stop here"
        findings.add(name, FindingKind.TRUNCATED, message)
        return None
    fields = [field for field in FIELDS if field in table.schema.names]
    if not table.schema.equals(table_schema(fields)):
        expected = table_schema(fields)
        odd = sorted(set(expected.names) ^ set(table.schema.names)) or ["another type or order"]
        message = f"the columns are not the layout's ({', '.join(odd)}); rows cannot be joined with other tables"
        findings.add(name, FindingKind.OUT_OF_CONVENTION, message)
        return None
    split = path.name.rpartition("-")[0]
    others = set(table.column("split").to_pylist()) - {split}
    if others:
        message = f"it holds rows of the split {', '.join(sorted(others))}; the Hub would serve them as {split}"
        findings.add(name, FindingKind.MISALIGNED, message)
    return table


def _examine_clip(findings: Findings, root: Path, table: str, row: Mapping[str, Any]) -> set[str]:
    """The files that a row names."""
    fields = [field for field in FIELDS if field in row]
    checks = {"rgb": _video_fault, "depth": _depth_fault, "latents": _latents_fault, "cameras": _cameras_fault}
    for name in fields:
        path = root / row[name]
        if row[name] != f"clips/{row['scene_id']}/{row['trajectory']}.{FIELDS[name]}":
            message = f"the row of {row['clip']} names {row[name]}; the clip would be paired with another's {name}"
            findings.add(table, FindingKind.MISALIGNED, message)
        elif not path.is_file():
            findings.add(row[name], FindingKind.MISSING, f"the row of {row['clip']} names it; readers would stop there")
        elif path.stat().st_size != row[f"{name}_bytes"]:
            short = path.stat().st_size < row[f"{name}_bytes"]
            kind = FindingKind.TRUNCATED if short else FindingKind.CHANGED
            findings.add(row[name], kind, f"it holds {path.stat().st_size} bytes, its row says {row[f'{name}_bytes']}")
        elif sha256_of_file(path) != row[f"{name}_sha256"]:
            findings.add(row[name], FindingKind.CHANGED, "its SHA-256 is not the one in its row; the data differs")
        elif fault := _fault_of(checks[name], path, row):
            message = f"{fault}; whoever trusts the row would stop, or pair what does not belong together"
            findings.add(row[name], FindingKind.MISALIGNED, message)
    return {row[name] for name in fields}


def _fault_of(check: Any, path: Path, row: Mapping[str, Any]) -> str | None:
    try:
        return check(path, row)
    except (SceneloomError, OSError, ValueError, KeyError) as error:
        return f"it cannot be used ({error})"


def _video_fault(path: Path, row: Mapping[str, Any]) -> str | None:
    from ..video import probe

    info = probe(path)
    found, expected = (info.frames, info.height, info.width), (row["frames"], row["height"], row["width"])
    return f"the video is {found} (frames, height, width), its row says {expected}" if found != expected else None


def _depth_fault(path: Path, row: Mapping[str, Any]) -> str | None:
    from ..exr import decode_exr
    from ..vipe_files import archive_frames

    frames = archive_frames(path)
    if frames != list(range(row["frames"])):
        return f"it holds {len(frames)} frames of depth, its row says {row['frames']}"
    plane = decode_exr(_first_member(path), str(path))["Z"]
    size = (row["height"], row["width"])
    return f"depth is {plane.shape}, its row says {size}" if plane.shape != size else None


def _first_member(path: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0])


def _latents_fault(path: Path, row: Mapping[str, Any]) -> str | None:
    latents = np.load(path, mmap_mode="r", allow_pickle=False)
    if latents.dtype != np.float16 or latents.ndim != 4:
        return f"latents are {latents.dtype}{latents.shape}, expected float16 (C, t, h, w)"
    return None


def _cameras_fault(path: Path, row: Mapping[str, Any]) -> str | None:
    with np.load(path, allow_pickle=False) as arrays:
        c2w, intrinsics = arrays["c2w"], arrays["intrinsics"]
    if len(c2w) != row["frames"] or len(intrinsics) != row["frames"]:
        return f"there are {len(c2w)} poses and {len(intrinsics)} intrinsics, its row says {row['frames']} frames"
    check_c2w(c2w, where=path.name)
    check_intrinsics(intrinsics, where=path.name, size=(row["height"], row["width"]))
    return None


def _examine_card(findings: Findings, root: Path, tables: Mapping[str, pa.Table]) -> None:
    name = "README.md"
    text = _text_of(findings, root, name, "the Hub shows no card and guesses the splits")
    if text is None:
        return
    header, closed, body = text.removeprefix("---\n").partition("\n---\n")
    if not text.startswith("---\n") or not closed:
        findings.add(name, FindingKind.TRUNCATED, "the YAML header does not end; the Hub refuses the card")
        return
    if not any(line.startswith("license:") for line in header.splitlines()):
        findings.add(name, FindingKind.OUT_OF_CONVENTION, "the header names no licence; the Hub would show none")
    counts: Counter[str] = Counter()
    for table, content in tables.items():
        counts[Path(table).name.rpartition("-")[0]] += content.num_rows
    for split, count in sorted(counts.items()):
        if f"path: data/{split}-*.parquet" not in header:
            message = f"the header does not name the tables of {split}; load_dataset would leave them out"
            findings.add(name, FindingKind.MISALIGNED, message)
        if f"| {split} | {count} |" not in body:
            message = f"the card does not say that {split} has {count} clips, as its tables do"
            findings.add(name, FindingKind.MISALIGNED, message)


def _examine_licence(findings: Findings, root: Path) -> None:
    text = _text_of(findings, root, "LICENSE.md", "whoever loads the data cannot tell what is permitted")
    if text is not None and "## Commercial use" not in text:
        message = "it does not say whether commercial use is permitted"
        findings.add("LICENSE.md", FindingKind.TRUNCATED, message)


def _text_of(findings: Findings, root: Path, name: str, consequence: str) -> str | None:
    try:
        return (root / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        findings.add(name, FindingKind.MISSING, f"there is no such file; {consequence}")
    except (OSError, UnicodeDecodeError) as error:
        findings.add(name, FindingKind.CHANGED, f"it cannot be read ({error}); {consequence}")
    return None


def _examine_croissant(findings: Findings, root: Path, tables: Mapping[str, pa.Table]) -> None:
    name = "croissant.json"
    text = _text_of(findings, root, name, "Croissant loaders do not know the dataset")
    if text is None:
        return
    try:
        content = json.loads(text)
        objects = {each["contentUrl"]: each for each in content["distribution"] if "contentUrl" in each}
        columns = {field["source"]["extract"]["column"] for field in content["recordSet"][0]["field"]}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        findings.add(name, FindingKind.TRUNCATED, f"it is no Croissant metadata ({error!r}); mlcroissant refuses it")
        return
    for table, content in tables.items():
        if table not in objects:
            message = f"{table} is not in its distribution; loaders cannot check it"
            findings.add(name, FindingKind.MISALIGNED, message)
        elif objects[table].get("sha256") != sha256_of_file(root / table):
            message = "its SHA-256 is not the one in croissant.json; whoever checks it takes it for damaged"
            findings.add(table, FindingKind.CHANGED, message)
        if columns != set(described_columns(content.schema)):
            message = f"its fields are not the columns of {table}; mlcroissant stops at the one it cannot find"
            findings.add(name, FindingKind.MISALIGNED, message)
    for table in sorted(objects.keys() - tables.keys()):
        if not (root / table).is_file():
            findings.add(table, FindingKind.MISSING, "croissant.json lists it; whoever fetches the tables stops there")


LAYOUT = Layout(
    name="hugging_face",
    consumer="Hugging Face datasets, the Hub's viewer and Croissant loaders",
    description="A directory for `hf upload`: dataset card, Parquet tables, Croissant metadata and a clip's files.",
    fields=tuple(FIELDS),
    write=write,
    examine=examine,
    options=OPTIONS,
)
