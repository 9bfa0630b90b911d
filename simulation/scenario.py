"""Scenario files: what fleet there is, what befalls it, and how healing goes. TOML, refused with field and value when wrong.

name = "default"
summary = "one sentence"

[fleet]                     # shares of the kinds of agents; left out: the usual mix
coder = 2
support = 1

[services]
names = ["storefront", "platform"]

[chaos]
rate = 1.0                  # times the usual number of infections; 0: none but those listed below
outage = "drawn"            # drawn | none | always
ends_by_itself = true       # false: an infection stays until it is cured

[cures]                     # see CureOdds
wrong = 0.05

[[infection]]               # listed by hand, on top of what is drawn
agent = "coder-01"
kind = "tool_loop"
at_s = 60
duration_s = 200
strength = 4                # left out: drawn by seed

[[outage]]
at_s = 300
duration_s = 180
field = "provider"          # provider | service | model | type | share
value = "harbor"
ratio = 3
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from immune.errors import InputError
from simulation.agents import SERVICES, SHARES, Cast
from simulation.chaos import OUTAGE_CHOICES, ChaosPlan, OutageChoice, PlannedInfection, Schedule, draw_strength
from simulation.cures import CureOdds
from simulation.draws import stream
from simulation.infections import InfectionKind, check_kind, check_strength
from simulation.outages import SHARE_FIELD, Outage

HERE = Path(__file__).parent / "scenarios"
OUTAGE_FIELDS = ("provider", "service", "model", "type", SHARE_FIELD)
FOREVER_S = 1e9

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedInfection:
    """An infection written into a scenario; without a strength it is drawn by seed."""

    agent: str
    kind: InfectionKind
    at_s: float
    duration_s: float
    strength: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario; the defaults are the default scenario."""

    name: str = "default"
    summary: str = ""
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    services: tuple[str, ...] = SERVICES
    chaos: ChaosPlan = field(default_factory=ChaosPlan)
    ends_by_itself: bool = True
    cures: CureOdds = field(default_factory=CureOdds)
    infections: tuple[ListedInfection, ...] = ()
    outages: tuple[Outage, ...] = ()

    def listed(self, cast: Cast, seed: int) -> Schedule:
        """What is listed by hand, for this cast. Raises InputError for an agent or a cause that is not in it."""
        for number, infection in enumerate(self.infections):
            if infection.agent not in cast.ids:
                raise InputError(
                    "no such agent in this fleet", field=f"infection[{number}].agent", value=infection.agent, way_out=f"for instance {cast.ids[0]}"
                )
        for number, outage in enumerate(self.outages):
            if outage.field != SHARE_FIELD and not cast.members(outage.field, outage.value):
                raise InputError(f"no agent has this {outage.field}", field=f"outage[{number}].value", value=outage.value)
        return Schedule(infections=tuple(self._planned(number, seed) for number in range(len(self.infections))), outages=self.outages)

    def _planned(self, number: int, seed: int) -> PlannedInfection:
        listed = self.infections[number]
        strength = listed.strength if listed.strength is not None else draw_strength(stream(seed, "listed", number), listed.kind)
        return PlannedInfection(agent=listed.agent, kind=listed.kind, at_s=listed.at_s, duration_s=listed.duration_s, strength=strength)


def scenario_names() -> tuple[str, ...]:
    """The scenarios that ship with the simulation."""
    return tuple(sorted(path.stem for path in HERE.glob("*.toml")))


def load_scenario(name_or_path: str) -> Scenario:
    """A scenario by name, or from a file of that path. Raises InputError with field and value of what is wrong."""
    path = HERE / f"{name_or_path}.toml" if name_or_path in scenario_names() else Path(name_or_path)
    try:
        return read_scenario(path.read_text(encoding="utf-8"), name=path.stem)
    except OSError as error:
        way_out = "one of " + " ".join(scenario_names()) + ", or a path"
        raise InputError(f"cannot read the scenario: {error.strerror}", field="scenario", value=name_or_path, way_out=way_out) from None
    except UnicodeDecodeError:
        raise InputError("the scenario is not UTF-8", field="scenario", value=name_or_path, way_out="save it as UTF-8") from None


def read_scenario(text: str, *, name: str = "") -> Scenario:
    """A scenario from its TOML. Raises InputError with field and value of what is wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", field="scenario", value=name or None) from None
    known = ("name", "summary", "fleet", "services", "chaos", "cures", "infection", "outage")
    _only(document, known, "")
    chaos = _table(document, "chaos")
    _only(chaos, ("rate", "outage", "ends_by_itself"), "chaos.")
    return Scenario(
        name=_text(document, "name", "", default=name),
        summary=_text(document, "summary", "", default=""),
        shares=_shares(_table(document, "fleet")),
        services=_services(_table(document, "services")),
        chaos=ChaosPlan(rate=_number(chaos, "rate", "chaos.", 0.0, 20.0, default=1.0), outage=_outage_choice(chaos)),
        ends_by_itself=_flag(chaos, "ends_by_itself", "chaos.", default=True),
        cures=_cures(_table(document, "cures")),
        infections=tuple(_infection(table, f"infection[{n}].") for n, table in enumerate(_tables(document, "infection"))),
        outages=tuple(_outage(table, f"outage[{n}].") for n, table in enumerate(_tables(document, "outage"))),
    )


def _shares(table: Table) -> dict[str, float]:
    if not table:
        return dict(SHARES)
    _only(table, tuple(SHARES), "fleet.")
    return {name: _number(table, name, "fleet.", 0.0, 1e6) for name in table}


def _services(table: Table) -> tuple[str, ...]:
    _only(table, ("names",), "services.")
    names = table.get("names", list(SERVICES))
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError("a list of at least one name", field="services.names", value=names)
    return tuple(str(name) for name in names)


def _outage_choice(table: Table) -> OutageChoice:
    word = _text(table, "outage", "chaos.", default="drawn")
    for choice in OUTAGE_CHOICES:
        if choice == word:
            return choice
    raise InputError("not a choice", field="chaos.outage", value=word, way_out="one of " + " ".join(OUTAGE_CHOICES))


def _cures(table: Table) -> CureOdds:
    shares = tuple(f.name for f in fields(CureOdds) if f.name != "possible")
    _only(table, (*shares, "possible"), "cures.")
    given = {name: _number(table, name, "cures.", 0.0, 1.0) for name in shares if name in table}
    odds = CureOdds(possible=_flag(table, "possible", "cures.", default=True), **given)
    for together in (("wrong", "half", "relapse"), ("fail", "hang", "late")):
        total = sum(getattr(odds, name) for name in together)
        if total > 1.0:
            raise InputError("these shares together exceed 1", field="cures." + " + ".join(together), value=total)
    return odds


def _infection(table: Table, where: str) -> ListedInfection:
    _only(table, ("agent", "kind", "at_s", "duration_s", "strength"), where)
    kind = check_kind(_text(table, "kind", where), field=where + "kind")
    strength = _number(table, "strength", where, 0.0, 1e6) if "strength" in table else None
    return ListedInfection(
        agent=_text(table, "agent", where),
        kind=kind,
        at_s=_number(table, "at_s", where, 0.0, FOREVER_S),
        duration_s=_number(table, "duration_s", where, 1.0, FOREVER_S, default=FOREVER_S),
        strength=None if strength is None else check_strength(kind, strength, field=where + "strength"),
    )


def _outage(table: Table, where: str) -> Outage:
    _only(table, tuple(f.name for f in fields(Outage)), where)
    name = _text(table, "field", where)
    if name not in OUTAGE_FIELDS:
        raise InputError("agents have no such thing in common", field=where + "field", value=name, way_out="one of " + " ".join(OUTAGE_FIELDS))
    value = str(_number(table, "value", where, 0.0, 1.0)) if name == SHARE_FIELD else _text(table, "value", where)
    duration_s = _number(table, "duration_s", where, 1.0, FOREVER_S)
    return Outage(
        at_s=_number(table, "at_s", where, 0.0, FOREVER_S),
        duration_s=duration_s,
        field=name,
        value=value,
        ratio=_number(table, "ratio", where, 1.0, 100.0),
        error_rate=_number(table, "error_rate", where, 0.0, 20.0, default=0.0),
        stagger_s=_number(table, "stagger_s", where, 0.0, duration_s, default=0.0),
    )


def _only(table: Table, known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise InputError("unknown key", field=f"{where}{key}", value=table[key], way_out="one of " + " ".join(known))


def _table(document: Table, key: str) -> Table:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise InputError("expected a table", field=key, value=table, way_out=f"write [{key}]")
    return table


def _tables(document: Table, key: str) -> list[Table]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError("expected a list of tables", field=key, value=tables, way_out=f"write [[{key}]]")
    return tables


def _text(table: Table, key: str, where: str, *, default: str | None = None) -> str:
    text = table.get(key, default)
    if not isinstance(text, str):
        raise InputError("expected text", field=where + key, value=text, way_out="write it in quotes")
    return text


def _flag(table: Table, key: str, where: str, *, default: bool) -> bool:
    flag = table.get(key, default)
    if not isinstance(flag, bool):
        raise InputError("expected true or false", field=where + key, value=flag)
    return flag


def _number(table: Table, key: str, where: str, low: float, high: float, *, default: float | None = None) -> float:
    number = table.get(key, default)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not low <= number <= high:
        raise InputError(f"expected a number from {low:g} to {high:g}", field=where + key, value=number)
    return float(number)
