"""Everything from one issuer is replaced, from the command line."""

from __future__ import annotations

from tests.support.command_line import CommandLine


def test_a_drill_is_simulated_performed_and_reported(certbroker: CommandLine) -> None:
    certbroker.ok("vault", "create", "drilled")
    vault = ("--vault", "drilled")
    for name in ("one", "two"):
        certbroker.ok("certificate", "create", name, "--issuer", "Self", "--dns", f"{name}.example", "--wait", *vault)
    before = certbroker.json("certificate", "show", "one", *vault)["id"]
    simulated = certbroker.ok("drill", "--issuer", "Self", *vault)
    unconfirmed = certbroker("drill", "--issuer", "Self", "--perform", *vault)
    same = certbroker.json("certificate", "show", "one", *vault)["id"]
    done = certbroker.json("drill", "--issuer", "Self", "--perform", "--yes", "--reason", "An exercise.", *vault)
    listed = certbroker.json("drill", "--show", done["id"], "--certificates", "replaced", *vault)

    for part in ("2: 2 ready", "in drilled", "planned", "would be replaced by"):
        assert part in simulated.out
    assert 2 == unconfirmed.status
    assert before == same
    assert ("done", 2, 0) == (done["stage"], done["certificates"]["replaced"], done["certificates"]["failing"])
    assert before != certbroker.json("certificate", "show", "one", *vault)["id"]
    assert ["one", "two"] == [each["name"] for each in listed]
    assert 2 == len(certbroker.json("drill", "--list", *vault))
    assert "asks for no more" in certbroker.ok("drill", "--stop", done["id"], *vault).err
    assert 5 == certbroker("drill", "--issuer", "nowhere", *vault).status
    assert 2 == certbroker("drill", *vault).status
