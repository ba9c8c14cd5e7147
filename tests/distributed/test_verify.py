"""Ranks that disagree are told so, on all of them, before anything is mixed."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import torchcreator as tc
from tests.distributed.models import Policies
from tests.support.ranks import run_ranks
from torchcreator.distributed import aggregate_gradients, data_parallel, verify


def error_of(fn, *args, **keywords):
    try:
        fn(*args, **keywords)
    except tc.TorchCreatorError as error:
        return str(error)
    return None


def model_of(**declarations):
    model = nn.Module()
    for name, keywords in declarations.items():
        model.register_parameter(name, tc.variable(**{"initial_value": [1.0, 2.0]} | keywords))
    return model


def same(rank):
    model = Policies(0)
    with torch.no_grad():
        model.local.fill_(rank)
        model.counter.fill_(rank)
    return error_of(verify, model)


def another_policy(rank):
    model = model_of(
        same={}, gain={"aggregation": "sum" if rank else "mean", "constraint": "non_neg"}
    )
    return error_of(verify, model)


def missing(rank):
    return error_of(verify, model_of(a={}, **({} if rank else {"b": {}})))


def another_order(rank):
    names = ("a", "b") if rank else ("b", "a")
    return error_of(verify, model_of(**{name: {} for name in names}))


def another_shape(rank):
    model = model_of(w={"initial_value": torch.zeros(2 + rank)})
    return error_of(data_parallel, model), error_of(aggregate_gradients, model)


def another_dtype_frozen_constraint(rank):
    model = model_of(
        d={"dtype": torch.float64 if rank else torch.float32},
        f={"trainable": bool(rank)},
        c={"constraint": "non_neg" if rank else None},
    )
    return error_of(verify, model)


def own_constraint(rank):
    # The lambda and the bound method have addresses in their reprs, which differ by rank.
    pad = [object() for _ in range(rank * 1000)]
    model = model_of(a={"constraint": lambda w: w.clamp(0)}, b={"constraint": Clamp().apply})
    return error_of(verify, model), len(pad)


class Clamp:
    def apply(self, w):
        return w.clamp(0)


def many(rank):
    value = [1.0] if rank else [1.0, 2.0]
    return error_of(verify, model_of(**{f"w{i}": {"initial_value": value} for i in range(25)}))


def values_differ(rank):
    model = model_of(equal={}, changed={}, local={"synchronization": "none"})
    with torch.no_grad():
        model.changed[1] = 2.0 + rank
        model.local.fill_(rank)
    return error_of(verify, model), error_of(data_parallel, model), error_of(verify, model)


def one_bit(rank):
    """Flip signs, the highest bits, in each place and in each pair of places."""
    unseen = []
    for size, dtype in ((3, torch.uint8), (5, torch.bfloat16), (2, torch.float64)):
        for first in range(size):
            for second in range(size):
                model = model_of(w={"initial_value": torch.ones(size, dtype=dtype)})
                if rank:
                    sign = 128 if dtype == torch.uint8 else -1
                    w = model.w.detach()
                    for place in {first, second}:
                        w[place] = w[place] ^ sign if dtype == torch.uint8 else w[place] * sign
                if error_of(verify, model) is None:
                    unseen.append((dtype, first, second))
    return unseen


def swapped(rank):
    model = model_of(w={"initial_value": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    if rank:
        with torch.no_grad():
            model.w.copy_(torch.tensor([3.0, 4.0, 1.0, 2.0, 5.0, 6.0]))
    return error_of(verify, model)


def sharded(rank):
    model = fully_shard(Policies(0, per_rank=False))
    return error_of(verify, model)


def subgroup(rank):
    """Pipeline stages hold different models; each compares within its own group."""
    groups = [dist.new_group([0]), dist.new_group([1])]
    model = model_of(**{f"stage{rank}": {}})
    return error_of(verify, model, process_group=groups[rank])


def buffers_of_other_shapes(rank):
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.zeros(2 + rank))
    return error_of(aggregate_gradients, model)


def local_shapes_may_differ(rank):
    return error_of(
        verify,
        model_of(w={"initial_value": torch.zeros(2 + rank), "synchronization": "none"}),
    )


SCENARIOS = [
    same,
    another_policy,
    missing,
    another_order,
    another_shape,
    another_dtype_frozen_constraint,
    own_constraint,
    many,
    values_differ,
    one_bit,
    swapped,
    sharded,
    subgroup,
    buffers_of_other_shapes,
    local_shapes_may_differ,
]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What each scenario gave; every rank must have been told the same."""

    def play(rank):
        return {scenario.__name__: scenario(rank) for scenario in SCENARIOS}

    zero, one = run_ranks(play, 2, tmp_path_factory.mktemp("ranks"))
    zero.pop("own_constraint"), one.pop("own_constraint")
    assert zero == one
    return zero


def test_equal_models_pass(played):
    """Ranks with the same variables pass, and so do shards, stages and values per rank."""
    for scenario in ("same", "sharded", "subgroup", "local_shapes_may_differ"):
        assert played[scenario] is None, scenario


def test_a_constraints_address_is_not_compared(tmp_path):
    """Two ranks' lambdas and bound methods are the same constraint, wherever they lie in memory."""
    for error, _ in run_ranks(own_constraint, 2, tmp_path):
        assert error is None


def test_another_policy_is_named_with_what_each_rank_has(played):
    """The error names the variable, each rank's declaration, and what to do; not the others."""
    assert played["another_policy"] == (
        "The ranks declare different variables.\n"
        "  gain:\n"
        "    rank 0: shape (2,), float32, trained, AUTO, MEAN, constraint NonNeg()\n"
        "    rank 1: shape (2,), float32, trained, AUTO, SUM, constraint NonNeg()\n"
        "Each rank would reduce or overwrite one variable with another's values.\n"
        "Build the model in the same way on all ranks: the same creators, the same order."
    )


def test_a_missing_variable(played):
    """A variable that only some ranks have is named, with the ranks that miss it."""
    assert "  b:\n    rank 0: shape (2,)" in played["missing"]
    assert "    rank 1: missing" in played["missing"]


def test_another_order(played):
    """Equal variables in another order are told with both orders."""
    assert "in another order: rank 0: b, a; rank 1: a, b" in played["another_order"]


def test_the_entry_points_verify_first(played):
    """Unequal shapes, which would abort the process in a broadcast, are an error before it."""
    for message in played["another_shape"]:
        assert "rank 0: shape (2,)" in message
        assert "rank 1: shape (3,)" in message
    assert "mask:\n    rank 0: buffer, shape (2,)" in played["buffers_of_other_shapes"]


def test_everything_that_must_agree_is_compared(played):
    """The dtype, whether it is trained, and the constraint are told apart."""
    message = played["another_dtype_frozen_constraint"]
    for part in ("float64", "frozen", "constraint NonNeg()", "constraint None"):
        assert part in message


def test_a_long_list_is_cut(played):
    """Ten variables are shown, the rest counted."""
    assert played["many"].count("rank 0:") == 10
    assert "and 15 more" in played["many"]


def test_different_values_are_named_until_they_are_shared(played):
    """Values of one variable that differ are shown; after wrapping they are equal."""
    before, wrapping, after = played["values_differ"]
    assert "  changed:\n    rank 0: " in before
    assert "(1, 2)" in before
    assert "(1, 3)" in before
    assert "equal" not in before.partition("\n")[2].partition("Their gradients")[0]
    assert wrapping is None
    assert after is None


def test_every_bit_counts(played):
    """One flipped sign, two flipped signs and swapped words are seen in every dtype and size."""
    assert played["one_bit"] == []
    assert "w:" in played["swapped"]


def test_without_a_group_the_error_says_what_to_call():
    """Every function that brings ranks together asks for a process group."""
    for function in (verify, aggregate_gradients, data_parallel):
        with pytest.raises(tc.TorchCreatorError, match=r"(?s)no way to reach.*init_process_group"):
            function(nn.Linear(1, 1))
