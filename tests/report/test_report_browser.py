"""The report in a headless Chromium, opened from disk: no console error, nothing loaded; it sorts, filters, fades."""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.report_run import make_run
from rich.console import Console

from dinoseg.report.html import build_report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the Python package playwright is not installed (pip install playwright)"
)

CHROMIUM = os.environ.get("DINOSEG_CHROMIUM") or shutil.which("chromium") or ""
if not Path(CHROMIUM).is_file():
    pytest.skip(
        "no chromium (apt-get install chromium, or name one in DINOSEG_CHROMIUM)",
        allow_module_level=True,
    )

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("browser"))
    path = run / "eval/val/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["per_class"][3]["IoU"] = None  # whether an untrained head ever predicts it is chance
    path.write_text(json.dumps(metrics))
    return build_report(run, "val", Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: "playwright.Browser", report: Path) -> Iterator["playwright.Page"]:
    """The page, opened; afterwards it must have had no error and have loaded nothing but itself."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
    opened = context.new_page()
    opened.set_default_timeout(5000)
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("request", lambda request: troubles.append(request.url) if request.url != report.as_uri() else None)
    opened.goto(report.as_uri())
    yield opened
    context.close()
    assert [trouble for trouble in troubles if not trouble.startswith("data:")] == []


def _column(page: "playwright.Page", number: int) -> list[str]:
    return [text.strip() for text in page.locator(f"#class-table tbody tr > :nth-child({number})").all_inner_texts()]


def _opacities(page: "playwright.Page") -> list[float]:
    return page.evaluate("[...document.querySelectorAll('#stage img')].map((layer) => Number(layer.style.opacity))")


def test_columns_sort_both_ways_and_undefined_values_stay_last(page: "playwright.Page") -> None:
    assert _column(page, 1) == ["back", "red", "green", "<b>never</b>"]
    recall = page.get_by_role("button", name="recall")
    for direction in ("ascending", "descending"):
        recall.click()
        header = page.locator("#class-table th", has=recall)
        assert header.get_attribute("aria-sort") == direction
        values = _column(page, 6)
        assert values[-1] == "n/a" and len(values) == 4
        numbers = [float(value) for value in values[:-1]]
        assert numbers == sorted(numbers, reverse=direction == "descending")
    page.locator("#class-table").get_by_role("button", name="truth").click()
    counts = [int(value.replace(",", "")) for value in _column(page, 7)]
    assert counts == sorted(counts, reverse=True)
    page.locator("#class-table").get_by_role("button", name="class").click()
    assert _column(page, 1) == ["back", "red", "green", "<b>never</b>"]


def test_undefined_classes_hide_and_come_back(page: "playwright.Page") -> None:
    row = page.locator("#class-table tbody tr", has_text="never")
    assert row.is_visible()
    page.locator("#hide-absent").check()
    assert not row.is_visible() and page.locator("#class-table tbody tr:visible").count() == 3
    page.locator("#hide-absent").uncheck()
    assert row.is_visible()


def test_pointing_at_a_cell_of_the_matrix_shows_its_counts(page: "playwright.Page") -> None:
    cells = page.locator("#matrix td[data-truth]")
    assert cells.count() == 16
    cells.nth(5).hover()
    text = page.locator("#matrix-readout").inner_text()
    assert re.fullmatch(r"red predicted as red: [\d,]+ pixels, [\d.]+ % of [\d,]+", text)
    assert cells.nth(5).get_attribute("title") == text
    shares = [float(text) for text in cells.all_inner_texts()[:4] if re.fullmatch(r"[\d.]+", text)]
    assert sum(shares) == pytest.approx(100, abs=0.3)


def test_keys_go_from_image_to_image_worst_first(page: "playwright.Page") -> None:
    score = page.locator("#score")
    names = [page.locator("#name").inner_text()]
    for place in range(2, 6):
        page.keyboard.press("ArrowRight")
        assert score.inner_text().startswith(f"{place} of 5, image IoU ")
        names.append(page.locator("#name").inner_text())
    assert sorted(names) == [f"val_{number}" for number in range(5)]
    page.keyboard.press("ArrowRight")
    assert page.locator("#name").inner_text() == names[-1] and page.locator("#next").is_disabled()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#name").inner_text() == names[-2]
    ious = [float(text.split()[-1]) for text in page.locator(".thumb").all_inner_texts()]
    assert ious == sorted(ious)
    page.locator(".thumb").first.click()
    assert page.locator("#name").inner_text() == names[0]
    assert page.locator('.thumb[aria-selected="true"]').count() == 1


def test_the_slider_fades_between_the_four_views(page: "playwright.Page") -> None:
    slider = page.locator("#view")
    slider.fill("0")
    assert _opacities(page) == [1, 0, 0, 0]
    slider.fill("1.5")
    assert _opacities(page) == pytest.approx([1, 1, 0.5, 0])
    for number, view in enumerate(("image", "truth", "prediction", "errors")):
        page.locator("#stop-buttons").get_by_role("button", name=view).click()
        assert float(slider.input_value()) == number
        assert page.locator("#full").get_attribute("href") == f"overlays/val/{_name(page)}/{view}.jpg"
    page.locator("body").press("2")
    assert _opacities(page) == [1, 1, 0, 0]
    assert page.locator("#stage img").nth(1).evaluate("(layer) => layer.naturalWidth") == 56
    # The slider's own keys are its own while it has the focus, and the image stays.
    before = _name(page)
    slider.press("ArrowRight")
    assert _name(page) == before and float(slider.input_value()) > 1


def _name(page: "playwright.Page") -> str:
    return page.locator("#name").inner_text()


def test_a_class_filters_and_orders_the_images(page: "playwright.Page") -> None:
    options = page.locator("#filter option").all_inner_texts()
    assert options[:4] == ["all (5)", "back (5)", "red (5)", "green (5)"]
    page.locator("#filter").select_option("1")
    scores = [float(text.split()[-1]) for text in page.locator(".thumb").all_inner_texts()]
    assert scores == sorted(scores) and len(scores) == 5
    assert "worst IoU of red first" in page.locator("#shown").inner_text()
    red = page.locator("#legend li").nth(1).inner_text()
    assert red.startswith("red")
    assert float(red.removeprefix("red")) == scores[0]
    assert "ignored" in page.locator("#legend").inner_text()


def test_the_curves_tell_values_under_the_pointer(page: "playwright.Page") -> None:
    chart = page.locator("figure", has_text="Learning rate")
    chart.locator("svg").hover()
    assert re.match(r"step [23]: learning rate [\d.e-]+", chart.locator(".readout").inner_text())
    assert chart.locator(".cursor").get_attribute("hidden") is None
    page.locator("h1").hover()
    assert chart.locator(".cursor").get_attribute("hidden") == ""


def test_light_and_dark_follow_the_system_and_the_button(page: "playwright.Page") -> None:
    def paper() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.emulate_media(color_scheme="dark")
    dark = paper()
    assert light != dark
    page.locator("#theme").click()
    assert paper() == light
    page.reload()
    assert paper() == light


@pytest.mark.parametrize("width", [400, 800, 1600])
def test_no_width_scrolls_sideways(page: "playwright.Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    stage = page.locator("#stage").bounding_box()
    assert stage is not None and stage["width"] > 0.75 * min(width - 50, 1100)
    for name in ("#previous", "#next", "#view", "#filter"):
        box = page.locator(name).bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
