"""Keys and certificates on disk: laid out as engines lay them out on a host, whole or not there, keys for
their owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

_KEY_MODE, _CERTIFICATE_MODE, _FOLDER_MODE = 0o600, 0o644, 0o755


class PkiError(Exception):
    """What cannot be done; one sentence."""


@dataclass(frozen=True)
class Layout:
    """A folder with `certs/` and `keys/`: of a host or a caller, or of the authority itself."""

    folder: Path
    certificate_name: str = "vdsmcert.pem"
    key_name: str = "vdsmkey.pem"

    @property
    def certificate(self) -> Path:
        """The certificate."""
        return self.folder / "certs" / self.certificate_name

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.folder / "keys" / self.key_name

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "certs/cacert.pem"


def authority_layout(folder: Path) -> Layout:
    """Where an authority keeps its own."""
    return Layout(folder, "cacert.pem", "cakey.pem")


def require_free(*paths: Path) -> None:
    """Return if nothing is there. Blocks. Raises PkiError."""
    for path in paths:
        if os.path.lexists(path):
            raise PkiError(f"{path} is there already; --force replaces it")


def write(
    path: Path, content: bytes, *, secret: bool, force: bool, owner: tuple[int, int] | None = None
) -> None:
    """Write a file, whole or not at all. What is there is kept, unless by `force`. Blocks on the disk.

    Raises:
        PkiError: it is there, or cannot be written; nothing was changed.
    """
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # Never readable by others, not even for a moment.
        fd = os.open(temporary, flags, _KEY_MODE)
        try:
            _fill(fd, content, _KEY_MODE if secret else _CERTIFICATE_MODE, owner)
            if force:
                temporary.rename(path)
            else:
                # Unlike a rename it replaces nothing, whoever was quicker.
                os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync(path.parent)
    except FileExistsError:
        raise PkiError(f"{path} is there already; --force replaces it") from None
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror}") from None


def _fill(fd: int, content: bytes, mode: int, owner: tuple[int, int] | None) -> None:
    with os.fdopen(fd, "wb") as file:
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        os.fsync(fd)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as it is written: PKCS #8, without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as it is written."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a file. Blocks. Raises PkiError."""
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise PkiError(f"{path}: no certificate in PEM") from None


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in a file. Blocks. Raises PkiError."""
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        raise PkiError(f"{path}: no private key in PEM, or one with a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path}: expected a key on an elliptic curve, as this command makes them")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror}") from None
