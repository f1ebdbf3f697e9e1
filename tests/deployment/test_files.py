"""Files with certificates and keys are replaced whole and together, by whoever is killed whenever."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from certbroker.deploy import LocalDeployer, Target
from certbroker.domain.deployment import Material, read_material
from certbroker.domain.errors import Invalid
from certbroker.ports.deployer import Deployer, DeploymentFailed
from tests.support.certificates import Authority, Identity, self_signed, weak_rsa_key
from tests.support.failpoints import DEPLOYER

FILES = {"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"}


def material(identity: Identity | None = None) -> Material:
    return read_material("demo", "www", "0" * 32, (identity or Authority().issue()).pem())


def deployer(target: Target) -> LocalDeployer:
    deployer = LocalDeployer("www", "demo", "www", target)
    as_port: Deployer = deployer
    assert as_port
    return deployer


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def serial(chain: str | bytes) -> int:
    return x509.load_pem_x509_certificate(chain if isinstance(chain, bytes) else chain.encode()).serial_number


def matches(chain: bytes, key: bytes) -> bool:
    return x509.load_pem_x509_certificate(chain).public_key() == load_pem_private_key(key, None).public_key()


def test_a_directory_gets_the_files_that_servers_know_from_certbot(tmp_path: Path) -> None:
    identity = Authority("Issuing CA", Authority("Root")).issue()
    where = tmp_path / "live" / "www"
    deployer(Target(directory=where)).deploy(material(identity))

    chain = x509.load_pem_x509_certificates((where / "fullchain.pem").read_bytes())
    assert FILES == {path.name for path in where.iterdir() if not path.name.startswith(".")}
    assert list(identity.chain) == chain
    assert (where / "fullchain.pem").read_text() == (where / "cert.pem").read_text() + (where / "chain.pem").read_text()
    assert matches((where / "cert.pem").read_bytes(), (where / "privkey.pem").read_bytes())
    assert (0o700, 0o600) == (mode(where), mode((where / "privkey.pem").resolve()))
    assert 0o644 == mode((where / "fullchain.pem").resolve())


def test_one_file_holds_all_in_the_order_that_haproxy_reads(tmp_path: Path) -> None:
    made = material()
    target = Target(combined=tmp_path / "www.pem", pfx=tmp_path / "www.pfx", mode="0640")
    deployer(target).deploy(made)
    text = (tmp_path / "www.pem").read_text()
    key, certificate, others = pkcs12.load_key_and_certificates((tmp_path / "www.pfx").read_bytes(), None)

    assert made.fullchain + made.key == text
    assert (0o640, 0o640) == (mode(tmp_path / "www.pem"), mode(tmp_path / "www.pfx"))
    assert key is not None
    assert certificate is not None
    assert certificate.serial_number == serial(made.cert)
    assert 1 == len(others)
    assert {"www.pem", "www.pfx"} == {path.name for path in tmp_path.iterdir()}


def test_what_is_there_already_is_left_alone_and_what_was_changed_is_put_right(tmp_path: Path) -> None:
    made = material()
    target = deployer(Target(directory=tmp_path / "www", combined=tmp_path / "www.pem"))

    assert target.write(made)
    before = (tmp_path / "www" / ".current").readlink()
    assert not target.write(made)
    assert before == (tmp_path / "www" / ".current").readlink()
    (tmp_path / "www" / "privkey.pem").resolve().write_text("altered")
    (tmp_path / "www.pem").chmod(0o644)
    assert target.write(made)
    assert made.key == (tmp_path / "www" / "privkey.pem").read_text()
    assert 0o600 == mode(tmp_path / "www.pem")


def test_a_reader_never_sees_half_of_a_file_or_a_key_beside_another_certificate(tmp_path: Path) -> None:
    """Whoever opens a set by its link reads one version, however often it is replaced meanwhile."""
    target, authority = deployer(Target(directory=tmp_path / "www", combined=tmp_path / "www.pem")), Authority()
    target.write(material(authority.issue()))
    versions = [material(authority.issue()) for _ in range(20)]
    seen: list[bool] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                place = os.open(tmp_path / "www" / ".current", os.O_RDONLY)
                chain, key = (
                    os.read(os.open(name, os.O_RDONLY, dir_fd=place), 65536)
                    for name in ("fullchain.pem", "privkey.pem")
                )
            except FileNotFoundError:
                continue  # It was opened two versions ago.
            text = (tmp_path / "www.pem").read_bytes()
            seen.append(matches(chain, key) and matches(text, text[text.index(b"-----BEGIN PRIVATE") :]))

    thread = threading.Thread(target=read)
    thread.start()
    for each in versions:
        target.write(each)
    stop.set()
    thread.join()

    assert seen
    assert all(seen)
    assert 2 == len(list((tmp_path / "www").glob(".set-*")))


@pytest.mark.parametrize("point", DEPLOYER)
def test_who_is_killed_while_he_deploys_leaves_one_version_whole(tmp_path: Path, point: str) -> None:
    authority = Authority()
    old, new = authority.issue(), authority.issue()
    log = tmp_path / "ran"
    note = f"import os; open({str(log)!r}, 'a').write(os.environ['CERTBROKER_SHA256'])"
    command = (sys.executable, "-I", "-c", note)
    target = Target(directory=tmp_path / "www", combined=tmp_path / "www.pem", command=command)
    deployer(target).deploy(material(old))
    log.unlink()
    (tmp_path / "new.pem").write_text(new.pem())
    script = (
        "import sys; from pathlib import Path; from certbroker.deploy import LocalDeployer, Target; "
        "from certbroker.domain.deployment import read_material; p = Path(sys.argv[1]); "
        "t = Target(directory=p / 'www', combined=p / 'www.pem', command=tuple(sys.argv[2:])); "
        "m = read_material('demo', 'www', '0' * 32, (p / 'new.pem').read_text()); "
        "LocalDeployer('www', 'demo', 'www', t).deploy(m)"
    )
    dead = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), *command],
        env=os.environ | {"CERTBROKER_FAILPOINT": f"{point}:1:kill"},
        check=False,
        timeout=60,
    )
    where, combined = tmp_path / "www", (tmp_path / "www.pem").read_bytes()
    left = serial((where / "fullchain.pem").read_bytes())
    whole = matches((where / "fullchain.pem").read_bytes(), (where / "privkey.pem").read_bytes())
    deployer(target).deploy(material(new))

    assert -signal.SIGKILL == dead.returncode
    assert whole
    assert matches(combined, combined[combined.index(b"-----BEGIN PRIVATE") :])
    assert left in (old.certificate.serial_number, new.certificate.serial_number)
    assert new.certificate.serial_number == serial((where / "fullchain.pem").read_bytes())
    assert new.certificate.serial_number == serial((tmp_path / "www.pem").read_bytes())
    assert log.read_text().endswith(material(new).sha256)
    assert {"www", "www.pem", "new.pem", "ran"} == {path.name for path in tmp_path.iterdir()}
    assert len(list(where.glob(".set-*"))) <= 2


def test_what_somebody_else_has_put_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "privkey.pem").write_text("theirs")

    with pytest.raises(DeploymentFailed, match=r"privkey\.pem is there and is not ours"):
        deployer(Target(directory=tmp_path / "www")).deploy(material())
    assert "theirs" == (tmp_path / "www" / "privkey.pem").read_text()


def test_where_everybody_may_write_nothing_is_put(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www").chmod(0o777)

    for target in (Target(directory=tmp_path / "www"), Target(combined=tmp_path / "www" / "all.pem")):
        with pytest.raises(DeploymentFailed, match="Everybody may write into"):
            deployer(target).deploy(material())


def test_a_link_that_waits_under_the_name_of_a_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / ".all.pem.certbroker").symlink_to(victim)
    (tmp_path / "www" / "all.pem").symlink_to(victim)
    deployer(Target(combined=tmp_path / "www" / "all.pem")).deploy(material())

    assert "theirs" == victim.read_text()
    assert not (tmp_path / "www" / "all.pem").is_symlink()


def test_what_cannot_be_written_says_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DeploymentFailed, match=r"file/www cannot be written: File exists"):
        deployer(Target(directory=tmp_path / "file" / "www")).deploy(material())
    with pytest.raises(DeploymentFailed, match="no such user or group here"):
        deployer(Target(directory=tmp_path / "www", owner="nobody-of-that-name")).deploy(material())


def test_a_key_that_may_not_leave_or_that_fits_no_certificate_is_refused() -> None:
    authority = Authority()
    one, other = authority.issue(), authority.issue()

    with pytest.raises(Invalid, match="set exportable in its policy"):
        read_material("demo", "www", "0" * 32, "".join(one.pem().partition("-----BEGIN CERTIFICATE")[1:]))
    with pytest.raises(Invalid):
        read_material("demo", "www", "0" * 32, one.key_pem() + other.pem()[len(other.key_pem()) :])
    with pytest.raises(Invalid):
        read_material("demo", "www", "0" * 32, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "at least one of"),
        ({"directory": Path("relative")}, "directory is an absolute path"),
        ({"directory": Path("/")}, "directory is an absolute path"),
        ({"combined": Path("/etc/../x")}, "combined is an absolute path"),
        ({"command": ("reload",)}, "absolute path of a program"),
        ({"directory": Path("/x"), "mode": "0644"}, "others could read or change the key"),
        ({"directory": Path("/x"), "mode": "0660"}, "others could read or change the key"),
        ({"directory": Path("/x"), "mode": "0200"}, "others could read or change the key"),
        ({"directory": Path("/x"), "mode": "rw"}, "octal"),
        ({"directory": Path("/x"), "reload": "apache"}, "reload is nginx, haproxy"),
        ({"directory": Path("/x"), "reload": "systemd:"}, "reload is nginx, haproxy"),
        ({"directory": Path("/x"), "reload": "systemd:a b"}, "reload is nginx, haproxy"),
        ({"directory": Path("/x"), "timeout": 601.0}, "timeout is at most"),
    ],
)
def test_what_cannot_work_is_refused_with_its_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Target(**wrong)  # type: ignore[arg-type]


def test_commands_get_the_names_that_certbot_has_and_ours_and_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTBROKER_SEAL__PASSPHRASE", "hunter2")
    out = tmp_path / "environment"
    command = (sys.executable, "-I", "-c", f"open({str(out)!r}, 'w').write(repr(dict(__import__('os').environ)))")
    made = material()
    deployer(Target(directory=tmp_path / "www", command=command, environment={"TOKEN": "t0ken"})).deploy(made)
    seen = eval(out.read_text())

    assert (str(tmp_path / "www"), "www.example.com") == (seen["RENEWED_LINEAGE"], seen["RENEWED_DOMAINS"])
    assert ("demo", "www", "0" * 32, made.sha256, "t0ken") == tuple(
        seen[name]
        for name in ("CERTBROKER_VAULT", "CERTBROKER_CERTIFICATE", "CERTBROKER_VERSION", "CERTBROKER_SHA256", "TOKEN")
    )
    assert "hunter2" not in out.read_text()


def test_a_command_that_fails_is_quoted_without_the_key_and_without_its_own_secrets(tmp_path: Path) -> None:
    script = "import os, sys; print(open(sys.argv[1]).read(), os.environ['TOKEN'], 'no such server'); sys.exit(3)"
    command = (sys.executable, "-I", "-c", script, str(tmp_path / "www.pem"))
    made = material(self_signed(weak_rsa_key()))

    with pytest.raises(DeploymentFailed) as failed:
        deployer(Target(combined=tmp_path / "www.pem", command=command, environment={"TOKEN": "t0ken"})).deploy(made)

    text = str(failed.value)
    assert "ended with status 3" in text
    assert "no such server" in text
    assert "t0ken" not in text
    assert not any(line in text for line in made.key.splitlines() if not line.startswith("-"))


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    command = (sys.executable, "-I", "-c", "import time; time.sleep(60)")

    with pytest.raises(DeploymentFailed, match=r"did not end within 0\.5 seconds"):
        deployer(Target(combined=tmp_path / "www.pem", command=command, timeout=0.5)).deploy(material())


def test_servers_are_reloaded_by_their_own_programs_and_nginx_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("nginx", "systemctl"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/ran\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for reload in ("nginx", "haproxy", "systemd:my@www.service"):
        deployer(Target(combined=tmp_path / "www.pem", reload=reload)).deploy(material())

    assert [
        "nginx -t -q",
        "nginx -s reload",
        "systemctl reload haproxy",
        "systemctl try-reload-or-restart my@www.service",
    ] == (tmp_path / "ran").read_text().splitlines()
