# Everything a developer or CI does. Fresh machine: Rust, Python >= 3.11, then `make demo` or `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
NATIVE := python/mamba_yolo/_rust.abi3.so
CUDA_KERNELS := $(if $(filter Darwin,$(shell uname)),,python/mamba_yolo/ops/cuda_kernels.zip)
RUST_SOURCES := Cargo.toml Cargo.lock rust/Cargo.toml $(shell find rust/src -name '*.rs')

.DEFAULT_GOAL := help
.PHONY: help install build demo test test-rust test-python fuzz mutants lint types fmt accuracy accuracy-masks bench bench-peers weights wheel wheel-check clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Make .venv with everything development needs

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older; run make PYTHON=python3.12"; exit 1; }
	@command -v cargo >/dev/null || { echo "Rust is needed: see https://rustup.rs"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

build: $(NATIVE) $(CUDA_KERNELS) ## Compile the native module, optimised, and the CUDA kernels into the source tree

$(NATIVE): $(VENV)/.installed $(RUST_SOURCES)
	@echo 'Compiling, and installing torch: several GB, a few minutes the first time'
	PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet
	@touch $@

python/mamba_yolo/ops/cuda_kernels.zip: $(VENV)/.installed .ci/cuda_binaries.py python/mamba_yolo/ops/_nvrtc.py $(wildcard cuda/*.cu cuda/*.cuh)
	$(BIN)/python .ci/cuda_binaries.py $@

demo: $(NATIVE) ## Train, validate and predict on real photographs, about two minutes
	$(BIN)/mamba-yolo demo

test: test-rust test-python ## Run every test

test-rust:
	cargo test --quiet --no-default-features

test-python: build
	$(BIN)/python -m pytest -q

SECONDS ?= 60
fuzz: build ## Damage pictures, labels, masks, boxes and checkpoints, SECONDS=60 each
	cd tests && ../$(BIN)/python -m fuzz $(SECONDS)

mutants: build ## Break the CUDA kernels in 300 ways and see what their tests tell, half an hour on two busy cores
	cd tests && ../$(BIN)/python -m kernels.mutants

lint: build ## Check style: ruff, rustfmt, clippy, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --all-targets --no-default-features -- -D warnings
	$(BIN)/lint-imports

types: build ## Check types: mypy strict, stubs of the native module
	$(BIN)/mypy
	$(BIN)/stubtest mamba_yolo._rust

fmt: build ## Format Python and Rust
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cargo fmt

bench: build ## Time ours beside every peer that is installed, about 20 minutes
	$(if $(wildcard $(PEERS)/.installed),$(PEERS),$(VENV))/bin/python -m pytest benches --benchmark-only --benchmark-autosave -s

accuracy: build ## Train n, YOLOv8n and YOLO11n from scratch on BCCD and write docs/results.md, hours; goes on where it was
	$(BIN)/python benches/accuracy.py

NUCLEI ?= ../shared/data/nuclei
accuracy-masks: build ## The same of n-seg and YOLOv8n-seg on nuclei: NUCLEI=FOLDER
	$(BIN)/python benches/accuracy.py --only n-seg,yolov8n-seg --data $(NUCLEI) --split val --imgsz 384 --epochs 40 --batch 8

bench-peers: build ## Install the benchmark peers into .venv-peers (5 GB), which `make bench` then uses
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PEERS)/bin/python -m pip install --quiet --group dev --group peers
	@# two peers want two builds of cv2 in one folder; the one without a window system has to be the one that stays
	$(PEERS)/bin/python -m pip uninstall --quiet --yes opencv-python
	$(PEERS)/bin/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless
	PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(PEERS) $(PEERS)/bin/maturin develop --release --quiet
	@touch $(PEERS)/.installed

FROM ?= runs/train/weights/best.safetensors
weights: build ## Put trained weights of n on BCCD into the package, with their model card: FROM=RUN/weights/best.safetensors
	$(BIN)/python .ci/package_weights.py $(FROM)

wheel: $(VENV)/.installed $(CUDA_KERNELS) ## Build the wheel and the source distribution into dist/
	$(BIN)/maturin build --release --sdist --out dist

wheel-check: wheel ## Install the wheel into an empty environment and run it from another folder
	bash .ci/wheel-check

clean: ## Remove what was built, keep .venv
	rm -rf target dist $(NATIVE) $(CUDA_KERNELS) .benchmarks .mypy_cache .ruff_cache .pytest_cache .hypothesis
