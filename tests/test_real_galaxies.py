"On real galaxies, where `GZ_FASTAI_REAL_DATA` names a folder of them in Kaggle's layout."
import json
import re

import numpy as np
import pandas as pd

from gz_fastai.data.schema import GZ2


def test_an_epoch_beats_the_mean_by_far(command, real_data, tmp_path):
    args = ['--data', real_data, '--epochs', 1, '--size', 32, '--out', 'run']     # small: a plain CPU trains it in minutes
    if (real_data/'validation_ids.csv').exists(): args += ['--valid', real_data/'validation_ids.csv']
    res = command('gz_fastai_train', *args, timeout=1800)
    assert res.returncode == 0, res.stderr
    m = json.loads((tmp_path/'run'/'metrics.json').read_text())
    labels = pd.read_csv(real_data/'training_solutions_rev1.csv').set_index('GalaxyID')
    pred = pd.read_csv(tmp_path/'run'/'valid.csv').set_index('GalaxyID')
    targ = labels.loc[pred.index, GZ2.columns]
    others = labels.drop(pred.index)
    # every number of metrics.json by independent arithmetic
    np.testing.assert_allclose(m['rmse'], ((pred-targ)**2).to_numpy().mean()**.5, rtol=1e-5)
    np.testing.assert_allclose(m['baselines']['all zeros'], (targ**2).to_numpy().mean()**.5, rtol=1e-5)
    np.testing.assert_allclose(m['baselines']['mean label'], ((others.mean()-targ)**2).to_numpy().mean()**.5, rtol=1e-5)
    for i, (q, s, parent) in enumerate(zip(m['questions'], GZ2.slices, GZ2.parents)):
        columns = GZ2.columns[s]
        np.testing.assert_allclose(q['rmse'], ((pred-targ)[columns]**2).to_numpy().mean()**.5, rtol=1e-5)
        np.testing.assert_allclose(q['share'], ((pred-targ)[columns]**2).to_numpy().sum()/((pred-targ)**2).to_numpy().sum(), rtol=1e-5)
        asked = targ[GZ2.columns[parent[0]]] if parent else pd.Series(1., index=targ.index)
        came = targ[asked >= .5]
        right = pred.loc[came.index, columns].idxmax(axis=1) == came[columns].idxmax(axis=1)
        assert q['galaxies'] == len(came)
        np.testing.assert_allclose(q['accuracy'], right.mean(), rtol=1e-9)
        clear = came[columns].max(axis=1) >= .6*asked[came.index]-1e-5      # labels have six decimals
        np.testing.assert_allclose(q['clear_accuracy'], right[clear].mean(), rtol=1e-9)
    np.testing.assert_allclose(m['accuracy']['accuracy'], np.mean([q['accuracy'] for q in m['questions']]), rtol=1e-9)
    assert not m['synthetic'] and 'noise_floor' not in m
    assert m['rmse'] < .85*m['baselines']['mean label']


def test_baselines(command, real_data, tmp_path):
    "Each printed RMSE is that of the file that was written, by pandas; the simple ones and Kaggle's rule are computed again"
    valid = ['--valid', real_data/'validation_ids.csv'] if (real_data/'validation_ids.csv').exists() else []
    res = command('gz_fastai_baseline', '--data', real_data, *valid, '--out', 'baselines', timeout=1200)
    assert res.returncode == 0, res.stderr
    labels = pd.read_csv(real_data/'training_solutions_rev1.csv').set_index('GalaxyID')[GZ2.columns]
    files = {o.stem: pd.read_csv(o).set_index('GalaxyID') for o in (tmp_path/'baselines').iterdir()}
    said = dict(re.findall(r'^  (.*?) +(\d\.\d{4})   95%', res.stdout, re.M))
    assert len(said) == len(files) == 5
    for name, value in said.items():
        f = files[name.replace(', ', '-').replace(' ', '-')]
        assert f'{((f-labels.loc[f.index])**2).to_numpy().mean()**.5:.4f}' == value
    ids = f.index
    train = labels.drop(ids)
    np.testing.assert_allclose(files['mean-label'], np.tile(train.mean(), (len(ids), 1)), atol=1e-6)
    assert (files['all-zeros'] == 0).all(None) and (files['all-ones'] == 1).all(None)
    # a handful of distinct rows, each the mean label of a group of training galaxies, as in Kaggle's own file
    theirs = pd.read_csv(real_data/'central_pixel_benchmark.zip').set_index('GalaxyID').round(6).drop_duplicates()
    ours = files['central-pixel-Kaggle'].round(6).drop_duplicates()
    assert 2 <= len(ours) <= len(theirs)+2 and len(theirs) < 10 and list(ours.columns) == list(theirs.columns)
    assert 2 <= len(files['central-pixel-k-means'].round(6).drop_duplicates()) < 200
