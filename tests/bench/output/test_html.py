"""The page as a file: whole, closed to the network, and with no foreign markup in it."""

import base64
import hashlib
import importlib.util
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from chatstream.bench.log import Log
from chatstream.bench.output import html
from chatstream.bench.output.html import report_html
from tests.bench.runs import SimulatedRun, summary_of

HOSTILE = "</script><script>alert(1)</script><!--\u2028&amp;\u2029"


class Parts(HTMLParser):
    """The elements of a page, and what is in its scripts and styles."""

    def __init__(self, text):
        super().__init__(convert_charrefs=False)
        self.elements = []
        self.scripts = []
        self.styles = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if not data.strip():
            return
        tag, attrs = self.elements[-1]
        if tag == "script":
            self.scripts.append((attrs, data))
        elif tag == "style":
            self.styles.append(data)

    def data(self):
        (data,) = (text for attrs, text in self.scripts if attrs.get("id") == "data")
        return json.loads(data)

    def policy(self):
        (content,) = (
            attrs["content"]
            for tag, attrs in self.elements
            if attrs.get("http-equiv") == "Content-Security-Policy"
        )
        return dict(each.strip().split(" ", 1) for each in content.split(";"))


@pytest.fixture(scope="module")
def text(a_log, a_summary):
    return report_html(a_log, a_summary)


@pytest.fixture(scope="module")
def parts(text):
    return Parts(text)


def test_the_page_fetches_nothing(parts):
    """
    It is opened from a disk, years later, or where a policy allows no network.
    """
    policy = parts.policy()
    links = [
        attrs[name] for _, attrs in parts.elements for name in ("src", "href") if name in attrs
    ]

    assert "'none'" == policy["default-src"] == policy["base-uri"] == policy["form-action"]
    assert "data: blob:" == policy["img-src"]
    assert {"#figures", "#charts", "data:,"} == set(links)


def test_only_the_scripts_of_the_page_may_run(parts):
    scripts = [text for attrs, text in parts.scripts if "type" not in attrs]
    digests = [hashlib.sha256(text.encode()).digest() for text in scripts]
    expected = {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests}

    assert 2 == len(scripts)
    assert expected == set(parts.policy()["script-src"].split())


def test_no_script_of_ours_writes_markup():
    """
    What a server or a model says gets in as text: there is no other way in.
    """
    scripts = "".join(html._asset(name) for name in html._SCRIPTS)
    ways = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")

    assert [] == [way for way in ways if way in scripts]


def test_plotly_and_our_parts_are_in_it(text, parts):
    assert "plotly.js v" in text
    assert "{{" not in text.replace(html._plotly(), "")
    assert ".tiles" in parts.styles[0]


def test_data_comes_back_as_it_was(a_log, a_summary, parts):
    data = parts.data()
    good = a_log.good
    expected = a_log.end - a_log.created

    assert a_summary["metrics"] == data["summary"]["metrics"]
    np.testing.assert_allclose(expected, data["requests"]["end"], atol=1e-6)
    assert good.tolist() == [
        data["outcomes"][place]["good"] for place in data["requests"]["outcome"]
    ]


def test_what_was_not_observed_is_null(parts, a_log):
    requests = parts.data()["requests"]
    refused = a_log.verdict.tolist().index("connect_error")

    assert [None, None] == [requests[name][refused] for name in ("first_token", "headers")]


@pytest.fixture(scope="module")
def hostile():
    """A run whose names, errors and answers want to be markup."""
    records = SimulatedRun(requests=30, text=HOSTILE).records
    for record in records:
        if record.error:
            record.detail = HOSTILE
    log = Log.of(records)
    summary = summary_of(log)
    summary["targets"][0] |= {"model": HOSTILE, "name": HOSTILE}
    return Parts(report_html(log, summary))


def test_foreign_text_is_no_markup(parts, hostile):
    assert [tag for tag, _ in parts.elements] == [tag for tag, _ in hostile.elements]


def test_foreign_text_is_kept(hostile):
    """
    It is made harmless where it is shown, not changed; only line separators go.
    """
    data = hostile.data()
    expected = HOSTILE.replace("\u2028", " ").replace("\u2029", "")

    assert expected == data["summary"]["targets"][0]["model"]
    assert expected in data["requests"]["details"]
    assert "</script><script>alert(1)</script><!--\ufffd&amp;\ufffd" in data["requests"]["text"]


def test_json_is_safe_inside_of_a_script(hostile):
    (data,) = (text for attrs, text in hostile.scripts if attrs.get("id") == "data")

    assert not set("<>&\u2028\u2029") & set(data)


def test_a_script_that_holds_its_own_end_goes_on():
    assert 'a = "<\\/script>"' == html._closed('a = "</script>"')


def test_without_plotly_it_says_what_to_install(monkeypatch, a_log, a_summary):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ImportError, match=r"chatstream-sdk\[bench\]"):
        report_html(a_log, a_summary)


PLOTLY = """
import sys
from chatstream.bench.output.html import _plotly
assert _plotly().startswith("/**")
assert "plotly" not in sys.modules
"""


def test_plotly_is_not_imported():
    """
    That takes a second, and all that is wanted of it is a file.
    """
    subprocess.run([sys.executable, "-c", PLOTLY], check=True, cwd=Path(html.__file__).parents[3])


def test_a_log_without_requests_has_a_page():
    log = Log.of([])
    summary = summary_of(Log.of(SimulatedRun(requests=3, warmup=0).records))
    data = Parts(report_html(log, summary | {"targets": [], "plan": None})).data()

    assert 0 == data["requests"]["all"]
