"""What a profile says of pods and jobs: what must fit together, and what is refused before anything is launched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sceneloom.resources.cluster_environments import KubernetesEnvironment, RayEnvironment
from sceneloom.resources.worker_batches import host_memory
from sceneloom.resources.worker_settings import WorkerSettings

MOUNT = {"name": "scenes", "mountPath": "/data"}
SPEC = {"containers": [{"name": "worker", "volumeMounts": [MOUNT]}]}
POD = {"image": "moge:1", "shared": "/data/scenes", "pod_spec": SPEC}
JOB = {"address": "http://head:8265", "shared": "/data/scenes"}


def settings(environment: dict[str, Any], **changes: Any) -> WorkerSettings:
    return WorkerSettings.model_validate({"environment": environment, **changes})


def container(**changes: Any) -> dict[str, Any]:
    return {"pod_spec": {"containers": [{"name": "worker", "volumeMounts": [MOUNT], **changes}]}}


@pytest.mark.parametrize("environment", [{"kubernetes": POD}, {"ray": JOB}], ids=["kubernetes", "ray"])
def test_private_directories_lie_where_both_see_them(environment: dict[str, Any]) -> None:
    assert settings(environment).scratch_folder() == Path("/data/scenes")
    assert settings(environment, scratch="/data/scenes/scratch").scratch_folder() == Path("/data/scenes/scratch")
    for scratch in ("/data", "/tmp", "/data/scenes2", "/data/scenes/../other"):
        with pytest.raises(ValidationError, match="which the worker does not see: it shares /data/scenes alone"):
            settings(environment, scratch=scratch)


@pytest.mark.parametrize("environment", [{"kubernetes": POD}, {"ray": JOB}], ids=["kubernetes", "ray"])
def test_what_of_this_machine_means_nothing_there_is_refused(environment: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="device cuda:1 on a cluster"):
        settings(environment, device="cuda:1")
    with pytest.raises(ValidationError, match="device_memory on a cluster"):
        settings(environment, device_memory="10 GB")
    found = settings(environment)
    assert found.environment.sees_only_scratch
    assert found.missing() == "/data/scenes is no folder that can be written to"
    assert host_memory(found) == float("inf")
    assert host_memory(settings(environment, memory_limit="10 GB")) == 1e10


def test_what_is_shared_and_writable_is_not_missing(tmp_path: Path) -> None:
    assert settings({"ray": {**JOB, "shared": str(tmp_path)}}).missing() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pod_spec": {}}, "no volumeMounts of the container worker hold /data/scenes"),
        ({"shared": "/database"}, "no volumeMounts of the container worker hold /database"),
        (container(volumeMounts="/data"), "volumeMounts that are no list of mappings"),
        ({"pod_spec": {"containers": "worker"}}, "containers that are no list of mappings"),
        (container(image="other:1", command=["sh"]), "the container worker has command and image"),
        ({"pod_spec": {**SPEC, "restartPolicy": "OnFailure"}}, "a restartPolicy"),
        ({"labels": {"queue": "two words"}}, "queue: 'two words' is no label"),
        ({"labels": {"-x": "a"}}, "-x: 'a' is no label"),
        ({"namespace": "Scenes"}, "String should match pattern"),
        ({"image": ""}, "at least 1 character"),
        ({"images": "a"}, "Extra inputs"),
    ],
)
def test_a_pod_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings({"kubernetes": {**POD, **changes}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"address": "head:8265"}, "String should match pattern"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, "env_vars that are no texts"),
        ({"entrypoint_num_gpus": -1}, "greater than or equal to 0"),
    ],
)
def test_a_job_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings({"ray": {**JOB, **changes}})


def test_the_environments_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="kubernetes and ray are chosen"):
        settings({"kubernetes": POD, "ray": JOB})
    with pytest.raises(ValidationError, match="uv and ray are chosen"):
        settings({"uv": True, "ray": JOB})


def test_every_key_says_what_it_means() -> None:
    for section in (KubernetesEnvironment, RayEnvironment):
        keys = section.model_json_schema()["properties"]
        assert [name for name, key in keys.items() if "description" not in key] == []


def test_sidecars_stay_beside_the_worker() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1"}
    spec = {"containers": [sidecar, {"name": "worker", "volumeMounts": [MOUNT]}]}
    found = settings({"kubernetes": {**POD, "pod_spec": spec}}).environment.kubernetes
    assert found is not None
    assert found.other_containers() == [sidecar]
    assert found.worker_container()["volumeMounts"] == [MOUNT]
