"""A picture of a report page for the README: `python scripts/report_picture.py results/demo/report.html docs/report.webp`.

Taken in Chromium (Debian's package `chromium`), of drawn images only: reports of other data sets may show photographs.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1180, 1000
"""Pixels of what is shown: the head of the page and the first table and figure."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    program = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if program is None:
        parser.exit(1, "error: no Chromium on PATH; install Debian's package chromium\n")
    if not chosen.report.is_file():
        parser.exit(1, f"error: {chosen.report}: no such report; make run writes it\n")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(chosen.report.resolve().as_uri())
        shot = page.screenshot()
        browser.close()
    Image.open(io.BytesIO(shot)).save(chosen.out, quality=80, method=6)


if __name__ == "__main__":
    main()
