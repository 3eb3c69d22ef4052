"""Runs what a change is most likely to have broken: the notebooks and test files that differ from a commit, the notebooks that import
the changed modules directly, and `pytest -m quick`.

    python tools/affected.py [COMMIT]       default: HEAD, that is, uncommitted changes
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


def changed_files(commit, folder):
    "The files of a folder that differ from a commit or are new"
    names = {*git('diff', '--name-only', commit, '--', folder), *git('ls-files', '--others', '--exclude-standard', folder)}
    return [o for o in sorted(names) if (ROOT/o).exists()]


def affected(commit):
    "The notebooks to run, in order"
    changed = [ROOT/o for o in changed_files(commit, 'nbs') if o.endswith('.ipynb')]
    modules = {o.stem.split('_', 1)[1] for o in changed if o.parent.name == 'nbs' and '_' in o.stem}
    rooms = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
    return list(dict.fromkeys([*changed, *(o for o in rooms if imported(o) & modules)]))


def main(commit='HEAD'):
    subprocess.run(['nbdev_export'], cwd=ROOT, check=True)
    passed = all(o[0] for o in run(affected(commit)).values())
    tests = [o for o in changed_files(commit, 'tests') if '/test_' in o]
    runs = [['-m', 'quick'], *([tests] if tests else [])]
    return not passed or any([subprocess.run([sys.executable, '-m', 'pytest', '-q', *o], cwd=ROOT).returncode for o in runs])


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
