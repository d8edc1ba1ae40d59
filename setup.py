"""Three source roots, two data packages and the native library; everything else stands in pyproject.toml."""

import platform
import sys
from glob import glob

from setuptools import Extension, find_packages, setup

ROOTS = ["kernels", "toolkit", "domains"]
folders = {package: f"{root}/{package.replace('.', '/')}" for root in ROOTS for package in find_packages(root)}
folders |= {"helixwave_recipes": "recipes", "helixwave_data_cards": "data_cards"}

NATIVE = "kernels/helixwave_kernels/native"
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fvisibility=hidden"]
LINUX_FLAGS = ["-pthread"]
if platform.machine() in ("x86_64", "AMD64"):
    LINUX_FLAGS.append("-mprefer-vector-width=512")

native = Extension(
    "helixwave_kernels._native",
    sources=sorted(glob(f"{NATIVE}/*.c")),
    depends=sorted(glob(f"{NATIVE}/*.h")),
    extra_compile_args=["/O2"] if sys.platform == "win32" else FLAGS + LINUX_FLAGS * (sys.platform == "linux"),
    extra_link_args=["-pthread"] if sys.platform == "linux" else [],
    optional=True,  # without a compiler the other implementations run
)

setup(
    packages=list(folders),
    package_dir=folders,
    package_data={
        "helixwave_kernels": ["py.typed", "*/README.md"],
        "helixwave_kernels.native": ["*.c", "*.h"],
        "helixwave": ["py.typed", "templates/*"],
        "helixwave_recipes": ["**/*.yaml"],
        "helixwave_data_cards": ["**/*"],
    },
    ext_modules=[native],
)
