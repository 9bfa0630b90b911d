"""An agent that nobody simulated: known only by what it posts, held only by what it asks."""

from __future__ import annotations

import numpy as np

from tests.integration.daemon_kit import US, daemon

FEVER = {"input_tokens": 10, "output_tokens": 12, "cost_usd": 15, "latency_ms": 5}


def sample(rng, at_us, agent, times):
    usual = {"latency_ms": 400, "input_tokens": 900, "output_tokens": 300, "cost_usd": 0.01}
    drawn = {name: value * float(np.exp(rng.normal(0, 0.15))) * times.get(name, 1) for name, value in usual.items()}
    drawn = {name: round(value) if "tokens" in name else round(value, 6) for name, value in drawn.items()}
    return {"agent": agent, "at": at_us / US, "type": "writer", "tool_calls": int(rng.poisson(2)), "retries": 0, "errors": 0, **drawn}


class Story:
    """A fleet of three that posts once a second; what an isolated agent does not do, it does not post."""

    def __init__(self, made):
        self.made = made
        self.rng = np.random.default_rng(7)
        self.sick = {}

    async def go_on(self, seconds=1, until=lambda: False):
        for _ in range(seconds):
            at_us = self.made.clock.at_us + US - 1000
            posting = [name for name in ("alice/1", "bob", "carol") if name != "alice/1" or self.alice is None or self.alice.observed == "none"]
            rows = [sample(self.rng, at_us, name, self.sick if name == "alice/1" else {}) for name in posting]
            answer = await self.made.vitals(*rows)
            assert (answer.status, answer.document) == (202, {"accepted": len(rows), "rejected": []})
            await self.made.tick()
            if until():
                return

    @property
    def alice(self):
        return self.made.engine.state.agents.get("alice/1")

    async def gate(self):
        return (await self.made.ask("GET", "/v1/gate/alice%2F1")).document

    async def shown(self):
        return (await self.made.ask("GET", "/v1/agents/alice%2F1")).document


async def test_an_agent_known_only_by_its_vitals_is_enrolled_learned_detected_contained_shown_and_released(tmp_path):
    async with daemon(tmp_path) as made:
        story = Story(made)
        await story.go_on(60)
        assert (await story.shown())["health"] == "healthy"
        assert (await story.gate())["allowed"] is True

        story.sick = FEVER
        await story.go_on(40, until=lambda: story.alice.desired == "isolated")
        assert story.alice.desired == "isolated"
        assert (await story.shown())["containment"]["observed"] == "none", "it was free when it asked last: not contained"

        # it does not ask: on record as not enforced, never shown as contained
        await story.go_on(8)
        assert [e.subject for e in made.events("enforcement_failed")] == ["alice/1"]
        assert (await story.shown())["containment"] == {"desired": "isolated", "observed": "none", "proposed": "isolated"}

        # it asks: held, and only now shown as contained
        told = await story.gate()
        assert (told["allowed"], told["level"], told["tools_off"]) == (False, "isolated", ["*"])
        await story.go_on(2)
        assert (await story.shown())["state"] == "isolated"

        # no connector can carry a healing step out: a person's task with a deadline, never a success
        await story.go_on(20, until=lambda: story.alice.plan == "exhausted")
        assert made.events("plan_proposed") == [], "what nobody can do is not planned"
        shown = await story.shown()
        assert shown["plan"] == "exhausted"
        assert [(task["agent"], task["deadline_at"] > "2026") for task in shown["tasks"]] == [("alice/1", True)]
        assert (await story.gate())["allowed"] is False

        # a person mends it and releases it
        story.sick = {}
        answer = await made.ask("POST", "/v1/agents/alice%2F1/release", {"reason": "mended by hand"}, who="operator")
        assert answer.status == 200
        await story.go_on(5)
        assert (await story.gate())["allowed"] is True
        assert (story.alice.desired, story.alice.observed, story.alice.plan, story.alice.health) == ("none", "none", "none", "healthy")
        assert {e.actor for e in made.events("released")} == {"person:operator"}
        assert made.engine.journal.verify(made.engine.run_id) == made.engine.state.seq
        assert [made.engine.state.agents[name].desired for name in ("bob", "carol")] == ["none", "none"]
