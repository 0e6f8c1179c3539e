"""From the results of jobs to the numbers of the leaderboard."""

import statistics

from basicsr_unlearn.audits.relearn import excess


class Table:
    """Numbers of networks that were measured and attacked alike.

    Args:
        goals (Goals): Of the option file.
        results (dict): `{(net, None): what measure gave, (net, (lr, scope, seed)): what attack gave}`.
    """

    def __init__(self, goals, results):
        self.goals, self.results = goals, results
        self.curves = {
            key: {int(step): value for step, value in curve.items()} for key, curve in results.items() if key[1]
        }
        self.has_oracle = ('oracle', None) in results

    def row(self, name, nets, runs=()):
        """Return the numbers of a row, means over its networks (one for each seed).

        Args:
            name (str): Of the row.
            nets (list[str]): Its networks.
            runs (list[dict]): What their unlearning runs gave.

        Returns:
            dict: `row seeds nets sets forget_psnr forget_ssim forget_gap distance retained retained_to_oracle
            worst_retained relearn_excess worst_attack excess cost seconds memory cost_share stopped_by unchanged
            shortfall`; None is unknown. `distance` is the mean of |gap|, `unchanged` the number of runs that kept the
            original.
        """
        sets = {key: self._set(key, nets) for key in self.results['original', None]}
        forget = [values for values in sets.values() if values['role'] == 'forget']
        retain = {key: values for key, values in sets.items() if values['role'] == 'retain'}
        worst = min(retain, key=lambda key: retain[key]['to_original'], default=None)
        attacks = self._excess(nets)
        known = {attack: value for attack, value in attacks.items() if value is not None}
        hardest = max(known, key=known.get, default=None)
        found = {
            'row': name,
            'seeds': len(nets),
            'nets': list(nets),
            'sets': sets,
            'forget_psnr': _mean([values['psnr'] for values in forget]),
            'forget_ssim': _mean([values['ssim'] for values in forget]),
            'forget_gap': _mean([values['to_oracle'] for values in forget]) if self.has_oracle else None,
            'distance': _mean([values['distance'] for values in forget]) if self.has_oracle else None,
            'worst_retained': worst,
            'retained': retain[worst]['to_original'] if worst else None,
            'retained_to_oracle': min(v['to_oracle'] for v in retain.values()) if worst and self.has_oracle else None,
            'relearn_excess': known.get(hardest),
            'worst_attack': hardest,
            'excess': attacks,
            **{key: _mean([run[key] for run in runs]) for key in ('cost', 'seconds', 'memory', 'cost_share')},
            'stopped_by': sorted({run['stopped_by'] for run in runs}),
            'unchanged': sum(run['kept_iteration'] == 0 for run in runs),
        }
        return {**found, 'shortfall': self._shortfall(found)}

    def _set(self, key, nets):
        """Return role, PSNR and SSIM of one set, and its PSNR against the references."""
        measured = [self.results[net, None][key] for net in nets]
        psnr = [entry['psnr']['net'] for entry in measured]
        reference = {
            name: self.results[name, None][key]['psnr']['net']
            for name in ('original', 'oracle')
            if (name, None) in self.results
        }
        return {
            'role': measured[0]['role'],
            'input': measured[0]['psnr']['input'],
            'psnr': _mean(psnr),
            'psnr_std': statistics.stdev(psnr) if len(psnr) > 1 else None,
            'ssim': _mean([entry['ssim']['net'] for entry in measured]),
            'to_original': _mean(psnr) - reference['original'],
            'to_oracle': _mean(psnr) - reference['oracle'] if 'oracle' in reference else None,
            'distance': _mean([abs(value - reference.get('oracle', 0.0)) for value in psnr]),
        }

    def _excess(self, nets):
        """Return `{'lr scope': mean E over networks and attack seeds, None where the attack shows nothing}`."""
        found = {}
        for lr, scope, seed in sorted({attack for _, attack in self.curves}) if self.has_oracle else ():
            for net in nets:
                reference = [self.curves[name, (lr, scope, seed)] for name in ('oracle', 'original')]
                value, _ = excess(self.curves[net, (lr, scope, seed)], *reference)
                found.setdefault(f'{lr:g} {scope}', []).append(value)
        return {attack: None if None in values else _mean(values) for attack, values in found.items()}

    def attacks(self):
        """Return for each attack of the references: its curves and the number of steps that say something."""
        found = {}
        for lr, scope, seed in sorted({attack for _, attack in self.curves}):
            curves = {net: curve for (net, attack), curve in self.curves.items() if attack == (lr, scope, seed)}
            window = excess(curves['original'], curves['oracle'], curves['original'])[1] if self.has_oracle else None
            found[f'{lr:g} {scope} seed {seed}'] = {'window': window, 'curves': curves}
        return found

    def _shortfall(self, found):
        """Return by how many dB the goals are missed in all; unknown ones are left out."""
        missed = [max(0.0, -(found['retained'] or 0.0) - self.goals.retained_loss)]
        if found['distance'] is not None:
            missed.append(max(0.0, found['distance'] - self.goals.forget_gap))
        if found['relearn_excess'] is not None:
            missed.append(max(0.0, found['relearn_excess'] - self.goals.relearn_excess))
        return sum(missed)


def _mean(values):
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None
