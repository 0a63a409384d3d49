"""What of a bag is played to a live node."""

from bag_samples import START, STEP, Messages

from depth_ros.bags.inspection import inspect_bag
from depth_ros.bags.select import TopicOverrides
from depth_ros.cli.playback import input_topics
from depth_ros.settings import Settings


def played(messages, path):
    return set(input_topics(inspect_bag(messages.write(path), TopicOverrides(), Settings())))


def test_what_an_earlier_run_published_is_not_played(tmp_path):
    messages = Messages().drive().transforms(('odom', 'base_link', (1, 0, 0)), topic='/tf', log_ns=START)
    for index in range(5):
        stamp = START + index * STEP
        messages.info('/depth/camera_info', stamp).image('/depth/image', stamp, 3, '32FC1')
        messages.points('/depth/points', stamp, ring=False, times=False)
    assert played(messages, tmp_path / 'bag') == {
        '/cam/image_raw', '/cam/camera_info', '/points', '/odom', '/tf_static', '/tf'
    }


def test_a_bag_may_lack_odometry_and_transforms(tmp_path):
    messages = Messages().info('/cam/camera_info', START).image('/cam/image_raw', START).points('/points', START)
    assert played(messages, tmp_path / 'bag') == {'/cam/image_raw', '/cam/camera_info', '/points'}
