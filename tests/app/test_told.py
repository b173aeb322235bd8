"""Work in a thread, told as it goes."""

import time
from collections.abc import Callable
from threading import Event

import pytest

from dinoseg.app.told import Left, told


def test_what_is_said_is_yielded_and_the_result_returned() -> None:
    heard = Event()

    def work(tell: Callable[[float], None]) -> str:
        tell(0.25)
        tell(0.5)
        assert heard.wait(5)
        return "done"

    telling = told(work)
    assert next(telling) == 0.5  # the last of what was said meanwhile
    heard.set()
    with pytest.raises(StopIteration) as ended:
        next(telling)
    assert ended.value.value == "done"


def test_an_error_of_the_work_comes_out() -> None:
    def work(tell: Callable[[float], None]) -> None:
        raise ValueError("no picture")

    with pytest.raises(ValueError, match="no picture"):
        next(told(work))


def test_work_ends_where_nobody_waits_any_more() -> None:
    ended: list[BaseException] = []
    stopped = Event()

    def work(tell: Callable[[int], None]) -> None:
        try:
            while True:
                tell(1)
                time.sleep(0.01)
        except Left as error:
            ended.append(error)
            stopped.set()
            raise

    telling = told(work)
    assert next(telling) == 1
    telling.close()
    assert stopped.wait(5) and len(ended) == 1
