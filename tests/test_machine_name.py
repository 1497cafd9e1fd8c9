"""resources/machine_name.py: a processor's name as Linux lists it, and GPUs once they are in use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

from sceneloom.resources import machine_name as module
from sceneloom.resources.machine_name import machine_name


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Fast CPU: 9\nprocessor\t: 1\nmodel name\t: Other\n")
    monkeypatch.setattr(module, "_PROCESSORS", listing)
    module._processor.cache_clear()
    yield f"{os.cpu_count()} cores of Fast CPU: 9"
    module._processor.cache_clear()


def test_without_a_gpu_in_use_it_is_the_processor(processor: str) -> None:
    assert machine_name() == processor


def test_gpus_are_counted_by_name(processor: str) -> None:
    names = ["H100", "A10", "H100"]
    with (
        mock.patch.object(torch.cuda, "is_initialized", return_value=True),
        mock.patch.object(torch.cuda, "device_count", return_value=3),
        mock.patch.object(torch.cuda, "get_device_name", side_effect=names.__getitem__),
    ):
        assert machine_name() == f"{processor}, 2 × H100, 1 × A10"


def test_where_linux_lists_nothing_the_platform_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for listing in (tmp_path / "absent", tmp_path / "empty"):
        (tmp_path / "empty").write_text("processor\t: 0\n")
        monkeypatch.setattr(module, "_PROCESSORS", listing)
        module._processor.cache_clear()
        assert machine_name().startswith(f"{os.cpu_count()} cores of ")
        assert not machine_name().endswith("of ")
    module._processor.cache_clear()


def test_it_waits_for_a_thread_that_is_importing_torch() -> None:
    program = """
import sys, threading
from sceneloom.resources.machine_name import machine_name
from sceneloom.resources.resident_models import free_device_memory
importing = threading.Thread(target=__import__, args=("torch",))
importing.start()
while "torch" not in sys.modules:
    pass
half = not hasattr(sys.modules["torch"], "cuda")
name = machine_name()
free_device_memory("cuda:0")
importing.join()
print(half, bool(name))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done.stderr
