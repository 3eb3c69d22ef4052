"gz_fastai_crossval, and what gz_fastai_predict makes of it."
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import IMAGES, LABELS
from tiny import tiny_crossval, tiny_run


def test_folds_and_their_ensemble(command, galaxies, tmp_path):
    args = ['--data', galaxies, '--arch', 'test_resnet', '--size', 32, '--folds', 2, '--epochs', 1]
    res = command('gz_fastai_crossval', *args, '--out', 'cv', '--fold', 1)
    assert res.returncode == 0 and 'still to be trained: fold 0' in res.stdout, res.stderr
    res = command('gz_fastai_crossval', *args, '--out', 'cv')
    assert res.returncode == 0 and 'fold1 holds this run, finished' in res.stdout and 'ensemble of the folds' in res.stdout, res.stderr
    truth, oof = pd.read_csv(galaxies/LABELS).set_index('GalaxyID'), pd.read_csv(tmp_path/'cv'/'oof.csv').set_index('GalaxyID')
    held_out = sorted(set(truth.index)-set(oof.index))
    rmse = np.sqrt(((oof-truth.loc[oof.index])**2).to_numpy().mean())
    assert f'{rmse:.4f}' in res.stdout and list(oof.columns) == list(truth.columns)
    assert command('gz_fastai_crossval', *args, '--out', 'cv').returncode == 0      # nothing to do
    res = command('gz_fastai_crossval', *args, '--out', 'cv', '--seed', 1)
    assert res.returncode == 2 and 'cv: ' in res.stderr and 'seed' in res.stderr
    # all folds as one thing: galaxies that a fold was trained on are left to the other
    res = command('gz_fastai_predict', 'cv', '--images', galaxies/IMAGES, '--out', 'all.csv', '--precision', 'fp32')
    assert res.returncode == 0 and '2 networks' in res.stdout and 'training set' not in res.stdout, res.stdout + res.stderr
    got = pd.read_csv(tmp_path/'all.csv').set_index('GalaxyID')
    np.testing.assert_allclose(got.loc[oof.index], oof, atol=5e-3)         # the training used the device's own precision
    each = [command('gz_fastai_predict', f'cv/fold{i}', '--images', galaxies/IMAGES, '--out', f'{i}.csv', '--precision', 'fp32') for i in (0, 1)]
    assert [o.returncode for o in each] == [0, 0]
    folds = [pd.read_csv(tmp_path/f'{i}.csv').set_index('GalaxyID').loc[held_out] for i in (0, 1)]
    np.testing.assert_allclose(got.loc[held_out], (folds[0]+folds[1])/2, atol=1e-6)
    # ensemble weights are fitted out of fold
    res = command('gz_fastai_predict', 'cv', tiny_crossval(seed=1).path, '--images', galaxies/IMAGES, '--out', 'two.csv', '--fit-weights')
    assert res.returncode == 0 and 'out of fold, equal weights have' in res.stdout and ('4 networks' in res.stdout or '2 networks' in res.stdout), res.stderr


@pytest.mark.services
def test_jobs_of_a_cluster(cache, galaxies, tmp_path):
    "The Slurm script, as Slurm runs it: a job per fold, two at a time"
    script = Path(__file__).parent.parent/'recipes'/'crossval.sbatch'
    args = ['--data', galaxies, '--arch', 'test_resnet', '--size', '32', '--epochs', '1', '--out', 'five']
    def job(task):
        env = dict(os.environ, GZ_FASTAI_CACHE=str(cache), SLURM_ARRAY_TASK_ID=str(task), PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
        return subprocess.Popen(['bash', script, *map(str, args)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for tasks in ((0, 1), (2, 3), (4,)):
        jobs = [job(o) for o in tasks]
        said = [j.communicate(timeout=500)[0] for j in jobs]
        assert [j.returncode for j in jobs] == [0]*len(jobs), said
    assert 'ensemble of the folds' in said[0] and (tmp_path/'five'/'oof.csv').exists()


@pytest.mark.parametrize('args, word', [
    (['--folds', '1'], 'folds must be'),
    (['--fold', '5', '--out', 'x'], 'fold must be between 0 and 4'),
    (['--fold', '0'], 'set out'),
])
def test_what_is_wrong_is_one_line(command, galaxies, args, word):
    res = command('gz_fastai_crossval', '--data', galaxies, *args)
    assert res.returncode == 2 and word in res.stderr and len(res.stderr.splitlines()) == 1, res.stderr


def test_single_runs_have_no_fitted_weights(command, galaxies, tmp_path):
    res = command('gz_fastai_predict', *(tiny_run(seed=s).path for s in (0, 1)), '--images', galaxies/IMAGES, '--out', 'x.csv', '--fit-weights')
    assert res.returncode == 2 and 'run0: holds no crossval' in res.stderr
