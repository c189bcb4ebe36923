"""What every store of lists owes, in memory and in a real Redis (or Valkey)."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumers.feed.redis_store import RedisStore
from consumers.feed.store import ListStore, MemoryStore, Update
from models.errors import ConfigurationError, StrataError


class Server:
    """A server of the test's own, in its own session, stopped by its process id."""

    def __init__(self, program: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server and no valkey-server: `.ci/tools .venv` installs one where it may")
    server = Server(program, tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


Make = Callable[[], ListStore]


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes the store; a second one of Redis is another replica's."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    url = request.getfixturevalue("server").url
    topic = f"lists-{time.time_ns()}"
    return lambda: RedisStore(url, topic)


def after(make: Make, *updates: Update, user: str = "ann") -> bytes | None:
    """What a user has after some updates, one batch."""

    async def read() -> bytes | None:
        found = await store.get(user)
        if not isinstance(store, MemoryStore):
            await store.close()
        return found

    store = make()
    if updates:
        store.put(updates)
    return asyncio.run(read())


def test_the_newest_list_is_kept(make: Make) -> None:
    assert after(make) is None
    assert after(make, Update("ann", 10, 1, b"one"), Update("ben", 10, 1, b"his")) == b"one"
    assert after(make, Update("ann", 20, 2, b"two")) == b"two"
    assert after(make, user="ben") == b"his"


def test_a_list_of_an_earlier_click_does_not_replace_a_later(make: Make) -> None:
    assert after(make, Update("ann", 10, 5, b"five"), Update("ann", 20, 4, b"four")) == b"five"
    assert after(make, Update("ann", 30, 5, b"five, encoded")) == b"five, encoded"


def test_what_was_taken_is_told(make: Make) -> None:
    store = make()
    updates = [Update("ann", 10, 5, b"5"), Update("ann", 11, 4, b"4"), Update("ben", 12, 1, b"1")]
    assert store.put(updates) == [updates[0], updates[2]]
    asyncio.run(store.close())


def test_a_tombstone_deletes_and_the_user_may_come_back(make: Make) -> None:
    assert after(make, Update("ann", 10, 9, b"nine"), Update("ann", 20, -1, None)) is None
    assert after(make, Update("ann", 30, 2, b"again")) == b"again"


def test_bytes_stay_as_they_are(make: Make) -> None:
    odd = bytes(range(256)) + "ü".encode()
    assert after(make, Update("ann", 10, 1, odd)) == odd


def test_a_replica_that_reads_the_topic_anew_brings_nothing_back(server: Server) -> None:
    def make() -> ListStore:
        return RedisStore(server.url, "again")

    history = [Update("ann", 10, 1, b"one"), Update("ann", 20, 2, b"two"), Update("ann", 30, -1, None)]
    assert after(make, *history) is None
    for update in history:
        assert after(make, update) is None, "an erased user was back"


def test_a_store_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="STRATA_FEED_STORE: no Redis answers there"):
        RedisStore("redis://127.0.0.1:1/0", "t")
    own = Server(server.process.args[0], tmp_path)  # type: ignore[index]
    store = RedisStore(own.url, "t")
    own.stop()
    with pytest.raises(StrataError, match="is STRATA_FEED_STORE up"):
        store.put([Update("ann", 1, 1, b"x")])
    assert "does not answer" in (store.unready() or "")
    with pytest.raises(StrataError, match="does not answer"):
        asyncio.run(store.get("ann"))
    asyncio.run(store.close())
