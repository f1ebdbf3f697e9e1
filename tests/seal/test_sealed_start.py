import shutil
from pathlib import Path

import pytest

from certbroker.keystore import seal_keys
from tests.support.serving import Installation
from tests.support.softhsm import SoftToken, TokenFolder


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of a broker that has been started before, so that it has a certificate."""
    made = Installation(tmp_path_factory.mktemp("started"))
    start_once(made)
    return made.data


@pytest.fixture
def installation(tmp_path: Path, started: Path) -> Installation:
    shutil.copytree(started, tmp_path / "data")
    return Installation(tmp_path)


def start_once(installation: Installation) -> None:
    with installation.serve() as broker:
        broker.wait("ok")
        assert broker.stop() == 0


def test_a_broker_without_its_key_says_so_and_opens_by_itself_when_the_key_is_back(installation: Installation) -> None:
    key = installation.data / "seal.key"
    elsewhere = key.rename(key.with_name("elsewhere"))
    with installation.serve() as broker:
        health = broker.wait("sealed")
        ready = broker.get("/readyz")
        refused = broker.get("/secrets/a?api-version=7.6", host="demo.vault.localhost")
        own = broker.get("/metadata/endpoints")
        elsewhere.rename(key)
        broker.wait("ok")
        opened = broker.get("/readyz"), broker.get("/secrets/a?api-version=7.6", host="demo.vault.localhost")

        assert f"{key} does not exist" in health["reason"]
        assert (503, "sealed") == (ready.status_code, ready.json()["status"])
        assert (503, 503) == (refused.status_code, own.status_code)
        assert "ServiceUnavailable" == refused.json()["error"]["code"]
        assert str(key) not in refused.text
        assert all(1 <= int(each.headers["retry-after"]) <= 30 for each in (ready, refused, own))
        assert [200, 401] == [each.status_code for each in opened]
        assert 0 == broker.stop()


def test_a_sealed_broker_tells_no_vault_why_and_ends_when_it_is_told_to(installation: Installation) -> None:
    (installation.data / "seal.key").unlink()
    with installation.serve() as broker:
        broker.wait("sealed")
        answer = broker.get("/healthz", host="demo.vault.localhost")

        assert (503, "ServiceUnavailable") == (answer.status_code, answer.json()["error"]["code"])
        assert 0 == broker.stop()


def test_a_wrong_key_is_named_together_with_the_right_one(installation: Installation) -> None:
    key = installation.data / "seal.key"
    right = seal_keys.from_file(key).id
    elsewhere = key.rename(key.with_name("elsewhere"))
    wrong = seal_keys.create_file(key).id
    with installation.serve() as broker:
        reason = broker.wait("sealed")["reason"]
        elsewhere.replace(key)
        broker.wait("ok")

        assert right in reason
        assert wrong in reason


def test_a_key_file_that_is_open_to_others_is_not_used_until_it_is_closed(installation: Installation) -> None:
    key = installation.data / "seal.key"
    key.chmod(0o644)
    with installation.serve() as broker:
        reason = broker.wait("sealed")["reason"]
        key.chmod(0o600)
        broker.wait("ok")

        assert f"chmod 600 {key}" in reason


def test_a_first_start_without_a_key_ends_with_the_reason(tmp_path: Path) -> None:
    with Installation(tmp_path, '[seal]\ncredential = "seal"').serve() as broker:
        assert 2 == broker.process.wait(60)
        assert "LoadCredential=" in broker.log.read_text()


def test_a_wrong_passphrase_does_not_open(tmp_path: Path) -> None:
    installation = Installation(tmp_path, "", {"CERTBROKER_SEAL__PASSPHRASE": "correct horse battery"})
    start_once(installation)
    with installation.serve(CERTBROKER_SEAL__PASSPHRASE="correct horse battery!") as broker:
        reason = broker.wait("sealed")["reason"]

        assert "is sealed with the seal key" in reason
        assert "horse" not in reason + broker.log.read_text()


@pytest.fixture
def hsm_installation(tmp_path: Path, token: SoftToken, tokens: TokenFolder) -> Installation:
    made = Installation(tmp_path / "broker", environment={"SOFTHSM2_CONF": str(tokens.configuration)})
    made.configure(pkcs11(token, tmp_path))
    return made


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFolder:
    return TokenFolder(tmp_path / "softhsm")


@pytest.fixture
def token(tokens: TokenFolder) -> SoftToken:
    return tokens.make()


def pkcs11(token: SoftToken, folder: Path) -> str:
    pin = folder / "pin"
    pin.write_text(token.pin + "\n")
    pin.chmod(0o600)
    return f'[seal.pkcs11]\nmodule = "{token.module}"\ntoken = "{token.label}"\npin_file = "{pin}"'


def test_a_token_that_comes_late_opens_the_broker(hsm_installation: Installation, tmp_path: Path) -> None:
    start_once(hsm_installation)
    token = next((tmp_path / "softhsm" / "tokens").iterdir())
    away = token.rename(tmp_path / "away")
    with hsm_installation.serve() as broker:
        reason = broker.wait("sealed")["reason"]
        away.rename(token)
        broker.wait("ok")

        assert "has no token with the label" in reason
        assert not (hsm_installation.data / "seal.key").exists()


def test_a_refused_pin_is_not_tried_again_and_again(hsm_installation: Installation, tmp_path: Path) -> None:
    start_once(hsm_installation)
    pin = tmp_path / "pin"
    right = pin.read_text()
    pin.write_text("not-the-pin")
    with hsm_installation.serve() as broker:
        broker.wait("sealed")
        while "could lock the token" not in broker.wait("sealed")["reason"]:
            pass
        pin.write_text(right)
        broker.wait("ok")

        assert 1 == broker.log.read_text().count("refuses the PIN")
        assert "not-the-pin" not in broker.log.read_text()


def test_a_broker_moves_from_a_file_to_a_token(
    hsm_installation: Installation, token: SoftToken, tmp_path: Path
) -> None:
    hsm_installation.configure("")
    start_once(hsm_installation)
    config = str(hsm_installation.config)
    hsm_installation.configure(pkcs11(token, tmp_path) + "\n[seal.previous]\n")
    made = [hsm_installation.run("seal", "init", "--config", config) for _ in range(2)]
    moved = hsm_installation.run("seal", "migrate", "--config", config)
    (hsm_installation.data / "seal.key").unlink()
    hsm_installation.configure(pkcs11(token, tmp_path))
    with hsm_installation.serve() as broker:
        broker.wait("ok")

        assert ["has been made" in each.stderr for each in made] == [True, False]
        assert 0 == moved.returncode
        assert "are under the seal key pkcs11-" in moved.stderr
