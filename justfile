# One door to the checks. `just` lists them.
default:
    @just --list

# Everything that CI runs
ci:
    bash .ci/run

# The tests
test:
    cargo test --release --workspace

# Formatting and lints
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# The main job on the embedded data
train:
    cargo run --release -- train

# Golden vectors, anew from SpikingJelly and PyTorch (needs `pip install torch spikingjelly`)
golden:
    python3 scripts/make_golden_vectors.py worker/tests/golden
