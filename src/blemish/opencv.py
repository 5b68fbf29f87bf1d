"""OpenCV, from whichever of its distributions is installed; no other file imports it.

`opencv-python`, its `-headless` and its `-contrib` variants install the same module and overwrite each other, so
blemish requires none of them by itself; the extra `opencv` installs the headless one.
"""

from blemish.errors import MissingExtraError

try:
    import cv2 as cv2
except ModuleNotFoundError as error:
    raise MissingExtraError(
        "OpenCV is not installed. If your project uses no distribution of it yet: pip install 'blemish[opencv]'."
    ) from error
except ImportError as error:
    raise MissingExtraError(
        "OpenCV is installed but cannot be loaded: {error}. On a computer without a display, uninstall all "
        "distributions of OpenCV and install opencv-python-headless.",
        error=error,
    ) from error

OLDEST = (4, 10)
"""The oldest version that works with NumPy 2."""


def require_version(oldest: tuple[int, int], found: str | None = getattr(cv2, "__version__", None)) -> None:
    """Check the version of OpenCV.

    Raises:
        MissingExtraError: If it is older than `oldest`, or there is none.
    """
    if found is None:  # Python imports the folders that are left as an empty module
        raise MissingExtraError(
            "OpenCV's files are missing, as after uninstalling one of several distributions. Install the one that "
            "`blemish doctor` names again: pip install --force-reinstall --no-deps NAME."
        )
    if tuple(int(part) for part in found.split(".")[:2]) < oldest:
        raise MissingExtraError(
            "OpenCV {found} is installed, and {major}.{minor} or newer is needed. "
            "Upgrade the distribution that `blemish doctor` names.",
            found=found,
            major=oldest[0],
            minor=oldest[1],
        )


require_version(OLDEST)
