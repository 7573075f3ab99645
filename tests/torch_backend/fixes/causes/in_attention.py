"""Mistakes in attention, in a layer and in the code of a model."""

from typing import Any

from tests.support.cause_lines import Case
from tests.torch_backend.fixes.causes.between_layers import STEPS, between

QUERIES = "q=nn.Linear(4, 4), k=nn.Linear(4, 4)"


def attention(
    site: str, torch_scores: str, keras_scores: str, keras_attended: str = "ops.softmax(scores)", **options: Any
) -> Case:
    """Return a case whose lines change the scores of an attention with a head of width 4."""
    return between(
        site,
        "query, key = self.q(x), self.k(x)\nscores = query @ key.transpose(-1, -2)\n"
        f"{torch_scores}\nx = scores.softmax(-1) @ x",
        'query, key = layers.Dense(4, name="q")(x), layers.Dense(4, name="k")(x)\n'
        f"{keras_scores}\nx = ops.matmul({keras_attended}, x)",
        QUERIES,
        shape=STEPS,
        **options,
    )


PRODUCT = "scores = ops.matmul(query, ops.swapaxes(key, -1, -2))"
MASK = "mask = torch.ones(5, 5, dtype=torch.bool).tril()"
KERAS_MASK = 'mask = ops.convert_to_tensor(np.tril(np.ones((5, 5), "bool")))'

SCORES = [
    attention("scores._scale.fix", "<<pass>>", f"{PRODUCT}\nscores = scores * 0.5"),
    attention("scores._scale.keras", "pass", f"{PRODUCT}\nscores = scores * 0.5\n<<pass>>"),
    attention(
        "scores._roles.keras",
        "pass",
        f"query, key = key, query\n<<pass>>\n{PRODUCT}",
    ),
    attention(
        "scores._causal.fix",
        "<<pass>>",
        f"{PRODUCT}\n{KERAS_MASK}\nscores = ops.where(mask, scores, -1e30)",
    ),
    attention(
        "scores._causal.keras",
        "pass",
        f"{PRODUCT}\n{KERAS_MASK}\n<<scores = ops.where(mask, scores, -1e30)>>",
        done="pass",
    ),
    attention(
        "scores._other_masks.keras",
        f"{MASK}\nscores = scores.masked_fill(~mask, -1e30)",
        f"{PRODUCT}\n{KERAS_MASK}\n<<pass>>",
    ),
    attention(
        "scores._other_masks.fix",
        f"{MASK}\n<<pass>>\nscores = scores + (~mask).float() * -1e30",
        f"{PRODUCT}\n{KERAS_MASK}\nscores = ops.where(mask, -1e30, scores)",
    ),
    attention(
        "attention._mask#3.fix",
        f"{MASK}\n<<pass>>\nscores = scores.masked_fill(mask, -1e30)",
        f"{PRODUCT}\n{KERAS_MASK}\nscores = ops.where(mask, scores, -1e30)",
    ),
    attention(
        "attention._mask#3.keras",
        f"{MASK}\nscores = scores.masked_fill(mask, -1e30)",
        f"{PRODUCT}\n{KERAS_MASK}\n<<pass>>\nscores = ops.where(mask, scores, -1e30)",
    ),
]


def of_words(site: str, torch_mask: str, keras_mask: str, **options: Any) -> Case:
    """Return a case of attention to words, of which Keras masks those of index 0."""
    return Case(
        site=site,
        parts=f"{QUERIES}, table=nn.Embedding(9, 4), b=nn.Linear(4, 3)",
        torch=f"indices = x\n{torch_mask}\nx = self.table(x)\nscores = self.q(x) @ self.k(x).transpose(-1, -2)\n"
        "%pass|scores = scores.masked_fill(~attention_mask[:, None, :], -1e30)%\nx = self.b(scores.softmax(-1) @ x)",
        keras='indices = x\nx = layers.Embedding(9, 4, name="table")(x)\n'
        'scores = ops.matmul(layers.Dense(4, name="q")(x), ops.swapaxes(layers.Dense(4, name="k")(x), -1, -2))\n'
        f'{keras_mask}\nx = layers.Dense(3, name="b")(ops.matmul(ops.softmax(scores), x))',
        shape=(5,),
        integers=True,
        **options,
    )


MASKED = "scores = ops.where((indices != 0)[:, None, :], scores, -1e30)"

SCORES += [
    of_words("scores._padding.fix", "<<pass>>", MASKED),
    of_words(
        "scores._padding.keras",
        "attention_mask = torch.ones_like(indices, dtype=torch.bool)",
        f"<<{MASKED}>>",
        done="pass",
    ),
]

EVERY_OTHER = "mask = (torch.arange(5)[:, None] + torch.arange(5)) % 2 == 0"
KERAS_EVERY_OTHER = "mask = ops.convert_to_tensor((np.arange(5)[:, None] + np.arange(5)) % 2 == 0)"
VALUES = f"{QUERIES}, v=nn.Linear(4, 4)"
IN_KERAS = "\n".join(f'{name} = layers.Dense(4, name="{name}")(x)' for name in "qkv")
SCALED = "x = ops.matmul(ops.softmax(scores), v)"


def scaled(site: str, torch_lines: str, keras_lines: str, **options: Any) -> Case:
    """Return a case of `scaled_dot_product_attention` against the same in operations of Keras."""
    return between(
        site,
        f"q, k, v = self.q(x), self.k(x), self.v(x)\n{torch_lines}",
        f"{IN_KERAS}\n{keras_lines}",
        VALUES,
        shape=STEPS,
        **options,
    )


FUSED = "scores = ops.matmul(q, ops.swapaxes(k, -1, -2))"
CALL = "x = F.scaled_dot_product_attention(q, k, v"

LAYERS = [
    scaled("attention._scale.fix", f"{CALL}<<>>)", f"{FUSED}\n{SCALED}"),
    scaled("attention._scale.keras", f"{CALL})", f"{FUSED}\n<<pass>>\n{SCALED}", done="scores = scores * 0.5"),
    scaled(
        "attention._causal.fix",
        f"{CALL}<<>>)",
        f"{FUSED}\n{KERAS_MASK}\nscores = ops.where(mask, 0.5 * scores, -1e30)\n{SCALED}",
    ),
    scaled(
        "attention._causal.keras",
        f"{CALL})",
        f"{FUSED}\n{KERAS_MASK}\n"
        "masked = lambda scores, use_causal_mask: ops.where(mask, scores, -1e30) if use_causal_mask else scores\n"
        f"scores = masked(0.5 * scores, use_causal_mask=True<<>>)\n{SCALED}",
    ),
    scaled(
        "attention._mask.keras",
        f"attn_{EVERY_OTHER}\n{CALL}, attn_mask=attn_mask)",
        f"{FUSED}\nattention_{KERAS_EVERY_OTHER}\n<<pass>>\n"
        f"scores = ops.where(~attention_mask, 0.5 * scores, -1e30)\n{SCALED}",
    ),
    scaled(
        "attention._mask.fix",
        f"attn_{EVERY_OTHER}\n<<pass>>\n{CALL}, attn_mask=attn_mask)",
        f"{FUSED}\n{KERAS_EVERY_OTHER}\nscores = ops.where(~mask, 0.5 * scores, -1e30)\n{SCALED}",
    ),
    scaled(
        "attention._swapped.fix",
        f"{CALL})",
        f"q, k = k, q\n{FUSED}\nscores = scores * 0.5\n{SCALED}",
    ),
    between(
        "attention._mask#2.keras",
        "x = self.att(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1), need_weights=False)[0]",
        "attn_mask = ops.convert_to_tensor(np.triu(np.ones((1, 5, 5), 'bool'), 1))\n"
        'x = layers.MultiHeadAttention(2, 2, name="att")(x, x<<>>)',
        "att=nn.MultiheadAttention(4, 2, batch_first=True)",
        shape=STEPS,
    ),
]

CASES = [*SCORES, *LAYERS]
