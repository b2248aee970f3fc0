"""Stream chat completions on asyncio and know when each piece arrived.

>>> from chatstream import ChatSession
>>> session = ChatSession("http://localhost:8000/v1")
>>> stream = session.stream(model="m", messages=[{"role": "user", "content": "Hi"}])
"""

from chatstream.codec import parse_arguments, to_dict
from chatstream.collector import MessageCollector
from chatstream.completion import ChatCompletion, ChatCompletionChunk, Delta, Usage, Verdict
from chatstream.errors import (
    AuthenticationError,
    BadRequestError,
    ChatStreamError,
    ConnectError,
    ConnectTimeoutError,
    DecodeError,
    EventTooLargeError,
    FirstTokenTimeoutError,
    IdleTimeoutError,
    InterruptedStreamError,
    NotAnEventStreamError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    RequestError,
    ResponseTooLargeError,
    ServerError,
    StatusError,
    StreamTimeoutError,
    TotalTimeoutError,
    UpstreamError,
)
from chatstream.events import ChunkEvent, DeltaEvent, StreamEvent
from chatstream.messages import MessageParam, assistant, developer, image, system, text, tool, user
from chatstream.report import Observer, StreamReport, StreamStart
from chatstream.request import ChatParams, ChatRequest
from chatstream.retry import RetryPolicy
from chatstream.rules import RequestWarning
from chatstream.session import ChatSession, stamping_session_options
from chatstream.stream import ChatStream
from chatstream.timeouts import Timeouts

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatParams",
    "ChatRequest",
    "ChatSession",
    "ChatStream",
    "ChatStreamError",
    "ChunkEvent",
    "ConnectError",
    "ConnectTimeoutError",
    "DecodeError",
    "Delta",
    "DeltaEvent",
    "EventTooLargeError",
    "FirstTokenTimeoutError",
    "IdleTimeoutError",
    "InterruptedStreamError",
    "MessageCollector",
    "MessageParam",
    "NotAnEventStreamError",
    "NotFoundError",
    "Observer",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitError",
    "RedirectError",
    "RequestError",
    "RequestWarning",
    "ResponseTooLargeError",
    "RetryPolicy",
    "ServerError",
    "StatusError",
    "StreamEvent",
    "StreamReport",
    "StreamStart",
    "StreamTimeoutError",
    "Timeouts",
    "TotalTimeoutError",
    "UpstreamError",
    "Usage",
    "Verdict",
    "assistant",
    "developer",
    "image",
    "parse_arguments",
    "stamping_session_options",
    "system",
    "text",
    "to_dict",
    "tool",
    "user",
]
