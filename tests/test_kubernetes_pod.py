"""Workers in pods, through the real Kubernetes client: batches, deaths, deadlines, and the end of the caller."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

pytest.importorskip("kubernetes", reason="the extra kubernetes is not installed")

from sceneloom.assets.worker_pipes import LineMessageReader
from sceneloom.datasets.errors import EngineError
from sceneloom.resources import kubernetes_pod, remote_worker, worker_settings
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.vipe import ViPEWorker
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed
from sceneloom.resources.worker_process import TaskEnded, started_without_tasks

from .kubernetes_stand_in import IMAGE, Kubernetes, kubernetes
from .test_resident_worker import HEAD, LOOP
from .test_vipe_worker import FILE as VIPE_WORKER
from .test_worker_pipes import NOISE_AND_A_FAILURE, require_three_clips
from .test_worker_process import Settings, classes, failure_of, lives, tasks, wait_until
from .vipe_clips import batch, vipe_settings
from .worker_stand_ins import CALLER_OF_A_CLUSTER

VOLUME = {"name": "scenes", "persistentVolumeClaim": {"claimName": "scenes"}}


@pytest.fixture(scope="module")
def running() -> Iterator[Kubernetes]:
    with kubernetes() as found:
        yield found


@pytest.fixture
def cluster(running: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "toy_worker.py").write_text(HEAD + LOOP)
    monkeypatch.setattr(worker_settings, "WORKERS_FOLDER", folder)
    monkeypatch.setattr(remote_worker, "LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(remote_worker, "REMOVAL_INTERVAL", 0.05)
    running.created.clear()
    yield running
    # Whatever happened: no pod is left.
    assert running.pods == {}


def pod_settings(cluster: Kubernetes, folder: Path, **changes: Any) -> Settings:
    container = {"name": "worker", "volumeMounts": [{"name": "scenes", "mountPath": str(folder)}]}
    container |= changes.pop("container", {})
    environment = {
        "image": IMAGE,
        "namespace": "scenes",
        "shared": str(folder / "shared"),
        "python": sys.executable,
        "kubeconfig": str(cluster.kubeconfig),
        "pod_spec": {"volumes": [VOLUME], "containers": [container], **changes.pop("pod_spec", {})},
        **changes.pop("environment", {}),
    }
    (folder / "shared").mkdir(exist_ok=True)
    limits = {"start_timeout": 20.0, "clip_timeout": 20.0, "frame_timeout": 0.0001, "device": "cpu", **changes}
    return Settings.model_validate({"environment": {"kubernetes": environment}, **limits})


@contextlib.contextmanager
def resident(cluster: Kubernetes, folder: Path, **changes: Any) -> Iterator[ResidentWorker]:
    with contextlib.closing(ResidentWorker("toy", pod_settings(cluster, folder, **changes), {})) as worker:
        yield worker
    assert list((folder / "shared").iterdir()) == []


def run(worker: ResidentWorker, **work: str) -> dict[str, TaskEnded]:
    return {one.task: one for one in worker.run(tasks(**work))}


def test_one_pod_serves_run_after_run_and_is_cleared_away(cluster: Kubernetes, tmp_path: Path) -> None:
    spec = {"nodeSelector": {"gpu": "h100"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}
    container = {
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "env": [{"name": "KEPT", "value": "1"}, {"name": "SET", "value": "by the spec"}],
    }
    environment = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}, "annotations": {"cost": "a"}}
    with resident(
        cluster, tmp_path, pod_spec=spec, container=container, environment=environment, variables={"SET": "here"}
    ) as worker:
        seen = "assert (os.environ['KEPT'], os.environ['SET'], os.environ['CUDA_VISIBLE_DEVICES']) == ('1', 'here', '')"
        first, second = run(worker, a=seen, b="pass"), run(worker, a="pass")
        assert classes(first | second) == {"a": None, "b": None}
        assert first["a"].versions == second["a"].versions
        assert len(cluster.pods) == 1
    [pod] = cluster.created
    assert (
        pod["metadata"]["labels"].items()
        >= {
            "app.kubernetes.io/managed-by": "sceneloom",
            "sceneloom/worker": "toy",
            "kueue.x-k8s.io/queue-name": "gpus",
        }.items()
    )
    assert pod["metadata"]["annotations"] == {
        "cost": "a",
        "sceneloom/launched-by": f"{socket.gethostname()}:{os.getpid()}",
    }
    assert pod["spec"].items() >= spec.items()
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["securityContext"] == {"runAsUser": os.getuid(), "runAsGroup": os.getgid()}
    assert pod["spec"]["containers"][0]["resources"] == container["resources"]


def test_a_death_loses_the_task_in_hand_alone(cluster: Kubernetes, tmp_path: Path) -> None:
    with resident(cluster, tmp_path) as worker:
        ended = run(
            worker, a="pass", b="print('last words', flush=True); os.kill(os.getpid(), 9)", c="pass", d="sys.exit(3)"
        )
    assert classes(ended) == {"a": None, "b": FailureClass.KILLED, "c": None, "d": FailureClass.KILLED}
    assert failure_of(ended["b"]).found == "ended by SIGKILL; its log says: last words"
    assert "last words" in failure_of(ended["b"]).log
    assert failure_of(ended["d"]).found.startswith("ended with 3")
    assert ended["a"].versions != ended["c"].versions
    names = [pod["metadata"]["name"] for pod in cluster.created]
    assert len(set(names)) == len(names) == 2


def test_a_hang_is_ended_with_all_it_started(cluster: Kubernetes, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    hang = f"Path({str(mark)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    with resident(cluster, tmp_path, clip_timeout=1.0) as worker:
        ended = run(worker, a=hang, b="pass")
    assert classes(ended) == {"a": FailureClass.TIMEOUT, "b": None}
    assert failure_of(ended["a"]).found == "nothing came of it within 1 s"
    assert not lives(int(mark.read_text()))


def test_what_takes_more_memory_than_the_pod_has(cluster: Kubernetes, tmp_path: Path) -> None:
    memory = {"resources": {"limits": {"memory": "150Mi"}}}
    with resident(cluster, tmp_path, container=memory) as worker:
        ended = run(worker, a="much = bytearray(300 << 20); time.sleep(600)", b="pass")
    assert classes(ended) == {"a": FailureClass.OUT_OF_MEMORY, "b": None}
    assert "OOMKilled" in failure_of(ended["a"]).found


@pytest.mark.parametrize(
    ("happens", "expected", "found"),
    [
        ("The node was low on resource: memory.", FailureClass.OUT_OF_MEMORY, "Evicted: The node was low on resource"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.", FailureClass.WRITE, "Evicted"),
        ("The node had condition: [PIDPressure].", FailureClass.KILLED, "PIDPressure"),
        ("", FailureClass.KILLED, "is gone: it was deleted, or its node was lost"),
    ],
    ids=["memory", "disk", "pressure", "node lost"],
)
def test_what_the_cluster_does_to_a_pod(
    happens: str, expected: FailureClass, found: str, cluster: Kubernetes, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with resident(cluster, tmp_path) as worker, ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, worker, a=f"Path({str(mark)!r}).touch(); time.sleep(600)")
        assert wait_until(mark.exists)
        if happens:
            cluster.evict(happens)
        else:
            cluster.lose()
        [ended] = future.result(timeout=20).values()
        assert failure_of(ended).failure is expected
        assert found in failure_of(ended).found


def test_an_image_that_cannot_be_pulled(cluster: Kubernetes, tmp_path: Path) -> None:
    with resident(cluster, tmp_path, environment={"image": "wrokre:1"}, start_timeout=0.5) as worker:
        ended = run(worker, a="pass", b="pass")
    assert classes(ended) == {"a": FailureClass.TIMEOUT, "b": FailureClass.TIMEOUT}
    assert 'waits: ImagePullBackOff: Back-off pulling image "wrokre:1"' in failure_of(ended["a"]).found
    assert len(cluster.created) == 1


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"pod_spec": {"nodeSelectr": {"gpu": "h100"}}}, 'unknown field "pod.spec.nodeSelectr"'),
        ({"environment": {"namespace": "others"}}, "403 Forbidden: /api/v1/namespaces/others/pods is forbidden"),
        ({"environment": {"kubeconfig": "/nowhere"}}, "Invalid kube-config file"),
        ({"environment": {"context": "other"}}, "Expected object with name other"),
    ],
    ids=["misspelt", "namespace", "no kubeconfig", "no context"],
)
def test_what_the_cluster_refuses(changes: dict[str, Any], found: str, cluster: Kubernetes, tmp_path: Path) -> None:
    with resident(cluster, tmp_path, **changes) as worker:
        ended = run(worker, a="pass", b="pass")
    assert classes(ended) == {"a": FailureClass.USAGE, "b": FailureClass.USAGE}
    assert found in failure_of(ended["a"]).found
    assert cluster.created == []


def test_a_pod_waits_for_its_quota(cluster: Kubernetes, tmp_path: Path) -> None:
    cluster.refuse = (403, "exceeded quota: gpus, requested: nvidia.com/gpu=1, limited: nvidia.com/gpu=0")
    try:
        with resident(cluster, tmp_path, start_timeout=0.5) as worker:
            assert "exceeded quota: gpus" in failure_of(run(worker, a="pass")["a"]).found
        with resident(cluster, tmp_path) as worker, ThreadPoolExecutor(1) as pool:
            asked = len(cluster.requests)
            future = pool.submit(run, worker, a="pass")
            assert wait_until(lambda: len(cluster.requests) > asked + 1)
            cluster.refuse = None
            assert classes(future.result(timeout=20)) == {"a": None}
    finally:
        cluster.refuse = None


def test_a_server_that_is_away_and_a_token_that_runs_out_end_no_worker(cluster: Kubernetes, tmp_path: Path) -> None:
    with resident(cluster, tmp_path) as worker:
        first = run(worker, a="pass")
        cluster.down = True
        asked = len(cluster.requests)
        second = run(worker, b="time.sleep(0.3)")
        assert wait_until(lambda: len(cluster.requests) > asked + 1)
        cluster.down, cluster.token = False, "another"
        asked = len(cluster.requests)
        assert wait_until(lambda: len(cluster.requests) > asked + 1)
        cluster.write_kubeconfig()
        third = run(worker, c="time.sleep(0.3)")
    assert classes(first | second | third) == {"a": None, "b": None, "c": None}
    assert first["a"].versions == second["b"].versions == third["c"].versions
    assert len(cluster.created) == 1


def test_the_pod_ends_when_its_caller_is_killed(cluster: Kubernetes, tmp_path: Path) -> None:
    mark = tmp_path / "worker"
    settings = pod_settings(cluster, tmp_path).model_dump_json()
    hang = f"Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(600)"
    arguments = [sys.executable, "-c", CALLER_OF_A_CLUSTER, str(tmp_path / "workers"), settings, hang]
    caller = subprocess.Popen(arguments, cwd=Path(__file__).parents[1])
    try:
        assert wait_until(lambda: mark.exists() and mark.read_text() != "", 20)
        worker = int(mark.read_text())
        # Its heartbeat keeps it, for longer than the limit.
        time.sleep(2.0)
        assert lives(worker)
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.wait()
    assert wait_until(lambda: not lives(worker))
    [pod] = cluster.pods.values()
    assert pod.process is not None
    assert pod.process.wait(10) == 128 + signal.SIGTERM
    assert "its heartbeat has stopped" in pod.log.read_text()
    # Nobody is left to remove what is left of it; an owner would be, of a caller in a pod.
    cluster.pods.clear()


def test_a_check_starts_a_pod_without_tasks(cluster: Kubernetes, tmp_path: Path) -> None:
    # A check is no feed: the worker is told no tasks at all.
    (tmp_path / "workers" / "toy_worker.py").write_text(LOOP_WITHOUT_FEED)
    assert set(started_without_tasks("toy", pod_settings(cluster, tmp_path)).versions) == {"process"}
    with pytest.raises(WorkerFailed, match=r"within 0 s; the pod scenes/sceneloom-toy-\w+ waits: ImagePullBackOff"):
        started_without_tasks("toy", pod_settings(cluster, tmp_path, environment={"image": "x"}, start_timeout=0.3))
    assert list((tmp_path / "shared").iterdir()) == []


LOOP_WITHOUT_FEED = """
import os
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    pipes.report_custom_message({"kind": "ready", "versions": {"process": str(os.getpid())}})
"""


def test_a_caller_in_a_pod_takes_its_workers_with_it(
    cluster: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"containers": [{"name": "caller", "image": "ours"}]}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "caller"}, "spec": spec}, strict=True)
    namespace = tmp_path / "namespace"
    namespace.write_text("scenes\n")
    monkeypatch.setattr(kubernetes_pod, "OWN_NAMESPACE", namespace)
    monkeypatch.setattr(socket, "gethostname", lambda: "caller")
    with resident(cluster, tmp_path) as worker:
        assert classes(run(worker, a="pass")) == {"a": None}
    del cluster.pods["caller"]
    caller, pod = cluster.created
    [owner] = pod["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "caller", "uid": caller["metadata"]["uid"]}


def test_a_pod_that_does_not_go_counts_as_lost(
    cluster: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = pod_settings(cluster, tmp_path).environment.kubernetes
    assert environment is not None
    pod = kubernetes_pod.KubernetesPod(environment, "toy", "sceneloom-toy-1", ("sleep", "600"), {})
    pod.submit()
    # As after an answer that got lost.
    pod.submit()
    cluster.pods["sceneloom-toy-1"].going = True
    assert not pod.look().exited
    monkeypatch.setattr(kubernetes_pod, "DELETION_LIMIT", 0.0)
    assert pod.look().exited
    assert "its node does not answer" in pod.look().said
    cluster.pods["sceneloom-toy-1"].going = False
    assert wait_until(pod.remove)


def test_the_extra_is_named_where_the_client_is_not_installed(
    cluster: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with resident(cluster, tmp_path) as worker, pytest.raises(EngineError, match=r"sceneloom\[kubernetes\]"):
        run(worker, a="pass")


def test_the_workers_file_runs_under_pipes_own_client(cluster: Kubernetes, tmp_path: Path) -> None:
    """PipesK8sClient, with the context and the messages in files of the shared volume."""
    pipes = pytest.importorskip("dagster_k8s")
    client = pipes.PipesK8sClient(
        kubeconfig_file=str(cluster.kubeconfig),
        context_injector=dg.PipesFileContextInjector(str(tmp_path / "context.json")),
        message_reader=LineMessageReader(tmp_path / "messages.jsonl"),
        poll_interval=0.05,
    )

    file = Path(shutil.copy(VIPE_WORKER, tmp_path))

    def launch(context: dg.AssetExecutionContext, manifest: Path) -> Any:
        mount = {"name": "scenes", "mountPath": str(tmp_path)}
        return client.run(
            context=context,
            namespace="scenes",
            image=IMAGE,
            command=[sys.executable, "-u", str(file)],
            env={"VIPE_STAND_IN_FAULTS": json.dumps(NOISE_AND_A_FAILURE)},
            base_pod_spec={"volumes": [VOLUME], "containers": [{"name": "worker", "volumeMounts": [mount]}]},
            extras={"manifest": str(manifest)},
        )

    require_three_clips(tmp_path, launch)
    assert wait_until(lambda: cluster.pods == {})


def test_a_batch_of_clips_goes_through_a_pod(
    cluster: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViPE's worker on the way that the stages take: inputs copied to the volume, results moved from it."""
    monkeypatch.delattr(Path, "symlink_to")
    shutil.copy(VIPE_WORKER, tmp_path / "workers")
    environment = pod_settings(cluster, tmp_path).environment
    settings = vipe_settings(tmp_path / "shared" / "scratch", environment=environment)
    with contextlib.closing(ViPEWorker(settings)) as worker:
        outcomes = {found.task: found for found in worker.estimate(batch(tmp_path, "scene-0", "scene-1"))}
    for name in ("scene-0", "scene-1"):
        result = outcomes[name].result
        assert result is not None, outcomes[name].failure
        assert result.root == tmp_path / "results" / name
        assert (result.root / "worker.log").stat().st_size > 0
    assert len(cluster.created) == 1
    assert list((tmp_path / "shared" / "scratch").iterdir()) == []
