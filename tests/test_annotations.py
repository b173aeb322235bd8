"""In tests every annotation is checked at each call: a wrong type, and a wrong shape."""

from typing import Any

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from dinoseg.data.folder_words import read_folder_name
from dinoseg.data.regions import outside_as_ignored
from dinoseg.labels import LabelSpace


def test_a_wrong_type_is_refused_where_no_shapes_are_named() -> None:
    number: Any = 7
    with pytest.raises(BeartypeCallHintViolation, match="read_folder_name"):
        read_folder_name(number)


def test_shapes_that_differ_are_refused() -> None:
    space = LabelSpace.build({0: "background", 1: "vessel"}, None, None, [])
    with pytest.raises(TypeCheckError, match="outside_as_ignored"):
        outside_as_ignored(np.zeros((2, 3), np.uint8), np.ones((3, 2), bool), space)
