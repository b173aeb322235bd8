"""What the Hub is asked of a repository, and what its refusals mean to a user."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo

from dinoseg.system.messages import OUT_OF_ROOM, system_error
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
        ValueError: there is no such repository or revision, it may not be read, the token is none that the Hub knows,
            or what comes cannot be kept on this disk.
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
    # Whatever else a download can raise (each of several HTTP libraries has its own classes).
    except Exception as error:
        raise _in_words(address, error) from error


def _in_words(address: Address, error: Exception) -> ValueError:
    """What to do: about the token, about this disk, else about the network."""
    if isinstance(error, HfHubHTTPError):
        status, said = error.response.status_code, error.server_message
        if status == 401:
            return ValueError(f"{address.text}: not fetched: {unknown_token(said or first_line(error))}")
        # Without words of the Hub's it is the answer of a proxy in between.
        if status == 403 and said:
            return ValueError(
                f"{address.text}: not fetched: the token may not read it ({said}); log in with one that may "
                "(https://huggingface.co/settings/tokens), or with none where it is public"
            )
    # Of a file: errors of connections have other numbers, or the same and no file.
    elif isinstance(error, OSError) and (error.errno in OUT_OF_ROOM or error.filename is not None):
        named = OSError(error.errno, error.strerror, error.filename or constants.HF_HUB_CACHE)
        return ValueError(
            f"{address.text}: not fetched: {system_error(named)} (HF_HUB_CACHE names another folder for it)"
        )
    return UnreachedError(f"the Hub was not reached ({first_line(error)})")


def unknown_token(said: str) -> str:
    """What to do about a token that is none, or none any more.

    Args:
        said: by the Hub.
    """
    return (
        f"the Hub does not know the token ({said}); log in anew with `hf auth login`, or set HF_TOKEN to one that is "
        "valid"
    )


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return str(error).strip().split("\n")[0] or type(error).__name__
