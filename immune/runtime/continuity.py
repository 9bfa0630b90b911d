"""What a restart must not forget beside the journal: learned baselines, known words, and how far each agent was read.

One snapshot holds them all, because they only make sense together: baselines count agents by roster index and context by
word number. It is taken now and then; what came after the newest one is learned again.
"""

from __future__ import annotations

import json
import zlib

import numpy as np

from immune.core.intake import Intake
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import AgentIdentity
from immune.errors import InputError, SchemaTooNewError
from immune.ports import Desk

NAME = "baselines"
VERSION = 1
LENGTH_BYTES = 8


def pack(desk: Desk, intake: Intake, sentinel: Sentinel) -> bytes:
    """Everything a new process needs to go on judging."""
    last_us = intake.last_us
    header = json.dumps(
        {
            "version": VERSION,
            "agents": [[who.agent_id, who.type, who.service] for who in desk.roster.identities],
            "words": [desk.lexicon.word(code) for code in range(len(desk.lexicon))],
            "vitals": list(desk.schema.names),
        },
        ensure_ascii=False,
    ).encode()
    body = b"".join((len(header).to_bytes(LENGTH_BYTES, "big"), header, last_us.tobytes(), sentinel.snapshot()))
    return zlib.compress(body, level=1)


def unpack(content: bytes, desk: Desk, intake: Intake, sentinel: Sentinel) -> bool:
    """Take a snapshot over; False if it is of no use: other columns, or baselines of another build. Enrols its agents.

    Raises SchemaTooNewError for a snapshot of a newer version.
    """
    body = zlib.decompress(content)
    end = LENGTH_BYTES + int.from_bytes(body[:LENGTH_BYTES], "big")
    header = json.loads(body[LENGTH_BYTES:end])
    if header["version"] > VERSION:
        raise SchemaTooNewError("these baselines were saved by a newer version", field="version", value=header["version"], way_out="upgrade immune")
    known = [who.agent_id for who in desk.roster.identities]
    if header["vitals"] != list(desk.schema.names) or known[: len(header["agents"])] != [a[0] for a in header["agents"]][: len(known)]:
        return False
    for agent_id, agent_type, service in header["agents"]:
        desk.roster.enroll(AgentIdentity(agent_id=agent_id, type=agent_type, service=service))
    for word in header["words"]:
        desk.lexicon.code(word)
    times = end + 8 * len(header["agents"])
    intake.recall(np.frombuffer(body[end:times], dtype=np.int64))
    try:
        sentinel.restore(body[times:])
    except (InputError, KeyError):
        return False
    return True
