"""What each request gets from a simulated server."""

from __future__ import annotations

import hmac
import random
import re
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from attrs import field, frozen

from chatstream.testing import payloads
from chatstream.testing.answers import compose
from chatstream.testing.payloads import Script
from chatstream.testing.profile import Profile
from chatstream.testing.refusals import Refusal, check, parse
from chatstream.testing.wire import Headers, Request

_MOST_RECORDED = 10_000
_MOST_RECORDED_BYTES = 64 * 1024 * 1024
_MOST_SCRIPTS = 64
_MOST_KEY_BYTES = 64 * 1024
_MOST_KEPT_PARTS = 200_000

_CHAT = re.compile(r"(?:/openai)?/v1/chat/completions|/openai/deployments/([^/]+)/chat/completions")
_MODELS = re.compile(r"(?:/openai)?/v1/models")
_STATUSES = range(300, 600)


@frozen(eq=False)
class RecordedRequest:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: Headers
    raw: bytes
    connection: int
    """Which connection brought it, counted from 1."""

    number: int
    """Its place among all requests, counted from 1."""

    received_ns: int
    """When it was whole, by the server's clock."""

    sent_ns: array[int] = field(factory=lambda: array("q"))
    """When each write of its answer was made; a server without ``truth`` doesn't note it."""

    @property
    def body(self) -> Any:
        """Its JSON, read anew each time; ``None`` if it isn't JSON."""
        try:
            return orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            return None


class Backend:
    """Remembers requests, decides what they are answered."""

    def __init__(
        self,
        profile: Profile,
        *,
        api_key: str | None,
        truth: bool,
        models: tuple[str, ...],
        clock: Callable[[], int],
    ) -> None:
        self.truth = truth
        self.clock = clock
        self._api_key = api_key
        self._models = models
        self._numbered = 0
        self._recorded: deque[RecordedRequest] = deque()
        self._recorded_bytes = 0
        # The same body gets the same answer, so it is composed once.
        self._scripts: OrderedDict[tuple[str | None, bytes], Script] = OrderedDict()
        self.profile = profile

    @property
    def profile(self) -> Profile:
        """How to behave from the next request on."""
        return self._profile

    @profile.setter
    def profile(self, profile: Profile) -> None:
        self._profile = profile
        self._scripts.clear()
        self._kept_parts = 0
        self._rng = random.Random(profile.seed)

    def recorded(self) -> list[RecordedRequest]:
        """List the newest requests, oldest first."""
        return list(self._recorded)

    def forget(self) -> None:
        """Drop what was recorded."""
        self._recorded.clear()
        self._recorded_bytes = 0

    def record(self, request: Request, connection: int) -> RecordedRequest:
        """Note *request*, whole now."""
        self._numbered += 1
        head = request.head
        record = RecordedRequest(
            head.method,
            head.path,
            head.query,
            head.headers,
            request.body,
            connection,
            self._numbered,
            self.clock(),
        )
        recorded = self._recorded
        recorded.append(record)
        self._recorded_bytes += len(record.raw)
        while len(recorded) > _MOST_RECORDED or self._recorded_bytes > _MOST_RECORDED_BYTES:
            self._recorded_bytes -= len(recorded.popleft().raw)
        return record

    def answer(self, request: RecordedRequest) -> bytes | Script:
        """Give a JSON body to send at once, or a chat's script; or raise ``Refusal``."""
        path = request.path
        if chat := _CHAT.fullmatch(path):
            if request.method != "POST":
                raise _wrong_method(request, "POST")
            self._authorize(request.headers)
            self._fail_if_told(request.headers)
            return self._script(request.raw, chat[1])
        if path == "/health":
            body = b'{"status":"ok"}'
        elif _MODELS.fullmatch(path):
            self._authorize(request.headers)
            body = self._model_list()
        else:
            msg = f"Unknown request URL: {request.method} {path[:200]}."
            raise Refusal(404, msg, code="unknown_url")
        if request.method not in ("GET", "HEAD"):
            raise _wrong_method(request, "GET, HEAD")
        return body

    def _model_list(self) -> bytes:
        models = [
            {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "chatstream"}
            for model in self._models
        ]
        return orjson.dumps({"object": "list", "data": models})

    def _authorize(self, headers: Headers) -> None:
        if self._api_key is None:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("api-key", "")
        if not given:
            raise Refusal(401, "You didn't provide an API key.")
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise Refusal(401, "Incorrect API key provided.")

    def _fail_if_told(self, headers: Headers) -> None:
        if (wanted := headers.get("x-simulate-status")) is not None:
            status = int(wanted) if re.fullmatch("[0-9]{3}", wanted) else 0
            if status not in _STATUSES:
                raise Refusal(400, f"x-simulate-status must be 300 to 599, not {wanted[:20]!r}.")
            raise _simulated(status, headers.get("x-simulate-retry-after"))
        profile = self._profile
        if profile.error_rate and self._rng.random() < profile.error_rate:
            wait = None if profile.retry_after is None else f"{profile.retry_after:g}"
            raise _simulated(profile.error_status, wait)

    def _script(self, raw: bytes, deployment: str | None) -> Script:
        key = (deployment, raw)
        script = self._scripts.get(key)
        if script is not None:
            self._scripts.move_to_end(key)
            return script
        body: Mapping[str, Any] = parse(raw)
        if deployment is not None:
            body = {"model": deployment, **body}
        check(body)
        answer = compose(body, self._profile)
        render = payloads.streamed if body.get("stream") else payloads.whole
        script = render(answer, body, self._profile)
        if len(raw) <= _MOST_KEY_BYTES and len(script.parts) <= _MOST_KEPT_PARTS:
            self._scripts[key] = script
            self._kept_parts += len(script.parts)
            while len(self._scripts) > _MOST_SCRIPTS or self._kept_parts > _MOST_KEPT_PARTS:
                _, old = self._scripts.popitem(last=False)
                self._kept_parts -= len(old.parts)
        return script


def _wrong_method(request: RecordedRequest, allow: str) -> Refusal:
    msg = f"Not allowed: {request.method} {request.path}. Use {allow}."
    return Refusal(405, msg, code="method_not_allowed", headers={"allow": allow})


def _simulated(status: int, retry_after: str | None) -> Refusal:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Refusal(status, f"Simulated status {status}.", headers=headers)
