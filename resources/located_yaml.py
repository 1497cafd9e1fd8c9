"""YAML text to plain values, with the line that every key stands on.

Stricter than PyYAML's safe loader: a key given twice, a key that is not text and a value that contains itself are
refused. Numbers such as 1e-3 are floats, as in YAML 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ..datasets.errors import ConfigError

KeyPath = tuple[str | int, ...]

_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE_TAG = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads exponents without a decimal point as numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True, slots=True)
class LocatedYaml:
    """A parsed document.

    Attributes:
        value: dicts, lists and scalars.
        lines: 1-based line of each key (or list item) by its path from the root.
    """

    value: Any
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Line of the key at `path`, or of its nearest ancestor that stands in the text."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str, *, name: str) -> LocatedYaml:
    """Parse one YAML document.

    Args:
        text: the document.
        name: the file's name, for messages.

    Raises:
        ConfigError: syntax error, duplicate key, key that is not text, or recursive alias, with its line.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        lines = {} if root is None else dict(_lines(root, (), frozenset(), name))
        value = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            f"not valid YAML: {error.problem or error.context}",
            where=f"{name}:{line}",
            remedy="Check indentation, quotes and colons around this line.",
        ) from error
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        # A reader error has no mark, and PyYAML lets ValueError through for impossible dates.
        raise ConfigError(
            f"not valid YAML: {error}", where=name, remedy="Save the profile as plain UTF-8 text."
        ) from error
    return LocatedYaml(value, lines)


def _lines(node: yaml.Node, path: KeyPath, above: frozenset[int], name: str) -> Iterator[tuple[KeyPath, int]]:
    if id(node) in above:
        raise ConfigError(
            f'"{dotted(path)}" contains itself through an alias',
            where=f"{name}:{node.start_mark.line + 1}",
            remedy="Write the value out instead of using *alias.",
        )
    above = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _lines(item, (*path, index), above, name)
    elif isinstance(node, yaml.MappingNode):
        yield from _mapping_lines(node, path, above, name)


def _mapping_lines(
    node: yaml.MappingNode, path: KeyPath, above: frozenset[int], name: str
) -> Iterator[tuple[KeyPath, int]]:
    first_line: dict[str, int] = {}
    # Merged keys ("<<") come first, so that the mapping's own keys, which win, also give the line.
    for key, value in node.value:
        if key.tag == _MERGE_TAG:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _lines(merged, path, above, name)
    for key, value in node.value:
        if key.tag == _MERGE_TAG:
            continue
        line = key.start_mark.line + 1
        where = f"{name}:{line}: {dotted(path) or '(top level)'}"
        if key.tag != _STRING_TAG:
            found = f"key {getattr(key, 'value', '?')!r} is read by YAML as {key.tag.rsplit(':', 1)[-1]}, not as text"
            raise ConfigError(found, where=where, remedy="Put the key in quotes.")
        if key.value in first_line:
            found = f'key "{key.value}" is given twice (first on line {first_line[key.value]})'
            raise ConfigError(found, where=where, remedy="Remove one of the two.")
        first_line[key.value] = line
        yield (*path, key.value), line
        yield from _lines(value, (*path, key.value), above, name)


def dotted(path: KeyPath) -> str:
    """("collection", "sources", 0) as "collection.sources[0]"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
