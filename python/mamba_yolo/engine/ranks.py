"""The processes ("ranks") of a training run and all they tell each other; the only file that names torch.distributed.

Each rank computes its share of every batch. Gradients are added up, losses are divided by what the whole batch holds,
running statistics are averaged: after every optimizer step all ranks hold the same bits, and rank 0 writes them. One
process is a group of one, for which nothing here does anything. Test: tests/engine/test_ranks.py (two gloo processes).
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from mamba_yolo.engine.device import pick_device
from mamba_yolo.engine.signals import one_interrupt, restored_signals
from mamba_yolo.errors import ConfigError, RankLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The rank where a fault lies speaks first; whoever starts the ranks then ends the others before they repeat it.
SECONDS_BEHIND_RANK_0, SECONDS_BEHIND_FAULT = 3.0, 10.0


CPU = torch.device("cpu")


class Place(NamedTuple):
    """Where this process stands, as its launcher says."""

    rank: int
    world_size: int
    local_rank: int
    local_size: int


def place_of_process() -> Place:
    """Read what torchrun (RANK, …) or srun (SLURM_PROCID, … in a job step, with MASTER_ADDR) says."""
    e = os.environ
    if "RANK" in e and "WORLD_SIZE" in e:
        rank, size = int(e["RANK"]), int(e["WORLD_SIZE"])
        return Place(rank, size, int(e.get("LOCAL_RANK", rank)), int(e.get("LOCAL_WORLD_SIZE", size)))
    if "SLURM_STEP_ID" in e and "MASTER_ADDR" in e and int(e.get("SLURM_NTASKS", 1)) > 1:
        per_node = e.get("SLURM_STEP_TASKS_PER_NODE", e["SLURM_NTASKS"]).split("(")[0].split(",")[0]
        return Place(int(e["SLURM_PROCID"]), int(e["SLURM_NTASKS"]), int(e["SLURM_LOCALID"]), int(per_node))
    return Place(0, 1, 0, 1)


@dataclass(frozen=True)
class Ranks:
    """One of the processes that train together."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and speaks."""
        return self.rank == 0

    def share_of(self, batch: int) -> int:
        """Images per rank of a whole batch.

        Raises:
            ConfigError: it cannot be shared evenly.
        """
        if batch % self.world_size:
            raise ConfigError(
                f"batch={batch} cannot be shared by {self.world_size} ranks; it counts the images of all ranks, "
                f"take a multiple such as {-(-batch // self.world_size) * self.world_size}"
            )
        return batch // self.world_size

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks of a small CPU tensor; every rank gets the same."""
        if self.world_size == 1:
            return values
        moved = values.to(self.device, copy=True)
        self._wait_for(lambda: distributed.all_reduce(moved))
        return moved.to(values.device)

    def total_with_gradient(self, values: Tensor) -> Tensor:
        """Sum over the ranks of a tensor on the device; its gradient is summed too."""
        summed: Tensor = _Sum.apply(values, self)
        return summed

    def mean(self, value: float) -> float:
        """Mean over the ranks of a number, such as seconds, that all are to decide by."""
        return float(self.total(torch.tensor(value, dtype=torch.float64))) / self.world_size

    def own_random_numbers(self, seed: int, epoch: int) -> None:
        """Ranks above 0 draw from a stream of (seed, epoch, rank), which needs no saving; rank 0 keeps its own."""
        if self.rank:
            torch.manual_seed(int(np.random.SeedSequence((seed, epoch, self.rank)).generate_state(1)[0]))

    def add_gradients(self, model: nn.Module) -> None:
        """Put the sum over the ranks in the place of every gradient; a missing one counts as zero."""
        if self.world_size == 1:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        for p in trained:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self._reduce([p.grad for p in trained if p.grad is not None], 1.0)

    def average_statistics(self, model: nn.Module) -> None:
        """Put the mean over the ranks in the place of every running statistic; what is frozen stays as it is."""
        if self.world_size > 1:
            buffers = [b for m in model.modules() if m.training for b in m.buffers(recurse=False)]
            self._reduce([b for b in buffers if b.is_floating_point()], 1 / self.world_size)

    def same_weights(self, module: nn.Module) -> None:
        """Let every rank have the parameters and buffers of rank 0."""
        if self.world_size > 1:
            for tensor in module.state_dict().values():
                plain = tensor.contiguous()
                self._wait_for(lambda t=plain: distributed.broadcast(t, 0))  # type: ignore[misc]
                tensor.copy_(plain)

    def same_text(self, text: str) -> str:
        """The text of rank 0."""
        if self.world_size == 1:
            return text
        coded = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.zeros(0)
        length = int(self.total(torch.tensor(len(coded) if self.is_first else 0)))
        mine = coded.int() if self.is_first else torch.zeros(length, dtype=torch.int32)
        return bytes(self.total(mine).tolist()).decode()

    def gather(self, rows: Tensor) -> list[Tensor]:
        """The (n, …) float64 CPU rows of every rank, rank by rank; n may differ."""
        if self.world_size == 1:
            return [rows]
        counts = torch.zeros(self.world_size, dtype=torch.int64)
        counts[self.rank] = len(rows)
        sizes = self.total(counts).tolist()
        padded = torch.zeros(max(sizes), *rows.shape[1:], dtype=rows.dtype, device=self.device)
        padded[: len(rows)] = rows.to(self.device)
        received = [torch.empty_like(padded) for _ in sizes]
        self._wait_for(lambda: distributed.all_gather(received, padded))
        return [r[:n].cpu() for r, n in zip(received, sizes, strict=True)]

    def lost(self, what: str) -> RankLostError:
        """The error of a rank that cannot go on because of another, once that one has had time to say why."""
        time.sleep(SECONDS_BEHIND_FAULT)
        return RankLostError(f"rank {self.rank}: {what}; its own message says why")

    def _reduce(self, tensors: list[Tensor], factor: float) -> None:
        """One message for all tensors."""
        if not tensors:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        self._wait_for(lambda: distributed.all_reduce(flat))
        for tensor, part in zip(tensors, torch.split(flat * factor, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def _wait_for(self, exchange: Callable[[], Any]) -> None:
        """Exchange something; fail when a rank has gone."""
        try:
            exchange()
        except RuntimeError as error:  # what every backend raises
            raise self.lost("another rank ended or does not answer") from error


ALONE = Ranks()


@contextmanager
def join(devices: str) -> Iterator[Ranks]:
    """Take this process's place in the group its launcher made; a process without a launcher is alone.

    Args:
        devices: the option `device`: one name for all ranks (auto: the GPU of the local rank), or one per local rank.

    Raises:
        ConfigError: fewer devices than ranks on this machine.
    """
    place = place_of_process()
    if place.world_size == 1:
        yield Ranks(device=pick_device(devices))
        return
    try:
        device = pick_device(_device_of(devices, place))
        if device.type == "cuda":
            torch.cuda.set_device(device)
        found = distributed.is_initialized()  # somebody's own program did it, and ends it
        if not found:
            _open_group(device, place)
        with one_interrupt():
            yield Ranks(place.rank, place.world_size, device)
        if not found:
            distributed.destroy_process_group()
    except Exception:
        time.sleep(SECONDS_BEHIND_RANK_0 * (place.rank > 0))
        raise


def _open_group(device: torch.device, place: Place) -> None:
    """Find the others; the store of torchrun's agent may still hold the addresses of processes of an earlier life."""
    # Functions of this module take the group of the moment it is loaded as a default. Loaded later, as optimizers do,
    # they would keep the group for ever: its threads outlive destroy_process_group and can abort the ending process.
    import torch.distributed.nn.functional  # noqa: F401

    store = next(iter(rendezvous("env://", rank=place.rank, world_size=place.world_size)))[0]
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore(f"mamba-yolo/{life}", store),
        rank=place.rank,
        world_size=place.world_size,
    )


def start_processes(count: int, module: str, argument: str) -> str | None:
    """Run `python -m module argument` so often on this machine, by torchrun's agent; one that fails ends all.

    Returns:
        None when all are done, else which ended first, and how.

    Raises:
        KeyboardInterrupt: this process was asked to stop; the others are stopped too.
    """
    from torch.distributed import run as torchrun  # imports much, and only here
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what went wrong is said once, by the caller
    threads = str(max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, count) // count)
    with restored_signals(), _environment("OMP_NUM_THREADS", threads):
        try:
            words = ["--standalone", f"--nproc-per-node={count}", "--module", module, argument]
            torchrun.run(torchrun.parse_args(words))  # type: ignore[no-untyped-call]
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            how = f"was ended by signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit {failure.exitcode}"
            return f"rank {rank} {how}"
        except SignalException as error:
            raise KeyboardInterrupt from error
    return None


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable for the processes started meanwhile, unless the user has set it."""
    before = os.environ.get(name)
    os.environ[name] = before or value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _device_of(devices: str, place: Place) -> str:
    names = devices.split(",")
    if devices == "auto" and torch.cuda.is_available():
        names = [str(i) for i in range(torch.cuda.device_count())]
    if names in (["auto"], ["cpu"]):
        return "cpu"
    if len(names) < place.local_size:
        raise ConfigError(
            f"{place.local_size} ranks on this machine, but device={devices} has {len(names)}; "
            "give one device per rank, such as --device 0,1, or start fewer ranks"
        )
    return names[place.local_rank]


class _Sum(torch.autograd.Function):
    """y = sum over ranks of x; every rank's y has a gradient of its own, and x gets all of them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.total(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.total(gradient), None
