"""Slack, by slack_sdk.

::

    sink = SlackSink(client, channel, thread_ts=ts, recipient_user_id=user, recipient_team_id=team)
    delivered = await LiveMessage(sink).show(session.stream(model=…, messages=…))

An answer is streamed into a thread. Where that can't be, :class:`SlackEditSink` posts a
message and updates it. Slack reads Markdown as models write it; what in it would notify
somebody, such as ``<!channel>``, loses its bracket to one that only looks like it.

slack_sdk opens a connection for each call unless it is given a session. To share one::

    http = aiohttp.ClientSession(**stamping_session_options())
    client, session = AsyncWebClient(token, session=http), ChatSession(http=http)

inside a coroutine; *http* is yours to close. slack_sdk doesn't time calls in a session that
it was given; the sinks do, by the client's ``timeout``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from chatstream.bots.sink import ExpiredError, FloodError, Limits, SinkError, UnreachableError

try:
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web.async_client import AsyncWebClient
except ImportError as error:
    _msg = "Slack needs slack_sdk: pip install 'chatstream-sdk[slack]'"
    raise ImportError(_msg) from error

LENGTH = 12_000
"""Characters that ``markdown_text`` may have."""

STREAM_INTERVAL = 1.0
"""Seconds. A workspace takes 100 appends a minute from an app, in all its answers together."""

EDIT_INTERVAL = 2.0
"""Seconds. Of updates it takes 50 a minute."""

STATUS_LASTS = 120.0
"""Seconds that a thread's status is shown."""

_TOO_MANY, _FAILED = 429, 500
_FLOOD = {"ratelimited", "rate_limited"}
_TRANSIENT = {
    "fatal_error",
    "internal_error",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
}
_GONE = {
    "cant_update_message",
    "edit_window_closed",
    "message_not_found",
    "message_not_in_streaming_state",
    "message_not_owned_by_app",
    "streaming_state_conflict",
}


class StoppedInSlackError(SinkError):
    """A reader pressed Slack's own stop button: the message takes no more, and none is wanted."""


class SlackSink:
    """A thread of Slack's, into which answers are streamed.

    *thread_ts* is the ``ts`` of the message that is answered, or of its thread. In a channel
    *recipient_user_id* and *recipient_team_id* must name who asked. *status* is shown
    beside the app's name until the answer begins (``"is thinking…"``; it needs the scope
    ``assistant:write``).

    Slack closes a stream after some minutes. What came since begins a new message then.
    """

    def __init__(
        self,
        client: AsyncWebClient,
        channel: str,
        *,
        thread_ts: str,
        recipient_user_id: str | None = None,
        recipient_team_id: str | None = None,
        status: str = "",
    ) -> None:
        self._client = client
        self._channel = channel
        self._thread_ts = thread_ts
        self._user_id = recipient_user_id
        self._team_id = recipient_team_id
        self._status = status
        self._end = ""  # of the message under way: a mention may come in two pieces
        self._limits = Limits(
            length=LENGTH,
            interval=STREAM_INTERVAL,
            typing=STATUS_LASTS if status else None,
        )

    @property
    def limits(self) -> Limits:
        """12,000 characters; a write each second."""
        return self._limits

    async def typing(self) -> None:
        """Show the status; Slack takes it off when a message comes."""
        async with _calling(self._client):
            await self._client.assistant_threads_setStatus(
                channel_id=self._channel, thread_ts=self._thread_ts, status=self._status
            )

    async def start(self, text: str) -> str:
        """Open a message in the thread; return its ``ts``."""
        async with _calling(self._client):
            response = await self._client.chat_startStream(
                channel=self._channel,
                thread_ts=self._thread_ts,
                markdown_text=defuse(text),
                recipient_user_id=self._user_id,
                recipient_team_id=self._team_id,
            )
        self._end = text[-_LONGEST:]
        ts: str = response["ts"]
        return ts

    async def append(self, message: str, text: str) -> None:
        """Append to the message *message*."""
        async with _calling(self._client):
            await self._client.chat_appendStream(
                channel=self._channel, ts=message, markdown_text=defuse(text, self._end)
            )
        self._end = (self._end + text)[-_LONGEST:]

    async def stop(self, message: str, text: str) -> None:
        """Append what is left, if anything, and close the message."""
        async with _calling(self._client):
            await self._client.chat_stopStream(
                channel=self._channel, ts=message, markdown_text=defuse(text, self._end) or None
            )


class SlackEditSink:
    """A channel of Slack's, or a thread in it, in which messages are posted and updated."""

    def __init__(
        self, client: AsyncWebClient, channel: str, *, thread_ts: str | None = None
    ) -> None:
        self._client = client
        self._channel = channel
        self._thread_ts = thread_ts
        self._limits = Limits(length=LENGTH, interval=EDIT_INTERVAL, typing=None)

    @property
    def limits(self) -> Limits:
        """12,000 characters; a write each two seconds."""
        return self._limits

    async def typing(self) -> None:
        """Do nothing: Slack has no such thing for apps."""

    async def send(self, text: str) -> str:
        """Post a message; return its ``ts``."""
        async with _calling(self._client):
            response = await self._client.chat_postMessage(
                channel=self._channel,
                thread_ts=self._thread_ts,
                markdown_text=defuse(text),
                unfurl_links=False,
                unfurl_media=False,
            )
        ts: str = response["ts"]
        return ts

    async def edit(self, message: str, text: str) -> None:
        """Replace the text of the message *message*."""
        async with _calling(self._client):
            await self._client.chat_update(
                channel=self._channel, ts=message, markdown_text=defuse(text)
            )


# --- What notifies somebody -----------------------------------------------------------


_MENTION = re.compile(r"<(?=!(?:channel|here|everyone|group|subteam)|@|#C)")
_LONGEST = len("<!everyone") - 1
_JOINER = "\u2060"


def defuse(text: str, before: str = "") -> str:
    """Return *text* without what Slack takes for a mention, and looking as it did.

    It is as long as it was, or one more if *before*, the end of what it is appended to,
    had begun a mention.

    >>> defuse("<!channel> <!DOCTYPE html> <https://example.org>")
    '‹!channel> <!DOCTYPE html> <https://example.org>'
    """
    defused = _MENTION.sub("‹", text)
    came_whole = len(_MENTION.findall(before)) + len(_MENTION.findall(text))
    begun = len(_MENTION.findall(before + text)) > came_whole
    return _JOINER + defused if begun else defused


# --- What Slack says ------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _calling(client: AsyncWebClient) -> AsyncIterator[None]:
    """Wait no longer than the client's timeout, and raise what a sink raises."""
    try:
        async with asyncio.timeout(client.timeout):
            yield
    except SlackApiError as error:
        raise _translated(error) from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise UnreachableError(str(error) or type(error).__name__) from error


def _translated(error: SlackApiError) -> SinkError:
    response: Any = error.response
    data = getattr(response, "data", None)
    code = data.get("error", "") if isinstance(data, dict) else ""
    status = getattr(response, "status_code", 0)
    text = f"Slack answered {status} {code}".rstrip()
    if status == _TOO_MANY or code in _FLOOD:
        return FloodError(_seconds(response.headers.get("Retry-After")))
    if status >= _FAILED or code in _TRANSIENT or not code:  # a proxy's page, perhaps
        return UnreachableError(text)
    if code == "stopped_by_user":
        return StoppedInSlackError(text)
    return ExpiredError(text) if code in _GONE else SinkError(text)


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else float(header)
    except ValueError:
        return None
