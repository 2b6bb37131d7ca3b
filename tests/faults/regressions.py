"""Seeds of storms that broke an invariant once. They run first, for ever."""

from __future__ import annotations

SEEDS: tuple[int, ...] = (30, 10, 60)
