"""Where the time of a forward pass or a training step goes, by torch's own profiler."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ..base.table import table
from .contenders import Contender

MOST = 12  # operations that are told by name


def operations(call: Callable[[], object], repeats: int, device: str = "cpu") -> dict[str, float]:
    """Milliseconds of one call, by torch's operation, what it calls not counted: the mean of so many calls
    after one to warm up. device: cuda for the time that operations take there."""
    call()
    cuda = device == "cuda"
    kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    with profile(activities=kinds, acc_events=True) as seen:
        for _ in range(repeats):
            call()
    # a device's kernels are rows of their own too, with the time that their operations have
    spent = {each.key.removeprefix("aten::"): each.self_device_time_total if cuda else
             each.self_cpu_time_total for each in seen.key_averages() if each.device_type == DeviceType.CPU}
    return {name: time / 1e3 / repeats for name, time in spent.items() if time}


def spent_on(found: Iterable[Contender], repeats: int, device: torch.device) -> str:
    """`time_operations` of those that run by torch, with all rewrites or none."""
    calls = {f"{each.name}, {each.precision}": each.call for each in found if " without " not in each.name
             and each.name.startswith(("netspec", "plain PyTorch"))}
    return (time_operations(calls, repeats, device.type) if calls else
            "--profile tells of what runs by torch, and nothing of that was timed")


def time_operations(calls: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu") -> str:
    """A table of what each call spends in which operation, in milliseconds, what takes most first."""
    found = {name: operations(call, repeats, device) for name, call in calls.items()}
    most = {name: max(each.get(name, 0.0) for each in found.values())
            for each in found.values() for name in each}
    first = sorted(most, key=lambda name: -most[name])[:MOST]
    rows = [[name, *(f"{each[name]:.1f}" if name in each else None for each in found.values())]
            for name in first]
    left = [sum(each.values()) - sum(each.get(name, 0.0) for name in first) for each in found.values()]
    rows += [["all others", *(f"{each:.1f}" for each in left)],
             ["in all", *(f"{sum(each.values()):.1f}" for each in found.values())]]
    return table(rows, ["torch's operation, ms", *found])
