"""``dinoseg app``: a page on this machine that shows what runs predict."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dinoseg.app.gallery import Gallery
from dinoseg.app.page import build_server, import_gradio
from dinoseg.app.serving import LocalNames, is_loopback, listening, quiet_environment, serve
from dinoseg.app.shown_run import open_runs
from dinoseg.config.loading import is_setting
from dinoseg.config.unused_keys import note_unused_keys
from dinoseg.inference.chosen_runs import Chosen, choose_runs, describing_keys

_HOST, _PORT = "127.0.0.1", 7860


@dataclass(frozen=True)
class AppRequest:
    """What a command line asks for.

    Attributes:
        arguments: runs, and ``key=value`` changes of the config of each.
        checkpoint: ``best`` or ``last``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        host: address to listen on; None for that of this machine alone.
        port: 0 for any that is free; None for 7860.
    """

    arguments: Sequence[str]
    checkpoint: str = "best"
    device: str = "auto"
    host: str | None = None
    port: int | None = None

    def runs(self) -> list[Chosen]:
        """Each run on its own, or a folder of several as one. Raises ValueError where none is given."""
        settings = [argument for argument in self.arguments if is_setting(argument)]
        places = [argument for argument in self.arguments if argument not in settings]
        if not places:
            raise ValueError(
                "no run is given; give one or more run folders, exports or published heads (hf:owner/name)"
            )
        runs = [choose_runs([place], self.checkpoint, self.device, settings) for place in places]
        note_unused_keys(settings, "app", tuple(key for run in runs for key in describing_keys(run)))
        return runs


def run_app(request: AppRequest, console: Console) -> None:
    """Serves the page until the command is ended; what was dropped is removed then.

    Raises:
        ValueError: no run, a port in use, or gradio is not installed.
    """
    host = _HOST if request.host is None else request.host
    port = _PORT if request.port is None else request.port
    with (
        tempfile.TemporaryDirectory(prefix="dinoseg-app-", ignore_cleanup_errors=True) as folder,
        listening(host, port) as listener,
    ):
        uploads = Path(folder) / "uploads"
        quiet_environment(uploads)
        # What costs seconds comes after what a user may have got wrong.
        runs = request.runs()
        import_gradio()
        shown = open_runs(runs)
        for run in shown:
            for note in run.notes:
                warnings.warn(f"{run.words}: {note}", stacklevel=2)
        alone = is_loopback(host)
        stays = (
            "Your pictures stay on this machine." if alone else "Your pictures go to the machine that serves this page."
        )
        server = build_server(shown, Gallery(Path(folder) / "pictures"), stays)
        if alone:
            server = LocalNames(server)

        def say(address: str) -> None:
            words = ", ".join(run.words for run in shown)
            who = "this machine alone reaches it" if alone else f"whoever reaches {host} can use it"
            console.print(f"{address}  shows {words}; {who}; Ctrl-C ends it", soft_wrap=True, markup=False)

        serve(server, listener, say)
