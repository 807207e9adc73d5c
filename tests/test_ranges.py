"""Ranges of settings: what they hold, how shares map to values, and what is refused."""

import pytest

from retain.errors import UsageError
from retain.ranges import Log, NearOne, OneOf, Uniform, read_range
from retain.typed import read


@pytest.mark.parametrize(("where", "low", "middle", "high"), [
    (Uniform(2, 6), 2, 4, 6),
    (Log(1e-4, 1e-2), 1e-4, 1e-3, 1e-2),
    (NearOne(0.9, 0.999), 0.9, 0.99, 0.999),
])  # fmt: skip
def test_shares_are_spread_evenly_on_the_ranges_scale(where, low, middle, high):
    assert [where.at(share) for share in (0, 0.5, 1)] == pytest.approx([low, middle, high])
    assert where.holds(middle)
    assert not where.holds(low * 0.99)
    assert not where.holds(None)
    assert not where.holds(True)


def test_one_of_a_few_values_keeps_their_types():
    where = OneOf(1, True, None, "a")
    assert [where.at(share) for share in (0, 0.3, 0.6, 0.99)] == [1, True, None, "a"]
    assert OneOf(1, 2).holds(1)
    assert not OneOf(1, 2).holds(True)


@pytest.mark.parametrize(("text", "wanted", "found"), [
    ("log:1e-5:1e-2", float, Log(1e-5, 1e-2)),
    ("uniform:0.1:0.4", float, Uniform(0.1, 0.4)),
    ("near_one:0.9:0.99", float, NearOne(0.9, 0.99)),
    ("one_of:64:128", int, OneOf(64, 128)),
    ("one_of:8,8:none", tuple[int, ...] | None, OneOf((8, 8), None)),
])  # fmt: skip
def test_a_range_is_read_from_the_text_that_writes_it(text, wanted, found):
    made = read_range(text, lambda value: read(value, wanted))
    assert type(made) is type(found)
    assert made == found
    if "," not in text:
        assert (
            str(made).lower()
            == str(found).lower()
            == text.replace("1e-5", "1e-05").replace("1e-2", "0.01")
        )


@pytest.mark.parametrize(("text", "message"), [
    ("lgo:1:2", "unknown range 'lgo'; did you mean 'log'"),
    ("log:1", "log:1 is no range .expected log:LOW:HIGH"),
    ("log:1:2:3", "is no range"),
    ("log:a:b", "is no range"),
    ("log:2:1", "log:2:1 is empty .expected LOW below HIGH"),
    ("log:0:1", "log:0:1 reaches 0 .expected LOW above 0"),
    ("uniform:1:inf", "has an end that is not finite"),
    ("near_one:0.5:1", "leaves .0, 1."),
    ("one_of:3", "one_of:3 leaves no choice"),
    ("one_of:3:3", "leaves no choice"),
])  # fmt: skip
def test_a_bad_range_is_refused_in_one_line(text, message):
    with pytest.raises(UsageError, match=message):
        read_range(text, int)
