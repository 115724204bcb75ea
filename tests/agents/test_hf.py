"""The transformers policy: batching, loading, and whole episodes played with it."""

import asyncio
import gc
import json
import shutil
import sys
import threading
import weakref

import pytest

from agents.generation.hf import HFPolicy, MicroBatcher, load_model
from agents.generation.settings import GenerationSettings
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.drivers.rollout import RolloutEngine
from longvideo_env.errors import MissingExtraError, PolicyError, SpecError
from longvideo_env.game.game import default_game
from longvideo_env.game.policy import Context
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox


class TestMicroBatcher:
    def batcher(self, max_batch_size=4):
        self.batches = []

        def run(batch):
            self.batches.append(list(batch))
            return [item * 10 for item in batch]

        return MicroBatcher(run, max_batch_size)

    def test_what_is_ready_together_runs_together(self):
        async def main():
            batcher = self.batcher(16)
            return await asyncio.gather(*(batcher.submit(i) for i in range(10)))

        assert asyncio.run(main()) == [i * 10 for i in range(10)]
        assert self.batches == [list(range(10))]

    def test_batches_are_bounded_and_in_order(self):
        async def main():
            batcher = self.batcher(4)
            return await asyncio.gather(*(batcher.submit(i) for i in range(10)))

        assert asyncio.run(main()) == [i * 10 for i in range(10)]
        assert self.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def test_coroutines_that_go_on_at_once_meet_again(self):
        async def episode(batcher, i):
            for _ in range(3):
                await batcher.submit(i)
                await asyncio.sleep(0)

        async def main():
            batcher = self.batcher(8)
            await asyncio.gather(*(episode(batcher, i) for i in range(8)))

        asyncio.run(main())
        assert [sorted(batch) for batch in self.batches] == [list(range(8))] * 3

    def test_who_needs_a_few_steps_more_still_joins(self):
        async def episode(batcher, i):
            for _ in range(i):  # nested tasks and queues take a step each
                await asyncio.sleep(0)
            await batcher.submit(i)

        async def main():
            batcher = self.batcher(8)
            await asyncio.gather(*(episode(batcher, i) for i in range(5)))

        asyncio.run(main())
        assert self.batches == [list(range(5))]

    def test_the_loop_goes_on_while_a_batch_runs(self):
        go = threading.Event()
        batcher = MicroBatcher(lambda batch: [go.wait(10)] * len(batch), 4)

        async def main():
            waiting = asyncio.ensure_future(batcher.submit(0))
            while not batcher._waiting and batcher._worker is None:
                await asyncio.sleep(0)
            go.set()  # only a loop that is not blocked gets here
            return await waiting

        assert asyncio.run(main()) is True

    def test_a_failing_batch_fails_each_request_and_no_other(self):
        def run(batch):
            if 1 in batch:
                raise RuntimeError("out of memory")
            return batch

        async def main():
            batcher = MicroBatcher(run, 2)
            return await asyncio.gather(
                *(batcher.submit(i) for i in range(4)), return_exceptions=True
            )

        first, second, *rest = asyncio.run(main())
        assert rest == [2, 3]
        assert first is not second
        for error in (first, second):
            assert isinstance(error, PolicyError)
            assert str(error) == "generating a batch of 2 failed: RuntimeError: out of memory"
            assert isinstance(error.__cause__, RuntimeError)

    def test_a_result_too_few_is_a_failure(self):
        with pytest.raises(PolicyError, match="ValueError"):
            asyncio.run(MicroBatcher(lambda batch: [], 2).submit(0))

    def test_policy_errors_keep_their_words(self):
        def run(batch):
            raise PolicyError("logits are not finite")

        with pytest.raises(PolicyError, match=r"^logits are not finite$"):
            asyncio.run(MicroBatcher(run, 2).submit(0))

    def test_who_gave_up_is_left_out(self):
        async def main():
            batcher = self.batcher(8)
            tasks = [asyncio.ensure_future(batcher.submit(i)) for i in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        first, second, third = asyncio.run(main())
        assert (first, third) == (0, 20)
        assert isinstance(second, asyncio.CancelledError)
        assert self.batches == [[0, 2]]

    def test_who_gives_up_while_the_batch_runs_harms_nobody(self):
        started, go = threading.Event(), threading.Event()

        def run(batch):
            started.set()
            go.wait(10)
            return batch

        async def main():
            batcher = MicroBatcher(run, 2)
            tasks = [asyncio.ensure_future(batcher.submit(i)) for i in range(4)]
            while not started.is_set():
                await asyncio.sleep(0.001)
            tasks[0].cancel()
            go.set()
            return await asyncio.gather(*tasks[1:])

        assert asyncio.run(main()) == [1, 2, 3]

    def test_outlives_an_event_loop(self):
        batcher = self.batcher()
        assert [asyncio.run(batcher.submit(i)) for i in range(3)] == [0, 10, 20]

    def test_closing_finishes_what_waits_and_takes_nothing_more(self):
        async def main():
            batcher = self.batcher(1)
            tasks = [asyncio.ensure_future(batcher.submit(i)) for i in range(3)]
            await asyncio.sleep(0)
            await batcher.aclose()
            await batcher.aclose()
            assert [task.result() for task in tasks] == [0, 10, 20]
            await batcher.submit(3)

        with pytest.raises(PolicyError, match="closed"):
            asyncio.run(main())


@pytest.fixture
def copy_of_tiny(tiny_path, tmp_path):
    return shutil.copytree(tiny_path, tmp_path / "copy")


class TestLoading:
    @pytest.mark.parametrize("path", ["/no/such/folder", "./runs/nothing", "a b", "", "a/b/c"])
    def test_no_such_folder(self, path, monkeypatch, tmp_path):
        pytest.importorskip("transformers")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SpecError, match=r"no model|not a model"):
            load_model(path)

    @pytest.mark.parametrize(
        "file", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"]
    )
    def test_half_a_folder(self, copy_of_tiny, file):
        (copy_of_tiny / file).unlink()
        with pytest.raises(SpecError, match="Fix:"):
            load_model(copy_of_tiny)

    @pytest.mark.parametrize(
        "file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    )
    def test_a_torn_file(self, copy_of_tiny, file):
        content = (copy_of_tiny / file).read_bytes()
        (copy_of_tiny / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(SpecError, match="Fix:"):
            load_model(copy_of_tiny)

    def test_weights_that_are_missing(self, copy_of_tiny):
        from safetensors.torch import load_file, save_file

        file = copy_of_tiny / "model.safetensors"
        weights = load_file(file)
        del weights["model.norm.weight"]
        save_file(weights, file, metadata={"format": "pt"})
        with pytest.raises(SpecError, match=r"lacks 1 of its weights, such as model\.norm\.weight"):
            load_model(copy_of_tiny)

    def test_weights_of_another_shape(self, copy_of_tiny):
        config = json.loads((copy_of_tiny / "config.json").read_text())
        config["hidden_size"] = 128
        (copy_of_tiny / "config.json").write_text(json.dumps(config))
        with pytest.raises(SpecError, match="Fix:"):
            load_model(copy_of_tiny)

    def test_the_hub_says_no(self, monkeypatch):
        transformers = pytest.importorskip("transformers")

        def refuse(*_args, **_kwargs):
            raise OSError("nobody/nothing is not a local folder and is not a valid identifier")

        monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
        with pytest.raises(SpecError, match="nobody/nothing"):
            load_model("nobody/nothing")

    @pytest.mark.parametrize("package", ["torch", "transformers"])
    def test_without_the_extra(self, tiny_path, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=r"longvideo-env\[train\]"):
            HFPolicy(tiny_path)

    def test_dtype_and_device(self, tiny_path):
        torch = pytest.importorskip("torch")
        model, codec = load_model(tiny_path, device="cpu", dtype="bfloat16")
        assert (model.dtype, model.device.type) == (torch.bfloat16, "cpu")
        assert not model.training
        assert codec.tokenizer.name_or_path == str(tiny_path)


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("embedded", "train")


def play(path, dataset, settings, n_tasks=6, patch=None):
    """The trajectories of a few episodes by qid, and the sizes of their batches."""
    config = EnvConfig(max_turns=3)

    async def main():
        policy = HFPolicy(path, settings, device="cpu")
        sizes, generate = [], policy._generate

        def spy(requests):
            sizes.append(len(requests))
            return generate(requests)

        policy._batcher._run = spy
        if patch is not None:
            patch(policy)
        engine = RolloutEngine(
            dataset=dataset,
            config=config,
            toolbox=build_toolbox(config, dataset),
            policy=policy,
            policy_spec="hf:tiny",
        )
        jobs = [(task, 0) for task in dataset.tasks[:n_tasks]]
        played = {trajectory.qid: trajectory async for trajectory in engine.play_all(jobs)}
        await policy.aclose()
        return played, sizes

    return run_blocking(main())


def token_ids(trajectory):
    return [i for segment in trajectory.segments for i in segment.token_ids]


def test_the_batch_size_changes_no_token(tiny_path, dataset):
    runs = {}
    for size in (1, 3, 16):
        settings = GenerationSettings(24, temperature=1.0, max_batch_size=size)
        runs[size], sizes = play(tiny_path, dataset, settings)
        assert max(sizes) == min(size, 6)
    for qid, alone in runs[1].items():
        for size in (3, 16):
            assert token_ids(runs[size][qid]) == token_ids(alone)
            assert runs[size][qid].turns == alone.turns


def test_segments_are_what_the_model_saw(tiny_path, dataset, codec):
    settings = GenerationSettings(32, temperature=1.0)
    played, _ = play(tiny_path, dataset, settings)
    assert any(len(trajectory.turns) == 3 for trajectory in played.values())
    for trajectory in played.values():
        assert trajectory.segments[0].role == "prompt"
        for segment in trajectory.segments:
            assert codec.decode(segment.token_ids) == segment.text
            assert segment.sampled == (segment.logprobs is not None)
            assert not segment.sampled or len(segment.logprobs) == len(segment.token_ids)
        text = "".join(segment.text for segment in trajectory.segments)
        if "\ufffd" not in text:  # else bytes of one character lie in two segments
            assert codec.decode(token_ids(trajectory)) == text


def test_an_answer_is_closed_with_a_masked_end_of_turn(tiny_path, dataset, codec):
    reply = "<reasoning>sure</reasoning><answer>a2</answer>"

    def always_answer(policy):
        ids, step = codec.encode(reply), 0

        def rewrite(_module, _arguments, output):
            nonlocal step
            output.logits[:, -1] = -30.0
            output.logits[:, -1, ids[step % len(ids)]] = 30.0
            step += 1

        policy._model.register_forward_hook(rewrite)

    played, _ = play(tiny_path, dataset, GenerationSettings(64), patch=always_answer)
    for trajectory in played.values():
        assert (trajectory.status, trajectory.choice) == ("answered", 2)
        *_, sampled, closing = trajectory.segments
        assert (sampled.text, sampled.sampled) == (reply, True)
        assert sampled.token_ids == codec.encode(reply)
        assert (closing.token_ids, closing.sampled) == ((codec.end_of_turn_id,), False)
        # The trainer uses this to tell a finished episode from a truncated one.
        assert token_ids(trajectory)[-1] == codec.tokenizer.eos_token_id
        assert trajectory.turns[-1].finish == "stop"


def test_an_episode_without_room_ends_out_of_context(tiny_path, dataset):
    settings = GenerationSettings(32, temperature=1.0, max_context_tokens=100)
    played, _ = play(tiny_path, dataset, settings, n_tasks=2)
    assert {trajectory.status for trajectory in played.values()} == {"out_of_context"}
    assert all(trajectory.reward is not None for trajectory in played.values())


def test_a_broken_model_fails_its_episodes(tiny_path, dataset):
    def spoil(policy):
        policy._model.model.norm.weight.data.fill_(float("nan"))

    settings = GenerationSettings(8, temperature=1.0)
    played, _ = play(tiny_path, dataset, settings, n_tasks=2, patch=spoil)
    for trajectory in played.values():
        assert (trajectory.status, trajectory.reward) == ("failed", None)
        assert "logits are not finite" in trajectory.error


def test_closing_frees_the_model(tiny_path, dataset):
    async def main():
        policy = HFPolicy(tiny_path, device="cpu")
        model = weakref.ref(policy._model)
        await policy.aclose()
        await policy.aclose()
        gc.collect()
        assert model() is None
        question = dataset.tasks[0].question
        await policy.act(Context(question, default_game(), [], [], [], 1, 0))

    with pytest.raises(PolicyError, match="closed"):
        asyncio.run(main())


def test_weights_that_are_pickled_are_refused(tmp_path):
    import torch

    from train.tiny_model import make_tiny_model

    folder = make_tiny_model(tmp_path / "model", seed=0)
    model = load_model(folder)[0]
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(SpecError, match="no model can be loaded"):
        load_model(folder)
