"""One training run by two processes, compared with one: scores, speed, and kills.

    python studies/processes.py scores [--data GALAXIES --valid CSV] --size 32 --epochs 6 --out work
    python studies/processes.py scaling --rounds 3 --out work
    python studies/processes.py kills --n 10 --out work

`scores` trains with seeds 0, 1, ... in one process and in two, with the same batches. `scaling` trains on the synthetic sample, in
turn: two independent trainings at once, each on its own core with half the batch size, which is the most the machine can do; and one
training of two processes. `kills` ends one process of two with SIGKILL at a random moment and repeats the command: how long until all
had ended, and whether the history and the predictions equal those of a run that nobody killed. Each result is a row of
processes_scores.csv, processes_scaling.csv or processes_kills.csv beside this file; the same call resumes.
It needs psutil.
"""
import argparse, json, os, random, shutil, subprocess, sys, time
from pathlib import Path

import pandas as pd
import psutil
from fastai.callback.core import Callback

from gz_fastai.core import *
from gz_fastai.distributed import *
from gz_fastai.data.sample import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *

HERE = Path(__file__).parent
COMMAND = [sys.executable, '-m', 'gz_fastai.cli', 'train']


def rows_of(name):
    file = HERE/f'processes_{name}.csv'
    return pd.read_csv(file).to_dict('records') if file.exists() else []


def add_row(name, **row):
    with atomic_write(HERE/f'processes_{name}.csv') as tmp: pd.DataFrame([*rows_of(name), row]).to_csv(tmp, index=False)
    print(row, flush=True)


def scores(args):
    for seed in range(args.seeds):
        for n in (1, 2):
            what = dict(galaxies='real' if args.data else 'synthetic', size=args.size, epochs=args.epochs, seed=seed, processes=n)
            if any(what.items() <= o.items() for o in rows_of('scores')): continue
            out = args.out/'-'.join(map(str, what.values()))
            more = [str(o) for k in ('data', 'valid') if (v := getattr(args, k)) for o in (f'--{k}', v)]
            subprocess.run([*COMMAND, *more, '--size', str(args.size), '--epochs', str(args.epochs), '--seed', str(seed), '--processes', str(n),
                            '--out', str(out)], check=True)
            res = json.loads((out/'metrics.json').read_text())
            last = pd.read_csv(out/'history.csv').iloc[-1]
            add_row('scores', **what, rmse=round(res['rmse'], 5), accuracy=round(res['accuracy']['accuracy'], 5),
                    difference_of_last_epoch=abs(res['rmse']-last.rmse), seconds=round(res['seconds']))


class Clock(Callback):
    "Write the seconds of each epoch's training"
    def __init__(self, file): self.file = file
    def before_train(self): self.start = time.perf_counter()
    def after_train(self):
        with open(self.file, 'a') as f: f.write(f'{time.perf_counter()-self.start}\n')


def child(args):
    "A training on one core; one of two where there are two"
    os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[args.core if args.core is not None else int(os.environ['RANK'])]])
    cfg = Config(size=args.size, epochs=args.epochs, bs=args.bs, seed=args.core or 0, out=str(args.out))
    clock = args.out.parent/f'{args.out.name}.{args.core if args.core is not None else os.environ["RANK"]}.txt'
    train(cfg, [Clock(clock)])


def scaling(args):
    galaxies = 1799
    def own(bs, out, core=None):
        res = [sys.executable, __file__, 'child', '--size', args.size, '--epochs', args.epochs, '--bs', bs, '--out', out]
        return [str(o) for o in res+(['--core', core] if core is not None else [])]
    def seconds(*files): return max(sum(sorted(float(o) for o in f.read_text().split())[:-1])/(args.epochs-1) for f in files) # the slowest epoch has the start in it
    os.environ['OMP_NUM_THREADS'] = '1'
    make_sample()
    for i in range(len(rows_of('scaling'))//2, args.rounds):
        box = args.out/f'round{i}'
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir(parents=True)
        ps = [subprocess.Popen(own(64, box/f'alone{k}', k)) for k in (0, 1)]
        if any(p.wait() for p in ps): raise SystemExit('a training failed')
        alone = seconds(*[box/f'alone{k}.{k}.txt' for k in (0, 1)])
        if launch(own(128, box/'both'), 2)[0]: raise SystemExit('a training failed')
        both = seconds(*[box/f'both.{k}.txt' for k in (0, 1)])
        for what, rate in (('two independent trainings', 2*galaxies/alone), ('one training, two processes', galaxies/both)):
            add_row('scaling', round=i, size=args.size, what=what, images_per_second=round(rate, 1))


def ranks(launcher):
    "The processes of a launcher, by their number"
    res = {}
    for p in launcher.children():
        try: res[p.environ().get('RANK')] = p
        except psutil.Error: pass
    return [res[k] for k in ('0', '1') if k in res]


def kills(args):
    data = make_sample(240, folder=args.out/'galaxies')
    (args.out/'small.toml').write_text('bs = 32\nema = 0.9\n')
    command = [*COMMAND, '--data', str(data), '--arch', 'test_resnet', '--size', '32', '--epochs', '60', '--config', str(args.out/'small.toml'), '--processes', '2', '--out']
    env = os.environ | dict(OMP_NUM_THREADS='1')
    def run(out): return subprocess.Popen([*command, str(args.out/out)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    def history(out): return pd.read_csv(args.out/out/'history.csv').drop(columns='time')
    start = time.time()
    shutil.rmtree(args.out/'straight', ignore_errors=True)
    _, said = run('straight').communicate()
    if not (args.out/'straight'/'metrics.json').exists(): raise SystemExit(f'the reference failed: {said}')
    whole = time.time()-start
    for i in range(len(rows_of('kills')), args.n):
        out, moment = f'killed{i}', whole*random.Random(i).uniform(.15, 1)
        shutil.rmtree(args.out/out, ignore_errors=True)
        p = run(out)
        time.sleep(moment)
        victims = ranks(psutil.Process(p.pid)) if p.poll() is None else []
        if len(victims) == 2: victims[i%2].kill()
        killed = time.time()
        _, said = p.communicate()
        ended, status = time.time()-killed, p.returncode
        left = [o for o in victims if o.is_running() and o.status() != psutil.STATUS_ZOMBIE]
        epochs = len(history(out)) if (args.out/out/'history.csv').exists() else 0
        again = run(out)
        words, problem = again.communicate()
        equal = again.returncode == 0 and history(out).equals(history('straight'))
        equal = equal and (args.out/out/'valid.csv').read_bytes() == (args.out/'straight'/'valid.csv').read_bytes()
        add_row('kills', kill=i, process=i%2, killed=len(victims) == 2, after_seconds=round(moment, 1), epochs_done=epochs, ended_after=round(ended, 1), status=status,
                lines=len(said.strip().splitlines()), said=said.strip(), left=len(left), resumes='resumes after' in words, equal=equal)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['scores', 'scaling', 'kills', 'child'])
    parser.add_argument('--out', type=Path, required=True, help='folder for runs')
    parser.add_argument('--data'), parser.add_argument('--valid')
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--n', type=int, default=10)
    parser.add_argument('--bs', type=int), parser.add_argument('--core', type=int)
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    globals()[args.what](args)


if __name__ == '__main__': main()
