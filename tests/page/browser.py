"""A real browser on a real page: the program in a process of its own, Chromium driven."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.page.scenes import until
from tests.small_run import REPOSITORY

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
PATIENCE = 60_000  # milliseconds, on a busy machine


def need_browser() -> None:
    """Skip where there is no Chromium, or fail where one is demanded."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        missing = "the package playwright is"
    else:
        missing = "" if CHROMIUM else "Chromium (apt-get install chromium) is"
    if missing and os.environ.get("MGCL_NEED_BROWSER"):
        pytest.fail(f"{missing} missing")
    if missing:
        pytest.skip(f"{missing} missing")


class Program:
    """`python -m mgcl.page`, started."""

    def __init__(self, *words: object) -> None:
        line = [sys.executable, "-m", "mgcl.page", *map(str, words), "--port", "0"]
        line += ["--no-browser", "--device", "cpu"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(line, cwd=REPOSITORY, **pipes)
        self.said = []
        for text in self.process.stdout:
            self.said.append(text)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", text):
                self.address = found[0]
                return
        raise AssertionError("".join(self.said))

    def kill(self) -> None:
        """As the system does it: nothing is told."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def chromium(**how) -> Iterator:
    """A page of a browser; what it complains of fails the test."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(**{"viewport": {"width": 1400, "height": 850}, **how})
        page.set_default_timeout(PATIENCE)
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        browser.close()
        assert complaints == []


def wait(page, words: str, arg=None) -> None:
    """Until an expression of JavaScript is true; the page's own policy forbids Playwright's way."""
    until(lambda: page.evaluate(words, arg), PATIENCE / 1000)


def look_at(page, picture: int) -> None:
    """Open a picture in the viewer."""
    page.evaluate(
        """(picture) => {
            const item = window.page.state.items.findIndex(([p]) => p === picture);
            document.activeElement.blur();
            window.page.open(item);
        }""",
        picture,
    )


def click(page, y: int, x: int, button: str = "left") -> None:
    """Click a pixel of the picture that is shown, brought to the middle first."""
    page.evaluate("([y, x]) => window.page.viewer.centreOn(x + 0.5, y + 0.5)", [y, x])
    at = page.evaluate(
        """([y, x]) => {
            const v = window.page.viewer, box = v.canvas.getBoundingClientRect();
            return [box.left + (x + 0.5 - v.x) * v.scale, box.top + (y + 0.5 - v.y) * v.scale];
        }""",
        [y, x],
    )
    marks = page.evaluate("window.page.state.status.revision")
    page.mouse.click(*at, button=button)
    wait(page, "(n) => window.page.state.status.revision > n", marks)


def searched(page) -> None:
    """Wait until everything is read and searched by all marks."""
    wait(
        page,
        """() => {
            const s = window.page.state.status;
            return s && s.encoded === s.pictures && !s.searching
                && s.searched === s.pictures && !!window.page.state.results;
        }""",
    )


def ask(page, path: str):
    """What the program answers the page."""
    return page.evaluate("(path) => fetch(path).then((answer) => answer.json())", path)
