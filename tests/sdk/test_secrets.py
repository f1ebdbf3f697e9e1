"""Azure's own client for secrets, unmodified."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient

pytestmark = pytest.mark.xdist_group("sdk")

FAR = datetime(3000, 1, 1, 8, tzinfo=UTC)
LONG_AGO = datetime(2015, 2, 2, 8, tzinfo=UTC)


@pytest.fixture
def client(connect: Callable[[type], Any]) -> SecretClient:
    return connect(SecretClient)


def test_a_secret_is_set_and_read_with_all_that_was_given(client: SecretClient, name: str) -> None:
    made = client.set_secret(
        name, "höchst geheim", content_type="text/plain", tags={"a": "1"}, not_before=LONG_AGO, expires_on=FAR
    )
    found = client.get_secret(name)

    assert "höchst geheim" == found.value == made.value
    assert (name, made.properties.version) == (found.name, found.properties.version)
    assert made.id == found.id == f"{client.vault_url}/secrets/{name}/{made.properties.version}"
    assert ("text/plain", {"a": "1"}, True) == (
        found.properties.content_type,
        found.properties.tags,
        found.properties.enabled,
    )
    assert (LONG_AGO, FAR) == (found.properties.not_before, found.properties.expires_on)
    assert client.vault_url == found.properties.vault_url
    assert ("Recoverable+Purgeable", 90) == (
        found.properties.recovery_level,
        found.properties.recoverable_days,
    )
    assert found.properties.key_id is None
    assert found.properties.managed is None


def test_each_version_keeps_its_value(client: SecretClient, name: str) -> None:
    first = client.set_secret(name, "one")
    second = client.set_secret(name, "two")

    assert "one" == client.get_secret(name, first.properties.version).value
    assert "two" == client.get_secret(name).value
    assert sorted([first.properties.version, second.properties.version]) == [
        each.version for each in client.list_properties_of_secret_versions(name)
    ]


def test_an_update_changes_what_it_names_and_replaces_the_tags(client: SecretClient, name: str) -> None:
    made = client.set_secret(name, "value", content_type="old", tags={"a": "1", "b": "2"}, expires_on=FAR)
    time.sleep(1.1)
    changed = client.update_secret_properties(name, tags={"c": "3"}, content_type="new")

    assert ("new", {"c": "3"}, FAR) == (changed.content_type, changed.tags, changed.expires_on)
    assert made.properties.version == changed.version
    assert made.properties.created_on == changed.created_on
    assert made.properties.updated_on < changed.updated_on
    assert "value" == client.get_secret(name).value


def test_a_disabled_secret_cannot_be_read_until_it_is_enabled_again(client: SecretClient, name: str) -> None:
    client.set_secret(name, "value", enabled=False)

    with pytest.raises(HttpResponseError, match="disabled") as refusal:
        client.get_secret(name)

    assert 403 == refusal.value.status_code
    assert not next(iter(client.list_properties_of_secret_versions(name))).enabled

    client.update_secret_properties(name, enabled=True)

    assert "value" == client.get_secret(name).value


def test_listing_goes_over_pages(client: SecretClient, name: str) -> None:
    names = [f"{name}-{number}" for number in range(7)]
    for each in names:
        client.set_secret(each, each)
    pages = [[each.name for each in page] for page in client.list_properties_of_secrets(max_page_size=2).by_page()]

    assert all(len(page) == 2 for page in pages[:-1])
    assert names == [each for page in pages for each in page if each.startswith(name)]
    assert set(names) <= {each.name for each in client.list_properties_of_secrets()}


def test_versions_are_listed_over_pages(client: SecretClient, name: str) -> None:
    versions = {client.set_secret(name, str(number)).properties.version for number in range(5)}
    listed = [each.version for each in client.list_properties_of_secret_versions(name, max_page_size=2)]

    assert sorted(versions) == listed


def test_versions_of_a_secret_that_never_was_are_none(client: SecretClient, name: str) -> None:
    assert [] == list(client.list_properties_of_secret_versions(name))


def test_a_deleted_secret_can_be_recovered(client: SecretClient, name: str) -> None:
    made = client.set_secret(name, "value", tags={"a": "1"})
    deleted = client.begin_delete_secret(name).result()

    assert (name, made.id) == (deleted.name, deleted.id)
    assert f"{client.vault_url}/deletedsecrets/{name}" == deleted.recovery_id
    assert 90 == (deleted.scheduled_purge_date - deleted.deleted_date).days
    with pytest.raises(ResourceNotFoundError, match="not found"):
        client.get_secret(name)
    with pytest.raises(ResourceExistsError, match="recoverable"):
        client.set_secret(name, "other")
    assert deleted.deleted_date == client.get_deleted_secret(name).deleted_date
    assert name in {each.name for each in client.list_deleted_secrets(max_page_size=3)}

    recovered = client.begin_recover_deleted_secret(name).result()

    assert (made.properties.version, {"a": "1"}) == (recovered.version, recovered.tags)
    assert "value" == client.get_secret(name).value
    assert name not in {each.name for each in client.list_deleted_secrets()}


def test_a_purged_secret_is_gone_and_its_name_is_free(client: SecretClient, name: str) -> None:
    client.set_secret(name, "value")
    client.begin_delete_secret(name).wait()
    client.purge_deleted_secret(name)

    with pytest.raises(ResourceNotFoundError):
        client.get_deleted_secret(name)
    with pytest.raises(ResourceNotFoundError):
        client.begin_recover_deleted_secret(name)
    assert "again" == client.set_secret(name, "again").value
    assert 1 == len(list(client.list_properties_of_secret_versions(name)))


def test_a_backup_brings_every_version_back_as_it_was(client: SecretClient, name: str) -> None:
    client.set_secret(name, "one", expires_on=FAR)
    client.set_secret(name, "two", content_type="text/plain", tags={"a": "1"})
    before = [_facts(each) for each in client.list_properties_of_secret_versions(name)]
    blob = client.backup_secret(name)

    with pytest.raises(ResourceExistsError):
        client.restore_secret_backup(blob)

    client.begin_delete_secret(name).wait()
    client.purge_deleted_secret(name)
    time.sleep(1.1)
    restored = client.restore_secret_backup(blob)

    assert "two" == client.get_secret(name).value
    assert "text/plain" == restored.content_type
    assert before == [_facts(each) for each in client.list_properties_of_secret_versions(name)]


@pytest.mark.parametrize("name", ["no_underscores", "no.dots", "x" * 128, "umläut"])
def test_a_name_that_is_not_allowed_is_refused(client: SecretClient, name: str) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        client.set_secret(name, "value")

    assert 400 == refusal.value.status_code


def test_large_values_are_kept_and_too_large_ones_refused(client: SecretClient, name: str) -> None:
    client.set_secret(name, "x" * 25 * 1024)

    assert 25 * 1024 == len(client.get_secret(name).value)
    with pytest.raises(HttpResponseError) as refusal:
        client.set_secret(name, "x" * (25 * 1024 + 1))
    assert 400 == refusal.value.status_code


def _facts(properties: Any) -> tuple[Any, ...]:
    return (
        properties.version,
        properties.created_on,
        properties.updated_on,
        properties.expires_on,
        properties.content_type,
        properties.tags,
    )
