"""An amount that all callers share, of which no address can take so much that others get nothing."""

from collections import Counter


class Budget:
    """Counts what each address holds of a limited amount.

    An address may hold as much as is left free: one alone gets half, two get a third each, and the
    next one always finds some (Choudhury and Hahne, "Dynamic queue length thresholds", 1998).

    Args:
        limit: the whole amount.
        floor: what an address may hold in any case, as long as the limit allows.
    """

    def __init__(self, limit: int, floor: int = 1):
        self.limit, self.floor, self.used = limit, floor, 0
        self._held: Counter[str] = Counter()

    def take(self, address: str, amount: int = 1) -> bool:
        """Whether the address gets this much more."""
        free = self.limit - self.used - amount
        if free < 0 or self._held[address] + amount > max(free, self.floor):
            return False
        self.used += amount
        self._held[address] += amount
        return True

    def give_back(self, address: str, amount: int = 1) -> None:
        """Returns what was taken."""
        self.used -= amount
        self._held[address] -= amount
        if not self._held[address]:
            del self._held[address]
