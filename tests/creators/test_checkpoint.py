"""`from_checkpoint` begins with the values of files, and says all that does not fit at once."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import torchcreator as tc
from torchcreator import build
from torchcreator._errors import CheckpointError
from torchcreator.creators import cast, from_checkpoint, where


def model(width=3):
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width)),
            "decoder": nn.Linear(width, 4),
        }
    )


@pytest.fixture
def trained():
    """Return a model whose every value, buffers too, is unlike what a constructor makes."""
    made = model()
    with torch.no_grad():
        for number, tensor in enumerate(made.state_dict().values()):
            tensor.add_(number + 10)
    return made


@pytest.fixture
def path(trained, tmp_path):
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def loaded(factory, path, **options):
    with tc.creator_scope(from_checkpoint(path, **options)):
        return build(factory, seed=0)


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("copy", [False, True], ids=["mapped", "copied"])
def test_a_built_model_has_every_value_of_the_file(copy, path, trained):
    """Parameters and persistent buffers are those of the file."""
    assert same(loaded(model, path, copy=copy), trained)


def test_what_does_not_fit_is_one_error(trained, tmp_path):
    """Missing, unexpected, wrong shape and wrong dtype are listed together, buffers too."""
    state = trained.state_dict()
    state["extra.weight"] = torch.ones(1)
    del state["decoder.bias"], state["encoder.1.running_mean"]
    state["encoder.0.weight"] = torch.ones(5, 4)
    state["encoder.0.bias"] = state["encoder.0.bias"].half()
    state["encoder.1.running_var"] = torch.ones(5)
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError) as caught:
        loaded(model, tmp_path / "m.safetensors")
    assert caught.value.args[0] == (
        "The checkpoint and the model do not fit.\n"
        "  missing in the files (2):\n"
        "    decoder.bias\n"
        "    encoder.1.running_mean\n"
        "  not fitting (3):\n"
        "    encoder.0.weight: shape (3, 4), in the file (5, 4)\n"
        "    encoder.0.bias: dtype torch.float32, in the file torch.float16\n"
        "    encoder.1.running_var: shape (3,), in the file (5,)\n"
        "  unexpected in the files (1):\n"
        "    extra.weight"
    )


def test_a_model_that_does_not_fit_costs_nothing(path):
    """After the first problem nothing is initialised: the rest of the error is found on meta."""
    made = []

    def note(next_creator, **kwargs):
        parameter = next_creator(**kwargs)
        made.append(parameter.device.type)
        return parameter

    with (
        tc.creator_scope(note),
        tc.creator_scope(from_checkpoint(path)),
        pytest.raises(CheckpointError, match="do not fit"),
    ):
        build(model, 5, seed=0)
    assert made == ["meta"] * len(made)


def test_not_strict_takes_what_is_there(trained, tmp_path):
    """What is missing keeps its own value, and what is unexpected is left."""
    state = {"decoder.bias": trained["decoder"].bias.detach(), "extra": torch.ones(1)}
    save_file(state, tmp_path / "m.safetensors")
    path = tmp_path / "m.safetensors"
    made = loaded(model, path, strict=False)
    own = build(model, seed=0)
    assert torch.equal(made["decoder"].bias, trained["decoder"].bias)
    assert torch.equal(made["decoder"].weight, own["decoder"].weight)
    with pytest.raises(CheckpointError, match=r"decoder\.bias: shape"):
        loaded(lambda: nn.ModuleDict({"decoder": nn.Linear(3, 5)}), path, strict=False)


def test_names_may_differ(path, trained):
    """A function or a mapping leads from the variable's name to the file's."""
    encoder = lambda: model()["encoder"]  # noqa: E731
    made = loaded(encoder, path, rename=lambda name: f"encoder.{name}", strict=False)
    assert same(made, trained["encoder"])
    renamed = {"0.weight": "decoder.weight", "0.bias": "decoder.bias"}
    made = loaded(lambda: nn.Sequential(nn.Linear(3, 4)), path, rename=renamed, strict=False)
    assert same(made[0], trained["decoder"])
    with pytest.raises(TypeError, match="rename=3"):
        from_checkpoint(path, rename=3)


def test_part_of_a_model_may_be_loaded(trained, tmp_path):
    """Inside ``where``, only what is meant has to be in the file."""
    save_file(trained["encoder"].state_dict(), tmp_path / "encoder.safetensors")
    creator = from_checkpoint(
        tmp_path / "encoder.safetensors", rename=lambda name: name.removeprefix("encoder.")
    )
    with tc.creator_scope(where(creator, name="encoder.*")):
        made = build(model, seed=0)
    assert same(made["encoder"], trained["encoder"])
    assert same(made["decoder"], build(model, seed=0)["decoder"])


@pytest.mark.parametrize("kept", ["a", "b"])
def test_a_tie_is_loaded_by_any_of_its_names(kept, tmp_path):
    """Checkpoints of tied models have one of the names."""

    def tied():
        made = nn.ModuleDict({"a": nn.Embedding(3, 2), "b": nn.Linear(2, 3, bias=False)})
        made["b"].weight = made["a"].weight
        return made

    save_file({f"{kept}.weight": torch.ones(3, 2)}, tmp_path / "m.safetensors")
    made = loaded(tied, tmp_path / "m.safetensors")
    assert made["b"].weight is made["a"].weight
    assert (made["a"].weight == 1).all()


def test_a_cast_outside_converts_and_one_inside_says_what_the_file_has(trained, tmp_path):
    """The order of the two is the order of what happens to the value."""
    state = {name: tensor.bfloat16() for name, tensor in trained["decoder"].state_dict().items()}
    save_file(state, tmp_path / "m.safetensors")
    creator = from_checkpoint(tmp_path / "m.safetensors")
    with tc.creator_scope(creator), tc.creator_scope(cast(torch.bfloat16)):
        assert build(nn.Linear, 3, 4).weight.dtype == torch.bfloat16
    with (
        tc.creator_scope(cast(torch.float32)),
        tc.creator_scope(creator),
        tc.creator_scope(cast(torch.bfloat16)),
    ):
        made = build(nn.Linear, 3, 4)
    assert torch.equal(made.weight, state["weight"].float())


def test_non_persistent_buffers_are_the_models_own(tmp_path):
    """What a state_dict leaves out is not asked for."""

    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))
            self.register_buffer("angles", torch.arange(3.0), persistent=False)

    save_file({"scale": torch.zeros(2)}, tmp_path / "m.safetensors")
    made = loaded(Rotary, tmp_path / "m.safetensors")
    assert made.scale.tolist() == [0.0, 0.0]
    assert made.angles.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("whole", [True, False], ids=["the model", "a part"])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda module: torch.compile(module, backend="eager"),
        checkpoint_wrapper,
        lambda module: torch.compile(checkpoint_wrapper(module), backend="eager"),
    ],
    ids=["compiled", "checkpointed", "both"],
)
def test_a_finished_model_that_is_wrapped_has_every_value(wrapped, whole, path, trained):
    """What wrapping adds to a name is not in the file: neither parameters nor buffers miss it."""
    made = model()
    if whole:
        outer = wrapped(made)
    else:
        outer = made
        made["encoder"] = wrapped(made["encoder"])
    with tc.creator_scope(from_checkpoint(path)):
        tc.recreate(outer)
    found = zip(made.state_dict().values(), trained.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in found)


def test_one_creator_loads_several_builds(path, trained):
    """Each build is held to the files anew."""
    with tc.creator_scope(from_checkpoint(path)):
        first, second = build(model, seed=0), build(model, seed=0)
    assert same(first, trained)
    assert same(second, trained)


def test_a_plain_scope_loads_one_module_by_local_names(path, trained):
    """With ``rename``, a module alone takes its values, and they stick."""
    with tc.creator_scope(from_checkpoint(path, rename=lambda name: f"decoder.{name}")):
        made = nn.Linear(3, 4)
    assert same(made, trained["decoder"])


def test_a_plain_scope_loads_variables_by_name(tmp_path):
    """A variable's name is the one its caller gave."""
    save_file({"encoder/gain": torch.tensor([1.0, 2.0])}, tmp_path / "m.safetensors")
    with tc.creator_scope(from_checkpoint(tmp_path / "m.safetensors")):
        gain = tc.variable([0.0, 0.0], name="encoder/gain")
    assert gain.tolist() == [1.0, 2.0]


def test_a_plain_scope_refuses_what_it_cannot_know(path):
    """A local name that is not in the files, misfits or comes twice points to build()."""
    with (
        tc.creator_scope(from_checkpoint(path)),
        pytest.raises(CheckpointError, match=r"(?s)weight.*local names.*build\(\)"),
    ):
        nn.Linear(3, 4)
    with tc.creator_scope(from_checkpoint(path, rename=lambda name: f"decoder.{name}")):
        with pytest.raises(CheckpointError, match=r"weight: shape \(4, 9\), in the file \(4, 3\)"):
            nn.Linear(9, 4)
        nn.Linear(3, 4)
        with pytest.raises(CheckpointError, match=r"asked for 'decoder\.weight' twice"):
            nn.Linear(3, 4)
    with tc.creator_scope(from_checkpoint(path, strict=False)):
        assert nn.Linear(3, 4).weight.shape == (4, 3)


def test_a_damaged_file_is_refused_before_a_parameter_is_made(path):
    """The error comes from ``from_checkpoint`` itself."""
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated, damaged"):
        from_checkpoint(path)


def test_a_deferred_model_that_does_not_fit_waits_on(trained, tmp_path):
    """The error comes at the end, and undoes it all: what was read, cast and put on meta."""
    state = trained.state_dict()
    del state["encoder.0.bias"]
    save_file(state, tmp_path / "m.safetensors")
    deferred = tc.defer(model, seed=0)
    with (
        tc.creator_scope(cast(torch.float16), from_checkpoint(tmp_path / "m.safetensors")),
        pytest.raises(CheckpointError, match=r"missing in the files \(1\)"),
    ):
        tc.materialize(deferred)
    for parameter in deferred.parameters():
        assert (parameter.is_meta, parameter.dtype) == (True, torch.float32)
    assert list(tc.named_specs(deferred)) == []
    with tc.creator_scope(from_checkpoint(tmp_path / "m.safetensors", strict=False)):
        tc.materialize(deferred)
    expected = {**state, "encoder.0.bias": build(model, seed=0)["encoder"][0].bias}
    for name, tensor in deferred.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_values_are_cast_where_that_is_asked_for(trained, tmp_path):
    """``cast=True`` reads floating values in the model's dtype, buffers too; integers must fit."""
    save_file(trained.state_dict(), tmp_path / "m.safetensors")
    with tc.creator_scope(from_checkpoint(tmp_path / "m.safetensors", cast=True)):
        made = tc.materialize(tc.defer(model, seed=0).bfloat16())
        whole = build(lambda: model().double())
    assert same(made, trained.bfloat16())
    assert {p.dtype for p in whole.parameters()} == {torch.float64}
    save_file({"w": torch.ones(2, dtype=torch.int64)}, tmp_path / "w.safetensors")
    with (
        tc.creator_scope(from_checkpoint(tmp_path / "w.safetensors", cast=True)),
        pytest.raises(CheckpointError, match=r"w: dtype torch\.float32, in the file torch\.int64"),
    ):
        tc.variable([1.0, 2.0], name="w", dtype=torch.float32)
