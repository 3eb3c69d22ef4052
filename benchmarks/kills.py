"""Kill the commands, repeat them, and compare: the repetition has to end with every file of a run that nobody killed, and with
nothing else.

    python benchmarks/kills.py --folder FOLDER [--n 240] [--only train] --out kills.csv

The odd kills come at a random moment, the even ones at a file operation: the process kills itself with SIGKILL right before it
opens a file for writing, renames, removes or makes one, at the k-th such event within the folder of the case. Each kill is one
row: the command and its recipe, where it was killed, the exit status of the same command afterwards with its last line where it
is not 0, the files that are not equal to those of the reference, and the files that the reference does not have. The same call
goes on where it was stopped; another `--n` adds rows. Everything runs on tiny data in children of one process that has imported
all, so that a kill costs seconds; times are left out of the comparison, and of a study everything but the default's rows, because
its other trials are drawn anew.
"""
import io, json, os, random, re, resource, shlex, shutil, signal, sys, time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from safetensors.torch import save_file
from timm.models import build_model_with_cfg, register_model

from gz_fastai import cli
from gz_fastai.all import *
from gz_fastai.core import *
from gz_fastai.data import store
from gz_fastai.inference import predict
from gz_fastai.report import pages
from harness import parser, read_rows, write_rows

GOLDEN = .6180339887 # its multiples fill an interval evenly


@register_model
def vgg7_eighth(pretrained=False, **kwargs):
    return build_model_with_cfg(VGG7, 'vgg7_eighth', pretrained, feature_cfg=dict(flatten_sequential=True), width=1/8, **kwargs)


SMALL = 'size = 32\nbs = 16\nhidden = [8]\nprecision = "fp32"\ndevice = "cpu"\narch = "vgg7_eighth"\n'
TUNED = 'arch = "test_resnet"\nweights = "../body.safetensors"\nepochs = 3\n'
TRAIN = 'train --data ../galaxies --config settings.toml --out out'
PREDICT = 'predict run --images ../galaxies/images_training_rev1 --out p.csv --views 8 --precision fp32'
TUNE = ('tune --trials 2 --trial-epochs 1 --epochs 1 --seeds 1 --space "bs=[8, 16]" --data ../galaxies --arch vgg7_eighth '
        '--config settings.toml --out out')

CASES = {   # (command, recipe) -> (share of the kills, command line, settings file, cold cache)
    ('train', 'default and ema'): (20, TRAIN, 'epochs = 3\nema = 0.9\n', False),
    ('train', 'patience'): (20, TRAIN, 'epochs = 6\npatience = 1\nlr = 5.0\n', False),
    ('train', 'accumulate and clip'): (20, TRAIN, 'epochs = 4\naccumulate = 2\nclip = 1.0\nema = 0.9\n', False),
    ('train', 'adam, mse, sigmoid'): (20, TRAIN, 'epochs = 3\nopt = "adam"\nloss = "mse"\nactivation = "sigmoid"\n', False),
    ('train', 'lora'): (20, TRAIN, TUNED+'finetune = "lora"\n', False),
    ('train', 'gradual'): (16, TRAIN, TUNED+'finetune = "gradual"\n', False),
    ('train', 'cold store'): (18, TRAIN, 'epochs = 1\n', True),
    ('predict', 'one file'): (14, PREDICT, '', False),
    ('predict', 'shards'): (10, PREDICT.replace('p.csv', 'p --shards 3'), '', False),
    ('crossval', '2 folds'): (24, 'crossval --folds 2 --epochs 1 --data ../galaxies --config settings.toml --out out', '', False),
    ('tune', '2 trials'): (18, TUNE, '', False),
    ('data', 'sample'): (16, 'data sample out --n 12', '', False),
    ('baseline', 'with images'): (14, 'baseline --data ../galaxies --images ../galaxies/images_training_rev1 --out out', '', False),
    ('report', 'of a run'): (10, 'report run', '', False)}



def watch(box, kill_at, log):
    "Count the file operations of this process within `box`, and kill it right before the one of that number; write them to `log`"
    count = 0
    def hook(event, args):
        nonlocal count
        if event not in ('open', 'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.truncate') or not isinstance(args[0], (str, bytes,
                os.PathLike)): return
        if event == 'open' and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR): return
        path = os.path.abspath(os.fsdecode(args[0]))
        if not path.startswith(f'{box}/'): return
        count += 1
        os.write(log, f'{event} {os.path.relpath(path, box)}\n'.encode(errors='surrogateescape'))
        if count == kill_at: os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)


def own_seconds(pid):
    "The time that a process has computed, which does not depend on what else the machine does"
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11])+int(fields[12]))/os.sysconf('SC_CLK_TCK')


class Bench:
    "A folder for the data, the references, and the box where each kill takes place"
    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.box, self.log, self.events = self.folder/'box', self.folder/'log.txt', self.folder/'events.txt'
        self.box.mkdir(exist_ok=True)
        self.call('data sample ../galaxies --n 48')
        if not (self.folder/'body.safetensors').exists():
            torch.manual_seed(1)
            save_file(galaxy_model('test_resnet', 37)[0].state_dict(), self.folder/'body.safetensors')
        if not (self.folder/'run').exists():
            self.fresh('epochs = 2\n')
            if self.call(TRAIN): raise SystemExit(self.log.read_text())
            shutil.copytree(self.box/'out', self.folder/'run')

    def fresh(self, settings):
        "An empty box with what the commands need"
        shutil.rmtree(self.box, ignore_errors=True)
        self.box.mkdir()
        (self.box/'settings.toml').write_text(SMALL+settings if 'arch' not in settings else SMALL.replace('arch = "vgg7_eighth"\n', '')+settings)
        if (self.folder/'run').exists(): shutil.copytree(self.folder/'run', self.box/'run')

    def call(self, command, cold=False, kill_at=None, seconds=None):
        "The exit status of a command in a child of this process, -9 where it was killed"
        name, *argv = shlex.split(command)
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            status = 70
            try:
                log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1), os.dup2(log, 2)
                sys.stdout, sys.stderr = open(1, 'w', buffering=1, closefd=False), open(2, 'w', buffering=1, closefd=False)
                os.chdir(self.box)
                os.environ['GZ_FASTAI_CACHE'] = str(self.box/'cache' if cold else self.folder/'cache')
                watch(str(self.box), kill_at, os.open(self.events, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
                getattr(cli, f'{name}_command')(argv)
                status = 0
            except SystemExit as e: status = e.code or 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally: os._exit(status)
        while own_seconds(pid) < (seconds or 120):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done: return os.waitstatus_to_exitcode(status)
            time.sleep(.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -9 if seconds else 'hangs'


def without_seconds(o):
    "Plain data without its times"
    if isinstance(o, dict): return {k: without_seconds(v) for k, v in o.items() if k != 'seconds'}
    return [without_seconds(v) for v in o] if isinstance(o, list) else o


def csv_without(*columns): return lambda data: pd.read_csv(io.BytesIO(data)).drop(columns=[*columns], errors='ignore').to_csv()
def page(data): return re.sub(r'[\d.,]+( (s|min|h|galaxies per second)\b)|\d{4}-\d\d-\d\d[T \d:.+-]*', '', data.decode())
def default_rows(data):
    table = csv_without('seconds', 'trial')(data)
    return [o for o in table.splitlines() if ',default,' in o]


CONTENT = {'history.csv': csv_without('time'), 'report.html': page,
           'retrained.csv': default_rows} # what is compared of a file; otherwise its bytes, of JSON its data
UNEQUAL = ('study.db', 'trials.csv', 'trials.log', 'best.toml', 'out/report.html') # of a study: only that they are there


def snapshot(box, study):
    "What is compared: name -> content of each file, None for a folder"
    res = {}
    for f in sorted(box.rglob('*')):
        name = str(f.relative_to(box))
        drawn = study and re.search(r'retrained/trial-\d+', name)
        name = re.sub(r'retrained/trial-\d+', 'retrained/trial-N', name)
        if f.is_dir() or drawn or study and name.endswith(UNEQUAL): res[name] = None
        elif f.suffix == '.json': res[name] = without_seconds(json.loads(f.read_bytes()))
        else: res[name] = CONTENT.get(f.name, bytes)(f.read_bytes())
    return res


def reference(bench, case):
    "The uninterrupted run of a case: (its snapshot, its file operations, its seconds)"
    _, command, settings, cold = CASES[case]
    bench.fresh(settings)
    def computed(): return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    start = computed()
    status = bench.call(command, cold)
    if status: raise SystemExit(f'{case}: status {status}\n{bench.log.read_text()}')
    return snapshot(bench.box, case[0] == 'tune'), bench.events.read_text(errors='surrogateescape').splitlines(), computed()-start


def kill(bench, case, i, ref):
    "The row of the `i`-th kill of a case"
    _, command, settings, cold = CASES[case]
    want, events, seconds = ref
    bench.fresh(settings)
    if i%2: moment = dict(seconds=seconds*random.Random(f'{case}{i}').random())
    else: moment = dict(kill_at=1+int(len(events)*(i//2*GOLDEN%1)))
    first = bench.call(command, cold, **moment)
    where = f'{moment["seconds"]:.2f} s' if i%2 else f'event {moment["kill_at"]} of {len(events)}'
    what = (bench.events.read_text(errors='surrogateescape').splitlines() or ['nothing'])[-1]
    status = bench.call(command, cold)
    line = '' if status == 0 else (bench.log.read_text(errors='replace').strip().splitlines() or [''])[-1]
    if status not in (0, 2): (bench.folder/f'failed-{"-".join(case)}-{i}.txt').write_text(bench.log.read_text(errors='replace'))
    try: got = snapshot(bench.box, case[0] == 'tune')
    except ValueError as e: got, line = {}, f'{line} unreadable: {e}'
    unequal = [k for k in want if got.get(k, b'') != want[k]]
    left = [k for k in got if k not in want]
    return dict(command=case[0], recipe=case[1], kill=i, killed='yes' if first == -9 else f'no ({first})', where=where, what=what,
                status=status, line=line,
                unequal=' '.join(unequal), left=' '.join(left))


def main():
    p = parser(__doc__, default='kills.csv')
    p.add_argument('--folder', required=True, help='for the data and the box; kept for the next call')
    p.add_argument('--n', type=int, default=sum(o[0] for o in CASES.values()), help='kills in all [%(default)s]')
    p.add_argument('--only', default='', help='commands or recipes that have this in their name')
    args = p.parse_args()
    torch.set_num_threads(1)
    store._CHUNK, predict._PART = 16, 16     # so that few galaxies are several chunks
    pages._svg = lambda fig: plt.close(fig) or ''      # most of the time of a report
    bench, rows = Bench(args.folder), read_rows(args.out)
    done = {(o['command'], o['recipe'], int(o['kill'])) for o in rows}
    scale = args.n/sum(o[0] for o in CASES.values())
    left = [(i/share, case, i) for case, (share, *_) in CASES.items() for i in range(round(share*scale)) if args.only in ' '.join(case)]
    refs = {}
    for _, case, i in sorted(left):     # a few of each case before more of any
        if (*case, i) in done: continue
        if case not in refs:
            refs[case] = reference(bench, case)
            print(f'{" ".join(case)}: {len(refs[case][1])} file operations, {refs[case][2]:.1f} s', flush=True)
        rows.append(kill(bench, case, i, refs[case]))
        write_rows(args.out, rows)
        bad = {k: v for k, v in rows[-1].items() if k in ('line', 'unequal', 'left') and v}
        if bad: print(f'  {" ".join(case)} {i}, {rows[-1]["where"]}, {rows[-1]["what"]}: status {rows[-1]["status"]} {bad}', flush=True)
    table = pd.DataFrame(rows)
    table = table[table.killed == 'yes']
    table['equal'] = (table.unequal == '') & (table.left == '') & table.status.astype(str).isin(['0', '2'])
    table['refused'] = table.equal & (table.status.astype(str) == '2')
    counts = table.groupby(['command', 'recipe'])[['equal', 'refused']].agg(['size', 'sum'])
    print(counts['equal'].join(counts['refused'][['sum']], rsuffix=' refused').set_axis(['kills', 'equal', 'refused'], axis=1).to_string())


if __name__ == '__main__': main()
