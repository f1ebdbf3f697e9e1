"""`certbroker drill`: how everything from one issuer would be replaced, and having it done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from certbroker.cli.options import Yes, confirm
from certbroker.cli.output import Columns, when
from certbroker.cli.paths import Place, at, within
from certbroker.cli.session import Session, vault_command

if TYPE_CHECKING:
    from certbroker.cli.client import Client

_PAUSE: Final = 1.0
_OVER: Final = ("planned", "done", "stopped")

_Issuer = Annotated[str | None, typer.Option(metavar="NAME", help="Whose certificates are to be replaced.")]
_All = Annotated[bool, typer.Option("--all-vaults", help="In all vaults; needs --admin-url and Broker Administrator.")]
_Perform = Annotated[bool, typer.Option("--perform", help="Replace them. Without it nothing is changed.")]
_Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record and for those who are told.")]
_NewKey = Annotated[bool, typer.Option("--new-key", help="Make new keys also where policies keep them.")]
_Batch = Annotated[int | None, typer.Option(min=1, metavar="N", help="How many may be in the making at a time.")]
_Show = Annotated[str | None, typer.Option("--show", metavar="ID", help="Go on watching a drill, or see its report.")]
_Stop = Annotated[str | None, typer.Option("--stop", metavar="ID", help="Ask for no more replacements.")]
_List = Annotated[bool, typer.Option("--list", help="List drills.")]
_Certificates = Annotated[
    str | None,
    typer.Option(
        "--certificates",
        metavar="STATE",
        help="With --show: list those in a state: ready, asked, failing, replaced, person, late or all.",
    ),
]
_NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is over; it goes on by itself.")]

_DRILLS: Columns = {
    "id": lambda item: item["id"],
    "issuer": lambda item: item["issuer"],
    "vault": lambda item: item.get("vault", "all"),
    "stage": lambda item: item["stage"],
    "perform": lambda item: item["perform"],
    "started": lambda item: when(item["started"]),
    "ended": lambda item: when(item.get("ended")),
    "reason": lambda item: item.get("reason"),
}
_CERTIFICATES: Columns = {
    "vault": lambda item: item.get("vault"),
    "certificate": lambda item: item["name"],
    "state": lambda item: item["state"],
    "expected": lambda item: when(item.get("expected")),
    "reason": lambda item: item.get("reason"),
}
_STANDBY: Columns = {
    "vault": lambda item: item.get("vault"),
    "standby issuer": lambda item: item["issuer"],
    "state": lambda item: item["state"],
    "for certificates": lambda item: item["certificates"],
}


@vault_command
def drill(
    session: Session,
    *,
    issuer: _Issuer = None,
    all_vaults: _All = False,
    perform: _Perform = False,
    reason: _Reason = None,
    new_key: _NewKey = False,
    batch: _Batch = None,
    show: _Show = None,
    stop: _Stop = None,
    list_them: _List = False,
    certificates: _Certificates = None,
    no_wait: _NoWait = False,
    yes: Yes = False,
) -> None:
    """Show how everything from one issuer would be replaced, or with --perform replace it. Exit code 6: some need a
    person, or fail.
    """
    client, base = (session.administration, at("admin", "drills")) if all_vaults else (session.vault, at("drills"))
    if list_them:
        return session.output.listing(client.get(base)["value"], _DRILLS, "No drills.")
    if stop is not None:
        found = client.post(within(base, stop, "stop"))
        return session.output.done(f"drill {stop} asks for no more replacements.", found)
    if show is not None and certificates is not None:
        query = {} if certificates == "all" else {"state": certificates}
        items = client.items(within(base, show, "certificates"), **query)
        return session.output.listing(items, _CERTIFICATES, "None.")
    if show is None:
        if issuer is None:
            raise typer.BadParameter("Name the issuer whose certificates are to be replaced.", param_hint="--issuer")
        if perform:
            where = "all vaults" if all_vaults else "this vault"
            confirm(f"Replace all certificates of {issuer} in {where} now?", yes=yes)
        body = {"issuer": issuer, "perform": perform, "new_key": new_key, "reason": reason or ""}
        found = client.post(base, body if batch is None else body | {"batch": batch})
    else:
        found = client.get(within(base, show))
    if not no_wait:
        found = _watch(session, client, base, found)
    session.output.record(found, lambda: _summary(found))
    if not session.output.is_json:
        _lists(session, found)
    counts = found["certificates"]
    if counts["person"] or counts["failing"]:
        from certbroker.cli.client import ExitCode

        raise typer.Exit(int(ExitCode.NEEDS_PERSON))
    return None


def _watch(session: Session, client: Client, base: Place, found: dict[str, Any]) -> dict[str, Any]:
    """The drill once it is over, or once all that is left fails and is tried again."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[detail]}"))  # fmt: skip
    with Progress(*columns, console=session.output.notes, transient=True) as progress:
        task = progress.add_task("planning", total=None, detail="")
        try:
            while found["stage"] not in _OVER and not _only_failing(found):
                time.sleep(_PAUSE)
                found = client.get(within(base, found["id"]))
                counts = found["certificates"]
                if found["stage"] == "planning":
                    progress.update(task, detail=f"{counts['total']} looked at")
                    continue
                detail = f"{counts['asked']} in the making"
                detail += f", {counts['failing']} fail" if counts["failing"] else ""
                detail += f", {found['rate']:.1f}/s" if "rate" in found else ""
                progress.update(
                    task,
                    description="replacing",
                    total=counts["total"] - counts["person"],
                    completed=counts["replaced"],
                    detail=detail,
                )
        except KeyboardInterrupt:
            session.output.note(f"The drill goes on. See it by certbroker drill --show {found['id']}.")
            raise
    return found


def _only_failing(found: dict[str, Any]) -> bool:
    counts = found["certificates"]
    return found["stage"] == "replacing" and counts["failing"] > 0 and not counts["ready"] + counts["asked"]


def _summary(found: dict[str, Any]) -> dict[str, object]:
    counts, estimate = found["certificates"], found.get("estimate", {})
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count and state != "total")
    pace = f"{estimate.get('seconds_each')} s each"
    pace += f", as {estimate['measured']} of them took" if estimate.get("measured") else ", as nothing is known of it"
    return {
        "drill": found["id"],
        "issuer": found["issuer"] + (f" in {found['vault']}" if "vault" in found else " in all vaults"),
        "stage": found["stage"],
        "certificates": f"{counts['total']}: {states}" if counts["total"] else "none",
        "of these": ", ".join(f"{count} {kind}" for kind, count in found.get("kinds", {}).items()),
        "replaced in": f"{found['seconds']} s, {found['rate']}/s" if "rate" in found else None,
        "pace": pace if estimate else None,
        "would be replaced by": when(estimate.get("finished")),
        "later than 24 hours": estimate.get("after_24_hours"),
        "later than 5 days": estimate.get("after_5_days"),
        "held back by": estimate.get("held_back_by"),
        "ended": when(found.get("ended")),
    }


def _lists(session: Session, found: dict[str, Any]) -> None:
    for title, label, columns in (
        ("Standby issuers", "standby", _STANDBY),
        ("Need a person", "needs_person", _CERTIFICATES),
    ):
        if found.get(label):
            session.output.heading(title)
            session.output.listing(found[label], columns, "")
    if found["certificates"]["failing"]:
        session.output.note(f"What fails, and why: certbroker drill --show {found['id']} --certificates failing")
