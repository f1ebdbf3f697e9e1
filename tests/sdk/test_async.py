"""Azure's asynchronous clients, unmodified: they get their tokens in another way than the synchronous ones."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity.aio import DefaultAzureCredential
from azure.keyvault.certificates import CertificatePolicy
from azure.keyvault.certificates.aio import CertificateClient
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import SignatureAlgorithm
from azure.keyvault.secrets.aio import SecretClient

from tests.support.broker import DevBroker
from tests.support.certificates import Authority, der

pytestmark = [pytest.mark.xdist_group("sdk"), pytest.mark.anyio]


class Clients:
    """The three clients, on one credential, with their default options."""

    def __init__(self, url: str) -> None:
        self._open = AsyncExitStack()
        self._url = url

    async def __aenter__(self) -> Clients:
        credential = await self._open.enter_async_context(DefaultAzureCredential())

        async def client(kind: Any) -> Any:
            return await self._open.enter_async_context(kind(self._url, credential))

        self.secrets: SecretClient = await client(SecretClient)
        self.certificates: CertificateClient = await client(CertificateClient)
        self.keys: KeyClient = await client(KeyClient)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._open.aclose()
        await asyncio.sleep(0.05)  # aiohttp closes its connections a little later.


@pytest.fixture
def clients(broker: DevBroker) -> Clients:
    return Clients(broker.url)


async def test_secrets(clients: Clients, name: str) -> None:
    async with clients:
        secrets = clients.secrets
        await secrets.set_secret(name, "value", tags={"a": "1"})

        assert "value" == (await secrets.get_secret(name)).value
        assert [name] == [each.name async for each in secrets.list_properties_of_secret_versions(name)]
        changed = await secrets.update_secret_properties(name, enabled=False)
        assert not changed.enabled
        with pytest.raises(HttpResponseError, match="disabled"):
            await secrets.get_secret(name)
        blob = await secrets.backup_secret(name)
        deleted = await secrets.delete_secret(name)
        assert deleted.recovery_id.endswith(f"/deletedsecrets/{name}")
        await secrets.recover_deleted_secret(name)
        await secrets.delete_secret(name)
        await secrets.purge_deleted_secret(name)
        with pytest.raises(ResourceNotFoundError):
            await secrets.get_deleted_secret(name)
        assert not (await secrets.restore_secret_backup(blob)).enabled


async def test_keys(clients: Clients, name: str) -> None:
    async with clients:
        keys = clients.keys
        made = await keys.create_ec_key(name)
        use = keys.get_cryptography_client(name)
        signed = await use.sign(SignatureAlgorithm.es256, bytes(32))

        assert made.id == signed.key_id == (await keys.get_key(name)).id
        assert (await use.verify(SignatureAlgorithm.es256, bytes(32), signed.signature)).is_valid
        blob = await keys.backup_key(name)
        await keys.delete_key(name)
        await keys.purge_deleted_key(name)
        assert made.id == (await keys.restore_key_backup(blob)).id


async def test_certificates(clients: Clients, name: str) -> None:
    policy = CertificatePolicy("Self", subject="CN=async.example.com", key_type="EC", key_curve_name="P-384")
    async with clients:
        certificates = clients.certificates
        made = await certificates.create_certificate(name, policy, _polling_interval=0.1)

        assert "CN=async.example.com" == made.policy.subject
        assert made.key_id == (await clients.keys.get_key(name)).id
        assert made.id == (await certificates.get_certificate(name)).id
        assert [made.id] == [each.id async for each in certificates.list_properties_of_certificate_versions(name)]
        manual = CertificatePolicy("Unknown", subject="CN=merged.example.com")
        operation = await certificates.create_certificate(name, manual)
        leaf = Authority().answer(bytes(operation.csr))
        merged = await certificates.merge_certificate(name, [der(leaf)])
        assert der(leaf) == bytes(merged.cer)
        await certificates.delete_certificate(name)
        recovered = await certificates.recover_deleted_certificate(name)
        assert merged.id == recovered.id


async def test_import(clients: Clients, name: str) -> None:
    identity = Authority().issue()
    async with clients:
        made = await clients.certificates.import_certificate(name, identity.pfx("word"), password="word")

        assert der(identity.certificate) == bytes(made.cer)
        assert (await clients.secrets.get_secret(name)).properties.managed
