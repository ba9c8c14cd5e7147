"""The tests of the project. None of them knows whether its parameters are fake."""

from __future__ import annotations

import pytest
import torch
from classifier import CLASSES, Classifier, parameter_groups

TOKENS = torch.arange(12).view(2, 6)


def test_every_document_gets_logits() -> None:
    """The logits are one row for each document."""
    with torch.no_grad():
        assert Classifier().eval()(TOKENS).shape == (2, CLASSES)


def test_padding_changes_nothing() -> None:
    """A document that is filled up is classified as if it were not."""
    model = Classifier().eval()
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS[:1], mask), model(TOKENS[:1, :4]))


def test_documents_are_told_apart() -> None:
    """Two documents do not have the same logits."""
    with torch.no_grad():
        one, other = Classifier().eval()(TOKENS)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("frozen_layers", [0, 1, 6, 12])
def test_the_lower_layers_are_frozen(frozen_layers: int) -> None:
    """Exactly the embeddings and the lowest layers are frozen."""
    model = Classifier(frozen_layers)
    frozen = [not any(p.requires_grad for p in x.parameters()) for x in model.encoder.encoder.layer]
    assert frozen == [True] * frozen_layers + [False] * (12 - frozen_layers)
    embedding = model.encoder.embeddings.word_embeddings.weight
    assert embedding.requires_grad is (frozen_layers == 0)


@pytest.mark.parametrize("frozen_layers", [0, 3, 6, 12])
def test_each_trained_parameter_is_in_one_group(frozen_layers: int) -> None:
    """Every parameter that is trained is in one group, and no other one is."""
    model = Classifier(frozen_layers)
    grouped = [p for group in parameter_groups(model) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(grouped) == len(set(map(id, grouped)))


def test_lower_layers_learn_more_slowly() -> None:
    """The learning rate falls from the head to the embeddings, step by step."""
    rates = [group["lr"] for group in parameter_groups(Classifier(), rate=1.0)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(0.9**12)
    assert rates[-1] == 1.0


def test_vectors_are_not_decayed() -> None:
    """Biases and scales have no weight decay; matrices have."""
    for group in parameter_groups(Classifier(), decay=0.5):
        assert group["weight_decay"] == (0.5 if group["params"][0].dim() == 2 else 0.0)


def test_the_checkpoint_has_the_names_of_bert() -> None:
    """The encoder's names are those of published checkpoints."""
    names = Classifier().encoder.state_dict().keys()
    assert "embeddings.word_embeddings.weight" in names
    assert "encoder.layer.11.output.dense.weight" in names


def test_a_step_trains_the_head() -> None:
    """A step with frozen layers changes the head, and nothing that is frozen."""
    model = Classifier(frozen_layers=12)
    frozen = model.encoder.encoder.layer[0].output.dense.weight
    before, head = frozen.clone(), model.head.weight.detach().clone()
    optimizer = torch.optim.AdamW(parameter_groups(model))
    torch.nn.functional.cross_entropy(model(TOKENS), torch.tensor([1, 3])).backward()
    optimizer.step()
    assert torch.equal(frozen, before)
    assert not torch.equal(model.head.weight, head)
