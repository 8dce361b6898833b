"""Augmented minibatches: the backend's operation, what is drawn, and the Solver's use of it."""

import numpy as np
import pytest
from conftest import assert_close

from gconv.classifiers import ThreeLayerConvNet
from gconv.data_utils import make_synthetic_data
from gconv.solver import Solver
from gconv.training.augmentation import Augment


def expected(images, draws, cutout, reach=20):
    """Padded images, cut out with slices: another way than the backends'."""
    h, w = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    out = np.empty_like(images)
    for i, (top, left, mirrored, cut_top, cut_left) in enumerate(draws):
        cut = padded[i, :, reach + top : reach + top + h, reach + left : reach + left + w]
        cut = cut[:, :, ::-1].copy() if mirrored else cut.copy()
        rows, columns = np.mgrid[:h, :w]
        inside = (rows >= cut_top) & (rows < cut_top + cutout) & (columns >= cut_left) & (columns < cut_left + cutout)
        cut[:, inside] = 0
        out[i] = cut
    return out


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("cutout", [0, 1, 4])
def test_images_are_shifted_mirrored_and_cut(backend, rng, kind, cutout):
    images = (rng.standard_normal((30, 3, 6, 7)) * 50 + 100).astype(kind)
    draws = np.stack([*rng.integers(-9, 10, (2, 30)), rng.integers(0, 2, 30), *rng.integers(-5, 9, (2, 30))], axis=1)
    x = backend.asarray(images)
    out = backend.augment(x, draws.astype(np.int32), cutout)
    assert out.dtype == images.dtype
    np.testing.assert_array_equal(backend.to_numpy(out), expected(images, draws, cutout))
    np.testing.assert_array_equal(backend.to_numpy(x), images)


def test_no_images(backend):
    assert backend.augment(backend.asarray(np.zeros((0, 3, 4, 4))), np.zeros((0, 5), np.int32), 2).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("seed", [None, 0])
def test_draws_are_what_is_asked_for(seed):
    np.random.seed(0)
    rng = None if seed is None else np.random.default_rng(seed)
    draws = Augment(flip=True, crop=3, cutout=4).draw(rng, 4000, 10, 20)
    assert draws.dtype == np.int32
    assert [set(draws[:, i].tolist()) for i in range(3)] == [{*range(-3, 4)}, {*range(-3, 4)}, {0, 1}]
    assert (set(draws[:, 3].tolist()), set(draws[:, 4].tolist())) == ({*range(-2, 8)}, {*range(-2, 18)})
    assert abs(draws[:, 2].mean() - 0.5) < 0.04
    assert not Augment(flip=False).draw(rng, 9, 10, 20).any()


def test_what_is_off_draws_nothing():
    states = []
    for augment in (Augment(flip=False), Augment(flip=True)):
        rng = np.random.default_rng(3)
        augment.draw(rng, 5, 8, 8)
        states.append(rng.bit_generator.state["state"]["state"])
    assert states[0] == np.random.default_rng(3).bit_generator.state["state"]["state"] != states[1]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Augment(flip=1), TypeError, "Augment: flip must be True or False; got 1"),
        (lambda: Augment(crop=-1), ValueError, "Augment: crop must be an integer of at least 0; got -1"),
        (lambda: Augment(cutout=1.5), ValueError, "Augment: cutout must be"),
    ],
)
def test_bad_settings(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.fixture
def data(backend):
    return {name: backend.asarray(a) for name, a in make_synthetic_data(num_train=60, num_val=20).items()}


def make_solver(data, **options):
    model = ThreeLayerConvNet((3, 8, 8), 3, 3, 6, 4, weight_scale=1e-2, rng=0)
    given = {"batch_size": 10, "num_epochs": 2, "num_train_samples": 20, "verbose": False, "seed": 5}
    return Solver(model, data, **{**given, **options})


def test_the_solver_trains_on_changed_images_and_checks_on_the_given_ones(backend, data):
    seen = []
    solver = make_solver(data, augment=Augment(crop=2, cutout=3))
    real = solver.model.loss

    def loss(X, y=None):
        seen.append((y is not None, backend.to_numpy(X)))
        return real(X, y)

    solver.model.loss = loss
    solver.graph = False
    solver.train()
    originals = {image.tobytes() for name in ("X_train", "X_val") for image in backend.to_numpy(data[name])}
    trained = [image.tobytes() in originals for training, X in seen if training for image in X]
    checked = [image.tobytes() in originals for training, X in seen if not training for image in X]
    assert np.mean(trained) < 0.1
    assert all(checked)


def test_an_augmented_training_resumes_to_the_bit(backend, data, tmp_path):
    augment = Augment(crop=1, cutout=2)
    name = str(tmp_path / "run")
    alone = make_solver(data, augment=augment, num_epochs=3)
    alone.train()
    make_solver(data, augment=augment, num_epochs=1, checkpoint_name=name).train()
    resumed = make_solver(data, augment=augment, num_epochs=3, checkpoint_name=name)
    resumed.resume()
    assert resumed.loss_history == alone.loss_history
    with pytest.raises(ValueError, match="must be of a run with augment=None"):
        make_solver(data, checkpoint_name=name).resume()


def test_no_augmentation_draws_what_it_always_did(backend, data):
    plain, other = make_solver(data), make_solver(data, augment=Augment(flip=False))
    for solver in (plain, other):
        solver.train()
    assert plain.loss_history == other.loss_history


def test_only_images_can_be_augmented(backend, data):
    flat = {name: a.reshape(len(a), -1) if name.startswith("X") else a for name, a in data.items()}
    with pytest.raises(
        ValueError, match=r"augment needs data\['X_train'\] of images \(N, C, H, W\); got shape \(60, 192\)"
    ):
        make_solver(flat, augment=Augment())
    with pytest.raises(TypeError, match=r"augment must be a gconv.training.augmentation.Augment; got dict"):
        make_solver(data, augment={"flip": True})


def test_numbers_do_not_change_on_the_way(backend, rng, dtype):
    x = rng.standard_normal((4, 2, 5, 5)).astype(dtype)
    assert_close(backend.augment(backend.asarray(x), np.zeros((4, 5), np.int32), 0), x)
