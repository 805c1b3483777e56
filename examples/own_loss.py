"""An own loss: one function, and one literal that names it. In a recipe:
``[algorithm] surrogate = { name = "examples/own_loss.py:squared", strength = 0.5 }``.

The function gets the batch's tokens and their log-ratio, and returns the loss of each token, to be
minimised. Its keyword-only parameters are the choice's parameters, checked like Covey's own. Weights,
advantages, corrections and KL are other choices' business.
"""

from __future__ import annotations

import torch

from covey.algo import Algorithm, Choice, TokenBatch, TokenLoss, advantages, token_loss, token_weights


def squared(batch: TokenBatch, log_ratio: torch.Tensor, *, strength: float = 0.1) -> TokenLoss:
    """-Â log r + strength/2 · (log r)²: the further the policy has moved, the harder the pull back."""
    return TokenLoss(-batch.advantage * log_ratio + strength / 2 * log_ratio.square())


OWN = Algorithm(
    advantage=Choice("mean"),
    surrogate=Choice(squared, {"strength": 0.5}),
    aggregation=Choice("token_mean"),
)

if __name__ == "__main__":
    rewards, group, lengths = torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), torch.tensor([2, 2])
    gain = advantages(OWN, rewards, group, lengths)
    weight = token_weights(OWN, lengths, group, max_length=8)

    sequence = torch.tensor([0, 0, 1, 1])
    old_logp = torch.tensor([-1.0, -2.0, -1.0, -2.0])
    logp = (old_logp + torch.tensor([0.0, 0.5, 0.0, 0.5])).requires_grad_()
    batch = TokenBatch(logp, old_logp, None, None, gain[sequence], sequence)

    out = token_loss(OWN, batch)
    loss = (out.loss * weight[sequence]).sum()
    loss.backward()
    assert logp.grad is not None
    print("loss of each token ", [round(x, 4) for x in out.loss.tolist()])
    print("gradient           ", [round(x, 4) for x in logp.grad.tolist()])
