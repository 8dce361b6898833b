"""What a training needs of a model is looked at first, by name, and nothing of the user's is written to."""

import copy
import pickle

import numpy as np
import pytest
from run_state import last

import gconv
from gconv.classifiers import FullyConnectedNet, TwoLayerNet
from gconv.data_utils import make_synthetic_data
from gconv.solver import Solver
from gconv.training.callbacks import BestCheckpoint, CosineSchedule, EarlyStopping, ReduceOnPlateau, TimeLimit
from gconv.training.model import draws_nothing

SHAPE = (3, 2, 2)
DATA = make_synthetic_data(40, 12, 5, SHAPE, 4)


class Model:
    """A linear classifier with whatever a test changes."""

    def __init__(self, dtype=np.float64, **buffers):
        backend = gconv.get_backend()
        start = np.random.default_rng(0).standard_normal((12, 4)) * 1e-2
        self.params = {"fc": backend.asarray(start, dtype), "fc.bias": backend.asarray(np.zeros(4), dtype)}
        self.params["scale"] = backend.asarray(np.ones(()), dtype)
        self.answer = lambda loss, grads: (loss, grads)
        self.scores = lambda scores: scores
        if buffers:
            self.buffers = {name: backend.asarray(a) for name, a in buffers.items()}

    def loss(self, X, y=None):
        backend = gconv.get_backend(X)
        rows = backend.asarray(X.reshape(len(X), -1), self.params["fc"].dtype)
        product = backend.affine_forward(rows, self.params["fc"], self.params["fc.bias"])
        scores = product * self.params["scale"]
        if y is None:
            return self.scores(scores)
        loss, dout = backend.softmax_loss(scores, y)
        _, dw, db = backend.affine_backward(dout * self.params["scale"], rows, self.params["fc"], False)
        dscale = (dout * product).sum().reshape(())
        return self.answer(loss, {"fc": dw, "fc.bias": db, "scale": dscale})


def solver_of(model, **options):
    return Solver(model, DATA, **{"batch_size": 10, "num_epochs": 2, "verbose": False, "seed": 0, **options})


def changed(name, value):
    def answer(loss, grads):
        return loss, {**grads, name: value(grads[name]) if callable(value) else value}

    return answer


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (changed("fc", None), ValueError, "grads must have a gradient for 'fc'; got None"),
        (lambda loss, g: (loss, {"fc": g["fc"], "scale": g["scale"]}), ValueError, r"gradient for 'fc.bias'; got the names \['fc', 'scale'\]"),
        (changed("fc", lambda g: g.T), ValueError, r"grads\['fc'\] must have shape \(12, 4\); got \(4, 12\)"),
        (changed("fc", lambda g: g.astype(np.float32)), TypeError, r"grads\['fc'\] must have the parameter's dtype, float64; got float32"),
        (changed("fc.bias", [0.0] * 4), TypeError, r"grads\['fc.bias'\] must be an array; got list"),
        (lambda loss, g: loss, TypeError, r"model.loss\(X, y\) must return \(loss, grads\)"),
        (lambda loss, g: (loss, list(g.values())), TypeError, "must return a dictionary of gradients; got list"),
        (lambda loss, g: (g["fc.bias"], g), ValueError, r"must return one number as loss; got shape \(4,\)"),
        (lambda loss, g: (None, g), TypeError, "must return a real number as loss; got NoneType"),
        (lambda loss, g: (np.complex64(1), g), TypeError, "must return a real number as loss; got complex64"),
        (lambda loss, g: (True, g), TypeError, "must return a real number as loss; got bool"),
    ],
)  # fmt: skip
def test_gradients_and_losses_are_named(backend, answer, error, text):
    model = Model()
    model.answer = answer
    before = {name: backend.to_numpy(w).copy() for name, w in model.params.items()}
    solver = solver_of(model)
    with pytest.raises(error, match=f"^Solver.train: .*{text}"):
        solver.train()
    assert solver.iteration == len(solver.loss_history) == 0
    for name, w in last(solver).items():
        np.testing.assert_array_equal(backend.to_numpy(w), before[name])
    model.answer = lambda loss, grads: (loss, grads)
    solver.train()
    assert solver.epoch == 2


def test_extra_gradients_are_ignored_in_the_clipping_norm_too(backend):
    from gconv.training.callbacks import ClipGradients

    plain, extra = Model(), Model()
    extra.answer = lambda loss, grads: (loss, {**grads, "other": grads["fc"] * 1e9})
    solvers = [solver_of(model, callbacks=[ClipGradients(1e-2)]) for model in (plain, extra)]
    for solver in solvers:
        solver.train()
    assert solvers[0].loss_history == solvers[1].loss_history


@pytest.mark.parametrize(
    ("scores", "error", "text"),
    [
        (lambda s: s[:-1], ValueError, r"model.loss\(X\) must return scores \(\d+, C\); got shape"),
        (lambda s: s[:, 0], ValueError, r"must return scores \(\d+, C\)"),
        (lambda s: [1, 2], TypeError, "must return an array of scores; got list"),
    ],
)
def test_scores_are_named(scores, error, text):
    model = Model()
    model.scores = scores
    solver = solver_of(model)
    for call in (
        lambda: solver.predict(DATA["X_val"]),
        lambda: solver.score(DATA["X_val"], DATA["y_val"]),
        solver.train,
    ):
        with pytest.raises(error, match=text):
            call()


def test_what_could_not_be_stored_is_refused_before_training(backend, tmp_path):
    cases = [
        ("params", {3: np.zeros(2)}, TypeError, "model.params must have strings for names; got 3"),
        (
            "params",
            {"\udc80": np.zeros(2)},
            ValueError,
            "model.params must have names that UTF-8 can encode; got '.udc80'",
        ),
        ("params", {"w": [1.0]}, TypeError, r"model.params\['w'\] must be a NumPy or CuPy array; got list"),
        ("params", {"w": np.zeros(2, int)}, TypeError, r"model.params\['w'\] must be float32 or float64; got int64"),
        ("params", {"w": np.array([1, np.nan])}, ValueError, r"model.params\['w'\] must be numbers; there are NaN"),
        ("buffers", {"b": np.array(["x"])}, TypeError, r"model.buffers\['b'\] must be real numbers"),
        ("buffers", {"b": 3}, TypeError, r"model.buffers\['b'\] must be a NumPy or CuPy array; got int"),
        ("buffers", [1], TypeError, "model.buffers must be a dictionary of arrays; got list"),
    ]
    for attribute, value, error, text in cases:
        model = Model()
        if attribute == "params":
            model.params |= value
        else:
            model.buffers = value
        solver = solver_of(model)
        with pytest.raises(error, match=text):
            solver.train()
        assert solver.iteration == 0
        with pytest.raises(error, match="must"):
            solver.save(tmp_path / "x")
        assert not list(tmp_path.iterdir())


def test_parameters_that_are_not_one_dictionary(backend):
    class Copies(Model):
        params = property(lambda self: dict(self._params), lambda self, value: setattr(self, "_params", value))

    empty = Model()
    empty.params = {}
    for model in (Copies(), empty):
        with pytest.raises(ValueError, match=r"^Solver.train: model.params must be one dictionary, and not empty"):
            solver_of(model).train()


def test_what_on_gradients_returns_is_checked(backend):
    class Wrong:
        def on_gradients(self, run, grads):
            return {**grads, "fc": grads["fc"].T}

    with pytest.raises(
        ValueError, match=r"what on_gradients returned\['fc'\] must have shape \(12, 4\); got \(4, 12\)"
    ):
        solver_of(Model(), callbacks=[Wrong()]).train()


def test_a_config_that_no_checkpoint_holds(backend, tmp_path):
    model = Model()
    model.config = {"filters": np.zeros(3)}
    with pytest.raises(TypeError, match=r"^Solver.train: model.config must be what JSON can hold"):
        solver_of(model, checkpoint_name=str(tmp_path / "run")).train()
    solver = solver_of(model)
    solver.train()
    assert solver.epoch == 2
    with pytest.raises(TypeError, match=r"^Solver.save: model.config must be what JSON can hold"):
        solver.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_history_that_somebody_has_shortened_is_not_saved(tmp_path):
    solver = solver_of(TwoLayerNet(12, 3, 4, rng=0))
    solver.train()
    for history in (solver.loss_history, solver.val_acc_history):
        last_one = history.pop()
        with pytest.raises(ValueError, match=r"^Solver.save: \w+_history must have \d entries, .*; got \d"):
            solver.save(tmp_path / "saved")
        history.append(last_one)
    solver.save(tmp_path / "saved")


def test_buffers_that_a_training_makes_others_are_resumed(backend, tmp_path):
    def make(**options):
        model = Model(seen=np.zeros(2, np.int64), queue=np.zeros(0), gone=np.zeros(1))

        def answer(loss, grads):
            model.buffers["seen"] = model.buffers["seen"] + 0.5
            model.buffers["queue"] = backend.asarray(np.append(backend.to_numpy(model.buffers["queue"]), 1.0))
            model.buffers.pop("gone", None)
            return loss, grads

        model.answer = answer
        return solver_of(model, **options)

    first, second = make(num_epochs=1), make()
    first.train()
    first.save(tmp_path / "saved")
    second.resume(tmp_path / "saved")
    buffers = second.run.last_state()[1]
    np.testing.assert_array_equal(backend.to_numpy(buffers["seen"]), [4, 4])
    assert buffers["queue"].shape == (8,)
    assert "gone" not in buffers


def test_what_can_be_stored_is_resumed(backend, tmp_path):
    """Parameters without axes, one named like the beginning of another, counters, truth values, NaN in buffers."""

    def make(**options):
        buffers = {"seen": np.zeros((), np.int64), "ready": np.array([True, False]), "unknown": np.full(2, np.nan)}
        model = Model(**buffers)
        real = model.answer

        def answer(loss, grads):
            model.buffers["seen"] = model.buffers["seen"] + 1
            return real(loss, grads)

        model.answer = answer
        return solver_of(model, update_rule="adam", **options)

    alone, first, second = make(), make(num_epochs=1), make()
    alone.train()
    first.train()
    first.save(tmp_path / "saved")
    second.resume(tmp_path / "saved")
    assert second.loss_history == alone.loss_history
    for name, w in last(alone).items():
        assert last(second)[name].shape == w.shape
        np.testing.assert_array_equal(backend.to_numpy(last(second)[name]), backend.to_numpy(w))
    buffers = second.run.last_state()[1]
    assert int(buffers["seen"]) == 8
    assert buffers["seen"].dtype == np.int64
    assert buffers["ready"].dtype == bool


@pytest.mark.parametrize("rule", ["sgd", "sgd_momentum", "nesterov_momentum", "rmsprop", "adam", "adamw"])
def test_parameters_without_axes_train(backend, rule):
    solver = solver_of(Model(np.float32), update_rule=rule)
    solver.train()
    assert backend.to_numpy(last(solver)["scale"]) != 1
    assert last(solver)["scale"].shape == ()


def test_parameters_of_the_other_byte_order(backend):
    if backend.name == "gpu":
        pytest.skip("CuPy has none")
    plain, swapped = Model(), Model()
    swapped.params = {name: w.astype(w.dtype.newbyteorder()) for name, w in swapped.params.items()}
    solvers = [solver_of(model) for model in (plain, swapped)]
    for solver in solvers:
        solver.train()
    assert solvers[0].loss_history == solvers[1].loss_history
    assert all(w.dtype.isnative for w in swapped.params.values())


def test_buffers_are_changed_in_place_as_params_are(backend):
    model = Model(count=np.zeros(1))
    held, params = model.buffers, model.params
    model.answer = lambda loss, grads: (model.buffers["count"].__iadd__(1), (loss, grads))[1]  # in its own array
    solver = solver_of(model)
    solver.train()
    assert model.buffers is held
    assert model.params is params


@pytest.mark.parametrize("kind", ["none", "live", "computed", "fixed", "fixed none"])
def test_buffers_may_be_none_or_a_property(backend, kind):
    class Sub(Model):
        def __init__(self):
            super().__init__()
            self._store = {"count": backend.asarray(np.zeros(1))}

    stores = {
        "none": None,
        "live": property(lambda self: self._store),
        "computed": property(lambda self: dict(self._store), lambda self, value: setattr(self, "_store", value)),
        "fixed": property(lambda self: dict(self._store)),
        "fixed none": property(lambda self: None),
    }
    Sub.buffers = stores[kind]
    solver = solver_of(Sub())
    if kind.startswith("fixed"):
        with pytest.raises(ValueError, match=r"model.buffers must be a dictionary or have a setter"):
            solver.train()
    else:
        solver.train()
        assert solver.epoch == 2


def test_a_failed_step_takes_buffers_back(backend):
    """Made in the first step, replaced in the second, written to in place in the third, which fails."""
    model, calls = Model(), []
    model.buffers = None

    def answer(loss, grads):
        calls.append(1)
        if len(calls) in (1, 5):
            model.buffers = {"mean": backend.asarray(np.ones(2))} if model.buffers is None else model.buffers
            raise RuntimeError("as asked")
        if len(calls) <= 3:
            model.buffers = {"mean": backend.asarray(np.full(2, float(len(calls))))}
        else:
            model.buffers["mean"] += 10
            if len(calls) == 4:
                raise RuntimeError("as asked")
        return loss, grads

    model.answer = answer
    solver = solver_of(model)
    with pytest.raises(RuntimeError, match="as asked"):
        solver.train()
    assert model.buffers is None
    with pytest.raises(RuntimeError, match="as asked"):
        solver.train()
    assert len(calls) == 4
    assert backend.to_numpy(solver.run.last_state()[1]["mean"]).tolist() == [3, 3]


def test_buffers_made_in_the_first_step(backend):
    """They are gone where that step fails, and where fit begins anew."""

    class Late(Model):
        fails = True

        def loss(self, X, y=None):
            if not hasattr(self, "buffers"):
                self.buffers = {"seen": backend.asarray(np.zeros(()))}
                if self.fails:
                    raise RuntimeError("as asked")
            if y is not None:
                self.buffers["seen"] = self.buffers["seen"] + 1
            return super().loss(X, y)

    model = Late()
    solver = solver_of(model)
    with pytest.raises(RuntimeError, match="as asked"):
        solver.train()
    assert not hasattr(model, "buffers")
    model.fails = False
    for _ in range(2):
        solver.fit(DATA["X_train"], DATA["y_train"])
        assert int(solver.run.last_state()[1]["seen"]) == solver.iteration


def test_losses_may_be_any_real_number(backend):
    from fractions import Fraction

    model = Model()
    model.answer = lambda loss, grads: (Fraction(float(loss)), grads)
    solver_of(model).train()


def test_what_draws_nothing():
    class Wrapper:
        def __init__(self, model):
            self._model = model

        def loss(self, X, y=None):
            return self._model.loss(X, y)

        def __getattr__(self, name):
            return getattr(self._model, name)

    class Own(TwoLayerNet):
        capturable = True

        def loss(self, X, y=None):
            return super().loss(X, y)

    class Inherited(Own):
        pass

    class Another(Own):
        def loss(self, X, y=None):
            return super().loss(X + np.random.rand(), y)

    replaced = Own(12, 3, 4)
    replaced.loss = lambda X, y=None: None
    said = Another(12, 3, 4)
    said.capturable = True
    dropout = FullyConnectedNet([3], 12, 4, 0.5)
    models = [TwoLayerNet(12, 3, 4), Own(12, 3, 4), Inherited(12, 3, 4), said]
    assert all(draws_nothing(model) for model in models)
    models = [Model(), Wrapper(TwoLayerNet(12, 3, 4)), Another(12, 3, 4), replaced, dropout]
    assert not any(draws_nothing(model) for model in models)


def test_a_model_may_write_to_the_samples_it_is_given(backend):
    class Greedy(TwoLayerNet):
        def loss(self, X, y=None):
            X -= X.mean()
            return super().loss(X, y)

    data = {name: backend.asarray(a) for name, a in DATA.items()}
    before = {name: backend.to_numpy(a).copy() for name, a in data.items()}
    solver = Solver(Greedy(12, 3, 4, rng=0), data, batch_size=10, num_epochs=1, num_train_samples=5, verbose=False)
    solver.train()
    solver.predict(data["X_val"])
    solver.check_accuracy(data["X_train"], data["y_train"])
    for name, a in data.items():
        np.testing.assert_array_equal(backend.to_numpy(a), before[name])


def test_other_labels_at_the_same_address_are_other_labels(backend):
    solver = solver_of(TwoLayerNet(12, 3, 4, rng=0))
    predicted = backend.to_numpy(solver.predict(backend.asarray(DATA["X_val"])))
    for _ in range(50):
        right, wrong = predicted.copy(), (predicted + 1) % 4
        assert solver.check_accuracy(DATA["X_val"], right) == 1
        del right
        assert solver.check_accuracy(DATA["X_val"], wrong) == 0
        del wrong


def test_callbacks_that_need_validation_say_so_at_the_start(tmp_path):
    empty = {**DATA, "X_val": DATA["X_val"][:0], "y_val": DATA["y_val"][:0]}
    for callback in (EarlyStopping(), ReduceOnPlateau(), BestCheckpoint(tmp_path / "best")):
        solver = Solver(TwoLayerNet(12, 3, 4, rng=0), empty, callbacks=[callback], verbose=False)
        name = type(callback).__name__
        with pytest.raises(ValueError, match=rf"Solver.train: {name} must have data\['X_val'\]"):
            solver.train()
        assert solver.iteration == 0


def test_another_data_set_of_another_length(backend):
    larger = make_synthetic_data(90, 12, 5, SHAPE, 4)
    for calls, expected in (((1,), (4, 13)), ((None,), (4 * 3, 12 + 0))):
        solver = solver_of(TwoLayerNet(12, 3, 4, rng=0), num_epochs=3)
        solver.train(calls[0])
        assert solver.iteration == expected[0]
        solver.set_data(larger)
        if calls[0] is not None:
            solver.train(1)
            assert (solver.iteration, solver.epoch) == (expected[1], 2)
            solver.train()  # to three epochs in all
            assert (solver.iteration, solver.epoch) == (22, 3)
        else:
            solver.train(1)
            assert (solver.iteration, solver.epoch) == (12 + 9, 4)
        assert len(solver.loss_history) == solver.iteration


def test_a_divergence_on_other_data_or_weights_undoes_nothing_of_before(backend):
    nothing = {**DATA, "X_train": np.full_like(DATA["X_train"], np.nan)}
    for change in ("data", "weights"):
        solver = solver_of(TwoLayerNet(12, 3, 4, rng=0))
        solver.train(1)
        if change == "data":
            solver.set_data(nothing)
        else:
            solver.model.params["W1"] = backend.asarray(np.full((12, 3), 0.25, solver.model.params["W1"].dtype))
            solver.X_train = nothing["X_train"]
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="are those that this training began"):
            solver.train(1)
        assert solver.iteration == len(solver.loss_history) == 4
        if change == "weights":
            assert backend.to_numpy(solver.model.params["W1"])[0, 0] == 0.25
        solver.set_data(DATA)
        solver.train(1)
        assert solver.iteration == 8


def test_other_validation_data_set_on_the_solver_are_looked_at(backend):
    solver = solver_of(TwoLayerNet(12, 3, 4, rng=0))
    solver.check_accuracy(solver.X_val, solver.y_val)
    predicted = backend.to_numpy(solver.predict(backend.asarray(DATA["X_val"])))
    solver.y_val = predicted
    assert solver.check_accuracy(solver.X_val, solver.y_val) == 1


def test_another_data_set_gets_a_permutation_of_its_own(backend):
    seen = []

    class Recorder(TwoLayerNet):
        def loss(self, X, y=None):
            if y is not None:
                seen.extend(backend.to_numpy(X)[:, 0].tolist())
            return super().loss(X, y)

    class Stop:
        def on_iteration(self, run):
            if run.iteration == 2:
                run.stop("in mid-epoch")

    def data_of(values):
        X, y = backend.asarray(np.asarray(values, np.float64)[:, None]), backend.asarray(np.zeros(len(values), int))
        return {"X_train": X, "y_train": y, "X_val": X, "y_val": y}

    options = {"sampling": "shuffle", "batch_size": 6, "callbacks": [Stop()], "verbose": False, "seed": 0}
    solver = Solver(Recorder(1, 2, 2), data_of(range(24)), num_epochs=1, **options)
    solver.train()
    del seen[:]
    solver.set_data(data_of(range(100, 124)))
    solver.train(1)
    assert sorted(seen) == list(range(100, 124))


def test_a_changed_data_set_in_mid_epoch_is_resumed(backend, tmp_path):
    class Stop:
        def on_iteration(self, run):
            if run.iteration == 2:
                run.stop("here")

    larger = make_synthetic_data(90, 12, 5, SHAPE, 4)
    whole, cut = (solver_of(TwoLayerNet(12, 3, 4, rng=0), callbacks=[Stop()], sampling="shuffle") for _ in range(2))
    for solver in (whole, cut):
        solver.train()
        solver.set_data(larger)
    cut.save(tmp_path / "saved")
    resumed = Solver(
        TwoLayerNet(12, 3, 4), larger, batch_size=10, num_epochs=2, verbose=False, seed=1, sampling="shuffle"
    )
    resumed.resume(tmp_path / "saved")
    whole.train()
    assert resumed.loss_history == whole.loss_history
    assert whole.iteration == 2 + 2 * 9


def test_without_data_saving_and_resuming_say_so(tmp_path):
    solver = Solver(TwoLayerNet(12, 3, 4))
    for call in (solver.save, solver.resume):
        with pytest.raises(ValueError, match=r"data must be given to the Solver, or to fit; got none"):
            call(tmp_path / "x")


def test_a_solver_can_be_pickled_and_copied(backend):
    if backend.name == "gpu":
        pytest.skip("CuPy pickles on a device only")

    def make():
        options = {
            "update_rule": "adam",
            "callbacks": [CosineSchedule(), TimeLimit(1e9)],
            "groups": [("b*", {"learning_rate": 1e-2})],
        }
        return solver_of(FullyConnectedNet([5], 12, 4, normalization="batchnorm", rng=0), **options)

    whole = make()
    whole.train()
    for twin in (lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy):
        solver = make()
        solver.train(1)
        solver = twin(solver)
        solver.train()
        assert solver.loss_history == whole.loss_history


# Divergence -----------------------------------------------------------------------------------------


def test_a_divergence_takes_back_buffers_and_best_weights(backend):
    """The loss of step 7 is infinite: all is as it was before the update of step 6."""
    make = lambda **o: solver_of(  # noqa: E731
        FullyConnectedNet([5], 12, 4, normalization="batchnorm", rng=0, dtype=np.float64), eval_every=1, **o
    )
    moments = []

    class Keep:
        def on_iteration(self, run):
            moments.append({**last_of(run)})

    def last_of(run):
        found = {name: backend.to_numpy(w).copy() for name, w in (run.model.params | run.model.buffers).items()}
        return found | {f"best {n}": backend.to_numpy(w).copy() for n, w in run.best_params.items()}

    make(callbacks=[Keep()]).train(1)
    solver = make(num_epochs=9)
    model, real, calls = solver.model, solver.model.loss, []

    def loss(X, y=None):
        found = real(X, y)
        if y is None:
            return found
        calls.append(1)
        return (found[0] * np.inf, found[1]) if len(calls) == 4 else found

    model.loss = loss
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"iteration 4 .*The step before was undone"),
    ):
        solver.train()
    assert solver.iteration == len(solver.loss_history) == 2
    assert solver.eval_iterations == [1, 2]
    expected, found = moments[1], {**last_of(solver.run)}
    for name in expected:
        if not name.startswith("best"):
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for name, value in moments[2].items():
        if name.startswith("best"):  # the check of step 2, which on_iteration of step 3 saw
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_step_that_leaves_the_finite_numbers_at_the_end_is_found_there(backend):
    model = Model()
    solver = solver_of(model, num_epochs=1)
    steps = []

    def answer(loss, grads):
        steps.append({name: backend.to_numpy(w).copy() for name, w in model.params.items()})
        return loss, {**grads, "fc": grads["fc"] * (np.inf if len(steps) == 4 else 1)}

    model.answer = answer
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"model.params\['fc'\] must stay finite"):
        solver.train()
    assert solver.iteration == 3
    assert np.isfinite(solver.best_val_acc)
    for name, w in model.params.items():
        np.testing.assert_array_equal(backend.to_numpy(w), steps[3][name])
    model.answer = lambda loss, grads: (loss, grads)
    solver.train()
    assert solver.iteration == 4


def test_a_first_loss_that_is_not_finite_tells_the_truth(backend):
    model = Model()
    model.answer = lambda loss, grads: (loss * np.inf, grads)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="are those that this training began with"):
        solver_of(model).train()


def test_data_can_not_be_changed_under_a_training(backend):
    class Swap:
        def on_epoch(self, run):
            solver.set_data(DATA)

    solver = solver_of(TwoLayerNet(12, 3, 4, rng=0), callbacks=[Swap()])
    with pytest.raises(RuntimeError, match=r"^Solver.set_data: must be called between trainings"):
        solver.train()
    solver.set_data(DATA)
    with pytest.raises(AttributeError, match="X_train is there when there are batches"):
        Solver(TwoLayerNet(12, 3, 4, rng=0)).X_train  # noqa: B018


def test_options_set_later_are_checked_and_some_are_fixed():
    solver = solver_of(TwoLayerNet(12, 3, 4, rng=0))
    for name, value in {"batch_size": 3, "sampling": "shuffle", "update_rule": "adam", "augment": None}.items():
        with pytest.raises(AttributeError, match=f"^Solver: {name} can be given to a new Solver only; got"):
            setattr(solver, name, value)
    for name, value in {"num_epochs": -1, "lr_decay": -0.5, "print_every": 0, "eval_every": 0}.items():
        with pytest.raises(ValueError, match=f"^Solver: {name} must be"):
            setattr(solver, name, value)
    solver.num_epochs = 1
    solver.train()
    assert solver.epoch == 1
