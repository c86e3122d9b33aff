"""What tasks of `qml-classifier` do: time steps of the training loop, or train and test a classifier."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from pilot import DescriptionError
from pilot_miniapps.qml.classifier import gradient, initial_weights, logits
from pilot_miniapps.qml.encoding import QUBITS, encode

#: A step is repeated until so many seconds have passed, or so many steps.
ENOUGH_SECONDS, ENOUGH_STEPS = 1.0, 10
#: Of Adam, in the training.
FIRST_STEP = 0.1
#: XLA's options for one thread; they are read when it starts.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Timed(NamedTuple):
    """Steps of the training loop with one way and one size of the batch.

    Attributes:
        first_seconds: of the first step, which compiles.
        seconds: of each step after it.
        cpu_seconds: the same, of the processor, all threads of the process together.
        loss: of the batch with the first weights.
        gradient: the same, shape ``(layers, qubits, 3)``.
    """

    first_seconds: float
    seconds: list[float]
    cpu_seconds: list[float]
    loss: float
    gradient: np.ndarray


class Trained(NamedTuple):
    """A trained classifier.

    Attributes:
        weights: shape ``(layers, qubits, 3)``.
        losses: of the batch, at each step.
        logits: of the held-out images, shape ``(images, classes)``.
        accuracy: the share of the held-out images whose class has the largest logit.
        seconds: of the training, with compilation.
    """

    weights: np.ndarray
    losses: list[float]
    logits: np.ndarray
    accuracy: float
    seconds: float


@contextmanager
def on(platform: str) -> Iterator[None]:
    """JAX computes on a device of this platform in the block, on the CPU with one thread.

    Raises:
        DescriptionError: JAX finds no such device here.
    """
    if _ONE_THREAD not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_THREAD}".strip()
        os.environ["NPROC"] = "1"  # the size of XLA's own pool of threads
    import jax

    try:
        device = jax.devices(platform)[0]
    except RuntimeError as error:
        raise DescriptionError(
            f"platform: JAX finds no {platform} on {os.uname().nodename}: {error}; choose cpu, or install JAX for it",
            field="platform",
            given=platform,
        ) from error
    with jax.default_device(device):
        yield


def time_steps(
    way: str, images: np.ndarray, labels: np.ndarray, classes: int, layers: int, seed: int, platform: str
) -> Timed:
    """Time steps of the training loop on one batch. Runs in a worker.

    Args:
        way: one of `WAYS`.
        images: the batch, shape ``(batch, 32, 32, 3)``, ``uint8``.
        labels: shape ``(batch,)``.
        classes: of the classifier.
        layers: of the circuit.
        seed: of the first weights.
        platform: "cpu" or "gpu".
    """
    with on(platform):
        import jax
        import jax.numpy as jnp
        import optax

        states, targets = jnp.asarray(encode(images / 255), dtype=float), jnp.asarray(labels)
        function = gradient(way, QUBITS, classes)
        optimizer = optax.adam(1e-3)
        weights = jnp.asarray(initial_weights(layers, QUBITS, seed))
        memory = optimizer.init(weights)
        update = jax.jit(lambda its, memory: optimizer.update(its, memory))

        def step(weights: Any, memory: Any, count: int) -> tuple[Any, ...]:
            value, its = function(weights, states[:count], targets[:count])
            changes, memory = update(its, memory)
            return jax.block_until_ready((optax.apply_updates(weights, changes), memory, value, its))

        begun = time.perf_counter()
        step(weights, memory, 1 if way == "sequential" else len(states))  # which compiles nothing
        first = time.perf_counter() - begun
        seconds: list[float] = []
        cpu_seconds: list[float] = []
        loss, slope = 0.0, weights
        while sum(seconds) < ENOUGH_SECONDS and len(seconds) < ENOUGH_STEPS:
            begun, cpu_begun = time.perf_counter(), time.process_time()
            weights, memory, value, its = step(weights, memory, len(states))
            seconds.append(time.perf_counter() - begun)
            cpu_seconds.append(time.process_time() - cpu_begun)
            if len(seconds) == 1:
                loss, slope = float(value), its
        return Timed(first, seconds, cpu_seconds, loss, np.asarray(slope))


def train(
    images: np.ndarray,
    labels: np.ndarray,
    held_out: np.ndarray,
    held_out_labels: np.ndarray,
    *,
    classes: int,
    layers: int,
    steps: int,
    batch: int,
    seed: int,
    platform: str,
) -> Trained:
    """Train a classifier, and test it with images that it was not trained with. Runs in a worker.

    Adam, its step falling from `FIRST_STEP` to 0 as a cosine; batches are drawn from a generator of this seed.
    """
    with on(platform):
        import jax
        import jax.numpy as jnp
        import optax

        begun = time.perf_counter()
        states, targets = jnp.asarray(encode(images / 255), dtype=float), jnp.asarray(labels)
        function = gradient("both", QUBITS, classes)
        optimizer = optax.adam(optax.cosine_decay_schedule(FIRST_STEP, steps))
        weights = jnp.asarray(initial_weights(layers, QUBITS, seed))
        memory = optimizer.init(weights)
        update = jax.jit(lambda its, memory: optimizer.update(its, memory))
        drawn = np.random.default_rng(seed)
        losses = []
        for _ in range(steps):
            chosen = drawn.choice(len(states), min(batch, len(states)), replace=False)
            value, its = function(weights, states[chosen], targets[chosen])
            changes, memory = update(its, memory)
            weights = optax.apply_updates(weights, changes)
            losses.append(float(value))
        seconds = time.perf_counter() - begun
        model = jax.jit(logits(QUBITS, classes))
        found = np.stack([np.asarray(model(weights, state)) for state in encode(held_out / 255).astype(np.float32)])
        accuracy = float(np.mean(found.argmax(1) == held_out_labels))
        return Trained(np.asarray(weights), losses, found, accuracy, seconds)


def warm_up() -> None:
    """Load what the tasks need. Runs in each worker before the clock starts."""
    with on("cpu"):
        import optax  # noqa: F401
        import pennylane  # noqa: F401
