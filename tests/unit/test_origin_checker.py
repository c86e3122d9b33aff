"""Programs of Origin's API are checked in processes: many in one call, one call for each user at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pilot.service.origin import checker
from pilot.service.origin.checker import Checker
from pilot.service.origin.checking import Facts, Fault, Question, check
from pilot.service.origin.codes import OriginError


class Double(Checker):
    """Answers when it is told to, instead of a process."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[list[Question], asyncio.Future[Any]]] = []

    async def _ask(self, questions: list[Question], tries: int = 2) -> list[Facts | Fault]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.calls.append((questions, future))
        await future
        return [answer_to(one) for one in questions]


def answer_to(question: Question) -> Facts | Fault:
    if question.text.startswith("bad"):
        return Fault(2, f"{question.text} is not right")
    return Facts(qubits=len(question.text), depth=1, seconds=0.0, width=1, places=(0,))


def questions(*texts: str) -> list[Question]:
    return [Question(text=text, type=0) for text in texts]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_comes_while_a_call_is_away_goes_together_and_is_asked_once() -> None:
    async def scenario() -> None:
        double = Double()
        asked = [asyncio.create_task(double.facts("ann", questions("a")))]
        await settled()
        asked += [asyncio.create_task(double.facts("ann", questions(text))) for text in ("bb", "cc", "bb")]
        await settled()
        assert [[one.text for one in texts] for texts, _ in double.calls] == [["a"]]
        double.calls[0][1].set_result(None)
        await settled()
        assert [one.text for one in double.calls[1][0]] == ["bb", "cc"]
        double.calls[1][1].set_result(None)
        assert [found[0].qubits for found in await asyncio.gather(*asked)] == [1, 2, 2, 2]
        assert (await double.facts("ann", questions("a", "cc")))[1].qubits == 2  # known: no call
        assert len(double.calls) == 2

    asyncio.run(scenario())


def test_a_user_has_one_process_at_most() -> None:
    async def scenario() -> None:
        double = Double()
        slow = [asyncio.create_task(double.facts("mallory", questions(f"{one}"))) for one in range(200)]
        await settled()
        other = asyncio.create_task(double.facts("ann", questions("program")))
        await settled()
        assert len(double.calls) == 2 and double.calls[1][0][0].text == "program"
        double.calls[1][1].set_result(None)
        assert len(await other) == 1
        double.calls[0][1].set_result(None)
        await settled()
        assert [len(texts) for texts, _ in double.calls] == [50, 1, 50]
        for _, future in double.calls[2:]:
            future.set_result(None)
        while len(double.calls) < 5:
            await settled()
            for _, future in double.calls:
                if not future.done():
                    future.set_result(None)
        assert len(await asyncio.gather(*slow)) == 200

    asyncio.run(scenario())


def test_the_first_fault_is_the_error_and_says_which_program() -> None:
    async def scenario() -> None:
        double = Double()
        asked = asyncio.create_task(double.facts("ann", questions("good", "bad one", "bad two")))
        await settled()
        double.calls[0][1].set_result(None)
        with pytest.raises(OriginError, match=r"bad one is not right \(program 2 of 3\)") as caught:
            await asked
        assert caught.value.code == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ValueError("broken"), MemoryError()])
def test_an_error_of_the_process_is_an_answer_and_is_not_kept(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        double = Double()
        asked = asyncio.create_task(double.facts("ann", questions("a")))
        await settled()
        double.calls[0][1].set_exception(error)
        with pytest.raises(OriginError, match="could not be checked") as caught:
            await asked
        assert caught.value.code == 4
        again = asyncio.create_task(double.facts("ann", questions("a")))
        await settled()
        double.calls[1][1].set_result(None)
        assert (await again)[0].qubits == 1

    asyncio.run(scenario())
    assert "could not be checked" in caplog.text


def test_a_request_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "SECONDS", 0.01)

    async def scenario() -> None:
        double = Double()
        with pytest.raises(OriginError, match=r"not checked within 0\.01 seconds") as caught:
            await double.facts("ann", questions("a"))
        assert caught.value.code == 30

    asyncio.run(scenario())


def test_answers_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "KEPT", 3)

    async def scenario() -> None:
        double = Double()

        async def ask(texts: Sequence[str]) -> None:
            asked = asyncio.create_task(double.facts("ann", questions(*texts)))
            await settled()
            if not asked.done():
                double.calls[-1][1].set_result(None)
            await asked

        for text in "abcd":
            await ask(text)
        calls = len(double.calls)
        await ask("d")
        assert len(double.calls) == calls
        await ask("a")  # made room for the others
        assert len(double.calls) == calls + 1

    asyncio.run(scenario())


def test_a_bit_that_is_set_and_not_measured_is_left_out() -> None:
    begin = "QINIT 2\nCREG 2\nc[0]=1\nQIF c[0]\nX q[1]\nENDQIF\nMEASURE q[1],c[1]"
    reads = "\nc[0]=!c[1]"
    sets = "\nMEASURE q[0],c[0]\nc[0]=0"
    good, *bad = check([Question(text=text, type=0) for text in (begin, begin + reads, begin + sets)])
    assert isinstance(good, Facts) and good.bits == (1,) and "c[0]" not in good.text
    assert [(one.code, one.message[:21]) for one in bad if isinstance(one, Fault)] == [
        (19, "QProg: c[1] is measur"),
        (19, "QProg: c[0] is measur"),
    ]
