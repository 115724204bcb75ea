"""Joins a Ray cluster, or starts one on this machine, for the duration of a command.

    with joined_cluster(RayOptions("auto")):
        ...                                     # ray.remote(...) works in here

A cluster started here listens only on 127.0.0.1, has no dashboard, sends no telemetry, and ends
with the command. If the command is killed, it ends within a minute.
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
"""Object store memory of a cluster started here. Objects are small."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # avoids a warning of Ray
}


@dataclass(frozen=True)
class RayOptions:
    """The cluster, and the resources of each worker.

    Attributes:
        address: `HOST:PORT`; `auto` for the cluster of this machine, or a new one if there is none;
            `local` for a new one on this machine.
        workers: Number of workers. 0 means as many as fit.
        cpus_per_worker: CPU cores per worker.
        gpus_per_worker: GPUs per worker.

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
            raise SpecError("--ray must be auto, local or HOST:PORT, got an empty value.")
        if self.workers < 0:
            raise SpecError(f"--ray-workers must be 0 or more, got {self.workers}.")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if getattr(self, name) < 0:
                option = name.replace("_", "-")
                raise SpecError(f"--{option} must be 0 or more, got {getattr(self, name)}.")

    @property
    def resources(self) -> dict[str, float]:
        """Ray resources of a worker."""
        return {"num_cpus": self.cpus_per_worker, "num_gpus": self.gpus_per_worker}


def add_ray_options(parser: OptionParser, purpose: str) -> None:
    """Add `--ray` and the options for workers."""
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
    """The cluster options from parsed arguments, or None.

    Raises:
        SpecError: A number is out of range.
    """
    if options.get("ray") is None:
        return None
    names = ("cpus_per_worker", "gpus_per_worker")
    more = {name: options[name] for name in names}
    return RayOptions(options["ray"], options["ray_workers"], **more)


def work_in(folder: str) -> None:
    """Change to the command's working folder, for relative paths and the user's modules."""
    with suppress(OSError):  # a node without the folder only uses absolute paths
        os.chdir(folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def load_ray() -> Any:
    """Import Ray.

    Raises:
        MissingExtraError: Ray is not installed.
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
    """Join a cluster. Yields the number of workers that fit.

    If this process has already joined one, that one is used.

    Raises:
        SpecError: There is no such cluster, or no worker fits.
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
        # An interrupted command must save its results quickly, so Ray is left to end with the
        # process.
        if ours and isinstance(error, Exception):
            ray.shutdown()
        raise
    if ours:
        ray.shutdown()


def here(ray: Any) -> dict[str, Any]:
    """Options of an actor on this process's node that reserves no resources."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    return {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }


@contextmanager
def _silenced(ray: Any) -> Iterator[None]:
    """Suppress Ray's messages about lost workers, which the command reports itself."""
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
            # Ray would replace 127.0.0.1 by the machine's address, where nothing listens.
            with _loopback(ray, options.address.startswith(("127.0.0.1:", "localhost:"))):
                ray.init(address=options.address, **quiet)
            return
        except (ConnectionError, ValueError, RuntimeError) as error:
            if options.address != AUTO or os.environ.get("RAY_ADDRESS"):
                where = os.environ.get("RAY_ADDRESS", options.address)
                raise SpecError(
                    f"no Ray cluster at {where!r} ({error}). Fix: start one (`ray start --head`), "
                    "or use --ray local for one on this machine."
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
    """With multi-machine clusters disabled, Ray listens only on 127.0.0.1."""
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
            f"a worker needs {options.cpus_per_worker:g} CPU and {options.gpus_per_worker:g} GPU, "
            f"but the cluster has {named}. Fix: lower --cpus-per-worker or --gpus-per-worker."
        )
    return options.workers or fits


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Restore the command's SIGTERM handler, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
