.PHONY: up down test bench chaos fuzz kind lint

up: ; @scripts/up.sh
down: ; @scripts/down.sh
test: ; @scripts/test.sh
bench: ; @scripts/bench.sh $(ARGS)
chaos: ; @scripts/chaos.sh $(ARGS)
fuzz: ; @scripts/fuzz.sh $(ARGS)
kind: ; @scripts/kind.sh
lint: ; @scripts/lint.sh
