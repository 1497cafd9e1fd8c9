"""A worker's launch as a job of a Ray cluster."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ..datasets.errors import EngineError
from .cluster_environments import RayEnvironment
from .remote_worker import Seen, Unavailable, signalled
from .worker_failures import FailureClass, WorkerFailed

_STATUS_CODE = re.compile(r"status code (\d{3})")


def job_submission(
    environment: RayEnvironment,
    worker: str,
    name: str,
    command: tuple[str, ...],
    variables: Mapping[str, str],
    *,
    gpu: bool,
) -> dict[str, Any]:
    """What `JobSubmissionClient.submit_job` is given.

    Args:
        environment: the profile's.
        worker: its name.
        name: the job's submission id.
        command: that runs the worker's file.
        variables: of its environment.
        gpu: whether it needs one, where the profile does not say how many.
    """
    given = environment.runtime_env.get("env_vars", {})
    of_profile = given if isinstance(given, dict) else {}
    gpus = environment.entrypoint_num_gpus if environment.entrypoint_num_gpus is not None else float(gpu)
    reserved = {
        "entrypoint_num_cpus": environment.entrypoint_num_cpus,
        "entrypoint_num_gpus": gpus or None,
        "entrypoint_memory": environment.entrypoint_memory,
        "entrypoint_resources": dict(environment.entrypoint_resources) or None,
        "entrypoint_label_selector": dict(environment.entrypoint_label_selector) or None,
    }
    return {
        "entrypoint": shlex.join(command),
        "submission_id": name,
        "runtime_env": {**environment.runtime_env, "env_vars": {**of_profile, **variables}},
        "metadata": {"sceneloom/worker": worker},
        **{key: value for key, value in reserved.items() if value is not None},
    }


class RayJob:
    """A job; see `remote_worker.ClusterJob`. It stays in Ray's list of jobs when it has ended.

    Args:
        environment: the profile's.
        worker: its name.
        name: its submission id, unique.
        command: that runs the worker's file.
        variables: of its environment.
        gpu: whether it needs one, where the profile does not say how many.

    Raises:
        EngineError: the package ray is not installed.
    """

    def __init__(
        self,
        environment: RayEnvironment,
        worker: str,
        name: str,
        command: tuple[str, ...],
        variables: Mapping[str, str],
        *,
        gpu: bool,
    ) -> None:
        _ray()
        self.name = f"the Ray job {name}"
        self._address = environment.address
        self._id = name
        self._submission = job_submission(environment, worker, name, command, variables, gpu=gpu)
        self._client: Any = None

    def submit(self) -> None:
        """See `ClusterJob`."""
        try:
            self._call(lambda client: client.submit_job(**self._submission))
        except WorkerFailed as failure:
            # The id is ours alone: an earlier request got through whose answer did not.
            if "already exists" not in failure.found:
                raise

    def look(self) -> Seen:
        """See `ClusterJob`."""
        try:
            info = self._call(lambda client: client.get_job_info(self._id))
        except WorkerFailed as failure:
            if "does not exist" not in failure.found:
                raise
            return Seen(True, said=f"{self.name} is gone: the cluster's head was started anew")
        if not info.status.is_terminal():
            return Seen(False, said=f"{self.name} waits: {info.message}" if info.status == "PENDING" else "")
        code = None if info.driver_exit_code is None else signalled(info.driver_exit_code)
        if info.status == "STOPPED":
            return Seen(True, code, f"{self.name} was stopped")
        if info.status == "SUCCEEDED" or info.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR":
            return Seen(True, code)
        never = "cannot be started" if info.error_type == "RUNTIME_ENV_SETUP_FAILURE" else "failed"
        return Seen(True, code, f"{self.name} {never} ({info.error_type}: {info.message})")

    def log(self) -> str:
        """See `ClusterJob`."""
        return self._call(lambda client: client.get_job_logs(self._id))

    def remove(self) -> bool:
        """See `ClusterJob`. Ray stops a job that waits when its turn comes, and it finds no files then: nobody needs to
        wait for that."""
        try:
            status = self._call(lambda client: client.get_job_status(self._id))
            if status.is_terminal():
                return True
            self._call(lambda client: client.stop_job(self._id))
        except WorkerFailed as failure:
            return "does not exist" in failure.found
        return status == "PENDING"

    def _call(self, do: Callable[[Any], Any]) -> Any:
        """An answer of the cluster's, given a JobSubmissionClient.

        Raises:
            Unavailable: another try may help.
            WorkerFailed: usage, for every other error.
        """
        import requests

        ray = _ray()
        try:
            self._client = self._client or ray.job_submission.JobSubmissionClient(self._address)
            return do(self._client)
        except (ConnectionError, requests.RequestException) as error:
            raise Unavailable(f"the Ray cluster cannot be reached ({error})") from error
        except (RuntimeError, ValueError, TypeError, ray.exceptions.RayError) as error:
            # The client has no error of its own for an answer that is none.
            status = _STATUS_CODE.search(str(error))
            if status is not None and status[1] in {"429", "500", "502", "503", "504"}:
                raise Unavailable(f"the Ray cluster does not do it now ({error})") from error
            raise WorkerFailed(FailureClass.USAGE, f"{self.name} cannot be started ({error})") from error


def _ray() -> Any:
    """The package ray with the modules that are used here. Raises EngineError where it is not installed."""
    try:
        importlib.import_module("ray.job_submission")
        importlib.import_module("ray.exceptions")
        return importlib.import_module("ray")
    except ImportError as error:
        raise EngineError(
            "a worker's environment is ray, and the package ray is not installed",
            where="the worker's environment",
            remedy="Install the extra: pip install 'sceneloom[ray]'.",
        ) from error
