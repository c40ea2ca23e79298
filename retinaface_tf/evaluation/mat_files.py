"""MATLAB's `.mat` files, in which several data sets keep their annotations."""

from pathlib import Path

from retinaface_tf.errors import DataError, first_line
from retinaface_tf.util.extras import require


def read_mat(file: Path) -> dict:
    """The variables of a file by name.

    Raises:
        DataError: it cannot be read.
    """
    require("evaluate", "scipy", for_=f"Reading {file}")
    from scipy.io import loadmat

    try:
        return loadmat(file)
    except Exception as error:  # scipy reports damage in a dozen classes
        raise DataError(f"{file} is not a readable .mat file: {first_line(error)}.") from None
