"Reports: as every run leaves them, by gz_fastai_report, in a browser, and for as many galaxies as the competition has."
import json

import numpy as np
import pandas as pd
from tiny import copied, tiny_run

from gz_fastai.data.sample import cast_votes
from gz_fastai.data.schema import GZ2

SHORT = '--arch', 'test_resnet', '--size', 32, '--epochs', 1      # timm's smallest network


def seen_in(visit, page):
    "What a browser sees of a page that is whole, on a phone and on a wide screen"
    for width in (1440, 390):
        found, logged = visit(page, width=width)
        assert not logged and not found['broken'], (logged, found['broken'])
        assert found['scroll'] <= found['width'] <= width
        for q in GZ2.questions: assert q.text in found['text']
    return found


def test_report_of_a_run_in_a_browser(command, galaxies, tmp_path, visit):
    names = 'run0', '<script>alert(1)'      # a folder's name is text
    res = command('gz_fastai_train', '--data', galaxies, *SHORT, '--out', names[0], report=True)
    assert res.returncode == 0 and 'report.html' in res.stdout, res.stderr
    copied(tiny_run(seed=1), tmp_path/names[1])
    res = command('gz_fastai_report', *names, '--out', 'both.html')
    assert res.returncode == 0 and res.stdout.split() == ['both.html'], res.stderr
    one, both = [seen_in(visit, page) for page in (tmp_path/'run0'/'report.html', tmp_path/'both.html')]
    assert one['images'] > 10 and one['figures'] > len(GZ2.questions)
    assert both['figures'] > one['figures']
    for name in names: assert name in both['text']
    assert '<script' not in (tmp_path/'both.html').read_text()


def test_report_of_real_galaxies(command, real_data, tmp_path, visit):
    assert command('gz_fastai_train', '--data', real_data, *SHORT, '--out', 'run', '--valid', real_data/'validation_ids.csv', report=True).returncode == 0
    assert seen_in(visit, tmp_path/'run'/'report.html')['images'] > 40


def test_as_many_galaxies_as_the_competition_has(command, tmp_path):
    "61,578 rows give a page of the same size: what is drawn does not grow with the galaxies"
    copied(tiny_run(), tmp_path/'run')
    record = json.loads((tmp_path/'run'/'experiment.json').read_text())
    record['requested']['data'] = 'gone'
    (tmp_path/'run'/'experiment.json').write_text(json.dumps(record))
    assert command('gz_fastai_report', 'run', '--out', 'small.html').returncode == 0
    n, rng = 61_578, np.random.default_rng(0)
    cond = np.concatenate([rng.dirichlet(np.ones(len(q.answers)), n) for q in GZ2.questions], 1)
    for name, frac in (('valid', GZ2.cumulative(cond)), ('valid_labels', cast_votes(cond, rng))):
        table = pd.DataFrame(frac, columns=GZ2.columns)
        table.insert(0, 'GalaxyID', np.arange(n))
        table.to_csv(tmp_path/'run'/f'{name}.csv', index=False)
    metrics = json.loads((tmp_path/'run'/'metrics.json').read_text())
    (tmp_path/'run'/'metrics.json').write_text(json.dumps(metrics | dict(galaxies=n)))
    res = command('gz_fastai_report', 'run', '--out', 'big.html')
    assert res.returncode == 0, res.stderr
    small, big = [(tmp_path/f'{o}.html').read_text() for o in ('small', 'big')]
    assert f'{n:,} galaxies' in big
    assert len(big) < 3*len(small) < 10e6


def test_what_is_wrong_is_one_line(command, tmp_path):
    (tmp_path/'empty').mkdir()
    res = command('gz_fastai_report', 'empty')
    assert res.returncode == 2 and 'empty: ' in res.stderr and len(res.stderr.splitlines()) == 1
