"""The cases of `kill -9`: the point, and at the how manieth time that it is reached the broker dies."""

from __future__ import annotations

# Up to the moment that the CA has been told where to look.
EARLY = [
    ("operation.key.before", 1),
    ("operation.key.after", 1),
    ("acme.account.before", 1),
    ("acme.account.after-call", 1),
    ("acme.account.recorded", 1),
    ("governor.admit.before", 1),
    ("governor.admit.after", 1),
    ("acme.order.before", 1),
    ("acme.order.after-call", 1),
    ("acme.order.recorded", 1),
    ("acme.challenge.before", 1),
]

# From there to the end. The first settlement is that of an operation that begins to wait for the CA.
LATE = [
    ("acme.challenge.after-call", 1),
    ("acme.challenge.recorded", 1),
    ("acme.finalize.before", 1),
    ("acme.finalize.after-call", 1),
    ("acme.finalize.recorded", 1),
    ("acme.certificate.before", 1),
    ("acme.certificate.after-call", 1),
    ("governor.issued.before", 1),
    ("governor.issued.after", 1),
    ("acme.certificate.recorded", 1),
    ("operation.settle.before", 1),
    ("operation.settle.after", 1),
    ("operation.settle.before", 2),
    ("operation.settle.after", 2),
]

# Commits since the start. Which one it is depends on the course of events: they are spread over an issuance.
COMMITS = [
    ("store.before-commit", 9),
    ("store.after-commit", 11),
    ("store.before-commit", 17),
    ("store.after-commit", 19),
]

# Not on the way of a certificate; the tests of rotation arm each of them.
ROTATION = {"seal.reseal", *(f"seal.rotate.{step}" for step in ("make", "made", "batch", "destroy", "destroyed"))}

# Not on the way of a first certificate; the named tests arm each of them.
ELSEWHERE = {
    "acme.order.unreplaced": "tests/acme/test_replaces.py",
    **{
        f"acme.{act}.{step}": "tests/acme/test_account.py"
        for act in ("rollover", "deactivation")
        for step in ("before", "after-call", "recorded")
    },
    **{f"rotation.{when}": "tests/services/test_key_rotation.py" for when in ("before", "after")},
    **{f"revocation.{step}": "tests/faults/test_kill_revocation.py" for step in ("before", "after-call", "recorded")},
    **{
        f"discovery.{step}.{when}": "tests/services/test_discovery.py"
        for step in ("scan", "ask", "compare")
        for when in ("before", "after")
    },
    **{f"drill.{step}": "tests/services/test_drills.py" for step in ("plan.before", "ask.before", "ask.after")},
    **{
        f"publishing.{step}": "tests/publication/test_kill.py" for step in ("numbered", "signed", "stored", "published")
    },
    **{
        f"watch.{step}": "tests/faults/test_kill_watch.py"
        for step in (
            "fetch.before",
            "fetch.after-call",
            "fetch.recorded",
            "check.before",
            "check.after",
            "pass.before",
            "pass.after",
        )
    },
    "acme.abandon.before": "tests/acme/test_abandoning.py",
    "acme.abandon.after-call": "tests/acme/test_abandoning.py",
}

# On the way of a deployment: in the broker that makes it, and in the files and commands of whoever makes it.
DEPLOY = [
    "deploy.before",
    "deploy.after",
    "deploy.settle.before",
    "deploy.settle.after",
    "endpoint.look.before",
    "endpoint.look.after",
]
DEPLOYER = ["deploy.files.written", "deploy.files.switched", "deploy.command.before", "deploy.command.after"]

# On the way of a renewal that the CA asked for: the look at the certificate, then the operation.
LOOKS = [
    ("renewal.claim.before", 1),
    ("renewal.ask.before", 1),
    ("renewal.ask.after-call", 1),
    ("renewal.attend.before", 1),
    ("renewal.attend.after", 1),
]
RENEWAL = [
    ("operation.key.before", 1),
    ("operation.key.after", 1),
    ("acme.order.before", 1),
    ("acme.order.after-call", 1),
    ("acme.order.recorded", 1),
    ("acme.finalize.before", 1),
    ("acme.finalize.after-call", 1),
    ("acme.certificate.after-call", 1),
    ("operation.settle.before", 2),
    ("operation.settle.after", 2),
]

# On the way of a notification, and how often it may arrive when the broker dies there: once more only where it had been
# taken, and that was not yet on record.
NOTIFY = [
    ("notify.claim", 1, 1),
    ("notify.deliver.before", 1, 1),
    ("notify.deliver.before", 2, 1),
    ("notify.deliver.after-call", 1, 2),
    ("notify.settle.before", 1, 2),
    ("notify.settle.before", 2, 2),
    ("notify.settle.after", 1, 1),
]
