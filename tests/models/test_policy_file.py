"""The policy file: what it may say, and what is told of a wrong one."""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models import policy_file
from models.errors import ConfigurationError
from models.policy import MOST_RULES, Blocked, Fatigue, Policy, boost_rule, pin_rule
from models.policy_file import parse

WRITTEN = textwrap.dedent((policy_file.__doc__ or "").partition("::\n")[2])


def test_the_example_says_what_it_says() -> None:
    policy = parse(WRITTEN)
    assert policy.diversity == 0.2
    assert policy.repeat_after == {"purchase": 86400}
    assert policy.blocked == Blocked(
        blocked_categories=frozenset({"Tobacco"}),
        blocked_labels=frozenset({"adult"}),
        blocked_items=frozenset({"sku-13"}),
    )
    assert policy.category_caps == {"*": 4, "Shoes": 2}
    assert policy.users == {"ann": Blocked(blocked_labels=frozenset({"alcohol"}))}
    assert policy.fatigue == Fatigue(after=5, seconds=86_400)
    (boost,), (pin,) = policy.boosts, policy.pins
    assert (boost.tag, boost.add, boost_rule(boost)) == ("summer", 0.3, "boost:summer")
    assert (pin.item, pin.place, pin_rule(pin)) == ("sku-7", 1, "pin:launch")
    assert policy.rules == {"boost:summer", "pin:launch"}


def test_the_readme_has_the_same_example() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(r"```toml\n(diversity.*?)```", readme, re.DOTALL)
    assert parse(example) == parse(WRITTEN)


def test_an_empty_file_has_no_rules() -> None:
    assert parse("") == Policy()
    assert parse("[repeat_after]").repeat_after == {}, "no repeats, whatever the setting says"


def test_a_rule_with_times_holds_between_them() -> None:
    (boost,) = parse(WRITTEN).boosts
    (pin,) = parse(WRITTEN).pins
    held = []
    for month in (5, 6, 8, 9):
        now = int(datetime(2027, month, 1, tzinfo=UTC).timestamp() * 1000)
        held.append((boost.holds(now), pin.holds(now)))
    assert held == [(False, True), (True, True), (True, True), (False, True)]


def test_users_are_known_by_their_stored_names_too() -> None:
    policy = parse('[users.ann]\nblocked_items = ["i"]').stored(str.upper)
    assert policy.users["ANN"] == policy.users["ann"] == Blocked(blocked_items=frozenset({"i"}))


BOOST = '[[boosts]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("diversity = 0.2\n[oops\n", r"not TOML: .*line 2"),
        ("\nblocked_category = ['x']", r"line 2: blocked_category: no such rule; did you mean blocked_categories\?"),
        ("diversity = 2", r"line 1: diversity: .*<= 1"),
        ("diversity = nan", r"line 1: diversity: nan is no number"),
        ("blocked_labels = 'adult'", r"line 1: blocked_labels: Expected `array`, got `str`"),
        ("[repeat_after]\nview = 1\npurchase = 'a day'", r"line 3: repeat_after.purchase: Expected `float`"),
        ("repeat_after.view = -1", r"line 1: repeat_after.view: .*>= 0"),
        ("[category_caps]\n'*' = 2\n'Red shoes' = 1.5", r"line 3: category_caps.Red shoes: Expected `int`"),
        ("[users.'ann.x']\nblocked_labels = ['a']\nblocked_tags = []", r"line 3: users.ann.x.blocked_tags: .*unknown"),
        ("users = 3", r"line 1: users: Expected `object`"),
        ("[boosts]\nadd = 1", r"line 1: boosts: Expected `array`"),
        (BOOST + "add = 1", r"line 1: boosts.0: give one of category, tag and item"),
        (BOOST + "add = 1\ntag = 't'\nitem = 'i'", r"line 1: boosts.0: give one of"),
        (BOOST + "tag = 't'", r"line 1: boosts.0: Object missing required field `add`"),
        (BOOST + "tag = 't'\nadd = inf", r"line 4: boosts.0.add: inf is no number"),
        (BOOST + "tag = 't'\nadd = 1\n\n" + BOOST + "tag = 't'\nadd = 1", r"line 7: boosts.1.name: 'a' is the name of"),
        ("[[pins]]\nname = 'Big One'\nitem = 'i'\nplace = 1", r"line 2: pins.0.name: .*regex"),
        ("[[pins]]\nname = 'a'\nitem = 'i'\nplace = 0", r"line 4: pins.0.place: .*>= 1"),
        (BOOST + "tag = 't'\nadd = 1\nfrom = 2027-01-01", r"line 5: boosts.0.from: Expected `datetime"),
        (BOOST + "tag = 't'\nadd = 1\nfrom = 2027-01-01T00:00:00", r"line 5: boosts.0.from: .*timezone"),
        (
            BOOST + "tag = 't'\nadd = 1\nfrom = 2027-01-02T00:00:00Z\nuntil = 2027-01-01T00:00:00Z",
            r"line 6: boosts.0.until: ends before it begins",
        ),
        ("[fatigue]\nafter = 0\nfor = 60", r"line 2: fatigue.after: .*>= 1"),
        ("[fatigue]\nafter = 3\nfor = nan", r"line 3: fatigue.for: Expected `int`"),
        ("[fatigue]\nafter = 3\nfor = 604801", r"line 3: fatigue.for: .*<= 604800"),
        ("[fatigue]\nafter = 3", r"line 1: fatigue: Object missing required field `for`"),
        ("[fatigue]\nafter = 3\nfor = 60\nevery = 2", r"line 4: fatigue.every: .*unknown field"),
        ("boosts = [1]", r"line 1: boosts.0: Expected `object`"),
        (f"diversity = 0\nblocked_items = [\n'a',\n{'[' * 3000}\n{']' * 3000}\n]", r"line 4: nested too .*three"),
        ("users = " + "{a = " * 3000 + "1" + "}" * 3000, r"line 1: nested too deeply"),
        ("users = " + "[\n" * 3000 + "]" * 3000, r"line \d+: nested too deeply"),
        (f"diversity = 0.2\n\n[category_caps]\n'*' = {'9' * 5000}\nShoes = 2", r"line 4: a number of .* a shorter one"),
        (f"diversity = {'9' * 5000}", r"line 1: a number of too many digits"),
        (f"diversity = {'9' * 400}", r"line 1: diversity: Number out of range"),
        ("users." + "a." * 5000 + "a = 1", r"users.a.a: .*unknown field"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_told_with_its_line_and_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse(text)
    assert re.match(said, str(error.value)), error.value


def test_the_number_of_rules_that_have_a_counter_is_bounded() -> None:
    many = "".join(f"[[pins]]\nname = 'p{n}'\nitem = 'i'\nplace = 1\n" for n in range(MOST_RULES + 1))
    with pytest.raises(ConfigurationError, match="too many"):
        parse(many)
