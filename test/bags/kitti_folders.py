"""Small KITTI folders with made-up calibration and content."""

import cv2
import numpy as np

FX, CX, CY = 70.0, 61.3, 17.2
SIZE = (37, 124)
NUM_RINGS = 16


def rotation(x, y, z):
    return cv2.Rodrigues(np.array([x, y, z], dtype=float))[0]


def line(name, values):
    return f'{name}: ' + ' '.join(f'{value:.6e}' for value in np.ravel(values))


# Velodyne axes to camera axes, and small turns, as a real calibration has.
AXES = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0.0]])
TR = np.hstack([rotation(0.01, -0.02, 0.015) @ AXES, [[-0.004], [-0.076], [-0.27]]])
R_RECT = rotation(0.005, -0.007, 0.009)
P = {
    '00': np.array([[FX, 0, CX, 0], [0, FX, CY, 0], [0, 0, 1, 0]]),
    '01': np.array([[FX, 0, CX, -38.0], [0, FX, CY, 0], [0, 0, 1, 0]]),
    '02': np.array([[FX, 0, CX, 4.4], [0, FX, CY, 0.2], [0, 0, 1, 0.0027]]),
    '03': np.array([[FX, 0, CX, -33.0], [0, FX, CY, 2.1], [0, 0, 1, 0.0027]]),
}


def scan(seed=0, crop=180.0):
    """(N, 4) float32, ring by ring from the top, azimuth from straight ahead counter-clockwise."""
    random = np.random.default_rng(seed)
    rings = []
    for elevation in np.radians(np.linspace(2, -24, NUM_RINGS)):
        azimuth = np.radians(np.arange(0.25, 360, 1.0))
        azimuth = azimuth[np.abs(np.degrees(np.arctan2(np.sin(azimuth), np.cos(azimuth)))) <= crop]
        distance = random.uniform(5, 30, azimuth.shape)
        rings.append(np.stack([
            distance * np.cos(elevation) * np.cos(azimuth), distance * np.cos(elevation) * np.sin(azimuth),
            distance * np.sin(elevation), random.uniform(0, 1, azimuth.shape),
        ], axis=1))
    return np.concatenate(rings).astype(np.float32)


def image(seed, shape):
    ramp = np.add.outer(2 * np.arange(shape[0]), np.arange(shape[1])) + 5 * seed
    return (ramp if len(shape) == 2 else np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)).astype(np.uint8)


def write_calibration(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lines = ['calib_time: 09-Jan-2012 13:57:47', line('R_rect_00', R_RECT)]
    for number, projection in P.items():
        lines += [line(f'S_rect_{number}', SIZE[::-1]), line(f'P_rect_{number}', projection)]
    (folder / 'calib_cam_to_cam.txt').write_text('\n'.join(lines))
    (folder / 'calib_velo_to_cam.txt').write_text('\n'.join([line('R', TR[:, :3]), line('T', TR[:, 3])]))
    imu = [line('R', rotation(0.01, 0.0, 0.0)), line('T', [-0.8, 0.3, -0.8])]
    (folder / 'calib_imu_to_velo.txt').write_text('\n'.join(imu))


def stamp_text(seconds):
    return f'2011-09-26 13:02:{seconds:012.9f}'


def raw_drive(root, cameras=('00', '01', '02', '03'), count=3, stamps=True, oxts=True, crop=180.0):
    """A drive: camera frames at 25.05 s + 0.1 s * i, sweeps from 0.05 s before to 0.05 s after."""
    date = root / '2011_09_26'
    write_calibration(date)
    drive = date / '2011_09_26_drive_0001_sync'
    for number in cameras:
        (drive / f'image_{number}' / 'data').mkdir(parents=True)
        shape = SIZE if number in ('00', '01') else (*SIZE, 3)
        for index in range(count):
            cv2.imwrite(str(drive / f'image_{number}' / 'data' / f'{index:010d}.png'), image(index, shape))
    (drive / 'velodyne_points' / 'data').mkdir(parents=True)
    for index in range(count):
        scan(index, crop).tofile(drive / 'velodyne_points' / 'data' / f'{index:010d}.bin')
    if oxts:
        (drive / 'oxts' / 'data').mkdir(parents=True)
        for index in range(count):
            # 2 m east per packet, heading east, turning left.
            longitude = 8.4 + np.degrees(2.0 * index / (6378137.0 * np.cos(np.radians(49.0))))
            values = np.zeros(30)
            values[:6] = 49.0, longitude, 110.0, 0.0, 0.0, 0.1 * index
            values[8:11], values[17:20] = (20.0, 0.5, 0.1), (0.0, 0.0, 1.0)
            (drive / 'oxts' / 'data' / f'{index:010d}.txt').write_text(' '.join(map(repr, map(float, values))))
    if stamps:
        middle = [25.05 + 0.1 * index for index in range(count)]
        for name, offset in (('timestamps', 0), ('timestamps_start', -0.05), ('timestamps_end', 0.05)):
            text = '\n'.join(stamp_text(time + offset) for time in middle) + '\n'
            (drive / 'velodyne_points' / f'{name}.txt').write_text(text)
        for number in cameras:
            text = '\n'.join(stamp_text(time + 0.015) for time in middle) + '\n'
            (drive / f'image_{number}' / 'timestamps.txt').write_text(text)
        if oxts:
            (drive / 'oxts' / 'timestamps.txt').write_text('\n'.join(stamp_text(time + 0.012) for time in middle))
    return drive


def object_folder(root, right=True):
    """Frames 000007 and 000031 with calibrations and sizes of their own."""
    folder = root / 'training'
    for name in ('image_2', 'velodyne', 'calib') + (('image_3',) if right else ()):
        (folder / name).mkdir(parents=True)
    made = {}
    for index, name in enumerate(('000007', '000031')):
        shape = (37 + index, 124 - 3 * index, 3)
        cv2.imwrite(str(folder / 'image_2' / f'{name}.png'), image(index, shape))
        if right:
            cv2.imwrite(str(folder / 'image_3' / f'{name}.png'), image(index + 9, shape))
        scan(index, 50.0).tofile(folder / 'velodyne' / f'{name}.bin')
        p2, p3 = P['02'].copy(), P['03'].copy()
        p2[0, 0] = p2[1, 1] = p3[0, 0] = p3[1, 1] = FX + 5 * index
        tr = TR.copy()
        tr[:, 3] += 0.1 * index
        text = [line('P0', P['00']), line('P1', P['01']), line('P2', p2), line('P3', p3), line('R0_rect', R_RECT),
                line('Tr_velo_to_cam', tr)]
        (folder / 'calib' / f'{name}.txt').write_text('\n'.join(text))
        made[name] = (p2, tr, shape)
    return folder, made


def project(points, projection, tr):
    """(N, 2) pixels by the formula of the readme: P R_rect Tr X; and the depth."""
    rectified = np.eye(4)
    rectified[:3, :3] = R_RECT
    homogeneous = np.hstack([points[:, :3].astype(np.float64), np.ones((len(points), 1))])
    uvw = homogeneous @ (projection @ rectified @ np.vstack([tr, [0, 0, 0, 1]])).T
    return uvw[:, :2] / uvw[:, 2:], uvw[:, 2]
