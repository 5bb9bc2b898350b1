"""The lines of a run that log parsers read."""

from pathlib import Path

import pytest
from training import BODY, HDF5, changed, make_solver, write_job

from netspec.train.solver import get_solver

pytestmark = pytest.mark.usefixtures("one_thread")


class Said:
    """A log whose lines are kept, as (place, text)."""

    def __init__(self):
        self.lines = []

    def __call__(self, where, text, level="I"):
        self.lines.append((where, text))

    def progress(self, *args):
        pass


def test_the_first_line_after_a_restore_counts_no_iterations_of_before(job):
    write_job(job, changed("display: 1"))
    one = get_solver("solver.prototxt")
    one.step(3)
    one.close()
    said = Said()
    again = get_solver("solver.prototxt", log=said)
    again.restore("run/snap_iter_3.solverstate")
    again.param.max_iter = 4
    again.solve()
    again.close()
    (line,) = (text for where, text in said.lines if where == "solver.cpp:239")
    assert line.startswith("Iteration 3 (0 iter/s, ")


@pytest.mark.parametrize("field, where, words", [
    ("net", "solver.cpp:102", "from net file: net.prototxt"), ("train_net", "solver.cpp:92", "from train_net file: net.prototxt"),
    ("net_param", "solver.cpp:97", "specified in net_param."),
    ("train_net_param", "solver.cpp:88", "specified in train_net_param."),
])
def test_the_line_of_the_train_net_is_of_the_field_that_gives_it(job, field, where, words):
    net = f"{{ {HDF5} {BODY} }}" if field.endswith("_param") else '"net.prototxt"'
    said = Said()
    make_solver(f'{field}: {net} base_lr: 1 lr_policy: "fixed"', path=Path("solver.prototxt"), log=said).close()
    assert said.lines[0] == (where, f"Creating training net {words}")


def test_the_steps_of_multistep_are_told(job):
    write_job(job, changed('lr_policy: "multistep" stepvalue: 1 stepvalue: 3 max_iter: 5 snapshot: 0').replace("stepsize: 7", ""))
    said = Said()
    solver = get_solver("solver.prototxt", log=said)
    solver.solve()
    solver.close()
    assert [text for where, text in said.lines if where == "sgd_solver.cpp:50"] == [
        "MultiStep Status: Iteration 1, step = 1", "MultiStep Status: Iteration 3, step = 2"]
