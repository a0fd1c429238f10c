"""Storage domains that the configuration names: connected as soon as their clusters answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from virtceph import errors
from virtceph.host.storageinfo import Settings
from virtceph.log import facts

log = logging.getLogger(__name__)

_RETRY_S = 10.0


class ConfiguredDomains:
    """Connects each once; what a caller does with it afterwards stays so until the next start."""

    def __init__(
        self,
        domains: Sequence[Settings],
        connect: Callable[[Settings], object],
        retry_s: float = _RETRY_S,
    ) -> None:
        self._connect, self._retry_s = connect, retry_s
        # By its id, why a domain is not connected yet.
        self._missing = dict.fromkeys(domains, "not tried yet")
        self._closed = threading.Event()
        # One that does not answer delays no other.
        self._threads = [
            threading.Thread(target=self._try, args=(domain,), name="connect", daemon=True)
            for domain in domains
        ]

    def begin(self) -> None:
        """Connect them behind what goes on. Does not wait."""
        for thread in self._threads:
            thread.start()

    def missing(self) -> list[tuple[Settings, str]]:
        """Those that are not connected yet, each with the reason. Does not block."""
        return list(self._missing.items())

    def close(self) -> None:
        """Try no more. Does not wait."""
        self._closed.set()

    def _try(self, domain: Settings) -> None:
        while not self._closed.is_set():
            try:
                self._connect(domain)
            except errors.VirtcephError as error:
                self._failed(domain, str(error))
            else:
                del self._missing[domain]
                return
            self._closed.wait(self._retry_s)

    def _failed(self, domain: Settings, reason: str) -> None:
        # Once for each reason: an hour without the cluster is no hour of lines.
        if self._missing[domain] != reason:
            self._missing[domain] = reason
            told = facts(domain=domain.storage_domain_id, pool=domain.pool, reason=reason)
            log.warning("configured storage domain not connected %s", told)
