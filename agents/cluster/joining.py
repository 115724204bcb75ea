"""Joining a cluster of Ray, or starting one on this machine, for as long as a command takes.

    with joined_cluster(RayOptions("auto")):
        ...                                     # ray.remote(...) works in here

A cluster that is started here listens on 127.0.0.1 alone, has no dashboard, reports nothing to
anybody, and ends with the command; where that is killed, within a minute.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from longvideo_env.commands.options import OptionParser
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.strict import check_fields

AUTO, LOCAL = "auto", "local"
OBJECT_STORE_BYTES = 128 * 2**20
"""Memory for objects of a cluster started here: what goes over it is small."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning of Ray asks for it
}


@dataclass(frozen=True)
class RayOptions:
    """Which cluster, and what each worker gets of it.

    Attributes:
        address: `HOST:PORT`; `auto` for the cluster that this machine belongs to, or where there
            is none, one on this machine; `local` for one on this machine.
        workers: How many; 0: as many as the cluster has room for.
        cpus_per_worker: CPU cores of each.
        gpus_per_worker: GPUs of each.

    Raises:
        SpecError: A number is out of range.
    """

    address: str = AUTO
    workers: int = 0
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.address:
            raise SpecError("--ray must be auto, local or HOST:PORT, got nothing.")
        if self.workers < 0:
            raise SpecError(f"--ray-workers must be 0 or more, got {self.workers}.")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if getattr(self, name) < 0:
                option = name.replace("_", "-")
                raise SpecError(f"--{option} must be 0 or more, got {getattr(self, name)}.")

    @property
    def resources(self) -> dict[str, float]:
        """What a worker asks Ray for."""
        return {"num_cpus": self.cpus_per_worker, "num_gpus": self.gpus_per_worker}


def add_ray_options(parser: OptionParser, purpose: str) -> None:
    """`--ray`, with what it is for, and what workers get."""
    group = parser.add_argument_group("cluster")
    add = group.add_argument
    add(
        "--ray",
        metavar="auto|local|HOST:PORT",
        help=purpose,
    )
    add(
        "--ray-workers",
        type=int,
        default=0,
        metavar="N",
        help="Workers, each with a model of its own. Default: as many as there is room for.",
    )
    for name, default in (("cpus", 1.0), ("gpus", 0.0)):
        add(
            f"--{name}-per-worker",
            type=float,
            default=default,
            metavar="X",
            help=f"{name.upper()[:3]}s that Ray sets aside for each. Default: {default:g}.",
        )


def read_ray(options: Mapping[str, Any]) -> RayOptions | None:
    """The cluster that was asked for.

    Raises:
        SpecError: A number is out of range.
    """
    if options.get("ray") is None:
        return None
    names = ("cpus_per_worker", "gpus_per_worker")
    more = {name: options[name] for name in names}
    return RayOptions(options["ray"], options["ray_workers"], **more)


def work_in(folder: str) -> None:
    """Be where the command was started: relative paths and parts of the user lie there."""
    with suppress(OSError):  # a node without the folder has absolute paths, or none
        os.chdir(folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def load_ray() -> Any:
    """The package.

    Raises:
        MissingExtraError: It is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


@contextmanager
def joined_cluster(options: RayOptions) -> Iterator[int]:
    """Be part of a cluster; gives the number of workers that it has room for.

    Where this process is part of one already, it stays so.

    Raises:
        SpecError: There is no such cluster, or it has no room for a worker.
        MissingExtraError: Ray is not installed.
    """
    ray = load_ray()
    ours = not ray.is_initialized()
    if ours:
        with _own_handlers():
            _join(ray, options)
    try:
        with _silenced(ray):
            yield _count(ray, options)
    except BaseException as error:
        # An interrupted command has little time to write down what it has: Ray then ends with it.
        if ours and isinstance(error, Exception):
            ray.shutdown()
        raise
    if ours:
        ray.shutdown()


def here(ray: Any) -> dict[str, Any]:
    """Options of an actor that lives on the node of this process, and takes no room there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    return {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }


@contextmanager
def _silenced(ray: Any) -> Iterator[None]:
    """Keep what Ray says of lost workers off the output of a command, which says it itself."""
    worker = ray._private.worker
    earlier = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = earlier


def _join(ray: Any, options: RayOptions) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if options.address != LOCAL:
        try:
            # Ray would ask for 127.0.0.1 under the machine's own address, where nobody listens.
            with _loopback(ray, options.address.startswith(("127.0.0.1:", "localhost:"))):
                ray.init(address=options.address, **quiet)
            return
        except (ConnectionError, ValueError, RuntimeError) as error:
            if options.address != AUTO or os.environ.get("RAY_ADDRESS"):
                where = os.environ.get("RAY_ADDRESS", options.address)
                raise SpecError(
                    f"no cluster of Ray answers at {where!r} ({error}). Fix: start one (`ray "
                    "start --head`), or give --ray local for one on this machine."
                ) from error
    _start(ray, options, quiet)


def _start(ray: Any, options: RayOptions, quiet: dict[str, Any]) -> None:
    cores = max(os.cpu_count() or 1, int(options.workers * options.cpus_per_worker + 0.999))
    with _loopback(ray):
        ray.init(
            address="local",
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **quiet,
        )


@contextmanager
def _loopback(ray: Any, on: bool = True) -> Iterator[None]:
    """With clusters over several machines off, Ray takes 127.0.0.1 and listens nowhere else."""
    constants = ray._private.ray_constants
    earlier = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = earlier and not on
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = earlier


def _count(ray: Any, options: RayOptions) -> int:
    there = ray.cluster_resources()
    wanted = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
    room = [int(there.get(name, 0.0) / each + 1e-6) for name, each in wanted.items() if each]
    fits = min(room, default=options.workers or 1)
    if fits < 1:
        named = ", ".join(f"{there.get(n, 0.0):g} {n}" for n in wanted)
        raise SpecError(
            f"a worker wants {options.cpus_per_worker:g} CPU and {options.gpus_per_worker:g} GPU, "
            f"and the cluster has {named}. Fix: lower --cpus-per-worker or --gpus-per-worker."
        )
    return options.workers or fits


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Ray puts its own handler for SIGTERM in the place of the command's: put that back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
