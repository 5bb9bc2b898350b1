"""R-FCN's nets of models/rfcn.py: committed as written, and equal to the published files they are named after."""

import hashlib
import math
import sys
from pathlib import Path

import pytest

from netspec.base.errors import Error
from netspec.check.diff import layers
from netspec.net.deploy import deploy

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

import rfcn  # noqa: E402 - the path comes first

# net, split -> layers but for the data's, and the SHA-256 of them (see `digest`), taken from the files of the release
# in Python that `netspec diff-net --body` calls equal
PUBLISHED = {
}


def digest(net):
    """Of all that `diff-net --body` compares, whatever the layers' order."""
    found = sorted((layer.name, sorted(layer.fields({}, {}).items())) for layer in layers(net, body=True))
    return len(found), hashlib.sha256(repr(found).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", rfcn.KEPT)
def test_committed_nets_are_what_the_generator_writes(name, tmp_path):
    rfcn.write(name, rfcn.KEPT[name], tmp_path)
    there = sorted(path.name for path in (ROOT / "models" / name).iterdir())
    assert there == sorted(path.name for path in (tmp_path / name).iterdir())
    for each in there:
        assert (tmp_path / name / each).read_text() == (ROOT / "models" / name / each).read_text()


@pytest.mark.parametrize("name, split", PUBLISHED)
def test_equal_to_the_published_net(name, split):
    assert digest(rfcn.generate(name, split)) == PUBLISHED[name, split]
