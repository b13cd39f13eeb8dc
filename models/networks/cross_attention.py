"""Attention of one set of tokens onto another, and iCMFormer's block around it."""

import functools
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention with queries from one set of tokens, keys and values from another.

    There is one fused projection, as in self-attention: its first third is for queries, the rest for keys and values.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Attend from `queries` (b, n, dim) to `memory` (b, m, dim); returns (b, n, dim)."""
        dim = queries.shape[-1]
        ask_weight, answer_weight = self.qkv.weight.split((dim, 2 * dim))
        ask_bias, answer_bias = self.qkv.bias.split((dim, 2 * dim))
        q = F.linear(queries, ask_weight, ask_bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        kv = F.linear(memory, answer_weight, answer_bias).unflatten(-1, (2, self.heads, -1))
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossBlock(nn.Module):
    """Self-attention of the click tokens, cross-attention to the image's tokens, and an MLP (iCMFormer, Fig. 2).

    In the paper the queries come from the image and keys and values from the clicks. This block does the opposite, as
    the public code and therefore its weights do.
    """

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        from timm.layers.attention import Attention
        from timm.layers.mlp import Mlp

        norm: Any = functools.partial(nn.LayerNorm, eps=eps)
        self.norm1, self.norm2, self.norm3 = norm(dim), norm(dim), norm(dim)
        self.attn1 = Attention(dim, heads, qkv_bias=True)
        self.attn2 = CrossAttention(dim, heads)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, clicks: Tensor, image: Tensor) -> Tensor:
        """Update the click tokens; both inputs are (b, n, dim), and share one norm in the cross-attention."""
        clicks = clicks + self.attn1(self.norm1(clicks))
        clicks = clicks + self.attn2(self.norm2(clicks), self.norm2(image))
        return clicks + self.mlp(self.norm3(clicks))


class GuidedCrossBlock(nn.Module):
    """Cross-attention from recall tokens, steered by an optional guide, to the exemplar's tokens, and an MLP.

    iCMFormer++. Paper: queries from recall and guide, keys and values from the exemplar, a feed-forward network with
    ReLU and dropout. Ours: pre-norm, the guide added before the norm, the dropout's rate.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        from timm.layers.mlp import Mlp

        norm: Any = functools.partial(nn.LayerNorm, eps=1e-6)
        self.norm1, self.norm2, self.norm3 = norm(dim), norm(dim), norm(dim)
        self.attn = CrossAttention(dim, heads)
        self.mlp = Mlp(dim, 4 * dim, act_layer=nn.ReLU, drop=dropout)

    def forward(self, recall: Tensor, exemplar: Tensor, guide: Tensor | None) -> Tensor:
        """Update the recall tokens; all inputs are (b, n, dim)."""
        queries = recall if guide is None else recall + guide
        recall = recall + self.attn(self.norm1(queries), self.norm2(exemplar))
        return recall + self.mlp(self.norm3(recall))
