"Reports: as every training leaves them, by gz_fastai_report, in a browser, and for as many galaxies as the competition has."
import shutil
import time

import numpy as np
import pandas as pd

from gz_fastai.sample import cast_votes
from gz_fastai.schema import GZ2


def test_report_of_a_training_in_a_browser(command, galaxies, tmp_path, visit):
    for s in (0, 1):
        res = command('gz_fastai_train', '--data', galaxies, '--size', 32, '--epochs', 1, '--seed', s, '--out', f'run{s}')
        assert res.returncode == 0 and 'report.html' in res.stdout, res.stderr
    res = command('gz_fastai_report', 'run0', 'run1', '--out', 'both.html')
    assert res.returncode == 0 and res.stdout.split() == ['both.html'], res.stderr
    for page in (tmp_path/'run0'/'report.html', tmp_path/'both.html'):
        found, logged = visit(page)
        assert not logged and found['images'] > 10 and not found['broken'] and found['figures'] >= 4+2*3, (logged, found)
        assert found['scroll'] <= found['width'] <= 390, found
        for q in GZ2.questions: assert q.text in found['text']
    assert 'runs on the same' in found['text']


def test_report_of_real_galaxies(command, real_data, tmp_path, visit):
    (tmp_path/'small.toml').write_text('bs = 256\n')
    res = command('gz_fastai_train', '--config', 'small.toml', '--data', real_data, '--valid', real_data/'validation_ids.csv', '--size', 32, '--epochs', 1, '--out', 'run')
    assert res.returncode == 0, res.stderr
    found, logged = visit(tmp_path/'run'/'report.html')
    assert not logged and not found['broken'] and found['images'] > 40 and found['scroll'] <= 390
    for q in GZ2.questions: assert q.text in found['text']


def test_as_many_galaxies_as_the_competition_has(command, damaged, tmp_path):
    "61,578 rows in under a minute and 10 MB"
    assert command('gz_fastai_train', '--data', damaged, '--size', 32, '--epochs', 1, '--out', 'run').returncode == 0
    shutil.rmtree(damaged)
    n, rng = 61_578, np.random.default_rng(0)
    cond = GZ2.conditional(rng.uniform(size=(n, len(GZ2))))
    for s in GZ2.slices: cond[:, s] = rng.dirichlet(np.ones(s.stop-s.start), n)
    truth = GZ2.cumulative(cond)
    for name, frac in (('valid', truth), ('valid_labels', cast_votes(cond, rng))):
        table = pd.DataFrame(frac, columns=GZ2.columns)
        table.insert(0, 'GalaxyID', np.arange(n))
        table.to_csv(tmp_path/'run'/f'{name}.csv', index=False)
    start = time.time()
    res = command('gz_fastai_report', 'run', '--out', 'big.html')
    seconds = time.time()-start
    assert res.returncode == 0, res.stderr
    print(f'{seconds:.0f} s, {(tmp_path/"big.html").stat().st_size/1e6:.1f} MB')
    assert seconds < 60 and (tmp_path/'big.html').stat().st_size < 10e6


def test_what_is_wrong_is_one_line(command, galaxies, tmp_path):
    (tmp_path/'empty').mkdir()
    res = command('gz_fastai_report', 'empty')
    assert res.returncode == 2 and 'empty: holds no finished run' in res.stderr and len(res.stderr.splitlines()) == 1
