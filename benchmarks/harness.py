"What the benchmarks share: arguments, the machine, galaxies by the thousand, time and memory, tables."
import argparse, csv, platform, statistics, time
from pathlib import Path

import fastai, numpy as np, pandas as pd, timm, torch

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.model.learner import *


def parser(doc, **out):
    "A parser that shows `doc`, with --out where it says what that is"
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if out: p.add_argument('--out', type=Path, **out)
    return p


def machine(device):
    "What a figure depends on besides the benchmark"
    name = torch.cuda.get_device_name() if device.type == 'cuda' else platform.processor() or platform.machine()
    return dict(device=str(device), name=name, torch=torch.__version__, timm=timm.__version__, fastai=fastai.__version__, precision=auto_precision(device)[0])


def repeated(cat, n, valid=None):
    "A catalog of n galaxies with the IDs 1 to n: those of `cat`, again and again"
    rows, ids = np.arange(n)%len(cat), np.arange(1, n+1)
    table = pd.DataFrame(cat.labels[rows], columns=cat.schema.columns).assign(GalaxyID=ids, file_loc=[str(cat.files[r]) for r in rows])
    return Catalog.from_table(table, cat.schema, valid)


def memory():
    "Megabytes of this process: what it has allocated, and the pages of files that it has mapped"
    lines = (o.split(':') for o in open('/proc/self/status'))
    return {k: int(v.split()[0])/1024 for k, v in lines if k in ('RssAnon', 'RssFile')}


def clocked(f):
    "What `f` returns, and the seconds that it took"
    begun = time.perf_counter()
    return f(), time.perf_counter()-begun


def wait(device): torch.empty(0, device=device).sum().item()
def timed(f, seconds, device):
    "Seconds per call, over many"
    for _ in range(2): f()
    wait(device); begun, n = time.perf_counter(), 0
    while time.perf_counter()-begun < seconds: f(); wait(device); n += 1
    return (time.perf_counter()-begun)/n


def in_turns(contestants, rounds):
    "What each contestant measured, round by round, and its median"
    got = [{k: f() for k, f in contestants.items()} for _ in range(rounds)]
    return {k: [o[k] for o in got] for k in contestants}, {k: statistics.median(o[k] for o in got) for k in contestants}


def read_rows(file): return list(csv.DictReader(open(file))) if file.exists() else []
def write_rows(file, rows):
    with atomic_write(file) as tmp: pd.DataFrame(rows).to_csv(tmp, index=False)
