"""How long each notebook and each test takes, as a CSV: wall-clock and CPU seconds.

    python tools/durations.py OUT.csv [PYTEST_ARGUMENT ...]
"""
import csv
import os
import subprocess
import sys
import time

import pytest
from notebooks import ROOT, cpu_seconds, run


def write(*rows):
    with open(os.environ['DURATIONS'], 'a', newline='') as f: csv.writer(f, lineterminator='\n').writerows(rows)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    "This file is a plugin of pytest as well"
    start, cpu = time.monotonic(), cpu_seconds()
    res = yield
    write(['test', item.nodeid, f'{time.monotonic()-start:.2f}', f'{cpu_seconds()-cpu:.2f}'])
    return res


def main(out, *args):
    paths = [str(ROOT/'tools'), *filter(None, [os.environ.get('PYTHONPATH')])]
    os.environ |= dict(DURATIONS=os.path.abspath(out), PYTHONPATH=os.pathsep.join(paths))
    open(out, 'w').close()
    write(['kind', 'name', 'seconds', 'cpu_seconds'])
    pages = [*sorted((ROOT/'nbs').glob('[0-9]*.ipynb')), *sorted((ROOT/'nbs').glob('*s/*.ipynb')), ROOT/'nbs/index.ipynb']
    for nb, (_, *times) in run(pages).items(): write(['notebook', nb.relative_to(ROOT/'nbs'), *(f'{o:.2f}' for o in times)])
    return subprocess.run([sys.executable, '-m', 'pytest', '-p', 'durations', *args], cwd=ROOT).returncode


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
