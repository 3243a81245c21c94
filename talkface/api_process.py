"""The API on a socket that `talkface up` holds open: `python -m talkface.api_process FD`.

The parent binds the port and hands the socket down, so a taken port is noticed before anything
starts, and while a dead API is being restarted callers wait instead of being refused.
"""

from __future__ import annotations

import sys

from service.server import run_api

if __name__ == "__main__":
    run_api(int(sys.argv[1]))
