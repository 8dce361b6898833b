"""The Solver: the course's run number for number, its output, its errors, best and last parameters."""

import math
import re

import numpy as np
import pytest
from run_state import last

from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from gconv.data_utils import make_synthetic_data
from gconv.solver import Solver


@pytest.fixture
def data(backend):
    return {name: backend.asarray(a) for name, a in make_synthetic_data(num_train=120, num_val=40).items()}


def small_model(**options):
    return TwoLayerNet(3 * 8 * 8, 12, 4, weight_scale=1e-2, **options)


def the_course_s_run(params, data, rate, decay, reg, epochs, batch, samples):
    """What the course's loop does with a two-layer net and sgd, written out in NumPy."""
    X, y = data["X_train"].reshape(len(data["X_train"]), -1).astype(np.float64), data["y_train"]

    def scores(X):
        return np.maximum(X @ params["W1"] + params["b1"], 0) @ params["W2"] + params["b2"]

    def accuracy(X, y, count):
        if count is not None and len(X) > count:
            chosen = np.random.choice(len(X), count)
            X, y = X[chosen], y[chosen]
        return np.mean(np.argmax(scores(X.reshape(len(X), -1)), axis=1) == y)

    losses, train_acc, val_acc = [], [], []
    per_epoch = max(len(X) // batch, 1)
    for t in range(epochs * per_epoch):
        chosen = np.random.choice(len(X), batch)
        x, labels = X[chosen], y[chosen]
        hidden = np.maximum(x @ params["W1"] + params["b1"], 0)
        out = hidden @ params["W2"] + params["b2"]
        p = np.exp(out - out.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        losses.append(
            -np.log(p[range(batch), labels]).mean() + 0.5 * reg * sum((params[w] ** 2).sum() for w in ("W1", "W2"))
        )
        p[range(batch), labels] -= 1
        p /= batch
        dhidden = (p @ params["W2"].T) * (hidden > 0)
        grads = {"W2": hidden.T @ p + reg * params["W2"], "b2": p.sum(axis=0)}
        grads |= {"W1": x.T @ dhidden + reg * params["W1"], "b1": dhidden.sum(axis=0)}
        for name in params:
            params[name] = params[name] - rate * grads[name]
        end = (t + 1) % per_epoch == 0
        if end:
            rate *= decay
        if t == 0 or end:
            train_acc.append(accuracy(X, y, samples))
            val_acc.append(accuracy(data["X_val"].astype(np.float64), data["y_val"], None))
    return losses, train_acc, val_acc


def test_a_seed_gives_the_course_s_run(backend, data):
    np.random.seed(231)
    model = small_model(reg=0.01)
    params = {name: backend.to_numpy(w).copy() for name, w in model.params.items()}
    solver = Solver(
        model, data, optim_config={"learning_rate": 0.03}, lr_decay=0.9, batch_size=25, num_epochs=3,
        num_train_samples=30, verbose=False,
    )  # fmt: skip
    state = np.random.get_state()
    solver.train()
    np.random.set_state(state)
    host = {name: backend.to_numpy(a) for name, a in data.items()}
    losses, train_acc, val_acc = the_course_s_run(params, host, 0.03, 0.9, 0.01, 3, 25, 30)
    np.testing.assert_allclose(solver.loss_history, losses, rtol=1e-9)
    assert solver.train_acc_history == pytest.approx(train_acc)
    assert solver.val_acc_history == pytest.approx(val_acc)
    assert solver.best_val_acc == pytest.approx(max(val_acc))


def test_lines_are_the_course_s(data, capsys):
    Solver(small_model(), data, num_epochs=2, batch_size=40, print_every=2, seed=0).train()
    lines = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d{6}"
    expected = [
        rf"\(Iteration 1 / 6\) loss: {number}",
        rf"\(Epoch 0 / 2\) train acc: {number}; val_acc: {number}",
        rf"\(Iteration 3 / 6\) loss: {number}",
        rf"\(Epoch 1 / 2\) train acc: {number}; val_acc: {number}",
        rf"\(Iteration 5 / 6\) loss: {number}",
        rf"\(Epoch 2 / 2\) train acc: {number}; val_acc: {number}",
    ]
    assert len(lines) == len(expected)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(expected, lines, strict=True))


def test_eval_every_checks_in_between(data):
    solver = Solver(small_model(), data, num_epochs=2, batch_size=12, eval_every=4, verbose=False, seed=0)
    solver.train()
    assert solver.eval_iterations == [1, 4, 8, 10, 12, 16, 20]
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 7


def test_progress_is_silent_in_a_file(data, capsys):
    Solver(small_model(), data, num_epochs=1, verbose=False, progress=True, seed=0).train()
    captured = capsys.readouterr()
    assert not captured.out
    assert not captured.err


def test_the_bar_shows_on_a_terminal_and_lines_stay_whole(data, capsys, monkeypatch):
    monkeypatch.setattr("gconv._progress._watched", lambda: True)
    Solver(small_model(), data, num_epochs=1, batch_size=40, print_every=1, progress=True, seed=0).train()
    captured = capsys.readouterr()
    assert "3/3" in captured.err
    assert "val acc" in captured.err
    assert len([line for line in captured.out.splitlines() if line.startswith("(")]) == 5


@pytest.mark.parametrize("rule", ["sgd", "sgd_momentum", "nesterov_momentum", "rmsprop", "adam", "adamw"])
def test_every_rule_learns(data, rule):
    rate = 1e-2 if rule in ("sgd", "sgd_momentum", "nesterov_momentum") else 1e-3
    solver = Solver(
        small_model(), data, update_rule=rule, optim_config={"learning_rate": rate}, num_epochs=25, batch_size=20,
        verbose=False, seed=0,
    )  # fmt: skip
    solver.train()
    assert solver.best_val_acc > 0.9


def test_train_1_runs_one_epoch_more_from_the_last_parameters(backend, data):
    def run(*calls):
        model = small_model(rng=1)
        solver = Solver(model, data, update_rule="adam", num_epochs=4, batch_size=30, verbose=False, seed=5)
        for call in calls:
            solver.train(*call)
        return solver

    whole, pieces = run(()), run((1,), (2,), ())
    assert whole.loss_history == pieces.loss_history
    assert whole.val_acc_history == pieces.val_acc_history
    assert pieces.epoch == 4
    for name, w in whole.model.params.items():
        np.testing.assert_array_equal(backend.to_numpy(w), backend.to_numpy(pieces.model.params[name]))
    pieces.train(1)
    assert pieces.epoch == 5
    assert len(pieces.loss_history) == 20


def test_best_parameters_are_installed_and_never_empty(backend, data):
    model = small_model(rng=1)
    wrong = {**data, "y_val": backend.asarray(np.full(40, 3))}
    # no sample of class 3 is learnt: validation accuracy stays 0
    wrong["y_train"] = backend.asarray(backend.to_numpy(data["y_train"]) % 3)
    solver = Solver(model, wrong, num_epochs=2, verbose=False, seed=0, optim_config={"learning_rate": 0.1})
    solver.train()
    assert model.params.keys() == {"W1", "b1", "W2", "b2"}
    assert solver.best_params.keys() == model.params.keys()
    assert set(solver.val_acc_history) == {0}
    for name, w in last(solver).items():
        np.testing.assert_array_equal(backend.to_numpy(model.params[name]), backend.to_numpy(w))


def test_the_best_parameters_are_those_that_scored_best(backend, data):
    """The training labels are wrong, so that training makes the validation accuracy fall."""
    wrong = {**data, "y_train": backend.asarray((backend.to_numpy(data["y_train"]) + 1) % 4)}
    solver = Solver(small_model(rng=1), wrong, num_epochs=20, batch_size=30, verbose=False, seed=3)
    solver.train()
    assert solver.val_acc_history[-1] < max(solver.val_acc_history)
    assert solver.check_accuracy(data["X_val"], data["y_val"]) == solver.best_val_acc == max(solver.val_acc_history)


def test_without_validation_data_the_parameters_stay(backend, data):
    empty = {**data, "X_val": data["X_val"][:0], "y_val": data["y_val"][:0]}
    solver = Solver(small_model(), empty, num_epochs=3, batch_size=30, verbose=False, seed=0)
    solver.train()
    assert math.isnan(solver.val_acc_history[0])
    for name, w in last(solver).items():  # the last ones, not those of the first check
        np.testing.assert_array_equal(backend.to_numpy(solver.model.params[name]), backend.to_numpy(w))


def test_a_loss_that_is_not_finite_keeps_the_last_good_parameters(backend, data):
    model = small_model(rng=1)
    solver = Solver(model, data, optim_config={"learning_rate": 1e6}, num_epochs=50, verbose=False, seed=0)
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"got \S+ at iteration \d+ with learning rate 1000000"),
    ):
        solver.train()
    assert len(solver.loss_history) == solver.iteration
    assert all(math.isfinite(loss) for loss in solver.loss_history)
    assert all(np.isfinite(backend.to_numpy(w)).all() for w in model.params.values())


def test_an_infinite_first_loss_leaves_the_initial_parameters(backend, data):
    model = small_model(rng=1)
    before = {name: backend.to_numpy(w).copy() for name, w in model.params.items()}
    bad = {**data, "X_train": data["X_train"] * math.inf}
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="iteration 1 "):
        Solver(model, bad, verbose=False, seed=0).train()
    for name, w in model.params.items():
        np.testing.assert_array_equal(backend.to_numpy(w), before[name])


def test_shuffling_deals_every_sample_once_an_epoch(backend):
    seen = []

    class Recorder(TwoLayerNet):
        def loss(self, X, y=None):
            if y is not None:
                seen.extend(backend.to_numpy(X)[:, 0].tolist())
            return super().loss(X, y)

    X = backend.asarray(np.arange(24.0)[:, None])
    y = backend.asarray(np.zeros(24, np.int64))
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    Solver(Recorder(1, 2, 2), data, batch_size=6, num_epochs=2, sampling="shuffle", verbose=False, seed=0).train()
    assert sorted(seen[:24]) == sorted(seen[24:]) == list(range(24))
    assert seen[:24] != seen[24:]


def test_a_batch_larger_than_the_data_set(data):
    for sampling in ("replacement", "shuffle"):
        solver = Solver(small_model(), data, batch_size=1000, num_epochs=2, sampling=sampling, verbose=False, seed=0)
        solver.train()
        assert len(solver.loss_history) == 2


def test_arrays_that_the_caller_holds_are_not_written_to(backend, data):
    model = small_model(rng=1)
    held = dict(model.params)
    before = {name: backend.to_numpy(w).copy() for name, w in held.items()}
    Solver(model, data, num_epochs=2, batch_size=20, verbose=False, seed=0).train()
    for name, w in held.items():
        np.testing.assert_array_equal(backend.to_numpy(w), before[name])


def test_weights_put_in_between_are_trained_on(backend, data):
    model = small_model(rng=1)
    solver = Solver(
        model, data, num_epochs=1, batch_size=20, optim_config={"learning_rate": 0.0}, verbose=False, seed=0
    )
    solver.train()
    model.params["W1"] = backend.asarray(np.full((192, 12), 0.25))
    solver.train(1)
    assert backend.to_numpy(last(solver)["W1"])[0, 0] == 0.25


def test_images_of_bytes(backend, rng, data):
    images = backend.asarray(rng.integers(256, size=(120, 3, 8, 8), dtype=np.uint8))
    model = ThreeLayerConvNet((3, 8, 8), 2, 3, 5, 4)
    solver = Solver(model, {**data, "X_train": images}, num_epochs=1, verbose=False, seed=0)
    solver.train()
    assert model.params["W1"].dtype == np.float32


def test_callbacks_see_every_check(data):
    calls = []

    class Watcher:
        def on_eval(self, solver):
            calls.append((solver.iteration, solver.val_acc_history[-1]))

    Solver(small_model(), data, num_epochs=2, batch_size=60, callbacks=[Watcher()], verbose=False, seed=0).train()
    assert [iteration for iteration, _ in calls] == [1, 2, 4]


def test_running_averages_belong_to_the_best_parameters(backend, data):
    model = FullyConnectedNet([8], 192, 4, normalization="batchnorm", dtype=np.float64)
    solver = Solver(
        model, data, num_epochs=6, batch_size=30, optim_config={"learning_rate": 0.3}, verbose=False, seed=2
    )
    solver.train()
    assert solver.check_accuracy(data["X_val"], data["y_val"]) == solver.best_val_acc


def test_the_running_averages_of_the_best_check_are_installed(backend, data):
    """The first check is called the best: its averages, which one step has moved, are in the model afterwards."""
    first = {}

    class OnlyTheFirst:
        def on_iteration(self, run):
            if run.iteration == 1:
                first.update({name: backend.to_numpy(a).copy() for name, a in run.model.buffers.items()})
            run.best_val_acc = 2.0 if run.iteration > 1 else 0.0

    model = FullyConnectedNet([8], 192, 4, normalization="batchnorm", dtype=np.float64)
    solver = Solver(model, data, num_epochs=2, batch_size=30, verbose=False, seed=2, callbacks=[OnlyTheFirst()])
    solver.train()
    assert first.keys() == model.buffers.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(backend.to_numpy(model.buffers[name]), array)
        assert (backend.to_numpy(solver.run.last_state()[1][name]) != array).any()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"learning_rate": 1}, ValueError, "keywords must be the documented ones; got learning_rate"),
        ({"update_rule": "sdg"}, ValueError, "update_rule must be one of 'sgd', .*; got 'sdg'"),
        ({"update_rule": "Config"}, ValueError, "update_rule must be one of"),
        ({"update_rule": "backend_of"}, ValueError, "update_rule must be one of"),
        ({"optim_config": {"learning_rte": 1}}, ValueError, "optim_config must have keys among .*; got learning_rte"),
        ({"optim_config": 3}, TypeError, "optim_config must be a dictionary; got int"),
        ({"batch_size": 0}, ValueError, "batch_size must be a positive integer; got 0"),
        ({"batch_size": 2.5}, ValueError, "batch_size must be a positive integer; got 2.5"),
        ({"batch_size": "9"}, TypeError, "batch_size must be a positive integer; got '9'"),
        ({"num_epochs": -1}, ValueError, "num_epochs must be an integer of at least 0; got -1"),
        ({"print_every": 0}, ValueError, "print_every must be a positive integer"),
        ({"eval_every": 0}, ValueError, "eval_every must be a positive integer"),
        ({"lr_decay": -1}, ValueError, "lr_decay must be a number"),
        ({"sampling": "bootstrap"}, ValueError, "sampling must be one of 'replacement', 'shuffle'; got 'bootstrap'"),
        ({"num_train_samples": 0}, ValueError, "num_train_samples must be a positive integer"),
    ],
)
def test_bad_options(data, options, error, text):
    with pytest.raises(error, match=f"^Solver: {text}"):
        Solver(small_model(), data, **options)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"X_val": None}, ValueError, "data must have the key 'X_val'"),
        (
            {"y_train": slice(0, 100)},
            ValueError,
            r"data\['y_train'\] must have shape \(120,\) to match data\['X_train'\]; got \(100,\)",
        ),
        ({"X_train": slice(0, 0), "y_train": slice(0, 0)}, ValueError, "must hold at least one sample"),
    ],
)
def test_bad_data(data, change, error, text):
    for name, part in change.items():
        if part is None:
            del data[name]
        else:
            data[name] = data[name][part]
    with pytest.raises(error, match=f"^Solver: .*{text}"):
        Solver(small_model(), data)


def test_more_bad_data(backend, data):
    with pytest.raises(TypeError, match="data must be a dictionary"):
        Solver(small_model(), [1, 2])
    with pytest.raises(TypeError, match=r"data\['y_train'\] must be integer labels; got dtype float64"):
        Solver(small_model(), {**data, "y_train": data["y_train"] * 1.0})
    with pytest.raises(TypeError, match=r"data\['X_train'\] must be an array of samples; got list"):
        Solver(small_model(), {**data, "X_train": [[1.0]]})
    with pytest.raises(TypeError, match="model must have a dictionary params"):
        Solver(object(), data)
    too_large = {**data, "y_train": data["y_train"] + 9}
    with pytest.raises(ValueError, match=r"must hold labels in \[0, 4\); got the label"):
        Solver(small_model(), too_large, verbose=False).train()


def test_check_accuracy(backend, data):
    solver = Solver(small_model(), data, verbose=False, seed=0)
    X, y = data["X_train"], data["y_train"]
    predicted = backend.to_numpy(solver.model.loss(X)).argmax(axis=1)
    assert solver.check_accuracy(X, y, batch_size=7) == (predicted == backend.to_numpy(y)).mean()
    assert 0 <= solver.check_accuracy(X, y, num_samples=10) <= 1
    with pytest.raises(ValueError, match="batch_size must be a positive integer"):
        solver.check_accuracy(X, y, batch_size=0)
    with pytest.raises(ValueError, match="check_accuracy: y must have shape"):
        solver.check_accuracy(X, y[:5])


def test_a_label_that_the_loss_ignores_is_not_counted(backend, data):
    options = {"ignore_label": 255, "class_weights": [1, 2, 1, 0.5]}
    y = data["y_train"].copy()
    y[::3] = 255
    solver = Solver(small_model(loss_options=options), {**data, "y_train": y}, verbose=False, seed=0, num_epochs=2)
    solver.train()
    assert np.isfinite([float(loss) for loss in solver.loss_history]).all()
    predicted = backend.to_numpy(solver.model.loss(data["X_train"])).argmax(axis=1)
    labels = backend.to_numpy(y)
    counted = labels != 255
    assert solver.check_accuracy(data["X_train"], y, batch_size=7) == (predicted == labels)[counted].mean()
    assert np.isnan(solver.check_accuracy(data["X_train"][:1], y[:1]))
    y[1] = 9  # neither a class nor ignored
    with pytest.raises(ValueError, match=r"must hold labels in \[0, 4\); got the label 9"):
        Solver(small_model(loss_options=options), {**data, "y_train": y}, verbose=False, batch_size=len(y)).train()


# As in scikit-learn ---------------------------------------------------------------------------------


def estimator(**options):
    given = {"update_rule": "adam", "num_epochs": 8, "batch_size": 20, "verbose": False, "seed": 3}
    return Solver(TwoLayerNet(192, 20, 4, weight_scale=1e-2, rng=0), **{**given, **options})


def test_fit_predict_score(backend, data):
    X, y, X_test, y_test = (data[name] for name in ("X_train", "y_train", "X_val", "y_val"))
    solver = estimator()
    assert solver.fit(X, y) is solver
    assert len(solver.X_val) == len(X) // 10
    assert len(solver.X_train) + len(solver.X_val) == len(X)
    predicted = solver.predict(X_test)
    assert type(predicted) is type(X_test)
    predicted = backend.to_numpy(predicted)
    assert predicted.dtype == np.int64
    assert solver.score(X_test, y_test) == pytest.approx((predicted == backend.to_numpy(y_test)).mean())
    assert solver.score(X_test, y_test) > 0.8
    chances = backend.to_numpy(solver.predict_proba(X_test))
    assert chances.shape == (len(X_test), 4)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_array_equal(chances.argmax(axis=1), predicted)


def test_what_is_held_out_is_not_trained_on(backend, data):
    solver = estimator(num_epochs=1).fit(data["X_train"], data["y_train"], validation_fraction=0.3)
    train, val = (backend.to_numpy(a) for a in (solver.X_train, solver.X_val))
    rows = {image.tobytes() for image in train} | {image.tobytes() for image in val}
    assert len(train) + len(val) == len(rows) == len(data["X_train"])


def test_a_second_fit_begins_anew(backend, data):
    solver = estimator(seed=None, num_epochs=2)
    runs = []
    for _ in range(2):
        np.random.seed(5)
        solver.fit(data["X_train"], data["y_train"], data["X_val"], data["y_val"])
        runs.append((list(solver.loss_history), backend.to_numpy(solver.model.params["W1"])))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_a_second_fit_forgets_the_running_averages(backend, data):
    model = FullyConnectedNet([5], 192, 4, normalization="batchnorm", rng=0)
    solver = Solver(model, num_epochs=1, verbose=False, seed=1)
    averages = []
    for _ in range(2):
        solver.rng = np.random.default_rng(1)
        solver.fit(data["X_train"], data["y_train"], validation_fraction=0)
        averages.append(backend.to_numpy(model.buffers["running_mean1"]))
    np.testing.assert_array_equal(*averages)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"y": np.zeros(3, int)}, r"Solver.fit: y must have shape \(\d+,\) to match X; got"),
        ({"X_val": np.zeros((2, 3, 8, 8))}, "X_val and y_val must be given together; got X_val alone"),
        ({"y_val": np.zeros(2, int)}, "X_val and y_val must be given together; got y_val alone"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be a number in \[0, 1\]; got 1.0"),
    ],
)
def test_bad_fits_are_refused(change, text):
    data = make_synthetic_data()
    with pytest.raises(ValueError, match=text):
        estimator().fit(**{"X": data["X_train"], "y": data["y_train"], **change})


def test_a_solver_without_data_says_so():
    with pytest.raises(ValueError, match=r"Solver.train: data must be given to the Solver, or to fit; got none"):
        estimator().train()
