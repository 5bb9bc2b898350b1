# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo detect clouds test slow engines browser gpu lint models proto pages mutants hostile clean

demo: $(STAMP)
	$(BIN)/python data/shapes/prepare.py
	$(BIN)/python tools/demo.py

detect: $(STAMP)  # a small R-FCN, end to end and in four steps: 4 to 10 minutes
	$(BIN)/python data/shapes/prepare.py
	$(BIN)/python tools/demo.py --detection

clouds: $(STAMP)  # FCN-32s, 16s and 8s on satellite scenes, scored by the scene: about 3 minutes
	$(BIN)/python data/clouds/prepare.py
	$(BIN)/python tools/demo.py --clouds

test: $(STAMP)  # the types are checked beside the tests, whose many processes are to compile each file once
	$(BIN)/ruff check .
	$(BIN)/mypy & types=$$!; PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder; tests=$$?; \
		wait $$types && exit $$tests

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

engines: $(STAMP)  # nets run by OpenVINO, ONNX Runtime and OpenCV, which it installs: 121 MB to download
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[onnx,openvino,opencv]'
	$(BIN)/python -m pytest -m engine -rs $(ARGS)

browser: $(STAMP)  # the page in Chromium, which the system has (Debian: apt-get install chromium); screenshots in build/browser
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[web,browser]'
	$(BIN)/python -m pytest -m browser -rs tests/browser $(ARGS)

gpu: $(STAMP)  # what needs a GPU, in at most 40 minutes; all that it prints goes into docs/records/gpu.txt
	@$(BIN)/python tests/gpu.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

models: $(STAMP)
	$(BIN)/python models/fcn.py
	$(BIN)/python models/classifiers.py
	$(BIN)/python models/rfcn.py
	$(BIN)/python solvers/recipes.py

proto: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc --proto_path=netspec/proto --descriptor_set_out=netspec/proto/caffe.desc \
		--pyi_out=netspec/proto caffe.proto
	$(BIN)/python -c "from netspec.proto.stub import write_stub; write_stub()"

pages: $(STAMP)  # what docs/ takes from the code
	$(BIN)/python -m netspec layers --markdown --results tests/golden > docs/layers.md
	$(BIN)/python tests/wings.py docs/wings.svg
	$(BIN)/python -m netspec weights list --markdown > docs/zoo.md

mutants: $(STAMP)  # what do the tests not notice? make mutants ARGS="--count 100 ops"
	$(BIN)/python tests/mutate.py $(ARGS)

hostile: $(STAMP)  # what ends otherwise than it may? make hostile ARGS="prototxt --count 1000"; hours for all
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[hostile]'
	$(BIN)/python -m tests.hostile $(ARGS)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
