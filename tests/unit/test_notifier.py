from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from immune.clock import SystemClock, VirtualClock, run_virtual
from immune.core import acts
from immune.core import events as ev
from immune.core.duty import Channel, Delivery, Duty
from immune.core.events import Draft, seal
from immune.core.fold import fold
from immune.core.notices import notice_of, waiting_now
from immune.core.state import RunState
from immune.errors import InputError, PolicyError
from immune.notify.by_apprise import AppriseWay
from immune.notify.config import load_channels
from immune.notify.message import DeliveryError, compose
from immune.notify.notifier import OUTBOX_MAX, Notifier
from immune.notify.webhook import WebhookTarget, WebhookWay
from immune.reports.sentences import say

US = 1_000_000
START_US = 1_767_225_600 * US
ASKED = acts.ApprovalRequested(
    request_id="r1",
    about="containment",
    plan_id="",
    incident_id="",
    plan_hash="h",
    severity=7.0,
    rule="approvals",
    level="isolated",
    expires_us=START_US + 900 * US,
    requested_by="policy:approvals",
)


def record(*events, subject="writer <1>", start=None):
    """Envelopes of these events, and the state after them."""
    envelopes = seal("run-1", [Draft(at_us=START_US, subject=subject, event=event) for event in events], 0, ev.GENESIS)
    return envelopes, fold(start or RunState(), envelopes)


ENROLLED = ev.AgentEnrolled(index=0, type="writer", service="press")


class Fake:
    """A way that fails as often as it is told to."""

    def __init__(self, fails=0, again=True):
        self.sent, self.fails, self.again = [], fails, again

    async def send(self, message):
        if self.fails:
            self.fails -= 1
            raise DeliveryError("answered 503", again=self.again)
        self.sent.append(message)

    async def close(self):
        pass


def notifier(way, clock, state, *, channel=None, noted=None):
    return Notifier(
        {"all": way},
        Duty([channel or Channel(name="all")]),
        clock,
        state=lambda: state,
        tell=say,
        link=lambda notice: f"http://127.0.0.1:8711{notice.page}",
        record=lambda subject, told: noted.append((subject, told)) if noted is not None else None,
        run_id="run-1",
    )


def played(way, for_s, *, channel=None, greet=False):
    """Run a notifier over one request for this long of virtual time; what it put on record."""
    envelopes, state = record(ENROLLED, ASKED)
    noted = []

    async def story():
        clock = VirtualClock(START_US)
        made = notifier(way, clock, state, channel=channel, noted=noted)
        if not greet:
            made._greeted = True
            made.hear(envelopes, state)
        task = asyncio.create_task(made.run())
        await clock.sleep_until_us(START_US + for_s * US)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return made

    return run_virtual(story()), noted


def test_a_request_reaches_people_with_its_page_and_is_on_record():
    way = Fake()
    made, noted = played(way, 5)
    (message,) = way.sent
    assert message.title == "Approval needed for writer <1>"
    assert message.url == "http://127.0.0.1:8711/approvals/r1"
    assert made.delivered == 1
    ((subject, told),) = noted
    assert (subject, told.channel, told.about, told.outcome) == ("writer <1>", "all", "e2", "delivered")


def test_what_fails_is_tried_again_and_then_told_as_failed():
    way = Fake(fails=2)
    made, _ = played(way, 30)
    assert (len(way.sent), made.failed, made.health()["trouble"]) == (1, 0, "")
    gone = Fake(fails=99)
    made, noted = played(gone, 120)
    assert made.failed == 1
    assert made.health()["trouble"] == "all: answered 503"
    assert noted[0][1].outcome == "failed"


def test_what_can_never_arrive_is_not_tried_again():
    way = Fake(fails=99, again=False)
    made, noted = played(way, 5)
    assert way.fails == 98
    assert (made.failed, noted[0][1].detail) == (1, "answered 503")


def test_whoever_does_not_answer_is_asked_again():
    way = Fake()
    played(way, 130, channel=Channel(name="all", repeat_s=60))
    assert [message.title for message in way.sent] == ["Approval needed for writer <1>"] + ["Still unanswered: Approval needed for writer <1>"] * 2
    assert len({message.key for message in way.sent}) == 3


def test_after_a_restart_what_waits_is_told_once_more():
    way = Fake()
    played(way, 5, greet=True)
    assert [message.title for message in way.sent] == ["Approval still needed for writer <1>"]


def test_an_outbox_that_nobody_empties_is_bounded_and_counted():
    made = notifier(Fake(), SystemClock(), RunState())
    (notice,) = waiting_now(record(ENROLLED, ASKED)[1], START_US)
    made._post([Delivery(channel="all", notices=(notice,))] * (OUTBOX_MAX + 7))
    assert made.health()["outbox"] == OUTBOX_MAX
    assert made.health()["dropped"] == 7


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (acts.EnforcementFailed(desired="isolated", observed="none", error="no answer", waited_s=12.0), "not_enforced"),
        (acts.LadderExhausted(incident_id="i1", tried=("restart_agent",), reason="all failed"), "exhausted"),
        (ev.LoopStalled(since_us=START_US, for_s=7.0, where="x"), "stalled"),
        (acts.ApprovalClosed(request_id="r1", outcome="expired", reason=""), "expired"),
        (acts.ApprovalClosed(request_id="r1", outcome="rejected", reason="no"), None),
        (ENROLLED, None),
        (acts.PersonTold(channel="all", about="e1", outcome="failed", detail="", reminders=0), None),
    ],
)
def test_only_what_a_person_should_know_becomes_a_notice(event, kind):
    (envelope,), _ = record(event)
    notice = notice_of(envelope, RunState(), "text")
    assert (notice.kind if notice else None) == kind


def test_hostile_ids_are_only_text_in_the_address_of_a_page():
    (envelope,), _ = record(acts.EnforcementFailed(desired="isolated", observed="none", error="", waited_s=1.0), subject="<img src=x>&/ü")
    notice = notice_of(envelope, RunState(), "text")
    assert notice is not None
    assert notice.page == "/agent?id=%3Cimg%20src%3Dx%3E%26%2F%C3%BC"


def one_message():
    (notice,) = waiting_now(record(ENROLLED, ASKED)[1], START_US)
    return compose(Delivery(channel="all", notices=(notice,)), "run-1", "http://127.0.0.1:8711/approvals/r1")


async def test_a_webhook_gets_a_signed_document_and_its_refusal_is_heard():
    got, answers = [], [204, 503, 403]

    async def take(request):
        got.append((request.headers, await request.read()))
        return web.Response(status=answers[len(got) - 1])

    app = web.Application()
    app.router.add_post("/hook", take)
    message = one_message()
    async with TestServer(app) as server:
        way = WebhookWay(WebhookTarget(url=str(server.make_url("/hook")), secret=b"s" * 32, allow_loopback=True), SystemClock())
        await way.send(message)
        with pytest.raises(DeliveryError, match="503") as busy:
            await way.send(message)
        with pytest.raises(DeliveryError, match="403") as refused:
            await way.send(message)
        await way.close()
    assert (busy.value.again, refused.value.again) == (True, False)
    headers, body = got[0]
    assert headers["Immune-Signature"].startswith("v1=")
    document = json.loads(body)
    assert document["notices"][0]["waits"] == "r1"
    assert document["text"].endswith(message.url)


@pytest.mark.fault("F43")
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "https://127.0.0.1/x", "http://example.org/x", "ftp://example.org", "https://u:p@example.org"]
)
def test_addresses_that_may_not_be_called_are_refused(url):
    with pytest.raises(InputError):
        WebhookWay(WebhookTarget(url=url), SystemClock())


@pytest.mark.slow
def test_apprise_takes_what_it_knows_and_never_shows_the_address():
    pytest.importorskip("apprise")
    AppriseWay("json://127.0.0.1:1/x", 1.0, loopback=True)
    with pytest.raises(InputError) as refused:
        AppriseWay("nonsense://secret-in-here", 1.0)
    assert "secret-in-here" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.fault("F43")
@pytest.mark.parametrize(
    "url", ["json://127.0.0.1/secret", "form://[::1]/secret", "jsons://169.254.169.254/secret", "mailto://u:secret@example.org?smtp=10.0.0.5"]
)
def test_apprise_calls_no_inner_address_either(url):
    pytest.importorskip("apprise")
    with pytest.raises(InputError) as refused:
        AppriseWay(url, 1.0)
    assert "secret" not in str(refused.value)


def that_sends_elsewhere(got):
    """An endpoint that redirects whoever posts to it; `got` gets the paths that were asked for."""

    async def take(request):
        got.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_post("/{any}", take)
    return app


@pytest.mark.slow
@pytest.mark.fault("F43")
async def test_apprise_calls_no_name_that_leads_inside_and_follows_no_redirect():
    pytest.importorskip("apprise")
    got, message = [], one_message()
    async with TestServer(that_sends_elsewhere(got)) as server:
        with pytest.raises(DeliveryError, match="may not be called") as refused:
            await AppriseWay(f"json://localhost:{server.port}/hook", 5.0).send(message)
        assert (got, refused.value.again) == ([], False)
        with pytest.raises(DeliveryError, match="did not take it"):
            await AppriseWay(f"json://localhost:{server.port}/hook", 5.0, loopback=True).send(message)
    assert got == ["/hook"]


@pytest.mark.fault("F43")
async def test_a_webhook_follows_no_redirect():
    got = []
    async with TestServer(that_sends_elsewhere(got)) as server:
        way = WebhookWay(WebhookTarget(url=str(server.make_url("/hook")), allow_loopback=True), SystemClock())
        with pytest.raises(DeliveryError, match="307"):
            await way.send(one_message())
        await way.close()
    assert got == ["/hook"]


def read(tmp_path, text, **environment):
    path = tmp_path / "immune.toml"
    path.write_text(text)
    return load_channels(path, SystemClock(), environment)


def test_a_configuration_names_channels_without_holding_a_secret(tmp_path):
    text = '[[notify]]\nname = "a"\nkind = "webhook"\nurl_env = "HOOK"\nquiet = "22:00-07:00"\nzone = "Europe/Berlin"\ntells = ["approval"]\n'
    (spec,) = read(tmp_path, text, HOOK="https://hooks.example.org/T0/s3cret")
    assert spec.channel.kinds == ("approval",)
    assert spec.channel.quiet is not None
    assert "s3cret" not in repr(spec)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"\nkind = "smoke"\nurl = "https://example.org"', "not a kind of channel"),
        ('name = "a b"\nkind = "webhook"\nurl = "https://example.org"', "not a name"),
        ('name = "a"\nkind = "webhook"', "one source of the url"),
        ('name = "a"\nkind = "webhook"\nurl = "https://example.org"\nquiet = "25:00-07:00"', "not hours of a day"),
        ('name = "a"\nkind = "webhook"\nurl = "https://example.org"\nquiet = "22:00-07:00"\nzone = "Mars/Base"', "no such time zone"),
        ('name = "a"\nkind = "webhook"\nurl = "https://example.org"\ntells = ["gossip"]', "not a kind of notice"),
        ('name = "a"\nkind = "webhook"\nurl = "https://example.org"\nafter_s = -1', "not a number of seconds"),
        ('name = "a"\nkind = "webhook"\nurl = "https://example.org"\nvolume = 11', "unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, says):
    with pytest.raises(PolicyError, match=says) as wrong:
        read(tmp_path, f"[[notify]]\n{text}\n")
    assert wrong.value.line >= 1


def test_two_channels_of_one_name_are_refused(tmp_path):
    one = '[[notify]]\nname = "a"\nkind = "webhook"\nurl = "https://example.org"\n'
    with pytest.raises(PolicyError, match="taken"):
        read(tmp_path, one + one)
