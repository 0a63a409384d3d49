# `make demo` and `make test` need nothing but Python 3.10 to 3.13: they make a virtual environment and install into it.
# On a machine with ROS 2 the package is built with colcon instead (see README).

PYTHON ?= python3
VENV ?= .venv
DEMO_OUT ?= demo_output
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
	$(PIP) install --quiet --editable '.[ros,test]'
	touch $@

demo: $(VENV)/installed  ## the sample bag through the live node, evaluated
	$(VENV)/bin/depth_ros demo --out $(DEMO_OUT)

test: $(VENV)/installed  ## all tests
	$(VENV)/bin/python -m pytest

lint: $(VENV)/installed  ## what CI holds the style to
	$(PIP) install --quiet ruff
	$(VENV)/bin/ruff check .

bench: $(VENV)/installed  ## every stage on this machine, as JSON
	$(VENV)/bin/depth_ros bench

clean:  ## everything that make made
	rm -rf $(VENV) $(DEMO_OUT) build *.egg-info
