# `make demo` and `make test` need nothing but Python 3.10 to 3.13: they make a virtual environment and install into it.
# On a machine with ROS 2 the package is built with colcon instead (see README).
#
# `make test` also installs torch. Where the package index of the machine has only its CUDA build, of several GB, the
# CPU build comes from PyTorch's own index: make test PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
DEMO_OUT ?= demo_output
TORCH ?= torch==2.13.0
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check

# Another environment's ROS wheels must not leak into this one.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport LD_LIBRARY_PATH

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := demo

$(VENV)/installed: setup.py pyproject.toml package.xml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else "depth_ros needs Python 3.10 to 3.13, this is %d.%d; call make PYTHON=python3.12" % v)'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --editable '.[ros,engines]'
	touch $@

# Apart, because a demo and a robot do without torch.
$(VENV)/installed_test: $(VENV)/installed
	$(PIP) install --quiet --editable '.[ros,engines,training,test]' '$(TORCH)'
	touch $@

demo: $(VENV)/installed  ## the sample bag through the live node, evaluated
	$(VENV)/bin/depth_ros demo --out $(DEMO_OUT)

test: $(VENV)/installed_test  ## all tests
	$(VENV)/bin/python -m pytest

lint: $(VENV)/installed  ## what CI holds the style to
	$(PIP) install --quiet ruff
	$(VENV)/bin/ruff check .

bench: $(VENV)/installed  ## every stage on this machine, as JSON
	$(VENV)/bin/depth_ros bench

clean:  ## everything that make made
	rm -rf $(VENV) $(DEMO_OUT) build *.egg-info
