"""The process: where it listens, what it keeps, the seal, logs and monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from certbroker.config.section import Address, Section

_DOMAIN: Final = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"


class ServerSection(Section):
    """Where the broker listens, and under which names clients reach it."""

    listen: Address = "127.0.0.1:8443"
    """Address and port for HTTPS; port 0 picks a free one. IPv6 as `[::]:8443`."""
    base_domain: Annotated[str, Field(pattern=_DOMAIN)] = "vault.localhost"
    """Vaults are reached as `<vault>.<base_domain>`; DNS needs a wildcard record for it."""
    authority: str | None = None
    """The https URL under which clients reach the token endpoint. Default: `https://login.<base_domain>:<port>`."""
    http01_listen: Address | None = None
    """Address and port for answering http-01 challenges, usually `0.0.0.0:80`. Without it http-01 cannot be used."""
    tls_alpn01_listen: Address | None = None
    """Address and port for answering tls-alpn-01 challenges, usually `0.0.0.0:443`; nothing else is served there."""
    vault_hosts: dict[str, str] = Field(default_factory=dict)
    """Further host names or IP addresses that stand for a vault: `"keys.example.com" = "demo"`."""

    @field_validator("authority")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("https://"):
            raise ValueError("must be an https URL, because clients send secrets there")
        return value


class TLSSection(Section):
    """The server's own certificate. Without files the broker issues one from an authority of its own (`ca.pem`)."""

    certificate: Path | None = None
    """PEM file with the certificate and its chain. It is read again when it changes."""
    key: Path | None = None
    """PEM file with the private key: P-256, P-384, Ed25519, or RSA with 2048, 3072 or 4096 bits; without a password."""
    check_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two looks at whether the files have changed, or our own certificate is to be renewed."""

    @model_validator(mode="after")
    def _both(self) -> TLSSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls.certificate and tls.key belong together: set both or neither")
        return self


class PKCS11Section(Section):
    """A key in a hardware security module, or in anything else that speaks PKCS#11. `certbroker seal init` makes it."""

    module: Path
    """The PKCS#11 library of the token, such as `/usr/lib/softhsm/libsofthsm2.so`."""
    token: str
    """The label of the token."""
    pin: SecretStr | None = None
    """The user PIN, better in a file or a credential."""
    pin_file: Path | None = None
    """A file that holds the PIN and that only its owner can read."""
    credential: str | None = None
    """The name of a systemd credential (`LoadCredential=`) that holds the PIN."""
    key_label: str = "certbroker-seal"
    """The label of the key."""

    @model_validator(mode="after")
    def _one_pin(self) -> PKCS11Section:
        if sum(value is not None for value in (self.pin, self.pin_file, self.credential)) != 1:
            raise ValueError("set exactly one of pin, pin_file and credential")
        return self


class SealKeySection(Section):
    """Where a seal key comes from: at most one of these. Default: the file `seal.key` in the data directory."""

    file: Path | None = None
    """A file with 64 hexadecimal digits and mode 0600; `certbroker init` makes one."""
    credential: str | None = None
    """The name of a systemd credential (`LoadCredential=`) with the same content."""
    passphrase: SecretStr | None = None
    """A passphrase, better set as CERTBROKER_SEAL__PASSPHRASE than in a file."""
    pkcs11: PKCS11Section | None = None
    """A key that never leaves its token."""

    @model_validator(mode="after")
    def _one(self) -> SealKeySection:
        if sum(value is not None for value in (self.file, self.credential, self.passphrase, self.pkcs11)) > 1:
            raise ValueError("set only one of seal.file, seal.credential, seal.passphrase and seal.pkcs11")
        return self


class SealSection(SealKeySection):
    """The seal key. Default: the file `seal.key` in the data directory."""

    previous: SealKeySection | None = None
    """The seal key until now. At the next start what it protects is put under the new one; then remove this section."""


class DataSection(Section):
    """What the broker keeps on disk."""

    directory: Path = Path("/var/lib/certbroker")
    """Holds the database, and the server's certificate where the broker issues that itself."""


class LogSection(Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class MonitoringSection(Section):
    """How others watch the broker."""

    listen: Address | None = None
    """Address and port for health and metrics, over plain HTTP and without any token: keep it on this machine, or in a
    network that only those reach who may see names of certificates.
    """
    certificate_metrics: Annotated[int, Field(ge=0, le=10_000)] = 500
    """Up to so many certificates are told one by one; where there are more they are counted only. 0 tells none."""
    ping_url: SecretStr | None = None
    """The https URL of a watcher outside that raises an alarm when it is not called any more, such as healthchecks.io.
    It is called only while the broker is ready. Whoever knows it can silence the alarm.
    """
    ping_seconds: Annotated[float, Field(ge=30, le=86_400)] = 300.0
    """Seconds between two calls."""
    ping_failures: bool = False
    """Whether the URL with `/fail` appended is called while the broker is not ready."""

    @field_validator("ping_url")
    @classmethod
    def _https(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith("https://"):
            raise ValueError("must be an https URL, because whoever knows it can silence the alarm")
        return value
