"""``dinoseg`` and ``python -m dinoseg``: the command line, with signals heeded before anything large is imported."""

from dinoseg.system.signals import ending_at_signals
from dinoseg.system.threads import wait_briefly


def main() -> None:
    """Runs the command line."""
    wait_briefly()
    with ending_at_signals():
        from dinoseg.cli import main as run_command_line

        run_command_line()


if __name__ == "__main__":
    main()
