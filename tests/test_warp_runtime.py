"""Warp made ready: one message for a device that is not there, one compilation for many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sceneloom.datasets.errors import EngineError
from sceneloom.ops import warp_runtime, warping_kernels


def test_an_absent_device_is_named_with_those_there_are() -> None:
    with pytest.raises(EngineError, match=r"cuda:77.*cpu"):
        warp_runtime.load_warp("cuda:77")


def test_threads_share_one_compilation() -> None:
    wp = warp_runtime.load_warp("cpu")
    with ThreadPoolExecutor(4) as pool:
        modules = list(pool.map(lambda _: warp_runtime.load_kernels(warping_kernels, "cpu"), range(8)))
    assert all(module is warping_kernels for module in modules)
    assert wp.get_device("cpu").is_cpu
