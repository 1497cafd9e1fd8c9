"""Which code decides what each stage makes, and a lock file that ties that code to the stages' code versions.

Starting from a stage's `make` and from the engine classes that it names in `sources`, every name is followed to where
it is defined: in `assets` and `resources` definition by definition, in `ops` and `datasets` a module at a time (there,
tables fill themselves on import, so a definition may count that nobody names). Type annotations are not followed. What
was reached is digested as syntax, without docstrings and comments.

`python tests/code_versions.py` writes the lock anew; it refuses where code changed and the code version did not.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sceneloom.assets.stage import Stage
from sceneloom.assets.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
LOCK = Path(__file__).with_suffix(".json")
PACKAGES = ("assets", "resources", "ops", "datasets")
WHOLE_MODULES = ("ops", "datasets")

MAKES_NOTHING = {
    "assets/observations.py": "checks what was made",
    "assets/stage.py": "carries what was made",
    "datasets/errors.py": "words of messages",
    "resources/failures.py": "words of reasons",
    "resources/loading_lock.py": "decides when weights are read, not which",
    "resources/memory_ladder.py": "says in each record what it did",
    "resources/model_files.py": "finds weights, whose digests count",
    "resources/model_loading.py": "loads weights by settings that count",
    "resources/model_settings.py": "settings, which count",
    "resources/profile_sections.py": "settings, which count",
    "resources/resident_models.py": "keeps weights loaded",
    "resources/store.py": "keeps what was made",
}
"""Modules that stages use without their code deciding what is made."""


@dataclass(frozen=True, order=True)
class Source:
    """A definition of a module, or the whole module where `name` is empty; `module` is a path like "ops/raycast.py"."""

    module: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.module}:{self.name}" if self.name else self.module


class UnknownSource(Exception):
    """A stage names a module or a definition that does not exist."""


@dataclass(frozen=True)
class Module:
    """The definitions of a module, and what its imports bind: a name to a definition or a module."""

    definitions: Mapping[str, ast.stmt]
    imports: Mapping[str, Source]
    tree: ast.Module


@functools.cache
def read_module(path: str, root: Path = ROOT) -> Module:
    """Read a module of the repository."""
    tree = ast.parse((root / path).read_text())
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, Source] = {}
    for statement in tree.body:
        for name in _bound(statement):
            definitions[name] = statement
        if isinstance(statement, ast.ImportFrom):
            imports |= dict(_imported(statement, path, root))
    return Module(definitions, imports, tree)


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def _imported(statement: ast.ImportFrom, importer: str, root: Path) -> Iterator[tuple[str, Source]]:
    """What a relative import inside our packages binds, by the name that it is bound to."""
    if not statement.level:
        return
    place = Path(importer).parent
    for _ in range(statement.level - 1):
        place = place.parent
    place = place.joinpath(*(statement.module or "").split("."))
    for alias in statement.names:
        module, name = place / f"{alias.name}.py", ""
        if not (root / module).is_file():
            module, name = place.with_suffix(".py"), alias.name
        if module.parts[0] in PACKAGES and (root / module).is_file():
            yield alias.asname or alias.name, Source(module.as_posix(), name)


def closure(start: Sequence[Source], root: Path = ROOT) -> set[Source]:
    """Everything that the sources use, themselves included."""
    found: set[Source] = set()
    waiting = list(start)
    while waiting:
        source = waiting.pop()
        if source.module in MAKES_NOTHING or source.module.endswith("__init__.py"):
            continue
        if source.module.split("/")[0] in WHOLE_MODULES:
            source = Source(source.module)
        if source not in found:
            found.add(source)
            waiting += _uses(source, root)
    return found


def _uses(source: Source, root: Path) -> Iterator[Source]:
    module = read_module(source.module, root)
    if not source.name:
        for node in _executed(module.tree):
            if isinstance(node, ast.ImportFrom):
                yield from (imported for _, imported in _imported(node, source.module, root))
        return
    if source.name not in module.definitions:
        if source.name in module.imports:
            yield module.imports[source.name]
            return
        raise UnknownSource(f"{source} is named, but {source.module} does not define it")
    statement = module.definitions[source.name]
    bound = dict(module.imports)
    for node in ast.walk(statement):
        if isinstance(node, ast.ImportFrom):
            bound |= dict(_imported(node, source.module, root))
    for node in _executed(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            target = bound.get(node.value.id)
            if target is not None and not target.name:
                yield Source(target.module, node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            target = bound.get(node.id)
            if target is not None and (target.name or target.module.split("/")[0] in WHOLE_MODULES):
                yield target
            elif node.id in module.definitions and node.id != source.name:
                yield Source(source.module, node.id)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it that runs: no annotations, nothing that only type checkers see."""
    yield node
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _executed(child)


def stage_sources(stage: Stage, root: Path = ROOT) -> set[Source]:
    """The sources whose code decides what the stage makes.

    Raises UnknownSource when the stage names one that does not exist.
    """
    start = [Source(f"assets/{stage.make.__module__.rpartition('.')[2]}.py", stage.make.__name__)]
    for named in stage.sources:
        module, _, name = named.partition(":")
        if not (root / module).is_file():
            raise UnknownSource(f"{stage.name} names {module}, which does not exist")
        start.append(Source(module, name))
    return closure(start, root)


def digest(source: Source, root: Path = ROOT) -> str:
    """16 hex digits of a source's syntax without docstrings and comments."""
    module = read_module(source.module, root)
    node: ast.AST = module.definitions.get(source.name, module.tree)
    return hashlib.sha256(json.dumps(_syntax(node)).encode()).hexdigest()[:16]


def _syntax(node: Any) -> Any:
    """A node as lists; empty fields are left out, so that Python versions that add fields agree."""
    if isinstance(node, ast.AST):
        fields = [
            [name, _syntax(_without_docstrings(value) if name == "body" else value)]
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in {"ctx", "kind", "type_comment"}
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [_syntax(item) for item in node]
    return repr(node)


def _without_docstrings(body: Any) -> Any:
    """A body without its strings that stand alone: docstrings of modules, classes, functions and attributes."""
    if not isinstance(body, list):
        return body  # a lambda's, or a conditional expression's
    return [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]


def lock_entry(stage: Stage, root: Path = ROOT) -> dict[str, Any]:
    """What the lock file holds of a stage."""
    sources = sorted(stage_sources(stage, root))
    digests = {
        str(source): digest(source, root)
        for source in sources
        if not source.name or source.name in read_module(source.module, root).definitions
    }
    return {"code_version": stage.code_version, "sources": digests}


def changed_sources(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the sources that differ between two entries of a stage."""
    old, new = before["sources"], now["sources"]
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def forgotten_versions(lock: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """Stages whose sources changed under the same code version, with the sources."""
    return {
        name: changed
        for name, entry in now.items()
        if name in lock
        and lock[name]["code_version"] == entry["code_version"]
        and (changed := changed_sources(lock[name], entry))
    }


def read_lock(path: Path = LOCK) -> dict[str, Any]:
    """The lock file; empty when there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def main(arguments: Sequence[str] | None = None, lock_file: Path = LOCK, stages: Sequence[Stage] = STAGES) -> int:
    """Write the lock file anew; returns 1, and leaves it, where a code version was not bumped."""
    parser = argparse.ArgumentParser(description="Lock the stages' code versions to their code.")
    parser.add_argument(
        "--same-output",
        action="store_true",
        help="the changed code makes the same bytes as before (a rename, a faster loop): keep the versions",
    )
    options = parser.parse_args(arguments)
    now = {stage.name: lock_entry(stage) for stage in stages}
    forgotten = {} if options.same_output else forgotten_versions(read_lock(lock_file), now)
    for name, changed in forgotten.items():
        print(f"{name}: {', '.join(changed)} changed; bump the stage's code_version, or give --same-output")
    if forgotten:
        return 1
    lock_file.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
