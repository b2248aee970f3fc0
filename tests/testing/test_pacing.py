"""chatstream.testing.pacing."""

import heapq
from itertools import count

import pytest

from chatstream.testing import FakeClock, Profile
from chatstream.testing.answers import compose
from chatstream.testing.pacing import DelayedReply, PacedStream
from chatstream.testing.payloads import streamed


class Handle:
    def __init__(self, call):
        self.call = call

    def cancel(self):
        self.call = None


class Loop:
    """The part of an event loop that pacing uses, at whatever time it is told."""

    def __init__(self):
        self.now = 100.0
        self.order = count()
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, call):
        handle = Handle(call)
        heapq.heappush(self.timers, (when, next(self.order), handle))
        return handle

    def call_soon(self, call):
        return self.call_at(self.now, call)

    def run(self, until=float("inf")):
        """Let time pass."""
        while self.timers and self.timers[0][0] <= 100 + until:
            when, _, handle = heapq.heappop(self.timers)
            self.now = max(self.now, when)
            if handle.call is not None:
                handle.call()
        if until != float("inf"):
            self.now = max(self.now, 100 + until)


class Response:
    """A paced stream and what it wrote: (seconds since its start, bytes)."""

    def __init__(self, prompt="Count to 2", *, chunked=True, clock=None, **profile):
        profile = Profile(**{"time_to_first_token": 1.0, "gap": 0.5, **profile})
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": prompt}],
            "stream_options": {"include_usage": True},
        }
        self.loop = Loop()
        self.writes = []
        self.done = False
        self.paused_at = None
        self.stream = PacedStream(
            streamed(compose(body, profile), body, profile),
            profile,
            loop=self.loop,
            started=100.0,
            number=1,
            envelope=b"{",
            head=lambda: b"HEAD|",
            chunked=chunked,
            clock=clock,
            write=self.write,
            done=self.finish,
        )

    def write(self, data):
        self.writes.append((round(self.loop.now - 100, 6), data))
        if len(self.writes) == self.paused_at:
            self.stream.pause()

    def finish(self):
        self.done = True

    def all(self):
        self.stream.start()
        self.loop.run()
        assert self.done
        return self.writes

    def times(self):
        return [when for when, _ in self.all()]


def events(data):
    return data.count(b"data: ")


def test_each_chunk_has_an_absolute_time():
    response = Response()

    assert [0, 1.0, 1.0, 1.5, 2.0, 2.5] == response.times()
    assert [b"HEAD|"] == [data for _, data in response.writes[:1]]
    assert [0, 1, 1, 1, 1, 3] == [events(data) for _, data in response.writes]


def test_a_late_write_delays_nothing_after_it():
    response = Response()
    response.stream.start()
    response.loop.now += 1.7
    response.loop.run()

    assert [0, 1.7, 1.7, 1.7, 2.0, 2.5] == [when for when, _ in response.writes]


def test_the_exact_bytes_of_a_stream():
    (_, head), (_, role), *_, (_, last) = Response("Count to 1").all()
    payload = (
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant"},"logprobs":null,'
        b'"finish_reason":null}],"usage":null}\n\n'
    )

    assert b"HEAD|" == head
    assert b"%x\r\n%b\r\n" % (len(payload), payload) == role
    assert last.endswith(b"\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


def test_the_role_can_come_early_and_the_headers_late():
    early = Response(time_to_role=0.25)
    late = Response(time_to_headers=1.2)

    assert [0, 0.25, 1.0, 1.5, 2.0, 2.5] == early.times()
    assert [1.0, 1.0, 1.5, 2.0, 2.5] == late.times()
    assert late.writes[0][1].startswith(b"HEAD|")


def test_late_headers_come_by_themselves():
    response = Response(time_to_headers=0.5)

    assert [0.5, 1.0, 1.0, 1.5, 2.0, 2.5] == response.times()


def test_several_events_in_a_write_wait_for_the_last():
    response = Response(events_per_write=2)

    assert [0, 1.0, 1.5, 2.0, 2.5] == response.times()
    assert [0, 1, 2, 1, 3] == [events(data) for _, data in response.writes]


@pytest.mark.parametrize("number", [1, 5000])
def test_without_a_gap_all_goes_out_in_batches(number):
    response = Response(f"Count to {number}", gap=0, time_to_first_token=0)
    writes = response.all()

    assert {0} == {when for when, _ in writes}
    assert 2 * number - 1 + 4 == sum(events(data) for _, data in writes)
    assert all(len(data) < 80_000 for _, data in writes)
    assert writes[0][1].startswith(b"HEAD|")


def test_without_a_gap_an_early_role_still_comes_early():
    response = Response(gap=0, time_to_role=0)

    assert [0, 1.0] == response.times()
    assert [1, 6] == [events(data) for _, data in response.writes]


def test_jitter_moves_each_chunk_but_never_backwards():
    times = Response("Count to 50", jitter=1.0).times()
    even = [0, 1.0, *(1.0 + 0.5 * slot for slot in range(100))]

    assert times == sorted(times)
    assert times == Response("Count to 50", jitter=1.0).times()
    assert times != even
    assert all(abs(a - b) <= 0.5 for a, b in zip(times, even, strict=True))


def test_comments_fill_long_waits():
    response = Response(keep_alive=0.4)
    response.all()
    comment = b"10\r\n: keep-alive\n\n\r\n".replace(b"10", b"e")

    assert [0.4, 0.8, 1.4, 1.9, 2.4] == [when for when, data in response.writes if data == comment]


def test_a_client_that_does_not_read_gets_nothing_more():
    response = Response()
    response.paused_at = 3
    response.stream.start()
    response.loop.run(until=5)

    assert 3 == len(response.writes)
    response.stream.resume()
    response.loop.run()
    assert [0, 1.0, 1.0, 5.0, 5.0, 5.0] == [when for when, _ in response.writes]
    assert response.done


def test_backpressure_holds_batches():
    response = Response("Count to 5000", gap=0)
    response.paused_at = 2
    response.stream.start()
    response.loop.run()

    assert 2 == len(response.writes)
    assert not response.done
    response.stream.resume()
    response.loop.run()
    assert response.done


def test_cancel_forgets_the_rest():
    response = Response()
    response.stream.start()
    response.loop.run(until=1.2)
    response.stream.cancel()
    response.stream.cancel()
    response.loop.run()

    assert 3 == len(response.writes)
    assert not response.done


def test_stamps_are_taken_at_each_write():
    clock = FakeClock()

    def tick():
        clock.advance(0.001)
        return clock()

    response = Response(clock=tick, events_per_write=2)
    datas = [data for _, data in response.all()][1:]

    assert [b'"sent_ns":%19d}' % (ms * 1_000_000) for ms in (1, 2, 3, 4)] == [
        data[data.index(b'"sent_ns"') :][:30] for data in datas
    ]
    assert 2 == datas[1].count(b'"sent_ns":%19d}' % 2_000_000)
    assert b'"sent_ns"' not in datas[-1].split(b"[DONE]")[1]


def body_of(data):
    """The body of an HTTP response in chunks."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            assert b"\r\n" == data
            return body
        body += data[:length]
        assert b"\r\n" == data[length : length + 2]
        data = data[length + 2 :]


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_framing_changes_nothing_in_the_body(truth, line_end):
    def body(framing, **options):
        clock = FakeClock(7) if truth else None
        response = Response(
            clock=clock, framing=framing, chunked=framing != "close", line_end=line_end, **options
        )
        return b"".join(data for _, data in response.all()).removeprefix(b"HEAD|")

    plain = body("close", events_per_write=2)

    assert plain == body_of(body("event", events_per_write=2))
    assert plain == body_of(body("write", events_per_write=2))
    assert plain.endswith(b"data: [DONE]" + line_end.encode() * 2)


def test_one_http_chunk_for_each_write():
    response = Response(framing="write", events_per_write=2)
    sizes = [int(data.partition(b"\r\n")[0], 16) for _, data in response.all()[1:]]

    assert [len(data) for _, data in response.writes[1:]] == [
        len(f"{size:x}\r\n\r\n") + size + 5 * (place == 3) for place, size in enumerate(sizes)
    ]


def test_the_end_may_go_unsaid():
    assert not any(b"DONE" in data for _, data in Response(include_done=False).all())


def test_a_whole_answer_comes_when_due():
    loop = Loop()
    seen = []
    options = {"send": lambda: seen.append(loop.now), "done": lambda: seen.append("done")}
    later = DelayedReply(loop=loop, due=101.0, **options)
    later.start()
    later.pause()
    later.resume()
    loop.run()
    DelayedReply(loop=loop, due=101.0, **options).start()

    assert [101.0, "done", 101.0, "done"] == seen


def test_a_whole_answer_can_be_cancelled():
    loop = Loop()
    later = DelayedReply(loop=loop, due=101.0, send=lambda: None.no, done=lambda: None.no)
    later.cancel()
    later.start()
    later.cancel()
    loop.run()

    assert loop.now == 101.0
