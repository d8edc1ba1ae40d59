"""What all token models have: a vocabulary, an embedding, and a head that may be the embedding."""

from helixwave.errors import InputError
from helixwave.pretrained.families import Published
from helixwave.pretrained.rules import Rule, rule


def numbered(n_token: int) -> list[str]:
    """Names for tokens of which only the number is published: their ids."""
    return [str(i) for i in range(n_token)]


def embedding_name(published: Published, *names: str, second: bool) -> str:
    """Which of its two published names the embedding has; where it is missing, the first or the second is expected."""
    found = [name for name in names if name in published.tensors]
    if len(found) > 1:
        raise InputError(f"{published.where} has both {names[0]!r} and {names[1]!r}, expected one of them")
    return found[0] if found else names[second]


def head_rules(head: str, embedding: str, *, tie: bool) -> list[Rule]:
    """The rule for the published tensor `head`; where it is tied it may be absent, or repeat the embedding."""
    return [Rule(head, same_as=embedding) if tie else rule(head, "head.weight")]
