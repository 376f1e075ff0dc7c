# Each target does all the set-up that it needs. `make help` lists them.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
unexport PYTHONDONTWRITEBYTECODE

RUN = started=$$SECONDS; uv=$$(scripts/bootstrap); echo "environment: $$((SECONDS - started)) s"; step=$$SECONDS; $$uv run --frozen


.PHONY: help setup demo lint test docs coverage test-faults test-celery test-azure test-k8s test-s3 test-vm test-slow faults nemesis drill faults-list renew bench bench-gate bench-raster bench-large bench-many bench-mixed bench-eta bench-fair bench-vector bench-formats bench-page bench-stac bench-intake bench-celery bench-scale bench-soak up down
help:   ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup:  ## uv, Python packages
	@$(RUN) python -c ''

demo:   ## the main job on bundled data; starts the stack
	@$(RUN) --extra serve geo-assets demo
	echo "demo: $$((SECONDS - step)) s"

up:     ## start the local stack
	@$(RUN) --extra serve geo-assets up

down:   ## stop it
	@$(RUN) geo-assets down

lint:   ## ruff, mypy, import contracts, definitions
	@$(RUN) --extra serve ruff check
	$$uv run --frozen ruff format --check --quiet
	$$uv run --frozen mypy
	$$uv run --frozen lint-imports --no-cache
	home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT  # not the stack's, which may not be there
	echo 'telemetry: {enabled: false}' > $$home/dagster.yaml
	DAGSTER_HOME=$$home $$uv run --frozen dg check defs
	echo "lint: $$((SECONDS - step)) s"

test:   ## the tests, a stack for each of up to four cores; some of them with TESTS=…
	@$(RUN) --extra serve pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)
	echo "test: $$((SECONDS - step)) s"

docs:   ## the pages as a site in .geo/docs/site; a link that leads nowhere fails
	@$(RUN) --group docs scripts/docs
	echo "docs: $$((SECONDS - step)) s"

coverage: ## branches taken by the tests that need no stack; fails below the figure in pyproject.toml, not with TESTS=…
	@$(RUN) coverage erase
	$$uv run --frozen coverage run -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not stack and not slow and not faults and not celery and not azure and not k8s and not s3 and not vm" $(TESTS)
	$$uv run --frozen coverage combine --quiet
	$$uv run --frozen coverage report --skip-covered --sort=cover $(if $(TESTS),--fail-under=0)
	echo "coverage: $$((SECONDS - step)) s"

test-faults: ## whole jobs, and stacks of their own: files that vanish, full disks, deleted runs, lost databases; pages in a browser; half an hour
	@$(RUN) --extra serve --extra otel pytest -m "faults and not slow" --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	echo "test-faults: $$((SECONDS - step)) s"

test-celery: ## steps and runs on workers of Celery that are killed and frozen, with a Redis from Debian's packages
	@$(RUN) --extra celery pytest -m celery geo_assets_tests/celery --numprocesses 2 --dist loadfile --no-loadscope-reorder -s
	echo "test-celery: $$((SECONDS - step)) s"

test-k8s: ## runs and steps as jobs of Kubernetes, some of which are killed and lost, on an API server of the tests; the image's steps
	@$(RUN) --extra k8s pytest -m k8s geo_assets_tests/k8s --numprocesses 2 --dist loadfile --no-loadscope-reorder -s
	echo "test-k8s: $$((SECONDS - step)) s"

AZURE_TESTS = geo_assets_tests/azure geo_assets_tests/integration/test_azure.py geo_assets_tests/storage/test_azure.py
test-azure: ## jobs of which everything is in Azure's Storage, PostgreSQL by tokens: on Azurite, which comes from npm, with a Node from PyPI
	@$(RUN) --extra serve --extra azure --group azurite pytest -m "not slow" $(AZURE_TESTS) --numprocesses 2 --dist loadfile --no-loadscope-reorder
	echo "test-azure: $$((SECONDS - step)) s"

test-s3: ## jobs of which everything is in S3, on moto's server
	@$(RUN) --extra s3 --group moto pytest -m s3 geo_assets_tests/s3
	echo "test-s3: $$((SECONDS - step)) s"

test-vm: ## docs/deploy-vm.md, command by command, on a copy of this Debian that is thrown away; root only; about five minutes
	@$(RUN) pytest -m vm geo_assets_tests/vm
	echo "test-vm: $$((SECONDS - step)) s"

faults: ## the matrix of faults: runs the tests of every row and prints what became of it
	@$(RUN) --all-extras python -m geo_assets_tests.faults.matrix --run
	echo "faults: $$((SECONDS - step)) s"

faults-list: ## the rows of the matrix of faults
	@$(RUN) python -m geo_assets_tests.faults.matrix

nemesis: ## several faults at once, by seeds: SEEDS="1 2 3", MINUTES=10 and SUBMISSIONS=200 for each
	@NEMESIS_SEEDS="$(or $(SEEDS),1 2 3)" NEMESIS_MINUTES="$(or $(MINUTES),10)" NEMESIS_SUBMISSIONS="$(or $(SUBMISSIONS),200)" \
	  $(RUN) pytest -s -m slow geo_assets_tests/faults/test_nemesis.py
	echo "nemesis: $$((SECONDS - step)) s"

drill: ## five incidents: is each named by an alert within two minutes, and ended by the runbook's commands? a Prometheus from Debian's packages
	@$(RUN) --extra serve --extra azure --group azurite pytest -s -m slow geo_assets_tests/monitoring/test_drill.py
	echo "drill: $$((SECONDS - step)) s"

test-slow: ## faults that take minutes
	@$(RUN) pytest -m slow -s
	echo "test-slow: $$((SECONDS - step)) s"

renew:  ## write again what tests compare: docs/reference, the snapshot of the definitions, golden items
	@$(RUN) python scripts/reference.py
	$$uv run --frozen python scripts/reference_doors.py
	GEO_ASSETS_RENEW=1 $$uv run --frozen pytest -q geo_assets_tests/defs/test_definitions.py geo_assets_tests/stac/test_golden_items.py geo_assets_tests/ledger/test_page.py

bench:  ## all benchmarks, one after the other: some hours; then their charts, and the page that leads to them
	@failed=
	for each in raster large vector formats many mixed eta fair stac page intake celery scale soak; do $(MAKE) bench-$$each || failed+=" $$each"; done
	$(RUN) python -m benchmarks.pages --together
	[[ -z $$failed ]] || { echo "missed:$$failed" >&2; exit 1; }

bench-gate: ## are we still ahead of rio-cogeo, GDAL and ogr2ogr? small inputs, by ratio in the same run; some minutes
	@$(RUN) python -m benchmarks.gate
	echo "bench-gate: $$((SECONDS - step)) s"

bench-raster: ## COGs against rio-cogeo, GDAL and gdalwarp
	@$(RUN) python -m benchmarks.raster

bench-large: ## rasters of 200,000 pixels a side, 20 million points, a GeoPackage of 30 GB: memory, disk, what a kill costs; an hour, 35 GB
	@$(RUN) python -m benchmarks.large
	$$uv run --frozen python -m benchmarks.large_vectors
	echo "bench-large: $$((SECONDS - step)) s"

bench-many: ## a thousand small rasters and vectors against shell loops; starts the stack
	@$(RUN) geo-assets up
	$$uv run --frozen python -m benchmarks.many

bench-mixed: ## one raster of 2 GB among 500 small ones: does a child wait? starts a stack of its own; about five minutes
	@$(RUN) python -m benchmarks.mixed
	echo "bench-mixed: $$((SECONDS - step)) s"

bench-eta: ## when mixed jobs say that they will have ended, and when they did; starts a stack of its own; about ten minutes
	@$(RUN) python -m benchmarks.eta
	echo "bench-eta: $$((SECONDS - step)) s"

bench-fair: ## ten rasters alone, beside a job of 20,000 and beside four of these; starts a stack of its own; about three minutes
	@$(RUN) python -m benchmarks.fair
	echo "bench-fair: $$((SECONDS - step)) s"

bench-page: ## the page of the catalogue with 20,000 items, in Chromium; starts the stack
	@$(RUN) --extra serve geo-assets up
	$$uv run --frozen --extra serve python -m benchmarks.page

bench-intake: ## submissions over HTTP, plans of 20,000 files; starts a stack of its own
	@$(RUN) python -m benchmarks.intake
	echo "bench-intake: $$((SECONDS - step)) s"

bench-celery: ## small rasters by one process and by one and two workers of Celery; stacks of its own, about fifteen minutes
	@$(RUN) --extra celery python -m benchmarks.celery
	echo "bench-celery: $$((SECONDS - step)) s"

bench-stac: ## the catalogue against pypgstac, stac-fastapi, titiler and sha256sum; about ten minutes
	@$(RUN) --extra serve python -m benchmarks.stac
	echo "bench-stac: $$((SECONDS - step)) s"

bench-scale: ## a million files listed and planned, a hundred thousand through all stages without converting one; starts a stack of its own
	@$(RUN) python -m benchmarks.scale
	echo "bench-scale: $$((SECONDS - step)) s"

bench-soak: ## 2,000 small jobs: memory of each process, what stays, that retention holds it; starts a stack of its own; half an hour
	@$(RUN) python -m benchmarks.soak
	echo "bench-soak: $$((SECONDS - step)) s"

bench-vector: ## vector load against ogr2ogr, geopandas and the COPY floor; about 15 minutes
	@$(RUN) python -m benchmarks.vector
	echo "bench-vector: $$((SECONDS - step)) s"

bench-formats: ## the same polygons in ten vector formats against ogr2ogr; about five minutes
	@$(RUN) python -m benchmarks.formats
	echo "bench-formats: $$((SECONDS - step)) s"
