"""Where on a cluster a worker runs, as a profile says it: a Kubernetes pod or a Ray job.

Either sees nothing of this machine but a folder on a volume that both mount, under the same path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from .profile_sections import LocationText, Section, refusal

WORKER_CONTAINER = "worker"
"""Name of the pod's container that the worker runs in."""

_LABEL_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")


def _labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            raise refusal(
                f"{name}: {value!r} is no label",
                "Letters, digits, '-', '_' and '.', at most 63, may stand in a label's name and value.",
                (name,),
            )
    return labels


Text = Annotated[str, Field(min_length=1)]


class ClusterEnvironment(Section):
    """What pods and jobs have in common."""

    shared: LocationText
    """Folder that this process and the worker both see under this path, on a volume of the cluster: NFS, CephFS, Lustre
    or another that shows appended lines to whoever opens a file again. The worker's scratch directory lies in it."""
    python: Text = "python"
    """Python there, which has dagster-pipes and the model's packages."""


class KubernetesEnvironment(ClusterEnvironment):
    """A pod of its own for each launch of the worker; it is never started twice."""

    image: Text
    """Image of the worker's environment."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "default"
    """Namespace of the pods. What this process logs in as must be allowed to create, get and delete pods there, and to
    get pods/log."""
    pod_spec: Mapping[str, JsonValue] = {}
    """Spec of the pod, as in a manifest (camelCase): volumes, nodeSelector, tolerations, serviceAccountName, … Its
    container named worker, if it has one, is the worker's: volumeMounts, resources, env, … are told there."""
    labels: Annotated[Mapping[str, str], AfterValidator(_labels)] = {}
    """Further labels of the pod, such as a queue's name."""
    annotations: Mapping[str, str] = {}
    """Annotations of the pod."""
    kubeconfig: LocationText | None = None
    """File that says how the cluster is reached; null: KUBECONFIG or ~/.kube/config, else, where this process runs in a
    pod, its service account."""
    context: str | None = None
    """Context of that file; null: its current one."""

    def worker_container(self) -> Mapping[str, Any]:
        """What the spec says of the worker's container."""
        named = [each for each in self._containers() if each.get("name") == WORKER_CONTAINER]
        return named[0] if named else {}

    def other_containers(self) -> list[Mapping[str, Any]]:
        """Those that run beside it."""
        return [each for each in self._containers() if each.get("name") != WORKER_CONTAINER]

    def _containers(self) -> list[Mapping[str, Any]]:
        containers = self.pod_spec.get("containers", [])
        if not isinstance(containers, list) or not all(isinstance(each, dict) for each in containers):
            raise refusal("containers that are no list of mappings", "Write them as in a manifest.", ("pod_spec",))
        return [each for each in containers if isinstance(each, dict)]

    @model_validator(mode="after")
    def _leaves_to_us_what_is_ours(self) -> Self:
        if self.pod_spec.get("restartPolicy", "Never") != "Never":
            raise refusal("a restartPolicy", "A worker's pod is never restarted; remove it.", ("pod_spec",))
        ours = sorted({"command", "args", "image"} & set(self.worker_container()))
        if ours:
            raise refusal(
                f"the container {WORKER_CONTAINER} has {' and '.join(ours)}",
                "Give the image as kubernetes.image, Python as kubernetes.python, and leave the command to sceneloom.",
                ("pod_spec",),
            )
        return self

    @model_validator(mode="after")
    def _mounts_what_is_shared(self) -> Self:
        mounts = self.worker_container().get("volumeMounts", [])
        if not isinstance(mounts, list) or not all(isinstance(mount, dict) for mount in mounts):
            raise refusal("volumeMounts that are no list of mappings", "Write them as in a manifest.", ("pod_spec",))
        paths = [PurePosixPath(str(mount.get("mountPath"))) for mount in mounts]
        if not any(PurePosixPath(self.shared).is_relative_to(path) for path in paths):
            raise refusal(
                f"no volumeMounts of the container {WORKER_CONTAINER} hold {self.shared}",
                f"Mount a volume there: pod_spec: {{volumes: […], containers: [{{name: {WORKER_CONTAINER}, "
                "volumeMounts: [{name: …, mountPath: …}]}]}.",
                ("shared",),
            )
        return self


class RayEnvironment(ClusterEnvironment):
    """A job of a Ray cluster for each launch of the worker. Its nodes mount `shared` already."""

    address: Annotated[str, Field(pattern=r"^\w+://.+$")]
    """Address of the head's job server, such as http://head:8265. Ray puts RAY_API_SERVER_ADDRESS and RAY_ADDRESS of
    this process's environment before it."""
    runtime_env: Mapping[str, JsonValue] = {}
    """Ray's runtime environment of the job: pip, conda, image_uri, env_vars, …"""
    entrypoint_num_cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPU cores to reserve."""
    entrypoint_num_gpus: Annotated[float, Field(ge=0)] | None = None
    """GPUs to reserve; null: one, or none where the worker's device is cpu. Ray shows the worker those alone."""
    entrypoint_memory: Annotated[int, Field(gt=0)] | None = None
    """Bytes of host memory to reserve."""
    entrypoint_resources: Mapping[str, float] = {}
    """Custom resources to reserve, by which nodes are chosen."""
    entrypoint_label_selector: Mapping[str, str] = {}
    """Labels that the node must have."""

    @model_validator(mode="after")
    def _has_variables_that_are_texts(self) -> Self:
        environment = self.runtime_env.get("env_vars", {})
        if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
            raise refusal("env_vars that are no texts", "Write each as a text.", ("runtime_env",))
        return self
