"""The whole job without data, network or weights: what ``dinoseg demo`` does.

The backbone is a small ViT trained from scratch in the demo itself, since no pretrained weights can be assumed; the
verbs are those a user would type, and each is printed before it runs.
"""

import shlex
import time
import warnings
from pathlib import Path

from rich.console import Console

from dinoseg.check.check import check_dataset
from dinoseg.config import Config
from dinoseg.config.loading import load_config
from dinoseg.console.check_report import render_report
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.outputs import OutputFolder
from dinoseg.verbs.demo_retina import generate_dataset
from dinoseg.verbs.evaluate import evaluate_run
from dinoseg.verbs.predict import predict_run
from dinoseg.verbs.train import train

SETTINGS = [
    "datasets.classes={0: background, 1: artery, 2: vein, 3: crossing}",
    "model.dino_hub=tiny_vit4",
    "model.weights=none",
    "model.mode=full",
    "optimizer.backbone_lr_factor=1.0",
    "optimizer.gradient_clip=1.0",
    "bs=4",
    "num_workers=0",
    "transforms.train.crop_size=96",
    "transforms.train.random_img_size_ratio_range=[0.8, 1.25]",
    "transforms.train.max_class_share=1.0",
    "transforms.train.vertical_flip_prob=0.5",
    "eval.crop_size=128",
    "eval.stride=96",
]

HEAD_SETTINGS = {
    "linear": [
        "decoder_head.dropout=0.0",
        "optimizer.lr=2e-3",
        "train.diceloss_weight=1.0",
        "scheduler.total_iter=500",
        "eval.eval_interval=250",
    ],
    "dense": [
        "decoder_head.stem_widths=[16, 24, 32, 48]",
        "decoder_head.dropout=0.0",
        "optimizer.lr=2e-3",
        "scheduler.total_iter=500",
        "eval.eval_interval=250",
    ],
    "m2f": [
        "decoder_head.hidden_dim=64",
        "decoder_head.num_queries=12",
        "decoder_head.encoder_layers=2",
        "decoder_head.decoder_layers=3",
        "decoder_head.encoder_ffn_dim=128",
        "decoder_head.decoder_ffn_dim=128",
        "decoder_head.adapter_inplane=16",
        "decoder_head.adapter_drop_path=0.0",
        "m2f_train.num_points=2048",
        "optimizer.lr=1e-3",
        "scheduler.total_iter=400",
        "eval.eval_interval=200",
    ],
}


def run_demo(out: Path, head: str, console: Console) -> Path:
    """Makes a data set under ``out``, checks it, trains, evaluates and predicts; returns the run folder.

    Raises:
        ValueError: an unknown head, or ``out`` holds something else.
    """
    if head not in HEAD_SETTINGS:
        raise ValueError(f"--head {head}: choose {' or '.join(HEAD_SETTINGS)}")
    started = time.perf_counter()
    data, run, predictions = out / "data", out / f"run-{head}", out / f"predictions-{head}"
    if run.exists():
        raise ValueError(f"{run}: a demo ran here already; remove it, or give another folder with --out")
    settings = [
        f"datasets.root={data}",
        f"output_dir={run}",
        f"decoder_head.type={head}",
        *SETTINGS,
        *HEAD_SETTINGS[head],
    ]
    config = load_config(settings)
    console.rule("a retina-like data set, label ids 0 to 3")
    generate_dataset(data, seed=0)
    _show(console, "check", settings[:1] + SETTINGS[:1])
    console.print(render_report(check_dataset(config.datasets, None)))
    _show(console, "train", settings)
    _train_quietly(config, console)
    _show(console, "eval", [str(run), "--split", "test"])
    evaluate_run(ChosenRun(run, device=None), "test", console)
    _show(console, "predict", [str(run), str(data / "test" / "images"), "--out", str(predictions)])
    predict_run(ChosenRun(run), [str(data / "test" / "images")], OutputFolder(predictions), console)
    console.rule("done")
    console.print(f"{time.perf_counter() - started:.0f} s in all. Look at:")
    for path in sorted((predictions / "overlays").glob("*.png"))[:4]:
        console.print(f"  {path}")
    return run


def _train_quietly(config: Config, console: Console) -> None:
    with warnings.catch_warnings():
        # Random initialisation is what the demo means to start from.
        warnings.filterwarnings("ignore", message=".*random.*")
        train(config, console)


def _show(console: Console, verb: str, arguments: list[str]) -> None:
    console.rule(verb)
    command = " ".join(["dinoseg", verb, *(shlex.quote(argument) for argument in arguments)])
    console.print(f"$ {command}", highlight=False, markup=False, soft_wrap=True)
