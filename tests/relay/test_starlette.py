"""chatstream.relay.starlette: where there is none. tests/outside has the rest."""

import importlib
import sys

import pytest


def test_who_has_no_starlette_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.responses", None)
    monkeypatch.delitem(sys.modules, "chatstream.relay.starlette", raising=False)

    with pytest.raises(ModuleNotFoundError, match=r"needs starlette.*pip install starlette"):
        importlib.import_module("chatstream.relay.starlette")
