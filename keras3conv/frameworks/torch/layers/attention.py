"""Define the attention layers of Keras that torch.nn lacks; they need only torch and `functions`."""

import torch
from torch import nn

from keras3conv.frameworks.torch.functions import masked_softmax


class Attention(nn.Module):
    """Attention without projections, as `keras.layers.Attention`.

    Args:
        use_scale: Whether the scores are multiplied by a trained scalar; with `score_mode="concat"` the argument of
            the tanh is multiplied instead.
        score_mode: "dot": the product of query and key; "concat": the sum of tanh(query + key) over the features,
            multiplied by a trained scalar.
        dropout: The fraction of the attention weights that is dropped in training.
    """

    kind = "keras3conv.frameworks.torch.layers.Attention"  # a name for keras3conv; nothing is imported

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
        """Return the attention-weighted values.

        Args:
            query: Of shape (batch, queries, features).
            value: Of shape (batch, keys, width).
            key: Of shape (batch, keys, features); the value if there is none.
            value_mask: Of shape (batch, keys); keys with False are masked out.
            is_causal: Whether a query attends only to keys up to its own position.

        Returns:
            A tensor of shape (batch, queries, width).
        """
        key = value if key is None else key
        weights = masked_softmax(self.scores(query, key), value_mask, is_causal)
        return nn.functional.dropout(weights, self.dropout, self.training) @ value

    def scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Return the attention scores before the softmax, of shape (batch, queries, keys)."""
        if self.concat_score_weight is None:
            scores = query @ key.transpose(-2, -1)
            return scores if self.scale is None else scores * self.scale
        sums = query[..., :, None, :] + key[..., None, :, :]
        sums = sums if self.scale is None else self.scale * sums
        return self.concat_score_weight * sums.tanh().sum(-1)


class AdditiveAttention(nn.Module):
    """Additive attention without projections, as `keras.layers.AdditiveAttention`.

    Args:
        features: The number of features of query and key, each with a trained weight; None for no weights.
        dropout: The fraction of the attention weights that is dropped in training.
    """

    kind = "keras3conv.frameworks.torch.layers.AdditiveAttention"  # a name for keras3conv; nothing is imported

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
        """Return the attention-weighted values.

        Args:
            query: Of shape (batch, queries, features).
            value: Of shape (batch, keys, width).
            key: Of shape (batch, keys, features); the value if there is none.
            value_mask: Of shape (batch, keys); keys with False are masked out.
            is_causal: Whether a query attends only to keys up to its own position.

        Returns:
            A tensor of shape (batch, queries, width).
        """
        key = value if key is None else key
        sums = (query[..., :, None, :] + key[..., None, :, :]).tanh()
        scores = (sums if self.scale is None else self.scale * sums).sum(-1)
        weights = masked_softmax(scores, value_mask, is_causal)
        return nn.functional.dropout(weights, self.dropout, self.training) @ value


class GroupedQueryAttention(nn.Module):
    """Attention with projections of any width, in which several query heads may share a key and value head.

    It corresponds to `keras.layers.GroupQueryAttention`, and with as many key heads as query heads to
    `keras.layers.MultiHeadAttention`.

    Args:
        embed_dim: The number of features of a query.
        num_heads: The number of query heads.
        num_key_value_heads: The number of key and value heads; a divisor of `num_heads`.
        head_dim: The size of a query and key head.
        value_dim: The size of a value head; None for `head_dim`.
        kdim: The number of features of a key; None for `embed_dim`.
        vdim: The number of features of a value; None for `embed_dim`.
        output_dim: The number of features of the output; None for `embed_dim`.
        bias: Whether the projections have a bias.
        dropout: The fraction of the attention weights that is dropped in training.
        sliding_window: With n, a query attends to its own position and to n - 1 positions before and after it; None for
            all positions.
        use_gate: Whether the heads are multiplied by a gate computed from the query.
    """

    kind = "keras3conv.frameworks.torch.layers.GroupedQueryAttention"  # a name for keras3conv; nothing is imported

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
        """Return the attention-weighted values.

        Args:
            query: Of shape (batch, queries, embed_dim).
            value: Of shape (batch, keys, vdim).
            key: Of shape (batch, keys, kdim); the value if there is none.
            attention_mask: Of shape (batch, queries, keys) or (batch, heads, queries, keys); keys with False are
                masked out.
            is_causal: Whether a query attends only to keys up to its own position.

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
        self, query: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None, is_causal: bool
    ) -> torch.Tensor | None:
        """Return the mask of an attention, which broadcasts to (batch, heads, queries, keys); None for no mask."""
        mask = None if attention_mask is None else attention_mask.bool()
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
