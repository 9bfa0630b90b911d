"""Samples and baselines as lines: `agent_vitals`, one point a sample, and `baseline_profile`, one point an agent and minute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import Bands
from immune.core.vitals import Roster, SampleBatch, Status, VitalSchema
from immune.stores.influx.escape import tag, tag_text, text_of_tag
from immune.stores.influx.lines import Block, encode

VITALS = "agent_vitals"
PROFILE = "baseline_profile"
SHORT = 160
"""Bytes of tags that are laid out in columns; longer ones, as hostile ids have, are put beside one by one."""
BAND_DIGITS = 6
OWN_FIELDS = frozenset({"status", "step", "time"})
_STATUS = np.array([f'status="{status.name.lower()}"'.encode() for status in Status])
_KEY = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})


def field_name(vital: str) -> str:
    """The field of a vital: its name, but for names that a line cannot hold or that mean something else there."""
    return tag_text(f"vital_{vital}" if vital in OWN_FIELDS else vital)


def vital_of(field: str) -> str:
    """The vital of a field, `OWN_FIELDS` apart."""
    text = text_of_tag(field)
    return text.removeprefix("vital_") if text.removeprefix("vital_") in OWN_FIELDS else text


def field_key(vital: str) -> str:
    """The field of a vital as it stands in a line."""
    return field_name(vital).translate(_KEY)


class Encoder:
    """Lines of one run. Tags of an agent are worked out once."""

    def __init__(self, run_id: str, roster: Roster, schema: VitalSchema) -> None:
        self.run_id = run_id
        self.roster = roster
        self._keys = [field_key(name) for name in schema.names]
        self._short = {VITALS: np.zeros(0, dtype="S1"), PROFILE: np.zeros(0, dtype="S1")}
        self._places: dict[str, int] = {}
        self._long: dict[tuple[str, int], bytes] = {}

    def samples(self, batch: SampleBatch) -> list[Block]:
        """One line a sample, times in µs."""
        blocks = []
        for rows, head in self._heads(VITALS, batch.agent):
            part = batch if rows is None else batch.take(rows)
            columns = list(zip(self._keys, np.ascontiguousarray(part.values.T), strict=True))
            blocks += encode([head, _STATUS[part.status]], columns, [("step", part.step.astype(np.int64))], part.at_us, self._places)
        return blocks

    def profiles(self, now_us: int, bands: Bands) -> list[Block]:
        """One line for every agent of which anything is learned, to six digits."""
        agents = np.flatnonzero(~np.isnan(bands.expected).all(axis=1)).astype(np.int32)
        blocks = []
        for rows, head in self._heads(PROFILE, agents):
            who = agents if rows is None else agents[rows]
            columns = [
                (f"{key}_{side}", _rounded(values[who, place]))
                for place, key in enumerate(self._keys)
                for side, values in (("expected", bands.expected), ("low", bands.low), ("high", bands.high))
            ]
            number = np.char.add(b"agent_index=", who.astype("S8"))
            number = np.char.add(number, b"i")
            blocks += encode([head, number], columns, [], np.full(len(who), now_us, dtype=np.int64), self._places)
        return blocks

    def _heads(self, measurement: str, agent: NDArray[np.int32]) -> list[tuple[NDArray[np.bool_] | None, NDArray[np.bytes_]]]:
        """Measurement, tags and a space of each row: of those that are short all at once, and of the others."""
        if not len(agent):
            return []
        self._learn(measurement)
        head = self._short[measurement][agent]
        short = head != b""
        if short.all():
            return [(None, head)]
        spelled = np.array([self._long[measurement, index] for index in agent[~short].tolist()])
        return [(short, head[short]), (~short, spelled)] if short.any() else [(None, spelled)]

    def _learn(self, measurement: str) -> None:
        known = self._short[measurement]
        fresh = self.roster.identities[len(known) :]
        if not fresh:
            return
        texts = []
        for index, who in enumerate(fresh, len(known)):
            tags = tag("agent", who.agent_id) + tag("run_id", self.run_id) + tag("service", who.service) + tag("type", who.type)
            text = f"{measurement}{tags} ".encode()
            if len(text) > SHORT:
                self._long[measurement, index] = text
            texts.append(text if len(text) <= SHORT else b"")
        self._short[measurement] = np.concatenate([known, np.array(texts)])


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Six significant digits of the median, for all: a number of places that the columns can be written with."""
    wide = values.astype(np.float64)
    middle = float(np.nanmedian(np.abs(wide))) if not np.isnan(wide).all() else 0.0
    places = BAND_DIGITS - 1 - int(np.floor(np.log10(middle))) if middle > 0 else BAND_DIGITS
    return np.round(wide, max(0, min(9, places)))
