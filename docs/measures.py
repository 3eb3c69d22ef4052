"""Prints the measures of this repository, a yardstick for making it smaller:

    python docs/measures.py

Lines are non-blank ones, with comments, docstrings and what nbdev writes (`# %%`, `__all__`), but without `_modidx.py`.
Private functions are functions of modules and methods of classes whose names start with one underscore; a call site is
a place that reads the name, in the same module or in one that imports it. Public parameters are those of functions and
methods without an underscore and of `__init__`, but for `self`, `*args` and `**kwargs`. An export cell has prose if a
Markdown cell is directly before it, and an example if the next code cell is visible.
"""
import ast
import json
import re
import sys
from collections import Counter, defaultdict, namedtuple
from pathlib import Path
from statistics import mean, median, quantiles

ROOT = Path(__file__).resolve().parent.parent
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
Module = namedtuple('Module', 'file lines size nodes functions')


def count(lines): return sum(bool(o.strip()) for o in lines)


def percent(part, whole): return f'{100*part/whole:.1f}%'


def read_module(file):
    "A module, with (class or '', function) of functions that are not nested; one that cannot be parsed has only lines"
    lines = file.read_text(encoding='utf-8').splitlines()
    try: tree = ast.parse('\n'.join(lines))
    except SyntaxError as e:
        print(f'{file} line {e.lineno}: {e.msg}; only its lines are counted', file=sys.stderr)
        tree = ast.Module([], [])
    methods = [(o.name, f) for o in tree.body if isinstance(o, ast.ClassDef) for f in o.body]
    functions = [(cls, f) for cls, f in [('', o) for o in tree.body] + methods if isinstance(f, FUNCTION)]
    return Module(file, lines, count(lines), list(ast.walk(tree)), functions)


def wing(file):
    if file.parent.name != 'gz_fastai': return file.parent.name
    return 'commands and all' if file.stem in ('cli', 'all') else 'core'


def length(m, f):
    "Lines of a function with its decorators"
    first = min(o.lineno for o in [f, *f.decorator_list])
    return count(m.lines[first-1:f.end_lineno])


def lines(modules):
    text = [o for m in modules for o in m.lines if o.strip()]
    longest = max(modules, key=lambda m: m.size)
    wings = Counter()
    for m in modules: wings[wing(m.file)] += m.size
    yield 'non-blank lines, no `_modidx`', f'{len(text):,}'
    for name, n in wings.items(): yield f'  {name}', f'{n:,}'
    yield 'modules', sum(not m.file.stem.startswith('_') for m in modules)
    yield '  longest', f'{longest.file.stem}, {longest.size} lines'
    yield 'mean line length', f'{mean(map(len, text)):.1f} characters'
    for n in (120, 160): yield f'  over {n} characters', f'{100*sum(len(o) > n for o in text)/len(text):.2f}%'


def names_read(m):
    loads = [o for o in m.nodes if isinstance(getattr(o, 'ctx', None), ast.Load)]
    names = [o.id for o in loads if isinstance(o, ast.Name)]
    return Counter(names + [o.attr for o in loads if isinstance(o, ast.Attribute)])


def functions(modules):
    lengths = [length(m, o) for m in modules for o in m.nodes if isinstance(o, FUNCTION)]
    reads = {m.file: names_read(m) for m in modules}
    imports = {(m.file, a.name) for m in modules for o in m.nodes if isinstance(o, ast.ImportFrom) for a in o.names}
    def sites(m, name): return sum(n[name] for o, n in reads.items() if o == m.file or (o, name) in imports)
    private = [(m, f) for m in modules for _, f in m.functions if re.match(r'_(?!_)', f.name)]
    single = [length(m, f) for m, f in private if sites(m, f.name) == 1]
    p95 = quantiles(lengths, n=20)[-1]
    yield 'function length, median / p95 / max', f'{median(lengths):.0f} / {p95:.0f} / {max(lengths)} lines'
    yield 'private functions', len(private)
    yield '  with one call site', f'{len(single)}, {percent(sum(single), sum(m.size for m in modules))} of all lines'
    yield '  of them under six lines', sum(o < 6 for o in single)


def interface(modules):
    nodes = [o for m in modules for o in m.nodes]
    raises = sum(isinstance(o, ast.Raise) for o in nodes)
    caught = [ast.unparse(o.type) for o in nodes if isinstance(o, ast.ExceptHandler) and o.type]
    methods = [(m, f) for m in modules for cls, f in m.functions if not cls.startswith('_')]
    public = [(m, f.args) for m, f in methods if f.name == '__init__' or not f.name.startswith('_')]
    params = [(m, o) for m, a in public for o in a.posonlyargs + a.args + a.kwonlyargs if o.arg not in ('self', 'cls')]
    commented = percent(sum('# ' in m.lines[o.end_lineno-1] for m, o in params), len(params))
    annotated = percent(sum(bool(o.annotation) for _, o in params), len(params))
    lists = [o.value for o in nodes if isinstance(o, ast.Assign) and ast.unparse(o.targets[0]) == '__all__']
    yield '`raise` per 100 lines', f'{100*raises/sum(m.size for m in modules):.1f}'
    yield '`except Exception`', caught.count('Exception')
    yield 'public parameters', f'{len(params)}, {commented} with a comment, {annotated} annotated'
    yield 'exported names', sum(len(o.elts) for o in lists if isinstance(o, ast.List))


def kind(cell):
    "export, hidden, visible, or another type of cell"
    directives = re.findall(r'^#\| *(\w+)', ''.join(cell['source']), re.M)
    if cell['cell_type'] != 'code' or 'default_exp' in directives: return cell['cell_type']
    if {'export', 'exporti', 'exports'} & {*directives}: return 'export'
    return 'hidden' if 'hide' in directives else 'visible'


def notebooks(files):
    sizes, found = defaultdict(list), Counter()
    for file in files:
        before = last_code = ''
        for cell in json.loads(file.read_text(encoding='utf-8'))['cells']:
            now = kind(cell)
            sizes[now].append(count(''.join(cell['source']).splitlines()))
            found['prose'] += (before, now) == ('markdown', 'export')
            found['example'] += (last_code, now) == ('export', 'visible')
            types = [o for out in cell.get('outputs', []) for o in out.get('data', {})]
            found['picture'] += now == 'visible' and any(o.startswith('image/') for o in types)
            before = now
            if now != 'markdown': last_code = now
    export, hidden, visible = (sizes[o] for o in ('export', 'hidden', 'visible'))
    yield 'reference notebooks', len(files)
    p90 = quantiles(export, n=10)[-1]
    yield '  export cells', f'{len(export)}, median / p90 {median(export):.0f} / {p90:.0f} lines'
    yield '    with prose before', percent(found['prose'], len(export))
    yield '    with an example after', percent(found['example'], len(export))
    yield '  hidden cells', f'{len(hidden)}, {sum(hidden):,} lines'
    yield '  visible cells', f'{len(visible)}, {sum(visible):,} lines'
    yield '  pictures', found['picture']


def main():
    package = [read_module(o) for o in sorted((ROOT/'gz_fastai').rglob('*.py')) if o.name != '_modidx.py']
    checks = [read_module(o) for o in sorted((ROOT/'tests').glob('test_*.py'))]
    reference = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
    tests = sum(f.name.startswith('test_') for m in checks for _, f in m.functions)
    measures = [*lines(package), *functions(package), *interface(package), *notebooks(reference)]
    measures += [('test files', f'{len(checks)}, {sum(m.size for m in checks):,} lines, {tests} test functions')]
    for name, value in measures: print(f'{name:36} {value}')


if __name__ == '__main__': main()
