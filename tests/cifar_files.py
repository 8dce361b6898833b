"""Small batch files in the published format: Python-2 pickles of protocol 2, written byte by byte."""

import pickle
import struct
import tarfile

import numpy as np


def _string(raw):
    return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw


def _array(array, core):
    """The opcodes of a uint8 array as NumPy 1's pickles have them, with align=0."""
    rows, columns = array.shape
    return b"".join(
        (
            b"c" + core + b".multiarray\n_reconstruct\n",
            b"cnumpy\nndarray\n" + b"K\x00\x85" + _string(b"b") + b"\x87R",
            b"(K\x01" + b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86",
            b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R",
            b"(K\x03" + _string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89" + _string(array.tobytes()) + b"tb",
        )
    )


def batch_bytes(images, labels, core=b"numpy.core"):
    """The pickle of {"data": images as rows, "labels": labels}."""
    rows = images.reshape(len(images), -1)
    body = _string(b"data") + _array(rows, core)
    body += _string(b"labels") + b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + body + b"u."


def write_folder(folder, per_file=20, seed=0):
    """Write five training files and a test file; return the images and labels as (N, 3, 32, 32) and (N,)."""
    rng = np.random.default_rng(seed)
    target = folder / "cifar-10-batches-py"
    target.mkdir(parents=True)
    parts = []
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        images = rng.integers(256, size=(per_file, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(10, size=per_file).tolist()
        core = (b"numpy.core", b"numpy._core")[number % 2]
        (target / name).write_bytes(batch_bytes(images, labels, core))
        parts.append((images, labels))
    (target / "batches.meta").write_bytes(pickle.dumps({"label_names": ["x"]}, protocol=2))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def write_archive(folder, path):
    """Pack what write_folder wrote, with members that must not be followed."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder / "cifar-10-batches-py", arcname="cifar-10-batches-py")
        escape = tarfile.TarInfo("../outside")
        tar.addfile(escape)
        link = tarfile.TarInfo("cifar-10-batches-py/readme.html")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
