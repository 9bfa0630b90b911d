"""The first minutes with InfluxDB: whatever a newcomer sets wrong, the command says which setting it is and the way out, and shows no token."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from immune.settings import InfluxSettings
from immune.stores.influx.administer import look
from tests.influx_kit import ORG, TOKEN

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.influx

WRONG = {
    "the token": ({"INFLUXDB_V2_TOKEN": "s3cret-and-wrong"}, "INFLUXDB_V2_TOKEN", "give a token of that server"),
    "no token": ({"INFLUXDB_V2_TOKEN": ""}, "INFLUXDB_V2_TOKEN", "give a token of that server"),
    "the host": ({"INFLUXDB_V2_URL": "http://no-such-host.invalid:8086"}, "INFLUXDB_V2_URL", "check the name of the host"),
    "nobody there": ({"INFLUXDB_V2_URL": "http://127.0.0.1:9"}, "INFLUXDB_V2_URL", "start InfluxDB there"),
    "the bucket": ({"INFLUXDB_V2_BUCKET": "nowhere"}, "INFLUXDB_V2_BUCKET", "immune influx setup"),
    "the organisation": ({"INFLUXDB_V2_ORG": "nobody"}, "INFLUXDB_V2_ORG", "name"),
}
COMMANDS = {
    "setup": ["-m", "immune", "influx", "setup", "--json"],
    "check": ["-m", "immune", "influx", "check", "--json"],
    "doctor": ["-m", "immune", "doctor", "--json"],
    "demo": ["demo.py", "--influx", "--json", "--headless", "--speed", "max", "--duration", "20", "--agents", "3", "--out", "{out}"],
}
LEFT_OUT = {("setup", "the bucket"), ("check", "the organisation"), ("demo", "no token"), ("demo", "the host")}
"""Not wrong there: setup makes the bucket, and InfluxQL, which check asks in, knows only the token's organisation. The demo asks as doctor does."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    command = ["demo.py", "--headless", "--speed", "max", "--duration", "20", "--agents", "3", "--out", str(folder)]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder


@pytest.mark.parametrize(("what", "how"), [(what, how) for how in COMMANDS for what in WRONG if (how, what) not in LEFT_OUT])
def test_a_newcomer_is_told_which_setting_is_wrong_and_the_way_out(influx_server, recorded, tmp_path, what, how):
    setting, field, way_out = WRONG[what]
    target = influx_server.target("first")
    right = {"INFLUXDB_V2_URL": target.url, "INFLUXDB_V2_ORG": target.org, "INFLUXDB_V2_TOKEN": target.token, "INFLUXDB_V2_BUCKET": target.bucket}
    wrong = {**os.environ, **right, "IMMUNE_DATA_DIR": str(recorded), **setting}
    command = [part.format(out=tmp_path / "out") for part in COMMANDS[how]]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=wrong, check=False, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == (1 if how == "doctor" else 2 if (how, what) == ("setup", "the organisation") else 3), said
    assert field in said
    assert way_out in said
    assert "Traceback" not in said
    assert target.token not in said
    assert "s3cret-and-wrong" not in said
    assert not (tmp_path / "out").exists(), "a demo that insists on InfluxDB does not begin without it"


def test_what_answers_but_is_no_influxdb_is_said_to_be_none():
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = look(InfluxSettings(url=f"http://127.0.0.1:{server.server_port}", org=ORG, token=TOKEN, bucket="b"), 0)
    server.shutdown()
    server.server_close()
    assert "no InfluxDB 2" in found.error
    assert "without a path" in found.mend
