"""Whether a collection's sources changed, from listings alone: nothing is opened or decoded."""

from __future__ import annotations

from collections.abc import Sequence

import fsspec

from .records import digest


def source_fingerprint(sources: Sequence[str]) -> str:
    """64 hex digits that change when a file of a source appears, vanishes, or changes its size or version.

    Args:
        sources: paths or fsspec URLs of files and folders. A source that does not exist counts as absent, not as an
            error: its return changes the fingerprint again.
    """
    return digest({source: _listing(source) for source in sources})


def _listing(source: str) -> list[list[object]]:
    filesystem, path = fsspec.url_to_fs(source)
    # Object stores cache listings; a fingerprint of a cached one would never change.
    filesystem.invalidate_cache(path)
    found = filesystem.find(path, detail=True)
    return sorted([name, info.get("size"), str(_version(info))] for name, info in found.items())


def _version(info: dict[str, object]) -> object:
    return info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or info.get("created")
