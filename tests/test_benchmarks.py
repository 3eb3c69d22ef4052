"Benchmarks with few galaxies on the CPU: the one for GPUs, the learning curve, recipes and pretrained networks."
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import timm
from safetensors.torch import save_file

HERE = Path(__file__).parent.parent/'benchmarks'


def test_gpu_report(tmp_path):
    tiny = '--n 40 --some 16 --side 32 --seconds .02 --bs 8 --archs vgg7'.split()
    env = os.environ | dict(GZ_FASTAI_CACHE=str(tmp_path/'cache'), CUDA_VISIBLE_DEVICES='')
    res = subprocess.run([sys.executable, HERE/'gpu.py', '--out', tmp_path/'gpu', *tiny], env=env, capture_output=True, text=True, timeout=600)
    assert res.returncode == 0, res.stderr
    report = json.loads((tmp_path/'gpu'/'gpu.json').read_text())
    table = pd.read_csv(tmp_path/'gpu'/'gpu.csv')
    assert len(report['rows']) == len(table) and report['machine']['device'] == 'cpu'
    assert not [row for row in report['rows'] if 'problem' in row]
    rates = table[table.what != 'sample'][['images_per_second', 'gflops', 'seconds']]
    assert (rates.max(axis=1) > 0).all()
    steps = table[table.what == 'training step'].groupby('size').opt.apply(set)
    assert all({'muon', 'adam'} <= o for o in steps) and set(steps.index) == {32, 64}


def test_learning_curve_resumes(galaxies, cache, tmp_path, monkeypatch, capsys):
    "A row for each number of galaxies, with as many epochs as it says; the same command adds only what is missing; a fit to all"
    (tmp_path/'valid.csv').write_text('GalaxyID\n' + '\n'.join(str(1000001+i) for i in range(20)))
    (tmp_path/'small.toml').write_text('arch = "test_resnet"\nsize = 32\nbs = 8\nepochs = 1\n')
    monkeypatch.setenv('GZ_FASTAI_CACHE', str(cache))
    monkeypatch.syspath_prepend(HERE)
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['curve.py', '--out', str(tmp_path/'curve.csv'), *map(str, args)])
        runpy.run_path(str(HERE/'curve.py'), run_name='__main__')
        return pd.read_csv(tmp_path/'curve.csv')
    def curve(*numbers):
        return run('--data', galaxies, '--valid', tmp_path/'valid.csv', '--config', tmp_path/'small.toml', '--seeds', 0, '--numbers', *numbers)
    first = curve(15)
    assert first.galaxies.tolist() == [15, 60] and first.epochs.tolist() == [2, 1]
    assert first[['rmse_1', 'rmse_8']].stack().between(.01, .6).all()
    again = curve(15, 30)
    assert again[:2].equals(first) and again.galaxies.tolist() == [15, 60, 30]
    exact = pd.concat([again.assign(rmse_1=.1+again.galaxies**-.5, rmse_8=.1)]*2)
    exact.to_csv(tmp_path/'curve.csv', index=False)
    capsys.readouterr()
    run('--fit', 1600)
    one, eight = capsys.readouterr().out.splitlines()
    assert float(one.split()[-4]) == pytest.approx(.125, abs=2e-4) and eight.endswith('; 1,600 galaxies: 0.1000 (0.1000 to 0.1000)')


@pytest.fixture
def script(cache, tmp_path, monkeypatch):
    "Runs a copy of a benchmark, and gives the table that it writes beside itself"
    for name in ('frontier', 'pretrained', 'peers'): shutil.copy(HERE/f'{name}.py', tmp_path)
    (tmp_path/'valid.csv').write_text('GalaxyID\n' + '\n'.join(str(1000001+i) for i in range(20)))
    monkeypatch.setenv('GZ_FASTAI_CACHE', str(cache))
    monkeypatch.syspath_prepend(tmp_path)
    def run(name, table, *args):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, args)])
        runpy.run_path(str(tmp_path/f'{name}.py'), run_name='__main__')
        return pd.read_csv(tmp_path/f'{table}.csv')
    return run


def test_arms_of_the_frontier(galaxies, script, tmp_path, capsys):
    "A row for each arm, and none twice; arms that are taught say what they need"
    def tried(*arms): return script('frontier', 'frontier_tried', 'tried', '--data', galaxies, '--without', tmp_path/'valid.csv', '--only', *arms)
    first = tried('quick, 32 px')
    assert first.arm.tolist() == ['quick, 32 px'] and first.epochs.tolist() == ['8 of 32 px'] and first.rmse.between(.01, .6).all()
    again = tried('quick, 32 px', '32 px, symmetric, 20 epochs, mean and largest value', '32 px, symmetric, 20 epochs, mixup')
    assert again[:1].equals(first) and len(again) == 3 and again.rmse.nunique() == 3
    with pytest.raises(SystemExit): tried('32 px, symmetric, 20 epochs, taught')
    assert 'need --teacher' in capsys.readouterr().err


def test_scores_of_the_frontier(galaxies, script, tmp_path):
    "A row for each seed and one for their mean; the runs stay, and the same command adds nothing"
    def score(): return script('frontier', 'frontier_score', 'score', '--data', galaxies, '--valid', tmp_path/'valid.csv', '--seeds', 0, 1,
                               '--runs', tmp_path/'runs', '--only', 'VGG7, 64 px, 3 epochs')
    first = score()
    assert first.seed.tolist() == ['0', '1', 'mean of 2'] and (first.epochs == 3).all()
    assert first.filter(regex='_1').stack().between(.01, .6).all()
    times = [o.stat().st_mtime_ns for o in sorted((tmp_path/'runs').glob('*/model.safetensors'))]
    assert score().equals(first) and times == [o.stat().st_mtime_ns for o in sorted((tmp_path/'runs').glob('*/model.safetensors'))]


def test_pretrained_arms(galaxies, script, tmp_path):
    "The weights are those of the folder, a row for each arm, and none twice"
    save_file(timm.create_model('tf_efficientnet_lite0').state_dict(), tmp_path/'tf_efficientnet_lite0.safetensors')
    def arms(*names): return script('pretrained', 'pretrained', '--data', galaxies, '--weights', tmp_path, '--valid', tmp_path/'valid.csv', '--only', *names)
    first = arms('head')
    assert first[['arm', 'train', 'valid', 'size', 'epochs']].values.tolist() == [['head', 60, 20, 96, 3]]
    again = arms('head', 'lora, muon, lr .006')
    assert again[:1].equals(first) and again.arm.tolist() == ['head', 'lora, muon, lr .006'] and again.rmse.between(.01, .6).all()
    (tmp_path/'tf_efficientnet_lite0.safetensors').unlink()
    with pytest.raises(Exception, match='no such file'): arms('lora')
