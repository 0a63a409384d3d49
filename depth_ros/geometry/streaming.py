"""Stores that go past the cache, for compiled kernels that write large arrays which nobody reads soon.

A plain store first reads the line that it is going to overwrite. For a cloud that doubles the traffic on the memory,
which is what bounds the work; ``memcpy`` of large blocks avoids it in the same way.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTES = 16


@intrinsic
def stream_point(typing_context, points, index, x, y, z, bits):
    """Store one point of 16 bytes past the cache.

    Args:
        typing_context: given by the compiler; callers leave it out.
        points: float32 array, C-contiguous, its data aligned to 16 bytes.
        index: number of the point; not checked.
        x: float32.
        y: float32.
        z: float32.
        bits: uint32, stored as it is.
    """
    signature = types.void(points, types.intp, types.float32, types.float32, types.float32, types.uint32)

    def generate(context, builder, _, arguments):
        lane, number = ir.IntType(32), ir.FloatType()
        vector = ir.VectorType(number, 4)
        data = cgutils.create_struct_proxy(points)(context, builder, arguments[0]).data
        start = builder.bitcast(data, ir.IntType(8).as_pointer())
        offset = builder.mul(arguments[1], ir.Constant(ir.IntType(64), _BYTES))
        place = builder.bitcast(builder.gep(start, [offset]), vector.as_pointer())
        value = ir.Constant(vector, ir.Undefined)
        for i, component in enumerate((*arguments[2:5], builder.bitcast(arguments[5], number))):
            value = builder.insert_element(value, component, ir.Constant(lane, i))
        store = builder.store(value, place, align=_BYTES)
        store.set_metadata('nontemporal', builder.module.add_metadata([ir.Constant(lane, 1)]))
        return context.get_dummy_value()

    return signature, generate
