"""One try at an answer, while it goes on and after."""

from __future__ import annotations

from attrs import define

from chatstream.errors import ChatStreamError, StatusError
from chatstream.marks import NS, ConnectionMarks
from chatstream.report import Attempt, Phases
from chatstream.response import ResponseInfo


@define(eq=False)
class AttemptState:
    """What is known of an attempt so far."""

    number: int
    marks: ConnectionMarks
    waited_ns: int = 0
    info: ResponseInfo | None = None
    error: str | None = None

    def failed(self, error: ChatStreamError) -> None:
        """Note what ended it; not the error itself, which refers to all around it."""
        self.error = str(error)
        if isinstance(error, StatusError):
            self.info = error.response or ResponseInfo(error.status, {})

    def told(self, created_ns: int) -> Attempt:
        """Return it as the report of a call made at *created_ns* has it."""
        return Attempt(
            number=self.number,
            started=(self.marks.started_ns - created_ns) / NS,
            waited=self.waited_ns / NS,
            status=self.info.status if self.info else None,
            request_id=self.info.request_id if self.info else None,
            error=self.error,
            phases=Phases.of(self.marks),
        )
