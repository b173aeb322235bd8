"""Where the page listens, and what the environment may not change."""

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from dinoseg.app.serving import LocalNames, address_of, is_loopback, listening, quiet_environment


def test_a_port_in_use_is_one_line() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address_of(taken) == f"http://127.0.0.1:{port}/"
        with (
            pytest.raises(
                ValueError, match=f"--host 127.0.0.1 --port {port}: Address already in use; end what listens"
            ),
            listening("127.0.0.1", port),
        ):
            pass
        with socket.create_connection(("127.0.0.1", port), 5):
            pass


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", 70000, "--port 70000: choose 0 to 65535"),
        ("203.0.113.7", 0, "--host 203.0.113.7 --port 0: .*; give an address of this machine"),
    ],
)
def test_an_address_that_is_none_of_this_machine_is_one_line(host: str, port: int, message: str) -> None:
    with pytest.raises(ValueError, match=message), listening(host, port):
        pass


def test_a_port_of_the_administrator_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(socket.socket):
        def bind(self, address: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    with (
        pytest.raises(ValueError, match="--port 80: Permission denied; ports below 1024 are the administrator's"),
        listening("127.0.0.1", 80),
    ):
        pass


def test_loopback_is_told_from_the_network() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.0.1.1", "::1", "localhost")] == [True] * 4
    elsewhere = ("0.0.0.0", "::", "192.168.1.5", "127.0.0.1.example.org", "")
    assert [is_loopback(host) for host in elsewhere] == [False] * len(elsewhere)
    with listening("0.0.0.0", 0) as everywhere:
        assert address_of(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}/"


def _answered(host: str, kind: str) -> list[dict[str, Any]]:
    """What a connection by this name is sent; the page behind answers ``page``."""
    sent: list[dict[str, Any]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "page"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> None: ...

    asyncio.run(LocalNames(page)({"type": kind, "headers": [(b"host", host.encode())]}, receive, send))
    return sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_foreign_name_that_leads_here_is_not_answered(kind: str) -> None:
    for host in ("localhost:7860", "127.0.0.1:7860", "[::1]:7860", "localhost"):
        assert _answered(host, kind) == [{"type": "page"}]
    for host in ("evil.example:7860", "127.0.0.1.evil.example", ""):
        first, *rest = _answered(host, kind)
        assert first == {"type": "websocket.close", "code": 1008} or first["status"] == 403
        assert not rest or b"open it as localhost" in rest[0]["body"]


def test_the_environment_is_silenced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = {"GRADIO_SHARE": "True", "GRADIO_ANALYTICS_ENABLED": "True", "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
    monkeypatch.setattr(os, "environ", {**os.environ, **said})
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    quiet_environment(tmp_path)
    assert {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")} == {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(tmp_path),
    }
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1" and os.environ["OTEL_SDK_DISABLED"] == "true"
    assert constants.HF_HUB_DISABLE_TELEMETRY is True
    assert "FASTAPI_OTEL_AUTO_CONFIGURE" not in os.environ
