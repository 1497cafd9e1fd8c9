"""Chunks over a network: from S3 and over HTTP, ranged reads fetch what is asked for and little more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneloom.datasets.errors import CorruptFileError, InputError, StoreError
from sceneloom.datasets.picture_runs import encode_clip
from sceneloom.datasets.shards import ClipArrays, ShardReader, write_shard

FRAMES, HEIGHT, WIDTH = 17, 64, 96
CLIP = ("lamp-1", "left")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    rng = np.random.default_rng(0)
    clip = ClipArrays(
        *CLIP,
        latents=rng.normal(size=(4, 3, 8, 12)).astype(np.float16),
        depth=rng.uniform(1, 9, (FRAMES, HEIGHT, WIDTH)).astype(np.float32),
        rgb=encode_clip(rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)),
        c2w=np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1)),
        intrinsics=np.tile(np.array([80, 80, 48, 32], np.float32), (FRAMES, 1)),
        metric=True,
        quality={"psnr": 40.0},
    )
    write_shard(folder / "root" / "shard.zarr", [clip], latent_space={"id": "test"})
    return folder / "root" / "shard.zarr"


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves files with ranges, and counts the bytes of the bodies it sends."""

    sent: dict[str, int]
    ranges = True

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(404)
            return
        content, status = file.read_bytes(), 200
        asked = self.headers.get("Range")
        if asked and self.ranges:
            start, stop = asked.removeprefix("bytes=").split("-")
            content, status = content[int(start) : int(stop) + 1 if stop else None], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.sent[self.path] = self.sent.get(self.path, 0) + len(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests' output stays clean."""


@pytest.fixture
def web(shard: Path) -> Iterator[tuple[str, type[RangeHandler]]]:
    """URL of the shard on a server, and the handler that counts."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: fsspec cannot read HTTP")
    handler = type("Handler", (RangeHandler,), {"sent": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(shard.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{shard.name}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def assert_equal_readers(remote: ShardReader, local: ShardReader) -> None:
    np.testing.assert_array_equal(remote.latents(*CLIP), local.latents(*CLIP))
    np.testing.assert_array_equal(remote.depth(*CLIP, [9, 2, 3]), local.depth(*CLIP, [9, 2, 3]))
    np.testing.assert_array_equal(remote.rgb(*CLIP, [12, 1]), local.rgb(*CLIP, [12, 1]))
    assert remote.rgb_runs(*CLIP) == local.rgb_runs(*CLIP)
    for found, expected in zip(remote.cameras(*CLIP), local.cameras(*CLIP), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_over_http(shard: Path, web: tuple[str, type[RangeHandler]]) -> None:
    assert_equal_readers(ShardReader(web[0]), ShardReader(shard))
    assert ShardReader(web[0]).latents(*CLIP).flags.writeable
    with pytest.raises(InputError, match="no shard"):
        ShardReader(web[0] + "-absent")


def test_a_frame_over_http_is_a_small_read(shard: Path, web: tuple[str, type[RangeHandler]]) -> None:
    url, handler = web
    ShardReader(url).depth(*CLIP, [5])
    sent = sum(size for path, size in handler.sent.items() if "/depth_residuals/c/" in path)
    whole = (shard / "depth_residuals" / "c" / "0" / "0" / "0" / "0").stat().st_size
    assert whole / FRAMES / 2 < sent < whole / FRAMES * 2
    ShardReader(url).rgb(*CLIP, [16])
    sent = sum(size for path, size in handler.sent.items() if "/rgb_runs/c/" in path)
    assert sent < (shard / "rgb_runs" / "c" / "0" / "0" / "0").stat().st_size * 0.2


def test_a_server_without_ranges_is_named(web: tuple[str, type[RangeHandler]]) -> None:
    web[1].ranges = False
    with pytest.raises(StoreError, match="asked for"):
        ShardReader(web[0]).latents(*CLIP)


def test_a_server_that_is_gone_is_not_damage(web: tuple[str, type[RangeHandler]]) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        ShardReader("http://127.0.0.1:9/shard.zarr")


def test_from_s3(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"endpoint_url": f"http://{host}:{port}"}
        store = s3fs.S3FileSystem(**options, skip_instance_cache=True)
        store.mkdir("shards")
        store.put(str(shard), "shards/shard.zarr", recursive=True)
        reader = ShardReader("s3://shards/shard.zarr", options)
        assert_equal_readers(reader, ShardReader(shard))
        store.rm("shards/shard.zarr/latents/c/0/0/0/0/0")
        with pytest.raises(CorruptFileError, match=r"latents of lamp-1/left: an object is missing"):
            ShardReader("s3://shards/shard.zarr", {**options, "use_listings_cache": False}).latents(*CLIP)
    finally:
        server.stop()
