"""As much of a Kubernetes cluster as dagster-k8s talks to: an API server on loopback, whose pods are processes.

Here: jobs and pods by HTTP and JSON, as the client of Kubernetes asks for them; the command of a pod, executed here
with the environment of its container and nothing of this process's; pods that are killed, jobs that are lost, a server
that is unwell. Not here: what a container may (`contained.py`); images, nodes, scheduling, limits of resources: they
are recorded, and a test looks at them.

A pod is a process of its own, begun with the command of its container; or, where a test is about something else, a fork
of a process that has imported the packages, not the definitions: most of what a small step costs is their import.
"""

import json
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from geo_assets.defs.preloaded import PRELOADED
from geo_assets_tests.k8s import contained

_JOBS = re.compile(r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<name>[^/]+)(?P<status>/status)?)?$")
_PODS = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/(?:pods(?:/(?P<name>[^/]+)(?P<log>/log)?)?|events)$")

#: What a pod may write to: the home of the stack is below it.
_WRITABLE = f"{tempfile.gettempdir()}:/dev/shm"

#: What a step imports, but the definitions, which are made of the settings of its own environment.
_IMPORTED = (
    *(name for name in PRELOADED if name != "geo_assets.definitions"),
    "dagster._cli",
    "dagster_k8s.launcher",
    "geo_assets.defs.pods",
    "geo_assets.defs.ingest_container",
    "geo_assets.defs.sensors",
)


class Forked:
    """A pod that is a fork of a process which has imported the packages; to its cluster it is as a `Popen`."""

    #: How a process ended can be read once, and `start` looks after those that ended before.
    _one_at_a_time = threading.Lock()

    def __init__(self, command: Sequence[str], environment: dict[str, str], folder: Path, log: Path, profile: str):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_IMPORTED))
        self._process = context.Process(target=_begin, args=(command, environment, folder, log, profile))
        with self._one_at_a_time:
            self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        with self._one_at_a_time:
            return self._process.exitcode

    def wait(self, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("pod", timeout)
            time.sleep(0.02)


def _begin(command: Sequence[str], environment: dict[str, str], folder: Path, log: Path, profile: str) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    contained.contain(profile, "root", _WRITABLE)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__")


@dataclass
class Pod:
    """One job, whose one pod is a process."""

    name: str
    body: dict
    process: subprocess.Popen[bytes] | Forked | None
    log: Path
    deleted: bool = False

    @property
    def container(self) -> dict:
        return self.body["spec"]["template"]["spec"]["containers"][0]

    @property
    def labels(self) -> dict:
        return self.body["spec"]["template"]["metadata"]["labels"]

    @property
    def is_step(self) -> bool:
        return self.labels["app.kubernetes.io/component"] == "step_worker"

    @property
    def status(self) -> dict:
        code = self.process.poll() if self.process else None
        if code is None:
            return {"active": 1}
        return {"succeeded": 1} if code == 0 else {"failed": 1}

    @property
    def phase(self) -> str:
        return {"active": "Running", "succeeded": "Succeeded", "failed": "Failed"}[next(iter(self.status))]

    def kill(self) -> None:
        """As an eviction, or the kernel, ends it: every process of the pod at once."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def end(self) -> None:
        """As a deletion ends it: SIGTERM first."""
        if self.process and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Cluster:
    """Jobs of one cluster; what config maps and secrets of these names hold is in the environment of pods."""

    folder: Path
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    jobs: dict[str, Pod] = field(default_factory=dict)
    every: list[Pod] = field(default_factory=list)  # also those that were deleted
    answers: dict[str, list[int]] = field(default_factory=dict)  # method -> what the next requests get for an answer
    forks: bool = True  # whether pods are forks
    profile: str = "default"  # of seccomp
    port: int = 0

    @property
    def kubeconfig(self) -> Path:
        cluster = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [cluster],
            "contexts": [context],
            "users": [{"name": "test", "user": {"token": "x"}}],
        }
        path = self.folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def running(self, *, steps: bool) -> list[Pod]:
        return [pod for pod in self.jobs.values() if pod.is_step == steps and "active" in pod.status]

    def chunks(self) -> list[Pod]:
        """Pods of chunks that are at work."""
        return [pod for pod in self.running(steps=True) if "chunk_" in pod.labels["dagster/op"]]

    def create(self, body: dict) -> tuple[int, dict]:
        name = body["metadata"]["name"]
        if name in self.jobs:
            return 409, status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        pod = Pod(name, body, None, self.folder / f"{name}.log")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "HOSTNAME": name}
        for source in pod.container.get("envFrom") or ():
            environment |= self.environments[next(iter(source.values()))["name"]]
        for variable in pod.container.get("env") or ():
            environment[variable["name"]] = variable.get("value") or ""
        command: list[str] = [*(pod.container.get("command") or ()), *(pod.container.get("args") or ())]
        pod.process = self._begun(command, environment, pod.log)
        self.jobs[name] = pod
        self.every.append(pod)
        return 201, job(pod)

    def _begun(self, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes] | Forked:
        if self.forks:
            return Forked(command, environment, self.folder, log, self.profile)
        program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
        container = [sys.executable, "-S", contained.__file__, self.profile, "root", _WRITABLE, "--"]
        with log.open("wb") as file:
            return subprocess.Popen(
                [*container, *program],
                env=environment,
                cwd=self.folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def delete(self, name: str) -> tuple[int, dict]:
        pod = self.jobs.pop(name, None)
        if pod is None:
            return 404, status(404, "NotFound", f'"{name}" not found')
        pod.deleted = True
        threading.Thread(target=pod.end, daemon=True).start()
        return 200, status(200, "", "")

    def stop(self) -> None:
        for pod in self.every:
            pod.kill()


def status(code: int, reason: str, message: str) -> dict:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Success" if code < 400 else "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }


def job(pod: Pod) -> dict:
    return {**pod.body, "apiVersion": "batch/v1", "kind": "Job", "status": pod.status}


def pod_object(pod: Pod) -> dict:
    state = {"running": {}} if pod.phase == "Running" else {"terminated": {"exitCode": pod.process.poll()}}
    container = {
        "name": "dagster",
        "ready": pod.phase == "Running",
        "restartCount": 0,
        "image": "x",
        "imageID": "x",
        "state": state,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{pod.name}-pod", "labels": {**pod.labels, "job-name": pod.name}},
        "spec": pod.body["spec"]["template"]["spec"],
        "status": {"phase": pod.phase, "containerStatuses": [container]},
    }


@contextmanager
def served(cluster: Cluster) -> Iterator[Cluster]:
    """Serve the API of a cluster on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, code: int, body: dict | str) -> None:
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(code)
            self.send_header("content-type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("content-length", str(len(data)))
            if code == 429:
                self.send_header("retry-after", "1")
            self.end_headers()
            self.wfile.write(data)

        def _handle(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            answers = cluster.answers.get(self.command)
            if answers and (code := answers.pop(0)) != 200:
                self._answer(code, status(code, "Unwell", "the server is unwell"))
                return
            url = urlsplit(self.path)
            asked = {key: values[0] for key, values in parse_qs(url.query).items()}
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked was killed
                self._answer(*answer(cluster, self.command, url.path, asked, body))

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    cluster.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield cluster
    finally:
        cluster.stop()
        server.shutdown()
        server.server_close()


def answer(cluster: Cluster, method: str, path: str, asked: dict[str, str], body: dict) -> tuple[int, dict | str]:
    if found := _JOBS.match(path):
        return _jobs(cluster, method, found["name"], asked, body)
    if found := _PODS.match(path):
        return _pods(cluster, method, found["name"], asked, log=bool(found["log"]))
    return 404, status(404, "NotFound", path)


def _jobs(cluster: Cluster, method: str, name: str | None, asked: dict[str, str], body: dict) -> tuple[int, dict]:
    if method == "POST":
        return cluster.create(body)
    if method == "DELETE":
        return cluster.delete(name or "")
    if name:
        pod = cluster.jobs.get(name)
        return (200, job(pod)) if pod else (404, status(404, "NotFound", f'jobs.batch "{name}" not found'))
    wanted = asked.get("fieldSelector", "").removeprefix("metadata.name=")
    items = [job(pod) for pod in cluster.jobs.values() if wanted in {"", pod.name}]
    return 200, {"apiVersion": "batch/v1", "kind": "JobList", "items": items}


def _pods(
    cluster: Cluster, method: str, name: str | None, asked: dict[str, str], *, log: bool
) -> tuple[int, dict | str]:
    if method == "DELETE":
        return 200, status(200, "", "")  # it went with its job
    named = name or asked.get("fieldSelector", "").removeprefix("metadata.name=")
    owner = asked.get("labelSelector", "").removeprefix("job-name=") or named.removesuffix("-pod")
    pods = [pod for pod in cluster.jobs.values() if owner in {"", pod.name}]
    if log:
        return 200, pods[0].log.read_text(errors="replace") if pods else ""
    if name:
        return (200, pod_object(pods[0])) if pods else (404, status(404, "NotFound", name))
    return 200, {"apiVersion": "v1", "kind": "PodList", "items": [pod_object(pod) for pod in pods]}


def settle(condition, seconds: float = 60.0):
    """What a condition says, once it says something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")
