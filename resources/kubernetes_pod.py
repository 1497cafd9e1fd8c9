"""A worker's launch as a Kubernetes pod.

A bare pod, not a Job: a Job may start its pod a second time when the first one's node is drained or lost, and two
workers would then read one feed and answer each task twice. A pod is started once or not at all, and what was lost is
launched again from here, under another name and in another folder.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..datasets.errors import EngineError
from .cluster_environments import WORKER_CONTAINER, KubernetesEnvironment
from .remote_worker import DELETION_LIMIT, Seen, Unavailable, signalled
from .worker_failures import FailureClass, WorkerFailed

LABELS = {"app.kubernetes.io/name": "sceneloom-worker", "app.kubernetes.io/managed-by": "sceneloom"}
"""Labels of every pod, by which people find them; `sceneloom/worker` is the worker's name."""
ANNOTATION = "sceneloom/launched-by"
"""Host and process id of the caller."""
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod is told its own namespace."""
TERMINATION_GRACE = 6
"""Whole seconds from a pod's SIGTERM to its SIGKILL: the guard within gives the worker half of them."""
REQUEST_TIMEOUT = (5, 15)
"""Seconds to connect, and to answer."""
LOG_LINES = 200

_TRANSIENT = {408, 429, 500, 502, 503, 504}


def pod_manifest(
    environment: KubernetesEnvironment,
    worker: str,
    name: str,
    command: tuple[str, ...],
    variables: Mapping[str, str],
    owner: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The pod that runs a worker, as in a manifest.

    Args:
        environment: the profile's.
        worker: its name.
        name: of the pod.
        command: that runs the worker's file.
        variables: of its environment.
        owner: name and uid of the pod that this process runs in, with which the worker's goes.
    """
    spec = environment.pod_spec
    own = environment.worker_container()
    others = [each for each in own.get("env", []) if each.get("name") not in variables]
    container = {
        **own,
        "name": WORKER_CONTAINER,
        "image": environment.image,
        "command": list(command),
        "env": [*others, *({"name": key, "value": value} for key, value in variables.items())],
    }
    # The files that it makes are then ours to move and to remove.
    user = {"runAsUser": os.getuid(), "runAsGroup": os.getgid()}
    security = spec.get("securityContext")
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": environment.namespace,
        "labels": {**environment.labels, **LABELS, "sceneloom/worker": worker},
        "annotations": {**environment.annotations, ANNOTATION: f"{socket.gethostname()}:{os.getpid()}"},
    }
    if owner is not None:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", **owner}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            **spec,
            "securityContext": {**user, **(security if isinstance(security, dict) else {})},
            "restartPolicy": "Never",
            "containers": [container, *environment.other_containers()],
        },
    }


class KubernetesPod:
    """A pod; see `remote_worker.ClusterJob`.

    Args:
        environment: the profile's.
        worker: its name.
        name: of the pod, unique.
        command: that runs the worker's file.
        variables: of its environment.

    Raises:
        EngineError: the package kubernetes is not installed.
    """

    def __init__(
        self,
        environment: KubernetesEnvironment,
        worker: str,
        name: str,
        command: tuple[str, ...],
        variables: Mapping[str, str],
    ) -> None:
        _require_client()
        self.name = f"the pod {environment.namespace}/{name}"
        self._environment = environment
        self._worker = worker
        self._pod = name
        self._command = command
        self._variables = variables
        self._api: Any = None
        self._proven = False
        """Whether the cluster has taken what we log in with."""
        self._going_since: float | None = None

    def submit(self) -> None:
        """See `ClusterJob`."""
        owner = self._owner()
        manifest = pod_manifest(self._environment, self._worker, self._pod, self._command, self._variables, owner=owner)
        namespace = self._environment.namespace
        # Strict: a misspelt key of the profile's pod_spec is refused instead of dropped.
        self._call(
            lambda api: api.create_namespaced_pod(
                namespace, manifest, field_validation="Strict", _request_timeout=REQUEST_TIMEOUT
            ),
            # The name is ours alone: an earlier request got through whose answer did not.
            instead={409: None},
        )

    def look(self) -> Seen:
        """See `ClusterJob`."""
        pod = self._read(self._pod)
        if pod is None:
            return Seen(True, said=f"{self.name} is gone: it was deleted, or its node was lost")
        status = pod.get("status", {})
        ended = _state_of_worker(status).get("terminated")
        if ended is not None:
            return Seen(True, signalled(ended["exitCode"]), self._end(ended, status))
        phase = status.get("phase")
        if phase in {"Failed", "Succeeded"}:
            return Seen(True, said=f"{self.name} ended as {phase}. {_words(status)}".strip())
        if self._is_lost(pod):
            return Seen(True, said=f"{self.name} is on its way out and does not end: its node does not answer")
        waiting = _waiting(status)
        return Seen(False, said=f"{self.name} waits: {waiting}" if waiting else "")

    def _end(self, ended: Mapping[str, Any], status: Mapping[str, Any]) -> str:
        """What is said of an end, beyond the exit code."""
        usual = ended.get("reason") in {"Completed", "Error"} and not ended.get("message")
        said = [*([] if usual else [_words(ended)]), _words(status)]
        found = "; ".join(filter(None, said))
        return f"{self.name}: {found}" if found else ""

    def log(self) -> str:
        """See `ClusterJob`."""
        response = self._call(
            lambda api: api.read_namespaced_pod_log(
                self._pod,
                self._environment.namespace,
                container=WORKER_CONTAINER,
                tail_lines=LOG_LINES,
                # As it is: it need not be UTF-8.
                _preload_content=False,
                _request_timeout=REQUEST_TIMEOUT,
            ),
            # Absent, or never started.
            instead={400: None, 404: None},
        )
        return "" if response is None else response.data.decode("utf-8", "replace")

    def remove(self) -> bool:
        """See `ClusterJob`."""
        absent = object()
        answer = self._call(
            lambda api: api.delete_namespaced_pod(
                self._pod,
                self._environment.namespace,
                grace_period_seconds=TERMINATION_GRACE,
                _request_timeout=REQUEST_TIMEOUT,
            ),
            instead={404: absent},
        )
        return answer is absent

    def _read(self, name: str) -> dict[str, Any] | None:
        """A pod, as in a manifest; None where there is none."""
        response = self._call(
            lambda api: api.read_namespaced_pod(
                name, self._environment.namespace, _preload_content=False, _request_timeout=REQUEST_TIMEOUT
            ),
            instead={404: None},
        )
        return None if response is None else json.loads(response.data)

    def _owner(self) -> dict[str, str] | None:
        """The pod that this process runs in, where the worker's pod can go with it: it is in the same namespace."""
        namespace = OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else None
        if namespace != self._environment.namespace:
            return None
        # A pod's host name is its name, unless it has the host's network.
        own = self._read(socket.gethostname())
        return None if own is None else {key: own["metadata"][key] for key in ("name", "uid")}

    def _is_lost(self, pod: Mapping[str, Any]) -> bool:
        """Whether somebody deleted it long ago and it is still there."""
        if "deletionTimestamp" not in pod["metadata"]:
            return False
        self._going_since = self._going_since or time.monotonic()
        return time.monotonic() - self._going_since > DELETION_LIMIT

    def _call(self, do: Callable[[Any], Any], instead: Mapping[int, Any]) -> Any:
        """An answer of the cluster's.

        Args:
            do: the request, given a CoreV1Api.
            instead: what is returned for a status that is no error here.

        Raises:
            Unavailable: another try may help.
            WorkerFailed: usage, for every other error.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            self._api = self._api or _core_api(self._environment)
            answer = do(self._api)
            self._proven = True
            return answer
        except ApiException as error:
            status = int(error.status or 0)
            if status in instead:
                return instead[status]
            found = f"{error.status} {error.reason}: {_message(error)}"
            if status == 401 and self._proven:
                # A token ran out: the next call reads the configuration anew.
                self._api = None
                raise Unavailable(
                    f"the Kubernetes API no longer takes what this process logs in with ({found})"
                ) from error
            if status in _TRANSIENT or "exceeded quota" in found:
                raise Unavailable(f"the Kubernetes API does not do it now ({found})") from error
            raise WorkerFailed(FailureClass.USAGE, f"{self.name} cannot be started ({found})") from error
        except (HTTPError, OSError) as error:
            raise Unavailable(f"the Kubernetes API cannot be reached ({error})") from error


def _state_of_worker(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """One of running, waiting and terminated, with what belongs to it; empty before the pod is on a node."""
    states = [each.get("state", {}) for each in status.get("containerStatuses", []) if each["name"] == WORKER_CONTAINER]
    return states[0] if states else {}


def _words(about: Mapping[str, Any]) -> str:
    """Reason and message of a status, such as of an eviction."""
    return ": ".join(filter(None, [about.get("reason"), about.get("message")]))


def _waiting(status: Mapping[str, Any]) -> str:
    """Why the worker's container does not run yet; empty where it runs, or nothing is said."""
    before = [each.get("state", {}) for each in status.get("initContainerStatuses", [])]
    waiting = [state["waiting"] for state in (*before, _state_of_worker(status)) if "waiting" in state]
    unscheduled = [
        each for each in status.get("conditions", []) if each["type"] == "PodScheduled" and each["status"] == "False"
    ]
    return next((_words(each) for each in (*waiting, *unscheduled)), "")


def _message(error: Any) -> str:
    """The sentence in an error's body."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        return str(error.body)[:300]


def _require_client() -> None:
    try:
        import kubernetes  # noqa: F401
    except ImportError as error:
        raise EngineError(
            "a worker's environment is kubernetes, and the package kubernetes is not installed",
            where="the worker's environment",
            remedy="Install the extra: pip install 'sceneloom[kubernetes]'.",
        ) from error


def _core_api(environment: KubernetesEnvironment) -> Any:
    """A client for the cluster that the profile, the user's kubeconfig or this pod's service account names."""
    from kubernetes import client, config

    configuration: Any = client.Configuration()
    configuration.retries = 1
    default = config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    has_one = any(Path(path).expanduser().exists() for path in default.split(os.pathsep))
    try:
        if environment.kubeconfig is None and not has_one and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(
                environment.kubeconfig, context=environment.context, client_configuration=configuration
            )
    except config.ConfigException as error:
        found = f"no Kubernetes cluster can be reached: {error}"
        raise WorkerFailed(FailureClass.USAGE, f"the pod cannot be started, {found}") from error
    return client.CoreV1Api(client.ApiClient(configuration))
