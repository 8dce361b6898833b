"""CS231n of 2015, Georgia Tech's CS7643 and METU's CENG783: models are dictionaries, a trainer takes a function."""

import numpy as np
import pytest
from gconv.courses.cs231n_2015.gradient_check import eval_numerical_gradient, rel_error
from gconv.courses.cs231n_2015.vis_utils import visualize_grid

import gconv
from gconv.classifiers.neural_net import TwoLayerNet
from gconv.courses.cs231n_2015.classifier_trainer import ClassifierTrainer
from gconv.courses.cs231n_2015.classifiers.convnet import *  # noqa: F403
from gconv.courses.cs231n_2015.classifiers.neural_net import init_two_layer_model, two_layer_net


def toy():
    """Return the notebook's network of 4, 10 and 3, its five samples and their labels: numbers in even steps."""
    spans = {"W1": (-0.2, 0.6, (4, 10)), "b1": (-0.3, 0.7, 10), "W2": (-0.4, 0.1, (10, 3)), "b2": (-0.5, 0.9, 3)}
    model = {name: np.linspace(low, high, np.prod(shape)).reshape(shape) for name, (low, high, shape) in spans.items()}
    X = np.linspace(-0.2, 0.5, 20).reshape(5, 4)
    return model, X, np.array([0, 1, 2, 2, 1])


def test_the_two_layer_net():
    model, X, y = toy()
    scores = two_layer_net(X, model)
    np.testing.assert_allclose(scores[0], [-0.5328368, 0.20031504, 0.93346689], atol=1e-8)
    np.testing.assert_allclose(scores[-1], [-0.89110401, -0.08754544, 0.71601312], atol=1e-8)
    loss, grads = two_layer_net(X, model, y, 0.1)
    assert float(loss) == pytest.approx(1.38191946092, abs=1e-11)
    for name in model:
        numeric = eval_numerical_gradient(lambda _: two_layer_net(X, model, y, 0.1)[0], model[name], verbose=False)
        assert rel_error(numeric, grads[name]) < 1e-7


@pytest.mark.parametrize(
    ("update", "momentum", "printed"),
    [("sgd", 0.0, "0.940686"), ("momentum", 0.9, "0.494394"), ("rmsprop", 0.9, "0.439368")],
)
def test_the_final_loss_of_each_update(update, momentum, printed, capsys):
    model, X, y = toy()
    best, losses, train_accuracy, val_accuracy = ClassifierTrainer().train(
        *(X, y, X, y, model, two_layer_net),
        reg=0.001,
        learning_rate=1e-1,
        momentum=momentum,
        learning_rate_decay=1,
        update=update,
        sample_batches=False,
        num_epochs=100,
        verbose=False,
    )
    assert f"{losses[-1]:f}" == printed
    assert len(losses) == len(train_accuracy) == len(val_accuracy) == 100
    accuracy = float((two_layer_net(X, best).argmax(1) == y).mean())
    assert accuracy == max(val_accuracy)
    assert capsys.readouterr().out == f"finished optimization. best validation accuracy: {accuracy:f}\n"


def test_the_convolutional_network():
    np.random.seed(0)
    X, y = np.random.randn(20, 3, 32, 32), np.random.randint(10, size=20)
    model = init_two_layer_convnet(num_filters=8)  # noqa: F405
    assert {name: w.shape for name, w in model.items()} == {
        "W1": (8, 3, 5, 5),
        "b1": (8,),
        "W2": (8 * 16 * 16, 10),
        "b2": (10,),
    }
    plain, _ = two_layer_convnet(X, model, y, reg=0)  # noqa: F405
    assert float(plain) == pytest.approx(np.log(10), abs=1e-3)
    penalty = 0.5 * sum(float((model[name] ** 2).sum()) for name in ("W1", "W2"))
    assert float(two_layer_convnet(X, model, y, reg=1)[0] - plain) == pytest.approx(penalty)  # noqa: F405


def test_its_gradients():
    np.random.seed(0)
    X, y = np.random.randn(2, 3, 8, 8), np.random.randint(10, size=2)
    model = init_two_layer_convnet(num_filters=3, filter_size=3, input_shape=(3, 8, 8), weight_scale=1e-1)  # noqa: F405
    _, grads = two_layer_convnet(X, model, y)  # noqa: F405
    for name in model:
        numeric = eval_numerical_gradient(lambda _: two_layer_convnet(X, model, y)[0], model[name], verbose=False)  # noqa: F405
        assert rel_error(numeric, grads[name]) < 1e-5


def test_a_training_by_minibatches(capsys):
    np.random.seed(0)
    X, y = np.random.randn(30, 3, 8, 8), np.random.randint(10, size=30)
    model = init_two_layer_convnet(num_filters=4, filter_size=3, input_shape=(3, 8, 8), weight_scale=1e-2)  # noqa: F405
    trainer = ClassifierTrainer()
    options = {"reg": 0.001, "momentum": 0.9, "learning_rate": 0.05, "batch_size": 10, "acc_frequency": 2}
    best, losses, train_accuracy, val_accuracy = trainer.train(
        X,
        y,
        X[:10],
        y[:10],
        model,
        two_layer_convnet,  # noqa: F405
        num_epochs=20,
        verbose=True,
        **options,
    )
    assert len(losses) == 60
    assert losses[-1] < losses[0] / 2
    # Every second iteration, and every third: two thirds of them.
    assert len(train_accuracy) == len(val_accuracy) == 40
    assert visualize_grid(best["W1"].transpose(0, 2, 3, 1)).shape == (7, 7, 3)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Finished epoch 0 / 20: cost 2.30")
    assert first.endswith("lr 5.000000e-02")
    assert last == f"finished optimization. best validation accuracy: {max(val_accuracy):f}"


def test_the_model_of_the_notebook_s_size():
    np.random.seed(0)
    model = init_two_layer_model(3072, 5, 10)
    assert float(model["W1"].std()) == pytest.approx(1e-5, rel=0.05)
    assert not model["b1"].any()


def test_what_is_refused():
    model, X, y = toy()
    train = ClassifierTrainer().train
    with pytest.raises(
        ValueError, match=r"ClassifierTrainer.train: update must be one of 'sgd', 'momentum', 'rmsprop'"
    ):
        train(X, y, X, y, model, two_layer_net, update="adam")
    with pytest.raises(ValueError, match=r"ClassifierTrainer.train: len\(X\) must be a positive integer; got 0"):
        train(X[:0], y[:0], X, y, model, two_layer_net)
    with pytest.raises(ValueError, match=r"ClassifierTrainer.train: len\(X_val\) must be a positive integer; got 0"):
        train(X, y, X[:0], y[:0], model, two_layer_net)
    with pytest.raises(ValueError, match=r"ClassifierTrainer.train: y must have shape \(5,\) to match X"):
        train(X, y[:4], X, y, model, two_layer_net)
    with pytest.raises(ValueError, match=r"ClassifierTrainer.train: keywords must be .*; got lr$"):
        train(X, y, X, y, model, two_layer_net, lr=1)
    with pytest.raises(ValueError, match=r"got num_iters\. .*gconv.classifiers.neural_net"):
        train(X, y, X, y, model, two_layer_net, num_iters=1)
    with pytest.raises(ValueError, match=r"init_two_layer_convnet: filter_size must be odd; got 4"):
        init_two_layer_convnet(filter_size=4)  # noqa: F405
    with pytest.raises(ValueError, match=r"init_two_layer_convnet: input_shape must have an even height and width"):
        init_two_layer_convnet(input_shape=(3, 7, 8))  # noqa: F405


def test_the_loops_on_this_backend(backend):
    """Those of assignment 1 in both of its forms: the same losses wherever the arrays are."""
    X, y = np.linspace(-0.2, 0.5, 20).reshape(5, 4), np.array([0, 1, 2, 2, 1])
    losses = []
    for each in (gconv.get_backend(np.zeros(1)), backend):
        samples, labels = each.asarray(X), each.asarray(y)
        model = {name: each.asarray(w) for name, w in toy()[0].items()}
        net = TwoLayerNet(4, 10, 3)
        net.params = dict(model)
        arguments = (samples, labels, samples, labels)
        np.random.seed(0)
        for update in ("momentum", "rmsprop"):
            trainer = ClassifierTrainer()
            losses.append(trainer.train(*arguments, model, two_layer_net, batch_size=2, num_epochs=1, update=update)[1])
        losses.append(net.train(*arguments, num_iters=2, batch_size=2)["loss_history"])
        assert net.predict(samples).shape == (5,)
    for here, there in zip(losses[:3], losses[3:], strict=True):
        assert here == pytest.approx(there)
