"""TensorFlow's behaviour, row by row: the same here, or different on purpose and then why.

The rows are facts about ``tf.variable_creator_scope`` and ``tf.Variable`` of TensorFlow 2.21, in
four groups: the creator chain, threads and tasks, keywords, methods. The tests are numbered like
the rows. A docstring that begins with "Differs:" says what TensorFlow does and what happens here
instead; every other docstring is a claim that holds in both.

What has no counterpart, and why:

====================================  ==============================================================
row                                   reason
====================================  ==============================================================
chain 3, priorities                   private in TensorFlow, for `tf.function` and strategies only
chain 12, keywords under a strategy   there are no strategies: ranks are processes, every rank
                                      creates, and the policies reach creators as they were written
threads, replica threads              the same: one rank is one process
threads, ``tf.Graph``, ``init_scope`` there are no graphs that own variables
threads, ``tf.function`` (5 rows)     a compiled function makes no parameters; modules are built in
                                      plain Python before, where scopes work as everywhere
keywords, variable_def, import_scope  protobufs of graphs
keywords, variable lifting            belongs to `tf.function`
keywords, a strategy's stricter enums the enum is checked in one place, with or without ranks
methods, ``use_locking``,             arguments of graph mode; a write is done when it returns
``read_value=False``
methods, ``.initializer``             belongs to graph mode
methods, ``==`` and hashing, repr     a parameter is a tensor, and behaves as torch's tensors do
====================================  ==============================================================
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator._root import current

SYNC, AGG = tc.VariableSynchronization, tc.VariableAggregation


def logging(log, word):
    def creator(next_creator, **kwargs):
        log.append(f"{word}>")
        made = next_creator(**kwargs)
        log.append(f"<{word}")
        return made

    return creator


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def called(make=lambda: tc.variable(1.0)):
    """Return the words of the creators that `make` calls, in order."""
    LOG.clear()
    make()
    return [word[:-1] for word in LOG if word.endswith(">")]


LOG: list[str] = []


def scope(word):
    return tc.creator_scope(logging(LOG, word))


def seen_by_a_creator(*args, **kwargs):
    seen = {}

    def creator(next_creator, **keywords):
        seen.update(keywords)
        return next_creator(**keywords)

    with tc.creator_scope(creator):
        tc.variable(*args, **kwargs)
    return seen


def spec(*args, **kwargs):
    return tc.spec_of(tc.variable(*args, **kwargs))


# The creator chain --------------------------------------------------------------------------------


def test_chain_01_order():
    """The innermost scope is called first, its next_creator is the next scope outward."""
    log = []
    with (
        tc.creator_scope(logging(log, "outer")),
        tc.creator_scope(logging(log, "mid")),
        tc.creator_scope(logging(log, "inner")),
    ):
        tc.variable(1.0)
    assert log == ["inner>", "mid>", "outer>", "<outer", "<mid", "<inner"]


def test_chain_02_last_word():
    """The outermost has the last word on the keywords, the innermost on the returned object."""
    names = []

    def forces(name):
        def creator(next_creator, **kwargs):
            names.append(kwargs["name"])
            return next_creator(**{**kwargs, "name": name})

        return creator

    with tc.creator_scope(forces("outer")), tc.creator_scope(forces("inner")):
        assert spec(1.0, name="raw").name == "outer"
    assert names == ["raw", "inner"]


def test_chain_04_value_of_with():
    """The value of ``with ... as x`` is None."""
    with tc.creator_scope(passing) as x:
        assert x is None


def test_chain_05_decorator():
    """A scope is usable as a decorator and applies on every call."""

    @scope("d")
    def make():
        return tc.variable(1.0)

    assert called(make) == ["d"] == called(make)


def test_chain_06_reentering():
    """Differs: an open scope refuses to be entered again by name, not with an AttributeError."""
    opened = scope("a")
    with opened, pytest.raises(RuntimeError, match="already open"):
        opened.__enter__()


def test_chain_07_same_creator_twice():
    """The same creator in two nested scopes is called twice."""
    creator = logging(LOG, "c")
    with tc.creator_scope(creator), tc.creator_scope(creator):
        assert called() == ["c", "c"]


@pytest.mark.parametrize("creator", [5, None], ids=repr)
def test_chain_08_not_callable(creator):
    """Differs: a creator that is not callable is refused when the scope is made, not when used."""
    with pytest.raises(TypeError, match="creator_scope got"):
        tc.creator_scope(creator)


def test_chain_09_creator_without_kwargs():
    """A creator that lacks ``**kwargs`` gets Python's own TypeError."""
    with (
        tc.creator_scope(lambda next_creator: None),
        pytest.raises(TypeError, match="unexpected keyword argument 'initial_value'"),
    ):
        tc.variable(1.0)


def test_chain_10_positional_arguments():
    """``next_creator(1.0)`` is a TypeError: keywords only."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: next_creator(1.0)),
        pytest.raises(TypeError, match="takes 0 positional arguments but 1 was given"),
    ):
        tc.variable(1.0)


def test_chain_11_keywords_seen():
    """Differs in the set: all keys are always there with raw values, ours instead of graph mode's.

    The ten that both have carry TensorFlow's defaults.
    """
    seen = seen_by_a_creator(3.0)
    theirs = {
        "initial_value": 3.0,
        "trainable": None,
        "validate_shape": True,
        "caching_device": None,
        "name": None,
        "dtype": None,
        "constraint": None,
        "synchronization": SYNC.AUTO,
        "aggregation": AGG.NONE,
        "shape": None,
    }
    ours = dict.fromkeys(("device", "process_group", "tags", "module"))
    assert seen == theirs | ours


def test_chain_13_unknown_keyword_of_the_user():
    """Differs: an unknown keyword is an error with the nearest one, not ignored; tags carry more.

    TensorFlow passes it to the creators and its factory drops it, so a misspelt one has no effect.
    """
    with pytest.raises(TypeError, match=r"'trainabel' \(did you mean 'trainable'\?\)"):
        tc.variable(1.0, trainabel=False)
    assert seen_by_a_creator(1.0, tags={"frobnicate": 3})["tags"]["frobnicate"] == 3


def test_chain_14_unknown_keyword_of_a_creator():
    """Differs: a keyword added by a creator is an error too; creators talk through tags."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs, colocate_with=1)),
        pytest.raises(TypeError, match="unexpected keyword 'colocate_with'"),
    ):
        tc.variable(1.0)

    def tags(next_creator, **kwargs):
        return next_creator(**{**kwargs, "tags": {"colocate_with": 1}})

    with tc.creator_scope(tags):
        assert spec(1.0).tags == {"colocate_with": 1}


def test_chain_15_dropped_keywords():
    """A creator may drop keywords: name, trainable and policies take the factory's defaults."""

    def drops(next_creator, **kwargs):
        return next_creator(initial_value=kwargs["initial_value"])

    with tc.creator_scope(drops):
        found = spec(1.0, name="w", trainable=False, constraint=abs, aggregation="sum")
    assert (found.name, found.trainable, found.constraint) == ("Variable", True, None)
    assert (found.synchronization, found.aggregation) == (SYNC.AUTO, AGG.NONE)


def test_chain_16_none_before_the_creators():
    """Differs for synchronization: both policies' None is normalised before the first creator.

    ``trainable=None`` is passed through, in both.
    """
    seen = seen_by_a_creator(1.0, aggregation=None, synchronization=None, trainable=None)
    assert seen["aggregation"] is AGG.NONE
    assert seen["synchronization"] is SYNC.AUTO
    assert seen["trainable"] is None


def test_chain_17_mutation():
    """Mutating the keywords inside a creator never leaks to the caller's dict."""
    mine = {"initial_value": 1.0, "name": "w"}

    def mutates(next_creator, **kwargs):
        kwargs.update(initial_value=2.0, name="other")
        return next_creator(**kwargs)

    with tc.creator_scope(mutates):
        assert tc.variable(**mine).item() == 2.0
    assert mine == {"initial_value": 1.0, "name": "w"}


@pytest.mark.parametrize("result", ["hello", 0, torch.zeros(1), [1]], ids=repr)
def test_chain_18_returns_a_non_variable(result):
    """What a creator returns is returned as it is, without a check."""
    with tc.creator_scope(lambda next_creator, **kwargs: result):
        assert tc.variable(1.0) is result


def test_chain_18_returns_a_non_variable_to_a_stock_module():
    """Differs where a module registers it: torch can register nothing but a parameter."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: "hello"),
        pytest.raises(TypeError, match=r"returned 'hello' for Linear\.weight"),
    ):
        nn.Linear(1, 1)


def test_chain_19_returns_none():
    """Differs: None is a TypeError that names the creator, not an empty NotImplementedError."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: None),
        pytest.raises(TypeError, match=r"returned None .*(?s:.*)return next_creator\(\*\*kwargs\)"),
    ):
        tc.variable(1.0)


def test_chain_20_returns_an_existing_variable():
    """An existing variable is returned itself, with its own name; the arguments are ignored."""
    existing = tc.variable(1.0, name="existing", trainable=False, module=nn.Module())
    with tc.creator_scope(lambda next_creator, **kwargs: existing):
        found = tc.variable(2.0, name="new", trainable=True)
    assert found is existing
    assert (tc.spec_of(found).name, found.requires_grad, found.item()) == ("existing", False, 1.0)


def test_chain_21_next_creator_several_times():
    """Each call of next_creator runs all creators further out and makes a variable."""

    def several(next_creator, **kwargs):
        return [next_creator(**kwargs) for _ in range(3)]

    with scope("outer"), tc.creator_scope(several):
        assert called() == ["outer"] * 3
        made = tc.variable(1.0)
    assert len({id(p) for p in made}) == 3


def test_chain_22_next_creator_zero_times():
    """Where next_creator is not called, the outer creators never are."""
    with scope("outer"), tc.creator_scope(lambda next_creator, **kwargs: nn.Parameter()):
        assert called() == []


def test_chain_23_next_creator_later():
    """next_creator works after the scope exited: the chain is captured at call time."""
    kept = []
    with scope("outer"), tc.creator_scope(lambda nxt, **kwargs: kept.append((nxt, kwargs)) or 1):
        tc.variable(5.0)
    ((next_creator, kwargs),) = kept
    assert called(lambda: next_creator(**kwargs)) == ["outer"]
    assert next_creator(**kwargs).item() == 5.0


def test_chain_24_retry():
    """A creator may catch an exception of next_creator and retry with other keywords."""

    def retries(next_creator, **kwargs):
        try:
            return next_creator(**kwargs)
        except ValueError:
            return next_creator(**{**kwargs, "shape": None})

    with tc.creator_scope(retries):
        assert tc.variable([1.0, 2.0], shape=(3,)).tolist() == [1.0, 2.0]


def test_chain_25_variable_inside_a_creator():
    """Differs in the error: the full chain runs again, and without end it is explained."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: tc.variable(**kwargs)),
        pytest.raises(RecursionError, match=r"made variables for ever(?s:.*)next_creator"),
    ):
        tc.variable(1.0)

    def bounded(next_creator, **kwargs):
        LOG.append("inner>")
        if kwargs["name"] != "aux":
            tc.variable(0.0, name="aux")
        return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(bounded):
        assert called() == ["inner", "inner", "outer", "outer"]


def test_chain_26_scope_inside_a_creator():
    """A scope opened inside a creator affects only variables made inside it, not the chain."""

    def opens(next_creator, **kwargs):
        with scope("late"):
            if kwargs["name"] == "asks":
                tc.variable(0.0, name="aux")
            return next_creator(**kwargs)

    with tc.creator_scope(opens):
        assert called() == []
        assert called(lambda: tc.variable(1.0, name="asks")) == ["late"]


def test_chain_27_bypasses():
    """Copies never call creators: deepcopy, pickle, and the class called directly."""
    v = tc.variable(1.0)
    with scope("a"):
        assert called(lambda: copy.deepcopy(v)) == []
        assert called(lambda: pickle.loads(pickle.dumps(v))) == []
        assert called(lambda: nn.Parameter(torch.zeros(1))) == []


def test_chain_28_callable_initial_value():
    """A callable stays lazy, is called once by the factory after every creator, may be wrapped."""
    log = []

    def wraps(next_creator, **kwargs):
        value = kwargs["initial_value"]
        log.append("creator")
        return next_creator(**{**kwargs, "initial_value": lambda: value() * 2})

    with tc.creator_scope(wraps):
        assert tc.variable(lambda: log.append("value") or 3.0).item() == 6.0
    assert log == ["creator", "value"]


def test_chain_29_exception_of_a_creator():
    """An exception propagates unchanged through inner creators and out of the with."""
    raised, caught = ValueError("outer"), []

    def raises(next_creator, **kwargs):
        raise raised

    def catches(next_creator, **kwargs):
        try:
            return next_creator(**kwargs)
        except ValueError as error:
            caught.append(error)
            raise

    with (
        pytest.raises(ValueError, match="outer") as out,
        tc.creator_scope(raises),
        tc.creator_scope(catches),
    ):
        tc.variable(1.0)
    assert out.value is raised is caught[0]
    assert called() == []


def test_chain_30_exception_in_the_body():
    """An exception in the body restores the stack, to the very same link."""
    with scope("outer"):
        before = current.get()
        with pytest.raises(KeyError, match="body"), scope("inner"):
            raise KeyError("body")
        assert current.get() is before


def test_chain_31_out_of_order_exit():
    """Differs: the error is TensorFlow's, but the scope closed out of order is gone all the same.

    There it stays active for ever, and closing it again is silent; here it is an error again.
    """
    a, b = scope("a"), scope("b")
    a.__enter__()
    b.__enter__()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="without proper nesting"):
            a.__exit__(None, None, None)
        assert called() == ["b"]
    b.__exit__(None, None, None)
    assert called() == []


def test_chain_32_misnesting_during_an_exception():
    """The error about nesting replaces the one in flight, which is kept as its context."""
    b = scope("b")
    original = KeyError("body")
    with pytest.raises(RuntimeError, match="proper nesting") as caught, scope("a"):  # noqa: PT012
        b.__enter__()
        raise original
    assert caught.value.__context__ is original
    b.__exit__(None, None, None)


def test_chain_33_dropping_an_entered_scope():
    """Differs: an entered scope stays open until it is closed, whoever still refers to it.

    In TensorFlow it is a generator's frame, which CPython closes with its last reference.
    """
    scope("a").__enter__()
    assert called() == ["a"]
    current.get().scope.__exit__(None, None, None)
    assert called() == []


def test_chain_34_suspended_generator():
    """Differs in reach: a suspended generator holds its scope open in its context, not the thread.

    It ends when the generator is closed, in both.
    """

    def suspends():
        with scope("g"):
            yield

    generator = suspends()
    next(generator)
    assert called() == ["g"]
    assert contextvars.Context().run(called) == []
    generator.close()
    assert called() == []


# Threads and tasks --------------------------------------------------------------------------------


def in_thread(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def test_threads_1_another_thread():
    """Another thread does not see the scope."""
    with scope("a"):
        assert in_thread(called) == []


def test_threads_2_independent():
    """Two threads, each with a scope, are independent."""

    def inside():
        with scope("b"):
            return called()

    with scope("a"):
        assert in_thread(inside) == ["b"]
        assert called() == ["a"]


def test_threads_3_a_copied_context():
    """Differs: a context copied into a thread brings its scopes; that is what copying is for."""
    with scope("a"):
        assert in_thread(contextvars.copy_context().run, called) == ["a"]


def test_threads_4_asyncio():
    """Differs: a scope does not leak to other tasks across await, and overlapping ones close well.

    In TensorFlow the first of two overlapping tasks to exit gets the RuntimeError, and one creator
    stays on the stack for ever.
    """

    async def task(word, before, inside):
        await asyncio.sleep(before)
        with scope(word):
            await asyncio.sleep(inside)
            return called()

    async def main():
        return await asyncio.gather(task("a", 0, 0.02), task("b", 0.01, 0.02)), called()

    assert asyncio.run(main()) == ([["a"], ["b"]], [])


# Keywords -----------------------------------------------------------------------------------------


def test_initial_value_missing():
    """None or missing is a ValueError of the factory, so a creator may supply the value."""
    with pytest.raises(ValueError, match="has no initial_value"):
        tc.variable()
    with tc.creator_scope(lambda nxt, **kwargs: nxt(**{**kwargs, "initial_value": 1.0})):
        assert tc.variable().item() == 1.0


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.0, torch.float32),
        (True, torch.bool),
        ([1, 2.5], torch.float32),
        ([], torch.float32),
        (np.float64(1), torch.float64),
        (np.int64(1), torch.int64),
        (torch.zeros(1, dtype=torch.float16), torch.float16),
    ],
    ids=repr,
)
def test_initial_value_dtypes(value, dtype):
    """Floats are float32, bools bool, an empty list float32; NumPy and tensors keep their dtype."""
    assert tc.variable(value).dtype is dtype


def test_initial_value_integers():
    """Differs: a Python int is int64, torch's own choice, and not int32."""
    assert tc.variable(1).dtype is torch.int64


def test_initial_value_text():
    """Differs: torch has no tensors of text, so it is a TypeError."""
    with pytest.raises(TypeError, match="'text'"):
        tc.variable("text")


def test_initial_value_ragged():
    """A ragged list is a ValueError."""
    with pytest.raises(ValueError, match=r"\[\[1.0\], \[1.0, 2.0\]\]"):
        tc.variable([[1.0], [1.0, 2.0]])


def test_initial_value_of_a_wrong_type():
    """Differs in the kind: what is no value is a TypeError, not a ValueError."""
    with pytest.raises(TypeError, match=r"is \{\}"):
        tc.variable({})


def test_initial_value_is_copied():
    """Arrays and variables are copied: later changes of the source are not seen."""
    array, v = np.zeros(1), tc.variable([0.0])
    made = tc.variable(array), tc.variable(v)
    array[0] = 1
    tc.assign(v, [1.0])
    assert [p.item() for p in made] == [0.0, 0.0]


def test_initial_value_callables():
    """A callable needs no dtype; one that needs an argument, or returns None, is an error.

    Differs in the second: TypeError there as well, where TensorFlow raises ValueError.
    """
    assert tc.variable(lambda: [1.0, 2.0]).dtype is torch.float32
    with pytest.raises(TypeError, match="needs an argument"):
        tc.variable(lambda shape: 1.0)
    with pytest.raises(TypeError, match="returned None"):
        tc.variable(lambda: None)


def test_dtype_conversions():
    """Python ints and NumPy arrays are converted, arrays with truncation."""
    assert tc.variable(1, dtype=torch.float32).dtype is torch.float32
    assert tc.variable(np.float64([1.5]), dtype=torch.float32).tolist() == [1.5]
    assert tc.variable(np.array([1.7]), dtype=torch.int32).tolist() == [1]


def test_dtype_fractions():
    """A Python float for an integer variable is a TypeError."""
    with pytest.raises(TypeError, match="drop its fraction"):
        tc.variable(1.5, dtype=torch.int32)


def test_dtype_of_a_tensor():
    """Tensors are never cast: another dtype is a ValueError."""
    with pytest.raises(ValueError, match=r"torch\.float64\n.*torch\.float32"):
        tc.variable(torch.zeros(1), dtype=torch.float64)


@pytest.mark.parametrize("dtype", ["float16", np.float16, "nope"], ids=repr)
def test_dtype_by_name(dtype):
    """Differs: a dtype is a torch.dtype, as everywhere in torch; names and NumPy's are refused."""
    with pytest.raises(TypeError, match="The dtype of variable"):
        tc.variable(1.0, dtype=dtype)


@pytest.mark.parametrize("value", [[1.0, 2.0], 0.0], ids=repr)
def test_shape_must_equal(value):
    """The shape must be the value's: no broadcasting, ValueError."""
    with pytest.raises(ValueError, match=r"expected: \(3,\)"):
        tc.variable(value, shape=[3])


def test_shape_partly_known():
    """Differs: a dimension of None is refused; a torch parameter has one shape.

    An unknown shape is ``validate_shape=False``, which gives an uninitialized parameter.
    """
    with pytest.raises(TypeError, match=r"is \[None\]"):
        tc.variable([1.0], shape=[None])


def test_validate_shape():
    """Differs: False means what TensorFlow documents, an unknown shape, and needs no value."""
    assert isinstance(tc.variable(validate_shape=False), nn.UninitializedParameter)
    assert tc.variable([1.0], validate_shape=False).shape == (1,)


def test_caching_device():
    """Differs: the cached copy is refreshed when the variable changed, and never stale."""
    v = tc.variable(1.0, caching_device="cpu")
    assert tc.read_value(v).item() == 1.0
    tc.assign(v, 5.0)
    assert (tc.read_value(v).item(), (v + 0).item()) == (5.0, 5.0)


def test_name_default_and_raw():
    """None becomes "Variable"; creators see the raw name, None if not given."""
    assert seen_by_a_creator(1.0)["name"] is None
    assert seen_by_a_creator(1.0, name="a/b c!")["name"] == "a/b c!"
    with tc.creator_scope(passing):
        assert spec(1.0).name == "Variable"
        assert spec(1.0, name="a/b c!").name == "a/b c!"


def test_name_uniquified():
    """Differs: names are uniquified, as graph mode does and the documentation says; eager does not.

    There is no ``:0`` behind a name.
    """
    with tc.creator_scope(passing):
        names = [spec(1.0, name=name).name for name in ("a", "a", None, None)]
    assert names == ["a", "a_1", "Variable", "Variable_1"]


def test_name_refused():
    """A name that is no string is an error. Differs for the empty one, which is refused too."""
    with pytest.raises(TypeError, match="The name of a variable is 3"):
        tc.variable(1.0, name=3)
    with pytest.raises(ValueError, match="The name of a variable is ''"):
        tc.variable(1.0, name="")


def test_trainable_default():
    """None is resolved in the factory: True, but False for ON_READ."""
    assert spec(1.0).trainable is True
    assert spec(1.0, synchronization="on_read").trainable is False
    assert seen_by_a_creator(1.0, synchronization="on_read")["trainable"] is None


def test_trainable_with_on_read():
    """An explicit True together with ON_READ is accepted."""
    assert spec(1.0, trainable=True, synchronization=SYNC.ON_READ).trainable is True


def test_trainable_of_integers():
    """Differs: integers and bools default to False, and True is a TypeError: no gradient exists."""
    assert spec(1).trainable is False
    assert spec(True).trainable is False
    with pytest.raises(TypeError, match=r"trainable with dtype torch\.int64"):
        tc.variable(1, trainable=True)


@pytest.mark.parametrize("value", [0, 1, "yes"], ids=repr)
def test_trainable_is_checked(value):
    """Differs: what is no bool is a TypeError, not stored as given."""
    with pytest.raises(TypeError, match="The trainable of variable"):
        tc.variable(1.0, trainable=value)


def test_constraint():
    """A callable is stored as it is, and applied neither at creation nor by assign."""

    def relu(w):
        return w.relu()

    v = tc.variable([-1.0], constraint=relu)
    assert tc.spec_of(v).constraint is relu
    assert v.item() == -1.0
    assert tc.assign_add(v, [-1.0]).item() == -2.0


def test_constraint_refused():
    """Neither None nor callable is an error. Differs for text, which names a ready-made one."""
    with pytest.raises(TypeError, match="Invalid constraint 3"):
        tc.variable(1.0, constraint=3)
    assert spec(1.0, constraint="non_neg").constraint == tc.constraints.NonNeg()


@pytest.mark.parametrize(
    ("keyword", "members"), [("synchronization", SYNC), ("aggregation", AGG)], ids=str
)
def test_policies_read(keyword, members):
    """Members and None are accepted. Differs: names in any case are read, numbers are refused.

    TensorFlow refuses names and reads 0 to 3, so that True is a policy.
    """
    for member in members:
        for written in (member, member.name, member.name.lower()):
            assert getattr(spec(1.0, **{keyword: written}), keyword) is member
    assert getattr(spec(1.0, **{keyword: None}), keyword).value == 0
    for wrong in (0, 2.0, True, 7, -1, "wrong"):
        with pytest.raises(ValueError, match=f"Invalid variable {keyword} mode: "):
            tc.variable(1.0, **{keyword: wrong})


def test_policies_message():
    """The error has TensorFlow's words, with the variable's name where it shows None."""
    with pytest.raises(ValueError, match="Invalid variable aggregation mode: 'X' for variable: nm"):
        tc.variable(1.0, aggregation="X", name="nm")


def test_enums():
    """The members have TensorFlow's names and numbers; S(0) and S["AUTO"] work; SUM is not 1."""
    assert [m.name for m in SYNC] == ["AUTO", "NONE", "ON_WRITE", "ON_READ"]
    assert [m.name for m in AGG] == ["NONE", "SUM", "MEAN", "ONLY_FIRST_REPLICA"]
    assert SYNC(0) is SYNC["AUTO"]
    assert AGG.SUM != 1


@pytest.mark.parametrize("value", [1, True, 1j], ids=repr)
def test_mean_of_what_is_not_floating(value):
    """MEAN with an int, bool or complex dtype is refused at creation; float16 is fine.

    Differs in when: always, where TensorFlow refuses it only under a strategy.
    """
    with pytest.raises(ValueError, match="aggregation MEAN and dtype"):
        tc.variable(value, aggregation="mean")
    assert spec(1.0, dtype=torch.float16, aggregation="mean").aggregation is AGG.MEAN


# Methods and properties ---------------------------------------------------------------------------


def test_assign_chains():
    """Writes chain. Differs: they return the variable itself, not a new object."""
    v = tc.variable([1.0, 2.0])
    assert tc.assign_add(tc.assign(v, [3.0, 4.0]), [1.0, 1.0]) is v
    assert v.tolist() == [4.0, 5.0]


@pytest.mark.parametrize("write", [tc.assign, tc.assign_add, tc.assign_sub])
@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], 1.0], ids=["longer", "a number"])
def test_assign_shape(write, value):
    """A write of another shape is an error, a number to a vector too: nothing is broadcast."""
    with pytest.raises(ValueError, match="another shape"):
        write(tc.variable([1.0, 2.0]), value)


def test_assign_dtype():
    """Python and NumPy values are converted; a tensor of another dtype, fractions, None are not.

    Differs in the kind for tensors and None: TypeError, where TensorFlow raises ValueError.
    """
    v, n = tc.variable([1.0]), tc.variable([1])
    assert tc.assign(v, np.float64([2.0])).item() == 2.0
    for variable, value in [(v, torch.zeros(1).double()), (v, None), (n, [1.5]), (n, [2.0])]:
        with pytest.raises(TypeError, match=r"The value for variable"):
            tc.assign(variable, value)


def test_assign_to_what_is_not_trainable():
    """A variable with trainable=False is written like any other."""
    assert tc.assign(tc.variable(1.0, trainable=False), 2.0).item() == 2.0


def test_in_place_operators():
    """``v += 1`` is a RuntimeError. Differs in whose: torch's, for leaves that require grad."""
    v = tc.variable(1.0)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        v += 1


def test_reads_are_snapshots():
    """Later writes are not seen through what was read before."""
    v = tc.variable([1.0])
    read = tc.read_value(v)
    tc.assign(v, [2.0])
    assert read.tolist() == [1.0]
    assert type(read) is torch.Tensor


def test_gradients():
    """Trainable variables get gradients by themselves, others none."""
    v, frozen = tc.variable(2.0), tc.variable(3.0, trainable=False)
    (v * frozen).backward()
    assert (v.grad.item(), frozen.grad) == (3.0, None)


def test_gradient_through_assign():
    """The gradient of ``assign(v, 3.) * 2`` with respect to v is 2: the result is the variable."""
    v = tc.variable(1.0)
    (tc.assign(v, 3.0) * 2).backward()
    assert v.grad.item() == 2.0


def test_properties_are_read_only():
    """What was declared cannot be set afterwards: the spec is frozen."""
    found = spec(1.0)
    with pytest.raises(AttributeError, match="cannot assign to field 'trainable'"):
        found.trainable = False


def test_synchronization_stays_auto():
    """A plain variable's synchronization stays AUTO."""
    assert spec(1.0).synchronization is SYNC.AUTO


def declared():
    return tc.variable(
        [1.0], name="w", trainable=False, constraint="non_neg", synchronization="on_read",
        aggregation="sum", module=nn.Module(),
    )  # fmt: skip


def test_deepcopy():
    """A deepcopy keeps name, trainable, constraint and policies, with memory of its own."""
    v = declared()
    copied = copy.deepcopy(v)
    assert tc.spec_of(copied) == tc.spec_of(v)
    tc.assign(v, [5.0])
    assert copied.item() == 1.0


def test_pickle():
    """Differs: pickling keeps the policies too, which TensorFlow loses."""
    v = declared()
    assert tc.spec_of(pickle.loads(pickle.dumps(v))) == tc.spec_of(v)
