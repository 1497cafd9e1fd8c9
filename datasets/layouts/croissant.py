"""Croissant metadata of a published dataset: what its files and columns are, how they came to be, under which terms.

Croissant 1.1 (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html) is JSON-LD on schema.org's Dataset;
the RAI 1.0 vocabulary adds how the data was made and what it is not good for. Tables are FileObjects with their
checksums, and together the FileSet that the record set's columns are read from; the clips' own files are FileSets,
since there are too many to list, and their checksums are columns of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
PARQUET = "application/x-parquet"

_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

_DATA_TYPES: Mapping[pa.DataType, str] = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.float64(): "cr:Float64",
}


@dataclass(frozen=True, slots=True)
class TableFile:
    """One published Parquet file: POSIX path below the root, size, SHA-256 (64 hex digits)."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files of one kind: a name, a glob below the root, their media type, and what is in them."""

    name: str
    includes: str
    encoding_format: str
    description: str


@dataclass(frozen=True, slots=True)
class Described:
    """A dataset, in the words of Croissant.

    Attributes:
        name, description, version, url, creator, date_published, cite_as: of the dataset; what is None is left out,
            although Croissant asks for `url`, `creator` and `date_published` of a public dataset.
        licences: URLs of the licences, or their names where they have none.
        keywords: for search engines.
        tables: the Parquet files, all with the columns of `schema`.
        tables_glob: matches exactly those files.
        schema: of the tables; columns of types that Croissant has no name for (nested ones) are left out.
        columns: what each column holds, by name.
        file_sets: the other files.
        engines: what made the data.
        rai: properties of the RAI vocabulary, without their prefix.
    """

    name: str
    description: str
    version: str
    licences: Sequence[str]
    keywords: Sequence[str]
    tables: Sequence[TableFile]
    tables_glob: str
    schema: pa.Schema
    columns: Mapping[str, str]
    file_sets: Sequence[FileSet]
    engines: Sequence[str]
    rai: Mapping[str, str | Sequence[str]]
    url: str | None = None
    creator: str | None = None
    date_published: str | None = None
    cite_as: str | None = None
    record_set: str = field(default="clips")


def croissant_metadata(dataset: Described) -> dict[str, Any]:
    """The dataset as Croissant 1.1 JSON-LD."""
    optional = {
        "url": dataset.url,
        "creator": {"@type": "Organization", "name": dataset.creator} if dataset.creator else None,
        "datePublished": dataset.date_published,
        "citeAs": dataset.cite_as,
    }
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": dataset.name,
        "description": dataset.description,
        "version": dataset.version,
        "license": list(dataset.licences),
        "keywords": list(dataset.keywords),
        "isLiveDataset": False,
        **{name: value for name, value in optional.items() if value is not None},
        "prov:wasGeneratedBy": [_activity(engine) for engine in dataset.engines],
        **{f"rai:{name}": value for name, value in dataset.rai.items()},
        "distribution": [
            *(_file_object(table) for table in dataset.tables),
            _file_set(FileSet("tables", dataset.tables_glob, PARQUET, "One row a clip.")),
            *(_file_set(file_set) for file_set in dataset.file_sets),
        ],
        "recordSet": [_record_set(dataset)],
    }


def described_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns that the record set of a table has: those of plain types."""
    return [column.name for column in schema if column.type in _DATA_TYPES]


def _activity(engine: str) -> dict[str, Any]:
    return {
        "@type": "prov:Activity",
        "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "name": engine},
    }


def _file_object(table: TableFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": table.path,
        "name": table.path.rpartition("/")[2],
        "contentUrl": table.path,
        "contentSize": f"{table.bytes} B",
        "encodingFormat": PARQUET,
        "sha256": table.sha256,
    }


def _file_set(file_set: FileSet) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": file_set.name,
        "name": file_set.name,
        "description": file_set.description,
        "encodingFormat": file_set.encoding_format,
        "includes": file_set.includes,
    }


def _record_set(dataset: Described) -> dict[str, Any]:
    name = dataset.record_set
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": "One record a clip: one scene seen along one camera path.",
        "key": {"@id": f"{name}/clip"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "description": dataset.columns[column],
                "dataType": _DATA_TYPES[dataset.schema.field(column).type],
                "source": {"fileSet": {"@id": "tables"}, "extract": {"column": column}},
            }
            for column in described_columns(dataset.schema)
        ],
    }
