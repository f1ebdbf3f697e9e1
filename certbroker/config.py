"""The configuration file. Every key is documented here and in `config/certbroker.toml`; unknown keys are refused.

A value can also come from the environment: `CERTBROKER_SERVER__LISTEN` is `listen` in `[server]`.
"""

from __future__ import annotations

import re
import tomllib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from certbroker.domain.discovery import targets

_DOMAIN: Final = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"

_PLAIN_URL: Final = re.compile(
    r"http://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:([0-9]{1,5}|\{port\}))?(/[A-Za-z0-9._~-]+)*", re.ASCII
)


class ConfigurationError(Exception):
    """The configuration cannot be used; the text names each key and what is wrong with it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerSection(_Section):
    """Where the broker listens, and under which names clients reach it."""

    listen: str = "127.0.0.1:8443"
    """Address and port for HTTPS; port 0 picks a free one. IPv6 as `[::]:8443`."""
    base_domain: Annotated[str, Field(pattern=_DOMAIN)] = "vault.localhost"
    """Vaults are reached as `<vault>.<base_domain>`; DNS needs a wildcard record for it."""
    authority: str | None = None
    """The https URL under which clients reach the token endpoint. Default: `https://login.<base_domain>:<port>`."""
    http01_listen: str | None = None
    """Address and port for answering http-01 challenges, usually `0.0.0.0:80`. Without it http-01 cannot be used."""
    tls_alpn01_listen: str | None = None
    """Address and port for answering tls-alpn-01 challenges, usually `0.0.0.0:443`; nothing else is served there."""
    vault_hosts: dict[str, str] = {}
    """Further host names or IP addresses that stand for a vault: `"keys.example.com" = "demo"`."""

    @field_validator("listen", "http01_listen", "tls_alpn01_listen")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("authority")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("https://"):
            raise ValueError("must be an https URL, because clients send secrets there")
        return value


class TLSSection(_Section):
    """The server's own certificate. Without files the broker issues one from an authority of its own (`ca.pem`)."""

    certificate: Path | None = None
    """PEM file with the certificate and its chain. It is read again when it changes."""
    key: Path | None = None
    """PEM file with the private key."""
    check_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two looks at whether the files have changed, or our own certificate is to be renewed."""

    @model_validator(mode="after")
    def _both(self) -> TLSSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls.certificate and tls.key belong together: set both or neither")
        return self


class PKCS11Section(_Section):
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


class SealKeySection(_Section):
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


class DataSection(_Section):
    """What the broker keeps on disk."""

    directory: Path = Path("/var/lib/certbroker")
    """Holds the database, and the server's certificate where the broker issues that itself."""


class EgressSection(_Section):
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


class MailSection(_Section):
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


class DNSUpdateSection(_Section):
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


class DNSHookSection(_Section):
    """A command that publishes and withdraws TXT records."""

    kind: Literal["hook"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments; no shell is involved."""
    environment: dict[str, str] = Field(default={}, repr=False)
    """Variables for the command besides those that describe the record."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds that the command may take."""


class DNSLexiconSection(_Section):
    """A DNS provider that dns-lexicon knows: needs `pip install certbroker[lexicon]`."""

    kind: Literal["lexicon"]
    provider: str
    """Its name in dns-lexicon, such as `cloudflare`."""
    zones: Annotated[tuple[str, ...], Field(min_length=1)]
    """The zones that may be written."""
    options: dict[str, SecretStr] = {}
    """The provider's own options, named as in dns-lexicon, such as `auth_token`."""
    ttl: Annotated[int, Field(ge=0, le=86400)] = 300
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds that one change of a record may take."""
    propagation: Annotated[float, Field(ge=0, le=3600)] = 120.0
    """Seconds to wait at most until the zone's servers answer with a new record."""


class DeploySection(_Section):
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
    environment: dict[str, SecretStr] = {}
    """What the commands get besides, such as credentials. These values never appear in messages."""
    timeout: Annotated[float, Field(gt=0, le=600)] = 120.0
    """Seconds for each command. Then it and what it has started are killed."""


class EndpointsSection(_Section):
    """How the endpoints of certificates are looked at."""

    grace_minutes: Annotated[float, Field(ge=1, le=10_080)] = 60.0
    """How long a deployment may take: only then it is an alarm that an endpoint still serves another certificate."""
    every_hours: Annotated[float, Field(ge=0.25, le=168)] = 24.0
    """About how often an endpoint is looked at that serves the version in use."""


class LogSection(_Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class MonitoringSection(_Section):
    """How others watch the broker."""

    listen: str | None = None
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

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("ping_url")
    @classmethod
    def _https(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith("https://"):
            raise ValueError("must be an https URL, because whoever knows it can silence the alarm")
        return value


class PKISection(_Section):
    """Where private CAs publish certificates, CRLs and OCSP replies. Without it certificates name no such place."""

    listen: str | None = None
    """Address and port for publishing, over plain HTTP: what is published is signed, and public."""
    url: str | None = None
    """The http URL under which everybody reaches that listener; it is put into certificates. `{port}` is its port."""
    crl_hours: Annotated[float, Field(ge=2, le=8760)] = 168.0
    """Hours that a CRL holds, of a CA that says nothing else. The next one is made when half of them have passed."""
    ocsp_hours: Annotated[float, Field(ge=2, le=8760)] = 96.0
    """Hours that an OCSP reply holds. The next one is made when half of them have passed."""

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

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


class DiscoverySection(_Section):
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


class RevocationSourceSection(_Section):
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


class RevocationSection(_Section):
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
    sources: dict[str, RevocationSourceSection] = {}
    """Who tells of certificates that do not say it themselves, or where a mirror is to be asked."""


DNSSection = Annotated[DNSUpdateSection | DNSHookSection | DNSLexiconSection, Field(discriminator="kind")]


class Configuration(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="CERTBROKER_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    server: ServerSection = ServerSection()
    tls: TLSSection = TLSSection()
    seal: SealSection = SealSection()
    data: DataSection = DataSection()
    egress: EgressSection = EgressSection()
    dns: dict[str, DNSSection] = {}
    mail: MailSection | None = None
    deploy: dict[str, DeploySection] = {}
    endpoints: EndpointsSection = EndpointsSection()
    log: LogSection = LogSection()
    monitoring: MonitoringSection = MonitoringSection()
    discovery: DiscoverySection = DiscoverySection()
    revocation: RevocationSection = RevocationSection()
    pki: PKISection = PKISection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file, which comes in as init settings."""
        return env_settings, init_settings


def load(path: Path) -> Configuration:
    """The configuration in a TOML file. Raises ConfigurationError."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"The configuration file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The configuration file {path} cannot be read: {error}.") from None
    return build(values)


def build(values: dict[str, Any]) -> Configuration:
    """The configuration from values as a TOML file has them. Raises ConfigurationError."""
    try:
        return Configuration(**values)
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigurationError(f"The configuration is not valid:\n{problems}") from None


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[host]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or not host.strip("[]"):
        raise ValueError(f"{text!r} is not of the form address:port")
    return host.strip("[]"), int(port)
