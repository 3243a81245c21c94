"""Which renderer a worker has.

Importing this module costs nothing; torch and the model come in when a renderer is loaded.
"""

from __future__ import annotations

from worker.render_request import Renderer
from worker.runtime import PipelineRenderer
from worker.settings import WorkerSettings
from worker.test_card import TestCardRenderer


def load_renderer(settings: WorkerSettings) -> Renderer:
    """The renderer that the settings name, loaded and not yet warm.

    Raises:
        model.errors.CheckpointError: The weights are absent, incomplete or altered.
    """
    if settings.renderer == "test-card":
        return TestCardRenderer(settings.test_card_frame_ms)
    return PipelineRenderer.load(settings)
