"""Which OpenCV is required; everything else is in pyproject.toml.

OpenCV comes as four packages that write into the same folder and must not be installed together, and no
requirement can say "one of these". A wheel therefore requires the one without windows; an installation
from source requires the one that is there already.
"""

import sysconfig
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from setuptools import setup

OPENCV = (
    *("opencv-python-headless", "opencv-python"),
    *("opencv-contrib-python-headless", "opencv-contrib-python"),
)


def opencv() -> str:
    """The requirement; pip builds apart from the environment it installs into, so that is looked at."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    here = {distribution.name for distribution in distributions(path=list(folders))}
    return next((name for name in OPENCV if name in here), OPENCV[0]) + ">=4.11,<6"


project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text("utf-8"))
setup(install_requires=[*project["tool"]["retinaface-tf"]["dependencies"], opencv()])
