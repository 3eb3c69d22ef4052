"""Real tables of Galaxy Zoo's campaigns, where `GZ_FASTAI_SURVEYS` names a folder of them, each against an independent computation; and every
label form by the names of its columns, made from votes that flow down each tree."""
import gzip
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from gz_fastai.core import BadInput
from gz_fastai.data.audit import audit_folder
from gz_fastai.data.campaigns import CAMPAIGNS, match_campaigns
from gz_fastai.data.tables import read_table
from gz_fastai.data.schema import GZ2, Question, Schema
from gz_fastai.data.labels import convert_labels, read_labels, to_labels, write_table


@pytest.fixture(scope='session')
def surveys():
    "The folder of real tables"
    folder = os.environ.get('GZ_FASTAI_SURVEYS')
    if not folder: pytest.skip('GZ_FASTAI_SURVEYS is not set')
    return Path(folder)


TABLE_5 = 'gz2_table5_stripe82coadd.csv.gz'


@pytest.fixture(scope='session')
def gz2(surveys): return read_labels(surveys/TABLE_5)


@pytest.fixture(scope='session')
def gz2_raw(surveys): return pd.read_csv(surveys/TABLE_5, dtype=dict(objid=str))


def columns_of(raw, task, kind):
    "The columns of a task in the catalog of Galaxy Zoo 2, in the order of its answers"
    return [c for c in raw if re.fullmatch(rf't{task:02}_.*_a\d+_.*_{kind}', c) and not ('weighted' in c and kind == 'fraction')]


# The tasks of the catalog in the order of our questions, which is that of Kaggle's columns
TASKS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_table_5_is_read_as_it_is_published(gz2, gz2_raw):
    "All rows; the fractions of those who were asked are the published ones wherever the published row is consistent"
    assert (len(gz2), gz2.schema.name, len(gz2.schema), len(gz2.found), gz2.notes) == (19761, 'gz2-catalogue', 37, 0, [])
    assert gz2.ids.tolist() == gz2_raw.objid.tolist() and {len(o) for o in gz2.ids} <= {18, 19}
    rates = gz2.rates.set_index(['kind', 'question'])
    consistent = 0
    for task, s, q in zip(TASKS, gz2.schema.slices, gz2.schema.questions, strict=True):
        count, published = [gz2_raw[columns_of(gz2_raw, task, k)].to_numpy(float) for k in ('count', 'fraction')]
        np.testing.assert_array_equal(gz2.counts[:, s], count)
        total = count.sum(1)
        asked = total > 0
        ours = (gz2.counts[:, s]/np.maximum(total, 1)[:, None])[asked]
        wrong = np.abs(count[asked]/total[asked, None]-published[asked]).max(1)
        assert (rates.rows['fraction', q.text], rates.of['fraction', q.text]) == ((wrong > .002).sum(), asked.sum())
        right = wrong < .001        # three decimals, rounded twice
        np.testing.assert_allclose(ours[right], published[asked][right], atol=.00101)
        consistent += right.sum()
    assert consistent > 120_000


def test_inconsistent_rows_are_counted(gz2, gz2_raw):
    "The published fractions are the weighted ones: 48% of the rows of the first task are not count/total; 113 of t02 have one vote and fraction 0"
    for task in TASKS: assert (gz2_raw[columns_of(gz2_raw, task, 'fraction')].to_numpy() == gz2_raw[columns_of(gz2_raw, task, 'weighted_fraction')].to_numpy()).all()
    by = gz2.rates.set_index(['kind', 'question'])
    first, second = gz2.schema.questions[0].text, gz2.schema.questions[1].text
    assert round(by.rows['fraction', first]/by.of['fraction', first], 2) == .48
    count, fraction = [gz2_raw[columns_of(gz2_raw, 2, k)].sum(axis=1) for k in ('count', 'fraction')]
    unsaid = ((count > 0) & (fraction == 0)).to_numpy()
    assert unsaid.sum() == 116 and (count[unsaid] == 1).sum() == 113
    assert (gz2.totals[unsaid, 1] > 0).all() and by.rows['fraction', second] >= 116
    shares = by.rows['parent']/by.of['parent']
    assert shares.min() > .002 and shares.max() < .05
    np.testing.assert_array_equal(gz2.totals[:, 0], gz2_raw.total_classifications)
    np.testing.assert_array_equal(gz2.totals.sum(1), gz2_raw.total_votes)


def test_table_5_goes_from_form_to_form(gz2, tmp_path):
    for form in ('counts', 'conditional'):
        write_table(convert_labels(gz2, form), tmp_path/'x.parquet')
        again = read_labels(tmp_path/'x.parquet')
        np.testing.assert_array_equal(again.counts, gz2.counts)
        np.testing.assert_array_equal(again.fractions, gz2.fractions)
        assert again.ids.tolist() == gz2.ids.tolist() and not len(again.found)
    write_table(convert_labels(gz2, 'kaggle'), tmp_path/'x.csv')
    kaggle = read_labels(tmp_path/'x.csv')
    assert (len(kaggle), kaggle.form, len(GZ2.audit(pd.DataFrame(kaggle.fractions, columns=GZ2.columns), tol=1e-4))) == (19761, 'fractions of all volunteers', 0)
    for q, (ours, theirs) in enumerate(zip(gz2.schema.slices, GZ2.slices)):
        asked = (gz2.totals[:, q] > 0) & (q not in (5, 7))      # Kaggle asks everybody whether it is odd
        np.testing.assert_allclose(kaggle.fractions[asked][:, theirs], gz2.fractions[asked][:, ours], atol=1e-6)


def test_check_says_what_table_5_is(gz2, surveys, tmp_path):
    shutil.copy(surveys/TABLE_5, tmp_path)
    (tmp_path/'images').mkdir()
    for i in gz2.ids[:3]: (tmp_path/'images'/f'{i}.jpg').write_bytes(b'')
    res = audit_folder(tmp_path)
    kinds = {o['kind'] for o in res['findings']}
    assert (res['campaign'], res['rows'], kinds) == ('gz2-catalogue', 19761, {'missing image'}) and len(res['findings']) == 19758
    first = gz2.totals[:, 0]
    assert (res['votes']['low'], res['votes']['median'], res['votes']['high']) == (first.min(), np.median(first), first.max())
    assert sum(res['votes']['histogram']['galaxies']) == 19761
    json.dumps(res)


def test_panoptes(surveys):
    labels, raw = read_labels(surveys/'panoptes.csv'), pd.read_csv(surveys/'panoptes.csv', dtype=dict(id_str=str))
    names = [f'smooth-or-featured_{o}' for o in ('smooth', 'featured-or-disk', 'artifact')]
    assert (len(labels), labels.schema.name, labels.schema.id_column, labels.schema.columns) == (4000, 'decals-dr5', 'id_str', [o.replace('_', '-dr5_') for o in names])
    np.testing.assert_array_equal(labels.counts, raw[names])
    np.testing.assert_allclose(labels.fractions, raw[[f'{o}_fraction' for o in names]], atol=1e-6)
    np.testing.assert_array_equal(labels.totals[:, 0], raw['smooth-or-featured_total-votes'])
    assert not labels.rates.rows.any() and labels.ids.tolist() == raw.id_str.tolist()


def test_decals(surveys):
    file = surveys/'tables'/'decals_panoptes_reduced_6rows.csv'
    labels, raw = read_labels(file), pd.read_csv(file)
    for q, s in zip(labels.schema.questions, labels.schema.slices):
        names = [c.replace('-dr5', '') for c in labels.schema.columns[s]]
        np.testing.assert_array_equal(labels.counts[:, s], raw[names])
        total = raw[names[0].rpartition('_')[0]+'_total-votes']
        np.testing.assert_array_equal(labels.counts[:, s].sum(1), total)
        said = labels.counts[:, s]/np.maximum(1, total.to_numpy())[:, None]
        np.testing.assert_allclose(said, raw[[f'{o}_fraction' for o in names]].fillna(0), atol=1e-6)
    assert labels.notes == ['1 question left out, since nobody was asked: Is it merging or disturbed?']


def test_rings(surveys):
    labels, raw = read_labels(surveys/'example_ring_catalog_basic.csv'), pd.read_csv(surveys/'example_ring_catalog_basic.csv')
    assert (labels.schema.name, len(labels), labels.counts) == ('rings', 470, None)
    np.testing.assert_allclose(labels.fractions, np.stack([raw.ring, 1-raw.ring], 1), atol=1e-6)
    published = to_labels(pd.DataFrame(dict(id_str=['100002_3270'], ring_fraction=[.6], ring_yes=[6.], ring_no=[4.], total_votes=[10])))
    assert (published.counts.tolist(), published.fractions.round(6).tolist(), published.rates.rows.sum()) == ([[6, 4]], [[np.float32(.6), np.float32(.4)]], 0)


# Tables that are printed in papers

def printed_candels(surveys):
    "The rows of CANDELS that are printed, as the catalog has them"
    text = (surveys/'gzcandels_table_rows.tex').read_text().replace('\\_', '_')
    rows = {}
    for line in text.splitlines():
        name, *cells = [re.sub(r'\{\\small |[\\}$]', '', o).strip() for o in line.split('&')]
        if cells and re.match(r't\d\d_|ID$|RA$|Dec$|num_', name): rows[name] = cells[:6]
    return pd.DataFrame({k: v if k == 'ID' else [float(o) for o in v] for k, v in rows.items()})


def test_candels(surveys, tmp_path):
    "Counts follow from fractions of two decimals and totals; those that are no whole numbers stay as they are"
    table = printed_candels(surveys)
    table.to_csv(tmp_path/'candels.csv', index=False)
    labels, again = read_labels(tmp_path/'candels.csv'), read_labels(surveys/'tables'/'gz_candels_6rows.csv')
    assert (labels.schema.name, len(labels.schema.questions), labels.ids.tolist()) == ('candels', 17, table.ID.tolist())
    assert labels.ids.tolist() == again.ids.tolist()
    np.testing.assert_allclose(labels.counts, again.counts, atol=1e-5)
    names = sorted(c for c in table if re.fullmatch(r't\d\d_\w+_a\d_\w+_frac', c) and 'weighted' not in c)
    for task in range(17):
        here = [c for c in names if c.startswith(f't{task:02}_')]
        total = table[re.sub(r'_a\d_.*', '_count', here[0])].to_numpy()
        want = table[here].to_numpy()*total[:, None]
        s = next(s for s in labels.schema.slices if s.stop-s.start == len(here) and np.allclose(labels.counts[:, s], want, atol=.0051*max(total)+1e-4))
        got = labels.counts[:, s]
        assert (np.abs(got-want) <= .0051*total[:, None]+1e-5).all()                  # as near as two decimals say
        right = np.abs(want-want.round()) <= .005*total[:, None]
        np.testing.assert_allclose(got[right], want.round()[right], atol=1e-5)       # and whole where they may be
        assert (got[total == 0] == 0).all()
    off = labels.rates[(labels.rates.kind == 'total') & (labels.rates.rows > 0)]
    assert off.question.tolist() in ([], ['How many clumps are there?'])               # GDS_17388: 4/8, 1/8, 3/8 of 6 votes


def test_hubble(surveys, tmp_path):
    "The printed rows give one answer's fraction and the number of votes"
    text = (surveys/'tables'/'gz_hubble_rows.tex').read_text()
    cells = [[o.strip() for o in line.split('&')] for line in re.findall(r'^A[HG]Z.*', text, re.M)]
    n, f, weighted = np.array([[float(o) for o in row[4:7]] for row in cells]).T
    t = 't01_smooth_or_features_'
    table = pd.DataFrame({'zooniverse_id': [o[0] for o in cells], 'survey_id': [o[1] for o in cells], f'{t}total_count': n.astype(int), f'{t}a01_smooth_fraction': f,
                          f'{t}a01_smooth_weighted_fraction': weighted, f'{t}a01_smooth_debiased': [o[7].replace('$-$', '-') for o in cells]})
    with pytest.raises(BadInput, match='has a column t01_smooth_or_features_a01_smooth_fraction, but none like'): to_labels(table)
    for k, smooth in (('fraction', f), ('weighted_fraction', weighted)):
        table[f'{t}a02_features_or_disk_{k}'], table[f'{t}a03_star_or_artifact_{k}'] = (1-smooth).round(3), 0.
    table.to_csv(tmp_path/'hubble.csv', index=False)
    labels = read_labels(tmp_path/'hubble.csv')
    assert (len(labels), labels.schema.name, labels.schema.id_column, labels.form) == (10, 'hubble', 'survey_id', 'votes per answer')
    assert labels.ids[0] == '10010842' and not labels.rates.rows.any()
    whole = np.where(f == .205, n*f, (n*f).round())        # 8.2 of 40 is not a valid vote count
    np.testing.assert_allclose(labels.counts, np.stack([whole, n-whole, 0*n], 1), atol=1e-5)
    np.testing.assert_allclose(labels.fractions[:, 0], f, atol=.00051)                # raw, neither weighted nor debiased
    only = table[[c for c in table if not c.endswith('_fraction') or 'weighted' in c]]
    np.testing.assert_allclose(to_labels(only).counts[:, 0], n*weighted, atol=1e-4)


# The trees as galaxy-datasets publishes them

AFTER_EDGE_ON = 'in the catalog, its votes are as many as those for not edge-on'
AFTER_SPIRAL = 'asked of those who saw spiral arms'
NOT_ARTIFACTS = 'asked after smooth and after featured; theirs can name one parent only, and has none'
CLUMPS = 'theirs leaves the question out, since it follows several answers'
NO_QUESTION = 'a dependency of a question that is not there'
BEFORE = dict(gz2='gz2-catalogue', dr12='decals-dr12', dr5='decals-dr5', dr8='desi', desi='desi', rings='rings', hubble='hubble', hubble_v2='hubble', candels='candels',
              cosmic_dawn='cosmic-dawn', euclid='euclid', jwst='jwst', jwst_cosmos='jwst', ukidss='ukidss')


def expected_differences(name):
    "What differs between a published tree and ours: question -> (kind, reason)"
    clumps = 'clump-count clump-arrangement brightest-clump brightest-clump-central'.split()
    bars = 'has-spiral-arms bar bulge-size'.split()
    arms = 'spiral-winding spiral-arm-count'.split()
    if name in ('gz2', 'ukidss'):
        res = dict.fromkeys(bars, ('parents', AFTER_EDGE_ON)) | {'something-odd': ('parents', NOT_ARTIFACTS), 'edge-on-bulge': ('no question', NO_QUESTION)}
        return res | ({'odd-feature': ('missing', 'its 7 answers are dropped')} if name == 'gz2' else {})
    if name in ('hubble', 'hubble_v2', 'candels'):
        res = dict.fromkeys(arms, ('parents', AFTER_SPIRAL)) | dict.fromkeys(clumps, ('missing', CLUMPS))
        res |= {'bulge-size': ('parents', 'asked after no spiral arms, or after their number'), 'has-spiral-arms': ('parents', 'asked after either answer on the bar')}
        if name == 'candels': return res | dict.fromkeys(['galaxy-symmetrical', 'clumps-embedded-larger-object'], ('missing', CLUMPS)) | {'merging': ('parents', NOT_ARTIFACTS)}
        res |= {'bar': ('parents', 'asked after clumps in a spiral too')} | dict.fromkeys(['something-odd', 'odd-feature'], ('missing', 'not taken over')) | {'edge-on-bulge': ('no question', NO_QUESTION)}
        if name == 'hubble': return res | dict.fromkeys(['galaxy-symmetrical', 'clumps-embedded-larger-object'], ('parents', 'not asked of all who saw clumps'))
        return res | dict.fromkeys(['clumpy-appearance', 'galaxy-symmetrical', 'clumps-embedded-larger-object'], ('missing', 'without the clumps')) | {
            'disk-edge-on': ('parents', 'asked after not clumpy, a question that is left out')}
    res = {} if name == 'rings' else {'merging': ('parents', NOT_ARTIFACTS)}
    if name.startswith('jwst'): res['clumps'] = ('parents', 'asked after not edge-on, as in Cosmic Dawn; defined twice, the second time without a parent')
    if name == 'jwst_cosmos': res['how-rounded'] = ('missing', 'left out, with its parent smooth still there')
    return res


def bare(column): return re.sub(r'-(gz2|dr12|dr5|dr8|hubble|candels|cd|euclid|jwst|ukidss)$', '', column)


def bare_answer(column):
    q, _, a = column.rpartition('_')
    return f'{bare(q)}_{a}'


def differences(tree, schema):
    "question -> kind of difference between a published tree and ours"
    pairs = {bare(q): [o.lstrip('_') for o in answers] for q, answers in tree['pairs'].items()}
    theirs = {bare(q): p and bare_answer(p) for q, p in tree['dependencies'].items() if bare(q) in pairs or not re.search('-dr(12|5|8)$', q)}
    res = {q: 'no question' for q in theirs if q not in pairs}
    for s, parents in zip(schema.slices, schema.parents):
        q = bare(schema.columns[s.start].rpartition('_')[0])
        if q not in pairs: res[q] = 'missing'
        elif {o.rpartition('_')[2] for o in schema.columns[s]} != set(pairs[q]): res[q] = 'answers'
        elif {bare_answer(schema.columns[p]) for p in parents} != ({theirs[q]} if theirs[q] else set()): res[q] = 'parents'
    return res | {q: 'more' for q in pairs if q not in {bare(c.rpartition('_')[0]) for c in schema.columns}}


@pytest.fixture(scope='session')
def published_trees(surveys): return json.loads((surveys/'tables'/'galaxy_datasets_trees_as_published.json').read_text())


@pytest.mark.parametrize('name', BEFORE)
def test_published_trees(published_trees, name):
    "Each difference from ours is listed above, with its reason"
    assert set(BEFORE) == set(published_trees)
    got = differences(published_trees[name], CAMPAIGNS[BEFORE[name]].schema)
    assert got == {q: kind for q, (kind, _) in expected_differences(name).items()}


def votes_by_answer(labels):
    return {bare_answer(c): v for c, v in zip(labels.schema.columns, labels.counts.T)}


def flows(labels, question, parents):
    "How often a question has as many votes as the answers that are said to lead to it, of the galaxies with either"
    votes = votes_by_answer(labels)
    own = sum(v for k, v in votes.items() if k.rpartition('_')[0] == question)
    above = sum(votes[p] for p in parents)
    either = (own > 0) | (above > 0)
    return (np.abs(own-above) <= .5)[either].mean()


def test_questions_on_disks_follow_not_edge_on(gz2, published_trees):
    "Published trees of Galaxy Zoo 2 ask all who saw a disk"
    tree = published_trees['gz2']['dependencies']
    for q in ('bar', 'has-spiral-arms', 'bulge-size'):
        ours, theirs = flows(gz2, q, ['disk-edge-on_no']), flows(gz2, q, [bare_answer(tree[f'{q}-gz2'])])
        assert ours > .985 and theirs < .75, (q, ours, theirs)


def test_odd_follows_smooth_or_featured(gz2):
    "A question without a parent is asked of everybody, those who saw an artifact too"
    whole = ['smooth-or-featured_smooth', 'smooth-or-featured_featured-or-disk']
    assert flows(gz2, 'something-odd', whole) > .96 > .6 > flows(gz2, 'something-odd', [*whole, 'smooth-or-featured_artifact'])
    assert flows(gz2, 'odd-feature', ['something-odd_yes']) > .985        # a question that the published tree leaves out


def test_arms_follow_spiral_in_candels(surveys):
    labels = read_labels(surveys/'tables'/'gz_candels_6rows.csv')
    for q in ('spiral-winding', 'spiral-arm-count'):
        assert flows(labels, q, ['has-spiral-arms_yes']) == 1 > .5 > flows(labels, q, ['disk-edge-on_no'])
    for q, parents in (('merging', ['smooth-or-featured_smooth', 'smooth-or-featured_features']), ('disk-edge-on', ['clumpy-appearance_no'])): assert flows(labels, q, parents) == 1
    assert flows(labels, 'merging', ['smooth-or-featured_smooth', 'smooth-or-featured_features', 'smooth-or-featured_artifact']) == 0
    assert flows(labels, 'bulge-size', [f'has-spiral-arms_{o}' for o in ('yes', 'no')]) == 1      # all who answered, by either way


def test_clumps_in_candels(surveys):
    "Questions on clumps follow several answers: four, two and one of each are asked"
    labels = read_labels(surveys/'tables'/'gz_candels_6rows.csv')
    counts = [f'clump-count_{o}' for o in ('3', '4', '5-plus', 'cant-tell')]
    brightest = ['clump-count_2', *(f'clump-arrangement_{o}' for o in ('line', 'chain', 'cluster', 'spiral'))]
    symmetrical = ['clump-count_1', 'brightest-clump_no', 'brightest-clump-central_yes']
    for q, parents in (('clump-count', ['clumpy-appearance_yes']), ('clump-arrangement', counts), ('brightest-clump', brightest), ('galaxy-symmetrical', symmetrical),
                       ('brightest-clump-central', ['brightest-clump_yes'])):
        assert flows(labels, q, parents) >= (.8 if q in ('clump-arrangement', 'galaxy-symmetrical') else 1), q
    assert flows(labels, 'clumps-embedded-larger-object', ['galaxy-symmetrical_yes', 'galaxy-symmetrical_no']) == 1
    assert flows(labels, 'galaxy-symmetrical', ['clumpy-appearance_yes']) < .5        # as Hubble's published tree has it


# Every form, by the names of its columns

def flow(schema, n=30, volunteers=40, seed=0):
    "Votes that flow exactly down a tree"
    rng, v = np.random.default_rng(seed), np.zeros((n, len(schema)))
    for s, p in zip(schema.slices, schema.parents):
        asked = v[:, list(p)].sum(1).astype(int) if p else np.full(n, volunteers)
        v[:, s] = rng.multinomial(asked, rng.dirichlet(np.ones(s.stop-s.start), n))
    return v


IDS = [str(1237650372092690464+i) for i in range(30)]


def of_form(schema, form, tagged=True):
    "(table, votes) of a campaign in the form of galaxy-datasets or of the hub"
    v = flow(schema)
    names = [c if tagged else bare_answer(c) for c in schema.columns]
    table = pd.DataFrame(v.astype(int), columns=names)
    with np.errstate(invalid='ignore', divide='ignore'):
        for s in schema.slices:
            total = v[:, s].sum(1)
            table[f'{names[s.start].rpartition("_")[0]}_total-votes'] = total.astype(int)
            for c, name in zip(range(s.start, s.stop), names[s]): table[f'{name}_fraction'] = v[:, c]/total
    if form == 'fractions': table = table.drop(columns=names)
    return table.assign(id_str=IDS, ra=1.5, dec=2.5, **{'smooth-or-featured_smooth_debiased': .5, 'sample': 'a, b'}), v


def written(table, file):
    if file.suffix == '.parquet': table.to_parquet(file)
    elif file.suffix == '.fits': Table.from_pandas(table).write(file)
    else:
        text = table.to_csv(index=False, sep='\t' if '.tsv' in file.name else ',').encode()
        file.write_bytes(gzip.compress(text) if file.suffix == '.gz' else text)
    return file


@pytest.mark.parametrize('name', [o for o in CAMPAIGNS if o != 'gz2'])
def test_every_campaign_by_names_in_any_order(name, tmp_path):
    schema = CAMPAIGNS[name].schema
    rng = np.random.default_rng(1)
    for form in ('counts', 'fractions'):
        table, v = of_form(schema, form)
        table = table[rng.permutation(table.columns)]
        for suffix in ('csv', 'tsv', 'csv.gz', 'tsv.gz', 'parquet', 'fits'):
            labels = read_labels(written(table, tmp_path/f'{form}.{suffix}'))
            kept = [schema.columns.index(c) for c in labels.schema.columns]
            assert labels.schema.name == name and v[:, [c for c in range(len(schema)) if c not in kept]].sum() == 0
            np.testing.assert_array_equal(labels.counts, v[:, kept])
            np.testing.assert_allclose(labels.fractions, schema.fractions(v)[:, kept], atol=1e-6)
            assert labels.ids.tolist() == IDS and not len(labels.found) and not labels.rates.rows.any()


@pytest.mark.parametrize('name', ['decals-dr5', 'decals-dr12', 'cosmic-dawn', 'euclid', 'jwst', 'gz2-catalogue', 'hubble', 'candels'])
def test_names_without_their_campaign(name):
    "The questions and answers themselves tell most campaigns apart"
    table, v = of_form(CAMPAIGNS[name].schema, 'counts', tagged=False)
    labels = to_labels(table)
    assert labels.schema.name == name
    np.testing.assert_array_equal(labels.counts, v[:, [CAMPAIGNS[name].schema.columns.index(c) for c in labels.schema.columns]])


def test_the_hub_with_images_inside(tmp_path):
    table, v = of_form(CAMPAIGNS['desi'].schema, 'counts')
    table['image'] = [dict(bytes=b'\xff\xd8', path=f'{i}.jpg') for i in IDS]
    labels = read_labels(written(table, tmp_path/'train.parquet'))
    np.testing.assert_array_equal(labels.counts, v)
    assert 'image' not in labels.table


def test_several_campaigns_in_one_table():
    "A galaxy that a campaign did not look at has no votes for its questions"
    (a, v), (b, w) = [of_form(CAMPAIGNS[o].schema, 'counts') for o in ('decals-dr5', 'gz2-catalogue')]
    both = pd.concat([a, b.assign(id_str=[f'x{i}' for i in IDS])]).fillna(0)
    labels = to_labels(both.reset_index(drop=True))
    assert labels.schema.campaigns == ['gz2-catalogue', 'decals-dr5'] or labels.schema.campaigns == ['decals-dr5', 'gz2-catalogue']
    for name, rows, votes in (('decals-dr5', slice(0, 30), v), ('gz2-catalogue', slice(30, 60), w)):
        columns = labels.schema.campaign(name)[1]
        np.testing.assert_array_equal(labels.counts[rows][:, columns], votes)
        assert labels.counts[rows].sum() == votes.sum()


def test_masked_columns(tmp_path):
    table, v = of_form(CAMPAIGNS['rings'].schema, 'counts')
    fits = Table.from_pandas(table)
    for c in ('ring_yes', 'ring_no'): fits[c] = MaskedColumn(fits[c], mask=[True]+[False]*29)
    fits.write(tmp_path/'x.fits')
    labels = read_labels(tmp_path/'x.fits')
    assert labels.counts[0].tolist() == [0, 0]
    np.testing.assert_array_equal(labels.counts[1:], v[1:])


ROOT = [f'smooth-or-featured_{o}' for o in ('smooth', 'featured-or-disk', 'artifact')]
EDGE = ['disk-edge-on_yes', 'disk-edge-on_no']


def test_predictions_of_a_network():
    "Fractions with the share that was asked are read as fractions; concentrations and debiased fractions are no votes"
    table = pd.DataFrame([['J1', .5, .4, .1, .3, .7, 1, .4]], columns=['iauname', *(f'{o}_fraction' for o in ROOT+EDGE), 'smooth-or-featured_proportion_volunteers_asked',
                         'disk-edge-on_proportion_volunteers_asked'])
    labels = to_labels(table)
    assert (labels.counts, labels.schema.name) == (None, 'decals-dr5')
    np.testing.assert_allclose(labels.fractions, [[.5, .4, .1, .12, .28]], atol=1e-6)
    mer = pd.DataFrame([['1', 3.5, 2.2, 1.1], ['2', 9.1, 1.2, 1.3]], columns=['object_id', *(o.upper().replace('-', '_') for o in ROOT)])
    with pytest.raises(BadInput, match='SMOOTH_OR_FEATURED_SMOOTH are concentrations'): to_labels(mer, form='counts')
    with pytest.raises(BadInput, match='SMOOTH_OR_FEATURED_SMOOTH to SMOOTH_OR_FEATURED_ARTIFACT may hold .* form'): to_labels(mer)
    with pytest.raises(BadInput, match='debiased fractions do not add up'): to_labels(pd.DataFrame([['1', .3, .5, .2]], columns=['id', *(f'{o}_debiased' for o in ROOT)]))


# Hostile tables: name -> (rows of text, what the refusal says, or the fractions of the first row)

HEAD, ALL = 'iauname,'+','.join(ROOT), 'iauname,'+','.join(ROOT+EDGE)
FRACTIONS = 'iauname,'+','.join(f'{o}_fraction' for o in ROOT+EDGE)
HOSTILE = {
    'empty': ('', 'x.csv: not a CSV file'), 'header': (HEAD, 'x.csv: has no rows'), 'one row': (f'{HEAD}\na,1,1,2', [.25, .25, .5]),
    'nobody': (f'{HEAD}\na,,,\nb,NaN,nan,', 'x.csv: holds no votes'), 'somebody': (f'{HEAD}\nb,1,1,2\na,,,', [.25, .25, .5]),
    'sentinels': (f'{HEAD}\na,1,1,2\nb,-99,-99,-99', r'line 3 \(GalaxyID b\): smooth-or-featured_smooth -99 is negative \(and 2 more\)'),
    'huge': (f'{HEAD}\na,1,1,1e30', r'line 2 .*artifact 1e\+30 is not a valid vote count'), 'infinite': (f'{HEAD}\na,1,1,1e999', "line 2 .*'1e999' is not a number"),
    'text': (f'{HEAD}\na,1,1,2\nb,1,many,2', "line 3 .*'many' is not a number"), 'decimal comma': (f'{HEAD}\na,"0,5","0,5",0', "'0,5' is not a number"),
    'gap': (f'{HEAD}\na,1,,2', 'line 2 .*featured-or-disk is empty, while other answers are not'),
    'answer missing': ('iauname,smooth-or-featured_smooth,smooth-or-featured_artifact,bar_strong,bar_weak,bar_no\na,1,2,1,1,0', 'none like smooth-or-featured-dr5_featured-or-disk'),
    'answer missing alone': ('iauname,smooth-or-featured_smooth,smooth-or-featured_artifact\na,1,2', 'none like smooth-or-featured-d'),
    'twice': (f'{HEAD},{ROOT[0]}\na,1,1,2,5', 'several columns smooth-or-featured_smooth; keep one'),
    'twice, spelled apart': (f'{HEAD},SMOOTH_OR_FEATURED_SMOOTH\na,1,1,2,5', 'SMOOTH_OR_FEATURED_SMOOTH mean the same; keep one'),
    'mixed': (f'{ALL}\na,10,20,3,.3,.7\nb,10,20,3,.4,.6', 'disk-edge-on_yes and others are fractions, smooth-or-featured_smooth and others are votes'),
    'percentages': (f'{ALL}\na,50,40,10,30,70', 'are percentages; divide'), 'percentages named': (f'{FRACTIONS}\na,50,40,10,30,70', 'line 2 .*50 is not between 0 and 1'),
    'conditional': (f'{ALL}\na,.5,.4,.1,.25,.75\nb,.2,.8,0,1,0', [.5, .4, .1, .1, .3]), 'cumulative': (f'{ALL}\na,.5,.4,.1,.1,.3\nb,.2,.8,0,.8,0', [.5, .4, .1, .1, .3]),
    'a rare question with whole fractions': (f'{ALL}\na,.5,.4,.1,1,0\nb,.9,.1,0,0,1', [.5, .4, .1, .4, 0]), 'weighted': (f'{ALL}\na,5.5,3.5,1,1,2.5\nb,1,0,0,0,0', [.55, .35, .1, .1, .25]),
    'child empty': (f'{FRACTIONS}\na,.5,.4,.1,,\nb,.5,.4,.1,1,0', 'line 2 .*sum to 0, not to 1, where 0.4 of the volunteers'), 'not asked': (f'{FRACTIONS}\na,1,0,0,,\nb,.5,.4,.1,1,0', [1, 0, 0, 0, 0]),
    'half': (f'{FRACTIONS}\na,.5,.2,0,.5,.5', 'line 2 .*sum to 0.7, not to 1'), 'root empty': (f'{FRACTIONS}\nb,1,0,0,,\na,,,,,', 'line 3 .*sum to 0, not to 1'),
    'total empty': (f'{FRACTIONS},smooth-or-featured_total-votes\na,.5,.5,0,,,', 'smooth-or-featured_total-votes is empty, while the fractions are not'),
    'spreadsheet': (f'{HEAD}\na,1,1,2\n1.23765E+18,1,1,2', 'line 3: the ID 1.23765E.18 has lost digits'), 'unicode': (f'{HEAD},d\u00e9j\u00e0\n\u00e9,1,1,2,x', [.25, .25, .5]),
    'same galaxy': (f'{HEAD}\na,1,1,2\na,1,1,2', 'line 3 .*earlier row'), 'semicolons': (HEAD.replace(',', ';')+'\na;1;1;2', 'not separated by commas'), 'cut off': (f'{HEAD}\na,1,1,2\nb,1,1', 'line 3: has fewer cells'),
    'two campaigns': ('id_str,'+','.join(o.replace('_', f'-{t}_')+'_fraction' for t in ('dr5', 'gz2') for o in ROOT)+'\na,.5,.5,0,,,', 'cannot be weighed against other campaigns')}

WORDS = {'conditional': 'conditional', 'cumulative': 'cumulative', 'a rare question with whole fractions': 'conditional'}
BARE = [k for k, (text, want) in HOSTILE.items() if text.startswith((HEAD+'\n', ALL+'\n'))]


@pytest.mark.parametrize('name', BARE)
def test_bare_columns_need_a_word(tmp_path, name):
    "What they hold is not guessed from their numbers, and a wrong word is refused"
    file = tmp_path/'x.csv'
    file.write_text(HOSTILE[name][0]+'\n', encoding='utf-8')
    damage = 'lost digits|no iauname|fewer cells'
    with pytest.raises(BadInput, match=f'x.csv.*(may hold votes or fractions; say which with form|{damage})'): read_labels(file)
    if not isinstance(HOSTILE[name][1], list): return
    for wrong in {'counts', 'cumulative', 'conditional'}-{WORDS.get(name, 'counts')}:
        with pytest.raises(BadInput, match='x.csv'): read_labels(file, form=wrong)


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_tables(tmp_path, name):
    "Read rightly, or refused in a line that names the file, the row and what to do"
    text, want = HOSTILE[name]
    form = WORDS.get(name, 'counts')      # which only bare columns need
    (tmp_path/'x.csv').write_text(text+'\n', encoding='utf-8')
    if isinstance(want, list): return np.testing.assert_allclose(read_labels(tmp_path/'x.csv', form=form).fractions[0], want, atol=1e-6)
    with pytest.raises(BadInput, match=want) as e: read_labels(tmp_path/'x.csv', form=form)
    assert str(e.value).startswith(str(tmp_path/'x.csv')) and '\n' not in str(e.value)


def test_types_of_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from decimal import Decimal
    def read(values, **more):
        pq.write_table(pa.table({'iauname': ['a', 'b'], **{c: values for c in ROOT}, **more}), tmp_path/'x.parquet')
        return read_labels(tmp_path/'x.parquet', form='counts').counts.tolist()
    numbers = [pa.array([1, 2], pa.int8()), pa.array([Decimal('1.00'), Decimal('2.00')]), pa.array(['1', '2']).dictionary_encode(), pa.array(np.array([1, 2], 'float16')), pa.array(['1', '2'])]
    for o in numbers: assert read(o, image=pa.array([b'x', b'y']), views=pa.array([b'x', b'y'], pa.binary_view()), box=pa.array([[1], [2]])) == [[1]*3, [2]*3]
    assert read(pa.array([None, 2])) == [[0]*3, [2]*3]
    for kind in (pa.timestamp('us'), pa.duration('s')):
        with pytest.raises(BadInput, match='x.parquet line 1 .* is not a number'): read(pa.array([1, 2], kind))
    with pytest.raises(BadInput, match='but none like'): read(pa.array([1, 2]), **{ROOT[0]: pa.array([dict(a=1), dict(a=2)])})
    with pytest.raises(BadInput, match='line 2: has no iauname'): read(pa.array([1, 2]), iauname=pa.array([10**18+1, None]))
    with pytest.raises(BadInput, match='line 1: the ID 1e.18 is a floating-point number'): read(pa.array([1, 2]), iauname=pa.array([1e18, 2.]))
    pd.DataFrame({c: [1, 2] for c in ROOT}, pd.Index(['a', 'b'], name='iauname')).to_parquet(tmp_path/'x.parquet')
    assert read_labels(tmp_path/'x.parquet', form='counts').ids.tolist() == ['a', 'b']


def test_gzip_that_does_not_end(tmp_path, monkeypatch):
    from gz_fastai.data import tables
    monkeypatch.setattr(tables, '_MOST_BYTES', 10**6)
    (tmp_path/'x.csv.gz').write_bytes(gzip.compress(b'a,b\n'+b'0,0\n'*10**6))
    with pytest.raises(BadInput, match='x.csv.gz: has more than .* unpacked'): read_table(tmp_path/'x.csv.gz')


def test_a_schema_of_ones_own_may_have_any_names(tmp_path):
    "Numbers in names, and answers that differ in them alone"
    schema = Schema('own', [Question('Odd?', ['yes', 'no']), Question('How?', ['a', 'b'], 't01_odd_a1_x')], ['t01_odd_a1_x', 't02_odd_a2_x', 'h a', 'h_a'], 'id')
    labels = to_labels(pd.DataFrame([['7', 3, 1, 1, 2]], columns=['id', *schema.columns]), schema, 'counts')
    assert labels.counts.tolist() == [[3, 1, 1, 2]]


def test_every_name_of_an_answer_finds_its_campaign():
    for name, o in CAMPAIGNS.items():
        best = match_campaigns(o.schema.columns)
        assert [b.campaign.schema.name for b in best] == [name] and len(best[0]) == len(o.schema.questions)
