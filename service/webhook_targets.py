"""Where webhooks may go: the public network, and what the operator allows beside it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARACTERS: Final = 2048
# Visible ASCII without the characters that parsers disagree about.
_URL: Final = re.compile(r"[!$-;=?-\[\]_a-z~]+")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class AllowedTargets:
    """Receivers that need not be public.

    Args:
        hosts: Names, whatever addresses they have.
        networks: Networks, whatever their hosts are called.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[IpNetwork, ...] = ()

    @staticmethod
    def of(names: tuple[str, ...]) -> AllowedTargets:
        """Those of the setting `webhook_allow`.

        Raises:
            ValueError: A network is none.
        """
        hosts, networks = set(), []
        for name in names:
            try:
                networks.append(ipaddress.ip_network(name))
            except ValueError:
                hosts.add(name)
        return AllowedTargets(frozenset(hosts), tuple(networks))

    def allow(self, host: str, address: IpAddress) -> bool:
        """Whether a host may be told at one of its addresses."""
        if host.rstrip(".").lower() in self.hosts or is_public(address):
            return True
        return any(address in network for network in self.networks)


def check_callback_url(url: str) -> str:
    """The address, if it is one that a webhook could be sent to; who is there is not asked.

    Raises:
        ValueError: It is not; the message is for the person who sent it.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"the address is longer than {MAX_URL_CHARACTERS} characters")
    if not _URL.fullmatch(url):
        raise ValueError("the address has characters that must be percent-encoded")
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise ValueError("the address must begin with https://")
    if "@" in parts.netloc:
        raise ValueError("the address must not contain a user or a password")
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host) or parts.netloc.startswith("["):
            raise ValueError("the address has no valid host name") from None
    if parts.port == 0:  # urlsplit itself raises ValueError for what is no port
        raise ValueError("the port must be 1 to 65535")
    return url


def check_target(url: str, allowed: AllowedTargets) -> None:
    """Return unless an address is written as a number that is neither public nor allowed.

    Raises:
        ValueError: It is; the message is for the person who sent it.
    """
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name is resolved, and judged, at each try.
        return
    if not allowed.allow(host, address):
        raise ValueError("the address is not public")


def is_public(address: IpAddress) -> bool:
    """Whether an address belongs to the public network and to no host or network around us."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        embedded = address.ipv4_mapped
        if embedded is None and address in _NAT64:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if embedded is not None:
            return is_public(embedded)
        if address.sixtofour is not None or address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )
