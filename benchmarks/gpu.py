"""How fast a machine runs this package, in at most 20 minutes: decoding, loading, training, predicting, memory, share of the peak.

    python benchmarks/gpu.py --out gpu [--data GALAXIES --valid CSV --crop 180]
    python benchmarks/gpu.py --out tiny --n 300 --side 32 --seconds .2 --archs vgg7 --bs 16      # to try it on a CPU

The galaxies are those of a synthetic sample, repeated with IDs of their own until there are as many as in the competition. With
--data, VGG7 is also trained on real galaxies and scored on the IDs of --valid. Each result is a row of OUT/gpu.csv, and OUT/gpu.json
has them with the machine, written after every row; a measurement that fails, or that there was no time for, is a row with the reason.
Images a second are those of whole batches that are ready, unless the row says otherwise; the share of the peak, at 64 px, counts the
multiplications of convolutions and linear layers in a training step, beside a large matrix product in the same precision.
"""
import subprocess, time
from pathlib import Path

from fastai.vision.all import *

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.data.loaders import *
from gz_fastai.data.sample import *
from gz_fastai.data.schema import *
from gz_fastai.data.store import *
from gz_fastai.inference.predictor import *
from gz_fastai.model.learner import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *
from harness import clocked, machine, parser, repeated, timed, wait, write_rows
from steps import operations, peak, stepper


STEPS = ('bf16', 'muon', False), ('bf16', 'adam', False), ('bf16', 'adam', True), ('fp16', 'adam', False), ('fp32', 'muon', False), ('fp32', 'adam', False)


class Report:
    "Rows that are written as they come, until the time is up"
    def __init__(self, out, minutes, machine): self.out, self.machine, self.rows, self.end = out, machine, [], time.time()+60*minutes

    def add(self, what, f, **more):
        "The row of a measurement; None where it failed or came too late"
        res, row = None, dict(what=what, **more)
        if time.time() > self.end: row |= dict(problem='no time was left')
        else:
            begun = time.time()
            try: res = f()
            except Exception as e: row |= dict(problem=f'{type(e).__name__}: {first_line(e)}'[:300])
            if isinstance(res, dict): row |= res
            row['took'] = round(time.time()-begun, 1)
        self.rows.append(row)
        print(row, flush=True)
        write_json(self.out/'gpu.json', dict(machine=self.machine, rows=self.rows))
        write_rows(self.out/'gpu.csv', self.rows)
        return res


def memory(device):
    "The most memory that was used since the last call, GB"
    if device.type != 'cuda': return {}
    most = torch.cuda.max_memory_allocated()/1e9
    torch.cuda.empty_cache(), torch.cuda.reset_peak_memory_stats()
    return dict(gb=round(most, 2))


def loading(dls, seconds, device):
    "Batches of an epoch, until the time is up"
    begun = n = 0
    for x, *_ in dls.train:
        if not begun:
            wait(device)
            begun = time.perf_counter()
            continue
        n += len(x)
        if time.perf_counter()-begun > seconds: break
    wait(device)
    return dict(images_per_second=round(n/(time.perf_counter()-begun)))


def step(dls, arch, precision, opt, compiled, seconds, peaks, path):
    "Training steps of a network"
    memory(dls.device)
    learn = galaxy_learner(dls, arch, precision=precision, opt=opt, compile=compiled, path=path)
    f, work = stepper(learn, dls.bs), operations(learn.model, dls.device) if dls.size == 64 else None
    rate = dls.bs/timed(f, seconds, dls.device)
    share = dict(share_of_peak=round(rate*work/peaks[precision], 3)) if work and precision in peaks else {}
    return dict(images_per_second=round(rate, 1)) | share | memory(dls.device)


def epoch(cat, dls, path):
    "A whole epoch by the default recipe, with loader, callbacks and validation; the run of its network"
    learn = galaxy_learner(dls, path=path)
    with learn.no_bar(): _, took = clocked(lambda: learn.fit_one_cycle(1))
    run = run_from_learner(learn, cat, path/f'epoch-{dls.size}-{time.time():.0f}')
    return run, dict(seconds=round(took, 1), images_per_second=round(len(cat.train)/took)) | memory(dls.device)


def predicting(run, pixels, views, bs, seconds):
    "Pixels to fractions"
    predictor = Predictor(run, views=views)
    batch = np.ascontiguousarray(pixels[:bs])
    return dict(images_per_second=round(len(batch)/timed(lambda: predictor(batch), seconds, predictor.device), 1)) | memory(predictor.device)


def real(args):
    "VGG7 on real galaxies, by the default recipe"
    run = train(Config(data=args.data, valid=args.valid, crop=args.crop, out=str(args.out/'real')))
    return {k: run.metrics[k] for k in ('rmse', 'interval', 'galaxies', 'seconds')}


def flagged():
    "The cells of the notebooks that need CUDA"
    nbs = Path(__file__).parent.parent/'nbs'
    some = [o for o in sorted(nbs.glob('*.ipynb')) if '"#| cuda' in o.read_text()]
    res = [subprocess.run(['nbdev_test', '--flags', 'cuda', '--path', str(o)], capture_output=True, text=True) for o in some]
    if bad := [o.stem for o, r in zip(some, res) if r.returncode]: raise RuntimeError(f'failed: {", ".join(bad)}')
    return dict(notebooks=len(some))


def main():
    p = parser(__doc__, required=True)
    p.add_argument('--data'), p.add_argument('--valid'), p.add_argument('--crop', type=int, default=180)
    p.add_argument('--n', type=int, default=61578), p.add_argument('--some', type=int, default=2000, help='different galaxies among them')
    p.add_argument('--side', type=int, default=128, help='of the larger views, pixels')
    p.add_argument('--archs', default='vgg7,resnet50,convnext_tiny'), p.add_argument('--bs', type=int, default=512)
    p.add_argument('--seconds', type=float, default=4, help='for each rate'), p.add_argument('--minutes', type=float, default=18)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.out = args.out.resolve()
    device = checked_device()
    report = Report(args.out, args.minutes, machine(device) | dict(bs=args.bs, galaxies=args.n))
    gpu = device.type == 'cuda'
    peaks, size = {}, 8192 if gpu else 1024
    for o in ('fp32', 'bf16', 'fp16') if gpu else [auto_precision(device)[0]]:
        res = report.add('peak of a matrix product', lambda: dict(gflops=round(peak(o, device, args.seconds, size)/1e9)), precision=o)
        if res: peaks[o] = 1e9*res['gflops']
    cat = report.add('sample', lambda: repeated(Catalog(make_sample(min(args.n, args.some))), args.n))
    for side in (64, args.side):
        def build():
            build.store, took = clocked(lambda: Store.open(cat.files, size=side, folder=args.out/'stores'))
            return dict(images_per_second=round(len(build.store)/took), gb=round(build.store.pixels.nbytes/1e9, 2))
        report.add('decoding and storing JPEGs of 424 px', build, size=side)
        def loaders(**kw): return GalaxyDataLoaders.from_catalog(cat, size=side, bs=args.bs, store=build.store, device=device, **kw)
        report.add('loading, views and normalization', lambda: loading(loaders(batch_tfms=[]), args.seconds, device), size=side)
        dls = loaders()
        report.add('loading, with augmentation', lambda: loading(dls, args.seconds, device), size=side)
        for arch in args.archs.split(','):
            for precision, opt, compiled in STEPS:
                if not gpu and precision not in peaks: continue      # a CPU would emulate it
                report.add('training step', lambda: step(dls, arch, precision, opt, compiled, args.seconds, peaks, args.out), size=side, arch=arch, precision=precision, opt=opt, compiled=compiled)
        trained = []
        def whole():
            run, res = epoch(cat, dls, args.out)
            trained.append(run)
            return res
        report.add('epoch by the default recipe, vgg7', whole, size=side)
        for views in (1, 16): report.add('prediction from stored pixels, vgg7', lambda: predicting(trained[0], build.store.pixels, views, args.bs, args.seconds), size=side, views=views)
    if gpu: report.add('cells that need CUDA', flagged)
    if args.data: report.add('vgg7 on real galaxies, default recipe', lambda: real(args))


if __name__ == '__main__': main()
