"""Workers that are Ray actors, on a local Ray instance or on a cluster.

Ray places one long-lived actor of one CPU in each slot and carries a job to it and its answer back; retries, time
limits and order are the scheduling loop's, the same as for processes. Documents and tokens never enter Ray's object
store.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import importlib
import itertools
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from ettin_data.base.extras import need
from ettin_data.base.files import TEMPORARY
from ettin_data.base.version import VERSION
from ettin_data.executor import machine
from ettin_data.executor.model import ExecutorError, ExecutorOptions
from ettin_data.executor.pool import Answer, Died, Ready, Reply
from ettin_data.executor.worker import Done, Job, Raised, Runner, Settings, unseen

_OBJECT_STORE = 80 * 2**20  # bytes; Ray's least is 75 MiB, and jobs and answers are small
_KNOCK_S = 15.0
_LOOK_S = 5.0  # between two looks at which nodes there are
_AGAIN_S = 1.0  # between two looks at whether the head is there
_SILENT_S = 30.0  # until a head that does not answer is lost; it may be started again. Ray ends this process after 60
_LOST_S = 20.0  # until a cluster knows that a node is gone: it asks five times, every three seconds
_GREET_S = 60.0  # for a node to say what it sees before there is work; one that needs longer says it with its workers
_START_ATTEMPTS = 3  # Ray gives its own processes fixed times to start, too short for a machine that is busy
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray would print of dead workers, on standard output: our events have it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning on every start
}
_LOCAL = _QUIET | {
    # Ray replaces 127.0.0.1 by the machine's address, which opens its ports to the network, unless it is told that this
    # system cannot be part of a cluster. The name is historical; it is read on every system.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",  # 15 otherwise: fair to a desktop, slow on a shared machine
}
# Other users of this machine can reach the loopback interface. Ray's own token is a file in the user's home that it
# writes for everybody to read. One for the whole process, because Ray reads it only once.
_TOKEN = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)


class _Greeting(NamedTuple):
    """The first that is heard of a worker; `unseen`: why its machine does not see the shared folder, or None."""

    pid: int
    node: str  # its address
    node_id: str
    host: str
    version: str
    unseen: str | None


class _Worker:
    """The actor: a `Runner` in a process of Ray's."""

    def __init__(self, settings: Settings) -> None:
        from ray import cloudpickle

        if settings.folder:
            with contextlib.suppress(OSError):  # it is not there: relative paths are not either
                os.chdir(settings.folder)
        self._settings, self._runner = settings, Runner(settings, cloudpickle.dumps)

    def greet(self) -> _Greeting:
        import ray

        token = self._settings.token
        node, node_id = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        return _Greeting(os.getpid(), node, node_id, socket.gethostname(), VERSION, unseen(token) if token else None)

    def perform(self, function: bytes, payload: bytes) -> Done | Raised:
        return self._runner.perform(Job(function, payload))


class RayPool:
    """A `WorkerPool` of actors. Uses the Ray that this process is already connected to, if it is."""

    def __init__(self, options: ExecutorOptions) -> None:
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}  # what each reference that we wait for belongs to
        self._greeting: set[int] = set()  # those of them that are not ready yet
        self._nodes: dict[int, str] = {}  # the node of each actor that has greeted
        self._numbers = itertools.count(1)
        self._folder: str | None = None  # of a local instance
        self._lock: int | None = None
        self._ours = False  # to shut down
        self._token: str | None = None  # the file in the shared folder
        self._head = ""  # its address
        self._answered = -_AGAIN_S
        self._silent_since: float | None = None  # when it was first found not to answer
        self._nodes_there: dict[str, int] = {}
        self._wanted, self._cpus, self._looked = options.workers, 0, -_LOOK_S
        self._settings = Settings(
            options.memory_limit, sys_path=tuple(path for path in sys.path if path), folder=os.getcwd()
        )
        with machine.environment(_QUIET):
            self._ray: Any = need("ray", "the executor 'ray'")
        self._logger = logging.getLogger("ray")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)
        try:
            if not self._ray.is_initialized():
                self._ours = True
                if options.ray_address is None:
                    self._start_local(options.workers or machine.usable_cores())
                else:
                    self._join(options.ray_address)
            through = options.ray_address or ""
            self._head = through if through.startswith("ray://") else self._ray.get_runtime_context().gcs_address
            if options.shared is not None and self._folder is None:
                self._leave_token(options.shared)
        except BaseException:
            self.close()
            raise
        needs: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        if self._folder is None:  # the processes of our own instance inherit it, which starts them faster
            needs["runtime_env"] = {"env_vars": machine.WORKER_ENVIRONMENT}
        self._class = self._ray.remote(**needs)(_Worker)
        if self._token is not None:
            try:
                self._ask_every_node()
            except BaseException:
                self.close()
                raise

    @property
    def slots(self) -> int:
        """Asked for, or a worker for each CPU of each node that is there now; one at least, for which a node may come.

        A node with half a CPU, or with none as many a head, holds no worker.
        """
        if self._wanted is None and time.monotonic() - self._looked >= _LOOK_S:
            self._cpus, self._looked = sum(self._alive().values()), time.monotonic()
        return self._wanted or max(1, self._cpus)

    def _alive(self) -> dict[str, int]:
        """Node -> the workers that it has CPUs for, of those that are there; the last known while none can say."""
        if self._answers():
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
            self._nodes_there = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in nodes}
        return self._nodes_there

    def _answers(self) -> bool:
        """Whether the head of the cluster is there. Raises `ExecutorError` when it has not been for too long.

        Asked before each question to Ray: those would wait for it, until Ray ends this process without a word.
        """
        if time.monotonic() - self._answered < _AGAIN_S:
            return True
        try:
            _knock(self._head)
        except OSError as error:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since >= _SILENT_S:
                raise ExecutorError(
                    f"the head of the Ray cluster at {self._head} is lost",
                    why=f"nobody has answered there for {now - self._silent_since:.0f} s: {error}",
                    remedy="start the cluster again, then the same command: what is finished is kept",
                ) from error
            return False
        self._answered, self._silent_since = time.monotonic(), None
        return True

    def _leave_token(self, folder: str) -> None:
        handle, self._token = tempfile.mkstemp(prefix=f"{TEMPORARY}seen-", suffix=".ettin", dir=folder)
        written = secrets.token_hex(16)
        with open(handle, "w", encoding="ascii") as file:
            os.fchmod(handle, 0o644)  # a worker may be another user's
            file.write(written)
        self._settings = replace(self._settings, token=(self._token, written))

    def _ask_every_node(self) -> None:
        """Refuse a node that does not see the shared folder before there is work, and not when it has done some."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

        nodes = [node for node, workers in self._alive().items() if workers]
        asked = [
            self._class.options(num_cpus=0, scheduling_strategy=At(node, soft=False)).remote(self._settings)
            for node in nodes
        ]
        answers = [actor.greet.remote() for actor in asked]
        ready, _ = self._ray.wait(answers, num_returns=len(answers), timeout=_GREET_S) if answers else ([], [])
        for answer in ready:
            with contextlib.suppress(self._ray.exceptions.RayError):  # a node that has gone
                self._check(self._ray.get(answer))
        for actor in asked:
            self._ray.kill(actor)

    def _start_local(self, cores: int) -> None:
        # Ray puts sockets below its folder, and a socket's path has at most 107 characters.
        parent = tempfile.gettempdir() if len(tempfile.gettempdir()) <= 20 else "/tmp"
        self._folder, self._lock = _private_folder(parent)
        token = {} if "RAY_AUTH_TOKEN_PATH" in os.environ else {"RAY_AUTH_TOKEN": _TOKEN}
        # Ray sets the mode for good; without the token, another Ray that this process starts could not work with it
        with machine.environment(_LOCAL | token | machine.WORKER_ENVIRONMENT, ["RAY_AUTH_MODE"]), _loopback():
            for attempt in range(1, _START_ATTEMPTS + 1):
                try:
                    self._init(
                        address="local",
                        num_cpus=cores,
                        num_gpus=0,
                        include_dashboard=False,
                        object_store_memory=_OBJECT_STORE,
                        _node_ip_address="127.0.0.1",
                        _temp_dir=self._folder,
                    )
                    return
                except Exception as error:
                    self._ray.shutdown()
                    if attempt == _START_ATTEMPTS:
                        raise ExecutorError(
                            f"a local Ray instance did not start in {_START_ATTEMPTS} attempts",
                            why=error,
                            remedy="use the local executor, which needs no Ray; or free memory and CPU and run again",
                        ) from error

    def _join(self, address: str) -> None:
        try:
            _knock(address)
            self._init(address=address)
        except Exception as error:
            raise ExecutorError(
                f"no Ray cluster can be joined at {address!r}",
                why=f"{error} {error.__cause__ or ''}".strip(),
                remedy="see that it runs and can be reached from here; set RAY_AUTH_MODE=token if it wants a token",
            ) from error

    def _init(self, **arguments: Any) -> None:
        self._ray.init(**arguments, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)

    def pack(self, value: Any) -> bytes:
        return bytes(self._ray.cloudpickle.dumps(value))

    def start(self) -> int:
        number = next(self._numbers)
        actor = self._class.remote(self._settings)
        self._actors[number] = actor
        self._greeting.add(number)
        self._pending[actor.greet.remote()] = number
        return number

    def submit(self, worker: int, job: Job) -> None:
        self._pending[self._actors[worker].perform.remote(job.function, job.payload)] = worker

    def wait(self, timeout: float | None) -> list[Reply]:
        self._answers()
        if not self._pending:
            time.sleep(timeout or 0)
            return []
        timeout = min(_LOOK_S, _LOOK_S if timeout is None else timeout)  # nodes and heads go, of which nobody tells
        waiting = list(self._pending)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout)
        if ready:  # and all that came meanwhile
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._reply(reference) for reference in ready]

    def _reply(self, reference: Any) -> Reply:
        worker = self._pending.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            with contextlib.suppress(Exception):  # it may be alive and out of reach
                self._ray.kill(self._actors[worker])
            del self._actors[worker]
            greeting = worker in self._greeting
            self._greeting.discard(worker)
            return Died(worker, _why(error), str(error) if greeting else "", self._lost_node(worker, error))
        if worker not in self._greeting:
            return Answer(worker, answer, "")
        self._greeting.remove(worker)
        self._check(answer)
        self._nodes[worker] = answer.node_id
        return Ready(worker, answer.pid, answer.node)

    def _lost_node(self, worker: int, error: Exception) -> bool:
        """Whether an actor is gone with its node. That it is gone may be known some seconds before that its node is."""
        node, until = self._nodes.pop(worker, None), time.monotonic()
        if node is None or self._folder is not None:  # our own instance has one node, which goes with us
            return False
        if isinstance(error, self._ray.exceptions.ActorUnavailableError):
            until += _LOST_S
        while node in self._alive():
            if time.monotonic() >= until:
                return False
            time.sleep(0.2)
        return True

    def _check(self, answer: _Greeting) -> None:
        name = f"node {answer.node} ({answer.host}) of the Ray cluster"
        if answer.version != VERSION:
            raise ExecutorError(
                f"{name} has ettin-data {answer.version}, the driver has {VERSION}",
                remedy="install the same version on every node",
            )
        if answer.unseen is not None:
            raise ExecutorError(
                f"{name} does not see the folder that this writes to",
                where=os.path.dirname(self._token or ""),
                why=answer.unseen,
                remedy="name a folder on a disk that all nodes mount at the same place, or take the node out",
            )

    def kill(self, worker: int) -> str:
        self._pending = {reference: number for reference, number in self._pending.items() if number != worker}
        self._greeting.discard(worker)
        actor = self._actors.pop(worker, None)
        if actor is not None:  # else it has just died, and the loop has not heard of it yet
            self._ray.kill(actor)
        return ""

    def resources(self) -> str:
        if not self._answers():
            return "no head of the Ray cluster that answers"
        total, free = self._ray.cluster_resources().get("CPU", 0), self._ray.available_resources().get("CPU", 0)
        nodes = sum(1 for node in self._ray.nodes() if node["Alive"])
        return f"{nodes} Ray nodes with {total:g} CPUs, {free:g} of them free"

    def close(self) -> None:
        if self._silent_since is None and self._ray.is_initialized():
            for actor in self._actors.values():
                with contextlib.suppress(Exception):
                    self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()
        if self._token is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._token)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._ours, self._folder, self._lock, self._token, self._actors, self._pending = False, None, None, None, {}, {}
        self._logger.setLevel(self._level)


def _knock(address: str) -> None:
    """Raise `OSError` if nobody listens at the address: Ray itself would try for many minutes without a word."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _private_folder(parent: str) -> tuple[str, int]:
    """A folder for a local instance, readable by nobody else, and the lock that says that its driver lives.

    Folders without a living driver, left by a kill, are removed.
    """
    for folder in glob.glob(f"{parent}/ettin-ray-*"):
        with contextlib.suppress(OSError), open(f"{folder}/lock") as file:
            found = os.lstat(folder)
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > 60:  # not one that is being made
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix="ettin-ray-", dir=parent)
    lock = os.open(f"{folder}/lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """As the environment variable does, when Ray was imported before it was set."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _why(error: Exception) -> str:
    """Ray's reason in a line: without the actor's particulars, and of its many guesses the usual one."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    said, guesses, _ = (lines[-1] if lines else type(error).__name__).partition(" Some common causes")
    return f"the Ray actor was lost: {said}" + (" It may have run out of memory." if guesses else "")
