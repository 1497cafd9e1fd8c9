"""Warp made ready: initialised quietly, kernels compiled once whatever the number of threads that ask."""

from __future__ import annotations

import threading
from typing import Any

from ..datasets.errors import EngineError

_lock = threading.Lock()


def load_warp(device: str) -> Any:
    """The `warp` module, with `device` known to be there.

    Typed as Any: Warp's annotations ask for Device objects where it takes names. On a machine without an NVIDIA driver
    its native library says so once on standard error, and has no switch against it.

    Raises:
        EngineError: there is no such device; the message lists those there are.
    """
    import warp as wp

    with _lock:
        # Below this level Warp announces itself and its compilations.
        wp.config.log_level = wp.LOG_WARNING
        wp.init()
        try:
            wp.get_device(device)
        except (ValueError, RuntimeError) as error:
            raise EngineError(
                f"there is no Warp device {device!r} ({error})",
                where="warp",
                remedy=f"Use one of {', '.join(map(str, wp.get_devices()))}.",
            ) from error
    return wp


def load_kernels(module: Any, device: str) -> Any:
    """Compile a module of kernels for the device, or find it in Warp's kernel cache, and return it."""
    import warp as wp

    with _lock:
        wp.load_module(module, device=device)
    return module
