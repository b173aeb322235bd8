"""How a run decides, beyond its scores: what ``dinoseg calibrate`` found for it, as far as it is asked for."""

from dataclasses import dataclass
from typing import Any

from dinoseg.config import Config
from dinoseg.run_folder.calibration_file import CalibrationRecord, LeastPatches, TunedWeights

Found = TunedWeights | LeastPatches


@dataclass(frozen=True)
class Asked:
    """A key that asks for what was found; ``noun`` is what, and ``option`` of ``dinoseg calibrate`` finds it."""

    key: str
    noun: str
    option: str

    def found_by(self, found: Found | None = None) -> str:
        """The option with a value: the figure that it was found for before, else one that there is."""
        return f"{self.option} {'dice' if found is None else found.figure.lower()}"


_TUNED = Asked("eval.tuned", "weights of classes", "--tune")
_PATCHES = Asked("eval.least_patches", "least sizes of patches", "--patches")


def asked_of_calibration(config: Config) -> list[Asked]:
    """The keys that are set, of those that ask for what calibration found for one run."""
    asked = (_TUNED, config.eval.tuned), (_PATCHES, config.eval.least_patches)
    return [entry for entry, is_set in asked if is_set]


@dataclass(frozen=True)
class Decision:
    """What a run decides by.

    Attributes:
        temperature: that its probabilities are taken at.
        tuned: weights of classes by which it decides alone; None for none.
        patches: least sizes of patches of its label maps; None for none.
    """

    temperature: float = 1.0
    tuned: TunedWeights | None = None
    patches: LeastPatches | None = None

    @staticmethod
    def of(
        record: CalibrationRecord | None, config: Config, words: str, calibrating: str, num_classes: int
    ) -> "Decision":
        """What a calibration found, as far as the config asks for it.

        Args:
            record: None where the run is not calibrated.
            words: what a command names the run by.
            calibrating: the command that calibrates it.

        Raises:
            ValueError: something is asked for that was not found for these weights of the model, or not of each class.
        """
        known: dict[str, Found | None] = {}
        if record is not None:
            known = {_TUNED.key: record.tuned, _PATCHES.key: record.least_patches}
        wanted = asked_of_calibration(config)
        command = " ".join([calibrating, *(asked.found_by(known.get(asked.key)) for asked in wanted)])
        for asked in wanted:
            found = known.get(asked.key)
            if found is None:
                raise ValueError(
                    f"{asked.key}=true: {words} has no {asked.noun}; run `{command}` (or iou) first, which keeps them "
                    "where they help"
                )
            length = len(found.weights if isinstance(found, TunedWeights) else found.pixels)
            if length != num_classes:
                raise ValueError(
                    f"calibration.json of {words}: {asked.noun}: {length} found, one for each of {num_classes} classes "
                    f"expected; write it anew with `{command}`"
                )
        if record is None:
            return Decision()
        least = record.least_patches
        if config.eval.least_patches and least is not None and least.tuned != config.eval.tuned:
            how, other = ("with", "true") if least.tuned else ("without", "false")
            raise ValueError(
                f"eval.least_patches=true: the least sizes of patches of {words} were found {how} weights of classes; "
                f"give eval.tuned={other}, too, or find them anew with `{command}`"
            )
        return Decision(
            record.temperature,
            record.tuned if config.eval.tuned else None,
            record.least_patches if config.eval.least_patches else None,
        )

    def describe(self) -> dict[str, Any]:
        """For the policy of metrics.json; what changes nothing is not stated."""
        described: dict[str, Any] = {} if self.temperature == 1.0 else {"temperature": self.temperature}
        if self.tuned is not None:
            described["class_weights"] = self.tuned.model_dump()
        if self.patches is not None:
            described["least_patches"] = self.patches.model_dump()
        return described

    @property
    def fingerprint(self) -> str:
        """Names what of it decides label maps; empty where the scores alone do."""
        # The words of earlier versions, whose finished files are kept.
        weighted = "" if self.tuned is None else f" weighted {self.temperature} {self.tuned.weights}"
        return weighted if self.patches is None else f"{weighted} patches {self.patches.pixels}"


# Of a run that is not calibrated.
BY_SCORES = Decision()
