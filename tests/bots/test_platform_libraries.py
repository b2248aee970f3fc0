"""The platforms' modules without their libraries."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("platform", "library"),
    [("telegram", "aiogram"), ("discord", "discord"), ("slack", "slack_sdk")],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, platform, library):
    """
    Who reads that knows what to install; ``pip install chatstream`` would be somebody else's.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"chatstream.bots.{platform}", raising=False)

    with pytest.raises(ImportError, match=rf"chatstream-sdk\[{platform}\]"):
        importlib.import_module(f"chatstream.bots.{platform}")
