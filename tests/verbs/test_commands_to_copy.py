"""Commands that messages give to copy name places with spaces as a shell takes them."""

from pathlib import Path

import pytest

from dinoseg.config import Config
from dinoseg.evaluation.compare import read_compared
from dinoseg.report.one_run import refuse_other_than_run
from dinoseg.run_folder.folder import RunFolder, settings_of_run
from dinoseg.run_folder.recorded_evaluation import read_evaluation
from dinoseg.system.messages import shell_word
from dinoseg.training.progress import Progress
from dinoseg.verbs.train import _last_words

RUN = Path("my run")


def test_what_a_shell_would_take_apart_is_quoted() -> None:
    assert [shell_word(place) for place in (RUN, Path("runs/a"), "hf:owner/name@v1", "it's\n")] == [
        "'my run'",
        "runs/a",
        "hf:owner/name@v1",
        "'it'\"'\"'s\\n'",
    ]


def test_what_comes_after_a_training() -> None:
    config = Config()
    stopped = _last_words(RunFolder(RUN), config, Progress(step=1))
    assert stopped.endswith("go on with: dinoseg train 'my run' --resume")
    last = config.scheduler.total_iter
    done = _last_words(RunFolder(RUN), config, Progress(step=last, evaluated_step=last))
    assert "next: dinoseg eval 'my run' --checkpoint last\n" in done
    assert done.endswith("dinoseg predict 'my run' --checkpoint last IMAGES --out predictions/")


def test_what_to_run_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"give dinoseg train datasets.root=DATA output_dir='my run'$"):
        settings_of_run([str(RUN)])
    with pytest.raises(ValueError, match="run `dinoseg eval 'my run' --split val` first"):
        read_evaluation(RunFolder(RUN), "val", None)
    with pytest.raises(ValueError, match=r"`dinoseg eval 'hf:my run' datasets.root=DATA"):
        read_compared(Path("hf:my run"), "val")
    with pytest.raises(ValueError, match="dinoseg export 'hf:my run' FOLDER"):
        refuse_other_than_run(Path("hf:my run"))
