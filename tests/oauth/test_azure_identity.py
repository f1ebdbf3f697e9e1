"""Azure's identity libraries, in each form in which they ask for a token without the public cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential, DefaultAzureCredential, EnvironmentCredential
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential
from azure.identity.aio import DefaultAzureCredential as AsyncDefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient

from tests.support.azure_environment import source
from tests.support.broker import DevBroker

pytestmark = pytest.mark.xdist_group("identity")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    with DevBroker(tmp_path_factory.mktemp("identity") / "broker") as broker:
        yield broker


@pytest.fixture(autouse=True)
def environment(broker: DevBroker, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The broker's environment file, sourced."""
    source(monkeypatch, broker.env)
    return monkeypatch


@pytest.fixture(scope="module")
def tenant(broker: DevBroker) -> str:
    """The broker's tenant, as its challenge names it."""
    with SecretClient(broker.url, _Recorder()) as client, pytest.raises(RuntimeError) as challenged:
        client.get_secret("n")
    return str(challenged.value)


class _Recorder:
    """A credential that only tells which tenant it was asked for."""

    def get_token(self, *scopes: str, tenant_id: str = "", **options: object) -> object:
        raise RuntimeError(tenant_id)

    def close(self) -> None:
        """Nothing to close."""


def _works(broker: DevBroker, credential: object) -> bool:
    with SecretClient(broker.url, credential) as client, credential:
        list(client.list_properties_of_secrets())
    return True


def _secret(broker: DevBroker, tenant: str, **options: object) -> ClientSecretCredential:
    env = broker.env
    return ClientSecretCredential(tenant, env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"], **options)


def test_the_environment_alone_is_enough(broker: DevBroker) -> None:
    assert "adfs" == broker.env["AZURE_TENANT_ID"]
    assert _works(broker, DefaultAzureCredential())
    assert _works(broker, EnvironmentCredential())


def test_the_tenant_adfs_needs_no_discovery(broker: DevBroker) -> None:
    assert _works(broker, _secret(broker, "adfs"))
    assert _works(broker, _secret(broker, "adfs", authority=broker.env["AZURE_AUTHORITY_HOST"]))


def test_an_authority_below_dstsv2_needs_no_discovery(
    broker: DevBroker, tenant: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AZURE_AUTHORITY_HOST", broker.env["AZURE_AUTHORITY_HOST"] + "/dstsv2")
    environment.setenv("AZURE_TENANT_ID", tenant)

    assert _works(broker, DefaultAzureCredential())


def test_the_tenants_id_works_where_discovery_is_switched_off(broker: DevBroker, tenant: str) -> None:
    assert _works(broker, _secret(broker, tenant, disable_instance_discovery=True))


@pytest.mark.parametrize("form", ["environment", "adfs", "tenant"])
def test_the_asynchronous_clients_ask_without_discovery(broker: DevBroker, tenant: str, form: str) -> None:
    async def works() -> bool:
        client_id, secret = broker.env["AZURE_CLIENT_ID"], broker.env["AZURE_CLIENT_SECRET"]
        if form == "environment":
            credential = AsyncDefaultAzureCredential()
        else:
            credential = AsyncClientSecretCredential(tenant if form == "tenant" else form, client_id, secret)
        async with credential, AsyncSecretClient(broker.url, credential) as client:
            async for _ in client.list_properties_of_secrets():
                pass
        await asyncio.sleep(0.05)  # aiohttp closes its connections a little later.
        return True

    assert asyncio.run(works())


def test_a_wrong_secret_is_told_to_the_caller(broker: DevBroker) -> None:
    credential = ClientSecretCredential("adfs", broker.env["AZURE_CLIENT_ID"], "wrong")
    with credential, pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        credential.get_token("https://vault.azure.net/.default")


def test_another_tenant_is_refused_by_the_client_itself(broker: DevBroker) -> None:
    stranger = "00000000-0000-0000-0000-000000000001"
    credential = _secret(broker, stranger, disable_instance_discovery=True)
    with SecretClient(broker.url, credential) as client, credential, pytest.raises(ClientAuthenticationError):
        client.get_secret("n")
