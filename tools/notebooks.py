"Runs notebooks side by side, in processes that inherit the large libraries."
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault('OMP_NUM_THREADS', '1')      # notebooks run on all cores, one thread each

from fastcore.utils import num_cpus
from nbdev.test import test_nb


def cpu_seconds():
    "CPU seconds of this process and of its children that have ended"
    return sum(o.ru_utime+o.ru_stime for o in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def timed(nb, skip):
    "(passed, seconds, CPU seconds) of a notebook without the cells that have a flag in `skip`"
    start, cpu = time.monotonic(), cpu_seconds()
    passed, _ = test_nb(nb, skip_flags=skip, basepath=ROOT)
    return passed, time.monotonic()-start, cpu_seconds()-cpu


def run(notebooks, skip=('slow', 'cuda', 'real')):
    "Run notebooks and print a line for each; their times"
    import timm  # noqa: F401
    from fastai.vision import all  # noqa: F401
    with ProcessPoolExecutor(min(num_cpus(), 8), get_context('fork')) as pool:
        results = {}
        for nb, res in zip(notebooks, pool.map(partial(timed, skip=skip), notebooks)):
            print(f'{"passed" if res[0] else "FAILED"} {res[1]:6.1f} s  {nb.relative_to(ROOT)}', flush=True)
            results[nb] = res
    return results
