"""Callbacks of the Solver: when they are called, what the ones that ship do, and that a resumed run is the same."""

import csv
import json
import math
import re
from itertools import pairwise

import numpy as np
import pytest
from run_state import last

from gconv.classifiers import TwoLayerNet
from gconv.data_utils import make_synthetic_data
from gconv.solver import Solver
from gconv.training.callbacks import (
    BestCheckpoint,
    Callback,
    ClipGradients,
    CosineSchedule,
    CSVLog,
    EarlyStopping,
    JSONLinesLog,
    LastCheckpoint,
    OneCycleSchedule,
    ReduceOnPlateau,
    StepSchedule,
    TensorBoard,
    TimeLimit,
    WarmUp,
)


@pytest.fixture
def data(backend):
    return {name: backend.asarray(a) for name, a in make_synthetic_data(num_train=60, num_val=20).items()}


def make_solver(data, **options):
    """6 iterations an epoch, 3 epochs; accuracy is checked after iteration 1 and at the epochs' ends."""
    options = {"batch_size": 10, "num_epochs": 3, "num_train_samples": 20, "verbose": False, "seed": 5, **options}
    return Solver(TwoLayerNet(192, 6, 4, weight_scale=1e-2, rng=0), data, **options)


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_start(self, solver):
        self.events.append("start")

    def on_resume(self, solver):
        self.events.append("resume")

    def on_iteration(self, solver):
        self.events.append(solver.iteration)

    def on_eval(self, solver):
        self.events.append("eval")

    def on_epoch(self, solver):
        self.events.append(f"epoch {solver.epoch}")

    def on_end(self, solver):
        self.events.append("end")


def test_events_come_in_order(data):
    recorder = Recorder()
    make_solver(data, num_epochs=2, callbacks=[recorder]).train()
    begin = ["start", 1, "eval", 2, 3, 4, 5, 6, "eval", "epoch 1"]
    assert recorder.events == [*begin, 7, 8, 9, 10, 11, 12, "eval", "epoch 2", "end"]


def test_callbacks_that_look_change_nothing(backend, data, tmp_path):
    plain = make_solver(data)
    watched = make_solver(data, callbacks=[Recorder(), CSVLog(tmp_path / "log.csv"), EarlyStopping(99), TimeLimit(9e9)])
    for solver in (plain, watched):
        solver.train()
    assert plain.loss_history == watched.loss_history
    for name, w in plain.model.params.items():
        np.testing.assert_array_equal(backend.to_numpy(w), backend.to_numpy(watched.model.params[name]))


def test_an_error_in_a_callback_ends_the_training_and_the_end_is_told(data):
    class Broken:
        def on_iteration(self, solver):
            if solver.iteration == 3:
                raise OSError("no more paper")

    recorder = Recorder()
    solver = make_solver(data, callbacks=[Broken(), recorder])
    with pytest.raises(OSError, match="no more paper"):
        solver.train()
    assert recorder.events[-1] == "end"
    assert isinstance(solver.failure, OSError)
    assert len(solver.loss_history) == 3


@pytest.mark.parametrize("wrong", [object(), "EarlyStopping", EarlyStopping, None])
def test_what_is_no_callback_is_refused(data, wrong):
    with pytest.raises(TypeError, match=r"Solver: callbacks must be objects with at least one of on_start, .*; got"):
        make_solver(data, callbacks=[wrong])


def test_two_that_set_the_learning_rate_are_refused(data):
    with pytest.raises(ValueError, match="only one can; got CosineSchedule, ReduceOnPlateau"):
        make_solver(data, callbacks=[CosineSchedule(), ReduceOnPlateau()])
    with pytest.raises(ValueError, match="lr_decay is not 1; got StepSchedule"):
        make_solver(data, callbacks=[StepSchedule(3)], lr_decay=0.5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: EarlyStopping(0), "EarlyStopping: patience must be a positive integer; got 0"),
        (lambda: EarlyStopping(min_delta=-1), "EarlyStopping: min_delta must be a number"),
        (lambda: TimeLimit(-1), "TimeLimit: seconds must be a number"),
        (lambda: StepSchedule(0), "StepSchedule: every must be a positive integer"),
        (lambda: StepSchedule(3, 2), r"StepSchedule: factor must be a number in \[0, 1\]; got 2"),
        (lambda: CosineSchedule(-1), "CosineSchedule: final must be"),
        (lambda: OneCycleSchedule(rise=2), "OneCycleSchedule: rise must be"),
        (lambda: WarmUp(0), "WarmUp: iterations must be a positive integer"),
        (lambda: ReduceOnPlateau(patience=0), "ReduceOnPlateau: patience must be"),
        (lambda: ClipGradients(0), "ClipGradients: max_norm must be above 0"),
        (lambda: ClipGradients(math.inf), "ClipGradients: max_norm must be a number"),
        (lambda: LastCheckpoint("x", every=0), "LastCheckpoint: every must be a positive integer"),
    ],
)
def test_bad_settings_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_schedule_in_a_warm_up_must_be_one():
    with pytest.raises(TypeError, match="WarmUp: then must have a method learning_rate_factor; got EarlyStopping"):
        WarmUp(3, EarlyStopping())


# Stopping -------------------------------------------------------------------------------------------


class Accuracies:
    """Replaces the validation accuracies by given ones."""

    def __init__(self, *values):
        self._values = values

    def on_eval(self, solver):
        solver.val_acc_history[-1] = self._values[len(solver.val_acc_history) - 1]


def test_early_stopping_waits_for_its_patience(data, capsys):
    accuracies = Accuracies(0.1, 0.5, 0.5, 0.4, 0.6, 0.6, 0.6, 0.9)
    solver = make_solver(data, num_epochs=9, callbacks=[accuracies, EarlyStopping(2)], verbose=True)
    solver.train()
    assert solver.epoch == 3  # checks: iteration 1, epochs 1, 2, 3; 0.5 again and 0.4 are two without a better one
    assert solver.stopped == "no better validation accuracy than 0.5000 in 2 checks"
    assert "Stopped after iteration 18: no better validation accuracy" in capsys.readouterr().out
    solver.train(1)  # asked for outright, it goes on
    assert solver.epoch == 4


def test_early_stopping_asks_for_min_delta(data):
    accuracies = Accuracies(0.1, 0.5, 0.55, 0.59, 0.7)
    solver = make_solver(data, num_epochs=4, callbacks=[accuracies, EarlyStopping(2, min_delta=0.1)])
    solver.train()
    assert solver.epoch == 3


def test_a_time_limit_ends_in_mid_epoch_with_a_check(data):
    solver = make_solver(data, callbacks=[TimeLimit(0)], num_epochs=50)
    solver.train()
    assert solver.iteration == 1
    assert solver.stopped == "the time limit of 0 s"

    class Stop:
        def on_iteration(self, solver):
            if solver.iteration == 9:
                solver.stop("enough")

    solver = make_solver(data, callbacks=[Stop()])
    solver.train()
    assert solver.eval_iterations == [1, 6, 9]
    assert len(solver.val_acc_history) == 3
    solver.train()
    assert solver.stopped is None
    assert solver.iteration == 18


def test_the_time_of_resumed_runs_counts(data, tmp_path):
    name = str(tmp_path / "run")
    first = make_solver(data, checkpoint_name=name, num_epochs=1)
    first.train()
    assert first.seconds > 0
    limited = make_solver(data, checkpoint_name=name, callbacks=[TimeLimit(1e-9)])
    limited.resume()
    assert limited.epoch == 1
    assert limited.stopped is not None


def test_a_stopped_training_is_not_resumed_unless_the_reason_is_gone(data, tmp_path):
    name = str(tmp_path / "run")
    accuracies = Accuracies(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    make_solver(data, checkpoint_name=name, callbacks=[accuracies, EarlyStopping(2)]).train()
    for patience, epochs in ((2, 2), (3, 3)):
        resumed = make_solver(data, checkpoint_name=name, callbacks=[accuracies, EarlyStopping(patience)])
        resumed.resume()
        assert resumed.epoch == epochs


# Learning rates -------------------------------------------------------------------------------------


def rates(schedule, total):
    return [schedule.learning_rate_factor(i, total) for i in range(total)]


def test_schedules_are_their_formulas():
    assert rates(StepSchedule(2, 0.5), 5) == [1, 1, 0.5, 0.5, 0.25]
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * i / 7)) / 2 for i in range(7)]
    np.testing.assert_allclose(rates(CosineSchedule(0.1), 7), cosine)
    one_cycle = rates(OneCycleSchedule(rise=0.25, initial=0.1, final=0.0), 8)
    assert one_cycle[0] == pytest.approx(0.1)
    assert one_cycle[2] == 1
    assert all(a > b for a, b in pairwise(one_cycle[2:]))
    assert OneCycleSchedule(final=0.01).learning_rate_factor(8, 8) == pytest.approx(0.01)
    np.testing.assert_allclose(rates(WarmUp(4), 6), [0.25, 0.5, 0.75, 1, 1, 1])
    np.testing.assert_allclose(rates(WarmUp(2, StepSchedule(2)), 6), [0.5, 1, 1, 1, 0.1, 0.1])
    for schedule in (CosineSchedule(), OneCycleSchedule(), WarmUp(3, CosineSchedule())):
        assert schedule.learning_rate_factor(99, 10) == pytest.approx(schedule.learning_rate_factor(10, 10))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_schedules_are_pytorch_s():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    schedulers = torch.optim.lr_scheduler
    total = 40
    pairs = [
        (StepSchedule(7, 0.3), lambda o: schedulers.StepLR(o, 7, 0.3)),
        (CosineSchedule(), lambda o: schedulers.CosineAnnealingLR(o, total)),
        (CosineSchedule(0.25), lambda o: schedulers.CosineAnnealingLR(o, total, eta_min=0.25)),
        (WarmUp(5), lambda o: schedulers.LinearLR(o, 0.2, total_iters=4)),
    ]
    for ours, make in pairs:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler, theirs = make(optimizer), []
        for _ in range(total):
            theirs.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
        np.testing.assert_allclose(rates(ours, total), theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_a_schedule_sets_the_rate_of_each_step(backend, data, rule):
    seen = []

    class Watch:
        def on_iteration(self, solver):
            seen.append(solver.optim_configs["W1"]["learning_rate"])

    solver = make_solver(data, update_rule=rule, callbacks=[CosineSchedule(), Watch()])
    solver.train()
    base = {"sgd": 1e-2, "adam": 1e-3}[rule]  # the rule's own default
    np.testing.assert_allclose(seen, [base * f for f in rates(CosineSchedule(), 18)])
    assert solver.learning_rate_history == [seen[0], seen[5], seen[11], seen[17]]


def test_a_rate_of_0_keeps_the_weights(backend, data):
    solver = make_solver(data, callbacks=[StepSchedule(1, 0.0)], update_rule="sgd", num_epochs=1)
    first = {}

    class Keep:
        def on_iteration(self, solver):
            if solver.iteration == 1:
                first.update({name: backend.to_numpy(w).copy() for name, w in solver.model.params.items()})

    solver = make_solver(data, callbacks=[StepSchedule(1, 0.0), Keep()], update_rule="sgd", num_epochs=1)
    solver.train()
    for name, w in last(solver).items():
        np.testing.assert_array_equal(backend.to_numpy(w), first[name])


def test_a_plateau_reduces_the_rate(data):
    accuracies = Accuracies(0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.6)
    options = {"optim_config": {"learning_rate": 1.0}, "num_epochs": 6}
    solver = make_solver(data, callbacks=[accuracies, ReduceOnPlateau(0.5, patience=2)], **options)
    solver.train()
    # checks at iteration 1 and six epochs' ends; reduced after the 4th and the 6th
    assert solver.learning_rate_history == [1, 1, 1, 1, 0.5, 0.5, 0.25]


def test_a_callback_may_set_the_rate_itself(data):
    class Halve:
        def on_iteration(self, solver):
            for config in solver.optim_configs.values():
                config["learning_rate"] = 1.0 / (1 + solver.iteration)

    solver = make_solver(data, callbacks=[Halve()], optim_config={"learning_rate": 1.0})
    solver.train()
    assert solver.learning_rate_history == [1, 1 / 6, 1 / 12, 1 / 18]
    assert solver.optim_configs["W1"]["learning_rate"] == 1 / 19


# Gradients ------------------------------------------------------------------------------------------


def test_clipping_is_by_the_global_norm(backend, rng, dtype):
    grads = {"a": rng.standard_normal((3, 4)).astype(dtype), "b": rng.standard_normal(5).astype(dtype)}
    norm = math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in grads.values()))
    ours = {name: backend.asarray(g) for name, g in grads.items()}
    clipped = ClipGradients(norm / 4).on_gradients(None, ours)
    for name, g in grads.items():
        assert clipped[name].dtype == dtype
        np.testing.assert_allclose(backend.to_numpy(clipped[name]), g / 4, rtol=1e-6)
        np.testing.assert_array_equal(backend.to_numpy(ours[name]), g)
    kept = ClipGradients(norm * 2).on_gradients(None, ours)
    for name, g in grads.items():
        np.testing.assert_array_equal(backend.to_numpy(kept[name]), g)


@pytest.mark.peers
def test_clipping_is_pytorch_s(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    grads = {str(i): rng.standard_normal((4, i + 1)) for i in range(3)}
    params = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads.values()]
    for p, g in zip(params, grads.values(), strict=True):
        p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_(params, 0.7)
    for p, g in zip(params, ClipGradients(0.7).on_gradients(None, grads).values(), strict=True):
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-5)


def test_gradients_are_clipped_before_the_step(backend, data):
    norms = []

    class Watch:
        def on_gradients(self, solver, grads):
            total = sum(float((backend.to_numpy(g).astype(float) ** 2).sum()) for g in grads.values())
            norms.append(math.sqrt(total))
            return grads

    make_solver(data, callbacks=[Watch(), ClipGradients(1e-3), Watch()]).train()
    assert max(norms[::2]) > 1e-2
    assert max(norms[1::2]) <= 1e-3 * (1 + 1e-5)


def test_gradients_of_other_parameters_are_refused(data):
    class Lost:
        def on_gradients(self, solver, grads):
            return {"W1": grads["W1"]}

    with pytest.raises(ValueError, match=r"on_gradients must return a gradient for each parameter; got \['W1'\]"):
        make_solver(data, callbacks=[Lost()]).train()


# Logs and checkpoints -------------------------------------------------------------------------------


def test_logs_hold_every_check_once_also_when_resumed(data, tmp_path):
    def callbacks(folder):
        return [CSVLog(folder / "log.csv"), JSONLinesLog(folder / "log.jsonl"), CosineSchedule()]

    alone = make_solver(data, callbacks=callbacks(tmp_path / "alone"))
    alone.train()
    cut = tmp_path / "cut"
    make_solver(data, callbacks=callbacks(cut), num_epochs=3, checkpoint_name=str(cut / "run")).train()
    # As if the third epoch's checkpoint had not been written yet.
    (cut / "run_epoch_3.safetensors").unlink()
    make_solver(data, callbacks=callbacks(cut), checkpoint_name=str(cut / "run")).resume()
    for name in ("log.csv", "log.jsonl"):
        assert (tmp_path / "alone" / name).read_text() == (cut / name).read_text()
    with (cut / "log.csv").open() as file:
        table = list(csv.DictReader(file))
    records = [json.loads(line) for line in (cut / "log.jsonl").read_text().splitlines()]
    assert [int(row["iteration"]) for row in table] == [r["iteration"] for r in records] == [1, 6, 12, 18]
    assert float(table[2]["loss"]) == records[2]["loss"] == pytest.approx(np.mean(alone.loss_history[6:12]))
    assert [r["val_acc"] for r in records] == alone.val_acc_history


def test_the_best_checkpoint_is_the_best(backend, data, tmp_path):
    accuracies = Accuracies(0.1, 0.7, 0.6, 0.7)
    solver = make_solver(data, callbacks=[accuracies, BestCheckpoint(tmp_path / "best.safetensors")])
    solver.train()
    resumed = make_solver(data)
    resumed.num_epochs = 1
    resumed.resume(tmp_path / "best.safetensors")
    assert resumed.iteration == 6


@pytest.mark.parametrize("sampling", ["replacement", "shuffle"])
def test_a_training_resumes_from_the_middle_of_an_epoch_to_the_bit(backend, data, tmp_path, sampling):
    class Stop:
        def on_iteration(self, solver):
            if solver.iteration == 9:
                solver.save(tmp_path / "middle.safetensors")

    options = {"sampling": sampling, "update_rule": "adam"}
    alone = make_solver(data, callbacks=[Stop()], **options)
    alone.train()
    resumed = make_solver(data, **options)
    resumed.resume(tmp_path / "middle.safetensors")
    assert resumed.loss_history == alone.loss_history
    assert resumed.val_acc_history == alone.val_acc_history
    for name, w in last(alone).items():
        np.testing.assert_array_equal(backend.to_numpy(w), backend.to_numpy(last(resumed)[name]))


def test_the_last_checkpoint_is_one_file_that_goes_on(data, tmp_path):
    path = tmp_path / "last.safetensors"
    make_solver(data, num_epochs=2, callbacks=[LastCheckpoint(path)]).train()
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]
    resumed = make_solver(data)
    resumed.resume(path)
    alone = make_solver(data)
    alone.train()
    assert resumed.loss_history == alone.loss_history


def test_a_failed_training_does_not_write_over_the_last_checkpoint(data, tmp_path):
    class Fail:
        def on_iteration(self, solver):
            if solver.iteration == 8:
                raise KeyboardInterrupt

    path = tmp_path / "last.safetensors"
    with pytest.raises(KeyboardInterrupt):
        make_solver(data, callbacks=[LastCheckpoint(path), Fail()]).train()
    resumed = make_solver(data)
    resumed.num_epochs = 1
    resumed.resume(path)
    assert resumed.iteration == 6


def test_a_checkpoint_of_another_schedule_is_refused(data, tmp_path):
    path = tmp_path / "last.safetensors"
    make_solver(data, num_epochs=1, callbacks=[LastCheckpoint(path), CosineSchedule()]).train()
    for callbacks in ([], [CosineSchedule(0.5)], [CosineSchedule(), ClipGradients(1.0)]):
        with pytest.raises(
            ValueError, match=r"must be of a run with callbacks=.*got \['CosineSchedule\(final=0.0\)'\]"
        ):
            make_solver(data, callbacks=callbacks).resume(path)
    resumed = make_solver(data, callbacks=[CosineSchedule(), EarlyStopping(9)])
    resumed.resume(path)
    assert resumed.epoch == 3


def test_tensorboard_reads_what_was_written(data, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    from tensorboardX.proto import event_pb2

    solver = make_solver(data, callbacks=[TensorBoard(tmp_path)])
    solver.train()
    (path,) = tmp_path.iterdir()
    content, scalars, at = path.read_bytes(), {}, 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
        for value in event.summary.value:
            scalars.setdefault(value.tag, {})[event.step] = value.simple_value
        at += 16 + length
    np.testing.assert_allclose([scalars["loss"][i + 1] for i in range(18)], solver.loss_history, rtol=1e-6)
    np.testing.assert_allclose(
        [scalars["accuracy/validation"][i] for i in solver.eval_iterations], solver.val_acc_history, rtol=1e-6
    )
    assert set(scalars) == {"loss", "accuracy/training", "accuracy/validation", "learning_rate"}


def test_tensorboard_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'gconv[tensorboard]'")):
        TensorBoard(tmp_path)
