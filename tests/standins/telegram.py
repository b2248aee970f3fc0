"""Telegram's Bot API, as far as a bot needs it that answers in a chat."""

import itertools
import json
import math

from aiohttp import web

from tests.standins.site import Site, Window, utf16

LENGTH, DRAFT_LASTS = 4096, 30.0
GONE = "Bad Request: message to edit not found"
SAME = (
    "Bad Request: message is not modified: specified new message content and reply markup are "
    "exactly the same as a current content and reply markup of the message"
)
TAGS = {
    "bold": "b", "italic": "i", "strikethrough": "s", "code": "code", "pre": "pre",
    "text_link": "a",
}  # fmt: skip
EMPHASIS = {"bold", "italic", "strikethrough"}


class RefusedError(Exception):
    """An answer that isn't ok."""

    def __init__(self, status, description, **parameters):
        super().__init__(description)
        self.status = status
        self.body = {"ok": False, "error_code": status, "description": description}
        if parameters:
            self.body["parameters"] = parameters


class TelegramStandIn(Site):
    """*drafts* tells whether it has the method, *entities* whether it takes any.

    Its FAQ says: one message a second in a chat, 20 a minute in a group; bursts may pass.
    """

    def __init__(self, clock=None, *, drafts=True, entities=True):
        super().__init__(clock)
        self.drafts, self.entities = drafts, entities
        self.private = Window(6, 5.0, self.clock)
        self.group = Window(20, 60.0, self.clock)
        self.chats = {}
        """Messages by chat, each a dict; the draft of a chat is not among them."""
        self.drawn = {}
        """The draft of a chat: when, its number, its text."""
        self.blocked = set()
        self.moved = {}
        """Groups that have become another."""
        self.longest = 0
        self._ids = itertools.count(1)

    def routes(self):
        return [web.post("/bot{token}/{method}", self._answer)]

    # --- What people see -------------------------------------------------------------

    def texts(self, chat):
        """The messages of a chat."""
        return [message["text"] for message in self.chats.get(chat, [])]

    def draft(self, chat):
        """What is being written in a chat, if that is to be seen."""
        when, _, text = self.drawn.get(chat, (float("-inf"), 0, None))
        return text if self.clock.now - when < DRAFT_LASTS else None

    def looks(self, chat):
        """The messages of a chat with tags for what looks different."""
        return [tagged(m["text"], m["entities"]) for m in self.chats.get(chat, [])]

    def buttons(self, chat):
        """Whether each message has one."""
        return ["reply_markup" in message for message in self.chats.get(chat, [])]

    # --- Calls -----------------------------------------------------------------------

    async def _answer(self, request):
        fields = {
            name: text if name == "text" else _value(text)
            for name, text in (await request.post()).items()
        }
        method = request.match_info["method"]
        writes = method in {"sendMessage", "editMessageText", "sendMessageDraft"}
        try:
            if writes:
                self.calls.append(method)
                if self.failures:
                    return self.failures.popleft()()
                self._check_chat(fields["chat_id"])
            unknown = method == "sendMessageDraft" and not self.drafts
            answer = getattr(self, "_unknown" if unknown else f"_{method}", self._unknown)
            return web.json_response({"ok": True, "result": answer(fields)})
        except RefusedError as refusal:
            return web.json_response(refusal.body, status=refusal.status)

    def _check_chat(self, chat):
        if chat in self.moved:
            raise RefusedError(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=self.moved[chat],
            )
        if chat in self.blocked:
            raise RefusedError(403, "Forbidden: bot was blocked by the user")
        wait = (self.private if chat > 0 else self.group).wait(chat)
        if wait:
            self.floods += 1
            seconds = math.ceil(wait)
            text = f"Too Many Requests: retry after {seconds}"
            raise RefusedError(429, text, retry_after=seconds)

    def _unknown(self, fields):
        raise RefusedError(404, "Not Found: method not found")

    def _getMe(self, fields):  # noqa: N802
        return {"id": 1, "is_bot": True, "first_name": "Bot", "username": "a_bot"}

    def _sendChatAction(self, fields):  # noqa: N802
        self._check_known(fields["chat_id"])
        return True

    def _answerCallbackQuery(self, fields):  # noqa: N802
        return True

    def _sendMessage(self, fields):  # noqa: N802
        chat = fields["chat_id"]
        self._check_known(chat)
        message = {
            "message_id": next(self._ids),
            "date": 1,
            "chat": {"id": chat, "type": "private" if chat > 0 else "supergroup"},
            **self._content(fields),
        }
        reply = fields.get("reply_parameters")
        if reply is not None:
            message["reply_to"] = reply["message_id"]
        self.chats.setdefault(chat, []).append(message)
        self.drawn.pop(chat, None)
        return message

    def _editMessageText(self, fields):  # noqa: N802
        found = [
            message
            for message in self.chats.get(fields["chat_id"], [])
            if message["message_id"] == fields["message_id"]
        ]
        if not found:
            raise RefusedError(400, GONE)
        new = self._content(fields)
        if new == {name: found[0][name] for name in _CONTENT if name in found[0]}:
            raise RefusedError(400, SAME)
        found[0].pop("reply_markup", None)
        found[0].update(new)
        return found[0]

    def _sendMessageDraft(self, fields):  # noqa: N802
        chat = fields["chat_id"]
        if chat < 0:
            raise RefusedError(400, "Bad Request: TEXTDRAFT_PEER_INVALID")
        self._check_known(chat)
        if not fields.get("draft_id"):
            raise RefusedError(400, "Bad Request: RANDOM_ID_INVALID")
        self.drawn[chat] = self.clock.now, fields["draft_id"], self._content(fields)["text"]
        return True

    def _check_known(self, chat):
        if chat == 404:
            raise RefusedError(400, "Bad Request: chat not found")

    def _content(self, fields):
        text, entities = fields["text"], fields.get("entities") or []
        if not text.strip():
            raise RefusedError(400, "Bad Request: message text is empty")
        if utf16(text) > LENGTH:
            raise RefusedError(400, "Bad Request: message is too long")
        if fields.get("parse_mode"):
            raise RefusedError(400, "Bad Request: can't parse entities: this one reads no markup")
        if entities and not self.entities:
            raise RefusedError(400, "Bad Request: can't parse entities: none today")
        check_entities(text, entities)
        self.longest = max(self.longest, utf16(text))
        content = {"text": text, "entities": entities}
        if "reply_markup" in fields:
            content["reply_markup"] = fields["reply_markup"]
        return content


_CONTENT = ("text", "entities", "reply_markup")


def _value(text):
    """A field as JSON, or the text that it is."""
    if text[:1] in "[{-0123456789":
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text


def check_entities(text, entities):
    """The rules of "Formatting options" in the Bot API's reference."""
    units = text.encode("utf-16-le", "surrogatepass")
    ends = []
    for entity in sorted(entities, key=lambda each: (each["offset"], -each["length"])):
        start, end = entity["offset"], entity["offset"] + entity["length"]
        if not 0 <= start < end <= len(units) // 2:
            raise RefusedError(400, "Bad Request: ENTITY_BOUNDS_INVALID")
        if any(
            0xDC <= units[2 * edge + 1] <= 0xDF for edge in (start, end) if 2 * edge < len(units)
        ):
            raise RefusedError(400, "Bad Request: ENTITY_BOUNDS_INVALID")
        ends = [(kind, last) for kind, last in ends if last > start]
        if any(last < end for _, last in ends):
            raise RefusedError(400, "Bad Request: entities overlap")
        code = entity["type"] in {"code", "pre"}
        around = {kind for kind, _ in ends}
        if (code and around) or around & {"code", "pre"}:
            raise RefusedError(400, "Bad Request: entities in code, or code in entities")
        if entity["type"] not in EMPHASIS and around - EMPHASIS:
            raise RefusedError(400, "Bad Request: entities that can't contain each other")
        ends.append((entity["type"], end))


def tagged(text, entities):
    """*text* with its entities as tags; nothing is escaped."""
    units = text.encode("utf-16-le")
    inserts = {}
    for entity in sorted(entities, key=lambda each: (each["offset"], -each["length"])):
        tag = TAGS[entity["type"]]
        detail = entity.get("language") or entity.get("url")
        opening = f"<{tag} {detail}>" if detail else f"<{tag}>"
        inserts.setdefault(entity["offset"], [[], []])[1].append(opening)
        end = entity["offset"] + entity["length"]
        inserts.setdefault(end, [[], []])[0].insert(0, f"</{tag}>")
    out, at = [], 0
    for place in sorted(inserts):
        out.append(units[2 * at : 2 * place].decode("utf-16-le"))
        out += [*inserts[place][0], *inserts[place][1]]
        at = place
    return "".join([*out, units[2 * at :].decode("utf-16-le")])
