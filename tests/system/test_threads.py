"""How threads wait is set before PyTorch is there, and left to whoever has set it."""

import os
import subprocess
import sys

import pytest

from dinoseg.system.threads import wait_briefly


def test_threads_wait_briefly_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)):
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        wait_briefly()
        assert os.environ.get("GOMP_SPINCOUNT") == expected
        # Not what the test has set, so that it is undone.
        monkeypatch.setenv("GOMP_SPINCOUNT", "")


def test_the_command_line_says_so_before_pytorch_is_imported() -> None:
    program = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('GOMP_SPINCOUNT'), flush=True)\n"
        "            os._exit(0)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "sys.argv = ['dinoseg', 'predict', 'nowhere', 'photo.png']\n"
        "from dinoseg.__main__ import main\n"
        "main()\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "10000\n", done.stderr
