"""F42: secrets are planted in every place that configuration has for one, and then looked for in everything that can be read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0
PLANTED = {
    "INFLUXDB_V2_TOKEN": "planted-influx-token-5fd1",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer planted-otel-header-77aa,x-key=planted-otel-key-1b2c",
    "IMMUNE_TOKEN": "planted-cli-token-00e1",
    "HOOK_SECRET": "planted-webhook-secret-8c3e",
    "NOTIFY_SECRET": "planted-notify-secret-6b1d",
    "NOTIFY_URL": "http://127.0.0.1:9/services/planted-notify-path-93ea?token=planted-notify-token-0c7f",
}
PASSWORD, WRONG = "planted password 3141", "planted wrong password 2718"
PATHS = """healthz readyz metrics openapi.json nowhere v1/status v1/agents v1/agents/a-1 v1/incidents v1/approvals v1/plans v1/containments
    v1/tasks v1/runs v1/why/a-1 v1/memory v1/gate/a-1"""
COMMANDS = [
    "journal export",
    "journal tail",
    "journal verify",
    "doctor",
    "status",
    "tokens",
    "people",
    "agents",
    "runs",
    "memory",
    "why a-1",
    "journal backup {data}/copy.db",
]
CONFIG = """
[[webhook]]
agents = ["*"]
url = "http://127.0.0.1:9/hook?key=planted-query-key-41c2"
secret_env = "HOOK_SECRET"
allow_loopback = true

[[notify]]
name = "on-call"
kind = "webhook"
url_env = "NOTIFY_URL"
secret_env = "NOTIFY_SECRET"
allow_loopback = true
"""
SECRET = re.compile(r"planted[- ]\S+|planted (?:wrong )?password \d+")


def secrets_in(text: str) -> set[str]:
    return set(SECRET.findall(text))


class Running:
    """A real daemon with secrets in its environment."""

    def __init__(self, folder: Path, config_text: str = CONFIG) -> None:
        self.folder = folder
        config = folder / "immune.toml"
        config.write_text(config_text)
        environment = {**os.environ, **PLANTED, "IMMUNE_PORT": "0"}
        environment.pop("IMMUNE_DATA_DIR", None)
        self.environment = {**environment, "OTEL_SDK_DISABLED": "true"}
        self.data = folder / "data"
        self.cli("people", "add", "ada", "--role", "operator", "--password-stdin", stdin=PASSWORD + "\n")
        self.log = (folder / "log.txt").open("w+")
        arguments = [sys.executable, "-m", "immune", "run", "--data-dir", str(self.data), "--mode", "act", "--config", str(config)]
        self.process = subprocess.Popen(arguments, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "immune", *arguments, "--data-dir", str(self.data)]
        return subprocess.run(command, cwd=ROOT, env=self.environment, input=stdin, capture_output=True, text=True, timeout=WAIT_S, check=False)

    def wait(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while not (self.data / "daemon.json").exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return (self.folder / "log.txt").read_text()

    def ask(self, method: str, path: str, body: object = None, token: str | None = None) -> str:
        url = json.loads((self.data / "daemon.json").read_text())["url"] + path
        token = token if token is not None else (self.data / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, method=method, headers=headers, data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                return response.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)

    def look_at_the_dashboard(self, run_id: str) -> tuple[dict[str, str], set[str]]:
        """Everything that the dashboard shows or lets one download to somebody with a password; and the secrets of that session."""
        arguments = [sys.executable, "-m", "dashboard", "--data-dir", str(self.data), "--port", "0", "--json"]
        log = (self.folder / "dashboard.txt").open("w+")
        process = subprocess.Popen(arguments, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            url = json.loads(process.stdout.readline())["url"]
            cookies = urllib.request.HTTPCookieProcessor()
            opener = urllib.request.build_opener(cookies)

            def ask(path: str, body: object = None, method: str = "GET", **headers: str) -> str:
                sent = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(
                    url + urllib.parse.quote(path, safe="/?=&"), method=method, data=sent, headers={"Content-Type": "application/json", **headers}
                )
                try:
                    with opener.open(request, timeout=WAIT_S) as response:
                        return response.read().decode("utf-8", "replace")
                except urllib.error.HTTPError as error:
                    return error.read().decode("utf-8", "replace")

            seen = {"wrong log-in": ask("/api/login", {"name": "ada", "password": WRONG}, "POST")}
            session = json.loads(ask("/api/login", {"name": "ada", "password": PASSWORD}, "POST"))
            seen["act"] = ask("/api/agents/a-2/report", {"reason": "odd again"}, "POST", **{"X-CSRF-Token": session["csrf"]})
            incidents = [one["id"] for one in json.loads(ask("/api/incidents"))["incidents"]]
            paths = [path for path, methods in json.loads(ask("/openapi.json"))["paths"].items() if "get" in methods and path != "/api/stream"]
            assert len(paths) > 30
            for path in paths:
                for instead in ("a-1", run_id, *incidents) if "{" in path else ("",):
                    told = re.sub(r"\{[^}]*\}", instead, path)
                    seen[told] = ask(told)
                    if path.startswith("/api/") and "{" not in path:
                        seen[told + "?format=csv"] = ask(told + "?format=csv")
            stored = [row["token"] for row in json.loads((self.data / "dashboard.sessions").read_text())["sessions"]]
            return seen, {*(cookie.value for cookie in cookies.cookiejar), *stored}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S)
            process.stdout.close()
            log.close()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)
        self.log.close()


@pytest.mark.crash
@pytest.mark.fault("F42")
def test_no_planted_secret_comes_out_anywhere(tmp_path):
    running = Running(tmp_path)
    outputs: dict[str, str] = {}
    try:
        running.wait()
        admin = (running.data / "admin.token").read_text().strip()
        for agent in ("a-1", "a-2"):
            outputs[f"vitals {agent}"] = running.ask("POST", "/v1/vitals", {"samples": [{"agent": agent, "latency_ms": 5}]})
        running.until(lambda: '"a-2"' in running.ask("GET", "/v1/agents"))
        outputs["contain"] = running.ask("POST", "/v1/agents/a-1/contain", {"level": "isolated", "reason": "to call the webhook"})
        outputs["login"] = running.ask("POST", "/v1/login", {"name": "ada", "password": WRONG}, token="")
        session = json.loads(running.ask("POST", "/v1/login", {"name": "ada", "password": PASSWORD}, token=""))["token"]
        outputs["as ada"] = running.ask("POST", "/v1/agents/a-2/report", {"reason": "odd"}, token=session)
        outputs["stale"] = running.ask("GET", "/v1/agents", token=PLANTED["IMMUNE_TOKEN"])
        outputs["odd token"] = running.ask("POST", "/v1/stop", {"reason": admin[:4]}, token="imm_admin_planted-odd-token-6f6f")
        running.until(lambda: "a-1 is not held as ordered: 127.0.0.1: cannot connect" in running.ask("GET", "/v1/status"))
        for path in PATHS.split():
            outputs[path] = running.ask("GET", "/" + path)
        run_id = json.loads(outputs["v1/status"])["run"]["run_id"]
        shown, of_the_session = running.look_at_the_dashboard(run_id)
        outputs |= {f"dashboard {path}": text for path, text in shown.items()}
    finally:
        running.stop()
    for command in COMMANDS:
        done = running.cli(*command.format(data=running.data).split())
        outputs[command] = done.stdout + done.stderr
    outputs["log"] = running.said()
    outputs["the dashboard's log"] = (tmp_path / "dashboard.txt").read_text()
    # nobody listens at the channel's address: its failure is said, the address is not
    command = [sys.executable, "-m", "immune", "notify", "test", "--config", str(tmp_path / "immune.toml")]
    tried = subprocess.run(command, cwd=ROOT, env=running.environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
    outputs["notify test"] = tried.stdout + tried.stderr
    assert "on-call" in outputs["notify test"]
    assert "cannot be reached" in outputs["notify test"]
    assert "control API" in outputs["log"]
    assert '"a-1"' in outputs["v1/agents/a-1"]
    assert "to call the webhook" in outputs["dashboard /api/agents/a-1"]
    assert run_id in outputs[f"dashboard /runs/{run_id}/report"]
    assert "a-1," in outputs["dashboard /api/agents?format=csv"]

    def leaked(texts: dict[str, str]) -> dict[str, set[str]]:
        found = {place: secrets_in(text) | {one for one in (admin, session, *of_the_session) if one in text} for place, text in texts.items()}
        return {place: secrets for place, secrets in found.items() if secrets}

    assert leaked(outputs) == {}
    kept = {path.name: path.read_bytes().decode("utf-8", "replace") for path in running.data.rglob("*") if path.is_file()}
    # what lets people in is kept for its owner alone, and nowhere else
    for name in ("admin.token", "dashboard.sessions"):
        assert (running.data / name).stat().st_mode & 0o077 == 0
        assert secrets_in(kept.pop(name)) == set()
    assert leaked(kept) == {}
    assert all(path.stat().st_mode & 0o077 == 0 for path in running.data.rglob("*") if path.suffix in {".token", ".json", ".db"})


@pytest.mark.crash
@pytest.mark.fault("F42")
def test_an_address_with_a_password_in_it_is_refused_without_telling_it(tmp_path):
    running = Running(tmp_path, CONFIG.replace("127.0.0.1:9", "user:planted-url-password-9d4b@127.0.0.1:9"))
    assert running.process.wait(WAIT_S) == 2
    running.log.close()
    assert "credentials" in running.said()
    assert secrets_in(running.said()) == set()
