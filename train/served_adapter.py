"""Send LoRA adapters to a vLLM server as files: `train/grpo.py --send-adapter true`.

TRL sends all weights over NCCL, which needs a GPU on both sides. Here each new adapter is saved
under `output_dir/served`, and the server is asked to load it (`/v1/load_lora_adapter`). So the
server must be able to read that folder, and run with:

    VLLM_SERVER_DEV_MODE=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --enable-lora \
        --max-lora-rank 128 --logprobs-mode processed_logprobs

Each adapter has a new name, because vLLM caches prefixes by the adapter's name. TRL's asynchronous
trainer does the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from accelerate.utils import broadcast_object_list
from requests import RequestException, Response
from trl.distributed import DistributedBackend
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient

from longvideo_env.errors import SpecError

OK, MISSING = 200, 404
TIMEOUT_S = 120
START = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --enable-lora --max-lora-rank {rank}"


class AdapterClient(VLLMClient):
    """TRL's client of a server that loads adapters. It joins no NCCL group."""

    def init_communicator(self, device: Any = 0) -> None:
        """Do nothing: no weights are sent over NCCL."""

    def check_lora(self, rank: int) -> None:
        """Refuse a server that cannot serve adapters of this rank.

        Raises:
            SpecError: The server cannot. The message says how to start one that can.
        """
        config = self.get_server_info()
        lora = config["lora_config"]
        if lora is None or lora["max_lora_rank"] < rank:
            got = "--enable-lora" if lora is None else f"--max-lora-rank {rank}"
            raise SpecError(
                f"send_adapter: the vLLM server at {self.base_url} was started without {got}. "
                f"Fix: {START.format(rank=rank)}."
            )
        if config["parallel_config"]["data_parallel_size"] > 1:
            raise SpecError(
                f"send_adapter: the vLLM server at {self.base_url} has several replicas, and only "
                "one would load the adapter. Fix: start it with --data-parallel-size 1."
            )

    def load(self, name: str, folder: Path) -> None:
        """Tell the server to load an adapter.

        Raises:
            SpecError: The server does not load it.
        """
        answer = self._ask("load", {"lora_name": name, "lora_path": str(folder)})
        if answer.status_code == MISSING:
            raise SpecError(
                f"send_adapter: the vLLM server at {self.base_url} does not load adapters while it "
                "runs. Fix: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1."
            )
        if answer.status_code != OK:
            raise SpecError(
                f"send_adapter: the vLLM server at {self.base_url} cannot load {folder}: "
                f"{answer.text}. Fix: choose an --output-dir that the server can read."
            )

    def unload(self, name: str) -> None:
        """Tell the server to unload an adapter.

        Raises:
            SpecError: The server cannot be reached.
        """
        self._ask("unload", {"lora_name": name})

    def _ask(self, verb: str, body: dict[str, str]) -> Response:
        try:
            url = f"{self.base_url}/v1/{verb}_lora_adapter"
            return self.session.post(url, json=body, timeout=TIMEOUT_S)
        except RequestException as error:
            raise SpecError(
                f"send_adapter: the vLLM server at {self.base_url} did not answer ({error}). Fix: "
                "start it again and resume with --resume-from-checkpoint true."
            ) from error


@contextmanager
def no_weights_over_nccl() -> Iterator[None]:
    """Make TRL use an `AdapterClient` instead of a client that joins an NCCL group."""
    with patch.object(vllm_generation, "VLLMClient", AdapterClient):
        yield


class ServedAdapter:
    """Sends the trained adapter to the server, under a new name each time.

    All processes must make each call.

    Args:
        trainer: The trainer of a model with one LoRA adapter, made within `no_weights_over_nccl`.

    Attributes:
        name: Name of the adapter that the server has now. None before the first.

    Raises:
        SpecError: The server cannot serve the adapter, or weights are sharded by FSDP.
    """

    def __init__(self, trainer: Any) -> None:
        if DistributedBackend(trainer.accelerator).is_fsdp:
            raise SpecError(
                "send_adapter does not work with FSDP. Fix: use DeepSpeed, or leave it out."
            )
        self.name: str | None = None
        self._trainer = trainer
        self._folder = Path(str(trainer.args.output_dir)).resolve() / "served"
        (self._run,) = broadcast_object_list([uuid4().hex[:8]])  # a server may outlive its run
        self._sent = 0
        if trainer.accelerator.is_main_process:
            (config,) = trainer.model.peft_config.values()
            self._client.check_lora(max([config.r, *config.rank_pattern.values()]))
            shutil.rmtree(self._folder, ignore_errors=True)  # left by a killed run

    @property
    def _client(self) -> AdapterClient:
        client: AdapterClient = self._trainer.vllm_generation.vllm_client
        return client

    def send(self) -> None:
        """Send the server the current adapter, and unload the previous one."""
        accelerator, before = self._trainer.accelerator, self.name
        self._sent += 1
        self.name = f"{self._run}-{self._sent}"
        model = accelerator.unwrap_model(self._trainer.model)
        lora = [weights for key, weights in model.named_parameters() if "lora_" in key]
        with DistributedBackend(accelerator).gather_params(lora):
            if accelerator.is_main_process:
                folder = self._folder / self.name
                model.save_pretrained(str(folder))
                self._client.load(self.name, folder)
                if before is not None:
                    self._client.unload(before)
                    shutil.rmtree(self._folder / before)
        accelerator.wait_for_everyone()

    def close(self) -> None:
        """Unload the last adapter."""
        if self.name is not None and self._trainer.accelerator.is_main_process:
            with suppress(SpecError):  # the server may be gone
                self._client.unload(self.name)
            shutil.rmtree(self._folder, ignore_errors=True)
