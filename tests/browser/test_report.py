"""The report in a real browser: content, interaction, accessibility, and no word to the network."""

import pytest

from syncattn.benchmarks.commands_report import ReportConfig, write_report
from tests.benchmarks.finished_run import finished_run
from tests.browser.conftest import PHONE

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect

NASTY = "<b>&\x00\x07é🙂</script>"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    from rich.console import Console

    run = finished_run(tmp_path_factory.mktemp("run") / "run")
    return write_report(ReportConfig((run,)), Console(quiet=True)).as_uri()


def ready(page, url):
    page.goto(url)
    page.wait_for_selector("html[data-ready]", state="attached")
    return page


def figure(page, kind, model):
    """A figure that can be used: figures are made one after another once the page is ready."""
    page.wait_for_selector("html[data-complete]", state="attached")
    return page.get_by_role("region", name=model, exact=True).locator(f"figure.{kind}")


def inked(canvas):
    """Tells how many shades of colour a canvas shows."""
    return canvas.evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )


def test_tables_charts_and_every_model_are_there(page, url):
    ready(page, url)
    assert page.get_by_role("heading", level=1).inner_text() == "Report: run"
    table = page.get_by_role("table", name="compare: lines")
    expect(table.get_by_role("row")).to_have_count(6)
    assert page.get_by_role("img", name="Learning curves").is_visible()
    for model in ("softmax", "selective", "oscillator", "kuramoto", "frustrated"):
        region = page.get_by_role("region", name=model, exact=True)
        region.scroll_into_view_if_needed()
        assert inked(region.locator(".field canvas")) > 10
        assert region.locator("figure.film").count() == (model != "softmax")
    page.wait_for_selector("html[data-complete]", state="attached")
    print(f"ready after {page.evaluate('document.documentElement.dataset.ready')} ms")


def test_pointing_at_a_cell_tells_its_tokens(page, url):
    ready(page, url)
    matrix = figure(page, "matrix", "selective")
    field = matrix.locator(".field canvas")
    field.scroll_into_view_if_needed()
    box = field.bounding_box()
    # A column near the left in a row near the foot, which sees everything before it.
    field.hover(position={"x": 60, "y": box["height"] - 55})
    told = matrix.locator(".reading").inner_text()
    assert told.startswith("Layer 1, head 1: “")
    assert "reads “" in told
    assert "locked" in told
    assert "R of the reader 0." in told
    field.hover(position={"x": box["width"] - 10, "y": 10})
    assert "hidden from it" in matrix.locator(".reading").inner_text()


def test_the_keyboard_moves_through_the_matrix(page, url):
    ready(page, url)
    matrix = figure(page, "matrix", "kuramoto")
    field = matrix.get_by_role("application")
    field.focus()
    reading = matrix.locator(".reading")
    field.press("Home")
    first = reading.inner_text()
    assert "reads “d” (1)" in first
    field.press("ArrowRight")
    assert "reads “e” (2)" in reading.inner_text()
    field.press("ArrowUp")
    assert reading.inner_text() != first
    for _ in range(60):
        field.press("ArrowUp")
    assert "“d” (1) reads" in reading.inner_text()


def test_another_head_is_another_matrix(page, url):
    ready(page, url)
    matrix = figure(page, "matrix", "softmax")
    shot = matrix.locator(".field canvas")
    shot.scroll_into_view_if_needed()
    before = shot.screenshot()
    matrix.get_by_role("radio", name="layer 1, head 1").focus()
    page.keyboard.press("ArrowRight")
    assert matrix.get_by_role("radio", name="layer 1, head 2").is_checked()
    assert "head 2" in matrix.locator(".reading").inner_text()
    assert shot.screenshot() != before
    matrix.get_by_text("What every token reads most").click()
    expect(matrix.locator(".strongest tbody tr")).to_have_count(37)


def test_phases_play_pause_and_scrub(page, url):
    ready(page, url)
    film = figure(page, "film", "frustrated")
    film.scroll_into_view_if_needed()
    play, scrub, reading = (
        film.locator(".play"),
        film.get_by_role("slider"),
        film.locator(".reading"),
    )
    circle = film.locator(".large")
    assert reading.inner_text().startswith("embedding: R ")
    first = circle.screenshot()
    play.click()
    assert play.inner_text() == "Pause"
    film.locator(".reading", has_text="after layer").wait_for()
    # In one go: the film may end by itself between a look and a click.
    play.evaluate("button => button.textContent.trim() === 'Pause' && button.click()")
    assert play.inner_text() == "Play"
    assert circle.screenshot() != first
    scrub.focus()
    scrub.press("End")
    assert scrub.get_attribute("aria-valuetext") == "after layer 2"
    assert reading.inner_text().startswith("after layer 2: R ")
    scrub.press("Home")
    assert circle.screenshot() == first
    film.get_by_label("Follow").select_option("4")
    assert "“n” (5) at" in reading.inner_text()
    film.locator(".coordinate").select_option("3")
    assert circle.screenshot() != first


def test_who_wants_less_motion_sees_whole_moments_alone(new_page, url):
    page = ready(new_page(reduced_motion="reduce"), url)
    film = figure(page, "film", "oscillator")
    film.scroll_into_view_if_needed()
    seen = film.evaluate(
        """async (f) => {
          const context = CanvasRenderingContext2D.prototype, clear = context.clearRect;
          let frames = 0;
          context.clearRect = function (...a) {
            if (this.canvas === f.querySelector('.large')) frames++;
            return clear.apply(this, a);
          };
          f.querySelector('.play').click();
          await new Promise((done) => setTimeout(done, 1700));
          f.querySelector('.play').click();
          return [frames, Number(f.querySelector('.scrub input').value)];
        }"""
    )
    frames, moment = seen
    assert moment >= 1
    assert frames <= moment + 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 900}, PHONE])
def test_axe_finds_nothing_and_nothing_is_cut_off(new_page, url, violations, scheme, size):
    page = ready(new_page(color_scheme=scheme, viewport=size), url)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.wait_for_selector("html[data-complete]", state="attached")
    assert violations(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


def test_light_and_dark_differ_and_follow_the_reader(page, url):
    ready(page, url)
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    canvas = figure(page, "matrix", "softmax").locator(".field canvas")
    canvas.scroll_into_view_if_needed()
    before = canvas.screenshot()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == "rgb(15, 19, 23)"
    assert canvas.screenshot() != before


def test_it_prints_without_its_buttons(page, url):
    ready(page, url)
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Play").first.is_visible()
    assert not page.get_by_role("navigation").is_visible()
    assert page.get_by_role("table", name="compare: lines").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_paper_is_light_whatever_the_screen_and_nothing_hangs_over_its_edge(new_page, url):
    # A4 less its margins, in pixels of CSS.
    paper, inks = {"width": 680, "height": 1000}, []
    for scheme in ("light", "dark"):
        page = ready(new_page(color_scheme=scheme, viewport=paper), url)
        canvas = figure(page, "matrix", "selective").locator(".field canvas")
        dots = figure(page, "film", "kuramoto").locator(".large")
        seen = [c.evaluate("c => c.toDataURL()") for c in (canvas, dots)]
        page.emulate_media(media="print", color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        inks.append([c.evaluate("c => c.toDataURL()") for c in (canvas, dots)])
        assert canvas.is_visible() and dots.is_visible() and inked(canvas) > 10
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.emulate_media(media="screen", color_scheme=scheme)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert [c.evaluate("c => c.toDataURL()") for c in (canvas, dots)] == seen
    assert inks[0] == inks[1]


def test_the_first_key_leads_past_the_contents(page, url):
    ready(page, url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_what_a_run_says_cannot_run(new_page, tmp_path):
    from rich.console import Console

    run = finished_run(tmp_path / "<img src=x onerror=alert(1)>", ("selective",), (0,))
    config = ReportConfig((run,), tmp_path / "r.html", NASTY)
    page = ready(new_page(), write_report(config, Console(quiet=True)).as_uri())
    assert page.locator("img").count() == 0
    assert page.locator("b").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.get_by_role("heading", level=1).inner_text()
    assert page.locator(".tokens span").first.inner_text() == "<"
