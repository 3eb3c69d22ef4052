"On real galaxies, where `GZ_FASTAI_REAL_DATA` names a folder of them in Kaggle's layout."
import json

import numpy as np
import pandas as pd

from gz_fastai.schema import GZ2


def test_two_epochs_beat_the_mean_by_far(command, real_data, tmp_path):
    args = ['--data', real_data, '--epochs', 2, '--out', 'run']
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
    q7 = ['Class7.1', 'Class7.2', 'Class7.3']
    np.testing.assert_allclose(m['questions'][6]['rmse'], ((pred-targ)[q7]**2).to_numpy().mean()**.5, rtol=1e-5)
    came = targ[targ['Class1.1'] >= .5]
    right = pred.loc[came.index, q7].idxmax(axis=1) == came[q7].idxmax(axis=1)
    assert m['questions'][6]['galaxies'] == len(came)
    np.testing.assert_allclose(m['questions'][6]['accuracy'], right.mean(), rtol=1e-9)
    clear = came[q7].max(axis=1) >= .6*came['Class1.1']
    np.testing.assert_allclose(m['questions'][6]['clear_accuracy'], right[clear].mean(), rtol=1e-9)
    assert not m['synthetic'] and 'noise_floor' not in m
    assert m['rmse'] < .85*m['baselines']['mean label']
