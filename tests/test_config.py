"""The configuration: the sample is complete and true, and what cannot be meant is refused by name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from certbroker.config import (
    Configuration,
    ConfigurationError,
    DeploySection,
    DNSHookSection,
    DNSLexiconSection,
    DNSUpdateSection,
    build,
    load,
)

_ROOT = Path(__file__).resolve().parents[1]
_SAMPLE = _ROOT / "config" / "certbroker.toml"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CERTBROKER_")]:
        monkeypatch.delenv(name)


def test_the_sample_loads_as_it_is() -> None:
    configuration = load(_SAMPLE)

    assert "0.0.0.0:8443" == configuration.server.listen
    assert "seal" == configuration.seal.credential


def test_the_sample_names_every_key_and_no_other() -> None:
    shown = {re.sub(r"^(dns|deploy|revocation\.sources)\.[a-z]+\.", r"\1.*.", key) for key, _ in _leaves(_everything())}
    # In the form of seal, of which the sample shows one key.
    previous = {key for key in _fields(Configuration) if key.startswith("seal.previous.")}

    assert _fields(Configuration) - previous == shown - previous
    assert shown & previous


def test_what_the_sample_shows_as_default_is_the_default() -> None:
    values = dict(_leaves(_everything()))
    hook, update = DNSHookSection(kind="hook", command=("x",)), values["dns.main.key_secret"]
    defaults = Configuration().model_dump() | {
        "dns": {
            "main": DNSUpdateSection(kind="rfc2136", server="x", key_name="x", key_secret=update).model_dump(),
            "provider": hook.model_dump(),
            "account": DNSLexiconSection(kind="lexicon", provider="x", zones=("x",)).model_dump(),
        },
        "deploy": {"www": DeploySection(certificate="demo/www").model_dump()},
    }
    # These have defaults that say little, so the sample has an example.
    examples = re.compile(
        r"listen|base_domain|credential|kind|command|server|key_name|key_secret|environment|vault_hosts|zones"
        r"|options|provider|url|certificate"
    )

    for key, default in _leaves(defaults):
        if default not in (None, (), {}) and not examples.fullmatch(key.rpartition(".")[2]):
            assert str(list(default) if isinstance(default, tuple) else default) == str(values[key]), key


@pytest.mark.parametrize(
    "section",
    [
        "seal.pkcs11",
        "seal.previous",
        "dns.main",
        "dns.provider",
        "dns.account",
        "deploy.www",
        "egress",
        "tls",
        "mail",
        "pki",
        "revocation",
    ],
)
def test_the_examples_of_the_sample_are_valid(section: str) -> None:
    wanted: dict[str, Any] = {}
    for key, value in _leaves(_everything()):
        # Of the three sources of a PIN or password one is allowed.
        others = ("seal.pkcs11.pin", "seal.pkcs11.credential", "mail.password", "mail.credential")
        if key.startswith(f"{section}.") and key not in others:
            _put(wanted, key.split("."), value)

    build(wanted)


def test_the_sample_and_the_service_agree(tmp_path: Path) -> None:
    """What the unit passes, the sample reads: the broker is initialised with the seal key as a credential."""
    unit = (_ROOT / "config" / "certbroker.service").read_text()
    credential = load(_SAMPLE).seal.credential
    assert f"\nLoadCredential={credential}:" in unit
    assert f"\n      - {credential}\n" in (_ROOT / "config" / "compose.yaml").read_text()

    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "seal").write_text(f"{os.urandom(32).hex()}\n")
    environment = os.environ | {
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "CERTBROKER_DATA__DIRECTORY": str(tmp_path / "data"),
        "CERTBROKER_CONFIG": str(_SAMPLE),
    }
    done = subprocess.run(
        [sys.executable, "-m", "certbroker", "init"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"] == [
        word.partition("=")[0] for word in shlex.split(done.stdout)
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nlissten = 'x'", "server.lissten"),
        ("[servers]\nlisten = 'x'", "servers"),
        ("[seal.pkcs11]\nmodule = 'x'\ntoken = 'x'\npin = '1'\nslot = 1", "seal.pkcs11.slot"),
        ("[dns.main]\nkind = 'hook'\ncommand = ['x']\nserver = 'x'", "dns.main.hook.server"),
        ("[dns.main]\nkind = 'magic'", "dns.main"),
        ("[server]\nlisten = 'nowhere'", "server.listen"),
        ("[server]\nauthority = 'http://login.example.com'", "server.authority"),
        ("[server]\nbase_domain = 'Not A Domain'", "server.base_domain"),
        ("[tls]\ncertificate = 'x'", "tls.certificate and tls.key belong together"),
        ("[seal]\nfile = 'x'\ncredential = 'y'", "set only one of seal.file, seal.credential"),
        ("[seal.pkcs11]\nmodule = 'x'\ntoken = 'x'", "set exactly one of pin, pin_file and credential"),
        ("[egress]\nallowed_networks = ['10.1.2.3/8']", "egress.allowed_networks"),
        ("[mail]\nhost = 'm'", "mail.sender"),
        ("[mail]\nhost = 'm'\nsender = 'a@b'\nusername = 'u'", "exactly one of password"),
        ("[mail]\nhost = 'm'\nsender = 'a@b'\npassword = 'p'", "exactly one of password"),
        ("[mail]\nhost = 'm'\nsender = 'a@b'\nusername = 'u'\npassword = 'p'\nsecurity = 'none'", "in the clear"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ("[pki]\nlisten = '127.0.0.1:80'", "pki.listen and pki.url belong together"),
        ("[pki]\nlisten = '127.0.0.1:80'\nurl = 'https://pki.example.com'", "pki.url"),
        ("[pki]\nlisten = '127.0.0.1:80'\nurl = 'http://pki.example.com/'", "pki.url"),
        ("[revocation]\nocsp = 'sometimes'", "revocation.ocsp"),
        ("[revocation.sources.a]\nissuer = 'CN=x'", "set crl, ocsp or both"),
        ("[revocation.sources.a]\nissuer = 'CN=x'\ncrl = 'ldap://x'", "http or https URLs"),
        ("listen =", "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "certbroker.toml"
    file.write_text(text)

    with pytest.raises(ConfigurationError, match=re.escape(named)):
        load(file)


def test_a_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(ConfigurationError) as refused:
        build({"dns": {"main": {"kind": "rfc2136", "key_secret": ["hunter2"]}}})

    assert "key_secret" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "certbroker.toml"
    file.write_text(
        "[server]\nlisten = '127.0.0.1:1'\nbase_domain = 'v.example'\n[egress]\nallowed_networks = ['10.0.0.0/8']"
    )
    monkeypatch.setenv("CERTBROKER_SERVER__LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("CERTBROKER_ADMIN_URL", "https://for.the.command.line")

    configuration = load(file)

    assert "127.0.0.1:2" == configuration.server.listen
    assert "v.example" == configuration.server.base_domain
    assert (ip_network("10.0.0.0/8"),) == configuration.egress.allowed_networks


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(tmp_path / "nothing.toml")


def _everything() -> dict[str, Any]:
    """The sample with everything that is commented out switched on."""
    return tomllib.loads(re.sub(r"^#(?=[a-z0-9_]+ = |\[)", "", _SAMPLE.read_text(), flags=re.MULTILINE))


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and not re.fullmatch(r"vault_hosts|environment|options", key):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _put(values: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    """The dotted names of all keys of a model; `*` stands for a name that the operator chooses."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        models = list(_models(field.annotation))
        star = "*." if get_origin(field.annotation) is dict and models else ""
        for each in models:
            found |= _fields(each, f"{prefix}{name}.{star}")
        if not models:
            found.add(prefix + name)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (dict, Annotated, Union, types.UnionType):
        for each in get_args(annotation):
            yield from _models(each)
