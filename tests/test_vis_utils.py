"""Grids of images and plots as files."""

import numpy as np
import pytest

from gconv.classifiers import TwoLayerNet
from gconv.data_utils import make_synthetic_data
from gconv.results.metrics import accuracy, confusion_matrix, precision, recall
from gconv.solver import Solver
from gconv.vis_utils import (
    plot_confusion,
    plot_filters,
    plot_history,
    plot_mistakes,
    vis_grid,
    vis_nn,
    visualize_grid,
)


def test_each_image_is_stretched_by_itself(rng):
    images = rng.random((3, 4, 5, 2)) * np.array([1, 10, 100])[:, None, None, None]
    grid = visualize_grid(images, ubound=255.0, padding=1)
    assert grid.shape == (2 * 4 + 1, 2 * 5 + 1, 2)
    for place, image in zip((np.s_[:4, :5], np.s_[:4, 6:], np.s_[5:, :5]), images, strict=True):
        np.testing.assert_allclose(grid[place], 255 * (image - image.min()) / np.ptp(image))
    assert not grid[4].any()
    assert not grid[5:, 6:].any()


def test_a_constant_image_is_black_not_nan():
    grid = visualize_grid(np.full((2, 3, 3, 1), 7.0))
    assert not grid.any()
    assert np.isfinite(vis_grid(np.full((2, 3, 3, 1), 7.0))).all()


def test_grids_of_the_nearest_neighbour_notebook(rng):
    images = rng.random((4, 3, 3, 3))
    grid = vis_grid(images)
    assert grid.shape == (8, 8, 3)
    assert grid.min() == 0
    assert grid.max() == 1
    rows = vis_nn([list(images[:2]), list(images[2:]), list(images[1:3])])
    assert rows.shape == (12, 8, 3)
    np.testing.assert_allclose(np.ptp(rows), 1)
    with pytest.raises(ValueError, match="rows must be sequences of one length"):
        vis_nn([[images[0]], []])


def picture(path):
    """Return the PNG as an array, which proves that it is one."""
    from matplotlib.image import imread

    return imread(path)


def test_plots_are_written(tmp_path, rng):
    solver = Solver(TwoLayerNet(192, 5, 4), make_synthetic_data(), num_epochs=3, verbose=False, seed=0)
    solver.train()
    written = [
        plot_history(solver, tmp_path / "new" / "history.png"),
        plot_filters(rng.standard_normal((32, 3, 7, 7)).astype(np.float32), tmp_path / "colour.png"),
        plot_filters(rng.standard_normal((5, 1, 3, 4)), tmp_path / "grey.png"),
        plot_filters(rng.standard_normal((4, 6, 3, 3)), tmp_path / "many.png"),
        plot_confusion(
            confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), 2), tmp_path / "c.png", ["cat", "dog"]
        ),
        plot_confusion(np.zeros((3, 3), int), tmp_path / "empty.png"),
    ]
    for path in written:
        pixels = picture(path)
        assert min(pixels.shape[:2]) > 200
        assert pixels[..., :3].std() > 0.02, f"{path.name} is blank"
    assert len(list(tmp_path.rglob("*"))) == 7


def test_bad_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"filter_grid: w must have 4 axes"):
        plot_filters(np.zeros((3, 3)), tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one filter"):
        plot_filters(np.zeros((0, 3, 2, 2)), tmp_path / "x.png")
    with pytest.raises(ValueError, match="confusion must be square, with a name a class"):
        plot_confusion(np.zeros((2, 2), int), tmp_path / "x.png", ["one"])
    with pytest.raises(ValueError, match="visualize_grid: Xs must have 4 axes"):
        visualize_grid(np.zeros((3, 3)))


def test_mistakes_are_sorted_by_confidence(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (30, 3, 8, 8)).astype(np.uint8), rng.integers(0, 4, 30)
    scores = rng.standard_normal((30, 4))
    titles = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, text, **_: titles.append(text))
    pixels = picture(plot_mistakes(X, y, scores, tmp_path / "wrong.png", "abcd", count=7))
    assert pixels[..., :3].std() > 0.02
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    wrong = sorted((-chances[i].max(), i) for i in range(30) if scores[i].argmax() != y[i])[:7]
    expected = [f"{'abcd'[y[i]]} taken for\n{'abcd'[scores[i].argmax()]} ({-p:.0%})" for p, i in wrong]
    assert titles == expected


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_mistakes_of_any_image(tmp_path, channels):
    X = np.random.default_rng(0).standard_normal((4, channels, 6, 5))
    wrong = plot_mistakes(X, np.ones(4, int), np.eye(2)[[0, 0, 1, 0]], tmp_path / "wrong.png")
    assert picture(wrong)[..., :3].std() > 0.02
    none = plot_mistakes(X, np.ones(4, int), np.eye(2)[[1, 1, 1, 1]], tmp_path / "none.png")
    assert none.stat().st_size > 1000
    with pytest.raises(ValueError, match=r"plot_mistakes: y must have shape \(4,\) to match X; got"):
        plot_mistakes(X, np.ones(3, int), np.eye(2)[[0, 0, 1, 0]], tmp_path / "x.png")


def test_metrics():
    confusion = confusion_matrix(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 3)
    assert confusion.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    np.testing.assert_allclose(recall(confusion), [0.5, 2 / 3, np.nan])
    np.testing.assert_allclose(precision(confusion), [0.5, 2 / 3, np.nan])
    np.testing.assert_allclose(recall(np.array([[3, 1], [0, 4]])), [3 / 4, 1])
    np.testing.assert_allclose(precision(np.array([[3, 1], [0, 4]])), [1, 4 / 5])
    assert accuracy(np.array([0, 1, 1]), np.array([0, 1, 0])) == pytest.approx(2 / 3)
    assert np.isnan(accuracy(np.array([], int), np.array([], int)))
    with pytest.raises(ValueError, match=r"accuracy: y_pred must have shape \(2,\) of y; got"):
        accuracy(np.array([0, 1]), np.array([0]))
    with pytest.raises(ValueError, match=r"labels in \[0, 2\)"):
        confusion_matrix(np.array([0, 2]), np.array([0, 1]), 2)
