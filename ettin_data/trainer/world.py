"""The processes of a run: one, or as many as torchrun started (gloo on CPU, nccl on CUDA)."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from ettin_data.base.errors import RecipeError


@dataclass(frozen=True)
class World:
    """This process among the others, and its device."""

    rank: int
    size: int
    device: torch.device
    started: bool = False

    @classmethod
    def start(cls, device: str = "auto") -> World:
        """Join the processes that torchrun describes in the environment. Raises `RecipeError` for an absent device."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
            raise RecipeError(f"device {device!r} is not there", remedy="use cpu, or auto: cuda where there is one")
        place = torch.device("cpu")
        if device == "cuda":
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(place)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(0, 1, place)
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), place, started=True)

    def stop(self) -> None:
        if self.started:
            dist.destroy_process_group()

    def sum(self, *values: float) -> list[float]:
        """Each value added up over all ranks, in float64: exact for counts below 2**53."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def replicate(self, model: nn.Module) -> nn.Module:
        """The model such that gradients are averaged over the ranks in backward."""
        if self.size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def accumulate(self, replica: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward: only the last batch of a step exchanges gradients."""
        if isinstance(replica, nn.parallel.DistributedDataParallel) and not last:
            return replica.no_sync()
        return contextlib.nullcontext()

    def precision(self) -> AbstractContextManager[None]:
        """bf16 where the device has it."""
        there = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=there)
