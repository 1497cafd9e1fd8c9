"""What the packages may import, what a built wheel holds, and that no process takes our folders for other packages."""

from __future__ import annotations

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("datasets", "ops", "resources", "assets", "orchestration")
"""From the lowest: each may import itself and those before it."""
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = {"torch", "diffusers", "transformers", "warp", "cv2", "trimesh", "scipy", "av", "rerun", "ray", "kubernetes"}

MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@dataclass(frozen=True)
class Import:
    """One imported module, by its absolute name, and where it is written."""

    module: str
    where: str
    at_load: bool


@functools.cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Every import of a file, those inside functions too; those for type checkers alone are left out."""
    return tuple(_imports_of(path))


def _imports_of(path: Path) -> Iterator[Import]:
    package = ("sceneloom", *path.relative_to(ROOT).parent.parts)
    for node, at_load in _nodes(ast.parse(path.read_text()), True):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, where, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module or "").split(".")) if node.module else base)
            yield Import(module, where, at_load)
            yield from (Import(f"{module}.{alias.name}", where, at_load) for alias in node.names)


def _nodes(node: ast.AST, at_load: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        inside = at_load and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, inside
        yield from _nodes(child, inside)


def top(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    allowed = PACKAGES[: PACKAGES.index(package) + 1]
    wrong = [
        f"{found.where} imports {found.module}"
        for path in MODULES
        if path.is_relative_to(ROOT / package)
        for found in imports_of(path)
        if top(found.module) == "sceneloom" and found.module.count(".") and found.module.split(".")[1] not in allowed
    ]
    assert wrong == []


def test_the_reader_of_imports_sees_all_of_them(tmp_path: Path) -> None:
    # The tests here are only as good as it is.
    file = ROOT / "resources" / "imaginary.py"
    source = "from ..ops import cameras\ndef f():\n    import dagster.core\n    from . import store\n"
    assert [(found.module, found.at_load) for found in _imports_of_source(file, source, tmp_path)] == [
        ("sceneloom.ops", True),
        ("sceneloom.ops.cameras", True),
        ("dagster.core", False),
        ("sceneloom.resources", False),
        ("sceneloom.resources.store", False),
    ]


def _imports_of_source(path: Path, source: str, folder: Path) -> tuple[Import, ...]:
    copy = folder / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True)
    copy.write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "ROOT", folder)
        return imports_of(copy)


@pytest.mark.parametrize("name", [*PACKAGES, "tests"])
def test_the_folders_are_never_imported_by_their_bare_names(name: str) -> None:
    # `import datasets` is Hugging Face's; ours is sceneloom.datasets.
    sources = [*MODULES, *sorted((ROOT / "tests").glob("*.py"))]
    wrong = [found.where for path in sources for found in imports_of(path) if top(found.module) == name]
    assert wrong == []


def test_datasets_needs_only_what_a_plain_installation_brings() -> None:
    distributions = {"pillow": "PIL", "google-crc32c": "google_crc32c"}
    installed = {
        distributions.get(name, name)
        for name in (requirement.split("[")[0].rstrip("<>=.,*0123456789 ") for requirement in _base_requirements())
    }
    wrong = {
        f"{found.where} imports {found.module}"
        for path in MODULES
        if path.is_relative_to(ROOT / "datasets")
        for found in imports_of(path)
        if top(found.module) not in installed | {"sceneloom"} | sys.stdlib_module_names
    }
    assert wrong == set()


def _base_requirements() -> list[str]:
    return PYPROJECT["project"]["dependencies"]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("datasets", {"dagster", "diffusers", "ray"}),
        ("ops", {"dagster", "diffusers", "ray", "fsspec", "requests", "urllib", "socket", "subprocess"}),
        ("resources", {"dagster"}),
    ],
)
def test_packages_stay_free_of_what_is_not_theirs(package: str, forbidden: set[str]) -> None:
    wrong = [
        f"{found.where} imports {found.module}"
        for path in MODULES
        if path.is_relative_to(ROOT / package)
        for found in imports_of(path)
        if top(found.module) in forbidden
    ]
    assert wrong == []


def test_every_package_is_listed_for_installation() -> None:
    setuptools = PYPROJECT["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    expected = {f"sceneloom.{'.'.join(folder.parts)}": folder.as_posix() for folder in folders}
    assert set(setuptools["packages"]) == set(expected)
    assert setuptools["package-dir"] == expected


# ---------------------------------------------------------------- every module has tests

TESTED_BY = {
    "datasets/layouts/lyra2_examination.py": "test_lyra2.py",
    "datasets/layouts/lyra2_names.py": "test_lyra2.py",
    "datasets/layouts/lyra_clip_examination.py": "test_lyra.py",
    "datasets/layouts/lyra_examination.py": "test_lyra.py",
    "datasets/layouts/lyra_files.py": "test_lyra.py",
    "datasets/layouts/lyra_names.py": "test_lyra.py",
    "datasets/shard_writer.py": "test_shards.py",
    "ops/forward_warping_kernels.py": "test_scene_cache.py",
    "ops/furniture_outdoor.py": "test_furniture.py",
    "ops/furniture_seating.py": "test_furniture.py",
    "ops/furniture_small.py": "test_furniture.py",
    "ops/furniture_tables.py": "test_furniture.py",
    "ops/gaussian_compositing.py": "test_gaussian_rasteriser.py",
    "ops/gaussian_kernels.py": "test_gaussian_rasteriser.py",
    "ops/gaussian_projection.py": "test_gaussian_rasteriser.py",
    "ops/raycast_bvh.py": "test_raycast.py",
    "ops/raycast_bvh_kernels.py": "test_raycast.py",
    "ops/raycast_kernels.py": "test_raycast.py",
    "orchestration/definitions.py": "test_layout.py",
    "resources/located_yaml.py": "test_profiles.py",
}
"""Modules that no test names or imports, with the test that exercises them all the same."""


def test_every_module_has_tests() -> None:
    test_files = sorted((ROOT / "tests").glob("*.py"))
    imported = {found.module for path in test_files for found in imports_of(path)}
    untested = []
    for path in MODULES:
        relative = path.relative_to(ROOT)
        tested = (
            path.name == "__init__.py"
            or (ROOT / "tests" / f"test_{path.stem}.py").exists()
            or ".".join(("sceneloom", *relative.with_suffix("").parts)) in imported
            or (ROOT / "tests" / TESTED_BY.get(relative.as_posix(), "absent")).exists()
        )
        if not tested:
            untested.append(relative.as_posix())
    assert untested == []


# ---------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a wheel holds that is built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"]):
        shutil.copy(ROOT / name, folder)
    built = subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('dist')"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_installs_one_package_and_nothing_beside_it(wheel_files: list[str]) -> None:
    assert {top(name.split("/")[0]) for name in wheel_files} == {"sceneloom", "sceneloom-0"}
    assert {name.split("/")[1] for name in wheel_files if name.startswith("sceneloom/")} == set(PACKAGES)


def test_the_wheel_holds_every_file_of_the_packages(wheel_files: list[str]) -> None:
    files = {
        f"sceneloom/{path.relative_to(ROOT).as_posix()}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - set(wheel_files) == set()


def test_the_wheel_holds_the_codec_s_weights_and_the_marker_of_its_types(wheel_files: list[str]) -> None:
    assert "sceneloom/datasets/py.typed" in wheel_files
    weights = "sceneloom/resources/weights/sceneloom-cosmos-8x8x8/"
    assert {name.removeprefix(weights) for name in wheel_files if name.startswith(weights)} >= {"config.json"}
    assert any(name.startswith(weights) and name.endswith(".safetensors") for name in wheel_files)


# ---------------------------------------------------------------- Dagster's code server

PROBE = """
import importlib.util, json, os, sys
from pathlib import Path
from sceneloom.orchestration.definitions import defs

def origin(name):
    spec = importlib.util.find_spec(name)
    return None if spec is None else str(spec.origin or list(spec.submodule_search_locations))

Path(os.environ["PROBE_OUTPUT"]).write_text(json.dumps({
    "origins": {name: origin(name) for name in %r},
    "loaded": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def code_server(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str | None] | list[str]]:
    """What a module sees that Dagster's code server loads as workspace.yaml says, started in the repository's root."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "modules").mkdir()
    (folder / "modules" / "probe_of_the_code_server.py").write_text(PROBE % (PACKAGES,))
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    [location] = workspace["load_from"]
    assert location["python_module"]["module_name"] == "sceneloom.orchestration.definitions"
    location["python_module"]["module_name"] = "probe_of_the_code_server"
    location["python_module"]["working_directory"] = str(ROOT / location["python_module"]["working_directory"])
    (folder / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    output = folder / "seen.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER_", "SCENELOOM_"))},
        "PYTHONPATH": str(folder / "modules"),
        "PROBE_OUTPUT": str(output),
        "DAGSTER_HOME": str(folder),
    }
    dagster = Path(sys.executable).with_name("dagster")
    done = subprocess.run(
        [dagster, "definitions", "validate", "-w", str(folder / "workspace.yaml")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text())


def test_the_code_server_does_not_take_our_folders_for_other_packages(
    code_server: dict[str, dict[str, str | None]],
) -> None:
    ours = {
        name: origin
        for name, origin in code_server["origins"].items()
        if origin is not None and Path(origin).is_relative_to(ROOT) and ".venv" not in origin
    }
    assert ours == {}


def test_definitions_load_no_model_library(code_server: dict[str, list[str]]) -> None:
    assert HEAVY & set(code_server["loaded"]) == set()
