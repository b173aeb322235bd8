"""What somebody who wrote an unknown key most likely meant."""

import difflib

from dinoseg.config.option import Key
from dinoseg.config.schema import all_keys

# What other tools call these.
_NAMED_ELSEWHERE = {
    "bs": ("batch", "batch_size", "batchsize", "train_batch_size"),
    "scheduler.total_iter": (
        *("epoch", "epochs", "max_epochs", "num_epochs"),
        *("iters", "iterations", "max_iter", "max_iters", "num_iters", "steps", "max_steps", "num_steps"),
    ),
    "optimizer.lr": ("learning_rate", "learningrate", "base_lr", "lr0"),
    "num_workers": ("workers",),
}
_SHORT = 3


def likely_keys(word: str, most: int = 3, verb: str = "train") -> list[str]:
    """The known keys that somebody who wrote ``word`` most likely meant, the likeliest first.

    Args:
        verb: what was to be done; the keys it uses come before others.
    """
    # The last word of a key is what people remember; among several the ones changed first come first.
    ranked = sorted(all_keys(), key=lambda entry: (not entry.is_used_by(verb), not entry.option.first))
    keys = [entry.key for entry in ranked]
    found = _named_elsewhere(word) + _of_last_word(word, ranked)
    last_words = {_last_word(entry.key): entry.key for entry in reversed(ranked)}
    near = [last_words[name] for name in difflib.get_close_matches(word, last_words, most, 0.75)]
    slips = [key for name, key in reversed(last_words.items()) if _is_short_slip(word, name)]
    whole = difflib.get_close_matches(word, keys, most, 0.6)
    # Misspelt in its own section, then right in another section.
    closest = difflib.get_close_matches(word, keys, most, 0.85)
    elsewhere = _of_last_word(_last_word(word), ranked)
    parts = _of_part(word, ranked)
    found += [*closest, *elsewhere, *parts, *whole, *near] if "." in word else [*slips, *near, *whole, *parts]
    used = {entry.key for entry in ranked if entry.is_used_by(verb)}
    return sorted(dict.fromkeys(found), key=lambda key: key not in used)[:most]


def unknown_key_hint(word: str) -> str:
    """What to write in place of an unknown key."""
    likely = likely_keys(word)
    if not likely:
        return "`dinoseg options WORD` finds keys"
    # Two keys may end in the word itself, or be what others call by it.
    sure = [key for key in likely[:2] if _last_word(key) == word or key in _named_elsewhere(word)] or likely[:1]
    return f"did you mean {' or '.join(map(repr, sure))}?{unit_remark(word)}"


def unit_remark(word: str) -> str:
    """What a word counts that its key does not."""
    return " It counts steps of bs images each, not epochs" if "epoch" in word else ""


def _last_word(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _of_last_word(word: str, ranked: list[Key]) -> list[str]:
    return [entry.key for entry in ranked if _last_word(entry.key) == word]


def _of_part(word: str, ranked: list[Key]) -> list[str]:
    """``eval.use_tta`` and the like for ``eval.tta``: those of its own section first."""
    part, section = _last_word(word), word.rpartition(".")[0]
    found = [entry.key for entry in ranked if part in _last_word(entry.key).split("_")] if len(part) >= _SHORT else []
    return sorted(found, key=lambda key: key.rpartition(".")[0] != section)


def _named_elsewhere(word: str) -> list[str]:
    return [key for key, names in _NAMED_ELSEWHERE.items() if word.lower() in names]


def _is_short_slip(word: str, name: str) -> bool:
    """Whether one letter of a short word is wrong, missing, too many, or two are exchanged.

    Of so few letters a share tells nothing: half of ``bz`` is ``bs``.
    """
    if max(len(word), len(name)) > _SHORT or abs(len(word) - len(name)) > 1 or not set(word) & set(name):
        return False
    if len(word) == len(name):
        other = [place for place in range(len(word)) if word[place] != name[place]]
        exchanged = len(other) == 2 and word[other[0]] == name[other[1]] and word[other[1]] == name[other[0]]
        return len(other) == 1 or exchanged
    shorter, longer = sorted((word, name), key=len)
    return any(longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer)))
