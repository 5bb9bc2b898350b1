"""A case for each program that runs nets besides torch, skipped where it is not installed; `make engines` installs them all."""

import pytest

from netspec.convert import engines

HERE = [*engines.available()]
each_engine = pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.engine, pytest.mark.skipif(name not in HERE, reason=f"{name} is not installed")])
    for name in engines.ENGINES])
