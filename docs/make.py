"""Writes the pages that are made from the code: `python docs/make.py`. A test fails when they are out of date."""

from __future__ import annotations

import importlib
import itertools
import sys
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from immune.core.diagnosis import Infection, Symptom
from immune.core.policy import Policy
from immune.core.policy_file import allowed, policy_keys, render_policy
from immune.infections import CATALOGUE
from immune.observability.instruments import HISTOGRAMS, INSTRUMENTS, prometheus_name

ROOT = Path(__file__).resolve().parent.parent

POLICY_HEAD = """# Policy

One TOML file holds every number that you may want to change. Each key may be left out and then keeps its default; the whole
file with all defaults is [immune.toml.example](../immune.toml.example). `immune policy check FILE` names line and column of whatever is wrong,
`immune policy show` prints what is in force. The version of a policy is a hash of its content; every decision names the version it rests on.

This page is made from the code by `python docs/make.py`.
"""

MODES = """## [modes]

A table of agent types, each with its own mode; a type that is not named follows `mode`. For example:

```toml
mode = "observe"

[modes]
researcher = "recommend"
summarizer = "act"
```
"""

LEVELS = """The levels against the scale of severity (see [severity](#severity)): throttled from about x1.2 of what is spent per step,
restricted from x1.5, isolated from x1.9, or from x1.65 where it shows in cost and in latency. Isolating at 3 of 10 is early on
purpose: containment is undone in seconds once fresh samples are normal, money and side effects are not. How much evidence is
asked for before any of it is set by `detection.false_alarms_per_agent_day`, not by severity.
"""

SEVERITY = """Severity says how much harm symptoms do, not how certain they are: `10 (1 - exp(-0.4 U))`, where U adds up doublings from
normal times these weights, the worst vital of each sort of harm first and each further sort at half of the one before.
The strongest symptom counts, and any other from 6 nats of its own on: what has hardly begun rests on a sample or two, and its ratio says anything.
The whole formula is in `immune/core/severity.py`.

| symptoms | severity |
|---|---|
| one vital of money x1.3 | 1.4 |
| x1.6 | 2.4 |
| x3 | 4.7 |
| tokens and cost x8 | 7.0 |
| cost, latency, tool calls and errors x5 each | 8.5 |
| retries from 0.05 to 2 per step | 5.9 |
| errors from 0.02 to 1 per step | 5.2 |
| confidence halved | 3.8 |
"""

INFECTIONS_HEAD = """# Infections

What the diagnosis knows. Each kind is one file in `immune/infections/` with a signature: which vitals move when it is there, in
which direction, how often, and what speaks against it. The diagnosis
ranks the kinds by how well they explain the evidence, against the alternative that none does; that one is called `unknown`. A diagnosis
is about symptoms. It never says what caused them.

This page is made from the code by `python docs/make.py`.
"""

UNKNOWN = """## unknown

Not a file: the answer when no signature explains the evidence better than "anything may move". The evidence is shown, the agent is contained by its
severity like any other, and a person is not led astray by a wrong name.
"""


NEIGHBOURS = """
# What follows says where things are. It is no part of the policy, and without it there is neither a mirror nor a message.
# Take away the first # of the lines that you want.

# InfluxDB 2, where vitals and journal are mirrored: docs/influxdb.md. INFLUXDB_V2_URL, _ORG, _TOKEN and _BUCKET come before these.
#[influx]
#url = "http://127.0.0.1:8086"
#org = "immune"
# better by the environment (INFLUXDB_V2_TOKEN) than in a file
#token = ""
#bucket = "immune"
# what may wait on the disk while the server is away; beyond it the oldest goes, and is counted
# 1 to 1000000 (MB); default 2048
#spool_mb = 2048

# Who is told of what: docs/notifications.md. One table for each channel.
#[[notify]]
#name = "on-call"
# webhook, or apprise (pip install 'immune[notify]'): mail, chats, pagers
#kind = "webhook"
# or url_file, or url where the address holds no secret
#url_env = "ONCALL_WEBHOOK"
# or secret_file; with neither the message is not signed
#secret_env = "ONCALL_SECRET"
# left out: all of them
#tells = ["approval", "isolation", "brake", "not_enforced", "task", "exhausted", "expired", "stalled"]
# 0 to 10; what is less grave is not for this channel
#min_severity = 5
# more than 0: hears only of what waits for an answer and has had none for so long (s)
#after_s = 0
# what still waits is told again, ten times at most (s); 0 never
#repeat_s = 1800
# hours of the local day in which only what is graver than quiet_min_severity comes at once
#quiet = "22:00-07:00"
#zone = "Europe/Berlin"
#quiet_min_severity = 8
# a webhook may call this machine, the inner network
#allow_loopback = false
#allow_private = false
# for one try; there are four (s)
#timeout_s = 10
"""


def policy_page() -> str:
    """docs/policy.md: every key with unit, range, default and reason."""
    parts = [POLICY_HEAD]
    for section, keys in itertools.groupby(policy_keys(Policy()), key=lambda entry: entry[0]):
        parts.append(_section(section, [(field, value) for _, field, value in keys]))
        if not section:
            parts.append(MODES)
    return "\n".join(parts)


def _section(name: str, keys: list[tuple[Field[Any], Any]]) -> str:
    lines = [f"## [{name}]" if name else "## Top level", ""]
    lines += [_section_intro(name), ""] if name else []
    lines += {"severity": [SEVERITY], "containment": [LEVELS]}.get(name, [])
    lines += ["| key | default | allowed | why |", "|---|---|---|---|"]
    lines += [f"| `{field.name}` | {value} | {_allowed(field)} | {field.metadata['why']} |" for field, value in keys]
    return "\n".join(lines) + "\n"


def _section_intro(name: str) -> str:
    part = getattr(Policy(), name)
    return (type(part).__doc__ or "").split("\n")[0]


def _allowed(field: Field[Any]) -> str:
    return allowed(field).removeprefix("give ").removeprefix("use one of ")


def infections_page() -> str:
    """docs/infections.md: every kind with its signature."""
    return "\n".join([INFECTIONS_HEAD, *(_infection(infection) for infection in CATALOGUE), UNKNOWN])


def _infection(infection: Infection) -> str:
    about = (importlib.import_module(f"immune.infections.{infection.kind}").__doc__ or "").strip()
    lines = [f"## {infection.kind}", "", about, "", f"**Signature.** {infection.summary}", ""]
    lines += ["| symptom | how often | |", "|---|---|---|"]
    lines += [f"| {_symptom(symptom)} | {symptom.often:.0%} | {_remark(symptom, infection)} |" for symptom in infection.symptoms]
    lines.append("")
    if infection.against:
        lines += ["Speaks against it: " + ", ".join(_symptom(symptom) for symptom in infection.against) + ".", ""]
    lines += _conditions(infection)
    if infection.ladder:
        lines += ["Healing, rung by rung: " + ", then ".join(" + ".join(f"`{action}`" for action in rung) for rung in infection.ladder) + ".", ""]
    return "\n".join(lines)


def _symptom(symptom: Symptom) -> str:
    if symptom.direction == "silent":
        return "no samples"
    return "all vitals repeat" if symptom.direction == "stuck" else f"`{symptom.vital}` {symptom.direction}"


def _remark(symptom: Symptom, infection: Infection) -> str:
    size = f"about x{symptom.ratio:g}" if symptom.ratio else ""
    alternatives = sum(other.required for other in infection.symptoms)
    needed = ("must show" if alternatives == 1 else "this or another of these must show") if symptom.required else ""
    return ", ".join(part for part in (needed, size) if part)


def _conditions(infection: Infection) -> list[str]:
    lines = []
    if infection.shape != "any":
        lines.append(f"Comes as a {infection.shape}.")
    if infection.at_least > 1:
        lines.append(f"At least {infection.at_least} of its symptoms must show at once.")
    if infection.facts:
        lines.append("A change of " + " or ".join(f"`{hint.field}`" for hint in infection.facts) + " shortly before speaks for it.")
    if infection.shared:
        lines.append("Only considered when many agents moved together, and then before any single agent is blamed.")
    return [" ".join(lines), ""] if lines else []


def pages() -> dict[Path, str]:
    """Every page that is made from the code: path -> text."""
    return {
        ROOT / "docs" / "policy.md": policy_page(),
        ROOT / "docs" / "infections.md": infections_page(),
        ROOT / "docs" / "observability.md": observability_page(),
        ROOT / "docs" / "reliability.md": _of_tests("faults").page(),
        ROOT / "docs" / "dashboard-lines.md": _of_tests("dashboard_lines").page(),
        ROOT / "immune.toml.example": render_policy(Policy()) + NEIGHBOURS,
    }


def observability_page() -> str:
    """The page as it is, with the table of instruments made anew."""
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- instruments")
    opening, _, rest = rest.partition("-->")
    _, closing, tail = rest.partition("<!-- /instruments -->")
    return f"{head}<!-- instruments{opening}-->\n{instrument_table()}{closing}{tail}"


def instrument_table() -> str:
    """Every instrument with both of its names."""
    rows = ["| instrument | at `/metrics` | unit | kind | labels | says |", "|---|---|---|---|---|---|"]
    for one in INSTRUMENTS:
        name = prometheus_name(one.name, one.unit, one.kind)
        rows.append(f"| `{one.name}` | `{name}` | `{one.unit}` | {one.kind} | {' '.join(one.keys)} | {one.says} |")
    for spec in HISTOGRAMS:
        name = prometheus_name(spec.name, spec.unit, "histogram")
        rows.append(f"| `{spec.name}` | `{name}` | `{spec.unit}` | histogram | {' '.join(spec.keys)} | {spec.says} |")
    return "\n".join([*rows, ""])


def _of_tests(name: str) -> Any:
    """A module of the tests, which are no package that is installed."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"tests.{name}")


def sections() -> list[str]:
    """Names of the policy's sections."""
    return [field.name for field in fields(Policy()) if is_dataclass(getattr(Policy(), field.name))]


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
