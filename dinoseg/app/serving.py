"""The page's server: on one address, for as long as the command runs, and silent towards the rest of the world."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PATIENCE_SECONDS = 5
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    return host in _LOOPBACK or host.startswith("127.")


def quiet_environment(uploads: Path) -> None:
    """Switches off what gradio and the Hub's client would send, whatever the environment says; before the import.

    Variables of gradio's own do not change the page: one of them makes it public, others open more of the disk.

    Args:
        uploads: where files that are dropped lie.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # FastAPI's, which sends traces to wherever the environment says.
    os.environ.pop("FASTAPI_OTEL_AUTO_CONFIGURE", None)
    os.environ["OTEL_SDK_DISABLED"] = "true"


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Args:
        port: 0 for any that is free.

    Raises:
        ValueError: the port is in use, or the address is none of this machine's.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: choose 0 to 65535, 0 for any that is free")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen(128)
        except OSError as error:
            raise ValueError(
                f"--host {host} --port {port}: {error.strerror or error}; end what listens there, or give another "
                "--port (0: any that is free)"
            ) from None
        yield found


def serve(server: Any, listener: socket.socket, on_start: Callable[[str], None]) -> None:
    """Answers until the command is ended.

    Args:
        server: an ASGI application.
        on_start: is told the address of the page once it answers.
    """
    import uvicorn

    running = uvicorn.Server(uvicorn.Config(server, log_level="warning", timeout_graceful_shutdown=1))
    ended = threading.Event()

    def run() -> None:
        try:
            running.run(sockets=[listener])
        finally:
            ended.set()

    # In a thread of its own: signals are answered where the command stands. An event is waited for, not the thread:
    # in Python 3.11 a join that a signal breaks off takes the thread for dead.
    threading.Thread(target=run, daemon=True).start()
    try:
        while not running.started and not ended.wait(0.02):
            pass
        if running.started:
            on_start(address_of(listener))
        while not ended.wait(0.5):
            pass
    finally:
        # Browsers that hold a connection are cut off, of which uvicorn would print a traceback each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        running.should_exit = True
        ended.wait(_PATIENCE_SECONDS)


def address_of(listener: socket.socket) -> str:
    """What a browser on this machine is given."""
    host, port = listener.getsockname()[:2]
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{named}:{port}/"
