"""Which parameters share a learning rate and are clipped together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters of one module, or of all that have nothing of their own.

    Attributes:
        name: The module's; empty for the others together.
        parameters: Those that are trained.
        learning_rate: Peak.
        clip: Largest norm of their gradient.
    """

    name: str
    parameters: list[nn.Parameter]
    learning_rate: float
    clip: float


def parameter_groups(
    modules: Mapping[str, nn.Module],
    *,
    learning_rates: Mapping[str, float],
    clips: Mapping[str, float],
    learning_rate: float,
    clip: float,
) -> list[ParameterGroup]:
    """One group for each module that `learning_rates` or `clips` name, one for the rest.

    Args:
        modules: By name.
        learning_rates: Peaks of some of them.
        clips: Largest gradient norms of some of them.
        learning_rate: Of the others.
        clip: Of the others.
    """
    named = {*learning_rates, *clips}
    members = {
        "": [module for name, module in modules.items() if name not in named],
        **{name: [module] for name, module in modules.items() if name in named},
    }
    groups = []
    for name, own in members.items():
        parameters = [p for p in nn.ModuleList(own).parameters() if p.requires_grad]
        if parameters:
            rate, limit = learning_rates.get(name, learning_rate), clips.get(name, clip)
            groups.append(ParameterGroup(name, parameters, rate, limit))
    return groups
