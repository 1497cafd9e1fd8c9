"""A Kubernetes API server for tests: the calls that launching a pod takes, over HTTP, pods being processes here.

It holds pods to the API's own schema, as the real one does with fieldValidation=Strict; kills what takes more memory
than its limit; pulls no image but `IMAGE`; and evicts and loses pods when it is told to.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import psutil
import yaml
from kubernetes.client import models

IMAGE = "worker:1"
TOKEN = "token-of-the-test"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")


def unknown_fields(value: Any, kind: str, where: str) -> list[str]:
    """Fields of a manifest that the API's schema does not have."""
    if kind.startswith("list["):
        return [
            found for index, each in enumerate(value) for found in unknown_fields(each, kind[5:-1], f"{where}[{index}]")
        ]
    schema = getattr(models, kind, None)
    if schema is None:
        return []
    names = {schema.attribute_map[name]: of for name, of in schema.openapi_types.items()}
    found = [f"{where}.{key}" for key in value if key not in names]
    return found + [
        each for key, of in names.items() if key in value for each in unknown_fields(value[key], of, f"{where}.{key}")
    ]


@dataclass(eq=False)
class Pod:
    """A pod, and the process that is its first container."""

    manifest: dict[str, Any]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    killed: str = ""
    evicted: str = ""
    going: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return self.manifest["metadata"]["name"]

    def container(self) -> dict[str, Any]:
        return self.manifest["spec"]["containers"][0]

    def start(self) -> None:
        container = self.container()
        environment = {entry["name"]: entry["value"] for entry in container.get("env", [])}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                container["command"],
                env={"PATH": "/usr/bin:/bin", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = container.get("resources", {}).get("limits", {}).get("memory")
        threading.Thread(target=self._hold_to, args=(limit,), daemon=True).start()

    def kill(self, reason: str = "") -> None:
        """All processes of the container at once, as its control group is killed."""
        assert self.process is not None
        self.killed = reason
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            for each in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        self.process.wait()

    def status(self) -> dict[str, Any]:
        if self.evicted:
            return {"phase": "Failed", "reason": "Evicted", "message": self.evicted}
        if self.process is None:
            waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{self.container()["image"]}"'}
            return {"phase": "Pending", "containerStatuses": [self._container_status({"waiting": waiting})]}
        code = self.process.poll()
        if code is None:
            return {"phase": "Running", "containerStatuses": [self._container_status({"running": {}})]}
        reason = self.killed or ("Completed" if code == 0 else "Error")
        ended = {"exitCode": code if code >= 0 else 128 - code, "reason": reason}
        phase = "Succeeded" if code == 0 else "Failed"
        return {"phase": phase, "containerStatuses": [self._container_status({"terminated": ended})]}

    def _container_status(self, state: dict[str, Any]) -> dict[str, Any]:
        container = self.container()
        common = {"image": container["image"], "imageID": "", "ready": "running" in state, "restartCount": 0}
        return {"name": container["name"], "state": state, **common}

    def _hold_to(self, limit: str | None) -> None:
        """Kill it when it takes more memory than its limit, in Mi."""
        assert self.process is not None
        while self.process.poll() is None and limit is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(self.process.pid)
                taken = sum(each.memory_info().rss for each in (root, *root.children(recursive=True)))
                if taken > int(limit.removesuffix("Mi")) << 20:
                    self.kill("OOMKilled")
            time.sleep(0.05)


class Kubernetes:
    """The cluster of a test.

    Attributes:
        pods: those that are there, by name.
        created: manifests of all that ever were.
        refuse: a status and a message for every request to create, while it is set.
        down: whether it answers 503 to everything.
        token: what callers must log in with.
    """

    def __init__(self, folder: Path) -> None:
        self.pods: dict[str, Pod] = {}
        self.created: list[dict[str, Any]] = []
        self.refuse: tuple[int, str] | None = None
        self.down = False
        self.token = TOKEN
        self.requests: list[str] = []
        self._folder = folder
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.cluster = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.kubeconfig = folder / "kubeconfig"
        self.write_kubeconfig()

    def write_kubeconfig(self) -> None:
        """What a user has in ~/.kube/config."""
        server = f"http://127.0.0.1:{self._server.server_address[1]}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(yaml.safe_dump(content))

    def create(self, manifest: dict[str, Any], strict: bool) -> tuple[int, Any]:
        found = unknown_fields(manifest, "V1Pod", "pod") if strict else []
        if found:
            return 400, f'strict decoding error: unknown field "{found[0]}"'
        metadata = manifest["metadata"]
        labels = metadata.get("labels", {})
        if not _NAME.fullmatch(metadata["name"]) or not all(_LABEL.fullmatch(value) for value in labels.values()):
            return 422, f'Pod "{metadata["name"]}" is invalid'
        if metadata["name"] in self.pods:
            return 409, f'pods "{metadata["name"]}" already exists'
        if self.refuse is not None:
            return self.refuse
        metadata["uid"] = str(uuid.uuid4())
        pod = Pod(manifest, self._folder / f"{metadata['name']}.log")
        self.pods[pod.name] = pod
        self.created.append(manifest)
        if pod.container()["image"] == IMAGE:
            pod.start()
        return 201, manifest

    def delete(self, name: str, grace: int) -> tuple[int, Any]:
        pod = self.pods[name]
        if not pod.going:
            pod.going = True
            threading.Thread(target=self._end, args=(pod, grace), daemon=True).start()
        return 200, pod.manifest

    def _end(self, pod: Pod, grace: int) -> None:
        if pod.process is not None and pod.process.poll() is None:
            pod.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                pod.process.wait(grace)
            pod.kill()
        self.pods.pop(pod.name, None)

    def evict(self, message: str) -> None:
        """Evict the pod that runs."""
        [pod] = self.pods.values()
        pod.evicted = message
        pod.kill()

    def lose(self) -> None:
        """The node of the pod that runs burns down."""
        [pod] = self.pods.values()
        del self.pods[pod.name]
        pod.kill()

    def close(self) -> None:
        for pod in list(self.pods.values()):
            if pod.process is not None:
                pod.kill()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    cluster: Kubernetes
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        cluster = cast(_Server, self.server).cluster
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        status, answer = self._act(cluster, body)
        if status >= 400:
            answer = {"kind": "Status", "status": "Failure", "message": answer, "code": status}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _act(self, cluster: Kubernetes, body: dict[str, Any]) -> tuple[int, Any]:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        cluster.requests.append(f"{self.command} {parts.path}")
        if cluster.down:
            return 503, "the server is currently unable to handle the request"
        if self.headers.get("Authorization") != f"Bearer {cluster.token}":
            return 401, "Unauthorized"
        found = re.fullmatch(
            r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods(/(?P<name>[^/]+))?(?P<log>/log)?", parts.path
        )
        if found is None or found["namespace"] != "scenes":
            return 403, f"{parts.path} is forbidden"
        if self.command == "POST":
            return cluster.create(body, query.get("fieldValidation") == "Strict")
        if found["name"] is None:
            name = query["fieldSelector"].removeprefix("metadata.name=")
            return 200, {
                "kind": "PodList",
                "items": [_described(pod) for pod in cluster.pods.values() if pod.name == name],
            }
        pod = cluster.pods.get(found["name"])
        if pod is None:
            return 404, f'pods "{found["name"]}" not found'
        if self.command == "DELETE":
            return cluster.delete(pod.name, int(query.get("gracePeriodSeconds", 30)))
        if not found["log"]:
            return 200, _described(pod)
        if pod.process is None:
            return 400, f'container "{pod.container()["name"]}" is waiting to start: trying and failing to pull image'
        return 200, b"".join(pod.log.read_bytes().splitlines(keepends=True)[-int(query["tailLines"]) :])

    def log_message(self, format: str, *args: Any) -> None:
        """The test says what it wants to."""


def _described(pod: Pod) -> dict[str, Any]:
    metadata = {**pod.manifest["metadata"], **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if pod.going else {})}
    return {**pod.manifest, "metadata": metadata, "status": pod.status()}


@contextlib.contextmanager
def kubernetes() -> Iterator[Kubernetes]:
    """A cluster whose namespace `scenes` is open to those that log in."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Kubernetes(Path(folder))
        try:
            yield cluster
        finally:
            cluster.close()
