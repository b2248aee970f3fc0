"""A Slack app whose answers stream into the thread that asked, and can be stopped.

OPENAI_API_KEY=… SLACK_BOT_TOKEN=xoxb-… SLACK_APP_TOKEN=xapp-… \
    python examples/slack_bot.py gpt-4o-mini
python -m examples.simulate slack                           # without accounts, from a clone

Mention it in a channel. Needs chatstream-sdk[slack], Socket Mode, the event
app_mention, and the scopes app_mentions:read and chat:write.
"""

import asyncio
import logging
import os
import sys
from typing import Any

import aiohttp
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from chatstream import ChatSession, stamping_session_options
from chatstream.bots import LiveMessage, SinkError
from chatstream.bots.conversation import Conversation, Conversations
from chatstream.bots.slack import SlackSink

log = logging.getLogger(__name__)
STOP = [
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": "stop",
                "text": {"type": "plain_text", "text": "Stop"},
            }
        ],
    }
]


class ChatApp:
    """Answers those who mention it."""

    def __init__(self, client: AsyncWebClient, session: ChatSession, model: str) -> None:
        self.client = client
        self.session = session
        self.model = model
        self.conversations: Conversations[str] = Conversations(
            lambda: Conversation(system="Be helpful and brief.", max_messages=20)
        )
        self.answering: dict[str, LiveMessage] = {}  # by the ts of the button's message

    async def handle(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        """Take what Slack sends; it wants to hear within three seconds that it came."""
        await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        if request.type == "events_api" and request.payload["event"]["type"] == "app_mention":
            await self.asked(request.payload["event"], request.payload["team_id"])
        elif request.type == "interactive" and request.payload["actions"][0]["action_id"] == "stop":
            await self.stop(request.payload["message"]["ts"])

    async def asked(self, event: dict[str, Any], team: str) -> None:
        """Answer, when what came before in this thread is answered."""
        channel, thread = event["channel"], event.get("thread_ts", event["ts"])
        sink = SlackSink(
            self.client,
            channel,
            thread_ts=thread,
            recipient_user_id=event["user"],
            recipient_team_id=team,
        )
        async with self.conversations[thread].turn(event["text"]) as turn:
            stream = self.session.stream(model=self.model, messages=turn.messages)
            turn.answer(stream)
            # A message that streams has no room for a button.
            button = await self.client.chat_postMessage(
                channel=channel, thread_ts=thread, text="Answering …", blocks=STOP
            )
            live = self.answering[button["ts"]] = LiveMessage(sink)
            try:
                delivered = await live.show(stream)
                log.info("%s %s", delivered.verdict, delivered.error or "")
            except SinkError as error:  # the channel is archived, perhaps
                log.warning("channel %s: %s", channel, error)
            finally:
                del self.answering[button["ts"]]
            await self.client.chat_delete(channel=channel, ts=button["ts"])

    async def stop(self, button: str) -> None:
        """End the answer that *button* belongs to, if it is under way."""
        if button in self.answering:
            await self.answering[button].stop()


async def main() -> None:
    """Answer until interrupted."""
    logging.basicConfig(level=logging.INFO)
    async with (
        aiohttp.ClientSession(**stamping_session_options()) as http,
        ChatSession(http=http) as session,
    ):
        client = AsyncWebClient(os.environ["SLACK_BOT_TOKEN"], session=http)
        socket = SocketModeClient(os.environ["SLACK_APP_TOKEN"], web_client=client)
        app = ChatApp(client, session, sys.argv[1])
        socket.socket_mode_request_listeners.append(app.handle)
        await socket.connect()
        try:
            await asyncio.Event().wait()
        finally:
            await socket.close()


if __name__ == "__main__":
    asyncio.run(main())
