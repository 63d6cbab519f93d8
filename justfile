# One entry point for every task. `just` lists them; https://just.systems has the program.

# List the tasks.
default:
    @just --list --unsorted

# Start everything and watch it (Ctrl-C stops it).
up *ARGS:
    cargo run -- up {{ ARGS }}

# Prove the eight success metrics against the running stack.
verify *ARGS:
    cargo run -- verify {{ ARGS }}

# What this machine lacks, and how to get it.
doctor:
    cargo run -- doctor

# Fetch or build the real components, all or those named.
install *COMPONENTS:
    cargo run -- install {{ COMPONENTS }}

# Format the code.
fmt:
    cargo fmt --all

# Formatting and clippy, warnings refused.
lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets -- -D warnings

# Run the tests, all or those of the packages named: `just test -p flask-api`.
test *ARGS='--workspace':
    cargo test {{ ARGS }}

# Take the pictures of docs/dashboard-screenshots, from the lab whose console CONSOLE_URL names, or from one with six minutes of load and a fault.
screenshots:
    cargo run -- install chromium axe-core
    cargo test -p lab --test lab -- --ignored --exact screenshots::screenshots --nocapture

# Change every threshold, operator and duration of the rules, and show that a test notices.
mutate:
    cargo test -p lab --test lab -- --ignored --exact rules::every_mutant_is_killed --nocapture

# Fuzz config, traceparent, baggage, query or cursor for ten minutes; needs nightly and cargo-fuzz.
fuzz TARGET *ARGS='-max_total_time=600':
    mkdir -p fuzz/corpus/{{ TARGET }}
    cargo +nightly fuzz run -s none {{ TARGET }} fuzz/corpus/{{ TARGET }} fuzz/seeds/{{ TARGET }} -- {{ ARGS }}

# What the service promises under pressure, measured; needs a quiet machine and five minutes.
pressure *ARGS:
    cargo build -p flask-api -p loadgen
    python3 bench/hardening/run.py {{ ARGS }}

# Licences, advisories, banned crates, sources; needs cargo-deny.
deny *CHECKS:
    cargo deny check {{ CHECKS }}
