"""Names given to variables that no module owns are unique, at the cost of one counter each."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc
from torchcreator._chain.open_scopes import Names


def given_for(*asked):
    names = Names()
    return [names.unique(name) for name in asked]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["w", "w", "w"], ["w", "w_1", "w_2"]),
        (["w", "v", "w"], ["w", "v", "w_1"]),
        (["w", "w_1", "w", "w"], ["w", "w_1", "w_2", "w_3"]),
        (["w", "w", "w_1", "w_1", "w"], ["w", "w_1", "w_1_1", "w_1_2", "w_2"]),
        (["w", "w", "w_01", "w_1.0", "w_"], ["w", "w_1", "w_01", "w_1.0", "w_"]),
        (["a/w", "w", "a/w", "a.w"], ["a/w", "w", "a/w_1", "a.w"]),
        (["w", "w_²", "w_²"], ["w", "w_²", "w_²_1"]),
        (["w", "w", "w", "w", "w_٣"], ["w", "w_1", "w_2", "w_3", "w_٣"]),
        (["w", "w_" + "9" * 5000], ["w", "w_" + "9" * 5000]),
    ],
    ids=[
        "repeated",
        "others between",
        "the counted form was asked for first",
        "a counted form is asked for later",
        "what only looks counted",
        "paths",
        "a superscript is no number",
        "nor is another script's digit one of ours",
        "more digits than an int may have",
    ],
)
def test_the_names_given(asked, expected):
    """A name is given as it is while it is free, else with the first free number."""
    assert given_for(*asked) == expected


def unique_by_remembering(asked):
    """The rule written out with a set of all names: what the counters must agree with."""
    taken = []
    for name in asked:
        counted = (f"{name}_{n}" for n in range(1, len(asked) + 2))
        taken.append(name if name not in taken else next(c for c in counted if c not in taken))
    return taken


@given(st.lists(st.sampled_from(["w", "w_1", "w_2", "w_1_1", "w_10", "w_01", "v_1", "v", "_1"])))
def test_the_counters_agree_with_a_table_of_all_names(asked):
    """Whatever is asked for in whatever order, the names are those that a full table gives."""
    assert given_for(*asked) == unique_by_remembering(asked)


@given(st.lists(st.from_regex(r"(w|_)(_?[0-9²٣]{1,3}){0,3}", fullmatch=True), max_size=30))
def test_no_name_is_given_twice(asked):
    """All names given are different, and each begins with what was asked for."""
    names = given_for(*asked)
    assert len(set(names)) == len(names)
    assert all(name.startswith(wish) for name, wish in zip(names, asked, strict=True))


def test_the_table_grows_with_the_names_asked_for_only():
    """A name asked for 10,000 times costs one entry."""
    names = Names()
    for _ in range(10_000):
        names.unique("w")
    assert names.unique("w") == "w_10000"
    assert len(names._numbers) == 1


def test_threads_are_never_given_the_same_name():
    """Four threads that ask at once get 8,000 different names."""
    names = Names()
    given_to = [[] for _ in range(4)]
    barrier = threading.Barrier(4)

    def ask(mine):
        barrier.wait()
        mine.extend(names.unique("w") for _ in range(2000))

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in given_to]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({name for mine in given_to for name in mine}) == 8000


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def name(**keywords):
    return tc.spec_of(tc.variable(1.0, **keywords)).name


def test_names_start_anew_in_each_outermost_scope():
    """Two outermost scopes give the same names; a scope inside counts on with the outer one."""
    for _ in range(2):
        with tc.creator_scope(passing):
            assert [name(), name(name="w"), name(name="w")] == ["Variable", "w", "w_1"]
            with tc.creator_scope(passing):
                assert [name(), name(name="w")] == ["Variable_1", "w_2"]
            assert name(name="w") == "w_3"


def test_outside_any_scope_names_are_counted_for_the_process():
    """Without a scope, two variables of one name differ, and a scope between does not matter."""
    first = name(name="names_of_the_process")
    with tc.creator_scope(passing):
        assert name(name="names_of_the_process") == "names_of_the_process"
    assert first == "names_of_the_process"
    assert name(name="names_of_the_process") == "names_of_the_process_1"


def test_names_that_modules_own_are_kept():
    """Where a module is given, or registers the parameter itself, its local name stays."""
    with tc.creator_scope(passing):
        layers = [nn.Linear(2, 2) for _ in range(2)]
        owned = [name(name="w", module=layer) for layer in layers]
        assert name(name="w") == "w"
    assert owned == ["w", "w"]
    for layer in layers:
        assert [spec.name for _, _, spec in tc.named_specs(layer)] == ["weight", "bias"]


def test_an_error_takes_no_name():
    """A variable that could not be made leaves its name to the next one."""
    with tc.creator_scope(passing):
        with pytest.raises(ValueError, match="another shape"):
            tc.variable(torch.zeros(2), shape=(3,), name="w")
        assert name(name="w") == "w"


def test_the_name_that_a_creator_sets_is_the_one_made_unique():
    """Creators see the raw name; what they pass on is counted."""

    def renames(next_creator, **kwargs):
        assert kwargs["name"] is None
        return next_creator(**{**kwargs, "name": "given"})

    with tc.creator_scope(renames):
        assert [name(), name()] == ["given", "given_1"]
