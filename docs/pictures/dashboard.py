"""Makes the pictures of the dashboard from a live demo: ``python docs/pictures/dashboard.py`` (two minutes, needs Chromium).

The first request of the demo is shown as it waits; nobody decides it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PICTURES = Path(__file__).resolve().parent
CHROMIUM = os.environ.get("IMMUNE_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT_MS = 150_000
READY = "() => !document.querySelector('[aria-busy=\"true\"]')"


def shoot(page: Page, name: str, height: int = 860) -> None:
    """The page as it stands, once nothing is loading; its upper part, which is what people see first."""
    page.wait_for_function(READY)
    page.wait_for_timeout(600)
    page.screenshot(path=PICTURES / f"{name}.png", clip={"x": 0, "y": 0, "width": 1280, "height": height})


def walk(page: Page, url: str, link: str) -> None:
    """Fleet, the waiting request, the agent it is about."""
    page.goto(url + link)
    page.wait_for_url("**/fleet")
    page.locator("#pending-count:not([hidden])").wait_for(timeout=WAIT_MS)
    page.locator("#summary .go").wait_for()
    shoot(page, "fleet", 640)
    page.goto(url + "/approvals")
    page.locator("article [data-act=Approve]").first.wait_for()
    shoot(page, "approval")
    page.locator("article h2 a").first.click()
    page.emulate_media(color_scheme="dark")
    page.locator("#charts canvas").first.wait_for()
    page.locator("#why-title").scroll_into_view_if_needed()
    shoot(page, "agent")


def main() -> None:
    """Three files beside this one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "demo.py", "--duration", "300", "--agents", "15", "--seed", "7", "--decide", "ask", "--out", folder]
        environment = {**os.environ, "IMMUNE_PORT": "0", "IMMUNE_DASHBOARD_PORT": "0"}
        demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)  # noqa: S603
        try:
            found = next(hit for line in demo.stderr or () if (hit := re.search(r"(http://[\d.:]+)(/login#\S+)", line)))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                walk(browser.new_page(viewport={"width": 1280, "height": 860}), *found.groups())
                browser.close()
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.communicate(timeout=120)


if __name__ == "__main__":
    main()
