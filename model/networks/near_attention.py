"""Attention of two rows of tokens over time, each to what is near in both, without the scores of all pairs.

    audio 0 1 2 ... T-1 ┐ blocks of frames ─▶ each to its own frames and `window` more on both sides,
    pose  0 1 2 ... T-1 ┘                     in both rows, and to the references

The same as dense attention under a mask (`RotaryLayer`), up to rounding; a recording of a minute has 800
times as many frames as a block has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class NearBlocks:
    """Who is near whom: R references without a time, then T audio and T pose tokens.

    Args:
        frames: T.
        window: Tokens see each other up to so many frames apart.
        references: R.
        block: Frames whose tokens are looked at together; twice the window wastes least.
    """

    frames: int
    window: int
    references: int
    block: int

    @classmethod
    def of(cls, frames: int, window: int, references: int) -> NearBlocks:
        """Blocks of twice the window."""
        return cls(frames, window, references, 2 * window)

    @property
    def count(self) -> int:
        """How many blocks cover the frames."""
        return -(-self.frames // self.block)

    def mask(self, device: torch.device) -> torch.Tensor:
        """What is added to scores `(count, 2 * block, R + 2 * (block + 2 * window))`: 0, or -1e4."""
        own = torch.arange(self.block, device=device)
        seen = torch.arange(-self.window, self.block + self.window, device=device)
        begins = self.block * torch.arange(self.count, device=device)
        times = begins[:, None] + seen  # of the keys (count, block + 2 * window)
        is_there = (times >= 0) & (times < self.frames)
        is_near = (own[:, None] - seen[None, :]).abs() <= self.window
        allowed = (is_near[None] & is_there[:, None, :]).repeat(1, 2, 2)
        allowed = F.pad(allowed, (self.references, 0), value=True)
        return torch.zeros(allowed.shape, device=device).masked_fill(~allowed, -1e4)

    def attend(
        self,
        query: torch.Tensor,
        turned_query: torch.Tensor,
        key: torch.Tensor,
        turned_key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Mixed values `(B, heads, R + 2T, d)`.

        Args:
            query: Scaled, as it is `(B, heads, R + 2T, d)`: how references are met.
            turned_query: The same with its time.
            key: As it is.
            turned_key: With its time.
            value: Like the others.
            mask: From `mask`.
        """
        count = self.references
        key_of, value_of = key[..., :count, :], value[..., :count, :]
        # 1. references look at references only
        scores = query[..., :count, :] @ key_of.transpose(-1, -2)
        mixed_references = scores.softmax(dim=-1).type_as(value) @ value_of
        # 2. blocks of both rows, and the keys around each of them
        asking, asking_turned = self._own(query), self._own(turned_query)
        keys, values = self._around(turned_key), self._around(value)
        # 3. references first, like the mask
        timeless = asking @ key_of.unsqueeze(2).transpose(-1, -2)
        scores = torch.cat([timeless, asking_turned @ keys.transpose(-1, -2)], dim=-1)
        weights = (scores + mask.to(scores.dtype)).softmax(dim=-1).type_as(value)
        mixed = weights[..., :count] @ value_of.unsqueeze(2) + weights[..., count:] @ values
        # 4. back into two rows
        audio, pose = (part.flatten(2, 3)[..., : self.frames, :] for part in mixed.chunk(2, dim=-2))
        return torch.cat([mixed_references, audio, pose], dim=-2)

    def _rows(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        start = self.references
        return [tokens[..., start + n * self.frames :, :][..., : self.frames, :] for n in (0, 1)]

    def _own(self, tokens: torch.Tensor) -> torch.Tensor:
        """Each block's tokens of both rows `(B, heads, count, 2 * block, d)`."""
        missing = self.count * self.block - self.frames
        rows = [F.pad(row, (0, 0, 0, missing)) for row in self._rows(tokens)]
        return torch.cat([row.unflatten(2, (self.count, self.block)) for row in rows], dim=-2)

    def _around(self, tokens: torch.Tensor) -> torch.Tensor:
        """What may be near each block, of both rows `(B, heads, count, 2 * (block + 2 * window), d)`."""
        missing = self.count * self.block - self.frames
        rows = [
            F.pad(row, (0, 0, self.window, self.window + missing)) for row in self._rows(tokens)
        ]
        size = self.block + 2 * self.window
        return torch.cat(
            [row.unfold(2, size, self.block).transpose(-1, -2) for row in rows], dim=-2
        )
