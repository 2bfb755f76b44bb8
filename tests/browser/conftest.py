"""A page in a real browser; a test fails when its page logs an error or asks the network."""

import shutil

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
NEAR = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "http://localhost",
        "ws://127.0.0.1", "ws://localhost")  # fmt: skip
PHONE = {"width": 360, "height": 740}


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: drives Chromium with Playwright")


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser():
    """Chromium, once per file: an event loop that lived longer would disturb other tests."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed: apt-get install chromium")
    api = pytest.importorskip(
        "playwright.sync_api",
        reason="needs Playwright: pip install playwright axe-playwright-python",
    )
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser):
    """Makes pages: ``new_page(color_scheme="dark", viewport=PHONE)``; options of a context."""
    contexts, faults = [], []

    def watch(page):
        page.on("console", lambda m: m.type == "error" and faults.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        page.on(
            "request",
            lambda r: r.url.startswith(NEAR) or faults.append(f"asked the network for {r.url}"),
        )

    def make(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.on("page", watch)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)


@pytest.fixture
def page(new_page):
    """One page of 1280 by 900, light."""
    return new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")


@pytest.fixture
def violations():
    """Tells what axe finds wrong with a page, one sentence each: ``violations(page)``."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="needs axe: pip install axe-playwright-python",
    )

    def told(page, **options):
        found = axe.Axe().run(page, options=options or None).response["violations"]
        return [
            f"{v['id']}: {v['help']}: {node['target']}: {node['html'][:200]}"
            for v in found
            for node in v["nodes"]
        ]

    return told
