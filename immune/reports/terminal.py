"""The live view: a `LiveView` becomes rich renderables for a terminal of 80 columns or more, best at 100 by 30.

Text from outside is only ever put into `Text` objects, never parsed as markup, and unprintable characters are shown as
``�``: an agent's name cannot paint the screen.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from immune.core.events import iso
from immune.reports.live import left_words
from immune.reports.model import LiveAgent, LiveIncident, LiveView

US = 1_000_000
WIDE = 96
BELOW_ROWS_MIN = 7
STATE_WIDTH = 33

STATES: dict[str, tuple[str, str]] = {
    "learning": ("◔", "cyan"),
    "healthy": ("●", "green"),
    "suspected": ("▲", "yellow"),
    "sick": ("✚", "bold red"),
    "silent": ("∅", "bold magenta"),
    "idle": ("◦", "dim"),
    "retired": ("–", "dim"),
    "throttled": ("◒", "yellow"),
    "restricted": ("◧", "yellow"),
    "isolated": ("■", "bold red"),
    "evicted": ("✕", "bold red"),
}
"""State -> (icon, style). The word always stands beside them."""
ASKING = "bold #1a1a1a on #f2c14e"
TONES = {"plain": "", "good": "green", "warn": "yellow", "bad": "red"}
PRESSING = ("evicted", "isolated", "sick", "silent", "restricted", "throttled", "suspected", "learning", "healthy", "idle", "retired")


def screen(view: LiveView, *, width: int = 100, height: int = 30) -> RenderableType:
    """The whole screen, at most `height` lines; what does not fit is counted in words, the most pressing kept."""
    asked = ask_lines(view, width)
    body = height - 5 - bool(view.footer) - len(asked)
    fleet_rows = max(3, min(len(view.agents) + 1, body - BELOW_ROWS_MIN))
    parts: list[RenderableType] = [header(view, width), *_under_header(asked), fleet_table(view, width=width, rows=fleet_rows)]
    parts += [Rule(style="dim"), _below(view, width=width, rows=max(2, body + bool(asked) - fleet_rows))]
    if view.total_s > 0:
        parts.append(progress(view, width))
    if view.footer:
        parts.append(Text(plain(view.footer), style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def header(view: LiveView, width: int = 100) -> RenderableType:
    """Two lines: what this is and in which run and mode; what goes on, and the time."""
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column(no_wrap=True, overflow="ellipsis", justify="right", ratio=2)
    run = Text.assemble((plain(view.run_id), "dim"), ("  mode ", "dim"), view.mode) if width >= WIDE else Text(f"mode {view.mode}")
    table.add_row(Text(plain(view.title), style="bold cyan"), run)
    pace = Text("▶▶ virtual time: ", style="bold yellow") if view.virtual else Text("● real time: ", style="bold green")
    table.add_row(pace.append(plain(view.phase), style="default not bold"), Text(f"{iso(view.now_us)[:19].replace('T', ' ')} UTC", style="dim"))
    return table


def _under_header(asked: Sequence[Text]) -> Sequence[RenderableType]:
    return asked or [Rule(style="dim")]


def ask_lines(view: LiveView, width: int = 100) -> list[Text]:
    """The oldest request that waits, across the whole width in reverse: steps, harm, reach, time left, how to answer. Empty if none."""
    waiting = [ask for ask in view.asks if not ask.granted]
    if not waiting:
        return []
    ask, more = waiting[0], len(waiting) - 1
    first = f" ▶ {ask.request_id} ASKS YOU: {ask.what} on {ask.subject}?"
    left = f"denied in {left_words(ask.expires_us - view.now_us)} "
    second = f"   severity {ask.severity:.1f}, {ask.reach}" + (f" · {more} more wait" if more else "")
    answer = f"{view.answer or f'immune approvals approve {ask.request_id}'} "
    return [_banner(first, left, width), _banner(second, answer, width)]


def _banner(left: str, right: str, width: int) -> Text:
    """One full line in reverse; the right end stays whole, the left gives way."""
    left, right = plain(left), plain(right)
    room = width - len(right) - 1
    shown = left if len(left) <= room else left[: max(0, room - 1)] + "…"
    text = Text(shown.ljust(room + 1), style=ASKING, no_wrap=True, overflow="crop")
    return text.append(right[:width])


def fleet_table(view: LiveView, *, width: int = 100, rows: int = 16) -> RenderableType:
    """A row per agent, in order of enrolment; when they do not fit in `rows` lines, the most pressing ones first."""
    wide = width >= WIDE
    bar_width = 12 if wide else 6
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("agent", no_wrap=True, overflow="ellipsis", ratio=3)
    if wide:
        table.add_column("type", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("state", no_wrap=True, width=STATE_WIDTH)
    table.add_column("sev.", no_wrap=True, justify="right", width=4)
    table.add_column(f"evidence (alarm at {view.threshold_nats:.1f})" if wide else "evidence, nats", no_wrap=True, width=bar_width + 12)
    table.add_column("seen", no_wrap=True, justify="right", width=6)
    shown, left_out = _fitting(view.agents, rows - 1)
    for agent in shown:
        cells = [Text(plain(agent.agent_id)), Text(plain(agent.type), style="dim")]
        cells += [state_text(agent, short=not wide), _severity_text(agent.severity), evidence_bar(agent.nats, view.threshold_nats, bar_width)]
        cells.append(Text(_ago(view.now_us, agent.last_seen_us), style="dim"))
        table.add_row(*(cells if wide else cells[:1] + cells[2:]))
    if not left_out:
        return table
    return Group(table, Text(f" … and {len(left_out)} more: {_tally(left_out)}", style="dim", no_wrap=True, overflow="ellipsis"))


def state_text(agent: LiveAgent, *, short: bool = False) -> Text:
    """Icon and word of a state, and what is done about it; while learning, how far the baseline is."""
    icon, style = STATES.get(agent.state, ("·", ""))
    text = Text(f"{icon} {plain(agent.state)}", style=style)
    if agent.state == "learning" and agent.baseline is not None:
        done, needed = agent.baseline
        text.append(f"{'' if short else ' baseline'} {min(done, needed)} of {needed}", style="dim not bold")
    if agent.doing:
        text.append(f" · {plain(agent.doing)}", style="default not bold")
    return text


def evidence_bar(nats: float, threshold_nats: float, bar_width: int = 14) -> Text:
    """Evidence on its way to the threshold; ``alarm`` in words once it is there."""
    share = min(1.0, max(0.0, nats / threshold_nats)) if threshold_nats > 0 and nats == nats else 0.0  # noqa: PLR0124 - NaN
    style = "red" if share >= 1 else "yellow" if share >= 0.6 else "green"
    filled = int(share * bar_width)
    text = Text("█" * filled, style=style).append("·" * (bar_width - filled), style="dim")
    text.append(f" {max(0.0, nats):5.1f}" if nats == nats else "     –", style="default")  # noqa: PLR0124 - NaN
    return text.append(" alarm", style="bold red") if share >= 1 else text


def incident_table(view: LiveView, *, width: int = 50, rows: int = 8) -> RenderableType:
    """Open incidents first, then the newest closed ones: who, what it looks like, severity, how long after onset it was noticed."""
    ordered = sorted(view.incidents, key=lambda one: (one.closed_us > 0, -one.opened_us))
    still_open = sum(one.closed_us == 0 for one in ordered)
    lines: list[Text] = [Text(f"incidents: {still_open} open, {len(ordered) - still_open} closed", style="dim")]
    per_incident = 2 if width >= 40 else 1
    fitting = max(1, (rows - 1) // per_incident)
    for one in ordered[:fitting]:
        lines.extend(_incident_lines(one)[:per_incident])
    if not ordered:
        lines.append(Text("none so far", style="green"))
    return Group(*[_one_line(line) for line in lines[:rows]])


def happened_list(view: LiveView, *, rows: int = 8) -> RenderableType:
    """What just happened, newest first."""
    newest = tuple(reversed(view.happened))[: max(0, rows - 1)]
    lines = [Text(f"{iso(one.at_us)[11:19]} ", style="dim").append(plain(one.text), style=TONES[one.tone] or "default") for one in newest]
    return Group(*[_one_line(line) for line in (Text("what just happened", style="dim"), *lines)])


def progress(view: LiveView, width: int = 100) -> Text:
    """How far the phase is: a bar and ``41 of 60 s``."""
    share = min(1.0, max(0.0, view.done_s / view.total_s)) if view.total_s > 0 else 0.0
    words = f" {view.done_s:.0f} of {view.total_s:.0f} s"
    room = max(10, width - len(words) - 1)
    filled = round(share * room)
    return Text("━" * filled, style="cyan").append("─" * (room - filled), style="dim").append(words, style="default")


def plain(text: str) -> str:
    """Text that cannot move the cursor or turn writing around."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _below(view: LiveView, *, width: int, rows: int) -> RenderableType:
    left = width // 2
    table = Table.grid(expand=True, padding=(0, 2))
    table.add_column(width=left)
    table.add_column(ratio=1)
    table.add_row(incident_table(view, width=left, rows=rows), happened_list(view, rows=rows))
    return table


def _incident_lines(one: LiveIncident) -> list[Text]:
    over = one.closed_us > 0
    first = Text("✓ " if over else "✚ ", style="green" if over else "bold red").append(plain(one.who), style="default not bold")
    looks = one.looks_like.replace("_", " ")
    first.append(f" {looks}" + (f" {100 * one.confidence:.0f} %" if one.confidence > 0 else ""), style="yellow" if not over else "dim")
    second = Text(f"  severity {one.severity:.1f}, noticed in {max(0, one.opened_us - one.onset_us) / US:.0f} s", style="dim")
    if over:
        second.append(f", over after {(one.closed_us - one.opened_us) / US:.0f} s")
    elif one.doing:
        second = Text(f"  {plain(one.doing)}", style="default")
    elif one.proposed != "none":
        second.append(f", asks for {one.proposed}")
    return [first, second]


def _one_line(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def _severity_text(severity: float) -> Text:
    if severity <= 0:
        return Text("–", style="dim")
    return Text(f"{severity:.1f}", style="bold red" if severity >= 3 else "yellow")


def _fitting(agents: Sequence[LiveAgent], room: int) -> tuple[Sequence[LiveAgent], Sequence[LiveAgent]]:
    """Who is shown, and who is only counted."""
    if len(agents) <= room:
        return agents, ()
    ordered = sorted(agents, key=lambda agent: (_rank(agent.state), -agent.severity, -agent.nats))
    return ordered[: max(0, room - 1)], ordered[max(0, room - 1) :]


def _rank(state: str) -> int:
    return PRESSING.index(state) if state in PRESSING else len(PRESSING)


def _tally(agents: Sequence[LiveAgent]) -> str:
    states = [agent.state for agent in agents]
    return ", ".join(f"{states.count(state)} {plain(state)}" for state in sorted(set(states), key=_rank))


def _ago(now_us: int, seen_us: int) -> str:
    if seen_us <= 0:
        return "never"
    seconds = max(0, now_us - seen_us) / US
    if seconds < 1.5:
        return "now"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
