"""A run as one page with charts, which needs no network and trusts no text.

The page is a template, a style, scripts of ours and plotly's; all are in it, and its policy
lets a browser run these and nothing else. What the run was like is JSON beside
them, which the scripts put into the page as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from chatstream.bench.log import Log
from chatstream.bench.output.page import page_data

_FOLDER = Path(__file__).with_name("assets")
_SCRIPTS = (
    "data.js",
    "words.js",
    "choice.js",
    "figures.js",
    "axes.js",
    "percentiles.js",
    "first-token.js",
    "gaps.js",
    "throughput.js",
    "streams.js",
    "failures.js",
    "sweep.js",
    "elements.js",
    "answer.js",
    "tables.js",
    "run.js",
    "filters.js",
    "request.js",
    "page.js",
)
"""In their order: each knows those before it, and all make one script."""

_SLOT = re.compile(r"\{\{(\w+)\}\}")

_UNSAFE = re.compile("[<>&\u2028\u2029]")
"""JSON must hold none of these where it stands in HTML; all are parts of strings."""


def report_html(log: Log, summary: Mapping[str, Any]) -> str:
    """Return the page of a run. Raises ``ImportError`` without plotly."""
    plotly = _plotly()
    script = _closed("\n".join(_asset(name) for name in _SCRIPTS))
    data = orjson.dumps(page_data(log, summary), option=orjson.OPT_SERIALIZE_NUMPY)
    parts = {
        "policy": _policy((plotly, script)),
        "style": _asset("page.css"),
        "data": _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()),
        "plotly": plotly,
        "script": script,
    }
    return _SLOT.sub(lambda slot: parts[slot[1]], _asset("page.html"))


def _plotly() -> str:
    """Return plotly's script, without the second that importing plotly takes."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        msg = "report.html needs plotly: install chatstream-sdk[bench]"
        raise ImportError(msg)
    folder = Path(found.submodule_search_locations[0])
    return _closed((folder / "package_data" / "plotly.min.js").read_text("utf-8"))


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def _closed(script: str) -> str:
    """Return a script that doesn't end before its end."""
    return script.replace("</script", "<\\/script")


def _policy(scripts: tuple[str, ...]) -> str:
    """Return the content security policy: these scripts, and no request to anywhere.

    plotly writes styles of its own. As nothing can be fetched, a style does no harm.
    """
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(_hash(script) for script in scripts),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in allowed.items())


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
