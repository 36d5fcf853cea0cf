# Development of pyray.  Each target makes what it needs, virtual environment included.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
JOBS ?= 2
PEERS ?= $(HOME)/.cache/pyray-peers
VERSIONS ?= 3.11 3.10 3.12 3.13

# Extra arguments: make test ARGS="-k view -x", make bench ARGS="--rows strings".
ARGS ?=
CLANG_FORMAT_FILES = $(wildcard csrc/*.[ch] csrc/tests/*.[ch] pyray/*/*.h)

.DEFAULT_GOAL := help
# Objects of the C tests stay for the next time; make would remove them, last of all it says.
.SECONDARY:
.PHONY: help build demo test test-py test-c test-debug test-tsan test-long test-faults test-js test-asan test-all bench bench-serialization bench-runtime bench-pools fuzz docs lint format dist clean

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: build $(VENV)/.bench ## compare with pickle and others on real objects, draw the plots
	@PYRAY_PEERS=$(PEERS) PYTHON="$(PYTHON)" sh benchmarks/peers.sh current >/dev/null || \
		echo "peers could not be installed: going on without them"
	PYRAY_PEERS=$(PEERS) $(PY) benchmarks/serialization.py --quick \
		--output build/demo/serialization.json $(ARGS)
	$(PY) benchmarks/plot.py build/demo/serialization.json --output build/demo/serialization.png
	@echo "plots: build/demo/serialization.png, figures: build/demo/serialization.json"

build: $(VENV)/.base ## compile the C core and the Cython modules in place
	@$(PY) setup.py -q build_ext --inplace -j$(JOBS)

# A tree of its own, as the modules would take the place of those in use.
DEBUG = build/debug
test-debug: $(VENV)/.test ## the Python tests on a debug build: a test that leaves anything behind fails
	@mkdir -p $(DEBUG) && git ls-files -z | tar -c --null -T - | tar -x -C $(DEBUG)
	cd $(DEBUG) && PYRAY_DEBUG=1 $(abspath $(PY)) setup.py -q build_ext --inplace -j$(JOBS)
	cd $(DEBUG) && PYRAY_DEBUG=1 PYTHONPATH="$$PWD" \
	    $(abspath $(PY)) -m pytest -m "not slow" -o timeout=1800 $(ARGS)

test: test-c test-py ## C tests under sanitizers, then the Python tests

test-c: ## each csrc/tests/test_*.c under the address and undefined-behaviour sanitizers
test-tsan: ## the C tests that have threads, under the thread sanitizer
test-long: ## processes that die, over and over; DEATHS=300000 KILLS=10000 SEED=1
test-faults: ## plant faults in copies of the core: the test of the recovery has to find each
test-py: build $(VENV)/.test test-js
	$(PY) -m pytest -m "not slow" $(ARGS)

# What the JavaScript reader's test needs; pytest skips that test without Node.
test-js:
	@if [ -f tests/js/package-lock.json ] && command -v npm >/dev/null && \
	    [ ! -d tests/js/node_modules ]; then \
	    npm ci --silent --no-audit --no-fund --prefix tests/js || echo "npm ci failed: JavaScript test is skipped"; fi

# A tree of its own, as the modules would take the place of those in use. Leak tests are left out:
# the sanitizers keep what is freed. Nodes and workers run under them, too; as a task is tried again
# when its worker dies, what they find there goes into files, and any such file is a failure. Tests
# that end a process by SIGSEGV want it to end so. A test of joblib's in which loky kills its workers
# is left out, too: it does so by pgrep, which hangs with the library of the sanitizer.
ASAN = build/asan
ASAN_LIBRARIES = $(shell $(CC) -print-file-name=libasan.so) $(shell $(CC) -print-file-name=libubsan.so)
test-asan: $(VENV)/.test ## the Python tests on a debug build under the sanitizers
	@mkdir -p $(ASAN) && git ls-files -z | tar -c --null -T - | tar -x -C $(ASAN)
	cd $(ASAN) && PYRAY_DEBUG=1 PYRAY_SANITIZE=address,undefined \
	    $(abspath $(PY)) setup.py -q build_ext --inplace -j$(JOBS)
	cd $(ASAN) && rm -f report.* && LD_PRELOAD="$(ASAN_LIBRARIES)" PYTHONMALLOC=malloc \
	    PYTHONPATH="$$PWD" ASAN_OPTIONS="detect_leaks=0:handle_segv=0:log_path=$$PWD/report" \
	    UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:log_path=$$PWD/report" \
	    $(abspath $(PY)) -m pytest -m "not slow" --ignore tests/serialization/test_leaks.py \
	    --deselect "tests/util/test_joblib_own.py::test_error_capture" -o timeout=1800 $(ARGS); status=$$?; cat report.* 2>/dev/null && exit 1; exit $$status

test-all: test-c ## build and run every test on each Python version, then check sdist and wheel
	@for version in $(VERSIONS); do \
	    echo "== Python $$version"; \
	    python=$$(.ci/find-python $$version) || exit 1; \
	    $(MAKE) --no-print-directory test-version VENV=.venvs/$$version PYTHON=$$python || exit 1; \
	done
	@$(MAKE) --no-print-directory dist

test-version: build $(VENV)/.test test-js
	$(PY) -m pytest $(ARGS)

fuzz: build ## fuzz decoder and parser under sanitizers; ARGS="--inputs 20000000"; needs clang
	$(PY) tests/fuzz/run.py $(ARGS)

bench: bench-serialization bench-runtime bench-pools ## the whole benchmark; writes benchmarks/results and docs

bench-serialization: build $(VENV)/.bench ## its part about the serializer
	@PYRAY_PEERS=$(PEERS) sh benchmarks/peers.sh current
	@PYRAY_PEERS=$(PEERS) sh benchmarks/peers.sh arrow11
	PYRAY_PEERS=$(PEERS) $(PY) benchmarks/serialization.py --docs $(ARGS)
	$(PY) benchmarks/plot.py benchmarks/results/serialization.json \
		--output docs/images/serialization.png

bench-runtime: build $(VENV)/.bench ## its part about tasks and objects: 40 minutes on a quiet machine
	@PYRAY_PEERS=$(PEERS) sh benchmarks/peers.sh ray
	@PYRAY_PEERS=$(PEERS) sh benchmarks/peers.sh runtimes
	PYRAY_PEERS=$(PEERS) $(PY) benchmarks/runtime.py --docs --rounds 3 $(ARGS)
	$(PY) benchmarks/plot_runtime.py benchmarks/results/runtime.json \
		--output docs/images/runtime.png

bench-pools: build $(VENV)/.bench ## its part about pools, executors and joblib
	$(PY) benchmarks/pools.py --docs $(ARGS)

docs: build $(VENV)/.docs ## build the documentation site into build/site
	$(PY) -m mkdocs build --quiet --strict --site-dir build/site

lint: $(VENV)/.lint ## ruff, mypy, cython-lint and clang-format
	@failed=0; \
	run() { echo "$$1"; shift; "$$@" || failed=1; }; \
	run "ruff check" $(VENV)/bin/ruff check --quiet .; \
	run "ruff format" $(VENV)/bin/ruff format --check --quiet .; \
	run mypy $(VENV)/bin/mypy --no-error-summary; \
	cython="$$(find pyray -name '*.pyx' -o -name '*.pxd')"; \
	test -z "$$cython" || run cython-lint env PATH="$(VENV)/bin:$$PATH" cython-lint $$cython; \
	c="$(CLANG_FORMAT_FILES)"; \
	test -z "$$c" || run clang-format $(VENV)/bin/clang-format --dry-run -Werror $$c; \
	exit $$failed

format: $(VENV)/.lint ## rewrite Python and C sources in the house format
	$(VENV)/bin/ruff check --fix --quiet . || true
	$(VENV)/bin/ruff format --quiet .
	@if [ -n "$(CLANG_FORMAT_FILES)" ]; then $(VENV)/bin/clang-format -i $(CLANG_FORMAT_FILES); fi

dist: $(VENV)/.test ## build sdist and wheel into dist/, check what they hold
	@rm -rf dist build/dist && mkdir -p dist
	@$(PIP) build
	$(PY) -m build --no-isolation --outdir dist . >build/dist.log || (tail -20 build/dist.log; exit 1)
	PYRAY_DIST=dist $(PY) -m pytest -q tests/test_packaging.py

clean: ## remove what was built; the virtual environments stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pyray \( -name '*.so' -o -name '*.html' \) -delete
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

# Virtual environment.  The project itself is on its path by a .pth file: an
# editable install would compile everything a second time in a folder of its own.
$(VENV)/.base: pyproject.toml .ci/requirements.py
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@mkdir -p build
	@$(PY) .ci/requirements.py build > build/requirements.txt
	@$(PIP) wheel -r build/requirements.txt
	@$(PY) -c "import sysconfig; print(sysconfig.get_path('purelib'))" | \
	    (read site; echo "$(CURDIR)" > "$$site/pyray-development.pth")
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.bench $(VENV)/.docs: $(VENV)/.%: $(VENV)/.base
	@$(PY) .ci/requirements.py $* > build/requirements.txt
	@$(PIP) -r build/requirements.txt
	@touch $@

# C tests: the core is compiled once with sanitizers, each test links with it.
C_FLAGS := -std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -pthread -DPYRAY_DEBUG=1 -fno-omit-frame-pointer -Icsrc
C_HEADERS := $(wildcard csrc/*.h csrc/tests/*.h)
C_SOURCES := $(patsubst csrc/%.c,%,$(wildcard csrc/*.c))
C_TESTS := $(patsubst csrc/tests/test_%.c,%,$(wildcard csrc/tests/test_*.c))
# In test_recover threads die between two stores to shared memory: it has a core of its own, that of
# the runtime only, compiled with points where that may happen.
CRASH_SOURCES := session process heap object spares spill room names wait task actor limit schedule lineage reconstruct recover recover_actors recover_lineage arena check

# $(call c_tests,folder,sanitizers)
define c_tests
build/$1/%.o: csrc/%.c $(C_HEADERS)
	@mkdir -p $$(@D)
	$$(CC) $(C_FLAGS) $2 -c $$< -o $$@

build/$1/crash/%.o: csrc/%.c $(C_HEADERS)
	@mkdir -p $$(@D)
	$$(CC) $(C_FLAGS) $2 -DPYRAY_CRASH_POINTS -c $$< -o $$@

build/$1/test_recover: csrc/tests/test_recover.c $(CRASH_SOURCES:%=build/$1/crash/%.o) $(C_HEADERS)
	$$(CC) $(C_FLAGS) $2 -DPYRAY_CRASH_POINTS $$(filter %.c %.o,$$^) -lm -o $$@

build/$1/test_%: csrc/tests/test_%.c $(C_SOURCES:%=build/$1/%.o) $(C_HEADERS)
	$$(CC) $(C_FLAGS) $2 $$(filter %.c %.o,$$^) -lm -o $$@
endef
$(eval $(call c_tests,test-c,-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=undefined))

$(eval $(call c_tests,test-tsan,-fsanitize=thread))
# Those with threads, but holders: it lists tables while others write them, as snapshot.h allows. A
# death takes eight times as long as under the other sanitizers.
TSAN_TESTS := actor_ends actors arrow_export cancel jobs names objects recover schedule spares spill \
              streams tasks turns wait

test-c: $(C_TESTS:%=build/test-c/test_%)
	@for test in $(C_TESTS); do echo $$test; build/test-c/test_$$test || exit 1; done

test-tsan: $(TSAN_TESTS:%=build/test-tsan/test_%)
	@for test in $(TSAN_TESTS); do \
	    echo $$test; PYRAY_DEATHS=1000 build/test-tsan/test_$$test || exit 1; done

# What it has found, and how long it takes: docs/reliability.md.
DEATHS ?= 300000
KILLS ?= 10000
SEED ?= 1
test-long: build/test-c/test_recover build/test-c/test_kill
	nice build/test-c/test_recover $(DEATHS) $(SEED)
	nice build/test-c/test_kill $(KILLS) $(SEED)

test-faults:
	$(PYTHON) tests/faults/planted.py $(ARGS)
