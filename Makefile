# Everything runs inside .venv; nothing outside the repository is touched.
#   make reproduce   the world's tables and pictures, the first paper's tables and figures on it, and a report, into figures/
#   make test        everything that CI checks
#   make lab         JupyterLab on the tour
PYTHON ?= $(shell command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: setup reproduce test lab bench clean
setup: $(READY)

# The stamp is written last, so a set-up that was killed half-way is taken up again; pip itself is tried because a venv
# that was killed while being made exists without it.
$(READY): setup.py settings.ini pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo "Setting up $(VENV): about 190 packages, two or three minutes the first time"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet setuptools wheel setuptools-scm
	@$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	@touch $@

reproduce: $(READY)
	xlt reproduce --all --out figures

# One thread a process: two notebooks run side by side on two cores.
test: $(READY)
	ruff check nbs xlt_lib tests setup.py
	bash tests/drift.sh
	OMP_NUM_THREADS=1 nbdev-test --n-workers 2
	pytest -q

bench: $(READY)
	@for f in tests/benchmarks/bench_*.py; do echo "== $$f"; python $$f || exit 1; done

# Saved SVG pictures are shown only in trusted notebooks; these are the repository's own.
lab: $(READY)
	@jupyter trust nbs/*.ipynb nbs/*/*.ipynb >/dev/null
	jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) nbs/00_tour.ipynb

clean:
	rm -rf $(VENV) build dist *.egg-info
