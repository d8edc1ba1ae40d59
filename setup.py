"""Three source roots and two data packages in one distribution; everything else stands in pyproject.toml."""

from setuptools import find_packages, setup

ROOTS = ["kernels", "toolkit", "domains"]
folders = {package: f"{root}/{package.replace('.', '/')}" for root in ROOTS for package in find_packages(root)}
folders |= {"helixwave_recipes": "recipes", "helixwave_data_cards": "data_cards"}

setup(
    packages=list(folders),
    package_dir=folders,
    package_data={
        "helixwave_kernels": ["py.typed", "*/README.md"],
        "helixwave": ["py.typed", "templates/*"],
        "helixwave_recipes": ["**/*.yaml"],
        "helixwave_data_cards": ["**/*"],
    },
)
