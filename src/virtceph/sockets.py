"""The sockets that the daemon listens on: those that systemd opened for it, else its own."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from virtceph import config, systemd
from virtceph.config import ConfigError
from virtceph.httpoptions import Http
from virtceph.process import StartError
from virtceph.rpc.listening import is_loopback, open_tcp
from virtceph.rpc.tls import ServerTls, TlsFiles
from virtceph.rpc.unixsocket import SocketInUse, open_socket
from virtceph.stompoptions import Stomp

# FileDescriptorName= of the units whose sockets are for engines, for HTTP over TLS, and for scrapers.
_STOMP, _HTTPS, _METRICS = "stomp", "https", "metrics"


@dataclass
class Sockets:
    """Listening sockets, by who speaks on them: `http` are UNIX sockets, `https` TCP ones with TLS."""

    http: list[socket.socket] = field(default_factory=list)
    https: list[socket.socket] = field(default_factory=list)
    stomp: list[socket.socket] = field(default_factory=list)
    metrics: list[socket.socket] = field(default_factory=list)

    @classmethod
    def of_systemd(cls, settings: config.Config) -> Sockets:
        """Those that systemd opened. Raises StartError for one that nobody would serve."""
        taken = cls()
        tcp = {
            _STOMP: (settings.stomp.enabled, taken.stomp),
            _HTTPS: (settings.http.enabled, taken.https),
            _METRICS: (bool(settings.metrics.address), taken.metrics),
        }
        for name, listener in zip(systemd.listen_names(), systemd.listen_sockets(), strict=False):
            served, sockets = tcp.get(name, (False, []))
            if served:
                sockets.append(listener)
            elif listener.family == socket.AF_UNIX:
                taken.http.append(listener)
            else:
                raise StartError(
                    f"systemd passes the TCP socket {name}: expected one of the names "
                    f"{', '.join(tcp)}, and that [stomp], [http] or [metrics] has it served"
                )
        return taken

    def open_missing(self, settings: config.Config) -> None:
        """Open what systemd did not. Raises StartError, ConfigError."""
        stomp, http, metrics = settings.stomp, settings.http, settings.metrics
        if not self.http:
            self.http.append(_open_unix(http))
        if http.enabled and not self.https:
            self.https.append(_open_tcp("http", http.address, http.port))
        if metrics.address and not self.metrics:
            self.metrics.append(_open_tcp("metrics", metrics.address, metrics.port))
        if stomp.enabled and not self.stomp:
            self.stomp.append(_open_tcp("stomp", stomp.address, stomp.port))
        if not stomp.tls and not all(is_loopback(listener) for listener in self.stomp):
            raise ConfigError("stomp.tls: only a loopback address is served without TLS")


@dataclass(frozen=True)
class Tls:
    """The TLS that callers meet, where there is any."""

    stomp: ServerTls | None
    http: ServerTls | None


def tls_of(settings: config.Config) -> Tls:
    """As the configuration says. Blocks on its files. Raises ConfigError."""
    stomp, http = settings.stomp, settings.http
    return Tls(
        _load("stomp", stomp) if stomp.enabled and stomp.tls else None,
        _load("http", http) if http.enabled else None,
    )


def _load(section: str, options: Stomp | Http) -> ServerTls:
    return ServerTls(TlsFiles(section, options.certificate, options.key, options.ca))


def _open_tcp(section: str, address: str, port: int) -> socket.socket:
    try:
        return open_tcp(address, port, f"{section}.address")
    except OSError as error:
        raise StartError(f"{section}: {address} port {port}: {error.strerror}") from error


def _open_unix(settings: Http) -> socket.socket:
    try:
        return open_socket(Path(settings.socket), settings.socket_group)
    except SocketInUse as error:
        raise StartError(f"another daemon listens on {error}") from error
    except OSError as error:
        raise StartError(f"{settings.socket}: {error.strerror}") from error
