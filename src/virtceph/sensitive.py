"""A value that cannot be printed by accident."""

from __future__ import annotations

import base64
import hmac


class Sensitive:
    """Bytes that show `********` wherever they are formatted, logged or pickled by mistake.

    `reveal()` is the one way to the value; a reader finds every use by searching for it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself."""
        return self._value

    def reveal_base64(self) -> str:
        """The value as cephx writes keys."""
        return base64.b64encode(self._value).decode()

    def fingerprint(self, key: bytes) -> str:
        """A keyed digest (16 hex digits): tells two values apart, and tells nothing else."""
        return hmac.new(key, self._value, "sha256").hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sensitive) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Sensitive, self._value))

    def __repr__(self) -> str:
        return "********"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "********"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Sensitive value is not pickled")
