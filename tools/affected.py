"""Runs what a change may have broken: the notebooks that differ from a commit, those that import their modules directly, and
`pytest -m quick`.

    python tools/affected.py [COMMIT]       default: HEAD, so what is not yet committed
"""
import re
import subprocess
import sys

from execnb.nbio import read_nb
from notebooks import ROOT, run


def git(*args): return subprocess.run(['git', *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def imported(nb):
    "The modules of the package that the export cells of a notebook import"
    exported = '\n'.join(c.source for c in read_nb(nb).cells if c.source.startswith('#| export'))
    return {*re.findall(r'(?:from|import) gz_fastai\.([\w.]+)', exported)}


def affected(commit):
    "The notebooks to run, in order"
    names = {*git('diff', '--name-only', commit, '--', 'nbs'), *git('ls-files', '--others', '--exclude-standard', 'nbs')}
    changed = [ROOT/o for o in sorted(names) if o.endswith('.ipynb') and (ROOT/o).exists()]
    modules = {o.stem.split('_', 1)[1] for o in changed if o.parent.name == 'nbs' and '_' in o.stem}
    rooms = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
    return list(dict.fromkeys([*changed, *(o for o in rooms if imported(o) & modules)]))


def main(commit='HEAD'):
    subprocess.run(['nbdev_export'], cwd=ROOT, check=True)
    passed = all(o[0] for o in run(affected(commit)).values())
    quick = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-m', 'quick'], cwd=ROOT)
    return not passed or quick.returncode


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
