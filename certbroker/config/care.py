"""The care for certificates: where they go, who tells that they are revoked, what is found and published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from certbroker.config.section import Address, Section
from certbroker.domain.discovery import targets

_PLAIN_URL: Final = re.compile(
    r"http://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:([0-9]{1,5}|\{port\}))?(/[A-Za-z0-9._~-]+)*", re.ASCII
)


class DeploySection(Section):
    """Where a certificate is put on the broker's machine, and what is run then, each time that it has a new version."""

    certificate: Annotated[str, Field(pattern=r"^[A-Za-z][0-9A-Za-z-]{1,22}[0-9A-Za-z]/[0-9A-Za-z-]{1,127}$")]
    """The certificate, as `vault/name`. Its key must be exportable."""
    directory: Path | None = None
    """A directory that gets cert.pem, chain.pem, fullchain.pem and privkey.pem, replaced all at once."""
    combined: Path | None = None
    """A file that gets the certificate, its chain and its key, as HAProxy reads it."""
    pfx: Path | None = None
    """A file that gets all of it as a PKCS#12 without a password."""
    owner: str | None = None
    """Whose the files are. Default: who runs the broker."""
    group: str | None = None
    """The group of the files."""
    mode: str = "0600"
    """The mode of the files with the key: 0400, 0440, 0600 or 0640."""
    reload: str | None = None
    """What takes the files then: `nginx`, `haproxy`, or `systemd:` and the name of a unit."""
    command: tuple[str, ...] = ()
    """What is run then, after the reload: a program by its absolute path, and its arguments. No shell reads them."""
    environment: dict[str, SecretStr] = Field(default_factory=dict)
    """What the commands get besides, such as credentials. These values never appear in messages."""
    timeout: Annotated[float, Field(gt=0, le=600)] = 120.0
    """Seconds for each command. Then it and what it has started are killed."""


class EndpointsSection(Section):
    """How the endpoints of certificates are looked at."""

    grace_minutes: Annotated[float, Field(ge=1, le=10_080)] = 60.0
    """How long a deployment may take: only then it is an alarm that an endpoint still serves another certificate."""
    every_hours: Annotated[float, Field(ge=0.25, le=168)] = 24.0
    """About how often an endpoint is looked at that serves the version in use."""


class PKISection(Section):
    """Where private CAs publish certificates, CRLs and OCSP replies. Without it certificates name no such place."""

    listen: Address | None = None
    """Address and port for publishing, over plain HTTP: what is published is signed, and public."""
    url: str | None = None
    """The http URL under which everybody reaches that listener; it is put into certificates. `{port}` is its port."""
    crl_hours: Annotated[float, Field(ge=2, le=8760)] = 168.0
    """Hours that a CRL holds, of a CA that says nothing else. The next one is made when half of them have passed."""
    ocsp_hours: Annotated[float, Field(ge=2, le=8760)] = 96.0
    """Hours that an OCSP reply holds. The next one is made when half of them have passed."""

    @field_validator("url")
    @classmethod
    def _base(cls, value: str | None) -> str | None:
        # RFC 5280 section 8: with https the look at a certificate would need another look first, and so on.
        if value is not None and not _PLAIN_URL.fullmatch(value):
            raise ValueError("must be of the form http://host[:port][/path], without a query and without a final slash")
        return value

    @model_validator(mode="after")
    def _both(self) -> PKISection:
        if (self.listen is None) != (self.url is None):
            raise ValueError("pki.listen and pki.url belong together: set both or neither")
        return self


class DiscoverySection(Section):
    """Looking for certificates that nobody has told the broker of. Without hosts and monitors it looks nowhere."""

    hosts: tuple[str, ...] = ()
    """Names, addresses, and networks such as `192.0.2.0/24`, each looked at by TLS; also `name:port`. The egress policy
    holds: private networks have to be among its `allowed_networks`. 65,536 places at most.
    """
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)
    """Ports that are looked at, where an entry of `hosts` has none."""
    rate: Annotated[float, Field(ge=0.1, le=200)] = 20.0
    """Looks a second at most."""
    every_hours: Annotated[float, Field(ge=1, le=720)] = 24.0
    """Hours from the beginning of one round to the next."""
    monitors: Annotated[tuple[str, ...], Field(max_length=5)] = ()
    """CT monitors that answer as `https://crt.sh/` does: they are asked for certificates below the registered domains
    that certificates in vaults have names in.
    """

    @field_validator("monitors")
    @classmethod
    def _urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("https://", "http://")) or len(url) > 500:
                raise ValueError(f"{url[:100]!r} is not a URL such as https://crt.sh/")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _bounded(self) -> DiscoverySection:
        targets(self.hosts, self.ports)
        return self


class RevocationSourceSection(Section):
    """Who tells of the certificates of one issuer, instead of what these name themselves."""

    issuer: str
    """The subject of the issuer's certificate, as `certbroker certificate show` writes it; `*` stands for any text."""
    crl: str | None = None
    """The URL of its CRL."""
    ocsp: str | None = None
    """The URL of its OCSP responder."""

    @model_validator(mode="after")
    def _one(self) -> RevocationSourceSection:
        if self.crl is None and self.ocsp is None:
            raise ValueError("set crl, ocsp or both")
        if any(url is not None and not url.startswith(("http://", "https://")) for url in (self.crl, self.ocsp)):
            raise ValueError("crl and ocsp are http or https URLs")
        return self


class RevocationSection(Section):
    """How it is watched whether certificates are revoked."""

    enabled: bool = True
    """Whether it is watched at all."""
    check_seconds: Annotated[float, Field(ge=10, le=86_400)] = 3600.0
    """Seconds between two looks at a CRL. One that has not changed costs a request without a body."""
    max_bytes: Annotated[int, Field(ge=65_536, le=1 << 30)] = 67_108_864
    """The largest CRL that is taken, in bytes. A million revoked certificates are about 40 million."""
    timeout: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Seconds that one CRL or OCSP reply may take."""
    ocsp: Literal["fallback", "always", "never"] = "fallback"
    """Whether OCSP responders are asked: where no CRL can be used, always, or never."""
    replace: bool = True
    """Whether a certificate that was found revoked is renewed at once, where its policy has it renewed by itself."""
    sources: dict[str, RevocationSourceSection] = Field(default_factory=dict)
    """Who tells of certificates that do not say it themselves, or where a mirror is to be asked."""
