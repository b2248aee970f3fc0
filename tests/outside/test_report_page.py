"""The report of a run in a real browser: drawn, told, filtered, and harmless."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest

from chatstream.bench.definitions import view
from chatstream.bench.log import Log
from chatstream.bench.metrics import first, inter_chunk_latencies, last
from chatstream.bench.output import page as page_module
from chatstream.bench.output.html import report_html
from chatstream.bench.record import TOKENS
from chatstream.bench.summary import Facts, summarised
from tests.bench.runs import SimulatedRun, summary_of
from tests.outside.chromium import Chromium

pytestmark = pytest.mark.outside

HOSTILE = (
    "<b>&lt;</b><img src=x onerror='pwned=1'></script><script>pwned=1</script>"
    "<a href='javascript:pwned=1'>x</a> %{x} $\\alpha$"
)
FORMULA = "=cmd|' /C calc'!A0"
SERVER = {
    "url": "http://127.0.0.1:8000/metrics",
    "seconds": 16.2,
    "notes": ["3 lines couldn't be read"],
    "metrics": {
        "queue_time": {
            "kind": "histogram", "unit": "s", "n": 240, "mean": 0.012, "p50": 0.15, "p90": 0.27,
            "p99": 0.31, "bounds": {"p50": [0, 0.3], "p90": [0, 0.3], "p99": [0.3, None]},
            "source": "vllm:request_queue_time_seconds",
        },
        "requests_ok": {"kind": "counter", "unit": "requests", "value": 221.0, "source": "x"},
        "kv_cache_usage": {
            "kind": "gauge", "unit": "share", "before": 0.02, "after": None, "source": "x"
        },
        "e2e": None,
    },
}  # fmt: skip


class Report:
    """A run, its summary, and the file of its page."""

    def __init__(self, folder, name, log, summary=None, **changes):
        self.log = log
        self.summary = (summary or summary_of(log)) | changes
        self.path = folder / f"{name}.html"
        self.path.write_text(report_html(log, self.summary), "utf-8")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Give a function that makes the report of a run, or has made it already."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}

    def make(name):
        if name not in made:
            made[name] = Report(folder, name, **RUNS[name]())
        return made[name]

    return make


def plain_run():
    log = Log.of(SimulatedRun(text="An answer.\nOn two lines.").records)
    return {
        "log": log,
        "stalls": [{"start": 2.0, "end": 3.2, "seconds": 1.2, "open_streams": 12}],
        "server": SERVER,
        "definitions": {"vllm": view(log, "vllm")},
    }


def swept_run():
    log = Log.of(SimulatedRun(stages=(12, 24, 48), stall=None, requests=90, warmup=4).records)
    return {"log": log}


def two_targets():
    return {"log": Log.of(SimulatedRun(targets=2, reasoning=True).records)}


def empty_run():
    """What is left of a run that was killed at its start: not even a plan."""
    log = Log.of([])
    return {"log": log, "summary": summarised(log, Facts())}


def hostile_run():
    """A server, a user and a model who all want to be markup."""
    records = SimulatedRun(requests=60, targets=2, text=HOSTILE).records
    for record in records:
        if record.error:
            record.error = record.detail = HOSTILE
    log = Log.of(records)
    summary = summary_of(log)
    for target, name in zip(summary["targets"], (HOSTILE, FORMULA), strict=True):
        target |= {"name": name, "model": name, "base_url": "javascript:pwned=1"}
    client = summary["client"] | {"verdict": "suspect", "reasons": [HOSTILE]}
    workers = [summary["workers"][0] | {"host": HOSTILE, "lost": True, "error": HOSTILE}]
    server = SERVER | {"notes": [HOSTILE]}
    plan = summary["plan"] | {"params": {HOSTILE: FORMULA}}
    return {
        "log": log,
        "summary": summary,
        "client": client,
        "workers": workers,
        "server": server,
        "plan": plan,
        "definitions": {HOSTILE: view(log, "vllm")},
    }


RUNS = {
    "plain": plain_run,
    "sweep": swept_run,
    "two": two_targets,
    "empty": empty_run,
    "hostile": hostile_run,
}


@pytest.fixture(scope="module")
def chromium(program):
    browser = Chromium(program("chromium"))
    yield browser
    browser.close()


async def drawn(page):
    """Wait until all charts are as the filters want them."""
    await page.until("document.documentElement.dataset.drawn")


async def opened(page, report):
    await page.goto(report.path.as_uri())
    await drawn(page)


async def set_filter(page, **values):
    """Set filters as a reader does, and wait for the charts."""
    for name, value in values.items():
        field = f"document.getElementById('filters').elements[{json.dumps(name)}]"
        if isinstance(value, bool):
            await page.run(f"{field}.checked = {json.dumps(value)}")
        else:
            await page.run(f"{field}.value = {json.dumps(value)}")
    await page.run(
        "document.getElementById('filters').dispatchEvent(new Event('change', {bubbles: true}))"
    )
    await drawn(page)


async def show(page, chart):
    """Bring a chart into the window."""
    await page.run(
        f"""document.getElementById('chart-{chart}')
            .scrollIntoView({{ behavior: 'instant', block: 'center' }})"""
    )


async def traces(page, chart):
    """What plotly has drawn in a chart."""
    return await page.run(
        f"""document.querySelector('#chart-{chart} .drawing').data.map(trace => ({{
            name: trace.name, x: Array.from(trace.x ?? []), y: Array.from(trace.y ?? []),
            requests: trace.customdata ? Array.from(trace.customdata) : null,
        }}))"""
    )


async def requests_in(page, chart):
    """The requests that a chart shows, by their place in the log."""
    found = await traces(page, chart)
    return sorted({each for trace in found if trace["requests"] for each in trace["requests"]})


CHARTS = [
    "time_to_first_token", "inter_chunk_latency", "time_per_output_token", "duration",
    "first-token", "gap-lengths", "gap-times", "throughput", "streams", "failures",
]  # fmt: skip


# --- Drawn -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
async def test_no_page_complains_or_asks_the_network(chromium, report, name):
    async with chromium.page() as page:
        await opened(page, report(name))

        assert [] == page.problems
        assert {report(name).path.as_uri()} == {
            url for url in page.requested if not url.startswith(("data:", "blob:"))
        }


@pytest.mark.parametrize(
    ("name", "charts"),
    [("plain", CHARTS), ("sweep", ["sweep", *CHARTS]), ("two", ["time_to_first_output", *CHARTS])],
)
async def test_every_chart_shows_something(chromium, report, name, charts):
    async with chromium.page() as page:
        await opened(page, report(name))
        marks = await page.run(
            """Object.fromEntries([...document.querySelectorAll('figure.chart')].map(figure => [
                figure.id.replace('chart-', ''),
                figure.querySelectorAll(':is(.points path, .js-line, .heatmaplayer image)').length,
            ]))"""
        )

    assert set(charts) == set(marks)
    assert [] == [chart for chart in charts if not marks[chart]]


async def test_a_page_without_requests_says_so(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("empty"))
        told = await page.run(
            "[...document.querySelectorAll('figure.chart .empty')].map(each => each.textContent)"
        )

    assert "No request passes the filters." in told
    assert all(told)


async def test_without_scripts_it_says_where_the_figures_are(chromium, report):
    async with chromium.page() as page:
        await page.send("Emulation.setScriptExecutionDisabled", value=True)
        await page.goto(report("plain").path.as_uri())
        root = await page.send("DOM.getDocument", depth=-1)
        html = await page.send("DOM.getOuterHTML", nodeId=root["root"]["nodeId"])

    assert "summary.json" in html["outerHTML"].split("<noscript>")[1].split("</noscript>")[0]


# --- Told ------------------------------------------------------------------------------


async def test_the_answer_comes_first(chromium, report):
    """
    How fast, how sure, and whether the client was the limit.
    """
    async with chromium.page() as page:
        await opened(page, report("plain"))
        text = await page.run("document.querySelector('main > section').innerText")
        tops = await page.run(
            "['.tiles', '.findings', '#figures-table', '.drawing'].map("
            "each => document.querySelector(each).getBoundingClientRect().top)"
        )
    p50 = report("plain").summary["metrics"]["time_to_first_token"]["p50"] * 1000
    text = text.replace("\u00a0", " ")

    assert f"{p50:.1f}" in text
    assert "Client: ok. It used 41 % of its core, its loop came around 1.20 ms late at p99" in text
    assert "it was off by 0.040 ms in the time to first token and 0.030 ms in gaps at p99" in text
    assert "There are too few requests to be sure of p99 and p99.9." in text
    assert "The goals are not met." in text
    assert "The server stalled once. Nothing came for 1.20 s from 2.00 s on" in text
    assert sorted(tops) == tops
    assert tops[1] < 900


async def test_figures_are_those_of_the_summary(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        rows = await page.run(
            """[...document.querySelectorAll('#figures-table table')[0].rows].map(row =>
                [...row.cells].map(cell => cell.innerText.split('\\n')[0]))"""
        )
        unsure = await page.run(
            """[...document.querySelectorAll('#figures-table table')[0].rows[1].cells]
                .filter(cell => cell.className === 'unsure').map(cell => cell.dataset.label)"""
        )
    figure = report("plain").summary["metrics"]["time_to_first_token"]
    expected = [f"{figure[name] * 1000:.1f}" for name in ("p50", "p90")]

    assert ["Time to first token", "209", *expected] == rows[1][:4]
    assert ["p99", "p99.9"] == unsure


async def test_every_figure_has_its_formula(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        links = await page.run(
            """[...document.querySelectorAll('#figures-table a')].map(link =>
                [link.title, document.querySelector(link.getAttribute('href'))?.innerText])"""
        )

    assert len(links) > 5
    assert all(title in told.replace("\n", " ") for title, told in links)


async def test_the_server_and_other_tools_have_their_say(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await page.run(
            "document.querySelectorAll('details').forEach(each => { each.open = true; })"
        )
        text = await page.run("document.querySelector('section[aria-labelledby=run]').innerText")
        guess = await page.run(
            "[...document.querySelectorAll('td [title]')].map(each => each.title)"
        )
    text = text.replace("\u00a0", " ")

    assert "In the queue\t240\t12.0\t150\t270\t310\tvllm:request_queue_time_seconds" in text
    assert "2 % before, – after" in text
    assert "3 lines couldn't be read" in text
    assert "latency − ttft" in text
    assert ["between 0.00 and 300 ms", "between 0.00 and 300 ms", "between 300 and any ms"] == guess


async def test_hovering_tells_the_request_and_its_figures(chromium, report):
    log = report("plain").log
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await show(page, "first-token")
        place = await page.run(
            """(() => {
                const plot = document.querySelector('#chart-first-token .drawing');
                const { xaxis, yaxis } = plot._fullLayout;
                const { left, top } = plot.getBoundingClientRect();
                const [trace] = plot.data;
                return {
                    x: left + xaxis._offset + xaxis.d2p(trace.x[20]),
                    y: top + yaxis._offset + yaxis.d2p(trace.y[20]),
                    request: trace.customdata[20],
                };
            })()"""
        )
        await page.point(place["x"], place["y"])
        told = await page.until(
            "document.querySelector('#chart-first-token .hoverlayer').textContent"
        )
        await page.click(place["x"], place["y"])
        shown = await page.until("document.getElementById('one-shown').innerText")
    request = place["request"]
    wait = (first(log, log.of_kinds(TOKENS)) - log.created)[request] * 1000

    assert f"request {log.number[request]}" in told
    assert f"first token {wait:.1f}" in told.replace("\u00a0", " ")
    assert f"first token\t{wait:.1f}" in shown
    assert "An answer.\nOn two lines." in shown


async def test_a_request_is_found_by_its_number(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await page.run("document.querySelector('#one-form input').focus()")
        await page.write("17")
        await page.press("Enter")
        shown = await page.run("document.getElementById('one-shown').innerText")
        await page.write("99999")
        await page.press("Enter")
        missing = await page.run("document.getElementById('one-shown').innerText")

    assert "Request\n17" in shown.replace("\t", "\n")
    assert "had a connection\t0.0" in shown
    assert "was due\t−0." in shown
    assert "There is no request 1799999 in this page." == missing


# --- Filtered ----------------------------------------------------------------------------


async def test_all_charts_follow_the_outcome(chromium, report):
    log = report("plain").log
    expected = np.flatnonzero(log.verdict == "timeout").tolist()
    async with chromium.page() as page:
        await opened(page, report("plain"))
        before = {chart: await traces(page, chart) for chart in CHARTS}
        await set_filter(page, outcome="timeout")
        after = {chart: await traces(page, chart) for chart in CHARTS}
        shown = {chart: await requests_in(page, chart) for chart in ("first-token", "streams")}
        passing = await page.run("document.getElementById('passing').textContent")

        assert [] == page.problems

    assert {"first-token": expected, "streams": expected} == shown
    assert f"{len(expected)} of 240 requests." == passing
    # A timeout has no count of tokens: that chart is empty, and keeps what it had.
    assert ["time_per_output_token"] == [each for each in CHARTS if before[each] == after[each]]


async def test_latencies_are_counted_from_another_moment(chromium, report):
    log = report("plain").log
    waits = first(log, log.of_kinds(TOKENS))
    async with chromium.page() as page:
        await opened(page, report("plain"))
        for origin, start in (("sent", log.sent), ("scheduled", log.scheduled)):
            await set_filter(page, origin=origin)
            (finished, *_) = await traces(page, "first-token")
            caption = await page.run("document.querySelector('#figures-table caption').textContent")
            expected = (waits - start)[finished["requests"]] * 1000

            np.testing.assert_allclose(expected, finished["y"], atol=0.003)
            assert {"sent": "was sent", "scheduled": "was due"}[origin] in caption


async def test_only_the_steady_state_is_left(chromium, report):
    log, window = report("plain").log, report("plain").summary["steady_state"]
    inside = (log.created >= window["start"]) & (log.created <= window["end"]) & ~log.warmup
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await set_filter(page, steady=True)
        shown = await requests_in(page, "first-token")
        n = await page.run("document.querySelector('#figures-table td').textContent")

    assert np.flatnonzero(inside).tolist() == shown
    assert str(window["metrics"]["time_to_first_token"]["n"]) == n


async def test_targets_are_compared_or_looked_at_alone(chromium, report):
    log = report("two").log
    async with chromium.page() as page:
        await opened(page, report("two"))
        both = {trace.get("name") for trace in await traces(page, "duration")}
        await set_filter(page, target="1")
        one = await requests_in(page, "streams")

        assert [] == page.problems

    assert {"model-0", "model-1"} <= both
    assert np.flatnonzero(log.target == 1).tolist() == one


async def test_loads_of_a_sweep_are_compared_or_looked_at_alone(chromium, report):
    log = report("sweep").log
    async with chromium.page() as page:
        await opened(page, report("sweep"))
        shown = await requests_in(page, "first-token")
        await set_filter(page, stage="0")
        other = await requests_in(page, "first-token")
        await set_filter(page, stage="")
        names = {trace.get("name") for trace in await traces(page, "duration")}
        curves = await traces(page, "sweep")

        assert [] == page.problems

    stage = report("sweep").summary["shown"]
    assert np.flatnonzero(log.stage == stage).tolist() == shown
    assert np.flatnonzero(log.stage == 0).tolist() == other
    assert {"12 at a time", "24 at a time", "48 at a time"} <= names
    assert [12, 24, 48] == curves[0]["x"]


async def test_dragging_chooses_a_stretch_of_time(chromium, report):
    log = report("plain").log
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await show(page, "first-token")
        box = await page.run(
            """(() => {
                const plot = document.querySelector('#chart-first-token .drawing');
                const { xaxis, yaxis } = plot._fullLayout;
                const { left, top } = plot.getBoundingClientRect();
                const x = at => left + xaxis._offset + xaxis.d2p(at);
                return [x(6), x(9), top + yaxis._offset + 100];
            })()"""
        )
        start, end, y = box
        await page.drag((start, y), (end, y))
        await page.until("document.getElementById('filters').elements.from.value")
        await drawn(page)
        chosen = await page.run("[choice.from, choice.to]")
        shown = await requests_in(page, "streams")
        # Of a busy machine the two clicks may be too far apart for Plotly: a reader tries again.
        while await page.run("document.getElementById('filters').elements.from.value"):
            await page.click((start + end) / 2, y, count=2)
            await page.run("new Promise(done => setTimeout(done, 500))")
        await drawn(page)
        all_again = await requests_in(page, "streams")

        assert [] == page.problems

    assert pytest.approx([6, 9], abs=0.1) == chosen
    inside = (log.created >= chosen[0]) & (log.created <= chosen[1])
    assert np.flatnonzero(inside).tolist() == shown
    assert len(log) == len(all_again)


async def test_filters_can_be_reset(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        before = [await traces(page, chart) for chart in CHARTS]
        await set_filter(page, outcome="failed", origin="sent", steady=True)
        await page.run("document.querySelector('#filters button[type=reset]').click()")
        await drawn(page)
        after = [await traces(page, chart) for chart in CHARTS]

    assert before == after


async def test_filters_that_leave_nothing_say_so(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await set_filter(page, **{"from": "1000"})
        told = await page.run("document.querySelector('#chart-streams .empty').innerText")

        assert [] == page.problems
    assert "No request passes the filters." == told


# --- Right -----------------------------------------------------------------------------


async def test_percentiles_are_those_of_numpy(chromium, report):
    log = report("plain").log
    durations = (last(log, log.of_kinds(TOKENS)) - log.created)[log.good & ~log.warmup]
    gaps = inter_chunk_latencies(log, log.good & ~log.warmup).values
    shares = [0, 0.1, 0.5, 0.9, 0.99, 1]
    async with chromium.page() as page:
        await opened(page, report("plain"))
        found = await page.run(
            f"""(() => {{
                const requests = measuredRequests(choice, chosenRequests(choice));
                const durations = distribution(requests, i => REQUESTS.last_token[i]);
                const gaps = countedGaps(choice);
                return {shares}.map(share =>
                    [quantile(durations, share), gapQuantile(gaps, share)]);
            }})()"""
        )

    exact, counted = np.transpose(found)
    np.testing.assert_allclose(np.quantile(durations, shares), exact, atol=2e-6)
    np.testing.assert_allclose(np.quantile(gaps, shares)[1:], counted[1:], rtol=0.024)


async def test_throughput_adds_up(chromium, report):
    log = report("plain").log
    async with chromium.page() as page:
        await opened(page, report("plain"))
        rows = {trace["name"]: trace["y"] for trace in await traces(page, "throughput")}
        width = await page.run("SLICES.width")
        chunks = await page.run("tokensPerSlice(choice).reduce((a, b) => a + b)")
    spent = np.sum(log.end - log.created)

    # Of the last slice the run lasted only a part.
    assert pytest.approx(np.sum(log.good), rel=0.02) == sum(rows["answers/s"]) * width
    assert pytest.approx(spent, rel=0.02) == sum(rows["in flight"]) * width
    assert pytest.approx(np.sum(log.of_kinds(TOKENS)), rel=0.001) == chunks


async def test_a_sample_is_told_and_stands_for_all(chromium, report, monkeypatch, tmp_path):
    monkeypatch.setattr(page_module, "MOST_REQUESTS", 400)
    log = Log.of(SimulatedRun(requests=1200, stall=None).records)
    sampled = Report(tmp_path, "sampled", log)
    async with chromium.page() as page:
        await opened(page, sampled)
        passing = await page.run("document.getElementById('passing').textContent")
        note = await page.run("document.querySelector('#chart-streams .note').textContent")
        median = await page.run(
            """quantile(distribution(
                measuredRequests(choice, chosenRequests(choice)), i => REQUESTS.last_token[i]
            ), 0.5)"""
        )
    expected = sampled.summary["metrics"]["duration"]["p50"]

    assert re.fullmatch(
        r"about 1,200 of 1,200 requests, about 1\d of them warm-up; drawn from 400 of them\.",
        passing,
    )
    assert "400 of 1,200 drawn" in note
    assert pytest.approx(expected, rel=0.05) == median


async def test_large_runs_are_thinned_with_their_extremes(chromium, tmp_path):
    log = Log.of(SimulatedRun(requests=4000, faults=0.02, stall=None).records)
    large = Report(tmp_path, "large", log)
    waits = first(log, log.of_kinds(TOKENS)) - log.created
    async with chromium.page() as page:
        await opened(page, large)
        shown = await requests_in(page, "first-token")
        note = await page.run("document.querySelector('#chart-first-token .note').textContent")

        assert [] == page.problems
    slowest = np.argsort(-np.nan_to_num(waits))[:5]

    assert 2000 < len(shown) < 3000
    assert set(slowest.tolist()) <= set(shown)
    assert f"{len(shown):,} of 4,000 drawn: of each stretch of time the slowest" in note


# --- By keyboard, on a phone, in the dark, on paper --------------------------------------


async def test_everything_is_reached_by_keyboard(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        stops = []
        await page.press("Tab")
        while await page.run("document.activeElement !== document.body"):
            stops.append(
                await page.run(
                    """(() => {
                        const at = document.activeElement;
                        const box = at.matches('.choices input') ? at.nextElementSibling : at;
                        const visible = getComputedStyle(box).outlineStyle !== 'none';
                        const name = at.name || at.getAttribute('href') || at.textContent.trim();
                        return [name, visible];
                    })()"""
                )
            )
            await page.press("Tab")
    names = [name for name, _ in stops]

    assert ["#figures", "#charts", "theme"] == names[:3]
    assert {"outcome", "origin", "steady", "from", "to", "Reset", "As a table"} <= set(names)
    assert {"“By length” as a table", "number", "Show", "More figures"} <= set(names)
    assert [] == [name for name, visible in stops if not visible]


async def test_filters_and_tables_work_by_keyboard(chromium, report):
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await page.run("document.querySelector('#filters input[name=origin]:checked').focus()")
        await page.press("ArrowRight")
        await drawn(page)
        origin = await page.run("choice.origin")
        await page.run("document.querySelector('#chart-throughput summary').focus()")
        await page.press("Enter")
        rows = await page.until("document.querySelectorAll('#chart-throughput tbody tr').length")
        await page.press("Tab")
        focused = await page.run("document.activeElement.getAttribute('aria-label')")

    assert "sent" == origin
    assert rows > 50
    assert focused.startswith("Throughput by slices")


async def test_every_chart_has_words_and_a_table(chromium, report):
    """
    For whoever can't see it: what it shows in a sentence, and its figures.
    """
    async with chromium.page() as page:
        await opened(page, report("plain"))
        await page.run(
            "document.querySelectorAll('details').forEach(each => { each.open = true; })"
        )
        await page.until(
            "[...document.querySelectorAll('figure.chart')].every(each => each.querySelector('td'))"
        )
        says = await page.run(
            "[...document.querySelectorAll('.drawing')].map(each => each.ariaLabel)"
        )
        headings = await page.run(
            "[...document.querySelectorAll('h1, h2, h3')].map(each => Number(each.tagName[1]))"
        )

    assert all(any(letter.isdigit() for letter in told) for told in says)
    assert 1 == headings[0] == headings.count(1)
    assert all(deeper <= level + 1 for level, deeper in pairwise(headings))


@pytest.mark.parametrize("name", RUNS)
async def test_a_phone_needs_no_sideways_scrolling(chromium, report, name):
    async with chromium.page(width=360, height=740, touch=True) as page:
        await opened(page, report(name))
        await page.run(
            "document.querySelectorAll('details').forEach(each => { each.open = true; })"
        )
        await page.run("showRequest(0)" if len(report(name).log) else "0")
        await page.run("new Promise(done => setTimeout(done, 200))")
        width = await page.run("document.documentElement.scrollWidth")
        wide = await page.run("document.querySelector('.drawing .main-svg')?.getAttribute('width')")

        assert [] == page.problems
    assert 360 == width
    assert name == "empty" or float(wide) <= 330


async def test_it_is_dark_where_all_is_dark_and_follows(chromium, report):
    colours = """[
        getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('.drawing .xtick text')).fill,
        document.querySelector('.drawing')._fullLayout.colorway[0],
    ]"""
    async with chromium.page(dark=True) as page:
        await opened(page, report("plain"))
        dark = await page.run(colours)
        await page.prefer(dark=False)
        await page.until("document.documentElement.dataset.theme === 'light'")
        await drawn(page)
        light = await page.run(colours)
        await page.run("document.querySelector('#theme input[value=dark]').click()")
        await drawn(page)
        chosen = await page.run(colours)

        assert [] == page.problems
    assert "rgb(19, 22, 25)" == dark[0]
    assert "rgb(251, 251, 250)" == light[0]
    assert all(before != after for before, after in zip(dark, light, strict=True))
    assert dark == chosen


async def test_it_can_be_printed(chromium, report):
    """
    Paper is white and narrow, whatever the screen is.
    """
    async with chromium.page(dark=True) as page:
        await opened(page, report("plain"))
        await page.run(
            """addEventListener('afterprint', () => { window.printed = {
                theme: document.documentElement.dataset.theme,
                width: document.querySelector('#chart-streams .main-svg').getAttribute('width'),
            }; }, { capture: true })"""
        )
        document = await page.print()
        await page.until("document.documentElement.dataset.theme === 'dark'")
        await drawn(page)
        width = await page.run(
            "document.querySelector('#chart-streams .main-svg').getAttribute('width')"
        )

        assert [] == page.problems
    assert document.startswith(b"%PDF")
    assert float(width) > 700


# --- Harmless ----------------------------------------------------------------------------


async def test_foreign_text_is_shown_and_does_nothing(chromium, report):
    log = report("hostile").log
    failed = int(np.flatnonzero(~log.good)[0])
    async with chromium.page() as page:
        await opened(page, report("hostile"))
        await page.run(
            "document.querySelectorAll('details').forEach(each => { each.open = true; })"
        )
        shown = []
        for request in (failed, int(np.flatnonzero(log.good)[0])):
            await page.run(f"showRequest({request})")
            shown.append(await page.run("document.getElementById('one-shown').innerText"))
        told = await page.run("document.body.innerText")
        heading = await page.run("document.querySelector('h1').innerText")
        legend = await page.run(
            """[...document.querySelectorAll('#chart-duration .legendtext')]
                .map(each => each.textContent)"""
        )
        markup = await page.run(
            """document.querySelectorAll(
                'img, main b, main a[href^=javascript], svg a, script').length"""
        )
        cells = await page.run(
            "[...document.querySelectorAll('td, th, dt, dd, option')].map(each => each.innerText)"
        )
        pwned = await page.run("typeof pwned")

        assert [] == page.problems

    assert "undefined" == pwned
    assert 3 == markup  # the page's own scripts
    assert f"{HOSTILE}, '{FORMULA}" == heading
    assert {HOSTILE[:39] + "…", "'" + FORMULA} <= set(legend)
    assert all(HOSTILE in each for each in (told, *shown))
    assert [] == [cell for cell in cells if cell.strip().startswith(("=", "+", "@"))]


async def test_foreign_text_is_harmless_under_the_mouse(chromium, report):
    """
    plotly reads tags, entities and templates in what it shows.
    """
    async with chromium.page() as page:
        await opened(page, report("hostile"))
        await page.run(
            """Plotly.Fx.hover(document.querySelector('#chart-streams .drawing'),
                [{ curveNumber: document.querySelector('#chart-streams .drawing').data
                    .findIndex(trace => trace.name === 'failed'), pointNumber: 0 }])"""
        )
        told = await page.until("document.querySelector('#chart-streams .hoverlayer').textContent")

        assert [] == page.problems
        assert "undefined" == await page.run("typeof pwned")
        assert 0 == await page.run(
            "document.querySelectorAll('.hoverlayer a, .hoverlayer img').length"
        )
    assert HOSTILE in told
