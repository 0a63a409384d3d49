# `make demo` and `make test` need nothing but Python 3.10 to 3.13: they make a virtual environment and install into it.
# On a machine with ROS 2 the package is built with colcon instead (see README).
#
# `make test` also installs torch. Where the package index of the machine has only its CUDA build, of several GB, the
# CPU build comes from PyTorch's own index: make test PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
DEMO_OUT ?= demo_output
TORCH ?= torch==2.13.0
WORK ?= training_run
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check

# Another environment's ROS wheels must not leak into this one.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport LD_LIBRARY_PATH

.PHONY: demo test weights lint bench clean
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

# Nodes are tested one after the other: they wait for each other by the clock. All else runs on two cores.
test: $(VENV)/installed_test  ## all tests
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m 'not ros' --numprocesses 2 --dist loadscope
	$(VENV)/bin/python -m pytest test/ros

# Every step goes on where it was interrupted. DATA holds splits.json, multi_place and rgbd as in the model card.
weights: $(VENV)/installed_test  ## the checkpoint that ships, once more: make weights DATA=folder of recordings
	test -f '$(DATA)/splits.json' || { echo 'DATA is "$(DATA)", expected a folder with splits.json, see the model card' >&2; exit 2; }
	mkdir -p $(WORK)
	ln -sfn $(abspath $(DATA))/splits.json $(abspath $(DATA))/multi_place $(abspath $(DATA))/rgbd $(WORK)/
	$(VENV)/bin/depth_ros_training simulate --out $(WORK)/bags --seed 1000 --drives 332 --frames 5 --camera-rate 1 --width 640 --height 192 --lidar-field camera
	test -d $(WORK)/simulated || $(VENV)/bin/depth_ros_training cache $(WORK)/bags/* --out $(WORK)/simulated
	$(VENV)/bin/depth_ros_training simulate --out $(WORK)/bags_large --seed 2000 --drives 160 --frames 5 --camera-rate 1 --width 960 --height 320 --lidar-field camera
	test -d $(WORK)/simulated_large || $(VENV)/bin/depth_ros_training cache $(WORK)/bags_large/* --out $(WORK)/simulated_large
	$(VENV)/bin/depth_ros_training simulate --out $(WORK)/worlds --seed 8000 --drives 9 --frames 5 --camera-rate 1 --width 960 --height 320
	test -d $(WORK)/simulated_val || $(VENV)/bin/depth_ros_training cache $(WORK)/worlds/* --out $(WORK)/simulated_val
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_start.yaml --data $(WORK) --out $(WORK)/start
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped.yaml --data $(WORK) --out $(WORK)/run
	$(VENV)/bin/depth_ros_training mean $(WORK)/start/best.safetensors $(WORK)/run/best.safetensors --share 0.4 --config config/training/shipped_start.yaml --data $(WORK) --out $(WORK)/mean.safetensors --overwrite
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_faster.yaml --data $(WORK) --out $(WORK)/faster
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_faster.yaml --data $(WORK) --out $(WORK)/less_lidar --set network.start=faster/last.safetensors --set view.scattered=0.2 --set view.no_lidar=0.15 --set optimizer.learning_rate=0.0005 --set run.steps=16000 --set run.seed=1
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_faster.yaml --data $(WORK) --out $(WORK)/held_back --set network.start=less_lidar/last.safetensors --set view.scattered=0.2 --set view.no_lidar=0.15 --set loss.correction=1.0 --set optimizer.learning_rate=0.0004 --set optimizer.decay_share=0.8 --set run.steps=3800 --set run.seed=2
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_deviation.yaml --data $(WORK) --out $(WORK)/deviation
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_features.yaml --data $(WORK) --out $(WORK)/more_drives --set network.start=deviation/last.safetensors --set loss.teacher=2.0 --set 'optimizer.only=[lidar_stem,encoder,decoder,hidden,head,coarse_heads]' --set optimizer.encoder_rate=0.0 --set run.steps=9000 --set run.steps_per_epoch=1500 --set run.seed=5
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_features.yaml --data $(WORK) --out $(WORK)/features
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_features.yaml --data $(WORK) --out $(WORK)/longer --set network.start=features/last.safetensors --set 'data.sources=[0.35 frames splits.json train,0.15 frames splits.json rgbd_train,0.5 samples simulated_large]' --set run.steps=9000 --set run.steps_per_epoch=1500 --set run.seed=7
	$(VENV)/bin/depth_ros_training mean $(WORK)/features/last.safetensors $(WORK)/longer/last.safetensors --share 0.7 --config config/training/shipped_features.yaml --data $(WORK) --out $(WORK)/longer_mean.safetensors --overwrite
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_wide.yaml --data $(WORK) --out $(WORK)/wide
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_wide.yaml --data $(WORK) --out $(WORK)/wider --set network.start=wide/last.safetensors --set 'network.teachers=[wide/last.safetensors]' --set network.teachers_see=the_same --set data.crop_width=896 --set optimizer.decay_share=0.7 --set run.steps=10500 --set run.seed=10
	$(VENV)/bin/depth_ros_training fit --config config/training/shipped_sky.yaml --data $(WORK) --out $(WORK)/sky
	$(VENV)/bin/depth_ros export $(WORK)/sky/last.safetensors --out $(WORK)/depth_net_small.safetensors --overwrite
	$(VENV)/bin/depth_ros export $(WORK)/depth_net_small.safetensors --out $(WORK)/depth_net_small.onnx --overwrite

lint: $(VENV)/installed  ## what CI holds the style to
	$(PIP) install --quiet ruff
	$(VENV)/bin/ruff check .

bench: $(VENV)/installed  ## every stage on this machine, as JSON
	$(VENV)/bin/depth_ros bench

clean:  ## what make made, but not the trainings of make weights
	rm -rf $(VENV) $(DEMO_OUT) build *.egg-info
