"""Whose signature is the installation's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trust:
    """Whose signature is this installation's own.

    Args:
        anchors: Its authorities, PEM.
        signers: Single certificates, PEM: of an authority that issues to others, too.
    """

    anchors: str = ""
    signers: str = ""

    def __add__(self, other: Trust) -> Trust:
        return Trust(self.anchors + other.anchors, self.signers + other.signers)
