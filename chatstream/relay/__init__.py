"""Hand a stream on to a browser, or to any client of OpenAI's API.

::

    from chatstream.relay.web import respond  # aiohttp.web

    async def chat(request):
        question = await request.json()
        return await respond(request, session.stream(model="m", messages=question["messages"]))

:mod:`chatstream.relay.web` is for aiohttp.web, :mod:`chatstream.relay.asgi` for any ASGI
framework, :mod:`chatstream.relay.starlette` for Starlette and FastAPI, whose handlers
have to return responses of their own kind.
"""

from chatstream.relay.frames import OPENAI, TEXT, Format, OpenAIFormat, TextFormat
from chatstream.relay.handover import Client, ClientGoneError, Handover, Relayed
from chatstream.relay.refusals import Refusal, refusal_of

__all__ = [
    "OPENAI",
    "TEXT",
    "Client",
    "ClientGoneError",
    "Format",
    "Handover",
    "OpenAIFormat",
    "Refusal",
    "Relayed",
    "TextFormat",
    "refusal_of",
]
