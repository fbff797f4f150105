# Everything happens in .venv; nothing has to be installed by hand but Python 3.11, make and a network for pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each worker takes up to 3 GB; tests of one tracker stay on one, which exports it once.
WORKERS ?= 2
EXTRAS := export,rtx,dev,demo,train,ray,serve,mavlink,mqtt,stream
SOURCES := $(shell find siamtrt models export calibration kernels runtime service training benchmarks -name '*.py' 2>/dev/null)
# TensorRT's stubs, for mypy alone: beside the other packages they would let `import tensorrt` succeed and be empty.
STUBS := $(VENV)/stubs
# The editable install links file by file, so a new or removed file needs it again: remember the list.
LISTING := $(shell echo $(sort $(SOURCES)) | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.installed-$(LISTING)

.PHONY: install test lint demo clean
install: $(STAMP)

$(STAMP): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' --config-settings editable_mode=strict
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(STUBS) \
		tensorrt-stubs==10.13.0.35.1
	sed -i.generated -E -e 's/\bin: list\[/in_: list[/' -e 's/(power: Weights = None, channel_axis: int)\)/\1 = 0)/' \
		$(STUBS)/tensorrt_bindings/tensorrt.pyi  # two of its lines are not Python
	rm -f $(VENV)/.installed-*
	touch $@

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: install
	$(BIN)/ruff check .
	MYPYPATH=$(STUBS) $(BIN)/mypy siamtrt models export calibration kernels runtime service training benchmarks

# The main job on what the repository holds: the default tracker's weights and a rendered clip.
DEMO := out/demo
demo: install
	rm -rf $(DEMO) && mkdir -p $(DEMO)
	$(BIN)/python -m siamtrt.training.render $(DEMO)/scene.mp4
	$(BIN)/siamtrt export -o $(DEMO)/bundle
	$(BIN)/siamtrt build $(DEMO)/bundle --fp16 --target sm86,sm89
	$(BIN)/siamtrt info $(DEMO)/bundle
	$(BIN)/siamtrt track $(DEMO)/bundle $(DEMO)/scene.mp4 --init "$$(head -n 1 $(DEMO)/scene.txt)" \
		--save $(DEMO)/tracked.mp4 --boxes $(DEMO)/boxes.csv
	$(BIN)/siamtrt bench $(DEMO)/bundle $(DEMO)/scene.mp4 --init "$$(head -n 1 $(DEMO)/scene.txt)" -o $(DEMO)/report
	@echo "look at $(DEMO)/tracked.mp4 and $(DEMO)/report.md"

# The default tracker anew, from the training data beside the repository: an hour and a half of one CPU core.
.PHONY: default-tracker
default-tracker: install
	$(BIN)/siamtrt train training/small.yaml
	$(BIN)/siamtrt train training/small_tune.yaml
	$(BIN)/python -m siamtrt.training.release out/small_tune/weights.safetensors

clean:
	rm -rf build dist out *.egg-info
