# The commands of the README. `make demo` needs Node.js 20 or later and nothing else; `make test` and `make lab` use what
# scripts/setup-system.sh installs.
.PHONY: demo test lab check build clean

demo: build
	node cli/fairway.mjs demo

# Two test files beside each other, but for those that measure (jest.config.mjs). A case that timed out may leave something open;
# its failure has been counted by then, and the run has to end.
test: system node_modules/.package-lock.json
	npm run --silent check
	npx jest --maxWorkers=2 --forceExit

lab: system build
	@test "$$(id -u)" = 0 || { echo 'make lab makes network namespaces and needs root: sudo make lab' >&2; exit 2; }
	node cli/fairway.mjs lab run contention
	node cli/fairway.mjs lab run readjust
	node cli/fairway.mjs lab run gang

check: node_modules/.package-lock.json
	npm run --silent check

build: node_modules/.package-lock.json
	npm run --silent build

.PHONY: system
system:
	scripts/setup-system.sh

# npm writes this file last, so it is as new as the last complete installation.
node_modules/.package-lock.json: package-lock.json
	@wait=5; until npm ci --ignore-scripts --include=dev --no-audit --no-fund; do \
		[ $$wait -le 40 ] || exit 1; \
		echo "npm ci failed; again in $$wait s" >&2; sleep $$wait; wait=$$((wait * 3)); \
	done
	@touch $@

clean:
	rm -rf dist openflow/dist coverage
