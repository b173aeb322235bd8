"""The page as a Space serves it: through gradio's client, and in a headless Chromium where there is one."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
from helpers.tiny import run_cli
from PIL import Image

import dinoseg

gradio_client = pytest.importorskip("gradio_client", reason="gradio is not installed (pip install 'dinoseg[app]')")
pytest.importorskip("gradio", reason="gradio is not installed (pip install 'dinoseg[app]')")

CHROMIUM = os.environ.get("DINOSEG_CHROMIUM") or shutil.which("chromium") or ""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
REPOSITORY = Path(dinoseg.__file__).parents[1]

# Writes down whom the server talks to, before anything else is imported.
WATCH = """
import os, sys

def watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
        with open(os.environ["WATCHED"], "a") as file:
            print(event, host, file=file)

sys.addaudithook(watch)
"""
# What an environment may say; none of it is heeded.
LOUD = {
    "GRADIO_ANALYTICS_ENABLED": "True",
    "GRADIO_SHARE": "True",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_ALLOWED_PATHS": "/",
    "GRADIO_MCP_SERVER": "True",
    "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://traces.example.org:4318",
}


@dataclass(frozen=True)
class Served:
    """A page that is served, its process, and what that wrote down."""

    address: str
    process: subprocess.Popen[str]
    watched: Path
    run: Path
    pictures: list[Path]
    log: Path


@pytest.fixture(scope="module")
def served(tiny_run: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data, run = tiny_run
    base = tmp_path_factory.mktemp("space")
    space, watched, log = base / "space", base / "watched.txt", base / "log.txt"
    with pytest.MonkeyPatch.context() as patch:
        assert run_cli(["app", run, "--space", space], patch) == 0
    (base / "watch").mkdir()
    (base / "watch" / "sitecustomize.py").write_text(WATCH)
    paths = [base / "watch", REPOSITORY]
    environment = {**os.environ, **LOUD, "PORT": "0", "WATCHED": str(watched)}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "TMPDIR": str(base)}
    environment.pop("SPACE_ID", None)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=space, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/)  shows run; this machine alone reaches it; Ctrl-C ends it", line)
        assert found, line + log.read_text()
        yield Served(found[1], process, watched, run, sorted((data / "test" / "images").iterdir()), log)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


@pytest.fixture(scope="module")
def expected(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``dinoseg predict`` writes of the same pictures with the exported run."""
    out = tmp_path_factory.mktemp("expected")
    exported = served.log.parent / "space" / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert run_cli(["predict", exported, *served.pictures, "--out", out], patch) == 0
    return out


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return gradio_client.Client(served.address, verbose=False, analytics_enabled=False)


def get(served: Served, path: str) -> bytes:
    with urlopen(served.address + path.replace("&amp;", "&")) as answer:
        return answer.read()


def link(page: str, name: str) -> str:
    found = re.search(rf'href="({name}[^"]+)"', page)
    assert found is not None
    return found[1]


def test_a_space_serves_the_label_maps_that_predict_writes(served: Served, client: Any, expected: Path) -> None:
    files = [gradio_client.handle_file(path) for path in served.pictures]
    status = client.predict(files, api_name="/predict")[1]
    assert "3 pictures done." in status
    keys = link(status, "labels.zip").partition("of=")[2].split(",")
    for key, path in zip(keys, served.pictures, strict=True):
        page = client.predict(key, api_name="/show")
        assert f"<h2>{path.name} " in page
        written = expected / "labels" / f"{path.stem}.png"
        assert get(served, link(page, "labels/")) == written.read_bytes()
        drawn = Image.open(io.BytesIO(get(served, link(page, "overlay/"))))
        assert np.array_equal(drawn, Image.open(expected / "overlays" / written.name))


def test_what_is_no_picture_is_said_and_no_address_is_fetched(served: Served, client: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    status = client.predict([gradio_client.handle_file(tmp_path / "notes.png")], api_name="/predict")[1]
    assert "notes.png: not an image that can be read; replace or remove the file" in status
    elsewhere = {"path": "http://pictures.example.org/a.png", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(Exception, match="addresses are not fetched"):
        client.predict([elsewhere], api_name="/predict")
    assert "example.org" not in (served.watched.read_text() if served.watched.exists() else "")


def test_the_page_is_reached_from_this_machine_alone(served: Served) -> None:
    listening = [
        entry.laddr.ip
        for entry in psutil.Process(served.process.pid).net_connections("inet")
        if entry.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    config = get(served, "config").decode()
    assert '"analytics_enabled":false' in config and "fonts.googleapis" not in get(served, "").decode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    if not Path(CHROMIUM).is_file():
        pytest.skip("no chromium (apt-get install chromium, or name one in DINOSEG_CHROMIUM)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Any, served: Served) -> Iterator[Any]:
    """The page with two pictures dropped; afterwards it must have asked nobody else, and have had no error."""
    context = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="light")
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    troubles: list[str] = []
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("request", lambda request: troubles.append(request.url))
    opened.goto(served.address)
    opened.locator("input[type=file]").set_input_files(served.pictures[:2])
    opened.get_by_text("2 pictures done.").wait_for()
    opened.get_by_text("All 2 label maps").wait_for()
    yield opened
    context.close()
    own = (served.address, "data:", f"blob:{served.address}")
    assert [trouble for trouble in troubles if not trouble.startswith(own)] == []


def shown(page: Any, view: str = "") -> np.ndarray:
    """The pixels of the drawn picture, once it shows a view."""
    if view:
        page.locator(f'.dz-drawn[data-view*="{view}"]').wait_for()
    pixels = page.evaluate(
        """async () => {
          const image = document.querySelector(".dz-drawn"), canvas = document.createElement("canvas");
          await image.decode();
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          return [canvas.width, canvas.height, ...context.getImageData(0, 0, canvas.width, canvas.height).data];
        }"""
    )
    return np.array(pixels[2:], np.uint8).reshape(pixels[1], pixels[0], 4)[..., :3]


def test_the_browser_shows_the_overlay_pixel_by_pixel_and_controls_change_it(page: Any, served: Served) -> None:
    prediction = dinoseg.load(served.run, device="cpu").predict(served.pictures[0])
    picture = np.asarray(prediction.image)
    assert np.array_equal(shown(page), prediction.overlay(legend=False))
    page.locator("#dz-opacity").fill("80")
    strong = shown(page, "opacity=80")
    assert np.array_equal(strong, prediction.overlay(0.8, legend=False))
    for name, index in (("red", 1), ("green", 2)):
        page.locator(".dz-legend label", has_text=name).locator("input").uncheck()
        hidden = np.isin(prediction.class_map, range(1, index + 1))
        assert np.array_equal(
            shown(page, f"hidden={','.join(map(str, range(1, index + 1)))}"),
            np.where(hidden[..., None], picture, strong),
        )
    assert "opacity=80&hidden=1,2" in page.locator(".dz-overlay").get_attribute("href")
    page.get_by_text("Confidence", exact=True).click()
    grey = shown(page, "view=confidence")
    assert (grey[..., 0] == grey[..., 2]).all() and grey.max() > grey.min()
    assert page.locator("#dz-opacity").is_disabled() and page.get_by_text("unsure").is_visible()
    page.get_by_text("Classes", exact=True).click()


def test_another_picture_keeps_the_controls(page: Any, served: Served) -> None:
    page.locator("#dz-opacity").fill("30")
    page.locator("input[aria-label=Picture]").click()
    page.get_by_role("option", name=served.pictures[1].name).click()
    page.locator("h2", has_text=served.pictures[1].name).wait_for()
    page.locator('.dz-drawn[data-view*="opacity=30"]').wait_for()
    assert page.locator("#dz-opacity").input_value() == "30"
    assert not page.locator(".dz-legend label", has_text="red").locator("input").is_checked()


def test_keys_reach_every_control_and_move_the_line(page: Any) -> None:
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => {
                  const at = document.activeElement;
                  return (at.getAttribute("aria-label") || at.closest("label")?.innerText || at.innerText || "").trim();
                }"""
            ).split("\n")[0]
        )
    named = (
        "Click to upload",
        "Picture",
        "Classes",
        "Opacity",
        "Before and after",
        "red",
        "green",
        "Label map",
        "Overlay",
        "All 2",
    )
    for name in named:
        assert any(found.startswith(name) for found in reached), (name, reached)
    curtain = page.locator(".dz-curtain")
    curtain.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".dz-stage").evaluate("(stage) => stage.style.getPropertyValue('--at')") == "3"


@pytest.mark.parametrize("width", [400, 1300])
def test_no_width_scrolls_sideways_in_light_and_dark(page: Any, width: int, tmp_path: Path) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    papers = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", scheme == "dark")
        time.sleep(0.2)
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in (".dz-stage", "#dz-opacity", ".dz-legend", ".dz-overlay", ".dz-drop"):
            box = page.locator(name).first.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width, name
    assert papers[0] != papers[1]


def test_ending_it_leaves_nothing_and_it_spoke_to_nobody(served: Served) -> None:
    """The last test: it ends the server."""
    base = served.log.parent
    assert list(base.glob("dinoseg-app-*"))
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(120) == 128 + signal.SIGTERM
    assert list(base.glob("dinoseg-app-*")) == []
    assert not served.watched.exists(), served.watched.read_text()
    assert "Traceback" not in served.log.read_text(), served.log.read_text()
