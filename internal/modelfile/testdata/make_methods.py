"""Writes methods.txt beside the package: the names under which Python finds methods of the classes that a model may have, and of what these
work with, and the classes whose objects can be called. An object of which the state has a callable under such a name is called in the place of
the method.

Run by hand in an environment with scikit-learn, numpy, scipy and pandas: python make_methods.py
It adds to what is there, so that the names of several versions come together.
"""

import importlib
import inspect
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")
package = Path(__file__).parent.parent
HEAD = """\
# The methods of the classes in allowed.txt, of numpy's arrays and Python's own types, and numpy's functions that look for a method of their name.
# With parentheses: the classes whose objects can be called.
# Written by testdata/make_methods.py, which adds to what is here.
"""


spelled = {}  # a class, and its name in allowed.txt


def classes():
    yield from (object, dict, list, tuple, set, str, bytes, int, float, complex, np.ndarray, np.generic, np.dtype)
    for line in (package / "allowed.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        module, name, *_ = line.split(" ")
        try:
            member = getattr(importlib.import_module(module), name)
        except Exception:  # of another version
            continue
        if inspect.isclass(member):
            spelled[member] = module + " " + name
            yield member


path = package / "methods.txt"
methods = set()
if path.exists():
    methods.update(line for line in path.read_text().splitlines() if not line.startswith("#"))
methods.update(name for name, member in vars(np).items() if isinstance(member, np.ufunc))
for cls in classes():
    if cls in spelled and any("__call__" in vars(base) for base in cls.__mro__):
        methods.add(spelled[cls] + "()")
    for name in dir(cls):
        member = inspect.getattr_static(cls, name, None)
        if callable(member) or isinstance(member, (classmethod, staticmethod)) or type(member).__name__ == "_AvailableIfDescriptor":
            methods.add(name)
methods = {name for name in methods if not name.startswith("__")}  # which are nobody's to set
methods.discard("dist")  # where scipy's frozen distributions keep theirs
path.write_text(HEAD + "".join(name + "\n" for name in sorted(methods)))
print(len(methods), "names")
