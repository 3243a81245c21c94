"""Whose signature is the installation's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trust:
    """Authorities and certificates that count as this installation.

    Args:
        anchors: Its own authorities, PEM: whatever they issued counts.
        other_anchors: Authorities that issue to others, too, PEM.
        other_serials: What counts of those: serial numbers in decimal digits.
        clock_anchors: Authorities of time-stamp servers, PEM; they vouch for times, never for a signer.
    """

    anchors: str = ""
    other_anchors: str = ""
    other_serials: tuple[str, ...] = ()
    clock_anchors: str = ""

    def __add__(self, other: Trust) -> Trust:
        return Trust(
            self.anchors + other.anchors,
            self.other_anchors + other.other_anchors,
            self.other_serials + other.other_serials,
            self.clock_anchors + other.clock_anchors,
        )
