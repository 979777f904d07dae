"""Two processes: gradients averaged by DDP, weights sharded by FSDP2; both end where one process ends."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

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
from ravine.assembly import parts

how, spec, execution = sys.argv[1:4]
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
rule = parts(spec)[0].rule
mine = ravine.Optimizer(model.parameters(), rule, 0.05, execution=execution)
reference = ravine.Optimizer(alone.parameters(), rule, 0.05, execution="loop")
for step in range(6):
    x = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    for net, optimizer, batch in ((model, mine, x[rank::2]), (alone, reference, x)):
        optimizer.zero_grad()
        net(batch).square().mean().backward()
        optimizer.step()
    if step == 2:  # a saved and reloaded state goes on
        again = ravine.Optimizer(model.parameters(), rule, 0.05, execution=execution)
        again.load_state_dict(copy.deepcopy(mine.state_dict()))
        mine = again
for p, q in zip(model.parameters(), alone.parameters()):
    whole = p.full_tensor() if isinstance(p, DTensor) else p
    torch.testing.assert_close(whole.detach(), q.detach(), rtol=1e-12, atol=1e-12)
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


@pytest.mark.parametrize(
    "arguments", [("ddp", "adamw", "compiled"), ("ddp", "clip_norm(limit=0.1) + momentum", "loop")], ids="-".join
)
def test_ddp(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run(tmp_path, *arguments)


SPECS = ["adamw", "nadam", "rmsprop(momentum=0.9, nesterov=true)", "clip_norm(limit=0.1) + adam"]


@pytest.mark.parametrize("spec", SPECS)
def test_fsdp2_for_rules_that_look_at_each_weight(tmp_path: Path, spec: str) -> None:
    run(tmp_path, "fsdp", spec, "auto")
