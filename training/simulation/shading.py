"""Colour of what camera rays hit: texture, sun, sky, lamps, shadow, mirrored sky, haze."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from depth_ros_training.simulation.scene import Hits, Scene
from depth_ros_training.simulation.textures import LEVEL_STARTS, LEVELS, SIZE, TEXELS, Surfaces
from depth_ros_training.simulation.world import Light

_LINEAR = np.power(np.arange(256) / 255.0, 2.2).astype(np.float32)
_PATCHES = 11.0  # metres that the noise covers which mixes materials
_TAPS = 6  # samples along the long side of a texture's footprint
_OFF = 2e-3  # metres that a shadow ray starts above its surface


def shade(
    scene: Scene,
    surfaces: Surfaces,
    light: Light,
    rays: np.ndarray,
    hits: Hits,
    spread: np.ndarray,
    time: float,
    pixel: float,
) -> np.ndarray:
    """Light that comes back along rays.

    Args:
        scene: casts the shadows.
        surfaces: materials.
        light: light and air.
        rays: (N, 6) float32.
        hits: what they hit.
        spread: (N, 4) float32 metres of u and v to the next pixel in its row, then to the next in its column; they
            choose the resolution of textures; NaN = unknown, then the distance does.
        time: s.
        pixel: angle between neighbouring rays, rad.

    Returns:
        (N, 3) float32 linear RGB.
    """
    sun_direction = light.sun_direction.astype(np.float32)
    lamps = np.ascontiguousarray(light.lamps, np.float32)
    shadow_rays, which, lamp = _shadow_rays(
        rays, hits.distance, hits.material, hits.normal, sun_direction, float(light.sun.max()), lamps
    )
    lit = np.zeros(len(rays), np.float32)
    reach = 400.0 if not len(lamps) else 1.0
    lit[which] = scene.free(shadow_rays, reach, time)
    result = np.empty((len(rays), 3), np.float32)
    colours = np.stack([light.sun, light.above, light.below, light.zenith, light.horizon]).astype(np.float32)
    _shade(
        rays,
        hits.distance,
        hits.material,
        hits.normal,
        hits.uv,
        spread,
        lit,
        lamp,
        np.float32(pixel),
        surfaces.texels,
        surfaces.texture,
        surfaces.scale,
        surfaces.tint,
        surfaces.gloss,
        surfaces.glow,
        surfaces.second,
        surfaces.share,
        surfaces.mask,
        sun_direction,
        colours,
        lamps,
        np.float32(light.haze),
        light.clouds,
        LEVEL_STARTS,
        _LINEAR,
        result,
    )
    return result


@njit(nogil=True, cache=True)
def _shadow_rays(rays, distance, material, normal, sun_direction, sun, lamps):
    """Rays to the light that matters most at each hit: the sun, or the strongest lamp."""
    count = len(rays)
    out = np.empty((count, 6), np.float32)
    which = np.empty(count, np.int64)
    lamp_of = np.full(count, -1, np.int32)
    used = 0
    for n in range(count):
        if material[n] < 0:
            continue
        t = distance[n]
        x, y, z = rays[n, 0] + t * rays[n, 3], rays[n, 1] + t * rays[n, 4], rays[n, 2] + t * rays[n, 5]
        off = _OFF + 2e-5 * t
        x, y, z = x + off * normal[n, 0], y + off * normal[n, 1], z + off * normal[n, 2]
        dx, dy, dz = sun_direction[0], sun_direction[1], sun_direction[2]
        if len(lamps):
            best = 0.0
            for k in range(len(lamps)):
                ax, ay, az = lamps[k, 0] - x, lamps[k, 1] - y, lamps[k, 2] - z
                square = ax * ax + ay * ay + az * az + 0.05
                facing = ax * normal[n, 0] + ay * normal[n, 1] + az * normal[n, 2]
                if az > 0 and facing > 0:
                    strength = facing * az / (square * square) * lamps[k, 3]
                    if strength > best:
                        best = strength
                        lamp_of[n] = k
                        dx, dy, dz = ax, ay, az
            if best == 0.0:
                continue
            dx, dy, dz = 0.99 * dx, 0.99 * dy, 0.99 * dz
        elif sun <= 0.01 or dx * normal[n, 0] + dy * normal[n, 1] + dz * normal[n, 2] <= 0:
            continue
        out[used, 0], out[used, 1], out[used, 2] = x, y, z
        out[used, 3], out[used, 4], out[used, 5] = dx, dy, dz
        which[used] = n
        used += 1
    return out[:used], which[:used], lamp_of


@njit(nogil=True, cache=True, inline='always')
def _texel(texels, start, size, u, v, channel, linear):
    """Bilinear value of one channel; u and v in repeats."""
    x = (u - math.floor(u)) * size - 0.5
    y = (v - math.floor(v)) * size - 0.5
    x0, y0 = math.floor(x), math.floor(y)
    fx, fy = x - x0, y - y0
    c0, r0 = int(x0) & (size - 1), int(y0) & (size - 1)
    c1, r1 = (c0 + 1) & (size - 1), (r0 + 1) & (size - 1)
    a = linear[texels[start + (r0 * size + c0) * 3 + channel]]
    b = linear[texels[start + (r0 * size + c1) * 3 + channel]]
    c = linear[texels[start + (r1 * size + c0) * 3 + channel]]
    d = linear[texels[start + (r1 * size + c1) * 3 + channel]]
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy


@njit(nogil=True, cache=True)
def _sky(dx, dy, dz, sun_direction, colours, clouds, out):
    """Colour of the sky along a unit direction."""
    up = max(dz, 0.0)
    blend = min(1.0, (up * 1.6) ** 0.6)
    toward = dx * sun_direction[0] + dy * sun_direction[1] + dz * sun_direction[2]
    cover = 0.0
    if dz > 0.03:
        u, v = 0.12 * dx / dz, 0.12 * dy / dz
        size = clouds.shape[0]
        x, y = (u - math.floor(u)) * size, (v - math.floor(v)) * size
        c0, r0 = int(x) % size, int(y) % size
        c1, r1 = (c0 + 1) % size, (r0 + 1) % size
        fx, fy = x - math.floor(x), y - math.floor(y)
        cover = (clouds[r0, c0] * (1 - fx) + clouds[r0, c1] * fx) * (1 - fy) + (
            clouds[r1, c0] * (1 - fx) + clouds[r1, c1] * fx
        ) * fy
        cover *= min(1.0, (dz - 0.03) * 6)
    glare = max(toward, 0.0)
    halo = 0.25 * glare**8 + 2.5 * glare**256 + (20.0 if toward > 0.99996 else 0.0)
    for k in range(3):
        clear = colours[4, k] * (1 - blend) + colours[3, k] * blend
        cloud = 0.35 * colours[0, k] + colours[1, k] + 0.4
        out[k] = clear * (1 - cover) + cloud * cover + halo * colours[0, k] * (1 - 0.7 * cover)


@njit(nogil=True, cache=True)
def _albedo(m, n, uv, spread, footprint, texels, texture, scale, tint, starts, linear, out):
    """Colour of a material where ray ``n`` hits."""
    su, sv = scale[m, 0], scale[m, 1]
    u, v = uv[n, 0] * su, uv[n, 1] * sv
    step_u, step_v, taps = 0.0, 0.0, 1
    if spread[n, 0] == spread[n, 0]:
        # The long side of the footprint is walked along, the short one chooses the level.
        au, av, bu, bv = spread[n, 0] * su, spread[n, 1] * sv, spread[n, 2] * su, spread[n, 3] * sv
        a, b = math.sqrt(au * au + av * av), math.sqrt(bu * bu + bv * bv)
        if a > b:
            step_u, step_v, major = au, av, a
        else:
            step_u, step_v, major = bu, bv, b
        minor = max(abs(au * bv - av * bu) / max(major, 1e-9), major / _TAPS)
        taps = min(max(int(math.ceil(major / max(minor, 1e-9) - 0.3)), 1), _TAPS)
        width = minor
    else:
        width = footprint * max(su, sv)
    level = min(max(math.log2(max(width * SIZE, 1e-6)), 0.0), LEVELS - 1.001)
    low = int(level)
    part = level - low
    base = texture[m] * TEXELS
    # The same texture, much larger, varies the repeats.
    wide = max(low - 3, 0)
    broad = _texel(texels, base + starts[wide], SIZE >> wide, u * 0.093 + 0.31, v * 0.093 + 0.17, 1, linear)
    mean = linear[texels[base + starts[LEVELS - 1] + 1]]
    vary = 1.0 + 0.5 * min(max(broad / max(mean, 1e-3) - 1.0, -0.6), 0.6)
    for k in range(3):
        value = 0.0
        for tap in range(taps):
            at = (tap + 0.5) / taps - 0.5
            x, y = u + at * step_u, v + at * step_v
            fine = _texel(texels, base + starts[low], SIZE >> low, x, y, k, linear)
            coarse = _texel(texels, base + starts[low + 1], SIZE >> (low + 1), x, y, k, linear)
            value += fine * (1 - part) + coarse * part
        out[k] = value * tint[m, k] * vary / taps


@njit(nogil=True, cache=True)
def _shade(
    rays,
    distance,
    material,
    normal,
    uv,
    spread,
    lit,
    lamp_of,
    pixel,
    texels,
    texture,
    scale,
    tint,
    gloss,
    glow,
    second,
    share,
    mask,
    sun_direction,
    colours,
    lamps,
    haze,
    clouds,
    starts,
    linear,
    result,
):
    sky, colour, other = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32)
    for n in range(len(rays)):
        dx, dy, dz = rays[n, 3], rays[n, 4], rays[n, 5]
        length = math.sqrt(dx * dx + dy * dy + dz * dz)
        dx, dy, dz = dx / length, dy / length, dz / length
        m = material[n]
        if m < 0:
            _sky(dx, dy, dz, sun_direction, colours, clouds, sky)
            for k in range(3):
                result[n, k] = sky[k]
            continue
        far = distance[n] * length
        nx, ny, nz = normal[n, 0], normal[n, 1], normal[n, 2]
        facing = max(-(dx * nx + dy * ny + dz * nz), 0.0)
        footprint = far * pixel / max(facing, 0.05) ** 0.8
        _albedo(m, n, uv, spread, footprint, texels, texture, scale, tint, starts, linear, colour)
        if second[m] >= 0:
            # Patches of another material, where a broad noise falls below its share.
            size = mask.shape[0]
            x, y = uv[n, 0] / _PATCHES * size, uv[n, 1] / _PATCHES * size
            c0, r0 = int(math.floor(x)) % size, int(math.floor(y)) % size
            c1, r1 = (c0 + 1) % size, (r0 + 1) % size
            fx, fy = x - math.floor(x), y - math.floor(y)
            here = (mask[r0, c0] * (1 - fx) + mask[r0, c1] * fx) * (1 - fy) + (
                mask[r1, c0] * (1 - fx) + mask[r1, c1] * fx
            ) * fy
            weight = min(max((share[m] - here) * 14 + 0.5, 0.0), 1.0)
            if weight > 0:
                _albedo(second[m], n, uv, spread, footprint, texels, texture, scale, tint, starts, linear, other)
                for k in range(3):
                    colour[k] = colour[k] * (1 - weight) + other[k] * weight
        sun = lit[n] * max(sun_direction[0] * nx + sun_direction[1] * ny + sun_direction[2] * nz, 0.0)
        upward = 0.5 + 0.5 * nz
        mirror = 0.0
        if gloss[m] > 0:
            mirror = min(gloss[m] * (0.1 + 0.9 * (1 - facing) ** 5), 1.0)
            rx, ry, rz = dx + 2 * facing * nx, dy + 2 * facing * ny, dz + 2 * facing * nz
            _sky(rx, ry, rz, sun_direction, colours, clouds, sky)
            if rz < 0.0:
                darker = 0.35
            else:
                darker = 0.35 + 0.65 * min(rz * 4, 1.0)
        lamp_r, lamp_g, lamp_b = 0.0, 0.0, 0.0
        if len(lamps):
            x, y, z = (
                rays[n, 0] + distance[n] * rays[n, 3],
                rays[n, 1] + distance[n] * rays[n, 4],
                rays[n, 2] + distance[n] * rays[n, 5],
            )
            for j in range(len(lamps)):
                ax, ay, az = lamps[j, 0] - x, lamps[j, 1] - y, lamps[j, 2] - z
                towards = ax * nx + ay * ny + az * nz
                if az > 0 and towards > 0:
                    square = ax * ax + ay * ay + az * az + 0.05
                    strength = towards * az / (square * square) * (lit[n] if j == lamp_of[n] else 0.5)
                    lamp_r += strength * lamps[j, 3]
                    lamp_g += strength * lamps[j, 4]
                    lamp_b += strength * lamps[j, 5]
        air = math.exp(-haze * far)
        for k in range(3):
            illumination = colours[2, k] + (colours[1, k] - colours[2, k]) * upward
            if len(lamps):
                illumination += lamp_r if k == 0 else (lamp_g if k == 1 else lamp_b)
            else:
                illumination += colours[0, k] * sun
            value = colour[k] * (illumination + glow[m])
            if mirror > 0:
                reflected = sky[k] * darker
                if len(lamps):
                    reflected = illumination * 0.6
                value = value * (1 - mirror) + reflected * mirror
            result[n, k] = value * air + colours[4, k] * (1 - air)
