"""`python -m service`: the API, on the address that the settings name."""

from __future__ import annotations

from service.server import run_api

if __name__ == "__main__":
    run_api()
