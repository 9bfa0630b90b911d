"""Make the pictures of the README: ``python docs/pictures/make.py`` from the root of the tree.

demo.svg    the live screen of a demo (seed 7) while one agent is contained and its plan waits for a person
report.png  the first screen of the report that a demo writes; needs a Chromium, and is left as it is without one

Both come from real runs on the virtual clock; nothing is drawn by hand.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from immune.bootstrap import build_engine, open_stores  # noqa: E402
from immune.clock import US, VirtualClock, run_virtual  # noqa: E402
from immune.core.events import Envelope  # noqa: E402
from immune.reports.live import live_view  # noqa: E402
from immune.reports.model import LiveView  # noqa: E402
from immune.reports.terminal import screen  # noqa: E402
from immune.runtime.engine import View  # noqa: E402
from showcase.choices import Witness  # noqa: E402
from showcase.demo import DEMO_POLICY, VIRTUAL_START_US, WARMUP_S, command  # noqa: E402
from simulation.connector import SimulatedConnector  # noqa: E402
from simulation.fleet import SimulatedFleet  # noqa: E402

HERE = Path(__file__).resolve().parent
SEED, AGENTS, DURATION_S = 7, 15, 1800
COLUMNS, ROWS = 110, 36
WINDOW = "1100,1050"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OUTSIDE_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)
"""rich asks a font of a foreign host; a picture of ours asks nobody."""


class Photographer:
    """Keeps the last view before the first request to a person has waited `PATIENCE_S`; nobody answers in this run."""

    PATIENCE_S = 4

    def __init__(self) -> None:
        self.taken: LiveView | None = None
        self.witness = Witness()

    def look(self, envelopes: Sequence[Envelope], view: View) -> None:
        """One publication of the engine."""
        self.witness.hear(envelopes, view)
        waiting = [view.state.approvals[key] for key in view.state.open_approvals]
        if self.taken is not None or not waiting or view.assessment.now_us < waiting[0].requested_at_us + self.PATIENCE_S * US:
            return
        now_us = view.assessment.now_us
        self.taken = live_view(
            view.state,
            view.assessment,
            title=f"Immune demo: {AGENTS} simulated agents",
            mode=DEMO_POLICY.mode,
            phase="fast-forward",
            virtual=True,
            now_us=now_us,
            min_samples=DEMO_POLICY.detection.min_samples,
            last_seen_us=dict.fromkeys(view.state.agents, now_us),
            done_s=(now_us - VIRTUAL_START_US) / US - WARMUP_S,
            total_s=DURATION_S,
            happened=tuple(self.witness.happened)[-12:],
            answer="[a] approve  [r] reject",
            footer="report will be in .immune/report.html   Ctrl-C ends the demo",
        )


def demo_svg(target: Path) -> None:
    """Photograph a demo at a telling moment."""
    stores = open_stores(None)
    fleet = SimulatedFleet(agents=AGENTS, seed=SEED, start_us=VIRTUAL_START_US, duration_s=DURATION_S, warmup_s=WARMUP_S, scenario="default")
    engine = build_engine(
        run_id="run-demo", sources=[fleet], stores=stores, policy=DEMO_POLICY, seed=SEED, connectors=[SimulatedConnector(fleet)], source="simulation"
    )
    photographer = Photographer()
    engine.listeners.append(photographer.look)
    engine.start(VIRTUAL_START_US)
    until_us = VIRTUAL_START_US + (WARMUP_S + DURATION_S) * US
    run_virtual(engine.run(VirtualClock(VIRTUAL_START_US), first_us=VIRTUAL_START_US, until_us=until_us))
    stores.close()
    if photographer.taken is None:
        raise SystemExit("nobody was asked in this run: no picture taken")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen(photographer.taken, width=COLUMNS, height=ROWS))
    svg = console.export_svg(title="python demo.py", unique_id="demo")
    target.write_text(OUTSIDE_FONT.sub("", svg), encoding="utf-8")


def report_png(target: Path) -> None:
    """Photograph the first screen of a report."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.stderr.write("no Chromium here: report.png is left as it is\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        command(["--speed", "max", "--duration", str(DURATION_S), "--seed", str(SEED), "--decide", "approve", "--headless", "--out", folder])
        still = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
        page = (Path(folder) / "report.html").as_uri()
        subprocess.run([browser, *still, f"--window-size={WINDOW}", f"--screenshot={target}", page], check=True, stderr=subprocess.DEVNULL)  # noqa: S603


if __name__ == "__main__":
    demo_svg(HERE / "demo.svg")
    report_png(HERE / "report.png")
    for name in ("demo.svg", "report.png"):
        sys.stdout.write(f"{name}: {(HERE / name).stat().st_size / 1000:.0f} kB\n")
