"""Every published layout by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from ..errors import InputError
from . import camera_sets, gen3r, gen3r_inference, hugging_face, lyra, lyra2, midi, scenegen, vipe, webdataset
from .release import Layout

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        *lyra.LAYOUTS,
        lyra2.LAYOUT,
        gen3r.LAYOUT,
        gen3r_inference.LAYOUT,
        scenegen.LAYOUT,
        midi.LAYOUT,
        vipe.LAYOUT,
        *camera_sets.LAYOUTS,
        webdataset.LAYOUT,
        hugging_face.LAYOUT,
    )
}


def require_layout(name: str) -> Layout:
    """The layout of that name. Raises InputError naming the nearest one."""
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, 1)
        raise InputError(
            f'there is no layout "{name}"',
            where="layouts",
            remedy=(f'Did you mean "{near[0]}"? ' if near else "") + f"Known: {', '.join(sorted(LAYOUTS))}.",
        )
    return LAYOUTS[name]
