"""Parameter groups: each with its own hyper-parameters, a schedule over all of them, frozen ones left alone."""

import numpy as np
import pytest
from run_state import last

from gconv import optim
from gconv.classifiers import ThreeLayerConvNet
from gconv.data_utils import make_synthetic_data
from gconv.solver import Solver
from gconv.training.callbacks import CosineSchedule, ReduceOnPlateau

DATA = make_synthetic_data(40, 12, 5, (2, 4, 4), 3)
GROUPS = [
    ("b*", {"learning_rate": 1e-2}),
    (lambda name, w: w.ndim == 1, {"weight_decay": 0.0}),
    ("W1", {"frozen": True}),
    ("W2", {"learning_rate": 5e-3}),
]


def solver_of(**options):
    model = ThreeLayerConvNet((2, 4, 4), 2, 3, 4, 3, weight_scale=1e-1, dtype=np.float64, rng=0)
    given = {"update_rule": "adamw", "optim_config": {"learning_rate": 1e-3, "weight_decay": 0.1}, "groups": GROUPS}
    return Solver(model, DATA, batch_size=10, num_epochs=2, verbose=False, seed=0, **{**given, **options})


class Reference:
    """Does every step again, one parameter at a time, with the course's functions on NumPy arrays."""

    def __init__(self, backend, rule, settings, factor=lambda iteration: 1.0):
        self.backend, self.rule, self.settings, self.factor = backend, rule, settings, factor
        self.params, self.configs, self.rates = None, {}, []

    def on_gradients(self, run, grads):
        if self.params is None:
            self.params = {name: self.backend.to_numpy(w).copy() for name, w in run.model.params.items()}
        self.grads = {name: self.backend.to_numpy(g).copy() for name, g in grads.items()}
        return grads

    def on_update(self, run):
        for name, settings in self.settings.items():
            config = self.configs.setdefault(name, dict(settings))
            config["learning_rate"] = settings["learning_rate"] * self.factor(run.iteration - 1)
            self.params[name], _ = getattr(optim, self.rule)(self.params[name], self.grads[name], config)
        for name, w in run.model.params.items():
            np.testing.assert_allclose(self.backend.to_numpy(w), self.params[name], rtol=1e-9, atol=1e-14)
        self.rates.append({name: config["learning_rate"] for name, config in run.optim_configs.items()})


SETTINGS = {
    "b1": {"learning_rate": 1e-2, "weight_decay": 0.0},
    "W2": {"learning_rate": 5e-3, "weight_decay": 0.1},
    "b2": {"learning_rate": 1e-2, "weight_decay": 0.0},
    "W3": {"learning_rate": 1e-3, "weight_decay": 0.1},
    "b3": {"learning_rate": 1e-2, "weight_decay": 0.0},
}


@pytest.mark.parametrize("scheduled", [False, True])
def test_each_group_has_its_own_numbers_and_a_schedule_multiplies_each_rate(backend, scheduled):
    schedule = CosineSchedule()
    factor = (lambda i: schedule.learning_rate_factor(i, 8)) if scheduled else (lambda i: 1.0)
    reference = Reference(backend, "adamw", SETTINGS, factor)
    solver = solver_of(callbacks=[reference, *([schedule] if scheduled else [])])
    before = backend.to_numpy(solver.model.params["W1"]).copy()
    solver.train()
    assert len(reference.rates) == 8
    np.testing.assert_array_equal(backend.to_numpy(last(solver)["W1"]), before)
    assert set(solver.optim_configs) == set(SETTINGS)
    for step, rates in enumerate(reference.rates):
        assert rates == {name: settings["learning_rate"] * factor(step) for name, settings in SETTINGS.items()}


def test_decay_and_plateaus_lower_every_rate(backend):
    class Stuck:
        def on_eval(self, run):
            run.val_acc_history[-1] = 0.5

    for options in ({"lr_decay": 0.5}, {"callbacks": [Stuck(), ReduceOnPlateau(0.5, 1)]}):
        solver = solver_of(**options)
        solver.train()
        ratios = {
            config["learning_rate"] / SETTINGS[name]["learning_rate"] for name, config in solver.optim_configs.items()
        }
        (ratio,) = {round(ratio, 9) for ratio in ratios}
        assert ratio < 1


def test_frozen_parameters_need_no_gradient(backend):
    solver, plain = solver_of(), solver_of()
    real = solver.model.loss

    def loss(X, y=None):
        found = real(X, y)
        return found if y is None else (found[0], {n: g for n, g in found[1].items() if n != "W1"})

    solver.model.loss = loss
    for one in (solver, plain):
        one.train()
    assert solver.loss_history == plain.loss_history


def test_groups_are_resumed_and_other_ones_refused(backend, tmp_path):
    alone, first = solver_of(), solver_of()
    alone.train()
    first.train(1)
    first.save(tmp_path / "saved")
    resumed = solver_of()
    resumed.resume(tmp_path / "saved")
    assert resumed.loss_history == alone.loss_history
    for groups in ((), GROUPS[:1], [*GROUPS[:3], ("W2", {"learning_rate": 4e-3})]):
        with pytest.raises(ValueError, match=r"must be of a run with groups=|must hold|optim_scalars"):
            solver_of(groups=groups).resume(tmp_path / "saved")
    solver_of(groups=()).save(tmp_path / "plain")
    with pytest.raises(ValueError, match="must be of a run with groups="):
        solver_of().resume(tmp_path / "plain")


@pytest.mark.parametrize(
    ("groups", "error", "text"),
    [
        ([("w*", {"learning_rate": 1.0})], ValueError, "groups must select parameters among W1, b1, .*; got 'w\\*'"),
        ([("W*", {"learning_rte": 1.0})], ValueError, "groups must have keys among learning_rate, .*frozen; got learning_rte"),
        ([("*", {"frozen": True})], ValueError, "groups must leave a parameter to train"),
        ([("W1", {"frozen": "yes"})], TypeError, "groups must have True or False for frozen; got 'yes'"),
        ([("W1", 3)], TypeError, "groups must be pairs of a selector and a dictionary"),
        ([(3, {})], TypeError, "groups must select by a pattern or a function; got int"),
        ("W1", TypeError, "groups must be a list of"),
    ],
)  # fmt: skip
def test_groups_that_are_none(groups, error, text):
    with pytest.raises(error, match=f"^Solver: {text}"):
        solver_of(groups=groups)


def test_a_number_out_of_range_is_named(backend):
    with pytest.raises(ValueError, match=r"^adamw: config\['learning_rate'\] for parameter 'W2' must be .* got -1.0"):
        solver_of(groups=[("W2", {"learning_rate": -1.0})])
    with pytest.raises(ValueError, match=r"^adamw: config\['beta1'\] for parameter 'W1' must be"):
        solver_of(groups=(), optim_config={"beta1": 1.0})
