"""A Solver that is trained, stopped, looked at, saved, resumed and moved between backends in any order: it always stands
where a Solver stands that was trained in one go."""

import copy
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import run_state
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import gconv
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet
from gconv.data_utils import make_synthetic_data
from gconv.files import CheckpointError
from gconv.solver import Solver
from gconv.training.augmentation import Augment
from gconv.training.callbacks import ClipGradients, CosineSchedule

EPOCHS, BATCHES = 8, 4
CONFIGURATIONS = {
    "conv": ("conv", {"update_rule": "adam", "augment": Augment(crop=1), "sampling": "shuffle"}),
    "norm": ("norm", {"update_rule": "sgd_momentum", "lr_decay": 0.9, "eval_every": 3, "num_train_samples": 7}),
    "schedule": ("conv", {"update_rule": "rmsprop", "callbacks": [CosineSchedule(), ClipGradients(1.0)]}),
}


def make_model(kind):
    if kind == "conv":
        return ThreeLayerConvNet((2, 4, 4), 2, 3, 4, 3, weight_scale=1e-1, dtype=np.float64, rng=0)
    return FullyConnectedNet([5, 4], 32, 3, 1, "batchnorm", weight_scale=1e-1, dtype=np.float64, rng=0)


class StopAt:
    """Ends the training at an iteration, in mid-epoch."""

    def __init__(self):
        self.iteration = None

    def on_iteration(self, solver):
        if solver.iteration == self.iteration:
            solver.stop("as asked")


def make_solver(name, stop=None):
    kind, options = CONFIGURATIONS[name]
    with gconv.use_backend("cpu"):
        model = make_model(kind)
    callbacks = [*options.get("callbacks", []), *([stop] if stop else [])]
    data = make_synthetic_data(25, 9, 4, (2, 4, 4), 3)
    defaults = {"batch_size": 6, "num_epochs": EPOCHS, "seed": 3, "verbose": False}
    return Solver(model, data, **{**defaults, **options, "callbacks": callbacks})


@functools.cache
def in_one_go(name):
    """The loss of every step and the last parameters after each epoch."""
    snapshots = {}

    class Snapshot:
        def on_epoch(self, solver):
            snapshots[solver.epoch] = copy.deepcopy(solver.model.params)

    solver = make_solver(name, Snapshot())
    with gconv.use_backend("cpu"):
        solver.train()
    return solver.loss_history, solver.val_acc_history, solver.eval_iterations, snapshots


class AnyOrder(RuleBasedStateMachine):
    @initialize(name=st.sampled_from(sorted(CONFIGURATIONS)))
    def begin(self, name):
        self.name, self.folder, self.backend = name, Path(tempfile.mkdtemp()), "cpu"
        self.stop, self.saved, self.exact = StopAt(), {}, True
        self.solver = make_solver(name, self.stop)

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def unfinished(self):
        return self.solver.epoch < EPOCHS

    @precondition(unfinished)
    @rule()
    def train_an_epoch(self):
        self.stop.iteration = None
        with gconv.use_backend(self.backend):
            self.solver.train(1)

    @precondition(unfinished)
    @rule(ahead=st.integers(1, BATCHES + 1))
    def train_until_stopped(self, ahead):
        self.stop.iteration = self.solver.iteration + ahead
        with gconv.use_backend(self.backend):
            self.solver.train(1)
        # An accuracy check where it was stopped is one more than there are in one go.
        self.exact_checks = False

    exact_checks = True

    @rule()
    def look(self):
        with gconv.use_backend(self.backend):
            assert 0 <= self.solver.check_accuracy(self.solver.X_val, self.solver.y_val, batch_size=4) <= 1
            assert self.solver.predict(self.solver.X_val).shape == (9,)

    @rule(to=st.sampled_from(["a", "b"]))
    def save(self, to):
        self.solver.save(self.folder / to)
        self.saved[to] = self.solver.iteration

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def resume_in_a_new_solver(self, data):
        at = data.draw(st.sampled_from(sorted(self.saved)))
        self.stop = StopAt()
        self.solver = make_solver(self.name, self.stop)
        np.random.seed(data.draw(st.integers(0, 5)))
        self.stop.iteration = self.saved[at] + 1
        with gconv.use_backend(self.backend):
            self.solver.resume(self.folder / at)
        assert self.solver.iteration >= self.saved[at]
        self.exact_checks = False

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def resume_from_a_damaged_file(self, data):
        content = (self.folder / sorted(self.saved)[0]).read_bytes()
        # Not a place: how long the file is depends on the digits of the seconds in it.
        share = data.draw(st.floats(0, 1, exclude_max=True))
        (self.folder / "damaged").write_bytes(content[: int(share * len(content))])
        before = copy.deepcopy((self.solver.model.params, self.solver.iteration))
        with pytest.raises(CheckpointError):
            self.solver.resume(self.folder / "damaged")
        assert before[1] == self.solver.iteration
        for name, w in before[0].items():
            np.testing.assert_array_equal(w, self.solver.model.params[name])

    @rule(to=st.sampled_from(["cpu", "naive"]))
    def change_the_backend(self, to):
        self.backend = to
        self.exact = self.exact and to == "cpu"

    @invariant()
    def stands_where_one_go_stands(self):
        if not hasattr(self, "solver"):
            return
        losses, accuracies, checks, snapshots = in_one_go(self.name)
        solver, tolerance = self.solver, {"rtol": 0 if self.exact else 1e-9, "atol": 0}
        assert len(solver.loss_history) == solver.iteration <= EPOCHS * BATCHES
        assert solver.epoch == solver.iteration // BATCHES
        # "norm" draws the samples of its accuracy checks from the same generator: stopped in between it draws more.
        if self.name != "norm" or self.exact_checks:
            np.testing.assert_allclose(solver.loss_history, losses[: solver.iteration], **tolerance)
            if solver.iteration % BATCHES == 0 and solver.epoch:
                last = run_state.last(solver)
                for name, w in snapshots[solver.epoch].items():
                    np.testing.assert_allclose(last[name], w, rtol=tolerance["rtol"], atol=tolerance["rtol"])
            found = dict(zip(solver.eval_iterations, solver.val_acc_history, strict=True))
            expected = {at: acc for at, acc in zip(checks, accuracies, strict=True) if at <= solver.iteration}
            assert {at: found.get(at) for at in expected} == expected
        if solver.val_acc_history:
            assert solver.best_val_acc == max(solver.val_acc_history)
            assert set(solver.best_params) == set(solver.model.params)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=15, deadline=None, derandomize=True)
