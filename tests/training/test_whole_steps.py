"""A step happens whole or not at all: interrupted anywhere, a training goes on as if nothing had been, to the bit."""

import contextlib
import functools
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from run_state import last, restore

import gconv
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet
from gconv.data_utils import make_synthetic_data
from gconv.files import load_checkpoint
from gconv.solver import Solver
from gconv.training.augmentation import Augment
from gconv.training.callbacks import Callback, ClipGradients, CosineSchedule, ReduceOnPlateau

PACKAGE = str(Path(gconv.__file__).parent)
DATA = make_synthetic_data(25, 9, 4, (2, 4, 4), 3)
BATCHES, EPOCHS = 4, 3


class Watch(Callback):
    """Has every event, and an error for one of them."""

    capturable = True  # draws nothing

    def __init__(self):
        self.at, self.error = None, None

    def _event(self, name, run):
        if self.error is not None and (name, run.iteration) == self.at:
            error, self.error = self.error, None
            raise error


for event in ("on_update", "on_iteration", "on_eval", "on_epoch"):
    setattr(Watch, event, functools.partialmethod(lambda self, name, run: self._event(name, run), event))
Watch.on_gradients = lambda self, run, grads: (self._event("on_gradients", run), grads)[1]

CONFIGURATIONS = {
    # dropout draws from NumPy's global state; running averages; a rate that a callback changes
    "norm": (
        lambda: FullyConnectedNet([5, 4], 32, 3, 0.8, "batchnorm", weight_scale=1e-1, dtype=np.float64, rng=0),
        {"update_rule": "adam", "eval_every": 3, "callbacks": lambda: [ReduceOnPlateau(0.5, 1)], "seed": None},
    ),
    "conv": (
        lambda: ThreeLayerConvNet((2, 4, 4), 2, 3, 4, 3, weight_scale=1e-1, dtype=np.float64, rng=0),
        {
            "update_rule": "nesterov_momentum",
            "sampling": "shuffle",
            "augment": Augment(crop=1),
            "callbacks": lambda: [CosineSchedule(), ClipGradients(1.0)],
            "groups": [("b*", {"learning_rate": 3e-2}), ("W3", {"frozen": True})],
        },
    ),
    "plain": (
        lambda: FullyConnectedNet([5], 32, 3, weight_scale=1e-1, rng=0),
        {"update_rule": "rmsprop", "lr_decay": 0.5, "num_train_samples": 7},
    ),
}


def make(name, watch=None, folder=None, **options):
    model, given = CONFIGURATIONS[name]
    np.random.seed(7)
    given = {"batch_size": 6, "num_epochs": EPOCHS, "seed": 3, "verbose": False, **given, **options}
    callbacks = [*given.pop("callbacks", list)(), watch or Watch()]
    checkpoint = {} if folder is None else {"checkpoint_name": str(folder / "run")}
    with gconv.use_backend("cpu"):
        return Solver(model(), DATA, callbacks=callbacks, **checkpoint, **given)


def everything(solver):
    found = {f"param {n}": w for n, w in solver.model.params.items()}
    found |= {f"last {n}": w for n, w in last(solver).items()}
    found |= {f"best {n}": w for n, w in solver.best_params.items()}
    found |= {f"buffer {n}": w for n, w in getattr(solver.model, "buffers", {}).items()}
    found |= {f"optim {n} {k}": v for n, config in solver.optim_configs.items() for k, v in config.items()}
    histories = ("loss_history", "train_acc_history", "val_acc_history", "eval_iterations", "learning_rate_history")
    return found | {name: getattr(solver, name) for name in (*histories, "iteration", "epoch", "best_val_acc")}


@functools.cache
def undisturbed(name):
    solver = make(name)
    solver.train()
    return everything(solver), float(np.random.random())


def assert_as_undisturbed(name, solver):
    next_drawn, found = float(np.random.random()), everything(solver)
    expected, drawn = undisturbed(name)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    assert next_drawn == drawn, "NumPy's global state"


def go_on(name, solver, way, folder):
    """Train on, in the same Solver or in another one from what this one saves."""
    if way == "resume":
        solver.save(folder / "saved")
        np.random.seed(99)
        resumed = make(name)
        np.random.seed(98)
        resumed.resume(folder / "saved")
        return resumed
    solver.train()
    return solver


@pytest.mark.parametrize("way", ["train", "resume"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_an_exception_in_a_callback(name, error, way, tmp_path):
    for event in ("on_gradients", "on_update", "on_iteration", "on_eval", "on_epoch"):
        for iteration in (
            (BATCHES - 1, BATCHES) if event in ("on_gradients", "on_update", "on_iteration") else (BATCHES,)
        ):
            watch = Watch()
            solver = make(name, watch)
            watch.at, watch.error = (event, iteration), error("as asked")
            with pytest.raises(error, match="as asked"):
                solver.train()
            assert len(solver.loss_history) == solver.iteration == iteration
            assert isinstance(solver.failure, error)
            assert_as_undisturbed(name, go_on(name, solver, way, tmp_path))


@pytest.mark.parametrize("way", ["train", "resume"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("place", ["loss", "scores", "update", "save"])
def test_an_exception_in_the_model_the_update_or_a_file(name, place, way, tmp_path, monkeypatch):
    solver = make(name, folder=tmp_path / "run")
    calls, at = [], {"loss": 6, "scores": 4, "update": 12, "save": 2}[place]

    def broken(real, counts=lambda *_: True):
        def call(*arguments, **options):
            if counts(*arguments):
                calls.append(1)
                if len(calls) == at:
                    raise RuntimeError("as asked")
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        if place in ("loss", "scores"):
            patch.setattr(
                solver.model, "loss", broken(solver.model.loss, lambda X, y=None: (y is None) == (place == "scores"))
            )
        elif place == "update":
            # after the first parameters of a step were computed: this backend is called for each part of them
            backend = type(gconv.get_backend(*solver.model.params.values()))
            real = backend.update

            def one_by_one(self, rule, ws, dws, states, scalars, constants, outs, new_states, control=None):
                for i in range(len(ws)):
                    calls.append(1)
                    if len(calls) == at:
                        raise RuntimeError("as asked")
                    part = slice(i, i + 1)
                    both = [[arrays[part] for arrays in given] for given in (states, new_states)]
                    real(self, rule, ws[part], dws[part], both[0], scalars, constants, outs[part], both[1], control)

            patch.setattr(backend, "update", one_by_one)
        else:
            patch.setattr("gconv.training.run.save_checkpoint", broken(__import__("gconv.files").files.save_checkpoint))
        with pytest.raises(RuntimeError, match="as asked"):
            solver.train()
    assert len(solver.loss_history) == solver.iteration
    if way == "resume":
        solver.save(tmp_path / "saved")
        solver = make(name)
        np.random.seed(98)
        solver.resume(tmp_path / "saved")
    else:
        solver.train()
        assert len(list((tmp_path / "run").glob("*.safetensors"))) == EPOCHS
    assert_as_undisturbed(name, solver)


def test_a_divergence_after_an_interrupted_update_undoes_no_step(monkeypatch):
    """The arrays from before the last step were being written to: they are not to be returned to."""
    solver = make("plain")
    backend = type(gconv.get_backend(*solver.model.params.values()))
    real, calls = backend.update, []

    def interrupted(self, rule, ws, dws, states, scalars, constants, outs, *rest):
        calls.append(1)
        if len(calls) == 3:
            outs[0][...] = np.nan
            raise KeyboardInterrupt
        real(self, rule, ws, dws, states, scalars, constants, outs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            solver.train()
    expected = {name: w.copy() for name, w in last(solver).items()}
    loss = solver.model.loss
    solver.model.loss = lambda X, y=None: loss(X) if y is None else (np.inf, loss(X, y)[1])
    with pytest.raises(FloatingPointError, match="are those that this training began with"):
        solver.train()
    for name, w in solver.model.params.items():
        np.testing.assert_array_equal(w, expected[name])


class InterruptAtLine:
    """Raises KeyboardInterrupt before the n-th line of the package that is run, from an iteration on."""

    def __init__(self, solver, line, first, functions=()):
        self._solver, self._left, self._first, self._functions = solver, line, first, functions
        self.where = None

    def __enter__(self):
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _trace(self, frame, event, _):
        chosen = not self._functions or frame.f_code.co_name in self._functions
        if chosen and frame.f_code.co_filename.startswith(PACKAGE) and self._solver.run.iteration >= self._first:
            return self._line
        return None

    def _line(self, frame, event, _):
        if event == "line":
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that was just being opened
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_an_interruption_at_any_line(name, tmp_path):
    """GCONV_LINES=all takes every line of two steps, an accuracy check and an epoch's end; here some of them."""
    draws = random.Random(name)
    count = InterruptAtLine(make(name, folder=tmp_path / "count"), 1 << 60, BATCHES - 1)
    with count:
        count._solver.train(1)
    lines = (1 << 60) - count._left
    chosen = range(1, lines + 1) if os.environ.get("GCONV_LINES") == "all" else draws.sample(range(1, lines + 1), 25)
    for line in chosen:
        solver = make(name, folder=tmp_path / str(line))
        interrupt = InterruptAtLine(solver, line, BATCHES - 1)
        try:
            with interrupt:
                solver.train(1)
        except KeyboardInterrupt:
            pass
        assert interrupt.where is not None
        assert len(solver.loss_history) == solver.iteration, interrupt.where
        try:
            assert_as_undisturbed(name, go_on(name, solver, "train" if line % 2 else "resume", tmp_path))
            if line % 2:
                assert len(list((tmp_path / str(line)).glob("*.safetensors"))) == EPOCHS
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"after an interruption at {interrupt.where} (line {line} of {lines})") from error


def test_an_interruption_at_every_line_of_a_commit(tmp_path):
    functions, line, interrupted = ("commit", "_finish", "recover", "call", "_end_epoch"), 0, True
    while interrupted:
        line += 1
        solver = make("plain")
        interrupt = InterruptAtLine(solver, line, BATCHES - 1, functions)
        try:
            with interrupt:
                solver.train(1)
        except KeyboardInterrupt:
            assert_as_undisturbed("plain", go_on("plain", solver, "train" if line % 2 else "resume", tmp_path))
        interrupted = interrupt.where is not None
    assert line > 40


def test_an_interruption_at_every_line_of_a_resumption(tmp_path):
    saved = make("norm")
    saved.train(1)
    saved.save(tmp_path / "saved")
    functions, finished = ("restore", "_take_over", "return_to", "recover"), 0
    for line in range(1, 400):
        solver = make("norm")
        solver.run.stop_clock()
        before = everything(solver)
        interrupt = InterruptAtLine(solver, line, 0, functions)
        try:
            with interrupt:
                solver.resume(tmp_path / "saved")
        except KeyboardInterrupt:
            if solver.iteration:
                assert_as_undisturbed("norm", go_on("norm", solver, "train" if line % 2 else "resume", tmp_path))
                finished += 1
            else:
                assert {k: np.asarray(v).tolist() for k, v in everything(solver).items()} == {
                    k: np.asarray(v).tolist() for k, v in before.items()
                }
        if interrupt.where is None:
            break
    assert 20 < finished < line


@pytest.mark.parametrize("other_data", [False, True])
def test_an_epoch_more_after_one_whose_end_was_interrupted(other_data):
    watch = Watch()
    solver = make("plain", watch)
    watch.at, watch.error = ("on_iteration", BATCHES), KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        solver.train(1)
    assert solver.epoch == 0
    if other_data:
        solver.set_data(DATA)
    solver.train(1)
    assert (solver.iteration, solver.epoch) == (2 * BATCHES, 2)
    solver.train()
    assert (solver.iteration, solver.epoch) == (EPOCHS * BATCHES, EPOCHS)


def test_an_interruption_at_every_line_of_a_divergence():
    functions, line, interrupted = ("require_finite", "undo_step", "abandon_to", "return_to", "recover"), 0, 0

    def diverging():
        solver = make("norm", eval_every=1)
        loss = solver.model.loss

        def bad(X, y=None):
            value = loss(X, y)
            return value if y is None else (np.nan if solver.iteration == 2 else value[0], value[1])

        solver.model.loss = bad
        return solver, loss

    for line in range(1, 400):
        solver, loss = diverging()
        interrupt = InterruptAtLine(solver, line, 2, functions)
        with np.errstate(all="ignore"), pytest.raises((FloatingPointError, KeyboardInterrupt)), interrupt:
            solver.train()
        interrupted += interrupt.where is not None
        solver.model.loss = loss
        solver.train()
        found, expected = everything(solver), undisturbed_often()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=f"{key} after {interrupt.where}")
        if interrupt.where is None:
            break
    assert 10 < interrupted < 399


@functools.cache
def undisturbed_often():
    solver = make("norm", eval_every=1)
    solver.train()
    return everything(solver)


class Clip:
    """Changes the weights after each update."""

    changes_training = True

    def on_update(self, run):
        run.model.params["W1"] = run.model.params["W1"].clip(-0.1, 0.1)


def test_what_changes_weights_after_a_save_is_caught_up_with(tmp_path):
    class Save:
        def on_update(self, run):
            if run.iteration == 3:
                run.save(tmp_path / "saved")

    many = [Clip() for _ in range(120)]
    alone, resumed = (make("plain", callbacks=lambda: [Save(), *many]) for _ in range(2))
    alone.train()
    due = load_checkpoint(tmp_path / "saved")[1]["due"]
    assert sum(event == "on_update" for event, _ in due) == len(many) + 1  # and the one that watches
    resumed.resume(tmp_path / "saved")
    assert resumed.loss_history == alone.loss_history
    with pytest.raises(ValueError, match="must be of a run with callbacks="):
        make("plain").resume(tmp_path / "saved")


def test_a_save_of_what_is_not_finite_ends_the_training(tmp_path):
    class Save:
        def on_iteration(self, run):
            run.save(tmp_path / "saved")

    solver = make("plain", callbacks=lambda: [Save()])
    model = solver.model
    loss = model.loss

    def huge(X, y=None):
        if y is None or solver.iteration != 2:
            return loss(X, y)
        value, grads = loss(X, y)
        return value, {name: np.full_like(grad, np.nan) for name, grad in grads.items()}

    model.loss = huge
    with pytest.raises(
        FloatingPointError, match=r"must stay finite; it did not at iteration 3 .* That step was undone"
    ):
        solver.train()
    assert solver.iteration == len(solver.loss_history) == 2
    assert load_checkpoint(tmp_path / "saved")[1]["iteration"] == 2
    assert all(np.isfinite(w).all() for w in model.params.values())


def test_a_divergence_that_a_callback_keeps_to_itself_ends_the_training(tmp_path):
    calls = []

    class Save:
        def on_iteration(self, run):
            calls.append(run.iteration)
            assert len(calls) < 10
            with contextlib.suppress(FloatingPointError):
                run.save(tmp_path / "saved")

    solver = make("plain", callbacks=lambda: [Save()])
    loss = solver.model.loss

    def bad(X, y=None):
        value = loss(X, y)
        if y is None or solver.iteration != 2:
            return value
        return value[0], {name: np.full_like(grad, np.nan) for name, grad in value[1].items()}

    solver.model.loss = bad
    with pytest.raises(FloatingPointError, match="must stay finite"):
        solver.train()
    assert solver.iteration == len(solver.loss_history) == 2


class Noisy(FullyConnectedNet):
    """Draws, though the class that it is made from says that it does not."""

    def loss(self, X, y=None):
        return super().loss(X if y is None else X + np.random.normal(0, 1e-3, X.shape), y)


def test_a_subclass_that_draws_goes_on_as_if_nothing_had_been():
    CONFIGURATIONS["noisy"] = (lambda: Noisy([5], 32, 3, weight_scale=1e-1, rng=0), {})
    try:
        alone = make("noisy")
        alone.train()
        watch = Watch()
        solver = make("noisy", watch)
        watch.at, watch.error = ("on_gradients", 5), KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            solver.train()
        solver.train()
        assert solver.loss_history == alone.loss_history
    finally:
        del CONFIGURATIONS["noisy"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
def test_ctrl_c_at_random_moments(tmp_path):
    """GCONV_SIGNALS=50 makes it the long run of docs/reliability.md."""
    seed, signals = os.getpid(), int(os.environ.get("GCONV_SIGNALS", "10"))
    draws = random.Random(seed)
    print(f"seed {seed}")
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    try:
        sent = 0
        while sent < signals:
            name = draws.choice(sorted(CONFIGURATIONS))
            solver = make(name)
            for _ in range(3):
                try:
                    signal.setitimer(signal.ITIMER_VIRTUAL, draws.uniform(1e-6, 0.01))
                    solver.train()
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                    break
                except KeyboardInterrupt:
                    sent += 1
                if draws.random() < 0.5:
                    solver.save(tmp_path / "saved")
                    solver = make(name)
                    restore(solver, tmp_path / "saved", *load_checkpoint(tmp_path / "saved"))
            solver.train()
            assert_as_undisturbed(name, solver)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
