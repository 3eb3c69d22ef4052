"""Predictions over a survey: images a second and memory, on one process and on Ray, and with ever more images.

    python benchmarks/survey.py engines --n 20000 --out survey
    python benchmarks/survey.py growth --n 1000000 --side 96 --out survey
    python benchmarks/survey.py kills --n 20000 --out survey

`engines` predicts the same list of synthetic images by each engine in turn, as often as --rounds says. `growth` predicts one long list,
of small images, and notes the time and the resident memory after each shard. `kills` kills one of Ray's actors after a third of the
shards and the whole job after two thirds, repeats the command, and compares its result with the plain command's. Lists repeat the
galaxies of a sample. Rows are appended to survey_engines.csv, survey_growth.csv or survey_kills.csv beside this file. It needs psutil.
"""
import contextlib, io, os, shutil, signal, subprocess, sys, threading, time
from pathlib import Path

import pandas as pd
import psutil
from PIL import Image

from gz_fastai.data.sample import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *
from harness import parser

HERE = Path(__file__).parent


def network(out, size):
    "A run of one epoch"
    if not (out/'run'/'metrics.json').exists():
        data = make_sample(500, folder=out/'galaxies')
        with contextlib.redirect_stdout(io.StringIO()): train(Config(data=str(data), arch='vgg7', size=size, epochs=1, out=str(out/'run')))
    return out/'run'


def listed(out, n, side):
    "A list of n images of some size, as often the same ones as it takes"
    files = sorted((out/'galaxies'/'images_training_rev1').iterdir())
    if side:
        (out/f'small-{side}').mkdir(exist_ok=True)
        for f in files:
            with Image.open(f) as im: im.resize((side, side)).save(out/f'small-{side}'/f.name, quality=90)
        files = sorted((out/f'small-{side}').iterdir())
    with open(out/f'list-{n}.txt', 'w') as f: f.writelines(f'{files[i%len(files)]}\n' for i in range(n))
    return out/f'list-{n}.txt'


def resident(process):
    "Bytes of memory that a process and its children hold"
    total = 0
    for p in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error): total += p.memory_info().rss
    return total


def run(args, on_line=lambda line, mb: None):
    "Run gz_fastai_predict; seconds, and the resident memory in MB each half second"
    start, seen = time.time(), []
    p = subprocess.Popen([Path(sys.executable).parent/'gz_fastai_predict', *map(str, args)], stdout=subprocess.PIPE, text=True, env=os.environ | dict(PYTHONUNBUFFERED='1'))
    tree = psutil.Process(p.pid)
    def watch():
        while p.poll() is None:
            seen.append((time.time()-start, resident(tree)/1e6))
            time.sleep(.5)
    threading.Thread(target=watch, daemon=True).start()
    for line in p.stdout: on_line(line.strip(), seen[-1][1] if seen else 0)
    if p.wait(): raise SystemExit(f'{args} failed')
    return time.time()-start, seen


def note(row):
    print(row, flush=True)
    table = HERE/f'survey_{row["what"]}.csv'
    pd.DataFrame([row]).to_csv(table, mode='a', header=not table.exists(), index=False)


def start(args): return subprocess.Popen([Path(sys.executable).parent/'gz_fastai_predict', *map(str, args)], start_new_session=True)
def finished(folder): return len(list((folder/'predictions').glob('part*')))


def wait_until(there, p):
    "Wait while a process works"
    while not there():
        if p.poll() is not None: raise SystemExit('the job ended too soon')
        time.sleep(.1)


def actors(p):
    "Ray's processes that predict"
    found = []
    for o in psutil.Process(p.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if ' '.join(o.cmdline()).startswith('ray::_Actor.run'): found.append(o)
    return found


def kills(model, images, args):
    "One actor and one job killed; the row"
    plain, folder = args.out/'kills-local', args.out/'kills-ray'
    common = [model, '--images', images, '--shards', args.shards]
    for o in (plain, folder): shutil.rmtree(o, ignore_errors=True)
    if start([*common, '--out', plain]).wait(): raise SystemExit('the plain command failed')
    ray = [*common, '--out', folder, '--engine', 'ray']
    job = start(ray)
    wait_until(lambda: finished(folder) >= args.shards//3 and actors(job), job)
    actors(job)[0].kill()
    wait_until(lambda: finished(folder) >= 2*args.shards//3, job)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    done = finished(folder)
    time.sleep(15)      # what Ray leaves behind notices the end of its job
    begun = time.time()
    _, seen = run(ray)
    tables = [pd.read_parquet(o/'predictions') for o in (plain, folder)]
    same = tables[0].file_loc.equals(tables[1].file_loc) and len(tables[0]) == args.n
    numbers = [o.select_dtypes('float').to_numpy() for o in tables]
    return dict(shards_before=done, seconds_after=round(time.time()-begun, 1), rows=len(tables[1]), same_rows=same, difference=float(abs(numbers[0]-numbers[1]).max()),
                mb=round(max(m for _, m in seen)))


p = parser(__doc__, default='survey')
p.add_argument('what', choices=['engines', 'growth', 'kills'])
p.add_argument('--n', type=int, default=20000), p.add_argument('--side', type=int, help='of the images, pixels; default: 424')
p.add_argument('--size', type=int, default=64), p.add_argument('--shards', type=int, default=20), p.add_argument('--rounds', type=int, default=2)
args = p.parse_args()
args.out = args.out.absolute()
args.out.mkdir(exist_ok=True, parents=True)
model = network(args.out, args.size)
images = listed(args.out, args.n, args.side)
same = dict(what=args.what, n=args.n, side=args.side or 424, size=args.size, shards=args.shards, cores=os.cpu_count())
if args.what == 'kills':
    note(same | kills(model, images, args))
    sys.exit()
for r in range(args.rounds if args.what == 'engines' else 1):
    for engine in ('local', 'ray') if args.what == 'engines' else ('local',):
        folder = args.out/f'{args.what}-{engine}'
        shutil.rmtree(folder, ignore_errors=True)
        begun, shards = time.time(), []
        def each(line, mb):
            if line.startswith('shard '): shards.append((time.time()-begun, mb))
            if args.what == 'growth' and line.startswith('shard '): note(same | dict(engine=engine, round=len(shards), seconds=round(shards[-1][0], 1), mb=round(mb)))
        seconds, seen = run([model, '--images', images, '--out', folder, '--shards', args.shards, '--engine', engine], each)
        if args.what == 'growth': continue
        # from the end of the first shard on: starting up is not the engine's rate
        steady = args.n*(len(shards)-1)/args.shards/(shards[-1][0]-shards[0][0])
        note(same | dict(engine=engine, round=r, seconds=round(seconds, 1), rate=round(args.n/seconds, 1), steady=round(steady, 1), mb=round(max(m for _, m in seen)),
                         mb_first=round(shards[0][1]), mb_last=round(shards[-1][1])))
