.PHONY: up down test bench kind lint

up: ; @scripts/up.sh
down: ; @scripts/down.sh
test: ; @scripts/test.sh
bench: ; @scripts/bench.sh $(ARGS)
kind: ; @scripts/kind.sh
lint: ; @scripts/lint.sh
