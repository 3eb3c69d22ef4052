"""Puts small faults into the package, one at a time, and counts which tests find them. Run it in a clean clone that is installed in an
environment of its own: it changes the notebook and the module, and restores both with git.

    python tools/mutants.py OUT.csv [--n 60] [--seed 0] [--stages own dependents quick tests]

A stage is tried where those before it have found nothing: the fault's own notebook, those that import its module, `pytest -m quick`,
all of `pytest`. The rows of OUT.csv say which one found it; the same command adds those that are missing. Faults are drawn by chance
from the export cells, as many from each notebook: another operator, another number, a condition that is turned around or dropped.
"""
import argparse
import ast
import csv
import itertools
import os
import random
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

from affected import git, imported
from execnb.nbio import read_nb, write_nb
from notebooks import ROOT, timed

SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
         ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
MODULES = {o.stem.split('_', 1)[1]: o for o in sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))}


def is_text(o): return isinstance(o, ast.JoinedStr) or isinstance(o, ast.Constant) and isinstance(o.value, str)


def changed(node):
    "What stands in place of a node, as source; `None` where no fault is made of it"
    if isinstance(node, ast.If) and not node.orelse and isinstance(node.body[0], ast.Raise): return node.test, 'False'
    if isinstance(node, ast.Compare) and len(node.ops) == 1: new = ast.Compare(node.left, [SWAPS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not is_text(node.left) and not is_text(node.right):
        new = ast.BinOp(node.left, SWAPS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp): new = ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not): new = node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is bool: new = ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float): new = ast.Constant(node.value+1)
    else: return None
    return node, ast.unparse(new)


def faults_of(nb):
    "(line, line with a fault) of the export cells; lines that stand there once"
    cells = [c.source for c in read_nb(nb).cells if c.source.startswith('#| export')]
    lines = list(itertools.chain(*(o.splitlines() for o in cells)))
    for source in cells:
        for o in ast.walk(ast.parse(source)):
            if not (found := changed(o)): continue
            node, new = found
            line = source.splitlines()[node.lineno-1]
            if node.lineno != node.end_lineno or lines.count(line) > 1 or not line.isascii(): continue
            start, end = node.col_offset, node.end_col_offset
            yield line, f'{line[:start]}({new}){line[end:]}' if not isinstance(node, ast.Constant) else f'{line[:start]}{new}{line[end:]}'


def draw(n, seed):
    "n faults, (notebook, line, line with a fault), as many of each notebook"
    rng, pools = random.Random(seed), {}
    for module, nb in MODULES.items():
        pool = sorted({*faults_of(nb)})
        rng.shuffle(pool)
        if module != 'all': pools[nb] = pool
    order = [(nb, *pool[i]) for i in range(n) for nb, pool in pools.items() if i < len(pool)]
    first, rest = order[:len(pools)], order[len(pools):]
    return first[:n] + rng.sample(rest, min(len(rest), max(0, n-len(first))))


def put(nb, old, new):
    "Put a fault into a notebook and its module; whether it is there"
    book, module = read_nb(nb), ROOT/'gz_fastai'/(nb.stem.split('_', 1)[1].replace('.', '/')+'.py')
    text = module.read_text(encoding='utf-8')
    cell = next((c for c in book.cells if old in c.source.splitlines() and c.source.startswith('#| export')), None)
    if cell is None or text.splitlines().count(old) != 1: return False
    cell.source = '\n'.join(new if o == old else o for o in cell.source.split('\n'))
    write_nb(book, nb)
    module.write_text('\n'.join(new if o == old else o for o in text.split('\n')), encoding='utf-8')
    return True


def notebook(nb, queue):
    os.setsid()      # what the notebook starts ends with it
    queue.put(timed(nb, ('slow', 'cuda', 'real'))[0])


def passes(nb, seconds=300):
    "Whether a notebook passes, in a process of its own that inherits the large libraries"
    ctx = get_context('fork')
    queue = ctx.Queue()
    p = ctx.Process(target=notebook, args=(nb, queue))
    p.start(), p.join(seconds)
    if p.is_alive(): os.killpg(p.pid, signal.SIGKILL)      # a fault may make it endless
    return not queue.empty() and queue.get()


def pytest(*args):
    try: return subprocess.run([sys.executable, '-m', 'pytest', '-x', '-q', *args], cwd=ROOT, capture_output=True, timeout=1800).returncode == 0
    except subprocess.TimeoutExpired: return False


def found_by(nb, stages):
    "The first stage that finds the fault in this notebook; 'none'"
    module = nb.stem.split('_', 1)[1]
    above = [o for o in MODULES.values() if module in imported(o)]
    tries = dict(own=lambda: passes(nb), dependents=lambda: all(map(passes, above)), quick=lambda: pytest('-m', 'quick'), tests=pytest)
    return next((o for o in stages if not tries[o]()), 'none')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path)
    p.add_argument('--n', type=int, default=60)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--stages', nargs='*', default=['own', 'dependents', 'quick', 'tests'])
    args = p.parse_args()
    if git('status', '--porcelain', '--', 'nbs', 'gz_fastai'): p.error('notebooks or modules are not committed')
    import timm  # noqa: F401
    from fastai.vision import all  # noqa: F401
    done = {tuple(o[:3]) for o in csv.reader(args.out.open())} if args.out.exists() else set()
    with args.out.open('a', newline='') as f:
        for nb, old, new in draw(args.n, args.seed):
            if (nb.name, old.strip(), new.strip()) in done: continue
            try: found = found_by(nb, args.stages) if put(nb, old, new) else 'not there'
            finally: git('checkout', '--', 'nbs', 'gz_fastai')
            csv.writer(f, lineterminator='\n').writerow([nb.name, old.strip(), new.strip(), found])
            f.flush()
            print(f'{found:10} {nb.name}: {old.strip()}  ->  {new.strip()}', flush=True)


if __name__ == '__main__': main()
