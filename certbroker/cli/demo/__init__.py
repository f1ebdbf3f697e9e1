"""`certbroker demo`: see it work, on this machine only."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from certbroker.cli.output import fail

# Of what is written to a file, where lines wrap for nobody.
_WIDTH = 120


def demo() -> None:
    """Show every route to a certificate, with a broker and a test CA on this machine.

    Then it tells how to connect, and serves until Ctrl-C. With DEMO_EXIT=1 it ends after the walk, with exit
    code 1 if a step failed.
    """
    try:
        import pebble.hook
    except ImportError:
        fail(
            "",
            "The demo needs the test CA's launcher, which is only in a checkout: clone it, and run `make demo` there.",
        )
        raise typer.Exit(2) from None

    from rich.console import Console

    from certbroker.cli.demo.stage import Stage, StageError
    from certbroker.cli.demo.telling import tell_how_to_connect
    from certbroker.cli.demo.walk import Walk

    # Everything is on this machine; a proxy would not find it.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,.localhost"
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _leave)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    leave_at_once = os.environ.get("DEMO_EXIT") == "1"
    try:
        with (
            tempfile.TemporaryDirectory(prefix="certbroker-demo-") as directory,
            Stage(Path(directory), Path(pebble.hook.__file__)) as stage,
        ):
            stage.set_up(console)
            with stage.connect() as connection:
                complete = Walk(stage, connection, console).all()
            if not leave_at_once:
                tell_how_to_connect(stage, console)
                stage.serve()
            stage.tear_down(console)
    except StageError as error:
        fail("", str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left behind.")
        raise typer.Exit(0 if not leave_at_once else 130) from None
    raise typer.Exit(0 if complete else 1)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through every `finally`, so that no child stays."""
    raise SystemExit(128 + number)
