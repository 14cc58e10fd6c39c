# Everything runs in .venv, made on first use from python3 and its venv module alone.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all lint docs package picture tables examples gallery browser clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The name carries what was installed, and where: a change of either, or a copy of the folder,
# which would import the sources it was copied from, makes a new environment.
STAMP := $(VENV)/installed-$(shell (echo '$(CURDIR)'; cat setup.py setup.cfg pyproject.toml) | cksum | cut -d ' ' -f 1)

export TF_CPP_MIN_LOG_LEVEL ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Debian packages, where that needs no password.
APT_INSTALL = as_root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo -n "$$@"; fi; }; \
	as_root apt-get -qq update; \
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends

FIND_BROWSER = { command -v chromium || command -v chromium-browser || command -v google-chrome; }

INSPECT = gradscope inspect demo/model.keras --data demo/data.npz \
	--html demo/report.html --json demo/report.json

help:
	@echo 'make demo     examine a network that cannot learn; leaves demo/report.html'
	@echo 'make test     run the quick tests, of every part (PYTEST_ARGS="..." for some)'
	@echo 'make test-all run all tests (twenty minutes and more); test-slow those that test leaves out'
	@echo 'make lint     check style and types'
	@echo 'make docs     build the documentation into site/'
	@echo 'make package  build wheel and sdist into dist/, install the wheel anew and run the demo'
	@echo 'make picture  take the picture of the demo report again'
	@echo 'make tables   write the tables in README.md anew, from the symptoms that there are'
	@echo 'make examples run the examples of the symptoms (five minutes), for their pages'
	@echo 'make gallery  run every sample (twenty minutes) and write docs/gallery.md from it'
	@echo 'make clean    remove .venv, demo and caches'

# Exit code 1 means that the network was found sick, which it is; any other is a failure.
demo: $(STAMP)
	@$(BIN)/python -m gradscope.samples.digits demo
	@echo '$$ $(INSPECT)'
	@$(BIN)/$(INSPECT) || { code=$$?; [ $$code -eq 1 ] || exit $$code; }
	@echo
	@echo 'The report is ready. Open $(CURDIR)/demo/report.html in a browser.'

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m 'not slow' $(PYTEST_ARGS)

test-slow: $(STAMP) browser
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow $(PYTEST_ARGS)

test-all: $(STAMP) browser
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# The demo runs from what a user would install, in an environment that knows nothing of the sources.
package: $(STAMP)
	rm -rf dist build/clean
	$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet "$$(ls dist/*.whl)[samples]"
	cd build/clean && bin/gradscope demo && bin/gradscope --version

picture: demo browser
	@"$$($(FIND_BROWSER))" --headless --no-sandbox --disable-gpu --hide-scrollbars \
		--force-color-profile=srgb --window-size=1280,860 \
		--screenshot=docs/images/report.png 'file://$(CURDIR)/demo/report.html' 2>/dev/null

tables: $(STAMP)
	$(BIN)/python -m docs.reference_pages

examples: $(STAMP)
	$(BIN)/python -m docs.example_runs

gallery: $(STAMP)
	@$(BIN)/gradscope demo $$($(BIN)/gradscope demo --list | cut -d ' ' -f 1)
	@$(BIN)/python -m gradscope.samples.gallery gradscope-demo docs

browser:
	@$(FIND_BROWSER) >/dev/null || { echo 'Installing Chromium for the browser tests.'; \
		{ $(APT_INSTALL) chromium; } >/dev/null 2>&1; } || \
		echo 'No Chromium here and none could be installed: browser tests will be skipped.'

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$$($(PYTHON) --version) is too old: gradscope needs Python 3.10 or later." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo 'Installing python3-venv.'; { $(APT_INSTALL) python3-venv; } >/dev/null 2>&1; } || \
		{ echo 'Python has no ensurepip: install it with "apt-get install python3-venv".' >&2; exit 1; }
	@echo 'Making $(VENV): TensorFlow is a download of some 600 MB, once; please wait.'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[test,zoo,docs,dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo gradscope-demo build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
