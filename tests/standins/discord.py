"""Discord's HTTP API, as far as a bot needs it that answers in a channel; there is no gateway."""

import itertools
import json
import re

from aiohttp import web

from tests.standins.site import Site, Window, utf16

LENGTH = 2000
TOKEN_LASTS = 15 * 60.0
PERSON = {"username": "bot", "discriminator": "0", "avatar": None, "global_name": None}
_PINGS = re.compile(r"@everyone|@here|<@[!&]?\d+>")


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message}


def as_json(body, status=200, headers=None):
    """JSON without a charset, without which discord.py doesn't take it for any."""
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        headers=headers,
        content_type="application/json",
    )


class DiscordStandIn(Site):
    """Each channel takes five messages in five seconds, and five edits.

    What it tells in headers is real time, whatever its clock.
    """

    def __init__(self, clock=None):
        super().__init__(clock)
        self.window = Window(5, 5.0, self.clock)
        self.channels = {}
        """Messages by channel, each as the API tells it."""
        self.pings = []
        """What notified somebody."""
        self.interactions = {}
        """When each began, by its token; and its channel."""
        self.deferred = set()
        self.closed = set()
        """Channels that nobody may write in."""
        self._ids = itertools.count(1000)

    def routes(self):
        channel = "/api/v10/channels/{channel}"
        hook = "/api/v10/webhooks/{app}/{token}"
        return [
            web.get("/api/v10/users/@me", self._me),
            web.get("/api/v10/oauth2/applications/@me", self._application),
            web.post(channel + "/typing", self._typing),
            web.post(channel + "/messages", self._send),
            web.patch(channel + "/messages/{message}", self._edit),
            web.post("/api/v10/interactions/{id}/{token}/callback", self._defer),
            web.post(hook, self._follow_up),
            web.patch(hook + "/messages/{message}", self._edit_follow_up),
        ]

    @property
    def api(self):
        """For ``discord.http.Route.BASE``."""
        return f"{self.origin}/api/v10"

    def texts(self, channel):
        """The messages of a channel."""
        return [message["content"] for message in self.channels.get(str(channel), [])]

    def message(self, channel):
        """What each message has."""
        return {
            "channel_id": channel,
            "author": {"id": "1", "bot": True, **PERSON},
            "timestamp": "2026-01-01T00:00:00+00:00",
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "pinned": False,
            "type": 0,
            "components": [],
        }

    def interaction(self, token, channel, kind=2, **details):
        """What the gateway would tell of a command that somebody gave; 3 is a button's press."""
        self.interactions[token] = self.clock.now, channel
        return {
            "id": "9",
            "type": kind,
            "token": token,
            "version": 1,
            "application_id": "1",
            "attachment_size_limit": 1,
            "user": {"id": "3", **PERSON},
            **details,
        }

    # --- Calls -----------------------------------------------------------------------

    async def _me(self, request):
        return as_json({"id": "1", "bot": True, **PERSON})

    async def _application(self, request):
        owner = {"id": "2", **PERSON}
        app = {"id": "1", "name": "bot", "description": "", "icon": None, "owner": owner}
        flags = {"bot_public": False, "bot_require_code_grant": False, "verify_key": ""}
        return as_json(app | flags)

    async def _typing(self, request):
        return web.Response(status=204)

    async def _send(self, request):
        channel = request.match_info["channel"]
        return await self._write(request, "send", channel, lambda data: self._new(channel, data))

    async def _edit(self, request):
        channel = request.match_info["channel"]
        message = request.match_info["message"]
        return await self._write(
            request, "edit", channel, lambda data: self._changed(channel, message, data)
        )

    async def _defer(self, request):
        token = request.match_info["token"]
        if token not in self.interactions:
            return as_json({"code": 10062, "message": "Unknown interaction"}, status=404)
        if token in self.deferred:
            body = {"code": 40060, "message": "Interaction has already been acknowledged."}
            return as_json(body, status=400)
        self.calls.append("defer")
        self.deferred.add(token)
        return as_json({"interaction": {"id": request.match_info["id"], "type": 2}})

    async def _follow_up(self, request):
        token = request.match_info["token"]
        channel = self.interactions[token][1]

        def answer(data):
            self._check_token(token)
            return self._new(channel, data)

        return await self._write(request, "follow up", token, answer)

    async def _edit_follow_up(self, request):
        token, message = request.match_info["token"], request.match_info["message"]
        channel = self.interactions[token][1]

        def answer(data):
            self._check_token(token)
            return self._changed(channel, message, data)

        return await self._write(request, "edit follow up", token, answer)

    # --- What they do ----------------------------------------------------------------

    async def _write(self, request, name, key, answer):
        data = json.loads(await request.read())
        self.calls.append(name)
        if self.failures:
            return self.failures.popleft()()
        wait = self.window.wait((name, key)) / self.clock.times
        left, reset = self.window.left((name, key))
        headers = {
            "Via": "1.1 google",
            "X-RateLimit-Limit": str(self.window.most),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset-After": f"{reset / self.clock.times:.4f}",
            "X-RateLimit-Bucket": name.replace(" ", ""),
        }
        if wait:
            self.floods += 1
            body = {"message": "You are being rate limited.", "retry_after": wait, "global": False}
            headers["Retry-After"] = f"{wait:.4f}"
            return as_json(body, status=429, headers=headers)
        try:
            return as_json(answer(data), headers=headers)
        except RefusedError as refusal:
            return as_json(refusal.body, status=refusal.status, headers=headers)

    def _new(self, channel, data):
        self._check(channel, data)
        message = {
            **self.message(channel),
            "id": str(next(self._ids)),
            "content": data["content"],
            "components": data.get("components", []),
        }
        if "message_reference" in data:
            message["message_reference"] = data["message_reference"]
        self.channels.setdefault(channel, []).append(message)
        return message

    def _changed(self, channel, number, data):
        found = [m for m in self.channels.get(channel, []) if m["id"] == number]
        if not found:
            raise RefusedError(404, 10008, "Unknown Message")
        if "content" in data:
            self._check(channel, data)
        found[0].update({name: data[name] for name in ("content", "components") if name in data})
        return found[0]

    def _check(self, channel, data):
        if channel in self.closed:
            raise RefusedError(403, 50013, "Missing Permissions")
        content = data["content"]
        if not content.strip():
            raise RefusedError(400, 50006, "Cannot send an empty message")
        if utf16(content) > LENGTH:
            raise RefusedError(400, 50035, "Invalid Form Body")
        allowed = data.get("allowed_mentions")
        if allowed is None or allowed.get("parse") or allowed.get("users") or allowed.get("roles"):
            self.pings += _PINGS.findall(content)

    def _check_token(self, token):
        began, _ = self.interactions[token]
        if self.clock.now - began > TOKEN_LASTS:
            raise RefusedError(401, 50027, "Invalid Webhook Token")
