# The two commands of the README, and what the maintainers use. Everything runs in .venv, which is made on demand.
PYTHON ?= python3
VENV = .venv
RAVINE = $(VENV)/bin/ravine
RACE = digits-mlp --optimizers "sgd, momentum, nesterov, adam, adamw, untuned_adam=adam(lr=0.001)" --points 8 --seeds 20

.PHONY: race test test-full test-ecosystem docs lint bench deep clean

race: $(VENV)/installed
	$(RAVINE) race $(RACE) --out runs/digits

test: $(VENV)/installed-dev lint
	$(VENV)/bin/python -m pytest -n 2 -m "not slow"

test-full: $(VENV)/installed-dev lint
	$(VENV)/bin/python -m pytest -n 2

test-ecosystem: $(VENV)/installed-dev
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[ecosystem]"
	$(VENV)/bin/python -m pytest tests/test_ecosystem.py

# The site, into build/site; a warning is an error.
docs: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(VENV)/bin/ravine claims pages docs/claims
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(VENV)/installed-dev
	for script in benchmarks/[a-z]*.py; do $(VENV)/bin/python $$script || exit 1; done

# The table of docs/deep-sigmoid.md: from its records in seconds, anew in half an hour.
deep: $(VENV)/installed
	$(VENV)/bin/python benchmarks/deep_sigmoid.py

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch first and alone: its exact version decides which build is taken.
$(VENV)/installed: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
