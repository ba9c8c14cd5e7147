"""The creator chain: who is called, in which order, with what, and what remains afterwards."""

from __future__ import annotations

import contextlib
import functools

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import torchcreator as tc
from torchcreator import _errors
from torchcreator._root import current

KEYWORDS = {
    "initial_value",
    "trainable",
    "validate_shape",
    "caching_device",
    "name",
    "dtype",
    "constraint",
    "synchronization",
    "aggregation",
    "shape",
    "device",
    "process_group",
    "tags",
    "module",
}


@pytest.fixture(autouse=True)
def nothing_stays_open():
    """No test leaves a scope behind, nor a mode in torch's stack."""
    yield
    assert current.get() is None
    assert _get_current_dispatch_mode_stack() == []


def logging(log, word):
    def creator(next_creator, **kwargs):
        log.append(f"{word}>")
        made = next_creator(**kwargs)
        log.append(f"<{word}")
        return made

    return creator


def ones(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def called(make=lambda: tc.variable(1.0)):
    """Return the words of the open scopes that the making of a variable calls."""
    before = len(LOG)
    make()
    return [word[:-1] for word in LOG[before:] if word.endswith(">")]


LOG: list[str] = []


def scope(word, **options):
    return tc.creator_scope(logging(LOG, word), **options)


# Order ----------------------------------------------------------------------------------------


def test_the_innermost_creator_is_called_first():
    """Creators are called from the innermost scope outward, and return in the other order."""
    log = []
    with (
        tc.creator_scope(logging(log, "outer")),
        tc.creator_scope(logging(log, "middle")),
        tc.creator_scope(logging(log, "inner")),
    ):
        tc.variable(1.0)
    assert log == ["inner>", "middle>", "outer>", "<outer", "<middle", "<inner"]


def test_the_outermost_has_the_last_word_on_keywords_the_innermost_on_the_result():
    """A keyword set inside is seen, and may be changed, outside; the result travels back."""
    other = nn.Parameter(torch.zeros(1))

    def inner(next_creator, **kwargs):
        made = next_creator(**{**kwargs, "name": "inner"})
        assert tc.spec_of(made).name == "outer"
        return other

    def outer(next_creator, **kwargs):
        assert kwargs["name"] == "inner"
        return next_creator(**{**kwargs, "name": "outer"})

    with tc.creator_scope(outer), tc.creator_scope(inner):
        assert tc.variable(1.0) is other


def test_the_same_creator_in_two_scopes_is_called_twice():
    """Scopes count, not creators."""
    creator = logging(LOG, "twice")
    with tc.creator_scope(creator), tc.creator_scope(creator):
        assert called() == ["twice", "twice"]


def test_a_deep_chain_calls_every_creator():
    """A hundred scopes deep, each creator is called once, in order."""
    with contextlib.ExitStack() as stack:
        for depth in range(100):
            stack.enter_context(scope(str(depth)))
        assert called() == [str(depth) for depth in reversed(range(100))]


# What a creator receives ------------------------------------------------------------------------


def test_a_creator_receives_every_keyword():
    """Creators always get all keywords, and the defaults are the documented ones."""
    seen = {}

    def creator(next_creator, **kwargs):
        seen.update(kwargs)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        tc.variable(3.0)
    assert seen == {
        **dict.fromkeys(KEYWORDS),
        "initial_value": 3.0,
        "validate_shape": True,
        "synchronization": tc.VariableSynchronization.AUTO,
        "aggregation": tc.VariableAggregation.NONE,
    }


def test_a_creator_receives_the_callers_raw_values():
    """Nothing is resolved before the creators ran, except that policies are enum members."""
    seen = {}
    owner, tags, device = nn.Module(), {"decay": False}, "cpu"

    def creator(next_creator, **kwargs):
        seen.update(kwargs)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        tc.variable(
            1, name="a b/c", synchronization="on_read", aggregation="Sum", device=device, tags=tags,
            module=owner, constraint="non_neg", dtype=torch.float64, shape=[],
        )  # fmt: skip
    assert seen["tags"] is tags
    assert seen["module"] is owner
    assert {
        word: seen[word] for word in ("name", "device", "constraint", "shape", "trainable")
    } == {
        "name": "a b/c",
        "device": "cpu",
        "constraint": "non_neg",
        "shape": [],
        "trainable": None,
    }
    assert seen["synchronization"] is tc.VariableSynchronization.ON_READ
    assert seen["aggregation"] is tc.VariableAggregation.SUM


def test_a_stock_modules_parameter_brings_the_same_keywords():
    """For a stock module, the keys are the same; module, name and shape are its own."""
    seen = []

    def creator(next_creator, **kwargs):
        seen.append(kwargs)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 3)
    assert [set(kwargs) for kwargs in seen] == [KEYWORDS, KEYWORDS]
    assert [(k["module"], k["name"], k["shape"], k["initial_value"]) for k in seen] == [
        (layer, "weight", (3, 2), None),
        (layer, "bias", (3,), None),
    ]


def test_changing_keywords_in_place_stays_in_the_creator():
    """What a creator does to its dictionary reaches neither the caller nor a second call."""
    seen = []

    def vandal(next_creator, **kwargs):
        seen.append(dict(kwargs))
        kwargs.clear()
        kwargs["initial_value"] = 0.0
        return next_creator(**kwargs)

    mine = {"initial_value": 1.0, "name": "w"}
    with tc.creator_scope(vandal):
        for _ in range(2):
            assert tc.variable(**mine).item() == 0.0
    assert mine == {"initial_value": 1.0, "name": "w"}
    assert seen[0] == seen[1]


def test_dropped_keywords_take_their_defaults():
    """A creator that passes only a value on gets a plain variable."""

    def forgetful(next_creator, **kwargs):
        return next_creator(initial_value=kwargs["initial_value"])

    with tc.creator_scope(forgetful):
        plain = tc.variable(1.0)
        made = tc.variable(
            1.0, name="w", trainable=False, constraint="non_neg", synchronization="on_read",
            aggregation="sum", tags={"a": 1},
        )  # fmt: skip
    assert made.requires_grad
    assert {**vars(tc.spec_of(made)), "name": ""} == {**vars(tc.spec_of(plain)), "name": ""}


def test_the_initial_value_may_come_from_a_creator():
    """Nothing is missing as long as somebody supplies a value before the default creator."""
    with tc.creator_scope(lambda next_creator, **kw: next_creator(**{**kw, "initial_value": 5.0})):
        assert tc.variable(name="w").item() == 5.0


# Calling next_creator ---------------------------------------------------------------------------


def test_next_creator_may_be_called_never():
    """A creator that answers itself keeps the creators further out from being called."""
    own = nn.Parameter(torch.zeros(2))
    with scope("outer"), tc.creator_scope(lambda next_creator, **kwargs: own):
        assert called(lambda: tc.variable(1.0)) == []


def test_next_creator_may_be_called_many_times():
    """Each call runs every creator further out, and makes a variable of its own."""
    made = []

    def thrice(next_creator, **kwargs):
        made.extend(next_creator(**{**kwargs, "initial_value": n}) for n in (1.0, 2.0, 3.0))
        return made[1]

    with scope("outer"), scope("middle"), tc.creator_scope(thrice):
        assert called(lambda: tc.variable(name="w")) == ["middle", "outer"] * 3
    assert [(p.item(), tc.spec_of(p).name) for p in made] == [(1, "w"), (2, "w_1"), (3, "w_2")]


def test_next_creator_may_be_called_after_its_scope_closed():
    """The chain is the one that was open when the variable was asked for."""
    kept = []

    def keeps(next_creator, **kwargs):
        kept.append(functools.partial(next_creator, **kwargs))
        return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(keeps):
        tc.variable(1.0)
    with scope("unrelated"):
        assert called(kept[0]) == ["outer"]


def test_a_creator_may_retry():
    """An error of a creator further out can be caught, and the chain called again."""

    def refuses_half(next_creator, **kwargs):
        if kwargs["dtype"] is torch.float16:
            message = "no half here"
            raise ValueError(message)
        return next_creator(**kwargs)

    def retries(next_creator, **kwargs):
        try:
            return next_creator(**{**kwargs, "dtype": torch.float16})
        except ValueError:
            return next_creator(**{**kwargs, "dtype": torch.bfloat16})

    with tc.creator_scope(refuses_half), tc.creator_scope(retries):
        assert tc.variable(1.0).dtype is torch.bfloat16


@pytest.mark.parametrize("result", ["hello", 0, False, [], torch.zeros(2)], ids=repr)
def test_what_a_creator_returns_is_the_variable(result):
    """Any value but None passes unchecked: fakes and wrappers are the creator's right."""
    with tc.creator_scope(passing), tc.creator_scope(lambda next_creator, **kwargs: result):
        assert tc.variable(1.0) is result


def test_an_existing_parameter_may_be_returned():
    """A shared parameter keeps its identity, name and spec, whatever was asked for now."""
    shared = tc.variable(1.0, name="shared", module=nn.Module())
    with tc.creator_scope(lambda next_creator, **kwargs: shared):
        assert tc.variable(2.0, name="other", trainable=False) is shared
    assert (tc.spec_of(shared).name, shared.requires_grad) == ("shared", True)


def test_none_is_refused_at_each_link():
    """A creator that forgets to return is named, and not the one outside it that was right."""

    def forgets(next_creator, **kwargs):
        next_creator(**kwargs)

    for outer, inner in [(forgets, passing), (passing, forgets)]:
        message = r"forgets returned None for variable 'w'"
        refused = pytest.raises(_errors.CreatorResultError, match=message)
        with tc.creator_scope(outer), tc.creator_scope(inner), refused:
            tc.variable(1.0, name="w")


# Opening and closing ------------------------------------------------------------------------------


def test_a_scope_yields_none():
    """``with creator_scope(c) as x`` binds None, as in TensorFlow."""
    with tc.creator_scope(passing) as entered:
        assert entered is None


def test_a_scope_reaches_what_is_called_inside_not_what_is_called_after():
    """The creators are those that are open when `variable` is called."""
    with scope("a"):
        assert called() == ["a"]
    assert called() == []


def test_one_object_is_not_entered_twice():
    """An open scope refuses to be opened again, and stays as it was."""
    a = scope("a")
    with a:
        with pytest.raises(_errors.ScopeError, match="already open"), a:
            pytest.fail("was entered")
        assert called() == ["a"]
    assert called() == []


def test_a_closed_scope_may_be_opened_again():
    """The object is only a description: after closing it serves once more."""
    a = scope("a")
    for _ in range(3):
        with a:
            assert called() == ["a"]


@pytest.mark.parametrize(
    "error", [ValueError("body"), KeyboardInterrupt("body"), GeneratorExit("body")], ids=repr
)
def test_an_exception_in_the_body_closes_the_scope(error):
    """Whatever ends the block, the scope is closed, and the exception passes unchanged."""
    with scope("outer"):
        with pytest.raises(type(error), match="body") as caught, scope("inner"):
            raise error
        assert caught.value is error
        assert called() == ["outer"]


def test_an_exception_of_a_creator_passes_unchanged():
    """Inner creators may catch it; the caller gets the object that was raised; scopes close."""
    error, seen = ValueError("creator"), []

    def raises(next_creator, **kwargs):
        raise error

    def watches(next_creator, **kwargs):
        try:
            return next_creator(**kwargs)
        except ValueError as passing_by:
            seen.append(passing_by)
            raise

    unchanged = pytest.raises(ValueError, match="creator")
    with unchanged as caught, tc.creator_scope(raises), tc.creator_scope(watches):
        tc.variable(1.0)
    assert caught.value is error is seen[0]


def test_a_failed_creator_leaves_no_parameter_in_the_module():
    """Where a creator raises in a constructor, the module has no half-registered parameter."""
    layer = nn.Linear(2, 2, bias=False)

    def raises(next_creator, **kwargs):
        message = "not this one"
        raise ValueError(message)

    with tc.creator_scope(raises), pytest.raises(ValueError, match="not this one"):
        layer.bias2 = nn.Parameter(torch.zeros(2))
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    layer.bias2 = nn.Parameter(torch.ones(2))
    assert layer.bias2.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("order", ["cab", "acb", "abc", "bac", "bca"])
def test_closing_out_of_order(order):
    """Each scope closed out of turn says so and is gone; the others stay until they are closed."""
    scopes = {word: scope(word) for word in "abc"}
    for opened in scopes.values():
        opened.__enter__()
    remaining = "abc"
    for word in order:
        nested = remaining.endswith(word)
        remaining = remaining.replace(word, "")
        with (
            contextlib.nullcontext()
            if nested
            else pytest.raises(_errors.ScopeError, match="without proper nesting")
        ):
            scopes[word].__exit__(None, None, None)
        assert "".join(called()) == remaining[::-1]


def test_closing_twice_is_an_error_and_changes_nothing():
    """A scope that is not open cannot be closed, and the open ones stay."""
    a = scope("a")
    with a:
        pass
    with scope("b"):
        with pytest.raises(_errors.ScopeError, match="without proper nesting"):
            a.__exit__(None, None, None)
        assert called() == ["b"]


def test_closing_out_of_order_keeps_the_exception_in_flight():
    """The error about nesting carries the one that was being raised as its context."""
    b, body = scope("b"), ValueError("body")
    with pytest.raises(_errors.ScopeError, match="proper nesting") as caught, scope("a"):  # noqa: PT012
        b.__enter__()
        raise body
    assert caught.value.__context__ is body
    b.__exit__(None, None, None)


def test_names_go_on_when_the_outermost_scope_is_closed_first():
    """Scopes that were open together give no name twice, in whatever order they close."""

    def name():
        return tc.spec_of(tc.variable(1.0, name="w")).name

    a, b = tc.creator_scope(passing), tc.creator_scope(passing)
    a.__enter__()
    b.__enter__()
    assert name() == "w"
    with pytest.raises(_errors.ScopeError, match="proper nesting"):
        a.__exit__(None, None, None)
    assert name() == "w_1"
    b.__exit__(None, None, None)


def test_values_stay_protected_when_the_outermost_scope_is_closed_first():
    """A value that a creator set sticks before and after, and no mode is left in torch."""
    a, b = tc.creator_scope(passing), tc.creator_scope(ones)
    a.__enter__()
    b.__enter__()
    assert nn.Linear(2, 2).weight.sum().item() == 4
    with pytest.raises(_errors.ScopeError, match="proper nesting"):
        a.__exit__(None, None, None)
    assert nn.Linear(2, 2).weight.sum().item() == 4
    assert len(_get_current_dispatch_mode_stack()) == 1
    b.__exit__(None, None, None)


# A scope inside a creator, a variable inside a creator --------------------------------------------


def test_a_scope_opened_inside_a_creator_leaves_the_chain_in_flight():
    """The chain was built before; only variables made inside that scope pass its creator."""

    def opens(next_creator, **kwargs):
        with scope("late"):
            return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(opens):
        assert called() == ["outer"]


def test_a_variable_inside_a_creator_runs_the_whole_chain():
    """The creator itself is called again too, so it must know when to stop."""

    def with_scale(next_creator, **kwargs):
        LOG.append(f"{kwargs['name']}>")
        if kwargs["name"] != "scale":
            tc.variable(1.0, name="scale")
        return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(with_scale):
        assert called(lambda: tc.variable(1.0, name="w")) == ["w", "scale", "outer", "outer"]


# modules=False ------------------------------------------------------------------------------------


def test_a_scope_may_leave_stock_modules_alone():
    """``modules=False`` sees what `variable` makes, and nothing that a stock module makes."""
    with scope("a", modules=False):
        assert called(lambda: nn.Linear(1, 1)) == []
        assert called() == ["a"]


@pytest.mark.parametrize(
    ("modules", "expected"),
    [((0, 1, 1), "cb"), ((1, 0, 1), "ca"), ((1, 1, 0), "ba"), ((0, 0, 1), "c"), ((1, 0, 0), "a")],
    ids=str,
)
def test_scopes_with_and_without_modules_mix(modules, expected):
    """Each scope decides for itself whether it sees stock modules; the order stays."""
    with contextlib.ExitStack() as stack:
        for word, wanted in zip("abc", modules, strict=True):
            stack.enter_context(scope(word, modules=bool(wanted)))
        assert "".join(called(lambda: nn.Linear(1, 1, bias=False))) == expected
        assert "".join(called()) == "cba"


# As a decorator -----------------------------------------------------------------------------------


def test_as_a_decorator_each_call_has_a_scope_of_its_own():
    """The scope is open during the call, recursion included, and what wraps keeps its name."""

    @scope("d")
    def depth(n: int) -> int:
        """Count down."""
        assert called() == ["d"] * (1 + 2 - n)
        return depth(n - 1) + 1 if n else 0

    assert (depth(2), depth.__name__, depth.__doc__) == (2, "depth", "Count down.")
    assert called() == []


def test_a_decorated_method_gets_its_object():
    """A decorated ``__init__`` builds its module's parameters in the scope."""

    class Model(nn.Module):
        @tc.creator_scope(ones)
        def __init__(self, size):
            super().__init__()
            self.layer = nn.Linear(size, size)

    assert Model(2).layer.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_decorator_keeps_its_choice_about_modules():
    """``modules=False`` holds for the decorated function too."""

    @scope("d", modules=False)
    def make():
        return called(lambda: nn.Linear(1, 1)) + called()

    assert make() == ["d"]


async def coroutine():
    pass


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize(
    "function",
    [coroutine, generator, async_generator, functools.partial(coroutine)],
    ids=["coroutine", "generator", "async generator", "partial of a coroutine"],
)
def test_what_runs_later_cannot_be_decorated(function):
    """The scope would be closed before the body runs, so it is refused, not ignored."""
    with pytest.raises(_errors.VariableTypeError, match="Open the scope inside it"):
        tc.creator_scope(passing)(function)


# Laws ---------------------------------------------------------------------------------------------


def test_the_identity_creator_changes_nothing():
    """With a creator that only passes on, values, specs, state and random numbers are the same."""

    def build():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LSTM(4, 2))
        model.register_parameter("gain", tc.variable(nn.init.normal_, shape=(3,), name="gain"))
        return model, torch.rand(2)

    plain, plain_draw = build()
    with tc.creator_scope(passing):
        scoped, scoped_draw = build()
    assert torch.equal(plain_draw, scoped_draw)
    assert list(plain.state_dict()) == list(scoped.state_dict())
    for (_, p), (_, q) in zip(plain.named_parameters(), scoped.named_parameters(), strict=True):
        assert torch.equal(p, q)
        assert (p.requires_grad, p.stride(), type(p)) == (q.requires_grad, q.stride(), type(q))
    assert tc.spec_of(plain.gain) == tc.spec_of(scoped.gain)


def test_nesting_is_associative():
    """Three scopes do what one scope does with the three creators composed, in either grouping."""
    log = []

    def composed(inner, outer):
        def creator(next_creator, **kwargs):
            return inner(functools.partial(outer, next_creator), **kwargs)

        return creator

    a, b, c = (logging(log, word) for word in "abc")
    groupings = [
        [a, b, c],
        [composed(b, a), c],
        [a, composed(c, b)],
        [composed(composed(c, b), a)],
        [composed(c, composed(b, a))],
    ]
    logs = []
    for creators in groupings:
        log.clear()
        with contextlib.ExitStack() as stack:
            for creator in creators:
                stack.enter_context(tc.creator_scope(creator))
            tc.variable(1.0)
        logs.append(tuple(log))
    assert logs[0] == ("c>", "b>", "a>", "<a", "<b", "<c")
    assert set(logs) == {logs[0]}


def test_the_default_creator_is_the_end_of_every_chain():
    """`default_creator` as a creator makes what no creator at all makes."""
    with scope("outer"), tc.creator_scope(lambda _, **kwargs: tc.default_creator(**kwargs)):
        assert called(lambda: tc.variable(1.0)) == []
        assert tc.variable(1.0).item() == 1.0
