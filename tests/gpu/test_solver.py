"""The Solver on a GPU: as on the CPU, with and without a graph to the bit, and what it keeps off the bus."""

import numpy as np
import pytest

import gconv
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from gconv.data_utils import make_synthetic_data
from gconv.solver import Solver
from gconv.training.augmentation import Augment
from gconv.training.callbacks import ClipGradients, CosineSchedule, OneCycleSchedule, ReduceOnPlateau, WarmUp
from gconv.training.evaluation import predict
from gconv.training.graph import GraphSteps

DATA = make_synthetic_data()
MODELS = {
    "convnet": lambda: ThreeLayerConvNet((3, 8, 8), 3, 3, 6, 4, rng=0, reg=1e-2, dtype=np.float64),
    "two layers": lambda: TwoLayerNet(192, 7, 4, rng=0),
    "batchnorm": lambda: FullyConnectedNet([10], 192, 4, normalization="batchnorm", rng=0, reg=0.1, dtype=np.float64),
    "layernorm": lambda: FullyConnectedNet([6, 5], 192, 4, normalization="layernorm", rng=0, dtype=np.float64),
}
RULES = ["sgd", "sgd_momentum", "nesterov_momentum", "rmsprop", "adam", "adamw"]


@pytest.fixture(scope="module", autouse=True)
def every_kernel_ran():
    """This file belongs to no .cu file."""


def trained(backend, make, graph="auto", data=DATA, **options):
    given = {"update_rule": "adam", "num_epochs": 2, "batch_size": 40, "num_train_samples": 20, "num_val_samples": 20}
    with gconv.use_backend(backend):
        model = make()
        solver = Solver(
            model,
            data,
            optim_config={"learning_rate": 1e-2},
            verbose=False,
            seed=0,
            graph=graph,
            **{**given, **options},
        )
        solver.train()
    return solver


def weights(solver):
    return {name: gconv.get_backend(w).to_numpy(w) for name, w in solver.model.params.items()}


def assert_same_bits(a, b):
    assert a.loss_history == b.loss_history
    assert a.val_acc_history == b.val_acc_history
    for name, w in weights(a).items():
        assert w.tobytes() == weights(b)[name].tobytes(), name


@pytest.mark.parametrize("model", MODELS)
def test_as_on_the_cpu_and_with_a_graph_to_the_bit(gpu, model):
    on_cpu = trained("cpu", MODELS[model])
    without, with_graph = (trained("gpu", MODELS[model], graph) for graph in (False, True))
    assert_same_bits(without, with_graph)
    np.testing.assert_allclose(without.loss_history, on_cpu.loss_history, rtol=1e-9)
    assert without.val_acc_history == on_cpu.val_acc_history
    for name, w in weights(on_cpu).items():
        np.testing.assert_allclose(weights(without)[name], w, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_replays_to_the_bit(gpu, rule):
    options = {"update_rule": rule, "lr_decay": 0.5, "num_epochs": 3, "eval_every": 2}
    without, with_graph = (trained("gpu", MODELS["two layers"], graph, **options) for graph in (False, True))
    assert_same_bits(without, with_graph)


@pytest.mark.parametrize("options", [{"sampling": "shuffle"}, {"batch_size": 300}, {"print_every": 1, "eval_every": 1}])
def test_samplings_replay_to_the_bit(gpu, options):
    without, with_graph = (trained("gpu", MODELS["two layers"], graph, **options) for graph in (False, True))
    assert_same_bits(without, with_graph)


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": [WarmUp(3, CosineSchedule())]},
        {"callbacks": [ClipGradients(0.05)], "update_rule": "sgd"},
        {"callbacks": [ReduceOnPlateau(0.5, 1)], "eval_every": 2},
        {"augment": Augment(crop=2, cutout=3)},
        {"augment": Augment(), "sampling": "shuffle", "callbacks": [OneCycleSchedule(), ClipGradients(0.1)]},
    ],
    ids=["schedule", "clipping", "plateau", "augmentation", "all"],
)
def test_callbacks_replay_to_the_bit_and_do_as_on_the_cpu(gpu, monkeypatch, options):
    replays, real = [], GraphSteps._replay
    monkeypatch.setattr(GraphSteps, "_replay", lambda self: (replays.append(1), real(self))[1])
    on_cpu = trained("cpu", MODELS["convnet"], **options)
    without, with_graph = (trained("gpu", MODELS["convnet"], graph, **options) for graph in (False, True))
    assert len(replays) == 10 - 2
    assert_same_bits(without, with_graph)
    assert without.learning_rate_history == with_graph.learning_rate_history == on_cpu.learning_rate_history
    np.testing.assert_allclose(without.loss_history, on_cpu.loss_history, rtol=1e-8)


def test_a_rate_set_by_a_callback_reaches_the_steps_of_a_graph(gpu):
    class Halve:
        def on_iteration(self, solver):
            for config in solver.optim_configs.values():
                config["learning_rate"] *= 0.5

    runs = [trained(name, MODELS["two layers"], callbacks=[Halve()]) for name in ("cpu", "gpu")]
    np.testing.assert_allclose(runs[1].loss_history, runs[0].loss_history, rtol=1e-9)


def test_a_save_in_mid_epoch_resumes_as_on_the_cpu(gpu, tmp_path):
    class Save:
        def on_iteration(self, solver):
            if solver.iteration == 4:
                solver.save(tmp_path / "middle.safetensors")

    for sampling in ("replacement", "shuffle"):
        alone = trained("gpu", MODELS["convnet"], callbacks=[Save()], augment=Augment(crop=1), sampling=sampling)
        for backend in ("gpu", "cpu"):
            with gconv.use_backend(backend):
                options = {"num_epochs": 2, "batch_size": 40, "num_train_samples": 20, "num_val_samples": 20}
                solver = Solver(
                    MODELS["convnet"](), DATA, update_rule="adam", optim_config={"learning_rate": 1e-2}, seed=0,
                    verbose=False, augment=Augment(crop=1), sampling=sampling, **options,
                )  # fmt: skip
                solver.resume(tmp_path / "middle.safetensors")
            np.testing.assert_allclose(solver.loss_history, alone.loss_history, rtol=1e-8)


def test_a_graph_is_used_where_it_can_be(gpu, monkeypatch):
    replays = []
    real = GraphSteps._replay
    monkeypatch.setattr(GraphSteps, "_replay", lambda self: (replays.append(1), real(self))[1])
    trained("gpu", MODELS["convnet"])
    assert len(replays) == 10 - 2
    del replays[:]
    trained("gpu", MODELS["convnet"], graph=False)
    dropout = trained("gpu", lambda: FullyConnectedNet([5], 192, 4, dropout_keep_ratio=0.5, rng=0))
    assert len(dropout.loss_history) == 10
    assert not replays


class HostWork:
    """A model whose step waits for the device."""

    def __init__(self):
        self.params = {"W": gconv.get_backend().asarray(np.zeros((192, 4)))}

    def loss(self, X, y=None):
        backend = gconv.get_backend(X)
        scores = backend.affine_forward(X.reshape(len(X), -1).astype(np.float64), self.params["W"], self.params["W"][0])
        if y is None:
            return scores
        loss, dx = backend.softmax_loss(scores, y)
        _, dw, _ = backend.affine_backward(dx, X.reshape(len(X), -1).astype(np.float64), self.params["W"])
        return float(loss), {"W": dw}


def test_models_of_others(gpu):
    assert len(trained("gpu", HostWork).loss_history) == 10
    with pytest.raises(RuntimeError, match=r"graph=True needs a step that can be captured; got: .*capture"):
        trained("gpu", HostWork, graph=True)
    with pytest.raises(RuntimeError, match="graph=True needs a step that can be captured; got: "):
        trained("gpu", lambda: FullyConnectedNet([5], 192, 4, dropout_keep_ratio=0.5, rng=0), graph=True)


def test_a_refused_capture_leaves_no_trace(gpu):
    def make():
        return FullyConnectedNet([5], 192, 4, dropout_keep_ratio=0.5, normalization="batchnorm", rng=0)

    np.random.seed(3)
    plain = trained("gpu", make, graph=False)
    make_capturable = type("Capturable", (FullyConnectedNet,), {"capturable": True})
    np.random.seed(3)
    tried = trained(
        "gpu", lambda: make_capturable([5], 192, 4, dropout_keep_ratio=0.5, normalization="batchnorm", rng=0)
    )
    assert_same_bits(plain, tried)


GROUPS = [("b*", {"learning_rate": 3e-2}), ("W1", {"frozen": True}), ("gamma*", {"learning_rate": 1e-3, "beta1": 0.8})]


@pytest.mark.parametrize(
    "callbacks", [[], [CosineSchedule()], [OneCycleSchedule(initial=0.0)]], ids=["", "cosine", "from 0"]
)
def test_groups_replay_to_the_bit_and_do_as_on_the_cpu(gpu, monkeypatch, callbacks):
    replays, real = [], GraphSteps._replay
    monkeypatch.setattr(GraphSteps, "_replay", lambda self: (replays.append(1), real(self))[1])
    options = {"groups": GROUPS, "callbacks": callbacks}
    on_cpu = trained("cpu", MODELS["batchnorm"], **options)
    without, with_graph = (trained("gpu", MODELS["batchnorm"], graph, **options) for graph in (False, True))
    assert len(replays) == 10 - 2
    assert_same_bits(without, with_graph)
    assert without.learning_rate_history == with_graph.learning_rate_history == on_cpu.learning_rate_history
    np.testing.assert_allclose(without.loss_history, on_cpu.loss_history, rtol=1e-8)


def test_rates_that_a_callback_sets_one_by_one_replay(gpu):
    class Apart:
        def on_iteration(self, run):
            if run.iteration >= 3:
                run.optim_configs["W1"]["learning_rate"] *= 0.5

    without, with_graph = (trained("gpu", MODELS["two layers"], graph, callbacks=[Apart()]) for graph in (False, True))
    assert_same_bits(without, with_graph)


def test_arrays_that_a_callback_puts_into_the_model_are_trained_on(gpu):
    class Replace:
        def on_iteration(self, run):
            if run.iteration == 7:
                self.given = run.model.params["W1"] * 0.5
                self.before = gpu.to_numpy(self.given).copy()
                run.model.params["W1"] = self.given

    runs = [
        (trained("gpu", MODELS["two layers"], graph, callbacks=[callback]), callback)
        for graph in (False, True)
        for callback in [Replace()]
    ]
    assert_same_bits(runs[0][0], runs[1][0])
    for _, callback in runs:
        np.testing.assert_array_equal(gpu.to_numpy(callback.given), callback.before)


@pytest.mark.parametrize(
    ("rule", "key", "change"),
    [
        ("sgd_momentum", "velocity", lambda v: v * 0),
        ("sgd_momentum", "momentum", lambda _: 0.1),
        ("adam", "t", lambda _: 0),
    ],
)
def test_states_and_numbers_that_a_callback_sets_are_those_of_the_next_step(gpu, rule, key, change):
    class Change:
        def on_iteration(self, run):
            if run.iteration in (6, 9):
                for config in run.optim_configs.values():
                    config[key] = change(config[key])

    runs = [
        trained("gpu", MODELS["two layers"], graph, update_rule=rule, callbacks=[Change()], num_epochs=3)
        for graph in (False, True)
    ]
    assert_same_bits(*runs)


def test_buffers_that_a_callback_sets_are_those_of_the_next_step(gpu):
    class Reset:
        def on_iteration(self, run):
            if run.iteration in (6, 9):
                run.model.buffers = {name: a * 0 for name, a in run.model.buffers.items()}

    runs = [trained("gpu", MODELS["batchnorm"], graph, callbacks=[Reset()], num_epochs=3) for graph in (False, True)]
    assert_same_bits(*runs)
    means = [gpu.to_numpy(run.run.last_state()[1]["running_mean1"]).tolist() for run in runs]
    assert means[0] == means[1]


class Tempered(TwoLayerNet):
    """Writes to a buffer in place, and reads one that may be there."""

    capturable = True

    def __init__(self):
        super().__init__(192, 7, 4, rng=0)
        self.buffers = {"mean": gconv.get_backend().asarray(np.zeros(192, np.float32))}

    def itself(self):
        return self

    def loss(self, X, y=None):
        answer = super().loss(X, y)
        if y is None:
            return answer
        self.buffers["mean"] += X.reshape(len(X), -1).mean(axis=0).astype("f4")
        factor = self.buffers.get("temperature", 1)
        return answer[0], {name: grad * factor for name, grad in answer[1].items()}


def test_buffers_that_a_callback_adds_or_a_divergence_takes_back(gpu):
    class Spoil:
        def on_iteration(self, run):
            if run.iteration == 6:
                run.model.buffers["temperature"] = gpu.asarray(np.array(0.25, np.float32))
            if run.iteration == 10:
                run.model.params["W1"] = run.model.params["W1"] * np.nan

    means = []
    for graph in (False, True):
        with gconv.use_backend("gpu"):
            model = Tempered()
        with pytest.raises(FloatingPointError):
            trained("gpu", model.itself, graph, callbacks=[Spoil()], num_epochs=3)
        means.append(gpu.to_numpy(model.buffers["mean"]).tolist())
        assert "temperature" in model.buffers
    assert means[0] == means[1]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("finite", [0, 1, 3, 6])
@pytest.mark.parametrize("model", ["two layers", "batchnorm"])
def test_a_loss_that_is_not_finite(gpu, graph, finite, model):
    """The step before is undone, as on the CPU, though more steps were queued after it."""
    draws = np.random.default_rng(1)
    batches = [set(draws.choice(200, 40).tolist()) for _ in range(finite + 1)]
    poison = min(batches[-1] - set().union(*batches[:-1]))
    data = {**DATA, "X_train": DATA["X_train"].copy()}
    data["X_train"][poison] = np.nan
    solvers = []
    for backend in ("cpu", "gpu"):
        with gconv.use_backend(backend):
            options = {"num_epochs": 8, "batch_size": 40, "optim_config": {"learning_rate": 1e-3}, "seed": 1}
            use = graph if backend == "gpu" else "auto"
            solver = Solver(MODELS[model](), data, update_rule="adam", graph=use, verbose=False, **options)
            with pytest.raises(FloatingPointError) as caught:
                solver.train()
            solvers.append((solver, str(caught.value)))
    (on_cpu, cpu_text), (on_gpu, gpu_text) = solvers
    assert gpu_text == cpu_text
    assert len(on_gpu.loss_history) == len(on_cpu.loss_history) == on_gpu.iteration == max(finite - 1, 0)
    assert [c.get("t", 0) for c in on_gpu.optim_configs.values()] == [
        c.get("t", 0) for c in on_cpu.optim_configs.values()
    ]
    for name, w in weights(on_cpu).items():
        np.testing.assert_allclose(weights(on_gpu)[name], w, rtol=1e-9, atol=1e-9)
    averages = [
        {n: gconv.get_backend(a).to_numpy(a) for n, a in getattr(s.model, "buffers", {}).items()}
        for s in (on_cpu, on_gpu)
    ]
    assert averages[0].keys() == averages[1].keys()
    for name, array in averages[0].items():
        np.testing.assert_allclose(averages[1][name], array, rtol=1e-9, err_msg=name)


def test_an_interrupted_training_goes_on_with_the_same_draws(gpu):
    whole = trained("gpu", MODELS["two layers"], num_epochs=4)
    with gconv.use_backend("gpu"):
        model = MODELS["two layers"]()
        options = {"update_rule": "adam", "batch_size": 40, "num_train_samples": 20, "num_val_samples": 20}
        solver = Solver(
            model,
            DATA,
            optim_config={"learning_rate": 1e-2},
            verbose=False,
            seed=0,
            num_epochs=4,
            graph=True,
            **options,
        )
        count, replay = [], GraphSteps._replay

        def interrupted(self):
            count.append(1)
            if len(count) == 7:
                raise KeyboardInterrupt
            return replay(self)

        GraphSteps._replay = interrupted
        try:
            with pytest.raises(KeyboardInterrupt):
                solver.train()
        finally:
            GraphSteps._replay = replay
        assert len(solver.loss_history) == solver.iteration == 8
        solver.train()
    assert solver.loss_history == whole.loss_history


@pytest.mark.parametrize("way", [("gpu", "cpu"), ("cpu", "gpu"), ("gpu", "gpu")], ids="-".join)
def test_a_checkpoint_goes_on_on_the_other_backend(gpu, tmp_path, way):
    options = {"checkpoint_name": str(tmp_path / "run"), "num_epochs": 2}
    trained(way[0], MODELS["batchnorm"], **options)
    whole = trained(way[1], MODELS["batchnorm"], num_epochs=4)
    with gconv.use_backend(way[1]):
        model = MODELS["batchnorm"]()
        solver = Solver(
            model, DATA, update_rule="adam", optim_config={"learning_rate": 1e-2}, verbose=False, seed=0, batch_size=40,
            num_train_samples=20, num_val_samples=20, **{**options, "num_epochs": 4},
        )  # fmt: skip
        solver.resume()
    np.testing.assert_allclose(solver.loss_history, whole.loss_history, rtol=1e-9)
    if way[0] == way[1]:
        assert solver.loss_history == whole.loss_history


def test_nothing_but_losses_comes_back(gpu, monkeypatch):
    """One copy of all losses an accuracy check, where none is printed in between."""
    copies = []
    real = type(gpu).to_numpy
    monkeypatch.setattr(type(gpu), "to_numpy", lambda self, x: (copies.append(x.size), real(self, x))[1])
    # checks after the 1st, 5th and 10th of 10 steps; the graph's tables begin after the 2nd
    trained("gpu", MODELS["two layers"], num_epochs=2, print_every=2)
    assert copies == [1, 1, 3, 5]
    del copies[:]
    trained("gpu", MODELS["two layers"], graph=False, num_epochs=2, print_every=2)
    assert copies == [1, 4, 5]


def test_the_data_set_keeps_its_dtype_there(gpu):
    bytes_ = {name: (a * 20).clip(0, 255).astype(np.uint8) if a.ndim == 4 else a for name, a in DATA.items()}
    on_cpu, on_gpu = (trained(backend, MODELS["convnet"], data=bytes_) for backend in ("cpu", "gpu"))
    assert on_gpu.batches.resident("X_train", gpu).dtype == np.uint8
    np.testing.assert_allclose(on_gpu.loss_history, on_cpu.loss_history, rtol=1e-9)


def test_a_solver_of_device_arrays(gpu):
    there = {name: gpu.asarray(a) for name, a in DATA.items()}
    ours, theirs = (trained("gpu", MODELS["two layers"], data=data) for data in (there, DATA))
    assert_same_bits(ours, theirs)
    assert (predict(ours.model, DATA["X_val"]) == predict(ours.model, there["X_val"])).all()
    assert ours.check_accuracy(DATA["X_val"], DATA["y_val"]) == ours.check_accuracy(there["X_val"], there["y_val"])


def test_a_graph_on_the_cpu_is_refused(gpu):
    with pytest.raises(ValueError, match="graph must be False or 'auto' where the parameters are no CuPy arrays"):
        trained("cpu", MODELS["two layers"], graph=True)
    with pytest.raises(ValueError, match="graph must be one of 'auto', True, False; got 'maybe'"):
        trained("gpu", MODELS["two layers"], graph="maybe")
