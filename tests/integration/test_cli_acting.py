"""Commands that act: what they send, what they show, and how they end when they are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from immune.cli import acting, app
from immune.cli.client import connect, refusal
from immune.cli.output import harmless, run_guarded
from immune.core import acts
from immune.core import events as ev
from immune.core.events import Draft
from immune.errors import InputError, RefusedError, UnknownIdError, UnreachableError
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.telemetry_sqlite import SqliteTelemetry

TOKEN = "imm_admin_of-some-thirty-two-random-bytes"
HASH = "ab" * 32
NOW_US = 1_767_225_600_000_000
MINUTE_US = 60_000_000


class Daemon:
    """A control API that answers as told and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.asked: list[tuple[str, str, dict, dict]] = []
        self.drops = 0
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.respond()

            def do_POST(self) -> None:
                self.respond()

            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                daemon.asked.append((self.command, self.path, json.loads(body or b"{}"), dict(self.headers)))
                if daemon.drops:
                    daemon.drops -= 1
                    self.close_connection = True
                    return
                status, document = daemon.answers.get(self.path, (200, {"events": ["e17"]}))
                content = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if 300 <= status < 400:
                    self.send_header("Location", daemon.url + "/elsewhere")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def refuses(self, path: str, status: int, **problem: object) -> None:
        self.answers[path] = (status, {"title": "No", "status": status, **problem})

    def told(self) -> tuple[str, dict]:
        """Path and body of the newest POST."""
        return next((path, body) for method, path, body, _ in reversed(self.asked) if method == "POST")


@pytest.fixture(scope="module")
def server() -> Iterator[Daemon]:
    daemon = Daemon()
    thread = threading.Thread(target=daemon.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield daemon
    daemon.server.shutdown()
    daemon.server.server_close()
    thread.join()


@pytest.fixture
def daemon(server, tmp_path, monkeypatch) -> Daemon:
    server.answers.clear()
    server.asked.clear()
    server.drops = 0
    (tmp_path / "daemon.json").write_text(json.dumps({"url": server.url}))
    (tmp_path / "admin.token").write_text(TOKEN + "\n")
    monkeypatch.setenv("IMMUNE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("IMMUNE_TOKEN", raising=False)
    return server


@pytest.fixture
def immune(capsys):
    """Runs a command: (exit code, stdout, stderr with line breaks taken out)."""

    def run(*words: str) -> tuple[int, str, str]:
        code = run_guarded(app, list(words))
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        return code, said.out, " ".join(said.err.split())

    return run


REQUEST = {
    "id": "req-0001", "about": "plan", "subject": "writer-3", "status": "pending", "severity": 8.5, "rule": "approvals.severity_at", "level": "none",
    "plan_hash": HASH, "expires_at": "2026-01-01T00:15:00Z", "reason": None, "decided_by": None,
    "plan": {"steps": [{"action": "reset_agent", "summary": "Restart it.", "tier": 3, "reversible": False, "undo": None}], "skipped": []},
    "incident": {"diagnosis": [{"kind": "token_explosion", "confidence": 0.93}]},
}  # fmt: skip

COMMANDS = [
    (
        ("contain", "writer-3", "--level", "isolated", "--reason", "spends"),
        "/v1/agents/writer-3/contain",
        {"level": "isolated", "reason": "spends"},
    ),
    (
        ("contain", "press", "--scope", "service", "--level", "throttled", "--reason", "x"),
        "/v1/containments",
        {"scope": "service", "target": "press", "level": "throttled", "reason": "x"},
    ),
    (("release", "writer-3", "--reason", "well"), "/v1/agents/writer-3/release", {"reason": "well"}),
    (("release", "fleet", "--reason", "well"), "/v1/containments/fleet/release", {"reason": "well"}),
    (("heal", "writer-3"), "/v1/agents/writer-3/heal", {"now": False, "dry_run": False}),
    (("heal", "writer-3", "--now"), "/v1/agents/writer-3/heal", {"now": True, "dry_run": False}),
    (("heal", "writer-3", "--dry-run"), "/v1/agents/writer-3/heal", {"now": False, "dry_run": True}),
    (("enroll", "w", "--type", "writer", "--service", "press"), "/v1/agents", {"id": "w", "type": "writer", "service": "press"}),
    (("retire", "writer-3"), "/v1/agents/writer-3/retire", {}),
    (("report", "writer-3", "--reason", "odd"), "/v1/agents/writer-3/report", {"reason": "odd"}),
    (("feedback", "inc-1", "--false-alarm"), "/v1/incidents/inc-1/feedback", {"verdict": "false_alarm"}),
    (("feedback", "inc-1", "--new-normal", "--reason", "v2"), "/v1/incidents/inc-1/feedback", {"verdict": "new_normal", "reason": "v2"}),
    (("feedback", "inc-1", "--cause", "a loop"), "/v1/incidents/inc-1/feedback", {"verdict": "cause", "cause": "a loop"}),
    (
        ("announce", "--cohort", "version=2", "--until", "2026-02-01T00:00:00Z"),
        "/v1/announcements",
        {"cohort": "version=2", "until": "2026-02-01T00:00:00.000000Z"},
    ),
    (
        ("announce", "--cohort", "version=2", "--until", "1769904000"),
        "/v1/announcements",
        {"cohort": "version=2", "until": "2026-02-01T00:00:00.000000Z"},
    ),
    (
        ("mute", "writer-3", "--until", "2026-02-01T00:00:00Z", "--vital", "latency_ms", "--reason", "load test"),
        "/v1/agents/writer-3/mute",
        {"vital": "latency_ms", "until": "2026-02-01T00:00:00.000000Z", "reason": "load test"},
    ),
    (("stop", "--fleet", "--reason", "wrong", "--yes"), "/v1/stop", {"reason": "wrong"}),
    (("approvals", "undo", "req-0001"), "/v1/approvals/req-0001/undo", {}),
    (("approvals", "approve", "req-0001"), "/v1/approvals/req-0001/decision", {"decision": "approve", "plan_hash": HASH}),
    (
        ("approvals", "approve", "req-0001", "--plan-hash", "other"),
        "/v1/approvals/req-0001/decision",
        {"decision": "approve", "plan_hash": "other"},
    ),
    (
        ("approvals", "reject", "req-0001", "--reason", "no"),
        "/v1/approvals/req-0001/decision",
        {"decision": "reject", "plan_hash": HASH, "reason": "no"},
    ),
]
NAMES = [" ".join(words) for words, _, _ in COMMANDS]
SOME, SOME_NAMES = COMMANDS[::4], NAMES[::4]


@pytest.mark.parametrize(("words", "path", "body"), COMMANDS, ids=NAMES)
def test_a_command_tells_the_daemon_and_ends_with_0(daemon, immune, words, path, body):
    daemon.answers["/v1/approvals/req-0001"] = (200, REQUEST)
    code, out, _ = immune(*words)
    assert code == 0
    assert daemon.told() == (path, body)
    assert out.strip()


@pytest.mark.parametrize(("words", "path", "body"), SOME, ids=SOME_NAMES)
def test_with_json_there_is_one_document_on_stdout_and_nothing_else(daemon, immune, words, path, body):
    daemon.answers["/v1/approvals/req-0001"] = (200, REQUEST)
    code, out, err = immune(*words, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["events"] == ["e17"]


EXIT_CODES = [
    (status, code) for code, statuses in {2: (400, 404, 413, 422), 4: (401, 403, 409, 410, 412, 429), 3: (500, 503)}.items() for status in statuses
]


@pytest.mark.parametrize(("status", "exit_code"), EXIT_CODES)
def test_every_status_has_its_exit_code(status, exit_code):
    error = refusal(status, {"detail": "it is so; do that", "field": "level", "way_out": "do that"})
    assert error.exit_code == exit_code
    assert str(error) == "level: it is so; do that"
    assert str(status) in str(refusal(status, {}))


@pytest.mark.parametrize(("status", "exit_code"), [(404, 2), (409, 4), (503, 3)])
def test_a_refusal_ends_with_its_exit_code_and_says_why(daemon, immune, status, exit_code):
    daemon.refuses("/v1/agents/writer-3/retire", status, detail="it is so; do that", field="level", value="'odd'", way_out="do that")
    code, out, err = immune("retire", "writer-3")
    assert (code, out) == (exit_code, "")
    assert "level: it is so" in err
    assert err.count("do that") == 1
    code, out, _ = immune("retire", "writer-3", "--json")
    assert code == exit_code
    assert {"what": "it is so", "field": "level", "way_out": "do that"}.items() <= json.loads(out).items()


def test_a_plan_that_is_not_the_one_that_waits_is_refused(daemon, immune):
    daemon.answers["/v1/approvals/req-0001"] = (200, REQUEST)
    daemon.refuses("/v1/approvals/req-0001/decision", 412, detail="this is not the plan that waits for approval")
    code, _, err = immune("approvals", "approve", "req-0001", "--plan-hash", "other")
    assert code == 4
    assert "not the plan" in err


@pytest.mark.parametrize(("words", "path", "body"), SOME, ids=SOME_NAMES)
def test_without_a_daemon_nothing_acts_and_the_way_to_start_one_is_named(tmp_path, immune, words, path, body):
    code, _, err = immune(*words, "--data-dir", str(tmp_path / "empty"))
    assert code == 3
    assert "immune run" in err
    assert "python main.py" in err
    assert "empty" in err


def test_a_daemon_that_has_died_is_not_there(daemon, tmp_path, immune):
    (tmp_path / "daemon.json").write_text('{"url": "http://127.0.0.1:1"}')
    code, _, err = immune("retire", "writer-3")
    assert code == 3
    assert "nothing answers" in err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": 3}', '{"url": "file:///etc/passwd"}'])
def test_an_address_that_cannot_be_read_is_not_called(daemon, tmp_path, content):
    (tmp_path / "daemon.json").write_text(content)
    with pytest.raises(UnreachableError, match="address"):
        connect(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("feedback", "inc-1"),
        ("feedback", "inc-1", "--false-alarm", "--new-normal"),
        ("stop", "--reason", "x"),
        ("stop", "--fleet", "--reason", "x", "--json"),
        ("contain", "writer-3", "--level", "isolated"),
        ("contain", "writer-3", "--reason", "x"),
        ("approvals", "reject", "req-0001"),
        ("announce", "--cohort", "version=2"),
        ("heal",),
    ],
    ids=" ".join,
)
def test_a_command_that_lacks_something_ends_with_2_and_acts_not(daemon, immune, words):
    code, _, err = immune(*words)
    assert code == 2
    assert err or "--json" in words
    assert daemon.asked == []


def test_stopping_the_fleet_is_asked_back_first(daemon, immune, monkeypatch):
    class Terminal:
        def __init__(self, answer: str) -> None:
            self.readline = lambda: answer
            self.isatty = lambda: True

    monkeypatch.setattr("sys.stdin", Terminal("\n"))
    code, _, err = immune("stop", "--fleet", "--reason", "x")
    assert (code, daemon.asked) == (4, [])
    assert "Stop it?" in err
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert immune("stop", "--fleet", "--reason", "x")[0] == 0
    assert daemon.told() == ("/v1/stop", {"reason": "x"})


def test_who_approves_sees_what_and_which_plan(daemon, immune):
    daemon.answers["/v1/approvals/req-0001"] = (200, REQUEST)
    _, out, _ = immune("approvals", "approve", "req-0001")
    for said in ("reset_agent", "token_explosion 93%", "nothing undoes it", "approvals.severity_at"):
        assert said in out
    assert out.replace("\n", "").count(HASH) == 2
    _, out, _ = immune("approvals", "approve", "req-0001", "--json")
    assert json.loads(out)["plan_hash"] == HASH


def test_a_dry_run_shows_steps_risk_and_undo(daemon, immune):
    document = {
        "diagnosis": "tool_loop",
        "severity": 6.0,
        "would_ask_a_person": True,
        **REQUEST["plan"],
        "skipped": [{"action": "a", "reason": "failed"}],
    }
    daemon.answers["/v1/agents/writer-3/heal"] = (200, document)
    _, out, _ = immune("heal", "writer-3", "--dry-run")
    for said in ("tool_loop", "a person would be asked", "tier 3", "nothing undoes it", "left out: a: failed"):
        assert said in out


def test_an_id_may_hold_anything_and_stays_one_part_of_the_path(daemon, immune):
    immune("retire", "a/../b?x=[red]1 ü")
    assert daemon.told()[0] == "/v1/agents/a%2F..%2Fb%3Fx%3D%5Bred%5D1%20%C3%BC/retire"


def test_every_command_has_its_own_idempotency_key_and_a_broken_connection_is_tried_again_with_the_same(daemon, immune):
    daemon.drops = 1
    assert immune("retire", "writer-3")[0] == 0
    assert immune("retire", "writer-3")[0] == 0
    keys = [headers["Idempotency-Key"] for _, _, _, headers in daemon.asked]
    assert keys[0] == keys[1] != keys[2]


def test_a_connection_that_breaks_twice_is_unreachable(daemon, immune):
    daemon.drops = 2
    assert immune("retire", "writer-3")[0] == 3


def test_the_token_of_the_environment_goes_first_and_travels_in_one_header(daemon, tmp_path, immune, monkeypatch):
    immune("retire", "writer-3")
    assert daemon.asked[-1][3]["Authorization"] == f"Bearer {TOKEN}"
    monkeypatch.setenv("IMMUNE_TOKEN", "imm_ada")
    immune("retire", "writer-3")
    assert daemon.asked[-1][3]["Authorization"] == "Bearer imm_ada"
    assert TOKEN not in repr(connect(tmp_path))


def test_a_redirect_is_not_followed(daemon, immune):
    daemon.answers["/v1/agents/writer-3/retire"] = (307, {})
    assert immune("retire", "writer-3")[0] == 3
    assert all(path != "/elsewhere" for _, path, _, _ in daemon.asked)


def test_no_proxy_sees_the_token(daemon, immune, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert immune("retire", "writer-3")[0] == 0


@pytest.mark.parametrize("content", [b"<html>", b"\xff\xfe"])
def test_an_answer_that_is_no_json_is_somebody_else(daemon, immune, content):
    daemon.answers["/v1/agents/writer-3/retire"] = (200, content)
    assert immune("retire", "writer-3")[0] == 3
    daemon.answers["/v1/agents/writer-3/retire"] = (409, content)
    assert immune("retire", "writer-3")[0] == 4


@pytest.mark.parametrize(("status", "kind"), [(404, UnknownIdError), (400, InputError), (409, RefusedError), (502, UnreachableError)])
def test_a_client_raises_what_the_status_means(daemon, tmp_path, status, kind):
    daemon.refuses("/v1/agents/a", status)
    with pytest.raises(kind):
        connect(tmp_path).get("/v1/agents/a")


def test_a_time_from_now_becomes_a_point_in_time():
    assert acting._time("2026-02-01") == acting._time("1769904000") == "2026-02-01T00:00:00.000000Z"
    assert acting._time("2026-02-01T02:00+02:00") == "2026-02-01T00:00:00.000000Z"
    assert acting._time("30m").endswith("Z")
    assert acting._time("1h") < acting._time("2d")
    for text in ("²m", "yesterday", "", "nan"):
        with pytest.raises(InputError, match="2h"):
            acting._time(text)


# -- from the journal alone --------------------------------------------------------------------------------------------


def _journalled(tmp_path, *, ended: bool = True) -> None:
    step = acts.StepNote(action="reset_agent", tier=3, reversible=False, compensation="", timeout_s=90.0, summary="Restart it.")
    opened = ev.IncidentOpened(
        incident_id="inc-0001", scope="agent", cohort="", agents=("writer-3",), onset_us=NOW_US, nats=40.0, threshold_nats=18.0, severity=8.5,
        severity_why=(), evidence=(), diagnosis=(ev.HypothesisNote(kind="token_explosion", confidence=0.93, evidence_for=(), evidence_against=()),),
        ruled_out=(), changed=(), policy_version="p",
    )  # fmt: skip
    proposed = acts.PlanProposed(
        plan_id="plan-0001", incident_id="inc-0001", signature="token_explosion[]", diagnosis="token_explosion", rung=0, steps=(step,), skipped=(),
        plan_hash=HASH, severity=8.5, mode="act", needs_approval=True, rule="severity", trigger="auto", deadline_us=0, policy_version="p",
    )  # fmt: skip
    requested = acts.ApprovalRequested(
        request_id="req-0001", about="plan", plan_id="plan-0001", incident_id="inc-0001", plan_hash=HASH, severity=8.5, rule="severity ≥ 7",
        level="none", expires_us=NOW_US + 15 * MINUTE_US, requested_by="policy:severity",
    )  # fmt: skip
    learned = acts.MemoryInherited(from_run="run-0", entries=(("tool_loop[tool_calls:up]", "reset_memory", 3, 1),))
    started = ev.RunStarted(version="0", epoch=1, period_us=1_000_000, policy_version="p", policy="", source="test")
    events = [started, ev.AgentEnrolled(index=0, type="writer", service=""), opened, proposed, requested, learned]
    if ended:
        events.append(ev.RunEnded(reason="test", ticks=1))
    journal = SqliteJournal(tmp_path)
    SqliteTelemetry(tmp_path).close()
    epoch = journal.acquire("run-1", "test", NOW_US)
    drafts = [Draft(at_us=NOW_US + 3 * MINUTE_US * (event is events[-1]), subject="writer-3", event=event) for event in events]
    journal.append("run-1", drafts, expected_seq=0, epoch=epoch)
    journal.close()


def test_approvals_are_shown_from_the_journal_when_no_daemon_runs(tmp_path, immune, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _journalled(tmp_path)
    code, out, _ = immune("approvals", "--data-dir", str(tmp_path))
    assert code == 0
    for said in ("req-0001", "writer-3", "8.5", "token_explosion 93%", "reset_agent", "no", "severity ≥ 7", "3 min", "12 min"):
        assert said in out
    code, out, _ = immune("approvals", "list", "--json", "--data-dir", str(tmp_path))
    (document,) = json.loads(out)
    assert (document["id"], document["plan_hash"], document["plan"]["steps"][0]["action"]) == ("req-0001", HASH, "reset_agent")
    code, out, _ = immune("approvals", "show", "req-0001", "--data-dir", str(tmp_path))
    assert code == 0
    assert HASH in out.replace("\n", "")
    assert immune("approvals", "approve", "req-0001", "--data-dir", str(tmp_path))[0] == 3, "reading needs no daemon, acting does"


def test_a_request_that_is_over_says_so(tmp_path, immune, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _journalled(tmp_path, ended=False)
    assert "over" in immune("approvals", "--data-dir", str(tmp_path))[1]


def test_an_unknown_request_ends_with_2_and_names_one_that_is_known(tmp_path, immune):
    _journalled(tmp_path)
    code, _, err = immune("approvals", "show", "req-0007", "--data-dir", str(tmp_path))
    assert code == 2
    assert "req-0001" in err


def test_memory_is_shown_from_the_journal_of_a_run_by_name(tmp_path, immune):
    _journalled(tmp_path)
    code, out, _ = immune("memory", "--from-run", "run-1", "--json", "--data-dir", str(tmp_path))
    assert code == 0
    assert json.loads(out) == [{"signature": "tool_loop[tool_calls:up]", "action": "reset_memory", "worked": 3, "failed": 1}]
    assert "reset_memory" in immune("memory", "--data-dir", str(tmp_path))[1]
    assert immune("memory", "--from-run", "run-9", "--data-dir", str(tmp_path))[0] == 2


def test_tokens_are_made_shown_once_listed_and_revoked(tmp_path, immune):
    place = ("--data-dir", str(tmp_path))
    code, out, _ = immune("tokens", "create", "ada", "--role", "approver", "--json", *place)
    token = json.loads(out)["token"]
    assert code == 0
    code, out, err = immune("tokens", *place)
    assert "approver" in out
    assert token not in out + err
    assert immune("tokens", "create", "ada", "--role", "viewer", *place)[0] == 4
    assert immune("tokens", "create", "bob", "--role", "king", *place)[0] == 2
    assert immune("tokens", "revoke", "ada", *place)[0] == 0
    assert json.loads(immune("tokens", "list", "--json", *place)[1]) == []
    assert immune("tokens", "revoke", "ada", *place)[0] == 2


@pytest.mark.fault("F34")
def test_a_word_in_a_journal_cannot_drive_the_terminal_of_who_reads_it():
    assert harmless("a\x1b[2Jb\u202e\n\tc ü") == "a\\x1b[2Jb\\u202e\n\tc ü"


def test_a_value_that_the_daemon_quoted_is_not_quoted_again():
    error = refusal(404, {"detail": "no such agent", "field": "id", "value": "'bob'"})
    assert str(error) == "id: no such agent (got 'bob')"
