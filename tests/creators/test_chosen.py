"""Every ready-made creator chooses its variables as `where` does; a choice of none is told."""

from __future__ import annotations

import asyncio
import re

import pytest
import torch
from torch import nn
from torch.distributed.tensor import Shard

import torchcreator as tc
from torchcreator import build, creators
from torchcreator._chain import endings

CALLS = {
    "aggregate": lambda **chosen: creators.aggregate("sum", **chosen),
    "cast": lambda **chosen: creators.cast(torch.float64, **chosen),
    "constrain": lambda **chosen: creators.constrain("non_neg", **chosen),
    "declare": lambda **chosen: creators.declare(trainable=False, **chosen),
    "fake": creators.fake,
    "forbid": creators.forbid,
    "freeze": creators.freeze,
    "from_checkpoint": lambda **chosen: creators.from_checkpoint(
        {"body.bias": torch.ones(3), "bias": torch.ones(3)}, **{"strict": False, **chosen}
    ),
    "initialize": lambda **chosen: creators.initialize(nn.init.ones_, **chosen),
    "local": creators.local,
    "meta": creators.meta,
    "mirrored": creators.mirrored,
    "on": lambda **chosen: creators.on("meta", **chosen),
    "optimizer": lambda **chosen: creators.optimizer(lr=1, **chosen),
    "progress": creators.progress,
    "record": lambda **chosen: creators.record(creators.Ledger(), **chosen),
    "sharded": lambda **chosen: creators.sharded(None, [Shard(0)], **chosen),
    "share": creators.share,
    "where": lambda **chosen: creators.where(creators.freeze(), **chosen),
}


def test_the_list_of_creators_is_complete():
    """Every public creator is held to this."""
    assert set(CALLS) == set(creators.__all__) - {"Entry", "Ledger", "elementwise"}  # no creators


def body():
    return nn.ModuleDict({"body": nn.Linear(2, 3)})


@pytest.mark.parametrize("name", CALLS)
def test_each_chooses(name):
    """Outside its choice a creator lets variables pass, and its name shows what it chooses."""
    chosen = CALLS[name](name="no.such", module=[nn.Bilinear], when=lambda **_: False, strict=False)
    plain = tc.spec_of(build(body, seed=0)["body"].bias)
    with tc.creator_scope(chosen):
        made = build(body, seed=0)
    assert type(made["body"].bias) is nn.Parameter
    assert tc.spec_of(made["body"].bias) == (plain or tc.spec_of(made["body"].bias))
    assert made["body"].bias.requires_grad
    text = re.escape("name='no.such', module=(Bilinear), when=")
    assert re.search(rf"^{name}\(.*{text}", chosen.__name__)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("condition", "word"),
    [({"nme": "*"}, "nme"), ({"name": 3}, "name=3"), ({"module": "Linear"}, "module='Linear'")],
    ids=["unknown", "name", "module"],
)
@pytest.mark.filterwarnings("ignore:No optimizer in this process has an option 'nme'")
def test_each_refuses_a_wrong_condition(name, condition, word):
    """A misspelt condition is an error where it is written."""
    if name == "optimizer" and "nme" in condition:
        pytest.skip("takes options of any name")
    with pytest.raises((TypeError, ValueError), match=word):
        CALLS[name](**condition)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("bodi.*", r"'bodi\.\*' of freeze\(name='bodi\.\*'\) did not match any of the 2 variables"),
        (re.compile("^wei"), r"did not match any of the 2 variables made in its scope: 'body.weig"),
        (["*.bias", "bodi.*"], r"^'bodi\.\*' of freeze"),
    ],
    ids=["a glob", "a pattern", "one of a list"],
)
def test_a_pattern_that_matches_nothing_is_told(pattern, words):
    """When the scope closes a warning says how many variables there were, and shows names."""
    with (
        pytest.warns(UserWarning, match=words) as told,
        tc.creator_scope(creators.freeze(name=pattern)),
    ):
        build(body)
    assert told[0].filename == __file__


def test_in_a_plain_scope_the_warning_speaks_of_full_names():
    """A pattern with a path cannot match a local name: the warning says what knows full ones."""
    with (
        pytest.warns(UserWarning, match=r"(?s)local names.*build\(\), defer\(\) or recreate\(\)"),
        tc.creator_scope(creators.freeze(name="body.*")),
    ):
        body()


@pytest.mark.parametrize(
    "chosen",
    [{"name": "bodi.*"}, {"module": nn.Bilinear}, {"when": lambda shape, **_: len(shape) > 5}],
    ids=["name", "module", "when"],
)
def test_strict_makes_it_an_error(chosen):
    """With ``strict=True`` any condition that nothing meets is an error, once the scope is shut."""
    scope = tc.creator_scope(creators.freeze(**chosen, strict=True))
    with (
        pytest.raises(tc.VariableValueError, match=r"did not (match|mean) any of the 2 variables"),
        scope,
    ):
        build(body)
    assert not scope.opened
    assert tc.variable(1.0).requires_grad


def test_conditions_that_exclude_each_other_are_told():
    """A pattern that matches, of a type that does not, means nothing either."""
    with (
        pytest.warns(UserWarning, match=r"module=Bilinear\) did not mean any of the 2 variables"),
        tc.creator_scope(creators.freeze(name="*.bias", module=nn.Bilinear)),
    ):
        build(body)


def test_each_scope_is_judged_by_itself():
    """The same creator in two scopes, threads or tasks is told of the one it did nothing in."""
    creator = creators.freeze(name="body.*")
    with tc.creator_scope(creator):
        build(body)
    with (
        pytest.warns(UserWarning, match="the one variable made in its scope: 'gain'"),
        tc.creator_scope(creator),
    ):
        tc.variable(1.0, name="gain")


def quiet():
    """Return blocks in which nothing is to be told."""

    def matched():
        with tc.creator_scope(creators.freeze(name="body.*")):
            build(body)

    def nothing_made():
        with tc.creator_scope(creators.freeze(name="body.*")):
            pass

    def permitted():
        with tc.creator_scope(creators.freeze(name="bodi.*", strict=False)):
            build(body)

    def general():
        with tc.creator_scope(creators.freeze(module=nn.Embedding)):
            build(body)

    def failed():
        try:
            with tc.creator_scope(creators.freeze(name="bodi.*", strict=True)):
                build(body)
                raise KeyError
        except KeyError:
            pass

    return [matched, nothing_made, permitted, general, failed]


@pytest.mark.parametrize("block", quiet(), ids=lambda block: block.__name__)
def test_what_is_right_is_not_told(block):
    """No word where all matched, nothing was made, or it may be; an error of the block's passes."""
    block()  # warnings are errors


@pytest.mark.parametrize("block", quiet(), ids=lambda block: block.__name__)
def test_nothing_is_kept_of_a_closed_scope(block):
    """What was noted of a scope goes with it, however it ended."""
    block()
    assert endings.by_scope == {}
    with tc.creator_scope(creators.freeze(name="gain")):
        tc.variable(1.0, name="gain")
        assert len(endings.by_scope) == 1
    assert endings.by_scope == {}


def test_a_creator_inside_another_is_told_at_the_outermost_scope():
    """A creator that calls a ready-made one by hand stands for it."""
    inner = creators.freeze(name="bodi.*")

    def own(next_creator, **kwargs):
        return inner(next_creator, **kwargs)

    with pytest.warns(UserWarning, match=r"'bodi\.\*' of freeze"), tc.creator_scope(own):
        build(body)


def test_a_task_counts_for_the_scope_that_it_inherited():
    """What a task matches, the scope that it was started in has matched."""

    async def make():
        build(body)

    async def main():
        with tc.creator_scope(creators.freeze(name="body.*")):
            tc.variable(1.0, name="gain")
            await asyncio.gather(make(), make())

    asyncio.run(main())
    assert endings.by_scope == {}
