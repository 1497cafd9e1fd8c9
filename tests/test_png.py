from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sceneloom.ops.png import encode_png


def test_a_picture_comes_back_whatever_its_layout_in_memory() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    content = encode_png(picture)
    assert content.startswith(b"\x89PNG")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), picture)
    assert encode_png(np.asfortranarray(picture)) == content
    assert encode_png(np.repeat(picture, 2, axis=1)[:, ::2]) == content
