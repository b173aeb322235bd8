from dinoseg.config.changes import with_changes
from dinoseg.config.loading import load_config


def test_a_changed_config_leaves_the_other_as_it_was() -> None:
    config = load_config(["model.weights=file.pth", "eval.crop_size=64"])
    changed = with_changes(config, {"model.weights": "none", "bs": 9})
    assert (changed.model.weights, changed.bs, changed.eval.crop_size) == ("none", 9, 64)
    assert (config.model.weights, config.bs) == ("file.pth", 2)
    assert with_changes(config, {}) == config
