"""``python -m dashboard``: the dashboard of a data directory, whether or not a daemon runs on it."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dashboard.composition import issue_link, open_keys
from dashboard.serving import Served, make_server
from dashboard.sessions import link_path
from dashboard.site import Options
from immune.api.auth import is_loopback
from immune.cli.output import DataDir, Json, Run, run_guarded
from immune.clock import Clock, SystemClock, elapsed_s
from immune.errors import InputError, RefusedError
from immune.settings import load_influx, load_settings

NICER_BY = 10
"""The dashboard steps back: a page may wait a moment, a tick may not."""
PARENT_LOOK_S = 1.0
FORMER_GONE_S = 3.0


def main(
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option("--port", help="Port, 0 for a free one (8711).", show_default=False)] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; others than the loopback only with --login.")] = "127.0.0.1",
    name: Annotated[list[str] | None, typer.Option("--name", help="A name by which people reach it, besides localhost.", show_default=False)] = None,
    run_id: Run = None,
    source: Annotated[str, typer.Option("--from", metavar="sqlite|influx", help="Where journal and measurements are read from.")] = "sqlite",
    login: Annotated[bool, typer.Option("--login", help="Looking needs a login, too; deciding always does.")] = False,
    behind_tls: Annotated[bool, typer.Option("--behind-tls", help="People come through https: cookies insist on it.")] = False,
    or_free: Annotated[bool, typer.Option("--or-free-port", help="Take a free port when the wanted one is taken.")] = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True, help="Stop when the process that started this is gone.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="immune.toml", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Fleet, incidents, approvals and journal in a browser. Example: python -m dashboard --data-dir .immune"""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("waitress").setLevel(logging.ERROR)
    settings = load_settings(config=config, data_dir=data_dir)
    if source not in ("sqlite", "influx"):
        raise InputError("not a source", field="--from", value=source, way_out="sqlite or influx")
    influx = load_influx(config=config) if source == "influx" else None
    if source == "influx" and influx is None:
        raise InputError("no InfluxDB is named", field="--from", value=source, way_out="set INFLUXDB_V2_URL, _ORG, _TOKEN and _BUCKET")
    clock = SystemClock()
    options = Options(
        data_dir=settings.data_dir,
        host=host,
        port=_port(port, settings.dashboard_port),
        run_id=run_id,
        login=login,
        hosts=frozenset(name or ()),
        secure=behind_tls,
        influx=influx,
        grafana_url=os.environ.get("IMMUNE_GRAFANA_URL", ""),
    )
    served = _served(options, clock, or_free)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: served.stop())
    if with_parent:
        _stop_with_parent(served)
    os.nice(NICER_BY)
    _welcome(served, clock, as_json)
    served.run()


def _port(flag: int | None, configured: int) -> int:
    return configured if flag is None else flag


def _served(options: Options, clock: Clock, or_free: bool) -> Served:
    waited_s = elapsed_s()
    while True:
        try:
            return make_server(options, clock)
        except RefusedError:
            if not or_free or not options.port or not is_loopback(options.host):
                raise
        if waited_s() > FORMER_GONE_S:
            return make_server(replace(options, port=0), clock)
        # the dashboard of a daemon that was killed notices within a second or two, and open pages know the old address
        threading.Event().wait(0.2)


def _stop_with_parent(served: Served) -> None:
    parent = os.getppid()

    def watch() -> None:
        while not served.site.closing.wait(PARENT_LOOK_S):
            if os.getppid() != parent:
                served.stop()
                return

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _welcome(served: Served, clock: Clock, as_json: bool) -> None:
    options = served.site.options
    token = open_keys(options.data_dir).admin_token()
    link = ""
    if token is not None and not as_json:
        link = served.url + link_path(issue_link(options.data_dir, "admin", token, clock.now_us()))
    if as_json:
        sys.stdout.write(json.dumps({"happened": "listening", "url": served.url, "data_dir": str(options.data_dir)}) + "\n")
        sys.stdout.flush()
        return
    sys.stderr.write(f"immune: dashboard on {served.url}\n")
    sys.stderr.write(
        f"immune: log in once within ten minutes: {link}\n" if link else "immune: no daemon has run here yet; start one and log in with its token\n"
    )
    sys.stderr.flush()


def command(arguments: list[str]) -> int:
    """The dashboard as a command: its exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    return run_guarded(app, arguments)


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
