"""Muon: momentum whose singular values are all made one (Jordan et al., 2024), for the weights inside the network."""

import torch
import torch.distributed as dist


class Muon(torch.optim.Optimizer):
    """Weights [out, …] are taken as matrices [out, rest]. The step has the root mean square of Adam's at the same rate
    (0.2, Liu et al., "Muon is scalable for LLM training", 2025)."""

    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.updates = torch.empty(0)  # of all weights, kept from step to step: new memory is slow

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            moving, matrices = [p for p in group["params"] if p.grad is not None], []
            for p in moving:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                matrices.append(p.grad.lerp(state["momentum"], group["momentum"]).flatten(1))
            if dist.is_initialized():
                self.updates.resize_(sum(m.numel() for m in matrices))
                updates = all_orthogonal(matrices, self.updates)
            else:
                updates = all_at_once(matrices)
            for p, update in zip(moving, updates):
                rate = group["lr"] * 0.2 * max(update.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.reshape(p.shape), alpha=rate)


def all_orthogonal(matrices, flat):
    """`orthogonal` of each, as views of `flat`; the processes of train.py share the work: it is a fifth of a step where
    convolutions are fast."""
    costly = sorted(range(len(matrices)), key=lambda i: -min(matrices[i].shape) ** 2 * max(matrices[i].shape))
    result = [part.view_as(m) for part, m in zip(flat.zero_().split([m.numel() for m in matrices]), matrices)]
    for i in costly[dist.get_rank()::dist.get_world_size()]:
        result[i].copy_(orthogonal(matrices[i]))
    dist.all_reduce(flat)
    return result


def all_at_once(matrices):
    """`orthogonal` of each, nearly, for a GPU, where eigenvectors are slow and products are not: those of one shape together, by
    Newton-Schulz iterations (Jordan's quintic, which lifts the small singular values fast, then the cubic, which makes all one)."""
    result, shapes = [None] * len(matrices), {}
    for i, matrix in enumerate(matrices):
        shapes.setdefault(matrix.shape, []).append(i)
    for shape, same in shapes.items():
        x = torch.stack([matrices[i] for i in same])
        x = x.mT if shape[0] > shape[1] else x
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
        for a, b, c in [(3.4445, -4.7750, 2.0315)] * 6 + [(1.5, -0.5, 0.0)] * 3:
            square = x @ x.mT
            x = a * x + (b * square + c * square @ square) @ x
        for i, matrix in zip(same, x.mT if shape[0] > shape[1] else x):
            result[i] = matrix
    return result


def orthogonal(matrix):
    """The nearest matrix with orthonormal rows or columns; singular values under a thousandth of the largest stay small."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    values, vectors = torch.linalg.eigh((matrix @ matrix.T).double())
    scale = (values.clamp(min=0) + 1e-6 * values[-1] + 1e-30).rsqrt()
    return ((vectors * scale) @ vectors.T).float() @ matrix
