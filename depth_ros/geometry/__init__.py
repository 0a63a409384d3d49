"""Camera models, rigid transforms, motion, projection, depth images and clouds. No ROS."""
