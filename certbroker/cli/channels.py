"""`certbroker channel`: who is told what happens in a vault, and how."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from certbroker.cli.client import CommandFailed, ExitCode
from certbroker.cli.options import Enabled, Yes, confirm, first_line, present
from certbroker.cli.output import last, when
from certbroker.cli.paths import Place, at
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)

_MAIL, _WEBHOOK, _APPRISE, _ANY = "Mail", "Webhook", "Apprise", "Any kind"
_TEST_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5

ChannelName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the channel.")]


def _file(text: str, panel: str) -> Any:
    return typer.Option(metavar="FILE", exists=True, dir_okay=False, help=text, rich_help_panel=panel)


@app.command("set")
@vault_command
def set_channel(
    session: Session,
    name: ChannelName,
    *,
    kind: Annotated[
        str | None,
        typer.Option(
            help="mail, webhook, apprise, or one that was installed. Without it only events and enabled change."
        ),
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Mail address; may be repeated.", rich_help_panel=_MAIL)
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where events are posted to.", rich_help_panel=_WEBHOOK)] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="cloudevents or eventgrid.", rich_help_panel=_WEBHOOK)
    ] = None,
    handshake: Annotated[
        str | None,
        typer.Option(help="required, or none for a receiver of yours that has none.", rich_help_panel=_WEBHOOK),
    ] = None,
    key_file: Annotated[Path | None, _file("The key that signs events is its first line.", _WEBHOOK)] = None,
    authorization_file: Annotated[
        Path | None, _file("The value of the Authorization header is its first line.", _WEBHOOK)
    ] = None,
    url_file: Annotated[
        Path | None, _file("The URL, which holds a token, is its first line. Also of a webhook.", _APPRISE)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any other setting; may be repeated.", rich_help_panel=_ANY),
    ] = None,
    secret_file: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=FILE", help="Any other secret, as a first line; repeatable.", rich_help_panel=_ANY),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="A type of event, or '*'; may be repeated. Default: by kind."),
    ] = None,
    enabled: Enabled = None,
) -> None:
    """Configure a channel, or replace all of its settings. Without --kind: change its events, enable or disable it."""
    settings = present(to=", ".join(to) if to else None, url=url, format=form, handshake=handshake)
    files = present(key=key_file, authorization=authorization_file, url=url_file)
    for each in setting or []:
        key, value = _pair(each, "--setting")
        settings[key] = value
    for each in secret_file or []:
        key, value = _pair(each, "--secret-file")
        files[key] = Path(value)
    changed = present(events=event or None, attributes=present(enabled=enabled) or None)
    if kind is None:
        if settings or files:
            raise typer.BadParameter(
                "Settings and secrets are all replaced together: give --kind.", param_hint="--kind"
            )
        session.output.done(f"channel {name} is changed.", session.vault.patch(_path(name), changed))
        return
    secrets = {key: first_line(Path(str(path))) for key, path in files.items()}
    found = session.vault.put(_path(name), {"kind": kind, "settings": settings, "secrets": secrets, **changed})
    session.output.done(f"channel {name} is set. Try it: certbroker channel test {name}", found)


@app.command("list")
@vault_command
def list_channels(session: Session) -> None:
    """List the channels, and how they are."""
    columns = {
        "name": lambda item: last(item["id"]),
        "kind": lambda item: item["kind"],
        "status": lambda item: item["health"]["status"],
        "waiting": lambda item: item["waiting"] or None,
        "dead letters": lambda item: item["dead_letters"] or None,
        "reason": lambda item: item["health"].get("reason"),
    }
    session.output.listing(session.vault.items(at("channels")), columns, "No channels.")


@app.command()
@vault_command
def show(session: Session, name: ChannelName) -> None:
    """Show a channel; its secrets cannot be shown."""
    channel = session.vault.get(_path(name))
    session.output.record(channel, lambda: _rows(channel))


@app.command()
@vault_command
def delete(session: Session, name: ChannelName, *, yes: Yes = False) -> None:
    """Delete a channel, with what waits for it and its dead letters."""
    confirm(f"Delete the channel {name} with all that waits for it?", yes=yes)
    session.output.done(f"channel {name} is deleted.", session.vault.delete(_path(name)))


@app.command()
@vault_command
def test(session: Session, name: ChannelName) -> None:
    """Send a test through a channel, and wait for what becomes of it."""
    delivery = session.vault.post(_path(name, "test"))
    path = _path(name, "deliveries", delivery["id"])
    deadline = time.monotonic() + _TEST_SECONDS
    while delivery["outcome"] == "waiting" and not delivery["attempts"] and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        delivery = session.vault.get(path)
    problem = delivery.get("problem")
    if delivery["outcome"] != "delivered":
        raise CommandFailed(
            ExitCode.REFUSED, problem or f"It was not tried within {_TEST_SECONDS:.0f} seconds.", "NotDelivered"
        )
    session.output.done(problem or f"channel {name} works.", delivery)


@app.command("dead-letters")
@vault_command
def dead_letters(session: Session, name: ChannelName) -> None:
    """List what could not be delivered."""
    columns = {
        "id": lambda item: item["id"],
        "event": lambda item: item["type"].rpartition(".")[2],
        "object": lambda item: item["object_name"],
        "time": lambda item: when(item["time"]),
        "attempts": lambda item: item["attempts"],
        "problem": lambda item: item.get("problem"),
    }
    session.output.listing(session.vault.items(_path(name, "dead-letters")), columns, "No dead letters.")


@app.command()
@vault_command
def retry(
    session: Session,
    name: ChannelName,
    event: Annotated[str | None, typer.Argument(metavar="[ID]", help="One dead letter; all otherwise.")] = None,
) -> None:
    """Have dead letters delivered after all."""
    done = session.vault.post(_path(name, "dead-letters", "retry"), present(id=event))
    count = done["retried"]
    session.output.done(f"{count} dead letter{'s are' if count != 1 else ' is'} tried again.", done)


def _path(name: str, *more: str) -> Place:
    return at("channels", name, *more)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not of the form KEY=…", param_hint=option)
    return key, value


def _rows(channel: dict[str, Any]) -> dict[str, object]:
    health, attributes = channel["health"], channel["attributes"]
    return {
        "name": last(channel["id"]),
        "kind": channel["kind"],
        "settings": [f"{key}={value}" for key, value in channel["settings"].items()],
        "secrets": ", ".join(channel["secrets"]),
        "events": channel["events"],
        "enabled": attributes["enabled"],
        "status": health["status"],
        "reason": health.get("reason"),
        "last success": when(health.get("last_success")),
        "failing since": when(health.get("failing_since")),
        "waiting": channel["waiting"] or None,
        "dead letters": channel["dead_letters"] or None,
        "updated": when(attributes["updated"]),
    }
