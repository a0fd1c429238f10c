"""How many requests may be under way: of one connection, and of all together."""

from __future__ import annotations


class Quota:
    """A number that may be taken at once. What is taken here is taken from `whole` as well."""

    def __init__(self, limit: int, whole: Quota | None = None) -> None:
        self._limit, self._whole = limit, whole
        self.taken = 0

    def take(self) -> bool:
        """Take one; False where none is left."""
        if self.taken >= self._limit or not (self._whole is None or self._whole.take()):
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """Give back one that was taken."""
        self.taken -= 1
        if self._whole is not None:
            self._whole.give_back()
