"""Connectors in a configuration file: read as meant, refused with line, field and way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from immune.connectors.config import load_connectors, read_connectors
from immune.core.policy import Policy
from immune.core.policy_file import read_policy
from immune.errors import InputError, PolicyError

FILE = Path("/etc/fleet/immune.toml")
SECRET = "0123456789abcdef-secret"
WHOLE = """
mode = "act"

[[process]]
agent = "worker-1"
argv = ["python", "worker.py"]
cwd = "agents"
env = { MODEL = "small" }
log = "worker-1.log"
grace_s = 1
seconds_per_dispatch = 2.5

[[webhook]]
url = "https://ops.example.org/immune"
agents = ["crawler-*"]
secret_env = "OPS_SECRET"
"""


def read(text: str):
    return read_connectors(text, FILE, {"OPS_SECRET": SECRET})


def test_a_whole_file_is_read_and_paths_start_where_it_stands():
    specs = read(WHOLE)
    (process,), (webhook,) = specs.processes, specs.webhooks
    assert (process.agent_id, process.argv, process.env) == ("worker-1", ("python", "worker.py"), {"MODEL": "small"})
    assert (process.cwd, process.log) == (Path("/etc/fleet/agents"), Path("/etc/fleet/worker-1.log"))
    assert (process.grace_s, process.seconds_per_dispatch) == (1.0, 2.5)
    assert (webhook.agents, webhook.secret, webhook.allow_private) == (("crawler-*",), SECRET.encode(), False)
    assert SECRET not in repr(specs)


def test_the_policy_of_the_same_file_does_not_mind_them():
    assert read_policy(WHOLE) == Policy(mode="act")


def test_no_file_and_no_tables_mean_no_connectors():
    assert load_connectors(None) == read("mode = 'act'")


def test_a_secret_may_be_in_a_file_of_its_own(tmp_path):
    (tmp_path / "ops.secret").write_text(SECRET + "\n")
    (tmp_path / "immune.toml").write_text(WHOLE.replace('secret_env = "OPS_SECRET"', 'secret_file = "ops.secret"'))
    assert load_connectors(tmp_path / "immune.toml").webhooks[0].secret == SECRET.encode()


@pytest.mark.parametrize(
    ("before", "after", "line", "field"),
    [
        ('agent = "worker-1"', "agent = 7", 5, "process.0.agent"),
        ('agent = "worker-1"', "", 4, "process.0"),
        ('argv = ["python", "worker.py"]', "argv = []", 4, "process.0"),
        ('argv = ["python", "worker.py"]', 'argv = ["python", 3]', 6, "process.0.argv"),
        ("grace_s = 1", "grace = 1", 10, "process.0.grace"),
        ("grace_s = 1", "grace_s = true", 10, "process.0.grace_s"),
        ("seconds_per_dispatch = 2.5", "seconds_per_dispatch = 0", 11, "process.0.seconds_per_dispatch"),
        ('{ MODEL = "small" }', "{ MODEL = 1 }", 8, "process.0.env"),
        ('secret_env = "OPS_SECRET"', 'secret_env = "UNSET"', 16, "webhook.0.secret_env"),
        ('secret_env = "OPS_SECRET"', "", 13, "webhook.0"),
        ('secret_env = "OPS_SECRET"', 'secret_file = "/no/such/file"', 16, "webhook.0.secret_file"),
        ('agents = ["crawler-*"]', 'agents = "crawler-*"', 15, "webhook.0.agents"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(before, after, line, field):
    with pytest.raises(PolicyError) as refused:
        read(WHOLE.replace(before, after))
    assert (refused.value.line, refused.value.field) == (line, field)
    assert refused.value.way_out
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("text", ["process = 3", "[process]\nagent = 'a'", "webhook = [1]"])
def test_one_table_for_each_is_asked_for(text):
    with pytest.raises(PolicyError, match="one table for each"):
        read(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_connectors(tmp_path / "absent.toml")
    with pytest.raises(PolicyError, match="not valid TOML"):
        read("[[process")
