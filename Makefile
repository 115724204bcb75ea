PYTHON ?= python3
BIN := .venv/bin
.PHONY: setup demo test test-slow check bench-env clean

setup: .venv/.stamp
.venv/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,api,video,report,dev]"
	touch $@
demo: setup
	$(BIN)/python eval/run_policy.py --policy scripted:ground-look-answer --policy random --out runs/demo --overwrite
	$(BIN)/accelerate launch --config_file configs/accelerate/single.yaml train/grpo.py --config configs/grpo/tiny.yaml --output_dir runs/demo/grpo-tiny
	$(BIN)/python eval/run_policy.py --policy hf:runs/demo/grpo-tiny --max-turn-tokens 24 --out runs/demo --overwrite
test: setup
	$(BIN)/python -m pytest
test-slow: setup
	$(BIN)/python -m pytest -m "slow and not gpu and not vllm and not network"
check: setup
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports
bench-env: setup
	$(BIN)/python benchmarks/env_step.py --setup
	$(BIN)/python benchmarks/env_step.py
clean:
	rm -rf .venv build dist *.egg-info .*_cache .import_linter_cache
