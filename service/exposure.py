"""Whether the service may be open without keys. No web framework: `talkface up` asks before it starts anything."""

from __future__ import annotations

import ipaddress
from typing import Final

from service.settings import ServiceSettings

ANONYMOUS: Final = "anonymous"
"""Who everyone is where no key is needed: the owner of all jobs."""


class UnsafeExposureError(Exception):
    """The settings would open the service to the network without keys."""


def check_exposure(settings: ServiceSettings) -> None:
    """Refuse to serve the network without keys, unless that was asked for.

    Raises:
        UnsafeExposureError: It was not.
    """
    if settings.require_keys or settings.allow_anonymous or settings.loopback_published:
        return
    if not is_loopback(settings.host):
        raise UnsafeExposureError(
            f"listening on {settings.host or 'all addresses'} would let anyone who reaches this "
            "machine use the service. Set TALKFACE_REQUIRE_KEYS=true and make a key with `talkface "
            "keys create`, or, if that is what you want, TALKFACE_ALLOW_ANONYMOUS=true"
        )


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
