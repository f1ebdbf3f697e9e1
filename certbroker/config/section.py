"""What every section of the configuration is like."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class ConfigurationError(Exception):
    """The configuration cannot be used; the text names each key and what is wrong with it."""


class Section(BaseModel):
    """One section: unknown keys are refused, and values never stand in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[host]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or not host.strip("[]"):
        raise ValueError(f"{text!r} is not of the form address:port")
    return host.strip("[]"), int(port)


def _checked(text: str) -> str:
    split_address(text)
    return text


Address = Annotated[str, AfterValidator(_checked)]
"""`host:port` or `[host]:port`."""
