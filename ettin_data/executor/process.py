"""The main program of a local worker process."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from ettin_data.executor.worker import Runner, Terminated

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Serve jobs until the driver closes the socket or ends. `sys.argv`: import path, socket, driver's pid or 0."""
    socket, driver = int(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what it means
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # so does the end of a terminal
    signal.signal(signal.SIGTERM, _terminate)
    _die_with_driver(driver)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    os.set_inheritable(socket, False)
    try:
        _serve(Connection(socket))
    except Terminated:  # die by the signal, so that whoever waits sees it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _serve(driver: Connection) -> None:
    try:
        runner = Runner(driver.recv(), _pack)
        driver.send(None)  # the greeting
        while True:
            answer = runner.perform(driver.recv())
            sys.stdout.flush()
            sys.stderr.flush()
            driver.send(answer)
    except (EOFError, ConnectionError):
        pass  # the driver has closed the socket


def _pack(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _terminate(*_: object) -> None:
    raise Terminated


def _die_with_driver(driver: int) -> None:
    """However the driver ends, this worker does too, even in the middle of a task."""
    if driver:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != driver:  # it ended before the kernel knew
            os._exit(1)
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(lifeline,), name="lifeline", daemon=True).start()


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when the driver's end of the pipe closes: it never writes
    os._exit(1)
