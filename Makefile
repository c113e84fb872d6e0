# Everything runs in .venv, which is built from the hashed lock when it is needed.

RUN ?= default
PROFILE ?= quick

# the first of these that is 3.11, 3.12 or 3.13: TensorFlow 2.21 and coremltools 9 have wheels for no other
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

# GPU=1: with TensorFlow's CUDA packages, which plain make leaves as they are
ENV = .venv/.installed$(if $(GPU),-cuda)
LOCK = requirements$(if $(GPU),-cuda).lock
PY = .venv/bin/python

# what a stage gets of the variables that were set
WITH_DATA = $(if $(DATA),--data "$(DATA)") $(if $(FORMAT),--format "$(FORMAT)")
WITH_CONFIG = $(if $(CONFIG),--config "$(CONFIG)")
WITH_SET = $(foreach pair,$(SET),--set "$(pair)")

.DEFAULT_GOAL := demo
.PHONY: demo data segment web web-build train data-preview output-preview export-android export-ios export-onnx benchmark compare check-gpu check-gpu-classic check-gpu-web gpu-driver check-arm check-mediapipe check-assets release apps-tools test test-full lint format lock clean help

# whichever photos, files or settings are named: the demo is of the synthetic portraits, as its configuration says
DEMO = $(MAKE) --no-print-directory RUN=demo DATA= FORMAT= SPLITS= PEERS= REFERENCE= SET=

demo: ## train, export and benchmark on the embedded synthetic portraits, as run `demo`
	@+$(DEMO) train CONFIG=train/configs/demo.toml INIT=weights/contour_small-256x256.h5
	@+$(DEMO) export-android
	@# a file that fails its checks is not published and makes the whole fail, but the others are measured all the same
	@+status=0; $(DEMO) export-ios || status=$$?; \
	$(DEMO) benchmark && exit $$status

data: $(ENV) ## fetch a public set, or say how to get it: DATASET= (none: what there is) DATA=folder
	@$(PY) -m train data $(if $(DATASET),"$(DATASET)" $(if $(DATA),"$(DATA)"))

WITH_WORKERS = $(if $(WORKERS),--workers "$(WORKERS)") $(if $(TASK),--task "$(TASK)") $(if $(WAIT),--wait "$(WAIT)") $(if $(DEVICE),--device "$(DEVICE)")

train: $(ENV) ## train a network: RUN= CONFIG= DATA= FORMAT= INIT= SET="section.key=value …" OVERWRITE=1 DEVICE=auto|cpu|gpu; on several machines WORKERS=host:port,… TASK=i WAIT=seconds
	@$(PY) -m train fit --run "$(RUN)" $(WITH_CONFIG) $(WITH_DATA) $(WITH_SET) $(if $(INIT),--init "$(INIT)") $(if $(OVERWRITE),--overwrite) $(WITH_WORKERS)

data-preview: $(ENV) ## a sheet of training's samples with masks and edge bands: CONFIG= DATA= FORMAT= SET= OUT=preview.png
	@$(PY) -m train show-data --augmented --out "$(or $(OUT),preview.png)" $(WITH_CONFIG) $(WITH_DATA) $(WITH_SET)

output-preview: $(ENV) ## what a trained run makes of its validation photos, the worst first: RUN= DATA= OUT=output.png
	@$(PY) -m train show-output --run "$(RUN)" --out "$(or $(OUT),output.png)" $(WITH_DATA) $(WITH_SET)

export-android: $(ENV) ## quantization-aware training, then .tflite files with parity: RUN= DATA= SET=
	@$(PY) -m export android --run "$(RUN)" $(WITH_DATA) $(WITH_SET)

export-ios: $(ENV) ## Core ML packages: RUN= DATA=
	@$(PY) -m export ios --run "$(RUN)" $(WITH_DATA) $(WITH_SET)

export-onnx: $(ENV) ## ONNX files, float and QDQ: RUN= DATA=
	@$(PY) -m export onnx --run "$(RUN)" $(WITH_DATA) $(WITH_SET)

GPU_FILES = $(if $(FILES),$(FILES),$(wildcard android_assets/$(RUN)/*-fp16.tflite android_assets/$(RUN)/*-qat_wi8_ai8.tflite)) $(if $(REPORT),--report "$(REPORT)")

check-gpu: $(ENV) ## whether phones' GPUs take .tflite files: FILES="a.tflite …" (default: the gated ones of RUN=) REPORT=folder DRIVER=swiftshader|lavapipe|vulkan
	@$(PY) -m export check-gpu $(GPU_FILES) $(if $(DRIVER),--driver "$(DRIVER)")

check-gpu-classic: $(ENV) ## the same on the classic delegate, in mediapipe 0.10.21 on OpenGL: FILES= REPORT=
	@$(PY) -m export check-gpu --route classic --install $(GPU_FILES)

check-gpu-web: $(ENV) ## the same in headless Chromium, by MediaPipe on WebGL2 and LiteRT on WebGPU: FILES= REPORT=
	@$(PY) -m export check-gpu --route web --install $(GPU_FILES)

gpu-driver: $(ENV) ## fetch SwiftShader, a Vulkan driver in software, without root: check-gpu then runs the files
	@$(PY) -m export gpu-driver

check-arm: $(ENV) ## what phones' processors make of .tflite files, emulated: masks, kernels, instructions: FILES= (default: the gated ones of RUN=) REFERENCE=a.tflite CORES="cortex-a53 …" DATA= PHOTOS= REPORT=
	@$(PY) -m export check-arm $(GPU_FILES) $(if $(REFERENCE),--reference "$(REFERENCE)") $(foreach core,$(CORES),--core $(core)) \
	  $(WITH_DATA) $(if $(PHOTOS),--photos "$(PHOTOS)")

check-mediapipe: $(ENV) ## whether MediaPipe and litert-benchmark open .tflite files: FILES="a.tflite …" (default: those of RUN=) REPORT=folder
	@$(PY) -m export check-mediapipe $(if $(FILES),$(FILES),--run "$(RUN)") $(if $(REPORT),--report "$(REPORT)")

release: $(ENV) ## keep of an exported run what can be committed: files for apps, golden vectors, weights: RUN= COMMERCIAL=1
	@$(PY) -m export release --run "$(RUN)" $(if $(COMMERCIAL),--commercial)

check-assets: $(ENV) ## whether the files of RUN= are what was exported: hashes and golden masks
	@for folder in $(or $(wildcard android_assets/$(RUN) ios_assets/$(RUN)),android_assets/$(RUN)); do $(PY) -m export check-assets "$$folder" || exit $$?; done

apps-tools: ## fetch what the tests of apps/ use (npm, 120 MB in .cache/kotlin): the Kotlin compiler, and Skia for shaders
	@mkdir -p .cache/kotlin && cp apps/package.json apps/package-lock.json .cache/kotlin/ && \
	  cd .cache/kotlin && npm ci --ignore-scripts --no-audit --no-fund

benchmark: $(ENV) ## quality and latency of every exported file: RUN= DATA= SPLITS= PEERS= REFERENCE= THREADS= PROFILE=quick|full ROBUSTNESS=1 SHARD=i/n
	@$(PY) -m benchmark run --run "$(RUN)" $(WITH_DATA) --profile "$(PROFILE)" $(if $(SPLITS),--splits "$(SPLITS)") \
	  $(if $(PEERS),--peers "$(PEERS)") $(if $(REFERENCE),--reference "$(REFERENCE)") $(if $(THREADS),--threads "$(THREADS)") $(if $(ROBUSTNESS),--robustness) $(if $(SHARD),--shard "$(SHARD)") $(WITH_SET)

WITH_TABLE = $(if $(BASE),--base "$(BASE)") $(if $(SPLITS),--splits "$(SPLITS)") $(if $(PEERS),--peers "$(PEERS)") \
  $(if $(REFERENCE),--reference "$(REFERENCE)") $(if $(THREADS),--threads "$(THREADS)") --profile "$(PROFILE)" $(if $(OUT),--out "$(OUT)")

compare: $(ENV) ## train, export and measure several networks on the same photos: MODELS="a b" IMAGES=30000 RATES=1e-3,2e-3 DATA= BASE= SPLITS= PEERS= SET= OVERWRITE=1
	@$(PY) -m benchmark contest --models "$(MODELS)" $(if $(IMAGES),--images "$(IMAGES)") $(if $(RATES),--rates "$(RATES)") $(WITH_DATA) $(WITH_TABLE) $(WITH_SET) $(if $(OVERWRITE),--overwrite)

segment: $(ENV) ## masks of photos and videos: IN="photo.jpg folder …" OUT=folder MODEL= OUTPUT=mask|alpha|cutout|blur|replace BACKGROUND= OVERWRITE=1
	@if [ -z "$(IN)" ] || [ -z "$(OUT)" ]; then echo 'error: make segment IN="photo.jpg folder …" OUT=folder' >&2; exit 2; fi
	@$(PY) -m portraitseg segment $(IN) --out "$(OUT)" $(if $(MODEL),--model "$(MODEL)") $(if $(OUTPUT),--output "$(OUTPUT)") \
	  $(if $(BACKGROUND),--background "$(BACKGROUND)") $(if $(OVERWRITE),--overwrite)

WITH_FILES = $(foreach file,$(FILES),--model "$(file)")

web: $(ENV) ## the page in the browser: photos and the camera, no photo leaves this machine: FILES="a.tflite …" to choose from too
	@$(PY) -m portraitseg web $(WITH_FILES)

web-build: $(ENV) ## the page as static files that anybody can host, in web-build/
	@$(PY) -m portraitseg web --build web-build $(WITH_FILES)

# one thread for each of the processes that fill the cores: more only wait for each other
ONE_THREAD = OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

# compiled once, also where the shell forbids it: hundreds of processes that tests start would compile the package each
test: $(ENV) ## the tests that CI runs
	@PYTHONDONTWRITEBYTECODE= $(ONE_THREAD) $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile

test-full: $(ENV) ## every test, however long
	@$(PY) -m pytest -m "full or not full"

lint: $(ENV) ## lint, format check, types, import rules
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: $(ENV) ## put the code into its form
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

# resolved without further dependencies: what a tool of its own environment imports, and no more
SMALL_LOCKS = portraitseg/checks/gpu/classic-requirements portraitseg/checks/mediapipe/requirements

lock: ## resolve pyproject.toml, and what the checks install apart, anew into the files *.lock (needs uv)
	@uv pip compile --universal --generate-hashes --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock
	@uv pip compile --universal --generate-hashes --python-version 3.11 --all-extras --group dev pyproject.toml requirements-cuda.in -c requirements.lock -o requirements-cuda.lock
	@for name in $(SMALL_LOCKS); do \
	  uv pip compile --universal --generate-hashes --python-version 3.11 --no-deps $$name.in -o $$name.lock || exit $$?; done

clean: ## take away the environment and caches; runs and assets stay
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  %-16s %s\n", $$1, $$2}'

$(ENV): $(LOCK)
	@if [ -z "$(PYTHON)" ]; then \
	  echo "error: Python 3.11, 3.12 or 3.13 is needed (python3 here: $$(python3 --version 2>&1)): install one, or name it with PYTHON=" >&2; exit 1; fi
	@"$(PYTHON)" -c '$(SUPPORTED)' || { \
	  echo "error: Python 3.11, 3.12 or 3.13 is needed ($(PYTHON) is $$("$(PYTHON)" --version 2>&1)): TensorFlow has wheels for no other" >&2; exit 1; }
	@echo "building .venv from $(LOCK) ($(if $(GPU),more than )3.4 GB, two to five minutes)"
	@"$(PYTHON)" -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(LOCK)
	@touch .venv/.installed $@
