"""Two processes: gradients averaged by DDP, weights sharded by FSDP2; both end where one process ends."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import ravine
from ravine.assembly import parts
from ravine.core.errors import RavineError

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("needs torch.distributed with gloo", allow_module_level=True)

SCRIPT = """
import copy, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import ravine
from ravine.assembly import assemble

how, spec, execution, tolerance = sys.argv[1:4] + [float(sys.argv[4])]
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
alone = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)).double()
shared = copy.deepcopy(alone)
if how == "ddp":
    model = DistributedDataParallel(shared)
else:
    mesh = init_device_mesh("cpu", (2,))
    for layer in shared:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    model = fully_shard(shared, mesh=mesh)
def made(net, execution):
    optimizer = assemble(spec, net, 6)
    optimizer.execution = execution
    return optimizer


mine, reference = made(model, execution), made(alone, "loop")
for step in range(6):
    x = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    for net, optimizer, batch in ((model, mine, x[rank::2]), (alone, reference, x)):
        optimizer.zero_grad()
        net(batch).square().mean().backward()
        optimizer.step()
    if step == 2:  # a saved and reloaded state goes on
        again = made(model, execution)
        again.load_state_dict(copy.deepcopy(mine.state_dict()))
        mine = again
for p, q in zip(model.parameters(), alone.parameters()):
    whole = p.full_tensor() if isinstance(p, DTensor) else p
    torch.testing.assert_close(whole.detach(), q.detach(), rtol=tolerance, atol=tolerance)
    assert isinstance(p, DTensor) == (how == "fsdp")
print("same", rank)
dist.destroy_process_group()
"""


def run(tmp_path: Path, *arguments: str) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    file = tmp_path / "two.py"
    file.write_text(textwrap.dedent(SCRIPT))
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(file), *arguments], env=common | {"RANK": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(said)
    assert all("same" in text for text in said)


DDP = [
    ("adamw(lr=0.05)", "compiled", "1e-12"),
    ("clip_norm(limit=0.1) + momentum(lr=0.05)", "loop", "1e-12"),
    ("hidden: muon(lr=0.05); rest: adamw(lr=0.05)", "auto", "1e-12"),
    ("shampoo(lr=0.05, every=2)", "auto", "1e-8"),
    ("prodigy", "compiled", "1e-8"),
]


@pytest.mark.parametrize("arguments", DDP, ids=lambda arguments: arguments[0].split("(")[0])
def test_ddp(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Shampoo to 1e-8: the sums of gradients differ in their last bits, and decompositions make more of it.

    SOAP is not here: where a covariance has no full rank yet, its basis is any, and so are its steps in it. The two
    processes have the same gradients and take the same steps; one process alone takes others.
    """
    run(tmp_path, "ddp", *arguments)


FSDP = [
    "adamw(lr=0.05)",
    "rmsprop(momentum=0.9, nesterov=true, lr=0.05)",
    "clip_norm(limit=0.1) + adam(lr=0.05)",
    "hidden: muon(lr=0.05); rest: schedule_free_adamw(lr=0.05)",
]


@pytest.mark.parametrize("spec", FSDP)
def test_fsdp2(tmp_path: Path, spec: str) -> None:
    """Rules that look at each weight, and those whose state is shaped like the weights."""
    run(tmp_path, "fsdp", spec, "auto", "1e-12")


@pytest.mark.parametrize("spec", ["shampoo", "soap", "psgd"])
def test_matrices_beside_sharded_weights_are_refused(spec: str) -> None:
    p = torch.nn.Parameter(torch.ones(4, 3))
    p.to_local = lambda: p  # type: ignore[attr-defined]  # what tells a DTensor
    p.grad = torch.ones_like(p)
    optimizer = ravine.Optimizer([p], parts(spec)[0].rule)
    with pytest.raises(
        RavineError, match=r"keeps matrices beside the weights, which cannot be sharded yet .*: use Dis"
    ):
        optimizer.step()
    assert p.detach().eq(1).all()
