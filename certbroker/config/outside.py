"""What is outside: other servers, mail, and DNS."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from certbroker.config.section import Section


class EgressSection(Section):
    """Which other servers the broker may contact. The default is https to public addresses."""

    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks that may be contacted nevertheless, such as that of an internal CA."""
    allowed_hosts: tuple[str, ...] = ()
    """When not empty, only these hosts; `*.example.com` stands for all below it."""
    plain_http_hosts: tuple[str, ...] = ()
    """Hosts that may be contacted without TLS."""
    resolvers: tuple[str, ...] = ()
    """DNS servers to ask about the records of dns-01, as `address` or `address:port`; else those of the system."""
    trust: tuple[Path, ...] = ()
    """PEM files with CA certificates to trust besides those of the system."""
    proxy: str | None = None
    """The URL of an http proxy."""
    allow_apprise: bool = False
    """Whether channels of the kind apprise may be used, whose connections none of these rules reaches."""


class MailSection(Section):
    """The mail server that contacts and channels of the kind mail are told by."""

    host: str
    """Its host name, which its certificate must have."""
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """Its port. Default: 587 with starttls, 465 with tls, 25 with none."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is protected: TLS after a greeting, TLS at once, or not at all."""
    username: str | None = None
    """Who we are for the mail server. Without it we do not sign in."""
    password: SecretStr | None = None
    """The password, better in a file or a credential."""
    password_file: Path | None = None
    """A file whose first line is the password, and that only its owner can read."""
    credential: str | None = None
    """The name of a systemd credential (`LoadCredential=`) with the same content."""
    sender: str
    """The address that mails come from."""
    reply_to: str | None = None
    """The address that answers go to, if not to the sender."""
    digest: Literal["weekly"] | None = None
    """Whether each vault with contacts gets a mail every week: what expires, what failed, what is already replaced."""

    @model_validator(mode="after")
    def _agree(self) -> MailSection:
        sources = sum(value is not None for value in (self.password, self.password_file, self.credential))
        if sources > 1 or (self.username is None) != (sources == 0):
            raise ValueError("username needs exactly one of password, password_file and credential, and they need it")
        if self.security == "none" and self.username is not None:
            raise ValueError("security none would send the password in the clear: use starttls or tls")
        return self


class DNSUpdateSection(Section):
    """A DNS server that takes dynamic updates (RFC 2136) signed with TSIG (RFC 8945)."""

    kind: Literal["rfc2136"]
    server: str
    """Address of the primary server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 53
    key_name: str
    key_secret: SecretStr
    """The TSIG key in base64, as in the server's own configuration."""
    key_algorithm: str = "hmac-sha256"
    zone: str | None = None
    """The zone to update; found by its SOA record when absent."""
    ttl: Annotated[int, Field(ge=0, le=86400)] = 60
    propagation: Annotated[float, Field(ge=0, le=3600)] = 120.0
    """Seconds to wait at most until the authoritative servers answer with a new record."""
    nameservers: tuple[str, ...] = ()
    """Authoritative servers to ask as `address` or `address:port`; found by NS records when empty."""


class DNSHookSection(Section):
    """A command that publishes and withdraws TXT records."""

    kind: Literal["hook"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments; no shell is involved."""
    environment: dict[str, str] = Field(default={}, repr=False)
    """Variables for the command besides those that describe the record."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds that the command may take."""


class DNSLexiconSection(Section):
    """A DNS provider that dns-lexicon knows: needs `pip install certbroker[lexicon]`."""

    kind: Literal["lexicon"]
    provider: str
    """Its name in dns-lexicon, such as `cloudflare`."""
    zones: Annotated[tuple[str, ...], Field(min_length=1)]
    """The zones that may be written."""
    options: dict[str, SecretStr] = Field(default_factory=dict)
    """The provider's own options, named as in dns-lexicon, such as `auth_token`."""
    ttl: Annotated[int, Field(ge=0, le=86400)] = 300
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds that one change of a record may take."""
    propagation: Annotated[float, Field(ge=0, le=3600)] = 120.0
    """Seconds to wait at most until the zone's servers answer with a new record."""


DNSSection = Annotated[DNSUpdateSection | DNSHookSection | DNSLexiconSection, Field(discriminator="kind")]
