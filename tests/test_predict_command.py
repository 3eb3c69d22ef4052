"gz_fastai_predict and gz_fastai_baseline."
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import BIN, IMAGES, LABELS
from PIL import Image
from tiny import copied, tiny_run

from gz_fastai.data.tables import write_fractions
from gz_fastai.data.schema import GZ2
from gz_fastai.inference.ensemble import fitted_recalibration
from gz_fastai.model.recalibration import recalibrate

@pytest.fixture
def runs(command, tmp_path):
    "Two runs, of different networks and sizes, in the folder where commands run"
    for arch, size in (('test_efficientnet', 32), ('test_resnet', 48)): copied(tiny_run(arch=arch, size=size), tmp_path/arch)
    return ['test_efficientnet', 'test_resnet']


def test_from_runs_to_a_submission(command, galaxies, runs, tmp_path):
    header = (galaxies/LABELS).read_text().splitlines()[0]
    ids = pd.read_csv(galaxies/LABELS).GalaxyID.tolist()
    (tmp_path/'sample.csv').write_text('GalaxyID\n'+'\n'.join(map(str, ids[::-1]))+'\n')
    res = command('gz_fastai_predict', *runs, '--images', galaxies/IMAGES, '--views', 8, '--ids', 'sample.csv', '--out', 'both.csv', '--precision', 'fp32', bin=BIN)
    assert res.returncode == 0, res.stderr
    assert 'both.csv: 80 images, 2 networks\n' in res.stdout and 'training set of every run' in res.stdout
    assert (tmp_path/'both.csv').read_text().splitlines()[0] == header
    both = pd.read_csv(tmp_path/'both.csv')
    assert both.GalaxyID.tolist() == ids[::-1] and len(GZ2.audit(both, tol=1e-4)) == 0
    # one view of one run: what the training wrote for its validation galaxies
    res = command('gz_fastai_predict', 'test_efficientnet', '--images', galaxies/IMAGES, '--out', 'one.csv', '--precision', 'fp32')
    one, valid = [pd.read_csv(tmp_path/o).set_index('GalaxyID') for o in ('one.csv', 'test_efficientnet/valid.csv')]
    np.testing.assert_allclose(one.loc[valid.index], valid, atol=1e-5)
    assert sorted(map(int, json.loads((tmp_path/'one.csv.json').read_text())['trained_on'])) == sorted(set(ids)-set(valid.index))
    # what is there is left alone; what is wrong is one line
    for args, word in [(['--out', 'one.csv', '--views', 8], 'one.csv: '), (['--out', 'sample.csv'], 'sample.csv: already exists'), (['--out', 'x.csv', '--views', 7], 'views must be 1, 8, 16 or 60'), (['--out', 'x.txt'], '.csv or .parquet'),
                       (['--out', 'x.csv', '--device', 'tpu9'], 'tpu9')]:
        res = command('gz_fastai_predict', 'test_efficientnet', '--images', galaxies/IMAGES, *args)
        assert res.returncode == 2 and word in res.stderr and len(res.stderr.splitlines()) == 1, res.stderr


def test_a_symmetric_network_predicts_the_same_for_turned_galaxies(command, galaxies, tmp_path):
    "Trained, stored, adapted, merged and exported, with one view or several; and several are not the same as one"
    def done(name, *args):
        res = command(name, *args)
        assert res.returncode == 0, res.stderr
    first = tiny_run(arch='vgg7_d4', size=40)
    copied(first, tmp_path/'first')
    copied(tiny_run(arch='vgg7_d4', weights=str(first.path), finetune='lora', size=40), tmp_path/'second')
    done('gz_fastai_export', 'second', '--to', 'onnx', '--views', 8, '--out', 'second.onnx')
    turned = Image.Transpose.TRANSPOSE      # mirrored, and turned by a quarter
    for file in sorted((galaxies/IMAGES).iterdir())[:16]:
        with Image.open(file) as image:
            for folder, seen in (('plain', image), ('turned', image.transpose(turned))):
                (tmp_path/folder).mkdir(exist_ok=True)
                seen.save(tmp_path/folder/f'{file.stem}.png')
    def predicted(name, images, *args):
        done('gz_fastai_predict', name, '--images', images, *args, '--out', 'table.csv')
        return pd.read_csv((tmp_path/'table.csv').rename(tmp_path/'read.csv')).set_index('GalaxyID').to_numpy()
    pairs = {(name, v): [predicted(name, o, '--precision', 'fp32', '--views', v) for o in ('plain', 'turned')] for name in ('first', 'second') for v in (1, 8)}
    pairs |= {'onnx': [predicted('second.onnx', o) for o in ('plain', 'turned')]}
    for plain, other in pairs.values(): np.testing.assert_allclose(plain, other, atol=3e-4)
    np.testing.assert_allclose(pairs['onnx'][0], pairs['second', 8][0], atol=1e-4)
    assert min(np.abs(pairs[o, 8][0]-pairs[o, 1][0]).max() for o in ('first', 'second')) > 6e-4
    assert np.abs(pairs['first', 8][0]-pairs['second', 8][0]).max() > 1e-3


def test_validation_galaxies_recalibrate_what_is_too_sure(command, galaxies, runs, tmp_path):
    "--calibrate, in a table and in shards; refused where nobody knows how sure a network should be"
    too_sure = dict(temperatures=[1/1.3]*11, offsets=[0.]*37)
    valid, said = tmp_path/'test_efficientnet/valid.csv', pd.read_csv(tmp_path/'test_efficientnet/valid_labels.csv', dtype={'GalaxyID': str}).set_index('GalaxyID')
    write_fractions(valid, said.index, recalibrate(said.to_numpy(), too_sure), GZ2)       # as if the run had predicted this
    fit = fitted_recalibration(tmp_path/'test_efficientnet')
    assert fit['crossfit'] < .8*fit['rmse'] and fit['sure'] and fit['galaxies'] == len(said)
    def predicted(*args):
        res = command('gz_fastai_predict', 'test_efficientnet', '--images', galaxies/IMAGES, '--precision', 'fp32', *args)
        assert res.returncode == 0, res.stderr
        return res.stdout
    predicted('--out', 'plain.csv')
    assert predicted('--calibrate', '--out', 'soft.csv').splitlines()[0].endswith(': recalibrating')
    predicted('--calibrate', '--shards', 2, '--out', 'survey')
    plain, soft = [pd.read_csv(tmp_path/o, dtype={'GalaxyID': str}).set_index('GalaxyID') for o in ('plain.csv', 'soft.csv')]
    np.testing.assert_allclose(soft, recalibrate(plain.to_numpy(), fit['recalibration']), atol=1e-5)
    shards = pd.concat(map(pd.read_parquet, sorted((tmp_path/'survey/predictions').iterdir()))).set_index('GalaxyID')
    np.testing.assert_allclose(shards.loc[soft.index, GZ2.columns], soft, atol=1e-5)
    write_fractions(valid, said.index, said.to_numpy(), GZ2)       # a perfect run
    assert 'not recalibrating' in predicted('--calibrate', '--out', 'same.csv')
    assert (tmp_path/'same.csv').read_bytes() == (tmp_path/'plain.csv').read_bytes()
    (tmp_path/'bare').mkdir()
    for o in ('model.json', 'model.safetensors'): shutil.copy(tmp_path/'test_efficientnet'/o, tmp_path/'bare')
    write_fractions(tmp_path/'test_resnet/valid.csv', said.index[1:], said.to_numpy()[1:], GZ2)
    for args, word in [(['bare'], 'no predictions of validation galaxies'), (['test_efficientnet', 'test_resnet'], 'test_resnet'),
                       (['test_efficientnet', '--form', 'concentrations'], 'cannot be recalibrated'), (['test_efficientnet', '--std'], 'cannot be recalibrated')]:
        res = command('gz_fastai_predict', *args, '--calibrate', '--images', galaxies/IMAGES, '--out', 'x.csv')
        assert res.returncode == 2 and word in res.stderr and len(res.stderr.splitlines()) == 1, res.stderr


@pytest.mark.parametrize('arch, activation', [('vgg7_tiny', 'softmax'), ('test_resnet', 'softmax'), ('test_resnet', 'sigmoid'), ('test_resnet', 'divisive')])
def test_a_new_process_predicts_what_the_learner_did(command, galaxies, tmp_path, arch, activation):
    "valid.csv is what the live Learner predicted; to 1e-6 in fp32"
    run = tiny_run(arch=arch, activation=activation)
    res = command('gz_fastai_predict', run.path, '--images', galaxies/IMAGES, '--ids', run.path/'valid.csv', '--out', 'again.csv', '--precision', 'fp32')
    assert res.returncode == 0, res.stderr
    live, again = [pd.read_csv(o).to_numpy() for o in (run.path/'valid.csv', tmp_path/'again.csv')]
    assert np.ptp(live[:, 1]) > 0
    np.testing.assert_allclose(again, live, atol=1e-6, rtol=0)


def test_parquet(command, galaxies, runs, tmp_path):
    "The same numbers as in the CSV, with IDs as text"
    for suffix in ('csv', 'parquet'):
        res = command('gz_fastai_predict', 'test_efficientnet', '--images', galaxies/IMAGES, '--out', f'x.{suffix}')
        assert res.returncode == 0, res.stderr
    csv, parquet = pd.read_csv(tmp_path/'x.csv', dtype={'GalaxyID': str}), pd.read_parquet(tmp_path/'x.parquet')
    assert parquet.columns.tolist() == csv.columns.tolist() and parquet.GalaxyID.tolist() == csv.GalaxyID.tolist()
    np.testing.assert_allclose(parquet[GZ2.columns], csv[GZ2.columns], atol=1e-7)


def test_unreadable_image(command, damaged, runs, tmp_path):
    broken = sorted((damaged/IMAGES).iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:500])
    args = ['test_efficientnet', '--images', damaged/IMAGES]
    res = command('gz_fastai_predict', *args, '--out', 'empty.csv')
    assert res.returncode == 0 and '1 of them unreadable and without a prediction' in res.stdout and broken.name in res.stderr
    table = pd.read_csv(tmp_path/'empty.csv').set_index('GalaxyID')
    row = table.loc[int(broken.stem)]
    assert row[GZ2.columns].isna().all() and 'cannot be read' in row.problem and table.problem.notna().sum() == 1
    assert table.drop(int(broken.stem))[GZ2.columns].notna().all(axis=None)
    res = command('gz_fastai_predict', *args, '--out', 'filled.csv', '--fill')
    assert res.returncode == 0 and 'filled with the mean label' in res.stdout and broken.name in res.stderr
    labels = pd.read_csv(damaged/LABELS).set_index('GalaxyID')
    trained = json.loads((tmp_path/'test_efficientnet'/'model.json').read_text())['trained_on']
    filled = pd.read_csv(tmp_path/'filled.csv').set_index('GalaxyID')
    assert filled.columns.tolist() == GZ2.columns
    np.testing.assert_allclose(filled.loc[int(broken.stem)], trained['mean'], atol=1e-6)
    valid = pd.read_csv(tmp_path/'test_efficientnet'/'valid.csv').GalaxyID
    np.testing.assert_allclose(trained['mean'], labels.drop(valid).mean(), atol=1e-6)


def test_baselines(command, galaxies, tmp_path):
    res = command('gz_fastai_baseline', '--data', galaxies, '--out', 'baselines', '--images', galaxies/IMAGES)
    assert res.returncode == 0, res.stderr
    files = {o.stem: pd.read_csv(o) for o in (tmp_path/'baselines').iterdir()}
    assert set(files) == {'all-zeros', 'all-ones', 'mean-label', 'central-pixel-k-means', 'central-pixel-Kaggle'}
    assert all(o.columns.tolist() == ['GalaxyID', *GZ2.columns] and len(o) == 80 for o in files.values())
    assert files['all-ones'].drop(columns='GalaxyID').to_numpy().min() == 1
    assert 1 < len(files['central-pixel-Kaggle'].drop(columns='GalaxyID').round(6).drop_duplicates()) < 20
    res = command('gz_fastai_baseline', '--data', galaxies, '--out', 'baselines')
    assert res.returncode == 2 and 'baselines: ' in res.stderr
