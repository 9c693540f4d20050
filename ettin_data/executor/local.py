"""Worker processes on this machine.

Each worker is a fresh Python interpreter (never a fork: the driver may have threads) with three lines to the driver: a
socket for jobs and answers, a pipe for what it prints, and its standard input as a lifeline that closes when the driver
ends, however it ends. Its death is seen by its process descriptor where the system has them, else by the socket's end.
`multiprocessing.Pool` and `concurrent.futures` hang or break as a whole when the kernel kills one of their workers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ettin_data.executor import machine
from ettin_data.executor.model import ExecutorError, ExecutorOptions
from ettin_data.executor.pool import Answer, Died, Ready, Reply
from ettin_data.executor.worker import Job, Settings, main_module

_GRACE_S = 5.0  # between asking a worker to end and ending it
_DUMP_S = 0.5  # for a worker to write where it is before it is ended
_OUTPUT_KEPT = 4096  # bytes of a worker's last output that a message can show

# `-c` and not `-m`: nothing is imported before the driver's own import path is in place.
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ettin_data.executor.process import main; main()"


@dataclass(slots=True)
class _Process:
    """One worker as the driver sees it."""

    popen: subprocess.Popen[bytes]
    socket: multiprocessing.connection.Connection
    descriptor: int | None = None  # pidfd: readable when the process has ended
    output: bytearray = field(default_factory=bytearray)
    oom_kills: int = field(default_factory=machine.out_of_memory_kills)

    def printed(self) -> list[int]:
        """The reading end of what the worker prints, as long as it is open."""
        pipe = self.popen.stdout
        return [pipe.fileno()] if pipe is not None and not pipe.closed else []

    def watched(self) -> Iterator[Any]:
        yield self.socket
        if self.descriptor is not None:
            yield self.descriptor
        yield from self.printed()

    def read_output(self) -> None:
        """Take what was printed, so that a talkative worker never waits; keep the end of it."""
        for pipe in self.printed():
            with contextlib.suppress(BlockingIOError):
                while data := os.read(pipe, 65536):
                    self.output += data
                    del self.output[:-_OUTPUT_KEPT]
                assert self.popen.stdout is not None
                self.popen.stdout.close()  # the end: the worker closed it or is gone

    def take_output(self) -> str:
        self.read_output()
        text = self.output.decode("utf-8", "replace").strip()
        self.output.clear()
        return text

    def wait_for_exit(self, timeout: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout)
        return self.popen.returncode is not None

    def end(self) -> None:
        """End it by force and close the driver's ends. A process that hangs in the kernel is not waited for."""
        self.popen.kill()
        self.wait_for_exit(_GRACE_S)
        self.socket.close()
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        if self.descriptor is not None:
            os.close(self.descriptor)


class LocalPool:
    """A `WorkerPool` of processes."""

    def __init__(self, options: ExecutorOptions) -> None:
        self.slots = options.workers or machine.usable_cores()
        self._settings = Settings(options.memory_limit, main=main_module())
        self._processes: dict[int, _Process] = {}
        self._numbers = itertools.count(1)

    def pack(self, value: Any) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def start(self) -> int:
        number = next(self._numbers)
        ours, theirs = multiprocessing.Pipe(duplex=True)
        # The kernel's signal at the driver's end comes when the thread that started the worker ends, so only the main
        # thread may ask for it. The lifeline does without, but the worker must run Python code for a moment to see it.
        tied = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
        arguments = [json.dumps(sys.path), str(theirs.fileno()), str(os.getpid() if tied else 0)]
        try:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=os.environ | machine.WORKER_ENVIRONMENT,
            )
        except OSError as error:
            ours.close()
            raise ExecutorError(
                "a worker process cannot be started",
                why=error,
                remedy="use fewer workers, or raise the limits of processes, open files or memory, and run again",
            ) from error
        finally:
            theirs.close()
        process = _Process(popen, ours)
        self._processes[number] = process
        for pipe in process.printed():
            os.set_blocking(pipe, False)
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # an old kernel
                process.descriptor = os.pidfd_open(popen.pid)
        with contextlib.suppress(OSError):  # dead already: `wait` will say so
            ours.send(self._settings)
        return number

    def submit(self, worker: int, job: Job) -> None:
        process = self._processes[worker]
        process.oom_kills = machine.out_of_memory_kills()
        with contextlib.suppress(OSError):  # dead already: `wait` will say so
            process.socket.send(job)

    def wait(self, timeout: float | None) -> list[Reply]:
        watched = {thing: number for number, process in self._processes.items() for thing in process.watched()}
        if not watched:
            time.sleep(timeout or 0)
            return []
        ready = multiprocessing.connection.wait(list(watched), timeout)
        return [reply for number in sorted({watched[thing] for thing in ready}) for reply in self._collect(number)]

    def _collect(self, number: int) -> Iterator[Reply]:
        process = self._processes[number]
        process.read_output()
        try:
            while process.socket.poll():
                body = process.socket.recv()
                if body is None:  # the greeting
                    yield Ready(number, process.popen.pid, "")
                else:
                    yield Answer(number, body, process.take_output())
            if process.popen.poll() is None:
                return
        except (EOFError, OSError):  # the socket's end
            process.wait_for_exit(1.0)
        oom_kills = machine.out_of_memory_kills() - process.oom_kills
        reason = machine.describe_exit(process.popen.returncode, oom_kills)
        yield Died(number, reason, process.take_output())
        process.end()
        del self._processes[number]

    def kill(self, worker: int) -> str:
        process = self._processes.pop(worker, None)
        if process is None:  # it has just died, and the loop has not heard of it yet
            return ""
        try:
            process.popen.send_signal(signal.SIGUSR1)  # the worker writes the traceback of where it is
            multiprocessing.connection.wait(process.printed(), _DUMP_S)
            process.wait_for_exit(0.05)
            return process.take_output()
        finally:
            process.end()

    def resources(self) -> str:
        return f"{machine.usable_cores()} cores here, {len(self._processes)} worker processes"

    def close(self) -> None:
        processes = list(self._processes.values())
        self._processes.clear()
        try:
            for process in processes:
                process.popen.terminate()
            deadline = time.monotonic() + _GRACE_S
            alive = processes
            while alive and time.monotonic() < deadline:
                time.sleep(0.01)
                for process in alive:
                    process.read_output()  # a worker that prints while it cleans up must not wait for us
                alive = [process for process in alive if process.popen.poll() is None]
        finally:  # also when a second Ctrl-C cuts the wait short
            for process in processes:
                process.end()
