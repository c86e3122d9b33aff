"""Colour images as states of 13 qubits, and back.

The encoding is the multi-channel representation of Sun et al., "A multi-channel representation for images on quantum
computers using the RGBα color space" (WISP 2011), which extends FRQI (Le, Dong, Hirota, Quantum Inf. Process. 10, 63,
2011) to colours, and which the Pilot-Quantum paper cites. With N pixels of 3 channels in [0, 1], and an angle
θ = π/2 · value for each,

    |ψ⟩ = 1/(2 √N) · Σ_j ( cos θ_R|000⟩ + cos θ_G|001⟩ + cos θ_B|010⟩ + |011⟩
                         + sin θ_R|100⟩ + sin θ_G|101⟩ + sin θ_B|110⟩ ) ⊗ |j⟩ ,

where the angle of the channel α is 0. Each channel has cos² + sin² = 1, so the norm is one for every image.

The three colour qubits come first. The position j has the bits of row and column in turns, the most significant ones
first (Z order), so that pixels that are close in the image are close in j: this keeps the entanglement low (Jobst et
al., arXiv:2311.07666).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Pixels of an edge.
EDGE = 32
COLOUR_QUBITS = 3
POSITION_QUBITS = 10
QUBITS = COLOUR_QUBITS + POSITION_QUBITS

Floats = npt.NDArray[np.float64]


def encode(images: npt.ArrayLike) -> Floats:
    """The states of images.

    Args:
        images: shape ``(..., 32, 32, 3)``, values from 0 to 1.

    Returns:
        Real amplitudes, shape ``(..., 8192)``; qubit 0 is the most significant bit of the index.

    Raises:
        ValueError: another shape, or a value out of range.
    """
    pixels = np.asarray(images, dtype=float)
    if pixels.shape[-3:] != (EDGE, EDGE, 3):
        raise ValueError(f"images of shape {pixels.shape}: expected (..., {EDGE}, {EDGE}, 3)")
    if not (np.all(pixels >= 0) and np.all(pixels <= 1)):
        raise ValueError("images must have values from 0 to 1")
    leading = pixels.shape[:-3]
    angles = np.pi / 2 * np.moveaxis(pixels.reshape(-1, EDGE * EDGE, 3)[:, _z_order()], -1, 1)
    states = np.zeros((len(angles), 2, 4, EDGE * EDGE))
    states[:, 0, :3], states[:, 1, :3] = np.cos(angles), np.sin(angles)
    states[:, 0, 3] = 1
    return states.reshape(*leading, 2**QUBITS) / (2 * EDGE)


def decode(states: npt.ArrayLike) -> Floats:
    """The images of states: value = 2/π · angle, from the amplitudes of its channel, whatever their common factor.

    Args:
        states: shape ``(..., 8192)``, as `encode` gives them, or close to that. Negative amplitudes count as 0.

    Returns:
        Shape ``(..., 32, 32, 3)``, values from 0 to 1.
    """
    amplitudes = np.clip(np.asarray(states, dtype=float), 0, None)
    leading = amplitudes.shape[:-1]
    channels = amplitudes.reshape(-1, 2, 4, EDGE * EDGE)[:, :, :3]
    values = np.moveaxis(2 / np.pi * np.arctan2(channels[:, 1], channels[:, 0]), 1, -1)
    pixels = np.empty_like(values)
    pixels[:, _z_order()] = values
    return pixels.reshape(*leading, EDGE, EDGE, 3)


def _z_order() -> npt.NDArray[np.intp]:
    """For each position in Z order, the index of its pixel in rows."""
    bits = POSITION_QUBITS // 2
    rows_and_columns = np.arange(EDGE * EDGE).reshape((2,) * POSITION_QUBITS)
    return rows_and_columns.transpose([axis for bit in range(bits) for axis in (bit, bit + bits)]).ravel()
