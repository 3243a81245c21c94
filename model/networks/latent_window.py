"""The part of the latent grid that is denoised."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Window:
    """A rectangle of the latent grid, in cells."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def crop(self, tensor: torch.Tensor) -> torch.Tensor:
        """The window of `(..., H, W)`, a view."""
        return tensor[(..., *self.slices)]

    def paste(self, part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """A copy of `whole` `(..., H, W)` with `part` in the window."""
        pasted = whole.clone()
        self.crop(pasted)[:] = part
        return pasted

    def shrink(self, factor: int) -> Window:
        """The same window on a grid `factor` times coarser."""
        return Window(*(x // factor for x in (self.top, self.left, self.height, self.width)))

    def enlarge(self, factor: int) -> Window:
        """The same window on a grid `factor` times finer."""
        return Window(*(x * factor for x in (self.top, self.left, self.height, self.width)))
