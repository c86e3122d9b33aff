"""Images of 32 x 32 pixels: patches of photographs and digits that scikit-learn brings along, and folders.

All have the shape ``(n, 32, 32, 3)``, ``uint8``, and are in the same order every time.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pilot import DescriptionError
from pilot_miniapps.qml.encoding import EDGE

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_SUBFOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
_RECORD = 1 + 3 * EDGE * EDGE
EXPECTED = "the files data_batch_1 to data_batch_5 and test_batch of CIFAR-10 (Python or binary), or image files"


def photographs() -> tuple[Images, Labels]:
    """The 520 patches of the photographs china.jpg (label 0) and flower.jpg (label 1), one of each in turns."""
    from sklearn.datasets import load_sample_images

    sets = []
    for photo in load_sample_images().images:
        rows, columns = photo.shape[0] // EDGE, photo.shape[1] // EDGE
        whole = photo[: rows * EDGE, : columns * EDGE].reshape(rows, EDGE, columns, EDGE, 3)
        patches = whole.swapaxes(1, 2).reshape(-1, EDGE, EDGE, 3)
        sets.append(patches[np.random.default_rng(0).permutation(len(patches))])
    return _in_turns(sets)


def patches(count: int) -> Images:
    """So many patches of the photographs: those of `photographs`, then others at random places, which overlap."""
    from sklearn.datasets import load_sample_images

    first, _ = photographs()
    if count <= len(first):
        return first[:count]
    photos, drawn = load_sample_images().images, np.random.default_rng(1)
    more = np.empty((count - len(first), EDGE, EDGE, 3), np.uint8)
    for number in range(len(more)):
        photo = photos[number % len(photos)]
        row, column = drawn.integers(0, [side - EDGE + 1 for side in photo.shape[:2]])
        more[number] = photo[row : row + EDGE, column : column + EDGE]
    return np.concatenate([first, more])


def digits() -> tuple[Images, Labels]:
    """The 1,797 handwritten digits of 8 x 8 pixels, made larger; grey, so that all three channels are equal."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    larger = [
        np.asarray(Image.fromarray(np.uint8(digit * 255 / 16)).resize((EDGE, EDGE), Image.Resampling.BILINEAR))
        for digit in found.images
    ]
    return np.repeat(np.stack(larger)[..., None], 3, -1), found.target.astype(np.int64)


def from_folder(folder: str | Path, count: int) -> Images:
    """The first `count` images of a folder: of CIFAR-10 as it is unpacked, or image files in order of their paths,
    of which the square in the middle is scaled.

    Raises:
        DescriptionError: there is no such folder, it holds something else, fewer images, or a damaged file.
    """
    blocks, found = [], 0
    for block in _read(check_folder(folder)):
        blocks.append(block)
        found += len(block)
        if found >= count:
            return np.concatenate(blocks)[:count]
    raise DescriptionError(
        f"data: {folder} has {found:,} images, and images is {count:,}: ask for fewer", field="images", given=count
    )


def check_folder(folder: str | Path) -> list[Path]:
    """The files of a folder that hold images, in their order.

    Raises:
        DescriptionError: there is no such folder, or it holds no images.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        problem = "is a file; give the folder that it is in" if path.exists() else "does not exist"
        raise DescriptionError(f"data: {folder!s} {problem}; expected a folder with {EXPECTED}", field="data")
    for place in (path, *(path / name for name in _SUBFOLDERS)):
        for suffix in ("", ".bin"):
            batches = [place / f"{name}{suffix}" for name in _BATCHES if (place / f"{name}{suffix}").is_file()]
            if batches:
                return batches
    files = sorted(one for one in path.rglob("*") if one.suffix.lower() in _SUFFIXES and one.is_file())
    if not files:
        raise DescriptionError(f"data: {folder!s} holds no images; expected {EXPECTED}", field="data")
    return files


def _read(files: list[Path]) -> Iterator[Images]:
    for file in files:
        try:
            if file.suffix == ".bin":
                yield _binary(file)
            elif file.suffix:
                yield _picture(file)[None]
            else:
                yield _pickled(file)
        except (OSError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise DescriptionError(f"data: {file} cannot be read: {error}", field="data", given=str(file)) from error


def _binary(file: Path) -> Images:
    """One label and three planes of colour for each image: https://www.cs.toronto.edu/~kriz/cifar.html."""
    content = np.frombuffer(file.read_bytes(), np.uint8)
    if not len(content) or len(content) % _RECORD:
        raise ValueError(f"{len(content):,} bytes are no whole number of records of {_RECORD:,} bytes")
    return _planes(content.reshape(-1, _RECORD)[:, 1:])


def _pickled(file: Path) -> Images:
    with file.open("rb") as stream:
        batch = _ArraysOnly(stream, encoding="bytes").load()
    return _planes(np.asarray(batch[b"data"], np.uint8))


def _planes(rows: Images) -> Images:
    return np.moveaxis(rows.reshape(-1, 3, EDGE, EDGE), 1, -1)


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays and plain values: a pickle could otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which CIFAR-10 does not")


def _picture(file: Path) -> Images:
    from PIL import Image, ImageOps

    with Image.open(file) as picture:
        fitted = ImageOps.fit(picture.convert("RGB"), (EDGE, EDGE), Image.Resampling.BILINEAR)
        return np.asarray(fitted, np.uint8)


def _in_turns(sets: list[Images]) -> tuple[Images, Labels]:
    """One image of each set in turns, as long as all have one."""
    each = min(map(len, sets))
    images = np.stack([one[:each] for one in sets], 1).reshape(-1, EDGE, EDGE, 3)
    return images, np.tile(np.arange(len(sets)), each)
