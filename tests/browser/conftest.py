"""Pages in a real browser: the system's Chromium without a screen, and the pages of a run of seconds."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from typer.testing import CliRunner

from fewshot.cli import app

ROOT = Path(__file__).parents[2]
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="no Chromium on PATH (Debian's package is `chromium`)")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Inside a container neither its sandbox nor a large /dev/shm is to be had.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Seen:
    """A page that is open in the browser, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.fetched: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.fetched.append(request.url))

    def violations(self) -> list[str]:
        """What axe-core finds: contrast, names, roles, landmarks and so on, one line each."""
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.fixture
def look(chromium: Browser) -> Iterator[Callable[..., Seen]]:
    """Open a file or an address: `look(path, width=..., scheme="dark")`."""
    opened: list[Page] = []

    def open_page(where: Path | str, width: int = 1280, scheme: str = "light") -> Seen:
        opened.append(chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
        seen = Seen(opened[-1])
        seen.page.goto(where.resolve().as_uri() if isinstance(where, Path) else where)
        return seen

    yield open_page
    for page in opened:
        page.close()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    """The working folder of a finished run of seconds, on drawn images."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config").mkdir()
    shutil.copy(ROOT / "config" / "published.csv", folder / "config")
    with contextlib.chdir(folder):
        tiny = ROOT / "tests" / "integration" / "tiny.yaml"
        done = CliRunner().invoke(app, ["run", str(tiny), "--threads", "1"], catch_exceptions=False)
    logging.basicConfig(force=True)  # the command's log went to a stream that is closed now
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def served() -> Iterator[Callable[..., str]]:
    """Start a program that serves on the loopback address and wait for it: `served(folder, "mlflow", "ui", ...)`."""
    programs: list[subprocess.Popen[bytes]] = []

    def serve(folder: Path, *command: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # four more processes, for what no run here has
        program = subprocess.Popen(
            [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        programs.append(program)
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300  # a busy machine takes its time to import MLflow
        while time.monotonic() < deadline:
            assert program.poll() is None, f"{command} ended with {program.returncode}"
            with contextlib.suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/")
                if connection.getresponse().status == 200:
                    return address
            time.sleep(0.5)
        raise AssertionError(f"{command} does not answer")

    yield serve
    for program in programs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGTERM)
        try:
            program.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
