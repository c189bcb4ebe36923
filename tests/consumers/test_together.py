"""The linear part in the neighbours role: counted from profiles, solved beside the loop, published with the rows."""

from __future__ import annotations

import random
import time

import msgspec
import numpy as np
import pytest
from fed_topics import Topic, broken

from consumers import together
from consumers.client import Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.neighbours import NeighboursConfig, NeighboursRole
from consumers.together import LinearConfig, Together
from models import linear
from models.breaks import KEPT
from models.errors import StrataError
from models.events import Click
from models.items import ItemStore
from models.linear import CoClicks, Solution
from models.neighbours import Neighbours
from models.pace import Pace
from models.profile import Profile, ProfileLimits
from models.records import NeighbourRow, ProfileRecord, decode
from producers.topics import Topics

ITEMS = 14
ALWAYS = LinearConfig(every_s=0)
LIMITS = ProfileLimits(history=6, pace=Pace(0))


def gram(counts: CoClicks | None) -> dict[tuple[str, str], float]:
    """Who has clicked what together, by item id."""
    assert counts is not None
    ids = counts.items.ids
    found = {}
    for place, other in zip(*counts.gram.nonzero(), strict=True):
        found[ids[counts.rows[place]], ids[counts.rows[other]]] = float(counts.gram[place, other])
    return found


class Users:
    """Users who click and dismiss, and the records that an updater writes of them."""

    def __init__(self, names: Topics, seed: int = 0, limits: ProfileLimits = LIMITS) -> None:
        self.topics, self.names, self.limits = Topic(), names, limits
        self.random = random.Random(seed)
        self.items = ItemStore(4)
        self.profiles = {f"u{n}": Profile(f"u{n}") for n in range(8)}
        self.clicked: dict[str, dict[str, None]] = {user: {} for user in self.profiles}
        self.dismissed: set[tuple[str, str]] = set()
        self.offset = 0

    def act(self, times: int) -> None:
        """Some clicks a record, repeats and dismissals among them."""
        for _ in range(times):
            user = self.random.choice(list(self.profiles))
            for _ in range(self.random.choice((0, 1, 1, 2, 5))):
                self.click(user, f"i{self.random.randrange(ITEMS)}", self.random.random() < 0.1)
            self.write(user)

    def click(self, user: str, item: str, no: bool = False) -> None:
        profile = self.profiles[user]
        if (no and item in self.clicked[user]) or (user, item) in self.dismissed:
            return  # what is both clicked and dismissed is the last of the two: not what is looked at here
        event = "dismiss" if no else "click"
        self.offset += 1
        profile.apply(Click(user_id=user, item_id=item, ts=self.offset, event=event), self.offset, self.items, LIMITS)
        if no:
            self.dismissed.add((user, item))
        else:
            self.clicked[user][item] = None

    def write(self, user: str) -> None:
        profile = self.profiles[user]
        self.topics.append(self.names.profiles, user, profile.record(self.items, 0), int(user[1:]) % 2)
        profile.fresh = 0

    def gram(self) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}
        for clicked in self.clicked.values():
            for one in clicked:
                for other in clicked:
                    found[one, other] = found.get((one, other), 0) + 1
        return found

    def compact(self) -> None:
        """Of each user only the last record stays, as a broker does it in its own time. The others' offsets are empty:
        a record without a user stands for each."""
        for log in self.topics.logs[self.names.profiles].values():
            newest = {record.key: record.offset for record in log}
            log[:] = [
                record
                if newest[record.key] == record.offset
                else Record(record.topic, record.partition, record.offset, record.timestamp, None, None)
                for record in log
            ]


def counting(users: Users, metrics: Metrics) -> Together:
    """The linear part by itself, after a start: all that is on the topic is counted."""
    part = Together(users.items, metrics)
    part.restore(users.topics.open, users.names.profiles)
    part.poll(0.0)
    return part


class Life:
    """The role from one start to its end."""

    def __init__(self, users: Users, diversion: Diversion, metrics: Metrics, config: LinearConfig = ALWAYS) -> None:
        self.topics, self.names = users.topics, users.names
        items = ItemStore(0)
        for n in range(ITEMS):
            items.describe(f"i{n}")
        self.table = Neighbours(items)
        self.role = NeighboursRole(
            self.table, self.topics.open, self.names, diversion, metrics, NeighboursConfig(linear=config)
        )
        starts = self.role.assigned([(self.names.profiles, 0), (self.names.profiles, 1)])
        self.next = {n: starts.get((self.names.profiles, n), 0) for n in (0, 1)}
        self.now = time.monotonic()

    def read(self, most: int = 10_000) -> None:
        for partition in (0, 1):
            log = self.topics.logs[self.names.profiles][partition]
            batch: list[Record] = [record for record in log if record.offset >= self.next[partition]][:most]
            self.role.submit(batch)
            if batch:
                self.next[partition] = batch[-1].offset + 1

    def publish(self) -> int:
        self.now += 1
        work = self.role.poll(self.now)
        messages = list(work.messages) if work else []
        self.topics.publish(messages)
        return len(messages)

    @property
    def counts(self) -> CoClicks | None:
        return self.role._together.counts

    def counted(self) -> dict[tuple[str, str], float]:
        """Who has clicked what together, once all is counted."""
        self.read()
        while self.role._together._again is not None:
            self.publish()
        return gram(self.role._together.counts)

    def solved(self) -> dict[str, dict[str, float]]:
        """The linear rows as a reader finds them."""
        for _ in range(2_000):
            self.publish()
            if not self.role._together.solving:
                break
            time.sleep(0.005)
        while self.publish():
            pass
        found = {}
        for record in self.topics.records(self.names.neighbours):
            row = decode(record.value, NeighbourRow)
            weights = np.frombuffer(row.linear_weights, "<f4").tolist()
            found[(record.key or b"").decode()] = dict(zip(row.linear_items, weights, strict=True))
        return found


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_BEGIN", 20)


@pytest.fixture(params=range(4))
def users(request: pytest.FixtureRequest, names: Topics) -> Users:
    return Users(names, request.param)


def test_it_counts_who_has_clicked_what_whatever_they_repeat_or_dismiss(
    users: Users, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(users, diversion, metrics)
    for _ in range(30):
        users.act(5)
        life.read()
        life.publish()
    for item in list(users.clicked["u3"]):
        users.click("u3", item)
    users.write("u3")
    assert life.counted() == users.gram()
    assert len(users.gram()) > ITEMS * ITEMS / 2


@pytest.mark.parametrize("step", [2, 500])
def test_killed_at_any_moment_it_counts_the_same_again(
    users: Users, step: int, diversion: Diversion, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where counting anew takes many steps, and clicks go on meanwhile."""
    monkeypatch.setattr(together, "_SLICE", step)
    for _ in range(5):
        life = Life(users, diversion, metrics)
        for _ in range(users.random.randrange(1, 5)):
            users.act(users.random.randrange(8))
            life.read(users.random.randrange(9))
            if users.random.random() < 0.5:
                life.publish()
        if users.random.random() < 0.5:
            users.compact()
    last = Life(users, diversion, metrics)
    for _ in range(6):
        users.act(4)
        last.read(3)
        last.publish()
    assert last.counted() == users.gram()
    assert not last.role._together._known


@pytest.mark.parametrize("told", ["before", "between", "after"])
def test_who_clicked_what_together_before_a_break_weighs_little_whenever_it_is_told_and_after_a_restart(
    told: str, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    users = Users(names)

    def clicks(user: str, *items: int, start: int) -> None:
        for at, item in enumerate(items, start):
            click = Click(user_id=user, item_id=f"i{item}", ts=1_000 * at + 200, event="click")
            users.offset += 1
            users.profiles[user].apply(click, users.offset, users.items, LIMITS)
        users.write(user)

    def tell(when: str) -> None:
        if when == told:
            users.topics.append(names.ranker, "weights", broken(50_100))

    tell("before")
    life = Life(users, diversion, metrics)
    clicks("u1", 1, 2, start=10)
    life.counted()
    tell("between")
    clicks("u2", 2, start=40)
    life.read()
    life.publish()
    clicks("u1", 3, 4, start=51)  # his old clicks are another's now
    clicks("u2", 3, 1, start=50)  # the first of these just after the break, but what was seen is known to the second
    life.counted()
    tell("after")
    life.publish()
    new, old = 1.0, KEPT
    expected = {(f"i{item}",) * 2: share for item, share in {1: old + new, 2: 2 * old, 3: old + new, 4: new}.items()}
    for one, other, share in ((1, 2, old), (2, 3, old), (3, 4, new)):
        expected[f"i{one}", f"i{other}"] = expected[f"i{other}", f"i{one}"] = share
    if told != "after":  # then what was counted until it is heard of keeps a share, whenever it was clicked
        assert life.counted() == pytest.approx(expected, rel=1e-5)
    assert Life(users, diversion, metrics).counted() == pytest.approx(expected, rel=1e-5)
    users.compact()
    assert Life(users, diversion, metrics).counted() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("told", ["before", "after"])
def test_what_is_bought_again_after_a_break_counts_with_what_is_bought_since(
    told: str, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    """Else it would stand in more pairs than users have bought it, and XᵀX could not be inverted."""
    users = Users(names)

    def clicks(*items: int, start: int) -> None:
        for at, item in enumerate(items, start):
            click = Click(user_id="u1", item_id=f"i{item}", ts=1_000 * at, event="click")
            users.offset += 1
            users.profiles["u1"].apply(click, users.offset, users.items, LIMITS)
        users.write("u1")

    if told == "before":
        users.topics.append(names.ranker, "weights", broken(50_000))
    life = Life(users, diversion, metrics)
    clicks(1, 2, 1, start=10)
    life.counted()
    clicks(3, 2, 3, 2, start=50)
    life.counted()
    clicks(4, start=60)
    life.counted()
    if told == "after":
        users.topics.append(names.ranker, "weights", broken(50_000))
    life.publish()

    def among(items: tuple[int, ...], share: float) -> dict[tuple[str, str], float]:
        return {(f"i{one}", f"i{other}"): share for one in items for other in items}

    old, new = among((1, 2), KEPT), among((2, 3, 4), 1.0) | {("i2", "i2"): 1 + KEPT}
    counted = life.counted()
    assert {pair: counted[pair] for pair in new} == pytest.approx(new, rel=1e-5)
    if told == "before":  # else what was clicked before all that is remembered keeps a share beside what came since
        assert counted == pytest.approx(old | new, rel=1e-5)
    users.compact()
    again = Life(users, diversion, metrics)  # a profile knows when an item was last bought
    assert again.counted() == pytest.approx({("i1", "i1"): KEPT} | among((2, 3, 4), 1.0), rel=1e-5)


def test_of_a_record_that_does_not_say_when_its_user_had_met_an_item_repeats_count_for_nothing(
    names: Topics, metrics: Metrics
) -> None:
    users = Users(names)
    users.click("u1", "i1")
    users.write("u1")
    part = counting(users, metrics)
    for item in ("i1", "i2"):
        users.click("u1", item)
    users.write("u1")
    record = users.topics.records(names.profiles)[-1]
    old = msgspec.structs.replace(decode(record.value, ProfileRecord), again_at=())
    part.learn(record, old)
    assert gram(part.counts) == {("i1", "i1"): 1, ("i2", "i2"): 1}


def test_a_solution_is_published_with_the_rows_and_read_back_after_a_restart(
    names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    users = Users(names)
    users.act(120)
    life = Life(users, diversion, metrics)
    life.counted()
    found = life.solved()
    assert life.counts is not None
    exact = life.counts.solve()
    ids = life.table.items.ids
    for row, others, weights in zip(exact.rows.tolist(), exact.ids.tolist(), exact.weights.tolist(), strict=True):
        assert found[ids[row]] == pytest.approx(dict(zip((ids[i] for i in others), weights, strict=True)), rel=1e-3)
    value = metrics.registry.get_sample_value
    assert value("strata_linear_solutions_total") == 1
    assert value("strata_linear_items") == ITEMS
    assert value("strata_linear_clicks") == life.counts.clicks
    assert (value("strata_linear_solution_seconds") or 0) > 0
    reader = Life(users, diversion, metrics)
    np.testing.assert_allclose(reader.table.linear.weights[:ITEMS].sum(), life.table.linear.weights[:ITEMS].sum())
    assert life.publish() == 0, "nothing goes on changing"


def test_solutions_keep_their_distance(names: Topics, metrics: Metrics) -> None:
    users = Users(names)
    users.act(60)
    now = [0.0]
    part = Together(users.items, metrics, LinearConfig(every_s=30), clock=lambda: now[0])
    part.restore(users.topics.open, names.profiles)

    def poll(at: float) -> Solution | None:
        now[0] = at
        return part.poll(at)

    assert poll(100.0) is None
    assert part.solving
    part.close()
    assert poll(101.0) is not None
    assert part.counts is not None
    part.counts._due = 0  # enough has come
    assert poll(129.9) is None
    assert not part.solving, "the last one began half a minute ago at the earliest"
    assert poll(130.1) is None
    assert part.solving
    part.close()


def test_one_that_took_long_rests_the_longer(names: Topics, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    users, now = Users(names), [0.0]
    users.act(60)

    def slow(counts: CoClicks, l2: float) -> Solution:
        now[0] += 12
        return Solution(np.empty(0, np.int64), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))

    monkeypatch.setattr(CoClicks, "solve", slow)
    part = Together(users.items, metrics, LinearConfig(every_s=30), clock=lambda: now[0])
    part.restore(users.topics.open, names.profiles)
    part.poll(0.0)
    part.close()
    assert part.poll(13.0) is not None
    assert part.counts is not None
    part.counts._due = 0
    assert part.poll(119.0) is None
    assert not part.solving, "a tenth of a core is what it may take"
    part.poll(121.0)
    assert part.solving
    part.close()


def test_a_solution_that_fails_leaves_the_one_before_and_is_told(
    names: Topics,
    diversion: Diversion,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    users = Users(names)
    users.act(120)
    life = Life(users, diversion, metrics)
    life.counted()
    before = life.solved()
    assert any(before.values())

    def fails(counts: CoClicks, l2: float) -> Solution:
        raise StrataError("raise λ")

    monkeypatch.setattr(CoClicks, "solve", fails)
    users.act(20)
    life.read()
    assert life.counts is not None
    life.counts._due = 0  # enough has come
    life.now += 1_000
    assert {item: list(row) for item, row in life.solved().items()} == {item: list(row) for item, row in before.items()}
    assert (metrics.registry.get_sample_value("strata_linear_failures_total") or 0) >= 1
    assert "(λ is STRATA_LINEAR_L2): raise λ" in caplog.text
    assert life.publish() == 0
    users.act(3)
    life.read()
    assert life.publish() > 0, "the role goes on"
    life.role.close()


def test_without_items_there_is_no_linear_part(names: Topics, diversion: Diversion, metrics: Metrics) -> None:
    users = Users(names)
    users.act(120)
    life = Life(users, diversion, metrics, LinearConfig(items=0))
    life.read()
    assert life.counts is None
    assert not any(life.solved().values())


def test_rows_of_a_linear_part_that_was_switched_off_are_emptied(
    names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    users = Users(names)
    users.act(120)
    life = Life(users, diversion, metrics)
    life.counted()
    assert any(life.solved().values())
    off = Life(users, diversion, metrics, LinearConfig(items=0))
    assert not any(off.solved().values())
    assert Life(users, diversion, metrics, LinearConfig(items=0)).publish() == 0, "once"


def test_clicks_that_came_too_fast_count_for_nothing(names: Topics, metrics: Metrics) -> None:
    users = Users(names)
    users.click("u1", "i1")
    users.write("u1")
    part = counting(users, metrics)
    for item in ("i2", "i3", "i4"):
        users.click("u1", item)
    users.profiles["u1"].damped = [3]  # his third click
    users.write("u1")
    record = users.topics.records(names.profiles)[-1]
    part.learn(record, decode(record.value, ProfileRecord))
    assert set(gram(part.counts)) == {(a, b) for a in ("i1", "i2", "i4") for b in ("i1", "i2", "i4")}
    users.click("u1", "i5")
    users.profiles["u1"].damped = [3]
    users.write("u1")
    record = users.topics.records(names.profiles)[-1]
    part.learn(record, decode(record.value, ProfileRecord))
    assert ("i5", "i4") in gram(part.counts)
    assert ("i5", "i3") not in gram(part.counts), "nor beside what comes after them"
    assert gram(counting(users, metrics).counts) == gram(part.counts)
