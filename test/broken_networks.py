"""Exported networks that break at run time, made from one that works. Needs onnx."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def changed_graph(source, target, change):
    model = onnx.load(source)
    change(model.graph)
    onnx.save(model, target)
    return target


def depth_plus(graph, nodes, outputs):
    """Add the last output of some nodes to the depth."""
    for node in graph.node:
        node.output[:] = ['depth_before' if name == 'depth' else name for name in node.output]
        node.input[:] = ['depth_before' if name == 'depth' else name for name in node.input]
    graph.node.extend([*nodes, helper.make_node('Add', ['depth_before', outputs], ['depth'])])


def nan_for_bright_images(graph):
    """0 x the root of 150 - the darkest value: nothing for the image of the self-check, NaN for a bright one."""
    for name, value in (('limit', 150.0), ('none', 0.0)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
    depth_plus(graph, [
        helper.make_node('Cast', ['image'], ['bright'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMin', ['bright'], ['darkest'], keepdims=0),
        helper.make_node('Sub', ['limit', 'darkest'], ['left']), helper.make_node('Sqrt', ['left'], ['root']),
        helper.make_node('Mul', ['root', 'none'], ['zero']),
    ], 'zero')


def greedy_for_wide_images(graph):
    """Ask for (width - 191) ** 8 values: one up to the width of the self-check, then more than any machine has."""
    for name, value in (('third', 2), ('start', 0), ('stop', 1), ('base', 191)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    power = ['more']
    nodes = [
        helper.make_node('Shape', ['image'], ['shape']), helper.make_node('Gather', ['shape', 'third'], ['width']),
        helper.make_node('Sub', ['width', 'base'], ['beyond']), helper.make_node('Max', ['beyond', 'stop'], ['more']),
    ]
    for i in range(3):
        nodes.append(helper.make_node('Mul', [power[-1], power[-1]], [f'power{i}']))
        power.append(f'power{i}')
    nodes += [
        helper.make_node('ConstantOfShape', [power[-1]], ['huge']),
        helper.make_node('CumSum', ['huge', 'start'], ['sums']),
        helper.make_node('Slice', ['sums', 'start', 'stop'], ['zero']),
    ]
    depth_plus(graph, nodes, 'zero')


def set_to_nan(graph):
    weight = next(item for item in graph.initializer if item.name.endswith('head.bias'))
    weight.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(weight), np.nan), weight.name))
