"""Slack's Web API, as far as an app needs it that answers in a thread."""

import itertools
import json
import math
import re

from aiohttp import web

from tests.standins.site import Site, Window

LENGTH = 12_000
STREAM_LASTS = 300.0
_PINGS = re.compile(r"<!(?:channel|here|everyone|subteam\^\w+)[^>]*>|<@\w+[^>]*>")


class RefusedError(Exception):
    """An answer that isn't ok."""


class SlackStandIn(Site):
    """Calls a minute as their tiers say: 20 to start and to stop, 50 to update, 100 to append.

    A stream is closed *lasts* seconds after its start.
    """

    def __init__(self, clock=None, *, lasts=STREAM_LASTS):
        super().__init__(clock)
        self.windows = {
            name: Window(most, 60.0, self.clock)
            for name, most in {
                "chat.startStream": 20,
                "chat.stopStream": 20,
                "chat.appendStream": 100,
                "chat.update": 50,
                "chat.postMessage": 60,
                "chat.delete": 50,
            }.items()
        }
        self.lasts = lasts
        self.channels = {}
        """Messages by channel, in order, by their ``ts``."""
        self.statuses = []
        self.stopped = set()
        """Messages whose stop button a reader pressed."""
        self._ids = itertools.count(1)

    def routes(self):
        return [web.post("/api/{method}", self._answer)]

    @property
    def api(self):
        """For ``base_url``."""
        return f"{self.origin}/api/"

    def texts(self, channel):
        """The messages of a channel."""
        return [message["text"] for message in self.channels.get(channel, {}).values()]

    def streaming(self, channel):
        """The messages that are still being written."""
        messages = self.channels.get(channel, {}).values()
        return [message["text"] for message in messages if message["streaming"]]

    @property
    def pings(self):
        """What notified somebody."""
        texts = itertools.chain.from_iterable(map(self.texts, self.channels))
        return [ping for text in texts for ping in _PINGS.findall(text)]

    # --- Calls -----------------------------------------------------------------------

    async def _answer(self, request):
        method = request.match_info["method"]
        if request.content_type == "application/json":
            fields = json.loads(await request.read())
        else:
            fields = {**request.query, **await request.post()}
        if method in self.windows:
            self.calls.append(method)
            if self.failures:
                return self.failures.popleft()()
            wait = self.windows[method].wait(None)
            if wait:
                self.floods += 1
                headers = {"Retry-After": str(math.ceil(wait))}
                body = {"ok": False, "error": "ratelimited"}
                return web.json_response(body, status=429, headers=headers)
        try:
            answer = getattr(self, "_" + method.replace(".", "_"))(fields)
        except RefusedError as refusal:
            return web.json_response({"ok": False, "error": str(refusal)})
        return web.json_response({"ok": True, **answer})

    def _auth_test(self, fields):
        return {"user_id": "UBOT", "team_id": "T1"}

    def _assistant_threads_setStatus(self, fields):  # noqa: N802
        self.statuses.append(fields["status"])
        return {}

    def _chat_startStream(self, fields):  # noqa: N802
        if "thread_ts" not in fields:
            raise RefusedError("invalid_thread_ts")
        if fields["channel"].startswith("C"):
            for name in ("recipient_team_id", "recipient_user_id"):
                if name not in fields:
                    raise RefusedError(f"missing_{name}")
        return self._new(fields, streaming=True)

    def _chat_appendStream(self, fields):  # noqa: N802
        message = self._streaming(fields)
        if not fields["markdown_text"]:
            raise RefusedError("no_text")
        self._append(message, fields["markdown_text"])
        return {"ts": fields["ts"]}

    def _chat_stopStream(self, fields):  # noqa: N802
        message = self._streaming(fields)
        self._append(message, fields.get("markdown_text", ""))
        message["streaming"] = False
        return {"ts": fields["ts"]}

    def _chat_postMessage(self, fields):  # noqa: N802
        return self._new(fields, streaming=False)

    def _chat_update(self, fields):
        message = self._found(fields)
        if message["streaming"]:
            raise RefusedError("streaming_state_conflict")
        message["text"] = self._text(fields)
        message["blocks"] = fields.get("blocks")
        return {"ts": fields["ts"]}

    def _chat_delete(self, fields):
        self._found(fields)
        del self.channels[fields["channel"]][fields["ts"]]
        return {"ts": fields["ts"]}

    # --- What they do ----------------------------------------------------------------

    def _text(self, fields):
        text = fields.get("markdown_text") or fields.get("text") or ""
        if not text.strip() and not fields.get("blocks"):
            raise RefusedError("no_text")
        if len(text) > LENGTH:
            raise RefusedError("msg_too_long")
        return text

    def _new(self, fields, *, streaming):
        if fields["channel"] == "C404":
            raise RefusedError("channel_not_found")
        ts = f"{next(self._ids)}.0"
        self.channels.setdefault(fields["channel"], {})[ts] = {
            "text": self._text(fields),
            "blocks": fields.get("blocks"),
            "thread_ts": fields.get("thread_ts"),
            "streaming": streaming,
            "began": self.clock.now,
        }
        return {"ts": ts, "channel": fields["channel"]}

    def _append(self, message, text):
        if len(message["text"]) + len(text) > LENGTH:
            raise RefusedError("msg_too_long")
        message["text"] += text

    def _found(self, fields):
        message = self.channels.get(fields["channel"], {}).get(fields["ts"])
        if message is None:
            raise RefusedError("message_not_found")
        return message

    def _streaming(self, fields):
        message = self._found(fields)
        if fields["ts"] in self.stopped:
            message["streaming"] = False
            raise RefusedError("stopped_by_user")
        if self.clock.now - message["began"] > self.lasts:
            message["streaming"] = False
        if not message["streaming"]:
            raise RefusedError("message_not_in_streaming_state")
        return message
