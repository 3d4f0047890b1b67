"""Each loader on small files of the published format, and one clear line for every file that is not of it."""

import gzip
import struct

import numpy as np
import pytest
import torch
from scipy.io import savemat

from experiments import data


def pixels(rows, high, seed=0):
    return np.random.default_rng(seed).integers(0, high, (rows, 784))


def write_idx(path, images, magic=2051):
    header = struct.pack(">4I", magic, len(images), 28, 28)
    path.write_bytes(gzip.compress(header + images.astype(np.uint8).tobytes()))


@pytest.fixture
def mnist_folder(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", pixels(60, 256))
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pixels(12, 256, seed=1))
    return tmp_path


def write_amat(path, images):
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in images))


@pytest.fixture
def amat_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "AMAT_ROWS", {"train": 6, "valid": 3, "test": 2})
    for part, rows in data.AMAT_ROWS.items():
        write_amat(tmp_path / f"binarized_mnist_{part}.amat", pixels(rows, 2, seed=rows))
    return tmp_path


@pytest.fixture
def omniglot_folder(tmp_path):
    values = {"data": pixels(20, 256).T / 255, "testdata": pixels(6, 256, seed=1).T / 255}
    savemat(tmp_path / "chardata.mat", values)
    return tmp_path


@pytest.fixture
def caltech_folder(tmp_path):
    values = {f"{part}_data": pixels(rows, 2, seed=rows) for part, rows in (("train", 9), ("val", 4), ("test", 5))}
    savemat(tmp_path / "caltech101_silhouettes_28_split1.mat", values)
    return tmp_path


def test_digits_are_whole_and_always_the_same():
    images, again = data.load("digits"), data.load("digits")
    assert [len(images.train), len(images.validation), len(images.test)] == [1297, 250, 250]
    assert images.size == 64 and images.shape == (8, 8)
    assert torch.equal(images.train, again.train)
    assert set(images.train.unique().tolist()) == {0, 1}


def test_mnist_is_binarised_once_and_its_last_sixth_is_validation(mnist_folder):
    images, again = data.load("mnist", mnist_folder), data.load("static_mnist", mnist_folder)
    assert [len(part) for part in images[:3]] == [50, 10, 12]
    for ours, theirs in zip(images[:3], again[:3], strict=True):
        assert torch.equal(ours, theirs) and set(ours.unique().tolist()) == {0, 1}
    grey = torch.from_numpy(pixels(60, 256) / 255)
    both = torch.cat([images.train, images.validation]).double()
    assert (both[grey == 0] == 0).all() and (both[grey == 1] == 1).all()
    # The mean of 47,040 independent Bernoulli draws lies within 5 deviations of the mean probability.
    assert abs(both.mean() - grey.mean()) < 5 * 0.5 / 47040**0.5


def test_amat_files_are_read_as_they_are(amat_folder):
    images = data.load("static_mnist", amat_folder)
    for part, rows in zip(images[:3], (6, 3, 2), strict=True):
        assert np.array_equal(part.numpy(), pixels(rows, 2, seed=rows))


def test_omniglot_columns_become_rows_and_batches_differ(omniglot_folder):
    images = data.load("omniglot", omniglot_folder)
    assert images.dynamic and len(images.train) + len(images.validation) == 20 and len(images.test) == 6
    assert set(images.validation.unique().tolist()) <= {0, 1}
    upright = torch.from_numpy(pixels(20, 256).reshape(20, 28, 28).transpose(0, 2, 1).reshape(20, 784) / 255).float()
    assert torch.isin(images.train[:, 5], upright[:, 5]).all()
    first = images.train[0]
    assert (first == upright).all(-1).sum() == 1
    batches = [images.batch(torch.arange(5)) for _ in range(2)]
    assert batches[0].dtype == torch.float32 and not torch.equal(*batches)


def test_caltech_is_inverted_and_turned(caltech_folder):
    images = data.load("caltech101", caltech_folder)
    for part, rows in zip(images[:3], (9, 4, 5), strict=True):
        expected = 1 - pixels(rows, 2, seed=rows).reshape(rows, 28, 28).transpose(0, 2, 1).reshape(rows, 784)
        assert np.array_equal(part.numpy(), expected)
    batch = images.batch(torch.tensor([2, 0]))
    assert batch.dtype == torch.float32 and torch.equal(batch[1], images.train[0].float())


DAMAGE = [
    ("mnist", "train-images-idx3-ubyte.gz", "missing"),
    ("mnist", "t10k-images-idx3-ubyte.gz", "truncated"),
    ("mnist", "t10k-images-idx3-ubyte.gz", "wrong"),
    ("static_mnist", "binarized_mnist_valid.amat", "missing"),
    ("static_mnist", "binarized_mnist_train.amat", "truncated"),
    ("static_mnist", "binarized_mnist_test.amat", "wrong"),
    ("omniglot", "chardata.mat", "missing"),
    ("omniglot", "chardata.mat", "truncated"),
    ("omniglot", "chardata.mat", "wrong"),
    ("caltech101", "caltech101_silhouettes_28_split1.mat", "missing"),
    ("caltech101", "caltech101_silhouettes_28_split1.mat", "truncated"),
    ("caltech101", "caltech101_silhouettes_28_split1.mat", "wrong"),
]


@pytest.mark.parametrize(("dataset", "name", "damage"), DAMAGE)
def test_bad_files_give_one_line_that_names_them(dataset, name, damage, request):
    fixture = {"mnist": "mnist", "static_mnist": "amat", "omniglot": "omniglot", "caltech101": "caltech"}[dataset]
    folder = request.getfixturevalue(f"{fixture}_folder")
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"not what it should be" * 100)
    with pytest.raises(data.DataError) as caught:
        data.load(dataset, folder)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_of_another_kind_are_refused(tmp_path, caltech_folder):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", pixels(6, 256), magic=2049)
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pixels(6, 256))
    with pytest.raises(data.DataError, match="train-images.*not an IDX"):
        data.load("mnist", tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 2051, 7, 28, 28) + bytes(6 * 784)))
    with pytest.raises(data.DataError, match="7 images"):
        data.load("mnist", tmp_path)
    savemat(tmp_path / "chardata.mat", {"data": pixels(4, 2)})
    with pytest.raises(data.DataError, match="testdata"):
        data.load("omniglot", tmp_path)
    savemat(tmp_path / "chardata.mat", {"data": np.ones((5, 784)), "testdata": np.ones((5, 784))})
    with pytest.raises(data.DataError, match="shape"):
        data.load("omniglot", tmp_path)
    values = {f"{part}_data": pixels(3, 9) for part in ("train", "val", "test")}
    savemat(caltech_folder / "caltech101_silhouettes_28_split1.mat", values)
    with pytest.raises(data.DataError, match="other than 0 and 1"):
        data.load("caltech101", caltech_folder)


def test_unknown_names_and_a_missing_folder_are_said():
    with pytest.raises(data.DataError, match="digits, mnist"):
        data.load("cifar")
    with pytest.raises(data.DataError, match="--data-dir"):
        data.load("mnist")
