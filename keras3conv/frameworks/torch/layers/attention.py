"""Attention as Keras computes it, where torch.nn has no module for it. Torch is all that these classes need."""

import torch
from torch import nn


class Attention(nn.Module):
    """Attention without projections, as `keras.layers.Attention`.

    Args:
        use_scale: Whether the scores are multiplied by a trained number; with `score_mode="concat"`, what is inside
            the tangent is.
        score_mode: "dot": the product of query and key; "concat": the sum of tanh(query + key) over the features,
            times a trained number.
        dropout: The part of the attention's weights that is dropped in training.
    """

    kind = "keras3conv.frameworks.torch.layers.Attention"

    def __init__(self, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0) -> None:
        super().__init__()
        self.use_scale = use_scale
        self.score_mode = score_mode
        self.dropout = dropout
        self.scale = nn.Parameter(torch.ones(())) if use_scale else None
        self.concat_score_weight = nn.Parameter(torch.ones(())) if score_mode == "concat" else None

    def forward(
        self,
        query: torch.Tensor,
        value: torch.Tensor,
        key: torch.Tensor | None = None,
        value_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Attends to the values.

        Args:
            query: Of shape (batch, queries, features).
            value: Of shape (batch, keys, width).
            key: Of shape (batch, keys, features); the value if there is none.
            value_mask: Of shape (batch, keys); what is False is not attended to.
            is_causal: Whether a query attends to no key after its own place.

        Returns:
            A tensor of shape (batch, queries, width).
        """
        key = value if key is None else key
        scores = self.scores(query, key)
        mask = torch.ones_like(scores, dtype=torch.bool)
        mask = mask.tril() if is_causal else mask
        mask = mask if value_mask is None else mask & value_mask[:, None, :].bool()
        far = 65504.0 if scores.dtype == torch.float16 else 1e9
        weights = torch.where(mask, scores, scores - far).softmax(-1)
        return nn.functional.dropout(weights, self.dropout, self.training) @ value

    def scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """How much each query attends to each key: (batch, queries, keys)."""
        if self.concat_score_weight is None:
            scores = query @ key.transpose(-2, -1)
            return scores if self.scale is None else scores * self.scale
        sums = query[..., :, None, :] + key[..., None, :, :]
        sums = sums if self.scale is None else self.scale * sums
        return self.concat_score_weight * sums.tanh().sum(-1)


class AdditiveAttention(nn.Module):
    """The attention of Bahdanau without projections, as `keras.layers.AdditiveAttention`.

    Args:
        features: How many features query and key have, each of which gets a trained weight; None for no weights.
        dropout: The part of the attention's weights that is dropped in training.
    """

    kind = "keras3conv.frameworks.torch.layers.AdditiveAttention"

    def __init__(self, features: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = features
        self.dropout = dropout
        self.scale = None if features is None else nn.Parameter(torch.ones(features))

    def forward(
        self,
        query: torch.Tensor,
        value: torch.Tensor,
        key: torch.Tensor | None = None,
        value_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Attends to the values.

        Args:
            query: Of shape (batch, queries, features).
            value: Of shape (batch, keys, width).
            key: Of shape (batch, keys, features); the value if there is none.
            value_mask: Of shape (batch, keys); what is False is not attended to.
            is_causal: Whether a query attends to no key after its own place.

        Returns:
            A tensor of shape (batch, queries, width).
        """
        key = value if key is None else key
        sums = (query[..., :, None, :] + key[..., None, :, :]).tanh()
        scores = (sums if self.scale is None else self.scale * sums).sum(-1)
        mask = torch.ones_like(scores, dtype=torch.bool)
        mask = mask.tril() if is_causal else mask
        mask = mask if value_mask is None else mask & value_mask[:, None, :].bool()
        far = 65504.0 if scores.dtype == torch.float16 else 1e9
        weights = torch.where(mask, scores, scores - far).softmax(-1)
        return nn.functional.dropout(weights, self.dropout, self.training) @ value


class GroupedQueryAttention(nn.Module):
    """Attention with projections of any width, in which several heads of queries may share one of keys and values.

    It says what `keras.layers.GroupQueryAttention` does, and with as many heads of keys as of queries, what
    `keras.layers.MultiHeadAttention` does.

    Args:
        embed_dim: How many features a query has.
        num_heads: How many heads of queries there are.
        num_key_value_heads: How many heads of keys and values there are; a divisor of `num_heads`.
        head_dim: The size of a head of queries and of keys.
        value_dim: The size of a head of values; None for `head_dim`.
        kdim: How many features a key has; None for `embed_dim`.
        vdim: How many features a value has; None for `embed_dim`.
        output_dim: How many features the output has; None for `embed_dim`.
        bias: Whether the projections have a bias.
        dropout: The part of the attention's weights that is dropped in training.
        sliding_window: How far a key may be from its query, its own place counted; None for any distance.
        use_gate: Whether the heads are multiplied by a gate that is computed from the query.
    """

    kind = "keras3conv.frameworks.torch.layers.GroupedQueryAttention"

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_key_value_heads: int,
        head_dim: int,
        *,
        value_dim: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        output_dim: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        use_gate: bool = False,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.value_dim = head_dim if value_dim is None else value_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.output_dim = embed_dim if output_dim is None else output_dim
        self.bias = bias
        self.dropout = dropout
        self.sliding_window = sliding_window
        self.use_gate = use_gate
        self.query = nn.Linear(embed_dim, num_heads * head_dim, bias)
        self.key = nn.Linear(self.kdim, num_key_value_heads * head_dim, bias)
        self.value = nn.Linear(self.vdim, num_key_value_heads * self.value_dim, bias)
        self.gate = nn.Linear(embed_dim, num_heads * self.value_dim, bias) if use_gate else None
        self.output = nn.Linear(num_heads * self.value_dim, self.output_dim, bias)

    def forward(
        self,
        query: torch.Tensor,
        value: torch.Tensor,
        key: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Attends to the values.

        Args:
            query: Of shape (batch, queries, embed_dim).
            value: Of shape (batch, keys, vdim).
            key: Of shape (batch, keys, kdim); the value if there is none.
            attention_mask: Of shape (batch, queries, keys) or (batch, heads, queries, keys); what is True is
                attended to.
            is_causal: Whether a query attends to no key after its own place.

        Returns:
            A tensor of shape (batch, queries, output_dim).
        """
        key = value if key is None else key
        queries = self.query(query).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        keys = self.key(key).unflatten(-1, (self.num_key_value_heads, self.head_dim)).transpose(1, 2)
        values = self.value(value).unflatten(-1, (self.num_key_value_heads, self.value_dim)).transpose(1, 2)
        repeats = self.num_heads // self.num_key_value_heads
        heads = nn.functional.scaled_dot_product_attention(
            queries,
            keys.repeat_interleave(repeats, 1),
            values.repeat_interleave(repeats, 1),
            attn_mask=self.mask(query, value, attention_mask, is_causal),
            dropout_p=self.dropout if self.training else 0.0,
        )
        merged = heads.transpose(1, 2).flatten(2)
        output: torch.Tensor = self.output(merged if self.gate is None else merged * self.gate(query).sigmoid())
        return output

    def mask(
        self, query: torch.Tensor, value: torch.Tensor, given: torch.Tensor | None, is_causal: bool
    ) -> torch.Tensor | None:
        """Which keys a query attends to, as one mask that fits (batch, heads, queries, keys); None for all."""
        mask = None if given is None else given.bool()
        if mask is not None and mask.ndim == 3:
            mask = mask[:, None]
        places = torch.arange(query.shape[1], device=query.device)[:, None]
        others = torch.arange(value.shape[1], device=query.device)
        if is_causal:
            mask = others <= places if mask is None else mask & (others <= places)
        if self.sliding_window is not None:
            near = (others - places).abs() < self.sliding_window
            mask = near if mask is None else mask & near
        return mask
