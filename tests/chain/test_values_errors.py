"""What torch, or somebody's own code, raises while a value is made."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

import torchcreator as tc

VAST = torch.zeros(1).expand(2**60)  # four bytes here, and exabytes once copied


@pytest.mark.parametrize("keywords", [{}, {"dtype": torch.float32}], ids=["as it is", "declared"])
def test_a_value_that_is_too_large_to_copy_is_named(keywords):
    """The error has the variable's name, which that of torch's allocator has not."""
    with pytest.raises(ValueError, match=r"Variable 'vast' of shape .* could not be allocated"):
        tc.variable(VAST, name="vast", **keywords)


def test_what_goes_wrong_inside_an_initialiser_passes_unchanged():
    """A TypeError from its body is its author's to read; only one of the call is explained."""

    def initialiser(tensor):
        return tensor.fill_("one")

    with pytest.raises(TypeError, match="fill_") as caught:
        tc.variable(initialiser, shape=(2,), name="gain")
    assert not isinstance(caught.value, tc.TorchCreatorError)


def test_tags_that_cannot_be_read_are_refused_with_the_name():
    """A mapping of somebody's own class may raise anything; the error is ours."""

    class Broken(Mapping):
        def __getitem__(self, key):
            raise LookupError(key)

        def __iter__(self):
            message = "not today"
            raise RuntimeError(message)

        def __len__(self):
            return 1

    with pytest.raises(TypeError, match=r"The tags of variable 'gain' are"):
        tc.variable(1.0, name="gain", tags=Broken())
