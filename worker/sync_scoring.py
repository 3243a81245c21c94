"""The sync score of finished videos: whether the drawn lips say what is heard (`model.pipelines.sync_watch`).

Importing this module costs nothing; the network is imported when a scorer is loaded.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import ModelError
from worker.contract.logs import get_logger
from worker.contract.results import SyncScore

if TYPE_CHECKING:
    from model.face.mesh_follower import MeshFollower
    from model.networks.sync_network import SyncNetwork
    from model.pipelines.outputs import RenderPlan
    from model.pipelines.sync_watch import SyncWatch

_log = get_logger("worker")


class SyncScorer:
    """Scores one video after the other.

    Args:
        network: Judges.
        follower: Finds the landmarks of drawn faces.
    """

    def __init__(self, network: SyncNetwork, follower: MeshFollower) -> None:
        self._network = network
        self._follower = follower

    @classmethod
    def load(cls) -> SyncScorer:
        """Load what ships.

        Raises:
            model.errors.CheckpointError: The network is absent.
            model.errors.MissingDependencyError: mediapipe is absent.
        """
        from model.face.mesh_follower import MeshFollower
        from model.networks.sync_network import load_sync_network

        return cls(load_sync_network(), MeshFollower())

    def begin(self, plan: RenderPlan, speech: Path) -> SyncWatch:
        """Who is shown the frames of a video as they are drawn.

        Args:
            plan: Of the video.
            speech: Its sound, 16 kHz mono.
        """
        from model.media.audio import load_waveform
        from model.pipelines.sync_watch import SyncWatch

        return SyncWatch(self._network, plan, load_waveform(speech), self._follower)

    def end(self, watch: SyncWatch) -> SyncScore | None:
        """The score; None where nobody speaks, no face was found again, or it failed: a video is no worse without."""
        try:
            found = watch.score()
        except ModelError:
            _log.warning("no_sync_score", exc_info=True)
            return None
        return None if found is None else SyncScore(**asdict(found))
