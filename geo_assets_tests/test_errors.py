import copy
import pickle

import pytest

from geo_assets.errors import ERRORS, GeoAssetsError, known_code

GIVEN = GeoAssetsError("UNREADABLE", "a.tif is cut off", remedy="upload all 512,884 bytes")


@pytest.mark.parametrize(
    "through",
    [
        lambda error: pickle.loads(pickle.dumps(error)),
        copy.copy,
        copy.deepcopy,
        lambda error: GeoAssetsError.from_dict(error.to_dict()),
        lambda error: GeoAssetsError.from_reader(error.to_dict()),
    ],
    ids=["pickle", "copy", "deepcopy", "between processes", "from a reader"],
)
def test_an_error_arrives_with_the_remedy_that_it_was_given(through):
    arrived = through(GIVEN)
    assert type(arrived) is GeoAssetsError
    assert arrived.to_dict() == GIVEN.to_dict()
    assert (arrived.error_class, str(arrived)) == (GIVEN.error_class, str(GIVEN))


@pytest.mark.parametrize("mistyped", ["UNREADABEL", "unreadable", "UN_READABLE"])
def test_a_code_that_there_is_not_is_refused_with_those_that_there_are_and_what_was_meant_comes_first(mistyped):
    with pytest.raises(GeoAssetsError) as refused:
        known_code(mistyped)
    assert refused.value.code == "INVALID_PARAMETERS"
    assert refused.value.remedy.startswith("one of: UNREADABLE, ")
    assert set(refused.value.remedy.removeprefix("one of: ").split(", ")) == ERRORS.keys()


def test_a_code_that_there_is_passes_and_so_does_none():
    assert (known_code("UNREADABLE"), known_code(None)) == ("UNREADABLE", None)
