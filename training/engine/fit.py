"""Trains a system: data, logs, checkpoints, and resuming where an interrupted run stopped."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from depth_ros.errors import SettingsError, TrainingError
from depth_ros.files import output_errors, whole_file
from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros_training.data.datasets import StepSampler, ViewDataset, limit_threads, read_data
from depth_ros_training.engine.allocation import keep_freed_memory
from depth_ros_training.engine.data_wait import DataWait, TimedLoader
from depth_ros_training.engine.keep_best import KeepBest
from depth_ros_training.engine.pictures import Pictures
from depth_ros_training.engine.system import DepthSystem
from depth_ros_training.engine.validation import Cases
from depth_ros_training.settings import NetworkSettings, TrainingSettings, to_nested

PREFETCH = 4  # batches that each process of the loader makes ahead
_SETTINGS_FILE, _DATA_FILE = 'settings.json', 'data.json'
# May change between an interrupted run and the one that resumes it: they do not alter what is learned.
_FREE = {('data', 'workers'), ('run', 'threads'), ('run', 'keep'), ('run', 'pictures')}


def fit(
    system_class: type[DepthSystem], settings: TrainingSettings, data: Path, out: Path, progress: bool = True
) -> Path:
    """Train, or go on training.

    The run is a function of settings, data and number of processes alone (with ``run.precision`` at auto, also of what
    the machine computes in): an interrupted run that is started again with the same ``out`` goes on at its last epoch
    and ends as if it had not stopped.

    Args:
        system_class: how to train.
        settings: all settings.
        data: folder that the paths in the settings start from.
        out: folder for state, logs and checkpoints; of one run only.
        progress: whether to show a progress bar.

    Returns:
        The best checkpoint, ``out/best.safetensors``.

    Raises:
        SettingsError: settings that do not go together.
        TrainingError: ``out`` holds a run with other settings or on other data, the loss is not finite, or a process
            that prepares samples was killed.
        RecordingError: data cannot be read.
        OutputError: ``out`` cannot be written.
    """
    processes, rank = int(os.environ.get('WORLD_SIZE', '1')), int(os.environ.get('RANK', '0'))
    if settings.data.batch % processes:
        raise SettingsError(f'data.batch is {settings.data.batch}, expected a multiple of the {processes} processes')
    if settings.data.crop_height % 32 or settings.data.crop_width % 32:
        raise SettingsError(
            f'crops are {settings.data.crop_width}x{settings.data.crop_height}, expected multiples of 32 pixels'
        )
    if settings.run.precision == '16-mixed' and not torch.cuda.is_available():
        raise SettingsError("run.precision is '16-mixed', which needs a GPU; on CPUs expected bf16-mixed or 32-true")
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    keep_freed_memory()
    if rank == 0:
        _agree(out, settings)
    # Its remarks on devices and products are no result of the run.
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    lightning.seed_everything(settings.run.seed, verbose=False)
    sources, validation, fingerprints = read_data(settings, data)
    if rank == 0:
        _agree_on_data(out, fingerprints)
    cases = Cases(validation, by_truth=settings.data.validation_truth)
    if len(cases) < processes or not cases.num_with_lidar:
        raise SettingsError(
            f'{len(validation)} validation images, with rings to thin out in {cases.num_with_lidar} cases, are too '
            'few; name more in data.validation or data.held_out'
        )
    if settings.loss.teacher and not settings.network.teachers:
        raise SettingsError(
            'loss.teacher has a weight and there is no teacher; name its checkpoint in network.teachers'
        )
    network, teachers = _networks(settings.network, data)
    system = system_class(network, settings, cases, teachers)
    precision = _precision(settings.run.precision)
    views = ViewDataset(sources, settings, system_class.uses_others)
    if rank == 0:
        _claim(out, settings, fingerprints)
    described = to_nested(settings)
    described['run']['precision'] = precision
    # Checkpoints travel; folders of the machine that made them do not.
    described['network'] |= {'size': network.size, 'encoder': network.encoder_name}
    described['network']['start'] = Path(settings.network.start).name
    described['network']['teachers'] = [Path(name).name for name in settings.network.teachers]
    facts = {
        'training': {'system': system_class.__name__, 'settings': described},
        'data': fingerprints,
    }
    # Steps made, not epochs, say which views are next: the trainer counts an epoch twice when it resumes.
    sampler = StepSampler(
        settings.run.steps_per_epoch, settings.data.batch, rank, processes, lambda: system.global_step
    )
    workers = settings.data.workers
    loader = TimedLoader(
        views,
        settings.data.batch // processes,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=limit_threads,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=PREFETCH if workers else None,
    )
    # Cases go by number: they hold arrays of many sizes, which make no batch.
    case_loader = DataLoader(range(len(cases)), batch_size=None, sampler=range(rank, len(cases), processes))
    callbacks: list[lightning.Callback] = [
        ModelCheckpoint(
            out / 'state',
            filename='epoch_{epoch:05d}',
            save_last=False,
            save_top_k=1,
            monitor=None,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        ),
        KeepBest(out, settings.run.keep, facts),
        LearningRateMonitor('step'),
        DataWait(loader),
        Pictures(cases, settings.run.pictures),
    ]
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    state = _last_state(out)
    if rank == 0:
        for path in (out / 'state').glob('epoch_*.ckpt'):
            if path != state:  # the trainer never removes the one that it went on from
                path.unlink(missing_ok=True)
    with warnings.catch_warnings():
        # Lightning warns of loaders without workers, of few steps between logs, and of folders that exist; torch of
        # what Lightning calls.
        warnings.filterwarnings('ignore', category=lightning.fabric.utilities.warnings.PossibleUserWarning)
        warnings.filterwarnings('ignore', message='.*exists and is not empty.*')
        warnings.filterwarnings('ignore', message='.*LeafSpec.*')
        trainer = lightning.Trainer(
            max_epochs=-1,
            max_steps=settings.run.steps,
            limit_train_batches=settings.run.steps_per_epoch,
            gradient_clip_val=settings.optimizer.clip or None,
            precision=precision,
            accelerator='auto',
            strategy='ddp' if processes > 1 else 'auto',
            num_nodes=processes // int(os.environ.get('LOCAL_WORLD_SIZE', '1')),
            devices=int(os.environ.get('LOCAL_WORLD_SIZE', '1')),
            logger=[_log(out, rank), TensorBoardLogger(out, 'tensorboard', version='')],
            callbacks=callbacks,
            plugins=[_WholeStates()],
            log_every_n_steps=min(10, settings.run.steps_per_epoch),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
        try:
            with output_errors(out):
                trainer.fit(system, loader, case_loader, ckpt_path=state, weights_only=True if state else None)
        except SystemExit as stop:
            # How Lightning ends on Ctrl-C.
            raise KeyboardInterrupt from stop
        except RuntimeError as error:
            # What torch says of it has no class of its own.
            if 'DataLoader worker' not in str(error):
                raise
            raise TrainingError(
                f'a process that prepares samples was killed ({str(error).partition(". ")[0]}), most often for want of '
                'memory or of /dev/shm; lower data.workers, and the run goes on at its last epoch'
            ) from error
    return out / 'best.safetensors'


def _networks(settings: NetworkSettings, data: Path) -> tuple[DepthNet, list[DepthNet]]:
    """The network to train, and its teachers."""
    # Convolutions in low precision are several times as fast in this layout, on CPUs as on GPUs.
    layout = torch.channels_last
    teachers = [load_checkpoint(data / path)[0].to(memory_format=layout) for path in settings.teachers]
    if settings.start:
        network = load_checkpoint(data / settings.start)[0]
        defaults = NetworkSettings()
        for name, own in (('size', network.size), ('encoder', network.encoder_name), ('pretrained', False)):
            if (asked := getattr(settings, name)) not in (own, getattr(defaults, name)):
                raise SettingsError(
                    f'network.{name} is {asked!r}, and network.start a network with {own!r}; leave one of them out'
                )
    else:
        network = DepthNet(settings.size, settings.encoder, settings.pretrained)
        if teachers:
            _inherit(network, teachers[0])
    return network.train().to(memory_format=layout), teachers


def _inherit(network: DepthNet, teacher: DepthNet) -> None:
    """Start a network with the layers of its teacher, as far as they fit."""
    own = network.state_dict()
    theirs = {
        name: value for name, value in teacher.state_dict().items() if name in own and value.shape == own[name].shape
    }
    network.load_state_dict(own | theirs)
    if network.backbone is not None:
        # Features that these layers never saw are added to what they know: they start as nothing.
        for name, value in network.backbone.project.named_parameters():
            if f'backbone.project.{name}' not in theirs:
                torch.nn.init.zeros_(value)


def _precision(asked: str) -> str:
    """What ``auto`` means here. Where bf16 is only emulated it is several times as slow as full precision."""
    if asked != 'auto':
        return asked
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Releases of torch before 2.13 do not tell.
        capabilities = getattr(torch.cpu, 'get_capabilities', dict)()
        native = any(capabilities.get(name) for name in ('avx512_bf16', 'amx_bf16', 'bf16'))
    return 'bf16-mixed' if native else '32-true'


class _WholeStates(TorchCheckpointIO):
    """Writes states whole or not at all; Lightning would leave half of one where the disk is full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write one.

        Raises:
            OutputError: it cannot be written; the state before is still there.
        """
        # Of errors of the file system torch itself tells nothing.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with whole_file(path) as temporary:
            temporary.write_bytes(content.getbuffer())


def _last_state(out: Path) -> Path | None:
    states = sorted((out / 'state').glob('epoch_*.ckpt'))
    return states[-1] if states else None


def _log(out: Path, rank: int) -> CSVLogger:
    """The log of the run, with what was logged before an interruption: the logger would delete that."""
    path = out / 'log' / 'metrics.csv'
    # What ends without a line break was being written when the run was killed.
    lines = path.read_text(encoding='utf-8').rpartition('\n')[0].splitlines() if rank == 0 and path.is_file() else []
    log = CSVLogger(out, 'log', version='')
    for row in csv.DictReader(lines):
        step = int(row.pop('step'))
        log.log_metrics({name: float(value) for name, value in row.items() if value}, step)
    log.save()
    return log


def _agree(out: Path, settings: TrainingSettings) -> None:
    """Check that a folder, if there is a run in it, belongs to one with the same settings."""
    path = out / _SETTINGS_FILE
    if not path.exists():
        return
    with output_errors(path):
        found = json.loads(path.read_text(encoding='utf-8'))
    # What a run did not know of it did as the defaults do.
    defaults = to_nested(TrainingSettings())
    differences = [
        f'{group}.{name} was {before!r}, is {value!r}'
        for group, values in _described(settings).items()
        for name, value in values.items()
        if (group, name) not in _FREE
        and (before := found.get(group, {}).get(name, defaults[group][name])) != value
    ]
    if differences:
        raise TrainingError(
            f'{str(out)!r} holds a run with other settings ({"; ".join(differences)}); choose another --out, '
            'or the same settings to go on'
        )


def _agree_on_data(out: Path, fingerprints: dict[str, str]) -> None:
    """Check that the run of a folder, if there is one, learned from the same data."""
    path = out / _DATA_FILE
    if not path.exists():
        return
    with output_errors(path):
        found = json.loads(path.read_text(encoding='utf-8'))
    changed = [text for text, value in fingerprints.items() if found.get(text) != value]
    if changed:
        raise TrainingError(
            f'{str(out)!r} holds a run on other data: {", ".join(map(repr, changed))} changed since; choose another '
            '--out, or bring the data back to go on'
        )


def _claim(out: Path, settings: TrainingSettings, fingerprints: dict[str, str]) -> None:
    """Make the folder of the run and say what it is of. Not before all that is read was: a typing error is no run."""
    for name, content in ((_SETTINGS_FILE, _described(settings)), (_DATA_FILE, fingerprints)):
        if not (out / name).exists():
            with whole_file(out / name) as temporary:
                temporary.write_text(json.dumps(content, indent=1), encoding='utf-8')


def _described(settings: TrainingSettings) -> dict[str, Any]:
    return json.loads(json.dumps(to_nested(settings)))
