"""``depth_ros export``: a checkpoint as an ONNX file for engines (OpenVINO, ONNX Runtime, TensorRT), or made small."""

from __future__ import annotations

import argparse
from pathlib import Path

from depth_ros.cli.topic_arguments import inputs
from depth_ros.errors import MissingDependencyError, SettingsError
from depth_ros.evaluation.engines import check_engines
from depth_ros.files import check_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('checkpoint', type=Path, help='checkpoint (.safetensors)')
    parser.add_argument(
        '--out',
        type=Path,
        help='file to write: .onnx, or .safetensors for the checkpoint itself with weights in half precision',
    )
    parser.add_argument(
        '--precision',
        choices=('fp32', 'fp16'),
        help='of the layers of an .onnx; fp16 is for GPUs (default: fp32)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace the file that is there')
    parser.add_argument(
        '--check', type=Path, metavar='BAG', help='compare all engines of this machine with torch on this recording'
    )


def run(arguments: argparse.Namespace) -> None:
    """Export, check, and say what came out."""
    if not arguments.out and not arguments.check:
        raise SettingsError('nothing to do, expected --out FILE or --check BAG')
    if arguments.out and arguments.out.suffix not in ('.onnx', '.safetensors'):
        raise SettingsError(f'--out is {str(arguments.out)!r}, expected a name that ends in .onnx or .safetensors')
    if arguments.precision and (not arguments.out or arguments.out.suffix != '.onnx'):
        raise SettingsError(f'--precision {arguments.precision} is for an .onnx file; name one with --out')
    if arguments.overwrite and not arguments.out:
        raise SettingsError('--overwrite replaces a file; name it with --out')
    if arguments.out:
        check_file(arguments.out, arguments.overwrite, [arguments.checkpoint, *inputs(arguments.check)])
    try:
        from depth_ros.estimators.export import export, halve
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"export needs {error.name}: pip install 'depth_ros[training,engines]'") from error
    if arguments.out and arguments.out.suffix == '.safetensors':
        halve(arguments.checkpoint, arguments.out)
        print(f'{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB; weights in half precision')
    elif arguments.out:
        estimator = export(arguments.checkpoint, arguments.out, arguments.precision or 'fp32')
        print(f'{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB; {estimator.status}')
    if arguments.check:
        print('relative error against torch in f32   median      99 %   largest   median of std')
        for engine, errors in check_engines(arguments.checkpoint, arguments.check):
            if 'failed' in errors:
                print(f'{engine.text:<34}  {errors["failed"]}')
                continue
            values = (f'{errors[key]:>10.2e}' for key in ('median', 'p99', 'max', 'std_median'))
            print(f'{engine.text:<34}{"".join(values)}   ({errors["images"]} images)', flush=True)
