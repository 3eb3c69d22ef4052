"Hostile input for everything that reads: a few of the inputs of `benchmarks/fuzz.py`, of each kind."
import pickle
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]/'benchmarks'))
import fuzz

FEW = dict(labels=60, table=40, toml=60, space=40, schema=60, model=15, folder=15, report=1, image=30)


@pytest.fixture(scope='module')
def home(tmp_path_factory): return tmp_path_factory.mktemp('home')


@pytest.mark.parametrize('name', [pytest.param(o, marks=[pytest.mark.services]*(o == 'report')) for o in fuzz.KINDS])      # a report takes seconds
def test_hostile_input(home, name):
    "It is accepted as it is meant, or refused with `BadInput`"
    counts, found = fuzz.fuzz(name, fuzz.KINDS[name](home), range(FEW[name]), seed=1)
    assert not found, found
    assert sum(counts.values()) == FEW[name] and counts['BadInput']


def test_damage_that_has_been_found_before(home):
    "The harness sees what it looks for"
    kind = fuzz.KINDS['labels'](home)
    def read(effect):
        kind.read = lambda data: effect()
        return fuzz.outcome(kind, b'')[0]
    def unpickle(): return pickle.loads(pickle.dumps(Path))
    def wrong(): fuzz.must(False, 'other labels')
    def forever():
        while True: pass
    def fail(): raise KeyError('labels')
    kind.seconds = .2
    assert [read(o) for o in (dict, unpickle, wrong, forever, fail)] == ['accepted', 'executed', 'wrong', 'hang', 'traceback']
