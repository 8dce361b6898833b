"""The report page: whole, self-contained, escaped, and drawn by a real browser."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from command_line import SMALL, gconv

from gconv.results.report import Report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(html.parser.HTMLParser):
    """Checks that tags are closed in turn, and collects them."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'gconv[demo]'")
    folder = tmp_path_factory.mktemp("run")
    done = gconv("train", "--epochs", 3, *SMALL, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_page_has_everything_and_needs_nothing(run):
    text = (run / "report.html").read_text()
    page = Page(text)
    images = [attributes for tag, attributes in page.seen if tag == "img"]
    assert len(images) == 4
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in images)
    tags = {tag for tag, _ in page.seen}
    assert not tags & {"script", "link", "iframe", "a", "object"}
    assert not re.search(r"url\(|@import|https?:", text)
    words = " ".join(page.words)
    for expected in ("Test accuracy", "learning_rate", "precision", "recall", "num_filters", "NumPy", "Processor"):
        assert expected in words


def test_what_is_written_is_escaped(tmp_path):
    evil = '<script>alert("&")</script>'
    report = Report(evil, {evil: evil}, (), [(evil, [evil], [[evil, np.nan, None, 0.123456]])], [(evil, {evil: evil})])
    page = Page(report.write(tmp_path / "report.html").read_text())
    assert "script" not in {tag for tag, _ in page.seen}
    assert page.words.count(evil) == 10
    assert {"-", "0.1235"} <= set(page.words)


def test_a_missing_picture_writes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        Report("x", pictures=[("Training", [tmp_path / "nowhere.png"])]).write(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1100, 500])
def test_a_browser_draws_the_page(run, tmp_path, width):
    from matplotlib.image import imread

    picture = tmp_path / "page.png"
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [
        CHROMIUM,
        *flags.split(),
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},3000",
    ]
    page = f"file://{run / 'report.html'}"
    subprocess.run([*command, f"--screenshot={picture}", page], check=True, timeout=90, capture_output=True)
    pixels = imread(picture)[..., :3]
    assert pixels.shape[1] == width
    # Text and pictures all the way down the top 2,000 rows, and no strip of them blank.
    for top in range(0, 2000, 400):
        assert pixels[top : top + 400].std() > 0.03, f"blank from row {top}"
    dumped = subprocess.run([*command, "--dump-dom", page], check=True, timeout=90, capture_output=True, text=True)
    assert dumped.stdout.count("<img") == 4
