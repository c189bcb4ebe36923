"""Clicks, impressions and erasures on their way to Kafka: what comes while one batch is sent is the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus

from consumers.feed.problems import Problem
from producers.errors import BrokerError, PublishFailed
from producers.publisher import Message


class Ingest:
    """Answers once a message is acknowledged. Lives on the event loop; publishing is done on another thread.

    Parameters
    ----------
    publish
        Returns when all are acknowledged; raises PublishFailed.
    most
        Messages that may wait.
    """

    def __init__(self, publish: Callable[[Sequence[Message]], None], most: int) -> None:
        self._publish = publish
        self._most = most
        self._waiting: list[tuple[Message, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._sent = 0

    async def put(self, message: Message) -> None:
        """Until the message is acknowledged.

        Raises
        ------
        Problem
            It was not; whether it may be sent again is in the answer.
        """
        if len(self._waiting) + self._sent >= self._most:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too much waits for Kafka; try again", Retry_After="1")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, done))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        await done

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            self._sent = len(batch)
            failed: dict[int, Problem] = {}
            try:
                await asyncio.to_thread(self._publish, [message for message, _ in batch])
            except PublishFailed as error:
                refused = {id(message) for message, _ in error.refused}
                for number, (message, _) in enumerate(batch):
                    if id(message) in refused:
                        failed[number] = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Kafka does not take this message")
                    elif not error.refused:
                        failed[number] = _not_now()
            except BrokerError:
                failed = {number: _not_now() for number in range(len(batch))}
            except BaseException:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(_not_now())
                raise
            self._sent = 0
            for number, (_, done) in enumerate(batch):
                if done.done():
                    continue  # whoever asked has gone
                if number in failed:
                    done.set_exception(failed[number])
                else:
                    done.set_result(None)

    async def close(self) -> None:
        """Until what waits is sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending])


def _not_now() -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "Kafka did not acknowledge it; it may be sent again", Retry_After="2"
    )
