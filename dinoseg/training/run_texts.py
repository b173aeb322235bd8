"""Label table and config of a run as texts, for trackers."""

from omegaconf import OmegaConf

from dinoseg.config import Config, get_key
from dinoseg.config_loading import describe_keys, show_value
from dinoseg.label_settings import show_label
from dinoseg.labels import LabelSpace


def config_values(config: Config) -> dict[str, str]:
    """Every dotted key with its value, as YAML would write it."""
    return {entry.key: show_value(get_key(config, entry.key)) for entry in describe_keys()}


def run_texts(config: Config, label_space: LabelSpace) -> dict[str, str]:
    """``labels``, a Markdown table, and ``config``, YAML as a Markdown code block."""
    rows = ["| class index | label ids | name | colour |", "| ---: | --- | --- | --- |"]
    for index, label in enumerate(label_space.classes):
        ids = ", ".join(show_label(label_id, label_space.kind) for label_id in label.label_ids)
        colour = "#{:02x}{:02x}{:02x}".format(*label.colour)
        rows.append(f"| {index} | {ids} | {label.name.replace('|', chr(92) + '|')} | {colour} |")
    ignored = ", ".join(show_label(label_id, label_space.kind) for label_id in label_space.ignored_ids) or "none"
    yaml = OmegaConf.to_yaml(OmegaConf.structured(config))
    return {
        "labels": "\n".join([*rows, "", f"ignored: {ignored}", ""]),
        "config": "".join(f"    {line}\n" for line in yaml.splitlines()),
    }
