"""Install basicsr-unlearn: the package, and the option files that `basicsr init` writes."""

import re
from os import path as osp

from setuptools import find_packages, setup

HERE = osp.dirname(osp.abspath(__file__))


def read(*parts):
    with open(osp.join(HERE, *parts), encoding='utf-8') as file:
        return file.read()


FOLDERS = ('quickstart', 'promptir', 'adair', 'methods')
RECIPES = {f'basicsr_unlearn.recipes.{name}': f'options/{name}' for name in FOLDERS}

setup(
    name='basicsr-unlearn',
    version=re.search(r"__version__ = '(.+)'", read('basicsr_unlearn', '__init__.py'))[1],
    description='Unlearning for all-in-one image restoration: a plugin of BasicSR',
    long_description=read('README.md'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.13',
    packages=[*find_packages(include=['basicsr_unlearn', 'basicsr_unlearn.*']), *RECIPES],
    package_dir=RECIPES,
    package_data={'basicsr_unlearn': ['zoo/*', 'report/page.html'], **{name: ['*.yml'] for name in RECIPES}},
    install_requires=[
        'basicsr>=1.4.2',  # brings tb-nightly, which is the tensorboard that we use: never require a second one
        'torch>=2.6',
        'torchvision',
        'numpy',
        'pyyaml',
        'lmdb',
        'opencv-python',
        'tqdm',
        'jinja2',
        'safetensors',
        'setuptools<81',  # tb-nightly imports pkg_resources, which newer ones no longer have
    ],
    extras_require={
        'test': ['pytest', 'pytest-xdist', 'hypothesis', 'ruff', 'selenium', 'peft'],
        'report': ['matplotlib'],
        'eval': ['torchmetrics>=1.0'],  # LPIPS; what else it needs is required above
        'lora': ['peft'],  # the method ResidualAlignmentLoRA; it brings transformers and accelerate
    },
    entry_points={
        'console_scripts': ['basicsr=basicsr_unlearn.cli:main'],
        'basicsr.plugins': ['basicsr_unlearn=basicsr_unlearn'],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
)
