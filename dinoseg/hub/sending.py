"""A folder of files on its way to the Hub, through its own client, with whatever token that finds."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from dinoseg.config.loading import HUB_PREFIX
from dinoseg.hub.layout import LIBRARY, PUSHED_FILES, is_pushed_file
from dinoseg.system.messages import list_names, printable
from dinoseg.zoo.asking import HUB, TIMEOUT_SECONDS, first_line, unknown_token

# As the Hub has it; neither -- nor .. anywhere, and no end that is one of git's.
_PART = r"[a-zA-Z0-9](?:[\w.-]*\w)?"
_NAME = re.compile(rf"(?!.*(?:--|\.\.|\.git$)){_PART}/{_PART}", re.ASCII)
_LONGEST_NAME = 96
_OFFLINE = "--dry-run FOLDER writes what would be sent without it"


def checked_name(text: str) -> str:
    """``owner/name`` of a repository, with or without ``hf:`` before it.

    Raises:
        ValueError: another form; says which.
    """
    name = text.removeprefix(HUB_PREFIX)
    if name and "/" not in name:
        raise ValueError(f"{text}: whose? Write USER/{name}, with your name on the Hub or that of an organisation")
    if "@" in name:
        raise ValueError(f"{text}: a run is pushed to the main branch; leave @{name.partition('@')[2]} out")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ValueError(
            f"{text}: no name on the Hub; write USER/NAME, of letters, digits, -, _ and . (no -- or .., and at most 96 "
            "letters)"
        )
    return name


@dataclass(frozen=True)
class Target:
    """A repository of the Hub that a run is sent to.

    Attributes:
        name: ``owner/name``.
        private: whether others may not see it; None where it is to be made and its owner's default decides.
        present: the files in it; None where it is to be made.
    """

    name: str
    private: bool | None
    present: tuple[str, ...] | None

    @staticmethod
    def find(name: str, private: bool) -> "Target":
        """What is there. Nothing is made yet.

        Args:
            private: a new one is to be private; one that is there must be.

        Raises:
            ValueError: not logged in, no network, a public repository where a private one is asked for, or one that
                holds something else.
        """
        if constants.HF_HUB_OFFLINE:
            raise ValueError(f"{name}: not sent: HF_HUB_OFFLINE is set; unset it, or {_OFFLINE}")
        with _sending(name):
            token = get_token()
        if token is None:
            raise ValueError(
                f"{name}: not sent: not logged in to the Hub; run `hf auth login`, or set HF_TOKEN, with a token that "
                f"may write (https://huggingface.co/settings/tokens); {_OFFLINE}"
            )
        with _sending(name):
            try:
                info = HfApi().model_info(name, timeout=TIMEOUT_SECONDS)
            except RepositoryNotFoundError:
                return Target(name, True if private else None, None)
        files = tuple(entry.rfilename for entry in info.siblings or [])
        if private and not info.private:
            raise ValueError(
                f"{name}: is there already and public, and --private is given; make it private on "
                f"{HUB}{name}/settings, or give another name"
            )
        others = [file for file in files if not is_pushed_file(file) and file != ".gitattributes"]
        if info.library_name != LIBRARY and (others or PUSHED_FILES & set(files)):
            listed = list_names(sorted(map(printable, others or files)), 3)
            raise ValueError(
                f"{name}: holds something else than a run of dinoseg ({listed}), which would be overwritten; give "
                "another name"
            )
        return Target(name, bool(info.private), files)

    @property
    def words(self) -> str:
        """Where it is, and who may see it."""
        if self.present is None:
            seen = "new, private" if self.private else "new, and public unless its owner's default is private"
        else:
            seen = "private" if self.private else "public"
        return f"{HUB}{self.name} ({seen})"

    def send(self, folder: Path, message: str) -> str:
        """Sends every file of a folder in one commit; what an earlier push left beside them goes. Returns the commit.

        Raises:
            ValueError: no right to write there, or no network.
        """
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        stale = [name for name in self.present or () if is_pushed_file(name) and name not in files]
        with _sending(self.name):
            if self.present is None:
                HfApi().create_repo(self.name, private=self.private)
            commit = HfApi().create_commit(
                self.name,
                [
                    *(CommitOperationAdd(name, path) for name, path in files.items()),
                    *(CommitOperationDelete(name) for name in stale),
                ],
                commit_message=message,
            )
        return str(commit.oid)


@contextmanager
def _sending(name: str) -> Iterator[None]:
    """Turns what the Hub's client raises into messages of what to do."""
    owner = name.partition("/")[0]
    try:
        yield
    except HfHubHTTPError as error:
        status, said = error.response.status_code, error.server_message or first_line(error)
        if status == 401:
            raise ValueError(f"{name}: not sent: {unknown_token(said)}") from None
        if status in (403, 404):
            raise ValueError(
                f"{name}: not sent: no right to write there ({said}); give a name of your own in place of {owner}, ask "
                "its owner, or log in with a token that may write (https://huggingface.co/settings/tokens)"
            ) from None
        raise ValueError(f"{name}: not sent: the Hub refused it ({said}); try again later, or {_OFFLINE}") from error
    except ValueError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{name}: not sent: the Hub refused it ({said}); {_OFFLINE}") from error
    # Whatever else a transfer can raise (each of several HTTP libraries has its own classes) has the same remedy.
    except Exception as error:
        raise ValueError(
            f"{name}: not sent: the Hub was not reached ({first_line(error)}); check the network, or {_OFFLINE}"
        ) from error
