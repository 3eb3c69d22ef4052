"""Speed of training: the default step beside fp32, compiled, and stock fastai with a timm ResNet-18; share of the machine's peak.

    python benchmarks/steps.py --data galaxy-zoo [--out steps.csv]

The peak is that of a plain large matrix product in half precision, measured in the same run. A step is forward, loss, backward
and optimizer on a batch that is ready; its share of the peak counts the multiplications of forward (once) and backward
(twice) of convolutions and linear layers, and neither those of the optimizer nor anything else. Contestants take turns, several
rounds, and each one's median counts. The last rows train whole epochs: with loader, callbacks, metrics and logging.
"""
import tempfile

import timm
from fastai.vision.all import *

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.data.loaders import *
from gz_fastai.model.learner import *
from gz_fastai.model.learner import PRECISIONS
from harness import clocked, in_turns, machine, parser, timed, write_rows

SIZE = 64


def peak(precision, device, seconds, n=4096):
    "Floating point operations per second of a large matrix product"
    a, b = [torch.randn(n, n, device=device, dtype=PRECISIONS[precision] or torch.float32) for _ in range(2)]
    return 2*n**3/timed(lambda: a@b, seconds, device)


def operations(model, device):
    "Floating point operations of a training step per image, those of convolutions and linear layers"
    total = 0
    def count(m, _, out):
        nonlocal total
        if isinstance(m, (nn.Conv2d, nn.Linear)): total += 2*out[0].numel()*m.weight[0].numel()
    hooks = [m.register_forward_hook(count) for m in model.modules()]
    with torch.no_grad(): model.eval()(torch.zeros(1, 3, SIZE, SIZE, device=device))
    for h in hooks: h.remove()
    model.train()
    return 3*total


def stepper(learn, bs):
    "A function that does one training step of `learn`, on one batch"
    x, y = first(learn.dls.train)
    x, y = x.as_subclass(Tensor), y.as_subclass(Tensor)
    if any(isinstance(c, ChannelsLast) for c in learn.cbs): learn.model.to(memory_format=torch.channels_last); x = x.contiguous(memory_format=torch.channels_last)
    half = next((PRECISIONS[c.amp_mode.value] for c in learn.cbs if isinstance(c, MixedPrecision)), None)
    learn.create_opt(); learn.model.train()
    def step():
        with torch.autocast(x.device.type, dtype=half, enabled=half is not None): out = learn.model(x)
        learn.loss_func(out, y).backward()
        learn.opt.step(); learn.opt.zero_grad()
    return step


def main():
    p = parser(__doc__, help='CSV to write')
    p.add_argument('--data', help='folder with images and labels; default: the synthetic sample')
    p.add_argument('--bs', type=int, default=128)
    p.add_argument('--seconds', type=float, default=6, help='how long each contestant runs in a round')
    p.add_argument('--rounds', type=int, default=3)
    args = p.parse_args()
    cat = Catalog(args.data) if args.data else Catalog.sample()
    dls = GalaxyDataLoaders.from_catalog(cat, size=SIZE, bs=args.bs)
    device, best = dls.device, auto_precision(dls.device)[0]
    path = tempfile.mkdtemp()
    plain = lambda arch, **kw: Learner(dls, timm.create_model(arch, num_classes=dls.c), loss_func=MSELossFlat(), opt_func=Adam, path=path)
    learners = {f'vgg7, {best}, Muon: the default': galaxy_learner(dls, path=path), f'vgg7, {best}, Adam': galaxy_learner(dls, opt='adam', path=path),
                f'vgg7, {best}, Muon, compiled': galaxy_learner(dls, path=path, compile=True),
                'vgg7, fp32, Adam': galaxy_learner(dls, opt='adam', precision='fp32', path=path), 'stock fastai, resnet18, fp32, Adam': plain('resnet18')}
    fp32 = galaxy_learner(dls, opt='adam', precision='fp32', path=path)
    fp32.remove_cbs([c for c in fp32.cbs if isinstance(c, ChannelsLast)])
    learners['vgg7, fp32, Adam, channels first'] = fp32
    work = {k: operations(o.model, device) for k, o in learners.items()}
    def rate(step): return lambda: args.bs/timed(step, args.seconds, device)
    contestants = dict(peak=lambda: peak(best, device, args.seconds)) | {k: rate(stepper(o, args.bs)) for k, o in learners.items()}
    rounds, med = in_turns(contestants, args.rounds)
    top = med.pop('peak')
    print(f'{cat}\n{machine(device)}\nbatches of {args.bs}; peak {top/1e9:,.0f} GFLOP/s in {best} ({" ".join(f"{o/1e9:,.0f}" for o in rounds["peak"])})')
    print(f'{"bare step":<38}{"images/s":>9}{"of peak":>9}   rounds')
    rows = [dict(what=f'bare step: {k}', images_per_second=round(v, 1), share_of_peak=round(v*work[k]/top, 3)) for k, v in med.items()]
    for k, v in med.items(): print(f'{k:<38}{v:>9,.0f}{v*work[k]/top:>9.0%}   {" ".join(f"{o:,.0f}" for o in rounds[k])}')
    print('whole epochs')
    for k in list(learners)[:2]:
        learn = learners[k]
        learn.opt = None
        with learn.no_bar(): took = clocked(lambda: learn.fit_one_cycle(2))[1]/2
        seen = len(dls.train)*args.bs + len(dls.valid_ds)/3
        rows.append(dict(what=f'whole epoch: {k}', images_per_second=round(len(dls.train)*args.bs/took, 1), share_of_peak=round(seen*work[k]/took/top, 3)))
        print(f'{k:<38}{len(dls.train)*args.bs/took:>9,.0f}{seen*work[k]/took/top:>9.0%}   {took:.1f} s an epoch, its validation included')
    if args.out: write_rows(args.out, [o | dict(peak_gflops=round(top/1e9)) for o in rows])


if __name__ == '__main__': main()
