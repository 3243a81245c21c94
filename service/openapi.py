"""The OpenAPI document, as it is committed: `python -m service.openapi > openapi.json`."""

from __future__ import annotations

import json
import sys

from service.main import create_app
from service.settings import ServiceSettings


def document() -> str:
    """The document of a deployment with default settings, as text that diffs well."""
    # Not from the environment: the committed document is the same on every machine.
    app = create_app(ServiceSettings.model_construct())
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
