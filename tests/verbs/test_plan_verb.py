"""``dinoseg plan`` and ``dinoseg train minutes=`` on the command line, on tiny data with a random tiny backbone."""

import time
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli, write_tiny_dataset
from PIL import Image

import dinoseg
from dinoseg.config.loading import load_config
from dinoseg.planning import planner
from dinoseg.run_folder.folder import RunFolder

TINY = ["model.dino_hub=tiny_vit8", "model.weights=none", "num_workers=0", "device=cpu", "trackers=[]"]
pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")


@pytest.fixture(autouse=True)
def measured_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a generous budget little goes into measuring."""
    monkeypatch.setattr("dinoseg.verbs.plan._MASKS", (0.3, 1.0))
    monkeypatch.setattr("dinoseg.verbs.plan._STEPS", (0.3, 1.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("plan") / "data", {"train": 9, "val": 3})


def test_a_plan_is_printed_written_and_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = tmp_path / "plan.yaml", tmp_path / "run"
    assert run_cli(["plan", f"datasets.root={data}", "minutes=10", "--out", recipe, *TINY], monkeypatch) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "planning: checks the data, looks at masks (0.3 s) and times the ways to train that may fit "
    )
    assert "images: 9 train, 3 val; 56 x 40 px, 3 bands; widths of" in said
    assert "model.backbone_scale=" in said and "a patch is 8" in said
    assert f"next: dinoseg train config={recipe} output_dir=RUN" in said
    planned = load_config([f"config={recipe}"])
    assert planned.datasets.root == str(data) and planned.model.weights == "none"
    assert planned.scheduler.total_iter >= 20
    short = ["scheduler.total_iter=2", "eval.eval_interval=2"]
    assert run_cli(["train", f"config={recipe}", f"output_dir={run}", *short], monkeypatch) == 0
    trained = RunFolder(run).read_config()
    for key in ("bs", "decoder_head", "transforms"):
        assert getattr(trained, key) == getattr(planned, key)
    # A file that may have been changed by hand is left alone.
    before = recipe.read_text()
    assert run_cli(["plan", f"datasets.root={data}", "minutes=10", "--out", recipe, *TINY], monkeypatch) == 1
    assert f"--out {recipe}: is there already" in capsys.readouterr().err
    assert recipe.read_text() == before


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "plan.yaml"
    assert run_cli(["plan", f"datasets.root={data}", "minutes=10", "--out", out, *TINY], monkeypatch) == 1
    said = capsys.readouterr()
    assert f"--out {tmp_path / 'file'}: cannot be written" in said.err
    assert "planning" not in said.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["scheduler.total_iter=0"], "scheduler.total_iter=0 trains nothing"),
        (["decoder_head.type=eomt", "model.mode=freeze"], "model.mode=freeze with decoder_head.type=eomt"),
        (["output_dir=file/run"], "output_dir file/run: cannot be written: "),
        (["load_from=runs/none"], "load_from=runs/none: no such folder or file; give a run folder"),
    ],
)
def test_a_training_that_cannot_be_is_told_before_anything_is_measured(
    given: list[str],
    message: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert run_cli(["train", f"datasets.root={data}", "minutes=10", *TINY, *given], monkeypatch) == 1
    said = capsys.readouterr()
    assert message in said.err and "planning" not in said.out


def test_the_time_of_all_folds_is_said_to_be_of_each(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = ["datasets.folds=3", "datasets.fold=all"]
    assert run_cli(["plan", f"datasets.root={data}", "minutes=10", *folds, *TINY], monkeypatch) == 0
    assert "of each of 3 folds, one after the other" in capsys.readouterr().out


def test_a_training_is_done_within_its_minutes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, started = RunFolder(tmp_path / "run"), time.monotonic()
    settings = [f"datasets.root={data}", f"output_dir={run.path}", "decoder_head.type=linear", "bs=3", *TINY]
    # Of a random backbone they are kept where that is asked for.
    settings += ["train.cache_features=true", f"train.cache_folder={tmp_path / 'cache'}"]
    # So that it is done sooner, on a busy machine, too.
    monkeypatch.setitem(planner.MOST_STEPS, "linear", 40)
    assert run_cli(["train", *settings, "minutes=10"], monkeypatch) == 0
    assert time.monotonic() - started < 600
    said = capsys.readouterr().out
    assert "decoder_head.type=linear (given)" in said and "bs=3 (given)" in said
    config = run.read_config()
    assert (config.decoder_head.type, config.bs, config.train.cache_features) == ("linear", 3, True)
    assert run.open_checkpoint("last").progress["evaluated_step"] is not None
    assert run.evaluation("val").is_dir()
    assert run.plan.read_text().startswith("# Made by: dinoseg train datasets.root=")
    assert "the plan" in run.log.read_text()
    # It stands alone: the same training, without a clock.
    again = load_config([f"config={run.plan}", f"output_dir={run.path}"])
    assert again.model_dump(exclude={"scheduler", "eval"}) == load_config([], base=config).model_dump(
        exclude={"scheduler", "eval"}
    ) | {"datasets": again.datasets.model_dump()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["minutes=-3"], "minutes=-3: no time to train in; give a number above 0"),
        (["minutes=0.001"], "minutes=0.001 has no room for a training here"),
        (["minutes=x"], "minutes=x: not a number"),
        (["minutes=2", "--resume"], "minutes=2 with --resume last: how long a run is was settled when it began"),
        (["minutes=2", "datasets.folds=3", "datasets.fold=all"], "minutes=2 with datasets.folds=3: each fold is a"),
        (["minutes=2", "bss=3"], "unknown key 'bss'"),
        (["minutes=2", "runs/x"], "runs/x: neither key=value nor a run folder: no such folder"),
    ],
)
def test_what_cannot_be_is_said(
    arguments: list[str],
    message: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = [f"datasets.root={data}", f"output_dir={tmp_path / 'run'}", *TINY]
    assert run_cli(["train", *settings, *arguments], monkeypatch) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_takes_no_minutes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = [f"datasets.root={data}", f"output_dir={run}", *TINY, "scheduler.total_iter=1", "eval.eval_interval=1"]
    assert run_cli(["train", *settings], monkeypatch) == 0
    for more, message in ((["--resume"], "minutes=2 with --resume last: how long"), ([], "holds a training already")):
        assert run_cli(["train", run, "minutes=2", *more], monkeypatch) == 1
        assert message in capsys.readouterr().err


def test_minutes_of_several_processes_are_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_cli(["train", f"datasets.root={data}", "minutes=10", *TINY], monkeypatch) == 1
    assert "minutes=10 with several processes: a plan is measured in one" in capsys.readouterr().err


def test_a_run_that_is_there_is_told_before_anything_is_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"datasets.root={data}", f"output_dir={tmp_path / 'run'}", *TINY, "transforms.train.crop_size=32"]
    short = ["scheduler.total_iter=1", "eval.eval_interval=1"]
    assert run_cli(["train", *settings, *short], monkeypatch) == 0
    monkeypatch.setattr("dinoseg.verbs.plan.make_plan", lambda *arguments: pytest.fail("it was measured"))
    assert run_cli(["train", *settings, "minutes=1"], monkeypatch) == 1
    assert "holds a training already; add --resume" in capsys.readouterr().err


def test_no_images_and_a_class_without_a_pixel(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["plan", f"datasets.root={tmp_path / 'nothing'}", *TINY], monkeypatch) == 1
    assert "nothing" in capsys.readouterr().err
    copy = write_tiny_dataset(tmp_path / "copy", {"train": 3, "val": 2})
    for file in (copy / "train" / "masks").iterdir():
        mask = np.array(Image.open(file))
        Image.fromarray(np.where(mask == 2, 0, mask).astype(np.uint8)).save(file)
    assert run_cli(["plan", f"datasets.root={copy}", "minutes=10", *TINY], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "class_2: no pixel in the training images, so that it cannot be learned" in said


def test_from_python(data: Path, tmp_path: Path) -> None:
    settings = [f"datasets.root={data}", f"output_dir={tmp_path / 'run'}", *TINY]
    typed = {key: value for key, _, value in (setting.partition("=") for setting in settings)}
    run = dinoseg.train({**typed, "trackers": [], "minutes": 10, "scheduler.total_iter": 2})
    assert run.config.scheduler.total_iter == 2
    assert RunFolder(run.path).plan.is_file()
    with pytest.raises(ValueError, match="minutes with data sets of your own: a plan is made of folders"):
        dinoseg.train({"minutes": 1}, train_data=[], val_data=[])
