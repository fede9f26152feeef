# The three commands: make demo, make ui, make test. After the install, `make X` is `foundry X`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PROCESSES ?= 3
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)

# Where bytecode is not to be written, every process of a run would compile all of it again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install demo demo-all teachers demo-data ui test test-all soak bench doctor clean

install: $(STAMP)

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found. Install Python 3.11, or name yours: make PYTHON=python3 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@rm -f $(VENV)/.installed-* && touch $@

demo: install
	$(BIN)/foundry demo $(if $(DATA),--data $(DATA)) $(ARGS)

demo-all: install
	$(BIN)/foundry demo --all $(if $(DATA),--data $(DATA)) $(ARGS)

teachers: install
	$(BIN)/foundry teachers $(ARGS)

ui: install
	@exec $(BIN)/foundry ui $(if $(DATA),--data $(DATA)) $(ARGS)

demo-data: install
	$(BIN)/foundry demo-data $(ARGS)

doctor: install
	$(BIN)/foundry doctor

# Types are checked beside the tests, which wait a great deal; where they are wrong, what mypy says comes last.
test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@mkdir -p build; $(BIN)/mypy > build/mypy.txt 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -n $(PROCESSES) -m "not slow and not benchmark and not soak" $(ARGS); tests=$$?; \
	wait $$types || { cat build/mypy.txt; exit 1; }; exit $$tests

test-all: install
	$(BIN)/python -m pytest -n $(PROCESSES) -m "not benchmark and not soak" $(ARGS)

soak: install
	$(BIN)/python -m pytest -m soak $(ARGS)

bench: install
	$(BIN)/python -m pytest -m benchmark -s --durations=0 $(ARGS)

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
