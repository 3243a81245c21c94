"""`talkface up`: the whole service on one machine, in the foreground.

    talkface up ──┬── private Redis   only when TALKFACE_REDIS_URL is not set
                  ├── API             on the socket that `up` has bound
                  ├── reconciler      re-delivery, deadlines, webhooks, retention
                  ├── signer          signs finished videos; holds the key, decodes nothing
                  ├── validator       decodes videos after they were accepted
                  ├── inspector       looks for faces while jobs wait; CPU only
                  └── worker 1..N     one a GPU with --workers auto

API and workers are started first, reconciler and signer once the API answers, the others once jobs are
worked on: all at once they take each other's cores. What dies is started again; what was started is
stopped, however `up` ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from talkface.exits import Exit, fail
from talkface.gpus import AUTO
from talkface.private_redis import (
    PrivateRedis,
    PrivateRedisError,
    prepare_private_redis,
    remove_socket,
)
from talkface.programs import child_environment, programs, redis_program
from talkface.supervisor import Program, Supervisor, SupervisorError

TICK_S = 0.1
REDIS_TICK_S = 0.01
MOST_WORKERS = 64
PROBE_TIMEOUT_S = 1.0
PROBE_INTERVAL_S = 0.1
# What waits for the API, or for workers, is started after so long in any case.
LONGEST_STAGE_S = 10.0


@dataclass(frozen=True)
class UpOptions:
    """What the caller chose."""

    host: str
    port: int
    data_dir: Path
    workers: int


def _parse_workers(text: str | int) -> int:
    """A number of workers, 0 for `auto`."""
    if text == "auto":
        return AUTO
    # A default comes as it is, not as text.
    number = int(text) if str(text).isdecimal() else 0
    if not 1 <= number <= MOST_WORKERS:
        raise typer.BadParameter(f"expected 1 to {MOST_WORKERS}, or auto; got {text!r}")
    return number


def up(
    host: Annotated[
        str, typer.Option(envvar="TALKFACE_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="TALKFACE_PORT", help="Port; 0 = a free one.")
    ] = 8000,
    data_dir: Annotated[
        Path,
        typer.Option(envvar="TALKFACE_DATA_DIR", help="Folder of uploads, results and the queue."),
    ] = Path("talkface-data"),
    workers: Annotated[
        int,
        typer.Option(
            parser=_parse_workers,
            metavar="N|auto",
            help="Number of worker processes; auto: one a GPU. GPUs are dealt out in turn.",
        ),
    ] = 1,
) -> None:
    """Run everything until Ctrl-C: API, workers, inspector, reconciler, and a private Redis.

    With TALKFACE_REDIS_URL that Redis is used instead.
    """
    options = UpOptions(host=host, port=port, data_dir=data_dir, workers=workers)
    with _signals() as signals, ExitStack() as stack:
        try:
            _run(options, signals, stack)
        except (PrivateRedisError, SupervisorError) as error:
            fail(Exit.START_FAILED, str(error))


class _Signals:
    """SIGINT, SIGTERM and SIGHUP, counted: the first asks to stop, the second to hurry."""

    def __init__(self) -> None:
        self.count = 0
        self._wake = threading.Event()

    def receive(self, _signum: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._wake.set()

    @property
    def stopping(self) -> bool:
        return self.count > 0

    @property
    def hurry(self) -> bool:
        return self.count > 1

    def sleep(self, seconds: float) -> None:
        """Sleep, or return early when a signal comes."""
        self._wake.wait(seconds)


@contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for kind in kinds:
        signal.signal(kind, signals.receive)
    try:
        yield signals
    finally:
        # All is stopped and the process ends: a late signal must not make a clean end look like a death.
        for kind in kinds:
            signal.signal(kind, signal.SIG_IGN)


def _run(options: UpOptions, signals: _Signals, stack: ExitStack) -> None:
    _check_exposure(options.host)
    listener = stack.enter_context(_listen(options.host, options.port))
    data_dir = options.data_dir.resolve()
    stack.enter_context(_locked(data_dir))
    environment = child_environment(data_dir)
    redis = None
    if "TALKFACE_REDIS_URL" not in environment:
        redis = prepare_private_redis(data_dir)
        stack.callback(remove_socket, redis)
        if redis.warning is not None:
            _tell(redis.warning)
        environment["TALKFACE_REDIS_URL"] = redis.url
    url = environment["TALKFACE_REDIS_URL"]
    supervisor = Supervisor(_tell, on_death=lambda pid: _tell_ledger(url, pid))
    # The stack unwinds in reverse: everything is stopped before the lock and the socket go.
    stack.callback(lambda: supervisor.stop(hurry=lambda: signals.hurry))

    if redis is not None:
        supervisor.add(redis_program(redis, environment))
        _wait_for_redis(redis, supervisor, signals)
    address = _url(options.host, listener)
    starting = _Starting(supervisor, programs(options.host, options.workers, listener, environment))
    port = listener.getsockname()[1]
    answers, ready, next_probe_s = False, False, 0.0
    while not signals.stopping:
        supervisor.tick()
        if not ready and time.monotonic() >= next_probe_s:
            answers = answers or says_yes(options.host, port, "/healthz")
            ready = answers and says_yes(options.host, port, "/readyz")
            starting.go_on(answers, ready)
            next_probe_s = time.monotonic() + PROBE_INTERVAL_S
            if ready:
                supervisor.mark_ready()
                _announce(f"talkface is ready on {address}")
        signals.sleep(TICK_S)
    _tell("stopping")


def _check_exposure(host: str) -> None:
    """Refuse here already what the API would refuse at each of its starts."""
    from pydantic import ValidationError

    from service.exposure import UnsafeExposureError, check_exposure
    from service.settings import ServiceSettings
    from worker.contract.start import settings_sentence

    try:
        settings = ServiceSettings(host=host)
        check_exposure(settings)
    except ValidationError as error:
        fail(Exit.START_FAILED, settings_sentence(error))
    except UnsafeExposureError as error:
        fail(Exit.START_FAILED, str(error))
    if settings.allow_anonymous:
        _tell(f"listening on {host}: anyone who reaches this machine can use the service")


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Bind the port; it is ours before anything is started."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        fail(
            Exit.PORT_TAKEN,
            f"cannot listen on {host}:{port}: {error.strerror or error}. "
            "Choose another port with --port (0 takes a free one)",
        )
    with listener:
        yield listener


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data folder: two databases in one folder would destroy each other."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "up.lock").open("w")
    except OSError as error:
        fail(Exit.START_FAILED, f"cannot write to {data_dir}: {error.strerror}")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(
                Exit.START_FAILED,
                f"another `talkface up` uses {data_dir}. Choose another --data-dir",
            )
        yield


def _wait_for_redis(redis: PrivateRedis, supervisor: Supervisor, signals: _Signals) -> None:
    # It starts while its client is imported.
    supervisor.tick()
    from redis import Redis
    from redis.exceptions import RedisError

    with Redis.from_url(redis.url, socket_timeout=PROBE_TIMEOUT_S) as client:
        while not signals.stopping:
            supervisor.tick()
            try:
                client.ping()
            except RedisError:  # not there yet, or still loading its file
                signals.sleep(REDIS_TICK_S)
            else:
                return


class _Starting:
    """Starts programs stage after stage, so that what is waited for has the cores.

    Args:
        supervisor: Runs them.
        stages: Programs; those of the first are started at once.
    """

    def __init__(self, supervisor: Supervisor, stages: Sequence[Sequence[Program]]) -> None:
        self._supervisor = supervisor
        self._stages = list(stages)
        self._begin()

    def go_on(self, *passed: bool) -> None:
        """Begin the stages behind those that are passed, or that last too long.

        Args:
            passed: Of each stage but the last, whether what it waits for is there.
        """
        while self._stages:
            is_late = time.monotonic() >= self._began_s + LONGEST_STAGE_S
            if not is_late and not passed[-len(self._stages)]:
                return
            self._begin()

    def _begin(self) -> None:
        for program in self._stages.pop(0):
            self._supervisor.add(program)
        self._began_s = time.monotonic()


def says_yes(host: str, port: int, path: str) -> bool:
    """Whether the API says 200: to /healthz when it answers, to /readyz when jobs are worked on."""
    any_address = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
    connection = http.client.HTTPConnection(
        any_address.get(host, host), port, timeout=PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tell_ledger(redis_url: str, pid: int) -> None:
    """What a process that died has held is delivered again at once, not when its lease is over."""
    # Late: what is needed when something has died shall not hold up the start.
    from redis import Redis
    from redis.exceptions import RedisError

    from service.reconciler import ReconcilerSettings
    from worker.contract.holders import Holders
    from worker.contract.recovery import Recovery

    with (
        contextlib.suppress(RedisError),
        Redis.from_url(redis_url, socket_timeout=PROBE_TIMEOUT_S) as redis,
    ):
        recovery = Recovery(redis, max_deaths=ReconcilerSettings().max_deliveries)
        for job in Holders(redis).of_process(pid):
            recovery.recover(job)


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _tell(line: str) -> None:
    typer.echo(f"talkface up: {line}", err=True)


def _announce(line: str) -> None:
    """The one line on standard output; a caller that waits for it must not wait for a buffer."""
    typer.echo(line)
    sys.stdout.flush()
