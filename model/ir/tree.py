"""Trees of adders or comparators: how deep they are."""

TREE_ARITY = 4
"""Terms that one register stage joins: two levels of operators."""


def tree_stages(terms: int) -> int:
    """Register stages until at most two terms are left, which an accumulator joins to itself."""
    stages = 0
    while terms > TREE_ARITY // 2:
        stages, terms = stages + 1, -(-terms // TREE_ARITY)
    return stages
