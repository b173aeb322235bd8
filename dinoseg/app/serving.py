"""The page's server: on one address, for as long as the command runs, and silent towards the rest of the world."""

import errno
import ipaddress
import logging
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants

_PATIENCE_SECONDS = 5
_PORT = re.compile(r":\d+$")
_ELSEWHERE = b"This page is for the machine that serves it: open it as localhost, or start it with --host 0.0.0.0.\n"

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LocalNames:
    """An ASGI application that answers to names of this machine alone.

    A page of the web whose own name suddenly leads to this machine would otherwise be taken by the browser for ours,
    and could read what was dropped (DNS rebinding).

    Args:
        server: the application behind it.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One connection."""
        asks = scope["type"] in ("http", "websocket")
        if not asks or is_loopback(_asked_host(scope)):
            await self._server(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": _ELSEWHERE})


def _asked_host(scope: Any) -> str:
    """The name that a browser was given, without its port."""
    named = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return _PORT.sub("", named).strip("[]")


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
    # Which the Hub's client has read already, if it was imported for an address.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    # FastAPI's, which sends traces to wherever the environment says.
    os.environ.pop("FASTAPI_OTEL_AUTO_CONFIGURE", None)
    os.environ["OTEL_SDK_DISABLED"] = "true"


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Args:
        port: 0 for any that is free.

    Raises:
        ValueError: the port is in use or the administrator's, or the address is none of this machine's.
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
                f"--host {host} --port {port}: {error.strerror or error}; {_way_to_listen(error)}"
            ) from None
        yield found


def _way_to_listen(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "end what listens there, or give another --port (0: any that is free)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 are the administrator's: give another --port (0: any that is free)"
    return "give an address of this machine (127.0.0.1: for itself alone, 0.0.0.0: for the network)"


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
