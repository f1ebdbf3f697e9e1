"""The configuration file. Every key is documented here and in `config/certbroker.toml`; unknown keys are refused.

A value can also come from the environment: `CERTBROKER_SERVER__LISTEN` is `listen` in `[server]`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from certbroker.config.care import (
    DeploySection,
    DiscoverySection,
    EndpointsSection,
    PKISection,
    RevocationSection,
    RevocationSourceSection,
)
from certbroker.config.outside import (
    DNSHookSection,
    DNSLexiconSection,
    DNSSection,
    DNSUpdateSection,
    EgressSection,
    MailSection,
)
from certbroker.config.process import (
    DataSection,
    LogSection,
    MonitoringSection,
    PKCS11Section,
    SealKeySection,
    SealSection,
    ServerSection,
    TLSSection,
)
from certbroker.config.section import ConfigurationError, split_address

__all__ = [
    "Configuration",
    "ConfigurationError",
    "DNSHookSection",
    "DNSLexiconSection",
    "DNSSection",
    "DNSUpdateSection",
    "DataSection",
    "DeploySection",
    "DiscoverySection",
    "EgressSection",
    "EndpointsSection",
    "LogSection",
    "MailSection",
    "MonitoringSection",
    "PKCS11Section",
    "PKISection",
    "RevocationSection",
    "RevocationSourceSection",
    "SealKeySection",
    "SealSection",
    "ServerSection",
    "TLSSection",
    "build",
    "load",
    "split_address",
]


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
