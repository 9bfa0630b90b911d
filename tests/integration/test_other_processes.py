"""Equal arguments give equal runs in another process, whatever the order its hash seed gives to sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.test_blind import short_run
from tests.simulation.test_simulation_agents import digest_of_a_storm
from tests.unit.test_fold import a_whole_story

ROOT = Path(__file__).resolve().parents[2]
STORIES = {"a run of the daemon": short_run, "the samples of a fleet": digest_of_a_storm, "a folded state": a_whole_story}


@pytest.mark.parametrize("hash_seed", ["4711"])
def test_equal_arguments_give_equal_runs_in_another_process_with_another_hash_seed(hash_seed):
    imports = "\n".join(f"from {told.__module__} import {told.__name__}" for told in STORIES.values())
    program = imports + "\n" + "\n".join(f"print({told.__name__}())" for told in STORIES.values())
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert dict(zip(STORIES, done.stdout.split(), strict=True)) == {name: told() for name, told in STORIES.items()}
