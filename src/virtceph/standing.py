"""What stands without an engine: the keys and storage domains of the configuration, and VMs that waited for
a key."""

from __future__ import annotations

from pathlib import Path

from virtceph.config import Config
from virtceph.configured import configured_domains, configured_secrets
from virtceph.host.autostart import FOLDER, Autostart
from virtceph.host.configureddomains import ConfiguredDomains
from virtceph.host.secrets import Secrets
from virtceph.host.storage import StorageDomains
from virtceph.host.storageinfo import Settings
from virtceph.schema import Contract
from virtceph.virt.autostart import Autostarts
from virtceph.virt.domains import Connections


class Standing:
    """Brings all of it about at the daemon's start. Blocks on the files with keys. Raises ConfigError."""

    def __init__(self, settings: Config, contract: Contract) -> None:
        self._settings = settings
        self._secrets = configured_secrets(settings, contract)
        self._domains = configured_domains(settings, contract)
        self._connecting: ConfiguredDomains | None = None

    def register(self, secrets: Secrets) -> None:
        """Register the keys: after the daemon's left-over ones were cleared, before anybody is served.
        Blocks on libvirt. Raises as Secrets.register."""
        secrets.register_configured(self._secrets)

    def begin(self, storage: StorageDomains, connections: Connections) -> None:
        """Connect the domains and start the VMs, behind what goes on. Does not wait."""
        self._connecting = ConfiguredDomains(self._domains, storage.connect)
        self._connecting.begin()
        if self._settings.libvirt.autostart:
            folder = Path(self._settings.daemon.runtime_dir) / FOLDER
            keys = {name for s in self._secrets for name in (str(s.uuid), s.usage_id)}
            Autostart(Autostarts(connections), folder, keys).begin()

    def missing(self) -> list[tuple[Settings, str]]:
        """The domains that are not connected yet, each with the reason. Does not block."""
        return [] if self._connecting is None else self._connecting.missing()

    def close(self) -> None:
        """Connect nothing any more. Does not wait."""
        if self._connecting is not None:
            self._connecting.close()
