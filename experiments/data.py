"""Image data sets as whole tensors, ready to be indexed by batches.

Every loader reads what is published, checks it, and raises `DataError` with one line that names the file otherwise.
"""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BINARISATION_SEED = 20191007
"""Fixes the one binarisation of data that come as grey levels, and the split of data that come without one."""

AMAT_ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}


class DataError(Exception):
    """A data file is missing, truncated or not what it should be; the message is one line that names it."""


class Images(NamedTuple):
    """Rows of pixels, uint8 in {0, 1}; where `dynamic`, train is float32 in [0, 1] and each batch is binarised anew."""

    train: Tensor
    validation: Tensor
    test: Tensor
    shape: tuple[int, int]
    dynamic: bool = False

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def to(self, device) -> "Images":
        return self._replace(**{part: getattr(self, part).to(device) for part in ("train", "validation", "test")})

    def batch(self, index: Tensor) -> Tensor:
        """The training rows of `index`, as float32."""
        rows = self.train.index_select(0, index)
        return torch.bernoulli(rows) if self.dynamic else rows.float()


def load(name: str, data_dir=None) -> Images:
    """The data set `name`, one of DATASETS, from the folder data_dir (digits needs none)."""
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}")
    if name == "digits":
        return digits()
    if data_dir is None:
        raise DataError(f"the data set {name} is read from files: say where with --data-dir")
    return DATASETS[name](Path(data_dir))


def digits() -> Images:
    """scikit-learn's bundled 1797 digits of 8×8 pixels and 17 levels, binarised at half."""
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy(load_digits().data >= 8).to(torch.uint8)
    pixels = pixels[torch.randperm(len(pixels), generator=_generator())]
    return Images(pixels[:1297], pixels[1297:1547], pixels[1547:], (8, 8))


def mnist(folder: Path) -> Images:
    """MNIST's IDX files, binarised once with probabilities the grey levels; the last sixth of train is validation."""
    train, test = (_read_idx(folder / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k"))
    generator = _generator()
    train, test = (_binarise(torch.from_numpy(part) / 255, generator) for part in (train, test))
    split = len(train) - len(train) // 6
    return Images(train[:split], train[split:], test, (28, 28))


def static_mnist(folder: Path) -> Images:
    """Larochelle's fixed binarisation if its .amat files are there, else `mnist`."""
    if not any(folder.glob("binarized_mnist_*.amat")):
        return mnist(folder)
    parts = (_read_amat(folder / f"binarized_mnist_{part}.amat", rows) for part, rows in AMAT_ROWS.items())
    return Images(*map(torch.from_numpy, parts), (28, 28))


def omniglot(folder: Path) -> Images:
    """Omniglot as chardata.mat: grey levels, binarised anew in training and once for validation and test."""
    path = folder / "chardata.mat"
    contents = _read_mat(path, "data", "testdata")
    # One image per column, stored column by column.
    train, test = (_from_columns(contents[key].T.astype(np.float32), path, key) for key in ("data", "testdata"))
    if min(train.min(), test.min()) < 0 or max(train.max(), test.max()) > 1:
        raise DataError(f"{path}: grey levels outside [0, 1]")
    generator = _generator()
    # The file is sorted by alphabet, so the split is drawn.
    train = train[torch.randperm(len(train), generator=generator)]
    held_out = min(1345, len(train) // 2)
    validation = _binarise(train[-held_out:], generator)
    return Images(train[:-held_out].contiguous(), validation, _binarise(test, generator), (28, 28), dynamic=True)


def caltech101(folder: Path) -> Images:
    """Caltech 101 Silhouettes, 28×28: stored column by column with the shape as 0; here the shape is 1."""
    path = folder / "caltech101_silhouettes_28_split1.mat"
    keys = ("train_data", "val_data", "test_data")
    contents = _read_mat(path, *keys)
    parts = [_from_columns(1 - contents[key].astype(np.int16), path, key) for key in keys]
    if any(part.min() < 0 or part.max() > 1 for part in parts):
        raise DataError(f"{path}: pixels other than 0 and 1")
    return Images(*(part.to(torch.uint8) for part in parts), (28, 28))


DATASETS = {
    "digits": digits,
    "mnist": mnist,
    "static_mnist": static_mnist,
    "omniglot": omniglot,
    "caltech101": caltech101,
}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(BINARISATION_SEED)


def _binarise(probability: Tensor, generator: torch.Generator) -> Tensor:
    return torch.bernoulli(probability, generator=generator).to(torch.uint8)


def _read_bytes(path: Path, reader=Path.read_bytes) -> bytes:
    try:
        return reader(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _read_idx(path: Path) -> np.ndarray:
    """Images of an IDX .gz file: big-endian magic 2051, count, rows, columns, then one byte per pixel. (N, 784)"""
    raw = _read_bytes(path, lambda p: gzip.decompress(p.read_bytes()))
    header = np.frombuffer(raw[:16], ">u4")
    if len(header) < 4 or header[0] != 2051 or tuple(header[2:]) != (28, 28):
        raise DataError(f"{path}: not an IDX file of 28×28 images")
    if len(raw) - 16 != header[1] * 784:
        raise DataError(f"{path}: {len(raw) - 16} bytes of pixels where {header[1]} images need {header[1] * 784}")
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784).copy()


def _read_amat(path: Path, rows: int) -> np.ndarray:
    """A text file of 784 characters 0 or 1 a line, separated by blanks. (rows, 784)"""
    raw = np.frombuffer(_read_bytes(path), np.uint8)
    pixels = raw[raw > ord(" ")] - ord("0")
    if len(pixels) and pixels.max() > 1:
        raise DataError(f"{path}: holds something other than 0 and 1")
    if len(pixels) != rows * 784:
        raise DataError(f"{path}: {len(pixels)} pixels where {rows} images need {rows * 784}")
    return pixels.reshape(rows, 784)


def _read_mat(path: Path, *keys: str) -> dict:
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        contents = loadmat(path, variable_names=keys)
    except Exception as error:  # a damaged file raises anything from ValueError to zlib.error
        raise DataError(f"{path}: not a readable MATLAB file ({' '.join(str(error).split())})") from None
    missing = [key for key in keys if key not in contents]
    if missing:
        raise DataError(f"{path}: has no variable {', '.join(missing)}")
    return contents


def _from_columns(images: np.ndarray, path: Path, key: str) -> Tensor:
    """Images (N, 784) stored column by column, turned to rows."""
    if images.ndim != 2 or images.shape[1] != 784 or not len(images):
        raise DataError(f"{path}: {key} holds an array of shape {images.shape}, not images of 28×28")
    return torch.from_numpy(np.ascontiguousarray(images.reshape(-1, 28, 28).transpose(0, 2, 1))).flatten(1)
