"""Settings and store of the service, and what it makes of results; no process, no network."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import text, update

from pilot import DescriptionError, SessionError, TaskError
from pilot.service import events, results, tables, task_routes, turns
from pilot.service.access import User
from pilot.service.active import ActiveTask
from pilot.service.coordinator import Coordinator
from pilot.service.estimating import Estimates
from pilot.service.models import EstimateBody
from pilot.service.problems import Problem
from pilot.service.sessions import Sessions
from pilot.service.settings import Settings
from pilot.service.store import End, Filter, NewTask, Store, Submission
from pilot.service.store_lock import StoreLock
from pilot.service.unparsed import Unparsed

# ---- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, said",
    [
        ("[limits]\nshots = 0", r"\[limits\]: Limits.shots: 0 is not valid; expected a whole number of at least 1"),
        ("[limits]\nbody_bytes = 1", "1024 to"),
        ("[server]\nprot = 1", r"no field 'prot' \(did you mean 'port'\?\)"),
        ("[server]\nport = 70000", "a port from 1 to 65535"),
        ("[server]\nstore = 'mysql://x/y'", "expected sqlite:////"),
        ("[server]\nstore = 'rubbish'", "expected sqlite:////"),
        ("[server]\nstore = 'sqlite:///:memory:'", "expected sqlite:////"),
        ("[server]\nstore = 'postgresql://u:p@h:x/y'", "no URL of a database; expected sqlite:////"),
        (
            "[server]\ntls_cert = '/etc/passwd'\ntls_key = '/etc/hosts'",
            "without a passphrase.* of the certificate in /etc",
        ),
        ("[server]\ntls_cert = '/etc'\ntls_key = '/etc'", "a file that can be read"),
        ("[server]\nroot_path = 'pilot'", 'a path such as "/pilot"'),
        ("[server]\nroot_path = '/pilot/'", 'a path such as "/pilot"'),
        ("[[pilots]]\nname = 'a'\n[[pilots]]\nname = 'a'", "name: 'a' .* a name of its own"),
        ("[[pilots]]\nname = 'service'\n[[autoscale]]\n[autoscale.pilot]", "name: 'service' .* a name of its own"),
        ("[[autoscale]]\nminimum = 3\nmaximum = 2\n[autoscale.pilot]", "Autoscale.minimum: 3 .* at most maximum"),
        ("[server]\npolicy = 'fcfss'", r"no policy 'fcfss' \(did you mean 'fcfs'\?\)"),
        ("[server]\ntls_cert = '/nonesuch'", "both tls_cert and tls_key"),
        ("[server]\ntls_cert = '/nonesuch'\ntls_key = '/nonesuch'", "a file that can be read"),
        ("[server]\ndrain = 'soon'", "'soon' is not valid; expected seconds"),
        ("[serve]\nport = 1", r"\[serve\]: there is no such table \(did you mean 'server'\?\)"),
        ("server = 1", r"\[server\]: 1 is not valid; expected a table"),
        ("[pilots]\nengine = 'ray'", r"tables that begin with \[\[pilots\]\]"),
        ("[[pilots]]\nengine = 'rai'", r"no engine 'rai' \(did you mean 'ray'\?\)"),
        ("[[pilots]]\ncores_per_node = 0", r"\[pilots\]: PilotDescription.cores_per_node: 0"),
        ("[[pilots]]\nqpus = ['fakee:x']", r"no QPU 'fakee'"),
        ("[[autoscale]]\nmaximum = 2", r"\[autoscale\]: .*pilot"),
        ("[[autoscale]]\nmaximum = 0\n[autoscale.pilot]", "Autoscale.maximum: 0"),
        ("[origin]\nchips = { 72 = 'fake:manil' }", r"chips 72: 'fake:manil' .* no simulator \(did you mean"),
        ("[origin]\nchips = { 9 = 'aer' }\n[[pilots]]\nqpus = ['aer']", "chips 9: 'aer' .* there are: none"),
        ("[functions]\nf = 'os'", "package.module:function"),
        ("[functions]\nf = 'os:nonesuch'", "cannot be imported"),
        ("[functions]\nf = 'os:sep'", "a callable"),
        ("not toml", "not valid TOML"),
    ],
)
def test_settings_say_what_is_wrong(tmp_path: Path, given: str, said: str) -> None:
    file = tmp_path / "service.toml"
    file.write_text(given)
    with pytest.raises(DescriptionError, match=said) as caught:
        Settings.from_toml(file)
    assert str(file) in str(caught.value)


def test_a_module_that_raises_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_at_once.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DescriptionError, match="cannot be imported: ZeroDivisionError: division by zero"):
        Settings.build({"functions": {"f": "raises_at_once:f"}})


def test_a_laptop_needs_no_settings() -> None:
    (pilot,) = Settings.build({}).pilots
    assert pilot.qpus == ("fake:kolkata", "fake:manila")
    assert Settings.build({"autoscale": [{"pilot": {"cores_per_node": 1}}]}).pilots == ()


# ---- store -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/service.db")
    yield store
    store.close()


def test_no_other_account_reads_the_files_of_a_store(store: Store, tmp_path: Path) -> None:
    assert {oct(path.stat().st_mode) for path in tmp_path.iterdir()} == {"0o100600"}


def task(user: str = "alice", program: str = "QINIT 1", **fields: Any) -> NewTask:
    return NewTask(user=user, programs=(program,), **fields)


def add(store: Store, *tasks: NewTask, key: str = "", digest: str = "") -> list[str]:
    return store.add(Submission(tasks=tasks, key=key, digest=digest)).result()


def end(store: Store, id: str, state: str = "done", result: bytes | None = b"[1]") -> bool:
    row = store.find(id)
    assert row is not None
    return store.end(End(number=row.number, state=state, result=result)).result()


def test_counters_are_those_of_a_count(store: Store) -> None:
    ids = add(store, *[task()] * 5) + add(store, *[task("bob")] * 3)
    for id, state in zip(ids, ("done", "failed", "invalid", "done", "cancelled"), strict=False):
        assert end(store, id, state, b"[1]" if state == "done" else None)
    assert store.counts("alice") == {"active": 0, "done": 2, "failed": 1, "cancelled": 1, "invalid": 1}
    assert store.counts("bob")["active"] == store.active_of("bob") == 3
    with store.engine.connect() as connection:
        rows = connection.execute(text("select state, count(*) as number from tasks group by state"))
        counted = {row.state: row.number for row in rows}
    assert counted == {state: count for state, count in store.counts().items() if count}


def test_a_task_ends_once(store: Store) -> None:
    (id,) = add(store, task())
    row = store.find(id)
    assert row is not None
    ends = [store.end(End(number=row.number, state="done", result=b"[%d]" % one)) for one in range(20)]
    assert [one.result() for one in ends].count(True) == 1
    assert store.result(row.number) == b"[0]"
    assert not end(store, id, "cancelled", None)
    assert store.counts()["done"] == 1


def test_a_key_is_accepted_once_however_many_come_together(store: Store) -> None:
    same: list[Future[list[str]]] = [store.add(Submission(tasks=(task(),), key="k", digest="x")) for _ in range(50)]
    assert len({tuple(one.result()) for one in same}) == 1
    assert add(store, task("bob"), key="k", digest="y") != same[0].result()  # another user's key
    with pytest.raises(Problem, match="used before") as caught:
        add(store, task(), key="k", digest="other")
    assert (caught.value.status, caught.value.field) == (422, "Idempotency-Key")
    assert store.counts()["active"] == 2


def test_the_limit_of_tasks_holds_however_many_come_together(store: Store) -> None:
    asked = [store.add(Submission(tasks=(task(), task()), key=f"{one}", most=7)) for one in range(50)]
    refused = [error for one in asked if (error := one.exception()) is not None]
    assert len(refused) == 47 and all(isinstance(error, Problem) and error.status == 429 for error in refused)
    assert store.active_of("alice") == store.counts("alice")["active"] == 6
    assert store.add(Submission(tasks=(task("bob"),) * 7, most=7)).result()
    again = store.add(Submission(tasks=(task(), task()), key="0", most=7))  # which it has already
    assert again.result() == asked[0].result()


def test_a_session_that_is_closed_meanwhile_takes_no_task(store: Store) -> None:
    async def closed() -> str:
        sessions, user = Sessions(store, lambda id: Future(), 10), User("alice")
        session = (await sessions.open(user, "")).id
        await sessions.check(user, {session})
        await sessions.close(user, session)
        return session

    session = asyncio.run(closed())
    with pytest.raises(Problem, match="is closed") as caught:
        add(store, task(session=session))
    assert (caught.value.status, store.active_of("alice")) == (422, 0)


def test_a_user_has_so_many_open_sessions_and_closed_ones_are_removed(store: Store) -> None:
    async def opened() -> list[Any]:
        sessions = Sessions(store, lambda id: Future(), 3)
        users = [User(name) for name in ("alice", "bob")]
        asked = [sessions.open(user, "") for user in users for _ in range(5)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for user in users:
            for one in await sessions.all(user, 1000):
                await sessions.close(user, one.id)
        add(store, task(session=""))
        with store.engine.begin() as connection:
            kept = (await sessions.all(users[0], 1))[0].id
            connection.execute(update(tables.tasks).values(session=kept))
        assert [await asyncio.wrap_future(sessions.prune(when)) for when in (0.0, 1e12, 1e12)] == [0, 5, 0]
        assert [one.id for user in users for one in await sessions.all(user, 1000)] == [kept]
        return answers

    answers = asyncio.run(opened())
    refused = [one for one in answers if isinstance(one, Problem)]
    assert [one.status for one in refused] == [429] * 4
    assert str(refused[0]) == "alice has 3 sessions that are open; at most 3: close some that are not used"


def test_a_deadline_counts_from_the_submission_on(store: Store) -> None:
    (row,) = [store.find(id) for id in add(store, task(options={"deadline": 60.0, "shots": 5}))]
    assert row is not None
    one = ActiveTask(row, lambda task, step, when: None)
    for passed, left in ((0.0, 60.0), (45.0, 15.0), (3600.0, 1e-3), (-3600.0, 60.0)):  # the clock may go back
        assert one.options(row.submitted + passed) == {"deadline": pytest.approx(left), "shots": 5}


def test_many_qpus_fit_into_the_column(store: Store) -> None:
    (id,) = add(store, task(options={"qpu": ["fake:manila"] * 100}))
    row = store.find(id)
    assert row is not None and row.qpu.startswith("fake:manila|") and len(row.qpu) == tables.QPU_CHARACTERS
    store.end(End(number=row.number, state="done", result=b"[1]", qpu="q" * 300)).result()
    assert len(store.find(id).qpu) == tables.QPU_CHARACTERS  # type: ignore[union-attr]


def test_a_connection_that_is_too_slow_is_told_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_WAITING", 2)
    service: Any = SimpleNamespace(steps=events.Steps())
    one: Any = SimpleNamespace(id="1", user="alice", state="queued")

    async def read() -> list[str]:
        stream = task_routes._events(service, User("alice"), None)
        await anext(stream)  # connected
        for _ in range(5):
            service.steps(one, "queued", 0.0)
        await asyncio.sleep(0)
        return [(await anext(stream)).decode().splitlines()[0] for _ in range(3)]

    assert asyncio.run(read()) == ["event: missed", "event: step", "event: step"]


def test_users_take_turns() -> None:
    wanted = {"alice": 1000, "bob": 2, "carol": 30}
    assert turns.shares(wanted, {}, 9) == {"alice": 4, "bob": 2, "carol": 3}
    assert turns.shares(wanted, {"alice": 20}, 9) == {"bob": 2, "carol": 7}
    assert turns.shares(wanted, {"alice": 20}, 2000) == wanted
    assert turns.shares({}, {"alice": 20}, 9) == turns.shares(wanted, {}, 0) == {}


def test_a_task_whose_end_is_being_written_may_wait_no_more() -> None:
    counted = turns.Turns()
    for user in ("alice", "alice", "bob"):
        counted.begins(user)
    assert counted.waiting({"alice": 2, "bob": 3, "carol": 1}) == {"bob": 2, "carol": 1}
    counted.ends("alice")  # the store has it, or not any more
    assert counted.waiting({"alice": 2}) == {"alice": 1} and counted.waiting({"alice": 1}) == {}
    assert counted.active == {"alice": 2, "bob": 1}
    counted.is_over("alice")
    assert counted.active == {"alice": 1, "bob": 1}


def test_texts_are_parsed_although_the_store_was_away() -> None:
    parsed: list[Any] = []
    answers = iter([SessionError("the store is away"), {"a": "text a", "b": "text b"}])

    def texts(hashes: set[str]) -> dict[str, str]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return {hash: answer[hash] for hash in hashes}

    parser: Any = SimpleNamespace(ask=parsed.append)
    away: Any = SimpleNamespace(texts=texts)
    unparsed = Unparsed(parser, away)
    one: Any = SimpleNamespace(missing={("a", "qir"), ("b", "qir")})
    other: Any = SimpleNamespace(missing={("b", "qir")})
    unparsed.add(one)
    unparsed.add(other)
    with pytest.raises(SessionError):
        unparsed.ask()
    unparsed.ask()
    unparsed.ask()  # nothing is left
    assert parsed == [{("a", "qir"): "text a", ("b", "qir"): "text b"}]
    assert list(unparsed.parsed({("b", "qir")})) == [other]
    assert list(unparsed.parsed({("a", "qir"), ("b", "qir")})) == [one]


def test_ids_are_unlike_and_times_in_order(store: Store) -> None:
    ids = add(store, *[task()] * 500)
    assert len(set(ids)) == 500
    rows = store.page(Filter(user="alice"), 500)
    assert [row.id for row in rows] == ids[::-1]
    assert [row.submitted for row in rows] == sorted((row.submitted for row in rows), reverse=True)


def test_filters_take_what_they_say(store: Store) -> None:
    many = [task(project=f"p{n % 2}", options={"qpu": f"q{n % 3}"}) for n in range(12)]
    ids = [add(store, one)[0] for one in many]
    end(store, ids[4], "failed", None)
    rows = {row.id: row for row in store.page(Filter(), 100)}

    def found(**wanted: Any) -> list[int]:
        return sorted(ids.index(row.id) for row in store.page(Filter(user="alice", **wanted), 100))

    assert found(project="p1") == [1, 3, 5, 7, 9, 11]
    assert found(qpu="q0", project="p0") == [0, 6]
    assert found(state="failed") == [4]
    assert found(before=ids[3]) == [0, 1, 2]
    assert found(since=rows[ids[8]].submitted) == [
        n for n in range(12) if rows[ids[n]].submitted >= rows[ids[8]].submitted
    ]
    assert found(until=rows[ids[0]].submitted) == []
    assert found(since=rows[ids[11]].submitted + 100) == []
    assert store.page(Filter(user="bob"), 10) == []
    with pytest.raises(Problem, match="no task with this id"):
        found(before="0" * 32)


def test_what_is_removed_leaves_nothing(store: Store) -> None:
    old = add(store, task(program="only here"), task(program="shared"), key="k")
    new = add(store, task(program="shared"))
    for id in old:
        end(store, id)
    assert store.prune(before=1e12).result() == 2
    assert [store.find(id) for id in old] == [None, None]
    with store.engine.connect() as connection:
        assert connection.execute(text("select text from programs")).scalars().all() == ["shared"]
        assert connection.execute(text("select count(*) from results")).scalar() == 0
        assert connection.execute(text("select count(*) from keys")).scalar() == 0
    assert store.counts()["active"] == 1
    assert store.find(new[0]) is not None


def test_a_key_stays_as_long_as_a_task_of_its_submission(store: Store) -> None:
    ids = add(store, task(), task(), key="k")
    end(store, ids[0])
    assert store.prune(before=1e12).result() == 1
    assert add(store, task(), task(), key="k") == ids  # the second waits still
    end(store, ids[1])
    assert store.prune(before=1e12).result() == 1
    assert add(store, task(), task(), key="k") != ids


def test_one_write_that_fails_fails_alone(store: Store) -> None:
    def broken(connection: object, arguments: list[object]) -> list[object]:
        raise ValueError("no")

    for _ in range(20):
        added, failed = store.add(Submission(tasks=(task(),))), store.writer.put(broken, None)
        with pytest.raises(SessionError, match="cannot be written: no"):
            failed.result()
        assert len(added.result()) == 1
    assert store.active_of("alice") == store.counts("alice")["active"] == 20


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/service.db"
    store = Store(url)
    with store.engine.begin() as connection:
        connection.execute(update(tables.layout).values(version=99))
    store.close()
    with pytest.raises(SessionError, match="layout 99"):
        Store(url)
    with pytest.raises(SessionError, match="cannot be opened"):
        Store("sqlite:////nonesuch/service.db")
    with pytest.raises(SessionError) as caught:
        Store("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


def test_a_store_of_layout_1_is_brought_to_this_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/service.db"
    store = Store(url)
    (id,) = add(store, task())
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE tasks DROP COLUMN cancel_requested"))
        connection.execute(text("DROP TABLE holder"))
        connection.execute(update(tables.layout).values(version=1))
    store.close()
    for _ in range(2):
        again = Store(url)
        row = again.find(id)
        assert row is not None and row.cancel_requested is None
        with StoreLock(again.engine):
            assert again.counts()["active"] == 1
        again.close()


def test_what_is_to_be_cancelled_is_known_until_it_is_over(store: Store) -> None:
    ids = add(store, *[task()] * 4)
    numbers = [row.number for row in store.active("alice", 0, 10)]
    end(store, ids[3])
    for number in (numbers[2], numbers[0], numbers[3]):
        store.request_cancel(number).result()
    assert store.cancel_requested() == [ids[0], ids[2]]
    end(store, ids[0], "cancelled", None)
    assert store.cancel_requested() == [ids[2]]


def test_a_lock_whose_holder_cannot_be_written_is_free_again(store: Store, tmp_path: Path) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE holder RENAME TO other"))
    for _ in range(2):  # the second one is not told that the first one has it
        with pytest.raises(SessionError, match=r"cannot be taken: .*no such table"), StoreLock(store.engine):
            pass
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE other RENAME TO holder"))
    with StoreLock(store.engine):
        pass


def test_a_task_is_ended_also_when_nobody_waits_for_the_answer(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    manager: Any = SimpleNamespace(tasks={}, cancel=lambda tasks: None, subscribe=Mock(), unsubscribe=Mock())
    coordinator = Coordinator(
        store, manager, functions={}, window=0, seconds=1.0, reuses=False, is_busy=lambda: False, listener=Mock()
    )
    ids = add(store, task(), task())
    first, second = map(coordinator.cancel, ids)
    assert first.cancel()
    coordinator.start()
    assert second.result(60) is True
    coordinator.close()
    store.writer.close()
    assert store.counts()["cancelled"] == 2
    assert not caplog.records


def test_a_store_has_one_service(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "service.db")
    second = Store(f"sqlite:///{tmp_path}/link.db")  # the same store by another name
    with StoreLock(store.engine):
        said = (
            rf"link.db is used by another service: process {os.getpid()} on host {platform.node()}, since 20\d\d-.* UTC"
        )
        with pytest.raises(SessionError, match=said), StoreLock(second.engine):
            pass
    with StoreLock(second.engine):
        pass
    second.close()


def test_counters_survive(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/service.db"
    store = Store(url)
    (id, _) = add(store, task(), task())
    end(store, id)
    store.close()
    with pytest.raises(SessionError, match="closed"):
        store.add(Submission(tasks=(task(),)))
    again = Store(url)
    assert (again.active_of("alice"), again.counts()["done"]) == (1, 1)
    again.close()


def test_equal_work_has_equal_content(store: Store) -> None:
    seeded: dict[str, Any] = {"shots": 5, "seed": 1, "qpu": "aer"}
    cases = [
        ({}, True),
        (seeded, True),
        ({"shots": 5}, False),
        ({**seeded, "qpu": "fake:manila"}, False),
        ({**seeded, "qpu": "*"}, False),
        ({**seeded, "mitigation": ["readout"]}, False),
    ]
    for options, is_reused in cases:
        first, second = (store.find(id) for id in add(store, task(options=options), task("bob", options=options)))
        assert first is not None and second is not None
        assert first.content == second.content
        assert bool(first.content) is is_reused, options
    (other,) = add(store, task(options={**seeded, "seed": 2}))
    (kept,) = add(store, task(options=seeded, may_reuse=False))
    found = {id: store.find(id) for id in (other, kept)}
    assert found[other].content != first.content  # type: ignore[union-attr]
    assert found[kept].content == ""  # type: ignore[union-attr]


# ---- results ---------------------------------------------------------------------------------------------------


def test_results_that_json_does_not_have() -> None:
    assert json.loads(results.encoded([float("inf"), {1: [2, None]}])) == [
        {"kind": "value", "value": "inf"},
        {"kind": "value", "value": {"1": [2, None]}},
    ]
    with pytest.raises(TaskError, match="cannot be written as JSON"):
        results.encoded([object()])
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(TaskError):
        results.encoded([ring])


# ---- what is given up ------------------------------------------------------------------------------------------


def test_a_write_that_nobody_waits_for_any_more_does_not_end_the_writer(store: Store) -> None:
    """As where the server cancels a request whose write is on its way."""
    first, second = threading.Event(), threading.Event()

    def slow(connection: Any, arguments: Any) -> list[Any]:
        first.set()
        assert second.wait(30)
        return arguments  # type: ignore[no-any-return]

    def quick(connection: Any, arguments: Any) -> list[Any]:
        return arguments  # type: ignore[no-any-return]

    begun = store.writer.put(slow, 1)
    assert first.wait(30)
    assert not begun.cancel()
    waiting = store.writer.put(quick, 2)
    assert waiting.cancel()
    second.set()
    assert begun.result(30) == 1
    assert store.writer.put(quick, 3).result(30) == 3


def test_estimates_that_fail_are_forgotten_too() -> None:
    forgotten: list[Any] = []
    task: Any = Future()
    manager: Any = SimpleNamespace(qpus={"q": None}, submit_task=lambda wanted: task, forget=forgotten.extend)
    task.set_exception(TaskError("no"))
    body = EstimateBody(program="x")
    with pytest.raises(Problem, match="the estimate failed: no"):
        asyncio.run(Estimates(manager, 5).ask(User("a"), body))
    assert forgotten == [task]
