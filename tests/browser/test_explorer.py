"""The explorer in a real browser: what it shows, what it does, and that it asks nobody else."""

import json
import time

import pytest

from tests.analysis.explored import TEXT, build_all, served

pytest.importorskip("starlette", reason="needs the extra: pip install 'syncattn[explore]'")
pytest.importorskip("uvicorn", reason="needs the extra: pip install 'syncattn[explore]'")
expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect

WAIT = 180_000
PRESS = "() => { const b = document.getElementById('play'); b.click(); return b.textContent; }"


@pytest.fixture(scope="module")
def address():
    with served(build_all()) as address:
        yield address


def opened(page, address):
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.wait_for_selector("body[data-answered='1']")
    return page


def answered(page, act):
    """Acts and waits for the answer that it brings."""
    count = int(page.get_attribute("body", "data-answered"))
    act()
    page.wait_for_selector(f"body[data-answered='{count + 1}']:not(.stale)")


def until(page, expression):
    """Waits without `wait_for_function`, which the page's policy forbids: it evaluates a text."""
    deadline = time.monotonic() + WAIT / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def pixels(page, canvas):
    return page.eval_on_selector(canvas, "canvas => canvas.toDataURL()")


def test_the_page_shows_text_matrix_phases_and_prediction(page, address):
    opened(page, address)
    assert page.title() == "a run – syncattn explorer"
    assert page.input_value("#text") == TEXT
    assert page.locator("#model option").all_inner_texts() == [
        "softmax", "selective", "oscillator", "kuramoto", "frustrated",
    ]  # fmt: skip
    expect(page.locator("#prediction tr")).to_have_count(8)
    assert page.locator("#row tr").count() > 0
    assert "reads" in page.inner_text("#cell")
    assert "Softmax has no oscillators" in page.inner_text("#links")
    assert page.is_disabled("#play")


def test_typing_changes_the_matrix(page, address):
    opened(page, address)
    before = pixels(page, "#matrix")
    answered(page, lambda: page.fill("#text", "another 🌀"))
    assert pixels(page, "#matrix") != before
    expect(page.locator("#tokens span")).to_have_count(len("another 🌀".encode()))


def test_every_mechanism_layer_and_head_can_be_reached_by_keyboard(page, address):
    opened(page, address)
    for mechanism in ("selective", "oscillator", "kuramoto", "frustrated"):
        page.focus("#model")
        answered(page, lambda: page.keyboard.press("ArrowDown"))
        assert page.input_value("#model") == mechanism
        for choice in ("#layer", "#head"):
            page.focus(choice)
            before = pixels(page, "#matrix")
            answered(page, lambda: page.keyboard.press("ArrowDown"))
            assert page.input_value(choice) == "1"
            assert pixels(page, "#matrix") != before
            answered(page, lambda: page.keyboard.press("ArrowUp"))
        assert page.is_enabled("#play")
        assert "links between tokens" in page.inner_text("#links")


@pytest.mark.parametrize("mechanism", ["selective", "oscillator", "kuramoto"])
def test_phases_play_pause_and_scrub(page, address, mechanism):
    opened(page, address)
    answered(page, lambda: page.select_option("#model", mechanism))
    still = pixels(page, "#film")
    # In one step: on a slow machine the film may be over before a second one.
    assert page.evaluate(f"({PRESS})()") == "Pause"
    until(page, "Number(document.getElementById('scrub').value) > 0.2")
    page.evaluate("document.querySelector('#play[aria-pressed=true]')?.click()")
    assert page.inner_text("#play") == "Play"
    assert pixels(page, "#film") != still
    page.focus("#scrub")
    page.keyboard.press("End")
    assert page.input_value("#scrub") == page.get_attribute("#scrub", "max")
    assert "coherence" in page.get_attribute("#scrub", "aria-valuetext")
    page.keyboard.press("Home")
    assert pixels(page, "#film") == still


def test_a_coupling_off_changes_the_prediction_and_comes_back(page, address):
    opened(page, address)
    answered(page, lambda: page.select_option("#model", "frustrated"))
    assert page.inner_text("#prediction tr:first-child td:nth-child(3)") == "–"
    harmonic = page.get_by_label("harmonic 1")
    answered(page, lambda: harmonic.uncheck())
    assert "layer 1, head 1, harmonic 1 off" in page.inner_text("#changed")
    assert "of the probability moved" in page.inner_text("#moved")
    assert "%" in page.inner_text("#prediction tr:first-child td:nth-child(3)")
    after = pixels(page, "#matrix")
    answered(page, lambda: page.get_by_label("layer 1", exact=True).uncheck())
    page.check("input[name=which][value=before]")
    assert pixels(page, "#matrix")
    answered(page, lambda: page.click("#restore"))
    assert "Everything couples" in page.inner_text("#changed")
    assert harmonic.is_checked()
    assert page.is_disabled("#restore")
    assert after


def test_a_bandwidth_makes_links_appear_and_disappear(page, address):
    opened(page, address)
    answered(page, lambda: page.select_option("#model", "selective"))
    page.focus("#bandwidth")
    answered(page, lambda: page.keyboard.press("End"))
    assert page.inner_text("#bandwidth-value") == "4.00"
    told = page.inner_text("#links")
    assert "0 lost" in told
    assert " 0 new" not in told
    answered(page, lambda: page.keyboard.press("Home"))
    assert " 0 new" in page.inner_text("#links")
    assert " 0 lost" not in page.inner_text("#links")


def test_a_click_and_the_sliders_choose_a_pair(page, address):
    opened(page, address)
    box = page.locator("#matrix").bounding_box()
    answered(page, lambda: page.mouse.click(box["x"] + 30, box["y"] + box["width"] / 2))
    chosen = page.input_value("#query")
    assert 0 < int(chosen) < len(TEXT) - 1
    page.focus("#key")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert "token 2 “o”" in page.inner_text("#cell")
    assert page.get_attribute("#key", "aria-valuetext") == "2 “o”"


@pytest.mark.parametrize("text", ["\x00\x07\x1b[2J", "👩‍👩‍👧🌀", "a" * 100_000, "<b>&amp;</b>"])
def test_odd_texts_are_shown(page, address, text):
    opened(page, address)
    answered(
        page,
        lambda: page.eval_on_selector(
            "#text", "(t, value) => { t.value = value; t.dispatchEvent(new Event('input')); }", text
        ),
    )
    assert page.inner_text("#status") == ""
    expect(page.locator("#tokens span")).to_have_count(min(40, len(text.encode())))
    assert page.locator("#tokens b").count() == 0


def test_half_a_surrogate_pair_is_survived(page, address):
    opened(page, address)
    answered(
        page,
        lambda: page.evaluate(
            "const t = document.getElementById('text');"
            "t.value = 'a\\ud800b'; t.dispatchEvent(new Event('input'));"
        ),
    )
    assert "U+FFFD" in page.inner_text("#notices")


def test_two_tabs_keep_their_own_settings(new_page, address):
    one, two = opened(new_page(), address), opened(new_page(), address)
    answered(one, lambda: one.select_option("#model", "selective"))
    answered(one, lambda: one.get_by_label("head 2", exact=True).uncheck())
    answered(two, lambda: two.fill("#text", "the other"))
    assert two.input_value("#model") == "softmax"
    assert "Everything couples" in two.inner_text("#changed")
    answered(one, lambda: one.fill("#text", "mine"))
    assert "head 2 off" in one.inner_text("#changed")
    assert two.input_value("#text") == "the other"


def test_an_answer_that_comes_late_does_not_overwrite_a_newer_one(page, address):
    opened(page, address)
    held = []

    def hold(route):
        if json.loads(route.request.post_data)["text"] == "slow":
            held.append(route)
        else:
            route.continue_()

    page.route("**/api/look", hold)
    page.fill("#text", "slow")
    until(page, "document.body.classList.contains('stale')")
    answered(page, lambda: page.fill("#text", "fast"))
    expect(page.locator("#tokens span")).to_have_count(len("fast"))
    page.unroute("**/api/look")
    assert len(held) == 1


@pytest.mark.parametrize("mechanism", ["softmax", "selective", "oscillator", "frustrated"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(new_page, violations, address, mechanism, scheme):
    page = opened(new_page(color_scheme=scheme), address)
    if mechanism != "softmax":
        answered(page, lambda: page.select_option("#model", mechanism))
        answered(page, lambda: page.get_by_label("layer 1", exact=True).uncheck())
    assert violations(page) == []


@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_needs_no_sideways_scrolling(new_page, address, width):
    page = opened(new_page(viewport={"width": width, "height": 740}), address)
    answered(page, lambda: page.select_option("#model", "frustrated"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
