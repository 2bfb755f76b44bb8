"""Masks drawn at random, and the same masks pair by pair for the definition."""

import torch


def drawn(dice, batch, heads, queries, keys, *, packed=True):
    """Returns keywords of an attention operator that agree with its sizes."""
    options = {}
    if queries <= keys and dice.maybe(0.5):
        options["is_causal"] = True
    if packed and batch == 1 and queries == keys and dice.maybe(0.2):
        cuts = sorted(dice.randint(0, keys) for _ in range(dice.randint(0, 2)))
        options["cu_seqlens"] = torch.tensor([0, *cuts, keys])
        return options
    if dice.maybe():
        options["key_mask"] = dice.mask(batch, keys)
    if dice.maybe(0.2):
        shape = [dice.choice((1, n)) for n in (batch, heads, queries, keys)]
        options["attn_mask"] = dice.mask(*shape[dice.choice((0, 2)) :])
    return options


def dense(arguments, queries, keys, *, exclude_self=False, itself=False):
    """Returns who sees whom, ``(batch, heads, queries, keys)``, built from the words of the docs.

    Args:
        arguments: Keywords of a call.
        queries: The tensor of the queries.
        keys: The tensor of the keys.
        exclude_self: Whether a token is hidden from itself.
        itself: Whether a token counts as visible to itself, whatever `attn_mask` says.
    """
    (batch, heads, num_queries), num_keys = queries.shape[:3], keys.shape[2]
    allowed = torch.ones(batch, heads, num_queries, num_keys, dtype=torch.bool)
    if arguments.get("attn_mask") is not None:
        allowed &= arguments["attn_mask"]
    i = torch.arange(num_queries)[:, None] + num_keys - num_queries
    j = torch.arange(num_keys)
    if itself:
        allowed |= i == j
    if arguments.get("is_causal"):
        allowed &= j <= i
    if exclude_self:
        allowed &= i != j
    if arguments.get("cu_seqlens") is not None:
        owner = (j[:, None] >= arguments["cu_seqlens"][1:]).sum(-1)
        allowed &= owner[i] == owner
    if arguments.get("key_mask") is not None:
        allowed &= arguments["key_mask"][:, None, None, :]
    return allowed
