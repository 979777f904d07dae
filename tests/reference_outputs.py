"""K-FAC, E-KFAC and their curvature as the papers have them: example by example, from the whole history, in float64."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def loaded(model: nn.Module, theta: Tensor) -> nn.Module:
    nn.utils.vector_to_parameters(theta.clone(), model.parameters())
    return model


def mean_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(model(x[n : n + 1]), y[n : n + 1]) for n in range(len(x))]).mean()


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    found = torch.autograd.grad(mean_loss(model, x, y), list(model.parameters()))
    return torch.cat([g.reshape(-1) for g in found])


def gauss_newton(model: nn.Module, x: Tensor) -> Tensor:
    """The mean of Jᵀ (diag p - p pᵀ) J over examples, row of J by row."""
    whole = torch.zeros(len(flat(model)), len(flat(model)), dtype=torch.float64)
    for n in range(len(x)):
        z = model(x[n])
        rows = [torch.autograd.grad(one, list(model.parameters()), retain_graph=True) for one in z]
        J = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
        p = z.detach().softmax(0)
        whole += J.T @ (torch.diag(p) - torch.outer(p, p)) @ J / len(x)
    return whole


def factors(model: nn.Sequential, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(A, G) of every Linear: means of ā āᵀ and of Dᵀ (diag p - p pᵀ) D, D the Jacobian of logits in its outputs."""
    found = []
    for i, layer in enumerate(model):
        if not isinstance(layer, nn.Linear):
            continue
        A: Tensor | float = 0.0
        G: Tensor | float = 0.0
        for n in range(len(x)):
            a = model[:i](x[n]).detach()
            s = layer(a).detach().requires_grad_()
            z = model[i + 1 :](s)
            D = torch.stack([torch.autograd.grad(one, s, retain_graph=True)[0] for one in z])
            p = z.detach().softmax(0)
            ones = torch.cat([a, torch.ones(1, dtype=a.dtype)])
            A = A + torch.outer(ones, ones) / len(x)
            G = G + D.T @ (torch.diag(p) - torch.outer(p, p)) @ D / len(x)
        assert isinstance(A, Tensor)
        assert isinstance(G, Tensor)
        found.append((A, G))
    return found


def averaged(history: list[Tensor], decay: float) -> Tensor:
    """Decaying averages with weights min(1 - 1/k, decay), written as one sum over the whole history."""
    total, left = torch.zeros_like(history[0]), 1.0
    for k in range(len(history), 0, -1):
        keep = min(1 - 1 / k, decay)
        total += left * (1 - keep) * history[k - 1]
        left *= keep
    return total


def matrices(model: nn.Sequential, v: Tensor) -> list[Tensor]:
    """A flat vector as a matrix [W b] of every Linear."""
    found, start = [], 0
    for layer in model:
        if isinstance(layer, nn.Linear):
            rows, columns = layer.weight.shape
            W = v[start : start + rows * columns].view(rows, columns)
            start += rows * columns
            found.append(torch.cat([W, v[start : start + rows, None]], 1))
            start += rows
    return found


def joined(parts: list[Tensor]) -> Tensor:
    return torch.cat([piece for M in parts for piece in (M[:, :-1].reshape(-1), M[:, -1])])


def damped(A: Tensor, G: Tensor, damping: float, V: Tensor) -> Tensor:
    """((A + π √λ I) ⊗ (G + √λ / π I))⁻¹ on V, by one dense Kronecker product."""
    pi = ((A.trace() / len(A)) / (G.trace() / len(G))).sqrt()
    left = A + pi * damping**0.5 * torch.eye(len(A), dtype=A.dtype)
    right = G + damping**0.5 / pi * torch.eye(len(G), dtype=A.dtype)
    solved = torch.linalg.solve(torch.kron(right, left), V.reshape(-1))
    return solved.view_as(V)


def best_of(candidates: list[Tensor], g: Tensor, B: Tensor) -> Tensor:
    """The combination that minimizes gᵀδ + ½ δᵀ B δ."""
    V = torch.stack(candidates, 1)
    return V @ torch.linalg.solve(V.T @ B @ V, -V.T @ g)
