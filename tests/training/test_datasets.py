"""Data sets: the embedded one by its facts, the file formats by files made here, damage by damaging."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from fadiag.errors import InputError
from fadiag.training.datasets import (
    Images,
    parse_idx,
    read_cifar10,
    read_cifar100,
    read_digits,
    read_fashion_mnist,
    read_images,
)
from fadiag.training.datasets.augment import noisy_labels, shift_and_mirror

FASHION = Path("/usr/share/datasets/fashion-mnist")


def test_digits_are_the_published_ones() -> None:
    digits = read_digits()
    assert digits.train_images.shape == (1300, 1, 8, 8)
    assert digits.test_images.shape == (497, 1, 8, 8)
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    # The counts of UCI's optdigits.names for its test set.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    images = np.concatenate([digits.train_images, digits.test_images])
    assert (images.min(), images.max()) == (0, 16)
    first = [0, 0, 5, 13, 9, 1, 0, 0]
    assert images[0, 0, 0].tolist() == first
    assert labels[0] == 0


def test_tensors_are_standardized_by_the_training_images() -> None:
    x, y, test_x, _ = read_digits().tensors(torch.device("cpu"))
    black = read_digits().black
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.mean().item() == pytest.approx(0, abs=1e-6)
    assert x.var(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert test_x.mean().item() != pytest.approx(0, abs=1e-4)
    assert black.shape == (1, 1, 1, 1)
    assert black.item() == x.min().item()


def test_head_and_validation() -> None:
    digits = read_digits().head(100, 50)
    assert (len(digits.train_labels), len(digits.test_labels)) == (100, 50)
    held = digits.with_validation()
    assert np.array_equal(held.train_labels, digits.train_labels[:80])
    assert np.array_equal(held.test_images, digits.train_images[80:])
    with pytest.raises(InputError, match=r"digits has 1,300 train images, not the 1,301 asked for"):
        read_digits().head(1301, None)


def test_fingerprint_tells_data_apart() -> None:
    assert read_digits().fingerprint == read_digits().fingerprint
    assert read_digits().fingerprint != read_digits().head(1299, None).fingerprint


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_fashion(folder: Path, packed: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (6, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": rng.integers(0, 10, 6, np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (4, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": rng.integers(0, 10, 4, np.uint8),
    }
    for name, array in arrays.items():
        content = idx(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist_is_read_plain_and_packed(tmp_path: Path, packed: bool) -> None:
    arrays = write_fashion(tmp_path, packed)
    images = read_images("fashion-mnist", tmp_path)
    assert np.array_equal(images.train_images[:, 0], arrays["train-images-idx3-ubyte"])
    assert np.array_equal(images.test_labels, arrays["t10k-labels-idx1-ubyte"])


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_real_fashion_mnist() -> None:
    images = read_fashion_mnist(FASHION)
    assert images.train_images.shape == (60_000, 1, 28, 28)
    assert np.bincount(images.train_labels).tolist() == [6000] * 10
    assert np.bincount(images.test_labels).tolist() == [1000] * 10


def test_damaged_idx_files(tmp_path: Path) -> None:
    write_fashion(tmp_path, packed=True)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-12])
    with pytest.raises(InputError, match=r"train-labels-idx1-ubyte\.gz cannot be read: .*end-of-stream"):
        read_fashion_mnist(tmp_path)
    labels.write_bytes(b"not gzip")
    with pytest.raises(InputError, match=r"cannot be read: Not a gzipped file"):
        read_fashion_mnist(tmp_path)
    labels.unlink()
    with pytest.raises(
        InputError, match=r"holds neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte\.gz"
    ):
        read_fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a is not an idx file of unsigned bytes with 1 dimension.* begins with nothing"),
        (b"\x00\x00\x0d\x01", "begins with 00 00 0d 01, not 00 00 08 01"),
        (bytes([0, 0, 8, 3]), "begins with 00 00 08 03"),
        (bytes([0, 0, 8, 1, 0, 0]), "a is damaged: it ends within its header, after 6 bytes"),
        (
            bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]),
            r"a is damaged: its header announces 3 values \(\(3,\)\), it holds 2; fetch it again",
        ),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "announces 1 values .* holds 2"),
    ],
)
def test_what_is_no_idx_file_is_told(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_idx(content, 1, "a")


def write_cifar(folder: Path, names: tuple[str, ...], rows: int, label_bytes: int) -> np.ndarray:
    """Write files of equal content, as links to one file."""
    table = np.zeros((rows, label_bytes + 3072), np.uint8)
    table[:2] = np.random.default_rng(0).integers(0, 256, table[:2].shape, np.uint8)
    table[:2, label_bytes - 1] = [3, 9]
    first = folder / names[0]
    first.write_bytes(table.tobytes())
    for name in names[1:]:
        (folder / name).hardlink_to(first)
    return table


CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def test_cifar10_is_read_from_the_folder_or_the_one_above(tmp_path: Path) -> None:
    inner = tmp_path / "cifar-10-batches-bin"
    inner.mkdir()
    table = write_cifar(inner, CIFAR10_FILES, 10_000, 1)
    for folder in (tmp_path, inner):
        images = read_cifar10(folder)
        assert images.train_images.shape == (50_000, 3, 32, 32)
        assert images.test_labels[:3].tolist() == [3, 9, 0]
        # Channel first: pixel (row 1, column 0) of the green plane.
        assert images.test_images[0, 1, 1, 0] == table[0, 1 + 1024 + 32]


def test_cifar100_has_the_fine_labels(tmp_path: Path) -> None:
    table = write_cifar(tmp_path, ("train.bin",), 50_000, 2)
    table[0, :2] = [19, 99]
    (tmp_path / "test.bin").write_bytes(table[:10_000].tobytes())
    images = read_cifar100(tmp_path)
    assert (images.classes, len(images.train_labels), len(images.test_labels)) == (100, 50_000, 10_000)
    assert images.test_labels[:2].tolist() == [99, 9]
    assert np.array_equal(images.test_images[1].ravel(), table[1, 2:])


def test_damaged_cifar_files(tmp_path: Path) -> None:
    table = write_cifar(tmp_path, CIFAR10_FILES, 10_000, 1)
    test = tmp_path / "test_batch.bin"
    test.unlink()
    with pytest.raises(InputError, match=r"holds neither test_batch\.bin nor test_batch\.bin\.gz"):
        read_cifar10(tmp_path)
    # Cut off in a row, and behind one.
    for size in (30_729_999, 30_730_000 - 3073):
        test.write_bytes(table.tobytes()[:size])
        with pytest.raises(
            InputError, match=rf"test_batch\.bin is damaged: it has {size:,} bytes, and 10,000 rows of 3,073"
        ):
            read_cifar10(tmp_path)
    table[1, 0] = 77
    test.write_bytes(table.tobytes())
    with pytest.raises(InputError, match=r"test_batch\.bin is not CIFAR-10: image 1 has label 77, above 9"):
        read_cifar10(tmp_path)


@pytest.mark.parametrize(
    ("name", "title"),
    [("fashion-mnist", "Fashion-MNIST"), ("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")],
)
def test_missing_folders_say_where_to_get_the_files(tmp_path: Path, name: str, title: str) -> None:
    with pytest.raises(
        InputError, match=rf"{title} needs the folder of its files \(data.folder, or --data-dir\)"
    ):
        read_images(name, None)
    with pytest.raises(InputError, match=rf"no folder .*nowhere with {title}; get its files from"):
        read_images(name, tmp_path / "nowhere")


def test_images_and_labels_must_belong_together() -> None:
    images, labels = np.zeros((3, 1, 2, 2), np.uint8), np.zeros(3, np.uint8)
    with pytest.raises(InputError, match="x: 3 test images but 2 labels"):
        Images("x", images, labels, images, labels[:2], classes=1)
    with pytest.raises(InputError, match="x: a train label is 0, of 0 classes"):
        Images("x", images, labels, images, labels, classes=0)
    with pytest.raises(InputError, match="x: a channel of the training images is constant"):
        Images("x", images, labels, images, labels, classes=1).tensors(torch.device("cpu"))


def test_shifted_images_are_windows_of_the_bordered_image_and_half_are_mirrored() -> None:
    image = torch.arange(2 * 5 * 6, dtype=torch.float32).reshape(1, 2, 5, 6)
    black = torch.tensor([-1.0, -2.0]).reshape(1, 2, 1, 1)
    bordered = torch.nn.functional.pad(image - black, (4, 4, 4, 4)) + black
    windows = {
        (flip, row, column): window.flip(-1) if flip else window
        for flip in (False, True)
        for row in range(9)
        for column in range(9)
        for window in [bordered[0, :, row : row + 5, column : column + 6]]
    }
    made = shift_and_mirror(image.expand(500, -1, -1, -1), torch.Generator().manual_seed(0), black)
    found = [next(key for key, window in windows.items() if torch.equal(window, one)) for one in made]
    flips, rows, columns = zip(*found, strict=True)
    assert 0.4 < sum(flips) / 500 < 0.6
    assert set(rows) == set(columns) == set(range(9))


def test_noisy_labels_are_others_and_evenly_spread() -> None:
    labels = torch.arange(6000) % 5
    noisy = noisy_labels(labels, 0.4, 5, torch.Generator().manual_seed(0))
    changed = noisy != labels
    assert int(changed.sum()) == 2400
    assert torch.bincount((noisy - labels)[changed] % 5, minlength=5)[1:].min() > 500
    assert noisy.max() == 4
