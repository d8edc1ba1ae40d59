"""Both strands of a language model, against the published halves of Caduceus-PS written out."""

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.language_model import DNALanguageModel
from torch import Tensor


def make(*, n_layer: int = 4, mirrored: bool = False, block: str = "bimamba", **options: object) -> DNALanguageModel:
    torch.manual_seed(0)
    backbone = Backbone(8, n_layer=n_layer, blocks=[{"name": block}], mirrored=mirrored)
    model = DNALanguageModel(backbone=backbone, classes=list(VOCABULARY), **options).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def ids(B: int = 2, T: int = 13) -> Tensor:
    return torch.randint(6, 12, (B, T), generator=torch.Generator().manual_seed(T))


def turned(x: Tensor) -> Tensor:
    return x.flip(1, 2)


def published_halves(model: DNALanguageModel, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """modeling_rcps.py of Caduceus: two halves of the channels, exchanged before each block if fused (mirrored)."""
    backbone, E = model.backbone, model.embedding.weight
    x1, x2 = E[tokens], E[model.base_complement[tokens]].flip(-1)
    for block, norm in zip(backbone.blocks, backbone.norms, strict=True):
        if backbone.mirrored:
            x1, x2 = x2, x1
        x1, x2 = x1 + block(norm(x1))[0], x2 + turned(block(norm(turned(x2)))[0])
    return backbone.norm(x1), turned(backbone.norm(turned(x2)))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("n_layer", [3, 4])
def test_equals_the_published_halves(n_layer: int, mirrored: bool) -> None:
    model = make(n_layer=n_layer, mirrored=mirrored, equivariant=True)
    x1, x2 = published_halves(model, ids())
    torch.testing.assert_close(model.hidden(ids()), torch.cat([x1, x2], -1))
    E = model.embedding.weight
    torch.testing.assert_close(model.logits(ids()), x1 @ E.T + x2.flip(-1) @ E[model.base_complement].T)
    for reverse, half in ((False, x1), (True, x2.flip(-1))):
        torch.testing.assert_close(model.strand(ids(), reverse=reverse), half)


def test_mirrored_layers_are_another_function() -> None:
    plain, mirrored = make(equivariant=True), make(equivariant=True, mirrored=True)
    assert (plain.hidden(ids()) - mirrored.hidden(ids())).abs().max() > 0.1


@pytest.mark.parametrize("block", ["bimamba", "mlstm", "hyena", "slstm"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_any_block_is_exactly_equivariant(block: str, mirrored: bool) -> None:
    model = make(block=block, mirrored=mirrored, equivariant=True, n_layer=2)
    lengths = torch.tensor([13, 6])
    there, back = ids(), model.other_strand(ids(), lengths)
    for i, n in enumerate(lengths):
        hidden, other = model.hidden(there, lengths)[i, :n], model.hidden(back, lengths)[i, :n]
        assert torch.equal(other.flip(0, 1), hidden)
        logits, other = model.logits(there, lengths)[i, :n], model.logits(back, lengths)[i, :n]
        assert torch.equal(other.flip(0)[:, model.base_complement], logits)


def test_layers_are_counted_from_the_embedding() -> None:
    model = make(equivariant=True, mirrored=True)
    assert torch.equal(model.strand(ids(), layer=0), model.embedding(ids()))
    torch.testing.assert_close(model.backbone.norm(model.strand(ids(), layer=4)), model.strand(ids()))
    with pytest.raises(InputError, match=r"layer is 5, expected 0 \(the embedding\) to 4"):
        model.strand(ids(), layer=5)


def test_a_causal_model_generates_and_an_equivariant_one_says_why_not() -> None:
    model = make(block="mamba")
    assert model.generate(ids(1, 5), n_new=3).ids.shape == (1, 3)
    with pytest.raises(InputError, match="equivariant"):
        make(block="mamba", equivariant=True).generate(ids(1, 5), n_new=3)


def test_a_complement_that_is_no_pairing_is_refused() -> None:
    with pytest.raises(InputError, match="in pairs"):
        make(complement=[*range(1, len(VOCABULARY)), 0])
