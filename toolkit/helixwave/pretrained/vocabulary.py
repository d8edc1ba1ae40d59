"""What all token models have: a vocabulary, an embedding, and a head that may be the embedding."""

from helixwave.errors import InputError
from helixwave.pretrained.families import Published
from helixwave.pretrained.rules import Rule, rule
from helixwave.pretrained.settings import Settings


def numbered(n_token: int) -> list[str]:
    """Names for tokens of which only the number is published: their ids."""
    return [str(i) for i in range(n_token)]


def label_names(settings: Settings, n_class: int) -> list[str]:
    """Names of the classes of a published classifier: those of `id2label`, or their numbers."""
    labels = settings.section("id2label")
    names = [str(labels.get(str(i), i)) for i in range(n_class)]
    if labels.values and len(labels.values) != n_class:
        raise InputError(f"{labels.where} has {len(labels.values)} entries, but the head has {n_class} classes")
    return names


def embedding_name(published: Published, *names: str, second: bool) -> str:
    """Which of its two published names the embedding has; where it is missing, the first or the second is expected."""
    found = [name for name in names if name in published.tensors]
    if len(found) > 1:
        raise InputError(f"{published.where} has both {names[0]!r} and {names[1]!r}, expected one of them")
    return found[0] if found else names[second]


def head_rules(head: str, embedding: str, *, tie: bool) -> list[Rule]:
    """The rule for the published tensor `head`; where it is tied it may be absent, or repeat the embedding."""
    return [Rule(head, same_as=embedding) if tie else rule(head, "head.weight")]
