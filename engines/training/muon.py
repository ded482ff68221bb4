"""Muon: momentum whose singular values are all made one (Jordan et al., 2024), for the weights inside the network."""

import torch


class Muon(torch.optim.Optimizer):
    """Weights [out, …] are taken as matrices [out, rest]. The step has the root mean square of Adam's at the same rate
    (0.2, Liu et al., "Muon is scalable for LLM training", 2025)."""

    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                matrix = p.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                update = orthogonal(matrix) * (0.2 * max(matrix.shape) ** 0.5)
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * update.view_as(p))


def orthogonal(matrix):
    """The nearest matrix with orthonormal rows or columns; singular values under a thousandth of the largest stay small."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    values, vectors = torch.linalg.eigh((matrix @ matrix.T).double())
    scale = (values.clamp(min=0) + 1e-6 * values[-1] + 1e-30).rsqrt()
    return ((vectors * scale) @ vectors.T).float() @ matrix
