"""How fast somebody may ask: token buckets, one per name, in a bounded map."""

from __future__ import annotations

from collections import OrderedDict

US = 1_000_000


class Buckets:
    """One bucket per key: `per_s` refills it, `burst` fills it. The longest unused of more than `limit` keys is forgotten.

    Forgetting a bucket refills it; whoever can make up keys without end must be limited by something else too.
    """

    def __init__(self, *, per_s: float, burst: float, limit: int = 10_000) -> None:
        self.per_s = per_s
        self.burst = max(1.0, burst)
        self.limit = limit
        self.refused = 0
        self.forgotten = 0
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, key: str, now_us: int) -> float:
        """Take one; 0.0 if there was one, else the seconds until there will be."""
        left = self.level(key, now_us)
        wait_s = 0.0 if left >= 1 else (1 - left) / self.per_s
        self._left[key] = (left - 1 if left >= 1 else left, now_us)
        self._left.move_to_end(key)
        if len(self._left) > self.limit:
            self._left.popitem(last=False)
            self.forgotten += 1
        self.refused += wait_s > 0
        return wait_s

    def level(self, key: str, now_us: int) -> float:
        """How many are left, without taking one."""
        left, seen_us = self._left.get(key, (self.burst, now_us))
        return min(self.burst, left + max(0, now_us - seen_us) / US * self.per_s)

    def __len__(self) -> int:
        return len(self._left)
