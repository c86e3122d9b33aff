"""Images as states: the encoding, and the folders that images are read from."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from PIL import Image
from pilot_miniapps.qml.encoding import decode, encode
from pilot_miniapps.qml.images import digits, from_folder, patches, photographs

from pilot import DescriptionError

RANDOM = np.random.default_rng(20)


def test_decoding_gives_the_image_back_and_the_norm_is_one() -> None:
    images = RANDOM.uniform(size=(5, 32, 32, 3))
    images[0], images[1] = 0, 1
    states = encode(images)
    assert np.abs(np.linalg.norm(states, axis=1) - 1).max() < 1e-14
    assert np.abs(decode(states) - images).max() < 1e-12
    assert np.abs(decode(0.3 * states[2]) - images[2]).max() < 1e-12


@pytest.mark.parametrize(("row", "column", "channel"), [(0, 0, 0), (31, 31, 2), (17, 6, 1), (2, 29, 0)])
def test_an_amplitude_is_that_of_its_pixel(row: int, column: int, channel: int) -> None:
    image = RANDOM.uniform(size=(32, 32, 3))
    position = int("".join(f"{r}{c}" for r, c in zip(f"{row:05b}", f"{column:05b}", strict=True)), 2)
    state = encode(image).reshape(8, 1024)
    angle = np.pi / 2 * image[row, column, channel]
    assert state[channel, position] * 64 == pytest.approx(np.cos(angle))
    assert state[4 + channel, position] * 64 == pytest.approx(np.sin(angle))
    assert state[3, position] * 64 == 1
    assert state[7, position] == 0


@pytest.mark.parametrize("wrong", [np.zeros((8, 8, 3)), np.full((32, 32, 3), 1.5), np.full((32, 32, 3), np.nan)])
def test_what_is_no_image_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images .*(shape|from 0 to 1)"):
        encode(wrong)


def test_images_of_scikit_learn() -> None:
    images, labels = photographs()
    assert images.shape == (520, 32, 32, 3)
    assert labels[:4].tolist() == [0, 1, 0, 1]
    assert np.array_equal(patches(600)[:520], images)
    assert np.array_equal(patches(600)[:550], patches(550))
    numbers, labels = digits()
    assert numbers.shape == (1797, 32, 32, 3)
    assert set(labels.tolist()) == set(range(10))
    assert np.all(numbers[..., 0] == numbers[..., 2])


def _rows(count: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, 3072)).astype(np.uint8)


def test_cifar_in_both_forms(tmp_path) -> None:
    rows = _rows(5)
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    python, binary = tmp_path / "python" / "cifar-10-batches-py", tmp_path / "binary"
    python.mkdir(parents=True)
    binary.mkdir()
    for number, part in ((1, rows[:3]), (2, rows[3:])):
        (python / f"data_batch_{number}").write_bytes(pickle.dumps({b"data": part, b"labels": [0] * len(part)}))
        records = np.hstack([np.zeros((len(part), 1), np.uint8), part])
        (binary / f"data_batch_{number}.bin").write_bytes(records.tobytes())
    assert np.array_equal(from_folder(python.parent, 4), images[:4])
    assert np.array_equal(from_folder(python, 5), images)
    assert np.array_equal(from_folder(binary, 5), images)
    with pytest.raises(DescriptionError, match=r"has 5 images, and images is 6"):
        from_folder(binary, 6)


def test_image_files_are_cut_to_squares_and_scaled(tmp_path) -> None:
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = RANDOM.integers(0, 256, (32, 32, 3))
    Image.fromarray(wide).save(tmp_path / "b.png")
    Image.new("L", (7, 9), 40).save(tmp_path / "a.png")
    found = from_folder(tmp_path, 2)
    assert np.all(found[0] == 40)
    assert np.array_equal(found[1], wide[:, 16:48])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_1.bin", b"x" * 3074, r"data_batch_1.bin cannot be read: 3,074 bytes are no whole number"),
        ("data_batch_1.bin", b"", r"cannot be read: 0 bytes"),
        ("data_batch_1", b"no pickle", r"data_batch_1 cannot be read"),
        ("data_batch_1", pickle.dumps({b"labels": []}), r"data_batch_1 cannot be read"),
        ("data_batch_1", pickle.dumps({b"data": os.getcwd}), r"posix.getcwd, which CIFAR-10 does not"),
        ("a.png", b"no picture", r"a.png cannot be read"),
        ("notes.txt", b"", r"holds no images; expected the files data_batch_1"),
    ],
)
def test_folders_that_are_wrong_are_named(tmp_path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DescriptionError, match=message):
        from_folder(tmp_path, 1)


def test_no_folder(tmp_path) -> None:
    with pytest.raises(DescriptionError, match=r"nowhere does not exist; expected a folder"):
        from_folder(tmp_path / "nowhere", 1)
    (tmp_path / "a.png").touch()
    with pytest.raises(DescriptionError, match=r"is a file; give the folder"):
        from_folder(tmp_path / "a.png", 1)
