"""The report in a real browser: it shows, at any width, in both color schemes, and asks for nothing."""

import json
import os
import re
import shutil
import subprocess

import pytest

from fadiag.figures import FIGURES
from fadiag.report import write_report
from tests.results.synthetic_results import synthetic

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nor may the browser itself ask for anything
)


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium, and CI must not skip this: apt-get install chromium")
        pytest.skip("no chromium here")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(synthetic(), tmp_path_factory.mktemp("report") / "report.html")


def run(browser, profile, *flags: str) -> str:
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def measured(report, tmp_path, browser, script: str, *flags: str):
    """Run a script in the page (a copy that allows one) and return what it gives."""
    text = report.read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    wrapped = (
        "<script>addEventListener('load', () => {"
        f"const found = (() => {{ {script} }})();"
        "document.documentElement.setAttribute('data-found', JSON.stringify(found)); });</script></body>"
    )
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace("</body>", wrapped))
    dom = run(browser, tmp_path / "profile", *flags, "--dump-dom", copy.as_uri())
    found = re.search(r'data-found="([^"]*)"', dom)
    assert found, "the script did not run"
    return json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))


def test_every_image_decodes(browser, report, tmp_path) -> None:
    script = "return [...document.images].map(i => [i.complete, i.naturalWidth])"
    images = measured(report, tmp_path, browser, script)
    assert len(images) == len(FIGURES)
    assert all(complete and width > 100 for complete, width in images)


@pytest.mark.parametrize("width", [500, 800, 1600])
def test_the_page_does_not_scroll_sideways(browser, report, tmp_path, width) -> None:
    script = "return [document.documentElement.scrollWidth, innerWidth]"
    page, window = measured(report, tmp_path, browser, script, f"--window-size={width},900")
    assert page <= window


def test_dark_and_light_differ_and_can_be_read(browser, report, tmp_path) -> None:
    script = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    light = measured(report, tmp_path, browser, script)
    dark = measured(report, tmp_path, browser, script, "--blink-settings=preferredColorScheme=0")
    for scheme in (light, dark):
        ink, page = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in scheme)
        assert abs(ink - page) > 400
    assert light[1] != dark[1]


def console(browser, profile, page) -> str:
    """Return what the browser complains of while it shows a page."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.count("<figcaption>") == len(FIGURES)
    return "".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_nothing_is_asked_of_the_network(browser, report, tmp_path) -> None:
    # The page's own policy forbids every request, and the browser says so of each that is tried.
    assert console(browser, tmp_path / "profile", report) == ""
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    loaded = measured(report, tmp_path, browser, script)
    assert all(name.startswith("data:") for name in loaded)


def test_a_request_would_be_seen(browser, report, tmp_path) -> None:
    copy = tmp_path / "copy.html"
    copy.write_text(report.read_text().replace("</body>", '<img src="https://example.org/x.png"></body>'))
    assert "example.org" in console(browser, tmp_path / "profile", copy)
