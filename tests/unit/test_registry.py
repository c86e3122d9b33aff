"""Plugins by name: found, unknown, broken, and with a package that is missing."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from pilot_plugins.launchers.local import LocalLauncher

from pilot import registry
from pilot.errors import DescriptionError, PluginError
from pilot.interfaces import Launcher
from pilot.scheduling.policies import Balanced


class Distribution:
    """What an entry point knows of its distribution."""

    requires = ("msgspec>=0.19", 'no-such-package>=1 ; extra == "cluster"', 'msgspec ; extra == "cluster"')


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three engines: one that works, one that raises when imported, one whose extra is not installed."""
    entries = [
        EntryPoint("good", "pilot.scheduling.policies:Balanced", "pilot.engines"),
        EntryPoint("broken", "pilot.scheduling.policies:NoSuchThing", "pilot.engines"),
        EntryPoint("missing", "no_such_package:Engine [cluster]", "pilot.engines"),
    ]
    entries[2] = entries[2]._for(Distribution())  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "_group", lambda group: {entry.name: entry for entry in entries})


@pytest.mark.usefixtures("group")
def test_load() -> None:
    assert registry.names("pilot.engines") == ["broken", "good", "missing"]
    assert registry.load("pilot.engines", "good") is Balanced


#: id: (group, name, what the message says)
UNKNOWN: dict[str, tuple[str, str, list[str]]] = {
    "near": (
        "pilot.engines",
        "goood",
        ["no engine 'goood'", "did you mean 'good'?", "broken, good, missing"],
    ),
    "far": ("pilot.engines", "zzz", ["there is no engine 'zzz'; known: broken, good, missing"]),
    "a policy": ("pilot.policies", "zzz", ["no policy 'zzz'"]),
}


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("group_name, name, words", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("ask", [registry.load, registry.check], ids=["load", "check"])
def test_unknown(group_name: str, name: str, words: list[str], ask: Any) -> None:
    with pytest.raises(PluginError) as caught:
        ask(group_name, name)
    assert all(word in str(caught.value) for word in words)
    assert (caught.value.group, caught.value.name) == (group_name, name)


@pytest.mark.usefixtures("group")
def test_broken_plugin_names_its_cause() -> None:
    with pytest.raises(PluginError, match="the engine 'broken' cannot be loaded: AttributeError") as caught:
        registry.load("pilot.engines", "broken")
    assert isinstance(caught.value.__cause__, AttributeError)


def refuses() -> None:
    raise DescriptionError("address: 'x' is not valid")


@pytest.mark.parametrize(
    "plugin, error, words",
    [
        (lambda: {}["key"], PluginError, "the launcher 'mine' cannot be made: KeyError: 'key'"),
        (Launcher, PluginError, "the launcher 'mine' cannot be made: TypeError: Can't instantiate"),
        (lambda: 5, PluginError, "the launcher 'mine' is not a pilot.interfaces.Launcher: it is 5"),
        (refuses, DescriptionError, "address: 'x' is not valid"),
    ],
)
def test_a_plugin_that_makes_nothing_of_use_is_named(
    monkeypatch: pytest.MonkeyPatch, plugin: Any, error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(registry, "load", lambda group, name: plugin)
    with pytest.raises(error, match=words):
        registry.made("pilot.launchers", "mine", Launcher)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("ask", [registry.load, registry.check], ids=["load", "check"])
def test_missing_extra_says_what_to_install(ask: Any) -> None:
    with pytest.raises(PluginError) as caught:
        ask("pilot.engines", "missing")
    assert "needs no-such-package>=1, which is not installed" in str(caught.value)
    assert "pip install 'quantum-pilot[cluster]'" in str(caught.value)


def test_ours_are_registered() -> None:
    assert registry.load("pilot.launchers", "local") is LocalLauncher
    assert registry.load("pilot.policies", "balanced") is Balanced
    assert {"process", "ray", "dask"} <= set(registry.names("pilot.engines"))
