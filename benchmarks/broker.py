"""A broker to measure, as `certbroker dev` starts it, and what it costs."""

from __future__ import annotations

import json
import ssl
import urllib.parse
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.load import Target
from tests.support.broker import DevBroker

VERSION = "api-version=7.6"


def target(broker: DevBroker) -> Target:
    """The broker's vault, with a token for everything."""
    environment = broker.env
    vault = urlsplit(environment["KEYVAULT_URL"])
    assert vault.hostname is not None
    assert vault.port is not None
    resource = f"https://{vault.netloc.partition('.')[2]}"
    token = fetch_token(environment, resource)
    return Target(vault.hostname, vault.port, environment["SSL_CERT_FILE"], {"Authorization": f"Bearer {token}"})


def fetch_token(environment: dict[str, str], resource: str) -> str:
    """A token by client secret."""
    form = {
        "grant_type": "client_credentials",
        "client_id": environment["AZURE_CLIENT_ID"],
        "client_secret": environment["AZURE_CLIENT_SECRET"],
        "scope": f"{resource}/.default",
    }
    url = f"{environment['AZURE_AUTHORITY_HOST']}/{environment['AZURE_TENANT_ID']}/oauth2/v2.0/token"
    context = ssl.create_default_context(cafile=environment["SSL_CERT_FILE"])
    with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), context=context) as reply:
        token: str = json.load(reply)["access_token"]
    return token


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all below it, in MiB."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 2**20


def private_directory(parent: Path, name: str) -> Path:
    """A directory of its own for one row."""
    directory = parent / name
    directory.mkdir()
    return directory
