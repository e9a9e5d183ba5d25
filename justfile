# One entry point for people and CI. `just` alone lists the recipes.
_default:
    @just --list

# What CI checks, but for the main job
check: fmt clippy test

fmt:
    cargo fmt --check

# Rollout is `test = false`, so --all-targets leaves it out
clippy:
    cargo clippy --all-targets -- -D warnings
    cargo clippy --test rollout -- -D warnings

# No cluster, no root
test:
    cargo test

# The main job: real apiservers
rollout *filter:
    cargo test --test rollout {{filter}}

# The workflows of GitHub
lint:
    ci/lint

# One row of ci/matrix.json
cell row:
    ci/cell {{row}}

deny:
    cargo deny check

# Kill real runs at random moments and look for leftovers
leftovers rounds="20" seed="1":
    ci/leftovers {{rounds}} {{seed}}

# Judge, balancer, lab start and load, each beside its rival (docs/performance.md)
bench *name:
    cargo bench {{ if name == "" { "" } else { "--bench " + name } }}
