"""A report is the page of one run."""

from pathlib import Path

from dinoseg.run_folder.ensemble_folder import is_ensemble, is_run
from dinoseg.system.messages import shell_word
from dinoseg.zoo.address import is_address


def refuse_other_than_run(run: Path) -> None:
    """Raises ValueError for several runs as one, figures alone, and what is on the Hub: none has what a page shows."""
    words = shell_word(run)
    if is_ensemble(run):
        what, of_one = (
            "several runs as one",
            f"one of the runs in it; dinoseg eval {words} prints the figures of all",
        )
    elif is_address(str(run)):
        what, of_one = (
            "as on the Hub, without curves and figures of single images",
            f"a run folder of it: dinoseg export {words} FOLDER, then dinoseg eval FOLDER datasets.root=DATA",
        )
    elif (run / "metrics.json").is_file() and not is_run(run):
        what, of_one = (
            "figures without a run",
            f"the run that they are of; dinoseg compare {words} OTHER reads such figures",
        )
    else:
        return
    raise ValueError(f"{run}: {what}; a report is the page of one run (its curves and pictures): give {of_one}")
