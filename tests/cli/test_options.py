"""Options that several commands share."""

import argparse

import pytest

from netspec.cli.options import renamed, size


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    out = parser.add_argument("out_file", metavar="OUT", nargs="?")
    renamed(parser, "--out", out)
    renamed(parser, "--sizes", parser.add_argument("--size", nargs="+", type=size, default=[]))
    renamed(parser, "--silent", parser.add_argument("--quiet", action="store_true"))
    renamed(parser, "--runs", parser.add_argument("--repeats", type=int, default=3))
    return parser


def test_old_names_do_what_the_new_ones_do_and_say_so(parser, capsys):
    new = parser.parse_args(["--size", "3x4", "5x6", "--quiet", "--repeats", "9"])
    assert capsys.readouterr() == ("", "")
    assert parser.parse_args(["--sizes", "3x4", "5x6", "--silent", "--runs", "9"]) == new
    assert capsys.readouterr().err == "".join(
        f"netspec: {old} is now {now}; the old spelling goes on working for this release\n"
        for old, now in (("--sizes", "--size"), ("--silent", "--quiet"), ("--runs", "--repeats")))
    assert vars(parser.parse_args([])) == dict(out_file=None, out=None, size=[], quiet=False, repeats=3)
    assert "--sizes" not in parser.format_help() and "--silent" not in parser.format_help()


def test_an_old_option_for_what_is_a_position_now(parser, capsys):
    args = parser.parse_args(["--out", "net.py"])
    assert (args.out_file, args.out) == (None, "net.py")
    assert "--out is now the argument OUT; " in capsys.readouterr().err


def test_old_names_check_as_the_new_ones(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["--sizes", "0x4"])
    assert "invalid size value: '0x4'" in capsys.readouterr().err
