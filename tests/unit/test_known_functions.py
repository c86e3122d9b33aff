"""Functions travel once, and neither agent nor worker keeps more than some of them."""

from __future__ import annotations

import random

import pytest

from pilot.resources import SLOT
from pilot.wire import known_functions, messages
from pilot.wire.known_functions import KnownFunctions
from pilot.worker.functions import Functions


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("most", "most_bytes"), [(4, 1 << 20), (1 << 20, 2000)])
def test_a_peer_has_what_each_batch_needs_and_not_much_more(
    seed: int, most: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_functions, "MOST", most)
    monkeypatch.setattr(known_functions, "MOST_BYTES", most_bytes)
    dice = random.Random(seed)
    codes = {str(number): dice.randbytes(dice.randrange(1, 1000)) for number in range(30)}
    known, functions, sent_before = KnownFunctions(), Functions(), 0
    for number in range(200):
        digests = dice.sample(sorted(codes), dice.randrange(1, 4))
        lacking, renewed = known.lacking(digests)
        sent = {digest: codes[digest] for digest in lacking}
        known.add(sent)
        run = messages.RunBatch(number, SLOT, [], digests, lacking, 0.0, False, 0.0, renewed=renewed)
        assert functions.take(run, list(sent.values())) == [(digest, codes[digest]) for digest in digests]
        kept = functions._codes
        assert len(kept) <= most + 6 and sum(map(len, kept.values())) <= most_bytes + 6000
        sent_before += len(sent)
    assert sent_before < 600  # some were there


def test_a_function_is_sent_once() -> None:
    known = KnownFunctions()
    assert known.lacking(["a", "b"]) == (["a", "b"], False)
    known.add({"a": b"code", "b": b"code"})
    assert known.lacking(["b", "c"]) == (["c"], False)
    known.clear()
    assert known.lacking(["b"]) == (["b"], False)
