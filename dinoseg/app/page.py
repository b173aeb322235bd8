"""The page: the one file that knows gradio. What it shows is made elsewhere."""

from collections.abc import Generator, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from dinoseg.app.answers import Answer, Answers
from dinoseg.app.drop import predict_dropped
from dinoseg.app.fragments import Fragments
from dinoseg.app.gallery import Gallery
from dinoseg.app.shown_run import ShownRun

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONOSPACE = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
# Files that gradio keeps of uploads: looked through each so many seconds, removed when they are so many old. The page
# has its own.
_UPLOADS_SECONDS = (600, 3600)
# What gradio remembers of a browser; the least recent leaves.
_SESSIONS = 50


def build_server(runs: Sequence[ShownRun], gallery: Gallery, stays: str) -> Any:
    """The page and its addresses as an ASGI application.

    Args:
        stays: what becomes of the pictures, in a sentence.

    Raises:
        ValueError: gradio is not installed.
    """
    gradio = import_gradio()
    from fastapi import FastAPI

    fragments = Fragments(runs, stays)
    blocks = _build_blocks(gradio, runs, gallery, fragments)
    blocks.state_session_capacity = _SESSIONS
    server = FastAPI(title="dinoseg", docs_url=None, redoc_url=None, openapi_url=None)
    _add_addresses(server, Answers(gallery))
    return gradio.mount_gradio_app(
        server,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(gradio),
        # Not as css=, from which gradio drops rules that it does not know, such as those of containers.
        head=f"<style>{_template('page.css')}</style><script>{_template('page.js')}</script>",
    )


def import_gradio() -> Any:
    """The package. Raises ValueError where it is not installed."""
    try:
        import gradio
    except ImportError:
        raise ValueError("the page needs gradio, which is not installed: pip install 'dinoseg[app]'") from None
    return gradio


def _build_blocks(gradio: Any, runs: Sequence[ShownRun], gallery: Gallery, fragments: Fragments) -> Any:
    title = f"dinoseg: {', '.join(run.title for run in runs)}"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=_UPLOADS_SECONDS) as blocks:
        gradio.HTML(fragments.head(), apply_default_css=False)
        dropped = _picture_drop(gradio)
        status = gradio.HTML("", apply_default_css=False)
        chosen = gradio.Dropdown([], label="Picture", visible=False, interactive=True, filterable=True)
        result = gradio.HTML("", js_on_load=None, apply_default_css=False)
        predict = partial(_predict, gradio, runs, gallery, fragments)
        # One drop at a time, whoever drops: the models share a device.
        dropped.upload(
            predict,
            dropped,
            [dropped, status, chosen, result],
            api_name="predict",
            show_progress="hidden",
            concurrency_limit=1,
        )
        show = partial(_show, gallery, fragments)
        chosen.input(show, chosen, result, api_name="show", show_progress="hidden")
    return blocks


def _picture_drop(gradio: Any) -> Any:
    """Where pictures are dropped: files alone, since a server that fetches addresses makes connections."""
    drop = gradio.File(
        label="Drop pictures here, or choose them", file_count="multiple", height=130, elem_classes="dz-drop"
    )
    take = drop.async_move_resource_to_block_cache

    async def take_file(place: str | Path | None) -> str | None:
        if str(place).lower().startswith(("http:", "https:")):
            raise gradio.Error("drop files; addresses are not fetched", print_exception=False)
        return await take(place)

    # Not by a class of our own, beside whose file gradio would write a stub.
    drop.async_move_resource_to_block_cache = take_file
    return drop


def _predict(
    gradio: Any, runs: Sequence[ShownRun], gallery: Gallery, fragments: Fragments, dropped: list[str] | None
) -> Generator[tuple[Any, ...], None, None]:
    """Updates of the page while a drop is worked on; the first picture is shown as soon as it is there."""
    entries: list[tuple[str, str]] = []
    same = gradio.skip()
    for progress in predict_dropped(runs, gallery, list(map(Path, dropped or []))):
        picture, choice, shown = progress.finished, same, same
        if picture is not None:
            entries.append((picture.file_name, picture.key))
            if len(entries) == 1:
                # Those of the drop before are not offered beside this one.
                choice = gradio.Dropdown(choices=entries, value=picture.key, visible=False)
                shown = fragments.result(picture)
            else:
                # Which one is shown is the user's to change by now.
                choice = gradio.Dropdown(choices=entries, visible=True)
        elif not progress.name and len(entries) > 1:
            # Again with the last status: a browser that is behind may leave out what came between.
            choice = gradio.Dropdown(choices=entries, visible=True)
        yield None, fragments.status(progress, [key for _, key in entries]), choice, shown


def _show(gallery: Gallery, fragments: Fragments, key: str) -> str:
    """Another picture of the drop."""
    try:
        return fragments.result(gallery.get(key))
    except KeyError:
        return fragments.gone()


def _add_addresses(server: Any, answers: Answers) -> None:
    """Addresses of pictures and files, below that of the page."""
    from fastapi import Response

    def respond(answer: Answer) -> Response:
        return Response(answer.body, answer.status, answer.headers, answer.kind)

    @server.get("/given/{key}/{run}")
    def given(key: str, run: int) -> Response:
        return respond(answers.given(key, run))

    @server.get("/drawn/{key}/{run}")
    def drawn(key: str, run: int, view: str = "classes", opacity: float = 50, hidden: str = "") -> Response:
        return respond(answers.drawn(key, run, view, opacity, hidden))

    @server.get("/overlay/{key}/{run}")
    def overlay(key: str, run: int, view: str = "classes", opacity: float = 50, hidden: str = "") -> Response:
        return respond(answers.overlay(key, run, view, opacity, hidden))

    @server.get("/labels/{key}/{run}")
    def labels(key: str, run: int) -> Response:
        return respond(answers.labels(key, run))

    @server.get("/labels.zip")
    def all_labels(of: str) -> Response:
        return respond(answers.all_labels(of))


def _theme(gradio: Any) -> Any:
    """Calm colours, and the fonts of the system: none is fetched."""
    return gradio.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=list(_FONTS), font_mono=list(_MONOSPACE), radius_size="lg"
    )


def _template(name: str) -> str:
    return (files("dinoseg.app") / "templates" / name).read_text(encoding="utf-8")
