"""``metrics.jsonl``, read back: one line for every record of a training."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dinoseg.system.files import special_kind
from dinoseg.system.json_files import Record, check_document, parse_json


class TrainingRecord(Record):
    """What every line has; the figures stand beside it."""

    kind: str
    step: Annotated[int, Field(ge=0)]


def read_training_records(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that a kill cut short is passed over. Empty when there is no such file.

    Raises:
        ValueError: the file cannot be read, or a whole line is no record; names file, line and key.
    """
    if kind := special_kind(path):
        raise ValueError(f"{path}: cannot be read ({kind}); remove it, which costs the curves only")
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); remove it, which costs the curves only") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        check_document(record, TrainingRecord, f"{path}: line {number}", "remove the line")
        records.append(record)
    return records
