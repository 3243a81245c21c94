"""Where the service is and who asks: arguments, else environment variables."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any, Final

URL_VARIABLE: Final = "TALKFACE_URL"
KEY_VARIABLE: Final = "TALKFACE_API_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8000"


def http_options(url: str | None, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Arguments for `httpx2.Client` and `httpx2.AsyncClient`.

    Args:
        url: Where the service is, with the path that a proxy takes off; None: TALKFACE_URL, else
            this machine's port 8000.
        api_key: None: TALKFACE_API_KEY, else none.
        timeout_s: Longest silence of the service; waiting for a job is added.
    """
    headers = {"User-Agent": f"talkface-client/{version('talkface-client')}"}
    if key := api_key or os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    return {
        "base_url": (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/"),
        "headers": headers,
        "timeout": timeout_s,
        # A video may lie in storage of its own; the key is not sent there.
        "follow_redirects": True,
    }
