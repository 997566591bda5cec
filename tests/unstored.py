"""Conversions and trainings whose rows no test reads, unless it gives a store."""

from __future__ import annotations

from functools import partial
from unittest.mock import Mock

from icl_local import dpo
from icl_local.convert import convert as _convert
from icl_local.convert import quantize as _quantize
from icl_local.store import Store

_STORE = Mock(spec=Store)
convert, quantize, train = (partial(one, store=_STORE) for one in (_convert, _quantize, dpo.train))
