"""Finding the broker, signing in, exit codes, output, and the administration of the broker."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request

import pytest

from tests.support.command_line import CommandLine

pytestmark = pytest.mark.xdist_group("cli")


@pytest.mark.parametrize(
    ("environment", "status", "said"),
    [
        ({"AZURE_CLIENT_SECRET": "wrong"}, 4, "invalid_client"),
        ({"AZURE_CLIENT_SECRET": ""}, 2, "AZURE_CLIENT_SECRET is not set"),
        ({"AZURE_TENANT_ID": "unknown"}, 2, "Tenant 'unknown' not found"),
        ({"AZURE_AUTHORITY_HOST": "http://127.0.0.1"}, 2, "not an https URL"),
        ({"AZURE_AUTHORITY_HOST": "https://127.0.0.1:9"}, 3, "127.0.0.1:9 cannot be reached"),
        ({"KEYVAULT_URL": ""}, 2, "KEYVAULT_URL"),
        ({"KEYVAULT_URL": "http://127.0.0.1"}, 2, "not an https URL"),
        ({"KEYVAULT_URL": "https://127.0.0.1:9"}, 3, "127.0.0.1:9 cannot be reached"),
        ({"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": ""}, 3, "is not trusted"),
        ({"SSL_CERT_FILE": "/nonexistent"}, 2, "cannot be read"),
        ({"CERTBROKER_OUTPUT": "yaml"}, 2, "yaml"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_exit_code(
    certbroker: CommandLine, environment: dict[str, str], status: int, said: str
) -> None:
    done = certbroker("secret", "list", env=environment)

    assert status == done.status, done.err
    assert said in done.err
    assert "" == done.out
    if "CERTBROKER_OUTPUT" not in environment:
        assert 1 == len(done.err.splitlines())
        assert done.err.startswith("certbroker: ")


def test_what_is_not_there_and_what_is_not_allowed_have_codes_of_their_own(certbroker: CommandLine) -> None:
    application = certbroker.json("identity", "create", "reader")
    secret = certbroker.json("identity", "add-secret", "reader", "--days", "7")["secret"]
    certbroker.ok("identity", "grant", "reader", "Key Vault Reader", "--scope", "/vaults/demo")
    reader = {"AZURE_CLIENT_ID": application["id"], "AZURE_CLIENT_SECRET": secret}

    assert 0 == certbroker("secret", "list", env=reader).status
    denied = certbroker("secret", "set", "x", "y", env=reader)
    assert 4 == denied.status
    assert "ForbiddenByRbac" in denied.err
    assert 4 == certbroker("vault", "list", env=reader).status
    assert 5 == certbroker("secret", "get", "no-such-secret").status
    assert 1 == certbroker("secret", "set", "no_such_name", "x").status
    assert 2 == certbroker("secret", "frobnicate").status


def test_identities_and_roles_are_administered(certbroker: CommandLine) -> None:
    certbroker.ok("identity", "create", "service")
    printed = certbroker.ok("identity", "add-secret", "service")
    secrets = certbroker.json("identity", "secrets", "service")
    given = certbroker.json(
        "identity", "grant", "service", "Key Vault Secrets User", "--scope", "/vaults/demo/secrets/a"
    )

    assert 1 == len(printed.out.splitlines())
    assert "shown only now" in printed.err
    assert "Key Vault Secrets User" in certbroker.ok("identity", "roles").out
    assert "/vaults/demo/secrets/a" in certbroker.ok("identity", "assignments").out
    certbroker.ok("identity", "revoke", given["id"])
    assert given["id"] not in certbroker.ok("identity", "assignments").out
    certbroker.ok("identity", "remove-secret", "service", secrets[0]["id"])
    assert [] == certbroker.json("identity", "secrets", "service")
    certbroker.ok("identity", "disable", "service")
    assert not _application(certbroker, "service")["enabled"]
    certbroker.ok("identity", "enable", "service")
    assert _application(certbroker, "service")["enabled"]
    certbroker.ok("identity", "delete", "service", "--yes")
    assert "service" not in certbroker.ok("identity", "list").out


def test_a_vault_is_made_and_found_by_its_name(certbroker: CommandLine) -> None:
    certbroker.ok("vault", "create", "staging", "--soft-delete-days", "7", "--purge-protection")

    certbroker.ok("secret", "set", "only-here", "x", "--vault", "staging")

    assert 7 == certbroker.json("vault", "show", "staging")["soft_delete_days"]
    assert "staging" in certbroker.ok("vault", "list").out
    assert ["only-here"] == [item["id"].rpartition("/")[2] for item in
                             certbroker.json("secret", "list", "--vault", "staging")]  # fmt: skip
    port = certbroker.broker.port
    named = {"KEYVAULT_URL": f"https://demo.vault.localhost:{port}", "CERTBROKER_ADMIN_URL": ""}
    assert "only-here" in certbroker("secret", "list", "--vault", "staging", env=named).out
    assert 5 == certbroker("secret", "list", "--vault", "nowhere").status
    assert 5 == certbroker("vault", "show", "nowhere").status


def test_it_works_in_a_python_of_its_own(certbroker: CommandLine) -> None:
    listed = certbroker.process("vault", "list", "-o", "json")
    wrong = certbroker.process("secret", "get", "no-such-secret")

    assert "demo" in [vault["name"] for vault in listed.json()]
    assert 5 == wrong.status
    assert "certbroker: SecretNotFound: " in wrong.err


def test_listings_are_followed_over_all_pages(certbroker: CommandLine) -> None:
    certbroker.ok("vault", "create", "paged")
    wanted = [f"secret-{number:02}" for number in range(30)]
    context = ssl.create_default_context(cafile=str(certbroker.broker.ca_path))
    environment = certbroker.broker.env
    form = (
        f"grant_type=client_credentials&client_id={environment['AZURE_CLIENT_ID']}"
        f"&client_secret={environment['AZURE_CLIENT_SECRET']}&scope=https://vault.azure.net/.default"
    )
    token = _post(f"{environment['AZURE_AUTHORITY_HOST']}/adfs/oauth2/v2.0/token", form.encode(), {}, context)
    headers = {
        "Authorization": f"Bearer {token['access_token']}",
        "Content-Type": "application/json",
        "Host": f"paged.vault.localhost:{certbroker.broker.port}",
    }
    for name in wanted:
        _post(f"{certbroker.broker.url}/secrets/{name}?api-version=7.6", b'{"value":"x"}', headers, context, "PUT")

    listed = certbroker.json("secret", "list", "--vault", "paged")

    assert wanted == [item["id"].rpartition("/")[2] for item in listed]
    assert 31 == len(certbroker.ok("secret", "list", "--vault", "paged").out.splitlines())
    assert listed == certbroker.json(
        "secret", "list", "--vault-url", f"https://PAGED.VAULT.LOCALHOST:{certbroker.broker.port}"
    )


def test_data_cannot_steer_the_terminal(certbroker: CommandLine) -> None:
    certbroker.ok("secret", "set", "hostile", "x", "--tag", "a=\x1b[2J[bold]b[/bold]")

    listed = certbroker.ok("secret", "list").out

    assert "\x1b" not in listed
    assert "[bold]b[/bold]" in listed


def test_help_imports_no_server(certbroker: CommandLine) -> None:
    """What is slow to import would make every command slow."""
    code = (
        "import sys, certbroker.cli as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('sqlalchemy', 'granian', 'httpx', 'starlette', 'cryptography', 'pydantic')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert "Exit codes: 0 done" in done.stdout
    assert [] == json.loads(done.stdout.splitlines()[-1].replace("'", '"'))


def _application(certbroker: CommandLine, name: str) -> dict[str, object]:
    return next(item for item in certbroker.json("identity", "list") if item["name"] == name)


def _post(
    url: str, body: bytes, headers: dict[str, str], context: ssl.SSLContext, method: str = "POST"
) -> dict[str, str]:
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, context=context, timeout=20) as reply:
        return json.load(reply)
