"""AdamW on fp32 master weights, with warm-up and gradient clipping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from covey import kernels
from covey.models import Policy
from covey.models.fused import gather_into


@dataclass(frozen=True, slots=True)
class Schedule:
    """Linear warm-up to ``learning_rate`` over ``warmup_steps`` steps, constant after."""

    learning_rate: float
    warmup_steps: int = 0

    def at(self, step: int) -> float:
        """The rate of optimizer step ``step``, counted from 0."""
        return self.learning_rate * min(1.0, (step + 1) / (self.warmup_steps + 1))


class Optimizer:
    """Moves the master weights, then rounds them into the module.

    Gradients are summed over micro-batches in fp32: where the module computes in bf16, each
    parameter's gradient is added to its master's as soon as it is complete, and freed; those of matrices
    are added as they are made, in fp32 and where the CPU has a kernel for bf16 (`models.fused.gathered`).
    """

    def __init__(
        self,
        policy: Policy,
        schedule: Schedule,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        max_grad_norm: float = 1.0,
    ) -> None:
        self.policy = policy
        self.schedule = schedule
        self.max_grad_norm = max_grad_norm
        self.adam = torch.optim.AdamW(
            list(policy.master.values()),
            lr=schedule.at(0),
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            fused=True,
        )
        for name, parameter in policy.parameters():
            master = policy.master[name]
            gather_into(parameter, master)
            if master is not parameter:
                parameter.register_post_accumulate_grad_hook(_into(master))

    def gradients(self) -> dict[str, Tensor]:
        """The fp32 gradients gathered so far, by parameter name."""
        return {n: m.grad for n, m in self.policy.master.items() if m.grad is not None}

    def norm(self) -> float:
        """The global L2 norm of the gathered gradients, before clipping."""
        grads = list(self.gradients().values())
        return torch.nn.utils.get_total_norm(grads).item() if grads else 0.0

    def step(self, step: int, norm: float) -> float:
        """Clip to `max_grad_norm`, move the master weights, refresh the module; the rate used.

        ``norm`` must be finite: a step with any other is to be dropped.
        """
        if norm > self.max_grad_norm > 0:
            for gradient in self.gradients().values():
                gradient.mul_(self.max_grad_norm / norm)
        rate = self.schedule.at(step)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self.clear()
        self.policy.refresh()
        return rate

    def state(self) -> dict[str, Tensor]:
        """Adam's two moments and step count of each parameter, as ``parameter.key``; no copies. Empty
        before the first step. All else follows from the recipe and the step's number."""
        return {
            f"{name}.{key}": value
            for name, master in self.policy.master.items()
            for key, value in self.adam.state.get(master, {}).items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave, copied."""
        self.adam.state.clear()
        for full, value in state.items():
            name, _, key = full.rpartition(".")
            master = self.policy.master[name]
            self.adam.state[master][key] = value.to(master.device, copy=True)

    def clear(self) -> None:
        """Forget the gathered gradients."""
        for master in self.policy.master.values():
            master.grad = None


def _into(master: Tensor):
    def add(parameter: Tensor) -> None:
        if parameter.grad is None:  # it was gathered where it was made
            return
        if master.grad is None:
            master.grad = parameter.grad.float()
        elif kernels.usable(parameter.grad) and parameter.grad.stride() == master.grad.stride():
            kernels.add_up(master.grad, parameter.grad)
        else:
            master.grad.add_(parameter.grad)
        parameter.grad = None

    return add
