# `make help` lists what there is to do.

SHELL := bash
# Found, or installed, at first use.
UV = $(eval UV := $$(shell .ci/uv))$(UV)
RUN = $(UV) run --locked --quiet
export UV_PYTHON_DOWNLOADS = never
# Python compiles a module once for all, out of the sources' way: most of what a short command
# would do is that, and the tests run some thousand of them.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX = $(CURDIR)/.pycache

# What the tests run beside the project's own parts: the stock tools that users have.
TEST_PACKAGES := busybox-static containerd curl docker-registry faketime git nix-bin openssh-server skopeo umoci zstd

# One more than processors: the slowest, first, waits for a node most of its time.
SIDE_BY_SIDE := --numprocesses 3 --dist loadscope --no-loadscope-reorder

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

.PHONY: demo demo-down
demo: ## A cluster, the operator, an image, a pod: from nothing to its output
	@python3 demo run

demo-down: ## Remove what the demo made
	@python3 demo down

.PHONY: test test-unit test-integration test-e2e prepare
test: prepare ## Run every test, against real parts
	@$(RUN) pytest $(SIDE_BY_SIDE)

test-unit: ## Run the tests that need no other parts
	@.ci/packages git zstd
	@$(RUN) pytest tests/unit

test-integration: prepare ## Run the tests against a control plane, Nix, Git and buckets
	@$(RUN) pytest tests/integration

test-e2e: prepare ## Run the tests on a whole node
	@$(RUN) pytest tests/e2e

prepare: ## Install and build what the tests run: minutes, once; they do not wait for it
	@.ci/packages $(TEST_PACKAGES)
	@python3 images build >/dev/null & $(UV) sync --locked --quiet && python3 cluster tools >/dev/null && wait $$!

.PHONY: docs
docs: ## Build the documentation into .site/index.html; no warning passes
	NO_MKDOCS_2_WARNING=1 $(RUN) python -m mkdocs build --strict --config-file website/mkdocs.yml

.PHONY: lint format
lint: docs ## Check style, types, layers, generated files, documentation and scripts
	@.ci/packages git shellcheck
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy operator/src tests bench website
	for folder in cluster images demo; do MYPYPATH=cluster:$$folder $(RUN) mypy $$folder || exit; done
	$(RUN) lint-imports
	$(RUN) niximage crds --check crds
	$(RUN) niximage crds --check charts/niximage-operator/files/crds
	@.ci/chart check
	@.ci/version >/dev/null
	shellcheck $$(git grep -lE '^#!.*\b(ba)?sh$$')

format: ## Bring the code into shape
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

.PHONY: generate
generate: ## Write the generated files anew: CRDs, the chart's copies of them, its README
	$(RUN) niximage crds --write crds
	$(RUN) niximage crds --write charts/niximage-operator/files/crds
	@.ci/chart generate

.PHONY: dist
dist: ## Make what a release consists of, in dist/: Python package, chart, image
	@rm -rf dist && mkdir -p dist/image
	@$(UV) build --quiet --out-dir dist
	@rm -f dist/.gitignore
	@"$$(python3 cluster tools helm)/helm" package --destination dist charts/niximage-operator
	@cp "$$(python3 images build operator | cut -d ' ' -f 2)" "dist/image/niximage-operator-$$(.ci/version).tar"
	@ls -l dist dist/image

.PHONY: cluster-up cluster-down
cluster-up: ## Start a local Kubernetes; kubeconfig at .cluster/kubeconfig
	@python3 cluster up

cluster-down: ## Remove it with all its traces
	@python3 cluster down

.PHONY: soak
DURATION = 30m
SEED = $(shell date +%s)
soak: prepare ## Let everything go wrong for DURATION=30m, and see that every image arrives
	@folder=$$(mktemp -d -t niximage-soak-XXXXXX) && echo "logs in $$folder" && \
	PYTHONPATH=tests:. $(RUN) python -m integration.controller.soak \
	  --duration $(DURATION) --seed $(SEED) --folder $$folder

.PHONY: bench
bench: ## Measure against the alternatives, in the same run; some ten minutes
	@.ci/packages gzip openssl zstd
	@$(RUN) python -m bench
