"""The operator's commands: `up`, `status`, `down`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from raychat.cluster.token import token_file, use_ray_token
from raychat.config import Placement, Settings
from raychat.errors import BadRequest


def add_to(app: App) -> None:
    """Put the operator's commands into the one command."""
    app.command(up)
    app.command(status)
    app.command(down)


def up(
    *,
    port: int | None = None,
    host: str | None = None,
    data: Path | None = None,
    gateways: int | None = None,
    hosts: int | None = None,
    placement: Placement | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    dashboard: Annotated[bool | None, Parameter(negative="--no-dashboard")] = None,
    dashboard_port: int | None = None,
    metrics_port: int | None = None,
    send_burst: int | None = None,
    send_per_second: float | None = None,
    log_level: str | None = None,
    json_output: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Run a server on this machine until Ctrl-C. It drains and loses nothing.

    Parameters
    ----------
    port
        Port of the gateways (default 8443; 0 takes a free one).
    host
        Address the gateways listen at (default 127.0.0.1).
    data
        Directory of the stores (default $XDG_DATA_HOME/raychat-server).
    gateways
        How many gateway processes share the port.
    hosts
        How many user hosts share the users (with --placement sharded).
    placement
        sharded: hosts share all users; dedicated: an actor per user.
    tls_cert
        Certificate chain (PEM); devices then connect with wss and https.
    tls_key
        Private key of the certificate (PEM).
    dashboard
        Start the Ray dashboard.
    dashboard_port
        Its port (default 8265).
    metrics_port
        Port of the Prometheus metrics (default: Ray chooses).
    send_burst
        Messages a device may send at once.
    send_per_second
        Messages a second a device may send in the long run.
    log_level
        debug, info, warning or error.
    json_output
        Print the addresses as one JSON object, and nothing else on stdout.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    given.pop("json_output")
    settings = _settings(given)
    use_ray_token(settings.data.expanduser().resolve())
    from raychat.cluster.launch import Server
    from raychat.gateway.actor import gateway_actor

    console = Console(stderr=json_output)
    stop = threading.Event()
    _set_on_signals(stop)
    with console.status("starting") as spinner:
        server = Server(settings, lambda text: spinner.update(f"{text} …"), gateway_actor)
        address = server.start()
    _set_on_signals(stop)  # Ray has put a handler of its own for SIGTERM, which just exits
    if json_output:
        print(json.dumps(address._asdict()), flush=True)
    else:
        _greet(console, settings, address.gateway, address.dashboard)
    _tail(settings.data.expanduser() / "console.txt", stop, console)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
    with console.status("stopping") as spinner:
        server.stop(lambda text: spinner.update(f"{text} …"))
    console.print("stopped; everything is kept in", str(settings.data), soft_wrap=True)
    return 0


def _settings(given: dict[str, Any]) -> Settings:
    """Raises BadRequest for values that cannot be, without repeating them: some are secrets."""
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = {}  # of what is tried in several ways, the last one's word
        for each in error.errors(include_input=False, include_url=False):
            wrong[str(each["loc"][0]) if each["loc"] else "providers"] = each["msg"]
        said = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        raise BadRequest(f"The settings are not valid: {said}.") from None


def _set_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


def _greet(console: Console, settings: Settings, gateway: str, dashboard: str | None) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("gateway", gateway)
    if dashboard:
        token = token_file(settings.data)
        table.add_row("dashboard", f"{dashboard}   (asks for the token in {token})")
    table.add_row("data", str(settings.data))
    table.add_row("placement", settings.placement.value)
    console.print("[bold]raychat is up[/bold]")
    console.print(table)
    server = "" if gateway.endswith(":8443") and "://127." in gateway else f" --server {gateway}"
    console.print(
        "\nIn another terminal:\n"
        f"  raychat register +15550001111{server}   the code appears here\n"
        "  raychat chat +15550002222\n"
        "Ctrl-C stops it.",
        highlight=False,
        soft_wrap=True,
    )


def _tail(path: Path, stop: threading.Event, console: Console) -> None:
    """Print what the console SMS provider writes, until it is time to stop."""
    position = path.stat().st_size if path.exists() else 0
    while not stop.wait(0.2):
        with contextlib.suppress(OSError), path.open() as file:
            file.seek(position)
            for line in file:
                console.print(f"[yellow]{line.rstrip()}[/yellow]", highlight=False)
            position = file.tell()


def _health(gateway: str) -> dict[str, Any]:
    """What the gateway says. As for a device, $RAYCHAT_TLS_CA names whom to believe."""
    url = f"{gateway}/health"
    try:
        trust = ssl.create_default_context(cafile=os.environ.get("RAYCHAT_TLS_CA"))
        with urllib.request.urlopen(url, timeout=5, context=trust) as answer:  # noqa: S310
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))
    except OSError as error:
        return {"status": "unreachable", "reason": type(error).__name__}


def status(
    *,
    data: Path | None = None,
    json_output: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Say whether a server runs on this data directory, and how it is. Exit 1 if it is not ok.

    Parameters
    ----------
    data
        Directory of the stores.
    json_output
        Print one JSON object.
    """
    from raychat.cluster.launch import running

    settings = Settings(data=data) if data else Settings()
    address = running(settings.data)
    health = _health(address.gateway)
    fields = {**health, **address._asdict(), "up_seconds": round(time.time() - address.started)}
    if json_output:
        print(json.dumps(fields))
    else:
        table = Table.grid(padding=(0, 2))
        for name, value in fields.items():
            if name != "started":
                table.add_row(name.replace("_", " "), str(value))
        Console().print(table)
    return 0 if health.get("status") == "ok" else 1


def down(*, data: Path | None = None) -> int:
    """Stop the server of this data directory. It drains first.

    Parameters
    ----------
    data
        Directory of the stores.
    """
    from raychat.cluster import launch

    settings = Settings(data=data) if data else Settings()
    launch.down(settings.data)
    print("stopped", file=sys.stderr)
    return 0
