"""The fleet's own telemetry under the names of OpenTelemetry's GenAI conventions: how long calls take, how many tokens they use.

Whole ticks are added as arrays. Series are by provider and model, which agents name themselves: only so many are kept
apart, the rest is `other`, and no agent id is an attribute.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import CONTEXT_FIELDS, MISSING, SampleBatch
from immune.observability.distributions import OTHER, Distribution
from immune.ports import Desk

OPERATION = "invoke_agent"
UNSAID = "unknown"
PAIRS_MAX = 20
NAME_MAX = 64
WORDS = 2**31
TOKEN_TYPES = (("input_tokens", "input"), ("output_tokens", "output"))
PROVIDER, MODEL = CONTEXT_FIELDS.index("provider"), CONTEXT_FIELDS.index("model")


class FleetMeter:
    """Adds what agents report to the two GenAI histograms."""

    def __init__(self, desk: Desk, durations: Distribution, tokens: Distribution) -> None:
        self.desk = desk
        self.durations = durations
        self.tokens = tokens
        self._names: dict[tuple[int, int], tuple[str, str, str]] = {}
        names = desk.schema.names
        self._latency = names.index("latency_ms")
        self._tokens = [(names.index(vital), word) for vital, word in TOKEN_TYPES]

    def saw(self, batch: SampleBatch) -> None:
        """One tick's samples."""
        if not len(batch):
            return
        # one number for each pair: a unique over rows takes four times as long
        pairs, which = np.unique(batch.codes[:, PROVIDER].astype(np.int64) * WORDS + batch.codes[:, MODEL], return_inverse=True)
        for number, pair in enumerate(pairs.tolist()):
            provider, model = divmod(pair + 1, WORDS)
            self._add(self._words(provider, model - 1), batch.values if len(pairs) == 1 else batch.values[which == number])

    def _add(self, words: tuple[str, ...], values: NDArray[np.float64]) -> None:
        self.durations.add_many(words, values[:, self._latency] / 1000)
        for column, word in self._tokens:
            self.tokens.add_many((*words, word), values[:, column])

    def _words(self, provider: int, model: int) -> tuple[str, ...]:
        known = self._names.get((provider, model))
        if known is None:
            if len(self._names) >= PAIRS_MAX:
                return OPERATION, OTHER, OTHER
            known = self._names[provider, model] = (OPERATION, self._word(provider), self._word(model))
        return known

    def _word(self, code: int) -> str:
        return self.desk.lexicon.word(code)[:NAME_MAX] if code != MISSING else UNSAID
