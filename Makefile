# Gatehouse: `make demo` shows it, `make test` proves it. Run as root (packages and namespaces need it).
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PAGE := consoleproxy/services/console/page
PYTEST_ARGS ?=
# real daemons share two cores there: what failed must pass by itself; the first failure stays in the output
ONCE_MORE := $(BIN)/python -m pytest --last-failed --last-failed-no-failures none
FORMATS ?= qcow2
SUITE ?= some

.PHONY: help setup packages demo test unit netns vm image image-check image-report guest-image bench check schema migration lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: packages $(VENV)/.installed $(PAGE)/node_modules/.package-lock.json ## install what everything below needs

# apt runs only when a package is missing, so a second run is instant and works offline
packages:
	@command -v python3 >/dev/null || { apt-get update -qq && apt-get install -y -qq python3 >/dev/null; }
	@python3 tools/packages.py packages.txt

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# noVNC, by npm as it is; Node.js is needed for this step only. A machine may have npm that is not Debian's.
$(PAGE)/node_modules/.package-lock.json: $(PAGE)/package-lock.json
	@command -v npm >/dev/null || DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends npm >/dev/null
	npm ci --prefix $(PAGE) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

demo: setup ## two tenants' networks served end to end, each service used by a real client
	$(BIN)/python -m tests.demo $(DEMO_ARGS)

test: setup check unit netns vm ## everything CI runs

unit: $(VENV)/.installed ## fast tests, no processes
	$(BIN)/python -m pytest tests/unit -n auto $(PYTEST_ARGS)

netns: setup ## real daemons and clients in network namespaces
	$(BIN)/python -m pytest tests/netns -n 2 --dist loadfile $(PYTEST_ARGS) || $(ONCE_MORE) tests/netns $(PYTEST_ARGS)

# of the tests of tests/netns that fit any hypervisor: what the image alone may break, its sandboxes and its daemons
some := router/test_loadbalancer.py router/test_changes.py::test_what_passes_is_counted vpn/test_sites.py vpn/test_policies.py consoleproxy/test_sessions.py
all := .
VM := tests/vm $(addprefix tests/netns/,$($(SUITE))) --hypervisor vm
vm: setup ## the image in virtual machines (built when it changed): make vm SUITE=all for every service, or a file of tests/netns
	$(BIN)/python -m pytest $(VM) -n 2 --dist loadscope $(PYTEST_ARGS) || $(ONCE_MORE) $(VM) $(PYTEST_ARGS)

image: setup ## the system VMs' image, build/image/gatehouse.qcow2: make image FORMATS=qcow2,raw,vmdk,vpc IMAGE_ARGS=--force
	$(BIN)/python -m tools.image --formats $(FORMATS) $(IMAGE_ARGS)

image-report: setup ## what the image is made of, its targets, and its boot beside a plain Debian's
	$(BIN)/python -m tests.vm.report

image-check: setup ## build the image twice and compare the bytes
	$(BIN)/python -m tools.image --twice

check: $(VENV)/.installed ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## speed table with ratios; JSON under tests/bench/results/; a part: make bench BENCH_ARGS="--only vpn"
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

schema: $(VENV)/.installed ## write the JSON Schemas of documents and status
	$(BIN)/python -m tools.schemas

migration: $(VENV)/.installed ## write a migration for what the tables' models changed: make migration MESSAGE="add x"
	$(BIN)/python -m controlplane.store.revise $(MESSAGE)
	$(BIN)/ruff check -q --fix controlplane/store/migrations && $(BIN)/ruff format -q controlplane/store/migrations

guest-image: setup ## small guests for virtual machines: build/guest/builtin.qcow2 and bare.qcow2
	$(BIN)/python -m tools.guestimage.build

lock: ## pin every dependency with hashes (needs uv)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
	    --group dev --extra libvirt pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --no-header --no-emit-index-url --group appliance \
	    --constraint requirements.lock --python-version 3.13 --python-platform x86_64-manylinux_2_40 \
	    --output-file image-build/requirements.lock

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(PAGE)/node_modules .mypy_cache .ruff_cache .pytest_cache
