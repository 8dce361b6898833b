"""Roots for the notebooks of other years and courses, whose names or meanings differ from CS231n's since 2018.

A notebook changes its import root and nothing else: ``from nndl.conv_layers import *`` becomes
``from gconv.courses.ucla.conv_layers import *``. docs/from_cs231n.md has the table: which root, by what a notebook
imports. Nothing of gconv imports this package.
"""

__all__ = ["berkeley", "cs231n_2015", "cs231n_2016", "cs231n_2017", "ucla"]
