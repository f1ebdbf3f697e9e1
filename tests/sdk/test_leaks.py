"""What is secret is found neither in the log nor in any file, whatever goes wrong meanwhile."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.keyvault.certificates import CertificateClient, CertificatePolicy
from azure.keyvault.secrets import SecretClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from tests.support.azure_environment import source
from tests.support.broker import DevBroker
from tests.support.certificates import Authority, Key

pytestmark = pytest.mark.xdist_group("sdk")

# What the broker keeps in files for its operator, who needs it in the clear.
FOR_THE_OPERATOR = {"client-secret", "seal.key", "server.key"}


def test_nothing_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = {name: f"{name}-{secrets.token_hex(16)}" for name in ("value", "garbled", "password", "issuer", "wrong")}
    identity = Authority().issue()
    assert isinstance(identity.key, Key)
    with DevBroker(tmp_path / "broker", environment={"CERTBROKER_LOG__LEVEL": "debug"}) as broker:
        source(monkeypatch, broker.env)
        with (
            DefaultAzureCredential() as credential,
            SecretClient(broker.url, credential) as vault,
            CertificateClient(broker.url, credential) as certificates,
        ):
            vault.set_secret("s", marks["value"], tags={"a": "b"})
            assert marks["value"] == vault.get_secret("s").value
            vault.backup_secret("s")
            certificates.create_issuer("i", "Test", account_id="me", password=marks["issuer"])
            certificates.import_certificate("c", identity.pfx(marks["password"]), password=marks["password"])
            for password in (marks["wrong"], None):
                with pytest.raises(HttpResponseError):
                    certificates.import_certificate("d", identity.pfx(marks["password"]), password=password)
            policy = CertificatePolicy("Self", subject="CN=x", key_type="EC", key_curve_name="P-256")
            certificates.begin_create_certificate("e", policy, _polling_interval=0.1).result()
            private = pkcs12.load_pkcs12(base64.b64decode(vault.get_secret("e").value), None).key
            token = credential.get_token("https://vault.azure.net/.default").token
        for method, path, body in (
            ("PUT", "/secrets/s", f'{{"value": "{marks["garbled"]}", "tags": 1}}'),
            ("PUT", "/secrets/s", f'{{"value": "{marks["garbled"]}'),
            ("POST", "/certificates/f/import", json.dumps({"value": identity.pem()[:-90]})),
            ("POST", "/certificates/f/import", json.dumps({"value": identity.key_pem()})),
        ):
            assert 400 == _status(broker, method, path, body, token)
        assert 401 == _status(broker, "GET", "/secrets/s", "", token + "x")
        login = (
            f"grant_type=client_credentials&client_id=x&client_secret={marks['wrong']}&scope=https://vault.azure.net"
        )
        assert 401 == _status(broker, "POST", "/adfs/oauth2/token", login, "", base=broker.env["CERTBROKER_ADMIN_URL"])
        assert 0 == broker.stop()

    needles = [*marks.values(), token, token.rpartition(".")[2], broker.env["AZURE_CLIENT_SECRET"]]
    needles += [_der(key).hex() for key in (identity.key, private)]
    needles += [f"{key.private_numbers().private_value:x}" for key in (identity.key, private)]
    needles += [base64.b64encode(_der(key)).decode()[40:80] for key in (identity.key, private)]
    log = broker.log()
    assert [] == [needle for needle in needles if needle in log]
    raw = [needle.encode() for needle in needles] + [
        key.private_numbers().private_value.to_bytes(32) for key in (identity.key, private)
    ]
    files = [path for path in broker.data_dir.rglob("*") if path.is_file() and path.name not in FOR_THE_OPERATOR]
    assert broker.data_dir / "certbroker.db" in files
    for path in files:
        content = path.read_bytes()
        assert [] == [needle for needle in raw if needle in content], path
    for name in FOR_THE_OPERATOR:
        assert 0o600 == (broker.data_dir / name).stat().st_mode & 0o777
    assert 0o600 == broker.env_file.stat().st_mode & 0o777


def _der(key: Any) -> bytes:
    found: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return found


def _status(broker: DevBroker, method: str, path: str, body: str, token: str, base: str | None = None) -> int:
    url = f"{base or broker.url}{path}?api-version=7.4"
    request = urllib.request.Request(url, body.encode(), {"Authorization": f"Bearer {token}"}, method=method)
    try:
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=broker.ca_path)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
