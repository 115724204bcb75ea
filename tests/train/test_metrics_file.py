import json

from transformers import TrainerControl, TrainerState

from train.metrics_file import MetricsFile


def log(file, step, **values):
    file.on_log(None, TrainerState(global_step=step), TrainerControl(), values)


def begin(path, step, main_process=True):
    state = TrainerState(global_step=step, is_world_process_zero=main_process)
    MetricsFile(path).on_train_begin(None, state, TrainerControl())


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_one_record_a_line_and_what_is_not_finite_is_null(tmp_path):
    file = MetricsFile(tmp_path / "out" / "metrics.jsonl")
    log(file, 1, reward=0.5, kl=float("nan"))
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "reward": 0.5, "kl": None}]


def test_a_resumed_run_drops_what_it_will_log_again_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    for step in (1, 2, 3):
        log(file, step, reward=0.0)
    with open(path, "a", encoding="utf-8") as torn:
        torn.write('{"step": 4, "rew')
    begin(path, 2, main_process=False)
    assert len(path.read_text().splitlines()) == 4
    begin(path, 2)
    assert steps(path) == [1, 2]
    log(MetricsFile(path), 3, reward=1.0)
    assert steps(path) == [1, 2, 3]


def test_a_run_from_the_start_begins_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    begin(path, 0)
    assert not path.exists()
    log(MetricsFile(path), 1, reward=0.0)
    begin(path, 0)
    assert steps(path) == []
