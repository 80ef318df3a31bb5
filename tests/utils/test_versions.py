"""Protects users of an old Paddle from numbers that are wrong without a word."""

from __future__ import annotations

import importlib

import paddle
import pytest

from ppdet import modeling
from ppdet.utils.errors import UserError
from ppdet.utils.versions import LEAST, require_paddle
from tests.support import ROOT


@pytest.mark.parametrize("version", ["2.6.2", "3.0.0", "3.1.1", "3.1.0rc0"])
def test_too_old(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "__version__", version)
    with pytest.raises(UserError, match=rf"needs Paddle 3\.2 or newer, this is {version}"):
        importlib.reload(modeling)  # as the first import of any model does


@pytest.mark.parametrize("version", ["3.2.0", "3.2.0rc1", "3.10.1", "4.0.0", "0.0.0", "3.3.1.post118"])
def test_new_enough(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "__version__", version)
    require_paddle()


@pytest.mark.parametrize("file", ["setup.py", "requirements.txt", "tools/install.py"])
def test_what_is_installed_is_new_enough(file: str) -> None:
    assert "paddlepaddle>=" + ".".join(map(str, LEAST)) in (ROOT / file).read_text("utf-8")
