# `just` lists these; the test command is tests/run.
default:
    @just --justfile {{justfile()}} --list

# Patrol the recorded examples.
demo:
    cargo run --release -- demo

# Everything CI runs.
test:
    bash tests/run

# What to run before a commit.
quick:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test --lib

# Speeds the README names, one JSON line a case.
bench:
    cargo bench --bench patrol -- --json
    cargo bench --bench engine -- --json
    cargo bench --bench model -- --json

# Licences, advisories and sources of dependencies.
deny:
    cargo deny --config .deny.toml check
