"""Lets picklescan, modelscan and fickling judge the files of a folder, and prints a line of JSON for each: flagged, passed or failed.

python scan.py FOLDER, in the environment of tools/scanners.txt. With --lists it prints the names that these scanners deny instead.
"""

import json
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import fickling.analysis
import fickling.fickle
import fickling.loader
import modelscan.modelscan
import modelscan.settings
import picklescan.scanner


def by_picklescan(path):
    result = picklescan.scanner.scan_file_path(str(path))
    if result.issues_count or result.infected_files:
        return "flagged"
    return "failed" if result.scan_err or not result.scanned_files else "passed"


def by_modelscan(path):
    result = modelscan.modelscan.ModelScan().scan(path)
    if result["summary"]["total_issues"]:
        return "flagged"
    return "failed" if result["errors"] or not result["summary"]["scanned"]["total_scanned"] else "passed"


def by_fickling(path):
    result = fickling.loader.scan_file(str(path), graceful=False)
    return "passed" if result.severity <= fickling.analysis.Severity.LIKELY_SAFE else "flagged"


SCANNERS = {"picklescan": by_picklescan, "modelscan": by_modelscan, "fickling": by_fickling}


def judge(scanner, path):
    """Runs a scanner in a process of its own, of 20 seconds: the files are hostile to it too."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        verdict = "failed"
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 1), os.dup2(nothing, 2)
            verdict = scanner(path)
        finally:
            os.write(write, verdict.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        verdict = answer.read()
    os.waitpid(child, 0)
    return verdict or "failed"


def names(table):
    for module, listed in table.items():
        for name in [listed] if isinstance(listed, str) else listed:
            yield module, "anything" if name == "*" else name


if __name__ == "__main__":
    if sys.argv[1] == "--lists":
        denied = {
            "picklescan": picklescan.scanner._unsafe_globals,
            "modelscan": {m: n for level in modelscan.settings.DEFAULT_SETTINGS["unsafe_globals"].values() for m, n in level.items()},
            "fickling": {module: "*" for module in fickling.fickle.UNSAFE_IMPORTS},
        }
        print(json.dumps({scanner: [list(pair) for pair in sorted(set(names(table)))] for scanner, table in denied.items()}))
        sys.exit()
    print(json.dumps({name: version(name) for name in SCANNERS}))
    for path in sorted(Path(sys.argv[1]).iterdir()):
        if path.is_file():
            print(json.dumps({"file": path.name, **{name: judge(scanner, path) for name, scanner in SCANNERS.items()}}), flush=True)
