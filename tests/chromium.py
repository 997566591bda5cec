"""Chromium without a window, for pages that a test makes: fixture ``browser`` (one a process that runs tests), and what
a reader does in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,1000"
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    pytest.importorskip("selenium", reason="selenium is in the test extra")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium or no ChromeDriver on this machine (Debian: chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in OPTIONS.split():
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def wait(condition: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Return what ``condition`` returns once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(None, seconds, poll_frequency=0.02).until(lambda _: condition(), "the page did not get there")


def appear_as(chrome: Chrome, *, scheme: str = "", width: int = 0) -> None:
    """Show pages in a colour scheme and at a phone's width; without arguments as usual."""
    features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    if width:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    else:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def accessibility_faults(chrome: Chrome) -> list[str]:
    """Return what axe-core finds wrong with the page: contrast, labels, focus and more."""
    from importlib.resources import files

    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is in the test extra")
    script = files(axe).joinpath("axe.min.js").read_text(encoding="utf-8")
    chrome.execute_script(script)
    run = "axe.run().then(r => arguments[0](r.violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.html}`))))"
    return list(chrome.execute_async_script(run))
