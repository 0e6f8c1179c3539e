"""The look at a benchmark before it begins: its options, every run, the sets, the attacker's data."""

import json

from basicsr.data import build_dataset
from basicsr_unlearn import preflight, preflight_data, preflight_network
from basicsr_unlearn.bench.settings import run_name
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.data.splits import check_split
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.network import build_network_g
from basicsr_unlearn.options import check_choice, check_keys, check_name, task_of
from basicsr_unlearn.preflight_history import check_retain
from basicsr_unlearn.preflight_images import check_images
from basicsr_unlearn.run_tree import complete


def check(bench):
    """Check the options of a benchmark, every run of it, the sets that are measured and what the attacker has.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    if not 1 <= bench.options.finalists <= len(bench.rows):
        raise InputError(f'finalists: {bench.options.finalists} must be 1 to {len(bench.rows)}, the number of rows.')
    names = [run_name(row, 0, 0) for row in bench.rows]
    if len(set(names)) < len(names):
        raise InputError(f'rows: the names {", ".join(bench.rows)} must differ in letters and digits.')
    for option, stage in (('screening', bench.screening), ('full', bench.full)):
        stage.check(option, list(bench.attack.scopes) if bench.attack else ['all'])
    if not bench.options.seeds or not all(isinstance(seed, int) for seed in bench.options.seeds):
        raise InputError(f'seeds: {bench.options.seeds} must be a list of whole numbers, for example [0, 1, 2].')
    trials = {len(found) for found in bench.searches.values()}
    if len(trials) > 1:
        counts = ', '.join(f'{name} {len(found)}' for name, found in bench.searches.items())
        raise InputError(f'rows: every row must have as many trials as the others, not: {counts}.')
    bench.find_oracle()
    _check_rows(bench)
    if bench.membership and bench.membership.reference:
        load_into(build_network_g(bench.base['network_g']), bench.membership.reference, 'membership: reference')
    if bench.options.oracle_2:
        net = build_network_g(bench.base['network_g'])
        load_into(net, bench.options.oracle_2, 'oracle_2', *bench.how_to_load('oracle_2').values())
    _check_sets(bench)


def _check_sets(bench):
    """Check the sets that are measured and the attacker's data, pixels included."""
    check_keys('sets', bench.options.sets, ('val', 'test'))
    sections, roles = {}, ('forget', 'retain', 'watched') if bench.membership else ('forget', 'retain')
    for split in ('val', 'test'):
        for name, section in (bench.options.sets.get(split) or {}).items():
            option = f'sets: {split}: {name}'
            if not isinstance(section, dict):
                raise InputError(f'{option}: must be a section of keys, not {section!r}.')
            check_choice(f'{option}: role', section.get('role'), roles)
            check_name(option, name)
            sections[option] = {**section, 'name': name, 'phase': 'val', 'scale': 1, 'manual_seed': 0}
        needed = 'retain' if bench.membership else 'forget'
        if not any(section['role'] == needed for section in (bench.options.sets.get(split) or {}).values()):
            raise InputError(f'sets: {split}: names no set with role: {needed}.')
    train = complete(bench.base)['datasets']['train']
    if bench.attack:
        attacker = {'attack: data': bench.attack.data or {}}
    else:
        attacker = {f'membership: heldout: {split}': source for split, source in bench.membership.heldout.items()}
    sections.update({option: preflight_data.as_training_set(option, one, train) for option, one in attacker.items()})
    preflight_data.check_data(sections)
    if bench.membership:
        _check_heldout(attacker, train)


def _check_heldout(sections, train):
    """Check that held-out pairs are no training pairs, and those of val not those of test."""
    dataset = build_dataset(train)
    known = {'forget': dataset.forget, 'heldout': dataset.heldout, **dataset.retain}
    known = {f'base: {name}': source for name, source in known.items() if source is not None}
    check_split({option: build_source(option, section) for option, section in sections.items()}, known)


def _check_rows(bench):
    """Check every run; networks and data that several share are opened once."""
    seen = set()
    for row in bench.rows:
        for trial in range(len(bench.searches[row])):
            opt = complete(bench.tree(row, trial, bench.options.seeds[0]))
            data = json.dumps([task_of(opt), opt['datasets']], sort_keys=True, default=str)
            net = json.dumps([opt['network_g'], opt['path'], opt['train']['method']], sort_keys=True, default=str)
            try:
                preflight.check_options(opt)
                if data not in seen:
                    preflight_data.check_data({f'datasets: {key}': part for key, part in opt['datasets'].items()})
                    preflight_data.check_parts(opt)
                if net not in seen:
                    preflight_network.check_network(opt)
                if not {data, net} <= seen:
                    check_images(preflight_data.check_proxies(opt))
                    check_retain(opt)
            except InputError as error:
                raise InputError(f'rows: {row}: {error}') from None
            seen.update((data, net))
