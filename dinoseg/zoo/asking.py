"""What the Hub is asked of a repository, and what its refusals mean to a user."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo

from dinoseg.zoo.address import Address
from dinoseg.zoo.catalogue import nearest_head

HUB = "https://huggingface.co/"
TIMEOUT_SECONDS = 10.0


class UnreachedError(ValueError):
    """The Hub gave no answer, or none that is known; says why."""


def model_info(address: Address) -> ModelInfo:
    """Which files a repository has at the address's revision, with their sizes, and of which commit they are.

    Raises:
        Exception: whatever the Hub's client raises; see ``asking_hub``.
    """
    assert address.repository is not None
    return HfApi().model_info(
        address.repository, revision=address.revision, timeout=TIMEOUT_SECONDS, files_metadata=True
    )


@contextmanager
def asking_hub(address: Address) -> Iterator[None]:
    """Turns what the Hub's client raises into messages of what to do.

    Raises:
        UnreachedError: no network, say.
        ValueError: there is no such repository or revision, or it may not be read.
    """
    repository = address.repository or ""
    page = f"{HUB}{repository}"
    try:
        yield
    except GatedRepoError:
        raise ValueError(
            f"{address.text}: the Hub gives this to those whom its owner let in; ask on {page}, then log in with "
            "`hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"{address.text}: the Hub has no such repository, or a private one; {nearest_head(repository)}"
            "`dinoseg zoo` lists the heads that are known; to a private one, log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ValueError(
            f"{address.text}: {repository} has no revision {address.revision!r}; give a branch, a tag or a commit of "
            f"{page}/commits/main, or leave @{address.revision} out for the newest"
        ) from None
    # Whatever a download can raise (each of several HTTP libraries has its own classes) has the same remedy.
    except Exception as error:
        raise UnreachedError(f"the Hub was not reached ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return str(error).strip().split("\n")[0] or type(error).__name__
