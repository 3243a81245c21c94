"""Receivers of webhooks that an operator allows beside the public network."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
import trustme

from service.webhook_targets import AllowedTargets, check_target
from service.webhooks import trusted_authorities


def test_an_operator_allows_inner_hosts_and_networks() -> None:
    allowed = AllowedTargets.of(("hooks.inner", "10.1.0.0/16", "fd00::/8"))

    check_target("https://10.1.2.3/hook", allowed)
    with pytest.raises(ValueError, match="not public"):
        check_target("https://10.2.0.1/hook", allowed)
    for host, address, is_allowed in (
        ("hooks.inner", "192.168.1.5", True),
        ("Hooks.Inner.", "192.168.1.5", True),
        ("other.inner", "192.168.1.5", False),
        ("other.inner", "10.1.9.9", True),
        ("other.inner", "fd12::1", True),
        ("other.inner", "169.254.169.254", False),
        ("hooks.example", "8.8.8.8", True),
    ):
        assert allowed.allow(host, ipaddress.ip_address(address)) is is_allowed, (host, address)


def test_an_authority_of_the_operators_own_is_trusted_beside_the_public_ones(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    public = len(trusted_authorities(None).get_ca_certs())
    assert len(trusted_authorities(tmp_path / "ca.pem").get_ca_certs()) == public + 1
    with pytest.raises(FileNotFoundError):
        trusted_authorities(tmp_path / "absent.pem")
